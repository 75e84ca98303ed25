"""A real language model along right and wrong solutions: is there a second mode?"""

from dataclasses import dataclass
from typing import Any

from intuitive.common.runtime import check
from intuitive.common.settings import Settings
from intuitive.trd.committed import real_text
from intuitive.trd.real_text import KINDS, Estimate, KeptItem, RealText, RealTextParams

from ..figures import trd_real as figures
from ..figures.trd_styles import minus
from ..kit import (
    Choice,
    Explorer,
    Plot,
    Predict,
    Range,
    Readout,
    Table,
    TokenMarks,
    Tokens,
    View,
)
from .trd_shipped import told

TEXT, ERROR, ONSET = range(3)
CLASSES = (
    ("skipped", "the wrong solution"),
    ("here", "where it is wrong"),
    ("local", "where a repair would begin: starts of the lines after it"),
)


@dataclass(frozen=True, kw_only=True)
class RealParams(Settings):
    """Which item, and what is drawn along it."""

    item: int = 1
    measure: str = "onset_mass"
    kind: str = "all"


@dataclass(frozen=True, kw_only=True)
class Read:
    """The committed measurement, and the item looked at."""

    params: RealParams
    found: RealText
    kept: KeptItem


def read_real(params: RealParams, *, stale: Any, progress: Any) -> Read:
    """One kept item of `real_text()`."""
    check(stale)
    with told("measurements of SmolLM2"):
        found = real_text()
    if not 1 <= params.item <= len(found.kept):
        raise ValueError(f"item={params.item} must lie in [1, {len(found.kept)}].")
    return Read(params=params, found=found, kept=found.kept[params.item - 1])


def present_real(read: Read) -> View:
    params, found, kept = read.params, read.found, read.kept
    difference = found.onset_difference[params.kind]
    gap = found.perplexity_gap
    n = found.params.n_items
    mended, copied = (found.surprise[f"{name}|refine"].mean for name in ("right", "wrong"))
    second = (
        "larger than on right solutions"
        if difference.low > 0
        else "smaller than on right solutions"
        if difference.high < 0
        else "not told apart from that on right solutions"
    )
    return View(
        summary=(
            f"Problem {params.item}: {kept.item.problem} Over {n} such problems SmolLM2 puts at "
            f"most {found.largest_onset:.2g} on repair words at a line's start after an error; the "
            f"mean after errors is {second} ({_estimate(difference, '.1e')}). Shown the wrong "
            f"attempt to rewrite, it finds "
            f"{'the wrong' if copied < mended else 'the right'} solution likelier: "
            f"{mended:.2f} nats per token for the right one, {copied:.2f} for the wrong one."
        ),
        figures={
            "along": figures.along_figure(kept, params.measure),
            "delay": figures.delay_figure(found, params.kind),
            "prompts": figures.prompts_figure(found),
        },
        readouts=(
            Readout("problem", kept.item.problem),
            Readout("repair mass, wrong − right", _estimate(difference, ".1e")),
            Readout("wrong number preferred", f"{found.error_preferred.mean:.0%} of the items"),
            Readout(
                "surprise by the line with the right / wrong number",
                f"{found.surprise_at_error['right'].mean:.2f} / "
                f"{found.surprise_at_error['wrong'].mean:.2f} nats",
            ),
            Readout("perplexity gap, right", _estimate(gap["right"], ".2f")),
            Readout("perplexity gap, wrong", _estimate(gap["wrong"], ".2f")),
        ),
        table=_table(found),
        tokens=_marked(kept),
        code=(
            "from intuitive.trd.committed import real_text\n\n"
            "found = real_text()\n"
            f'found.onset_difference["{params.kind}"], found.kept[{params.item - 1}].item.problem'
        ),
        bounds={"item": (1, len(found.kept))},
    )


def _estimate(found: Estimate, form: str) -> str:
    return minus(f"{found.mean:{form}} ({found.low:{form}} to {found.high:{form}})")


def _marked(kept: KeptItem) -> TokenMarks:
    """The wrong solution; the number that is wrong, and where a repair would begin."""
    wrong, error = kept.wrong, kept.item.error_line
    at = [place for place, line in enumerate(wrong.lines) if line == error]
    right = [kept.right.tokens[p] for p, line in enumerate(kept.right.lines) if line == error]
    differ = [
        place for place, token in zip(at, right, strict=False) if wrong.tokens[place] != token
    ]
    marks = [
        ERROR if place in differ else ONSET if first and wrong.lines[place] > error else TEXT
        for place, first in enumerate(wrong.first)
    ]
    return TokenMarks(wrong.tokens, bytes(marks), focus=at[0])


def _table(found: RealText) -> Table:
    rows = []
    for kind, by_name in found.onset_by_delay.items():
        for name, by_delay in by_name.items():
            for delay, end in by_delay.items():
                where = "before it" if delay == "-1" else f"{delay} lines after it"
                mass = _estimate(end, ".2e")
                rows.append((f"repair mass, {kind}", f"{name} solution, {where}", mass, f"{end.n}"))
    for key, end in found.surprise.items():
        name, context = key.split("|")
        rows.append(("surprise, nats per token", f"{name} solution, {context} prompt",
                     _estimate(end, ".3f"), f"{end.n}"))  # fmt: skip
    return Table(("measure", "where", "mean (95 %)", "items"), tuple(rows))


def real_model(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """SmolLM2's distribution along right and wrong solutions, as measured by the benchmark.

    Args:
        predict: a question asked before the controls unlock.
        values: first control values, such as `measure="nll"`.
    """
    first = RealParams()
    controls = (
        Range(name="item", label="Problem", min=1, max=RealTextParams().n_kept),
        Choice(
            name="measure",
            label="Along it",
            options={name: label for name, (label, _) in figures.MEASURES.items()},
        ),
        Choice(
            name="kind",
            label="Means over",
            options={"all": "all problems", **{kind: f"{kind} problems" for kind in KINDS}},
        ),
    )
    return Explorer(
        name="trd_real_text",
        title="Does a real model stop to repair?",
        params=RealParams,
        compute=read_real,
        present=present_real,
        controls=controls,
        plots=(
            Plot(
                name="along",
                label="A measure at every token of a right and of a wrong solution",
                caption="Shaded: the line with the error. Grey lines: where lines begin, and a "
                "repair could. Repair words: Wait, Actually, However and their like.",
                height=320,
            ),
            Plot(
                name="delay",
                label="Mass on repair words where a line begins, by lines since the error",
                caption="A second mode would lift the wrong solution above the right one after "
                "the error. Bars: 95 % over problems.",
                span=6,
                height=320,
            ),
            Plot(
                name="prompts",
                label="Surprise per token under two prompts",
                caption="Shown a wrong attempt to rewrite, the model should prefer the right "
                "solution. Bars: 95 % over problems.",
                span=6,
                height=320,
            ),
        ),
        tokens=Tokens(label="The wrong solution, as tokens", classes=CLASSES, height=150),
        defaults={
            "item": first.item,
            "measure": first.measure,
            "kind": first.kind,
            **values,
        },
        predict=predict,
    )
