"""Which press and which training: variants seed by seed, and which differences are no luck."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from intuitive.common.results import names
from intuitive.common.settings import Settings
from intuitive.common.training import Progress
from intuitive.lclm.experiments import sweep as experiment
from intuitive.lclm.experiments.sweep import SweepParams, SweepResult
from intuitive.lclm.results import MINIATURE, miniatures

from ..kit import (
    Choice,
    Explorer,
    Hero,
    Predict,
    Step,
    Table,
    Timeline,
    View,
    fixed,
    percent,
)
from .sweep_scene import Picture
from .sweep_sheets import Sheet, diet_sheet, press_sheet

GRIDS = {
    "symbols": ("small", "reconstruction", "random symbols, says them again: share right"),
    "bytes": ("large", "reconstruction", "real text, says it again: share of right bytes"),
    "use": (
        "large",
        "use",
        "real text, goes on: nats a byte saved by its own beads over another text’s",
    ),
}
TITLES = {
    "symbols": "the press, on random symbols",
    "bytes": "the press, on real text",
    "use": "the press, for going on",
    "diet": "what it is trained on, and what trains",
}


@dataclass(frozen=True, kw_only=True)
class Shown(Settings):
    """The control: which comparison."""

    what: str = "symbols"


@dataclass(frozen=True, kw_only=True)
class ShownResult:
    """A grid, and how it came about."""

    shown: Shown
    sheet: Sheet
    found: SweepResult


@cache
def there() -> tuple[str, ...]:
    """What is committed of `TITLES`, in that order; all of it before anything is.

    A comparison needs two seeds at least: of one alone nobody can say what is luck.
    """
    if MINIATURE not in names():
        return tuple(TITLES)
    points = miniatures().values

    def several(name: str) -> bool:
        fields = {"study": "stages"}
        if name in GRIDS:
            fields = {"study": "sweep", "scale": GRIDS[name][0]}
        return len({point.seed for point in points.select(**fields)}) > 1

    return tuple(name for name in TITLES if several(name))


def compute(shown: Shown, *, stale: Callable[[], bool], progress: Progress) -> ShownResult:
    """Look up one comparison.

    Raises:
        ValueError: an unknown one.
    """
    if shown.what not in TITLES:
        raise ValueError(f"{shown.what!r} is unknown; there are {', '.join(TITLES)}.")
    scale, measure, head = GRIDS["symbols" if shown.what == "diet" else shown.what]
    found = experiment.run(SweepParams(scale=scale, measure=measure), stale=stale)
    sheet = diet_sheet(found.mixes) if shown.what == "diet" else press_sheet(found, head)
    return ShownResult(shown=shown, sheet=sheet, found=found)


def _reconstruction_alone() -> tuple[int, str]:
    rows = experiment.run(SweepParams()).mixes
    at = {row.share: row for row in rows if row.training == "joint"}

    def mean(values: tuple[float, ...]) -> float:
        return sum(values) / len(values)

    alone, half = mean(at[1.0].continuation), mean(at[0.5].continuation)
    right = 0 if alone < 1.1 * half else 1 if alone < 1.6 * half else 2
    said, mixed, never = (percent(mean(at[share].reconstruction)) for share in (1.0, 0.5, 0.0))
    why = ": a decoder that has learned to spell out its beads and nothing else" * (right == 2)
    return right, (
        f"Its loss is {fixed(alone)} nats per byte, that of the pair trained on both "
        f"{fixed(half)}. It says {said} of the bytes again, the mixed one {mixed}{why}. Trained on "
        f"going on alone, a pair says {never} again: nothing asks for exact letters then."
    )


PREDICT = Predict(
    question=(
        "A pair is trained on nothing but saying its text again. Now it is to go on with the text "
        "instead. How large is its loss on the next bytes, compared with a pair that was trained "
        "on both?"
    ),
    choices=("about the same", "up to half as much again", "far larger"),
    answer=_reconstruction_alone,
)


def present(result: ShownResult) -> View:
    sheet, picture = result.sheet, Picture(result.sheet)
    frames, seeds = picture.frames(), result.sheet.seeds
    won = [one.title for one in sheet.versus if one.decided(seeds) and one.count(seeds)[0]]
    lost = [one.title for one in sheet.versus if one.decided(seeds) and not one.count(seeds)[0]]
    open_ = len(sheet.versus) - len(won) - len(lost)
    told = f"; always: {'; '.join(won)}" * bool(won) + f"; never: {'; '.join(lost)}" * bool(lost)
    summary = (
        f"{TITLES[result.shown.what].capitalize()}: over {len(seeds)} seeds {open_} of "
        f"{len(sheet.versus)} comparisons stay open{told}."
    )
    rows = tuple(
        (sheet.name(key), *(fixed(values[s], 3) if s in values else "–" for s in seeds))
        for key, values in sheet.cells.items()
    )
    rows += tuple(
        (one.title, *("{} of {}".format(*one.count((seed,))) for seed in seeds))
        for one in sheet.versus
    )
    params = result.found.params
    return View(
        summary=summary,
        timeline=Timeline(frames=frames, axis="seeds", start=-1, pace_ms=1500),
        readouts=frames[-1].readouts,
        table=Table(("", *(f"seed {seed}" for seed in seeds)), rows),
        code=(
            "from intuitive.lclm.experiments.sweep import SweepParams, run\n\n"
            f'result = run(SweepParams.from_text("{params.to_text()}"))\n'
            "[(one.choice, one.better, one.worse, one.wins) for one in result.comparisons]"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """Pooling, mask and window, mixes and stages, as committed miniatures have them.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `what="diet"`.
    """
    return Explorer(
        name="lclm_sweep",
        title="Which press, which training",
        params=Shown,
        compute=compute,
        present=present,
        hero=Hero(
            label="A grid of variants with a dot per seed, and how many pairs each choice wins",
            caption="Green: a best mean that no other cell reaches, and comparisons that come out "
            "alike in all pairs.",
        ),
        controls=(
            Choice(
                name="what",
                label="What is compared",
                options={name: TITLES[name] for name in there()},
            ),
        ),
        steps=_steps(),
        predict=predict,
        defaults={"what": there()[0], **values},
    )


def _steps() -> tuple[Step, ...]:
    """Those whose comparison is there."""
    return tuple(step for step in STEPS if step.sets.get("what", there()[0]) in there())


STEPS = (
    Step(
        title="Seed by seed",
        text="Play. One seed, then two, then all. Comparisons that looked decided, green at the "
        "right, open up.",
        frame="play",
    ),
    Step(
        title="All seeds",
        text="Each bar counts pairs that differ in nothing else. Far from the middle a choice "
        "leans to one side; only a full or an empty bar is the same for every pair.",
        frame="last",
    ),
    Step(
        title="On real text",
        text="Bytes instead of symbols, in one window of 256. Does any press stand out from the "
        "others, or do all say as much again?",
        sets={"what": "bytes"},
        frame="last",
    ),
    Step(
        title="Going on",
        text="Another measure: by how much the loss of what follows falls if the decoder reads "
        "this text's beads and not another's.",
        sets={"what": "use"},
        frame="last",
    ),
    Step(
        title="The diet",
        text="Top row: trained on saying it again alone. Bottom row: on going on alone. In stages: "
        "part after part. Afresh: from untrained weights.",
        sets={"what": "diet"},
        frame="last",
    ),
)
