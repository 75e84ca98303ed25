"""The common decoder's layers with less memory traffic, for timing large models on a GPU.

`quicken` exchanges norms, feed-forward layers and attention of a decoder for ones that share its
weights. They compute the same, up to rounding: a fused norm; the gate's activation in place; RoPE
in the model's own precision, from a table that rows at the same positions share; and attention
over a cache through PyTorch's lower-right causal kernel, which needs no mask in memory.

Differs: RoPE is applied in bfloat16 where the model is; the common layers turn in float32.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right

from intuitive.common.decoder import Decoder, DenseAttention, RMSNorm, SwiGLU


class QuickNorm(nn.Module):
    """RMSNorm in one kernel, with the weight of another norm."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes d"]:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class QuickSwiGLU(nn.Module):
    """SwiGLU that writes over its own gate; not for training."""

    def __init__(self, mlp: SwiGLU) -> None:
        super().__init__()
        self.w_gate, self.w_up, self.w_down = mlp.w_gate, mlp.w_up, mlp.w_down

    def forward(self, x: Float[Tensor, "b n d_model"]) -> Float[Tensor, "b n d_model"]:
        gate = F.silu(self.w_gate(x), inplace=True)
        return self.w_down(gate.mul_(self.w_up(x)))


class QuickAttention(DenseAttention):
    """Dense attention with the weights of another, RoPE in its precision and no mask in memory."""

    def __init__(self, attention: DenseAttention) -> None:
        nn.Module.__init__(self)
        self.config = attention.config
        self.w_q, self.w_k = attention.w_q, attention.w_k
        self.w_v, self.w_o = attention.w_v, attention.w_o

    def project(
        self, hidden: Float[Tensor, "b n d_model"], positions: Int[Tensor, "b n"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        d = self.config.d_head
        q, k, v = (w(hidden).unflatten(-1, (-1, d)) for w in (self.w_q, self.w_k, self.w_v))
        if self.config.positions == "rope":
            if positions.stride(0) == 0:  # the same in every row
                positions = positions[:1]
            wide = torch.promote_types(q.dtype, torch.float32)
            rates = self.config.rope_base ** (
                -torch.arange(0, d, 2, device=q.device, dtype=wide) / d
            )
            angles = positions[..., None, None].to(wide) * rates  # [b or 1, n, 1, d/2]
            cos, sin = angles.cos().to(q.dtype), angles.sin().to(q.dtype)
            q, k = turn(q, cos, sin), turn(k, cos, sin)
        return q, k, v

    def attend(
        self,
        q: Float[Tensor, "b n h_q d"],
        k: Float[Tensor, "b m h_kv d"],
        v: Float[Tensor, "b m h_kv d"],
    ) -> Float[Tensor, "b n h_q d"]:
        n, m = q.shape[1], k.shape[1]
        if n in (1, m):
            return super().attend(q, k, v)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mask = causal_lower_right(n, m)
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=self.config.group_size > 1
        )
        return attended.transpose(1, 2)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE of [b, n, h, d] by tables of [b or 1, n, 1, d/2], as `rotate` pairs the channels."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.empty_like(x)
    left, right = turned.chunk(2, dim=-1)
    torch.mul(first, cos, out=left)
    left.addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=right)
    right.addcmul_(first, sin)
    return turned


def quicken(decoder: Decoder) -> Decoder:
    """The decoder itself, its layers exchanged for quick ones of the same weights."""
    for index, layer in enumerate(decoder.layers):
        layer.attention_norm = QuickNorm(layer.attention_norm)
        layer.mlp_norm = QuickNorm(layer.mlp_norm)
        layer.mlp = QuickSwiGLU(layer.mlp)
        decoder.exchange_attention(index, QuickAttention(layer.attention))
    decoder.norm = QuickNorm(decoder.norm)
    return decoder
