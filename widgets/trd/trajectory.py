"""Along one failed rollout: loss by token, the pair ladder, and what the rewrite keeps."""

import functools
from statistics import fmean
from typing import Any

from intuitive.common.runtime import never
from intuitive.common.training import silent
from intuitive.trd.experiments.trajectory import (
    LAST,
    Followed,
    RolloutSetting,
    TrajectoryParams,
    follow,
)

from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View, fixed
from . import trajectory_figures as figures
from .styles import DIVERGENCE_NAMES, SETTING_NAMES, TEACHER_NAMES, TRAJECTORY_NAMES, told

REPAIRS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
CONTEXTS = {"refine": "x and y_o, as it rewrote", "x": "x alone"}


def _compute(setting: RolloutSetting, *, stale: Any, progress: Any) -> Followed:
    with told("models"):
        return follow(setting, stale=stale, progress=progress)


def _answer() -> tuple[int, str]:
    ladder = _compute(RolloutSetting.of(error=2, which=1, delay=0), stale=never, progress=silent)
    needed = ladder.result.ladder
    shared = figures.shared_rungs(needed)
    right = {len(needed): 0, 1: 1, 0: 2}.get(shared, -1)
    return right, (
        f"Of the {len(needed)} pairs of context and next token that the repair needs, the frozen "
        f"attempt supplies {shared}: what leads to {needed[0].target}. After that the attempt goes "
        "on as if nothing had been said."
    )


PREDICT = Predict(
    question=(
        "The repair needs ten tokens: WAIT, which step, the right total, and so on to the end. On "
        "the student's own failed attempt, for how many of them does the teacher show the next "
        "one in its proper context?"
    ),
    choices=("all of them", "the first one only", "none"),
    answer=_answer,
)


def present_along(found: Followed) -> View:
    result, setting, place = found.result, found.setting, found.place
    params, y_o, y_r = result.params, result.y_o, result.y_r
    error = y_o.first_error
    spans = {"before": y_o.nats[:error], "at": y_o.nats[error : error + 1],
             "after": y_o.nats[error + 1 :]}  # fmt: skip
    means = {name: f"{fixed(fmean(nats))}" if nats else "–" for name, nats in spans.items()}
    shared = figures.shared_rungs(result.ladder)
    label = DIVERGENCE_NAMES[params.divergence]
    charges = f"{label[0].upper()}{label[1:]} charges"
    where = "the plan" if setting.error == 0 else f"step {setting.error}"
    steps = f"{setting.delay} step{'s' if setting.delay > 1 else ''}"
    later = f"{steps} after it" if setting.delay else "Right after it"
    if setting.error == 0:
        later = "Once all steps stand"  # no total shows a wrong plan
    charged = f"{means['at']} nats at the error and {means['after']} a token after it"
    if spans["before"]:
        charged = (
            f"{means['before']} nats a token before the error, {means['at']} at it and "
            f"{means['after']} after it"
        )
    paths = (result.y_o, result.y_r, result.y_t)
    problem = tuple(
        ("the problem", f"{at}", f"{digit}", "–", "–", "–", "–")
        for at, digit in enumerate(result.digits)
    )
    rows = problem + tuple(
        (
            TRAJECTORY_NAMES[path.name],
            f"{at}",
            token,
            path.marks[at] or "–",
            f"{fixed(path.nats[at], 3)}" if path.nats else "–",
            f"{fixed(path.wait_mass[at], 3)}" if path.wait_mass else "–",
            f"{fixed(path.nll[at], 3)}",
        )
        for path in paths
        for at, token in enumerate(path.tokens)
    )
    return View(
        summary=(
            f"The rollout goes wrong at {where}. {charges} {charged}, and "
            f"{fixed(fmean(y_r.nats))} along the rewrite. {later} the "
            f"teacher says WAIT with {fixed(y_o.wait_mass[place])}. OPD supplies {shared} of the "
            f"{len(result.ladder)} pairs that the repair needs. Student NLL per token: y_o "
            f"{fixed(y_o.mean_nll)}, y_r {fixed(y_r.mean_nll)}, y_T {fixed(result.y_t.mean_nll)}."
        ),
        figures={
            "loss": figures.loss_figure(result, place, label),
            "ladder": functools.partial(figures.ladder_figure, result, place),
            "diff": functools.partial(figures.diff_figure, result),
        },
        readouts=(
            Readout("loss before / at / after the error", " / ".join(means.values())),
            Readout("WAIT mass at the place looked at", f"{fixed(y_o.wait_mass[place])}"),
            Readout("pairs shared", f"{shared} of {len(result.ladder)}"),
        ),
        table=Table(
            ("trajectory", "place", "token", "mark", f"{label}, nats", "WAIT mass", "student NLL"),
            rows,
        ),
        code=(
            "from intuitive.trd.experiments import trajectory\n\n"
            f'params = trajectory.TrajectoryParams.from_text(\n    "{params.to_text()}"\n)\n'
            "result = trajectory.run(params)\n"
            "result.y_o.nats, result.ladder, result.y_r.mean_nll"
        ),
        bounds={
            "error": (found.errors[0], found.errors[-1]),
            "which": (1, found.n_alike),
            "delay": (0, found.n_delays - 1),
        },
        values={"error": setting.error, "which": setting.which, "delay": setting.delay},
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """A failed rollout, its rewrite and the teacher's own solution, token by token.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `divergence="reverse_kl"`.
    """
    first = TrajectoryParams()
    controls = (
        Range(
            name="error",
            label="First error at step",
            min=0,
            max=8,
            help="0 is the plan, in the task that has one.",
        ),
        Range(name="delay", label="Look so many steps after it", min=0, max=7),
        Choice(name="divergence", label="Divergence", options=DIVERGENCE_NAMES),
        Range(name="which", label="Rollout with that error", min=1, max=LAST, more=True),
        Range(
            name="repair",
            label="The program's λ",
            values=REPAIRS,
            texts=tuple(f"{value:g}" for value in REPAIRS),
            more=True,
        ),
        Choice(name="teacher", label="Teacher", options=TEACHER_NAMES, more=True),
        Choice(name="context", label="Teacher scores y_r from", options=CONTEXTS, more=True),
        Range(name="cap", label="Cap of the clip", values=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
              texts=("0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"), unit="nats", more=True),
        Range(name="beta", label="Jensen–Shannon: β", min=0.05, max=0.95, step=0.05, more=True),
        Range(name="top_k", label="Top-k: tokens kept, k", min=1, max=16, more=True),
        # For another student or task a network writes 256 rollouts, to find those that fail.
        Range(name="seed", label="Student, seed", min=0, max=4, more=True, heavy=True),
        Choice(name="setting", label="Task", options=SETTING_NAMES, more=True, heavy=True),
    )  # fmt: skip
    return Explorer(
        name="trd_trajectory",
        title="Along one failed rollout",
        params=RolloutSetting.of,
        compute=_compute,
        present=present_along,
        controls=controls,
        plots=(
            Plot(
                name="loss",
                label="Loss of every token along the rollout and along its rewrite",
                caption="What the student pays at every token. Full vermilion: after the first "
                "error, where every context is wrong. Dashed purple: the place looked at.",
                height=300,
            ),
            Plot(
                name="ladder",
                tab="The ladder",
                label="Pairs that a repair needs beside those that the frozen rollout supplies",
                caption="c is the failed prefix. Lit: OPD supplies that very pair. Below, the "
                "repair's contexts hold a WAIT; OPD's never do, and at later step boundaries the "
                "teacher only offers WAIT again. A repair goes on after the rollout has ended.",
                height=480,
            ),
            Plot(
                name="diff",
                tab="Three texts",
                label="The rollout, its rewrite and the teacher's own solution, token by token",
                caption="Wrong or underlined: not the right number. Of the right ones, compared "
                "with y_o: kept, fixed in its place, or in another place. NLL: what the "
                "student pays per token to write it, in nats; small "
                "means near to what it would write.",
                height=230,
            ),
        ),
        defaults={
            "error": 2,
            "delay": 0,
            "divergence": first.divergence,
            "which": 1,
            "repair": first.repair,
            "teacher": first.teacher,
            "context": first.context,
            "cap": first.cap,
            "beta": first.beta,
            "top_k": first.top_k,
            "seed": first.seed,
            "setting": first.setting,
            **values,
        },
        predict=predict,
    )
