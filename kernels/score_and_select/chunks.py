"""How many queries may have their scores in memory at once."""

from collections.abc import Iterator

SCORE_BYTES = 2**28  # 256 MiB of float32 block scores


def query_chunks(n: int, bytes_per_query: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) that cover n queries, each within SCORE_BYTES or one query long."""
    size = max(SCORE_BYTES // bytes_per_query, 1)
    for start in range(0, n, size):
        yield start, min(start + size, n)
