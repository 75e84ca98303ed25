"""What all parts of `kernel_ladder.py` share: inputs, noise, poison, the dense baseline."""

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
SPARE = 300  # tokens that a cache holds beyond its length, all NaN
#   b, n, m, h_kv, group, d, block_size: ragged lengths, groups of any width up to 16
SHAPES = [
    (1, 77, 1000, 2, 16, 128, 128),
    (2, 130, 2500, 3, 16, 128, 128),
    (1, 33, 4001, 4, 16, 128, 128),
    (2, 9, 700, 1, 5, 128, 128),
    (1, 50, 901, 2, 3, 64, 64),
]


def error(got: Tensor, want: Tensor) -> float:
    """Relative RMS error; NaN never passes a comparison."""
    return ((got.double() - want).norm() / want.norm()).item()


def need(good: bool, what: str) -> None:
    if not good:
        raise RuntimeError(what)


class Part:
    """One operation: `check` a candidate against float64, `prepare` the inputs, `time` it."""

    candidates: tuple[str, ...] = ()

    def __init__(self, device: str, small: bool) -> None:
        self.device, self.small = torch.device(device), small
        self.gpu = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if self.gpu else torch.float16
        self.seed = time.time_ns() % 2**31  # fresh inputs on every run
        self.draw = torch.Generator(self.device).manual_seed(self.seed)
        self.impl = "auto" if self.gpu else "triton"
        self.work: dict = {}

    def shapes(self):
        return [(1, 5, 300, 1, 16, 128, 128)] if self.small else SHAPES

    def normal(self, *shape: int) -> Tensor:
        drawn = torch.empty(
            shape, device=self.device, dtype=self.dtype if self.gpu else torch.float32
        )
        return drawn.normal_(generator=self.draw).to(self.dtype)

    def cache(self, b: int, m: int, *rest: int) -> Tensor:
        """Noise [b, m, ...] in a longer cache."""
        whole = self.normal(b, m + SPARE, *rest)
        whole[:, m:] = float("nan")
        return whole[:, :m]

    def poison(self) -> None:
        """Fill freed memory with NaN, so that reading what nobody wrote shows."""
        if not self.gpu:
            return
        torch.cuda.synchronize()
        held = [torch.full((2**26,), float("nan"), device="cuda")]
        for size in (8, 10, 12, 14, 16, 18, 20):
            held += [torch.full((2**size,), float("nan"), device="cuda") for _ in range(24)]
        del held

    def twice(self, run):
        """The result of a call on poisoned memory, which a second call must repeat bit by bit."""
        self.poison()
        got = run()
        for a, b in zip(got, run(), strict=True):
            need(torch.equal(a, b), "two runs differ")
        return got

    def median(self, run, repeats=5) -> float:
        """ms of one call."""
        return helpers.median_ms(run, repeats)

    def peak(self, run) -> int:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

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

    def fastest(self, measure) -> float:
        """The least time over SDPA's backends, of those that run."""
        times = []
        for backend in DENSE:
            with contextlib.suppress(RuntimeError):
                times.append(measure(backend))
        return min(times, default=float("nan"))

    def blocks(self, b, n, m, h_kv, block_size, n_selected=SEL, empty=0.2) -> Tensor:
        """Distinct visible blocks in random order, some slots empty."""
        n_blk = -(-m // block_size)
        visible = torch.arange(m - n, m, device=self.device) // block_size + 1
        order = torch.rand(b, n, h_kv, n_blk, generator=self.draw, device=self.device)
        hidden = torch.arange(n_blk, device=self.device) >= visible[:, None, None]
        score, block = order.masked_fill(hidden, 2.0).sort(dim=-1)
        drop = torch.rand(score.shape, generator=self.draw, device=self.device) < empty
        block = torch.where((score > 1) | drop, -1, block)[..., :n_selected]
        return F.pad(block, (0, n_selected - block.shape[-1]), value=-1).int().contiguous()

    def gathered_sdpa(self, q, k, v, block_idx, block_size, dtype=None):
        """Dense attention over the tokens of each row's blocks, in this dtype or that of q.

        In q's own it has the error that is allowed.
        """
        dtype = dtype or q.dtype
        (b, n, h_q, d), (_, m, h_kv, _) = q.shape, k.shape
        block_idx = block_idx[..., : -(-m // block_size)]
        token = block_idx.long()[..., None] * block_size
        token = token + torch.arange(block_size, device=q.device)
        position = torch.arange(m - n, m, device=q.device)[:, None, None, None]
        reads = (block_idx[..., None] >= 0) & (token <= position) & (token < m)
        token, reads = token.clamp(0, m - 1).flatten(3), reads.flatten(3)
        batch = torch.arange(b, device=q.device)[:, None, None, None]
        head = torch.arange(h_kv, device=q.device)[:, None]
        rows = (b * n * h_kv, 1, -1, d)
        out = F.scaled_dot_product_attention(
            q.reshape(b * n * h_kv, 1, h_q // h_kv, d).to(dtype),
            k[batch, token, head].reshape(rows).to(dtype),
            v[batch, token, head].reshape(rows).to(dtype),
            attn_mask=reads.reshape(b * n * h_kv, 1, 1, -1).expand(-1, 1, h_q // h_kv, -1),
        )
        return out.reshape(q.shape)

    def near(self, n, m) -> Tensor:
        import kernels as timed  # benchmarks/kernels.py

        return timed.near_blocks(n, m, self.draw)

    def random(self, n, m) -> Tensor:
        import kernels as timed

        return timed.random_blocks(n, m, self.draw)
