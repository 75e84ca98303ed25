"""The explorer of SmolLM2 along right and wrong solutions, with made-up numbers."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.trd.experiments import real_text
from intuitive.trd.real_text import Estimate, Item, KeptItem, RealText, RealTextParams, Trajectory
from intuitive.widgets.trd import real_text as widget


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    monkeypatch.setattr(real_text, "real_text", real)


def real():
    """Two made-up items; the wrong solution has 9 in the place of 5."""
    item = Item(kind="arithmetic", problem="Compute 2 + 3 + 1.", right=("5.\n", "6.\n"),
                wrong=("9.\n", "10.\n"), error_line=0)  # fmt: skip

    def read(first, surprise):
        return Trajectory(
            tokens=(first, ".\n", "1", ".\n"), nll=(surprise, 0.1, 0.2, 0.1),
            onset_mass=(0.1, 0.0, 0.02, 0.0), entropy=(1.0, 0.5, 0.5, 0.1), lines=(0, 0, 1, 1),
            first=(True, False, True, False), likeliest=("5", ".", "1", "."),
        )  # fmt: skip

    def end(mean):
        return Estimate(mean=mean, low=mean - 0.01, high=mean + 0.02, n=2)

    delays = {"right": {"-1": end(0.1), "0": end(0.05)}, "wrong": {"-1": end(0.1), "0": end(0.3)}}
    kept = KeptItem(item=item, right=read("5", 0.5), wrong=read("9", 3.0))
    return RealText(
        params=RealTextParams(n_items=2, n_kept=2),
        onset_words=("Wait",),
        onset_by_delay={"all": delays, "arithmetic": delays, "reasoning": delays},
        onset_difference={kind: end(0.25) for kind in ("all", "arithmetic", "reasoning")},
        onset_per_token={"right": end(0.1), "wrong": end(0.1)},
        largest_onset=0.3,
        surprise={"right|plain": end(0.5), "right|refine": end(0.2), "wrong|plain": end(0.9),
                  "wrong|refine": end(0.4)},
        perplexity_gap={"right": end(0.4), "wrong": end(0.8)},
        surprise_at_error={"right": end(1.0), "wrong": end(3.0)},
        error_preferred=end(0.2),
        kept=(kept, kept),
    )  # fmt: skip


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_real_text_is_drawn_as_measured():
    found = real()
    figure = go.Figure(widget.along_figure(found.kept[0], "nll"))
    assert list(named(figure, "wrong solution").y) == [3.0, 0.1, 0.2, 0.1]
    shaded = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (shaded.x0, shaded.x1) == (-0.5, 1.5)  # the line with the error
    drawn = named(go.Figure(widget.delay_figure(found, "all")), "wrong solution")
    assert list(drawn.y) == [0.1, 0.3]
    np.testing.assert_allclose(drawn.error_y.array, 0.02)
    np.testing.assert_allclose(drawn.error_y.arrayminus, 0.01)
    prompts = named(go.Figure(widget.prompts_figure(found)), "right solution")
    assert list(prompts.y) == [0.5, 0.2]


def test_real_text_marks_the_wrong_number_and_says_what_the_intervals_allow(monkeypatch):
    explorer = widget.explorer()
    tokens = explorer.view.tokens
    assert list(tokens.marks) == [widget.ERROR, widget.TEXT, widget.ONSET, widget.TEXT]
    assert "larger than on right solutions" in explorer.summary
    assert "finds the right solution likelier" in explorer.summary
    assert explorer.bounds["item"] == [1, 2]
    explorer.close()
    level = Estimate(mean=0.0, low=-0.1, high=0.1, n=2)
    flat = dataclasses.replace(real(), onset_difference={"all": level})
    monkeypatch.setattr(real_text, "real_text", lambda: flat)
    assert "not told apart" in widget.explorer().summary


def test_a_problem_that_was_not_kept_is_refused_in_words():
    explorer = widget.explorer().set(item=9)
    assert explorer.wait()
    assert explorer.status["text"] == "Problem = 9 must lie in [1, 2]."
    explorer.close()
