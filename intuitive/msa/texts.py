"""A text that a language model has read once: what every layer's attention made of it.

`read_text` keeps every layer's queries and keys, from which an explorer then answers any setting
of its sliders; `synthetic_sample` makes heads up, for machines without the model.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from cachetools import LRUCache, cached
from jaxtyping import Float
from torch import Tensor

from intuitive.common.decoder import Decoder, Probe, Seen
from intuitive.common.runtime import check, never, seeded
from intuitive.common.smollm import SmolLM2
from intuitive.common.training import Progress, silent

from .config import MSAConfig
from .conversion import convert
from .index import TrainedIndex
from .reference import SELECTORS

# Selectors of texts that were read with an index: that one, and one as it was drawn.
TRAINED_INDEX, UNTRAINED_INDEX = "trained_index", "untrained_index"
INDEXES = (TRAINED_INDEX, UNTRAINED_INDEX)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSample:
    """A text and what every layer's attention made of it; one reading is one object."""

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


def read_text(
    text: str,
    *,
    model: SmolLM2,
    index: TrainedIndex | None = None,
    title: str = "Your text",
    max_tokens: int = 1024,
    min_tokens: int = 64,
    stale: Callable[[], bool] = never,
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
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Character {error.start} of the text is half of a surrogate pair, which is no "
            "character: copy the text again, or save the file as UTF-8."
        ) from None
    return _read(text, model, index, title, max_tokens, min_tokens, stale=stale, progress=progress)


@cached(
    LRUCache(3),  # about 100 MB each at 1,024 tokens
    key=lambda *what, stale, progress: what,
    lock=threading.Lock(),
)
def _read(
    text: str,
    model: SmolLM2,
    index: TrainedIndex | None,
    title: str,
    max_tokens: int,
    min_tokens: int,
    *,
    stale: Callable[[], bool],
    progress: Progress,
) -> TextSample:
    n_layers = model.decoder.config.n_layers
    branches = {} if index is None else _index_branches(model, index)
    progress(0.0, "Splitting the text into tokens")
    # No token of everyday text is longer than 32 characters; this bounds what is split.
    ids = model.tokenizer.encode(text[: 32 * max_tokens])
    if len(ids) < min_tokens:
        raise ValueError(
            f"The text has {len(ids)} token{'s' * (len(ids) != 1)}; at least {min_tokens} are "
            "needed to have key blocks to choose among: paste a longer one."
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
    with torch.inference_mode(False), torch.no_grad():  # kept tensors serve callers of any mode
        tokens = torch.tensor([ids], device=model.decoder.embedding.weight.device)
        model.decoder.hidden(tokens, probe=Probe(tuple(range(n_layers)), receive))
    by_layer = {name: tuple(zip(*layers, strict=True)) for name, layers in seen.items()}
    queries, keys = by_layer.pop("main")
    return TextSample(
        title=title,
        note=f"Only the first {len(ids):,} tokens of the text are used." if cut else "",
        token_ids=tuple(ids),
        tokens=tuple(model.tokenizer.token_strings(ids)),
        queries=queries,
        keys=keys,
        index_queries={name: pair[0] for name, pair in by_layer.items()},
        index_keys={name: pair[1] for name, pair in by_layer.items()},
    )


@cached(LRUCache(2), lock=threading.Lock())
def _index_branches(model: SmolLM2, index: TrainedIndex) -> dict[str, Decoder]:
    """The model with an index in every layer, trained and untrained.

    Kept, since every slider move asks for its text.
    """
    config = model.decoder.config
    heads = {name: getattr(config, name) for name in ("n_q_heads", "n_kv_heads", "d_head")}
    msa, layers = index.sized(MSAConfig(**heads)), range(config.n_layers)
    return {
        TRAINED_INDEX: convert(model.decoder, msa, index, layers=layers),
        UNTRAINED_INDEX: convert(model.decoder, msa, None, layers=layers, generator=seeded(0)),
    }


@cached(LRUCache(4), lock=threading.Lock())
def synthetic_sample(*, n: int = 512, n_layers: int = 2, seed: int = 0) -> TextSample:
    """Made-up heads with the habits of real ones, for use without a model file.

    Six query heads in three groups like the first token, the tokens just before, and a stripe of
    tokens that each group finds elsewhere.

    Args:
        n: tokens; `n_layers`: layers, stripes stronger in later ones; `seed`: local randomness.
    """
    generator = seeded(seed)
    h_kv, group, d = 3, 2, 32
    queries, keys = [], []
    position = torch.arange(n, dtype=torch.float32)
    for layer in range(n_layers):
        q = torch.randn(n, h_kv * group, d, generator=generator, dtype=torch.float32)
        k = torch.randn(n, h_kv, d, generator=generator, dtype=torch.float32)
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
        title="Made-up heads",
        note="These queries and keys are made up: the language model is not on this machine.",
        token_ids=tuple(range(n)),
        tokens=tuple(f"t{i} " for i in range(n)),
        queries=tuple(queries),
        keys=tuple(keys),
    )
