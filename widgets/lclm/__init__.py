"""The explorers of LCLM: one module each, and the check-yourself questions."""
