"""The mode map: when does a teacher stop to repair?"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from intuitive.trd.experiments.mode_map import ModeMapParams, ModeMapResult, run
from intuitive.trd.results import WaitMap

from .. import theme
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View, fixed
from .styles import SETTING_NAMES, TEACHER, TEACHER_NAMES, told, under

REPAIRS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def map_modes(params: ModeMapParams, *, stale: Any, progress: Any) -> ModeMapResult:
    """`run` of the compute module."""
    with told("models"):
        return run(params, stale=stale, progress=progress)


def after_errors(found: WaitMap) -> float:
    """Mean WAIT mass over all delays after all wrong totals; not a wrong plan, which shows late."""
    totals = (masses for error, masses in found.by_error.items() if error != "plan")
    return fmean(mass for masses in totals for mass in masses)


def present_map(result: ModeMapResult) -> View:
    params, maps = result.params, {"exact": result.exact, "learned": result.learned}
    rows = []
    for name, found in maps.items():
        of = TEACHER_NAMES[name]
        for error, masses in found.by_error.items():
            for steps, mass in enumerate(masses):
                where = f"error at {error_name(error)}, {_steps(steps)} later"
                rows.append((of, where, f"{fixed(mass, 4)}"))
        for steps, mass in enumerate(found.clean, start=1):
            rows.append((of, f"{_steps(steps, 'right ')} so far", f"{fixed(mass, 4)}"))
        rows.append((of, "the next total goes on from the error", f"{fixed(found.consistent, 4)}"))
        rows.append((of, "the next total is silently repaired", f"{fixed(found.repaired, 4)}"))
        rows.append((of, "worst false alarm", f"{fixed(found.worst_clean, 4)}"))
    exact, learned = maps.values()
    readouts = [
        Readout(f"{TEACHER_NAMES[name]}: WAIT after a wrong total", f"{fixed(after_errors(found))}")
        for name, found in maps.items()
    ]
    worst, who = max((found.worst_clean, TEACHER_NAMES[name]) for name, found in maps.items())
    high = worst > LIMIT
    told_worst = f"{fixed(worst, 3)}" + (f" ▲ above {LIMIT}, {who}" if high else "")
    readouts.append(Readout("worst false alarm", told_worst, alarm=high))
    plan = ""
    if "plan" in exact.by_error:
        last = " and ".join(f"{fixed(found.by_error['plan'][-1])}" for found in maps.values())
        plan = f" A wrong plan shows when all steps stand: there they say it with {last}."
    return View(
        summary=(
            f"With λ = {params.repair:g} the program says WAIT with {fixed(after_errors(exact))} "
            "on average after a wrong total and with at most "
            f"{fixed(exact.worst_clean, 3)} after right steps; the trained network with "
            f"{fixed(after_errors(learned))} and at most "
            f"{fixed(learned.worst_clean, 3)}.{plan}"
        ),
        figures={"maps": map_figure(maps), "clean": clean_figure(maps)},
        readouts=tuple(readouts),
        table=Table(("teacher", "where", "probability of WAIT, or as said"), tuple(rows)),
        code=(
            "from intuitive.trd.experiments import mode_map\n\n"
            f'result = mode_map.run(mode_map.ModeMapParams.from_text("{params.to_text()}"))\n'
            "result.exact.by_error, result.learned.by_error, result.learned.clean"
        ),
    )


def _steps(n: int, kind: str = "") -> str:
    return f"{n} {kind}step{'s' if n != 1 else ''}"


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """WAIT mass by the place of an error and the steps since, with false alarms.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `repair=0.6`.
    """
    first = ModeMapParams()
    controls = (
        Range(
            name="repair",
            label="The program's λ",
            values=REPAIRS,
            texts=tuple(f"{value:g}" for value in REPAIRS),
        ),
        Range(name="seed", label="Seed of the traces", min=0, max=20, more=True),
        Range(
            name="n_traces",
            label="Traces per error position",
            values=(16, 32, 64, 128),
            more=True,
            heavy=True,  # the network reads up to four times as many
        ),
        Choice(  # the other network reads, of eight digits
            name="setting", label="Task", options=SETTING_NAMES, more=True, heavy=True
        ),
    )
    return Explorer(
        name="trd_mode_map",
        title="When does the teacher stop to repair?",
        params=ModeMapParams,
        compute=map_modes,
        present=present_map,
        controls=controls,
        plots=(
            Plot(
                name="maps",
                label="Probability of WAIT by place of the error and steps since, for two teachers",
                caption="A row is where the error stands, a column how many steps were written "
                "since. The program's mass is λ wherever the error can be seen, a wrong plan "
                "only at the end; the network learned its own from traces and stays as it is. "
                "In the larger task's map 30 stands for 0.30.",
                span=8,
                height=320,
            ),
            Plot(
                name="clean",
                label="Probability of WAIT after right steps alone, for two teachers",
                caption="Nothing is wrong here: every WAIT is a false alarm. Dotted: 2 %.",
                span=4,
                height=320,
            ),
        ),
        defaults={
            "repair": first.repair,
            "seed": first.seed,
            "n_traces": 32,
            "setting": first.setting,
            **values,
        },
        predict=predict,
    )


# ---- figures


LIMIT = 0.02  # of the probability of WAIT where nothing is wrong
TOPS = (0.05, 0.1, 0.2, 0.5, 1.0)
LOOKS = {"exact": ("solid", "circle"), "learned": ("dash", "square")}


def error_name(error: str) -> str:
    """As the figures call it: steps count from 1."""
    return "plan" if error == "plan" else f"step {int(error) + 1}"


def map_figure(maps: Mapping[str, WaitMap]) -> theme.Figure:
    """WAIT mass by the place of the error and the steps since, one map per teacher."""
    rows = list(next(iter(maps.values())).by_error)
    width = max(len(masses) for found in maps.values() for masses in found.by_error.values())
    traces = []
    for place, found in enumerate(maps.values()):
        table = [[*found.by_error[row], *[None] * width][:width] for row in rows]
        traces.append(
            {
                "type": "heatmap",
                "z": table,
                "zmin": 0,
                "zmax": 1,
                "colorscale": theme.ORDERED,
                "showscale": place == 0,
                "colorbar": {"thickness": 12, "title": {"text": "WAIT", "side": "top"}},
                "xgap": 2,
                "ygap": 2,
                # Hundredths in narrow cells: "30" for 0.30.
                "text": [["" if z is None else fixed(100 * z, 0) for z in row] for row in table],
                "texttemplate": "%{z:.2f}" if width <= 5 else "%{text}",
                "textfont": {"size": 13 if width <= 5 else 11},
                "hovertemplate": "%{y}, %{x} steps later: %{z:.3f}<extra></extra>",
                "hoverongaps": False,
                "xaxis": theme.x_axis(place),
            }
        )
    headings = [TEACHER_NAMES[name] for name in maps]
    layout = theme.columns(headings, x="", x_range=(-0.5, width - 0.5))
    layout["annotations"].append(under("steps since the error"))
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            axis |= {"dtick": 1, "showgrid": False, "zeroline": False}
    return theme.figure(
        traces,
        y_range=(len(rows) - 0.5, -0.5),
        margin={"l": 66},
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [error_name(row) for row in rows],
            "showgrid": False,
            "zeroline": False,
        },
        **layout,
    )


def clean_figure(maps: Mapping[str, WaitMap]) -> theme.Figure:
    """False alarms: WAIT mass after right steps alone."""
    traces = []
    for name, found in maps.items():
        dash, symbol = LOOKS[name]
        traces.append(
            {
                "type": "scatter",
                "x": list(range(1, len(found.clean) + 1)),
                "y": list(found.clean),
                "mode": "lines+markers",
                "line": {"color": TEACHER, "dash": dash, "width": 2.5},
                "marker": {"color": TEACHER, "symbol": symbol, "size": 9},
                "name": TEACHER_NAMES[name],
            }
        )
    worst = max(found.worst_clean for found in maps.values())
    n = len(next(iter(maps.values())).clean)
    return theme.figure(
        traces,
        x="right steps so far",
        y="WAIT mass, false alarms",
        x_range=(0.7, n + 0.3),
        y_range=(-0.002, next((top for top in TOPS if top > 1.05 * worst), 1.05)),
        xaxis={"dtick": 1},
        shapes=[theme.line(y=LIMIT, colour=theme.VERMILION)],
        showlegend=True,
    )
