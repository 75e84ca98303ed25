"""What each explorer of LSA shows, computed: one file per explorer, `run` its entry."""
