"""Which key blocks the queries of a text would read, under every selector.

`select_in_text` answers any setting of the sliders from a text that was read once; `run` reads it
first. Arrays in results are read-only numpy arrays, ready to draw.
"""

import dataclasses
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

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
    layer=17, query=681, block_size=32, n_selected=6, selector="main_max", group=1
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


@cached(
    LRUCache(16),
    key=lambda sample, layer, block_size, stale: (sample, layer, block_size),
    lock=threading.Lock(),
)
def _table(
    sample: TextSample, layer: int, block_size: int, stale: Stale
) -> dict[str, Float[Tensor, "n h_kv n_blk"]]:
    """Block scores of every selector for all queries of one layer."""
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


@dataclass(frozen=True, eq=False)
class _Choice:
    """One selector's blocks for all queries, and the mass they capture."""

    block_idx: Int[Tensor, "n h_kv n_sel"]
    captured: Float[Tensor, "n h_kv"]


@cached(
    LRUCache(32),
    key=lambda sample, layer, sizes, stale: (sample, layer, sizes),
    lock=threading.Lock(),
)
def _choose(sample: TextSample, layer: int, sizes: MSAConfig, stale: Stale) -> dict[str, _Choice]:
    """Every selector's choice at the same budget."""
    choices = {}
    table = _table(sample, layer, sizes.block_size, stale)
    mass = table["oracle"].clamp(min=0)  # the future counts -inf there
    for name, scores in table.items():
        check(stale)
        block_idx = select_blocks(scores[None], **sizes.selection)[0]
        choices[name] = _Choice(block_idx, reference.mass_captured(mass, block_idx))
    return choices


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
    choices = _choose(sample, params.layer, params.sizes, stale)
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
        token_scores=read_only(torch.nn.functional.pad(token_scores, future, value=-math.inf)),
        token_mass=read_only(torch.nn.functional.pad(token_mass, future)),
        block_scores=read_only(table[params.selector][query]),
        block_mass=read_only(table["oracle"][query].clamp(min=0)),
        tokens_read=read_only(tokens_read),
        n_visible=query + 1,
        n_read=read_only(tokens_read.sum(-1)),
        local_block=query // params.block_size,
        local_visible=query % params.block_size + 1,
        overlap=read_only(reference.group_overlap(block_idx[query : query + 1])[0]),
        block_recall=read_only(
            reference.block_recall(block_idx[query], choices["oracle"].block_idx[query])
        ),
        captured={name: read_only(choice.captured[query]) for name, choice in choices.items()},
        block_idx=read_only(block_idx),
        selected=read_only(selected.transpose(0, 1)),
        captured_mean={
            name: read_only(choice.captured[rows].mean(0)) for name, choice in choices.items()
        },
        n_choosing=n_choosing,
        overlap_mean=read_only(reference.group_overlap(block_idx[rows]).mean(0)),
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
    if smollm.find_model() is None and not text:
        sample = synthetic_sample()
    else:
        sample = read_text(
            text or corpus.DEFAULT_TEXT,
            model=smollm.load_smollm2(),
            index=shipped_index(),
            title="Your text" if text else corpus.DEFAULT_TITLE,
            stale=stale,
            progress=progress,
        )
    fitting = dataclasses.replace(
        params,
        layer=min(params.layer, sample.n_layers - 1),
        query=min(params.query, sample.n_tokens - 1),
        group=min(params.group, sample.n_groups - 1),
    )
    return select_in_text(sample, fitting, stale=stale)
