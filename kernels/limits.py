"""What the Triton kernels serve, and how much memory and work is taken at a time."""

from collections.abc import Iterator

import torch

BLOCK_SIZES = (16, 32, 64, 128)  # tokens per key block
HEAD_SIZES = (64, 128)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_GROUP = 128  # query heads per key head
MAX_SELECTED = 256  # slots of a row; compiling takes ever longer beyond, see docs/kernels.md
SCORE_BYTES = 2**28  # 256 MiB of float32 block scores in memory at a time
STRETCH = 1024  # list entries that one program of the backward pass walks at most


def query_chunks(n: int, bytes_per_query: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) that cover n queries, each within SCORE_BYTES or one query long."""
    size = max(SCORE_BYTES // bytes_per_query, 1)
    for start in range(0, n, size):
        yield start, min(start + size, n)
