"""The explorers of the lessons, by name, and their check-yourself questions."""

from .msa import block_selection, needle_pooling, what_it_costs, where_it_looks
from .msa_checks import decode_ceiling, halving_k, loop_order, weak_needle
from .msa_continue import continuation
from .msa_converted import conversion
from .msa_loops import loop_scrubber
from .msa_training import training_replay
from .trd_along import along_a_rollout
from .trd_checks import just_sft, opposite_failures, says_wait_and_fails
from .trd_map import wait_maps
from .trd_modes import two_mode_teacher
from .trd_real import real_model
from .trd_results import late_results, method_results
from .trd_train import train_students

EXPLORERS = {
    "msa_needle": needle_pooling,
    "msa_where_it_looks": where_it_looks,
    "msa_block_selection": block_selection,
    "msa_what_it_costs": what_it_costs,
    "msa_training_replay": training_replay,
    "msa_loop_orders": loop_scrubber,
    "msa_continuation": continuation,
    "msa_conversion": conversion,
    "trd_two_modes": two_mode_teacher,
    "trd_mode_map": wait_maps,
    "trd_trajectory": along_a_rollout,
    "trd_results": method_results,
    "trd_results_late": late_results,
    "trd_train": train_students,
    "trd_real_text": real_model,
}

__all__ = [
    "EXPLORERS",
    "along_a_rollout",
    "block_selection",
    "continuation",
    "conversion",
    "decode_ceiling",
    "halving_k",
    "just_sft",
    "late_results",
    "loop_order",
    "loop_scrubber",
    "method_results",
    "needle_pooling",
    "opposite_failures",
    "real_model",
    "says_wait_and_fails",
    "train_students",
    "training_replay",
    "two_mode_teacher",
    "wait_maps",
    "weak_needle",
    "what_it_costs",
    "where_it_looks",
]
