"""The package as pip knows it."""

DISTRIBUTION = "intuitive-lessons"  # the import is `intuitive`
