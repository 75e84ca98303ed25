"""The attention module that puts MSA into a decoder, one layer at a time.

    decoder.exchange_attention(layer, MSAAttention.from_dense(dense, MSAConfig.smollm()))

It keeps the dense layer's projections, adds the Index Branch's, and caches one index key per
token beside keys and values. The mathematics is `reference.index_branch` and the kernels.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from intuitive.common.decoder import (
    DecoderConfig,
    DenseAttention,
    LayerCache,
    Probe,
    RMSNorm,
    TensorCache,
)
from intuitive.common.runtime import seeded
from intuitive.kernels import Impl, block_sparse_attention, score_and_select

from .config import MSAConfig
from .reference import index_branch


class MSAAttention(DenseAttention):
    """Attention over the key blocks that the Index Branch selects.

    Args:
        config: the decoder; its heads must be those of `msa`.
        msa: sizes of the Index Branch and of the selection.
        sparse: whether to read selected blocks only. False reads everything, as in warm-up, while
            index keys are still made and cached. May be changed at any time.
        impl: which kernels; see `intuitive.kernels.dispatch.choose`.

    Raises:
        ValueError: the heads differ, or RoPE cannot turn an odd `d_index`.

    Source: arXiv:2606.13392v2, sections 2.2-2.3 and 3.2.
    """

    def __init__(
        self, config: DecoderConfig, msa: MSAConfig, *, sparse: bool = True, impl: Impl = "auto"
    ) -> None:
        for name in ("n_q_heads", "n_kv_heads", "d_head"):
            if getattr(msa, name) != getattr(config, name):
                raise ValueError(
                    f"{name}={getattr(msa, name)} of MSA differs from the decoder's "
                    f"{getattr(config, name)}: give both the same."
                )
        if config.positions == "rope" and msa.d_rotary is None and msa.d_index % 2:
            raise ValueError(f"d_index={msa.d_index} must be even: RoPE turns channels in pairs.")
        super().__init__(config)
        self.msa, self.sparse, self.impl = msa, sparse, impl
        self.index_w_q = nn.Linear(config.d_model, msa.n_kv_heads * msa.d_index, bias=False)
        self.index_w_k = nn.Linear(config.d_model, msa.d_index, bias=False)
        self.index_norm_q = RMSNorm(msa.d_index, config.norm_eps)
        self.index_norm_k = RMSNorm(msa.d_index, config.norm_eps)

    @classmethod
    def from_dense(
        cls,
        dense: DenseAttention,
        msa: MSAConfig,
        *,
        sparse: bool = True,
        impl: Impl = "auto",
        generator: torch.Generator | None = None,
    ) -> "MSAAttention":
        """Convert a dense layer: its projections are shared, not copied; the index is untrained.

        Args:
            dense: the layer to take over.
            msa: sizes; heads as in `dense`.
            sparse, impl: as in the class.
            generator: draws the index weights, on the CPU; one seeded with 0 if None.
        """
        with torch.device("meta"):  # no time spent on weights that are replaced at once
            layer = cls(dense.config, msa, sparse=sparse, impl=impl)
        layer.w_q, layer.w_k, layer.w_v, layer.w_o = dense.w_q, dense.w_k, dense.w_v, dense.w_o
        generator = generator or seeded(0)
        drawn = {}
        for name in ("index_w_q", "index_w_k"):
            shape = layer.get_parameter(f"{name}.weight").shape
            weight = torch.empty(shape, dtype=torch.float32)
            drawn[f"{name}.weight"] = weight.normal_(std=0.02, generator=generator)
        for name in ("index_norm_q", "index_norm_k"):
            drawn[f"{name}.weight"] = torch.ones(msa.d_index, dtype=torch.float32)
        like = dense.w_q.weight
        drawn = {name: weight.to(like.device, like.dtype) for name, weight in drawn.items()}
        layer.load_state_dict(drawn, strict=False, assign=True)
        return layer.train(dense.training)

    def index(
        self, hidden: Float[Tensor, "b n d_model"], positions: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n h_kv d_idx"], Float[Tensor, "b n d_idx"]]:
        """Index queries and keys of the new tokens; no gradient reaches `hidden`."""
        return index_branch(
            hidden,
            self.index_w_q.weight,
            self.index_w_k.weight,
            self.index_norm_q.weight,
            self.index_norm_k.weight,
            positions,
            rope_base=self.config.rope_base if self.config.positions == "rope" else None,
            d_rotary=self.msa.d_rotary,
            norm_eps=self.config.norm_eps,
        )

    def select(
        self, q_idx: Float[Tensor, "b n h_kv d_idx"], k_idx: Float[Tensor, "b m d_idx"]
    ) -> Int[Tensor, "b n h_kv n_sel"]:
        """Block ids for the last n of m tokens; the choice carries no gradient."""
        return score_and_select(
            q_idx.detach(),
            k_idx.detach().to(q_idx.dtype),  # under autocast a cache holds another
            **self.msa.selection,
            impl=self.impl,
        )

    def make_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> TensorCache:
        """An empty cache of keys, values and index keys, which crop and reorder together."""
        entry = (self.config.n_kv_heads, self.config.d_head)
        parts = {"keys": entry, "values": entry, "index_keys": (self.msa.d_index,)}
        return TensorCache(batch, capacity, parts, device, dtype)

    def forward(
        self,
        hidden: Float[Tensor, "b n d_model"],
        positions: Int[Tensor, "b n"],
        *,
        cache: LayerCache | None = None,
        probe: Probe | None = None,
    ) -> Float[Tensor, "b n d_model"]:
        q, k, v = self.project(hidden, positions)
        q_idx, k_idx = self.index(hidden, positions)
        if cache is not None:
            held = cache.append(keys=k, values=v, index_keys=k_idx)
            k, v, k_idx = held["keys"], held["values"], held["index_keys"]
        if probe is not None:
            probe.see(hidden, q, k, v)
        if not self.sparse:
            return self.output(self.attend(q, k, v))
        block_idx = self.select(q_idx, k_idx)
        attended = block_sparse_attention(
            q,
            k.to(q.dtype),
            v.to(q.dtype),
            block_idx,
            block_size=self.msa.block_size,
            impl=self.impl,
        )
        return self.output(attended)
