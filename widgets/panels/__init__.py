"""The explorers of the lessons, by name."""

from .msa import block_selection, needle_pooling, what_it_costs

EXPLORERS = {
    "msa_block_selection": block_selection,
    "msa_what_it_costs": what_it_costs,
    "msa_needle": needle_pooling,
}

__all__ = ["EXPLORERS", *sorted(maker.__name__ for maker in EXPLORERS.values())]
