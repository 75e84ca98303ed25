"""Modes on a ring in the plane: a reward to drag, and a flow and a critic to train."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent
from intuitive.qgf.experiments import ring
from intuitive.qgf.experiments.ring import REACH, WEIGHTS, RingParams, RingResult
from intuitive.qgf.guidance import ESTIMATOR_NAMES, Stale
from intuitive.qgf.ring import TEACHINGS

from ..kit import (
    Action,
    Choice,
    Explorer,
    Hero,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    Toggle,
    View,
    chosen,
    fixed,
    percent,
)
from . import styles
from .ring_figures import Picture, method

FLOWS = {"learned": "a flow trained on samples", "closed_form": "the closed-form flow"}
CRITICS = {
    "reward": "the reward itself as critic",
    "brief": "a critic taught briefly",
    "long": "a critic taught at length",
}
LESSONS = {name: f"{taught.n_rated:,} noisy ratings" for name, taught in TEACHINGS.items()}
OFFERED = ("qgf", "ood", "qgf_jacobian", "flow_dps", "best_of_n")
PACE_MS = 170
BETWEEN = {"peak_x": 0.85, "peak_y": 0.5}  # between the first two of six modes


@dataclass(frozen=True, kw_only=True)
class RingSettings:
    """Settings of the ring, and how often the reader had nets trained.

    Every training draws its own data: nets number i have seed + i - 1. Before the first, the flow
    is the closed form and the critic the reward.
    """

    params: RingParams
    train: int
    closed_form: bool

    @classmethod
    def of(
        cls, *, train: int, closed_form: bool, taught: str, seed: int, **settings: Any
    ) -> "RingSettings":
        params = RingParams(
            field="learned" if train and not closed_form else "closed_form",
            critic=taught if train else "reward",
            seed=seed + max(train - 1, 0),
            **settings,
        )
        return cls(params=params, train=train, closed_form=closed_form)


def guide(
    settings: RingSettings,
    *,
    stale: Stale = never,
    progress: Progress = silent,
) -> RingResult:
    """`ring`; nets that are not trained yet are trained first."""
    return ring.run(settings.params, stale=stale, progress=progress)


def present(result: RingResult) -> View:
    params, picture = result.params, Picture(result)
    return View(
        summary=(
            f"{method(result)} at w = {chosen(params.weight)} on {FLOWS[params.field]}, "
            f"{CRITICS[params.critic]}: the critic promises {fixed(result.promised)}, "
            f"{fixed(result.earned)} is earned (imitation {fixed(result.bc_reward)}); "
            f"{percent(result.off_mode)} of the actions lie more than 3σ from every mode."
        ),
        timeline=Timeline(frames=picture.frames(), axis="time t", start=-1, pace_ms=PACE_MS),
        related={"particle": ("asked",), "asked": ("particle",), "gap": ("promised", "earned")},
        table=_table(result),
        code=styles.code("ring", params, "found.promised, found.earned, found.off_mode"),
    )


def _table(result: RingResult) -> Table:
    """Promise and reward at every weight, then what belongs to the chosen one."""
    sampled, learned = result.sampled, result.params.field == "learned"
    rows = [
        (f"w = {chosen(weight)}", fixed(promised, 3), fixed(earned, 3), percent(off, 1))
        for weight, promised, earned, off in zip(
            sampled.weights,
            sampled.promised.mean(1).tolist(),
            sampled.earned.mean(1).tolist(),
            sampled.off_mode.tolist(),
            strict=True,
        )
    ]
    own = {
        "reward of the data": fixed(result.bc_reward, 3),
        "reward of the exact tilt, same w": fixed(result.tilt_reward, 3),
        "network passes per action": f"{sampled.passes}",
        "error of the trained flow": percent(sampled.field_error, 1) if learned else "–",
        "sharpest bend of the critic": fixed(sampled.bend),
        "stability number, bend times w/T": fixed(result.stability),
    }
    rows += [(name, "", value, "") for name, value in own.items()]
    shares = zip(sampled.modes.tolist(), sampled.shares[result.place].tolist(), strict=True)
    rows += [
        (f"actions nearest to the mode at ({fixed(x)}, {fixed(y)})", "", percent(share, 1), "")
        for (x, y), share in shares
    ]
    return Table(("", "promised", "earned", "off every mode"), tuple(rows))


def _eight_times() -> tuple[int, str]:
    """Nets of seed 0, taught briefly: earned by imitation, at w = 1 and at w = 8."""
    little, much = (ring.run(RingParams(weight=w)) for w in (1.0, 8.0))
    left = "almost nothing" if much.earned < 0.05 else fixed(much.earned)
    rises, keeps = much.earned > 1.1 * little.earned, much.earned > 0.9 * little.earned
    return 0 if rises else 1 if keeps else 2, (
        f"At w = 1 it earns {fixed(little.earned)}, imitation {fixed(little.bc_reward)}. At w = 8 "
        f"the critic promises {fixed(much.promised)} and {left} is earned: "
        "most actions lie off every mode, where the critic has seen nothing and its guess goes on "
        "rising."
    )


PREDICT = Predict(
    question=(
        "A small network learns the reward from 200 noisy ratings of actions of the data. With "
        "guidance at w = 1 about twice as much is earned as by imitation. And at w = 8?"
    ),
    choices=("more still", "about the same as at w = 1", "clearly less than at w = 1"),
    answer=_eight_times,
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Samples of a ring of modes, guided by a critic that is right, or that had to learn.

    Args:
        predict: a question asked before the sliders unlock, such as `PREDICT`.
        values: first control values, such as `n_modes=8`.
    """
    first = dataclasses.asdict(RingParams())
    del first["field"], first["critic"]
    edge = {"min": -REACH, "max": REACH, "step": 0.05, "more": True}
    controls = (
        Range(name="weight", label="Weight w", values=WEIGHTS, texts=tuple(map(chosen, WEIGHTS))),
        Action(
            name="train",
            label="Train flow and critic",
            heavy=True,
        ),
        Choice(
            name="taught",
            label="The critic learns from",
            options=LESSONS,
            heavy=True,
        ),
        Choice(
            name="estimator",
            label="Estimator",
            options={name: ESTIMATOR_NAMES[name] for name in OFFERED},
            heavy=True,
            more=True,
        ),
        Range(name="peak_x", label="Peak, first action", **edge),
        Range(name="peak_y", label="Peak, second action", **edge),
        Toggle(name="closed_form", label="Closed-form flow", more=True),
        Range(name="n_modes", label="Modes", min=5, max=8, live=False, more=True),
        Range(name="n_steps", label="Euler steps T", values=(5, 10, 20, 50), more=True),
        Range(name="n_particles", label="Particles", values=(100, 200, 400), more=True),
        Range(name="seed", label="Seed", min=0, max=20, live=False, more=True),
    )
    return Explorer(
        name="qgf_ring",
        title="A ring of modes",
        params=RingSettings.of,
        compute=guide,
        present=present,
        hero=Hero(
            label="Particles in the plane, the reward, what the critic says, and its guidance; "
            "beside it promised and earned over the weight"
        ),
        controls=controls,
        steps=(
            Step(
                title="A critic that knows",
                text="Here the critic is the reward itself. Play, then drag the green peak: what "
                "is promised is earned.",
                sets={"weight": 2.0},
                frame="play",
            ),
            Step(
                title="A critic that learned",
                text="Both nets are trained on the data's actions. At w = 1 more is earned than "
                "by imitation.",
                sets={"train": 1, "weight": 1.0},
                frame="play",
            ),
            Step(
                title="Ask for more",
                text="Same nets, w = 8. Compare promise and reward, and look where the dark "
                "particles stand.",
                sets={"train": 1, "weight": 8.0},
                frame="play",
            ),
            Step(
                title="Teach it longer",
                text="Still w = 8, a critic of 4,000 ratings and longer training: the golden "
                "lines close.",
                sets={"train": 1, "weight": 8.0, "taught": "long"},
                frame="play",
            ),
            Step(
                title="Steps too long",
                text="The reward as critic, w = 16: watch the path's last steps. Then set Euler "
                "steps T to 50 (More controls).",
                sets={"weight": 16.0, **BETWEEN},
                frame="play",
            ),
        ),
        predict=predict,
        defaults={**first, "train": 0, "closed_form": False, "taught": "brief", **values},
    )
