"""The layers of a decoder: norm, feed-forward, rotary positions and plain attention.

Source: Touvron et al. 2023, arXiv:2302.13971 (RMSNorm, SwiGLU, RoPE); Ainslie et al. 2023,
arXiv:2305.13245 (GQA).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .cache import LayerCache, TensorCache
from .config import DecoderConfig
from .place import Now, attend_fixed
from .probe import Probe
from .rotary import rotate


def causal_mask(n: int, m: int, device: torch.device | str = "cpu") -> Bool[Tensor, "n m"]:
    """True where query i of the last n tokens may read key j of all m: j <= m - n + i."""
    return torch.ones(n, m, dtype=torch.bool, device=device).tril(m - n)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, computed in float32 or wider.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(x.dtype) * self.weight


def normed(norm: nn.Module, x: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
    """What the norm makes of x, in two kernels instead of eight."""
    if type(norm) is not RMSNorm:
        return norm(x)
    return F.rms_norm(x, x.shape[-1:], eps=norm.eps) * norm.weight


class SwiGLU(nn.Module):
    """w_down(silu(w_gate x) * w_up x).

    Source: Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.w_gate = nn.Linear(d_model, d_ff, bias=False)
        self.w_up = nn.Linear(d_model, d_ff, bias=False)
        self.w_down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Float[Tensor, "b n d_model"]) -> Float[Tensor, "b n d_model"]:
        return self.w_down(F.silu(self.w_gate(x)) * self.w_up(x))


class DenseAttention(nn.Module):
    """Causal softmax attention with grouped key/value heads (GQA).

    The parts are separate so that another kind can reuse them: `project` makes queries, keys and
    values; `attend` reads; `output` mixes the heads.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        q_size, kv_size = config.n_q_heads * config.d_head, config.n_kv_heads * config.d_head
        self.w_q = nn.Linear(config.d_model, q_size, bias=False)
        self.w_k = nn.Linear(config.d_model, kv_size, bias=False)
        self.w_v = nn.Linear(config.d_model, kv_size, bias=False)
        self.w_o = nn.Linear(q_size, config.d_model, bias=False)

    def project(
        self, hidden: Float[Tensor, "b n d_model"], positions: Int[Tensor, "b n"]
    ) -> tuple[
        Float[Tensor, "b n h_q d"], Float[Tensor, "b n h_kv d"], Float[Tensor, "b n h_kv d"]
    ]:
        """Queries, keys and values of the new tokens, RoPE applied where the config says so."""
        d = self.config.d_head
        q, k, v = (w(hidden).unflatten(-1, (-1, d)) for w in (self.w_q, self.w_k, self.w_v))
        if self.config.positions == "rope":
            q, k = (rotate(x, positions, self.config.rope_base) for x in (q, k))
        return q, k, v

    def attend(
        self,
        q: Float[Tensor, "b n h_q d"],
        k: Float[Tensor, "b m h_kv d"],
        v: Float[Tensor, "b m h_kv d"],
    ) -> Float[Tensor, "b n h_q d"]:
        """Softmax attention of the last n of m tokens, scaled by 1/sqrt(d)."""
        n, m = q.shape[1], k.shape[1]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [b, h, n, d]
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if n in (1, m) else causal_mask(n, m, q.device),
            is_causal=n == m,
            enable_gqa=self.config.group_size > 1,
        )
        return attended.transpose(1, 2)

    def output(self, attended: Float[Tensor, "b n h_q d"]) -> Float[Tensor, "b n d_model"]:
        """Mix the heads back into the width of the residual stream."""
        return self.w_o(attended.flatten(-2))

    def make_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> TensorCache:
        """An empty cache of keys and values for `batch` rows of up to `capacity` tokens."""
        entry = (self.config.n_kv_heads, self.config.d_head)
        return TensorCache(batch, capacity, {"keys": entry, "values": entry}, device, dtype)

    def forward(
        self,
        hidden: Float[Tensor, "b n d_model"],
        positions: Int[Tensor, "b n"],
        *,
        cache: LayerCache | None = None,
        probe: Probe | None = None,
    ) -> Float[Tensor, "b n d_model"]:
        q, k, v = self.project(hidden, positions)
        if cache is not None:
            held = cache.append(keys=k, values=v)
            k, v = held["keys"], held["values"]
        if probe is not None:
            probe.see(hidden, q, k, v)
        return self.output(self.attend(q, k, v))

    def step(
        self, hidden: Float[Tensor, "b 1 d_model"], now: Now, cache: TensorCache
    ) -> Float[Tensor, "b 1 d_model"]:
        """What `forward` does for one new token, in shapes that do not depend on its place.

        Args:
            hidden: as in `forward`.
            now: the new token's place, a tensor, and what follows from it.
            cache: of this layer; read up to `now.limit`.
        """
        d = self.config.d_head
        q, k, v = (w(hidden).unflatten(-1, (-1, d)) for w in (self.w_q, self.w_k, self.w_v))
        q, k = now.turned(q, k)
        held = cache.put(now.place, keys=k, values=v)
        k, v = (held[name][:, : now.limit].transpose(1, 2) for name in ("keys", "values"))
        return self.output(attend_fixed(q, k, v, now.hidden_keys))


class DecoderLayer(nn.Module):
    """hidden += attention(norm(hidden)); hidden += mlp(norm(hidden))."""

    def __init__(self, config: DecoderConfig, attention: nn.Module) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = attention
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGLU(config.d_model, config.d_ff)

    def forward(
        self,
        hidden: Float[Tensor, "b n d_model"],
        positions: Int[Tensor, "b n"],
        *,
        cache: LayerCache | None = None,
        probe: Probe | None = None,
    ) -> Float[Tensor, "b n d_model"]:
        hidden = hidden + self.attention(
            self.attention_norm(hidden), positions, cache=cache, probe=probe
        )
        return hidden + self.mlp(self.mlp_norm(hidden))
