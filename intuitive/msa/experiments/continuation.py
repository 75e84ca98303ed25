"""Dense and sparse SmolLM2 continue the same text, token by token.

Greedy decoding, so that every difference comes from what was not read. Two texts that part at one
token may differ in all that follows; `agreement` therefore also asks the sparse model for its
next token along the dense model's own text.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from cachetools import LRUCache, cached

from intuitive.common import corpus, smollm
from intuitive.common.checks import whole_fields
from intuitive.common.decoder import Decoder, generate
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.smollm import SmolLM2
from intuitive.common.training import Progress, silent

from ..config import MSAConfig
from ..conversion import convert
from ..index import shipped_index
from ..reference import SELECTORS
from ..texts import TRAINED_INDEX as TRAINED
from ..texts import UNTRAINED_INDEX as UNTRAINED

ALL_READERS = (TRAINED, UNTRAINED, *SELECTORS)

Stale = Callable[[], bool]


def readers() -> tuple[str, ...]:
    """Names of what may choose the blocks here; the trained index needs its weights."""
    return ALL_READERS if shipped_index() is not None else ALL_READERS[1:]


@dataclass(frozen=True, kw_only=True)
class ContinueParams(Settings):
    """How a text is continued."""

    n_selected: int = 3  # blocks that every query of every layer may read
    block_size: int = 32  # tokens
    reader: str = TRAINED  # what chooses the blocks
    n_prompt: int = 256  # tokens of the text that are given
    n_new: int = 16  # tokens to write

    def __post_init__(self) -> None:
        if self.reader not in ALL_READERS:
            raise ValueError(
                f"reader={self.reader!r} is unknown; choose one of {', '.join(ALL_READERS)}."
            )
        whole_fields(self, n_prompt=None, n_new=None)
        if self.n_prompt < 1 or self.n_new < 1:
            raise ValueError(
                f"n_prompt={self.n_prompt} and n_new={self.n_new} must be at least 1 token."
            )
        whole_fields(self, block_size=1, n_selected=1)
        _ = self.msa

    @property
    def msa(self) -> MSAConfig:
        """The layer, checked: SmolLM2's heads with this budget."""
        return replace(MSAConfig.smollm(), block_size=self.block_size, n_selected=self.n_selected)


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """Two continuations of one prompt."""

    params: ContinueParams
    prompt: tuple[str, ...]  # pieces of text, one per token
    dense: tuple[str, ...]
    sparse: tuple[str, ...]
    dense_ids: tuple[int, ...]
    sparse_ids: tuple[int, ...]
    guesses: tuple[str, ...]  # what the sparse model would write at each place of the dense text
    agrees: tuple[bool, ...]  # whether that is the dense text's own token
    read_share: float  # share of the visible tokens that the last query may read at most

    @property
    def agreement(self) -> float:
        """Share of the dense text's tokens that the sparse model would write there, in [0, 1]."""
        return sum(self.agrees) / len(self.agrees)

    @property
    def first_difference(self) -> int | None:
        """Position of the first token that differs; None where all are the same."""
        pairs = zip(self.dense_ids, self.sparse_ids, strict=False)
        return next((i for i, (one, other) in enumerate(pairs) if one != other), None)


@cached(LRUCache(8), lock=threading.Lock())
def _sparse(model: SmolLM2, reader: str, msa: MSAConfig) -> Decoder:
    if reader == TRAINED:
        index = shipped_index()
        if index is None:
            raise ValueError(
                "reader='trained_index' needs the weights that this copy of the package lacks; "
                f"choose one of {', '.join(readers())}."
            )
        return convert(model.decoder, index.sized(msa), index)
    drawn = reader == UNTRAINED
    return convert(model.decoder, msa, None if drawn else reader, generator=seeded(0))


@cached(LRUCache(16), key=lambda model, ids, n_new, **_: (model, ids, n_new), lock=threading.Lock())
def _dense(
    model: SmolLM2, ids: tuple[int, ...], n_new: int, *, count: Callable, stale: Stale
) -> tuple[int, ...]:
    """What the dense model writes: the same whatever the sparse one reads."""
    return _written(model.decoder, ids, n_new, count=count, stale=stale)


def _written(
    decoder: Decoder, ids: tuple[int, ...], n_new: int, *, count: Callable, stale: Stale
) -> tuple[int, ...]:
    prompt = torch.tensor([ids], device=decoder.embedding.weight.device)
    new = generate(decoder, prompt, max_new_tokens=n_new, on_token=count, stale=stale)
    return tuple(new[0].tolist())


def _asked(text: str, params: ContinueParams, *, model: SmolLM2, **_: object) -> tuple:
    """What a continuation is kept by: the setting, not who waits for it."""
    return text, params, model


@cached(LRUCache(64), key=_asked, lock=threading.Lock())
@torch.inference_mode()
def continue_text(
    text: str,
    params: ContinueParams,
    *,
    model: SmolLM2,
    stale: Stale = never,
    progress: Progress = silent,
) -> Continuation:
    """Continue a text with the dense model and with its sparse conversion.

    Args:
        text: its first `n_prompt` tokens are the prompt.
        params: budget, reader and lengths.
        model: SmolLM2, dense.
        stale: turns true when nobody waits; asked before every token.
        progress: called with a share in [0, 1] and a sentence.

    Raises:
        ValueError: the text has fewer than two blocks of tokens, or the reader has no weights.
        Cancelled: `stale()` became true.
    """
    ids = tuple(model.tokenizer.encode(text)[: params.n_prompt])
    if len(ids) < 2 * params.block_size:
        raise ValueError(
            f"The text has {len(ids)} tokens; at least two blocks of {params.block_size} are "
            "needed to leave one out: give a longer text or take smaller blocks."
        )
    sparse_decoder = _sparse(model, params.reader, params.msa)

    def counting(name: str, share: float) -> Callable[[object], None]:
        done = itertools.count(1)

        def count(_token: object) -> None:
            n = next(done)
            progress(share + n / params.n_new / 2, f"{name}: token {n} of {params.n_new}")

        return count

    dense = _dense(model, ids, params.n_new, count=counting("dense", 0.0), stale=stale)
    count = counting("sparse", 0.5)
    sparse = _written(sparse_decoder, ids, params.n_new, count=count, stale=stale)
    check(stale)
    along = torch.tensor([[*ids, *dense]], device=sparse_decoder.embedding.weight.device)
    guesses = sparse_decoder(along)[0, len(ids) - 1 : -1].argmax(-1).tolist()
    pieces = model.tokenizer.token_strings
    return Continuation(
        params=params,
        prompt=tuple(pieces(list(ids))),
        dense=tuple(pieces(list(dense))),
        sparse=tuple(pieces(list(sparse))),
        dense_ids=dense,
        sparse_ids=sparse,
        guesses=tuple(pieces(guesses)),
        agrees=tuple(g == token for g, token in zip(guesses, dense, strict=True)),
        read_share=min(1.0, params.n_selected * params.block_size / along.shape[1]),
    )


def run(
    params: ContinueParams,
    *,
    text: str = "",
    stale: Stale = never,
    progress: Progress = silent,
) -> Continuation:
    """`continue_text` by SmolLM2 on the reader's text, or on the lesson's if empty.

    Raises:
        ModelMissing: the model file is absent.
        ValueError, Cancelled: as in `continue_text`.
    """
    return continue_text(
        text or corpus.DEFAULT_TEXT,
        params,
        model=smollm.load_smollm2(),
        stale=stale,
        progress=progress,
    )
