"""The rungs between plain attention and the last kernel: FLOPs, bytes and time of each.

Three functions are climbed: `attend` reads the selected blocks, `select` scores all keys and picks
the blocks, `decode` does both for one new token. A rung is a way of running the loops. Its FLOPs
and the bytes that its loops ask for are counted here; its time, where it was measured by
`benchmarks/kernels.py` on an H100, is read from the committed file. What the data sheet of
the card allows is the floor: of a rung, for its own FLOPs and bytes; of a function, for the useful
FLOPs with every byte moved once.

Bytes are those that the loops ask for. A card's cache answers part of them, so a measured rung may
be quicker than memory alone could make it; how many at least follows from its time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .. import cost
from ..config import MSAConfig
from ..results import MS_PER_UNIT, KernelRow, kernel_rows
from .loop_orders import ORDER_NAMES
from .what_it_costs import measure_here

FUNCTIONS = ("attend", "select", "decode")
SHARINGS = ("near", "random")
QUERIES = ("prompt", "last")
RUNG_NAMES = ORDER_NAMES | {
    "every_score": "every score stored",
    "maxima": "one maximum a block",
    "in_chunks": "in chunks of queries",
    "select_one": "MSA, select",
    "attend_one": "MSA, attend",
    "step": "MSA, whole step",
}
DENSE_ROWS = 128  # rows, queries times heads, of a tile of dense attention
TILE_QUERIES = 4  # of this package's attention: 64 rows of 16 heads
ID_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class LadderParams(Settings):
    """Which ladder, and how much neighbouring queries agree."""

    function: str = "attend"
    sharing: str = "near"  # as in a served model; or "random"
    queries: str = "prompt"  # all of a prompt; or "last", the last 8K of a long one

    def __post_init__(self) -> None:
        known_of = {"function": FUNCTIONS, "sharing": SHARINGS, "queries": QUERIES}
        for name, known in known_of.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}.")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is computed and what is moved."""

    flops: int | float
    bytes: int | float

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.bytes

    @property
    def floor_ms(self) -> float:
        """Time that the data sheet of an H100 allows for it."""
        return 1e3 * cost.floor_seconds(self.flops, self.bytes)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way of running the loops, at one context."""

    name: str
    work: Work  # with everything computed in vain, and every byte that the loops ask for
    least: Work  # its useful FLOPs with each byte moved once
    measured_ms: float | None = None  # None where that run did not time this rung

    @property
    def ms(self) -> float:
        """The measured time, else the floor of its own work."""
        return self.work.floor_ms if self.measured_ms is None else self.measured_ms

    @property
    def flops_per_s(self) -> float:
        return self.work.flops / self.ms * 1e3

    @property
    def cached(self) -> float:
        """Least share of its bytes that came from a cache: memory is too slow for more, in [0, 1].

        0 of a rung that was not measured.
        """
        return max(0.0, 1 - self.ms / 1e3 * cost.H100_BYTES / self.work.bytes)

    @property
    def over_floor(self) -> float:
        """How many times the time that no loop can undercut."""
        return self.ms / self.least.floor_ms


@dataclass(frozen=True, kw_only=True)
class Landing:
    """All rungs of one function at one context."""

    context: int  # tokens
    queries: int  # the last of the context
    rungs: tuple[Rung, ...]

    def __getitem__(self, name: str) -> Rung:
        return next(rung for rung in self.rungs if rung.name == name)


@dataclass(frozen=True, kw_only=True)
class LadderResult:
    """One function's ladder at every context that was measured."""

    params: LadderParams
    device: str
    landings: tuple[Landing, ...]

    def at(self, context: int) -> Landing:
        return next(landing for landing in self.landings if landing.context == context)

    @property
    def shown(self) -> tuple[Landing, ...]:
        """Those of the queries that were asked for; in decoding there is one query anyway."""
        if self.params.function == "decode":
            return self.landings
        whole = self.params.queries == "prompt"
        return tuple(one for one in self.landings if (one.queries == one.context) == whole)


def run(
    params: LadderParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> LadderResult:
    """Count every rung at every context of the committed run, and put its times beside.

    Nothing here takes long enough to be given up.
    """
    found, climb = kernel_rows(), {"attend": attend, "select": select, "decode": decode}
    tasks = ("decode",) if params.function == "decode" else ("prefill", "last queries")
    rows = sorted((r for r in found.values.rows if r.task in tasks), key=lambda r: r.tokens)
    landings = tuple(climb[params.function](row, params.sharing) for row in rows)
    return LadderResult(params=params, device=found.made.device, landings=landings)


def _ms(row: KernelRow, *times: float | None) -> float | None:
    """The sum of a row's times; None where one is missing."""
    known = [time for time in times if time is not None]
    return sum(known) * MS_PER_UNIT[row.unit] if len(known) == len(times) else None


def _dense_ms(row: KernelRow) -> float | None:
    return _ms(row, min(time for time in (row.cudnn, row.flash) if time is not None))


def _landing(
    row: KernelRow,
    works: dict[str, Work],
    least: dict[str, Work],
    measured: dict[str, float | None],
) -> Landing:
    rungs = tuple(
        Rung(name=name, work=work, least=least[name], measured_ms=measured.get(name))
        for name, work in works.items()
    )
    return Landing(context=row.tokens, queries=row.queries, rungs=rungs)


def attend(row: KernelRow, sharing: str) -> Landing:
    """Attention over the selected blocks, in the four orders of `loop_orders`."""
    config, n, m = MSAConfig.paper(), row.queries, row.tokens
    whole = n == m  # a whole prompt sees half of itself on average; the last queries all of m
    seen = m / 2 if whole else m
    read = cost.main_flops(config, m) / (4 * config.n_q_heads * config.d_head)
    read = read if whole else min(config.n_selected_tokens, m)  # tokens of a query
    token = 2 * config.n_kv_heads * config.d_head * 2  # bytes of its keys and values
    pair = 4 * config.n_q_heads * config.d_head  # FLOPs of a query and a token
    slab = 2 * config.n_q_heads * config.d_head  # bytes of a query, and of an output
    ends = 2 * n * slab
    tile = DENSE_ROWS // config.group_size  # queries
    distinct = {"near": row.distinct_near, "random": row.distinct_random}[sharing]
    times = {"near": row.attend_near, "random": row.attend_random}[sharing]
    union = distinct[str(TILE_QUERIES)] / config.n_selected
    useful, slabs = n * read * pair, 3 * config.n_selected + 1  # read, written; merged, written
    works = {
        "everything": Work(flops=n * seen * pair, bytes=n / tile * seen * token + ends),
        "query_outer": Work(flops=useful, bytes=n * read * token + ends),
        "kv_outer": Work(flops=useful, bytes=m * token + n * slab * slabs),
        "union_tile": Work(
            flops=useful * union, bytes=n / TILE_QUERIES * read * union * token + ends
        ),
    }
    once = Work(flops=useful, bytes=m * token + ends)
    measured = {"everything": _dense_ms(row), "union_tile": _ms(row, times)}
    return _landing(row, works, dict.fromkeys(works, once), measured)


def select(row: KernelRow, sharing: str) -> Landing:
    """Scores of all visible keys, their maxima by block, and the best blocks; sharing is no matter.

    Rungs differ in what they write to memory on the way.
    """
    config, n, m = MSAConfig.paper(), row.queries, row.tokens
    heads, width = config.n_kv_heads, 2 * config.d_index  # bytes of an index query or key
    seen = m / 2 if n == m else m
    flops = 2 * n * heads * config.d_index * seen
    ids = ID_BYTES * n * heads * config.n_selected
    keys = n * heads / DENSE_ROWS * seen * width  # once for each tile of rows
    ends = n * heads * width + ids
    scores = 2 * 4 * n * heads * seen  # written and read, in float32
    best = scores / config.block_size
    works = {
        "every_score": Work(flops=flops, bytes=keys + scores + ends),
        "maxima": Work(flops=flops, bytes=keys + best + ends),
        "in_chunks": Work(flops=flops, bytes=keys + best + ends),
    }
    once = Work(flops=flops, bytes=m * width + ends)
    measured = {
        "maxima": _ms(row, row.score, row.select),
        "in_chunks": _ms(row, row.score_and_select),
    }
    return _landing(row, works, dict.fromkeys(works, once), measured)


def decode(row: KernelRow, sharing: str) -> Landing:
    """One new token: dense attention beside MSA's step and its two parts."""
    config, m = MSAConfig.paper(), row.tokens
    read = min(config.n_selected_tokens, m)
    parts = {
        "everything": Work(
            flops=4 * config.n_q_heads * config.d_head * m,
            bytes=cost.dense_decode_bytes(config, m),
        ),
        "select_one": Work(
            flops=2 * config.n_kv_heads * config.d_index * m,
            bytes=cost.index_decode_bytes(config, m),
        ),
        "attend_one": Work(
            flops=4 * config.n_q_heads * config.d_head * read,
            bytes=cost.main_decode_bytes(config, m),
        ),
    }
    chosen = parts["select_one"], parts["attend_one"]
    parts["step"] = Work(flops=sum(w.flops for w in chosen), bytes=sum(w.bytes for w in chosen))
    measured = {
        "everything": _dense_ms(row),
        "select_one": _ms(row, row.score_and_select),
        "attend_one": _ms(row, row.attend),
        "step": _ms(row, row.msa),
    }
    return _landing(row, parts, parts, measured)


def label_of(name: str, function: str) -> str:
    """A rung's name; in decoding nothing is masked."""
    return "dense" if (name, function) == ("everything", "decode") else RUNG_NAMES[name]


def rungs_in_words(context: int) -> str:
    """Every rung of every function at one context, a line each."""
    lines = []
    for function in FUNCTIONS:
        for rung in run(LadderParams(function=function)).at(context).rungs:
            name = label_of(rung.name, function)
            ms = f"{rung.ms:8.3g} ms" if rung.ms >= 1 else f"{1e3 * rung.ms:8.3g} µs"
            how = "recorded" if rung.measured_ms is not None else "counted"
            lines.append(
                f"{function:7s} {name:20s} {rung.work.intensity:6.1f} FLOP/byte {ms} "
                f"{how:9s} {rung.over_floor:5.1f} times its floor"
            )
    return "\n".join(lines)


def whole_in_words(sharing: str = "near") -> str:
    """What a whole prompt takes, densely and by select and attend, a line for each context.

    The last two columns are how many times less work there is than in dense attention, in useful
    FLOPs: of attend alone, and with select.
    """
    climbed = {
        function: run(LadderParams(function=function, sharing=sharing)).landings
        for function in ("attend", "select")
    }
    lines = []
    for attend_at, select_at in zip(*climbed.values(), strict=True):
        if attend_at.queries < attend_at.context:
            continue
        dense, tile = attend_at["everything"], attend_at["union_tile"]
        chosen = select_at["in_chunks"]
        ms = chosen.ms + tile.ms
        lines.append(
            f"{attend_at.context:7,} tokens: dense {dense.ms:6.2f} ms, "
            f"select {chosen.ms:5.2f} + attend {tile.ms:5.2f} = {ms:5.2f} ms: "
            f"{dense.ms / ms:4.1f} times quicker; "
            f"work ÷ {dense.work.flops / tile.least.flops:4.1f} (attend), "
            f"÷ {dense.work.flops / (tile.least.flops + chosen.least.flops):4.1f} (both)"
        )
    return "\n".join(lines)


def live_in_words(context: int, *, queries: int = 8192) -> str:
    """Times of this package's rungs on the CUDA device of this machine, a line each.

    Where there is none the text says so. A prefill times the last `queries` of the context.
    """
    if not torch.cuda.is_available():
        return "This machine has no CUDA device: nothing was timed."
    config = MSAConfig.paper()
    found = measure_here(config, context, max_queries=queries)
    lines = [f"{found.device}, {context:,} tokens, the last {found.n_queries:,} queries, or one:"]
    for phase in ("prefill", "decode"):
        for part in ("dense", "select", "attend"):
            ms = getattr(found, f"{part}_{phase}").median_ms
            lines.append(f"{phase:8s} {part:7s} {ms:8.4f} ms")
    return "\n".join(lines)
