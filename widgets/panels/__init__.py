"""The explorers of the lessons, by name, and their check-yourself questions."""

from .trd_along import along_a_rollout
from .trd_checks import just_sft, opposite_failures, says_wait_and_fails
from .trd_map import wait_maps
from .trd_modes import two_mode_teacher
from .trd_real import real_model
from .trd_results import late_results, method_results
from .trd_train import train_students

EXPLORERS = {
    "trd_two_modes": two_mode_teacher,
    "trd_mode_map": wait_maps,
    "trd_trajectory": along_a_rollout,
    "trd_results": method_results,
    "trd_results_late": late_results,
    "trd_train": train_students,
    "trd_real_text": real_model,
}

__all__ = ["EXPLORERS"]
