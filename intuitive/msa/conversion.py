"""A dense model made sparse: it reads the blocks that an Index Branch, or a selector, picks.

    (training,) = train_indices(model.decoder, documents, IndexTrainingConfig(), seeds=[0])
    sparse = convert(model.decoder, MSAConfig.smollm(), training.index)
    generate(sparse, prompt, max_new_tokens=40)

`index_training` trains the Index Branches; `quality` says what the conversion costs.

Source: arXiv:2606.13392v2, section 3.2 and 5.1 (MSA-CPT).
Differs: the paper goes on training the model for 400B tokens, so that it adapts to its index; here
it stays as it was.
"""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from intuitive.common.decoder import Decoder, DecoderConfig, DenseAttention
from intuitive.common.runtime import seeded
from intuitive.kernels import Impl, block_sparse_attention, select_blocks

from .config import MSAConfig
from .index import INDEX_PART, TrainedIndex
from .model import MSAAttention
from .reference import SELECTORS, selector_scores


class SelectorAttention(DenseAttention):
    """Attention over the key blocks that a selector without training picks.

    It reads through the same kernel as MSA, so that only the choice differs. The selectors look at
    every main score or at every key, so this saves nothing; it is for comparison.

    Args:
        config: the decoder.
        msa: block size and budget.
        selector: one of `reference.SELECTORS`.
        impl: which kernels.

    Raises:
        ValueError: there is no selector of that name.
    """

    def __init__(
        self, config: DecoderConfig, msa: MSAConfig, selector: str, *, impl: Impl = "auto"
    ) -> None:
        if selector not in SELECTORS:
            raise ValueError(
                f"selector={selector!r} is unknown; choose one of {', '.join(SELECTORS)}."
            )
        super().__init__(config)
        self.msa, self.selector, self.impl = msa, selector, impl

    def attend(
        self,
        q: Float[Tensor, "b n h_q d"],
        k: Float[Tensor, "b m h_kv d"],
        v: Float[Tensor, "b m h_kv d"],
    ) -> Float[Tensor, "b n h_q d"]:
        k, v = k.to(q.dtype), v.to(q.dtype)  # under autocast a cache holds another dtype
        scores = torch.stack(
            [
                selector_scores(self.selector, *row, block_size=self.msa.block_size)
                for row in zip(q, k, strict=True)
            ]
        )
        block_idx = select_blocks(scores.float(), **self.msa.selection, impl=self.impl)
        return block_sparse_attention(
            q, k, v, block_idx, block_size=self.msa.block_size, impl=self.impl
        )


def convert(
    decoder: Decoder,
    msa: MSAConfig,
    index: TrainedIndex | str | None,
    *,
    layers: Sequence[int] | None = None,
    sparse: bool = True,
    impl: Impl = "auto",
    generator: torch.Generator | None = None,
) -> Decoder:
    """A decoder that reads selected blocks only, in some or all layers.

    The given decoder stays as it is. The new one has modules of its own and shares every weight
    with it, so that it takes no more memory than its Index Branches; therefore move a decoder to
    its device and dtype before converting it, not after.

    Args:
        decoder: with `DenseAttention` in the layers to convert.
        msa: sizes; any block size and budget go with any trained index, which scores tokens.
        index: trained Index Branches; or the name of one of `reference.SELECTORS`, to select
            without any; or None for untrained ones.
        layers: which layers, counted from 0; by default those that the index has, else all.
        sparse: whether Index Branches are obeyed; False reads densely, as in warm-up.
        impl: which kernels.
        generator: draws untrained Index Branches; one seeded with 0 if None.

    Raises:
        ValueError: a layer without dense attention or without a trained index, sizes that do not
            fit, or an unknown selector.
    """
    shared = {id(weight): weight for weight in decoder.parameters()}
    converted = copy.deepcopy(decoder, shared)
    generator = generator or seeded(0)
    trained = isinstance(index, TrainedIndex)
    if layers is None:
        layers = index.layers if trained else range(decoder.config.n_layers)
    if trained:
        _check_fit(index, layers, msa)
    for layer in layers:
        if not 0 <= layer < decoder.config.n_layers:
            raise ValueError(
                f"layers={list(layers)} must lie in [0, {decoder.config.n_layers}), the layers of "
                "this decoder."
            )
        dense = converted.layers[layer].attention
        if type(dense) is not DenseAttention:
            raise ValueError(
                f"layer {layer} has {type(dense).__name__}: convert the dense decoder instead."
            )
        if isinstance(index, str):
            with torch.device("meta"):  # as the dense layer's weights come next
                module = SelectorAttention(dense.config, msa, index, impl=impl)
            module.w_q, module.w_k, module.w_v, module.w_o = (
                dense.w_q, dense.w_k, dense.w_v, dense.w_o
            )  # fmt: skip
            module.train(dense.training)
        else:
            module = MSAAttention.from_dense(
                dense, msa, sparse=sparse, impl=impl, generator=generator
            )
            for weight in index_weights(module):
                weight.requires_grad_(dense.w_q.weight.requires_grad)
        converted.exchange_attention(layer, module)
    if trained:
        wanted = {f"layers.{layer}" for layer in layers}
        weights = {
            name: weight
            for name, weight in index.weights.items()
            if name.partition(".attention.")[0] in wanted
        }
        converted.load_state_dict(weights, strict=False)
    return converted


def index_weights(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of the Index Branches in a module."""
    return [weight for name, weight in module.named_parameters() if INDEX_PART in f".{name}"]


def _check_fit(index: TrainedIndex, layers: Sequence[int], msa: MSAConfig) -> None:
    """ValueError where an index lacks layers or has other sizes."""
    lacking = sorted(set(layers) - set(index.layers))
    if lacking:
        raise ValueError(
            f"the index has no Index Branch for layers {lacking}; it has {list(index.layers)}. "
            "Convert those only, or train the others."
        )
    rows = index.weights[f"layers.{index.layers[0]}.attention.index_w_q.weight"].shape[0]
    if (index.d_index, rows) != (msa.d_index, msa.n_kv_heads * msa.d_index):
        raise ValueError(
            f"the index has d_index={index.d_index} and {rows // index.d_index} query heads, the "
            f"config d_index={msa.d_index} and n_kv_heads={msa.n_kv_heads}: give both the same."
        )
    if index.d_rotary != msa.d_rotary:
        raise ValueError(
            f"the index was trained with d_rotary={index.d_rotary}, the config has "
            f"d_rotary={msa.d_rotary}: give both the same."
        )
