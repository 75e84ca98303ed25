"""What a CPU works out of Trajectory-Refined Distillation: gradients at an onset, and ladders."""

from intuitive.trd.experiments import trajectory, two_modes

PROBLEMS = range(3)


def onset_gradients() -> dict[str, int | float]:
    """How hard each loss pushes the onset's logit; λ = 0.3, and the student says it with 1e-4."""
    found = two_modes.run(two_modes.TwoModesParams(repair=0.3, onset=1e-4))
    forward, reverse, clipped = (
        found.charge(name) for name in ("forward_kl", "reverse_kl", "clipped_forward_kl")
    )
    onset = found.onset_token
    return {
        "forward": abs(forward.gradient[onset]),
        "reverse": abs(reverse.gradient[onset]),
        "clipped": abs(clipped.gradient[onset]),
        "forward_nats": forward.loss,
        "reverse_nats": reverse.loss,
    }


def ladders() -> dict[str, int | float]:
    """Pairs that a repair needs, and those that a failed attempt supplies, over some problems."""
    needed, supplied, first = 0, 0, 0
    for problem in PROBLEMS:
        params = trajectory.TrajectoryParams(problem=problem, repair=0.3)
        ladder = trajectory.run(params).ladder
        needed += len(ladder)
        supplied += sum(rung.shared for rung in ladder)
        first += ladder[0].shared
    return {"problems": len(PROBLEMS), "needed": needed, "supplied": supplied, "first": first}
