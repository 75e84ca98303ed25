"""Miniatures: what they read, that they learn, and that the control is a fair one."""

import pytest
import torch
import torch.nn.functional as F

from intuitive.common.runtime import seeded
from intuitive.lclm import fitting, miniature
from intuitive.lclm.fitting import HELD_OUT
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


def draw(steps, generator):
    return ReconstructionTask(n_symbols=4, context=8).draw(steps, 4, generator=generator)


STAGES = [
    Stage(name="encoder", n_steps=3, adapter=1e-2, encoder=1e-2),
    Stage(name="joint", n_steps=60, adapter=1e-2, encoder=1e-2, decoder=1e-2),
]


def test_side_by_side_comes_to_what_each_alone_does():
    """Seeds do not touch each other; and examples are drawn anew after 50 steps."""
    form = Form(ratio=4, window=8)
    held = ReconstructionTask(n_symbols=4, context=8).draw(8, generator=seeded(7))
    measure = fitting.measures({"again": held})
    together, alone = ([tiny(form, seed=seed) for seed in (0, 1)] for _ in range(2))
    curves = fitting.fit_together(
        together, draw, [measure] * 2, STAGES, seeds=(5, 6), observe_every=30
    )
    for reader, other, curve, seed in zip(alone, together, curves, (5, 6), strict=True):
        want = fitting.fit(reader, draw, measure, STAGES, seed=seed, observe_every=30)
        assert curve.steps == want.steps == (0, 3, 33, 63)
        assert curve.values == want.values
        for a, b in zip(reader.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def test_each_stage_may_have_examples_of_its_own():
    seen = []

    def noting(name):
        def draw_noted(steps, generator):
            seen.append(name)
            return draw(steps, generator)

        return draw_noted

    draws = {stage.name: noting(stage.name) for stage in STAGES}
    fitting.fit_together([tiny(Form(ratio=4, window=8))], draws, [lambda _: {}], STAGES, seeds=(0,))
    assert seen == ["encoder", "joint", "joint"]  # 50 steps at once, of 3 and of 60


@pytest.mark.gpu
def test_a_recorded_graph_trains_as_plain_steps_do():
    found = []
    for recorded in (False, True):
        readers = [tiny(Form(ratio=4, window=8), seed=seed).cuda() for seed in (0, 1)]
        fitting.fit_together(
            readers, draw, [lambda _: {}] * 2, STAGES[:1], seeds=(0, 1), recorded=recorded
        )
        found.append([p.detach() for reader in readers for p in reader.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def a_curve(*losses):
    steps = tuple(10 * i for i in range(len(losses)))
    return fitting.Curve(steps=steps, values={"loss": losses})


def test_two_curves_make_one():
    joined = fitting.joined(a_curve(3.0, 2.0), a_curve(2.0, 1.0, 0.5))
    assert joined.steps == (0, 10, 20, 30)
    assert joined.values == {"loss": (3.0, 2.0, 1.0, 0.5)}


def test_a_curve_has_settled_when_the_last_third_gains_nothing():
    falls = a_curve(4.0, 3.0, 2.0, 1.5, 0.5)  # steps 0 to 40; the rate begins to fall at 30
    assert not fitting.settled(falls, "loss", before=30)
    assert fitting.settled(a_curve(4.0, 3.0, 2.0, 1.99, 0.5), "loss", before=30)
    assert fitting.settled(a_curve(4.0, 1.0, 2.0, 1.5, 0.5), "loss", before=30)  # the best counts
    with pytest.raises(ValueError, match="need a measurement"):
        fitting.settled(a_curve(4.0), "loss", before=30)


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
