"""Steps of many queries, for `kernel_ladder.py`: attention and selection."""

import torch
from ladder_base import BLOCK, H_KV, H_Q, SEL, D, Part, error, need
from torch import Tensor

from intuitive.kernels import (
    block_scores,
    block_sparse_attention,
    code_recall,
    distinct_blocks,
    index_codes,
    score_and_select,
    select_blocks,
)
from intuitive.kernels.index_codes import shared_blocks
from intuitive.kernels.measuring import write_scores

# Of a row's greatest score: float32 sums, and those of a Hopper's products of codes, which keep
# some 13 bits below the greatest summand
NEAR_TIE, NEAR_TIE_OF_CODES = 1e-5, 2e-3


def worst_gap(got: Tensor, exact: Tensor, n_local: int, n_init: int) -> float:
    """By how much a block left out outdoes one selected, of the row's greatest score; 0 if none.

    Forced blocks count as the greatest, so that leaving one out is an infinite gap.
    """
    block, readable = torch.arange(exact.shape[-1], device=exact.device), torch.isfinite(exact)
    local = torch.where(readable, block, -1).amax(-1, keepdim=True)
    forced = (block < n_init) | ((block > local - n_local) & (block <= local))
    rank = torch.where(forced & readable, float("inf"), exact)
    chosen = torch.zeros_like(rank, dtype=torch.bool)
    for ids in got.long().unbind(-1):
        chosen |= block == ids[..., None]
    need(torch.equal(chosen.sum(-1), (got >= 0).sum(-1)), "a block is selected twice")
    least = rank.masked_fill(~chosen, float("inf")).amin(-1)
    best = rank.masked_fill(chosen | ~readable, float("-inf")).amax(-1)
    scale = exact.masked_fill(~readable, 0).abs().amax(-1).clamp(min=1e-30)
    gap = (best - least) / scale
    return max(gap.masked_fill(gap.isnan(), float("inf")).max().item(), 0.0)


class Attend(Part):
    candidates = ("general", "hopper", "scattered")

    def run(self, plan, *x, block_size=BLOCK):
        return block_sparse_attention(
            *x, block_size=block_size, return_lse=True, impl=self.impl, plan=plan, validate=False
        )

    def check(self, plan):
        worst = 0.0
        for b, n, m, h_kv, group, d, block_size in self.shapes():
            q = self.normal(b, n, h_kv * group, d)
            k, v = (self.cache(b, m, h_kv, d) for _ in range(2))
            blocks = self.blocks(b, n, m, h_kv, block_size)
            blocks[:, -1, 0] = -1  # nothing to read
            out, lse = self.twice(lambda x=(q, k, v, blocks), s=block_size: self.run(
                plan, *x, block_size=s
            ))  # fmt: skip
            want, want_lse = block_sparse_attention(
                q.double(), k.double(), v.double(), blocks, block_size=block_size,
                return_lse=True, impl="reference",
            )  # fmt: skip
            idle = want_lse.isneginf()
            need(torch.equal(lse.isneginf(), idle), "idle rows differ")
            need(bool((out[idle] == 0).all()), "idle rows are not 0")
            torch.testing.assert_close(lse[~idle], want_lse[~idle].float(), atol=3e-5, rtol=3e-5)
            sdpa = self.gathered_sdpa(q, k, v, blocks, block_size)
            ours, theirs = error(out[~idle], want[~idle]), error(sdpa[~idle], want[~idle])
            need(ours <= 2 * theirs, f"error {ours} against {theirs} of SDPA")
            worst = max(worst, ours / theirs)
        return {"passed": True, "error_ratio": worst}

    def prepare(self):
        about = self.about()
        for name, n in (("32K", 32768), ("128K", 131072)):
            q, k, v = (self.normal(1, n, h, D) for h in (H_Q, H_KV, H_KV))
            for kind in ("near", "random"):
                blocks = getattr(self, kind)(n, n)
                about[f"distinct {kind} {name}"] = distinct_blocks(blocks[:, -2048:]).item()
                self.work[f"{kind} {name}"] = (q, k, v, blocks)
            about[f"dense {name}"] = self.fastest(
                lambda backend, x=(q, k, v): self.median(
                    lambda: self.dense(*x, backend, True), repeats=1
                )
            )
        return about

    def time(self, plan):
        row = {
            name: self.median(lambda x=x: self.run(plan, *x), 3) for name, x in self.work.items()
        }
        return row | {"peak near 128K": self.peak(lambda: self.run(plan, *self.work["near 128K"]))}


class Select(Part):
    candidates = ("general", "hopper", "codes")

    def run(self, plan, q_idx, k_idx, **rule):
        rule = {"n_selected": SEL, "block_size": BLOCK} | rule
        plan = "general" if plan == "codes" else plan
        return score_and_select(q_idx, k_idx, impl=self.impl, plan=plan, validate=False, **rule)

    def coded(self, plan, q_idx, k_idx):
        if plan != "codes":
            return q_idx, k_idx
        return index_codes(q_idx), index_codes(k_idx, unit=1.0)

    def shapes(self):
        long = [(2, 9000, 9003, 4, 16, 128, 128), (1, 33001, 33001, 1, 16, 64, 64)]
        return super().shapes() + ([] if self.small else long)  # enough rows for a thread each

    def check(self, plan):
        row = {"worst_score_gap": 0.0, "same_blocks": 1.0}
        allowed = NEAR_TIE_OF_CODES if plan == "codes" else NEAR_TIE
        for i, (b, n, m, h_kv, _, d, block_size) in enumerate(self.shapes()):
            x = self.coded(plan, self.normal(b, n, h_kv, d), self.normal(b, m, d))
            rule = {"n_local": 1 + i % 2, "n_init": i % 2, "n_selected": (16, 16, 7, 5)[i % 4]}
            rule["block_size"] = block_size
            (got,) = self.twice(lambda x=x, rule=rule: (self.run(plan, *x, **rule),))
            tail = max(n - 512, 0)  # the last queries see the most
            got, q_idx, k_idx = got[:, tail:], x[0][:, tail:].double(), x[1].double()
            want = score_and_select(q_idx, k_idx, impl="reference", validate=False, **rule)
            exact = block_scores(q_idx, k_idx, block_size=block_size, impl="reference").double()
            need(torch.equal((got >= 0).sum(-1), (want >= 0).sum(-1)), "numbers of blocks differ")
            gap = worst_gap(got, exact, rule["n_local"], rule["n_init"])
            need(gap <= allowed, f"a block left out is better by {gap} of the greatest score")
            row["worst_score_gap"] = max(row["worst_score_gap"], gap)
            row["same_blocks"] = min(row["same_blocks"], shared_blocks(got, want).item())
            if plan == "codes":
                own = self.own_scores(*x, block_size)[:, tail:]
                chosen = select_blocks(own, impl="reference", validate=False, **rule)
                need(torch.equal(got, chosen), "not the best blocks by the kernel's own scores")
                seen = torch.isfinite(exact)
                apart = (own.double() - exact)[seen].abs().max() / exact[seen].abs().max()
                row["score_error"] = max(row.get("score_error", 0.0), apart.item())
        return {"passed": True} | row

    def own_scores(self, q_idx, k_idx, block_size):
        """What the kernel that takes codes scores, before anything is selected."""
        b, n, h_kv, _ = q_idx.shape
        scores = torch.full(
            (b, -(-k_idx.shape[1] // block_size), n, h_kv), float("-inf"), device=self.device
        )
        write_scores(q_idx, k_idx, scores, block_size, by_block=True, bulk=True)
        return scores.permute(0, 2, 3, 1)

    def prepare(self):
        about = self.about()
        for name, n, m in (
            ("32K", 32768, 32768), ("128K", 131072, 131072), ("8K of 1M", 8192, 2**20),
        ):  # fmt: skip
            self.work[name] = self.normal(1, n, H_KV, D), self.normal(1, m, D)
        q_idx, k_idx = self.work["32K"]
        recall = code_recall(q_idx, k_idx, n_selected=SEL, block_size=BLOCK)
        return about | {"recall of codes on noise, 32K": recall.item()}

    def time(self, plan):
        work = {name: self.coded(plan, *x) for name, x in self.work.items()}
        row = {name: self.median(lambda x=x: self.run(plan, *x), 5) for name, x in work.items()}
        return row | {"peak 8K of 1M": self.peak(lambda: self.run(plan, *work["8K of 1M"]))}


class Last(Part):
    """The last 8K queries of 1M tokens: blocks are selected, then attended to."""

    candidates = ("hopper", "codes")

    def __init__(self, device, small):
        super().__init__(device, small)
        self.select, self.attend = Select(device, small), Attend(device, small)

    def run(self, plan, q, k, v, q_idx, k_idx, blocks=None, block_size=BLOCK):
        """Attention to the blocks given, or to those that are selected, and the latter."""
        chosen = self.select.run(plan, q_idx, k_idx, block_size=block_size)
        read = chosen if blocks is None else blocks
        taken = "scattered" if blocks is None else "hopper"
        return *self.attend.run(taken, q, k, v, read, block_size=block_size), chosen

    def check(self, plan):
        worst, shape = 0.0, (1, 200, 30_000, 4, 16, 128, 128)
        for b, n, m, h_kv, group, d, block_size in (
            self.shapes() if self.small else [*self.shapes(), shape]
        ):
            q = self.normal(b, n, h_kv * group, d)
            k, v = (self.cache(b, m, h_kv, d) for _ in range(2))
            index = self.select.coded(plan, self.normal(b, n, h_kv, d), self.normal(b, m, d))
            out, _, chosen = self.twice(
                lambda x=(q, k, v, *index), s=block_size: self.run(plan, *x, block_size=s)
            )
            exact = block_scores(
                *(x.double() for x in index), block_size=block_size, impl="reference"
            )
            gap = worst_gap(chosen, exact.double(), 1, 0)
            allowed = NEAR_TIE_OF_CODES if plan == "codes" else NEAR_TIE
            need(gap <= allowed, f"a block left out is better by {gap} of the greatest score")
            want = self.gathered_sdpa(q, k, v, chosen, block_size, dtype=torch.float64)
            theirs = error(self.gathered_sdpa(q, k, v, chosen, block_size), want)
            ratio = error(out, want) / theirs
            need(ratio <= 2, f"error {ratio} times that of SDPA")
            worst = max(worst, ratio)
        return {"passed": True, "error_ratio": worst}

    def prepare(self):
        about, n, m = self.about(), 8192, 2**20
        x = [self.normal(1, n, H_Q, D), *(self.normal(1, m, H_KV, D) for _ in range(2))]
        self.work = (*x, self.normal(1, n, H_KV, D), self.normal(1, m, D))
        self.near_blocks = self.near(n, m)
        about["distinct near"] = distinct_blocks(self.near_blocks).item()
        about["dense"] = self.fastest(
            lambda backend: self.median(lambda: self.dense(*x, backend, False), repeats=1)
        )
        return about

    def time(self, plan):
        *x, q_idx, k_idx = self.work
        index = self.select.coded(plan, q_idx, k_idx)
        row = {
            "step": self.median(lambda: self.run(plan, *x, *index, self.near_blocks), 5),
            "select": self.median(lambda: self.select.run(plan, *index), 5),
            "attend": self.median(lambda: self.attend.run("hopper", *x, self.near_blocks), 5),
            "step, random": self.median(lambda: self.run(plan, *x, *index), 3),
        }
        kept = sum(y.numel() * y.element_size() for y in self.run(plan, *x, *index))
        peak = self.peak(lambda: self.run(plan, *x, *index, self.near_blocks))
        return row | {"peak beyond output": peak - kept}
