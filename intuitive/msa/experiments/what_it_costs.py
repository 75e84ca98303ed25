"""What one layer costs against the context: FLOPs, bytes and memory, dense and MSA.

`run` follows the formulas of `cost`; `measure_here` times the kernels on a GPU; `memory_measured`
finds what the committed run measured at a setting.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import Measurement, check, device_name, measure, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent
from intuitive.kernels import block_sparse_attention, score_and_select

from .. import cost
from ..config import MSAConfig
from ..results import MemoryUse, memory_use

SHORTEST, LONGEST = 4 * 1024, 1024 * 1024  # contexts of the curves, tokens
MOMENTS = tuple(2**power for power in range(10, 21))  # contexts that the picture grows through
PREFILLED = 8192  # queries at a time, when a prompt is taken in pieces


@dataclass(frozen=True, kw_only=True)
class CostParams(Settings):
    """The sliders of the cost explorer: one layer's sizes, the paper's by default."""

    context: int = 131_072  # tokens
    n_q_heads: int = 64
    n_kv_heads: int = 4
    d_head: int = 128
    d_index: int = 128
    block_size: int = 128
    n_selected: int = 16
    element_bytes: int = 2

    def __post_init__(self) -> None:
        whole_fields(self, context=None, element_bytes=None)
        cost.check_context(self.context)
        if self.element_bytes not in (1, 2, 4):
            raise ValueError(
                f"element_bytes={self.element_bytes} must be 1 (fp8), 2 (bf16, fp16) or 4 (fp32)."
            )
        for name, size in dataclasses.asdict(self.config).items():
            if hasattr(self, name):
                object.__setattr__(self, name, size)

    @property
    def config(self) -> MSAConfig:
        """The layer, checked."""
        sizes = {f.name for f in dataclasses.fields(MSAConfig)}
        return MSAConfig(**{k: v for k, v in dataclasses.asdict(self).items() if k in sizes})


@dataclass(frozen=True, kw_only=True, eq=False)
class CostCurves:
    """Costs of one layer at several contexts; FLOPs per token, bytes per decoded token."""

    contexts: Int[np.ndarray, " points"]  # tokens
    dense_flops: Float[np.ndarray, " points"]
    index_flops: Float[np.ndarray, " points"]
    main_flops: Float[np.ndarray, " points"]
    flop_ratio: Float[np.ndarray, " points"]  # dense over MSA
    index_share: Float[np.ndarray, " points"]  # of MSA's FLOPs
    dense_bytes: Float[np.ndarray, " points"]
    index_bytes: Float[np.ndarray, " points"]
    main_bytes: Float[np.ndarray, " points"]
    byte_ratio: Float[np.ndarray, " points"]  # dense over MSA


@dataclass(frozen=True, kw_only=True, eq=False)
class CostResult:
    """The curves, the same numbers at the chosen context, and what they approach."""

    params: CostParams
    curves: CostCurves
    here: CostCurves  # one point: the chosen context
    moments: dict[str, CostCurves]  # "flops", "bytes": at MOMENTS and at their own break-even
    flop_ceiling: float
    byte_ceiling: float
    cache_growth: float  # index keys over keys and values
    n_prefilled: int  # queries at a time, in `memory`
    memory: dict[str, dict[str, int]]  # bytes of "dense" and "msa" by category, see `cost`
    largest_memory: int  # bytes of the dearer one at the longest context, with the most blocks
    break_even: float | None  # tokens; None where MSA never costs less


def run(
    params: CostParams,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> CostResult:
    """Costs from 4K to 1M tokens, four points per doubling, and at the chosen context.

    Nothing here takes long enough to be given up.
    """
    config = params.config
    steps = 4 * round(math.log2(LONGEST / SHORTEST))
    contexts = [round(SHORTEST * 2 ** (step / 4)) for step in range(steps + 1)]
    break_even = _where(cost.break_even_context, config)
    evens = {"flops": break_even, "bytes": _where(cost.decode_break_even_context, config)}
    n_prefilled = min(params.context, PREFILLED)
    size = {"element_bytes": params.element_bytes}
    most = dataclasses.replace(config, n_selected=max(64, config.n_selected))
    largest = cost.prefill_memory(most, max(LONGEST, params.context), PREFILLED, **size)
    return CostResult(
        params=params,
        curves=_costs_at(contexts, config, params.element_bytes),
        here=_costs_at([params.context], config, params.element_bytes),
        moments={
            counts: _costs_at(_moments(even), config, params.element_bytes)
            for counts, even in evens.items()
        },
        flop_ceiling=cost.flop_ceiling(config),
        byte_ceiling=cost.decode_byte_ceiling(config),
        cache_growth=cost.cache_growth(config),
        break_even=break_even,
        n_prefilled=n_prefilled,
        memory=cost.prefill_memory(config, params.context, n_prefilled, **size),
        largest_memory=max(sum(parts.values()) for parts in largest.values()),
    )


def _where(break_even: Callable[[MSAConfig], float], config: MSAConfig) -> float | None:
    """A break-even in tokens; None where MSA never costs less."""
    try:
        return break_even(config)
    except ValueError:
        return None


def _moments(break_even: float | None) -> list[int]:
    """Contexts in order; the break-even is rounded to a token."""
    between = break_even is not None and MOMENTS[0] < break_even < MOMENTS[-1]
    return sorted({*MOMENTS, *([round(break_even)] if between else [])})


def _costs_at(contexts: list[int], config: MSAConfig, element_bytes: int) -> CostCurves:
    size = {"element_bytes": element_bytes}
    rows = []
    for n in contexts:
        rows.append(
            {
                "dense_flops": cost.dense_flops(config, n),
                "index_flops": cost.index_flops(config, n),
                "main_flops": cost.main_flops(config, n),
                "flop_ratio": cost.flop_ratio(config, n),
                "index_share": cost.index_flop_share(config, n),
                "dense_bytes": cost.dense_decode_bytes(config, n, **size),
                "index_bytes": cost.index_decode_bytes(config, n, **size),
                "main_bytes": cost.main_decode_bytes(config, n, **size),
                "byte_ratio": cost.decode_byte_ratio(config, n),
            }
        )
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    return CostCurves(contexts=np.array(contexts), **columns)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Time and peak memory of one layer's attention, dense and sparse, on this machine."""

    config: MSAConfig
    context: int  # tokens
    n_queries: int  # of the prefill: the last ones of the context
    dense_prefill: Measurement
    select_prefill: Measurement  # MSA: index scores, maxima and top-k
    attend_prefill: Measurement  # MSA: attention over the selected blocks
    dense_decode: Measurement  # one query
    select_decode: Measurement
    attend_decode: Measurement
    device: str

    @property
    def prefill_speedup(self) -> float:
        """Dense time over MSA time."""
        msa_ms = self.select_prefill.median_ms + self.attend_prefill.median_ms
        return self.dense_prefill.median_ms / msa_ms

    @property
    def decode_speedup(self) -> float:
        """Dense time over MSA time."""
        msa_ms = self.select_decode.median_ms + self.attend_decode.median_ms
        return self.dense_decode.median_ms / msa_ms


def measure_here(
    config: MSAConfig,
    context: int,
    *,
    device: torch.device | str = "cuda",
    max_queries: int = PREFILLED,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Measured:
    """Time dense attention and the MSA kernels in bfloat16 on random inputs, batch 1.

    One decoded token takes less time than Python needs to launch its kernels, so decode steps
    are captured in a CUDA graph, as serving systems do. Short contexts may then stay in the
    GPU's cache, for both methods alike.

    Args:
        config: the layer.
        context: tokens.
        device: a CUDA device.
        max_queries: the prefill times at most so many queries, the last of the context.
        stale: turns true when nobody waits; asked between runs.
        progress: called with a share in [0, 1] and a sentence.

    Raises:
        ValueError: there is no CUDA device, or the context is not positive.
        Cancelled: `stale()` became true.
    """
    cost.check_context(context)
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise ValueError(
            f"Measuring needs a CUDA device, and device={str(device)!r} is none that works here: "
            "run this lesson on a machine with an NVIDIA GPU, or read the committed results."
        )
    n = min(context, max_queries)
    generator = seeded(0, device)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.bfloat16)

    k, v = (draw(1, context, config.n_kv_heads, config.d_head) for _ in range(2))
    k_idx = draw(1, context, config.d_index)
    done: dict[str, Measurement] = {}
    for phase, rows in (("prefill", n), ("decode", 1)):
        q = draw(1, rows, config.n_q_heads, config.d_head)
        q_idx = draw(1, rows, config.n_kv_heads, config.d_index)
        select = _selecting(q_idx, k_idx, config)
        block_idx = select()
        for part, call in (
            ("dense", _dense_call(q, k, v)),
            ("select", select),
            ("attend", _attending(q, k, v, block_idx, config)),
        ):
            check(stale)
            progress(len(done) / 6, f"Measuring {part} {phase} at {context:,} tokens")
            done[f"{part}_{phase}"] = (
                measure(call, device=device, stale=stale)
                if phase == "prefill"
                else _in_graph(call, device=device, stale=stale)
            )
    return Measured(config=config, context=context, n_queries=n, device=device_name(device), **done)


GRAPH_STEPS = 32  # decode steps in one captured graph


def _in_graph(
    call: Callable[[], Tensor], *, device: torch.device, stale: Callable[[], bool]
) -> Measurement:
    """Time of one call when many of them run in one captured graph."""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        call()  # compiles kernels, which a capture may not
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_STEPS):
            call()
    whole = measure(graph.replay, device=device, stale=stale)
    return dataclasses.replace(
        whole,
        median_ms=whole.median_ms / GRAPH_STEPS,
        fastest_ms=whole.fastest_ms / GRAPH_STEPS,
        slowest_ms=whole.slowest_ms / GRAPH_STEPS,
        peak_bytes=None,  # a graph's memory is its own pool
    )


def _dense_call(q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Tensor]:
    """PyTorch's own attention, queries aligned to the last keys."""
    from torch.nn.attention.bias import causal_lower_right

    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [b, h, n, d]
    n, m = q.shape[2], k.shape[2]
    masking = {"is_causal": True} if n == m > 1 else {}
    if 1 < n < m:
        masking = {"attn_mask": causal_lower_right(n, m)}
    return lambda: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, enable_gqa=True, **masking
    )


def _selecting(q_idx: Tensor, k_idx: Tensor, config: MSAConfig) -> Callable[[], Tensor]:
    return lambda: score_and_select(q_idx, k_idx, **config.selection)


def _attending(
    q: Tensor, k: Tensor, v: Tensor, block_idx: Tensor, config: MSAConfig
) -> Callable[[], Tensor]:
    return lambda: block_sparse_attention(q, k, v, block_idx, block_size=config.block_size)


def memory_measured(params: CostParams) -> dict[str, MemoryUse]:
    """What was measured of "dense" and "msa" at this context and k, if both were; else nothing.

    Only the paper's layer was measured, with several k.
    """
    paper = MSAConfig.paper()
    if dataclasses.replace(params.config, n_selected=paper.n_selected) != paper:
        return {}
    at_context = [u for u in memory_use() if (u.what, u.context) == ("layer", params.context)]
    wanted = {"dense": None, "msa": params.config.n_selected}
    found = {
        method: use
        for method, n_selected in wanted.items()
        for use in at_context
        if use.n_selected == n_selected
    }
    return found if len(found) == len(wanted) else {}
