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

`DenseAttention` is the plain kind. A sparse kind changes `attend` and keeps `project` and
`output`; a compressed or offloaded kind may replace everything, its cache included.

Source: Touvron et al. 2023, arXiv:2302.13971 (RMSNorm, SwiGLU, RoPE); Ainslie et al. 2023,
arXiv:2305.13245 (GQA).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..checks import whole
from ..runtime import check, never


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes and choices of a decoder; the defaults are a toy that trains on a laptop."""

    vocab_size: int = 256
    d_model: int = 64
    n_layers: int = 2
    n_q_heads: int = 4
    n_kv_heads: int = 2
    d_head: int = 16
    d_ff: int = 192
    norm_eps: float = 1e-5
    max_positions: int = 2048
    positions: str = "rope"  # or "learned" or "none"
    rope_base: float = 10_000.0
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "d_model",
            "n_layers",
            "n_q_heads",
            "n_kv_heads",
            "d_head",
            "d_ff",
            "max_positions",
        ):
            object.__setattr__(self, name, whole(name, getattr(self, name), low=1))
        if self.n_q_heads % self.n_kv_heads:
            raise ValueError(
                f"n_q_heads={self.n_q_heads} must be a multiple of "
                f"n_kv_heads={self.n_kv_heads}: GQA groups are equal in size."
            )
        if self.positions not in ("rope", "learned", "none"):
            raise ValueError(
                f"positions={self.positions!r} is unknown; choose 'rope', 'learned' or 'none'."
            )
        if self.positions == "rope" and self.d_head % 2:
            raise ValueError(
                f"d_head={self.d_head} must be even: RoPE turns channels in pairs. "
                "Choose an even size, or positions='learned' or 'none'."
            )
        if self.norm_eps <= 0 or self.rope_base <= 1:
            raise ValueError(
                f"norm_eps={self.norm_eps} must be above 0 and rope_base={self.rope_base} above 1."
            )

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.n_q_heads // self.n_kv_heads


# ---------------------------------------------------------------------------------- mathematics


def rotate(
    x: Float[Tensor, "b n h d"], positions: Int[Tensor, "b n"], base: float
) -> Float[Tensor, "b n h d"]:
    """Turn each pair of channels by an angle proportional to the token's position (RoPE).

    Channel i is paired with channel i + d/2, the half-split order of the model files on the Hub,
    and turned by positions * base^(-2i/d) radians, computed in float32 or wider.

    Args:
        x: queries or keys.
        positions: token positions, counted from 0.
        base: the slowest pair turns about once in 2*pi*base tokens.

    Source: Su et al. 2021, arXiv:2104.09864, Eq. 34.
    """
    d = x.shape[-1]
    wide = torch.promote_types(x.dtype, torch.float32)
    rates = base ** (-torch.arange(0, d, 2, device=x.device, dtype=wide) / d)  # [d/2]
    angles = positions[..., None, None].to(wide) * rates  # [b, n, 1, d/2]
    cos, sin = angles.cos(), angles.sin()
    first, second = x.to(wide).chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


def causal_mask(n: int, m: int, device: torch.device | str = "cpu") -> Bool[Tensor, "n m"]:
    """True where query i of the last n tokens may read key j of all m: j <= m - n + i."""
    return torch.ones(n, m, dtype=torch.bool, device=device).tril(m - n)


def attention_rows(
    q: Float[Tensor, "n h_q d"],
    k: Float[Tensor, "m h_kv d"],
    query_index: Int[Tensor, " r"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "h_q r m"]:
    """Causal attention probabilities of a few queries, without the full n by m matrix.

    Args:
        q: queries of the last n tokens, positions already applied.
        k: keys of all m >= n tokens.
        query_index: which of the n queries, each in [0, n).
        scale: factor on the dot products; 1/sqrt(d) if None.

    Returns:
        Probabilities in float32 (float64 for float64 inputs); every row sums to 1 and is zero on
        the future.

    Raises:
        ValueError: a query index is out of range, or there are fewer keys than queries.
    """
    n, h_q, d = q.shape
    m, h_kv, _ = k.shape
    if m < n:
        raise ValueError(f"{m} keys for {n} queries: every query needs its own key among them.")
    if query_index.numel() and not 0 <= int(query_index.min()) <= int(query_index.max()) < n:
        raise ValueError(f"query_index={query_index.tolist()} must lie in [0, {n}).")
    dtype = torch.promote_types(q.dtype, torch.float32)
    chosen = q[query_index].to(dtype) * (d**-0.5 if scale is None else scale)
    chosen = chosen.unflatten(1, (h_kv, h_q // h_kv))  # [r, h_kv, group, d]
    scores = torch.einsum("rhgd,mhd->hgrm", chosen, k.to(dtype)).flatten(0, 1)  # [h_q, r, m]
    visible = torch.arange(m, device=q.device) <= (query_index + m - n)[:, None]  # [r, m]
    return scores.masked_fill_(~visible, -torch.inf).softmax(-1)


def block_mass(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], *, block_size: int
) -> Float[Tensor, "n h_kv n_blk"]:
    """Share of dense causal attention on each key block, averaged over the heads of a group.

    Queries are taken a few at a time, so memory grows with m, not with n * m.

    Args:
        q: queries of the last n tokens, positions already applied.
        k: keys of all m >= n tokens.
        block_size: tokens per block; the last block may be shorter.

    Returns:
        Shares in [0, 1]; every row sums to 1 over the blocks.

    Raises:
        ValueError: `block_size` below 1, or fewer keys than queries.
    """
    if block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1 token.")
    n, m, h_kv = len(q), len(k), k.shape[1]
    n_blk = -(-m // block_size)
    mass = q.new_zeros(n, h_kv, n_blk, dtype=torch.promote_types(q.dtype, torch.float32))
    step = 128
    for first in range(0, n, step):
        queries = torch.arange(min(step, n - first), device=q.device)
        last = min(first + step, n)
        seen = m - n + last  # keys that these queries can see
        rows = attention_rows(q[first:last], k[:seen], queries)  # [h_q, r, seen]
        rows = F.pad(rows.unflatten(0, (h_kv, -1)).mean(1), (0, -seen % block_size))
        blocks = rows.unflatten(-1, (-1, block_size)).sum(-1)  # [h_kv, r, blocks seen]
        mass[first:last, :, : blocks.shape[-1]] = blocks.transpose(0, 1)
    return mass


# ---------------------------------------------------------------------------- caches and probes


@runtime_checkable
class LayerCache(Protocol):
    """What the decoder asks of a cache; the attention kind that made it decides the rest."""

    @property
    def length(self) -> int:
        """Tokens held so far."""

    @property
    def capacity(self) -> int:
        """Tokens it can hold."""

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens."""

    def reorder(self, batch_index: Tensor) -> None:
        """Let row i of the batch continue from former row `batch_index[i]`."""

    def nbytes(self) -> dict[str, int]:
        """Bytes of the tokens held, by category."""


class TensorCache:
    """A `LayerCache` of named tensors that grow by one entry per token, in step.

    Args:
        batch: rows.
        capacity: tokens; room for all of them is taken at once.
        parts: name of each part and the shape of one token's entry, such as
            `{"keys": (h_kv, d), "values": (h_kv, d)}`.
        device: where the parts live.
        dtype: what they hold.
    """

    def __init__(
        self,
        batch: int,
        capacity: int,
        parts: dict[str, tuple[int, ...]],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"batch={batch} and capacity={capacity} must be at least 1.")
        self.length = 0
        self.capacity = capacity
        self._parts = {
            name: torch.empty(batch, capacity, *entry, device=device, dtype=dtype)
            for name, entry in parts.items()
        }

    def append(self, **new: Tensor) -> dict[str, Tensor]:
        """Add n tokens to every part; returns views of all tokens held, each [b, m, ...].

        Raises:
            ValueError: other parts than the cache has, no room left, another batch size, or
                tensors that carry gradients.
        """
        if new.keys() != self._parts.keys():
            raise ValueError(f"got parts {sorted(new)}, this cache holds {sorted(self._parts)}.")
        n = next(iter(new.values())).shape[1]
        end = self.length + n
        if end > self.capacity:
            raise ValueError(
                f"{n} new tokens after {self.length} exceed the cache's capacity of "
                f"{self.capacity}: make a larger cache or crop this one."
            )
        for name, entries in new.items():
            part = self._parts[name]
            if entries.shape != (part.shape[0], n, *part.shape[2:]):
                raise ValueError(
                    f"{name} has shape {tuple(entries.shape)}, the cache takes "
                    f"{(part.shape[0], n, *part.shape[2:])}."
                )
            if entries.requires_grad:
                raise ValueError(
                    "a cache is overwritten in place and keeps no gradients: "
                    "wrap the call in torch.no_grad(), or train without a cache."
                )
        for name, entries in new.items():
            self._parts[name][:, self.length : end] = entries
        self.length = end
        return self.held()

    def held(self) -> dict[str, Tensor]:
        """Views of the tokens held, each [b, length, ...]."""
        return {name: part[:, : self.length] for name, part in self._parts.items()}

    def crop(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise ValueError(f"length={length} must lie in [0, {self.length}], the tokens held.")
        self.length = length

    def reorder(self, batch_index: Int[Tensor, " b"]) -> None:
        rows = next(iter(self._parts.values())).shape[0]
        if not 0 <= int(batch_index.min()) <= int(batch_index.max()) < rows:
            raise ValueError(f"batch_index={batch_index.tolist()} must lie in [0, {rows}).")
        self._parts = {name: part[batch_index] for name, part in self._parts.items()}

    def nbytes(self) -> dict[str, int]:
        return {
            name: part[:, : self.length].numel() * part.element_size()
            for name, part in self._parts.items()
        }


class DecoderCache:
    """The caches of all layers, kept in step."""

    def __init__(self, layers: Sequence[LayerCache]) -> None:
        self.layers = list(layers)

    @property
    def length(self) -> int:
        """Tokens held so far."""
        return self.layers[0].length

    @property
    def capacity(self) -> int:
        """Tokens that fit in every layer."""
        return min(layer.capacity for layer in self.layers)

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        for layer in self.layers:
            layer.crop(length)

    def reorder(self, batch_index: Int[Tensor, " b"]) -> None:
        """Let row i of the batch continue from former row `batch_index[i]`."""
        for layer in self.layers:
            layer.reorder(batch_index)

    def nbytes(self) -> dict[str, int]:
        """Bytes of the tokens held, by category, summed over the layers."""
        total = Counter()
        for layer in self.layers:
            total.update(layer.nbytes())
        return dict(total)


@dataclass(frozen=True)
class Seen:
    """What one layer's attention worked on; detached, positions already applied."""

    layer: int
    hidden: Float[Tensor, "b n d_model"]  # normalised input of the attention
    q: Float[Tensor, "b n h_q d"]
    k: Float[Tensor, "b m h_kv d"]  # cached tokens included
    v: Float[Tensor, "b m h_kv d"]


@dataclass(frozen=True)
class Probe:
    """Shows the tensors of chosen layers to a function, one layer at a time.

    Nothing is kept unless the function keeps it. The function may raise, for instance
    `Cancelled`, to stop the forward pass there.

    Args:
        layers: which layers, counted from 0.
        receive: called with a `Seen` as each chosen layer runs.
        layer: the layer that is running; set by the decoder.
    """

    layers: tuple[int, ...]
    receive: Callable[[Seen], None]
    layer: int | None = None

    def at(self, layer: int) -> "Probe | None":
        """This probe for one layer, or None if the layer is not among the chosen."""
        return replace(self, layer=layer) if layer in self.layers else None

    def see(self, hidden: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Called once by the attention module; shapes as in `Seen`."""
        self.receive(Seen(self.layer, hidden.detach(), q.detach(), k.detach(), v.detach()))


# -------------------------------------------------------------------------------------- modules


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


def _embedding(count: int, size: int) -> nn.Embedding:
    """An embedding table left for the decoder to fill."""
    return nn.Embedding.from_pretrained(torch.empty(count, size), freeze=False)


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


class Decoder(nn.Module):
    """Embeddings, a stack of layers, a norm and an output head.

    Args:
        config: sizes.
        make_attention: called once per layer with the config; returns a module that keeps the
            contract in this file's opening lines.

    Weights start normal with standard deviation 0.02 (layers that write to the residual stream:
    divided by sqrt(2 * n_layers)), drawn from torch's global generator.
    """

    def __init__(
        self,
        config: DecoderConfig,
        make_attention: Callable[[DecoderConfig], nn.Module] = DenseAttention,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = _embedding(config.vocab_size, config.d_model)
        if config.positions == "learned":
            self.position_embedding = _embedding(config.max_positions, config.d_model)
        self.layers = nn.ModuleList(
            DecoderLayer(config, make_attention(config)) for _ in range(config.n_layers)
        )
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self._draw_weights()
        if config.tied_embeddings:
            self.head.weight = self.embedding.weight

    @torch.no_grad()
    def _draw_weights(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and not weight.is_meta:
                into_stream = name.endswith(("w_o.weight", "w_down.weight"))
                weight.normal_(
                    std=0.02 / (2 * self.config.n_layers) ** 0.5 if into_stream else 0.02
                )

    def exchange_attention(self, layer: int, module: nn.Module) -> nn.Module:
        """Put another attention module into one layer; returns the one that was there.

        Raises:
            ValueError: no such layer, or the module cannot make a cache.
        """
        if not 0 <= layer < self.config.n_layers:
            raise ValueError(f"layer={layer} must lie in [0, {self.config.n_layers}).")
        if not callable(getattr(module, "make_cache", None)):
            raise ValueError(
                f"{type(module).__name__} has no make_cache(batch, capacity, device, dtype): "
                "see the attention contract in intuitive/common/decoder.py."
            )
        former = self.layers[layer].attention
        self.layers[layer].attention = module
        return former

    def make_cache(self, batch: int = 1, capacity: int | None = None) -> DecoderCache:
        """Empty caches for `batch` rows of up to `capacity` tokens (default: max_positions)."""
        weight = self.embedding.weight
        return DecoderCache(
            [
                layer.attention.make_cache(
                    batch, capacity or self.config.max_positions, weight.device, weight.dtype
                )
                for layer in self.layers
            ]
        )

    def hidden(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
        probe: Probe | None = None,
        until_layer: int | None = None,
    ) -> Float[Tensor, "b n d_model"]:
        """The residual stream after the layers, before the final norm.

        Args:
            tokens: [b, n] token ids; or else
            embeddings: [b, n, d_model], in the place of embedded tokens.
            positions: [b, n] in [0, max_positions); default: counted on from the cache. They
                place the tokens for RoPE or learned positions; who sees whom follows the order.
            cache: from `make_cache`; it grows by n tokens, or stays as it was if anything raises.
            probe: is shown the tensors of its layers.
            until_layer: run only the first so many layers; not together with a cache.

        Raises:
            ValueError: an input with the wrong shape, dtype or range; the cache is full.
        """
        # The shapes are checked here, not by annotations: these are the inputs learners supply.
        start = 0 if cache is None else cache.length
        stream = self._enter(tokens, embeddings)
        b, n, _ = stream.shape
        if cache is not None and start + n > cache.capacity:
            raise ValueError(
                f"{n} new tokens after {start} exceed the cache's capacity of {cache.capacity}: "
                "make a larger cache or crop this one."
            )
        positions = self._place(positions, b, n, start, stream.device)
        if self.config.positions == "learned":
            stream = stream + self.position_embedding(positions)
        until_layer = self.config.n_layers if until_layer is None else until_layer
        if not 0 <= until_layer <= self.config.n_layers:
            raise ValueError(f"until_layer={until_layer} must lie in [0, {self.config.n_layers}].")
        if cache is not None and until_layer < self.config.n_layers:
            raise ValueError(
                f"until_layer={until_layer} with a cache would leave the later layers' caches "
                "behind: drop one of the two."
            )
        if probe is not None and not set(probe.layers) <= set(range(self.config.n_layers)):
            raise ValueError(
                f"probe.layers={probe.layers} must lie in [0, {self.config.n_layers})."
            )
        try:
            for index in range(until_layer):
                stream = self.layers[index](
                    stream,
                    positions,
                    cache=None if cache is None else cache.layers[index],
                    probe=None if probe is None else probe.at(index),
                )
        except BaseException:
            if cache is not None:
                cache.crop(start)
            raise
        return stream

    def logits(self, hidden: Float[Tensor, "b n d_model"]) -> Float[Tensor, "b n v"]:
        """Final norm and output head; also reads the stream between layers (logit lens)."""
        return self.head(self.norm(hidden))

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
        probe: Probe | None = None,
        last_only: bool = False,
        until_layer: int | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Logits of the next token at every position, or at the last one only (then n = 1).

        Arguments and errors as in `hidden`.
        """
        hidden = self.hidden(
            tokens,
            embeddings=embeddings,
            positions=positions,
            cache=cache,
            probe=probe,
            until_layer=until_layer,
        )
        return self.logits(hidden[:, -1:] if last_only else hidden)

    def _enter(self, tokens: Tensor | None, embeddings: Tensor | None) -> Tensor:
        if (tokens is None) == (embeddings is None):
            given = "neither" if tokens is None else "both"
            raise ValueError(f"got {given} of tokens and embeddings; pass exactly one.")
        if embeddings is not None:
            if embeddings.dim() != 3 or embeddings.shape[-1] != self.config.d_model:
                raise ValueError(
                    f"embeddings have shape {tuple(embeddings.shape)}; "
                    f"[b, n, d_model={self.config.d_model}] is needed."
                )
            if embeddings.dtype != self.embedding.weight.dtype:
                raise ValueError(
                    f"embeddings are {embeddings.dtype}, the decoder is "
                    f"{self.embedding.weight.dtype}: convert one with .to(dtype)."
                )
            entered = embeddings
        else:
            if tokens.dtype not in (torch.int64, torch.int32):
                raise ValueError(
                    f"tokens are {tokens.dtype}; token ids must be int64 or int32. "
                    "Embeddings go into the embeddings= argument."
                )
            if tokens.dim() != 2:
                raise ValueError(f"tokens have shape {tuple(tokens.shape)}; [b, n] is needed.")
            entered = tokens
        if entered.shape[0] == 0 or entered.shape[1] == 0:
            raise ValueError(
                f"the prompt is empty (shape {tuple(entered.shape)}): give at least one token."
            )
        if entered.device != self.embedding.weight.device:
            raise ValueError(
                f"the prompt is on {entered.device}, the decoder on "
                f"{self.embedding.weight.device}: move one with .to(device)."
            )
        if embeddings is not None:
            return embeddings
        lowest, highest = int(tokens.min()), int(tokens.max())
        if lowest < 0 or highest >= self.config.vocab_size:
            raise ValueError(
                f"token ids from {lowest} to {highest} must lie in "
                f"[0, {self.config.vocab_size}): were they made by another tokenizer?"
            )
        return self.embedding(tokens)

    def _place(
        self, positions: Tensor | None, b: int, n: int, start: int, device: torch.device
    ) -> Tensor:
        limit = self.config.max_positions
        if positions is None:
            if start + n > limit:
                raise ValueError(
                    f"{start + n} tokens are longer than max_positions={limit}: shorten the text."
                )
            return torch.arange(start, start + n, device=device).expand(b, n)
        if positions.shape != (b, n) or positions.is_floating_point():
            raise ValueError(
                f"positions are {positions.dtype} of shape {tuple(positions.shape)}; "
                f"integers of shape {(b, n)} are needed."
            )
        if not 0 <= int(positions.min()) <= int(positions.max()) < limit:
            raise ValueError(
                f"positions from {int(positions.min())} to {int(positions.max())} "
                f"must lie in [0, max_positions={limit})."
            )
        return positions


# ----------------------------------------------------------------------------------- generation


def sample(
    logits: Float[Tensor, "b v"],
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " b"]:
    """Draw the next token of each row.

    Args:
        logits: of the next token.
        temperature: divides the logits; 0 takes the likeliest token, the lower id on a tie.
        top_k: keep only the k likeliest tokens.
        top_p: then keep the fewest likeliest tokens whose probabilities reach p, in (0, 1].
        generator: the source of randomness; torch's global one if None.

    Raises:
        ValueError: a setting out of range.

    Source: top-p is nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751.
    """
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must not be negative; 0 means greedy.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1, or None to keep all tokens.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1], or None to keep all tokens.")
    if temperature == 0:
        return logits.argmax(-1)
    ranked, ids = (logits.float() / temperature).sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ranked[:, top_k:] = -torch.inf
    p = ranked.softmax(-1)  # [b, v]
    if top_p is not None:
        p = p.masked_fill(p.cumsum(-1) - p >= top_p, 0.0)  # a token stays if those before lack p
    return ids.gather(-1, torch.multinomial(p, 1, generator=generator)).squeeze(-1)


@torch.no_grad()
def generate(
    decoder: Decoder,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop_tokens: Sequence[int] = (),
    on_token: Callable[[Tensor], None] | None = None,
    stale: Callable[[], bool] = never,
) -> Int[Tensor, "b n_new"]:
    """Continue a prompt token by token.

    Args:
        decoder: the model.
        prompt: [b, n] token ids or [b, n, d_model] embeddings; rows of equal length.
        max_new_tokens: how many at most, at least 1.
        temperature: 0 is greedy; this and the next three as in `sample`.
        stop_tokens: a row ends with the first of these it produces; if other rows go on, it is
            filled up with that token.
        on_token: called with the [b] new tokens of each step.
        stale: turns true when nobody waits for the result any more.

    Returns:
        The new tokens alone.

    Raises:
        ValueError: as in `Decoder.hidden` and `sample`, or the result would exceed max_positions.
        Cancelled: `stale()` became true between two tokens.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens} must be at least 1.")
    if prompt.dim() < 2:
        raise ValueError(
            f"the prompt has shape {tuple(prompt.shape)}; [b, n] token ids or "
            "[b, n, d_model] embeddings are needed."
        )
    b, n = prompt.shape[:2]
    if n + max_new_tokens > decoder.config.max_positions:
        raise ValueError(
            f"{n} prompt tokens and {max_new_tokens} new ones exceed "
            f"max_positions={decoder.config.max_positions}: shorten one of them."
        )
    given = "embeddings" if prompt.is_floating_point() else "tokens"
    cache = decoder.make_cache(max(b, 1), n + max_new_tokens)
    check(stale)
    logits = decoder(**{given: prompt}, cache=cache, last_only=True)[:, -1]
    stops = torch.tensor(tuple(stop_tokens), dtype=torch.int64, device=prompt.device)
    ended = torch.zeros(b, dtype=torch.bool, device=prompt.device)
    new = []
    for step in range(max_new_tokens):
        token = sample(
            logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
        )
        if new:
            token = torch.where(ended, new[-1], token)
        new.append(token)
        ended = ended | torch.isin(token, stops)
        if on_token is not None:
            on_token(token)
        if ended.all() or step == max_new_tokens - 1:
            break
        check(stale)
        logits = decoder(token[:, None], cache=cache)[:, -1]
    return torch.stack(new, dim=1)
