"""The explorers of the lessons, by name, and their check-yourself questions."""

from .qgf import trimodal_flow
from .qgf_backprop import shaking_gradients
from .qgf_checks import missing_peak, optimiser, worse_than_nothing
from .qgf_frontier import optimiser_or_sampler
from .qgf_policies import guided_policies
from .qgf_ring import guided_ring
from .trd_along import along_a_rollout
from .trd_checks import just_sft, opposite_failures, says_wait_and_fails
from .trd_map import wait_maps
from .trd_modes import two_mode_teacher
from .trd_real import real_model
from .trd_results import late_results, method_results
from .trd_train import train_students

EXPLORERS = {
    "qgf_trimodal": trimodal_flow,
    "qgf_frontier": optimiser_or_sampler,
    "qgf_backprop": shaking_gradients,
    "qgf_ring": guided_ring,
    "qgf_policies": guided_policies,
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
    "guided_policies",
    "guided_ring",
    "just_sft",
    "late_results",
    "method_results",
    "missing_peak",
    "opposite_failures",
    "optimiser",
    "optimiser_or_sampler",
    "real_model",
    "says_wait_and_fails",
    "shaking_gradients",
    "train_students",
    "trimodal_flow",
    "two_mode_teacher",
    "wait_maps",
    "worse_than_nothing",
]
