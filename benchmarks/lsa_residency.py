"""GPU memory and decode steps of V4-Flash's attention: everything resident, LSA, fetch on demand.

    python benchmarks/lsa_residency.py --device cuda
    python benchmarks/lsa_residency.py --small        # the plumbing, on a CPU, in under a minute
    python benchmarks/lsa_residency.py --page         # the committed run, into docs/papers/lsa.md

Attention of 21 CSA and 20 HCA layers for one request, without projections and feed-forward layers;
caches hold random vectors packed to V4's bytes. First two requests of a small random model decode
512 tokens with moving and with masked memory; then contexts from 32K to 1M tokens are decoded with
everything resident, with LSA (waiting for its copies, and with copies beside the next steps) and
with entries fetched on demand. LSA runs `intuitive.lsa.residency`, as the small model does; what
its triggers ask for is replayed from a made-up trace, whose rates are recorded, since no model was
trained at these lengths. The Memory Indexer's scoring and selection are computed and timed.

A stage that fails is recorded under `faults`, and the next one goes on. `--seconds` says when no
further stage begins; what is not begun is recorded as a fault too. On an H100 all stages
took 182 s, 51 of them for the 512 steps in three layouts whose tokens are compared.
"""

import argparse
import dataclasses
import math
import multiprocessing
import re
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import torch
from lsa_steps import fill, tenth, wandering_decoder
from residency_arms import Arms, Plan, sizes

from intuitive.common import records
from intuitive.common.runtime import device_name, seeded
from intuitive.lsa.cache import LSACache
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.experiments import residency_memory, residency_words
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.residency import (
    CellPool,
    LookaheadDecoding,
    RequestMemory,
)

PAGE = helpers.ROOT / "docs" / "papers" / "lsa.md"


def place(device: torch.device) -> Path:
    """Where the result of a device goes, by the name of its card."""
    card = re.search(r"\b[A-Z]+\d+\b", device_name(device))
    return helpers.RESULTS / f"{residency_memory.RUN}_{card[0].lower() if card else 'cpu'}.json"


def rewrite_page(page: Path) -> None:
    """Put what the committed run found between its two marks."""
    first, last = (f"<!-- {residency_memory.RUN}: {end} -->\n" for end in ("begin", "end"))
    text = page.read_text("utf-8")
    before, _, rest = text.partition(first)
    after = rest.partition(last)[2]
    page.write_text(f"{before}{first}{residency_words.page()}\n{last}{after}", "utf-8")


class Bench(Arms):
    """All stages, their results and how long they took."""

    def __init__(self, plan: Plan, config: LSAConfig, device: torch.device, seconds: float) -> None:
        super().__init__(plan, config, device, self.note_fault)
        self.seconds, self.start = seconds, time.perf_counter()
        self.values: dict = {"checks": [], "rows": [], "faults": [], "stages": {}}

    # ------------------------------------------------------------------ stages

    def token_equality(self) -> None:
        """Two requests of a small model at once: moving memory gives the tokens of masking.

        Steps so small leave a GPU idle: on one, every way to move has a process of its own.
        """
        ways = [(self.plan, self.device, self.direct, *way) for way in WAYS]
        if self.device.type != "cuda":
            self.values["checks"] = [same_tokens(*way) for way in ways]
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(len(ways), mp_context=context) as apart:
                self.values["checks"] = list(apart.map(same_tokens, *zip(*ways, strict=True)))
        for check in self.values["checks"]:
            print(check, flush=True)

    def full_size(self) -> None:
        """At V4's sizes: the same step with cells and with a mask over everything."""
        config, context = self.config, self.plan.contexts[0]
        chunks = context // config.chunk_size
        wanted = torch.rand(chunks, generator=seeded(self.plan.seed)) < 0.2
        masked = [
            LSACache(config, "csa", 1, context, self.device, self.dtype)
            for _ in range(config.n_csa)
        ]
        pool = CellPool(config, int(wanted.sum()), device=self.device, dtype=self.dtype)
        memory = RequestMemory(pool, context)
        for i in range(config.n_csa):
            fill(masked[i], chunks, i, self.device)
            fill(memory.caches[i], chunks, i, self.device)
            masked[i].confine(wanted[None])
        numbers = wanted.nonzero().flatten().numpy()
        steps = self.steps(masked, [])
        steps.read()
        found = {"context": context, "largest": float(steps.out.abs().max())}
        self.values["full_size"] = found
        for name, direct in (("staged", False), ("direct", True)):
            pool.mover.direct = direct
            try:
                memory.apply([])
                pool.cells.zero_()
                memory.apply(numbers)
                moved = self.steps(list(memory.caches), [])
                moved.read()
                found[name] = float((moved.out - steps.out).abs().max())
            except Exception as error:
                self.direct = self.direct and not direct
                self.fault(f"full_size, {name} copies", error)
        if found.get("direct", 1.0) > found.get("staged", 0.0):
            self.direct = False
            self.fault("full_size", RuntimeError(f"direct copies differ: {found}."))
        print(found, flush=True)

    def bandwidth(self) -> None:
        """Gigabytes per second from the host: one piece, chunks read in place, chunks gathered."""
        if self.device.type != "cuda":
            return
        n = 2**28
        host = torch.empty(n, dtype=torch.uint8, pin_memory=True)
        target = torch.empty(n, dtype=torch.uint8, device=self.device)
        found = {"contiguous": self._gb_per_s(n, lambda: target.copy_(host, non_blocking=True))}
        context = self.plan.contexts[1]
        chunks = context // self.config.chunk_size
        pool = CellPool(self.config, 4096, device=self.device, dtype=self.dtype)
        memory = RequestMemory(pool, context)
        rows = torch.randperm(chunks, generator=seeded(self.plan.seed))
        for name, direct in (("chunks_direct", True), ("chunks_staged", False)):
            if direct and not self.direct:
                continue
            pool.mover.direct = direct
            for size in (256, 1024, 4096):
                some, cells = rows[:size].numpy(), np.arange(size)
                found[f"{name}_{size}"] = self._gb_per_s(
                    size * pool.cell_bytes,
                    lambda s=some, c=cells: pool.mover.copy(memory.mirror, s, c),
                )
        self.values["bandwidth"] = found
        print(helpers.rounded(found, digits=3), flush=True)

    def _gb_per_s(self, n_bytes: int, copy: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            self.sync()
            start = time.perf_counter()
            copy()
            self.sync()
            times.append(time.perf_counter() - start)
        return n_bytes / min(times) / 1e9

    def context(self, context: int) -> None:
        """All arms at one context; an arm that fails leaves the others."""
        plan = self.plan
        for name, arm in (
            ("everything", lambda: [self.everything(context)]),
            ("lsa", lambda: self.lsa(context, plan.exchange, ("lsa_sync", "lsa_overlapped"))),
            ("reactive", lambda: [self.reactive(context)]),
        ):
            self.drained()
            try:
                for row in arm():
                    self.note(row)
            except Exception as error:
                self.fault(f"{name} at {context}", error)
        self.drained()

    def other_exchanges(self) -> None:
        """LSA where triggers exchange more of the set, up to all of it."""
        for exchange in self.plan.exchanges:
            self.drained()
            for row in self.lsa(
                self.plan.exchange_context, exchange, ("lsa_sync", "lsa_overlapped")
            ):
                self.note(row)

    def capped(self) -> None:
        """A cap on GPU memory under which everything resident cannot be, and LSA goes on."""
        if self.device.type != "cuda":
            return
        plan = self.plan
        self.drained()
        total = torch.cuda.get_device_properties(self.device).total_memory
        found = {"context": plan.cap_context, "cap_bytes": plan.cap_bytes}
        torch.cuda.set_per_process_memory_fraction(plan.cap_bytes / total)
        try:
            try:
                self.everything(plan.cap_context)
                found["everything"] = "ran"
            except (torch.OutOfMemoryError, RuntimeError) as error:
                found["everything"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:300]
                del error
            self.drained()
            (row,) = self.lsa(plan.cap_context, plan.exchange, ("lsa_overlapped",))
            found["lsa"] = helpers.rounded(row, digits=5)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        self.values["capped"] = found
        print({k: v for k, v in found.items() if k != "lsa"}, flush=True)

    # ------------------------------------------------------------------ the whole

    def note(self, row: dict) -> None:
        """Keep a row and print the little that one looks for."""
        row = helpers.rounded(row, digits=5)
        self.values["rows"].append(row)
        total = sum(row["bytes"].values())
        short = {name: row.get(name) for name in ("arm", "context", "exchange", "graph")}
        short |= {"MiB": round(total / 2**20, 1), "steps_per_s": row["steps_per_s"]}
        short["eager"] = row["eager_steps_per_s"]
        if row["allocated_bytes"]:
            short["allocator"] = round(row["allocated_bytes"] / total, 4)
        if "stall_ms" in row:
            short |= {name: row[name] for name in ("copy_ms", "stall_ms")}
        print(short, flush=True)

    def note_fault(self, stage: str, error: BaseException) -> None:
        """Record what went wrong, where."""
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
        text = f"{type(error).__name__}: {error}"[:500]
        self.values["faults"].append({"stage": stage, "error": text, "where": where})
        print(f"FAULT in {stage}: {text}", flush=True)
        traceback.print_exception(error, limit=-4)

    def run(self, save: Callable[[dict], None]) -> None:
        """Every stage that there is time for."""
        stages: list[tuple[str, Callable[[], None]]] = [
            ("full_size", self.full_size),
            ("token_equality", self.token_equality),
            ("bandwidth", self.bandwidth),
        ]
        contexts = {c: (f"context_{c}", lambda c=c: self.context(c)) for c in self.plan.contexts}
        stages.append(contexts.pop(self.plan.exchange_context))
        stages += [("capped", self.capped), ("other_exchanges", self.other_exchanges)]
        stages += [contexts[c] for c in sorted(contexts)]
        for name, stage in stages:
            passed = time.perf_counter() - self.start
            if passed > self.seconds:
                self.fault(name, TimeoutError(f"{passed:.0f} s have passed: not begun."))
                save(finite(self.values))
                continue
            self.drained()
            try:
                stage()
            except Exception as error:
                self.fault(name, error)
            self.values["stages"][name] = round(time.perf_counter() - self.start - passed, 1)
            save(finite(self.values))
        print(self.values["stages"], flush=True)


WAYS = (("float32", "sync", 0), ("float32", "overlapped", 3), ("v4", "overlapped", 3))


@torch.inference_mode()
def same_tokens(
    plan: Plan, device: torch.device, direct: bool, layout: str, mode: str, delay: int
) -> dict:
    """Whether two requests decode the same tokens with moving and with masked memory."""
    start = time.perf_counter()
    base = LSAConfig(layers=("csa", "hca", "csa"), memory_layers=(0,), lookahead=8, tail=32)
    config, n = dataclasses.replace(base, layout=layout), plan.check_steps
    decoder = wandering_decoder(config, 2048, plan.seed).to(device)
    indexers = MemoryIndexers(config).requires_grad_(False).to(device)
    prompts = [
        torch.randint(256, (size,), generator=seeded(size)).to(device) for size in (331, 602)
    ]
    given = {"choose": tenth(plan.seed), "capacity": 2048, "delay": delay}
    pool = CellPool(config, 400, reserve=8, device=device)
    pool.mover.direct = direct
    masked, moving = [], []
    for made, more in ((masked, {}), (moving, {"pool": pool, "mode": mode})):
        for prompt in prompts:
            made.append(LookaheadDecoding(decoder, indexers, **given, **more))
            made[-1].prefill(prompt)
    want = [one.generate(n) for one in masked]
    for first in range(0, n, 20):
        for one in moving:
            one.generate(min(20, n - first))
    cycles = [cycle for one in moving for cycle in one.cycles]
    return {
        "layout": layout,
        "mode": mode,
        "delay": delay,
        "steps": n,
        "requests": len(prompts),
        "equal": all(one.tokens == tokens for one, tokens in zip(moving, want, strict=True)),
        "different_tokens": min(len(set(one.tokens)) for one in moving),
        "fetched": sum(c.fetched for c in cycles),
        "refetched": sum(c.refetched for c in cycles),
        "late": sum(c.late for one in moving for c in one.cycles[1:]),
        "cells": pool.n_cells,
        "seconds": time.perf_counter() - start,
    }


def finite(value: Any) -> Any:
    """The same with None in the place of numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Measure what there is time for, saving after every stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a tiny setting, for a CPU")
    parser.add_argument("--out", type=Path, help="where the result goes, if not to its place")
    parser.add_argument("--seconds", type=float, default=300, help="no stage begins later")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    parser.add_argument("--page", action="store_true", help="write docs/papers/lsa.md anew")
    arguments = parser.parse_args()
    if arguments.page:
        return rewrite_page(PAGE)
    device = torch.device(arguments.device)
    plan = Plan.small() if arguments.small else Plan()
    config = sizes(arguments.small)
    bench = Bench(plan, config, device, arguments.seconds)

    def save(values: dict) -> None:
        if arguments.small and arguments.out is None:
            return
        records.save(
            arguments.out or place(device),
            values,
            config={"plan": dataclasses.asdict(plan), "attention": dataclasses.asdict(config)},
            device=device_name(device),
            commit=arguments.commit,
            seed=plan.seed,
            versions={"cuda": torch.version.cuda or "none"},
        )

    with torch.inference_mode():
        bench.run(save)


if __name__ == "__main__":
    main()
