"""The explorers of the lessons, by name, and their check-yourself questions."""

from .msa import block_selection, needle_pooling, what_it_costs, where_it_looks
from .msa_checks import decode_ceiling, halving_k, loop_order, weak_needle
from .msa_continue import continuation
from .msa_converted import conversion
from .msa_loops import loop_scrubber
from .msa_training import training_replay
from .qgf import trimodal_flow
from .qgf_backprop import shaking_gradients
from .qgf_checks import missing_peak, optimiser, worse_than_nothing
from .qgf_frontier import optimiser_or_sampler
from .qgf_policies import guided_policies
from .qgf_ring import guided_ring

EXPLORERS = {
    "msa_needle": needle_pooling,
    "msa_where_it_looks": where_it_looks,
    "msa_block_selection": block_selection,
    "msa_what_it_costs": what_it_costs,
    "msa_training_replay": training_replay,
    "msa_loop_orders": loop_scrubber,
    "msa_continuation": continuation,
    "msa_conversion": conversion,
    "qgf_trimodal": trimodal_flow,
    "qgf_frontier": optimiser_or_sampler,
    "qgf_backprop": shaking_gradients,
    "qgf_ring": guided_ring,
    "qgf_policies": guided_policies,
}

__all__ = [
    "EXPLORERS",
    "block_selection",
    "continuation",
    "conversion",
    "decode_ceiling",
    "guided_policies",
    "guided_ring",
    "halving_k",
    "loop_order",
    "loop_scrubber",
    "missing_peak",
    "needle_pooling",
    "optimiser",
    "optimiser_or_sampler",
    "shaking_gradients",
    "training_replay",
    "trimodal_flow",
    "weak_needle",
    "what_it_costs",
    "where_it_looks",
    "worse_than_nothing",
]
