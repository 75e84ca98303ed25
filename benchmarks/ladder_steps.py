"""Decoding and the backward pass, for `kernel_ladder.py`."""

from contextlib import nullcontext
from unittest import mock

import helpers
import torch
from ladder_base import BLOCK, H_KV, H_Q, L2_BYTES, SEL, D, Part, error, need

from intuitive.kernels import (
    block_sparse_attention,
    code_recall,
    decode_step,
    index_codes,
    score_and_select,
)
from intuitive.kernels.measuring import decode_kernels, edge_kernels

TIMED = {"8K": 8192, "32K": 32768, "128K": 131072, "1M": 2**20}  # tokens of a decode step
TURN, EARLY, LATE = ({"overlap": overlap, "ranked": False} for overlap in range(3))
COUNTED = {"ranked": True}
WAYS = {  # in which the three launches of a decode step may differ from the default
    "in turn": TURN,
    "counted": TURN | COUNTED,
    "early": EARLY,
    "early, counted": EARLY | COUNTED,
    "late": LATE,
    "late, counted": LATE | COUNTED,
    "late, counted, eight warps": LATE | COUNTED | {"num_warps": 8},
    "late, counted, chained": LATE | COUNTED | {"chained": True},
}
EdgeTile = edge_kernels.EdgeTile
EDGES = {"as first": EdgeTile()} | {  # cuts of dk and dv
    ", ".join(["ahead"] * (ahead > 2) + ["blocks"] * (keys > 64) + ["fours"] * (queries > 2)
              + ["together"] * together): EdgeTile(
        num_stages=ahead, keys=keys, num_warps=keys // 16, queries=queries, together=together
    )
    for ahead, keys, queries, together in (
        (3, 64, 2, False), (2, 64, 2, True), (3, 64, 2, True), (3, 64, 4, False),
        (3, 128, 2, True), (3, 128, 4, False), (3, 128, 4, True),
    )
}  # fmt: skip


def candidate(plan: str, ways: dict, module, name: str):
    """The first word of a candidate, and a context in which the way that follows is taken."""
    first, _, way = plan.partition(", ")
    return first, mock.patch.object(module, name, ways[way]) if way else nullcontext()


class Decode(Part):
    candidates = (
        "general", "hopper", "codes", *(f"hopper, {name}" for name in WAYS),
        *(f"codes, {name}" for name in ("counted", "late", "late, counted")),
        "codes, late, counted, eight warps",
    )  # fmt: skip

    def run(self, plan, *x, **rule):
        rule = {"n_selected": SEL, "block_size": BLOCK} | rule
        name, taken = candidate(plan, WAYS, decode_kernels, "CHANGED")
        rule |= {"plan": "general" if name == "codes" else name}
        with taken:
            return decode_step(*x, impl=self.impl, validate=False, **rule)

    def inputs(self, plan, b, m, h_kv, group, d=D):
        k_idx = self.normal(b, m, d)
        if plan.startswith("codes"):
            k_idx = index_codes(k_idx, unit=1.0)
        k, v = (self.cache(b, m, h_kv, d) for _ in range(2))
        return self.normal(b, 1, h_kv * group, d), k, v, self.normal(b, 1, h_kv, d), k_idx

    def shapes(self):
        if self.small:
            return [(1, 300, 1, 16, 128, 128)]
        return [
            (1, 1000, 2, 16, 128, 128),
            (2, 4001, 3, 16, 128, 128),
            (3, 130, 4, 16, 128, 128),
            (1, 140_001, 1, 16, 128, 128),
            (2, 20_000, 1, 5, 64, 64),
            *((1, m, 1, H_Q // H_KV, D, BLOCK) for m in TIMED.values()),
        ]

    def check(self, plan):
        worst = 0.0
        for i, (b, m, h_kv, group, d, block_size) in enumerate(self.shapes()):
            x = self.inputs(plan, b, m, h_kv, group, d)
            rule = {"n_local": 1 + i % 2, "n_init": i % 2, "n_selected": (16, 16, 7, 16)[i % 4]}
            rule["block_size"] = block_size
            out, lse, ids = self.twice(lambda x=x, rule=rule: self.run(plan, *x, **rule))
            want_ids = score_and_select(
                x[3].double(), x[4].double(), impl="reference", validate=False, **rule
            )
            same = (ids == want_ids).float().mean().item()
            need(same > 0.97, f"selection agrees in {same}")
            theirs = self.gathered_sdpa(*x[:3], ids, block_size)
            if m in TIMED.values():  # too long for the oracle
                want = self.gathered_sdpa(*x[:3], ids, block_size, dtype=torch.float64)
                ratio = error(out, want) / error(theirs, want)
                need(ratio <= 2, f"error {ratio} times that of SDPA at {m}")
                worst = max(worst, ratio)
                continue
            want, want_lse = block_sparse_attention(
                *(y.double() for y in x[:3]), ids, block_size=block_size,
                return_lse=True, impl="reference",
            )  # fmt: skip
            torch.testing.assert_close(lse, want_lse.float(), atol=3e-5, rtol=3e-5)
            ours, theirs = error(out, want), error(theirs, want)
            need(ours <= 2 * theirs, f"error {ours} against {theirs} of SDPA")
            worst = max(worst, ours / theirs)
        return {"passed": True, "error_ratio": worst}

    def prepare(self):
        about = self.about()
        for name, m in TIMED.items():
            count = min(max(L2_BYTES // (m * D * 2), 1), 16)
            sets = [self.inputs("general", 1, m, H_KV, H_Q // H_KV) for _ in range(count)]
            self.work[name] = sets
            about[f"dense {name}"] = self.fastest(
                lambda backend, sets=sets: helpers.graph_us(
                    [lambda x=x: self.dense(*x[:3], backend, False) for x in sets]
                )
            )
        *_, q_idx, k_idx = self.work["1M"][0]
        recall = code_recall(q_idx, k_idx, n_selected=SEL, block_size=BLOCK)
        return about | {"recall of codes on noise, 1M": recall.item()}

    def time(self, plan):
        row = {}
        for name, sets in self.work.items():
            if plan.startswith("codes"):
                sets = [(*x[:4], index_codes(x[4], unit=1.0)) for x in sets]
            row[name] = helpers.graph_us([lambda x=x: self.run(plan, *x) for x in sets])
        return row


class Backward(Part):
    candidates = ("general", "hopper", *(
        f"hopper, {name}" for name, tile in EDGES.items() if tile != edge_kernels.TILE
    ))  # fmt: skip

    def forward(self, plan, q, k, v, blocks, block_size, impl=None):
        """Leaves, output and log-sum-exp."""
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        return leaves, block_sparse_attention(
            *leaves, blocks, block_size=block_size, return_lse=True,
            impl=impl or self.impl, plan=plan, validate=False,
        )  # fmt: skip

    def check(self, plan):
        plan, taken = candidate(plan, EDGES, edge_kernels, "TILE")
        with taken:
            return self.checked(plan)

    def checked(self, plan):
        worst = 0.0
        for b, n, m, h_kv, group, d, block_size in self.shapes():
            q, dout = (self.normal(b, n, h_kv * group, d) for _ in range(2))
            k, v = (self.cache(b, m, h_kv, d) for _ in range(2))
            blocks = self.blocks(b, n, m, h_kv, block_size)
            dlse = torch.randn(q.shape[:3], generator=self.draw, device=self.device)

            def gradients(
                q, k, v, plan, impl=None, rest=(blocks, block_size), dout=dout, dlse=dlse
            ):
                leaves, (out, lse) = self.forward(plan, q, k, v, *rest, impl)
                loss = (out * dout.to(out.dtype)).sum()
                loss = loss + (lse.masked_fill(lse.isneginf(), 0) * dlse).sum()
                return torch.autograd.grad(loss, leaves)

            got = self.twice(lambda x=(q, k, v), f=gradients: f(*x, plan))
            want = gradients(q.double(), k.double(), v.double(), None, "reference")
            errors = [error(a, c) for a, c in zip(got, want, strict=True)]
            need(max(errors) < 8e-3, f"errors {errors}")
            worst = max(worst, *errors)
        return {"passed": True, "error": worst}

    def prepare(self):
        about, n = self.about(), 32768
        x = [self.normal(1, n, h, D) for h in (H_Q, H_KV, H_KV)]
        self.dout = self.normal(1, n, H_Q, D)
        leaves = [y.detach().requires_grad_() for y in x]
        about["dense 32K"] = self.fastest(
            lambda backend: self.back(leaves, self.dense(*leaves, backend, True))
        )
        for kind in ("near", "random"):
            self.work[f"{kind} 32K"] = (*x, getattr(self, kind)(n, n))
        return about

    def back(self, leaves, out) -> float:
        return self.median(
            lambda: torch.autograd.grad(out, leaves, self.dout, retain_graph=True), 3
        )

    def time(self, plan):
        plan, taken = candidate(plan, EDGES, edge_kernels, "TILE")
        with taken:
            return self.timed(plan)

    def timed(self, plan):
        row = {}
        for name, x in self.work.items():
            leaves, (out, _) = self.forward(plan, *x, BLOCK)
            row[name] = self.back(leaves, out)
            row[f"peak {name}"] = self.peak(
                lambda leaves=leaves, out=out: torch.autograd.grad(
                    out, leaves, self.dout, retain_graph=True
                )
            )
        return row
