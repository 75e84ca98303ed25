"""One target with two modes: what is charged, where it pulls, and how it is drawn."""

import itertools
import math

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.trd.experiments import two_modes
from intuitive.trd.experiments.two_modes import TwoModesParams
from intuitive.widgets.kit import Words
from intuitive.widgets.trd import two_modes as widget
from intuitive.widgets.trd import two_modes_scene as lanes
from intuitive.widgets.trd.styles import DIVERGENCE_NAMES


@pytest.mark.parametrize("repair", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("onset", [1e-4, 0.2])
def test_gradients_on_the_onset_are_those_of_the_worked_example(repair, onset):
    """Forward ε − λ; reverse ε (1 − ε) [ln ε/λ − ln (1 − ε)/(1 − λ)]; losses from the formulas."""
    found = two_modes.run(TwoModesParams(repair=repair, onset=onset))
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
    found = two_modes.run(TwoModesParams())
    forward, reverse = found.charge("forward_kl"), found.charge("reverse_kl")
    assert (round(forward.loss, 2), round(reverse.loss, 3)) == (2.15, 0.356)
    assert forward.gradient[1] / reverse.gradient[1] == pytest.approx(357, abs=5)


def test_clip_is_a_gate_and_one_renormalised_token_charges_nothing():
    found = two_modes.run(TwoModesParams())
    clipped = found.charge("clipped_forward_kl")
    assert clipped.loss == pytest.approx(0.1) and clipped.gradient == (0.0, 0.0)
    alone = found.charge("topk_reverse_kl")
    assert alone.loss == pytest.approx(0, abs=1e-12)
    assert alone.gradient == pytest.approx((0, 0), abs=1e-12)
    tail, reverse = found.charge("topk_reverse_kl_tail"), found.charge("reverse_kl")
    assert tail.loss == pytest.approx(reverse.loss)  # with two tokens the tail is the other one


def test_full_bars_are_the_teacher_at_a_boundary_after_an_error():
    found = two_modes.run(TwoModesParams(full=True, repair=0.4, onset=0.01))
    assert sum(found.teacher) == pytest.approx(1) and sum(found.student) == pytest.approx(1)
    assert found.tokens[found.onset_token] == "WAIT"
    assert found.teacher[found.onset_token] == pytest.approx(0.4, abs=0.002)
    assert found.student[found.onset_token] == pytest.approx(0.01)
    gradient = found.charge("forward_kl").gradient
    for p, q, g in zip(found.teacher, found.student, gradient, strict=True):
        assert g == pytest.approx(q - p, abs=1e-6)


def test_temperature_brings_both_sides_nearer():
    cold, hot = (two_modes.run(TwoModesParams(temperature=t)) for t in (1.0, 4.0))
    assert hot.charge("forward_kl").loss < cold.charge("forward_kl").loss
    assert hot.teacher[1] == pytest.approx(1 / (1 + (0.7 / 0.3) ** 0.25))


def test_one_gaussian_covers_both_humps_or_takes_one():
    forward, reverse = two_modes.run(TwoModesParams(repair=0.3, distance=6.0)).fits
    assert forward.mean == pytest.approx(0.3 * 6.0)
    assert forward.std**2 == pytest.approx(0.7 * 1 + 0.3 * 0.36 + 0.3 * 0.7 * 36)
    assert reverse.mean == pytest.approx(0.0, abs=0.05)  # the larger hump
    assert reverse.std == pytest.approx(1.0, abs=0.05)
    assert reverse.divergence == pytest.approx(-math.log(0.7), abs=0.01)  # all it misses
    other = two_modes.run(TwoModesParams(repair=0.8, distance=6.0)).fits[1]
    assert other.mean == pytest.approx(6.0, abs=0.05)


def test_two_modes_refuses_impossible_settings():
    with pytest.raises(ValueError, match=r"onset=0\.0 must lie in \(0, 1\)"):
        TwoModesParams(onset=0.0)
    with pytest.raises(ValueError, match=r"temperature=0\.0 must be above 0"):
        TwoModesParams(temperature=0.0)
    with pytest.raises(ValueError, match=r"k=3 must lie in \[1, 2\]"):
        two_modes.run(TwoModesParams(top_k=3))


def test_a_walk_is_gradient_descent_on_the_student_s_logits():
    """Forward KL with two tokens: each step moves the log odds by twice the step times λ − p."""
    found = two_modes.run(TwoModesParams(onset=0.01))
    walk = found.charge("forward_kl").walk
    assert len(walk) == two_modes.N_STEPS + 1 and walk[0] == pytest.approx(0.01)
    for now, then in itertools.pairwise(walk):
        odds = math.log(now / (1 - now)) + 2 * two_modes.STEP_SIZE * (0.3 - now)
        assert then == pytest.approx(1 / (1 + math.exp(-odds)))
    for charge in found.charges:
        assert charge.pushes[0] == -charge.gradient[1] and charge.losses[0] == charge.loss


def test_forward_arrives_and_reverse_does_so_from_where_it_sees_the_repair():
    low, high = (two_modes.run(TwoModesParams(onset=onset)) for onset in (1e-4, 0.03))
    assert low.charge("forward_kl").walk[-1] == pytest.approx(0.3, abs=0.001)
    assert low.charge("reverse_kl").walk[-1] < 2e-4 < 0.29 < high.charge("reverse_kl").walk[-1]
    assert set(low.charge("clipped_forward_kl").walk) == {low.student[1]}


def scene_of(frame, **settings):
    divergence, lanes = settings.pop("divergence", "forward_kl"), settings.pop("lanes", "all")
    result = two_modes.run(TwoModesParams(**settings))
    view = widget.present_modes(widget.Charged(result=result, divergence=divergence, lanes=lanes))
    return result, next(f for f in view.timeline.frames if f.label == frame)


@pytest.mark.parametrize("label", ["push", "step 1", "step 12"])
def test_dots_and_arrows_stand_where_students_and_pushes_are(label):
    k = int(label.removeprefix("step ")) if label != "push" else 0
    result, frame = scene_of(label, onset=0.003)
    for name in DIVERGENCE_NAMES:
        charge = result.charge(name)
        dot, arrow = frame.scene[f"dot:{name}"], frame.scene[f"arrow:{name}"]
        left, right = lanes.LEFT, lanes.RIGHT
        assert dot.x == pytest.approx(left + (right - left) * (math.log10(charge.walk[k]) + 7) / 7)
        if arrow.opacity:
            assert arrow.x2 - arrow.x == pytest.approx(lanes.ARROW * charge.pushes[k])
        else:
            assert abs(charge.pushes[k]) < 4 / lanes.ARROW + 1e-9
        assert (dot.r > 6) == (name == "forward_kl")
        assert dot.click == {"divergence": name}
    bar = frame.scene["student:wait"]
    assert bar.w == pytest.approx(max(lanes.SHARE * result.charge("forward_kl").walk[k], 1.5))
    assert frame.scene["teacher:wait"].w == pytest.approx(lanes.SHARE * 0.3)


def test_no_push_is_told_before_its_frame():
    _, start = scene_of("start")
    assert not any(mark.opacity for mark in start.scene.marks if mark.key.startswith("arrow"))
    assert [r.value for r in start.readouts[:2]] == ["?", "?"] and "push" not in start.sentence
    _, push = scene_of("push")
    assert "pushes the logit of WAIT by +0.300" in push.sentence
    assert push.readouts[0].value == "+0.300"  # the sign of sentence, number and arrow is one
    assert push.scene["arrow:forward_kl"].x2 > push.scene["arrow:forward_kl"].x


def test_three_lanes_are_drawn_at_first_and_a_chosen_loss_brings_its_own():
    def drawn(**settings):
        _, frame = scene_of("push", **settings)
        return [m.key[4:] for m in frame.scene.marks if m.key.startswith("dot:")]

    few = ["forward_kl", "reverse_kl", "clipped_forward_kl"]
    assert drawn(lanes="few") == few
    more = drawn(lanes="few", divergence="topk_reverse_kl")
    assert more == [*few, "topk_reverse_kl"] and drawn() == list(DIVERGENCE_NAMES)


SETTINGS = ({}, {"lanes": "few"}, {"onset": 1e-6}, {"onset": 0.9, "repair": 0.95},
            {"repair": 0.02, "full": True}, {"temperature": 4.0},
            {"divergence": "entrywise_clipped_forward_kl"})  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_no_text_lies_over_another_or_leaves_the_scene(settings):
    for label in ("start", "push", "step 6", "step 12"):
        _, frame = scene_of(label, **settings)
        seen = []
        for mark in frame.scene.marks:
            text = mark.text if isinstance(mark, Words) else mark.label
            if not text:
                continue
            wide = 0.56 * mark.size * len(text)
            share = {"start": 0, "middle": 0.5, "end": 1}[getattr(mark, "anchor", "middle")]
            x, y = mark.x - wide * share, mark.y
            if not isinstance(mark, Words):
                x, y = mark.x + mark.w / 2 - wide / 2, mark.y + mark.h / 2 + 0.35 * mark.size
            seen.append((text, x, y - 0.75 * mark.size, x + wide, y + 0.2 * mark.size))
        for i, (text, left, top, right, bottom) in enumerate(seen):
            assert left >= 0 and top >= 0 and right <= lanes.WIDTH and bottom <= lanes.HEIGHT, text
            for other, left2, top2, right2, bottom2 in seen[:i]:
                across = left < right2 and left2 < right
                assert not (across and top < bottom2 and top2 < bottom), f"{text!r} over {other!r}"


def test_humps_fits_and_their_sum_are_densities():
    result = two_modes.run(TwoModesParams(distance=3.0))
    figure = go.Figure(widget.gaussian_figure(result, "reverse_kl"))
    areas = {t.name: np.trapezoid(t.y, t.x) for t in figure.data}
    assert areas["continue"] + areas["repair"] == pytest.approx(1, abs=1e-3)
    assert areas["teacher, both together"] == pytest.approx(1, abs=1e-3)
    assert areas["student, reverse KL"] == pytest.approx(1, abs=1e-3)
    widths = {t.name: t.line.width for t in figure.data}
    assert widths["student, reverse KL"] > widths["student, forward KL"]
    clipped = go.Figure(widget.gaussian_figure(result, "clipped_forward_kl"))
    fits = [t.line.width for t in clipped.data if t.name.startswith("student")]
    assert fits == [2, 2]  # a clip is not fitted, so neither fit is the chosen one


def test_the_sums_are_those_of_the_worked_example():
    view = widget.explorer().view
    assert "λ − ε = 0.300 − 0.000100 = +0.300" in view.arithmetic["forward_kl"].text
    assert view.arithmetic["reverse_kl"].text.endswith("+0.000836")
    assert not widget.explorer(temperature=4).view.arithmetic  # other formulas hold there


def test_k_falls_back_to_two_where_there_are_two_tokens():
    explorer = widget.explorer(full=True, top_k=5)
    assert explorer.bounds["top_k"][1] == len(explorer.result.result.tokens) > 5
    explorer.set(full=False)
    assert explorer.wait() and explorer.status["state"] == "done"
    assert explorer.values["top_k"] == 2
    explorer.close()


def test_no_global_switch_changes_the_picture():
    """Gradients off, inference mode, numpy that raises, float64 as torch's default."""
    first = widget.explorer()
    want = two_modes.run(TwoModesParams(full=True))

    def same():
        two_modes._target.cache_clear()
        explorer = widget.explorer()
        assert explorer.status["state"] == "done", explorer.status
        assert explorer.summary == first.summary
        for name in explorer.view.figures:
            explorer.view.figure(name)
        explorer.close()
        assert two_modes.run(TwoModesParams(full=True)) == want

    with torch.no_grad():
        same()
    with torch.inference_mode():
        same()
    with np.errstate(all="raise"):
        same()
    torch.set_default_dtype(torch.float64)
    try:
        same()
    finally:
        torch.set_default_dtype(torch.float32)
        first.close()


def test_at_another_temperature_the_sentence_says_what_the_bars_show():
    """The push holds the factor 1/T: (teacher − student) / T under forward KL."""
    explorer = widget.explorer(temperature=4)
    result = explorer.result.result
    push = (result.teacher[1] - result.student[1]) / 4
    assert -result.charge("forward_kl").gradient[1] == pytest.approx(push)
    assert "says WAIT with 0.447, the student with 0.0909 at temperature 4" in explorer.summary
    explorer.close()


def test_no_negative_zero_is_shown_and_a_negative_charge_is_explained():
    for name in DIVERGENCE_NAMES:
        explorer = widget.explorer(divergence=name)
        frames = explorer.view.timeline.frames
        shown = str([f.readouts for f in frames]) + str(explorer.view.table) + explorer.summary
        assert "−0.000 " not in shown and "-0" not in shown and "−0'" not in shown
        charge = explorer.result.result.charge(name)
        assert all(math.copysign(1, g) == 1 for g in charge.gradient if g == 0)
        assert (charge.loss < -1e-12) == ("below zero" in explorer.summary)
        explorer.close()


def test_the_prediction_is_answered_by_computing():
    right, words = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "forward KL, by far" and "359 times" in words


# ------------------------------------------------------------------------------ the steps


def one_dot_has_an_arrow(seen):
    assert seen.number("push on WAIT") == pytest.approx(0.3, abs=0.001)


def forward_walks_to_the_teacher(seen):
    assert seen.number("student's WAIT") == pytest.approx(0.3, abs=0.01)


def reverse_stays_where_it_is(seen):
    assert seen.number("student's WAIT") < 2e-4
    assert 0 < seen.number("push on WAIT") < 0.001


def from_higher_reverse_arrives_too(seen):
    assert seen.values["onset"] == 0.03
    assert seen.number("student's WAIT") > 0.25


def the_clip_pushes_nothing(seen):
    assert seen.number("push on WAIT") == 0 and seen.number("student's WAIT") < 2e-4
    assert seen.number("loss") == pytest.approx(0.1)


STEPS = (
    one_dot_has_an_arrow,
    forward_walks_to_the_teacher,
    reverse_stays_where_it_is,
    from_higher_reverse_arrives_too,
    the_clip_pushes_nothing,
)
