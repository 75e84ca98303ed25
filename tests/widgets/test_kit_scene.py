"""What a timeline becomes on the wire: each frame's changes, which put together are the frames."""

import random
from dataclasses import replace

import numpy as np
import pytest

from intuitive.widgets.kit import Circle, Frame, Line, Rectangle, Scene, Swarm, Timeline, Words
from intuitive.widgets.kit.scene import wire

KINDS = (Circle, Rectangle, Line, Words)


def scene_of(marks):
    return Scene(width=100, height=50, marks=tuple(marks))


def put_together(header):
    """The marks of every frame by key, as the page puts them together."""
    marks, frames = {}, []
    for frame in header["frames"]:
        for key in frame["gone"]:
            del marks[key]
        marks |= {mark["key"]: mark for mark in frame["marks"]}
        frames.append(dict(marks))
    return frames


def changed(mark, dice):
    """A mark with a few of its values changed, some of them back to their defaults."""
    new = {
        "x": dice.choice((0.0, mark.x, dice.uniform(-9, 9))),
        "opacity": dice.choice((1.0, 0.25)),
        "link": dice.choice(("", "thing")),
        "fill": dice.choice(("", "blue", "#102030")),
        "click": dice.choice((None, {"slider": 3})),
    }
    return replace(mark, **{name: new[name] for name in dice.sample(sorted(new), 3)})


@pytest.mark.parametrize("seed", range(5))
def test_the_frames_put_together_are_the_marks_as_each_is_sent_alone(seed):
    dice = random.Random(seed)
    known = {f"m{i}": dice.choice(KINDS)(key=f"m{i}", x=i) for i in range(12)}
    scenes = []
    for _ in range(8):
        for key in dice.sample(sorted(known), 6):
            known[key] = changed(known[key], dice)
        turned = dice.choice(sorted(known))
        known[turned] = dice.choice(KINDS)(key=turned, y=dice.uniform(0, 50))
        shown = dice.sample(sorted(known), 9)
        scenes.append(scene_of(known[key] for key in shown))
    header, _ = wire(Timeline(frames=tuple(Frame(scene=scene) for scene in scenes)))
    for scene, frame in zip(scenes, put_together(header), strict=True):
        assert frame == {mark.key: mark.wire() for mark in scene.marks}


def test_a_mark_that_is_made_anew_but_is_the_same_is_sent_once():
    scenes = [scene_of([Circle(key="a", x=1 / 3), Words(key="b", text="b")]) for _ in range(3)]
    header, _ = wire(Timeline(frames=tuple(Frame(scene=scene) for scene in scenes)))
    assert [len(frame["marks"]) for frame in header["frames"]] == [2, 0, 0]


def test_a_swarm_is_sent_again_where_it_has_moved():
    def swarm(at):
        return Swarm(key="s", xs=np.full(3, at), ys=np.zeros(3))

    scenes = [scene_of([swarm(at)]) for at in (1.0, 1.0, 2.0)]
    header, places = wire(Timeline(frames=tuple(Frame(scene=scene) for scene in scenes)))
    assert [len(frame["swarms"]) for frame in header["frames"]] == [1, 0, 1]
    assert places[: len(places) // 2] != places[len(places) // 2 :]


@pytest.mark.parametrize("value", [2.675, -1.005, 0.0049, 1e15, float("nan"), np.float64(0.125)])
def test_numbers_are_sent_to_the_hundredth(value):
    sent = Circle(key="a", x=value).wire().get("x", 0.0)
    assert isinstance(sent, float)
    assert sent == pytest.approx(float(value), abs=0.0051, nan_ok=True)
    assert sent == pytest.approx(round(sent, 2), abs=0, nan_ok=True)
