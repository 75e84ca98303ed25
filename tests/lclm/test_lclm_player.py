"""A model that plays EXPAND by its own logits."""

import pytest
import torch
from latent_models import model_of, text

from intuitive.common.decoder import generate
from intuitive.lclm import Raw
from intuitive.lclm.expand import PromptForm, Trace, cut, play
from intuitive.lclm.inference import encode_ahead, prefill
from intuitive.lclm.player import ModelPlayer

CHUNKS = cut(text(60), size=16)  # four
QUESTION = (60, 61)
IDS = (41, 42, 43, 44, 45)
LOOK, SAY = (50, 51), (52,)
FORM = PromptForm(label=lambda number: [40 + number])
MODEL = model_of()
LATENTS = encode_ahead(MODEL, CHUNKS)


def played(**settings) -> tuple[Trace, ModelPlayer]:
    player = ModelPlayer(MODEL, IDS, look=LOOK, say=SAY, max_new_tokens=5, **settings)
    return play(player, CHUNKS, LATENTS, QUESTION, FORM), player


def test_the_chunk_named_is_the_arg_max_over_the_ids_alone():
    trace, player = played()
    pieces = [*FORM.prompt(LATENTS, QUESTION), Raw(LOOK)]
    logits = prefill(MODEL, pieces).logits
    torch.testing.assert_close(player.looks[0], logits[list(IDS[:4])], atol=1e-5, rtol=1e-5)
    assert trace.rounds[0].asked == (int(logits[list(IDS[:4])].argmax()) + 1,)
    assert trace.ended == "chosen"


def test_the_answer_is_what_the_decoder_writes_with_the_words_at_hand():
    trace, _ = played()
    (number,) = trace.expanded
    brought = [(number, Raw(CHUNKS[number - 1]))]
    prompt = MODEL.spliced([*FORM.prompt(LATENTS, QUESTION, brought), Raw(SAY)]).embeddings
    assert trace.answer == tuple(generate(MODEL.decoder, prompt, max_new_tokens=5)[0].tolist())


def test_several_chunks_at_once_and_over_several_turns_none_twice():
    trace, player = played(n_ids=2)
    assert len(trace.rounds[0].brought) == 2
    trace, player = played(n_ids=3, n_looks=2)
    assert [len(one.brought) for one in trace.rounds] == [3, 1, 0]
    assert sorted(trace.expanded) == [1, 2, 3, 4]
    assert torch.isinf(player.looks[1]).sum() == 3
    trace, _ = played(n_looks=9)  # all four, then nothing is left to ask for
    assert (len(trace.rounds), trace.ended) == (5, "chosen")


def test_a_player_may_play_again():
    player = ModelPlayer(MODEL, IDS, look=LOOK)
    for _ in range(2):
        play(player, CHUNKS, LATENTS, QUESTION, FORM)
        assert len(player.looks) == 1


def test_more_chunks_than_ids_are_refused():
    with pytest.raises(ValueError, match="4 chunks, and only 3 ids have a token"):
        play(ModelPlayer(MODEL, IDS[:3]), CHUNKS, LATENTS, QUESTION, FORM)
