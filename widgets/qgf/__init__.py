"""The explorers of QGF: one module each, and the check-yourself questions."""
