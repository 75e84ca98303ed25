"""One file per explorer: what it computes."""
