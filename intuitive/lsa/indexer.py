"""The Memory Indexer: from a layer's hidden state to a logit for every chunk of the history.

One small scorer per target layer reads that layer's own attention input and scores the frozen
index keys of the lightning indexer. The layers' verdicts are joined by `selection`.

    c = RMSNorm(h W_dq);  q = c W_uq, turned by RoPE;  w = h W_w / √(heads · d)
    logit_s = Σ_h w_h ReLU(q_h · K_s) + bias

Source: arXiv:2606.09079v2, section 2.1, Eqs. 1-4; the norm, RoPE and the Walsh-Hadamard transform
are in the repository's code only.
Differs: a learned bias where `LSAConfig.memory_bias` says so; the paper has none.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from intuitive.common.runtime import seeded

from .config import LSAConfig
from .rotary import hadamard, layer_rates, turn


class MemoryIndexer(nn.Module):
    """The scorer of one layer.

    Args:
        config: sizes.
        generator: draws the first weights, on the CPU; one seeded with 0 if None.
    """

    def __init__(self, config: LSAConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        generator = seeded(0) if generator is None else generator

        def drawn(rows: int, columns: int) -> nn.Parameter:
            weight = torch.randn(rows, columns, generator=generator, dtype=torch.float32)
            return nn.Parameter(weight / math.sqrt(columns))

        heads, d = config.n_memory_heads, config.d_index
        self.w_dq = drawn(config.memory_rank, config.d_model)
        self.norm = nn.Parameter(torch.ones(config.memory_rank, dtype=torch.float32))
        self.w_uq = drawn(heads * d, config.memory_rank)
        self.w_w = drawn(heads, config.d_model)
        if config.memory_bias:
            self.bias = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def queries(
        self, hidden: Float[Tensor, "n d_model"], positions: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n heads d_idx"], Float[Tensor, "n heads"]]:
        """Queries and scaled head weights, as `selection.memory_logits` takes them.

        Args:
            hidden: input of the layer's attention, of any dtype.
            positions: of these tokens.
        """
        config = self.config
        hidden = hidden.to(self.w_dq.dtype)
        low = (hidden @ self.w_dq.T).to(self.norm.dtype)  # under autocast another
        low = rms_norm(low, (config.memory_rank,), self.norm, config.norm_eps)
        q = (low @ self.w_uq.T).unflatten(-1, (config.n_memory_heads, config.d_index))
        q = turn(q, positions, layer_rates(config, compressed=True))
        if config.hadamard:
            q = hadamard(q)
        scale = (config.n_memory_heads * config.d_index) ** -0.5
        return q, (hidden @ self.w_w.T) * scale

    def forward(
        self,
        hidden: Float[Tensor, "n d_model"],
        positions: Int[Tensor, " n"],
        keys: Float[Tensor, "chunks d_idx"],
    ) -> Float[Tensor, "n chunks"]:
        """Logits of every chunk, in float32; those that do not exist yet are scored like others.

        Args:
            hidden: input of the layer's attention.
            positions: of these tokens.
            keys: the layer's frozen index keys, as the lightning indexer stores them.
        """
        q, weights = self.queries(hidden, positions)
        agreement = torch.einsum("nhd,sd->nhs", q.float(), keys.float()).relu()
        logits = torch.einsum("nh,nhs->ns", weights.float(), agreement)
        return logits + self.bias if self.config.memory_bias else logits


class MemoryIndexers(nn.Module):
    """The scorers of all target layers, in the order of `LSAConfig.memory_layers`."""

    def __init__(self, config: LSAConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if not config.memory_layers:
            raise ValueError("memory_layers is empty: name at least one CSA layer to read.")
        self.config = config
        generator = seeded(0) if generator is None else generator
        self.layers = nn.ModuleList(
            MemoryIndexer(config, generator=generator) for _ in config.memory_layers
        )

    def forward(
        self,
        hidden: Float[Tensor, "layers n d_model"],
        positions: Int[Tensor, " n"],
        keys: Float[Tensor, "layers chunks d_idx"],
    ) -> Float[Tensor, "n layers chunks"]:
        """Logits of each layer's scorer for n triggers and every chunk."""
        scored = [
            layer(h, positions, k) for layer, h, k in zip(self.layers, hidden, keys, strict=True)
        ]
        return torch.stack(scored, 1)
