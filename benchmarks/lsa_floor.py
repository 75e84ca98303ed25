"""What a launch reaches that reads keys and writes logits, and how score times grow with keys.

A kernel that only sums the words it reads is the floor beside `score_chunks`: the same bytes, the
same launches, from memory. Times at one, two and four times the longest context tell the slope
from what does not depend on the number of keys.
"""

from collections.abc import Callable
from typing import no_type_check

import torch
import triton
import triton.language as tl
from lsa_plan import HEADS, KINDS
from torch import Tensor

WORDS_A_LOGIT = 32  # of 4 bytes: 128 bytes of keys for every 4 bytes that are written
SHAPES = [  # words of a tile, programs, stages
    (2048, 1056, 4), (4096, 528, 4), (4096, 1056, 2), (8192, 264, 3), (8192, 528, 2),
    (4096, 2**20, 1), (2048, 2**20, 1),
]  # fmt: skip
TIMES = (1, 2, 4)  # the longest context


@triton.jit
@no_type_check
def read_words_kernel(
    words_ptr, out_ptr, n_words, WORDS: tl.constexpr, GROUP: tl.constexpr, STAGES: tl.constexpr
):
    """Write one sum for every GROUP words."""
    within, place = tl.arange(0, WORDS), tl.arange(0, WORDS // GROUP)
    n_tiles = tl.cdiv(n_words, WORDS)
    for tile in tl.range(tl.program_id(0), n_tiles, tl.num_programs(0), num_stages=STAGES):
        first = tl.cast(tile, tl.int64) * WORDS
        x = tl.load(words_ptr + first + within, mask=first + within < n_words, other=0)
        total = tl.sum(tl.reshape(x, (WORDS // GROUP, GROUP)), axis=1)
        at = tile * (WORDS // GROUP) + place
        tl.store(out_ptr + at, total, mask=at < tl.cdiv(n_words, GROUP))


def read_words(keys: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Read contiguous keys once; int32 sums, one for every 128 bytes."""
    words = keys.reshape(-1).view(torch.int32)
    tile, programs, stages = shape
    per = min(WORDS_A_LOGIT * max(keys.shape[-1] * keys.element_size() // 128, 1), tile)
    out = words.new_empty(triton.cdiv(len(words), per))
    grid = (min(triton.cdiv(len(words), tile), programs),)
    read_words_kernel[grid](
        words, out, len(words), WORDS=tile, GROUP=per, STAGES=stages, num_warps=4
    )
    return out


def reads(bench) -> list[dict]:
    """The fastest read of the keys of each context, and an empty launch."""
    rows = []
    for stored in ("rows", "plain"):
        keys, width = bench.stores(stored)
        for times in TIMES:
            chunks = max(bench.plan.chunks) * times
            parts = [keys[i : i + chunks] for i in range(0, len(keys) - chunks + 1, chunks)]
            if not parts:
                continue
            for shape in SHAPES:
                measured = bench.us([lambda p=p, s=shape: read_words(p, s) for p in parts])
                rows.append({
                    "keys": stored, "chunks": chunks, "bytes": chunks * width, "shape": shape,
                    "us": measured,
                })  # fmt: skip
    one = torch.zeros(1, 4, dtype=torch.int32, device=bench.device)
    nothing = bench.us([lambda: read_words(one, SHAPES[0])] * 16)
    return [*rows, {"keys": "nothing", "chunks": 0, "bytes": 0, "shape": SHAPES[0], "us": nothing}]


def lengths(bench) -> list[dict]:
    """Scores of one, two and four times the longest context."""
    rows = []
    for kind, (stored, _) in KINDS.items():
        keys, _ = bench.stores(stored)
        for which, heads in HEADS.items():
            for times in TIMES:
                chunks = max(bench.plan.chunks) * times
                if chunks <= len(keys):
                    steps, _ = bench.score_steps(keys, chunks, heads, kind)
                    about = {"indexer": which, "keys": kind, "chunks": chunks}
                    rows.append(about | {"us": bench.us(steps)})
    return rows


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Constant and slope of the straight line through the first and the last (x, y)."""
    (x, y), *_, (x_last, y_last) = sorted(points)
    slope = (y_last - y) / (x_last - x)
    return y - slope * x, slope


def fastest_reads(values: dict) -> dict[str, list[tuple[int, float]]]:
    """For each way that keys are stored: chunks, and microseconds of the fastest read."""
    best: dict[str, dict[int, float]] = {}
    for row in values.get("reads", []):
        if row["chunks"]:
            times = best.setdefault(row["keys"], {})
            times[row["chunks"]] = min(times.get(row["chunks"], float("inf")), row["us"])
    return {keys: sorted(times.items()) for keys, times in best.items()}


def by_length(values: dict) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """For each indexer and kind of key: chunks and microseconds of `score_chunks`."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in values.get("lengths", []):
        found.setdefault((row["indexer"], row["keys"]), []).append((row["chunks"], row["us"]))
    return found


def floor_table(values: dict) -> str:
    """For each kind of key: constant and slope of the kernel and of the read beside it."""
    lines = [
        "| scores | kernel at 1M, µs | constant, µs | µs for each 1M more "
        "| read at 1M, µs | constant, µs | µs for each 1M more |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    reads = fastest_reads(values)
    for (indexer, kind), points in by_length(values).items():
        read = reads.get(KINDS[kind][0], [])
        if min(len(points), len(read)) < 2:
            continue
        cells = [f"{indexer}, {kind}"]
        for measured in (points, read):
            constant, slope = line(measured)
            first = min(measured)
            cells += [f"{first[1]:.3g}", f"{constant:.2g}", f"{slope * first[0]:.3g}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


STAGES: dict[str, Callable] = {"reads": reads, "lengths": lengths}
