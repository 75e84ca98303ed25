"""What reading a long prompt costs: raw, evicted after a full prefill, and as latents.

`run` follows the fits to the paper's figure and puts beside them what the committed run of the
untrained pair measured at the same setting. Both ran on one H200. The
figure's runs keep logits of every position; ours were made either way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from intuitive.common import results
from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never
from intuitive.common.settings import Settings

from .. import cost
from ..results import (
    EVICTION,
    PAIR,
    EvictionQuality,
    EvictionTime,
    PairPoint,
    eviction,
    pair,
    pair_part,
)

ARMS = ("raw", "eviction", "latents")
SHORTEST, LONGEST = 4 * 1024, 1024 * 1024  # contexts of the curves, tokens
RATIOS = (4, 8, 16)  # the paper's


@dataclass(frozen=True, kw_only=True)
class CostParams(Settings):
    """The controls of the cost explorer."""

    context: int = 262_144  # tokens of the prompt
    ratio: int = 16  # tokens per latent; eviction keeps as much
    logits: str = "all"  # "all" or "last": rows of the vocabulary held at the peak

    def __post_init__(self) -> None:
        whole_fields(self, context=1, ratio=2)
        cost.memory_terms(self.context, ratio=self.ratio, logits=self.logits)


@dataclass(frozen=True, kw_only=True)
class ArmCost:
    """One way to read the prompt, by the fits."""

    time: cost.TimeTerms  # seconds; `total` is the time to first token
    memory: cost.MemoryTerms  # GiB at the peak
    kept_kv_gib: float  # keys and values that decoding goes on from


@dataclass(frozen=True, kw_only=True, eq=False)
class CostCurves:
    """Totals by arm against the context."""

    contexts: Int[np.ndarray, " points"]  # tokens
    ttft_s: dict[str, Float[np.ndarray, " points"]]
    memory_gib: dict[str, Float[np.ndarray, " points"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class CostResult:
    """The fits at the setting and around it, and what was measured."""

    params: CostParams
    here: dict[str, ArmCost]  # by arm, in the order of ARMS
    curves: CostCurves
    figure: dict[str, tuple[tuple[int, float, float], ...]]  # by arm: tokens, seconds, GiB read off
    measured: dict[str, PairPoint]  # "raw" and "latents" at this very setting, where measured
    measured_curves: dict[str, tuple[PairPoint, ...]]  # by arm, over contexts, these logits
    prefill_then_evict: tuple[EvictionTime, ...]  # of the untrained decoder alone
    eviction_times: tuple[EvictionTime, ...]  # of SmolLM2, all methods and lengths
    eviction_quality: tuple[EvictionQuality, ...]

    @property
    def most_gib(self) -> float:
        """The greatest peak at this length, whichever rows of the vocabulary are held."""
        params = self.params
        return cost.eviction_terms(params.context, ratio=params.ratio, logits="all")[1].total

    @property
    def speedup(self) -> float:
        """Times by which latents come to the first token sooner than raw reading, by the fits."""
        return self.here["raw"].time.total / self.here["latents"].time.total

    @property
    def memory_ratio(self) -> float:
        """Raw peak memory over that with latents, by the fits."""
        return self.here["raw"].memory.total / self.here["latents"].memory.total

    @property
    def measured_speedup(self) -> float | None:
        """The same from the measured points; None where one is missing."""
        return self._measured("ttft_s")

    @property
    def measured_memory_ratio(self) -> float | None:
        """The same from the measured points; None where one is missing."""
        return self._measured("peak_gib")

    def _measured(self, name: str) -> float | None:
        if not {"raw", "latents"} <= self.measured.keys():
            return None
        return getattr(self.measured["raw"], name) / getattr(self.measured["latents"], name)


def run(params: CostParams, *, seed: int = 0, stale: Callable[[], bool] = never) -> CostResult:
    """Costs at the setting, curves from 4K to 1M tokens at two points per doubling, measurements.

    Nothing is drawn and nothing here takes long enough to be given up.
    """
    exponents = range(2 * (LONGEST // SHORTEST).bit_length() - 1)
    contexts = [round(SHORTEST * 2 ** (step / 2)) for step in exponents]
    along = {arm: [_cost(arm, n, params) for n in contexts] for arm in ARMS}
    points = _measured_points(params)
    return CostResult(
        params=params,
        here={arm: _cost(arm, params.context, params) for arm in ARMS},
        curves=CostCurves(
            contexts=np.array(contexts),
            ttft_s={arm: np.array([c.time.total for c in along[arm]]) for arm in ARMS},
            memory_gib={arm: np.array([c.memory.total for c in along[arm]]) for arm in ARMS},
        ),
        figure={
            "raw": cost.DECODED_RAW,
            "eviction": cost.DECODED_EVICTION,
            "latents": cost.DECODED_LCLM.get(params.ratio, ()),
        },
        measured={
            arm: point
            for arm, along_arm in points.items()
            for point in along_arm
            if point.n_tokens == params.context
        },
        measured_curves=points,
        prefill_then_evict=pair_part("evictions").values.evictions if pair_device() else (),
        eviction_times=eviction().values.times if eviction_device() else (),
        eviction_quality=eviction().values.quality if eviction_device() else (),
    )


def _cost(arm: str, n_tokens: int, params: CostParams) -> ArmCost:
    ratio = params.ratio
    if arm == "eviction":
        time, memory = cost.eviction_terms(n_tokens, ratio=ratio, logits=params.logits)
        return ArmCost(time=time, memory=memory, kept_kv_gib=_kept(n_tokens, ratio))
    ratio = 1 if arm == "raw" else ratio
    return ArmCost(
        time=cost.ttft_terms(n_tokens, ratio=ratio),
        memory=cost.memory_terms(n_tokens, ratio=ratio, logits=params.logits),
        kept_kv_gib=_kept(n_tokens, ratio),
    )


def _kept(n_tokens: int, ratio: int) -> float:
    return cost.kept_kv_gib(n_tokens, ratio=ratio)


def _measured_points(params: CostParams) -> dict[str, tuple[PairPoint, ...]]:
    """Of both arms that were measured, in one pass, in order of the context."""
    if not pair_device():
        return {"raw": (), "latents": ()}
    both = pair().values, pair_part("beside").values  # the second has all logits of latents
    shared = {"logits": params.logits, "way": "whole", "backend": "flash"}
    found = {
        "raw": [p for run in both for p in run.select(arm="raw", **shared)],
        "latents": [p for r in both for p in r.select(arm="lclm", ratio=params.ratio, **shared)],
    }
    return {arm: tuple(sorted(of, key=lambda p: p.n_tokens)) for arm, of in found.items()}


def pair_device() -> str:
    """Where the untrained pair was measured; empty where no run is committed."""
    return pair().made.device if PAIR in results.names() else ""


def eviction_device() -> str:
    """Where eviction was measured; empty where no run is committed."""
    return eviction().made.device if EVICTION in results.names() else ""
