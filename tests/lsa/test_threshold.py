"""Threshold or budget: counts of a trigger, longer texts by arithmetic, and how they are drawn."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.lsa.experiments import threshold as experiment
from intuitive.lsa.experiments.threshold import LENGTHS, ThresholdParams, at_trigger
from intuitive.lsa.recording import Recording
from intuitive.widgets.lsa import threshold as widget
from intuitive.widgets.lsa import threshold_scene as scene

PROMPT, STEPS_RECORDED, CHUNK = 400, 128, 4  # chunks, steps, tokens


def made(seed=0, wanted=12, lift=4.0):
    """A recording in which each window needs some chunks, which score higher by `lift`."""
    draw = torch.Generator().manual_seed(seed)
    closed = PROMPT + torch.arange(STEPS_RECORDED) // CHUNK
    n = PROMPT + STEPS_RECORDED // CHUNK
    needed = torch.zeros(STEPS_RECORDED, n, dtype=torch.bool)
    scores = 1.2 * torch.randn(STEPS_RECORDED, 3, n, generator=draw) - 3
    for start in range(0, STEPS_RECORDED, 64):
        topic = torch.randperm(PROMPT - 40, generator=draw)[:wanted] + 1
        for step in range(start, start + 64):
            needed[step, topic[step % wanted] if wanted else slice(0)] = True
        scores[start : start + 64, :, topic] += lift
    missing = torch.arange(n) >= closed[:, None]
    scores = scores.masked_fill(missing[:, None], -torch.inf)
    flat = torch.zeros(STEPS_RECORDED, n).masked_fill(missing, -torch.inf)
    return Recording(
        name="made",
        words=tuple(f"w{i} " for i in range(PROMPT * CHUNK + STEPS_RECORDED)),
        n_prompt=PROMPT * CHUNK,
        chunk_size=CHUNK,
        closed=closed,
        needed=needed,
        mass=needed.float(),
        scores=scores,
        native=flat,
        bounds=flat,
    )


def result_of(recording=None, **settings):
    return at_trigger(made() if recording is None else recording, ThresholdParams(**settings))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("trigger", [0, 1])
def test_counts_are_those_of_a_loop(threshold, trigger):
    recording, result = made(), result_of(threshold=threshold, trigger=trigger)
    step = trigger * 64
    exist = int(recording.closed[step])
    old = [c for c in range(1, PROMPT) if c < exist - 16]
    assert result.chunks.tolist() == old
    wanted = {c for c in old for t in range(step, step + 64) if bool(recording.needed[t, c])}
    score = {c: float(recording.scores[step, :, c].max().sigmoid()) for c in old}
    assert result.n_needed == len(wanted) == 12
    assert result.n_found == sum(score[c] > threshold for c in wanted)
    false = sum(score[c] > threshold for c in old if c not in wanted)
    assert result.false_rate == pytest.approx(false / (len(old) - len(wanted)))
    for at in result.longer:
        assert at.false == at.times * false
        assert at.fetched == at.false + result.n_found
        assert at.chunks == at.times * (len(old) - len(wanted)) + len(wanted)
        better = {c: sum(score[o] > score[c] for o in old if o not in wanted) for c in wanted}
        ranked = sorted(wanted, key=lambda c: -score[c])
        inside = sum(at.times * better[c] + i + 1 <= at.budget for i, c in enumerate(ranked))
        assert at.budget_found == inside


def test_a_budget_stays_and_loses_needed_chunks():
    result = result_of(made(lift=3.0), threshold=0.3)
    found = [at.budget_found for at in result.longer]
    assert len({at.budget for at in result.longer}) == 1
    assert found == sorted(found, reverse=True) and found[-1] < found[0]
    assert result.longer[-1].fetched > 5 * result.longer[0].budget


def test_history_that_nobody_needs_is_fetched_all_the_same():
    result = result_of(made(wanted=0), threshold=0.3)
    assert result.n_needed == result.n_found == 0
    counts = [at.fetched for at in result.longer]
    assert counts[0] > 0 and counts == [times * counts[0] for times in LENGTHS]
    said = {r.label: r.value for r in widget.present(result).timeline.frames[-1].readouts}
    assert said["needed, fetched"] == "–"
    assert "has nothing to find" in widget.present(result).summary


def test_a_half_after_three_to_one_is_not_a_half():
    assert experiment.meant(0.5, 0.02) == pytest.approx(0.058, abs=0.001)  # the brief's 6%
    assert experiment.meant(0.5, 0.25) == pytest.approx(0.5)  # sampled as it is
    with pytest.raises(ValueError, match=r"base_rate=1 must lie in \[0, 1\)"):
        experiment.meant(0.5, 1)


def test_the_calibration_counts_every_trigger():
    recording, params = made(), ThresholdParams()
    found = experiment.calibrate(recording, params)
    rows = [at_trigger(recording, ThresholdParams(trigger=trigger)) for trigger in (0, 1)]
    scores = np.concatenate([row.scores for row in rows])
    wanted = np.concatenate([row.needed for row in rows])
    candidates = len(scores)
    assert found.count.sum() == candidates
    place = (scores * experiment.BINS).astype(int)
    shares = [wanted[place == b].mean() for b in sorted(set(place.tolist()))]
    assert found.needed.tolist() == pytest.approx(shares)  # of the dots that the hero draws
    needed = (found.needed * found.count).sum()
    assert needed / candidates == pytest.approx(found.base_rate)
    assert (np.diff(found.said) > 0).all()


def test_bad_settings_are_told():
    with pytest.raises(ValueError, match=r"threshold=1\.0 must lie between 0 and 1"):
        ThresholdParams(threshold=1.0)
    with pytest.raises(ValueError, match="trigger=2"):
        result_of(trigger=2)
    with pytest.raises(ValueError, match="layers=4"):
        result_of(layers=4)
    with pytest.raises(ValueError, match="text='nowhere' is not recorded"):
        experiment.run(ThresholdParams(text="nowhere"))
    params = ThresholdParams(threshold=0.3, trigger=2)
    assert ThresholdParams.from_text(params.to_text()) == params


def test_dots_and_columns_are_counts_to_scale():
    result = result_of(threshold=0.3)
    for frame, at in zip(widget.present(result).timeline.frames, result.longer, strict=True):
        marks = {m.key: m for m in frame.scene.marks}
        swarm = marks["others"]
        there = swarm.ys > 0
        per_dot = len(swarm.xs) / (len(result.chunks) - result.n_needed) / LENGTHS[-1]
        want = at.times * (len(result.chunks) - result.n_needed) * per_dot
        assert there.sum() == pytest.approx(want, abs=1)
        right = swarm.shades[there].sum() / per_dot
        assert right == pytest.approx(at.false, rel=0.05, abs=1.5 / per_dot)
        assert swarm.ys[there].min() >= scene.TOP and swarm.ys[there].max() <= scene.FLOOR
        unit = scene.TALLEST / max(result.longer[-1].fetched, 8.0)
        assert marks["false:threshold"].h == pytest.approx(unit * at.false)
        assert marks["found:budget"].h == pytest.approx(unit * at.budget_found)


def test_the_handle_stands_at_the_threshold():
    frame = widget.present(result_of(threshold=0.3)).timeline.frames[0]
    handle = frame.scene["handle"]
    (low, at_low), (high, at_high) = handle.drag.x_scale
    assert handle.drag.x == "threshold"
    assert at_low + (0.3 - low) / (high - low) * (at_high - at_low) == pytest.approx(handle.x)
    assert frame.scene["threshold"].x == handle.x


def test_the_tabs_draw_the_same_numbers():
    result = result_of(threshold=0.3)
    view = widget.present(result)
    lines = {t.name: list(t.y) for t in go.Figure(view.figure("lengths")).data}
    assert lines["threshold"] == [at.fetched for at in result.longer]
    assert set(lines["budget"]) == {result.longer[0].budget}
    drawn = go.Figure(view.figure("calibration")).data
    assert [t.name for t in drawn][-1] == "needed, at its triggers"
    sizes, counts = drawn[-1].marker.size, drawn[-1].customdata
    assert len(sizes) == len(counts) > 3 and sizes[np.argmax(counts)] == max(sizes)


def test_a_higher_score_means_more_where_the_indexer_is_asked():
    params = ThresholdParams(text="topical")
    found = experiment.calibrate(experiment.load("topical"), params)
    sure = found.count >= 10
    assert (np.diff(found.needed[sure]) > 0).all() and found.needed[sure][-1] > 0.5
    assert found.base_rate < 0.1


def test_a_recording_with_fewer_triggers_shows_its_last():
    shown = widget.explorer(trigger=3)
    shown.wait()
    shown.set(text="topical_2x").wait()
    assert "topical_2x" in shown.result.recording.name or shown.result.n_triggers == 3
    assert shown.result.params.trigger == 2 and shown.values["trigger"] == 2
    assert shown.status["state"] != "error", shown.status
    shown.close()


@pytest.mark.parametrize("name", sorted(experiment.recordings()))
@pytest.mark.parametrize("trigger", [0, 1])
def test_every_recording_that_is_shipped_is_shown(name, trigger):
    result = experiment.run(ThresholdParams(text=name, trigger=trigger))
    view = widget.present(result)
    assert len(view.timeline.frames) == len(LENGTHS)
    assert view.summary.startswith("A threshold of 0.5")


def test_what_a_policy_wrote_is_not_on_the_list():
    assert "letter" in widget.texts() and not any("written" in name for name in widget.texts())
    assert next(iter(widget.texts())) == widget.first_text() == "topical"


def found_of(text):
    """Found and needed chunks as a readout gives them."""
    found, of = map(int, text.split(" of "))
    return found, of


def fetched(sentence):
    return float(sentence.split("takes ")[1].split(" of")[0].replace("\u202f", ""))


def some_are_found_and_some_missed(seen):
    found, of = found_of(seen.readouts["needed, fetched"])
    assert 0.3 * of < found < 0.9 * of
    assert seen.sentences[0].startswith("As recorded the threshold takes")


def fetched_grows_and_the_budget_loses(seen):
    assert fetched(seen.sentences[-1]) > 5 * fetched(seen.sentences[0])
    assert "as before" in seen.sentences[-1]
    found, of = found_of(seen.readouts["needed, fetched"])
    kept, _ = found_of(seen.readouts["budget finds"])
    assert kept < 0.6 * found < of


def most_of_what_is_needed_is_lost(seen):
    assert seen.values["threshold"] == 0.6
    found, of = found_of(seen.readouts["needed, fetched"])
    assert found < 0.35 * of and fetched(seen.sentences[0]) < 30


def little_is_missed_and_strangers_pass(seen):
    assert seen.values["threshold"] == 0.4
    found, of = found_of(seen.readouts["needed, fetched"])
    assert found > 0.85 * of
    passing = float(seen.summary.split("since ")[1].split("%")[0])
    assert passing > 50 and fetched(seen.sentences[-1]) > 2000


STEPS = (
    some_are_found_and_some_missed,
    fetched_grows_and_the_budget_loses,
    most_of_what_is_needed_is_lost,
    little_is_missed_and_strangers_pass,
)


@pytest.mark.parametrize("trigger", range(4))
def test_the_steps_hold_at_every_trigger(trigger):
    """Stricter finds less than half of what a half finds; generous nearly all, with strangers."""

    def at(threshold):
        return experiment.run(ThresholdParams(text="topical", trigger=trigger, threshold=threshold))

    strict, usual, generous = at(0.6), at(0.5), at(0.4)
    assert strict.n_found < 0.65 * usual.n_found
    assert generous.n_found > 0.85 * generous.n_needed
    assert generous.false_rate > 3 * usual.false_rate > 9 * strict.false_rate
    assert usual.longer[-1].budget_found < 0.8 * usual.n_found
