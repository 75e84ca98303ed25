"""When does a teacher stop to repair? Its WAIT step by step after an error, and after none."""

import functools
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from intuitive.trd.experiments.mode_map import ModeMapParams, ModeMapResult, run
from intuitive.trd.results import WaitMap

from .. import theme
from ..kit import (
    Choice,
    Circle,
    Drag,
    Explorer,
    Frame,
    Hero,
    Line,
    Mark,
    Plot,
    Predict,
    Range,
    Readout,
    Rectangle,
    Scene,
    Step,
    Table,
    Timeline,
    View,
    Words,
    chosen,
    fixed,
)
from .styles import SETTING_NAMES, TEACHER_NAMES, told, under

REPAIRS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LIMIT = 0.02  # of the probability of WAIT where nothing is wrong


def map_modes(params: ModeMapParams, *, stale: Any, progress: Any) -> ModeMapResult:
    """`run` of the compute module."""
    with told("models"):
        return run(params, stale=stale, progress=progress)


def by_delay(found: WaitMap) -> tuple[float, ...]:
    """Mean WAIT mass by the steps since a wrong total, over its places; not of a wrong plan."""
    rows = [masses for error, masses in found.by_error.items() if error != "plan"]
    longest = max(map(len, rows))
    return tuple(fmean(row[d] for row in rows if d < len(row)) for d in range(longest))


def after_errors(found: WaitMap) -> float:
    """Mean WAIT mass over all delays after all wrong totals; not a wrong plan, which shows late."""
    totals = (masses for error, masses in found.by_error.items() if error != "plan")
    return fmean(mass for masses in totals for mass in masses)


def present_map(result: ModeMapResult) -> View:
    """Bars by the steps since an error, those after none beside them, and the map in a tab."""
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
        Readout(f"{TEACHER_NAMES[name]}, after an error", fixed(after_errors(found)), link=name)
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
            f"With λ = {chosen(params.repair)} the program says WAIT with "
            f"{fixed(after_errors(exact))} on average after a wrong total and with at most "
            f"{fixed(exact.worst_clean, 3)} after right steps; the trained network with "
            f"{fixed(after_errors(learned))} and at most "
            f"{fixed(learned.worst_clean, 3)}.{plan}"
        ),
        timeline=Timeline(frames=Bars(params.repair, maps).frames(), axis="steps", pace_ms=900),
        figures={"maps": functools.partial(map_figure, maps)},
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


DELAY = 3  # steps since the error that the question asks about


def _answer() -> tuple[int, str]:
    with told("models"):
        found = run(ModeMapParams(n_traces=32)).learned
    at_once, late = (by_delay(found)[d] for d in (0, DELAY))
    right = 1 if late < 0.75 * at_once else 2 if late > 1.25 * at_once else 0
    return right, (
        f"Right after the error it says WAIT with {fixed(at_once, 3)}, and "
        f"{_steps(DELAY)} later with {fixed(late, 3)}. What is wrong stays wrong, "
        "however long it is passed over."
    )


PREDICT = Predict(
    question=(
        f"The network has learned to say WAIT after an error. This time {_steps(DELAY)} were "
        "written since, each of them right after what stood before it. Does it still say WAIT?"
    ),
    choices=("as often as right after the error", "less and less", "more and more"),
    answer=_answer,
)


STEPS = (
    Step(
        title="Move λ",
        text="Drag the green point: the program follows, the network keeps the share it has "
        "learned. Does it matter how long ago the error was?",
        sets={"repair": 0.6},
        frame="last",
    ),
    Step(
        title="Where nothing is wrong",
        text="λ = 1, and still the right-hand bars lie on the floor: nobody interrupts a right "
        "attempt. Else OPD would teach WAIT everywhere.",
        sets={"repair": 1.0},
        frame="last",
    ),
    Step(
        title="A wrong plan",
        text="Eight digits, and a wrong plan to start from. Every total after it is right after "
        "what stands there. Watch the group in the middle: nobody says "
        "WAIT until the last step stands.",
        sets={"setting": "late"},
        frame="play",
    ),
)


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """WAIT step by step after an error, with false alarms beside it.

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
        Choice(  # the other network reads, of eight digits
            name="setting", label="Task", options=SETTING_NAMES, heavy=True
        ),
        Range(name="seed", label="Seed of the traces", min=0, max=20, more=True, heavy=True),
        Range(
            name="n_traces",
            label="Traces per error position",
            values=(16, 32, 64, 128),
            more=True,
            heavy=True,  # the network reads up to four times as many
        ),
    )
    return Explorer(
        name="trd_mode_map",
        title="When does the teacher stop to repair?",
        params=ModeMapParams,
        compute=map_modes,
        present=present_map,
        hero=Hero(
            label="Probability of WAIT by steps since an error and after right steps, two teachers"
        ),
        controls=controls,
        steps=STEPS,
        plots=(
            Plot(
                name="maps",
                tab="By place of the error",
                label="Probability of WAIT by place of the error and steps since, for two teachers",
                caption="A row is where the error stands, a column how many steps were written "
                "since. In the larger task's map 30 stands for 0.30.",
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


# ---- the hero

WIDTH, HEIGHT = 960, 300
FLOOR, TALL = 236, 190  # height of 0, and from there to 1
LEFT = 52
COLOURS = {"exact": "blue", "learned": "gold"}
PLACES = ("after a wrong total", "after a wrong plan", "nothing wrong")


class Bars:
    """Two bars for every number of steps, in a group for each kind of attempt."""

    def __init__(self, repair: int | float, maps: Mapping[str, WaitMap]) -> None:
        self.repair, self.maps = repair, maps
        self.groups: list[tuple[str, dict[str, Sequence[float]], int]] = [
            (PLACES[0], {name: by_delay(found) for name, found in maps.items()}, 0)
        ]
        if all("plan" in found.by_error for found in maps.values()):
            plans = {name: found.by_error["plan"] for name, found in maps.items()}
            self.groups.append((PLACES[1], plans, 1))
        clean = {name: found.clean for name, found in maps.items()}
        self.groups.append((PLACES[2], clean, 1))
        columns = sum(len(next(iter(found.values()))) for _, found, _ in self.groups)
        self.gap = 50
        room = WIDTH - LEFT - 30 - self.gap * (len(self.groups) - 1)
        self.pitch = room / columns

    def frames(self) -> tuple[Frame, ...]:
        """Nothing said yet, and then one number of steps after the other."""
        last = max(first + len(found["exact"]) for _, found, first in self.groups)
        return tuple(
            Frame(scene=self.scene(n), label=_steps(n - 1) if n else "before",
                  sentence=self.sentence(n - 1))
            for n in range(last + 1)
        )  # fmt: skip

    def sentence(self, n: int) -> str:
        """What both say where n steps stand; of n = −1 the question."""
        if n < 0:
            return "Some attempts hold an error, others none. Play: step by step, who says WAIT?"
        told = []
        for place, found, first in self.groups:
            if 0 <= n - first < len(found["exact"]):
                said = " and ".join(fixed(masses[n - first]) for masses in found.values())
                told.append(f"{place} {said}")
        steps = "At once" if n == 0 else f"{_steps(n)} on"
        return f"{steps}, WAIT of program and network: {'; '.join(told)}."

    def scene(self, n: int) -> Scene:
        """Where fewer than n steps stand."""
        return Scene(width=WIDTH, height=HEIGHT, marks=(*self._axis(), *self._groups(n)))

    def y(self, mass: int | float) -> int | float:
        return FLOOR - TALL * mass

    def _axis(self) -> list[Mark]:
        marks: list[Mark] = [Words(key="axis", text="WAIT", x=8, y=22, fill="ink", bold=True)]
        for tick in (0, 0.5, 1):
            y = self.y(tick)
            look = {"stroke": "faint", "width": 0.8, "opacity": 0.6}
            marks.append(Line(key=f"grid:{tick}", x=LEFT, y=y, x2=WIDTH - 8, y2=y, **look))
            told = {"anchor": "end", "fill": "faint"}
            marks.append(Words(key=f"tick:{tick}", text=chosen(tick), x=LEFT - 8, y=y + 5, **told))
        return marks

    def _groups(self, shown: int) -> list[Mark]:
        marks: list[Mark] = []
        begin = float(LEFT)
        for place, found, first in self.groups:
            n = len(next(iter(found.values())))
            middle = begin + self.pitch * n / 2
            head = {"anchor": "middle", "fill": "ink", "bold": True, "size": 14}
            marks.append(Words(key=place, text=place, x=middle, y=22, **head))
            steps = "right steps so far" if place == PLACES[2] else "steps since"
            if place == PLACES[1]:
                steps = "steps so far"
            foot = {"anchor": "middle", "fill": "faint"}
            marks.append(Words(key=f"{place}: steps", text=steps, x=middle, y=FLOOR + 40, **foot))
            for d in range(n):
                x = begin + self.pitch * d
                marks.append(
                    Words(
                        key=f"{place}:{d}", text=f"{d + first}", x=x + self.pitch / 2,
                        y=FLOOR + 19, anchor="middle", fill="faint",
                    )
                )  # fmt: skip
                for row, (name, masses) in enumerate(found.items()):
                    if d + first >= shown:
                        continue
                    marks += self._bar(place, name, d, first, masses[d], x, row)
            if place == PLACES[0]:
                marks += self._handle(begin, begin + self.pitch * n)
                marks += self._names(begin)
            begin += self.pitch * n + self.gap
        return marks

    def _bar(
        self,
        place: str,
        name: str,
        d: int,
        first: int,
        mass: int | float,
        x: int | float,
        row: int,
    ) -> list[Mark]:
        wide = 0.36 * self.pitch
        left = x + 0.12 * self.pitch + row * (wide + 0.04 * self.pitch)
        tall = max(TALL * mass, 1)
        who = TEACHER_NAMES[name]
        words = f"{place}, {_steps(d + first)}: {who} says WAIT with {fixed(mass, 3)}."
        marks: list[Mark] = [
            Rectangle(
                key=f"bar:{place}:{name}:{d}", x=left, y=FLOOR - tall, w=wide, h=tall,
                fill=COLOURS[name], link=name, words=words[0].upper() + words[1:],
            )
        ]  # fmt: skip
        if self.pitch > 60:
            at = {"x": left + wide / 2, "y": FLOOR - tall - 5, "anchor": "middle", "size": 13}
            text = fixed(mass) if mass >= 0.005 else "0.00"
            marks.append(Words(key=f"value:{place}:{name}:{d}", text=text, fill="ink", **at))
        return marks

    def _names(self, begin: int | float) -> list[Mark]:
        """Who is who, beside the first bars."""
        marks: list[Mark] = []
        for row, name in enumerate(self.maps):
            look = {"fill": COLOURS[name], "bold": True, "link": name}
            x = begin + 4 + row * 130
            marks.append(
                Words(key=f"who:{name}", text=TEACHER_NAMES[name], x=x, y=FLOOR + 60, **look)
            )
        return marks

    def _handle(self, begin: int | float, end: int | float) -> list[Mark]:
        y = self.y(self.repair)
        scale = ((0.0, self.y(0)), (1.0, self.y(1)))
        line = {"stroke": "green", "width": 2, "dash": "5 4"}
        words = f"λ = {chosen(self.repair)}: drag it to another share."
        return [
            Line(key="λ", x=begin, y=y, x2=end + 16, y2=y, **line),
            Circle(
                key="handle", x=end + 16, y=y, r=9, fill="green", stroke="page", label="↕",
                size=12, drag=Drag(y="repair", y_scale=scale), words=words, link="λ", layer=1,
            ),
            Words(key="λ's name", text="λ", x=end + 30, y=y + 5, fill="green", bold=True, size=15),
        ]  # fmt: skip


# ---- the tab


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
