"""What several tables of calls draw."""

import torch
from fuzzing import numbers
from hypothesis import strategies as st

from intuitive.common.decoder import Decoder, DecoderConfig

TINY = DecoderConfig(
    vocab_size=19, d_model=8, n_layers=2, n_q_heads=2, n_kv_heads=1, d_head=4, d_ff=8,
    max_positions=24,
)  # fmt: skip


def tiny_decoder() -> Decoder:
    """A decoder of a few thousand numbers, always the same."""
    decoder = Decoder(TINY, generator=torch.Generator().manual_seed(0))
    return decoder.requires_grad_(False).eval()


def heads(draw, *, most: int = 6) -> dict[str, torch.Tensor]:
    """Queries [n, h_q, d] and keys [m, h_kv, d] of one sequence."""
    n, extra, h_kv, group = (draw(st.integers(1, size)) for size in (most, 4, 2, 3))
    d = draw(st.sampled_from([2, 4]))
    return {
        "q": numbers(draw, n, h_kv * group, d),
        "k": numbers(draw, n + extra - 1, h_kv, d),
    }


def shares(q, k, scale=None) -> torch.Tensor:
    """Causal attention [n, h_q, m] in float64, head by head."""
    (n, h_q, d), (m, h_kv) = q.shape, k.shape[:2]
    out = torch.zeros(n, h_q, m, dtype=torch.float64)
    for i in range(n):
        for h in range(h_q):
            seen = k[: m - n + i + 1, h // (h_q // h_kv)].double()
            scores = seen @ q[i, h].double() * (d**-0.5 if scale is None else float(scale))
            out[i, h, : len(seen)] = scores.softmax(-1)
    return out


def near(*tensors) -> dict[str, float]:
    """How close an answer has to be: as the coarsest dtype of these allows."""
    fine = min((t.dtype.itemsize for t in tensors if t.is_floating_point()), default=4)
    return {"atol": 3e-2, "rtol": 3e-2} if fine < 4 else {"atol": 1e-4, "rtol": 1e-4}
