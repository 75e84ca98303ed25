"""Miniatures: what they read, that they learn, and that the control is a fair one."""

import pytest
import torch
import torch.nn.functional as F

from intuitive.common.runtime import seeded
from intuitive.lclm import fitting, miniature
from intuitive.lclm.fitting import HELD_OUT, Plateau
from intuitive.lclm.miniature import Form, Size
from intuitive.lclm.splice import NOT_TRAINED, Raw, Span
from intuitive.lclm.stages import Stage
from intuitive.lclm.task import RecallTask, ReconstructionTask

TINY = Size(d_model=16, n_layers=1, n_heads=2, d_ff=16, batch=4)


def tiny(form, *, seed=0, symbols=4):
    return miniature.build(form, TINY, vocabulary=symbols, context=8, behind=8, seed=seed)


@pytest.mark.parametrize("pooling", ["mean", "concat", "last", "eos", "queries"])
@pytest.mark.parametrize("window", [4, 8])
def test_outputs_are_those_of_the_spliced_model(pooling, window):
    reader = tiny(Form(ratio=4, window=window, pooling=pooling))
    drawn = ReconstructionTask(n_symbols=4, context=8).draw(3, generator=seeded(1))
    got = miniature.outputs(reader, drawn)
    batch = reader.model.batch([Span(drawn.spans), Raw(drawn.spans)])
    logits, wanted = reader.model.trained_logits(batch)
    torch.testing.assert_close(got[:, : logits.shape[1]], logits)
    assert torch.equal(wanted, drawn.targets)  # the closing tag says the first token
    torch.testing.assert_close(miniature.loss_of(reader, drawn), reader.model.loss(batch))


def test_a_raw_reader_reads_the_tokens_themselves():
    drawn = ReconstructionTask(n_symbols=4, context=8).draw(2, generator=seeded(1))
    reader = tiny(Form(reader="raw", ratio=1))
    embed, tags = reader.decoder.embedding, reader.tags
    start, end = (tag.expand(2, 1, -1) for tag in tags)
    whole = torch.cat((start, embed(drawn.spans), end, embed(drawn.raw)), 1)
    logits = reader.decoder(embeddings=whole)[:, -8:]
    torch.testing.assert_close(miniature.outputs(reader, drawn), logits)


def test_a_smear_adds_half_of_the_token_before():
    reader = tiny(Form(reader="smeared", ratio=1))
    spans = torch.tensor([[1, 2, 3]])
    e = reader.decoder.embedding(spans)[0]
    want = torch.stack((e[0], e[1] + 0.5 * e[0], e[2] + 0.5 * e[1]))
    torch.testing.assert_close(reader.latents(spans)[0], want)


def test_score_is_the_mean_over_trained_positions_whatever_the_rows_at_once():
    drawn = RecallTask(context=8, n_records=2, n_keys=2, n_values=1, questions=4).draw(
        5, generator=seeded(0)
    )
    reader = tiny(Form(ratio=4, window=8))
    logits = miniature.outputs(reader, drawn)
    counted = drawn.targets != NOT_TRAINED
    right = (logits.argmax(-1) == drawn.targets)[counted].float().mean()
    loss = F.cross_entropy(logits[counted], drawn.targets[counted]).detach()
    for rows in (1, 2, 5, 64):
        found = fitting.score(reader, drawn, rows=rows)
        assert found.accuracy == pytest.approx(float(right))
        assert found.loss == pytest.approx(float(loss), rel=1e-5)


def test_weights_and_examples_come_from_their_seeds():
    a, b, c = (tiny(Form(ratio=4, window=8), seed=seed) for seed in (0, 0, 1))
    for one, other in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(a.tags, c.tags)


def test_building_upon_a_raw_reader_copies_it():
    raw = tiny(Form(reader="raw", ratio=1))
    reader = miniature.build_upon(raw, Form(ratio=4, window=8), seed=1, copied=True)
    for name, weight in raw.decoder.named_parameters():
        own = dict(reader.decoder.named_parameters())[name]
        assert torch.equal(weight, own) and weight is not own, name
        encoder = dict(reader.model.encoder.named_parameters())[name]
        assert torch.equal(weight[: len(encoder)], encoder), name
    assert torch.equal(raw.tags, reader.tags)
    fresh = miniature.build_upon(raw, Form(ratio=4, window=8, mask="bidirectional"), seed=1)
    assert torch.equal(raw.decoder.embedding.weight, fresh.decoder.embedding.weight)
    first = "layers.0.attention.w_q.weight"
    assert not torch.equal(
        raw.decoder.get_parameter(first), fresh.model.encoder.get_parameter(first)
    )
    with pytest.raises(ValueError, match="is causal"):
        miniature.build_upon(
            raw, Form(ratio=4, window=8, mask="bidirectional"), seed=1, copied=True
        )


def test_bad_forms_and_sizes_are_refused():
    with pytest.raises(ValueError, match="compresses nothing"):
        Form(reader="raw", ratio=4)
    with pytest.raises(ValueError, match="unknown"):
        Form(reader="blurred")
    with pytest.raises(ValueError, match="multiple of n_heads"):
        Size(d_model=10, n_heads=4)


def test_training_ends_at_a_plateau_or_at_the_most_steps():
    task = ReconstructionTask(n_symbols=4, context=8)
    draw = lambda steps, generator: task.draw(steps, 4, generator=generator)  # noqa: E731
    stage = Stage(name="all", n_steps=1, adapter=1e-3, encoder=1e-3, decoder=1e-3)
    falls = iter([4.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0])  # before training, then after every 2 steps

    def measure(_):
        return {"loss": next(falls)}

    plateau = Plateau(every=2, patience=4, most=100)
    curve, reached = fitting.fit_to_plateau(
        tiny(Form(ratio=4, window=8)), draw, measure, stage, plateau, watch="loss", seed=0
    )
    assert reached and curve.steps == (0, 2, 4, 6, 8, 10)  # 4 fell last, 8 is 4 later, +8 // 4
    few = Plateau(every=2, patience=4, most=4)
    curve, reached = fitting.fit_to_plateau(
        tiny(Form(ratio=4, window=8)), draw, lambda _: {"loss": 1.0}, stage, few,
        watch="loss", seed=0, left=lambda: False,
    )  # fmt: skip
    assert not reached and curve.steps == (0, 1)


@pytest.mark.slow
def test_smeared_raw_reading_learns_recall_within_150_steps():
    """The control, once the first hop is there: one small arm trained here and now (about 20 s)."""
    task, size = RecallTask(), Size()
    reader = miniature.build(
        Form(reader="smeared", ratio=1), size,
        vocabulary=task.vocabulary, context=32, behind=16, seed=0,
    )  # fmt: skip
    held = task.draw(128, generator=seeded(HELD_OUT))
    curve = fitting.fit(
        reader,
        lambda steps, generator: task.draw(steps, size.batch, generator=generator),
        fitting.measures({"recall": held}),
        [Stage(name="raw", n_steps=150, decoder=size.lr)],
        seed=0,
        observe_every=75,
    )
    assert curve.values["recall accuracy"][-1] > 0.95 > 2 * task.no_binding
