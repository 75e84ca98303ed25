"""The explorers of TRD: one module each, and the check-yourself questions."""
