"""The explorers of MSA: one module each, and the check-yourself questions."""
