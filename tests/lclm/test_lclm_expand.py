"""EXPAND as a protocol, played by scripts."""

import pytest
import torch
from latent_models import model_of, text

from intuitive.common.runtime import Cancelled
from intuitive.lclm import Latents, Raw, Span
from intuitive.lclm.expand import (
    Answer,
    Expand,
    PromptForm,
    Turn,
    cut,
    id_logits,
    play,
    positions_of,
    scripted,
)
from intuitive.lclm.inference import encode_ahead, prefill

SIZE = 16
TEXT = text(5 * SIZE + 3)
CHUNKS = cut(TEXT, size=SIZE)  # five whole ones and a short one
QUESTION = (60, 61)
FORM = PromptForm(
    label=lambda number: [40 + number], expanded_label=lambda number: [50, 40 + number]
)
MODEL = model_of()
LATENTS = encode_ahead(MODEL, CHUNKS)
SIX = 6 * (1 + 2) + 5 * 4 + 1  # positions of six labelled chunks at ratio 4


def played(*moves, **settings):
    return play(scripted(*moves), CHUNKS, LATENTS, QUESTION, FORM, **settings)


def test_a_text_is_cut_into_chunks_that_make_it_up():
    assert [len(chunk) for chunk in CHUNKS] == [16, 16, 16, 16, 16, 3]
    assert torch.equal(torch.cat(CHUNKS), TEXT)
    assert [len(chunk) for chunk in cut(text(1030))] == [512, 512, 6]


def test_chunks_end_with_a_sentence_where_they_hold_an_end():
    tokens = torch.tensor([1, 2, 9, 3, 9, 4, 5, 6, 7, 8, 9, 1])
    assert [chunk.tolist() for chunk in cut(tokens, size=4, ends={9})] == [
        [1, 2, 9],
        [3, 9],
        [4, 5, 6, 7],
        [8, 9, 1],
    ]


@pytest.mark.parametrize("bad", [torch.tensor([], dtype=torch.int64), torch.ones(2, 2)])
def test_an_empty_text_is_not_cut(bad):
    with pytest.raises(ValueError, match="at least one token"):
        cut(bad)


def test_one_expansion_and_an_answer():
    trace = played(Expand((3,)), Answer((5, 6)))
    first, second = trace.rounds
    assert (first.asked, first.brought, first.raw_tokens, first.answer) == ((3,), (3,), 16, None)
    assert (first.must, second.must) == ("expand", "either")
    assert second.answer == trace.answer == (5, 6)
    assert (trace.ended, trace.expanded, trace.raw_tokens) == ("chosen", (3,), 16)
    assert trace.text_tokens == 83
    assert first.positions == SIX + 2
    assert second.positions == SIX + 2 + 2 + 16  # the label of two tokens, and the words
    assert trace.positions == first.positions + second.positions


def test_what_is_brought_back_is_appended_and_every_chunk_stays_compressed():
    turns = []

    def player(turn: Turn):
        turns.append(turn)
        return [Expand((2, 6)), Expand((1,)), Answer((0,))][turn.number - 1]

    play(player, CHUNKS, LATENTS, QUESTION, FORM)
    for turn, there in zip(turns, [(), (2, 6), (2, 6, 1)], strict=True):
        assert turn.expanded == there
        pieces = list(turn.pieces)
        for number, held in enumerate(LATENTS, start=1):
            assert pieces.pop(0).tokens.tolist() == [40 + number]
            assert pieces.pop(0) is held
        for number in there:
            assert pieces.pop(0).tokens.tolist() == [50, 40 + number]
            assert torch.equal(pieces.pop(0).tokens, CHUNKS[number - 1])
        assert [piece.tokens.tolist() for piece in pieces] == [list(QUESTION)]
        assert turn.n_positions == prefill(MODEL, turn.pieces).n_positions


def test_latents_encoded_once_are_those_of_every_round():
    """The official code encodes all chunks anew each round; it would get the same."""
    trace_of = []

    def player(turn: Turn):
        fresh = iter(CHUNKS)
        pieces = [Span(next(fresh)) if isinstance(p, Latents) else p for p in turn.pieces]
        trace_of.append((prefill(MODEL, turn.pieces).logits, prefill(MODEL, pieces).logits))
        return Expand((turn.number,)) if turn.number < 3 else Answer((0,))

    play(player, CHUNKS, LATENTS, QUESTION, FORM)
    assert len(trace_of) == 3
    for held, fresh in trace_of:
        torch.testing.assert_close(held, fresh, atol=1e-5, rtol=1e-5)


def test_several_ids_in_one_call_each_once():
    first = played(Expand((4, 2, 4)), Answer((0,))).rounds[0]
    assert first.brought == (4, 2)
    assert first.raw_tokens == 32


@pytest.mark.parametrize(
    ("mentions", "brought", "refused"),
    [
        ((), (1,), ()),
        ((5, 2, 5), (5, 2), ()),
        ((6, 5, 4, 3, 2, 1), (6, 5, 4, 3, 2), ()),
        ((99,), (1,), (99,)),
        ((99, 3), (3,), (99,)),
    ],
)
def test_an_answer_on_the_first_turn_becomes_an_expansion(mentions, brought, refused):
    trace = played(Answer((7,), mentions), Answer((8,)))
    first = trace.rounds[0]
    assert first.from_answer
    assert (first.brought, first.refused, first.answer) == (brought, refused, None)
    assert trace.answer == (8,)
    assert not trace.rounds[1].from_answer


@pytest.mark.parametrize("max_rounds", [1, 2, 5])
def test_the_answer_is_forced_when_the_rounds_are_over(max_rounds):
    asks = [Expand((number,)) for number in range(1, max_rounds + 1)]
    trace = played(*asks, Answer((9,)), max_rounds=max_rounds)
    assert [one.must for one in trace.rounds] == (
        ["expand"] + ["either"] * (max_rounds - 1) + ["answer"]
    )
    assert (trace.ended, len(trace.expanded)) == ("rounds", max_rounds)


def test_five_rounds_unless_told_otherwise():
    assert len(played(*(Expand((i,)) for i in range(1, 6)), Answer((9,))).rounds) == 6
    with pytest.raises(ValueError, match=r"\[6\] on turn 6, which must answer \(rounds\)"):
        played(*(Expand((i,)) for i in range(1, 7)))


def test_the_answer_is_forced_when_no_new_id_is_asked():
    trace = played(Expand((2,)), Expand((2,)), Answer((9,)))
    assert trace.rounds[1].repeated == (2,)
    assert trace.rounds[1].raw_tokens == 0
    assert trace.rounds[2].must == "answer"
    assert (trace.ended, trace.expanded) == ("nothing new", (2,))


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("unknown", [0, 7, -1, "3", 2.0, True, None])
def test_ids_that_no_chunk_has_are_refused_and_recorded(unknown):
    trace = played(Expand((unknown, 3)), Answer((9,)))
    first = trace.rounds[0]
    assert (first.refused, first.brought) == ((unknown,), (3,))
    assert first.note == f"no chunk has the id {unknown}."
    alone = played(Expand((unknown,)), Answer((9,)))
    assert (alone.ended, alone.raw_tokens, alone.rounds[1].must) == ("nothing new", 0, "answer")
    assert alone.rounds[1].note == ""


def test_something_else_may_be_brought_back_than_the_words():
    finer = encode_ahead(MODEL, CHUNKS, ratio=2)
    trace = played(Expand((1,)), Answer((9,)), bring=lambda number: finer[number - 1])
    assert trace.rounds[1].positions - trace.rounds[0].positions == 2 + (8 + 2)


def test_a_play_that_cannot_begin_is_refused():
    for chunks, latents in (((), ()), (CHUNKS, LATENTS[:3])):
        with pytest.raises(ValueError, match="at least one chunk, each with its latents"):
            play(scripted(), chunks, latents, QUESTION, FORM)
    with pytest.raises(ValueError, match="max_rounds=0"):
        played(max_rounds=0)
    with pytest.raises(ValueError, match="no move for turn 2"):
        played(Expand((1,)))
    with pytest.raises(ValueError, match="encode it first"):
        positions_of(Span([1, 2]))
    with pytest.raises(Cancelled):
        played(Answer((0,)), stale=lambda: True)


def test_a_trace_cannot_be_changed():
    trace = played(Expand((1,)), Answer((9,)))
    for record, name in ((trace, "answer"), (trace.rounds[0], "asked")):
        with pytest.raises(AttributeError):
            setattr(record, name, ())


def test_the_likeliest_id_is_chosen_among_the_ids_alone():
    logits = torch.zeros(64)
    logits[[3, 41, 44, 42]] = torch.tensor([9.0, 1.0, 3.0, 2.0])
    tokens = [41, 42, 43, 44]
    assert id_logits(logits, tokens).tolist() == [1.0, 2.0, 0.0, 3.0]
    assert int(id_logits(logits, tokens, without=(4,)).argmax()) + 1 == 2
    assert logits[44] == 3.0  # what was given is not touched


def test_the_question_and_the_words_brought_back_are_never_trained():
    pieces = FORM.prompt(LATENTS, QUESTION, [(1, Raw(CHUNKS[0], trained=False))])
    with pytest.raises(ValueError, match="no raw token is trained"):
        MODEL.batch_rows([pieces])
