"""Explorers recorded for pages without Python, on one that needs no model."""

import base64
import gzip
import json

import kit_example as kit
import numpy as np
import pytest

from intuitive.widgets import catalogue
from intuitive.widgets.kit import Action, Choice, Range, Toggle
from intuitive.widgets.kit import recording as recorded
from intuitive.widgets.kit.scene import Frame, Scene, Swarm, Timeline, wire


@pytest.fixture(autouse=True, scope="module")
def _no_waiting():
    """The example's slow setting, made quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kit, "SLOW_S", 0)
        yield


@pytest.fixture(scope="module")
def recording():
    return recorded.record(
        lambda: kit.explorer("kit_recorded", predict=kit.PREDICT), call="kit.explorer()"
    )


def opened(packed: bytes) -> dict:
    """What the page makes of a file: front/recorded.js, in Python."""
    file = json.loads(gzip.decompress(packed))
    shared = file["shared"]

    def unfold(part):
        if isinstance(part, str):
            if not part.startswith("~"):
                return part
            if part.startswith("~~"):
                return part[1:]
            inner = shared[int(part[1:])]
            text = isinstance(inner, str) and inner.startswith("~")
            return inner[1:] if text else unfold(inner)
        if isinstance(part, dict):
            return {name: unfold(value) for name, value in part.items()}
        return [unfold(value) for value in part] if isinstance(part, list) else part

    return unfold(file["whole"])


# ------------------------------------------------------------------------------ what is asked


def test_a_slider_gives_its_ends_and_its_neighbours_first():
    control = Range(name="x", label="X", min=0, max=1000)
    values = recorded.around(control, 400)
    assert values[:2] == [0, 1000] and {399, 401} == set(values[2:4])
    assert len(values) == recorded.POINTS - 1 and 400 not in values


def test_a_short_slider_is_recorded_whole():
    assert sorted(recorded.around(Range(name="x", label="X", min=0, max=4), 3)) == [0, 1, 2, 4]
    listed = Range(name="x", label="X", values=(8, 16, 64))
    assert sorted(recorded.around(listed, 16)) == [8, 64]


def test_bounds_and_heavy_sliders_are_heeded():
    control = Range(name="x", label="X", min=0, max=1000, heavy=True)
    values = recorded.around(control, 5, (0, 100))
    assert max(values) == 100 and len(values) == recorded.FEW_POINTS - 1


def test_other_controls_give_every_other_value():
    options = {"a": "A", "b": "B", "c": "C"}
    assert recorded.around(Choice(name="x", label="X", options=options), "b") == ["a", "c"]
    assert recorded.around(Toggle(name="x", label="X"), True) == [False]
    assert recorded.around(Action(name="x", label="X"), 0) == [1]
    assert recorded.around(Action(name="x", label="X", disabled="no model"), 0) == []


def test_defaults_steps_and_every_control_are_planned():
    explorer = kit.explorer()
    planned = [dict(asked.values) for asked in recorded.plan(explorer)]
    explorer.close()
    assert planned[0] == explorer.defaults
    assert explorer.defaults | {"spread": 0} in planned  # a step
    for n_kept in range(1, kit.N_SCORES + 1):
        near = n_kept in (1, 3, 4, 5, kit.N_SCORES)
        assert not near or explorer.defaults | {"n_kept": n_kept} in planned
    assert explorer.defaults | {"spread": 0, "n_kept": 12} in planned  # a slider at a step
    assert len(planned) == len({json.dumps(values) for values in planned})


def test_what_is_wanted_most_is_recorded_first():
    explorer = kit.explorer()
    planned = recorded.plan(explorer)
    explorer.close()
    beside = [bool(asked.control) for asked in planned]
    assert beside == sorted(beside)
    assert planned[1].values == explorer.defaults | {"spread": 0}  # the step that sets something
    moved = [asked for asked in planned if asked.control == "spread"]
    assert [asked.distance for asked in moved] == sorted(asked.distance for asked in moved)


def test_a_budget_leaves_defaults_and_steps_and_names_what_it_leaves_out():
    """On a clock that ticks twice a state."""
    for seconds, beside in ((-1, 0), (0, 1), (3, 3)):
        ticks = iter(range(10_000))
        found = recorded.record(kit.explorer, seconds=seconds, clock=lambda t=ticks: next(t))
        explorer = kit.explorer()
        planned = recorded.plan(explorer)
        explorer.close()
        assert found.asked[-1] == planned[len(found.states) - 1]
        assert [asked.control != "" for asked in found.asked].count(True) == beside
        left_out = sum(map(len, found.dropped.values()))
        assert left_out == len(planned) - len(found.states)
        assert opened(recorded.pack(found))["dropped"] == found.dropped


def test_a_control_that_costs_too_much_leaves_room_for_cheaper_ones(monkeypatch):
    now = [0.0]

    def state(explorer, asked):
        now[0] += 8 if explorer.values["spread"] != explorer.defaults["spread"] else 0.1
        return {"asked": dict(asked)}

    monkeypatch.setattr(recorded, "_state", state)
    found = recorded.record(kit.explorer, seconds=20, clock=lambda: now[0])
    moved = [asked for asked in found.asked if asked.control]
    assert sum(asked.control == "spread" for asked in moved) == 2
    assert set(found.dropped) <= {"spread", "n_kept"}
    assert sum(asked.control == "n_kept" for asked in moved) > kit.N_SCORES - 2


# ----------------------------------------------------------------------------- what is written


def test_a_state_is_what_the_page_was_sent(recording):
    found = opened(recorded.pack(recording))
    explorer = kit.explorer().set(n_kept=5)
    assert explorer.wait()
    (state,) = (s for s in found["states"] if s["asked"] == {**explorer.defaults, "n_kept": 5})
    assert state["info"]["summary"] == explorer.summary
    assert state["picture"] == json.loads(explorer.picture)
    assert state["values"] == explorer.values
    assert set(state["figures"]) == {"all", "scores", "weights"}  # of tabs as well
    explorer.close()


def test_a_refused_setting_is_recorded_with_its_sentence(recording):
    refused = [state for state in recording.states if "error" in state]
    assert any("of equal scores means nothing" in state["error"] for state in refused)


def test_every_choice_has_its_verdict(recording):
    assert set(recording.verdicts) == {"", *kit.PREDICT.choices}
    assert recording.verdicts["about half"]["state"] == "right"
    assert recording.verdicts["nearly all"]["state"] == "wrong"


def test_a_question_is_recorded():
    found = recorded.record(kit.question)
    assert found.kind == "question"
    verdicts = [found.verdicts[str(i)]["verdict"] for i in range(len(found.verdicts))]
    assert verdicts.count("right") == 1


def test_predictions_of_whoever_records_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    recorded.record(kit.question)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_twice_is_written_once_and_read_as_it_was():
    whole = {"a": ["~tilde", "~" * 40, {"x": 1.5}], "b": ["~tilde", "~" * 40, {"x": 1.5}]}
    whole["c"] = [whole["a"], whole["a"], None, True, "plain text that is long enough to share"]
    table = recorded._Table().write(whole)
    packed = gzip.compress(json.dumps(table).encode())
    assert opened(packed) == whole
    assert json.dumps(table).count("~" * 40) == 1


def test_what_does_not_fit_is_left_out_and_named(recording):
    whole = recorded.pack(recording)
    least = len(whole) * 2 // 3
    packed = recorded.pack(recording, most_bytes=least)
    found = opened(packed)
    assert len(packed) <= least
    assert len(found["states"]) < len(recording.states)
    left_out = sum(map(len, found["dropped"].values()))
    assert left_out == len(recording.states) - len(found["states"]) > 0
    asked = [state["asked"] for state in found["states"]]
    assert recording.asked[0].values in asked
    recording.dropped.clear()


def test_a_file_too_small_for_defaults_and_steps_is_refused(recording):
    with pytest.raises(ValueError, match="defaults and steps alone"):
        recorded.pack(recording, most_bytes=1000)
    recording.dropped.clear()


def swarms():
    """A timeline in which a swarm moves, changes its size, and another joins."""
    dice = np.random.default_rng(0)
    frames = []
    for n, more in ((5, 0), (5, 3), (4, 3)):
        sizes = {"one": n, "two": more}
        marks = [
            Swarm(key=key, xs=dice.uniform(-90, 290, size), ys=dice.uniform(-40, 140, size))
            for key, size in sizes.items()
            if size
        ]
        frames.append(Frame(scene=Scene(width=200, height=100, marks=tuple(marks))))
    return wire(Timeline(frames=tuple(frames)))


def test_swarms_are_kept_to_half_a_pixel():
    header, data = swarms()
    steps = recorded.swarm_steps(header, data)
    assert [key for key, _ in steps] == ["one", "one", "two", "one", "two"]
    first, second = (
        np.frombuffer(base64.b64decode(steps[at][1]), np.uint8)[:20].reshape(2, 10).astype(int)
        for at in (0, 1)
    )
    places = [first[0] + 256 * first[1]]
    places.append((places[0] + second[0] + 256 * second[1]) % 65536)
    for at, found in zip((0, 26), places, strict=True):
        true = np.frombuffer(data, "<u2", 10, at).astype(int)
        assert abs(found * recorded.UNIT - true).max() <= recorded.UNIT / 2


@pytest.mark.sweep
@pytest.mark.model
@pytest.mark.parametrize("name", catalogue.explorers())
def test_every_explorer_fits_into_its_file(name):
    assert len(recorded.pack(recorded.record(catalogue.explorers()[name]))) <= recorded.MOST_BYTES
