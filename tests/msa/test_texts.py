"""A text read once; the little model has random weights and one token per byte."""

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import Cancelled
from intuitive.common.smollm import SmolLM2, Tokenizer
from intuitive.msa.experiments.block_selection import SelectionParams, select_in_text
from intuitive.msa.texts import read_text


@pytest.fixture(scope="module")
def little_model():
    from tokenizers.pre_tokenizers import ByteLevel

    torch.manual_seed(0)
    config = DecoderConfig(n_q_heads=6, n_kv_heads=3, n_layers=3)
    tokenizer = Tokenizer(sorted(ByteLevel.alphabet()), [], special=())
    return SmolLM2(Decoder(config).eval(), tokenizer, config, end_of_text=0, end_of_turn=0)


TEXT = "The fox looked at the grapes, and the grapes looked back. " * 4


def test_reading_keeps_queries_and_keys_of_every_layer(little_model):
    told = []
    sample = read_text(
        TEXT, model=little_model, title="Fox", progress=lambda share, words: told.append(share)
    )
    assert "".join(sample.tokens) == TEXT and sample.note == "" and sample.title == "Fox"
    assert (sample.n_tokens, sample.n_layers, sample.n_groups) == (len(TEXT), 3, 3)
    assert sample.queries[2].shape == (len(TEXT), 6, 16)
    assert told == sorted(told) and told[-1] == 1
    q, k = sample.queries[0], sample.keys[0]
    stream = little_model.decoder.hidden(torch.tensor([sample.token_ids]), until_layer=0)
    hidden = little_model.decoder.layers[0].attention_norm(stream)
    want_q, want_k, _ = little_model.decoder.layers[0].attention.project(
        hidden, torch.arange(len(TEXT))[None]
    )
    torch.testing.assert_close(q, want_q[0].detach())
    torch.testing.assert_close(k, want_k[0].detach())
    assert select_in_text(sample, SelectionParams(layer=2)).n_layers == 3


def test_reading_again_runs_nothing(little_model):
    told = []
    first = read_text(TEXT, model=little_model)
    again = read_text(TEXT, model=little_model, progress=lambda *a: told.append(a))
    assert again is first and not told


def test_long_texts_are_cut_with_a_sentence(little_model):
    sample = read_text(TEXT, model=little_model, max_tokens=100)
    assert sample.n_tokens == 100
    assert sample.note == "Only the first 100 tokens of the text are used."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n ", "The text is empty: paste"),
        ("Too short.", "The text has 10 tokens; at least 64 are needed"),
        ("\x00" * 100, "NUL characters, as binary files do: choose a text file"),
        ("a" * 80 + "\ud800", "Character 80 of the text is half of a surrogate pair"),
    ],
)
def test_odd_texts_get_a_sentence(little_model, text, message):
    with pytest.raises(ValueError, match=message):
        read_text(text, model=little_model)


def test_reading_stops_between_layers(little_model):
    told = []
    with pytest.raises(Cancelled):
        read_text(
            TEXT + "!",
            model=little_model,
            stale=lambda: len(told) > 2,
            progress=lambda share, words: told.append(words),
        )
    assert told[-1] == "Read by layer 2 of 3"


def test_another_model_or_title_is_another_reading(little_model):
    first = read_text(TEXT, model=little_model)
    torch.manual_seed(1)
    other = SmolLM2(
        Decoder(little_model.config).eval(), little_model.tokenizer, little_model.config, 0, 0
    )
    elsewhere = read_text(TEXT, model=other)
    assert elsewhere is not first
    assert not torch.equal(elsewhere.queries[1], first.queries[1])
    assert read_text(TEXT, model=little_model, title="Fox").title == "Fox"


def test_what_is_kept_can_be_differentiated_whoever_read_it(little_model):
    with torch.inference_mode():
        sample = read_text(TEXT + "?", model=little_model)
    q = torch.nn.Parameter(torch.ones(16))
    (sample.queries[0] * q).sum().backward()
    assert torch.isfinite(q.grad).all()
