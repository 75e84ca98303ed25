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
    Now,
    Probe,
    RMSNorm,
    TensorCache,
    attend_fixed,
    normed,
)
from intuitive.common.runtime import seeded
from intuitive.kernels import (
    Impl,
    block_scores,
    block_sparse_attention,
    score_and_select,
    select_blocks,
)

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

    @property
    def unfit(self) -> str | None:
        """Why `step` cannot be taken, as a sentence; None if it can."""
        if self.sparse and self.msa.n_local < 1:
            return (
                "n_local=0 leaves out the newest block by its score, which a step of fixed shape "
                "does not know: force it with n_local=1."
            )
        return None

    def step(
        self, hidden: Float[Tensor, "b 1 d_model"], now: Now, cache: TensorCache
    ) -> Float[Tensor, "b 1 d_model"]:
        """What `forward` does for one new token, in shapes that do not depend on its place.

        Scores cover every block up to `now.limit`. Those after the new token are struck out, and
        its own block is forced, whatever the zeros behind the token score. The tokens selected are
        gathered.
        """
        d = self.config.d_head
        q, k, v = (w(hidden).unflatten(-1, (-1, d)) for w in (self.w_q, self.w_k, self.w_v))
        q_idx, k_idx = (
            normed(norm, w(hidden).unflatten(-1, (-1, self.msa.d_index)))
            for norm, w in (
                (self.index_norm_q, self.index_w_q),
                (self.index_norm_k, self.index_w_k),
            )
        )
        turning = self.msa.d_index if self.msa.d_rotary is None else self.msa.d_rotary
        (q_idx, q_rest), (k_idx, k_rest) = (
            (x[..., :turning], x[..., turning:]) for x in (q_idx, k_idx)
        )
        q, k, q_idx, k_idx = now.turned(q, k, q_idx, k_idx)
        q_idx, k_idx = torch.cat((q_idx, q_rest), -1), torch.cat((k_idx, k_rest), -1)
        held = cache.put(now.place, keys=k, values=v, index_keys=k_idx.squeeze(2))
        k, v, k_idx = (part[:, : now.limit] for part in held.values())
        k, v = k.transpose(1, 2), v.transpose(1, 2)  # [b, h_kv, limit, d]
        if not self.sparse:
            return self.output(attend_fixed(q, k, v, now.hidden_keys))
        size = self.msa.block_size
        scores = block_scores(q_idx, k_idx.to(q_idx.dtype), block_size=size, impl=self.impl)
        later = now.keep(("later blocks", size), lambda: now.hidden_keys[::size])
        block_idx = select_blocks(
            scores.masked_fill(later, -torch.inf), **self.msa.selection, impl=self.impl
        )
        within = now.keep(("within", size), lambda: torch.arange(size, device=q.device))
        key = (block_idx[:, 0, :, :, None] * size + within).flatten(2)  # [b, h_kv, n_sel * size]
        hidden_keys = (key < 0) | (key > now.place)
        place = key.clamp(0, now.limit - 1)[..., None].long().expand(-1, -1, -1, d)
        attended = attend_fixed(q, k.gather(2, place), v.gather(2, place), hidden_keys[:, :, None])
        return self.output(attended)

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
