"""What the explorers show: facts of the two modes, of the teachers' maps, of one trajectory."""

import dataclasses
import math
import time

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.trd.along import _write, failed_rollouts
from intuitive.trd.committed import WEIGHTS, setting_config
from intuitive.trd.experiment import (
    AlongParams,
    CanonicalParams,
    LiveParams,
    ModeMapParams,
    TwoModesParams,
    along,
    canonical_order,
    mode_map,
    train_live,
    two_modes,
)
from intuitive.trd.signals import rewrites, wait_map
from intuitive.trd.sums import SumsConfig, sample_digits, sample_orders, verify, write_traces
from intuitive.trd.teacher import ExactTeacher, TeacherConfig

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "small.safetensors").is_file(), reason="no weights of the small setting"
)

# ------------------------------------------------------------------------------------ two modes


@pytest.mark.parametrize("repair", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("onset", [1e-4, 0.2])
def test_gradients_on_the_onset_are_those_of_the_worked_example(repair, onset):
    """Forward ε − λ; reverse ε (1 − ε) [ln ε/λ − ln (1 − ε)/(1 − λ)]; losses from the formulas."""
    found = two_modes(TwoModesParams(repair=repair, onset=onset))
    forward, reverse = found.charge("forward_kl"), found.charge("reverse_kl")
    log_odds = math.log(onset / repair) - math.log((1 - onset) / (1 - repair))
    assert forward.gradient[1] == pytest.approx(onset - repair, abs=1e-9)
    assert reverse.gradient[1] == pytest.approx(onset * (1 - onset) * log_odds, abs=1e-9)
    assert forward.loss == pytest.approx(
        repair * math.log(repair / onset) + (1 - repair) * math.log((1 - repair) / (1 - onset))
    )
    for charge in found.charges:
        assert sum(charge.gradient) == pytest.approx(0, abs=1e-9), charge.name


def test_the_brief_numbers():
    """λ = 0.3, ε = 1e-4: losses 2.15 and 0.356 nats, gradients about 360 times apart."""
    found = two_modes(TwoModesParams())
    forward, reverse = found.charge("forward_kl"), found.charge("reverse_kl")
    assert (round(forward.loss, 2), round(reverse.loss, 3)) == (2.15, 0.356)
    assert forward.gradient[1] / reverse.gradient[1] == pytest.approx(357, abs=5)


def test_clip_is_a_gate_and_one_renormalised_token_charges_nothing():
    found = two_modes(TwoModesParams())
    clipped = found.charge("clipped_forward_kl")
    assert clipped.loss == pytest.approx(0.1) and clipped.gradient == (0.0, 0.0)
    alone = found.charge("topk_reverse_kl")
    assert alone.loss == pytest.approx(0, abs=1e-12)
    assert alone.gradient == pytest.approx((0, 0), abs=1e-12)
    tail, reverse = found.charge("topk_reverse_kl_tail"), found.charge("reverse_kl")
    assert tail.loss == pytest.approx(reverse.loss)  # with two tokens the tail is the other one


def test_full_bars_are_the_teacher_at_a_boundary_after_an_error():
    found = two_modes(TwoModesParams(full=True, repair=0.4, onset=0.01))
    assert sum(found.teacher) == pytest.approx(1) and sum(found.student) == pytest.approx(1)
    assert found.tokens[found.onset_token] == "WAIT"
    assert found.teacher[found.onset_token] == pytest.approx(0.4, abs=0.002)
    assert found.student[found.onset_token] == pytest.approx(0.01)
    gradient = found.charge("forward_kl").gradient
    for p, q, g in zip(found.teacher, found.student, gradient, strict=True):
        assert g == pytest.approx(q - p, abs=1e-6)


def test_temperature_brings_both_sides_nearer():
    cold, hot = (two_modes(TwoModesParams(temperature=t)) for t in (1.0, 4.0))
    assert hot.charge("forward_kl").loss < cold.charge("forward_kl").loss
    assert hot.teacher[1] == pytest.approx(1 / (1 + (0.7 / 0.3) ** 0.25))


def test_one_gaussian_covers_both_humps_or_takes_one():
    forward, reverse = two_modes(TwoModesParams(repair=0.3, distance=6.0)).fits
    assert forward.mean == pytest.approx(0.3 * 6.0)
    assert forward.std**2 == pytest.approx(0.7 * 1 + 0.3 * 0.36 + 0.3 * 0.7 * 36)
    assert reverse.mean == pytest.approx(0.0, abs=0.05)  # the larger hump
    assert reverse.std == pytest.approx(1.0, abs=0.05)
    assert reverse.divergence == pytest.approx(-math.log(0.7), abs=0.01)  # all it misses
    other = two_modes(TwoModesParams(repair=0.8, distance=6.0)).fits[1]
    assert other.mean == pytest.approx(6.0, abs=0.05)


def test_two_modes_refuses_impossible_settings():
    with pytest.raises(ValueError, match=r"onset=0\.0 must lie in \(0, 1\)"):
        TwoModesParams(onset=0.0)
    with pytest.raises(ValueError, match=r"temperature=0\.0 must be above 0"):
        TwoModesParams(temperature=0.0)
    with pytest.raises(ValueError, match=r"k=3 must lie in \[1, 2\]"):
        two_modes(TwoModesParams(top_k=3))


# --------------------------------------------------------------------------------- WAIT maps


@pytest.mark.parametrize("sums", [SumsConfig(), SumsConfig(n_digits=3, modulus=5, plan=True)],
                         ids=["small", "plan"])  # fmt: skip
def test_the_exact_teacher_waits_with_its_repair_weight(sums):
    teacher = ExactTeacher(sums=sums, config=TeacherConfig(repair=0.4, smoothing=0.0))
    found = wait_map("exact", teacher, n_traces=32)
    k = sums.n_digits
    assert found.clean == (0.0,) * k and found.worst_clean == 0.0
    for error in range(k):
        assert found.by_error[str(error)] == pytest.approx((0.4,) * (k - error))
    if sums.plan:
        assert found.by_error["plan"] == pytest.approx((0.0,) * (k - 1) + (0.4,))
    assert (found.consistent, found.repaired) == (1.0, 0.0)


@needs_weights
def test_mode_map_reads_both_teachers_on_one_setting():
    found = mode_map(ModeMapParams(repair=0.6, n_traces=16))
    assert found.exact.by_error["0"] == pytest.approx((0.6,) * 4, abs=2e-3)
    assert found.learned.by_error.keys() == found.exact.by_error.keys()
    assert len(found.learned.clean) == 4
    again = mode_map(ModeMapParams(repair=0.2, n_traces=16))
    assert again.learned is found.learned and again.exact.by_error["0"][0] < 0.21
    with pytest.raises(ValueError, match="setting='huge' must be one of small, late"):
        ModeMapParams(setting="huge")
    with pytest.raises(Cancelled):
        mode_map(ModeMapParams(), stale=lambda: True)


@needs_weights
def test_rewrites_of_the_exact_teacher_are_right_and_near_the_student():
    from intuitive.trd.committed import shipped

    teacher = ExactTeacher(sums=SumsConfig(), config=TeacherConfig(repair=0.3))
    found = rewrites("exact", teacher, shipped("small").students.copies([0]), n_problems=96)
    shares = (found.fail_fail, found.fail_pass, found.pass_fail, found.pass_pass)
    assert sum(shares) == pytest.approx(1)
    assert found.fail_pass > 0.2 and found.pass_fail < 0.03 and found.order_kept > 0.95
    assert found.nll_y_r < found.nll_y_o < found.nll_y_t
    assert found.wait_mass_y_r < 1e-3 < found.wait_mass_y_o
    assert found.forward_after > found.forward_at  # forward KL is driven by the onset
    assert found.reverse_at > found.reverse_after  # reverse KL by the error itself


# ------------------------------------------------------------------------------------- along


@needs_weights
def test_along_a_failed_rollout():
    found = along(AlongParams())
    assert not found.y_o.correct and found.y_r.correct
    assert found.y_o.marks[found.y_o.first_error] == "wrong"
    assert found.onset_at == found.y_o.first_error + 1
    assert found.y_o.wait_mass[found.onset_at] == pytest.approx(0.3, abs=2e-3)
    assert max(found.y_r.wait_mass) < 1e-3
    for path in (found.y_o, found.y_r, found.y_t):
        assert len(path.tokens) == len(path.marks) == len(path.nll)
        assert path.mean_nll == pytest.approx(sum(path.nll) / len(path.nll), rel=1e-4)
    assert len(found.y_o.nats) == len(found.y_o.tokens)
    assert "fixed" in found.y_r.marks and "moved" not in found.y_r.marks  # the order is kept


@pytest.mark.parametrize("setting", ["small", "late"])
def test_the_program_draws_along_what_it_draws_as_a_sampler(setting):
    """`_write` stops early; with one seed, 3, tokens are those of `sample`, and p is `logits`."""
    sums = setting_config(setting).sums
    teacher = ExactTeacher(sums=sums, config=TeacherConfig(repair=0.5, smoothing=0.01))
    digits = sample_digits(sums, 16, generator=seeded(0))
    orders = sample_orders(sums, 16, right_to_left=1.0, generator=seeded(1))
    shifts = torch.zeros_like(digits).index_fill(1, torch.tensor([1]), 2)
    drafts = write_traces(sums, digits, orders, shifts=shifts).tokens
    generator = seeded(3)
    found, p = _write(
        teacher,
        teacher.context(digits, drafts=drafts),
        sums.trace_length,
        lambda p: p.multinomial(1, generator=generator)[:, 0],
    )
    n = found.shape[1]
    want = teacher.sample(digits, generator=seeded(3), drafts=drafts)
    assert torch.equal(found, want[:, :n]) and (want[:, n:] == sums.pad).all()
    torch.testing.assert_close(p.log(), teacher.logits(digits, found, drafts=drafts))


@pytest.mark.parametrize("setting", ["small", "late"])
def test_a_draft_of_padding_tells_the_program_nothing(setting):
    sums = setting_config(setting).sums
    teacher = ExactTeacher(sums=sums)
    digits = sample_digits(sums, 8, generator=seeded(0))
    tokens = teacher.sample(digits, generator=seeded(1))
    padding = torch.full_like(tokens, sums.pad)
    want = teacher.logits(digits, tokens)
    assert torch.equal(teacher.logits(digits, tokens, drafts=padding), want)


@pytest.mark.skipif(
    not (WEIGHTS / "late.safetensors").is_file(), reason="no weights of the late setting"
)
def test_an_error_in_the_plan_is_answered_before_the_answer_alone():
    """In the late setting no total shows a wrong plan, so the teacher waits until all stand."""
    failed = failed_rollouts("late", 0)
    item = int((failed.first_error == 0).nonzero()[0])
    found = along(AlongParams(setting="late", item=item, repair=0.5))
    assert found.y_o.marks[0] == "wrong" and found.onset_at == 1 + 2 * 8
    assert max(found.y_o.wait_mass[: found.onset_at]) < 1e-3
    assert found.y_o.wait_mass[found.onset_at] == pytest.approx(0.5, abs=2e-3)
    assert [rung.target for rung in found.ladder[:1]] == ["WAIT"] and found.ladder[0].shared


@needs_weights
def test_failed_rollouts_are_failures_that_can_be_followed():
    failed = failed_rollouts("small", 1)
    sums = setting_config("small").sums
    found = verify(sums, failed.digits, failed.y_o)
    assert found.well_formed.all() and not found.correct.any() and not found.n_waits.any()
    assert torch.equal(found.first_error, failed.first_error) and len(failed.y_o) > 1
    assert (failed.first_error >= 0).all()
    with pytest.raises(ValueError, match=r"seed=99 must lie in \[0, \d+\): so many first"):
        failed_rollouts("small", 99)


@needs_weights
def test_only_the_first_rung_of_the_ladder_is_shared():
    ladder = along(AlongParams(repair=0.6)).ladder
    assert ladder[0].target == "WAIT" and ladder[0].context == ()
    assert [rung.shared for rung in ladder] == [True] + [False] * (len(ladder) - 1)
    assert ladder[0].opd_target == "WAIT"  # λ above a half: the onset again and again
    again = [rung for rung in ladder if rung.onset_mass > 0.5]
    assert all(rung.opd_target == "WAIT" for rung in again)


@needs_weights
def test_scoring_from_x_changes_the_charge_not_the_path():
    refine, x = (along(AlongParams(context=context)) for context in ("refine", "x"))
    assert refine.y_r.tokens == x.y_r.tokens and refine.y_r.nats != x.y_r.nats
    with pytest.raises(ValueError, match="item=10000 must be below"):
        along(AlongParams(item=10_000))
    with pytest.raises(ValueError, match="context='y' must be 'refine' or 'x'"):
        AlongParams(context="y")
    with pytest.raises(ValueError, match="divergence='kl' must be one of forward_kl"):
        AlongParams(divergence="kl")


# --------------------------------------------------------------------------------------- live

LIVE = LiveParams(n_steps=16, batch=32, n_problems=48, n_test=8)


@needs_weights
def test_live_training_reports_both_methods():
    said = []
    found = train_live(LIVE, progress=lambda share, sentence: said.append(share))
    assert [run.name for run in found.runs] == ["opd_forward", "trd"]
    for run in found.runs:
        assert [point.step for point in run.points] == [0, 4, 8, 12, 16]
        assert len(run.rollouts) == 8
    first = [run.points[0] for run in found.runs]
    assert dataclasses.replace(first[0], teacher_tokens=0) == dataclasses.replace(
        first[1], teacher_tokens=0
    )  # one first student, common random numbers
    assert said == sorted(said) and len(said) >= 16
    assert train_live(LIVE) == found


@needs_weights
def test_live_training_stops_within_a_second():
    calls = 0

    def stale() -> bool:
        nonlocal calls, asked
        calls += 1
        if calls == 40:
            asked = time.process_time()
        return calls >= 40

    asked = 0.0
    with pytest.raises(Cancelled):
        train_live(LiveParams(), stale=stale)
    assert time.process_time() - asked < 1.0


def test_live_settings_are_checked():
    with pytest.raises(ValueError, match="'opd' is none of"):
        LiveParams(methods="trd,opd")
    with pytest.raises(ValueError, match="must be a multiple of rounds=7"):
        LiveParams(rounds=7)


# ---------------------------------------------------------------------------- canonical order


@needs_weights
def test_trd_is_sft_where_the_order_is_canonical():
    one, free = (canonical_order(CanonicalParams(left_to_right=w)) for w in (1.0, 0.0))
    assert one.same_trace > 0.9  # but for the smoothing of a thousandth per token
    assert one.gradient_cosine > 0.98
    assert free.same_trace < 0.2
    assert free.gradient_difference > 3 * one.gradient_difference
    with pytest.raises(ValueError, match=r"left_to_right=2\.0 must lie"):
        CanonicalParams(left_to_right=2.0)


def test_params_survive_their_text():
    for params in (TwoModesParams(repair=0.5), AlongParams(item=2), LiveParams(rounds=2),
                   ModeMapParams(), CanonicalParams()):  # fmt: skip
        assert type(params).from_text(params.to_text()) == params
