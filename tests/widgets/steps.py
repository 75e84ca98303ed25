"""What a step of an explorer claims, and what a reader sees in the state that it sets.

`tests/<paper>/test_<explorer>.py` holds `STEPS`, one function per step in their order; each takes a
`Seen` and asserts what the step's sentence says. The claims run without a browser on the view
(`test_every_step.py`), and on the page once its button was pressed (`test_browser_lessons.py`).
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from intuitive.widgets.kit import Explorer, Readout

TESTS = Path(__file__).parents[1]
NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?")
SCALES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Seen:
    """What stands on the page in one state of an explorer.

    Attributes:
        values: of the controls.
        readouts: text of each readout by its label.
        summary: the sentence below the picture.
        sentences: of all frames of the timeline in order.
        marks: what the hero shows, by key: `x`, `w`, `text`, `words` and so on of each mark.
    """

    values: Mapping[str, Any]
    readouts: Mapping[str, str]
    summary: str
    sentences: Sequence[str] = field(default_factory=tuple)
    marks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def number(self, label: str) -> float:
        """The first number of a readout; percents count from 0 to 100.

        Raises:
            KeyError: no readout has that label.
            ValueError: there is no number in it.
        """
        if label not in self.readouts:
            raise KeyError(f"no readout {label!r}; there are {sorted(self.readouts)}")
        text = self.readouts[label]
        found = NUMBER.search(text)
        if found is None:
            raise ValueError(f"readout {label!r} says {text!r}: no number")
        number = float(found[0].replace(",", "").replace("−", "-"))
        return number * SCALES.get(text[found.end() : found.end() + 1], 1)


Claim = Callable[[Seen], None]


@cache
def claims(name: str, *, again: bool = False) -> tuple[Claim, ...]:
    """The claims of an explorer's steps, from the tests of its own.

    A lesson may show it `again` with other steps, whose claims are `STEPS_AGAIN`.
    """
    paper, _, module = name.partition("_")
    file = TESTS / paper / f"test_{module}.py"
    spec = importlib.util.spec_from_file_location(f"claims_{name}", file)
    sys.modules[spec.name] = found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return tuple(getattr(found, "STEPS_AGAIN" if again else "STEPS", ()))


def seen_after(explorer: Explorer, step: int, wait_s: float = 120) -> Seen:
    """What a reader would see after pressing a step's button and letting it play to its end."""
    explorer.take(step)
    assert explorer.wait(wait_s)
    assert explorer.status["state"] == "done", explorer.status["text"]
    view = explorer.view
    readouts: Sequence[Readout] = view.readouts
    scene = view.scene
    frames = view.timeline.frames if view.timeline is not None else ()
    if frames:
        where = explorer.declaration.steps[step].frame
        labels = [frame.label for frame in frames]
        place = view.timeline.start % len(frames)
        if where in ("last", "play"):
            place = len(frames) - 1
        elif where == "first":
            place = 0
        elif where is not None:
            place = labels.index(where)
        readouts = frames[place].readouts or readouts
        scene = frames[place].scene or scene
    return Seen(
        values=dict(explorer.values),
        readouts={readout.label: readout.value for readout in readouts},
        summary=view.summary,
        sentences=tuple(frame.sentence for frame in frames),
        marks={mark.key: vars(mark) for mark in scene.marks} if scene else {},
    )
