"""The contest: entries are replays of `arms`, and discs stand where their numbers say."""

import dataclasses
import itertools
import re
from types import SimpleNamespace

import plotly.graph_objects as go
import pytest
from recordings import draw_recording

from intuitive.lsa import LSAConfig, results
from intuitive.lsa.arms import replay
from intuitive.lsa.experiments import contest as experiment
from intuitive.lsa.experiments import threshold
from intuitive.lsa.experiments.contest import ROOMS, SHOWN, ContestParams
from intuitive.lsa.experiments.topical_arms import Point
from intuitive.widgets.lsa import contest as widget
from intuitive.widgets.lsa import contest_figures as figures
from intuitive.widgets.lsa import contest_scene as scene


@pytest.fixture
def drawn(monkeypatch):
    """One recording that is drawn, under the name of a text of its own."""
    recording = draw_recording(steps=96, n_prompt=160, share=0.1)
    monkeypatch.setattr(experiment, "load", lambda name: recording)
    with experiment.entry.cache_lock:
        experiment.entry.cache.clear()
    yield recording
    with experiment.entry.cache_lock:
        experiment.entry.cache.clear()


PARAMS = ContestParams(text="drawn", lookahead=16, tail=3, layers=2)


def test_entries_are_replays_at_one_room(drawn):
    result = experiment.run(PARAMS)
    for arm in SHOWN:
        for entry, room in zip(result.entries[arm], ROOMS, strict=True):
            found = replay(drawn, PARAMS.policy(arm, room))
            assert (entry.needed, entry.attention) == (found.golden_recall, found.mass_recall)
            old = found.evictable[found.triggers]  # what is always there is nobody's choice
            chosen = int((found.fetched & old).sum())
            assert entry.copied == chosen / 96
            one = found.moved_bytes(LSAConfig.paper()).sum() / found.copied.sum()
            assert entry.n_bytes == pytest.approx(float(one) * chosen / 96)
            assert entry.refetched == int(found.refetched.sum()) / max(chosen, 1)
    at_8 = {arm: result.entries[arm][1] for arm in SHOWN if arm != "reactive"}
    assert len({round(entry.kept, 6) for entry in at_8.values()}) == 1  # equal room for all
    assert all(entry.needed == 1 for entry in result.entries["reactive"])  # misses nothing


def test_the_measure_does_not_change_what_is_replayed(drawn):
    one = experiment.run(PARAMS)
    other = experiment.run(dataclasses.replace(PARAMS, measure="attention"))
    assert one.entries == other.entries
    shares = [widget.present(result).summary for result in (one, other)]
    assert shares[0] == shares[1]  # both measures stand side by side
    said = [
        widget.present(result).timeline.frames[1].sentence.partition(" at hand")[0]
        for result in (one, other)
    ]
    assert said[0].endswith("needed chunks") and said[1].endswith("attention")


def test_a_rule_of_the_readers_own_stands_beside_the_others(drawn):
    def best(logits, most):
        joined = [max(column) for column in zip(*logits, strict=True)]
        there = [c for c, z in enumerate(joined) if z > float("-inf")]
        return sorted(there, key=lambda c: (-joined[c], c))[:most]

    result = experiment.run(PARAMS, choose=best)
    pairs = zip(result.entries["yours"], result.entries["lsa"], strict=True)
    # The indexer's own budget may name chunks of the tail, which these do not.
    assert all(yours.needed >= lsa.needed for yours, lsa in pairs)
    assert result.entries["yours"][-1].kept >= result.entries["lsa"][-1].kept
    view = widget.present(result)
    last = view.timeline.frames[-1].scene
    assert last["disc:yours"].fill == "vermilion" and last["name:yours"].text == "yours"
    assert len(view.table.rows) == (len(SHOWN) + 1) * len(ROOMS)
    with pytest.raises(ValueError, match="choose returned None"):
        experiment.run(PARAMS, choose=lambda logits, most: None)


@pytest.mark.parametrize("measure", ["needed", "attention"])
def test_discs_stand_where_their_numbers_say(drawn, measure):
    result = experiment.run(dataclasses.replace(PARAMS, measure=measure))
    waiting, *frames = widget.present(result).timeline.frames
    told = {r.label: r.value for r in waiting.readouts}
    old = int(drawn.closed[0]) - PARAMS.tail - 1
    assert told == {"old chunks": str(old), "steps": "96", "decisions": "6"}
    for i, frame in enumerate(frames):
        names = []
        for arm in SHOWN:
            entry, disc = result.entries[arm][i], frame.scene[f"disc:{arm}"]
            share = (scene.FLOOR - disc.y) / (scene.FLOOR - scene.TOP)
            assert share == pytest.approx(entry.share(measure))
            assert disc.x == scene.Picture.x(entry.copied)
            names.append(frame.scene[f"name:{arm}"].y)
        assert sorted(names) == [
            frame.scene[f"name:{arm}"].y
            for arm in sorted(SHOWN, key=lambda arm: (-result.entries[arm][i].share(measure), arm))
        ]  # in the order of the discs
        assert min(names) >= scene.TOP and max(names) <= scene.FLOOR + 5
        names.sort()
        assert all(b - a > 20 for a, b in itertools.pairwise(names))


def test_the_tab_shows_no_room_before_the_hero_does(drawn):
    result = experiment.run(PARAMS)
    kept = [entry.kept for entry in result.entries["lsa"]]
    for i, frame in enumerate(widget.present(result).timeline.frames, -1):
        shapes = frame.figures["rooms"]["layout"]["shapes"]
        assert len(shapes) == (i < len(ROOMS) - 1)
        for cover in shapes:
            assert cover["fillcolor"] == "page" and cover["x1"] == 1
            assert cover["x0"] < kept[i + 1] and (i < 0 or cover["x0"] > kept[i])


def test_the_axis_is_logarithmic_and_has_edges():
    assert scene.Picture.x(0.0) == scene.LEFT and scene.Picture.x(1e9) == scene.RIGHT
    decade = scene.Picture.x(1) - scene.Picture.x(0.1)
    assert scene.Picture.x(10) - scene.Picture.x(1) == pytest.approx(decade)


def test_the_tabs_draw_every_arm(drawn):
    view = widget.present(experiment.run(PARAMS))
    for name in ("rooms", "windows"):
        traces = go.Figure(view.figure(name)).data
        assert [t.name for t in traces] == [scene.NAMES[arm] for arm in SHOWN]
    assert len(view.table.rows) == len(SHOWN) * len(ROOMS)


def point(seed, arm, **found):
    usual = {
        "length": 1.0,
        "mode": "topical",
        "rule": "threshold",
        "threshold": 0.5,
        "size": None,
        "lookahead": 64,
        "lag": 0,
        "layers": 3,
        "accuracy": 0.5,
        "mass_recall": 0.4,
        "golden_recall": 0.3,
        "kept": 0.2,
        "bytes_per_token": 100.0,
        "section": 64,
        "offset": 0,
        "resident": 0.3,
        "copied_per_token": 1.0,
        "refetch_rate": 0.0,
    }
    return Point(seed=seed, arm=arm, **usual | found)


def test_a_committed_run_brings_its_tabs(monkeypatch):
    budget = [
        point(seed, arm, rule="budget", size=size, kept=size / 100, accuracy=0.5 + 0.1 * seed)
        for arm in ("lsa", "random")
        for size in (32, 16)
        for seed in (0, 1)
    ]
    windows = [point(0, "lsa", lookahead=t, lag=lag) for t in (8, 64) for lag in (0, 1)]
    lengths = [point(0, "lsa", length=2.0, accuracy=0.1)]
    points = {"arms": (point(0, "lsa"),), "budget": budget, "lookahead": windows}
    points = {name: tuple(rows) for name, rows in (points | {"length": lengths}).items()}
    made = results.MadeBefore(command="", commit="", device="", torch="")
    exact = dict.fromkeys(("reactive", "unrestricted", "live", "replayed"), 0.5)
    values = results.LSAArms(
        training=results.Training(made=made, steps={}, losses={}, accuracy={}),
        weights=1,
        indexers=results.Indexers(made=made, documents=0, focal_loss={}),
        exactness=results.Exactness(
            everything_resident_is_unrestricted=True,
            live_sets_differ=0.0,
            **{f"{name}_accuracy": share for name, share in exact.items()},
        ),
        points=points,
        seconds=1.0,
    )
    monkeypatch.setattr(experiment.results, "names", lambda: (results.NAME,))
    monkeypatch.setattr(results, "arms", lambda: SimpleNamespace(values=values))
    found = experiment.answered("budget")
    assert [(one.arm, one.size) for one in found] == [
        ("lsa", 32),
        ("lsa", 16),
        ("random", 32),
        ("random", 16),
    ]
    assert (found[0].low, found[0].accuracy, found[0].high) == (0.5, pytest.approx(0.55), 0.6)
    drawn = {t.name: t for t in go.Figure(figures.answers_by_room()).data}
    assert list(drawn["LSA: trained indexer"].x) == [0.16, 0.32]
    late = {t.name for t in go.Figure(figures.answers_by_window()).data}
    assert late == {"LSA: trained indexer", "LSA: trained indexer, late"}
    (by_length,) = go.Figure(figures.answers_by_length()).data
    assert list(by_length.x) == [1.0, 2.0] and list(by_length.y) == [0.5, 0.1]
    with pytest.raises(KeyError, match="no sweep 'luck'"):
        experiment.answered("luck")
    plots = widget._answered_plots()
    assert {plot.tab for plot in plots} == {"Answers", "Late and long"}


def test_without_a_committed_run_there_are_no_tabs(monkeypatch):
    monkeypatch.setattr(experiment.results, "names", lambda: ())
    assert widget._answered_plots() == ()
    assert widget._predicted_plots() == ()
    empty = go.Figure(figures.answers_by_bytes())
    assert empty.layout.annotations[0].text == "Nothing was measured yet."


def test_smollm2_predicts_better_with_what_it_needs():
    """The committed run: seeds joined, the oracle below LSA, LSA below chance at every room."""
    found = {
        (row.arm, row.size): row.perplexity_returned
        for row in experiment.predicted()
        if row.rule == "budget" and row.lookahead == 64 and not row.lag and row.layers is None
    }
    for size in (4, 8, 16):
        assert found["oracle", size] < found["lsa", size] < found["random", size]
    said = widget._with_room()
    for arm in ("lsa", "recency", "quest"):
        assert f"{found[arm, widget.SMOLLM_ROOM]:.2f} for" in said
    assert {row.texts for row in experiment.predicted()} == {10}
    assert "Means of 10 held-out texts" in said
    drawn = {t.name: t for t in go.Figure(figures.perplexity_by_copies()).data}
    assert list(drawn["any, at random"].y) == [found["random", size] for size in (4, 8, 16)]
    windows = go.Figure(figures.perplexity_by_window()).data
    assert [t.name for t in windows] == ["LSA: trained indexer", "one window late"]
    assert {plot.tab for plot in widget._predicted_plots()} == {"SmolLM2"}


def test_bad_settings_are_told():
    with pytest.raises(ValueError, match="measure='luck' is unknown"):
        ContestParams(measure="luck")
    with pytest.raises(ValueError, match="lag=2 must be 0 or 1"):
        ContestParams(lag=2)
    with pytest.raises(ValueError, match="text='nowhere' is not recorded"):
        experiment.run(ContestParams(text="nowhere"))
    assert ContestParams.from_text(PARAMS.to_text()) == PARAMS


@pytest.mark.parametrize("name", sorted(threshold.recordings()))
def test_every_recording_that_is_shipped_is_shown(name):
    view = widget.present(experiment.run(ContestParams(text=name)))
    assert len(view.timeline.frames) == 1 + len(ROOMS)


def _entry(arm, **settings):
    params = ContestParams(text=widget.first_text(), **settings)
    return experiment.entry(params, arm, ROOMS[widget.ROOM])


def test_the_menu_has_titles_and_no_decode_that_a_policy_wrote():
    names = widget.texts()
    assert widget.first_text() == "topical"
    written = {name for name in threshold.recordings() if name.startswith("written-")}
    assert set(names) == set(threshold.recordings()) - written
    assert len(set(names.values())) == len(names)


def test_the_prediction_speaks_of_equal_room():
    lsa, reactive = _entry("lsa"), _entry("reactive")
    assert reactive.kept == pytest.approx(lsa.kept, rel=scene.EQUAL - 1)
    assert str(ROOMS[widget.ROOM]) in widget.PREDICT.question
    right, why = widget.PREDICT.answer()
    assert right == 2 and reactive.copied > 10 * lsa.copied and f"{lsa.needed:.0%}" in why


def test_more_room_than_the_others_have_is_said():
    result = experiment.run(ContestParams(text=widget.first_text()))
    _, *frames = widget.present(result).timeline.frames
    for i, frame in enumerate(frames):
        lsa, reactive = result.entries["lsa"][i], result.entries["reactive"][i]
        assert ("in more room" in frame.sentence) is (reactive.kept > scene.EQUAL * lsa.kept)
    assert "in more room" in frames[0].sentence and "in more room" not in frames[-1].sentence


def test_the_summary_has_both_measures_side_by_side():
    lsa = _entry("lsa")
    view = widget.present(experiment.run(ContestParams(text=widget.first_text())))
    both = f"{lsa.needed:.0%} of the needed chunks ({lsa.attention:.0%} of all attention)"
    assert both in view.summary


def _room(seen):
    """What the sentence of the lesson's room says of both: shares at hand in percent."""
    (told,) = (s for s in seen.sentences if s.startswith(f"Room for {ROOMS[widget.ROOM]} old"))
    return [int(share) for share in re.findall(r"(\d+)%", told)[:2]]


def _answers_of_lsa():
    return [p for p in experiment.answered("lookahead") if (p.arm, p.lag) == widget.LSA_NOW]


def all_climb_and_the_reactive_one_is_far_right(seen):
    finds = [float(s.split("LSA has ")[1].split("%")[0]) for s in seen.sentences[1:]]
    assert finds == sorted(finds) and finds[-1] > finds[0]
    assert seen.number("on demand copies") > 5 * seen.number("LSA copies per step")


def lsa_sinks_when_late(seen):
    assert seen.values["lag"] == 1
    lsa, reactive = _room(seen)
    assert lsa == seen.number("LSA finds") < 100 * _entry("lsa").needed - 10
    assert reactive == round(100 * _entry("reactive").needed)
    late, usual = _entry("oracle", lag=1), _entry("oracle")
    assert late.needed < 0.8 * usual.needed  # in the first window it has nothing


def asking_more_often_copies_more(seen):
    assert seen.values["lookahead"] == 8
    before = _entry("lsa")
    assert seen.number("LSA finds") > 100 * before.needed
    assert seen.number("LSA copies per step") > 2 * before.copied
    disc = seen.marks["disc:lsa"]
    assert disc["x"] > scene.Picture.x(before.copied) + 20  # to the right
    share = int(re.search(r"(\d+)% of all attention", seen.summary)[1])
    answers = {p.lookahead: p.accuracy for p in _answers_of_lsa()}
    assert answers[8] < 0.6 * answers[64]
    assert share < 100 * before.attention and f"{share}% of the attention" in disc["words"]


STEPS = (
    all_climb_and_the_reactive_one_is_far_right,
    lsa_sinks_when_late,
    asking_more_often_copies_more,
)
