"""The numbers behind the lesson's explorers, as frozen records.

Block selection: `read_text` runs the language model over a text once and keeps every layer's
queries and keys; `select_in_text` then answers any setting of the sliders from them. What it
costs: `cost_curves` draws Eq. 12 against the context, `measure_here` times the kernels on a GPU.
The needle: `needle` plants one strong token and asks which pooling finds it.

Arrays in results are read-only numpy arrays, ready to draw; a record's `params` reproduce it.
Work that takes long asks `stale()` between its steps and raises `Cancelled` once nobody waits.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder, Probe, Seen
from intuitive.common.runtime import (
    Cancelled,
    Measurement,
    check,
    device_name,
    measure,
    never,
    seeded,
)
from intuitive.common.settings import Settings
from intuitive.common.smollm import SmolLM2
from intuitive.common.training import Progress, silent
from intuitive.kernels import (
    block_scores,
    block_sparse_attention,
    score_and_select,
    select_blocks,
)

from . import cost, reference
from .config import MSAConfig
from .convert import TrainedIndex, convert
from .reference import SELECTORS

__all__ = [
    "TRAINED_INDEX",
    "UNTRAINED_INDEX",
    "Cancelled",
    "CostParams",
    "CostResult",
    "Measured",
    "NeedleParams",
    "NeedleResult",
    "SelectionParams",
    "SelectionResult",
    "TextSample",
    "cost_curves",
    "measure_here",
    "needle",
    "read_text",
    "select_in_text",
    "synthetic_sample",
]

# Selectors of texts that were read with an index: that one, and one as it was drawn.
TRAINED_INDEX, UNTRAINED_INDEX = "trained_index", "untrained_index"
INDEXES = (TRAINED_INDEX, UNTRAINED_INDEX)

Stale = Callable[[], bool]
T = TypeVar("T")


class _Recent:
    """The results used last, by key; may be asked from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()  # outside the lock: two threads may both make it, none waits for another
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return made


def _array(values: Tensor) -> np.ndarray:
    array = values.numpy(force=True)
    array.setflags(write=False)
    return array


# -------------------------------------------------------------------------- a text, read once


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSample:
    """A text and what every layer's attention made of it."""

    key: str  # names the content, for caches
    title: str
    note: str  # a sentence for the reader, such as that the text was cut; often empty
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]  # one piece of text per token, together the whole text
    queries: tuple[Float[Tensor, "n h_q d"], ...]  # by layer, positions applied
    keys: tuple[Float[Tensor, "n h_kv d"], ...]
    # By selector, then by layer; empty where the text was read without a trained index.
    index_queries: dict[str, tuple[Float[Tensor, "n h_kv d_idx"], ...]] = field(
        default_factory=dict
    )
    index_keys: dict[str, tuple[Float[Tensor, "n d_idx"], ...]] = field(default_factory=dict)

    @property
    def selectors(self) -> tuple[str, ...]:
        """Names of the selectors that this text offers."""
        return (*SELECTORS, *self.index_queries)

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def n_layers(self) -> int:
        return len(self.queries)

    @property
    def n_groups(self) -> int:
        return self.keys[0].shape[1]


_samples = _Recent(3)  # about 100 MB each at 1,024 tokens
_serial = itertools.count()


def read_text(
    text: str,
    *,
    model: SmolLM2,
    index: TrainedIndex | None = None,
    title: str = "Your text",
    max_tokens: int = 1024,
    min_tokens: int = 64,
    stale: Stale = never,
    progress: Progress = silent,
) -> TextSample:
    """Run the model over a text and keep the queries and keys of all layers.

    Args:
        text: any text; what exceeds `max_tokens` is cut off, and `note` says so.
        model: the language model.
        index: Index Branches trained on it, whose queries and keys are kept too, and those of
            untrained ones beside them; they offer the selectors "trained_index" and
            "untrained_index".
        title: a name for pictures.
        max_tokens: at most the model's context.
        min_tokens: fewer would not fill enough key blocks to choose among.
        stale: turns true when nobody waits; asked before every layer.
        progress: called with a share in [0, 1] and a sentence.

    Raises:
        ValueError: the text is empty, too short, or holds what is no text; or the index is not
            one of this model's.
        Cancelled: `stale()` became true.
    """
    if not text.strip():
        raise ValueError("The text is empty: paste a page or so of prose or code.")
    if "\x00" in text:
        raise ValueError("The text holds NUL characters, as binary files do: choose a text file.")
    try:
        digest = hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Character {error.start} of the text is half of a surrogate pair, which is no "
            "character: copy the text again, or save the file as UTF-8."
        ) from None
    n_layers = model.decoder.config.n_layers
    branches = {} if index is None else _index_branches(model, index)

    def run() -> TextSample:
        progress(0.0, "Splitting the text into tokens")
        # No token of everyday text is longer than 32 characters; this bounds what is split.
        ids = model.tokenizer.encode(text[: 32 * max_tokens])
        if len(ids) < min_tokens:
            raise ValueError(
                f"The text has {len(ids)} tokens; at least {min_tokens} are needed to have key "
                "blocks to choose among: paste a longer one."
            )
        cut = len(ids) > max_tokens or len(text) > 32 * max_tokens
        ids = ids[:max_tokens]
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in ("main", *branches)}

        def keep(name: str, *queries_and_keys: Tensor) -> None:
            seen[name].append(tuple(part[0].float().cpu() for part in queries_and_keys))

        def receive(layer: Seen) -> None:
            check(stale)
            keep("main", layer.q, layer.k)
            positions = torch.arange(len(ids), device=layer.q.device)[None]
            for name, decoder in branches.items():
                keep(name, *decoder.layers[layer.layer].attention.index(layer.hidden, positions))
            done = layer.layer + 1
            progress(done / n_layers, f"Read by layer {done} of {n_layers}")

        check(stale)
        with torch.inference_mode():
            tokens = torch.tensor([ids], device=model.decoder.embedding.weight.device)
            model.decoder.hidden(tokens, probe=Probe(tuple(range(n_layers)), receive))
        by_layer = {name: tuple(zip(*layers, strict=True)) for name, layers in seen.items()}
        queries, keys = by_layer.pop("main")
        return TextSample(
            key=f"text {next(_serial)}",
            title=title,
            note=f"Only the first {len(ids):,} tokens of the text are used." if cut else "",
            token_ids=tuple(ids),
            tokens=tuple(model.tokenizer.token_strings(ids)),
            queries=queries,
            keys=keys,
            index_queries={name: pair[0] for name, pair in by_layer.items()},
            index_keys={name: pair[1] for name, pair in by_layer.items()},
        )

    # Model and index are kept with their sample: their ids stay taken as long as the entry lives.
    key = (digest, max_tokens, min_tokens, id(model), id(index))
    *_, sample = _samples.get(key, lambda: (model, index, run()))
    return dataclasses.replace(sample, title=title)


@functools.lru_cache(maxsize=2)
def _index_branches(model: SmolLM2, index: TrainedIndex) -> dict[str, Decoder]:
    """The model with an index in every layer, trained and untrained.

    Kept, since every slider move asks for its text.
    """
    config = model.decoder.config
    heads = {name: getattr(config, name) for name in ("n_q_heads", "n_kv_heads", "d_head")}
    msa, layers = MSAConfig(**heads, d_index=index.d_index), range(config.n_layers)
    return {
        TRAINED_INDEX: convert(model.decoder, msa, index, layers=layers),
        UNTRAINED_INDEX: convert(model.decoder, msa, None, layers=layers, generator=seeded(0)),
    }


def synthetic_sample(*, n: int = 512, n_layers: int = 2, seed: int = 0) -> TextSample:
    """Made-up heads with the habits of real ones, for use without a model file.

    Six query heads in three groups like the first token, the tokens just before, and a stripe of
    tokens that each group finds elsewhere.

    Args:
        n: tokens; `n_layers`: layers, stripes stronger in later ones; `seed`: local randomness.
    """
    generator = torch.Generator().manual_seed(seed)
    h_kv, group, d = 3, 2, 32
    queries, keys = [], []
    position = torch.arange(n)
    for layer in range(n_layers):
        q = torch.randn(n, h_kv * group, d, generator=generator)
        k = torch.randn(n, h_kv, d, generator=generator)
        for channel, wave in enumerate((0.03, 0.007)):  # nearby positions agree
            for axis, turn in enumerate((torch.cos, torch.sin)):
                q[..., 2 * channel + axis] = 4 * turn(wave * position)[:, None]
                k[..., 2 * channel + axis] = 3 * turn(wave * position)[:, None]
        q[..., 4], k[..., 4] = 6.0, 0.0
        k[0, :, 4] = 10.0  # the first token collects attention
        q[..., 5], k[..., 5] = 4.0 + layer, 0.0
        for r in range(h_kv):
            k[(11 + 17 * r) :: 83 + 14 * r, r, 5] = 9.0
        queries.append(q)
        keys.append(k)
    return TextSample(
        key=f"synthetic {n} {n_layers} {seed}",
        title="Made-up heads",
        note="These queries and keys are made up: the language model is not on this machine.",
        token_ids=tuple(range(n)),
        tokens=tuple(f"t{i} " for i in range(n)),
        queries=tuple(queries),
        keys=tuple(keys),
    )


# ------------------------------------------------------------------ explorer 1: block selection


@dataclass(frozen=True, kw_only=True)
class SelectionParams(Settings):
    """The sliders of the block selection explorer.

    What depends on the text, such as the last layer and query, is checked by `select_in_text`.
    """

    layer: int = 10
    query: int = -1  # position of the query; -1 is the last
    block_size: int = 32  # tokens
    n_selected: int = 6  # blocks
    n_local: int = 1
    n_init: int = 0
    selector: str = "main_max"
    group: int = 0  # the GQA group that readouts and highlighted text follow

    def __post_init__(self) -> None:
        known = (*SELECTORS, *INDEXES)
        if self.selector not in known:
            raise ValueError(
                f"selector={self.selector!r} is unknown; choose one of {', '.join(known)}."
            )
        # The sizes must make a layer; its messages hold for the sliders as well.
        MSAConfig(
            block_size=self.block_size,
            n_selected=self.n_selected,
            n_local=self.n_local,
            n_init=self.n_init,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectionResult:
    """What one layer selects, for all queries and for one looked at closely.

    "Mass" is a share of dense attention, averaged over a group's heads, in [0, 1].
    """

    params: SelectionParams
    title: str
    note: str
    tokens: tuple[str, ...]  # the whole text, one piece per token
    n_layers: int
    query: int  # resolved position, from 0

    # The query looked at
    token_scores: Float[np.ndarray, "h_kv n"]  # what the selector pools; -inf in the future
    token_mass: Float[np.ndarray, "h_kv n"]
    block_scores: Float[np.ndarray, "h_kv n_blk"]  # -inf in the future
    block_mass: Float[np.ndarray, "h_kv n_blk"]
    tokens_read: Bool[np.ndarray, "h_kv n"]
    n_visible: int  # tokens at or before the query
    n_read: Int[np.ndarray, " h_kv"]  # tokens read of these
    local_block: int  # the block that holds the query
    local_visible: int  # tokens of that block at or before the query
    overlap: Float[np.ndarray, "h_kv h_kv"]  # share of blocks two groups both chose
    block_recall: Float[np.ndarray, " h_kv"]  # share of the oracle's blocks chosen
    captured: dict[str, Float[np.ndarray, " h_kv"]]  # by selector, all at this budget

    # All queries
    block_idx: Int[np.ndarray, "n h_kv n_sel"]  # -1 marks an empty slot
    selected: Bool[np.ndarray, "h_kv n n_blk"]
    captured_mean: dict[str, Float[np.ndarray, " h_kv"]]  # over queries that must leave some out
    n_choosing: int  # how many queries see more blocks than they may read
    overlap_mean: Float[np.ndarray, "h_kv h_kv"]  # over the same queries

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    @property
    def n_blocks(self) -> int:
        return self.block_scores.shape[-1]


_tables = _Recent(16)
_choices = _Recent(32)


def _table(
    sample: TextSample, layer: int, block_size: int, stale: Stale
) -> dict[str, Float[Tensor, "n h_kv n_blk"]]:
    """Block scores of every selector for all queries of one layer."""

    def make() -> dict[str, Tensor]:
        table = {}
        for name in SELECTORS:
            check(stale)
            table[name] = reference.selector_scores(
                name, sample.queries[layer], sample.keys[layer], block_size=block_size
            )
        for name, q_idx in sample.index_queries.items():
            check(stale)
            scores = block_scores(
                q_idx[layer][None], sample.index_keys[name][layer][None], block_size=block_size
            )
            table[name] = scores[0] / math.sqrt(q_idx[layer].shape[-1])
        return table

    return _tables.get((sample.key, layer, block_size), make)


@dataclass(frozen=True, eq=False)
class _Choice:
    """One selector's blocks for all queries, and the mass they capture."""

    block_idx: Int[Tensor, "n h_kv n_sel"]
    captured: Float[Tensor, "n h_kv"]


def _choose(
    table: dict[str, Tensor], sample: TextSample, params: SelectionParams, stale: Stale
) -> dict[str, _Choice]:
    """Every selector's choice at the same budget."""

    def make() -> dict[str, _Choice]:
        choices = {}
        mass = table["oracle"].clamp(min=0)  # the future counts -inf there
        for name, scores in table.items():
            check(stale)
            block_idx = select_blocks(
                scores[None],
                n_selected=params.n_selected,
                block_size=params.block_size,
                n_local=params.n_local,
                n_init=params.n_init,
            )[0]
            choices[name] = _Choice(block_idx, reference.mass_captured(mass, block_idx))
        return choices

    budget = (params.block_size, params.n_selected, params.n_local, params.n_init)
    return _choices.get((sample.key, params.layer, *budget), make)


def _check_against(sample: TextSample, params: SelectionParams) -> int:
    """The query's position; raises ValueError where a setting does not fit the text."""
    n = sample.n_tokens
    for name, value, count, thing in (
        ("layer", params.layer, sample.n_layers, "layers"),
        ("group", params.group, sample.n_groups, "groups"),
    ):
        if not 0 <= value < count:
            raise ValueError(
                f"{name}={value} must lie from 0 to {count - 1}: there are {count} {thing}."
            )
    if not -n <= params.query < n:
        raise ValueError(f"query={params.query} must lie from 0 to {n - 1}, or be -1 for the last.")
    if params.selector not in sample.selectors:
        raise ValueError(
            f"selector={params.selector!r} needs an index, and this text was read without "
            f"one: pass index=load_index() to read_text, or choose {', '.join(SELECTORS)}."
        )
    return params.query % n


@torch.inference_mode()
def select_in_text(
    sample: TextSample, params: SelectionParams, *, stale: Stale = never
) -> SelectionResult:
    """Select key blocks for every query of one layer, and compare the selectors.

    `token_scores` are what the chosen selector pools over tokens: the greatest score among the
    group's heads (main_max, main_mean), the score of their mean query (block_mean_keys), the
    index score (trained_index, untrained_index), or the attention probability itself (oracle, and
    window_sink, which scores no token).

    Args:
        sample: from `read_text`.
        params: the sliders.
        stale: turns true when nobody waits; asked before every selector.

    Raises:
        ValueError: layer, query or group do not exist in this text, or it was read without the
            trained index that is asked for.
        Cancelled: `stale()` became true.
    """
    query = _check_against(sample, params)
    table = _table(sample, params.layer, params.block_size, stale)
    choices = _choose(table, sample, params, stale)
    check(stale)
    block_idx = choices[params.selector].block_idx  # [n, h_kv, n_sel]
    n, n_groups, n_blk = sample.n_tokens, sample.n_groups, table["oracle"].shape[-1]

    q, k = sample.queries[params.layer][query : query + 1], sample.keys[params.layer][: query + 1]
    scores = reference.group_queries(reference.main_scores(q, k)[0], n_groups)  # [h_kv, g, seen]
    token_mass = scores.softmax(-1).mean(1)
    if params.selector in ("main_max", "main_mean"):
        token_scores = scores.amax(1)
    elif params.selector == "block_mean_keys":
        token_scores = scores.mean(1)
    elif params.selector in INDEXES:
        q_idx = sample.index_queries[params.selector][params.layer][query : query + 1]
        k_idx = sample.index_keys[params.selector][params.layer][: query + 1]
        token_scores = reference.token_scores(q_idx[None], k_idx[None])[0, 0]
    else:
        token_scores = token_mass
    future = (0, n - query - 1)

    selected = torch.zeros(n, n_groups, n_blk + 1, dtype=torch.bool)  # -1 falls into the extra one
    selected = selected.scatter_(-1, block_idx.long() % (n_blk + 1), True)[..., :n_blk]
    position = torch.arange(n)
    tokens_read = selected[query][:, position // params.block_size] & (position <= query)
    first_choosing = params.n_selected * params.block_size  # the first query that sees k+1 blocks
    n_choosing = max(0, n - first_choosing)
    rows = slice(first_choosing, n) if n_choosing else slice(0, n)
    return SelectionResult(
        params=params,
        title=sample.title,
        note=sample.note,
        tokens=sample.tokens,
        n_layers=sample.n_layers,
        query=query,
        token_scores=_array(torch.nn.functional.pad(token_scores, future, value=-math.inf)),
        token_mass=_array(torch.nn.functional.pad(token_mass, future)),
        block_scores=_array(table[params.selector][query]),
        block_mass=_array(table["oracle"][query].clamp(min=0)),
        tokens_read=_array(tokens_read),
        n_visible=query + 1,
        n_read=_array(tokens_read.sum(-1)),
        local_block=query // params.block_size,
        local_visible=query % params.block_size + 1,
        overlap=_array(reference.group_overlap(block_idx[query : query + 1])[0]),
        block_recall=_array(
            reference.block_recall(block_idx[query], choices["oracle"].block_idx[query])
        ),
        captured={name: _array(choice.captured[query]) for name, choice in choices.items()},
        block_idx=_array(block_idx),
        selected=_array(selected.transpose(0, 1)),
        captured_mean={
            name: _array(choice.captured[rows].mean(0)) for name, choice in choices.items()
        },
        n_choosing=n_choosing,
        overlap_mean=_array(reference.group_overlap(block_idx[rows]).mean(0)),
    )


# ------------------------------------------------------------------- explorer 2: what it costs

SHORTEST, LONGEST = 4 * 1024, 1024 * 1024  # contexts of the curves, tokens
PREFILLED = 8192  # queries at a time, when a prompt is taken in pieces


@dataclass(frozen=True, kw_only=True)
class CostParams(Settings):
    """The sliders of the cost explorer: one layer's sizes, the paper's by default."""

    context: int = 131_072  # tokens
    n_q_heads: int = 64
    n_kv_heads: int = 4
    d_head: int = 128
    d_index: int = 128
    block_size: int = 128
    n_selected: int = 16
    element_bytes: int = 2

    def __post_init__(self) -> None:
        cost.check_context(self.context)
        if self.element_bytes not in (1, 2, 4):
            raise ValueError(
                f"element_bytes={self.element_bytes} must be 1 (fp8), 2 (bf16, fp16) or 4 (fp32)."
            )
        _ = self.config

    @property
    def config(self) -> MSAConfig:
        """The layer, checked."""
        sizes = {f.name for f in dataclasses.fields(MSAConfig)}
        return MSAConfig(**{k: v for k, v in dataclasses.asdict(self).items() if k in sizes})


@dataclass(frozen=True, kw_only=True, eq=False)
class CostCurves:
    """Costs of one layer at several contexts; FLOPs per token, bytes per decoded token."""

    contexts: Int[np.ndarray, " points"]  # tokens
    dense_flops: Float[np.ndarray, " points"]
    index_flops: Float[np.ndarray, " points"]
    main_flops: Float[np.ndarray, " points"]
    flop_ratio: Float[np.ndarray, " points"]  # dense over MSA
    index_share: Float[np.ndarray, " points"]  # of MSA's FLOPs
    dense_bytes: Float[np.ndarray, " points"]
    index_bytes: Float[np.ndarray, " points"]
    main_bytes: Float[np.ndarray, " points"]
    byte_ratio: Float[np.ndarray, " points"]  # dense over MSA


@dataclass(frozen=True, kw_only=True, eq=False)
class CostResult:
    """The curves, the same numbers at the chosen context, and what they approach."""

    params: CostParams
    curves: CostCurves
    here: CostCurves  # one point: the chosen context
    flop_ceiling: float
    byte_ceiling: float
    cache_growth: float  # index keys over keys and values
    n_prefilled: int  # queries at a time, in `memory`
    memory: dict[str, dict[str, int]]  # bytes of "dense" and "msa" by category, see `cost`
    largest_memory: int  # bytes of the dearer one at the longest context, with the most blocks
    break_even: float | None  # tokens; None where MSA never costs less


def cost_curves(params: CostParams) -> CostResult:
    """Costs from 4K to 1M tokens, four points per doubling, and at the chosen context."""
    config = params.config
    steps = 4 * round(math.log2(LONGEST / SHORTEST))
    contexts = [round(SHORTEST * 2 ** (step / 4)) for step in range(steps + 1)]
    try:
        break_even = cost.break_even_context(config)
    except ValueError:
        break_even = None
    n_prefilled = min(params.context, PREFILLED)
    size = {"element_bytes": params.element_bytes}
    most = dataclasses.replace(config, n_selected=max(64, config.n_selected))
    largest = cost.prefill_memory(most, max(LONGEST, params.context), PREFILLED, **size)
    return CostResult(
        params=params,
        curves=_costs_at(contexts, config, params.element_bytes),
        here=_costs_at([params.context], config, params.element_bytes),
        flop_ceiling=cost.flop_ceiling(config),
        byte_ceiling=cost.decode_byte_ceiling(config),
        cache_growth=cost.cache_growth(config),
        break_even=break_even,
        n_prefilled=n_prefilled,
        memory=cost.prefill_memory(config, params.context, n_prefilled, **size),
        largest_memory=max(sum(parts.values()) for parts in largest.values()),
    )


def _costs_at(contexts: list[int], config: MSAConfig, element_bytes: int) -> CostCurves:
    size = {"element_bytes": element_bytes}
    rows = []
    for n in contexts:
        rows.append(
            {
                "dense_flops": cost.dense_flops(config, n),
                "index_flops": cost.index_flops(config, n),
                "main_flops": cost.main_flops(config),
                "flop_ratio": cost.flop_ratio(config, n),
                "index_share": cost.index_flop_share(config, n),
                "dense_bytes": cost.dense_decode_bytes(config, n, **size),
                "index_bytes": cost.index_decode_bytes(config, n, **size),
                "main_bytes": cost.main_decode_bytes(config, n, **size),
                "byte_ratio": cost.decode_byte_ratio(config, n),
            }
        )
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    return CostCurves(contexts=np.array(contexts), **columns)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Time and peak memory of one layer's attention, dense and sparse, on this machine."""

    config: MSAConfig
    context: int  # tokens
    n_queries: int  # of the prefill: the last ones of the context
    dense_prefill: Measurement
    select_prefill: Measurement  # MSA: index scores, maxima and top-k
    attend_prefill: Measurement  # MSA: attention over the selected blocks
    dense_decode: Measurement  # one query
    select_decode: Measurement
    attend_decode: Measurement
    device: str

    @property
    def prefill_speedup(self) -> float:
        """Dense time over MSA time."""
        msa_ms = self.select_prefill.median_ms + self.attend_prefill.median_ms
        return self.dense_prefill.median_ms / msa_ms

    @property
    def decode_speedup(self) -> float:
        """Dense time over MSA time."""
        msa_ms = self.select_decode.median_ms + self.attend_decode.median_ms
        return self.dense_decode.median_ms / msa_ms


def measure_here(
    config: MSAConfig,
    context: int,
    *,
    device: torch.device | str = "cuda",
    max_queries: int = PREFILLED,
    stale: Stale = never,
    progress: Progress = silent,
) -> Measured:
    """Time dense attention and the MSA kernels in bfloat16 on random inputs, batch 1.

    One decoded token takes less time than Python needs to launch its kernels, so decode steps
    are captured in a CUDA graph, as serving systems do. Short contexts may then stay in the
    GPU's cache, for both methods alike.

    Args:
        config: the layer.
        context: tokens.
        device: a CUDA device.
        max_queries: the prefill times at most so many queries, the last of the context.
        stale: turns true when nobody waits; asked between runs.
        progress: called with a share in [0, 1] and a sentence.

    Raises:
        ValueError: there is no CUDA device, or the context is not positive.
        Cancelled: `stale()` became true.
    """
    cost.check_context(context)
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise ValueError(
            f"Measuring needs a CUDA device, and device={str(device)!r} is none that works here: "
            "run this lesson on a machine with an NVIDIA GPU, or read the committed results."
        )
    n = min(context, max_queries)
    generator = torch.Generator(device=device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.bfloat16)

    k, v = (draw(1, context, config.n_kv_heads, config.d_head) for _ in range(2))
    k_idx = draw(1, context, config.d_index)
    done: dict[str, Measurement] = {}
    for phase, rows in (("prefill", n), ("decode", 1)):
        q = draw(1, rows, config.n_q_heads, config.d_head)
        q_idx = draw(1, rows, config.n_kv_heads, config.d_index)
        select = _selecting(q_idx, k_idx, config)
        block_idx = select()
        for part, call in (
            ("dense", _dense_call(q, k, v)),
            ("select", select),
            ("attend", _attending(q, k, v, block_idx, config)),
        ):
            check(stale)
            progress(len(done) / 6, f"Measuring {part} {phase} at {context:,} tokens")
            done[f"{part}_{phase}"] = (
                measure(call, device=device, stale=stale)
                if phase == "prefill"
                else _in_graph(call, device=device, stale=stale)
            )
    return Measured(config=config, context=context, n_queries=n, device=device_name(device), **done)


GRAPH_STEPS = 32  # decode steps in one captured graph


def _in_graph(call: Callable[[], Tensor], *, device: torch.device, stale: Stale) -> Measurement:
    """Time of one call when many of them run in one captured graph."""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        call()  # compiles kernels, which a capture may not
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_STEPS):
            call()
    whole = measure(graph.replay, device=device, stale=stale)
    return dataclasses.replace(
        whole,
        median_ms=whole.median_ms / GRAPH_STEPS,
        fastest_ms=whole.fastest_ms / GRAPH_STEPS,
        slowest_ms=whole.slowest_ms / GRAPH_STEPS,
        peak_bytes=None,  # a graph's memory is its own pool
    )


def _dense_call(q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Tensor]:
    """PyTorch's own attention, queries aligned to the last keys."""
    from torch.nn.attention.bias import causal_lower_right

    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [b, h, n, d]
    n, m = q.shape[2], k.shape[2]
    masking = {"is_causal": True} if n == m > 1 else {}
    if 1 < n < m:
        masking = {"attn_mask": causal_lower_right(n, m)}
    return lambda: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, enable_gqa=True, **masking
    )


def _selecting(q_idx: Tensor, k_idx: Tensor, config: MSAConfig) -> Callable[[], Tensor]:
    return lambda: score_and_select(
        q_idx,
        k_idx,
        n_selected=config.n_selected,
        block_size=config.block_size,
        n_local=config.n_local,
        n_init=config.n_init,
    )


def _attending(
    q: Tensor, k: Tensor, v: Tensor, block_idx: Tensor, config: MSAConfig
) -> Callable[[], Tensor]:
    return lambda: block_sparse_attention(q, k, v, block_idx, block_size=config.block_size)


# ----------------------------------------------------------------------------------- the needle


@dataclass(frozen=True, kw_only=True)
class NeedleParams(Settings):
    """One strong token among ordinary ones; no model needed."""

    n: int = 1024  # tokens
    needle: int = 300  # its position
    block_size: int = 32
    n_selected: int = 4  # blocks, the local one among them
    strength: float = 8.0  # the needle's score, where ordinary ones spread by 1
    drag: float = 1.0  # by how much its neighbours score lower
    seed: int = 0

    def __post_init__(self) -> None:
        MSAConfig(block_size=self.block_size, n_selected=self.n_selected)
        if not 0 <= self.needle < self.n:
            raise ValueError(f"needle={self.needle} must be a position from 0 to {self.n - 1}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class NeedleResult:
    """What the last token of the sequence selects by max- and by mean-pooling."""

    params: NeedleParams
    needle_block: int
    token_scores: Float[np.ndarray, " n"]
    block_max: Float[np.ndarray, " n_blk"]
    block_mean: Float[np.ndarray, " n_blk"]
    block_mass: Float[np.ndarray, " n_blk"]  # share of dense attention
    selected_max: tuple[int, ...]  # block ids, ascending
    selected_mean: tuple[int, ...]
    rank_max: int  # place of the needle's block among all, 1 is best
    rank_mean: int
    captured_max: float  # share of dense attention in the selected blocks
    captured_mean: float

    @property
    def found_by_max(self) -> bool:
        return self.needle_block in self.selected_max

    @property
    def found_by_mean(self) -> bool:
        return self.needle_block in self.selected_mean


@torch.inference_mode()
def needle(params: NeedleParams) -> NeedleResult:
    """Plant a needle, pool the scores both ways, select, and see which selection holds it."""
    q, k = reference.planted_needle(
        params.n,
        params.block_size,
        64,
        params.seed,
        needle=params.needle,
        strength=params.strength,
        drag=params.drag,
    )
    block_of_needle = params.needle // params.block_size
    token_scores = reference.main_scores(q, k)[0, 0]
    mass = reference.block_mass(q, k, block_size=params.block_size)[0, 0]
    found: dict[str, object] = {}
    for name, pool in (("max", reference.block_max), ("mean", reference.block_mean)):
        pooled = pool(token_scores, params.block_size)
        block_idx = select_blocks(
            pooled[None, None, None], n_selected=params.n_selected, block_size=params.block_size
        )[0, 0, 0]
        found[f"block_{name}"] = _array(pooled)
        found[f"selected_{name}"] = tuple(sorted(b for b in block_idx.tolist() if b >= 0))
        found[f"rank_{name}"] = 1 + int((pooled > pooled[block_of_needle]).sum())
        found[f"captured_{name}"] = float(reference.mass_captured(mass, block_idx))
    return NeedleResult(
        params=params,
        needle_block=block_of_needle,
        token_scores=_array(token_scores),
        block_mass=_array(mass),
        **found,
    )
