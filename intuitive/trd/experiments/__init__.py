"""What each explorer of TRD shows, computed: one file per explorer, `run` its entry."""
