"""What `lsa_kernels.py` measures, which tiles it tries, and its table."""

from dataclasses import dataclass

from intuitive.kernels.tuning import CellTile, CopyTile, ScoreTile

D_INDEX, D_CELL, H_CELL, WINDOW = 128, 512, 64, 128
ROW_BYTES, CELL_BYTES, CSA_LAYERS = 132, 584, 21
COLD_BYTES = 256 * 2**20  # several L2 caches
HEADS = {"memory": 128, "native": 64}  # of the two indexers
KINDS = {  # how keys lie, and how queries are multiplied with them
    "rows, queries rounded": ("rows", True),
    "rows": ("rows", False),
    "bfloat16": ("plain", False),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which points are measured."""

    chunks: tuple[int, ...] = (8192, 32768, 131072, 262144)  # 32K to 1M tokens
    cells: int = 262144
    reads: tuple[tuple[int, int], ...] = ((1, 512), (8, 512), (1, 4096))  # batch and cells read
    copied: tuple[int, ...] = (1229, 12288)  # chunks: a tenth of a resident set, and a whole one
    matrix: int = 8192
    check_shapes: int = 6
    check_chunks: int = 5000
    seed: int = 0


SMALL = Plan(
    chunks=(70, 150), cells=300, reads=((1, 20), (2, 40)), copied=(3, 20), matrix=64,
    check_shapes=2, check_chunks=80,
)  # fmt: skip


def _score_tiles(*shapes: tuple[int, int, int, int, int, int]) -> tuple[ScoreTile, ...]:
    return tuple(
        ScoreTile(
            chunks=chunks, num_warps=warps, num_stages=stages, programs=programs,
            registers=registers, prefetch=prefetch,
        )
        for chunks, warps, stages, programs, registers, prefetch in shapes
    )  # fmt: skip


FEWER = (  # programs that have 16 tiles each at 1M tokens, or 2 for each multiprocessor
    (64, 4, 4, 256, 255, 0), (64, 4, 6, 256, 255, 0), (64, 4, 8, 264, 255, 0),
    (32, 4, 8, 256, 255, 0), (128, 4, 4, 256, 255, 0), (128, 4, 3, 128, 255, 0),
)  # fmt: skip
SCORE_TILES = {  # by kind of key and indexer; the kernel's own tile is timed with the scores
    ("rows, queries rounded", "memory"): _score_tiles(
        (64, 4, 4, 396, 168, 2),
        (64, 4, 4, 264, 255, 0),
        (64, 4, 5, 264, 255, 3),
        (64, 4, 6, 132, 255, 4),
        (128, 4, 3, 264, 255, 2),
        (128, 8, 4, 132, 255, 0),
        (128, 8, 4, 132, 255, 3),
        (128, 8, 4, 264, 128, 0),
        (128, 8, 4, 264, 128, 2),
        (256, 8, 3, 132, 255, 2),
        *FEWER,
    ),
    ("rows", "memory"): _score_tiles(
        (64, 4, 4, 396, 168, 2),
        (64, 4, 4, 264, 255, 0),
        (64, 4, 5, 264, 255, 3),
        (128, 8, 4, 132, 255, 3),
        (128, 8, 4, 264, 128, 0),
        (128, 8, 4, 264, 128, 2),
        *FEWER,
    ),
    ("rows, queries rounded", "native"): _score_tiles(
        (64, 4, 4, 528, 128, 2),
        (64, 4, 4, 264, 255, 0),
        (64, 4, 5, 264, 255, 3),
        (128, 8, 4, 132, 255, 3),
        (128, 8, 4, 264, 128, 2),
        (128, 4, 4, 264, 255, 2),
        *FEWER,
        (64, 4, 4, 512, 128, 0),
    ),
    ("rows", "native"): _score_tiles(
        (64, 4, 4, 528, 128, 2),
        (64, 4, 5, 264, 255, 3),
        (128, 8, 4, 264, 128, 0),
        (128, 8, 4, 264, 128, 2),
        (128, 4, 4, 264, 255, 2),
        *FEWER,
        (64, 4, 4, 512, 128, 0),
    ),
    ("bfloat16", "memory"): _score_tiles(
        (64, 4, 3, 264, 255, 2), (128, 8, 3, 132, 255, 0), (64, 4, 4, 256, 255, 0),
    ),
}  # fmt: skip
CELL_TILES = tuple(
    CellTile(heads=heads, keys=keys, num_warps=warps, num_stages=2, programs=programs)
    for heads, keys, warps, programs in (
        (16, 32, 4, 264), (16, 32, 8, 264), (16, 64, 8, 264),
    )
)  # fmt: skip
BUS_TILES = tuple(
    CopyTile(words=words, num_warps=warps, programs=programs)
    for words, warps, programs in ((4096, 16, 8), (4096, 16, 16), (2048, 8, 64), (4096, 16, 132))
)


def best_tried(tiles: list[dict], **about: object) -> float | None:
    """Microseconds of the fastest of the other tiles that were tried for this, if any was."""
    alike = [row for row in tiles if all(row.get(name) == about[name] for name in about)]
    return min((row["us"] for row in alike if "us" in row), default=None)


def table(values: dict) -> str:
    """Scores, attention and copies as Markdown."""
    lines = [
        "| scores at 1M tokens | floor, µs | kernel, µs | best other tile, µs | better one over "
        "the floor | plain torch, µs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    scores, attention, copies = (
        [row for row in values.get(name, []) if "error" not in row]
        for name in ("scores", "attention", "copies")
    )
    most = max((row["chunks"] for row in scores), default=0)
    for row in scores:
        if row["chunks"] == most:
            about = {"indexer": row["indexer"], "keys": row["keys"]}
            other = best_tried(values.get("score_tiles", []), **about)
            over = min(row["us"], other or row["us"]) / row["floor_us"]
            cells = [f"{row['indexer']}, {row['keys']}", _us(row["floor_us"]), _us(row["us"])]
            cells += [_us(other), f"{over:.2f}", _us(row.get("torch_us"))]
            lines.append(_line(cells))
    lines += [
        "",
        "| attention | kernel, µs | best other tile, µs | plain torch, µs |",
        "| --- | --- | --- | --- |",
    ]
    for row in attention:
        about = {name: row[name] for name in ("batch", "cells", "packed")}
        other = best_tried(values.get("attention_tiles", []), **about)
        name = f"batch {row['batch']}, {row['cells']} cells{', packed' if row['packed'] else ''}"
        lines.append(_line([name, _us(row["us"]), _us(other), _us(row.get("torch_us"))]))
    lines += [
        "",
        "| copy | MB | kernel, µs | share of one large copy |",
        "| --- | --- | --- | --- |",
    ]
    for row in copies:
        name = f"from the {row['source']}, rows of {row['row_bytes']} bytes"
        size = f"{row['bytes'] / 1e6:.3g}"
        lines.append(_line([name, size, _us(row["us"]), f"{row['share_of_ceiling']:.2f}"]))
    return "\n".join(lines)


def _us(time: float | None) -> str:
    if time is None:
        return ""
    return f"{time:.0f}" if time >= 1000 else f"{time:.3g}"


def _line(cells: list[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
