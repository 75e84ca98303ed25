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
    two_modes.py    one target with two modes, under every divergence
    signals.py      where teachers say WAIT, and what their rewrites make of rollouts
    along.py        one failed rollout, its rewrite and the ladder
    live.py         students trained while one watches
    canonical.py    when TRD is SFT
    experiment.py   the names of these five, as the lesson calls them
    real_text.py    SmolLM2 along right and wrong solutions
    committed.py    weights and results that ship with the package
    exercise.py     checks for the lesson's "your turn"

Source: Jiang et al. 2026, arXiv:2606.08432v1.
"""

from intuitive.common.lazy import front_door

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
    "along",
    "canonical",
    "committed",
    "divergences",
    "exercise",
    "experiment",
    "live",
    "methods",
    "metrics",
    "model",
    "real_text",
    "rollout",
    "signals",
    "sums",
    "task",
    "teacher",
    "two_modes",
)
__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
