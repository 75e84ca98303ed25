"""A small text corpus, split by file, and the harvest of a model's attention over it.

The texts are committed in `text/` (1.2 MB: two novels, one declaration in six languages, modules
of Python's standard library) with a manifest of checksums, so that everyone who runs a lesson
reads the same bytes. Licences and sources are in the manifest and in NOTICE.md.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .decoder import Decoder, Probe, Seen, block_mass
from .inputs import public, token_ids
from .runtime import check, never

# ------------------------------------------------------------------------------------- the texts


@dataclass(frozen=True)
class Document:
    """One text of the corpus."""

    name: str  # its file
    title: str
    kind: str  # "prose" or "code"
    split: str  # "train" or "heldout"
    text: str
    licence: str
    source: str


def load(split: str | None = None, kind: str | None = None) -> list[Document]:
    """The documents of one split and kind, or of all, in a fixed order.

    Args:
        split: "train" or "heldout".
        kind: "prose" or "code".

    Raises:
        ValueError: no such split or kind, or a text differs from its checksum.
    """
    for name, value, known in (
        ("split", split, ("train", "heldout", None)),
        ("kind", kind, ("prose", "code", None)),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {known}.")
    return [
        _document(entry["file"])
        for entry in _manifest().values()
        if split in (None, entry["split"]) and kind in (None, entry["kind"])
    ]


def _text_bytes(name: str) -> bytes:
    return resources.files("intuitive.common.text").joinpath(name).read_bytes()


@functools.cache
def _manifest() -> dict[str, dict]:
    return {entry["file"]: entry for entry in json.loads(_text_bytes("manifest.json"))}


@functools.cache
def _document(name: str) -> Document:
    entry = _manifest()[name]
    data = _text_bytes(name)
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        raise ValueError(
            f"the text {name} has SHA-256 {found} and {len(data):,} bytes, the manifest says "
            f"{entry['sha256']} and {entry['bytes']:,}: reinstall the package, or restore the "
            "file with git. Was it saved with other line endings?"
        )
    about = {key: entry[key] for key in ("title", "kind", "split", "licence", "source")}
    return Document(name=name, text=data.decode("utf-8"), **about)


def _tea_party() -> str:
    text = _document("alice.txt").text
    start = text.index("There was a table set out under a tree")
    end = "the same year for such a long time together.’"
    return text[start : text.index(end, start) + len(end)]


DEFAULT_TEXT = _tea_party()  # what the lessons read: held out, 1,012 tokens of SmolLM2
DEFAULT_TITLE = "Lewis Carroll, Alice’s Adventures in Wonderland: A Mad Tea-Party"

# ------------------------------------------------------------------------------------ the harvest


@dataclass(frozen=True)
class Harvest:
    """What one layer's attention did on one piece of text; None for what was not asked for."""

    document: int  # its place among those given
    start: int  # where in the document the piece begins, in tokens
    layer: int
    tokens: Int[Tensor, " n"]
    hidden: Float[Tensor, "n d_model"] | None  # input of the attention
    queries: Float[Tensor, "n h_q d"] | None  # positions applied, as are the keys'
    keys: Float[Tensor, "n h_kv d"] | None
    block_mass: Float[Tensor, "n h_kv n_blk"] | None  # attention per key block, rows sum to 1


@public(block_size=1)
@torch.no_grad()
def harvest(
    decoder: Decoder,
    documents: Iterable[Sequence[int] | Int[Tensor, " n"]],
    *,
    layers: Sequence[int],
    context: int = 1024,
    block_size: int | None = None,
    what: Sequence[str] = ("hidden", "queries", "keys", "block_mass"),
    stale: Callable[[], bool] = never,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Harvest]:
    """Stream hidden states, queries, keys and block masses of chosen layers over texts.

    Every document is cut into pieces of `context` tokens, each read from position 0 on; only one
    piece is in memory at a time. Example:

        model = load_smollm2()
        texts = (model.tokenizer.encode(document.text) for document in load("train", "prose"))
        for piece in harvest(model.decoder, texts, layers=[10, 20], block_size=64): ...

    Args:
        decoder: the model; its attention modules must show their tensors to probes.
        documents: token ids of each.
        layers: which layers, counted from 0.
        context: longest piece, in tokens.
        block_size: tokens per key block; needed for block masses.
        what: which tensors to keep.
        stale: turns true when nobody waits for the result any more.
        progress: called after each piece with the documents finished and the tokens read so far.

    Yields:
        One record per piece and layer: pieces in order, the layers of a piece in ascending order.

    Raises:
        ValueError: an unknown name in `what`, no layers, or a size out of range.
        Cancelled: `stale()` became true between two pieces.
    """
    unknown = set(what) - {"hidden", "queries", "keys", "block_mass"}
    if unknown:
        raise ValueError(
            f"what={tuple(what)} has unknown {sorted(unknown)}; choose from "
            "'hidden', 'queries', 'keys', 'block_mass'."
        )
    if "block_mass" in what and block_size is None:
        raise ValueError("block masses need block_size: pass it, or leave 'block_mass' out.")
    if not layers or not 0 <= min(layers) <= max(layers) < decoder.config.n_layers:
        raise ValueError(
            f"layers={list(layers)} must name at least one layer in [0, {decoder.config.n_layers})."
        )
    if not 1 <= context <= decoder.config.max_positions:
        raise ValueError(
            f"context={context} must lie in [1, max_positions={decoder.config.max_positions}]."
        )
    device = decoder.embedding.weight.device
    n_read = 0
    for index, document in enumerate(documents):
        ids = token_ids("a document", document).to(device)
        for start in range(0, len(ids), context):
            check(stale)
            tokens = ids[start : start + context]
            seen: list[Seen] = []
            probe = Probe(tuple(layers), seen.append)
            decoder.hidden(tokens[None], probe=probe, until_layer=max(layers) + 1)
            for part in seen:
                q, k = part.q[0], part.k[0]
                yield Harvest(
                    document=index,
                    start=start,
                    layer=part.layer,
                    tokens=tokens,
                    hidden=part.hidden[0] if "hidden" in what else None,
                    queries=q if "queries" in what else None,
                    keys=k if "keys" in what else None,
                    block_mass=(
                        block_mass(q, k, block_size=block_size) if "block_mass" in what else None
                    ),
                )
            n_read += len(tokens)
            if progress is not None:
                progress(index + (start + context >= len(ids)), n_read)
