"""What making SmolLM2 sparse cost, from the committed run of `benchmarks/msa_conversion.py`.

Mass captured and block recall are of the dense model's own attention, averaged over layers;
perplexity is of the model with all its layers sparse. All on held-out texts.
"""

import functools
from dataclasses import dataclass
from importlib import resources

from intuitive.common import records
from intuitive.common.settings import Settings

from .reference import SELECTORS

RESULT = "msa_conversion.json"
READERS = ("trained_index", *SELECTORS)
PERPLEXITIES = {  # measure: (part of the file, which texts)
    "perplexity": ("perplexity", "all"),
    "perplexity_prose": ("perplexity", "prose"),
    "perplexity_code": ("perplexity", "code"),
    "returning_passage": ("returning_passage", "all"),
}
QUALITIES = ("mass_captured", "block_recall", "group_overlap")
MEASURES = (*PERPLEXITIES, *QUALITIES)


@dataclass(frozen=True, kw_only=True)
class ConvertedParams(Settings):
    """Which of the measures, at which context, and the budget whose layers are shown."""

    measure: str = "perplexity"
    context: int = 4096  # tokens
    n_selected: int = 8  # blocks of 64 tokens

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(
                f"measure={self.measure!r} must be one of {', '.join(MEASURES)}: choose one."
            )


@dataclass(frozen=True, kw_only=True)
class Point:
    """One selector at one budget."""

    n_selected: int  # blocks
    by_seed: tuple[float, ...]  # of the index; a single value for selectors that are not trained

    @property
    def mean(self) -> float:
        return sum(self.by_seed) / len(self.by_seed)


@dataclass(frozen=True, kw_only=True)
class DecodeSpeed:
    """One token after another, by the same loop, in bfloat16."""

    selector: str  # "dense" or "trained_index"
    prompt_tokens: int
    tokens_per_s: float
    ms_per_token: float
    gpu_busy_ms: float  # of the milliseconds per token
    kernels: float  # launched per token
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Curves against the budget, and mass by layer, of one setting."""

    params: ConvertedParams
    block_size: int
    curves: dict[str, tuple[Point, ...]]  # by selector
    dense: float | None  # the dense model's value; None where it is 1 by definition
    mass_by_layer: dict[str, tuple[float, ...]]  # at `params.n_selected`, first seed
    seeds: tuple[int, ...]
    device: str
    decode: tuple[DecodeSpeed, ...]


@functools.cache
def _saved() -> tuple[dict, dict]:
    with resources.as_file(resources.files("intuitive.results").joinpath(RESULT)) as path:
        return records.load(path)


def measured_contexts(measure: str) -> tuple[int, ...]:
    """Contexts at which a measure was taken, in tokens."""
    part, _ = PERPLEXITIES.get(measure, ("quality", measure))
    return tuple(sorted({row["context"] for row in _saved()[0][part]}))


def converted(params: ConvertedParams) -> Converted:
    """The committed conversion of SmolLM2, as curves.

    Raises:
        ValueError: the measure was not taken at this context, or not with this budget.
        FileNotFoundError: the package was installed without its results.
    """
    values, made = _saved()
    size = made["config"]["training"]["msa"]["block_size"]
    part, field = PERPLEXITIES.get(params.measure, ("quality", params.measure))
    whole = [row for row in values[part] if not row.get("dense_layers")]
    whole = [row for row in whole if row.get("block_size", size) == size]
    rows = [row for row in whole if row["context"] == params.context]
    if not rows:
        contexts = ", ".join(map(str, measured_contexts(params.measure)))
        raise ValueError(
            f"context={params.context}: {params.measure} was measured at {contexts} tokens; "
            "choose one of these."
        )
    curves = {}
    for name in READERS:
        of_name = [row for row in rows if row["selector"] == name]
        budgets = sorted({row["n_selected"] for row in of_name})
        curves[name] = tuple(
            Point(
                n_selected=budget,
                by_seed=tuple(row[field] for row in of_name if row["n_selected"] == budget),
            )
            for budget in budgets
        )
    dense = next((row[field] for row in rows if row["selector"] == "dense"), None)
    return Converted(
        params=params,
        block_size=size,
        curves={name: points for name, points in curves.items() if points},
        dense=dense,
        mass_by_layer=_mass_by_layer(values["quality"], params, size),
        seeds=tuple(made["config"]["seeds"]),
        device=made["device"],
        decode=tuple(_speed(row) for row in values["decode"]),
    )


def _mass_by_layer(
    rows: list[dict], params: ConvertedParams, size: int
) -> dict[str, tuple[float, ...]]:
    measured = [row for row in rows if row["block_size"] == size]
    budgets = sorted({row["n_selected"] for row in measured})
    if params.n_selected not in budgets:
        raise ValueError(
            f"n_selected={params.n_selected}: budgets of {', '.join(map(str, budgets))} blocks "
            "were measured; choose one of these."
        )
    context = min(params.context, max(row["context"] for row in measured))
    found: dict[str, tuple[float, ...]] = {}
    for row in measured:
        if (row["context"], row["n_selected"]) == (context, params.n_selected):
            found.setdefault(row["selector"], tuple(row["mass_by_layer"]))
    return {name: found[name] for name in READERS}


def _speed(row: dict) -> DecodeSpeed:
    return DecodeSpeed(
        selector=row["selector"],
        prompt_tokens=row["prompt_tokens"],
        tokens_per_s=row["decode_tokens_per_s"],
        ms_per_token=row["decode_ms_per_token"],
        gpu_busy_ms=row["gpu_busy_ms_per_token"],
        kernels=row["kernels_per_token"],
        peak_bytes=row["peak_bytes"],
    )
