"""One target with two modes: what is charged, where it pulls, and how it is drawn."""

import math

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.trd.experiments import two_modes
from intuitive.trd.experiments.two_modes import TwoModesParams
from intuitive.widgets.trd import two_modes as widget
from intuitive.widgets.trd.styles import DIVERGENCE_NAMES


def arrows(figure):
    return [note for note in figure.layout.annotations if note.showarrow and note.visible]


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


@pytest.mark.parametrize("full", [False, True], ids=["two tokens", "all tokens"])
def test_under_forward_kl_arrows_lead_from_the_student_to_the_teacher(full):
    result = two_modes.run(TwoModesParams(repair=0.4, onset=0.01, full=full))
    drawn = arrows(go.Figure(widget.bars_figure(result, "forward_kl")))
    assert len(drawn) >= 2
    for arrow in drawn:
        place = round(arrow.x - 0.26)
        assert arrow.ay == pytest.approx(result.student[place])
        assert arrow.y == pytest.approx(result.teacher[place], abs=1e-6)


def test_a_clipped_or_invisible_target_has_no_arrow():
    result = two_modes.run(TwoModesParams())
    for name, push in (("clipped_forward_kl", "push 0"), ("reverse_kl", "push +0.000836")):
        figure = go.Figure(widget.bars_figure(result, name))
        assert not arrows(figure)
        assert any(note.text == push for note in figure.layout.annotations)


def test_pushes_are_drawn_for_every_divergence():
    result = two_modes.run(TwoModesParams(repair=0.5, onset=0.1))
    figure = go.Figure(widget.pushes_figure(result, "reverse_kl"))
    rows = dict(enumerate(list(DIVERGENCE_NAMES)[::-1]))
    drawn = {rows[arrow.y]: arrow.x for arrow in arrows(figure)}
    for name in DIVERGENCE_NAMES:
        push = -result.charge(name).gradient[result.onset_token]
        assert drawn.get(name, 0.0) == pytest.approx(push if name in drawn else 0.0)
        assert (abs(push) >= widget.LEAST_ARROW) == (name in drawn)


def test_humps_and_fits_are_densities():
    result = two_modes.run(TwoModesParams(distance=3.0))
    figure = go.Figure(widget.gaussian_figure(result, "reverse_kl"))
    areas = {t.name: np.trapezoid(t.y, t.x) for t in figure.data}
    assert areas["continue"] + areas["repair"] == pytest.approx(1, abs=1e-3)
    assert areas["reverse KL fit"] == pytest.approx(1, abs=1e-3)
    widths = {t.name: t.line.width for t in figure.data}
    assert widths["reverse KL fit"] > widths["forward KL fit"]


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
        shown = str(explorer.view.readouts) + str(explorer.view.table) + explorer.summary
        assert "−0.000 " not in shown and "-0" not in shown and "−0'" not in shown
        charge = explorer.result.result.charge(name)
        assert all(math.copysign(1, g) == 1 for g in charge.gradient if g == 0)
        assert (charge.loss < -1e-12) == ("below zero" in explorer.summary)
        explorer.close()


def test_the_prediction_is_answered_by_computing():
    right, words = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "forward KL, by far" and "359 times" in words
