"""Decoding and the backward pass, for `kernel_ladder.py`."""

import contextlib

import helpers
import torch
from kernel_candidates import backward_launch, decode_launch
from ladder_base import (
    BLOCK,
    DENSE,
    H_KV,
    H_Q,
    L2_BYTES,
    SEL,
    D,
    Part,
    error,
    need,
    rounded8,
    settings,
)  # fmt: skip

from intuitive.kernels import block_sparse_attention, score_and_select
from intuitive.kernels.block_sparse_attention.triton_backward import attend_backward

STEPS = """
pdl=False
merge=False
merge=False pdl=False
part_keys=64
part_keys=64 merge=False
attend_warps=8
attend_warps=8 merged=8
tma=True
tma=True stages=4
tma=True stages=2
stages=4
stages=2
programs=264
programs=132 stages=4
programs=792
programs=1188
programs=264 tma=True stages=4
warps=8
warps=8 programs=264
keys=256 stages=2
keys=256 stages=3 programs=264
programs=792 stages=2
attend_warps=8 part_keys=64
fp8=True
fp8=True tma=True
fp8=True stages=4
fp8=True keys=256
fp8=True tma=True keys=256
fp8=True programs=792
fp8=True warps=8
"""
DQ = """
tma=False
reg=False
reg=False stages=3
queries=8 warps=8
queries=8 warps=8 reg=False
keys=32 stages=3
queries=8 warps=8 keys=128 reg=False
stages=3
"""
DKV = """
keys=128 warps=8
keys=128 warps=8 stages=3
queries=2 reg=True
queries=2 keys=128 warps=8 reg=True
queries=2
queries=2 keys=128 warps=8
stages=3
keys=128 warps=8 longest=1024
keys=128 warps=8 longest=16384
queries=8 keys=128 warps=8
"""
PLAIN = {
    "dq": {"queries": 4, "keys": 64, "warps": 4, "stages": 2, "reg": True, "tma": True},
    "dkv": {"queries": 4, "keys": 64, "warps": 4, "stages": 2, "reg": False, "longest": 4096},
}
SMALL = ("as is", "dq", "dkv queries=2")


class Decode(Part):
    @staticmethod
    def candidates(small):
        if small:  # the interpreter has no launch that begins before the one before it ends
            return {"as is": None} | settings("pdl=False\nmerge=False pdl=False")
        return {"as is": None, "two launches": {}} | settings(STEPS)

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
        q, q_idx = (self.normal(b, 1, h, D) for h in (h_kv * group, h_kv))
        k, v = (self.normal(b, m, h_kv, D) for _ in range(2))
        return q, k, v, q_idx, rounded8(k_idx, False) if fp8 else k_idx

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
                steps = [
                    lambda x=x, bk=backend: self.dense(*x[:3], bk, False) for x in self.work[name]
                ]
                with contextlib.suppress(RuntimeError):
                    times.append(helpers.graph_us(steps))
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
        every = {"as is": None, "dq": {"dq": {}}}
        for part, table in (("dq", DQ), ("dkv", DKV)):
            every |= {f"{part} {name}": {part: kw} for name, kw in settings(table).items()}
        return {name: kw for name, kw in every.items() if not small or name in SMALL}

    def run(self, kw, dout, dlse, q, k, v, out, lse, blocks):
        if kw is None:
            return attend_backward(dout, dlse, q, k, v, out, lse, blocks, BLOCK, D**-0.5)
        dq, dkv = ({**plain, **kw.get(name, {})} for name, plain in PLAIN.items())
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
