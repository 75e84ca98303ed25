"""The script of the miniatures: its arms, its files, and what its committed run found."""

import itertools
import json
import shutil
import sys

import lclm_miniature
import lclm_miniature_arms
import msgspec
import pytest
import torch

from intuitive.common import records
from intuitive.common.runtime import seeded
from intuitive.lclm import results
from intuitive.lclm.stages import Stage


@pytest.fixture(scope="module")
def found():
    return results.miniatures().values


# ------------------------------------------------------------------------------- the script


def test_arms_of_a_part_differ_and_seeds_have_the_same_arms():
    plan = lclm_miniature.Plan()
    for name, arms in lclm_miniature.PARTS.items():
        first, second = (list(arms(plan, seed)) for seed in (0, 1))
        assert len(first) == len(set(first)) == len(second), name
        assert {arm.seed for arm in first} == {0} and {arm.seed for arm in second} == {1}


@pytest.mark.slow
def test_all_parts_at_a_tiny_size(tmp_path, monkeypatch, capsys):
    """The first arms of every part: of the sweep all poolings and masks, of stages all orders."""
    for name, arms in lclm_miniature.PARTS.items():
        most = {"sweep": 10, "stages": 4}.get(name, 2)

        def first(plan, seed, arms=arms, most=most):
            return itertools.islice(arms(plan, seed), most)

        monkeypatch.setitem(lclm_miniature.PARTS, name, first)
    monkeypatch.setattr(sys, "argv", ["benchmarks/lclm_miniature.py", "--small"])
    assert lclm_miniature.main(["--small", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "FAILED" not in said
    for part in lclm_miniature.PARTS:
        assert f"{part}: " in said and (tmp_path / f"lclm_miniature_{part}.json").is_file()
    assert lclm_miniature.main(["--collect", str(tmp_path), "--out", str(tmp_path)]) == 0
    values, made = records.load(tmp_path / "lclm_miniature.json")
    kept = msgspec.convert(values, results.Miniatures)
    assert set(kept.parts) == set(lclm_miniature.PARTS) == {point.part for point in kept.points}
    assert kept.parts["small"].command == "lclm_miniature.py --small"
    small = json.loads(
        json.dumps(lclm_miniature.helpers.rounded(lclm_miniature.small_plan(), digits=6))
    )
    assert made["config"]["sweep"] == small
    (raw, *_) = kept.select(study="raw")
    assert raw.training == "scratch" and raw.reader == "raw"
    assert {point.seed for point in kept.points} == {0, 1}


def test_time_that_is_up_leaves_arms_out_and_still_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks/lclm_miniature.py", "--small"])
    options = ["--small", "--part", "long", "--seconds", "0", "--out", str(tmp_path)]
    assert lclm_miniature.main(options) == 0
    values, _ = records.load(tmp_path / "lclm_miniature_long.json")
    assert "left out" in capsys.readouterr().out
    arms = list(lclm_miniature.PARTS["long"](lclm_miniature.small_plan(), 0))
    assert not values["points"] and arms


def test_spans_grow_and_no_step_is_lost():
    stages = [
        Stage(name="adapter", n_steps=200, adapter=1e-3),
        Stage(name="joint", n_steps=800, decoder=1e-3),
    ]
    grown = lclm_miniature_arms.growing(stages)
    assert [(stage.name, stage.n_steps) for stage in grown] == [
        ("adapter, 1/8 of it", 200),
        ("joint, 1/4 of it", 200),
        ("joint, 1/2 of it", 200),
        ("joint, 1 of it", 400),
    ]
    shop = lclm_miniature.Workshop(lclm_miniature.Plan(), "cpu")
    arm = next(lclm_miniature.PARTS["stages"](shop.plan, 0))
    lengths = [draw(1, seeded(0)).spans.shape for draw in shop.draws(arm, 16, grown).values()]
    assert lengths == [(1, 128, 32), (1, 64, 64), (1, 32, 128), (1, 16, 256)]


def test_a_recorded_graph_is_checked_before_it_is_trusted():
    assert (
        lclm_miniature.recording_differs(torch.device("cpu")) is None
    )  # nothing is recorded there


def test_later_folders_replace_the_same_arms(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks/lclm_miniature.py", "--small"])
    out = str(tmp_path / "one")
    assert lclm_miniature.main(["--small", "--part", "expand", "--out", out]) == 0
    shutil.copytree(out, tmp_path / "two")
    file = tmp_path / "two" / "lclm_miniature_expand.json"
    text = file.read_text()
    assert text.count('"steps": 5') == 6
    file.write_text(text.replace('"steps": 5', '"steps": 6'))
    for order, want in ((("one", "two"), 6), (("two", "one"), 5)):
        lclm_miniature.collect([tmp_path / name for name in order], tmp_path)
        values, _ = records.load(tmp_path / "lclm_miniature.json")
        assert [point["steps"] for point in values["points"]] == [want] * 6
        assert set(values["guesses"]) == {"chunks small 8"}  # of what is there, nothing else


def test_collecting_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no lclm_miniature_\*.json"):
        lclm_miniature.collect([tmp_path], tmp_path)


@pytest.mark.sweep
def test_a_slice_of_the_committed_result_comes_out_again():
    """Recall with one record per latent, trained here for 400 steps (about 30 s)."""
    assert lclm_miniature.compare_slice(lclm_miniature.helpers.RESULTS) == []


# ------------------------------------------------------------------- the findings, small models


def last(found, measure, **fields):
    """A measure of every seed of one setting, after training."""
    points = found.select(**fields)
    assert [point.seed for point in points] == [0, 1, 2], fields
    return [point.last(measure) for point in points]


SMALL = {"scale": "small", "budget": "equal"}


def recalled(found, **fields):
    return last(found, "recall accuracy", study="recall", **{**SMALL, **fields})


def again(found, study="reconstruction", **fields):
    return last(found, "reconstruction accuracy", study=study, **{**SMALL, **fields})


def test_recall_is_solved_at_one_record_per_latent_and_stuck_at_two(found):
    guess = found.guesses["records small 4"]
    for ratio in (2, 4, 8):
        assert min(recalled(found, ratio=ratio, reader="latents")) > 0.99
    assert all(abs(a - guess) < 0.03 for a in recalled(found, ratio=16, reader="latents"))


def test_raw_reading_needs_the_first_hop_to_learn_as_fast(found):
    """The control at the same number of steps is no evidence against reading raw."""
    guess = found.guesses["records small 4"]
    assert all(abs(a - guess) < 0.03 for a in recalled(found, reader="raw"))
    assert min(recalled(found, reader="smeared")) > 0.99


def test_reconstruction_falls_with_the_ratio(found):
    by = [again(found, ratio=ratio, data="symbols") for ratio in (2, 4, 8, 16)]
    for less, more in itertools.pairwise(by):
        assert min(less) > max(more) - 1e-3
    assert min(by[1]) > 0.99 and max(by[3]) < 0.6


def sweep_of(found, **fields):
    return again(found, study="sweep", **fields)


def test_pooled_states_beat_markers_where_the_window_is_wide(found):
    wide = {"window": 32, "mask": "causal"}
    for marker in ("eos", "queries"):
        for pooling in ("mean", "concat"):
            ours = sweep_of(found, pooling=pooling, **wide)
            assert min(ours) > max(sweep_of(found, pooling=marker, **wide)), (pooling, marker)


def test_where_window_and_ratio_agree_one_query_is_one_marker(found):
    narrow = {"window": 8, "mask": "causal"}
    assert sweep_of(found, pooling="eos", **narrow) == sweep_of(found, pooling="queries", **narrow)


def test_causal_means_beat_bidirectional_ones_in_every_seed(found):
    for window in (8, 32):
        both = (
            sweep_of(found, pooling="mean", window=window, mask=mask)
            for mask in ("causal", "bidirectional")
        )
        assert all(a > b for a, b in zip(*both, strict=True)), window


# ------------------------------------------------------------------- the findings, large models


def staged(found, measure, training="joint", reconstruction=0.5):
    fields = {"training": training, "reconstruction": reconstruction}
    return last(found, measure, study="stages", **fields)


AGAIN, ON, OTHER = "reconstruction accuracy", "continuation loss", "without loss"


def test_reconstruction_alone_repeats_best_and_forgets_how_to_go_on(found):
    """As the paper says of its own; here the decoder trains."""
    alone, mixed, without = (staged(found, ON, reconstruction=share) for share in (1.0, 0.5, 0.0))
    assert min(alone) > max(mixed) + 1.5
    assert max(mixed) < min(without) + 0.1  # a mix costs next to nothing in going on
    again = [staged(found, AGAIN, reconstruction=share) for share in (1.0, 0.5, 0.0)]
    for more, less in itertools.pairwise(again):
        assert all(a > b for a, b in zip(more, less, strict=True))


def test_a_frozen_decoder_learns_less_and_forgets_less(found):
    for share in (0.0, 0.5, 1.0):
        frozen, trained = (
            staged(found, AGAIN, training, share) for training in ("frozen", "joint")
        )
        assert all(a < b for a, b in zip(frozen, trained, strict=True))
    kept = staged(found, ON, "frozen", 1.0)
    assert max(kept) < min(staged(found, ON, "joint", 1.0)) - 1


def test_stages_do_not_beat_training_all_at_once_at_equal_steps(found):
    """Against the paper's claim, which it makes without numbers and of far longer training."""
    in_stages, at_once = (staged(found, AGAIN, training) for training in ("staged", "joint"))
    assert all(a < b for a, b in zip(in_stages, at_once, strict=True))


def test_the_right_latents_help_to_go_on(found):
    """Less than raw text does; another text's latents are worse in every arm."""
    (part,) = {point.part for point in found.select(study="stages")}
    raw = last(found, ON, study="raw", part=part), last(found, OTHER, study="raw", part=part)
    saved_raw = [other - own for own, other in zip(*raw, strict=True)]
    assert min(saved_raw) > 0.15
    mixed = [
        other - own for own, other in zip(staged(found, ON), staged(found, OTHER), strict=True)
    ]
    assert min(mixed) > 0.1 and all(a < b for a, b in zip(mixed, saved_raw, strict=True))


def test_the_large_sweep_decides_nothing(found):
    """A fresh encoder is not read within 800 steps: every variant repeats as if without it."""
    points = found.select(study="sweep", scale="large")
    assert {point.window for point in points} == {256} and len(points) == 30
    for seed in (0, 1, 2):
        values = [point.last(AGAIN) for point in points if point.seed == seed]
        assert max(values) - min(values) < 0.01


def test_a_wrong_chunk_shown_again_hurts_and_the_right_one_helps(found):
    """WHERE itself stays at chance: at two records per latent the miniature finds no key."""
    at = {"study": "expand", "ratio": 16}
    alone, other, oracle, where = (
        last(found, f"{name} accuracy", **at)
        for name in ("value alone", "value other", "value oracle", "where")
    )
    for a, b, c in zip(other, alone, oracle, strict=True):
        assert a < b < c - 0.2
    assert all(abs(share - 0.25) < 0.05 for share in where)
