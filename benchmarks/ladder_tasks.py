"""What `kernel_ladder.py` checks and times, by part."""

import platform
import statistics
import time

import helpers
import torch
import triton
from kernel_candidates import backward_launch, decode_launch, kvouter, prefill_launch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common.runtime import device_name
from intuitive.kernels import block_scores, block_sparse_attention, score_and_select

H_Q, H_KV, D, BLOCK, SEL = 64, 4, 128, 128, 16
DENSE = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
L2_BYTES = 256 * 2**20


def error(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want).norm() / want.norm()).item()


def need(good: bool, what: str) -> None:
    if not good:
        raise RuntimeError(what)


class Part:
    """Shared: device, noise, poison, the dense baseline."""

    def __init__(self, device: str, small: bool) -> None:
        self.device, self.small = torch.device(device), small
        self.gpu = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if self.gpu else torch.float16
        self.seed = time.time_ns() % 2**31  # fresh inputs on every run
        self.draw = torch.Generator(self.device).manual_seed(self.seed)
        self.impl = "auto" if self.gpu else "triton"

    def normal(self, *shape: int) -> Tensor:
        return (
            torch.empty(
                shape, device=self.device, dtype=torch.float32 if not self.gpu else self.dtype
            )
            .normal_(generator=self.draw)
            .to(self.dtype)
        )

    def poison(self) -> None:
        if not self.gpu:
            return
        torch.cuda.synchronize()
        held = [torch.full((2**26,), float("nan"), device="cuda")]
        held += [
            torch.full((2**s,), float("nan"), device="cuda")
            for s in (8, 10, 12, 14, 16, 18, 20)
            for _ in range(24)
        ]
        del held

    def median(self, run, repeats=5) -> float:
        """ms of one call."""
        if self.gpu:
            return helpers.median_ms(run, repeats)
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e3

    def peak(self, run) -> int:
        if not self.gpu:
            return 0
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def profiled(self, run) -> dict:
        """ms of each kernel of one call, as far as the profiler works here."""
        from torch.profiler import ProfilerActivity, profile

        try:
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                run()
                torch.cuda.synchronize()
            return {
                e.key[:40]: e.device_time_total / 1e3
                for e in seen.key_averages()
                if e.device_time_total > 1
            }
        except Exception as error:
            return {"error": str(error)[:100]}

    def about(self) -> dict:
        return {
            "device": device_name(self.device), "seed": self.seed,
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda or "none"},
        }  # fmt: skip

    def dense(self, q, k, v, backend, causal):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        with sdpa_kernel(DENSE[backend]):
            return F.scaled_dot_product_attention(
                q, k, v, is_causal=causal, enable_gqa=True
            ).transpose(1, 2)

    def dense_ms(self, q, k, v, causal, repeats=3) -> float:
        times = []
        for backend in DENSE if self.gpu else ():
            try:
                times.append(self.median(lambda b=backend: self.dense(q, k, v, b, causal), repeats))
            except RuntimeError:
                pass
        return min(times, default=float("nan"))

    # inputs of a check: ragged lengths, groups of any width up to 16
    def shapes(self):
        if self.small:
            return [(1, 5, 300, 1, 16)]
        return [
            (1, 77, 1000, 2, 16),
            (2, 130, 2500, 3, 16),
            (1, 33, 4001, 4, 16),
            (2, 9, 700, 1, 5),
        ]

    def blocks(self, b, n, m, h_kv, n_selected=SEL, empty=0.2) -> Tensor:
        n_blk = -(-m // BLOCK)
        visible = torch.arange(m - n, m, device=self.device) // BLOCK + 1
        order = torch.rand(b, n, h_kv, n_blk, generator=self.draw, device=self.device)
        order = order.masked_fill(
            torch.arange(n_blk, device=self.device) >= visible[:, None, None], 2.0
        )
        score, block = order.sort(dim=-1)
        drop = torch.rand(score.shape, generator=self.draw, device=self.device) < empty
        block = torch.where((score > 1) | drop, -1, block)[..., :n_selected]
        return F.pad(block, (0, n_selected - block.shape[-1]), value=-1).int().contiguous()

    def gathered_sdpa(self, q, k, v, block_idx):
        (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
        block_idx = block_idx[..., : -(-m // BLOCK)]
        token = block_idx.long()[..., None] * BLOCK + torch.arange(BLOCK, device=q.device)
        position = torch.arange(m - n, m, device=q.device)[:, None, None, None]
        reads = (block_idx[..., None] >= 0) & (token <= position) & (token < m)
        token, reads = token.clamp(0, m - 1).flatten(3), reads.flatten(3)
        batch = torch.arange(b, device=q.device)[:, None, None, None]
        head = torch.arange(h_kv, device=q.device)[:, None]
        rows = (b * n * h_kv, 1, -1, d)
        out = F.scaled_dot_product_attention(
            q.reshape(b * n * h_kv, 1, h_q // h_kv, d),
            k[batch, token, head].reshape(rows),
            v[batch, token, head].reshape(rows),
            attn_mask=reads.reshape(b * n * h_kv, 1, 1, -1).expand(-1, 1, h_q // h_kv, -1),
        )
        return out.reshape(q.shape)

    def near(self, n, m) -> Tensor:
        import kernels as timed  # benchmarks/kernels.py

        return timed.near_blocks(n, m, self.draw)

    def random(self, n, m) -> Tensor:
        import kernels as timed

        return timed.random_blocks(n, m, self.draw)


class Attend(Part):
    @staticmethod
    def candidates(small):
        base = {"reg": True, "tma": True}
        every = {"as is": None}
        sweep = [
            {"reg": False}, {"reg": False, "tma": False}, {}, {"tma": False}, {"maxnreg": 168}, {"stages": 3},
            {"keys": 128, "stages": 1}, {"keys": 128, "stages": 2}, {"keys": 128, "stages": 1, "maxnreg": 168},
            {"queries": 8, "warps": 8}, {"queries": 8, "warps": 8, "maxnreg": 128}, {"queries": 8, "warps": 8, "keys": 128},
            {"queries": 8, "warps": 8, "stages": 3}, {"queries": 8, "warps": 8, "keys": 128, "stages": 1},
            {"queries": 8, "warps": 8, "reg": False}, {"queries": 8, "warps": 8, "reg": False, "keys": 128},
            {"one": True}, {"one": True, "maxnreg": 168}, {"one": True, "queries": 8, "warps": 8}, {"one": True, "keys": 128, "stages": 1},
            {"queries": 1, "warps": 1, "reg": False}, {"queries": 1, "warps": 1, "reg": False, "keys": 128}, {"queries": 1, "warps": 2, "reg": False, "stages": 3}, {"queries": 2, "warps": 2, "reg": False},
            {"keys": 32, "stages": 3}, {"keys": 32, "stages": 4, "maxnreg": 168}, {"keys": 32, "stages": 2, "maxnreg": 168},
        ]  # fmt: skip
        for change in sweep[2:3] if small else sweep:
            kw = base | change
            every[" ".join(f"{a}={c}" for a, c in kw.items())] = kw
        outer = [
            {},
            {"stages": 3},
            {"queries": 8, "warps": 8},
            {"longest": 64},
            {"longest": 1024},
            {"chunk_bytes": 2**29},
            {"chunk_bytes": 2**31},
        ]
        for kw in outer[:1] if small else outer:
            every["kv outer " + " ".join(f"{a}={c}" for a, c in kw.items())] = {"outer": kw}
        return every

    def run(self, kw, *x):
        if kw and "outer" in kw:
            return kvouter.attend(*x, **kw["outer"])
        if kw is None:
            return block_sparse_attention(*x, block_size=BLOCK, return_lse=True, impl=self.impl)
        return prefill_launch.attend(*x, **kw)

    def check(self, kw):
        worst, ours2, theirs2 = 0.0, 0.0, 0.0
        for b, n, m, h_kv, group in self.shapes():
            q, k, v = (
                self.normal(b, n, h_kv * group, D),
                self.normal(b, m, h_kv, D),
                self.normal(b, m, h_kv, D),
            )
            blocks = self.blocks(b, n, m, h_kv)
            self.poison()
            out, lse = self.run(kw, q, k, v, blocks)
            again = self.run(kw, q, k, v, blocks)
            need(torch.equal(out, again[0]) and torch.equal(lse, again[1]), "two runs differ")
            want, want_lse = block_sparse_attention(
                q.double(),
                k.double(),
                v.double(),
                blocks,
                block_size=BLOCK,
                return_lse=True,
                impl="reference",
            )
            idle = want_lse.isneginf()
            need(torch.equal(lse.isneginf(), idle), "idle rows differ")
            need(bool((out[idle] == 0).all()), "idle rows are not 0")
            torch.testing.assert_close(lse[~idle], want_lse[~idle].float(), atol=3e-5, rtol=3e-5)
            sdpa = self.gathered_sdpa(q, k, v, blocks)
            ours, theirs = error(out[~idle], want[~idle]), error(sdpa[~idle], want[~idle])
            need(ours <= 2 * theirs, f"error {ours} against {theirs} of SDPA")
            worst = max(worst, ours / theirs)
        return {"passed": True, "error_ratio": worst}

    def prepare(self):
        if not self.gpu:
            return self.about()
        self.work, about = {}, self.about()
        n = 131072
        q, k, v = (self.normal(1, n, h, D) for h in (H_Q, H_KV, H_KV))
        self.work["near128K"] = (q, k, v, self.near(n, n))
        self.work["random128K"] = (q, k, v, self.random(n, n))
        s = 32768
        q, k, v = (self.normal(1, s, h, D) for h in (H_Q, H_KV, H_KV))
        self.work["near32K"] = (q, k, v, self.near(s, s))
        about["dense32K"] = self.dense_ms(q, k, v, True)
        about["dense128K"] = self.dense_ms(*self.work["near128K"][:3], True, repeats=1)
        return about

    def time(self, kw):
        if not self.gpu:
            return {}
        row = {name: self.median(lambda x=x: self.run(kw, *x), 3) for name, x in self.work.items()}
        return row | {"peak32K": self.peak(lambda: self.run(kw, *self.work["near32K"]))}


class Select(Part):
    @staticmethod
    def candidates(small):
        every = {"as is": None}
        scores = [
            {"reg": False, "tma": False}, {"reg": False}, {"tma": False}, {}, {"stages": 3}, {"warps": 8}, {"warps": 8, "stages": 3, "maxnreg": 128},
            {"rows": 256, "warps": 8, "stages": 3}, {"rows": 256, "warps": 8, "stages": 2}, {"rows": 256, "warps": 8, "stages": 3, "reg": False},
            {"keys": 256, "warps": 8}, {"keys": 256, "warps": 8, "reg": False}, {"rows": 64, "stages": 3}, {"rows": 64, "stages": 2},
            {"programs": 264, "longest": 4096}, {"programs": 4096, "longest": 32}, {"programs": 1056, "longest": 256}, {"rows": 256, "warps": 8, "stages": 3, "longest": 512},
        ]  # fmt: skip
        picks = [
            {},
            {"guard": False},
            {"unroll": 4},
            {"sel_rows": 64},
            {"sel_rows": 128, "unroll": 4},
        ]
        for score in scores[3:4] if small else scores:
            every["score " + " ".join(f"{a}={c}" for a, c in score.items())] = {"score": score}
        for pick in picks[:0] if small else picks[1:]:
            every["pick " + " ".join(f"{a}={c}" for a, c in pick.items())] = {"pick": pick}
        if not small:
            every["chunk 32M"] = {"chunk_bytes": 2**25}
            every["chunk 1G"] = {"chunk_bytes": 2**30}
        return every

    def run(self, kw, q_idx, k_idx, **rule):
        rule = {"n_selected": SEL, "block_size": BLOCK} | rule
        if kw is None:
            return score_and_select(q_idx, k_idx, impl=self.impl, **rule)
        return prefill_launch.select(q_idx, k_idx, **rule, **kw)

    def index(self, b, n, m, h_kv):
        return self.normal(b, n, h_kv, D), self.normal(b, m, D)

    def reference(self, q_idx, k_idx):
        return block_scores(
            q_idx.double(), k_idx.double(), block_size=BLOCK, impl="reference"
        ).double()

    def check(self, kw):
        worst = 0.0
        for i, (b, n, m, h_kv, _) in enumerate(self.shapes()):
            q_idx, k_idx = self.index(b, n, m, h_kv)
            rule = {"n_local": 1 + i % 2, "n_init": i % 2, "n_selected": (16, 16, 7, 5)[i % 4]}
            self.poison()
            got = self.run(kw, q_idx, k_idx, **rule)
            need(torch.equal(got, self.run(kw, q_idx, k_idx, **rule)), "two runs differ")
            want = score_and_select(
                q_idx.double(), k_idx.double(), block_size=BLOCK, impl="reference", **rule
            )
            # where they differ, the scores must be near ties: compare the sums of the chosen scores
            exact = self.reference(q_idx, k_idx)
            both = [
                torch.where(x >= 0, exact.gather(-1, x.clamp(min=0).long()), 0.0).sum(-1)
                for x in (got, want)
            ]
            need(torch.equal((got >= 0).sum(-1), (want >= 0).sum(-1)), "numbers of blocks differ")
            worst = max(
                worst, ((both[0] - both[1]).abs() / both[1].abs().clamp(min=1)).max().item()
            )
            same = (got == want).float().mean().item()
            need(same > 0.99 and worst < 1e-4, f"selection agrees in {same}, scores to {worst}")
        return {"passed": True, "worst_score_gap": worst}

    def prepare(self):
        if not self.gpu:
            return self.about()
        self.work = {
            "32K": self.index(1, 32768, 32768, H_KV),
            "128K": self.index(1, 131072, 131072, H_KV),
            "8K of 1M": self.index(1, 8192, 2**20, H_KV),
        }
        about = self.about()
        k, v = (self.normal(1, 2**20, H_KV, D) for _ in range(2))
        q = self.normal(1, 8192, H_Q, D)
        about["dense 8K of 1M"] = self.dense_ms(q, k, v, False, repeats=1)
        del q, k, v
        torch.cuda.empty_cache()
        return about

    def time(self, kw):
        if not self.gpu:
            return {}
        row = {name: self.median(lambda x=x: self.run(kw, *x), 5) for name, x in self.work.items()}
        row["peak 8K of 1M"] = self.peak(lambda: self.run(kw, *self.work["8K of 1M"]))
        if kw is not None:  # its two kernels, on the last 16K queries of 128K
            q_idx, k_idx = self.work["128K"]
            q_idx = q_idx[:, -16384:]
            rows = 16384 * H_KV
            scores = torch.empty((1, 1024, rows), device="cuda")
            out = torch.empty((1, 16384, H_KV, SEL), dtype=torch.int32, device="cuda")
            row["kernels_ms"] = self.profiled(lambda: self.run(kw, *self.work["128K"]))
            row["score 16K of 128K"] = self.median(
                lambda: prefill_launch.write_scores(
                    q_idx, k_idx, scores, BLOCK, **(kw.get("score") or {})
                )
            )
            row["pick 16K of 128K"] = self.median(
                lambda: prefill_launch.write_selection(
                    scores,
                    out,
                    block_size=BLOCK,
                    n_local=1,
                    n_init=0,
                    first_visible=131072 - 16384 + 1,
                    **(kw.get("pick") or {}),
                )
            )
        return row


def rounded8(x: Tensor, each: bool) -> Tensor:
    """e4m3 codes; each row is first divided by a power of two, which no order of its scores feels."""
    if each:
        top = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-30)
        x = x.float() * torch.exp2(torch.floor(torch.log2(448 / top)))
    return x.float().clamp(-448, 448).to(torch.float8_e4m3fn)


class Fp8(Select):
    """Index keys in e4m3: queries rounded too, so that the product has 8 bits."""

    @staticmethod
    def candidates(small):
        every = {}
        scores = [
            {},
            {"stages": 4},
            {"rows": 256, "warps": 8},
            {"rows": 256, "warps": 8, "stages": 4},
            {"warps": 8},
            {"keys": 256, "warps": 8},
            {"rows": 256, "keys": 256, "warps": 8},
            {"tma": False},
        ]
        for score in scores[:1] if small else scores:
            every["fp8 " + " ".join(f"{a}={c}" for a, c in score.items())] = {
                "score": {"reg": False, "stages": 3} | score
            }
        return every

    def index(self, b, n, m, h_kv):
        return rounded8(self.normal(b, n, h_kv, D), True), rounded8(self.normal(b, m, D), False)


class Decode(Part):
    @staticmethod
    def candidates(small):
        every = {"as is": None}
        sweep = [
            {}, {"pdl": False}, {"merge": False}, {"merge": False, "pdl": False}, {"part_keys": 64}, {"part_keys": 64, "merge": False}, {"attend_warps": 8},
            {"attend_warps": 8, "merged": 8}, {"tma": True}, {"tma": True, "stages": 4}, {"tma": True, "stages": 2}, {"stages": 4}, {"stages": 2},
            {"programs": 264}, {"programs": 132, "stages": 4}, {"programs": 792}, {"programs": 1188}, {"programs": 264, "tma": True, "stages": 4},
            {"warps": 8}, {"warps": 8, "programs": 264}, {"keys": 256, "stages": 2}, {"keys": 256, "stages": 3, "programs": 264}, {"programs": 792, "stages": 2}, {"attend_warps": 8, "part_keys": 64},
            {"fp8": True}, {"fp8": True, "tma": True}, {"fp8": True, "stages": 4}, {"fp8": True, "keys": 256}, {"fp8": True, "tma": True, "keys": 256}, {"fp8": True, "programs": 792}, {"fp8": True, "warps": 8},
        ]  # fmt: skip
        for kw in sweep[1:2] if small else sweep:
            every[" ".join(f"{a}={c}" for a, c in kw.items()) or "two launches"] = kw
        return every

    def run(self, kw, q, k, v, q_idx, k_idx, **rule):
        rule = {"n_selected": SEL, "block_size": BLOCK} | rule
        if kw is None:
            ids = score_and_select(q_idx, k_idx, impl=self.impl, **rule)
            return *block_sparse_attention(
                q, k, v, ids, block_size=BLOCK, return_lse=True, impl=self.impl
            ), ids
        kw = {a: c for a, c in kw.items() if a != "fp8"}
        return decode_launch.step(q, k, v, q_idx, k_idx, **rule, **kw)

    def inputs(self, b, m, h_kv, group, fp8):
        k_idx = self.normal(b, m, D)
        return (self.normal(b, 1, h_kv * group, D), self.normal(b, m, h_kv, D), self.normal(b, m, h_kv, D),
                self.normal(b, 1, h_kv, D), rounded8(k_idx, False) if fp8 else k_idx)  # fmt: skip

    def check(self, kw):
        fp8 = bool(kw and kw.get("fp8"))
        shapes = (
            [(1, 300, 1, 16)]
            if self.small
            else [
                (1, 1000, 2, 16),
                (2, 4001, 3, 16),
                (3, 130, 4, 16),
                (1, 140_001, 1, 16),
                (2, 20_000, 1, 5),
            ]
        )
        worst = 0.0
        for i, (b, m, h_kv, group) in enumerate(shapes):
            x = self.inputs(b, m, h_kv, group, fp8)
            rule = {"n_local": 1 + i % 2, "n_init": i % 2, "n_selected": (16, 16, 7, 16)[i % 4]}
            self.poison()
            out, lse, ids = self.run(kw, *x, **rule)
            for _ in range(3):
                again = self.run(kw, *x, **rule)
                need(
                    all(torch.equal(a, c) for a, c in zip((out, lse, ids), again, strict=True)),
                    "two runs differ",
                )
            want_ids = score_and_select(
                x[3].double(), x[4].double(), block_size=BLOCK, impl="reference", **rule
            )
            same = (ids == want_ids).float().mean().item()
            need(same > 0.97, f"selection agrees in {same}")
            want, want_lse = block_sparse_attention(
                *(y.double() for y in x[:3]),
                ids,
                block_size=BLOCK,
                return_lse=True,
                impl="reference",
            )
            torch.testing.assert_close(lse, want_lse.float(), atol=3e-5, rtol=3e-5)
            ours, theirs = error(out, want), error(self.gathered_sdpa(*x[:3], ids), want)
            need(ours <= 2 * theirs, f"error {ours} against {theirs} of SDPA")
            worst = max(worst, ours / theirs)
        return {"passed": True, "error_ratio": worst}

    def prepare(self):
        if not self.gpu:
            return self.about()
        self.work, about = {}, self.about()
        for name, m in (("8K", 8192), ("32K", 32768), ("128K", 131072), ("1M", 2**20)):
            count = max(L2_BYTES // (m * D * 2), 1)
            self.work[name] = [
                self.inputs(1, m, H_KV, H_Q // H_KV, False) for _ in range(min(count, 16))
            ]
            times = []
            for backend in DENSE:
                try:
                    times.append(
                        helpers.graph_us(
                            [
                                lambda x=x, bk=backend: self.dense(*x[:3], bk, False)
                                for x in self.work[name]
                            ]
                        )
                    )
                except RuntimeError:
                    pass
            about[f"dense {name}"] = min(times, default=float("nan"))
        self.codes = {
            name: [(*x[:4], rounded8(x[4], False)) for x in sets]
            for name, sets in self.work.items()
        }
        return about

    def time(self, kw):
        if not self.gpu:
            return {}
        work = self.codes if kw and kw.get("fp8") else self.work
        row = {
            name: helpers.graph_us([lambda x=x: self.run(kw, *x) for x in sets])
            for name, sets in work.items()
        }
        return row | {"kernels_ms": self.profiled(lambda: self.run(kw, *work["128K"][0]))}


class Backward(Part):
    @staticmethod
    def candidates(small):
        every = {"as is": None}
        dqs = [
            {},
            {"tma": False},
            {"reg": False},
            {"reg": False, "stages": 3},
            {"queries": 8, "warps": 8},
            {"queries": 8, "warps": 8, "reg": False},
            {"keys": 32, "stages": 3},
            {"queries": 8, "warps": 8, "keys": 128, "reg": False},
            {"stages": 3},
        ]
        dkvs = [
            {"keys": 128, "warps": 8},
            {"keys": 128, "warps": 8, "stages": 3},
            {"queries": 2, "reg": True},
            {"queries": 2, "keys": 128, "warps": 8, "reg": True},
            {"queries": 2},
            {"queries": 2, "keys": 128, "warps": 8},
            {"stages": 3},
            {"keys": 128, "warps": 8, "longest": 1024},
            {"keys": 128, "warps": 8, "longest": 16384},
            {"queries": 8, "keys": 128, "warps": 8},
        ]
        for kw in dqs[:1] if small else dqs:
            every["dq " + " ".join(f"{a}={c}" for a, c in kw.items())] = {"dq": kw}
        for kw in dkvs[:0] if small else dkvs:
            every["dkv " + " ".join(f"{a}={c}" for a, c in kw.items())] = {"dkv": kw}
        return every

    def run(self, kw, dout, dlse, q, k, v, out, lse, blocks):
        if kw is None:
            from intuitive.kernels.block_sparse_attention.triton_backward import attend_backward

            return attend_backward(dout, dlse, q, k, v, out, lse, blocks, BLOCK, D**-0.5)
        dq = {"queries": 4, "keys": 64, "warps": 4, "stages": 2, "reg": True, "tma": True} | kw.get(
            "dq", {}
        )
        dkv = {
            "queries": 4,
            "keys": 64,
            "warps": 4,
            "stages": 2,
            "reg": False,
            "longest": 4096,
        } | kw.get("dkv", {})
        return backward_launch.backward(
            dout, dlse, q, k, v, out, lse, blocks, BLOCK, D**-0.5, dq=dq, dkv=dkv
        )

    def check(self, kw):
        worst = 0.0
        for b, n, m, h_kv, group in self.shapes():
            q, k, v = (
                self.normal(b, n, h_kv * group, D),
                self.normal(b, m, h_kv, D),
                self.normal(b, m, h_kv, D),
            )
            dout, blocks = self.normal(b, n, h_kv * group, D), self.blocks(b, n, m, h_kv)
            dlse = torch.randn(b, n, h_kv * group, generator=self.draw, device=self.device)
            out, lse = block_sparse_attention(
                q, k, v, blocks, block_size=BLOCK, return_lse=True, impl=self.impl
            )
            self.poison()
            got = self.run(kw, dout, dlse, q, k, v, out, lse, blocks)
            again = self.run(kw, dout, dlse, q, k, v, out, lse, blocks)
            need(all(torch.equal(a, c) for a, c in zip(got, again, strict=True)), "two runs differ")
            leaves = [x.double().requires_grad_() for x in (q, k, v)]
            o, s = block_sparse_attention(
                *leaves, blocks, block_size=BLOCK, return_lse=True, impl="reference"
            )
            loss = (o * dout).sum() + (s.masked_fill(s.isneginf(), 0) * dlse).sum()
            want = torch.autograd.grad(loss, leaves)
            errors = [error(a, c) for a, c in zip(got, want, strict=True)]
            need(max(errors) < 8e-3, f"errors {errors}")
            worst = max(worst, *errors)
        return {"passed": True, "error": worst}

    def prepare(self):
        if not self.gpu:
            return self.about()
        about, n = self.about(), 32768
        q, k, v = (self.normal(1, n, h, D) for h in (H_Q, H_KV, H_KV))
        dout = self.normal(1, n, H_Q, D)
        leaves = [x.requires_grad_() for x in (q, k, v)]
        times = []
        for backend in DENSE:
            out = self.dense(*leaves, backend, True)
            times.append(
                self.median(
                    lambda out=out: torch.autograd.grad(out, leaves, dout, retain_graph=True), 3
                )
            )
        about["dense 32K"] = min(times)
        q, k, v = (x.detach() for x in leaves)
        self.work = {}
        for name, blocks in (("near", self.near(n, n)), ("random", self.random(n, n))):
            out, lse = block_sparse_attention(q, k, v, blocks, block_size=BLOCK, return_lse=True)
            self.work[name] = (dout, torch.zeros_like(lse), q, k, v, out, lse, blocks)
        return about

    def time(self, kw):
        if not self.gpu:
            return {}
        row = {name: self.median(lambda x=x: self.run(kw, *x), 5) for name, x in self.work.items()}
        row["peak"] = self.peak(lambda: self.run(kw, *self.work["near"]))
        return row | {"kernels_ms": self.profiled(lambda: self.run(kw, *self.work["near"]))}


PARTS = {"attend": Attend, "select": Select, "decode": Decode, "backward": Backward, "fp8": Fp8}


def summary(part: str, about: dict, rows: dict) -> str:
    """A short table: times of every candidate, or why there are none."""
    lines = [
        f"## {part} { ({k: v for k, v in about.items() if k.startswith('dense')}) } {about.get('device')}"
    ]
    for name, row in rows.items():
        times = " ".join(
            f"{k}={v:.4g}"
            for k, v in row.items()
            if isinstance(v, float) and not k.endswith("_s") and k != "passed"
        )
        fault = row.get("check_error") or row.get("time_error") or ""
        kernels = f" {row['kernels_ms']}" if "kernels_ms" in row else ""
        lines.append(f"{name or '-'}: {times}{kernels} {fault[:160]}".rstrip())
    return "\n".join(lines)


_ = statistics
