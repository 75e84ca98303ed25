"""Where teachers say WAIT, as measured and as drawn."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.common.runtime import Cancelled
from intuitive.trd import trained
from intuitive.trd.experiments import mode_map
from intuitive.trd.experiments.mode_map import ModeMapParams
from intuitive.trd.results import WaitMap
from intuitive.trd.trained import WEIGHTS
from intuitive.widgets.trd import mode_map as widget

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "small.safetensors").is_file(), reason="no weights of the small setting"
)


def readouts(view):
    return {readout.label: readout for readout in view.readouts}


@needs_weights
def test_mode_map_reads_both_teachers_on_one_setting():
    found = mode_map.run(ModeMapParams(repair=0.6, n_traces=16))
    assert found.exact.by_error["0"] == pytest.approx((0.6,) * 4, abs=2e-3)
    assert found.learned.by_error.keys() == found.exact.by_error.keys()
    assert len(found.learned.clean) == 4
    again = mode_map.run(ModeMapParams(repair=0.2, n_traces=16))
    assert again.learned is found.learned and again.exact.by_error["0"][0] < 0.21
    with pytest.raises(ValueError, match="setting='huge' must be one of small, late"):
        ModeMapParams(setting="huge")
    with pytest.raises(Cancelled):
        mode_map.run(ModeMapParams(), stale=lambda: True)


@pytest.mark.parametrize("setting", ["small", "late"])
@pytest.mark.parametrize("repair", [0.3, 0.7])
def test_a_program_s_map_is_linear_in_λ(setting, repair):
    given = (setting, 8, 3)
    ends = [mode_map.program_map(*given, end) for end in (0.0, 1.0)]
    mixed, direct = mode_map._between(*ends, repair), mode_map.program_map(*given, repair)
    for error, masses in direct.by_error.items():
        assert mixed.by_error[error] == pytest.approx(masses, abs=1e-6)
    assert mixed.clean == pytest.approx(direct.clean, abs=1e-6)
    for name in ("worst_clean", "consistent", "repaired"):
        assert getattr(mixed, name) == pytest.approx(getattr(direct, name), abs=1e-6)


@pytest.mark.usefixtures("stand_ins")
def test_maps_show_every_mass_and_nothing_where_no_step_is_left():
    exact = WaitMap(teacher="exact", by_error={"0": (0.3, 0.2), "1": (0.1,)}, clean=(0.0, 0.01),
                    worst_clean=0.01, consistent=1.0, repaired=0.0)  # fmt: skip
    learned = dataclasses.replace(exact, teacher="learned", clean=(0.0, 0.05), worst_clean=0.05)
    maps = {"exact": exact, "learned": learned}
    figure = go.Figure(widget.map_figure(maps))
    assert [list(line) for line in figure.data[0].z] == [[0.3, 0.2], [0.1, None]]
    assert list(figure.layout.yaxis.ticktext) == ["step 1", "step 2"]
    params = ModeMapParams()
    view = widget.present_map(mode_map.ModeMapResult(params=params, exact=exact, learned=learned))
    worst = readouts(view)["worst false alarm"]
    assert worst.alarm and worst.value == "0.050 ▲ above 0.02, the trained network"
    calm = mode_map.ModeMapResult(params=params, exact=exact, learned=exact)
    assert not readouts(widget.present_map(calm))["worst false alarm"].alarm
    assert widget.after_errors(exact) == pytest.approx(0.2)


@pytest.mark.usefixtures("stand_ins")
def test_the_program_says_wait_with_the_sliders_mass():
    explorer = widget.explorer(repair=0.6, n_traces=16)
    assert explorer.status["state"] == "done", explorer.status
    drawn = np.array(go.Figure(explorer.view.figure("maps")).data[0].z, dtype=float)
    assert np.nanmin(drawn) == pytest.approx(0.6, abs=0.002) == np.nanmax(drawn)
    assert np.isnan(drawn).sum() == 6  # an error at step 2 of 4 has 3 boundaries left, and so on
    explorer.close()


@pytest.mark.usefixtures("stand_ins")
def test_a_wrong_plan_is_a_row_of_its_own():
    """In the late setting: 8 totals and the plan by 8 delays; the program sees the plan last."""
    explorer = widget.explorer(setting="late", repair=0.6, n_traces=16)
    assert explorer.status["state"] == "done", explorer.status
    figure = go.Figure(explorer.view.figure("maps"))
    drawn = np.array(figure.data[0].z, dtype=float)
    assert drawn.shape == (9, 8) and figure.layout.yaxis.ticktext[-1] == "plan"
    assert drawn[-1] == pytest.approx([0.0] * 7 + [0.6], abs=0.002)
    assert np.nanmin(drawn[:-1]) == pytest.approx(0.6, abs=0.002) == np.nanmax(drawn[:-1])
    assert readouts(explorer.view)["the program, after an error"].value == "0.60"
    assert "A wrong plan shows when all steps stand: there they say it with 0.60" in (
        explorer.summary
    )
    explorer.close()


@pytest.mark.usefixtures("stand_ins")
def test_another_lambda_asks_the_network_nothing_again(monkeypatch):
    explorer = widget.explorer(n_traces=16)
    learned = explorer.result.learned
    monkeypatch.setattr(trained, "shipped", None)
    explorer.set(repair=0.6)
    assert explorer.wait() and explorer.status["state"] == "done", explorer.status
    assert explorer.result.learned is learned and "λ = 0.6" in explorer.summary
    explorer.close()


@pytest.mark.usefixtures("stand_ins")
def test_bars_are_means_by_delay_and_the_handle_stands_at_λ():
    exact = WaitMap(teacher="exact", by_error={"0": (0.3, 0.2), "1": (0.1,)}, clean=(0.0, 0.01),
                    worst_clean=0.01, consistent=1.0, repaired=0.0)  # fmt: skip
    assert widget.by_delay(exact) == pytest.approx((0.2, 0.2))
    maps = {"exact": exact, "learned": dataclasses.replace(exact, clean=(0.5, 1.0))}
    scene = widget.Bars(0.4, maps).frames()[-1].scene
    for d, mass in enumerate((0.2, 0.2)):
        assert scene[f"bar:after a wrong total:exact:{d}"].h == pytest.approx(widget.TALL * mass)
    for d, mass in enumerate((0.5, 1.0)):
        assert scene[f"bar:nothing wrong:learned:{d}"].h == pytest.approx(widget.TALL * mass)
    handle = scene["handle"]
    (v0, p0), (v1, p1) = handle.drag.y_scale
    assert v0 + (handle.y - p0) * (v1 - v0) / (p1 - p0) == pytest.approx(0.4)
    assert scene["λ"].y == handle.y == pytest.approx(widget.FLOOR - 0.4 * widget.TALL)


@needs_weights
def test_the_question_is_answered_by_computing_and_nothing_is_drawn_before():
    right, words = widget.PREDICT.answer()
    assert right == 0 and "3 steps later with 0.3" in words
    first, *_, last = widget.explorer(n_traces=16).view.timeline.frames
    assert not any(mark.key.startswith("bar:") for mark in first.scene.marks)
    assert sum(mark.key.startswith("bar:") for mark in last.scene.marks) == 16


# ------------------------------------------------------------------------------ the steps


def the_program_follows_and_the_network_stays(seen):
    assert seen.number("the program, after an error") == pytest.approx(0.6, abs=0.01)
    assert seen.number("the trained network, after an error") == pytest.approx(0.3, abs=0.05)


def nobody_interrupts_a_right_attempt(seen):
    assert seen.number("the program, after an error") > 0.99
    assert seen.number("worst false alarm") < 0.01


def a_wrong_plan_is_told_when_all_steps_stand(seen):
    assert seen.values["setting"] == "late"
    told = seen.summary.split("A wrong plan shows when all steps stand: there they say it with ")[1]
    shares = [float(share) for share in told.rstrip(".").split(" and ")]
    assert shares == pytest.approx([0.3, 0.3], abs=0.05)
    *before, last = (said for said in seen.sentences if "after a wrong plan" in said)
    assert len(before) == 7 and all("after a wrong plan 0.00 and 0.00" in said for said in before)
    assert "after a wrong plan 0.30 and" in last


STEPS = (
    the_program_follows_and_the_network_stays,
    nobody_interrupts_a_right_attempt,
    a_wrong_plan_is_told_when_all_steps_stand,
)


@needs_weights
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_network_comes_near_three_tenths_at_every_delay(seed):
    """As the lesson says: near 0.3 however long ago, and hardly ever where nothing is wrong."""
    learned = mode_map.learned_map("small", 64, seed)
    assert widget.by_delay(learned) == pytest.approx([0.3] * 4, abs=0.05)
    assert learned.worst_clean < 0.01
