"""Other critics, longer steps: one particle and its swarm under critics that lead it astray."""

from typing import Any

from intuitive.qgf.experiments import particle as computed
from intuitive.qgf.experiments.particle import ParticleParams

from ..kit import Explorer, Predict, Step, fixed
from . import particle
from .particle_words import signed


def _share_of_the_deceived() -> tuple[int, str]:
    """Preset C: the share in the mode with the peak, guided and unguided."""
    found = computed.run(ParticleParams(**particle.preset("C"), preset="C"))
    peak = found.peak_mode
    share, alone = found.swarm.shares[peak], found.ghost_swarms["bc"].shares[peak]
    right = 2 if share < 0.5 * alone else 1 if share < 0.7 else 0
    slope, n = found.walk.slope[0], found.params.n_particles
    return right, (
        f"{round(share * n)} of {n} do; unguided, {round(alone * n)} do. At t = 0 every clean "
        f"estimate is the mean of the data, {fixed(found.walk.estimate[0])}. There the narrow peak "
        f"cannot be felt and the broad hill can: the slope is {signed(slope)}, and the whole "
        "swarm goes the wrong way."
    )


PREDICT = Predict(
    question=(
        "Another critic, without any error: a narrow high peak on the lowest mode, −0.8, and a "
        "broad low hill on the highest, 0.8. QGF asks at the clean estimate, w = 4, T = 20. Which "
        "share of the particles ends in the mode of the high peak?"
    ),
    choices=("nearly all", "about a third, as without a critic", "hardly any"),
    answer=_share_of_the_deceived,
)

STEPS = (
    Step(
        title="Beside the high peak",
        text="The particle starts beside the high peak. Look where its clean estimate lies, and "
        "which way the critic slopes there.",
        sets={"preset": "C", "estimator": "qgf", "start": -0.9},
        frame="play",
    ),
    Step(
        title="Short steps, the same hills",
        text="An eighth of the weight, and T = 30: no step overshoots, the alarm is off. Compare "
        "the swarm in the peak's mode with the exact tilt there; the line below has the unguided.",
        sets={"preset": "C", "estimator": "qgf", "start": -0.9, "weight": 0.5, "n_steps": 30},
        frame="last",
    ),
    Step(
        title="A bump in the noise",
        text="This critic has learned a bump where no data are. Noisy actions come by there, and "
        "OOD asks about those. No return pays for it.",
        sets={"preset": "B", "estimator": "ood", "start": -1.2},
        frame="play",
    ),
    Step(
        title="The same bump, QGF",
        text="Clean estimates never come near the bump: QGF does not see it. Drag the hollow "
        "golden point nearer to the data.",
        sets={"preset": "B", "estimator": "qgf", "start": -1.2},
        frame="play",
    ),
    Step(
        title="Steps too long",
        text="Guidance is gradient ascent with step w/T. With w = 8 and T = 10 it jumps over the "
        "peak, there and back. Raise T under More controls.",
        sets={"preset": "B", "estimator": "qgf", "weight": 8.0, "n_steps": 10},
        frame="play",
    ),
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """One particle and its swarm where the critic is asked in the wrong place.

    Args:
        predict: a question asked before the sliders unlock, such as `PREDICT`.
        values: first control values, such as `preset="B"`.
    """
    first = {"preset": "C", **particle.preset("C"), "start": -0.9}
    first["in_sight"] = ("preset", "estimator", "weight")
    title = "Other critics, longer steps"
    return particle.made("qgf_failure", title, STEPS, predict=predict, **{**first, **values})
