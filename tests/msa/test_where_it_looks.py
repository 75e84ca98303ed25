"""Where one attention group looks: the block named is the one with most attention."""

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.msa.experiments.block_selection import SelectionParams, select_in_text
from intuitive.msa.experiments.where_it_looks import LookParams, of, run
from intuitive.msa.texts import synthetic_sample
from intuitive.widgets.msa import styles
from intuitive.widgets.msa import where_it_looks as widget


def selection(**changes):
    params = {"layer": 1, "query": 300, "n_selected": 4, "group": 1} | changes
    return select_in_text(synthetic_sample(), SelectionParams(**params))


def test_the_block_holds_more_than_any_other():
    look = of(selection())
    mass = look.selection.block_mass[1]
    assert look.share == mass[look.block] == mass.max()
    assert look.distance == 300 - 32 * look.block


def test_without_the_model_made_up_heads_are_looked_at(no_model):
    look = run(LookParams(group=2))
    assert look.group == 2 and look.selection.note.startswith("These queries and keys are made up")


def test_first_picture_names_the_block_with_most_attention():
    result = selection()
    view = widget.present(of(result))
    best = int(result.block_mass[1].argmax())
    assert f"{result.block_mass[1, best]:.0%} of its attention" in view.summary
    assert f"begins {300 - 32 * best} tokens earlier" in view.summary
    kinds = [name for name, _ in widget.CLASSES]
    shown = {kind: [] for kind in kinds}
    for text, mark in zip(view.tokens.texts, view.tokens.marks, strict=True):
        shown[kinds[mark]].append(text)
    assert shown["read"] == list(result.tokens[32 * best : 32 * (best + 1)])
    assert shown["here"] == [result.tokens[300]]
    assert shown["future"] and shown["future"][0] == result.tokens[301]


def test_first_picture_draws_all_the_attention():
    result = selection()
    figure = go.Figure(widget.mass_figure(of(result)))
    assert len(figure.data) == 3
    for trace in figure.data:
        assert float(np.sum(trace.y)) == pytest.approx(1, abs=1e-5)
    assert [t.marker.color == styles.READ for t in figure.data] == [False, True, False]
