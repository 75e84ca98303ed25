"""A small model decodes while its history moves between two pools, and their bytes are counted.

    result = run(0.1)          # a tenth of the old chunks, at most
    result.device, result.bytes["cells"][-1], result.host

The decoder of the topical task reads one document, and its Memory Indexer chooses anew every 64
tokens. On a GPU the cells are its memory, and its allocator is asked as well; without one both
pools are host memory, and the bytes are those that would be held.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch

from intuitive.common.runtime import check, device_name, never, seeded
from intuitive.common.training import Progress, silent

from .. import shipped
from ..residency import CellPool, LookaheadDecoding
from ..task import draw_documents

CATEGORIES = ("cells", "index_keys", "hca", "window", "tables")
SAMPLED = 8  # steps between two counts


@dataclass(frozen=True, kw_only=True)
class LiveMemory:
    """Bytes while a document is decoded.

    Attributes:
        device: in words.
        on_gpu: whether the cells are a GPU's memory.
        n_steps: of the whole decode.
        steps: at which bytes were counted.
        bytes: on the device, by category; one number for each of `steps`.
        in_use: bytes of the cells that hold a resident chunk.
        allocated: what the GPU's allocator has given out for all of it; empty without a GPU.
        reserved: what it has reserved of the GPU for the whole process; empty without a GPU.
        host: bytes of the copy of every chunk.
        everything: bytes on the device if every chunk were resident.
    """

    device: str
    on_gpu: bool
    n_steps: int
    steps: tuple[int, ...]
    bytes: dict[str, tuple[int, ...]]
    in_use: tuple[int, ...]
    allocated: tuple[int, ...]
    reserved: tuple[int, ...]
    host: int
    everything: int

    def total(self, i: int) -> int:
        """Bytes of all categories at one of the counts."""
        return sum(values[i] for values in self.bytes.values())


def run(
    kept: float,
    *,
    device: torch.device | str | None = None,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> LiveMemory:
    """Decode one document with room for a share of its old chunks.

    Args:
        kept: share of the chunks of the prompt that the indexer may fetch, in [0, 1].
        device: of model and cells; the GPU where there is one if None.
        stale: turns true when nobody waits; asked before every token.
        progress: called with a fraction, a sentence and what was counted so far.

    Raises:
        ValueError: kept is no share.
        NoRoomOnDevice: the device cannot hold the cells.
        Cancelled: `stale()` became true.
    """
    if not 0 <= kept <= 1:
        raise ValueError(f"kept={kept} must lie in [0, 1]: it is a share of the prompt's chunks.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    made = shipped.topical()
    config, task = made.config, made.task
    tokens = draw_documents(task, 1, seeded(0)).tokens[0]
    on_gpu = given_out(device) is not None
    decoder, indexers = (
        part if not on_gpu else copy.deepcopy(part).to(device)
        for part in (made.decoder, made.indexers)
    )
    budget = round(kept * (task.n_prompt // config.chunk_size))
    room = budget + config.tail_chunks + config.sink + task.n_steps // config.chunk_size
    before = given_out(device)
    pool = CellPool(config, room, device=device)
    decoding = LookaheadDecoding(
        decoder, indexers, capacity=task.n_tokens, pool=pool, rule="budget", size=budget
    )
    steps, counts, in_use, allocated, reserved = [], [], [], [], []
    name = device_name(device)

    def counted() -> LiveMemory:
        held = {part: tuple(count[part] for count in counts) for part in CATEGORIES}
        chunks = decoding.memory.n_chunks
        rest = sum(values[-1] for part, values in held.items() if part != "cells")
        return LiveMemory(
            device=name,
            on_gpu=on_gpu,
            n_steps=task.n_steps,
            steps=tuple(steps),
            bytes=held,
            in_use=tuple(in_use),
            allocated=tuple(allocated),
            reserved=tuple(reserved),
            host=chunks * pool.cell_bytes,
            everything=chunks * pool.cell_bytes + rest,
        )

    try:
        check(stale)
        progress(0.0, f"Reading {task.n_prompt:,} tokens")
        decoding.prefill(tokens[: task.n_prompt].to(device))
        for step, token in enumerate(tokens[task.n_prompt :].tolist()):
            check(stale)
            decoding.step(token)
            if step % SAMPLED and step + 1 < task.n_steps:
                continue
            steps.append(step)
            counts.append(_count(decoding))
            in_use.append(pool.places(decoding.request).n * pool.cell_bytes)
            if before is not None:
                allocated.append(given_out(device) - before)
                reserved.append(set_aside(device))
            progress((step + 1) / task.n_steps, f"Token {step + 1} of {task.n_steps}", counted())
        return counted()
    finally:
        decoding.close()


def given_out(device: torch.device) -> int | None:
    """Bytes that a GPU's allocator has given out by now; None for a device that is no GPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else None


def set_aside(device: torch.device) -> int:
    """Bytes of a GPU that its allocator has reserved for this process, given out or not."""
    return torch.cuda.memory_reserved(device)


def _count(decoding: LookaheadDecoding) -> dict[str, int]:
    """Bytes on the device by category, cells whether in use or not."""
    pool = decoding.pool.nbytes()
    found = dict.fromkeys(CATEGORIES, 0)
    found["cells"] = pool["entries"] + pool["index_keys"] + pool["staging"]
    found["tables"] = pool["tables"]
    for cache in decoding.cache.layers:
        held, own = cache.device_bytes(), cache.nbytes()
        found["hca"] += held.get("entries", 0)
        found["index_keys"] += held.get("index_keys", 0)
        found["tables"] += held["tables"]
        found["window"] += own.get("window", 0) + own.get("open_chunks", 0)
    return found
