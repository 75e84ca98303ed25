"""Along one failed rollout: loss by token, the pair ladder, and what the rewrite keeps."""

from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from intuitive.common.runtime import check
from intuitive.trd.along import AlongParams, AlongResult, along, failed_rollouts
from intuitive.trd.committed import setting_config
from intuitive.trd.sums import SumsConfig

from ..figures import trd_along as figures
from ..figures.trd_styles import DIVERGENCE_NAMES, TRAJECTORY_NAMES
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View
from .trd_shipped import SETTING_NAMES, told

REPAIRS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
TEACHERS = {"exact": "the program", "learned": "the trained network"}
CONTEXTS = {"refine": "x and y_o, as it rewrote", "x": "x alone"}
LAST = 40  # rollouts that one may look at with an error in one place


@dataclass(frozen=True, kw_only=True)
class AlongSetting:
    """Which failed rollout, by the place of its error, and how far after it one looks."""

    params: AlongParams  # its item is left to `follow`
    error: int  # step of the first error, from 1; 0 is the plan
    which: int  # of the rollouts with that error
    delay: int  # steps

    @classmethod
    def of(cls, *, error: int, which: int, delay: int, **settings: Any) -> "AlongSetting":
        return cls(params=AlongParams(**settings), error=error, which=which, delay=delay)


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A rollout, and the setting that led to it."""

    setting: AlongSetting  # as it came out: with an error, a rollout and a delay that there are
    errors: tuple[int, ...]  # places of errors to choose from
    n_alike: int  # rollouts with the error there
    n_delays: int
    place: int  # token looked at
    result: AlongResult


def error_steps(sums: SumsConfig, first_errors: list[int]) -> list[int]:
    """The step of each first error, from 1; 0 is the plan."""
    off = int(sums.plan)
    return [0 if at < off else (at - off) // 2 + 1 for at in first_errors]


def follow(setting: AlongSetting, *, stale: Any, progress: Any) -> Followed:
    """`along` the chosen rollout; the nearest error is taken where none is at the wanted step."""
    check(stale)
    params, sums = setting.params, setting_config(setting.params.setting).sums
    with told("models"):
        failed = failed_rollouts(params.setting, params.seed)
        steps = error_steps(sums, failed.first_error.tolist())
        if not steps:
            raise ValueError(f"seed={params.seed}: this student has no failed rollout here.")
        error = min(set(steps), key=lambda step: (abs(step - setting.error), step))
        alike = [item for item, step in enumerate(steps) if step == error][:LAST]
        which = min(setting.which, len(alike))
        chosen = replace(params, item=alike[which - 1])
        result = along(chosen, stale=stale)
    n_tokens = len(result.y_o.tokens)
    n_delays = len(range(result.onset_at, n_tokens - 2, 2))  # boundaries up to the answer
    delay = min(setting.delay, n_delays - 1)
    return Followed(
        setting=AlongSetting(params=chosen, error=error, which=which, delay=delay),
        errors=tuple(sorted(set(steps))),
        n_alike=len(alike),
        n_delays=n_delays,
        place=result.onset_at + 2 * delay,
        result=result,
    )


def present_along(found: Followed) -> View:
    result, setting, place = found.result, found.setting, found.place
    params, y_o, y_r = result.params, result.y_o, result.y_r
    error = y_o.first_error
    spans = {"before": y_o.nats[:error], "at": y_o.nats[error : error + 1],
             "after": y_o.nats[error + 1 :]}  # fmt: skip
    means = {name: f"{fmean(nats):.2f}" if nats else "–" for name, nats in spans.items()}
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
    rows = tuple(
        (
            TRAJECTORY_NAMES[path.name],
            f"{at}",
            token,
            path.marks[at] or "–",
            f"{path.nats[at]:.3f}" if path.nats else "–",
            f"{path.wait_mass[at]:.3f}" if path.wait_mass else "–",
            f"{path.nll[at]:.3f}",
        )
        for path in paths
        for at, token in enumerate(path.tokens)
    )
    return View(
        summary=(
            f"The rollout goes wrong at {where}. {charges} {charged}, and "
            f"{fmean(y_r.nats):.2f} along the rewrite. {later} the "
            f"teacher says WAIT with {y_o.wait_mass[place]:.2f}. OPD supplies {shared} of the "
            f"{len(result.ladder)} pairs that the repair needs. Student NLL per token: y_o "
            f"{y_o.mean_nll:.2f}, y_r {y_r.mean_nll:.2f}, y_T {result.y_t.mean_nll:.2f}."
        ),
        figures={
            "loss": figures.loss_figure(result, place, label),
            "ladder": figures.ladder_figure(result, place),
            "diff": figures.diff_figure(result),
        },
        readouts=(
            Readout("problem", "digits " + " ".join(map(str, result.digits))),
            Readout("loss before / at / after the error", " / ".join(means.values())),
            Readout("WAIT mass at the place looked at", f"{y_o.wait_mass[place]:.2f}"),
            Readout("loss there", f"{y_o.nats[place]:.2f} nats"),
            Readout("pairs shared", f"{shared} of {len(result.ladder)}"),
        ),
        table=Table(
            ("trajectory", "place", "token", "mark", f"{label}, nats", "WAIT mass", "student NLL"),
            rows,
        ),
        code=(
            "from intuitive.trd.experiment import AlongParams, along\n\n"
            f'params = AlongParams.from_text(\n    "{params.to_text()}"\n)\n'
            "result = along(params)\n"
            "result.y_o.nats, result.ladder, result.y_r.mean_nll"
        ),
        bounds={
            "error": (found.errors[0], found.errors[-1]),
            "which": (1, found.n_alike),
            "delay": (0, found.n_delays - 1),
        },
        values={"error": setting.error, "which": setting.which, "delay": setting.delay},
    )


def along_a_rollout(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """A failed rollout, its rewrite and the teacher's own solution, token by token.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `divergence="reverse_kl"`.
    """
    first = AlongParams()
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
        Choice(name="teacher", label="Teacher", options=TEACHERS, more=True),
        Choice(name="context", label="Teacher scores y_r from", options=CONTEXTS, more=True),
        Range(name="cap", label="Cap of the clip", values=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
              texts=("0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"), unit="nats", more=True),
        Range(name="beta", label="Jensen–Shannon: β", min=0.05, max=0.95, step=0.05, more=True),
        Range(name="top_k", label="Top-k: tokens kept, k", min=1, max=16, more=True),
        Range(name="seed", label="Student, seed", min=0, max=4, more=True),
        Choice(name="setting", label="Task", options=SETTING_NAMES, more=True),
    )  # fmt: skip
    return Explorer(
        name="trd_trajectory",
        title="Along one failed rollout",
        params=AlongSetting.of,
        compute=follow,
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
                label="Pairs that a repair needs beside those that the frozen rollout supplies",
                caption="c is the failed prefix. Lit: the context stands in both columns. Below, "
                "the repair's contexts hold a WAIT; OPD's never do, and at later boundaries the "
                "teacher only offers the onset again.",
                height=330,
            ),
            Plot(
                name="diff",
                label="The rollout, its rewrite and the teacher's own solution, token by token",
                caption="Compared with y_o: a step is kept, fixed in its place, or stands in "
                "another place. NLL: what the student pays per token to write it, in nats; small "
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
