"""Where one attention group looks: the block named is the one with most attention."""

import numpy as np
import pytest

from intuitive.msa.experiments.block_selection import SelectionParams, select_in_text
from intuitive.msa.experiments.where_it_looks import LookParams, of, run
from intuitive.msa.texts import synthetic_sample
from intuitive.widgets.msa import strip
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
    assert f"{result.block_mass[1, best]:.0%} of its attention" in view.timeline.frames[-1].sentence
    assert f"begins {300 - 32 * best} tokens earlier" in view.timeline.frames[-1].sentence
    values = [readout.value for readout in view.readouts]
    assert values == [f"{result.block_mass[1, best]:.0%}", f"{300 - 32 * best} tokens"]


@pytest.mark.parametrize("group", [0, 1, 2])
def test_bands_are_drawn_to_scale_and_hold_all_that_is_in_sight(group):
    result = selection(group=group)
    mass = result.token_mass[group]
    marks = widget.scene(of(result)).marks
    bands = {m.key: m for m in marks if m.key.startswith("r:")}
    for key, band in bands.items():
        share = mass[int(key[2:])]
        assert band.width == pytest.approx(max(strip.FULL * share, 0.3), abs=1e-3)
    told = {int(key[2:]) for key in bands}
    shown = {int(m.key[2:]) for m in marks if m.key.startswith("t:")}
    assert {t for t in np.flatnonzero(mass >= strip.LEAST) if t in shown} == told
    rest = [m for m in marks if m.key.startswith(("rest:", "missed:"))]
    total = sum(m.width for m in (*bands.values(), *rest) if m.key[0] == "r")
    assert total == pytest.approx(strip.FULL, abs=0.25 * result.n_blocks)


@pytest.mark.model
def test_one_group_looks_back_at_the_riddle_and_the_picture_says_so():
    look = run(LookParams())
    view = widget.present(look)
    size = look.selection.params.block_size
    assert look.block in {token // size for token in look.selection.riddle}
    assert all(words in view.timeline.frames[-1].sentence for words in ("the riddle", "“des”"))
    assert any(
        mark.key == f"tag:the riddle:{look.block}" for mark in view.timeline.frames[-1].scene.marks
    )
    others = [run(LookParams(group=group)) for group in (0, 2)]
    assert all(other.block != look.block for other in others)


def test_before_it_is_played_the_picture_only_asks():
    view = widget.present(of(selection()))
    asked, told = view.timeline.frames
    assert view.timeline.start == 0 and {readout.value for readout in asked.readouts} == {"–"}
    assert "Where will group 1 look" in asked.sentence and "%" not in asked.sentence
    texts = [getattr(mark, "text", "") for mark in asked.scene.marks]
    assert not any("%" in text for text in texts)
    assert any("%" in getattr(mark, "text", "") for mark in told.scene.marks)


def test_a_line_is_cut_alike_for_every_group():
    size = 64  # tokens: no line has room for so many
    texts = []
    for group in range(3):
        look = of(selection(group=group, block_size=size))
        marks = widget.scene(look).marks
        texts.append({int(m.key[2:]) for m in marks if m.key.startswith("t:")})
    lines = [{t // size for t in shown} for shown in texts]
    for block in lines[0] & lines[1] & lines[2]:
        cut = [{t for t in shown if t // size == block} for shown in texts]
        assert cut[0] == cut[1] == cut[2] and 0 < len(cut[0]) < size


@pytest.mark.model
def test_the_text_holds_writing_and_a_hyphen_twice():
    """Why the hyphen looks back: what followed “writing-” before is what comes next."""
    look = run(LookParams())
    tokens, query = look.selection.tokens, look.selection.query
    top = int(look.selection.token_mass[look.group].argmax())
    assert tokens[query - 1 : query + 1] == (" writing", "-")
    assert tokens[top - 2 : top + 1] == (" writing", "-", "des")
    assert tokens[query + 1] == "des"


# ------------------------------------------------------------------------------- what steps claim


def one_group_goes_back_to_the_riddle(seen) -> None:
    assert "the riddle" in seen.sentences[-1] and "“des”" in seen.sentences[-1]
    assert any("the riddle" in label and seen.number(label) > 80 for label in seen.readouts)


def another_group_parks_on_the_first_word(seen) -> None:
    assert "the riddle" not in seen.sentences[-1] and "the first" in seen.sentences[-1]
    assert any("the first" in label and seen.number(label) > 50 for label in seen.readouts)


STEPS = (one_group_goes_back_to_the_riddle, another_group_parks_on_the_first_word)
