"""What each explorer of MSA shows, computed: one file per explorer, `run` its entry."""
