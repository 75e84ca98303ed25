"""The attention that LSA stands on: DeepSeek-V4's window, CSA and HCA layers.

    decoder = lsa_decoder(LSAConfig(), DecoderConfig(d_model=64, n_layers=8))

Every query reads the newest tokens as they are and older ones as entries, each of which pools a
chunk of tokens; all heads share one vector per token or entry, key and value at once. CSA reads
the entries that its lightning indexer scores highest, HCA reads all of its few.

`reference.py` says the same with loops.

Source: DeepSeek-V4 report, section 2.3; arXiv:2606.09079v2, section 2.1.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, rms_norm

from intuitive.common.decoder import Decoder, DecoderConfig, Probe, RMSNorm

from .cache import LSACache, Readable
from .config import Kind, LSAConfig
from .fast import read_one
from .rotary import hadamard, layer_rates, turn

QUERIES_AT_A_TIME = 512  # whose selected entries are gathered together


@dataclass(frozen=True, eq=False)
class Look:
    """What a CSA layer did in one call; detached. Chunks count from 0; -1 is an empty slot."""

    hidden: Float[Tensor, "b n d_model"]  # input of the attention
    positions: Int[Tensor, "b n"]
    index_keys: Float[Tensor, "b r d_idx"]
    ids: Int[Tensor, "b r"]  # chunks of the entries that were at hand
    scores: Float[Tensor, "b n r"]  # of the lightning indexer; -inf: not yet closed
    selected: Int[Tensor, "b n k"]  # chunks read, rising
    wanted: Int[Tensor, "b n k"]  # chunks that would be read were all that is at hand resident
    mass: Float[Tensor, "b n r"]  # softmax mass on each entry, averaged over heads


class Compressor(nn.Module):
    """Pools chunks of tokens into entries: per channel, a softmax over the tokens' gates.

    With overlap a token gives two values and two gates, one for the next chunk's entry and one
    for its own, and an entry pools two chunks; the first entry has nothing before it.

    Args:
        d_model: channels of the input.
        d: channels of an entry.
        size: tokens per chunk.
        overlap: whether entries pool the chunk before as well.
        norm_eps: of the norm at the end.
    """

    def __init__(self, d_model: int, d: int, size: int, *, overlap: bool, norm_eps: float) -> None:
        super().__init__()
        self.d, self.size, self.overlap = d, size, overlap
        series = 2 if overlap else 1
        self.w_value = nn.Linear(d_model, series * d, bias=False)
        self.w_gate = nn.Linear(d_model, series * d, bias=False)
        self.slot_bias = nn.Parameter(torch.zeros(size, series * d))
        self.norm = RMSNorm(d, norm_eps)

    def project(
        self, hidden: Float[Tensor, "b n d_model"]
    ) -> tuple[Float[Tensor, "b n series_d"], Float[Tensor, "b n series_d"]]:
        """Values and gates of single tokens; with overlap those for the next chunk come first."""
        return self.w_value(hidden), self.w_gate(hidden)

    def pool(
        self,
        values: Float[Tensor, "b t series_d"],
        gates: Float[Tensor, "b t series_d"],
        *,
        starts_text: bool,
    ) -> Float[Tensor, "b r d"]:
        """Entries of whole chunks, positions not yet applied.

        Args:
            values, gates: of whole chunks of tokens. With overlap the first chunk only serves the
                second, unless it opens the text.
            starts_text: whether the first of these tokens is the text's first.
        """
        chunks = (values.shape[1] // self.size, self.size)
        gates = gates.unflatten(1, chunks) + self.slot_bias
        values = values.unflatten(1, chunks)  # [b, chunks, size, series * d]
        if self.overlap:
            given_values, values = values.split(self.d, -1)
            given_gates, gates = gates.split(self.d, -1)
            before = [
                pad(x, (0, 0, 0, 0, 1, 0), value=fill)[:, :-1]
                for x, fill in ((given_values, 0.0), (given_gates, -math.inf))
            ]
            values, gates = torch.cat((before[0], values), 2), torch.cat((before[1], gates), 2)
            if not starts_text:
                values, gates = values[:, 1:], gates[:, 1:]
        wide = torch.promote_types(values.dtype, torch.float32)
        pooled = (gates.to(wide).softmax(2).to(values.dtype) * values).sum(2)
        return self.norm(pooled)


class LSAAttention(nn.Module):
    """One window, CSA or HCA layer; keeps the attention contract of `intuitive.common.decoder`.

    Args:
        config: sizes.
        kind: which of the three.

    `selects` may be set to False: a CSA layer then reads every closed entry, as it does while the
    indexer has not been trained. `watch`, if set, is called with a `Look` in every call.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, config: LSAConfig, kind: Kind) -> None:
        super().__init__()
        if kind not in ("window", "csa", "hca"):
            raise ValueError(f"kind={kind!r} is unknown: 'window', 'csa' or 'hca'.")
        self.config, self.kind = config, kind
        self.selects = True
        self.watch: Callable[[Look], None] | None = None
        heads, d, eps = config.n_heads, config.d_head, config.norm_eps
        self.w_dq = nn.Linear(config.d_model, config.q_rank, bias=False)
        self.norm_q = RMSNorm(config.q_rank, eps)
        self.w_uq = nn.Linear(config.q_rank, heads * d, bias=False)
        self.w_kv = nn.Linear(config.d_model, d, bias=False)
        self.norm_kv = RMSNorm(d, eps)
        self.sinks = nn.Parameter(torch.zeros(heads))
        groups = config.o_groups
        self.w_oa = nn.Linear(heads * d // groups, groups * config.o_rank, bias=False)
        self.w_o = nn.Linear(groups * config.o_rank, config.d_model, bias=False)
        if kind == "hca":
            self.compressor = Compressor(
                config.d_model, d, config.hca_size, overlap=False, norm_eps=eps
            )
        elif kind == "csa":
            sizes = {"size": config.chunk_size, "overlap": True, "norm_eps": eps}
            self.compressor = Compressor(config.d_model, d, **sizes)
            self.index_compressor = Compressor(config.d_model, config.d_index, **sizes)
            self.w_iuq = nn.Linear(config.q_rank, config.n_index_heads * config.d_index, bias=False)
            self.w_iw = nn.Linear(config.d_model, config.n_index_heads, bias=False)

    def make_cache(
        self, batch: int, capacity: int, device: torch.device | str, dtype: torch.dtype
    ) -> LSACache:
        """An empty cache for `batch` rows of up to `capacity` tokens."""
        return LSACache(self.config, self.kind, batch, capacity, device, dtype)

    # ------------------------------------------------------------------------ the parts

    def rates(self) -> Float[Tensor, " pairs"]:
        """Radians per token of each pair of channels."""
        return layer_rates(self.config, compressed=self.kind != "window")

    def queries(
        self, low: Float[Tensor, "b n q_rank"], positions: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n h d"]:
        """Queries of all heads, each normalised without a gain, then turned."""
        d = self.config.d_head
        q = rms_norm(self.w_uq(low).unflatten(-1, (-1, d)), (d,), eps=self.config.norm_eps)
        return turn(q, positions, self.rates())

    def index_queries(
        self,
        hidden: Float[Tensor, "b n d_model"],
        low: Float[Tensor, "b n q_rank"],
        positions: Int[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b n h_idx d_idx"], Float[Tensor, "b n h_idx"]]:
        """Queries and scaled head weights of the lightning indexer."""
        config = self.config
        q = turn(self.w_iuq(low).unflatten(-1, (-1, config.d_index)), positions, self.rates())
        scale = (config.n_index_heads * config.d_index) ** -0.5
        return self._stored(q), self.w_iw(hidden) * scale

    def _stored(self, x: Tensor) -> Tensor:
        """Index queries and keys as they are stored, spread over channels or not."""
        return hadamard(x) if self.config.hadamard else x

    def close_chunks(
        self,
        tokens: dict[str, Tensor],
        first: int,
        n_entries: int,
        *,
        only: tuple[str, ...] = ("entries", "index_keys"),
    ) -> dict[str, Float[Tensor, "b r _"]]:
        """Entries and index keys of the chunks that these tokens close.

        Args:
            tokens: the newest tokens of the text: `positions`, and each compressor's projections.
            first: number of the first of them.
            n_entries: entries that there are already.
            only: which of the two are made.
        """
        size = self.compressor.size
        length = first + tokens["positions"].shape[1]
        start = max(n_entries - 1, 0) if self.compressor.overlap else n_entries
        taken = slice(start * size - first, length // size * size - first)
        positions = tokens["positions"][:, n_entries * size - first : taken.stop : size]
        made = {}
        for name, compressor in self._compressors().items():
            if name not in only:
                continue
            entries = compressor.pool(
                tokens[f"{name}_values"][:, taken],
                tokens[f"{name}_gates"][:, taken],
                starts_text=n_entries == 0,
            )
            made[name] = turn(entries, positions, self.rates())
        if "index_keys" in made:
            made["index_keys"] = self._stored(made["index_keys"])
        return made

    def _compressors(self) -> dict[str, Compressor]:
        if self.kind == "window":
            return {}
        if self.kind == "hca":
            return {"entries": self.compressor}
        return {"entries": self.compressor, "index_keys": self.index_compressor}

    def output(
        self, read: Float[Tensor, "b n h d"], positions: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n d_model"]:
        """Undo the turn of what was read, and mix the heads, first within their groups.

        Values were turned with their keys; turned back at the query's position they hold the
        distance between the two, and not where they stood.
        """
        read = turn(read, positions, self.rates(), back=True)
        groups = self.config.o_groups
        grouped = read.flatten(2).unflatten(-1, (groups, -1))
        weight = self.w_oa.weight.unflatten(0, (groups, -1))  # [groups, rank, in]
        return self.w_o(torch.einsum("bngi,gri->bngr", grouped, weight).flatten(2))

    # ------------------------------------------------------------------------- the whole

    def forward(
        self,
        hidden: Float[Tensor, "b n d_model"],
        positions: Int[Tensor, "b n"],
        *,
        cache: LSACache | None = None,
        probe: Probe | None = None,
    ) -> Float[Tensor, "b n d_model"]:
        low = self.norm_q(self.w_dq(hidden))
        q = self.queries(low, positions)
        kv = turn(self.norm_kv(self.w_kv(hidden)), positions, self.rates())
        tokens, start = {"kv": kv, "positions": positions}, 0
        for name, compressor in self._compressors().items():
            projected = compressor.project(hidden)
            tokens[f"{name}_values"], tokens[f"{name}_gates"] = projected
        first, readable = 0, None
        if cache is not None:
            start = cache.length
            tokens, first = cache.append(**tokens)
        one = self.kind != "window" and cache is not None and q.shape[1] == 1
        one = one and self.watch is None
        if self.kind != "window":
            made = self.close_chunks(tokens, first, 0 if cache is None else cache.n_entries)
            if cache is None:
                readable = everything(**made)
            else:
                cache.add_entries(**made)
                if probe is not None or not one:
                    readable = cache.readable()
        if probe is not None:
            seen = tokens["kv"] if readable is None else self._all(tokens["kv"], readable)
            probe.see(hidden, q, seen[:, :, None], seen[:, :, None])
        index = None
        if self.kind == "csa" and (one or readable is not None):
            index = self.index_queries(hidden, low, positions)
        if one:
            read = self._read_one(q, tokens["kv"], cache, index)
        else:
            read = self.read(q, tokens["kv"], readable, index, start, (hidden, positions))
        return self.output(read, positions)

    def _read_one(
        self,
        q: Float[Tensor, "b n h d"],
        kv: Float[Tensor, "b t d"],
        cache: LSACache,
        index: tuple[Float[Tensor, "b n h_idx d_idx"], Float[Tensor, "b n h_idx"]] | None,
    ) -> Float[Tensor, "b n h d"]:
        """The same for one token with a cache, from stored rows."""
        if index is not None:
            index = (index[0][:, 0], index[1][:, 0]) if self.selects else None
        window, top_k = kv[:, -self.config.window :], self.config.top_k
        return read_one(q[:, 0], window, self.sinks, cache.stored(), index, top_k=top_k)[:, None]

    @staticmethod
    def _all(kv: Tensor, readable: Readable) -> Tensor:
        return torch.cat((kv, readable.entries.to(kv.dtype)), 1)

    def read(
        self,
        q: Float[Tensor, "b n h d"],
        kv: Float[Tensor, "b t d"],
        readable: Readable | None,
        index: tuple[Float[Tensor, "b n h_idx d_idx"], Float[Tensor, "b n h_idx"]] | None,
        start: int,
        seen: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "b n h d"]:
        """What the queries read, still turned.

        Args:
            q: queries of the newest n tokens.
            kv: vectors of the newest t >= n tokens.
            readable: entries; None in a layer that has none.
            index: queries and weights of the lightning indexer.
            start: tokens before these n.
            seen: hidden states and positions, for whoever watches.
        """
        b, n = q.shape[:2]
        width = self.config.window
        recent = kv[:, -(width - 1 + n) :]
        missing = width - 1 + n - recent.shape[1]
        windows = pad(recent, (0, 0, missing, 0)).unfold(1, width, 1).transpose(2, 3)
        steps = torch.arange(n, device=q.device)
        in_text = steps[:, None] + torch.arange(width, device=q.device) >= missing  # [n, window]
        parts, looks = [], []
        for rows in steps.split(QUERIES_AT_A_TIME):
            at = slice(int(rows[0]), int(rows[-1]) + 1)
            near = (windows[:, at], in_text[at].expand(b, -1, -1))
            if readable is None:
                parts.append(sink_attention(q[:, at], self.sinks, *near)[0])
                continue
            closed = (start + rows + 1) // self.compressor.size
            allowed = readable.ids[:, None] < closed[:, None]  # [b, n, r]
            there = allowed & readable.there[:, None]
            whole = (readable.entries, there)
            if index is None or not (self.selects or self.watch):
                parts.append(sink_attention(q[:, at], self.sinks, *near, *whole)[0])
                continue
            iq, iw = index
            scores = index_scores(iq[:, at], iw[:, at], readable.keys)
            scores = scores.masked_fill(~allowed, -math.inf)
            k = min(self.config.top_k, scores.shape[-1]) if self.selects else scores.shape[-1]
            slots, full = top_slots(scores.masked_fill(~there, -math.inf), k)
            far = (
                (take(readable.entries, slots), full) if self.selects else (readable.entries, there)
            )
            out, mass = sink_attention(q[:, at], self.sinks, *near, *far)
            parts.append(out)
            if self.watch is not None:
                looks.append(self._look(scores, slots, full, mass, readable, k))
        if looks and self.watch is not None:
            hidden, positions = seen
            joined = [torch.cat(parts_of, 1).detach() for parts_of in zip(*looks, strict=True)]
            about = (hidden.detach(), positions, readable.keys.detach(), readable.ids)
            self.watch(Look(*about, *joined))
        return torch.cat(parts, 1)

    def _look(
        self,
        scores: Tensor,
        slots: Tensor,
        full: Tensor,
        mass: Tensor,
        readable: Readable,
        k: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores, chunks selected, chunks wanted and mass, as a `Look` holds them."""
        ids = readable.ids[:, None].expand_as(scores)
        wished, any_wish = top_slots(scores, k)
        mass = mass.mean(2)  # [b, n, slots]
        if self.selects:
            mass = torch.zeros_like(scores).scatter(-1, slots, mass.to(scores.dtype))
        selected, wanted = (
            ids.gather(-1, at).masked_fill(~valid, -1)
            for at, valid in ((slots, full), (wished, any_wish))
        )
        return scores, selected, wanted, mass


# ------------------------------------------------------------------------------ functions


def everything(
    entries: Float[Tensor, "b r d"], index_keys: Float[Tensor, "b r d_idx"] | None = None
) -> Readable:
    """All entries, none of them out of reach."""
    b, r = entries.shape[:2]
    ids = torch.arange(r, device=entries.device).expand(b, -1)
    return Readable(entries, index_keys, ids, torch.ones_like(ids, dtype=torch.bool))


def index_scores(
    q: Float[Tensor, "b n h_idx d_idx"],
    weights: Float[Tensor, "b n h_idx"],
    keys: Float[Tensor, "b r d_idx"],
) -> Float[Tensor, "b n r"]:
    """Σ_h w_h · ReLU(q_h · K_s) in float32 or wider, head by head.

    Source: DeepSeek-V4 report, Eq. 16, the formula of V3.2's indexer.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    q, weights, keys = q.to(wide), weights.to(wide), keys.to(wide).transpose(1, 2)
    total = q.new_zeros(*q.shape[:2], keys.shape[-1])
    for head in range(q.shape[2]):
        total = total + weights[:, :, head, None] * (q[:, :, head] @ keys).relu()
    return total


def top_slots(
    scores: Float[Tensor, "b n r"], k: int
) -> tuple[Int[Tensor, "b n k"], Bool[Tensor, "b n k"]]:
    """Slots of the k highest scores, rising; the lower slot wins a tie. False: nothing there.

    Args:
        scores: -inf marks what may not be chosen.
        k: at most as many as there are.
    """
    best = scores.detach().sort(dim=-1, descending=True, stable=True).indices[..., :k]
    best = best.sort(dim=-1).values
    return best, scores.gather(-1, best) > -math.inf


def take(entries: Float[Tensor, "b r d"], slots: Int[Tensor, "b n k"]) -> Float[Tensor, "b n k d"]:
    """The entries in each query's slots."""
    rows = torch.arange(entries.shape[0], device=entries.device)[:, None, None]
    return entries[rows, slots]


def sink_attention(
    q: Float[Tensor, "b n h d"],
    sinks: Float[Tensor, " h"],
    near: Float[Tensor, "b n w d"],
    near_there: Bool[Tensor, "b n w"],
    far: Float[Tensor, "b n k d"] | Float[Tensor, "b k d"] | None = None,
    far_there: Bool[Tensor, "b n k"] | None = None,
) -> tuple[Float[Tensor, "b n h d"], Float[Tensor, "b n h k"]]:
    """Softmax attention in which key and value are one vector, with a sink logit per head.

    The sink takes a share of the probability and gives nothing: a head may read less than all.

    Args:
        q: queries; logits are scaled by 1/√d.
        sinks: a logit of each head.
        near: vectors of each query's window.
        near_there: which of them exist.
        far: entries, each query's own or the same for all.
        far_there: which of them may be read.

    Returns:
        What each head read, and its probability on each entry.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    q_wide, near = q.to(wide) * q.shape[-1] ** -0.5, near.to(wide)
    logits = [
        torch.einsum("bnhd,bnwd->bnhw", q_wide, near).masked_fill(
            ~near_there[:, :, None], -math.inf
        )
    ]
    if far is not None:
        far = far.to(wide)
        axes = "bnkd" if far.dim() == 4 else "bkd"
        scores = torch.einsum(f"bnhd,{axes}->bnhk", q_wide, far)
        logits.append(scores.masked_fill(~far_there[:, :, None], -math.inf))
    logits.append(sinks.to(wide).expand(*q.shape[:2], -1)[..., None])
    p = torch.cat(logits, -1).softmax(-1)
    p_near, p_far = p[..., : near.shape[2]], p[..., near.shape[2] : -1]
    read = torch.einsum("bnhw,bnwd->bnhd", p_near, near)
    if far is not None:
        read = read + torch.einsum(f"bnhk,{axes}->bnhd", p_far, far)
    return read.to(q.dtype), p_far


@contextlib.contextmanager
def watching(decoder: Decoder, receive: Callable[[int, Look], None]) -> Iterator[None]:
    """Call `receive(ordinal, look)` whenever a CSA layer has run; ordinals count CSA layers."""
    layers = [layer.attention for layer in decoder.layers]
    layers = [attention for attention in layers if getattr(attention, "kind", None) == "csa"]
    former = [attention.watch for attention in layers]
    for ordinal, attention in enumerate(layers):
        attention.watch = lambda look, ordinal=ordinal: receive(ordinal, look)
    try:
        yield
    finally:
        for attention, watch in zip(layers, former, strict=True):
            attention.watch = watch


def missed(look: Look) -> Int[Tensor, "b n"]:
    """Chunks that each query would have read, were all at hand resident, and did not read.

    The selection fills up with lower-ranked chunks, so that nothing else shows a miss.
    """
    wanted, selected = look.wanted[..., :, None], look.selected[..., None, :]
    return ((wanted >= 0) & ~(wanted == selected).any(-1, keepdim=True)).sum((-1, -2))


def lsa_decoder(
    config: LSAConfig, decoder: DecoderConfig, *, generator: torch.Generator | None = None
) -> Decoder:
    """A decoder with these layers; the sinks begin at 0.

    Args:
        config: attention.
        decoder: everything else; its heads are not used.
        generator: of the first weights.

    Raises:
        ValueError: another width or number of layers than the attention's.
    """
    for name, ours in (("d_model", config.d_model), ("n_layers", len(config.layers))):
        if getattr(decoder, name) != ours:
            raise ValueError(
                f"{name}={getattr(decoder, name)} of the decoder differs from the attention's "
                f"{ours}: give both the same."
            )
    kinds = iter(config.layers)
    made = Decoder(decoder, lambda _: LSAAttention(config, next(kinds)), generator=generator)
    with torch.no_grad():
        for layer in made.layers:
            if not layer.attention.sinks.is_meta:
                layer.attention.sinks.zero_()
    return made
