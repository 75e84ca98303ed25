"""The mode map: when does a teacher stop to repair?"""

from statistics import fmean
from typing import Any

from intuitive.trd.committed import WaitMap
from intuitive.trd.signals import ModeMapParams, ModeMapResult, mode_map

from ..figures import trd_map as figures
from ..kit import Choice, Explorer, Plot, Predict, Range, Readout, Table, View
from .trd_shipped import SETTING_NAMES, told

REPAIRS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def map_modes(params: ModeMapParams, *, stale: Any, progress: Any) -> ModeMapResult:
    """`mode_map`."""
    with told("models"):
        return mode_map(params, stale=stale)


def after_errors(found: WaitMap) -> float:
    """Mean WAIT mass over all delays after all wrong totals; not a wrong plan, which shows late."""
    totals = (masses for error, masses in found.by_error.items() if error != "plan")
    return fmean(mass for masses in totals for mass in masses)


def present_map(result: ModeMapResult) -> View:
    params, maps = result.params, {"exact": result.exact, "learned": result.learned}
    rows = []
    for name, found in maps.items():
        of = figures.TEACHER_NAMES[name]
        for error, masses in found.by_error.items():
            for steps, mass in enumerate(masses):
                where = f"error at {figures.error_name(error)}, {_steps(steps)} later"
                rows.append((of, where, f"{mass:.4f}"))
        for steps, mass in enumerate(found.clean, start=1):
            rows.append((of, f"{_steps(steps, 'right ')} so far", f"{mass:.4f}"))
        rows.append((of, "the next total goes on from the error", f"{found.consistent:.4f}"))
        rows.append((of, "the next total is silently repaired", f"{found.repaired:.4f}"))
    exact, learned = maps.values()
    readouts = []
    for name, found in maps.items():
        of = figures.TEACHER_NAMES[name]
        high = found.worst_clean > figures.LIMIT
        readouts += [
            Readout(f"{of}: WAIT after a wrong total", f"{after_errors(found):.2f}"),
            Readout(
                f"{of}: worst false alarm",
                f"{found.worst_clean:.3f}" + (f" ▲ above {figures.LIMIT}" if high else ""),
                alarm=high,
            ),
        ]
    plan = ""
    if "plan" in exact.by_error:
        last = " and ".join(f"{found.by_error['plan'][-1]:.2f}" for found in maps.values())
        plan = f" A wrong plan shows when all steps stand: there they say it with {last}."
    return View(
        summary=(
            f"With λ = {params.repair:g} the program says WAIT with {after_errors(exact):.2f} "
            "on average after a wrong total and with at most "
            f"{exact.worst_clean:.3f} after right steps; the trained network with "
            f"{after_errors(learned):.2f} and at most "
            f"{learned.worst_clean:.3f}.{plan}"
        ),
        figures={"maps": figures.map_figure(maps), "clean": figures.clean_figure(maps)},
        readouts=tuple(readouts),
        table=Table(("teacher", "where", "probability of WAIT, or as said"), tuple(rows)),
        code=(
            "from intuitive.trd.experiment import ModeMapParams, mode_map\n\n"
            f'result = mode_map(ModeMapParams.from_text("{params.to_text()}"))\n'
            "result.exact.by_error, result.learned.by_error, result.learned.clean"
        ),
    )


def _steps(n: int, kind: str = "") -> str:
    return f"{n} {kind}step{'s' if n != 1 else ''}"


def wait_maps(*, predict: Predict | None = None, **values: Any) -> Explorer:
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
            name="n_traces", label="Traces per error position", values=(16, 32, 64, 128), more=True
        ),
        Choice(name="setting", label="Task", options=SETTING_NAMES, more=True),
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
