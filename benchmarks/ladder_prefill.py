"""Steps of many queries, for `kernel_ladder.py`: attention, selection, selection over e4m3 keys."""

import torch
from kernel_candidates import kvouter, prefill_launch
from ladder_base import BLOCK, H_KV, H_Q, SEL, D, Part, error, need, rounded8, settings

from intuitive.kernels import block_scores, block_sparse_attention, score_and_select

TILES = """
reg=False
reg=False tma=False
tma=False
maxnreg=168
stages=3
keys=128 stages=1
keys=128 stages=2
keys=128 stages=1 maxnreg=168
queries=8 warps=8
queries=8 warps=8 maxnreg=128
queries=8 warps=8 keys=128
queries=8 warps=8 stages=3
queries=8 warps=8 keys=128 stages=1
queries=8 warps=8 reg=False
queries=8 warps=8 reg=False keys=128
one=True
one=True maxnreg=168
one=True queries=8 warps=8
one=True keys=128 stages=1
queries=1 warps=1 reg=False
queries=1 warps=1 reg=False keys=128
queries=1 warps=2 reg=False stages=3
queries=2 warps=2 reg=False
keys=32 stages=3
keys=32 stages=4 maxnreg=168
keys=32 stages=2 maxnreg=168
"""
OUTER = """
stages=3
queries=8 warps=8
longest=64
longest=1024
chunk_bytes=536870912
chunk_bytes=2147483648
"""
SCORES = """
reg=False tma=False
reg=False
tma=False
stages=3
warps=8
warps=8 stages=3 maxnreg=128
rows=256 warps=8 stages=3
rows=256 warps=8 stages=2
rows=256 warps=8 stages=3 reg=False
keys=256 warps=8
keys=256 warps=8 reg=False
rows=64 stages=3
rows=64 stages=2
programs=264 longest=4096
programs=4096 longest=32
programs=1056 longest=256
rows=256 warps=8 stages=3 longest=512
"""
PICKS = """
guard=False
unroll=4
sel_rows=64
sel_rows=128 unroll=4
"""
CODES = """
stages=4
rows=256 warps=8
rows=256 warps=8 stages=4
warps=8
keys=256 warps=8
rows=256 keys=256 warps=8
tma=False
"""


class Attend(Part):
    @staticmethod
    def candidates(small):
        every = {"as is": None}
        for name, change in settings("" if small else TILES).items():
            every[f"tile {name}"] = {"reg": True, "tma": True} | change
        every["kv outer"] = {"outer": {}}
        for name, change in settings("" if small else OUTER).items():
            every[f"kv outer {name}"] = {"outer": change}
        return every

    def run(self, kw, *x):
        if kw and "outer" in kw:
            return kvouter.attend(*x, **kw["outer"])
        if kw is None:
            return block_sparse_attention(*x, block_size=BLOCK, return_lse=True, impl=self.impl)
        return prefill_launch.attend(*x, **kw)

    def check(self, kw):
        worst = 0.0
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
        every = {"as is": None, "score": {"score": {}}}
        for part, table in () if small else (("score", SCORES), ("pick", PICKS)):
            every |= {f"{part} {name}": {part: kw} for name, kw in settings(table).items()}
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


class Fp8(Select):
    """Index keys in e4m3: queries rounded too, so that the product has 8 bits."""

    @staticmethod
    def candidates(small):
        every = {"fp8": {}} | settings("" if small else CODES)
        return {name: {"score": {"reg": False, "stages": 3} | kw} for name, kw in every.items()}

    def index(self, b, n, m, h_kv):
        return rounded8(self.normal(b, n, h_kv, D), True), rounded8(self.normal(b, m, D), False)
