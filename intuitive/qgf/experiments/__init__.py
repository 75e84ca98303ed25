"""What each explorer of QGF shows, computed: one file per explorer, `run` its entry."""
