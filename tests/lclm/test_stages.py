"""The four stages: what trains in each, the mix, the schedule, and that frozen parts stay."""

import copy
import itertools

import pytest
import torch

from intuitive.lclm import fitting, miniature, stages
from intuitive.lclm.miniature import Form, Size
from intuitive.lclm.stages import Mix, Stage, StageOptimizer, paper_stages, parts_of
from intuitive.lclm.task import ReconstructionTask

TASK = ReconstructionTask(n_symbols=4, context=8)
SIZE = Size(d_model=16, n_layers=1, n_heads=2, d_ff=16, batch=4)


def a_reader(**choices):
    form = Form(ratio=4, window=8, **choices)
    return miniature.build(form, SIZE, vocabulary=4, context=8, behind=8, seed=0)


def draw(steps, generator):
    return TASK.draw(steps, 4, generator=generator)


def moved(reader, stage):
    """Names of the parameters that a stage of training changes."""
    before = {name: weight.clone() for name, weight in reader.named_parameters()}
    fitting.fit(reader, draw, lambda _: {}, [stage], seed=0)
    return {
        name for name, weight in reader.named_parameters() if not torch.equal(before[name], weight)
    }


def part_of(name):
    if "tags" in name:
        return "tags"
    return next(part for part in ("adapter", "decoder", "encoder", "marker") if part in name)


@pytest.mark.parametrize("number", range(4))
def test_a_stage_moves_what_it_trains_and_nothing_else(number):
    reader = a_reader()
    stage = paper_stages((2, 2, 2, 2))[number]
    parts = {part_of(name) for name in moved(reader, stage)}
    assert (
        parts
        == [
            {"adapter", "tags"},
            {"adapter", "tags", "encoder"},
            {"adapter", "tags", "encoder", "decoder"},
            {"adapter", "tags", "encoder", "decoder"},
        ][number]
    )


def test_a_shared_embedding_belongs_to_the_decoder():
    reader = a_reader()
    assert reader.model.encoder.embedding.weight is reader.decoder.embedding.weight
    held = parts_of(reader.model)
    assert any(p is reader.decoder.embedding.weight for p in held["decoder"])
    each = [id(p) for parameters in held.values() for p in parameters]
    assert len(each) == len(set(each))
    assert set(each) == {id(p) for p in reader.parameters()}
    name = "decoder.embedding.weight"
    assert name not in moved(reader, Stage(name="1", n_steps=2, adapter=1e-2, encoder=1e-2))


def test_learned_queries_train_with_the_encoder():
    reader = a_reader(pooling="queries")
    assert "model.markers" not in moved(reader, Stage(name="0", n_steps=2, adapter=1e-2))
    assert "model.markers" in moved(reader, Stage(name="1", n_steps=2, encoder=1e-2))


def test_a_part_frozen_in_one_stage_trains_in_a_later_one():
    reader = a_reader()
    first = Stage(name="0", n_steps=2, adapter=1e-2)
    then = Stage(name="2", n_steps=2, adapter=1e-2, encoder=1e-2, decoder=1e-2)
    before = copy.deepcopy(reader.decoder.state_dict())
    seen = []

    def observe(reader):
        now = reader.decoder.state_dict()
        seen.append(all(torch.equal(before[name], now[name]) for name in before))
        return {}

    fitting.fit(reader, draw, observe, [first, then], seed=0, observe_every=10)
    assert seen == [True, True, False]


def test_papers_rates_and_steps():
    found = paper_stages((5, 6, 7, 8))
    assert [stage.n_steps for stage in found] == [5, 6, 7, 8]
    assert [sorted(stage.rates) for stage in found] == [
        ["adapter", "tags"],
        ["adapter", "encoder", "tags"],
        ["adapter", "decoder", "encoder", "tags"],
        ["adapter", "decoder", "encoder", "tags"],
    ]
    assert found[0].rates["tags"] == 1e-3 and found[2].rates["decoder"] == 1e-5
    with pytest.raises(ValueError, match="four numbers"):
        paper_stages((1, 2))


def test_the_schedule_warms_up_and_falls():
    factors = [stages.warmed_cosine(step, 200) for step in range(200)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == pytest.approx(1, abs=1e-3)
    assert factors.index(max(factors)) == 9  # after 5% of the steps
    assert all(a >= b for a, b in itertools.pairwise(factors[9:]))
    assert factors[-1] == pytest.approx(0.02, abs=1e-3)


def test_a_held_rate_falls_at_the_end_alone():
    factors = [stages.held_then_falling(step, 100) for step in range(100)]
    assert factors[:2] == [0.5, 1.0] and set(factors[1:81]) == {1.0}
    assert factors[-1] == pytest.approx(0.05)
    assert all(a > b for a, b in itertools.pairwise(factors[80:]))


def test_rates_follow_the_schedule():
    reader = a_reader()
    stage = Stage(name="2", n_steps=4, adapter=0.5, decoder=0.25)
    optimizer = StageOptimizer(miniature.parts(reader), stage, schedule=lambda step, n: step / n)
    before = reader.decoder.norm.weight.clone()
    for step in range(2):
        optimizer.zero_grad()
        for parameter in optimizer.parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        if step == 0:  # the factor is 0: weights and decay stand still
            assert torch.equal(reader.decoder.norm.weight, before)
    change = before - reader.decoder.norm.weight
    # Where every gradient was alike, Adam's step is the rate itself.
    torch.testing.assert_close(change, torch.full_like(change, 0.25 / 4), atol=1e-3, rtol=1e-3)


# ------------------------------------------------------------------------------------- the mix


@pytest.mark.parametrize("batch", [3, 7, 16, 64])
def test_every_type_of_the_mix_has_rows_and_none_is_lost(batch):
    mix = Mix(reconstruction=0.172, next_token=0.573, instruction=0.255)
    rows = mix.rows(batch)
    assert sum(rows.values()) == batch and min(rows.values()) >= 1
    assert rows["next_token"] == max(rows.values())
    if batch == 64:
        assert rows == {"reconstruction": 11, "next_token": 37, "instruction": 16}


def test_a_mix_of_one_type_has_that_type_alone():
    assert Mix(reconstruction=1.0, next_token=0.0).rows(5) == {"reconstruction": 5}


def test_bad_mixes_and_stages_are_refused():
    with pytest.raises(ValueError, match="together 1"):
        Mix(reconstruction=0.5)
    with pytest.raises(ValueError, match="together 1"):
        Mix(reconstruction=-0.5, next_token=1.5)
    with pytest.raises(ValueError, match="no row for each"):
        Mix(reconstruction=0.5, next_token=0.5).rows(1)
    with pytest.raises(ValueError, match="trains nothing beside the tags"):
        Stage(name="x", n_steps=1, tags=1e-3)
    with pytest.raises(ValueError, match="must be above 0"):
        Stage(name="x", n_steps=1, adapter=0.0, decoder=1e-3)
    parts = miniature.parts(a_reader())
    with pytest.raises(ValueError, match="unknown parts"):
        StageOptimizer({**parts, "head": []}, Stage(name="x", n_steps=1, adapter=1e-3))
    with pytest.raises(ValueError, match="none of which has parameters"):
        StageOptimizer({"decoder": parts["decoder"]}, Stage(name="x", n_steps=1, adapter=1e-3))
    with pytest.raises(ValueError, match="names that differ"):
        stages.train_stages(parts, [], lambda stage, optimizer: lambda step: {})


def test_progress_runs_over_all_stages():
    told = []
    found = stages.train_stages(
        {"adapter": [torch.nn.Parameter(torch.ones(2))]},
        [Stage(name="a", n_steps=1, adapter=1e-3), Stage(name="b", n_steps=3, adapter=1e-3)],
        lambda stage, optimizer: lambda step: {"loss": float(step)},
        progress=lambda fraction, sentence, so_far=None: told.append((fraction, sentence)),
    )
    assert [fraction for fraction, _ in told] == [0.25, 0.5, 0.75, 1.0]
    assert told[1][1].startswith("Stage b: Step 1 of 3")
    assert found == {"a": {"loss": [0.0]}, "b": {"loss": [0.0, 1.0, 2.0]}}
