"""Block-sparse attention in models of the `transformers` package.

    from intuitive.msa.transformers import register

    model.set_attn_implementation(register())  # MiniMax-M3: its own indexer selects
    model.set_attn_implementation(register("mine", selector="block_mean_keys"))  # any GQA model

A model calls the attention function by its name. MiniMax-M3's layers pass the blocks that their
indexer chose; its `eager` and `sdpa` paths turn them into a dense mask, ours reads these blocks
only. Other models pass none: then one of `reference.SELECTORS` looks at queries and keys first.

Layers that select nothing are read as `sdpa` does. Without padding, or with padding on the right of
a prompt, no dense mask is ever built and `block_sparse_attention` does the work; other padding and
static caches take the slower way of `masked.py`, with the same results.

Source: the `transformers` package, `minimax_m3_vl` and `AttentionInterface`, read in 5.23.
"""

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder, DenseAttention, causal_mask
from intuitive.kernels import Impl, block_sparse_attention, select_blocks

from .masked import gathered_attention, unpadded_rows
from .reference import SELECTORS, selector_scores

OLDEST = (5, 23)  # that passes `block_indices` to the attention interface
UNSERVED = ("softcap", "sliding_window", "s_aux", "position_bias")  # arguments of other attention


@dataclass(frozen=True, kw_only=True)
class BlockSparse:
    """An attention function of `transformers`; `register` makes it and names it.

    Args:
        selector: one of `reference.SELECTORS` for layers that bring no blocks of their own; None
            reads those densely.
        block_size: tokens per block of that selector.
        n_selected, n_local, n_init: its budget, as in `select_blocks`.
        layers: which layers it serves, counted from 0; all if None. Others are read densely.
        impl: which kernels; see `intuitive.kernels.dispatch.choose`.
    """

    selector: str | None = None
    block_size: int = 64
    n_selected: int = 8
    n_local: int = 1
    n_init: int = 0
    layers: tuple[int, ...] | None = None
    impl: Impl = "auto"

    def __call__(
        self,
        module: nn.Module,
        query: Float[Tensor, "b h_q n d"],
        key: Float[Tensor, "b h_kv m d"],
        value: Float[Tensor, "b h_kv m d"],
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        block_indices: Int[Tensor, "b h_idx n n_sel"] | None = None,
        **others: Any,
    ) -> tuple[Float[Tensor, "b n h_q d"], None]:
        """What `transformers` calls; attention weights are never made, so None comes second.

        Args:
            attention_mask: None for a causal one; [b, m], True for what is no padding, which then
                all trails; or True (or 0 if it is added) where reading is allowed,
                [b, 1, n, m].
            block_indices: the blocks that the layer's own indexer chose; -1 marks an empty slot.

        Raises:
            ValueError: dropout, an attention that is not causal or has what `UNSERVED` names, a
                layer in `layers` that the model lacks, or index heads that do not fit.
        """
        self._check(module, dropout, others)
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        if attention_mask is not None and attention_mask.dtype != torch.bool:
            attention_mask = attention_mask == 0
        trailing, mask = None, attention_mask
        if mask is not None and mask.dim() == 2:
            trailing, mask = mask, None
        if block_indices is not None:
            blocks = self._blocks(module, block_indices, key.shape[1])
            size = module.config.index_block_size
            read = functools.partial(self._read_blocks, block_size=size, scale=scaling)
            return read_padded(read, query, key, value, mask, trailing, blocks), None
        if self.selector is None or not (self.layers is None or module.layer_idx in self.layers):
            read = functools.partial(dense, scale=scaling)
            return read_padded(read, query, key, value, mask, trailing), None
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # [b, n, h, d]
        if mask is None:  # no real query sees what trails
            return self._select_and_read(q, k, v, scaling), None
        out = torch.zeros_like(q)
        for row, (reads, asks) in enumerate(unpadded_rows(mask)):
            if len(asks):
                own = (q[row : row + 1, asks], *(x[row : row + 1, reads] for x in (k, v)))
                out[row, asks] = self._select_and_read(*own, scaling)[0]
        return out, None

    def _select_and_read(
        self,
        q: Float[Tensor, "b n h_q d"],
        k: Float[Tensor, "b m h_kv d"],
        v: Float[Tensor, "b m h_kv d"],
        scale: float,
    ) -> Float[Tensor, "b n h_q d"]:
        scores = torch.stack(
            [
                selector_scores(self.selector, *row, block_size=self.block_size)
                for row in zip(q, k, strict=True)
            ]
        )
        block_idx = select_blocks(
            scores.float(),
            n_selected=self.n_selected,
            block_size=self.block_size,
            n_local=self.n_local,
            n_init=self.n_init,
            impl=self.impl,
        )
        return block_sparse_attention(
            q, k, v, block_idx, block_size=self.block_size, scale=scale, impl=self.impl
        )

    @staticmethod
    def _blocks(module: nn.Module, block_indices: Tensor, h_kv: int) -> Tensor:
        """The layer's own selection, one for each key head: [b, h_kv, n, n_sel]."""
        heads = block_indices.shape[1]
        if h_kv % heads:
            raise ValueError(
                f"{_named(module)} passes blocks of {heads} index heads for {h_kv} key heads, but "
                "each key head needs one selection: set index_n_heads to a divisor of "
                "num_key_value_heads."
            )
        return block_indices.repeat_interleave(h_kv // heads, dim=1)

    def _read_blocks(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        blocks: Tensor,
        *,
        block_size: int,
        scale: float,
    ) -> Float[Tensor, "b n h_q d"]:
        if mask is not None:
            out = gathered_attention(query, key, value, blocks, mask, block_size, scale)
            return out.transpose(1, 2)
        q, k, v, blocks = (x.transpose(1, 2) for x in (query, key, value, blocks))
        return block_sparse_attention(
            q, k, v, blocks, block_size=block_size, scale=scale, impl=self.impl
        )

    def _check(self, module: nn.Module, dropout: float, others: dict[str, Any]) -> None:
        if dropout:
            raise ValueError(
                f"dropout={dropout} of attention weights is not served, since they are never made: "
                "set attention_dropout=0 in the config, or call model.eval()."
            )
        if not getattr(module, "is_causal", True) or others.get("is_causal") is False:
            raise ValueError(
                f"{_named(module)} is not causal; blocks are selected among the tokens before a "
                "query. Use 'sdpa' for this model."
            )
        named = [name for name in UNSERVED if others.get(name) is not None]
        if named:
            raise ValueError(
                f"{_named(module)} asks for {', '.join(named)}, which block-sparse attention does "
                "not have. Use 'eager' for this model."
            )
        n_layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        if self.layers is not None and n_layers is not None and max(self.layers) >= n_layers:
            raise ValueError(
                f"layers={self.layers} must lie in [0, {n_layers}), the layers of this model: "
                "register again with others."
            )


def read_padded(
    read: Callable[..., Tensor],
    query: Float[Tensor, "b h_q n d"],
    key: Float[Tensor, "b h_kv m d"],
    value: Float[Tensor, "b h_kv m d"],
    mask: Bool[Tensor, "b one n m"] | None,
    trailing: Bool[Tensor, "b m"] | None,
    *of_queries: Tensor,
) -> Float[Tensor, "b n h_q d"]:
    """`read(query, key, value, mask, *of_queries)`, where padding may trail.

    Real queries do not see what trails, so they need no mask. The outputs at padding are made again
    under one: a later layer turns them into index keys, which a later token's selection meets.
    """
    out = read(query, key, value, mask, *of_queries)
    if trailing is None:
        return out
    n, m = query.shape[2], key.shape[2]
    for row, real in enumerate(trailing):
        pads = (~real[m - n :]).nonzero()[:, 0]
        if len(pads):
            own = (query[row : row + 1, :, pads], key[row : row + 1], value[row : row + 1])
            allowed = real.expand(1, 1, len(pads), m)
            chosen = (x[row : row + 1, :, pads] for x in of_queries)
            out[row, pads] = read(*own, allowed, *chosen)[0]
    return out


def dense(
    query: Float[Tensor, "b h_q n d"],
    key: Float[Tensor, "b h_kv m d"],
    value: Float[Tensor, "b h_kv m d"],
    mask: Bool[Tensor, "b one n m"] | None,
    *,
    scale: float,
) -> Float[Tensor, "b n h_q d"]:
    """Causal attention to every key, or to those that a mask allows; to all alike if to none."""
    n, m = query.shape[2], key.shape[2]
    if mask is None and n not in (1, m):
        mask = causal_mask(n, m, query.device)
    if mask is not None:
        lowest = torch.finfo(query.dtype).min
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, lowest)
    attended = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None and n == m > 1,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended.transpose(1, 2)


def register(
    name: str = "intuitive_msa",
    *,
    selector: str | None = None,
    block_size: int = 64,
    n_selected: int = 8,
    n_local: int = 1,
    n_init: int = 0,
    layers: Sequence[int] | None = None,
    impl: Impl = "auto",
) -> str:
    """Add block-sparse attention to `transformers`' registry; returns its name there.

    Args:
        name: for `attn_implementation`; a former one of this name is replaced.
        selector, block_size, n_selected, n_local, n_init, layers, impl: see `BlockSparse`. Of
            these MiniMax-M3 needs none, since its layers select by themselves.

    Raises:
        ImportError: `transformers` is not installed, or too old.
        ValueError: an unknown selector, a size out of range, or a name that `transformers` uses.
    """
    _check_installed()
    if selector is not None and selector not in SELECTORS:
        raise ValueError(f"selector={selector!r} is unknown; choose one of {', '.join(SELECTORS)}.")
    sizes = {
        "block_size": whole("block_size", block_size, low=1),
        "n_selected": whole("n_selected", n_selected, low=1),
        "n_local": whole("n_local", n_local, low=0),
        "n_init": whole("n_init", n_init, low=0),
    }
    if layers is not None:
        layers = tuple(whole("a layer in layers", layer, low=0) for layer in layers)
        if not layers:
            raise ValueError("layers=() serves no layer: name some, or None for all.")
    from transformers import AttentionInterface, AttentionMaskInterface

    former = AttentionInterface._global_mapping.get(name)
    if name == "eager" or (former is not None and not isinstance(former, BlockSparse)):
        raise ValueError(
            f"name={name!r} is an attention function of transformers itself: choose another name."
        )
    function = BlockSparse(selector=selector, layers=layers, impl=impl, **sizes)
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sparse_mask)
    return name


def sparse_mask(
    *,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Bool[Tensor, "b seen"] | None = None,
    **others: Any,
) -> Tensor | None:
    """The mask for `BlockSparse`, as its `attention_mask` says.

    Called by `transformers` once per forward pass, on CUDA with one look at the padding.
    """
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    plain = mask_function in (None, causal_mask_function) and kv_offset == 0
    if plain and not isinstance(q_offset, Tensor) and kv_length == q_offset + q_length:
        if attention_mask is None or attention_mask.all():
            return None
        if (attention_mask[:, :-1] >= attention_mask[:, 1:]).all():
            return attention_mask
    others["allow_is_causal_skip"] = False
    return sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        mask_function=mask_function or causal_mask_function,
        attention_mask=attention_mask,
        **others,
    )


def _named(module: nn.Module) -> str:
    layer = getattr(module, "layer_idx", None)
    return type(module).__name__ + ("" if layer is None else f" of layer {layer}")


def _check_installed() -> None:
    wanted = ".".join(map(str, OLDEST))
    advice = f"Install it with `pip install 'transformers>={wanted}'`."
    if importlib.util.find_spec("transformers") is None:
        raise ImportError(f"The package transformers is not installed. {advice}")
    version = importlib.metadata.version("transformers")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise ImportError(
            f"transformers {version} is installed, but only {wanted} and later hand the blocks "
            f"that a model selects to its attention function. {advice}"
        )


def as_llama(decoder: Decoder) -> nn.Module:
    """A `LlamaForCausalLM` with the weights of our decoder, such as SmolLM2's; they are shared.

    Args:
        decoder: with `DenseAttention` and RoPE in every layer.

    Raises:
        ImportError: as `register`.
        ValueError: another attention, or positions that Llama does not have.
    """
    _check_installed()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = decoder.config
    if config.positions != "rope" or {type(x.attention) for x in decoder.layers} != {
        DenseAttention
    }:
        raise ValueError("only a decoder with RoPE and dense attention in every layer is a Llama.")
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.d_model,
                intermediate_size=config.d_ff,
                num_hidden_layers=config.n_layers,
                num_attention_heads=config.n_q_heads,
                num_key_value_heads=config.n_kv_heads,
                head_dim=config.d_head,
                rms_norm_eps=config.norm_eps,
                max_position_embeddings=config.max_positions,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
                tie_word_embeddings=config.tied_embeddings,
            )
        )
    theirs = {
        "embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
        "attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
        "attention.w_q": "self_attn.q_proj", "attention.w_k": "self_attn.k_proj",
        "attention.w_v": "self_attn.v_proj", "attention.w_o": "self_attn.o_proj",
        "mlp.w_gate": "mlp.gate_proj", "mlp.w_up": "mlp.up_proj", "mlp.w_down": "mlp.down_proj",
    }  # fmt: skip
    weights = {}
    for name, weight in decoder.state_dict().items():
        layers, layer, part = re.fullmatch(r"(?:(layers)\.(\d+)\.)?(.+)\.weight", name).groups()
        where = f"model.{layers}.{layer}." if layers else ""
        weights[f"{where}{theirs[part]}.weight"] = weight
    model.load_state_dict(weights, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(
        decoder.embedding.weight.device
    )
    return model.eval().requires_grad_(False)
