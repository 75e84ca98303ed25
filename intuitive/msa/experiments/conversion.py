"""What making SmolLM2 sparse cost, from the committed run of `benchmarks/msa_index.py`.

Mass captured and block recall are of the dense model's own attention, averaged over layers;
perplexity is of the model with all its layers sparse. All on held-out texts. Which blocks were read
comes from `benchmarks/msa_reads.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..reference import SELECTORS
from ..results import AdaptedRow, DecodeRow, Losses, QualityRow, SizeRow
from ..results import conversion as committed_conversion
from ..results import reads as committed_reads

EARLIER = "earlier_index"  # trained for 180 steps, on texts in which little returns
READERS = ("trained_index", EARLIER, *SELECTORS)
PERPLEXITIES = {  # measure: (part of the file, which texts)
    "perplexity": ("perplexity", "all"),
    "perplexity_prose": ("perplexity", "prose"),
    "perplexity_code": ("perplexity", "code"),
    "returning_passage": ("returning_passage", "all"),
}
QUALITIES = ("mass_captured", "block_recall", "group_overlap")
MEASURES = (*PERPLEXITIES, *QUALITIES)
PASSAGE = 512  # tokens of the passage that returns


@dataclass(frozen=True, kw_only=True)
class ConversionParams(Settings):
    """Which of the measures, at which context, and the budget whose layers are shown."""

    measure: str = "perplexity"
    context: int = 4096  # tokens
    n_selected: int = 8  # blocks of 64 tokens
    selector: str = "trained_index"  # the one that is looked at

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(
                f"measure={self.measure!r} must be one of {', '.join(MEASURES)}: choose one."
            )
        if self.selector not in READERS:
            raise ValueError(
                f"selector={self.selector!r} must be one of {', '.join(READERS)}: choose one."
            )
        whole_fields(self, context=1, n_selected=1)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One selector at one budget."""

    n_selected: int  # blocks
    by_seed: tuple[float, ...]  # of an index; a single value for selectors that are not trained

    @property
    def mean(self) -> float:
        return sum(self.by_seed) / len(self.by_seed)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How the KL of one index fell, averaged over layers and seeds."""

    steps: tuple[float, ...]
    kl: tuple[float, ...]  # nats


@dataclass(frozen=True, kw_only=True)
class Reads:
    """How often the tokens of one block in the middle of the passage read each block."""

    context: int  # tokens
    block: int  # whose tokens ask
    stood: int  # the block with the same words, where the passage was read first
    shares: dict[str, tuple[float, ...]]  # of a selector's choices, in [0, 1], by block


@dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """Curves against the budget, and mass by layer, of one setting."""

    params: ConversionParams
    block_size: int
    curves: dict[str, tuple[Point, ...]]  # by selector
    dense: float | None  # the dense model's value; None where it is 1 by definition
    mass_by_layer: dict[str, tuple[float, ...]]  # at `params.n_selected`, first seed
    mass_context: int  # tokens, of `mass_by_layer`: it was not taken at every context
    seeds: tuple[int, ...]
    decode: tuple[DecodeRow, ...]
    learning: dict[str, Learning]  # of the trained index and the earlier one
    sizes: tuple[SizeRow, ...]  # of all students
    kv_bytes: int  # of keys and values, per token and layer, in half precision
    adapted: tuple[AdaptedRow, ...]
    reads: Reads  # where a passage returns if the measure is of that, else in ordinary text


def passages(context: int) -> tuple[int, int]:
    """First tokens of the returning passage: where it is read first, and where it comes back."""
    return context // 4, context - PASSAGE


def _rows(measure: str) -> list[tuple[str, Losses | QualityRow]]:
    """(reader, row) of a measure, those of the earlier index by its own name."""
    values = committed_conversion().values
    part, _ = PERPLEXITIES.get(measure, ("quality", ""))
    now = [(row.selector, row) for row in getattr(values, part)]
    return now + [(EARLIER, row) for row in getattr(values.before, part)]


def _block_size() -> int:
    return committed_conversion().made.config["training"]["msa"]["block_size"]


def measured_contexts(measure: str) -> tuple[int, ...]:
    """Contexts at which a measure was taken, in tokens."""
    return tuple(sorted({row.context for _, row in _rows(measure)}))


def curves(params: ConversionParams) -> ConversionResult:
    """The committed conversion of SmolLM2, as curves.

    Raises:
        ValueError: the measure was not taken at this context, or not with this budget.
        FileNotFoundError: the package was installed without its results.
    """
    committed = committed_conversion()
    _, field = PERPLEXITIES.get(params.measure, ("quality", params.measure))
    rows = [(who, row) for who, row in _rows(params.measure) if row.context == params.context]
    if not rows:
        contexts = ", ".join(map(str, measured_contexts(params.measure)))
        raise ValueError(
            f"context={params.context}: {params.measure} was measured at {contexts} tokens; "
            "choose one of these."
        )
    by_selector = {}
    for name in READERS:
        of_name = [row for who, row in rows if who == name]
        budgets = sorted({row.n_selected for row in of_name})
        by_selector[name] = tuple(
            Point(
                n_selected=budget,
                by_seed=tuple(getattr(row, field) for row in of_name if row.n_selected == budget),
            )
            for budget in budgets
        )
    dense = next((getattr(row, field) for who, row in rows if who == "dense"), None)
    values, msa = committed.values, committed.made.config["training"]["msa"]
    return ConversionResult(
        params=params,
        block_size=_block_size(),
        curves={name: points for name, points in by_selector.items() if points},
        dense=dense,
        mass_by_layer=_mass_by_layer(params),
        mass_context=_mass_context(params),
        seeds=tuple(committed.made.config["seeds"]),
        decode=_decode(),
        learning={"trained_index": _learning(), EARLIER: _earlier_learning()},
        sizes=values.curve,
        kv_bytes=2 * 2 * msa["n_kv_heads"] * msa["d_head"],
        adapted=values.adaptation,
        reads=reads(params),
    )


def reads(params: ConversionParams) -> Reads:
    """What every selector reads at the budget of a setting, at the one context that was recorded.

    Raises:
        ValueError: not recorded with this budget.
        FileNotFoundError: the package was installed without its results.
    """
    committed = committed_reads()
    values, context = committed.values, committed.made.config["context"]
    text = "returning" if params.measure == "returning_passage" else "plain"
    first, again = passages(context)
    shares = {
        row.selector: tuple(percent / 100 for percent in row.percent)
        for row in values.rows
        if (row.text, row.n_selected) == (text, params.n_selected)
    }
    if not shares:
        budgets = sorted({row.n_selected for row in values.rows})
        raise ValueError(
            f"n_selected={params.n_selected}: what budgets of {', '.join(map(str, budgets))} "
            "blocks read was recorded; choose one of these."
        )
    return Reads(
        context=context,
        block=values.block,
        stood=values.block - (again - first) // values.block_size,
        shares=shares,
    )


def _decode() -> tuple[DecodeRow, ...]:
    """Of the earlier index, by its own name."""
    rows = committed_conversion().values.before.decode
    own = {"trained_index": EARLIER}
    return tuple(replace(row, selector=own.get(row.selector, row.selector)) for row in rows)


def _learning() -> Learning:
    values = committed_conversion().values
    same = values.shipped.rpartition("-")[0]
    runs = [run for name, run in values.training.items() if name.rpartition("-")[0] == same]
    n = min(len(run.kl) for run in runs)
    total = sum(run.warmup_steps + run.sparse_steps for run in runs) / len(runs)
    return Learning(
        steps=tuple(max(1.0, total * i / (n - 1)) for i in range(n)),
        kl=tuple(sum(run.kl[i] for run in runs) / len(runs) for i in range(n)),
    )


def _earlier_learning() -> Learning:
    runs = committed_conversion().values.before.kl
    kl = tuple(sum(at_step) / len(runs) for at_step in zip(*runs, strict=True))
    return Learning(steps=tuple(float(step) for step in range(1, len(kl) + 1)), kl=kl)


def run(
    params: ConversionParams,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> ConversionResult:
    """`curves` at the nearest context at which the measure was taken; it reads, so never waits.

    Raises:
        ValueError: not measured with this budget.
        FileNotFoundError: the package was installed without its results.
    """
    nearest = min(measured_contexts(params.measure), key=lambda c: abs(c - params.context))
    return curves(replace(params, context=nearest))


def _mass_context(params: ConversionParams) -> int:
    return min(params.context, max(measured_contexts("mass_captured")))


def _mass_by_layer(params: ConversionParams) -> dict[str, tuple[float, ...]]:
    measured = _rows("mass_captured")
    budgets = sorted({row.n_selected for _, row in measured})
    if params.n_selected not in budgets:
        raise ValueError(
            f"n_selected={params.n_selected}: budgets of {', '.join(map(str, budgets))} blocks "
            "were measured; choose one of these."
        )
    context = _mass_context(params)
    found: dict[str, tuple[float, ...]] = {}
    for who, row in measured:
        if (row.context, row.n_selected) == (context, params.n_selected):
            found.setdefault(who, row.mass_by_layer)
    return {name: found[name] for name in READERS}
