"""A flow without a critic: one particle and its swarm, from noise to one of three habits."""

from typing import Any

from ..kit import Explorer, Predict, Step
from . import particle

STEPS = (
    Step(
        title="The data",
        text="Three hills at the right: what the teachers did. Each is a habit, a third of all "
        "actions. The policy has learned to end in one of them; its noise decides in which.",
        sets={"estimator": "bc"},
        frame="first",
    ),
    Step(
        title="Let it flow",
        text="No critic yet. A particle always heads for its clean estimate: the mean of all that "
        "it can still become. Watch how late the swarm parts.",
        sets={"estimator": "bc"},
        frame="play",
    ),
    Step(
        title="Another start",
        text="From 0.8 the particle ends in another hill. Drag its start up and down: where do "
        "the borders lie?",
        sets={"estimator": "bc", "start": 0.8},
        frame="last",
    ),
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """One particle's way from noise to action, unguided, and the swarm around it.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `start=0.8`.
    """
    first = {"estimator": "bc", "start": -0.6, "in_sight": ("start", "n_steps", "seed")}
    title = "A flow without a critic"
    return particle.made("qgf_unguided", title, STEPS, predict=predict, **{**first, **values})
