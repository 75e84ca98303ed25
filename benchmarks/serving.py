"""Batches as servers have them: unequal prompts packed, and decoding from pages.

    python benchmarks/serving.py --device cuda --seconds 40 --commit HASH --out OUT/serving.json
    TRITON_INTERPRET=1 python benchmarks/serving.py --small --out OUT/serving.json
    python benchmarks/serving.py --table          Markdown of the committed run, for docs/kernels.md

One layer at the paper's sizes in bfloat16, near selections. Checks come first: every sequence of
a packed batch, of a paged prefill and of a decode step against the kernels of one sequence, and
its attention against float64. Then times in one run: eight prompts of 64K tokens in all, against a
loop over the kernels of one sequence and against dense attention; sixteen sequences that decode at
2K to 128K tokens in one captured graph, against the same with a cache and against dense attention.
What begins after the seconds given is left out and named. `--small` checks and times nothing.
"""

import argparse
import dataclasses
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import helpers
import torch
import triton
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common import records
from intuitive.common.runtime import device_name, seeded
from intuitive.kernels import (
    attend_varlen,
    block_sparse_attention,
    score_and_select,
    select_varlen,
)

RESULT = helpers.RESULTS / "serving.json"
DENSE = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run."""

    h_q: int = 64
    h_kv: int = 4
    d: int = 128
    block_size: int = 128
    page: int = 128
    n_selected: int = 16
    checked: tuple[tuple[int, int], ...] = ((300, 1500), (1, 2100), (0, 64), (77, 77), (2, 4001))
    prompts: tuple[int, ...] = (1000, 2077, 3001, 4160, 6155, 9203, 13300, 26640)
    caches: tuple[int, ...] = (
        2048, 2500, 3001, 4096, 6000, 8192, 10007, 16384,
        16400, 20000, 32768, 33000, 50001, 65536, 100003, 131072,
    )  # fmt: skip
    seed: int = 0


SMALL = Plan(h_q=4, h_kv=2, d=64, block_size=16, page=32, n_selected=2, checked=((3, 40), (1, 70)))


def starts(lengths: list[int], device: torch.device) -> Tensor:
    return F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int().to(device)


def error(got: Tensor, want: Tensor) -> float:
    """Relative RMS error; NaN never passes a comparison."""
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


class Bench:
    """One run."""

    def __init__(self, plan: Plan, device: torch.device, option: argparse.Namespace) -> None:
        self.plan, self.device, self.option = plan, device, option
        self.until = time.perf_counter() + option.seconds
        self.draw = seeded(plan.seed, device)
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float16
        self.rule = {"n_selected": plan.n_selected, "block_size": plan.block_size}
        self.impl = {"impl": "auto" if device.type == "cuda" else "triton"}
        self.values: dict = {"checks": {}, "times": {}, "skipped": []}

    def normal(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.device).normal_(generator=self.draw).to(self.dtype)

    def keys(self, m: int) -> list[Tensor]:
        p = self.plan
        return [self.normal(m, *rest) for rest in ((p.h_kv, p.d), (p.h_kv, p.d), (p.d,))]

    def queries(self, n: int) -> tuple[Tensor, Tensor]:
        return self.normal(n, self.plan.h_q, self.plan.d), self.normal(
            n, self.plan.h_kv, self.plan.d
        )

    def paged(self, each: list[list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """A table of pages in random order, and what lies in them; NaN elsewhere."""
        page = self.plan.page
        counts = [-(-len(k) // page) for k, _, _ in each]
        order = torch.randperm(sum(counts) + 8, generator=self.draw, device=self.device)
        table = torch.full((len(each), max(counts)), -1, dtype=torch.int32, device=self.device)
        held = [x.new_full((len(order), page, *x.shape[1:]), float("nan")) for x in each[0]]
        used = 0
        for seq, (count, tensors) in enumerate(zip(counts, each, strict=True)):
            mine = order[used : used + count]
            table[seq, :count], used = mine.int(), used + count
            key = torch.arange(len(tensors[0]), device=self.device)
            for whole, x in zip(held, tensors, strict=True):
                whole[mine[key // page], key % page] = x
        return table, held

    # ------------------------------------------------------------------------- checks

    def check(self) -> None:
        """Packed, paged and decoded batches against one sequence at a time; all must agree."""
        lengths = self.plan.checked
        each = [self.keys(m) for _, m in lengths]
        q, q_idx = self.queries(sum(n for n, _ in lengths))
        table, pages = self.paged(each)
        lens = torch.tensor([m for _, m in lengths], device=self.device).int()
        packed = {"cu_seqlens_k": starts([m for _, m in lengths], self.device)}
        in_pages = {"seq_lens": lens, "block_table": table}
        cu_q = {"cu_seqlens_q": starts([n for n, _ in lengths], self.device)}
        flat = [torch.cat(x) for x in zip(*each, strict=True)]
        one = [x[: len(lengths)].contiguous() for x in (q, q_idx)]
        for name, queries, keys, where, ns in (
            ("packed prefill", (q, q_idx), flat, packed | cu_q, [n for n, _ in lengths]),
            ("paged prefill", (q, q_idx), pages, in_pages | cu_q, [n for n, _ in lengths]),
            ("paged decode", one, pages, in_pages, [1] * len(lengths)),
        ):
            self.values["checks"][name] = self.compared(queries, keys, where, ns, each)
            self.save()

    def compared(self, queries, keys, where, ns, each) -> dict[str, float]:
        """Blocks that agree, and the worst error over that of a cast float64 result."""
        q, q_idx = queries
        k, v, k_idx = keys
        ids = select_varlen(q_idx, k_idx, **where, **self.rule, **self.impl)
        attend = {"block_size": self.plan.block_size, **self.impl}
        out = attend_varlen(q, k, v, ids, **where, **attend)
        again = attend_varlen(q, k, v, ids, **where, **attend)
        agreed, ours, single, first = [], [], [], 0
        for n, (ks, vs, ks_idx) in zip(ns, each, strict=True):
            part = slice(first, first + n)
            first += n
            if n == 0:
                continue
            found = score_and_select(q_idx[None, part], ks_idx[None], **self.rule, **self.impl)
            agreed.append((found[0] == ids[part]).float().mean().item())
            x = (q[None, part], ks[None], vs[None])
            want = block_sparse_attention(
                *(y.double() for y in x), ids[None, part],
                block_size=self.plan.block_size, impl="reference",
            )[0]  # fmt: skip
            loop = block_sparse_attention(*x, ids[None, part], **attend)[0]
            ours.append(error(out[part], want))
            single.append(error(loop, want))
        worst = max(a / b for a, b in zip(ours, single, strict=True))
        row = {"same_blocks": min(agreed), "error": max(ours), "over_one_sequence": worst}
        if not (torch.equal(out, again) and worst <= 2 and row["same_blocks"] > 0.99):
            raise RuntimeError(f"a batch differs from its sequences: {row}")
        return row

    # -------------------------------------------------------------------------- times

    def timed(self, group: str, name: str, measure: Callable[[], float]) -> None:
        """Keep a time, or why there is none."""
        if time.perf_counter() > self.until:
            self.values["skipped"].append(f"{group}: {name}")
            return
        row = self.values["times"].setdefault(group, {})
        try:
            row[name] = measure()
        except (RuntimeError, TypeError, ImportError, ValueError) as fault:
            row[f"{name} does not run"] = " ".join(str(fault).split())[:200]
        self.save()
        print(f"{group:15} {name:32} {row.get(name, 'does not run')}", flush=True)

    def prefill(self) -> None:
        import kernels as timed  # benchmarks/kernels.py

        lengths = list(self.plan.prompts)
        total, most = sum(lengths), max(lengths)
        q, q_idx = self.queries(total)
        k, v, k_idx = self.keys(total)
        cu = starts(lengths, self.device)
        where = {"cu_seqlens_q": cu, "cu_seqlens_k": cu, "max_seqlen_k": most}
        blocks = [timed.near_blocks(n, n, self.draw)[0] for n in lengths]
        ids = torch.cat(blocks)
        table, pages = self.paged([list(x) for x in zip(
            *(y.split(lengths) for y in (k, v, k_idx)), strict=True)])  # fmt: skip
        lens = torch.tensor(lengths, device=self.device).int()
        in_pages = {"cu_seqlens_q": cu, "seq_lens": lens, "block_table": table}
        cut = [[x[None] for x in y.split(lengths)] for y in (q, k, v, q_idx, k_idx)]
        size = {"block_size": self.plan.block_size}

        def select(k_idx, where):
            return lambda: select_varlen(q_idx, k_idx, **where, **self.rule)

        def attend(k, v, where, plan=None):
            return lambda: attend_varlen(q, k, v, ids, **where, **size, plan=plan)

        def select_loop():
            return [score_and_select(a, b, **self.rule) for a, b in zip(*cut[3:], strict=True)]

        def attend_loop():
            return [
                block_sparse_attention(*x, y[None], **size)
                for *x, y in zip(*cut[:3], blocks, strict=True)
            ]

        def dense_loop(backend):
            def run():
                with sdpa_kernel(DENSE[backend]):
                    return [self.dense(*x, is_causal=True) for x in zip(*cut[:3], strict=True)]

            return run

        def dense_varlen():
            from torch.nn.attention.varlen import varlen_attn

            given = {"enable_gqa": True, "window_size": (-1, 0)}
            return varlen_attn(q, k, v, cu, cu, most, most, **given)

        for name, run in (
            ("select packed", select(k_idx, where)),
            ("attend packed", attend(k, v, where)),
            ("select in a loop", select_loop),
            ("attend in a loop", attend_loop),
            ("select from pages", select(pages[2], in_pages)),
            ("attend from pages", attend(pages[0], pages[1], in_pages)),
            *((f"dense in a loop, {backend}", dense_loop(backend)) for backend in DENSE),
            ("dense, varlen_attn", dense_varlen),
            ("attend packed, general", attend(k, v, where, "general")),
        ):
            self.timed("prefill, ms", name, lambda run=run: helpers.median_ms(run, repeats=3))

    @staticmethod
    def dense(q, k, v, **options):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options)

    def decode(self) -> None:
        lengths = list(self.plan.caches)
        b, most = len(lengths), max(lengths)
        q, q_idx = self.queries(b)
        each = [self.keys(m) for m in lengths]
        lens = torch.tensor(lengths, device=self.device).int()
        table, pages = self.paged(each)
        cache = [x.new_zeros((b, most, *x.shape[1:])) for x in each[0]]
        for seq, tensors in enumerate(each):
            for whole, x in zip(cache, tensors, strict=True):
                whole[seq, : len(x)] = x
        mask = torch.arange(most, device=self.device) < lens[:, None]
        size = {"block_size": self.plan.block_size}

        def step(keys, where, plan=None):
            def run():
                ids = select_varlen(q_idx, keys[2], **where, **self.rule, plan=plan)
                return attend_varlen(q, *keys[:2], ids, **where, **size, plan=plan)

            return run

        def select(keys, where):
            return lambda: select_varlen(q_idx, keys[2], **where, **self.rule)

        def step_loop():
            for i, (k, v, k_idx) in enumerate(each):
                ids = score_and_select(q_idx[None, i : i + 1], k_idx[None], **self.rule)
                block_sparse_attention(q[None, i : i + 1], k[None], v[None], ids, **size)

        def dense_loop(backend):
            def run():
                with sdpa_kernel(DENSE[backend]):
                    return [
                        self.dense(q[None, i : i + 1], k[None], v[None])
                        for i, (k, v, _) in enumerate(each)
                    ]

            return run

        def dense_masked():
            with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
                return self.dense(q[:, None], *cache[:2], attn_mask=mask[:, None, None])

        ones = torch.arange(b + 1, device=self.device).int()

        def dense_pages():
            from torch.nn.attention.varlen import varlen_attn

            given = {"enable_gqa": True, "seqused_k": lens, "block_table": table}
            return varlen_attn(q, *pages[:2], ones, None, 1, most, **given)

        in_pages = {"seq_lens": lens, "block_table": table, "max_seqlen_k": most}
        in_cache = {"seq_lens": lens, "max_seqlen_k": most}
        for name, run in (
            ("from pages", step(pages, in_pages)),
            ("select from pages", select(pages, in_pages)),
            ("from a cache", step(cache, in_cache)),
            ("in a loop", step_loop),
            *((f"dense in a loop, {backend}", dense_loop(backend)) for backend in DENSE),
        ):
            self.timed("decode, µs", name, lambda run=run: helpers.graph_us([run]))
        for name, run in (
            ("dense from pages, varlen_attn", dense_pages),
            ("dense, masked cache", dense_masked),
        ):
            self.timed("decode, µs", name, lambda run=run: helpers.graph_us([run]))

    def run(self) -> None:
        with torch.no_grad():
            self.check()
            print(self.values["checks"], flush=True)
            if self.option.small:
                return
            torch.cuda.empty_cache()
            self.prefill()
            torch.cuda.empty_cache()
            self.decode()

    def save(self) -> None:
        records.save(
            self.option.out,
            helpers.rounded(self.values, digits=5),
            config=self.plan,
            device=device_name(self.device),
            commit=self.option.commit,
            seed=self.plan.seed,
            versions={
                "python": platform.python_version(), "torch": torch.__version__,
                "triton": triton.__version__, "cuda": torch.version.cuda or "none",
            },
        )  # fmt: skip


def fastest_dense(row: dict) -> float:
    return min(t for name, t in row.items() if name.startswith("dense") and not _fault(name))


def _fault(name: str) -> bool:
    return name.endswith("does not run")


def table(values: dict) -> str:
    """The committed times as Markdown."""
    prefill, decode = values["times"]["prefill, ms"], values["times"]["decode, µs"]
    lines = ["| step | ours | dense | ratio |", "| --- | --- | --- | --- |"]
    rows = []
    for way in ("packed", "from pages", "in a loop"):
        ours = prefill[f"select {way}"] + prefill[f"attend {way}"]
        rows.append((f"prefill of 64K tokens, {way}, ms", ours, prefill))
    for way in ("from pages", "from a cache", "in a loop"):
        rows.append((f"decode of 16, {way}, µs", decode[way], decode))
    for name, ours, row in rows:
        dense = fastest_dense(row)
        lines.append(f"| {name} | {ours:.3g} | {dense:.3g} | {dense / ours:.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=40, help="after which no time is begun")
    parser.add_argument("--small", action="store_true", help="check small sizes, time nothing")
    parser.add_argument("--table", action="store_true", help="print the table of --out")
    option = parser.parse_args()
    if option.table:
        print(table(records.load(option.out)[0]))
        return 0
    bench = Bench(SMALL if option.small else Plan(), torch.device(option.device), option)
    bench.run()
    return len(bench.values["skipped"])


if __name__ == "__main__":
    sys.exit(main())
