"""What all parts of `kernel_ladder.py` share: inputs, noise, poison, the dense baseline."""

import ast
import contextlib
import platform
import time

import helpers
import torch
import triton
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common.runtime import device_name

H_Q, H_KV, D, BLOCK, SEL = 64, 4, 128, 128, 16
DENSE = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
L2_BYTES = 256 * 2**20


def error(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want).norm() / want.norm()).item()


def need(good: bool, what: str) -> None:
    if not good:
        raise RuntimeError(what)


def settings(table: str) -> dict[str, dict]:
    """Candidates by name, one a line, such as "keys=128 stages=1"."""
    every = {}
    for line in table.strip().splitlines():
        pairs = (pair.split("=") for pair in line.split())
        every[line.strip()] = {name: ast.literal_eval(value) for name, value in pairs}
    return every


def rounded8(x: Tensor, each: bool) -> Tensor:
    """e4m3 codes; each row is first divided by a power of two, which no order of scores feels."""
    if each:
        top = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-30)
        x = x.float() * torch.exp2(torch.floor(torch.log2(448 / top)))
    return x.float().clamp(-448, 448).to(torch.float8_e4m3fn)


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
        drawn = torch.empty(
            shape, device=self.device, dtype=self.dtype if self.gpu else torch.float32
        )
        return drawn.normal_(generator=self.draw).to(self.dtype)

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
            "versions": {
                "python": platform.python_version(), "torch": torch.__version__,
                "triton": triton.__version__, "cuda": torch.version.cuda or "none",
            },
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
            with contextlib.suppress(RuntimeError):
                times.append(self.median(lambda b=backend: self.dense(q, k, v, b, causal), repeats))
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
