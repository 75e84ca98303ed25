"""The committed texts are whole, licensed and split; the harvest tells what the model did."""

import dataclasses
from importlib import resources

import pytest
import torch

from intuitive.common import corpus
from intuitive.common.decoder import Decoder, DecoderConfig, Probe, attention_rows
from intuitive.common.runtime import Cancelled
from intuitive.common.smollm import load_smollm2

FOLDER = resources.files("intuitive.common.text")


def small_decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(n_layers=3, max_positions=64))


# ------------------------------------------------------------------------------------- the texts


def test_every_text_is_in_the_manifest_and_whole():
    documents = corpus.load()
    about = {"manifest.json", "LICENSE-python.txt", "__init__.py"}
    files = {path.name for path in FOLDER.iterdir() if path.is_file()} - about
    assert files == {document.name for document in documents}
    assert sum(len(document.text.encode()) for document in documents) <= 2 * 2**20
    assert {document.licence for document in documents} == {"public domain", "PSF-2.0"}
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in FOLDER.joinpath("LICENSE-python.txt").read_text()


def test_the_split_is_by_file_and_covers_both_kinds():
    parts = {
        (split, kind): {document.name for document in corpus.load(split, kind)}
        for split in ("train", "heldout")
        for kind in ("prose", "code")
    }
    assert all(parts.values())
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == len(corpus.load())
    for document in corpus.load("train"):
        assert document.split == "train"
        assert corpus.DEFAULT_TEXT[:200] not in document.text


def test_prose_has_characters_beyond_ascii():
    held_out = "".join(document.text for document in corpus.load("heldout", "prose"))
    assert sum(not character.isascii() for character in held_out) > 5_000


@pytest.mark.model
def test_the_lesson_text_fits_the_explorer():
    n_tokens = len(load_smollm2().tokenizer.encode(corpus.DEFAULT_TEXT))
    assert 1000 <= n_tokens <= 1024
    for name in ("Alice", "Hatter", "March Hare", "Dormouse"):  # come back at long range
        assert corpus.DEFAULT_TEXT.rindex(name) - corpus.DEFAULT_TEXT.index(name) > 1500


def test_a_damaged_text_is_named(monkeypatch):
    original = corpus._text_bytes
    corpus._document.cache_clear()
    monkeypatch.setattr(corpus, "_text_bytes", lambda name: original(name) + b" ")
    with pytest.raises(ValueError, match=r"alice.txt has SHA-256 .* restore the file with git"):
        corpus._document("alice.txt")


def test_unknown_parts_are_named():
    with pytest.raises(ValueError, match="split='test' is unknown; choose one of"):
        corpus.load("test")
    with pytest.raises(ValueError, match="kind='poetry' is unknown"):
        corpus.load(kind="poetry")


# ----------------------------------------------------------------------------------- the harvest


def test_harvest_equals_a_probe_on_every_piece():
    decoder = small_decoder()
    documents = [list(range(50)), torch.arange(7)]
    told = []
    pieces = list(
        corpus.harvest(
            decoder,
            documents,
            layers=(2, 0),
            context=32,
            block_size=8,
            progress=lambda *numbers: told.append(numbers),
        )
    )
    where = [(piece.document, piece.start, piece.layer, len(piece.tokens)) for piece in pieces]
    assert where == [
        (0, 0, 0, 32),
        (0, 0, 2, 32),
        (0, 32, 0, 18),
        (0, 32, 2, 18),
        (1, 0, 0, 7),
        (1, 0, 2, 7),
    ]
    assert told == [(0, 32), (1, 50), (2, 57)]
    for piece in pieces:
        seen = []
        decoder(piece.tokens[None], probe=Probe((piece.layer,), seen.append))
        for got, want in (
            (piece.hidden, seen[0].hidden[0]),
            (piece.queries, seen[0].q[0]),
            (piece.keys, seen[0].k[0]),
        ):
            torch.testing.assert_close(got, want)
        n = len(piece.tokens)
        rows = attention_rows(piece.queries, piece.keys, torch.arange(n))
        first_block = rows[:, :, :8].sum(-1).unflatten(0, (2, 2)).mean(1).T
        torch.testing.assert_close(piece.block_mass[..., 0], first_block)
        torch.testing.assert_close(piece.block_mass.sum(-1), torch.ones(n, 2))


def test_harvest_keeps_what_was_asked_for():
    (piece,) = corpus.harvest(small_decoder(), [[1, 2, 3]], layers=[1], context=9, what=["keys"])
    kept = {f.name for f in dataclasses.fields(piece) if getattr(piece, f.name) is not None}
    assert kept == {"document", "start", "layer", "tokens", "keys"}
    assert not piece.keys.requires_grad


def test_harvest_stops_between_pieces():
    pieces = []
    with pytest.raises(Cancelled):
        for piece in corpus.harvest(
            small_decoder(),
            [list(range(60))],
            layers=[0],
            context=10,
            what=["keys"],
            stale=lambda: len(pieces) == 3,
        ):
            pieces.append(piece)
    assert [piece.start for piece in pieces] == [0, 10, 20]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"what": ["logits"]}, r"unknown \['logits'\]"),
        ({"block_size": None}, "block masses need block_size"),
        ({"layers": []}, r"layers=\[\] must name at least one layer in \[0, 3\)"),
        ({"layers": [3]}, r"layers=\[3\] must name"),
        ({"context": 65}, r"context=65 must lie in \[1, max_positions=64\]"),
        ({"layers": [-1]}, r"layers=\[-1\] must name"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_harvest_names_what_is_wrong(changes, message):
    arguments = {"documents": [[1, 2]], "layers": [0], "block_size": 8} | changes
    with pytest.raises(ValueError, match=message):
        list(corpus.harvest(small_decoder(), **arguments))
