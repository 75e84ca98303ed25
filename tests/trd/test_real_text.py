"""Items are what they claim to be, measures are means over them; SmolLM2 once; the explorer."""

import dataclasses
import itertools
import math
import re

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.trd.experiments import real_text
from intuitive.trd.real_text import (
    CONTEXTS,
    KINDS,
    Estimate,
    Item,
    KeptItem,
    RealText,
    RealTextParams,
    Trajectory,
    follow,
    make_items,
    measure,
    onset_ids,
    prompt,
    summarise,
)
from intuitive.widgets.trd import real_text as widget
from intuitive.widgets.trd.real_text_scene import (
    SCALE,
    Picture,
    means_sentence,
    number_at,
    wrong_places,
)

PARAMS = RealTextParams(n_items=40, n_kept=2)


def sums_of(lines) -> list[tuple[int, int, int]]:
    """(before, change, said) of every line but the answer."""
    found = []
    for line in lines[:-1]:
        before, sign, size, said = re.search(r"(\d+) ([+-]) (\d+) = (\d+)\.\n$", line).groups()
        found.append((int(before), int(sign + size), int(said)))
    return found


def test_right_solutions_are_right_and_wrong_ones_wrong_once():
    for item in make_items(PARAMS):
        for name, lines in (("right", item.right), ("wrong", item.wrong)):
            steps = sums_of(lines)
            assert len(steps) == PARAMS.n_steps
            errors = [i for i, (a, change, said) in enumerate(steps) if a + change != said]
            assert errors == ([] if name == "right" else [item.error_line])
            for (_, _, said), (before, _, _) in itertools.pairwise(steps):
                assert before == said  # it carries on from what it wrote
            assert lines[-1] == f"The answer is {steps[-1][2]}.\n"
        changes = [change for _, change, _ in sums_of(item.right)]
        numbers = [int(n) for n in re.findall(r"\d+", item.problem)]
        assert numbers[1:] == [abs(change) for change in changes]
        assert item.error_line < PARAMS.n_steps - 1


def test_items_are_of_both_kinds_and_repeatable():
    items = make_items(PARAMS)
    assert [item.kind for item in items[:4]] == list(KINDS) * 2
    assert make_items(PARAMS) == items != make_items(RealTextParams(n_items=40, seed=1))
    computed = items[0].problem.removeprefix("Compute ").removesuffix(".")
    assert eval(computed) == sums_of(items[0].right)[-1][2]


def test_prompts_show_the_attempt_in_one_context_alone():
    item = make_items(PARAMS)[1]
    plain, refine = (prompt(item, c, attempt=item.wrong) for c in CONTEXTS)
    assert "".join(item.wrong) in refine and item.wrong[0] not in plain
    assert item.problem in plain and item.problem in refine
    with pytest.raises(ValueError, match="refine needs attempt="):
        prompt(item, "refine")
    with pytest.raises(ValueError, match="context='short' must be one of plain, refine"):
        prompt(item, "short")


def made_up(item, mass_after_error: float, nll: float) -> Trajectory:
    """Two tokens per line; onset mass at the starts of lines after the error."""
    lines = [line for line in range(len(item.right)) for _ in range(2)]
    first = [place % 2 == 0 for place in range(len(lines))]
    mass = [
        mass_after_error if start and line > item.error_line else 0.0
        for line, start in zip(lines, first, strict=True)
    ]
    return Trajectory(
        tokens=("x",) * len(lines),
        nll=(nll,) * len(lines),
        onset_mass=tuple(mass),
        entropy=(0.0,) * len(lines),
        lines=tuple(lines),
        first=tuple(first),
        likeliest=("x",) * len(lines),
    )


def test_summary_finds_a_second_mode_where_there_is_one():
    items = make_items(PARAMS)
    read = [
        {
            ("right", "plain"): made_up(item, 0.0, 1.0),
            ("wrong", "plain"): made_up(item, 0.25, 2.0),
            ("right", "refine"): made_up(item, 0.0, 0.5),
            ("wrong", "refine"): made_up(item, 0.0, 2.0),
        }
        for item in items
    ]
    found = summarise(PARAMS, items, read, ("Wait",))
    for kind in ("all", *KINDS):
        assert found.onset_difference[kind].mean == pytest.approx(0.25)
        wrong = found.onset_by_delay[kind]["wrong"]
        assert wrong["-1"].mean == 0.0 and wrong["0"].mean == pytest.approx(0.25)
    assert found.onset_by_delay["all"]["wrong"]["0"].n == 40
    assert found.surprise["right|refine"].mean == pytest.approx(0.5)
    assert found.perplexity_gap["right"].mean == pytest.approx(math.e - math.exp(0.5))
    assert found.perplexity_gap["wrong"].low == found.perplexity_gap["wrong"].high == 0.0
    assert found.surprise_at_error["wrong"].mean == pytest.approx(4.0)
    assert found.error_preferred.mean == 0.0
    assert len(found.kept) == 2 and found.largest_onset == 0.25


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="n_items=1 must be at least 2, n_steps=4 at least 3"):
        RealTextParams(n_items=1)


@pytest.mark.model
@torch.inference_mode()
def test_following_two_solutions_is_reading_each_anew():
    from intuitive.common.smollm import load_smollm2

    model = load_smollm2()
    item = make_items(RealTextParams(n_items=2, n_steps=3, n_kept=0))[0]
    onsets, text = onset_ids(model), prompt(item, "plain")
    assert {"Wait", "Actually", "However"} <= set(onsets.values())
    right, wrong = follow(model, text, (item.right, item.wrong), list(onsets))
    assert "".join(wrong.tokens) == "".join(item.wrong)
    given = model.tokenizer.encode(text)
    ids = [i for line in item.wrong for i in model.tokenizer.encode(line)]
    p = model.decoder(torch.tensor([given + ids]))[0, len(given) - 1 : -1].softmax(-1)
    nll = -p[torch.arange(len(ids)), torch.tensor(ids)].log()
    torch.testing.assert_close(torch.tensor(wrong.nll), nll, atol=1e-3, rtol=1e-3)
    mass = p[:, list(onsets)].sum(-1)
    torch.testing.assert_close(torch.tensor(wrong.onset_mass), mass, atol=1e-4, rtol=1e-3)
    assert right.nll != wrong.nll
    with pytest.raises(Cancelled):
        measure(model, RealTextParams(), stale=lambda: True)
    with pytest.raises(ValueError, match="at least one line"):
        follow(model, text, ((),), list(onsets))


# ------------------------------------------------------------------------- what the steps claim


def the_signs_stay_empty_after_the_error(seen):
    assert seen.number("repair words after the error, at most") < 5
    assert sum("carries on from the error" in sentence for sentence in seen.sentences) >= 3


def the_wrong_number_is_a_surprise(seen):
    wrong, right = (
        seen.number(label) for label in ("surprise, wrong number", "right one at its place")
    )
    assert wrong > right + 1 and "here it tells them apart" in seen.sentences[2]
    dearest = float(re.search(r"a right token before it, costs (\d+\.\d)", seen.sentences[2])[1])
    assert dearest > 0.8 * wrong  # no height marks the error


def the_signs_do_not_fill_in_stories(seen):
    assert seen.values["kind"] == "reasoning"
    assert seen.number("repair words after the error, at most") < 5
    assert seen.sentences[-1].startswith("Over 104 reasoning problems")
    assert "not told apart" in seen.sentences[-1]


def the_copy_is_less_surprising_than_the_rewrite(seen):
    assert seen.values["ending"] == "rewrite"
    assert "0.12 nats per token for the wrong one, 0.23 for the right" in seen.sentences[-1]
    assert "copies the error" in seen.sentences[-1]


STEPS = (
    the_signs_stay_empty_after_the_error,
    the_wrong_number_is_a_surprise,
    the_signs_do_not_fill_in_stories,
    the_copy_is_less_surprising_than_the_rewrite,
)


# ---------------------------------------------------------------------------- the explorer


@pytest.fixture
def two_items(monkeypatch):
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


def test_figures_draw_what_was_measured():
    found = real()
    figure = go.Figure(widget.along_figure(found.kept[0], "nll"))
    assert list(named(figure, "wrong solution").y) == [3.0, 0.1, 0.2, 0.1]
    shaded = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (shaded.x0, shaded.x1) == (-0.5, 1.5)  # the line with the error
    drawn = named(go.Figure(widget.delay_figure(found, "all")), "wrong solution")
    assert list(drawn.y) == [0.1, 0.3]
    np.testing.assert_allclose(drawn.error_y.array, 0.02)
    prompts = named(go.Figure(widget.prompts_figure(found)), "right solution")
    assert list(prompts.y) == [0.5, 0.2]


@pytest.mark.usefixtures("two_items")
def test_signs_are_to_scale_and_the_wrong_number_is_marked():
    read = real_text.run(real_text.RealParams())
    frames = Picture(read).timeline().frames
    assert [frame.label for frame in frames] == ["problem", "line 1", "line 2", "means"]
    assert wrong_places(read.kept) == (0,)
    assert frames[0].scene["mass:1"].w == 0 and frames[0].scene["token:0"].fill == "page"
    scene = frames[-1].scene
    assert scene["mass:1"].w == pytest.approx(0.02 * SCALE)
    assert scene["taught"].w == pytest.approx(0.3 * SCALE)
    assert [scene[f"token:{at}"].fill for at in range(4)] == ["vermilion", *["page"] * 3]
    assert scene["nats:0"].h == pytest.approx(3.0 * 2.4)
    assert "3.0 nats" in frames[1].sentence and "2.00% on repair words" in frames[2].sentence


def test_sentences_follow_the_kind_that_was_chosen():
    for kind, n in (("all", "208"), ("arithmetic", "104"), ("reasoning", "104")):
        read = real_text.run(real_text.RealParams(kind=kind))
        which = "" if kind == "all" else f" {kind}"
        assert means_sentence(read).startswith(f"Over {n}{which} problems the mass")
        assert Picture(read).timeline().frames[-1].scene["means"].text == f"{n}{which} problems"


@pytest.mark.usefixtures("two_items")
def test_it_says_what_the_intervals_allow(monkeypatch):
    explorer = widget.explorer()
    assert "larger than on right solutions" in explorer.summary
    assert "asked to rewrite" not in explorer.summary  # the last step asks for it
    explorer.set(ending="rewrite")
    assert explorer.wait() and "It mends the error" in explorer.summary
    explorer.close()
    flat = dataclasses.replace(
        real(), onset_difference={"all": Estimate(mean=0.0, low=-0.1, high=0.1, n=2)}
    )
    monkeypatch.setattr(real_text, "real_text", lambda: flat)
    assert "not told apart" in widget.explorer().summary


@pytest.mark.usefixtures("two_items")
def test_a_problem_that_was_not_kept_is_refused_in_words():
    explorer = widget.explorer().set(item=9)
    assert explorer.wait()
    assert explorer.status["text"] == "Problem = 9 must lie in [1, 2]."
    explorer.close()


def test_the_right_number_is_read_where_the_wrong_one_stands():
    for item in range(1, 17):
        kept = real_text.run(real_text.RealParams(item=item)).kept
        for which in ("wrong", "right"):
            lines = getattr(kept.item, which)
            written = re.search(r"= (\d+)", lines[kept.item.error_line])[1]
            number, nats = number_at(kept, which)
            assert number == written and 0 < nats < 20


def test_what_was_rewritten_is_drawn_where_it_is_asked_for_alone():
    for ending, there in (("means", False), ("rewrite", True)):
        frames = Picture(real_text.run(real_text.RealParams(ending=ending))).timeline().frames
        keys = [{mark.key for mark in frame.scene.marks} for frame in frames]
        assert ["rewrite:wrong" in some for some in keys] == [*[False] * (len(keys) - 1), there]
    with pytest.raises(ValueError, match="ending='last' must be one of means, rewrite"):
        real_text.RealParams(ending="last")


def test_every_kept_problem_is_read_to_its_end():
    for item in range(1, 17):
        read = real_text.run(real_text.RealParams(item=item))
        frames = Picture(read).timeline().frames
        for frame in frames:
            tiles = [mark for mark in frame.scene.marks if mark.key.startswith("token:")]
            assert max(tile.x + tile.w for tile in tiles) < 768  # where the means begin
        assert frames[-1].readouts[0].value != "?"


def test_the_prediction_is_answered_from_the_measurement():
    right, words = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "neither more nor less" and "4.1%" in words
