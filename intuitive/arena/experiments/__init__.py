"""What the explorers of the arena compute, one file each."""
