"""Chunks with ids: what is asked, what a prompt holds, and what is measured."""

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.lclm import chunks, fitting, miniature
from intuitive.lclm.chunks import ChunkTask
from intuitive.lclm.miniature import Size
from intuitive.lclm.splice import NOT_TRAINED, Latents, Raw
from intuitive.lclm.stages import Stage

SIZE = Size(d_model=16, n_layers=1, n_heads=2, d_ff=16, batch=4)


def test_chunk_questions_have_their_answers_in_the_chunk_that_holds_the_key():
    of = ChunkTask()
    drawn = of.draw(400, generator=seeded(0))
    where = drawn.questions[:, 0] == chunks.WHERE
    assert 0.4 < float(where.float().mean()) < 0.6
    assert torch.equal(drawn.answers[where], of.id_token(drawn.holder[where]))
    for row in range(50):
        key, chunk = drawn.questions[row, 1], drawn.chunks[row, drawn.holder[row]]
        assert int((drawn.chunks[row] == key).sum()) == 1
        (at,) = (chunk == key).nonzero().flatten().tolist()
        if not where[row]:
            assert chunk[at + 1] == drawn.answers[row]
    shown = drawn.expanded >= 0
    assert abs(float(shown.float().mean()) - of.shown) < 0.08
    right = float((drawn.expanded == drawn.holder)[shown].float().mean())
    assert abs(right - (0.5 + 0.5 / of.n_chunks)) < 0.1  # half on purpose, else one of four
    assert int(drawn.chunks.max()) < of.vocabulary


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_chunks": 9}, "exceed n_keys"),
        ({"chunk": 15}, "multiple of records"),
        ({"shown": 1.5}, "a share"),
    ],
)
def test_chunks_refuse_what_does_not_fit(fields, words):
    with pytest.raises(ValueError, match=words):
        ChunkTask(**fields)


def test_a_prompt_has_every_chunk_behind_its_id_and_then_the_one_shown_again():
    of = ChunkTask()
    drawn = of.draw(6, generator=seeded(0))
    made = drawn.examples(of)
    again = made.spans.unflatten(-1, (of.n_chunks + 1, of.chunk))[:, -1]
    for row, shown in enumerate(drawn.expanded.tolist()):
        want = torch.zeros(of.chunk, dtype=torch.int64) if shown < 0 else drawn.chunks[row, shown]
        assert torch.equal(again[row], want)
        assert made.raw[row, of.n_chunks] == (0 if shown < 0 else of.id_token(shown))
    assert made.raw[0, : of.n_chunks].tolist() == list(of.id_tokens)
    assert (made.targets[:, :-1] == NOT_TRAINED).all()
    assert torch.equal(made.targets[:, -1], drawn.answers)
    reader = chunks.build_chunks(of, SIZE, ratio=16, finer=4, seed=0)
    pieces = reader.pieces(made)
    lengths = [p.values.shape[1] for p in pieces if isinstance(p, Latents)]
    assert lengths == [1] * of.n_chunks + [4]
    assert isinstance(pieces[-1], Raw) and torch.equal(pieces[-1].tokens, drawn.questions)
    torch.testing.assert_close(pieces[1].values, reader.model.encode(drawn.chunks[:, 0]))
    logits = miniature.outputs(reader, made)
    assert logits.shape == (*made.targets.shape, of.vocabulary)


def test_measures_show_the_chunks_that_they_say(monkeypatch):
    """A reader that copies the value it is shown, and always names the first chunk."""
    of = ChunkTask()
    held = of.draw(64, generator=seeded(1))

    def copies(reader, examples):
        logits = torch.zeros(*examples.targets.shape, of.vocabulary)
        for row, span in enumerate(examples.spans):
            logits[row, -1, of.id_token(0)] = 1
            again, key = span[-of.chunk :], examples.raw[row, -1]
            for at in (again == key).nonzero().flatten().tolist():
                logits[row, -1, again[at + 1]] = 2 * (examples.raw[row, -2] == chunks.VAL)
        return logits

    monkeypatch.setattr(chunks, "outputs", copies)
    reader = chunks.build_chunks(of, SIZE, ratio=16, finer=4, seed=0)
    found = chunks.chunk_measures(held, of)(reader)
    first = float((held.holder == 0).double().mean())
    assert found == {
        "where accuracy": first,
        "value alone accuracy": 0.0,
        "value chosen accuracy": first,
        "value other accuracy": 0.0,
        "value oracle accuracy": 1.0,
    }


def test_a_chunk_miniature_trains():
    of = ChunkTask()
    reader = chunks.build_chunks(of, SIZE, ratio=8, finer=4, seed=0)
    before = [weight.clone() for weight in reader.parameters()]
    curve = fitting.fit(
        reader,
        lambda steps, generator: of.draw(steps, 4, generator=generator).examples(of),
        chunks.chunk_measures(of.draw(8, generator=seeded(2)), of),
        [Stage(name="all", n_steps=3, adapter=1e-3, encoder=1e-3, decoder=1e-3)],
        seed=0,
    )
    assert curve.steps == (0, 3) and all(0 <= v[-1] <= 1 for v in curve.values.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, reader.parameters(), strict=True))
