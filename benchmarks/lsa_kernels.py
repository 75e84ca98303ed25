"""Times of LSA's kernels beside their floors and plain torch, at DeepSeek-V4-Flash's sizes.

    python benchmarks/lsa_kernels.py [--out FILE] [--commit HASH] [--small] [--only score_chunks]
    python benchmarks/lsa_kernels.py --table        the committed times as Markdown

Checks every kernel against float64 first; a failed check is told with its shape and stops nothing,
and the exit status counts it. Then times, saved after each stage: scores, selection, attention
and copies with the tiles that the kernels choose, and with others, as long as --seconds last.

Every timed step reads from memory what it reads first: steps of one captured graph walk over at
least 256 MiB of keys or cells, several times the L2 cache. The floors of a step are its bytes at
the rate of a large copy on the device, and its FLOPs at the rate of an 8192³ matrix product, both
measured in the same run; a step's floor is the larger one. On a CPU everything runs in the oracle,
or in Triton's interpreter with TRITON_INTERPRET=1, at sizes that --small sets.
"""

import dataclasses
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import helpers
import lsa_floor
import torch
import triton
from chunk_checks import Checks
from lsa_plan import (
    BUS_TILES,
    CELL_BYTES,
    CELL_TILES,
    CSA_LAYERS,
    D_CELL,
    D_INDEX,
    H_CELL,
    HEADS,
    KINDS,
    SCORE_TILES,
    SMALL,
    WINDOW,
    Plan,
    table,
)
from lsa_work import Work
from torch import Tensor

from intuitive.common import records
from intuitive.common.runtime import device_name, seeded
from intuitive.kernels import (
    cell_attention,
    copy_cells,
    score_chunks,
    select_chunks,
    tuning,
)

RESULT = helpers.RESULTS / "lsa_kernels_h200.json"
SCORES = helpers.RESULTS / "lsa_scores_h200.json"  # a later run, with --only score_chunks
RESERVED = 12  # seconds that the stages after the tiles take


class Bench(Work):
    """Everything that the stages share: device, ceilings, what was found, and when to stop."""

    def __init__(self, plan: Plan, device: torch.device, out: Path, seconds: float, commit) -> None:
        super().__init__(plan, device)
        self.out, self.commit = out, commit
        self.start, self.seconds = time.perf_counter(), seconds
        self.values: dict = {"stages": {}}

    def left(self) -> float:
        """Seconds until --seconds are over."""
        return self.seconds - (time.perf_counter() - self.start)

    def stage(self, name: str, run: Callable[[], object]) -> None:
        """Run one stage, keep what it returns under its name, and save; an error stops it alone."""
        before = time.perf_counter()
        try:
            self.values[name] = run()
            if self.gpu:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
        except Exception as error:
            text = " ".join(str(error).split())
            self.values.setdefault(name, [])
            self.values.setdefault("errors", {})[name] = f"{type(error).__name__}: {text[:800]}"
            print(f"FAILED stage {name}: {type(error).__name__}: {text[:800]}", file=sys.stderr)
        spent = self.values["stages"].get(name, 0.0) + time.perf_counter() - before
        self.values["stages"][name] = round(spent, 2)
        records.save(
            self.out, helpers.rounded(self.values, digits=5),
            config=dataclasses.asdict(self.plan), seed=self.plan.seed,
            device=device_name(self.device), commit=self.commit,
            versions={
                "python": platform.python_version(),
                "torch": torch.__version__,
                "triton": triton.__version__,
                "cuda": torch.version.cuda or "none",
            },
        )  # fmt: skip

    def us(self, steps: list[Callable[[], object]]) -> float:
        """Microseconds of one of the steps: in a captured graph, or by the clock without a GPU."""
        if self.gpu:
            return helpers.graph_us(steps)
        steps[0]()
        start = time.perf_counter()
        for step in steps:
            step()
        return (time.perf_counter() - start) * 1e6 / len(steps)

    def event_us(self, run: Callable[[], object], repeats: int = 7) -> float:
        """Microseconds of one call, by events; for what reads far more than a cache holds."""
        return helpers.median_ms(run, repeats) * 1e3 if self.gpu else self.us([run])

    # -------------------------------------------------------------------------- ceilings

    def ceilings(self) -> dict[str, float]:
        """Bytes per second of copies, and FLOP per second of matrix products."""
        size = 2**30 if self.gpu else 2**20
        here = torch.zeros(size, dtype=torch.uint8, device=self.device)
        there = torch.empty_like(here)
        found = {"copy": 2 * size / self.event_us(lambda: there.copy_(here)) * 1e6}
        size //= 4
        host = torch.zeros(size, dtype=torch.uint8, pin_memory=self.gpu)
        piece = there[:size]
        moved = self.event_us(lambda: piece.copy_(host, non_blocking=True))
        found["host_to_device"] = size / moved * 1e6
        n = self.plan.matrix
        a, b = self.normal(n, n, seed=1), self.normal(n, n, seed=2)
        flops = 2 * n**3
        found["matmul"] = flops / self.event_us(lambda: a @ b) * 1e6
        if self.gpu:
            one = torch.ones((), device=self.device)
            a8, b8 = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).T

            def product() -> Tensor:
                return torch._scaled_mm(a8, b8, one, one, out_dtype=torch.bfloat16)

            try:
                found["matmul_fp8"] = flops / self.event_us(product) * 1e6
            except RuntimeError as refused:
                print(f"no fp8 product: {str(refused)[:200]}", file=sys.stderr)
        return found

    def floors(self, n_bytes: float, flops: float, *, fp8: bool = False) -> dict[str, float]:
        """Microseconds that the bytes and the FLOPs take at the measured rates."""
        ceilings = self.values["ceilings"]
        rate = ceilings.get("matmul_fp8", ceilings["matmul"]) if fp8 else ceilings["matmul"]
        times = {"bytes_us": n_bytes / ceilings["copy"] * 1e6, "flop_us": flops / rate * 1e6}
        return times | {"floor_us": max(times.values())}

    # -------------------------------------------------------------------------- scores

    def safely(self, rows: list[dict], about: dict, measure: Callable[[], dict]) -> None:
        """Append one row; where measuring fails, it says why and the next row is measured."""
        try:
            rows.append(about | measure())
        except Exception as error:
            text = " ".join(f"{error!r}".split())
            rows.append(about | {"error": f"{text[:300]} ... {text[-300:]}"})
            print(f"FAILED {about}: {text[:300]} ... {text[-300:]}", file=sys.stderr)

    def scores(self) -> list[dict]:
        """Scores against every chunk, by context, indexer and kind of key."""
        rows: list[dict] = []
        for kind, (stored, _) in KINDS.items():
            keys, width = self.stores(stored)
            for which, heads in HEADS.items():
                for chunks in self.plan.chunks:

                    def measure(chunks=chunks, heads=heads, kind=kind, keys=keys, width=width):
                        fused, plain = self.score_steps(keys, chunks, heads, kind)
                        row = {"stores": len(fused), "us": self.us(fused)}
                        if not KINDS[kind][1]:
                            row["torch_us"] = self.us(plain[:4])
                        flops = 2 * heads * D_INDEX * chunks
                        row |= self.floors(chunks * (width + 4), flops, fp8=KINDS[kind][1])
                        return row | {"over_floor": row["us"] / row["floor_us"]}

                    self.safely(rows, {"indexer": which, "keys": kind, "chunks": chunks}, measure)
        return rows

    def score_tiles(self) -> list[dict]:
        """The longest context with other tiles."""
        rows, chunks = [], max(self.plan.chunks)
        for (kind, which), tiles in SCORE_TILES.items():
            keys, _ = self.stores(KINDS[kind][0])
            steps, _ = self.score_steps(keys, chunks, HEADS[which], kind)
            about = {"operation": "score", "keys": kind, "indexer": which}
            rows += self.tried(about, "score_chunks", tiles, steps)
        return rows

    def tried(self, about: dict, operation: str, tiles, steps: list) -> list[dict]:
        """One row for each tile; what does not run says why, and late ones are left out."""
        rows = []
        for tile in tiles:
            row = about | {"tile": dataclasses.asdict(tile)}
            if self.left() < RESERVED:
                rows.append(row | {"error": "no time left"})
                continue
            try:
                with tuning.force(**{operation: tile}):
                    rows.append(row | {"us": self.us(steps)})
            except Exception as error:
                rows.append(row | {"error": " ".join(f"{error!r}".split())[:300]})
        return rows

    # -------------------------------------------------------------------------- selection

    def selection(self) -> list[dict]:
        """Three layers' logits, a tenth of the chunks above the threshold."""
        rows = []
        for chunks in self.plan.chunks:
            logits = torch.empty(3, chunks, device=self.device)
            logits = logits.normal_(-1.8, generator=seeded(7, self.device))
            rule = {"threshold": 0.5, "forced_from": chunks - chunks // 128}

            def run(impl: str, logits: Tensor = logits, rule: dict = rule) -> object:
                return select_chunks(logits, impl=impl, **rule)

            row = {"layers": 3, "chunks": chunks, "kept": int(run(self.impl)[1])}
            row["us"] = self.us([lambda: run(self.impl)])
            row["torch_us"] = self.us([lambda: run("reference")])
            rows.append(row | self.floors(chunks * (3 * 4 + 4), 0))
        return rows

    # -------------------------------------------------------------------------- attention

    def attention(self) -> list[dict]:
        """Attention of one decode step over chosen cells, the window and the sink."""
        rows: list[dict] = []
        for b, k in self.plan.reads:
            for packed in (False, True):

                def measure(b=b, k=k, packed=packed):
                    fused, plain, sdpa = self.attention_steps(b, k, packed)
                    row = {"us": self.us(fused)}
                    if not packed:
                        row |= {"torch_us": self.us(plain[:32]), "sdpa_us": self.us(sdpa[:32])}
                    width = CELL_BYTES if packed else 2 * D_CELL
                    n_bytes = b * (k * width + (WINDOW + 2 * H_CELL) * D_CELL * 2)
                    return row | self.floors(n_bytes, 4 * b * H_CELL * (k + WINDOW) * D_CELL)

                about = {"batch": b, "cells": k, "window": WINDOW, "packed": packed}
                self.safely(rows, about, measure)
        return rows

    def attention_tiles(self) -> list[dict]:
        """The same with other tiles."""
        rows = []
        for b, k in self.plan.reads[:2]:
            for packed in (False, True):
                steps, *_ = self.attention_steps(b, k, packed)
                about = {"operation": "attend", "batch": b, "cells": k, "packed": packed}
                rows += self.tried(about, "cell_attention", CELL_TILES, steps)
        return rows

    # -------------------------------------------------------------------------- copies

    def copies(self, host: bool) -> list[dict]:
        """Scattered rows from the device or from pinned memory, beside the rate of one copy."""
        rows: list[dict] = []
        source, target = self.copy_setup(host)
        for chunks in self.plan.copied:
            for by_layer in (True, False):

                def measure(chunks=chunks, by_layer=by_layer):
                    steps, n_bytes = self.copy_steps(source, target, chunks, by_layer)
                    row = {"row_bytes": CELL_BYTES * (1 if by_layer else CSA_LAYERS)}
                    row |= {"bytes": n_bytes, "us": self.us(steps)}
                    if chunks == max(self.plan.copied):
                        row["torch_us"] = self.event_us(partial(steps[0], impl="reference"), 3)
                    name, moved = ("host_to_device", 1) if host else ("copy", 2)
                    row["floor_us"] = moved * n_bytes / self.values["ceilings"][name] * 1e6
                    return row | {"share_of_ceiling": row["floor_us"] / row["us"]}

                about = {"source": "host" if host else "device", "chunks": chunks}
                self.safely(rows, about, measure)
        return rows

    def copy_tiles(self) -> list[dict]:
        """From pinned memory with other numbers of programs, and what that costs a neighbour."""
        if not self.gpu:
            return []
        source, target = self.copy_setup(True)
        (run, *_), _ = self.copy_steps(source, target, max(self.plan.copied), True)
        a, side = self.normal(4096, 4096, seed=13), torch.cuda.Stream()
        rows = []

        def work() -> None:
            for _ in range(24):
                a @ a

        def beside() -> None:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                run()
            work()

        alone = self.event_us(work)
        for tile in (None, *BUS_TILES):
            if self.left() < 3:
                rows.append({"operation": "copy", "error": "no time left"})
                break
            with tuning.force(**({} if tile is None else {"copy_cells": tile})):
                row = {"operation": "copy", "us": self.event_us(run)}
                row |= {"tile": tile and dataclasses.asdict(tile)}
                row |= {"products_us": alone, "products_beside_us": self.event_us(beside)}
            torch.cuda.synchronize()
            rows.append(row)
        return rows

    def calls(self) -> dict[str, float]:
        """Microseconds of Python until a small call returns, without waiting for it."""
        q, weights = self.normal(1, 128, D_INDEX, seed=14), self.normal(1, 128, seed=15)
        keys = self.normal(1, 64, D_INDEX, seed=16)
        logits = torch.zeros(3, 64, device=self.device)
        pool = self.normal(64, D_CELL, seed=17)
        query, slots = pool[None], torch.zeros(1, 16, dtype=torch.int32, device=self.device)
        places = torch.arange(16, device=self.device)
        other = torch.zeros_like(pool)
        runs = {
            "score_chunks": lambda: score_chunks(q, weights, keys, impl=self.impl),
            "select_chunks": lambda: select_chunks(logits, threshold=0.5, impl=self.impl),
            "cell_attention": lambda: cell_attention(query, pool, slots, impl=self.impl),
            "copy_cells": lambda: copy_cells(pool, other, places, places, impl=self.impl),
        }
        found = {}
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            for _ in range(50 if self.gpu else 1):
                run()
            found[name] = (time.perf_counter() - start) * 1e6 / (50 if self.gpu else 1)
        return found


def committed() -> dict:
    """What the committed runs found: scores from the later one, all else from the first."""
    scores = records.load(SCORES)[0]
    later = {name: scores[name] for name in ("scores", "score_tiles", *lsa_floor.STAGES)}
    return records.load(RESULT)[0] | later


def told(checks: list) -> list[dict]:
    return [dataclasses.asdict(check) for check in checks]


def main() -> int:
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--seconds", type=float, default=85, help="after which no tile is tried")
    parser.add_argument("--only", choices=["score_chunks"], help="time one operation alone")
    parser.add_argument("--table", action="store_true", help="print the committed times")
    options = parser.parse_args()
    if options.table:
        values = committed()
        print(table(values), lsa_floor.floor_table(values), sep="\n\n")
        return 0
    plan = SMALL if options.small else Plan()
    bench = Bench(plan, torch.device(options.device), options.out, options.seconds, options.commit)
    checks = Checks(bench.device, bench.impl, plan.check_shapes, plan.check_chunks)
    bench.stage("ceilings", bench.ceilings)
    if options.only:
        bench.stage("checks", lambda: told(checks.scores()))
        bench.stage("scores", bench.scores)
        for name, run in lsa_floor.STAGES.items():
            bench.stage(name, lambda run=run: run(bench))
        bench.stage("score_tiles", bench.score_tiles)
        return ended(bench, checks)
    bench.stage("checks", lambda: told(checks.everything()))
    bench.stage("scores", bench.scores)
    bench.stage("selection", bench.selection)
    bench.stage("attention", bench.attention)
    bench.stage("copies", lambda: bench.copies(host=False))
    bench.stage("calls", bench.calls)
    bench.stage("score_tiles", bench.score_tiles)
    bench.stage("attention_tiles", bench.attention_tiles)
    if bench.gpu:  # last, since reading the host's memory is what may go most wrong
        bench.stage("checks", lambda: told(checks.from_the_host()))
        device_rows = bench.values["copies"]
        bench.stage("copies", lambda: device_rows + bench.copies(host=True))
        bench.stage("copy_tiles", bench.copy_tiles)
    return ended(bench, checks)


def ended(bench: Bench, checks: Checks) -> int:
    """Say what was found; the number of checks and stages that failed."""
    failed = [check.name for check in checks.done if not check.ok]
    print(table(bench.values))
    print(lsa_floor.floor_table(bench.values))
    for row in bench.values.get("score_tiles", []):
        print(row["indexer"], row["keys"], *row["tile"].values(), row.get("us", row.get("error")))
    print(f"{len(checks.done) - len(failed)} of {len(checks.done)} checks passed; failed: {failed}")
    print("seconds by stage:", bench.values["stages"])
    return len(failed) + len(bench.values.get("errors", {}))


if __name__ == "__main__":
    sys.exit(main())
