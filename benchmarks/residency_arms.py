"""What `lsa_residency.py` compares: its settings, and one measured row per way to hold memory."""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from lsa_steps import Steps, Trace, fill, made_up_trace

from intuitive import kernels
from intuitive.common.runtime import seeded
from intuitive.lsa.cache import LSACache
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.fast import score_rows
from intuitive.lsa.residency import CellPool, Moved, ReactiveCache, RequestMemory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    contexts: tuple[int, ...] = (2**15, 2**17, 2**19, 2**20)  # tokens
    kept: float = 0.10  # share of all chunks, the tail among them
    exchange: float = 0.10  # share of the fetched chunks that each trigger exchanges
    returning: float = 0.5  # share of those that come that were there before
    exchanges: tuple[float, ...] = (0.3, 1.0)  # at one more context
    exchange_context: int = 2**19
    delay: int = 8  # steps until an overlapped set is applied
    asked_after: int = 2  # steps that are launched before the trigger's answer is read
    cycles: int = 5  # of which the first warms up
    reactive_steps: int = 48
    drift: float = 0.02  # radians by which index queries turn per step
    check_steps: int = 512
    cap_context: int = 2**20
    cap_bytes: int = 2 * 2**30
    seed: int = 0

    @classmethod
    def small(cls) -> "Plan":
        """The plumbing alone."""
        return cls(
            contexts=(1024, 2048),
            kept=0.25,
            exchange=0.25,
            exchanges=(0.5,),
            exchange_context=1024,
            delay=3,
            cycles=3,
            reactive_steps=6,
            check_steps=40,
            cap_context=2048,
        )


def sizes(small: bool) -> LSAConfig:
    """V4-Flash without its two window layers, or something like it for a CPU."""
    paper = LSAConfig.paper()
    if not small:
        return dataclasses.replace(paper, layers=("csa", "hca") * 20 + ("csa",))
    return dataclasses.replace(
        paper,
        layers=("csa", "hca", "csa", "csa"),
        memory_layers=(0, 2),
        n_heads=8,
        n_index_heads=4,
        n_memory_heads=4,
        top_k=32,
        lookahead=8,
        tail=128,
        label_votes=2,
    )


def allocated(device: torch.device) -> int:
    """Bytes that the allocator has given out; 0 where there is none."""
    if device.type != "cuda":
        return 0
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


class Arms:
    """Rows of every arm at one context.

    Args:
        plan: what is measured.
        config: sizes of the attention.
        device: where.
        fault: called with a stage and an error that the run goes on after.

    `direct` says whether a kernel reads the host's memory, or rows are gathered there.
    """

    def __init__(
        self,
        plan: Plan,
        config: LSAConfig,
        device: torch.device,
        fault: Callable[[str, BaseException], None],
    ) -> None:
        self.plan, self.config, self.device, self.fault = plan, config, device, fault
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.direct = True

    def sync(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def drained(self) -> None:
        """Nothing of a former stage is left on the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def hca(self, context: int, capacity: int, *, filled: bool = True) -> list[LSACache]:
        """Caches of the HCA layers."""
        made = []
        for i in range(self.config.n_hca):
            cache = LSACache(self.config, "hca", 1, capacity, self.device, self.dtype)
            if filled:
                fill(cache, context // self.config.hca_size, 1000 + i, self.device)
            made.append(cache)
        return made

    def steps(self, csa: list, hca: list) -> Steps:
        """Steps over these caches."""
        given = {"device": self.device, "dtype": self.dtype, "seed": self.plan.seed}
        return Steps(self.config, csa, hca, drift=self.plan.drift, **given)

    def scratch(self, work: Callable[[], object]) -> int:
        """Peak of the allocator beyond what is held."""
        if self.device.type != "cuda":
            return 0
        before = allocated(self.device)
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def timed(self, cycle: Callable[[int], None], cycles: int) -> list[float]:
        """Milliseconds of each cycle after the first."""
        took = []
        for n in range(cycles):
            self.sync()
            start = time.perf_counter()
            cycle(n)
            self.sync()
            took.append(1e3 * (time.perf_counter() - start))
        return took[1:]

    def both_ways(self, steps: Steps, cycle: Callable[[int], None], cycles: int) -> dict:
        """Times launched anew, and from a recorded graph where there is a GPU."""
        per = self.config.lookahead
        found = {}
        eager = self.timed(cycle, 2)
        found["eager_steps_per_s"] = 1e3 * per / statistics.median(eager)
        took, found["graph"], found["graph_bytes"] = eager, False, 0
        if self.device.type == "cuda":
            try:
                before = allocated(self.device)
                steps.capture()
                found["graph"], found["graph_bytes"] = True, allocated(self.device) - before
            except Exception as error:  # the eager times stand
                self.fault("graph", error)
                torch.cuda.synchronize()
        if found["graph"] or self.device.type != "cuda":
            took = self.timed(cycle, cycles)
        found |= {"cycle_ms": took, "steps_per_s": 1e3 * per / statistics.median(took)}
        steps.forget_graph()
        return found

    # ------------------------------------------------------------------ arms

    def everything(self, context: int) -> dict:
        """All entries and index keys on the device."""
        config = self.config
        capacity = context + (self.plan.cycles + 4) * config.lookahead
        before = allocated(self.device)
        hca = self.hca(context, capacity)
        csa = [
            LSACache(config, "csa", 1, capacity, self.device, self.dtype)
            for _ in range(config.n_csa)
        ]
        held = allocated(self.device) - before
        for i, cache in enumerate(csa):
            fill(cache, context // config.chunk_size, i, self.device)
        steps = self.steps(csa, hca)
        scratch = self.scratch(steps.read)

        def cycle(_: int) -> None:
            for _ in range(config.lookahead):
                steps.decode()

        parts = {"csa_entries": 0, "index_keys": 0, "hca_entries": 0, "tables": 0}
        for cache in (*csa, *hca):
            for part, n in cache.device_bytes().items():
                hca_part = cache.kind == "hca" and part == "entries"
                name = "hca_entries" if hca_part else {"entries": "csa_entries"}.get(part, part)
                parts[name] += n
        found = self.both_ways(steps, cycle, self.plan.cycles)
        return self.row("everything", context, parts, held, scratch, steps) | found

    def row(
        self, arm: str, context: int, parts: dict, held: int, scratch: int, steps: Steps
    ) -> dict:
        """What every arm records; the windows are the same for all, and counted."""
        window = steps.window.numel() * steps.window.element_size()
        return {
            "arm": arm,
            "context": context,
            "bytes": parts | {"window": window},
            "allocated_bytes": held + window if held else 0,
            "scratch_bytes": scratch,
        }

    def cells(self, context: int, exchange: float) -> tuple[int, int, int, int]:
        """Kept and fetched chunks, and cells of the sync and of the overlapped arm.

        Besides what is kept there is room for what closes within two cycles, and for decoded
        chunks that the tail is too short for; overlapped copies need theirs while the former set
        is read.
        """
        config = self.config
        chunks = context // config.chunk_size
        tail = min(config.tail_chunks, chunks)
        kept = max(round(self.plan.kept * chunks), tail)
        per_cycle = config.lookahead // config.chunk_size
        closed = per_cycle * 2 * (self.plan.cycles + 3)
        room = kept + 2 * per_cycle + max(closed - config.tail_chunks, 0)
        return kept, kept - tail, room, room + round(exchange * (kept - tail))

    def lsa(self, context: int, exchange: float, arms: tuple[str, ...]) -> list[dict]:
        """LSA over one memory, each way of moving in turn."""
        config, plan, device = self.config, self.plan, self.device
        kept, n_fetched, n_sync, n_overlapped = self.cells(context, exchange)
        prompt = context // config.chunk_size
        triggers = 2 * (plan.cycles + 3)
        capacity = context + triggers * config.lookahead
        trace = made_up_trace(
            max(prompt - config.tail_chunks, 1),
            n_fetched,
            triggers,
            exchange=exchange,
            returning=plan.returning,
            seed=plan.seed,
        )
        before = allocated(device)
        smaller = CellPool(config, n_sync, device=device, dtype=self.dtype)
        sync_bytes, sync_parts = allocated(device) - before, smaller.nbytes()
        del smaller
        before = allocated(device)
        pool = CellPool(config, n_overlapped, device=device, dtype=self.dtype)
        pool_bytes, pool_parts = allocated(device) - before, pool.nbytes()
        pool.mover.direct = self.direct
        memory = RequestMemory(pool, capacity)
        hca = self.hca(context, capacity)
        for i, cache in enumerate(memory.caches):
            fill(cache, prompt, i, device)
        memory.timed, pool.mover.log = True, []
        run = LSARun(self, memory, trace, prompt)
        start = time.perf_counter()
        cold = memory.apply(run.wanted())
        self.sync()
        cold_ms = 1e3 * (time.perf_counter() - start)
        held = allocated(device) - before - run.bytes if device.type == "cuda" else 0
        steps = self.steps(list(memory.caches), hca)
        run.steps = steps
        scratch = self.scratch(steps.read)
        parts = run.categories(hca)
        rows = []
        for arm in arms:
            run.moved.clear()
            pool.mover.log.clear()
            cycle = run.sync_cycle if arm == "lsa_sync" else run.overlapped_cycle
            found = self.both_ways(steps, cycle, plan.cycles)
            own, here = dict(parts), held
            if arm == "lsa_sync":  # it ran in the larger pool, and needs the smaller one
                for name, part in (("csa_entries", "entries"), ("index_keys", "index_keys")):
                    own[name] -= pool_parts[part] - sync_parts[part]
                here = held - (pool_bytes - sync_bytes) if held else 0
            row = self.row(arm, context, own, here, scratch, steps)
            n = plan.cycles - 1
            moved, log = run.moved[-n:], pool.mover.log[-n:]
            row |= {
                "kept_share": kept / prompt,
                "cells": n_sync if arm == "lsa_sync" else n_overlapped,
                "exchange": exchange,
                "refetch_rate": trace.refetch_rate,
                "copied_chunks": [len(m.chunks) for m in moved],
                "late_chunks": [m.late for m in moved],
                "copied_bytes": [len(m.chunks) * pool.cell_bytes for m in moved],
                "copy_ms": [t.ms() for t in log],
                "stall_ms": [m.stall_ms() for m in moved],
                "host_wait_ms": [1e3 * m.waited_s for m in moved],
                "cold_chunks": len(cold.chunks),
                "cold_ms": cold_ms,
                "pinned": memory.mirror.pinned,
                "direct": pool.mover.direct,
            }
            rows.append(row | found)
        memory.close()
        return rows

    def reactive(self, context: int) -> dict:
        """Index keys on the device, entries fetched when a layer has chosen them."""
        config, plan = self.config, self.plan
        chunks = context // config.chunk_size
        n_cells = max(self.cells(context, 0.0)[0], config.top_k)
        capacity = context + 4 * plan.reactive_steps + config.lookahead
        before = allocated(self.device)
        csa = [
            ReactiveCache(config, i, capacity, n_cells, self.device, self.dtype)
            for i in range(config.n_csa)
        ]
        hca = self.hca(context, capacity, filled=False)
        held = allocated(self.device) - before
        for i, cache in enumerate(csa):
            fill(cache, chunks, i, self.device)
            cache.pool.mover.direct = self.direct
        for i, cache in enumerate(hca):
            fill(cache, context // config.hca_size, 1000 + i, self.device)
        steps = self.steps(csa, hca)
        parts = {"csa_entries": 0, "index_keys": 0, "hca_entries": 0, "tables": 0, "staging": 0}
        for cache in (*csa, *hca):
            for part, n in cache.device_bytes().items():
                hca_part = cache.kind == "hca" and part == "entries"
                name = "hca_entries" if hca_part else {"entries": "csa_entries"}.get(part, part)
                parts[name] += n
        steps.decode()
        for cache in csa:
            cache.fetched = cache.asked = 0
            cache.pool.mover.log = []

        def cycle(_: int) -> None:
            for _ in range(plan.reactive_steps):
                steps.decode()

        took = self.timed(cycle, 2)
        fetched, asked = sum(c.fetched for c in csa), sum(c.asked for c in csa)
        n_steps = 2 * plan.reactive_steps
        copy_ms = sum(t.ms() for c in csa for t in c.pool.mover.log) / n_steps
        row = self.row("reactive", context, parts, held, 0, steps)
        return row | {
            "kept_share": n_cells / chunks,
            "cells": n_cells,
            "graph": False,
            "cycle_ms": took,
            "steps_per_s": 1e3 * plan.reactive_steps / took[-1],
            "eager_steps_per_s": 1e3 * plan.reactive_steps / took[-1],
            "fetched_share": fetched / asked,
            "bytes_per_step": fetched * config.entry_bytes / n_steps,
            "copy_ms_per_step": copy_ms,
        }


class LSARun:
    """Cycles of one request that follows a trace."""

    def __init__(self, arms: Arms, memory: RequestMemory, trace: Trace, prompt: int) -> None:
        self.arms, self.memory, self.trace, self.prompt = arms, memory, trace, prompt
        self.config, self.pool = arms.config, memory.pool
        self.moved: list[Moved] = []
        self.trigger = 0
        self.steps: Steps | None = None
        config, n = self.config, len(self.config.memory_layers)
        generator = seeded(arms.plan.seed, arms.device)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, device=arms.device, dtype=arms.dtype)

        self.q = draw(n, 1, config.n_memory_heads, config.d_index)
        self.weights = draw(n, 1, config.n_memory_heads)
        self._answer: torch.Tensor | None = None
        self.bytes = sum(t.numel() * t.element_size() for t in (self.q, self.weights))
        self._answered = torch.cuda.Event() if arms.device.type == "cuda" else None

    def wanted(self) -> np.ndarray:
        """What the trace asks for at this trigger, and what is resident anyhow."""
        closed = self.memory.n_chunks
        return self.trace.wanted(self.trigger, closed, self.prompt, self.config)

    def ask(self) -> None:
        """Launch the Memory Indexer's scoring, the selection and its way back to the host."""
        caches = [self.memory.caches[i] for i in self.config.memory_layers]
        logits = torch.cat(
            [
                score_rows(q, w, cache.key_rows(), cache.storage)
                for q, w, cache in zip(self.q, self.weights, caches, strict=True)
            ]
        )
        first = max(self.memory.n_chunks - self.config.tail_chunks, 0)
        ids, _ = kernels.select_chunks(
            logits, threshold=self.config.threshold, forced_from=first, validate=False
        )
        if self._answered is None:
            return
        if self._answer is None:
            self._answer = torch.empty_like(ids, device="cpu", pin_memory=True)
        self._answer.copy_(ids, non_blocking=True)
        self._answered.record()

    def answer(self) -> np.ndarray:
        """Wait for the indexer; what the trace says in its place."""
        if self._answered is not None:
            self._answered.synchronize()
        wanted = self.wanted()
        self.trigger += 1
        return wanted

    def sync_cycle(self, _: int) -> None:
        """A trigger, its copies, then steps."""
        self.ask()
        self.moved.append(self.memory.apply(self.answer()))
        for _ in range(self.config.lookahead):
            self.steps.decode()

    def overlapped_cycle(self, _: int) -> None:
        """A trigger, steps with the former set while copies travel, then steps with the new one."""
        plan, closed = self.arms.plan, self.memory.n_chunks
        self.ask()
        for step in range(self.config.lookahead):
            if step == plan.asked_after:
                wanted = self.answer()
                self.memory.prefetch(wanted)
            if step == plan.delay:
                since = np.arange(closed, self.memory.n_chunks)
                self.moved.append(self.memory.apply(np.union1d(wanted, since)))
            self.steps.decode()

    def categories(self, hca: list[LSACache]) -> dict[str, int]:
        """Bytes on the device, used or not."""
        found = self.pool.nbytes()
        own = [cache.device_bytes() for cache in self.memory.caches]
        others = [cache.device_bytes() for cache in hca]
        return {
            "csa_entries": found["entries"],
            "index_keys": found["index_keys"] + sum(o.get("index_keys", 0) for o in own),
            "hca_entries": sum(o["entries"] for o in others),
            "tables": found["tables"] + sum(o["tables"] for o in (*own, *others)),
            "staging": found["staging"],
        }
