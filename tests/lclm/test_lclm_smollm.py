"""The pair around SmolLM2: what holds before any training, and what its files hold."""

from dataclasses import replace

import pytest
import torch

from intuitive.common import corpus
from intuitive.common.smollm import load_smollm2
from intuitive.lclm.smollm import (
    RATIOS,
    WINDOW,
    Pair,
    Ranks,
    as_stored,
    chunk_map,
    load_pair,
    save_pair,
    untrained_pair,
)
from intuitive.lclm.splice import Latents, Raw, Span

pytestmark = pytest.mark.model
FEW = Ranks(encoder_attention=2, encoder_mlp=2, decoder_attention=2, decoder_mlp=1)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return untrained_pair(load_smollm2(), ranks=FEW)


@pytest.fixture(scope="module")
def tokens(pair) -> torch.Tensor:
    return torch.tensor(pair.tokenizer.encode(corpus.DEFAULT_TEXT)[:300])


@pytest.mark.parametrize("ratio", RATIOS)
def test_untrained_latents_are_mean_embeddings(pair, tokens, ratio):
    embedded = pair.smollm.decoder.embedding(tokens[:40])
    want = torch.stack([group.mean(0) for group in embedded.split(ratio)])
    torch.testing.assert_close(pair.encode(tokens[:40], ratio), want)


def test_the_untrained_decoder_reads_raw_text_as_smollm2(pair, tokens):
    scores = pair.score([Raw(tokens[:20])], tokens[20:30])
    logits = pair.smollm.decoder(tokens[None, :30])[0, 19:29]
    want = logits.log_softmax(-1).gather(-1, tokens[20:30, None])[:, 0]
    torch.testing.assert_close(scores, want, atol=1e-4, rtol=1e-4)


def test_the_place_in_the_group_reaches_the_states(pair, tokens):
    seen = []
    hook = pair.model.encoder.layers[0].register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    pair.encode(tokens[:16], 8)
    hook.remove()
    added = seen[0][0] - pair.smollm.decoder.embedding(tokens[:16])
    torch.testing.assert_close(added, pair.model.places["8"].repeat(2, 1), atol=1e-6, rtol=1e-4)


def test_reconstruction_reads_window_by_window(pair, tokens):
    whole = pair.reconstruct(tokens, 8)
    assert len(whole.tokens) == len(whole.log_probability) == len(tokens)
    alone = pair.reconstruct(tokens[WINDOW:], 8)
    torch.testing.assert_close(whole.log_probability[WINDOW:], alone.log_probability)
    top = whole.top_probability
    assert (top[:, :-1] >= top[:, 1:]).all()
    hit = whole.right
    torch.testing.assert_close(whole.log_probability[hit].exp(), top[hit, 0])


def test_the_likeliest_token_has_the_greatest_probability(pair, tokens):
    pieces = [Raw(tokens[:3])]
    scores = pair.log_probabilities(pieces, tokens)
    assert pair.likeliest(pieces, tokens).tolist() == scores.argmax(-1).tolist()


def test_latents_from_before_stand_for_their_text(pair, tokens):
    latents = Latents(pair.encode(tokens[:64], 4))
    fresh = pair.continuation([Span(tokens[:64]), Raw(tokens[64:70])], 4, ratio=4)
    assert torch.equal(pair.continuation([latents, Raw(tokens[64:70])], 4, ratio=4), fresh)


def test_where_has_one_logit_per_chunk(pair, tokens):
    chunks = list(tokens[:90].split(30))
    logits = pair.where(chunks, "Who is at the table?", 8)
    assert logits.shape == (3,)
    ready = [pair.encode(chunk, 8) for chunk in chunks]
    torch.testing.assert_close(pair.where(ready, "Who is at the table?", 8), logits)


def test_expand_opens_the_likeliest_chunk(pair, tokens):
    chunks = list(tokens[:90].split(30))
    trace = pair.expand(chunks, "Who is at the table?", 8, n=3)
    best = int(pair.where(chunks, "Who is at the table?", 8).argmax()) + 1
    assert trace.expanded == (best,)
    assert trace.raw_tokens == 30
    words = pair.answer(chunks, "Who is at the table?", 8, open_chunk=best, n=3)
    assert pair.tokenizer.decode(trace.answer).strip() == words


def test_an_end_of_turn_ends_a_text_and_is_no_part_of_it(pair, tokens):
    written = pair.continuation([Raw(tokens[:20])], 5).tolist()
    ended = replace(pair, smollm=replace(pair.smollm, end_of_turn=written[2]))
    want = written[: written.index(written[2])]
    assert ended.continuation([Raw(tokens[:20])], 5).tolist() == want
    assert ended.line_ends[-1] == written[2]


def test_lines_end_with_every_token_that_holds_an_end(pair):
    held = pair.tokenizer.token_strings(pair.line_ends[:-2])
    assert "\n" in held and "\n\n" in held
    assert all("\n" in piece for piece in held)


def test_what_is_refused(pair, tokens):
    with pytest.raises(ValueError, match="ratio=5 has no adapter"):
        pair.encode(tokens, 5)
    with pytest.raises(ValueError, match="empty span"):
        pair.encode(tokens[:0], 4)
    with pytest.raises(ValueError, match="10 chunks: from 1 to 9"):
        chunk_map(pair.tokenizer, [tokens[:4]] * 10)
    with pytest.raises(ValueError, match="open_chunk=3 must lie"):
        chunk_map(pair.tokenizer, [tokens[:4]] * 2, 3)


def test_files_hold_what_was_rounded(pair, tmp_path):
    model = untrained_pair(pair.smollm, seed=3, ranks=FEW).model
    for weight in model.weights().values():
        weight.data.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    path = save_pair(tmp_path / "pair.safetensors", model, {"command": "a test"})
    as_stored(model)
    loaded = load_pair(pair.smollm, path)
    assert loaded.is_trained
    assert loaded.made == {"command": "a test"}
    assert loaded.model.ranks == FEW
    kept = loaded.model.weights()
    for name, weight in model.weights().items():
        torch.testing.assert_close(kept[name], weight, atol=1e-6, rtol=1e-5)


def test_missing_weights_say_how_to_make_them(pair, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lclm_smollm\.py"):
        load_pair(pair.smollm, tmp_path / "nothing.safetensors")
