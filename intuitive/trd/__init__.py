"""Trajectory-Refined Distillation: rewrite the student's attempt, then distil along the rewrite.

Map of the rooms, in reading order:
    divergences.py  what a student is charged for at one position
    sums.py         running sums with WAIT: problems, traces, their reading and grading
    teacher.py      the exact teacher: a program that says WAIT with a known probability
    rollout.py      batched generation and scoring, and what they cost in tokens
    model.py        several decoders trained side by side as one
    task.py         the learned teacher, the first students and their training
    methods.py      OPD, OPSD, TRD and SFT as data
    metrics.py      pass@k, Avg@n, orders, transitions, intervals
    experiment.py   the numbers behind the lesson's explorers
    real_text.py    SmolLM2 along right and wrong solutions
    committed.py    weights and results that ship with the package
    exercise.py     checks for the lesson's "your turn"

Source: Jiang et al. 2026, arXiv:2606.08432v1.
"""

import importlib

_HOME = {
    "forward_kl": "divergences",
    "reverse_kl": "divergences",
    "jensen_shannon": "divergences",
    "clipped_forward_kl": "divergences",
    "entrywise_clipped_forward_kl": "divergences",
    "entropy_weighted_forward_kl": "divergences",
    "topk_reverse_kl": "divergences",
    "policy_gradient_loss": "divergences",
    "monte_carlo_forward_kl": "divergences",
    "k3": "divergences",
    "check_distribution": "divergences",
    "as_logits": "divergences",
    "pass_at_k": "metrics",
    "avg_at_n": "metrics",
    "SumsConfig": "sums",
    "Problem": "sums",
    "parse_trace": "sums",
    "verify": "sums",
    "ExactTeacher": "teacher",
    "TeacherConfig": "teacher",
    "sample_rollouts": "rollout",
}
_ROOMS = (
    "committed",
    "divergences",
    "exercise",
    "experiment",
    "methods",
    "metrics",
    "model",
    "real_text",
    "rollout",
    "sums",
    "task",
    "teacher",
)
__all__ = [*_HOME, *_ROOMS]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(__all__))
