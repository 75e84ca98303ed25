"""The explorers of LSA: one module each, and the check-yourself questions."""
