"""Which key blocks a query of a text would read, under every selector.

`select_in_text` answers any setting of the sliders from a text that was read once; `run` reads it
first. What a result says of all queries is computed when it is asked for. Arrays in results are
read-only numpy arrays, ready to draw.
"""

import dataclasses
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common import corpus, smollm
from intuitive.common.arrays import read_only
from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent
from intuitive.kernels import block_scores, select_blocks

from .. import reference
from ..config import MSAConfig
from ..index import shipped_index
from ..reference import SELECTORS
from ..texts import INDEXES, TextSample, read_text, synthetic_sample

Stale = Callable[[], bool]


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
        whole_fields(self, layer=None, query=None, group=None)
        for name, size in self.sizes.selection.items():
            object.__setattr__(self, name, size)

    @property
    def sizes(self) -> MSAConfig:
        """A layer of this selection; its messages hold for the sliders as well."""
        return MSAConfig(
            block_size=self.block_size,
            n_selected=self.n_selected,
            n_local=self.n_local,
            n_init=self.n_init,
        )


# Layer 17 at “writing-desks”: group 1 looks back 300 tokens, to where the riddle was asked.
FIRST = SelectionParams(
    layer=17, query=681, block_size=16, n_selected=4, selector="main_max", group=1
)
RIDDLE = "Why is a raven like a writing-desk?"


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectionResult:
    """What one layer selects for one query; and, once it is asked for, for all of them.

    "Mass" is a share of dense attention, averaged over a group's heads, in [0, 1].
    """

    params: SelectionParams
    sample: TextSample = field(repr=False)
    query: int  # resolved position, from 0

    token_scores: Float[np.ndarray, "h_kv n"]  # what the selector pools; -inf in the future
    token_mass: Float[np.ndarray, "h_kv n"]
    head_scores: Float[np.ndarray, "h_kv group n_visible"]  # of the main heads
    head_mass: Float[np.ndarray, "h_kv group n_visible"]
    block_scores: Float[np.ndarray, "h_kv n_blk"]  # -inf in the future
    block_mass: Float[np.ndarray, "h_kv n_blk"]
    tokens_read: Bool[np.ndarray, "h_kv n"]
    n_visible: int  # tokens at or before the query
    n_read: Int[np.ndarray, " h_kv"]  # tokens read of these
    local_block: int  # the block that holds the query
    local_visible: int  # tokens of that block at or before the query
    overlap: Float[np.ndarray, "h_kv h_kv"]  # share of blocks two groups both chose
    block_recall: Float[np.ndarray, " h_kv"]  # share of the oracle's blocks chosen
    chosen: dict[str, Int[np.ndarray, "h_kv n_sel"]]  # by selector; -1 marks an empty slot
    captured: dict[str, Float[np.ndarray, " h_kv"]]  # by selector, all at this budget

    @property
    def title(self) -> str:
        return self.sample.title

    @property
    def note(self) -> str:
        return self.sample.note

    @property
    def tokens(self) -> tuple[str, ...]:
        """The whole text, one piece per token."""
        return self.sample.tokens

    @property
    def n_layers(self) -> int:
        return self.sample.n_layers

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    @property
    def n_blocks(self) -> int:
        return self.block_scores.shape[-1]

    @property
    def riddle(self) -> range:
        """Tokens of the Hatter's riddle; empty in a text without it."""
        return passage(self.sample, RIDDLE)

    # All queries of the layer: computed when a map or an average asks for them.

    @cached_property
    def block_idx(self) -> Int[np.ndarray, "n h_kv n_sel"]:
        """Blocks that every query reads; -1 marks an empty slot."""
        return read_only(self._choice(self.params.selector).block_idx)

    @cached_property
    def selected(self) -> Bool[np.ndarray, "h_kv n n_blk"]:
        """Whether a query reads a block."""
        return read_only(_as_mask(torch.tensor(self.block_idx), self.n_blocks).transpose(0, 1))

    @property
    def n_choosing(self) -> int:
        """How many queries see more blocks than they may read."""
        return max(0, self.n_tokens - self.params.n_selected * self.params.block_size)

    @cached_property
    def captured_mean(self) -> dict[str, Float[np.ndarray, " h_kv"]]:
        """By selector, over the queries that have to leave some out; over all if none has to."""
        rows = slice(self.n_tokens - self.n_choosing if self.n_choosing else 0, None)
        return {
            name: read_only(self._choice(name).captured[rows].mean(0))
            for name in self.sample.selectors
        }

    @cached_property
    def overlap_mean(self) -> Float[np.ndarray, "h_kv h_kv"]:
        """Over the same queries."""
        rows = slice(self.n_tokens - self.n_choosing if self.n_choosing else 0, None)
        block_idx = torch.tensor(self.block_idx[rows])
        return read_only(reference.group_overlap(block_idx).mean(0))

    def _choice(self, selector: str) -> "_Choice":
        return _choose(self.sample, self.params.layer, self.params.sizes, selector)


@cached(LRUCache(32), key=lambda sample, text: (sample, text), lock=threading.Lock())
def passage(sample: TextSample, text: str) -> range:
    """The tokens that hold the first letter to the last of a passage; empty if it is not there."""
    start = "".join(sample.tokens).find(text)
    if start < 0:
        return range(0)
    ends = np.cumsum([len(token) for token in sample.tokens])
    first, last = np.searchsorted(ends, (start, start + len(text) - 1), side="right")
    return range(int(first), int(last) + 1)


def _as_mask(block_idx: Int[Tensor, "*rows n_sel"], n_blk: int) -> Bool[Tensor, "*rows n_blk"]:
    """Whether a block is among those chosen; -1 is no block."""
    mask = torch.zeros(*block_idx.shape[:-1], n_blk + 1, dtype=torch.bool)
    return mask.scatter_(-1, block_idx.long() % (n_blk + 1), True)[..., :n_blk]


# ------------------------------------------------------------------------------- all queries


@cached(LRUCache(48), key=lambda *what: what, lock=threading.Lock())
@torch.inference_mode()
def _table(
    sample: TextSample, layer: int, block_size: int, selector: str
) -> Float[Tensor, "n h_kv n_blk"]:
    """Block scores of a selector for all queries of one layer."""
    if selector not in INDEXES:
        q, k = sample.queries[layer], sample.keys[layer]
        return reference.selector_scores(selector, q, k, block_size=block_size)
    q_idx, k_idx = (part[selector][layer] for part in (sample.index_queries, sample.index_keys))
    scores = block_scores(q_idx[None], k_idx[None], block_size=block_size)
    return scores[0] / math.sqrt(q_idx.shape[-1])


@dataclass(frozen=True, eq=False)
class _Choice:
    """One selector's blocks for all queries, and the mass they capture."""

    block_idx: Int[Tensor, "n h_kv n_sel"]
    captured: Float[Tensor, "n h_kv"]


@cached(LRUCache(64), key=lambda *what: what, lock=threading.Lock())
@torch.inference_mode()
def _choose(sample: TextSample, layer: int, sizes: MSAConfig, selector: str) -> _Choice:
    scores = _table(sample, layer, sizes.block_size, selector)
    block_idx = select_blocks(scores[None], **sizes.selection)[0]
    mass = _table(sample, layer, sizes.block_size, "oracle").clamp(min=0)  # the future has -inf
    return _Choice(block_idx, reference.mass_captured(mass, block_idx))


# ------------------------------------------------------------------------------- one query


def _row(
    sample: TextSample, params: SelectionParams, query: int, selector: str
) -> Float[Tensor, "h_kv n_blk"]:
    """Block scores of a selector for one query, over the blocks that it sees."""
    parts = (sample.queries, sample.keys)
    if selector in INDEXES:
        parts = (sample.index_queries[selector], sample.index_keys[selector])
    q, k = parts[0][params.layer][query : query + 1], parts[1][params.layer][: query + 1]
    if selector in INDEXES:
        scores = reference.token_scores(q[None], k[None])[0, 0]
        return reference.block_max(scores, params.block_size)
    return reference.selector_scores(selector, q, k, block_size=params.block_size)[0]


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
    """Select key blocks for one query of one layer, and compare the selectors.

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
    n, n_groups = sample.n_tokens, sample.n_groups
    n_blk = math.ceil(n / params.block_size)
    rows, chosen = {}, {}
    for name in sample.selectors:
        check(stale)
        rows[name] = _row(sample, params, query, name)
        chosen[name] = select_blocks(rows[name][None, None], **params.sizes.selection)[0, 0]
    mass = rows["oracle"].clamp(min=0)
    captured = {name: reference.mass_captured(mass, idx) for name, idx in chosen.items()}

    q, k = sample.queries[params.layer][query : query + 1], sample.keys[params.layer][: query + 1]
    scores = reference.group_queries(reference.main_scores(q, k)[0], n_groups)  # [h_kv, g, seen]
    head_mass = scores.softmax(-1)
    token_mass = head_mass.mean(1)
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

    block_idx = chosen[params.selector]  # [h_kv, n_sel]
    position = torch.arange(n)
    tokens_read = _as_mask(block_idx, n_blk)[:, position // params.block_size] & (position <= query)
    later, unseen = (0, n - query - 1), (0, n_blk - mass.shape[-1])
    pad = torch.nn.functional.pad
    return SelectionResult(
        params=params,
        sample=sample,
        query=query,
        token_scores=read_only(pad(token_scores, later, value=-math.inf)),
        token_mass=read_only(pad(token_mass, later)),
        head_scores=read_only(scores),
        head_mass=read_only(head_mass),
        block_scores=read_only(pad(rows[params.selector], unseen, value=-math.inf)),
        block_mass=read_only(pad(mass, unseen)),
        tokens_read=read_only(tokens_read),
        n_visible=query + 1,
        n_read=read_only(tokens_read.sum(-1)),
        local_block=query // params.block_size,
        local_visible=query % params.block_size + 1,
        overlap=read_only(reference.group_overlap(block_idx[None])[0]),
        block_recall=read_only(reference.block_recall(block_idx, chosen["oracle"])),
        chosen={name: read_only(idx) for name, idx in chosen.items()},
        captured={name: read_only(share) for name, share in captured.items()},
    )


def run(
    params: SelectionParams,
    *,
    text: str = "",
    stale: Stale = never,
    progress: Progress = silent,
) -> SelectionResult:
    """Read a text with SmolLM2 and select blocks in it.

    Layer, query and group are brought into the range that the text and the model have.

    Args:
        params: the sliders.
        text: the reader's own; the lesson's if empty, for which made-up heads stand in where the
            model is absent.
        stale: turns true when nobody waits.
        progress: called with a share in [0, 1] and a sentence while the text is read.

    Raises:
        ValueError: the text is no text, or too short.
        ModelMissing: a text of the reader's own, and no model to read it.
        Cancelled: `stale()` became true.
    """
    sample = read(text, stale=stale, progress=progress)
    return select_in_text(sample, fitting(params, sample), stale=stale)


def read(text: str = "", *, stale: Stale = never, progress: Progress = silent) -> TextSample:
    """A text as SmolLM2 reads it; arguments and errors as of `run`."""
    if smollm.find_model() is None and not text:
        return synthetic_sample()
    return read_text(
        text or corpus.DEFAULT_TEXT,
        model=smollm.load_smollm2(),
        index=shipped_index(),
        title="Your text" if text else corpus.DEFAULT_TITLE,
        stale=stale,
        progress=progress,
    )


def fitting(params: SelectionParams, sample: TextSample) -> SelectionParams:
    """The settings, brought into the range that a text and its model have."""
    return dataclasses.replace(
        params,
        layer=min(params.layer, sample.n_layers - 1),
        query=min(params.query, sample.n_tokens - 1),
        group=min(params.group, sample.n_groups - 1),
    )
