"""The explorers of the arena."""
