"""What a CPU works out in seconds, one file for each paper: numbers by name."""
