"""A Llama-style decoder whose attention can be exchanged, layer by layer.

The decoder owns embeddings, norms, feed-forward layers and the output head. Everything about
reading other tokens belongs to one attention module per layer, under this contract:

    attention(hidden [b, n, d_model], positions [b, n], *, cache, probe) -> [b, n, d_model]
    attention.make_cache(batch, capacity, device, dtype) -> cache

- `hidden` is the normalised residual stream; the module owns its projections and returns what is
  to be added to the stream.
- Order, not position, decides who sees whom: query i of n reads keys 0 .. m - n + i, where m counts
  the cached tokens and the n new ones (bottom-right alignment), so a prompt may come in chunks.
- `cache` is None, or an object that the module's own `make_cache` returned: a `LayerCache`.
- `probe` is None, or a `Probe` to be shown the hidden states, queries, keys and values once.

- A module may also have `step(hidden [b, 1, d_model], now, cache)`, the same for one new token in
  shapes that do not depend on its place; then `generate` on CUDA replays a graph of it.

`DenseAttention` is the plain kind. A sparse kind changes `attend` and keeps `project` and
`output`; a compressed or offloaded kind may replace everything, its cache included.

Map of the rooms:
    config        every size and choice
    rotary        rotary positions
    layers        norm, feed-forward, plain attention
    cache         what has been read so far
    probe         being shown what a layer's attention works on
    model         the decoder
    place         one new token's place, as a tensor
    fixed         a step of fixed shape, for CUDA graphs
    generation    continuing a prompt
    measures      where attention goes

Source: Touvron et al. 2023, arXiv:2302.13971 (RMSNorm, SwiGLU, RoPE); Ainslie et al. 2023,
arXiv:2305.13245 (GQA).
"""

from .cache import DecoderCache, LayerCache, TensorCache
from .config import DecoderConfig
from .fixed import FixedStep
from .generation import generate, sample
from .layers import DecoderLayer, DenseAttention, RMSNorm, SwiGLU, causal_mask, normed
from .measures import attention_rows, block_mass
from .model import Decoder
from .place import Now, attend_fixed
from .probe import Probe, Seen
from .rotary import rotate

__all__ = [
    "Decoder",
    "DecoderCache",
    "DecoderConfig",
    "DecoderLayer",
    "DenseAttention",
    "FixedStep",
    "LayerCache",
    "Now",
    "Probe",
    "RMSNorm",
    "Seen",
    "SwiGLU",
    "TensorCache",
    "attend_fixed",
    "attention_rows",
    "block_mass",
    "causal_mask",
    "generate",
    "normed",
    "rotate",
    "sample",
]
