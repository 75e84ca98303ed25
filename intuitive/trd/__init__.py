"""Trajectory-Refined Distillation: rewrite the student's attempt, then distil along the rewrite.

Map of the rooms, in reading order:
    config.py       every size and choice
    sums/           running sums with WAIT: problems, traces, their reading and grading
    divergences/    what a student is charged for at one position, and all of them by name
    teacher.py      what every teacher can do; the exact one, a program with a known chance of WAIT
    learned.py      the learned one, a network
    rollout.py      batched generation and scoring, and what they cost in tokens
    model.py        several decoders side by side as one
    optimizer.py    and their optimiser
    training.py     the learned teacher and the first students, trained from scratch
    methods.py      OPD, OPSD, TRD and SFT as data
    teaching.py     what a teacher makes of students' rollouts
    distillation.py students of all methods, trained side by side
    metrics.py      pass@k, Avg@n, orders, transitions, intervals
    signals.py      where teachers say WAIT, and what their rewrites make of rollouts
    canonical.py    when TRD is SFT
    real_text.py    SmolLM2 along right and wrong solutions
    trained.py      weights that ship with the package
    attempts.py     attempts with a wrong number written into them, and marks of their rewrites
    experiments/    the numbers of each explorer
    results.py      what committed runs found
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
    "DIVERGENCES": "divergences",
    "divergence": "divergences",
    "pass_at_k": "metrics",
    "avg_at_n": "metrics",
    "SumsConfig": "sums",
    "Problem": "sums",
    "parse_trace": "sums",
    "verify": "sums",
    "ExactTeacher": "teacher",
    "Teacher": "teacher",
    "TeacherConfig": "teacher",
    "LearnedTeacher": "learned",
    "sample_rollouts": "rollout",
}
_ROOMS = (
    "attempts",
    "canonical",
    "config",
    "distillation",
    "divergences",
    "exercise",
    "experiments",
    "learned",
    "methods",
    "metrics",
    "model",
    "optimizer",
    "real_text",
    "results",
    "rollout",
    "signals",
    "sums",
    "teacher",
    "teaching",
    "trained",
    "training",
)
__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
