"""Runs of associative recall: equal conditions, honest measures, records that survive JSON."""

import dataclasses
import json
import time

import msgspec
import numpy as np
import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.msa import recall
from intuitive.msa.config import MSAConfig
from intuitive.msa.recall import RecallRun, k_sweep, look, measure, run, sequences_for, snapshot
from intuitive.msa.reference import dense_attention
from intuitive.msa.task import ARMS, RecallConfig, RecallModel, draw_sequences

SMALL = RecallConfig(
    n_tokens=32,
    n_keys=48,
    n_values=8,
    batch_size=4,
    n_heldout=8,
    n_steps=12,
    warmup_steps=6,
    msa=MSAConfig(block_size=4, n_selected=3),
)
LEAN = {"snapshot_at": (0, 6)}


@pytest.fixture(scope="module")
def runs():
    return {arm: run(dataclasses.replace(SMALL, arm=arm), seed=1, **LEAN) for arm in ARMS}


def perfect_and_blind(heldout, block_idx):
    """Looks with all answers right, and with all wrong, at a given selection."""
    teacher = torch.full((8, 32, 2, 32), 1 / 32)
    right = torch.nn.functional.one_hot(heldout.answers.clamp(min=0), 8).float()
    agreed = recall.agreement(teacher, block_idx, SMALL.msa)
    for logits in (right, -right):
        yield recall.Look(logits, teacher, block_idx, agreed, kl=0.5)


# ------------------------------------------------------------------------- equal conditions


def test_heldout_sequences_are_never_trained_on():
    batches, heldout = sequences_for(SMALL, seed=1)
    trained = draw_sequences(SMALL, SMALL.batch_size * SMALL.n_steps, batches)
    rows = {tuple(row) for row in torch.cat((trained.keys, trained.values), 1).tolist()}
    assert len(rows) == SMALL.batch_size * SMALL.n_steps
    assert not rows & {tuple(row) for row in torch.cat((heldout.keys, heldout.values), 1).tolist()}


def test_arms_share_data_first_weights_and_measures(runs):
    assert len({done.example for done in runs.values()}) == 1
    assert len({done.steps for done in runs.values()}) == 1
    assert {len(done.train_loss) for done in runs.values()} == {SMALL.n_steps}
    # Dense and warm-up read the same until the warm-up ends, and the KL touches no main weight.
    dense, warm = runs["dense"], runs["msa_warmup"]
    assert dense.train_loss[:6] == pytest.approx(warm.train_loss[:6], rel=1e-5)
    assert dense.train_loss[7:] != pytest.approx(warm.train_loss[7:], rel=1e-5)
    # With and without the KL, selection is the same until the index has moved.
    assert runs["msa"].train_loss[0] == pytest.approx(runs["msa_untrained"].train_loss[0])
    assert len({done.train_loss for done in runs.values()}) == len(ARMS)


def without_time(done):
    return dataclasses.replace(done, seconds=0.0)


def test_a_run_repeats_itself_and_seeds_differ(runs):
    config = dataclasses.replace(SMALL, arm="msa")
    again = run(config, seed=1, **LEAN)
    assert without_time(again) == without_time(runs["msa"])
    other = run(config, seed=2, **LEAN)
    assert other.example != again.example
    assert other.train_loss[0] != again.train_loss[0]


def test_only_trained_indices_have_a_kl(runs):
    lengths = {arm: len(done.train_kl) for arm, done in runs.items()}
    assert lengths == {"dense": 0, "msa_warmup": 12, "msa": 12, "msa_untrained": 0, "window": 0}
    for arm, done in runs.items():
        assert (done.at(12).kl is None) == (arm in ("dense", "window"))
        assert (done.at(12).mass_captured is None) == (arm == "dense")


def test_the_index_learns_within_a_few_steps(runs):
    """Seed 1: warm-up lowers the KL on whole causal rows by more than a third."""
    kl = runs["msa_warmup"].train_kl[:6]
    assert kl[-1] < kl[0] * 2 / 3


# --------------------------------------------------------------------------------- measures


def test_accuracy_and_needles_of_known_answers():
    _, heldout = sequences_for(SMALL, seed=1)
    block_idx = torch.arange(3, dtype=torch.int32).repeat(8, 32, 2, 1)
    block_idx[:, :, 1] = -1  # the second group reads nothing
    perfect, blind = (
        measure(found, heldout, SMALL, step=0) for found in perfect_and_blind(heldout, block_idx)
    )
    assert (perfect.accuracy, blind.accuracy) == (1.0, 0.0)
    assert perfect.loss < blind.loss
    in_first_blocks = (heldout.needles < 12)[heldout.is_query].float().mean().item()
    assert perfect.needle_in_reach == pytest.approx(in_first_blocks)
    assert perfect.needle_selected == pytest.approx(in_first_blocks / 2)


def test_an_ideal_selection_captures_all_of_a_narrow_teacher():
    """Attention on the local token alone: the forced local block holds everything."""
    _, heldout = sequences_for(SMALL, seed=1)
    teacher = torch.eye(32)[None, :, None].expand(8, 32, 2, 32)
    local = (torch.arange(32) // 4).int()[None, :, None, None].expand(8, 32, 2, 1)
    block_idx = torch.cat((local, torch.full_like(local, -1).expand(8, 32, 2, 2)), -1)
    agreed = recall.agreement(teacher, block_idx, SMALL.msa)
    found = recall.Look(torch.zeros(8, 32, 8), teacher, block_idx, agreed, kl=0.0)
    measured = measure(found, heldout, SMALL, step=0)
    assert measured.mass_captured == measured.mass_at_queries == 1.0
    assert measured.teacher_entropy == pytest.approx(0.0, abs=1e-6)


def test_look_sees_the_attention_that_the_model_computes():
    """Its teacher, applied to the values, gives the dense layer's output per group (G = 1)."""
    config = dataclasses.replace(
        SMALL, arm="dense", msa=MSAConfig(n_q_heads=2, block_size=4, n_selected=3)
    )
    model = RecallModel(config, seed=0)
    model.attention.sparse = False
    _, heldout = sequences_for(config, seed=1)
    seen = []
    with torch.no_grad():
        model(heldout, probe=recall.Probe((0,), seen.append))
        found = look(model, heldout)
    got = torch.einsum("bnhm,bmhd->bnhd", found.teacher, seen[0].v)
    torch.testing.assert_close(
        got, dense_attention(seen[0].q, seen[0].k, seen[0].v), atol=1e-5, rtol=1e-4
    )


# ---------------------------------------------------------------------------------- records


@pytest.mark.parametrize("arm", ARMS)
def test_a_record_survives_json(runs, arm):
    done = runs[arm]
    assert msgspec.convert(json.loads(json.dumps(dataclasses.asdict(done))), RecallRun) == done


def test_measures_stand_at_every_tenth_step_and_the_last(runs):
    done = runs["msa"]
    assert done.steps == (0, 6, 10, 12)  # 6 for the snapshot
    assert done.curve("accuracy") == tuple(done.at(step).accuracy for step in done.steps)
    with pytest.raises(ValueError, match=r"step=7 was not measured; choose one of \(0, 6, 10, 12"):
        done.at(7)


def test_snapshots_hold_the_selection_and_the_attention():
    model = RecallModel(SMALL, seed=0)
    _, heldout = sequences_for(SMALL, seed=1)
    found = look(model, heldout)
    shot = snapshot(found, heldout, SMALL, step=7)
    selected = np.zeros((2, 32, 8), bool)
    for i in range(32):
        for r in range(2):
            for block in found.block_idx[0, i, r].tolist():
                if block >= 0:
                    selected[r, i, block] = True
    assert (shot.selected() == selected).all()
    mass = found.teacher[0].unflatten(-1, (8, 4)).sum(-1).movedim(1, 0).numpy()
    assert np.abs(shot.teacher() - mass).max() <= 0.5 / 255 + 1e-6
    assert [a >= 0 for a in shot.answered] == heldout.is_query[0].tolist()
    assert not shot.reads_all
    assert snapshot(found, heldout, SMALL, step=5).reads_all  # still warming up


def test_a_dense_snapshot_reads_every_visible_block(runs):
    shot = runs["dense"].snapshots[-1]
    visible = np.arange(8) * 4 <= np.arange(32)[:, None]
    assert (shot.selected() == visible).all()
    assert shot.reads_all


def test_snapshots_beyond_the_end_do_not_occur():
    done = run(dataclasses.replace(SMALL, n_steps=6), seed=0, snapshot_at=(0, 6, 300))
    assert [shot.step for shot in done.snapshots] == [0, 6]


# ------------------------------------------------------------------------- progress, cancel


def test_progress_comes_twice_a_second_and_cancelling_takes_less_than_one():
    """At the lesson's sizes, where a step and an evaluation take longest."""
    told: list[float] = []
    with pytest.raises(Cancelled):
        run(
            RecallConfig(arm="msa"),
            seed=0,
            stale=lambda: len(told) >= 12,
            progress=lambda share, sentence: told.append(time.monotonic()),
        )
    ended = time.monotonic()
    assert ended - told[-1] < 1
    assert np.median(np.diff(told)) < 0.5
    assert len(told) == 12


# ----------------------------------------------------------------------------------- k-sweep


def test_reading_every_block_is_dense_whatever_the_index():
    """Seed 0, 8 blocks of 4 tokens in 32: k = 8 leaves nothing out."""
    swept = k_sweep(dataclasses.replace(SMALL, n_steps=8), seed=0, budgets=(1, 2, 8))
    assert swept.n_selected == (1, 2, 8)
    full = swept.sparse[-1]
    assert full.loss == pytest.approx(swept.dense.loss, rel=1e-5)
    assert full.accuracy == swept.dense.accuracy
    assert full.needle_selected == 1.0
    masses = [point.mass_captured for point in swept.sparse[:2]]
    assert masses[0] < masses[1] < 1
