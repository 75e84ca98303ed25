"""What stands between the encoder and the decoder, and attention that reads both ways.

Source: arXiv:2606.09659v1, section 3 (Eqs. 7-8); the official repository.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from intuitive.common.decoder import (
    DecoderLayer,
    DenseAttention,
    LayerCache,
    Probe,
    RMSNorm,
)

from .config import LCLMConfig


class BidirectionalAttention(DenseAttention):
    """Every token reads every token of its window: the mask is passed, not a flag.

    In the official repository a flag marks attention as not causal, and another layer may build a
    causal mask all the same (trap 7); here a mask of ones leaves nothing to guess.
    """

    def attend(
        self,
        q: Float[Tensor, "b n h_q d"],
        k: Float[Tensor, "b m h_kv d"],
        v: Float[Tensor, "b m h_kv d"],
    ) -> Float[Tensor, "b n h_q d"]:
        """Softmax attention of all n tokens over all m."""
        everything = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [b, h, n, d]
        k, v = (x.repeat_interleave(self.config.group_size, 1) for x in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=everything)
        return attended.transpose(1, 2)

    def forward(
        self,
        hidden: Float[Tensor, "b n d_model"],
        positions: Int[Tensor, "b n"],
        *,
        cache: LayerCache | None = None,
        probe: Probe | None = None,
    ) -> Float[Tensor, "b n d_model"]:
        """As in `DenseAttention`.

        Raises:
            ValueError: a cache, in which the past would have to change with every new token.
        """
        if cache is not None:
            raise ValueError(
                "bidirectional attention cannot go on from a cache, since new tokens change what "
                "earlier ones read: pass the whole window at once."
            )
        return super().forward(hidden, positions, probe=probe)


class Adapter(nn.Module):
    """Pooled states to the decoder's embeddings: W2 GELU(W1 RMSNorm(z) + b1) + b2.

    With `kind="attention"` a bidirectional transformer block over all latents of a span comes
    first; with "none" the pooled states pass unchanged.

    Source: Eqs. 7-8; the hidden width and the block are the official repository's.
    """

    def __init__(self, config: LCLMConfig) -> None:
        super().__init__()
        self.kind = config.adapter
        if config.adapter == "none":
            return
        width, d_out = config.pooled_width, config.decoder.d_model
        device = torch.get_default_device()
        with torch.device("meta"):  # sizes only: the modules draw nothing of their own
            if config.adapter == "attention":
                within = replace(config.encoder, d_model=width, positions="rope", n_layers=1)
                self.block = DecoderLayer(within, BidirectionalAttention(within))
            self.norm = RMSNorm(width, config.encoder.norm_eps)
            self.w_1 = nn.Linear(width, d_out)
            self.w_2 = nn.Linear(d_out, d_out)
        if device.type != "meta":
            self.to_empty(device=device)

    def forward(self, pooled: Float[Tensor, "b m wide"]) -> Float[Tensor, "b m d_dec"]:
        if self.kind == "none":
            return pooled
        if self.kind == "attention":
            b, m, _ = pooled.shape
            pooled = self.block(pooled, torch.arange(m, device=pooled.device).expand(b, m))
        return self.w_2(F.gelu(self.w_1(self.norm(pooled))))

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Normal with standard deviation 1/√inputs; gains at 1, biases at 0."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5, generator=generator)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
