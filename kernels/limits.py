"""What the Triton kernels serve, and how much memory and work is taken at a time."""

from collections.abc import Iterator

import torch

from .dispatch import interpreting

BLOCK_SIZES = (16, 32, 64, 128)  # tokens per key block
HEAD_SIZES = (64, 128)
INDEX_WIDTHS = (32, 64, 128)  # numbers in an index vector
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_GROUP = 128  # query heads per key head
MAX_SELECTED = 256  # slots of a row; compiling takes ever longer beyond, see docs/kernels.md
SCORE_BYTES = 2**28  # 256 MiB of float32 block scores in memory at a time
STRETCH = 1024  # list entries that one program of the backward pass walks at most
EDGE_STRETCH = 4096  # the same, where an entry is one query
SCATTER_STRETCH = 256  # queries that one program of the plan "scattered" walks at most
PART_BYTES = 2**30  # of its parts in memory at a time
FEWEST_ROWS = 32768  # rows of scores from which on a thread for each fills an H100
SEARCHED = 1024  # pieces of a row that one search of `decode_step` goes through
COUNTED = 128  # the same, where it counts: comparisons grow with the square of these


def query_chunks(n: int, bytes_per_query: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) that cover n queries, each within SCORE_BYTES or one query long."""
    size = max(SCORE_BYTES // bytes_per_query, 1)
    for start in range(0, n, size):
        yield start, min(start + size, n)


# ------------------------------------------------------------------------------------- LSA

MAX_INDEX_HEADS = 128  # heads of one product of `score_chunks`
INDEX_SIZES = (16, 32, 64, 128)  # numbers in an index key
CELL_SIZES = (16, 32, 64, 128, 256, 512)  # numbers in a cell of `cell_attention`
MAX_FLOAT32_CELL = 128


def _unserved_dtype(dtype: torch.dtype) -> str | None:
    if dtype not in DTYPES:
        return f"q has dtype {dtype}, which impl='triton' does not serve."
    return None


def unserved_scores(*, heads: int, d: int, dtype: torch.dtype, stored: torch.dtype) -> str | None:
    """Why Triton does not serve these sizes of `score_chunks`, as a sentence; None if it does."""
    if heads > MAX_INDEX_HEADS:
        return f"heads={heads}, but impl='triton' takes at most {MAX_INDEX_HEADS}."
    if d not in INDEX_SIZES:
        return f"d={d}, but impl='triton' takes {', '.join(map(str, INDEX_SIZES))}."
    if stored == torch.bfloat16 and interpreting():
        return "dtype=torch.bfloat16 gives wrong products in Triton's CPU interpreter."
    return _unserved_dtype(dtype)


def unserved_cells(*, d: int, dtype: torch.dtype) -> str | None:
    """Why Triton does not serve these sizes of `cell_attention`; None if it does."""
    if d not in CELL_SIZES:
        return f"d={d}, but impl='triton' takes {', '.join(map(str, CELL_SIZES))}."
    if dtype == torch.float32 and d > MAX_FLOAT32_CELL:
        return (
            f"d={d} numbers in float32, but impl='triton' takes at most {MAX_FLOAT32_CELL}: it "
            "has no tensor cores for them."
        )
    if dtype == torch.bfloat16 and interpreting():
        return "dtype=torch.bfloat16 gives wrong products in Triton's CPU interpreter."
    return _unserved_dtype(dtype)
