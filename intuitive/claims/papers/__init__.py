"""The claims of each paper, one file by its name, in a tuple `CLAIMS`."""
