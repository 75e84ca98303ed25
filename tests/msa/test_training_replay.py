"""Training replay: it shows the committed runs, one question of one sequence at a time."""

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.msa.experiments.training_replay import ReplayParams, questions, run
from intuitive.msa.recall import sequences_for
from intuitive.msa.task import ARMS
from intuitive.widgets.kit import fixed
from intuitive.widgets.msa import training_replay as widget
from intuitive.widgets.msa import training_replay_scene as scene


def frames_of(**settings):
    found = run(ReplayParams(**settings))
    return found, widget.present(found).timeline.frames


def test_frames_are_the_snapshots_of_the_committed_run():
    found, frames = frames_of(arm="msa")
    assert [frame.label for frame in frames] == [f"step {s.step}" for s in found.run.snapshots]
    for shot, frame in zip(found.run.snapshots, frames, strict=True):
        here = found.run.at(shot.step)
        assert [readout.value for readout in frame.readouts] == [
            fixed(here.accuracy),
            fixed(here.needle_selected),
            f"{fixed(here.mass_captured)} · {fixed(here.mass_at_queries)}",
        ]


@pytest.mark.parametrize("arm", ARMS)
def test_the_strip_lights_what_is_read(arm):
    """Every visible block while everything is read, else what some group picked."""
    found, frames = frames_of(arm=arm)
    here = found.params.question // 4
    for shot, frame in zip(found.run.snapshots, frames, strict=True):
        marks = {mark.key: mark for mark in frame.scene.marks}
        lit = {b for b in range(here + 1) if marks[f"block:{b}"].fill in ("sky", "green")}
        picked = shot.selected()[:, found.params.question].any(0)
        want = set(range(here + 1)) if shot.reads_all else set(np.flatnonzero(picked).tolist())
        assert lit == want
        assert f"block:{here + 1}" not in marks and "future" in marks
        reads = "everything is read" if shot.reads_all else "only selected blocks"
        assert reads in frame.sentence
    assert ("as always" in frames[-1].sentence) == (arm == "dense")


def test_arcs_are_the_attention_read_and_missed():
    found, frames = frames_of(arm="msa_untrained")
    shot, marks = found.run.snapshots[-1], {m.key: m for m in frames[-1].scene.marks}
    teacher, selected = (part()[:, 96] for part in (shot.teacher, shot.selected))
    for name, shares in (("read", teacher * selected), ("missed", teacher * ~selected)):
        shares = shares.mean(0)
        for block in range(24):
            arc = marks.get(f"{name}:{block}")
            assert (arc is not None) == (shares[block] >= scene.LEAST)
            if arc is not None:
                assert arc.width == pytest.approx(1 + 22 * float(shares[block]))
                assert arc.stroke == ("sky" if name == "read" else "grey")
    assert marks["missed:5"].width > 10  # the answer's block, picked by nobody


def test_the_strip_is_the_sequence_that_was_held_out():
    found, frames = frames_of()
    marks = {mark.key: mark for mark in frames[-1].scene.marks}
    _, heldout = sequences_for(found.run.config, found.run.seed)
    keys, values = (part[0].tolist() for part in (heldout.keys, heldout.values))
    names = {key: place for place, key in enumerate(sorted(set(keys)))}
    for token in range(100):  # to the end of the question's block
        text = marks[f"token:{token}"].text
        assert text[:-1] == str(names[keys[token]])
        asks = text[-1] in "?✓✗"
        assert asks == (values[token] < 0)
        if not asks:
            assert scene.VALUES.index(text[-1]) == values[token]
    target = found.run.example.needles[96]
    assert names[keys[target]] == names[keys[96]] and target // 4 == found.block_of_answer
    assert marks["answer"].x == pytest.approx(marks[f"block:{target // 4}"].x - 2)


def test_what_the_model_says_is_what_it_answered():
    for arm in ARMS:
        found, frames = frames_of(arm=arm)
        right = []
        for shot, frame in zip(found.run.snapshots, frames, strict=True):
            said = scene.VALUES[shot.answered[96]]
            correct = shot.answered[96] == found.run.example.answers[96]
            assert f"says “{said}”, {'right' if correct else 'wrong'}." in frame.sentence
            right += [shot.step] * correct
        summary = widget.present(found).summary
        assert ("at none of the steps kept" in summary) == (not right)
        if right:
            assert f"from step {right[0]} on" in summary


def test_every_question_can_be_chosen_and_clicked():
    _, frames = frames_of()
    clicks = {m.key: m.click for m in frames[0].scene.marks if m.click}
    assert clicks == {f"token:{q}": {"question": q} for q in questions() if q < 100}
    for question in questions():
        found, frames = frames_of(question=question)
        assert len(frames) == len(found.run.snapshots)
        assert found.block_of_answer < question // 4


def test_curves_are_three_seeds_and_their_mean():
    found = run(ReplayParams(arm="msa"))
    figure = go.Figure(widget.curves_figure(found, "accuracy"))
    means = {trace.name: trace for trace in figure.data if trace.name}
    assert set(means) == {arm.title for arm in ARMS.values()}
    seeds = [run.curve("accuracy") for run in found.of("msa")]
    assert len(seeds) >= 3
    np.testing.assert_allclose(means[ARMS["msa"].title].y, np.mean(seeds, 0))
    n_looks = len(seeds[0])
    drawn = []
    for trace in (trace for trace in figure.data if not trace.name):
        of_arm = np.reshape(trace.y, (-1, n_looks + 1))  # a gap after every seed
        assert np.isnan(of_arm[:, -1]).all() and trace.x[n_looks] is None
        assert set(trace.text) == {f"seed {seed}" for seed in range(len(of_arm))}
        drawn += of_arm[:, :-1].tolist()
    assert all(list(seed) in drawn for seed in seeds)
    assert {note.text for note in figure.layout.annotations} == set(widget.SHORT_NAMES.values())
    heights = sorted(note.y for note in figure.layout.annotations)
    assert min(np.diff(heights)) > 0.07  # names keep apart, though curves end together


def test_an_arm_without_the_measure_has_no_curve():
    figure = go.Figure(widget.curves_figure(run(ReplayParams(arm="msa")), "kl"))
    names = {trace.name for trace in figure.data if trace.name}
    assert ARMS["dense"].title not in names and ARMS["msa"].title in names


def test_shown_code_gives_the_numbers_shown():
    """It reads the committed run and does not train to other numbers."""
    namespace = {}
    found, frames = frames_of()
    exec(widget.present(found).code, namespace)
    again = namespace["found"].run
    assert fixed(again.at(100).mass_captured) == frames[4].readouts[2].value.split(" · ")[0]
    assert again.curve("accuracy") == found.run.curve("accuracy")


def test_bad_settings_are_refused_in_words():
    with pytest.raises(ValueError, match="arm='leg' is unknown; choose one of dense, "):
        run(ReplayParams(arm="leg"))
    with pytest.raises(ValueError, match="question=95 is no token that asks for an earlier block"):
        run(ReplayParams(question=95))


def test_the_prediction_is_judged_by_the_committed_runs():
    right, sentence = widget.PREDICT.answer()
    found = run(ReplayParams())
    ends = {
        arm: np.mean([one.heldout[-1].mass_captured for one in found.of(arm)])
        for arm in ARMS
        if arm != "dense"
    }
    assert max(ends, key=ends.get) == "msa_untrained"
    assert widget.PREDICT.choices[right] == "the arm with the untrained selector"
    assert f"captures {ends['msa_untrained']:.0%} of its own" in sentence
    trained = max(("msa", "msa_warmup"), key=ends.get)
    asked = [
        np.mean([one.heldout[-1].mass_at_queries for one in found.of(arm)])
        for arm in ("msa_untrained", trained)
    ]
    assert asked[0] < asked[1]  # the other way round
    assert "At the questions alone it is {:.0%} and {:.0%}:".format(*asked) in sentence


def sentence_at(seen, step):
    (found,) = [said for said in seen.sentences if said.startswith(f"Step {step}: ")]
    return found


def attention_finds_the_answer_in_the_warm_up(seen):
    first, late = sentence_at(seen, 0), sentence_at(seen, 60)
    assert "everything is read (warm-up); no group would pick" in first and "wrong" in first
    assert "both groups would pick the answer's block" in late and "right" in late
    assert "only selected blocks are read; both groups pick" in seen.sentences[-1]


def without_warm_up_it_learns_later(seen):
    assert "no group picks the answer's block" in sentence_at(seen, 60)
    assert "wrong" in sentence_at(seen, 60) and "right" in sentence_at(seen, 80)


def an_untrained_selector_misses_the_block(seen):
    assert "no group picks the answer's block" in seen.sentences[-1]
    assert "wrong" in seen.sentences[-1]
    assert "at none of the steps kept" in seen.summary


def a_window_never_reads_the_block(seen):
    assert all("no group reads the answer's block" in said for said in seen.sentences)
    assert "wrong" in seen.sentences[-1]


STEPS = (
    attention_finds_the_answer_in_the_warm_up,
    without_warm_up_it_learns_later,
    an_untrained_selector_misses_the_block,
    a_window_never_reads_the_block,
)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_steps_say_holds_for_every_seed(seed):
    found = run(ReplayParams())
    runs = {arm: next(one for one in found.of(arm) if one.seed == seed) for arm in ARMS}
    assert runs["msa_warmup"].at(60).accuracy > runs["msa"].at(60).accuracy + 0.2
    for arm in ("msa_untrained", "window"):
        assert runs[arm].at(300).accuracy < 0.6 < runs["msa"].at(300).accuracy
        assert runs[arm].at(300).needle_selected < 0.4
