"""The work that `lsa_kernels.py` times: its tensors, and steps that read others each time."""

import math
from functools import partial

import torch
from chunk_checks import stored_rows
from lsa_plan import (
    CELL_BYTES,
    COLD_BYTES,
    CSA_LAYERS,
    D_CELL,
    D_INDEX,
    H_CELL,
    KINDS,
    ROW_BYTES,
    WINDOW,
    Plan,
)
from torch import Tensor
from torch.nn import functional as F

from intuitive.common.runtime import seeded
from intuitive.kernels import cell_attention, copy_cells, dispatch, pack_cells, score_chunks


class Work:
    """Steps over the sizes of a plan, on one device."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self.gpu = device.type == "cuda"
        self.impl = "triton" if not self.gpu and dispatch.interpreting() else "auto"
        self.cold = COLD_BYTES if self.gpu else 1

    def normal(self, *shape: int, seed: int) -> Tensor:
        """Noise in bfloat16, float16 on a CPU."""
        dtype = torch.bfloat16 if self.gpu else torch.float16
        draw = seeded(self.plan.seed + seed, self.device)
        return torch.empty(shape, device=self.device, dtype=dtype).normal_(generator=draw)

    def stores(self, kind: str) -> tuple[Tensor, int]:
        """Keys for at least the cold bytes, in rows or in bfloat16, and bytes of one chunk."""
        width = ROW_BYTES if kind == "rows" else 2 * D_INDEX
        n = max(self.plan.chunks)
        n *= max(math.ceil(self.cold / (n * width)), 1)
        keys = self.normal(n, D_INDEX, seed=3)
        if kind == "rows":
            scales = torch.rand(n, generator=seeded(4, self.device), device=self.device) + 0.5
            keys = stored_rows((keys * 50).to(torch.float8_e4m3fn), scales)
        return keys, width

    def score_steps(self, keys: Tensor, chunks: int, heads: int, kind: str, limit: int = 10**9):
        """One step for each stretch of `chunks` keys, and the same in plain torch."""
        stored, round_q = KINDS[kind]
        count = max(min(len(keys) // chunks, limit), 1)
        sets = [keys[i * chunks : (i + 1) * chunks] for i in range(count)]
        q = self.normal(1, heads, D_INDEX, seed=5)
        weights = self.normal(1, heads, seed=6).float() / heads

        def fused(part: Tensor) -> Tensor:
            part = part if stored == "rows" else part[None]
            return score_chunks(q, weights, part, round_q=round_q, impl=self.impl)

        def plain(part: Tensor) -> Tensor:
            k, scales = part, None
            if stored == "rows":
                k = part[:, :D_INDEX].view(torch.float8_e4m3fn).to(q.dtype)
                scales = part[:, D_INDEX:].view(torch.float32)[:, 0]
            logits = (weights[0].to(q.dtype) @ (q[0] @ k.T).relu()).float()
            return logits if scales is None else logits * scales

        return [lambda x=x: fused(x) for x in sets], [lambda x=x: plain(x) for x in sets]

    def attention_steps(self, b: int, k: int, packed: bool):
        """Steps that read different cells of a pool, and the same in plain torch."""
        plan = self.plan
        pool = self.normal(plan.cells, D_CELL, seed=8)
        width = CELL_BYTES if packed else 2 * D_CELL
        cells = pack_cells(pool) if packed else pool
        count = max(min(math.ceil(self.cold / (b * k * width)), 400), 1)
        draw = {"generator": seeded(9, self.device), "device": self.device}
        q, window = (self.normal(b, n, D_CELL, seed=10 + n) for n in (H_CELL, WINDOW))
        sinks = self.normal(H_CELL, seed=11).float()
        slots = [torch.randint(plan.cells, (b, k), **draw).int() for _ in range(count)]

        def fused(chosen: Tensor) -> Tensor:
            return cell_attention(q, cells, chosen, window, sinks, impl=self.impl)

        def plain(chosen: Tensor) -> Tensor:
            kv = torch.cat((pool[chosen.long()], window), dim=1)  # [b, k + w, d]
            s = torch.cat(
                (q @ kv.mT * D_CELL**-0.5, sinks.to(q.dtype)[None, :, None].expand(b, -1, 1)), -1
            )
            return s.softmax(-1)[..., :-1] @ kv

        def sdpa(chosen: Tensor) -> Tensor:
            kv = torch.cat((pool[chosen.long()], window), dim=1)[:, None]
            return F.scaled_dot_product_attention(q[:, None], kv, kv)  # heads as queries, no sink

        return [[lambda c=c, run=run: run(c) for c in slots] for run in (fused, plain, sdpa)]

    def copy_setup(self, host: bool):
        """Source and target of one cell of all layers a row, which views split by layer."""
        n = self.plan.cells // CSA_LAYERS * 2 if self.gpu else self.plan.cells
        width = CELL_BYTES * CSA_LAYERS
        place = "cpu" if host else self.device
        source = torch.zeros(n, width, dtype=torch.uint8, device=place, pin_memory=host)
        return source, torch.zeros(n, width, dtype=torch.uint8, device=self.device)

    def copy_steps(self, source: Tensor, target: Tensor, chunks: int, by_layer: bool):
        """Copies of so many chunks, each of others, and the bytes of one.

        A chunk is one row of 584 bytes for each layer, or one long row for all.
        """
        if by_layer:
            source, target = (x.view(-1, CELL_BYTES) for x in (source, target))
            chunks *= CSA_LAYERS
        draw = seeded(12)
        rows, cells = (
            torch.randperm(len(x), generator=draw).to(self.device) for x in (source, target)
        )

        def run(start: int, impl: str = self.impl) -> None:
            part = slice(start, start + chunks)
            copy_cells(source, target, rows[part], cells[part], impl=impl)

        starts = range(0, len(rows) - chunks + 1, chunks)[:16]
        return [partial(run, start) for start in starts], chunks * source.shape[1]
