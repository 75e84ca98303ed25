"""Correctness of LSA's kernels on random shapes, before `lsa_kernels.py` times them.

Each check compares the implementation under test with the plain-torch oracle in float64 (or, for
what is exact, for equality), notes its worst case, and never stops the ones after it.
"""

import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from intuitive.common.runtime import seeded
from intuitive.kernels import (
    Impl,
    cell_attention,
    copy_cells,
    dispatch,
    pack_cells,
    score_chunks,
    select_chunks,
    tuning,
)

HALF, BRAIN, FLOAT = torch.float16, torch.bfloat16, torch.float32
AHEAD = tuning.ScoreTile(
    chunks=64, num_warps=4, num_stages=4, programs=24, registers=168, prefetch=4
)


@dataclass(frozen=True)
class Check:
    """The worst case of one check."""

    name: str
    shapes: int
    worst: float  # error, or 1 where what must be equal is not
    bound: float
    where: str  # the shape of the worst case
    ok: bool
    message: str = ""
    seconds: float = 0.0


@dataclass
class Checks:
    """Runs checks on `device` and keeps what they found."""

    device: torch.device
    impl: Impl
    shapes: int  # random shapes of each check
    longest: int  # chunks at most
    done: list[Check] = field(default_factory=list)

    def run(self, name: str, bound: float, error: Callable[[int], tuple[float, str]]) -> None:
        """One check: `error(seed)` gives an error and the shape that it belongs to."""
        worst, where, message, start = 0.0, "", "", time.perf_counter()
        for seed in range(self.shapes):
            try:
                found, shape = error(seed)
            except Exception as raised:
                found, shape = float("inf"), f"seed {seed}"
                line = traceback.extract_tb(raised.__traceback__)[-1]
                text = " ".join(str(raised).split())
                message = f"{type(raised).__name__} at {line.filename.split('/')[-1]}:"
                message += f"{line.lineno}: {text[:300]} ... {text[-300:]}"
            if not found <= worst:  # NaN too
                worst, where = (found, shape) if found == found else (float("inf"), shape + " NaN")
            if message:
                break  # the next shape would say the same
        ok = worst <= bound
        if not ok:
            print(f"FAILED {name}: {where}: error {worst:.3g}, bound {bound:.3g}. {message}")
        worst = min(worst, 1e30)  # JSON has no infinity
        spent = time.perf_counter() - start
        self.done.append(Check(name, self.shapes, worst, bound, where, ok, message, spent))

    # -------------------------------------------------------------------------- inputs

    def scoring(self, seed: int, heads: int, d: int, dtype: torch.dtype, stored: str, chunks: int):
        """Queries, weights and keys, "plain", "fp8" or "rows"; 1 to 3 batch entries."""
        b = random.Random(seed).randint(1, 3)
        draw = {"generator": seeded(seed, self.device), "device": self.device}
        q = torch.randn(b, heads, d, **draw) * torch.rand(b, heads, 1, **draw).mul(8).exp2()
        weights = torch.randn(b, heads, **draw) / heads
        keys, scales = torch.randn(b, chunks, d, **draw), None
        if stored == "plain":
            return q.to(dtype), weights, keys.to(dtype), None
        scales, keys = torch.rand(b, chunks, **draw) + 0.5, (keys * 50).to(torch.float8_e4m3fn)
        if stored == "rows":
            keys, scales = stored_rows(keys, scales), None
        return q.to(dtype), weights, keys, scales

    # -------------------------------------------------------------------------- checks

    def score(
        self, heads: int, d: int, dtype: torch.dtype, stored: str, bound: float, round_q: bool
    ) -> None:
        """Logits against float64, relative to the greatest of them."""

        def error(seed: int) -> tuple[float, str]:
            rng = random.Random(seed)
            chunks = rng.randint(1, self.longest)
            some = heads if seed % 2 else rng.randint(max(heads // 2, 1), heads)
            x = self.scoring(seed, some, d, dtype, stored, chunks)
            got = score_chunks(*x, round_q=round_q, impl=self.impl)
            keys = x[2].double() if stored == "plain" else x[2]
            q = x[0].float().double() if not round_q else x[0]
            want = score_chunks(
                q, x[1].double(), keys, x[3], round_q=round_q, impl="reference"
            )  # in float64 inside
            shape = f"q {tuple(x[0].shape)} {x[0].dtype}, {stored} {tuple(x[2].shape)}"
            return greatest(got, want), shape

        rounded = ", queries rounded" if round_q else ""
        self.run(f"score {stored} {str(dtype)[6:]}, {heads} x {d}{rounded}", bound, error)

    def lying(self, heads: int, dtype: torch.dtype, bound: float) -> None:
        """Keys and packed entries read inside cells, against copies of them that stand alone."""
        d, before = 128, 584  # the key comes after one entry

        def error(seed: int) -> tuple[float, str]:
            rng = random.Random(seed)
            n, m = rng.randint(1, self.longest), rng.randint(1, self.longest)
            q, weights, keys, _ = self.scoring(seed, heads, d, dtype, "rows", n)
            draw = {"generator": seeded(seed, self.device), "device": self.device}
            cells = torch.zeros(n, 2 * before + 2 * (d + 4), dtype=torch.uint8, device=self.device)
            slots = torch.randint(-1, n, (len(q), m), **draw).int()
            keep = {"slots": slots, "gather": True, "impl": self.impl}
            first = 2 * before + (seed % 2) * (d + 4)
            cells[:, first : first + d + 4] = keys[0]
            got = score_chunks(q, weights, cells[:, first : first + d + 4], **keep)
            want = score_chunks(q, weights, keys[0].contiguous(), impl=self.impl)
            want = want.gather(1, slots.clamp(min=0).long())
            same = torch.equal(got == -torch.inf, slots < 0)
            worst = greatest(got.where(slots >= 0, 0.0), want.where(slots >= 0, 0.0))
            first = (seed % 2) * before
            rows = pack_cells(torch.randn(n, 512, **draw))
            cells[:, first : first + before] = rows
            query = torch.randn(len(q), 64, 512, **draw).to(dtype)
            inside, alone = (
                cell_attention(query, x, slots[:, :600].contiguous(), impl=self.impl)
                for x in (cells[:, first : first + before], rows)
            )
            shape = f"{n} cells, {m} slots, {dtype}"
            return (worst if same and torch.equal(inside, alone) else 1.0), shape

        self.run(f"read inside cells, {heads} heads", bound, error)

    def select(self) -> None:
        """Ids and counts are those of the oracle, bit for bit, on every run."""

        def error(seed: int) -> tuple[float, str]:
            rng = random.Random(seed)
            layers, chunks = rng.randint(1, 4), rng.randint(1, 40 * self.longest)
            logits = torch.randn(
                layers, chunks, generator=seeded(seed, self.device), device=self.device
            )
            logits = logits.masked_fill(logits > 2.5, -torch.inf)
            rule = {
                "threshold": rng.choice((0.1, 0.5, 0.9, 0.999)),
                "forced_from": rng.choice((None, 0, chunks // 2, chunks - 1, chunks + 5)),
            }
            ids, count = select_chunks(logits, impl=self.impl, **rule)
            again, _ = select_chunks(logits, impl=self.impl, **rule)
            want, n = select_chunks(logits, impl="reference", **rule)
            same = torch.equal(ids, want) and torch.equal(count, n) and torch.equal(ids, again)
            return float(not same), f"logits {tuple(logits.shape)}, {rule}"

        self.run("select", 0.0, error)

    def attend(
        self, h: int, d: int, dtype: torch.dtype, bound: float, *, packed: bool = False
    ) -> None:
        """Outputs against float64, as relative root mean square."""

        def error(seed: int) -> tuple[float, str]:
            rng = random.Random(seed)
            b, k, w = rng.randint(1, 4), rng.randint(1, self.longest // 4), rng.randint(1, 150)
            n_cells = k + rng.randint(0, 1000)
            draw = {"generator": seeded(seed, self.device), "device": self.device}
            some = h if seed % 2 else rng.randint(1, h)
            q, cells, window = (
                torch.randn(s, **draw).to(dtype) for s in ((b, some, d), (n_cells, d), (b, w, d))
            )
            slots = torch.rand(b, n_cells, **draw).argsort(-1)[:, :k]
            slots = torch.where(torch.rand(b, k, **draw) < 0.1, -1, slots).int()
            if seed % 3 == 0:
                slots[0] = -1
            window = None if seed % 4 == 1 else window
            sinks = None if seed % 5 == 2 else torch.randn(some, **draw)
            stored = pack_cells(cells) if packed else cells
            got = cell_attention(q, stored, slots, window, sinks, impl=self.impl)
            want = cell_attention(
                q.double(),
                stored if packed else cells.double(),
                slots,
                None if window is None else window.double(),
                None if sinks is None else sinks.double(),
                impl="reference",
            )
            shape = f"q {tuple(q.shape)} {dtype}, cells {tuple(stored.shape)}, k={k}, "
            shape += f"window {None if window is None else w}, sinks {sinks is not None}"
            return rms(got, want), shape

        name = "packed" if packed else str(dtype)[6:]
        self.run(f"attend {name}, {h} x {d}", bound, error)

    def copy(self, width: int, *, pinned: bool = False) -> None:
        """Every byte arrives, and no other is touched."""

        def error(seed: int) -> tuple[float, str]:
            rng = random.Random(seed)
            n, cells, m = (rng.randint(1, self.longest) for _ in range(3))
            m = min(m, cells)
            host = seeded(seed)
            source = torch.randint(256, (n, width), generator=host).to(torch.uint8)
            source = source.pin_memory() if pinned else source.to(self.device)
            rows = torch.randint(-1, n, (m,), generator=host).to(self.device)
            places = torch.randperm(cells, generator=host)[:m]
            places = torch.where(torch.rand(m, generator=host) < 0.1, -1, places).to(self.device)
            got = torch.full((cells, width), 7, dtype=torch.uint8, device=self.device)
            want = got.clone()
            copy_cells(source, got, rows, places, impl=self.impl)
            copy_cells(source, want, rows, places, impl="reference")
            return float(not torch.equal(got, want)), f"source {n}, cells {cells}, rows {m}"

        self.run(f"copy of {width} bytes{' from pinned memory' if pinned else ''}", 0.0, error)

    def graph(self) -> None:
        """A captured step of all four operations replays on new contents."""

        def error(seed: int) -> tuple[float, str]:
            q, weights, keys, _ = self.scoring(seed, 128, 128, BRAIN, "rows", 5000)
            q, weights, keys = q[:1].clone(), weights[:1].clone(), keys[:1].clone()
            draw = {"generator": seeded(seed, self.device), "device": self.device}
            source = torch.randn(5000, 512, **draw).to(BRAIN)
            target = torch.zeros_like(source)
            query = torch.randn(1, 64, 512, **draw).to(BRAIN)

            def step() -> Tensor:
                logits = score_chunks(q, weights, keys)
                ids, _ = select_chunks(logits, threshold=0.5, forced_from=4900)
                copy_cells(source, target, ids.long(), ids.long())
                return cell_attention(query, target, ids[None])

            step()  # compiles
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = step()
            worst = 0.0
            for factor in (-1.0, 0.5):
                q.mul_(factor)
                query.mul_(factor)
                target.zero_()
                graph.replay()
                replayed = out.clone()
                target.zero_()
                worst = max(worst, greatest(replayed, step()))
            return worst, "5000 chunks"

        self.run("all four in a CUDA graph", 0.0, error)

    @property
    def main(self) -> torch.dtype:
        """Of most checks: bfloat16, but on a GPU only."""
        return BRAIN if self.device.type == "cuda" else HALF

    def scores(self) -> list[Check]:
        """All checks of scores, one of them with keys that are sent for ahead."""
        gpu, main = self.device.type == "cuda", self.main
        exact, coarse = 2e-5, 1e-3  # float32 sums; queries as float16, or sums of e4m3 products
        for heads in (128, 64):
            self.score(heads, 128, main, "rows", exact if gpu else coarse, False)
            if not dispatch.interpreting():  # which rounds some numbers to e4m3 wrongly
                self.score(heads, 128, main, "rows", coarse, True)
            self.score(heads, 128, main, "plain", exact, False)
        self.score(128, 128, main, "fp8", exact if gpu else coarse, False)
        self.score(12, 32, FLOAT, "rows", coarse, False)
        self.score(12, 32, HALF, "plain", exact, False)
        self.lying(64, main, exact if gpu else coarse)
        with tuning.force(score_chunks=AHEAD):
            self.score(64, 128, main, "rows", exact if gpu else coarse, False)
        return self.done

    def everything(self) -> list[Check]:
        """All checks; those of bfloat16 and graphs on a GPU only."""
        gpu, main = self.device.type == "cuda", self.main
        self.scores()
        self.select()
        self.attend(64, 512, main, 5e-3 if gpu else 1e-3)
        self.attend(64, 512, main, 5e-3 if gpu else 1e-3, packed=True)
        self.attend(10, 64, HALF, 1e-3)
        for width in (584, 132, 12264):
            self.copy(width)
        if gpu:
            self.graph()
        return self.done

    def from_the_host(self) -> list[Check]:
        """Copies that the device fetches itself; adds to what was found before."""
        self.copy(584, pinned=True)
        return self.done


def stored_rows(keys: Tensor, scales: Tensor) -> Tensor:
    """Codes and scales of chunks as the rows of a store, uint8 [..., chunks, d + 4]."""
    return torch.cat((keys.view(torch.uint8), scales[..., None].view(torch.uint8)), dim=-1)


def greatest(got: Tensor, want: Tensor) -> float:
    """Greatest difference, relative to the greatest value wanted."""
    off = (got.double() - want.double()).abs().max()
    return (off / want.double().abs().max().clamp(min=1e-30)).item()


def rms(got: Tensor, want: Tensor) -> float:
    """Relative root mean square error; what must be 0 is 0, or the error is infinite."""
    if not bool(want.any()):
        return float("inf") if bool(got.any()) else 0.0
    return ((got.double() - want.double()).norm() / want.double().norm()).item()
