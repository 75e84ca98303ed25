"""Explorers for pages without Python: their states, recorded and packed into one file.

`record` drives an explorer as a reader does, to its defaults, to every step and preset, and to the
values of every control around the defaults, and keeps what it sends to the page in each of them.
Defaults and steps are always there; a budget of seconds says how much of the rest is.
`pack` writes that compressed: whatever stands in several states is written once. The page opens
the file and answers from it (`front/recorded.js`), in the place of Python.
"""

import base64
import dataclasses
import functools
import gzip
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from . import scene
from .controls import Action, Choice, Control, Number, Range, Toggle
from .explorer import Explorer
from .questions import CheckYourself

MOST_BYTES = 1_500_000  # of one explorer's file
POINTS = 11  # values of a slider that are recorded around the defaults, its ends among them
FEW_POINTS = 5  # around a step, and where moving it computes for long
WAIT_SECONDS = 900
SHARED_FROM = 16  # bytes of JSON from which on a part that returns is written once
DIGITS = 5  # of the numbers in figures
UNIT = 16  # of 65536 parts of twice a scene: half a pixel

State = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A state that is recorded: control values, and how far they are from the defaults."""

    values: Mapping[str, Any]
    control: str = ""  # that is moved; empty for defaults, steps and presets
    distance: int = 0  # what is farthest from the defaults and steps is left out first


@dataclass
class Recording:
    """All that a page needs to show one explorer, or one question, by itself."""

    kind: str  # "explorer" or "question"
    name: str
    call: str  # Python that makes it
    traits: State  # that no setting changes
    states: list[State] = field(default_factory=list)
    verdicts: dict[str, Any] = field(default_factory=dict)  # by choice
    asked: list[Asked] = field(default_factory=list)
    dropped: dict[str, list[Any]] = field(default_factory=dict)  # values left out, by control

    def leave_out(self, asked: Asked) -> None:
        self.dropped.setdefault(asked.control, []).append(asked.values[asked.control])


# ------------------------------------------------------------------------------ what to record


def around(
    control: Control,
    default: Any,
    bounds: Sequence[Number | str] | None = None,
    points: int = POINTS,
) -> list[Any]:
    """Values of a control that are recorded: its ends, and then the nearest to its default."""
    match control:
        case Range():
            every = control.places(bounds)
            at = min(range(len(every)), key=lambda i: abs(every[i] - default))
            chosen = _spread(len(every), at, FEW_POINTS if control.heavy else points)
            return [every[i] for i in chosen if every[i] != default]
        case Choice():
            return [option for option in control.places(bounds) if option != default]
        case Toggle():
            return [not default]
        case Action(disabled=""):
            return [default + 1]
    return []


def _spread(size: int, at: int, points: int) -> list[int]:
    """At most `points` of `size` places: both ends, the neighbours of `at`, and evenly between."""
    if size <= points:
        chosen = set(range(size))
    else:
        chosen = {0, size - 1, at, max(at - 1, 0), min(at + 1, size - 1)}
        even = {round(i * (size - 1) / (points - 1)) for i in range(points)} - chosen
        chosen |= set(sorted(even, key=lambda i: abs(i - at))[: points - len(chosen)])
    ends = {0, size - 1}
    return sorted(chosen, key=lambda i: (i not in ends, abs(i - at)))


def plan(explorer: Explorer) -> list[Asked]:
    """The states to record: defaults, steps, presets, every control by itself, sliders at steps.

    What is wanted most comes first.
    """
    declared, defaults = explorer.declaration, explorer.defaults
    steps = [
        defaults | declared.with_presets(brought)
        for brought in (declared.poster, *(step.sets for step in declared.steps))
    ]
    found = [Asked(values) for values in (defaults, *steps)]
    for control in declared.controls:
        bounds = explorer.bounds.get(control.name)
        for distance, value in enumerate(around(control, defaults[control.name], bounds)):
            values = defaults | declared.with_presets({control.name: value})
            kept = not isinstance(control, Range)
            far = distance + POINTS * control.more
            found.append(Asked(values, control.name, 0 if kept else far))
    sliders = [c for c in declared.controls if isinstance(c, Range) and not (c.more or c.heavy)]
    for step in steps:
        for control in sliders:
            near = around(control, step[control.name], points=FEW_POINTS)
            for distance, value in enumerate(near, POINTS):
                found.append(Asked(step | {control.name: value}, control.name, distance))
    unique: dict[bytes, Asked] = {}
    for asked in found:
        unique.setdefault(msgspec.json.encode(asked.values), asked)
    return sorted(unique.values(), key=lambda asked: (asked.control != "", asked.distance))


# --------------------------------------------------------------------------------- recording


def record(
    make: Callable[[], Explorer | CheckYourself],
    *,
    call: str = "",
    seconds: int | float = math.inf,
    clock: Callable[[], int | float] = time.process_time,
) -> Recording:
    """Drive an explorer through its plan, or a question through its choices.

    Args:
        make: makes the explorer or the question.
        call: Python that makes it, for whoever reads the page.
        seconds: how long states beside the defaults and the steps may take together. A control
            whose values cost more than what is left is left out; cheaper ones go on.
        clock: measures them; the processor's time, which nothing beside it makes longer.
    """
    with tempfile.TemporaryDirectory() as home, _answers_in(home):
        widget = make()
        try:
            if isinstance(widget, CheckYourself):
                return _record_question(widget, call)
            return _record_explorer(widget, call, seconds, clock)
        finally:
            widget.close()


class _answers_in:
    """Predictions of whoever records are neither read nor changed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._former = os.environ.get("INTUITIVE_HOME")
        os.environ["INTUITIVE_HOME"] = self._folder

    def __exit__(self, *_: Any) -> None:
        if self._former is None:
            del os.environ["INTUITIVE_HOME"]
        else:
            os.environ["INTUITIVE_HOME"] = self._former


def _record_question(question: CheckYourself, call: str) -> Recording:
    recording = Recording("question", question.name, call, {"spec": dict(question.spec)})
    for index in range(len(question.spec["choices"])):
        recording.verdicts[str(index)] = question.choose(index)
    return recording


def _record_explorer(
    explorer: Explorer, call: str, seconds: int | float, clock: Callable[[], int | float]
) -> Recording:
    spec = dict(explorer.spec)
    spec["plots"] = [{**plot, "clickable": False} for plot in spec["plots"]]  # Python's to answer
    explorer.unfolded = True  # so that every state brings its rows
    traits = {"spec": spec, "tab": explorer.tab}
    recording = Recording("explorer", explorer.name, call, traits)
    spent, dearest = 0.0, dict.fromkeys(explorer.defaults, 0.0)
    for asked in plan(explorer):
        if asked.control and spent + dearest[asked.control] > seconds:
            recording.leave_out(asked)
            continue
        begun = clock()
        explorer.set(**asked.values)
        if not explorer.wait(WAIT_SECONDS):
            raise TimeoutError(f"{explorer.name}: {dict(asked.values)} took too long.")
        recording.asked.append(asked)
        recording.states.append(_state(explorer, asked.values))
        if asked.control:
            took = clock() - begun
            spent, dearest[asked.control] = spent + took, max(dearest[asked.control], took)
    predict = explorer.declaration.predict
    if predict and predict.answer:
        once = dataclasses.replace(predict, answer=functools.cache(predict.answer))
        explorer.declaration = dataclasses.replace(explorer.declaration, predict=once)
        for choice in (None, *predict.choices):
            explorer.predict(choice).wait(WAIT_SECONDS)
            recording.verdicts[choice or ""] = dict(explorer.verdict)
    return recording


def _state(explorer: Explorer, asked: Mapping[str, Any]) -> State:
    """What the page shows of one setting."""
    if explorer.status["state"] == "error":
        return {"asked": dict(asked), "error": explorer.status["text"]}
    view = explorer.view
    state: State = {
        "asked": dict(asked),
        "values": dict(explorer.values),
        "bounds": dict(explorer.bounds),
        "info": dict(explorer.info),
        "figures": {
            plot.name: _rounded(_narrow(scene.plain(view.figure(plot.name))))
            for plot in explorer.declaration.plots
        },
    }
    if explorer.picture:
        state["picture"] = msgspec.json.decode(explorer.picture)
        state["swarm"] = swarm_steps(state["picture"], explorer.swarm)
    if explorer.token_texts:
        state["tokens"] = [
            list(explorer.token_texts),
            base64.b64encode(explorer.token_marks).decode(),
            explorer.token_focus,
        ]
    return msgspec.json.decode(msgspec.json.encode(state, enc_hook=lambda value: value.item()))


def swarm_steps(picture: Mapping[str, Any], data: bytes) -> list[tuple[str, str]]:
    """Positions of the swarms as scene.wire wrote them, to half a pixel, so that they pack well.

    For each swarm of each frame where it moved its key, and in base64 how far each member went
    since the frame before: low bytes, high bytes, and the shades.
    """
    sizes: dict[str, int] = {}
    before: dict[str, np.ndarray] = {}
    found = []
    for frame in picture["frames"]:
        sizes |= {mark["key"]: mark["n"] for mark in frame["marks"] if "n" in mark}
        for moved in frame["swarms"]:
            key, at = moved["key"], moved["at"]
            n = sizes[key]
            fine = np.frombuffer(data, "<u2", 2 * n, at).astype(np.int32)
            places = np.minimum((fine + UNIT // 2) // UNIT, 65535 // UNIT)
            past = before.get(key, np.zeros(0))
            went = places - past if len(past) == 2 * n else places
            before[key] = places
            went = went.astype(np.int16).view(np.uint16)
            parts = (went & 255, went >> 8)
            steps = b"".join(part.astype(np.uint8).tobytes() for part in parts)
            found.append((key, base64.b64encode(steps + data[at + 4 * n : at + 5 * n]).decode()))
    return found


def _rounded(part: Any) -> Any:
    """Numbers of a figure with as many digits as can be seen."""
    if isinstance(part, float):
        return float(f"{part:.{DIGITS}g}")
    if isinstance(part, dict):
        return {name: _rounded(value) for name, value in part.items()}
    return [_rounded(value) for value in part] if isinstance(part, list) else part


def _narrow(part: Any) -> Any:
    """Packed arrays of double precision in single precision."""
    if isinstance(part, dict):
        if part.get("dtype") == "f8" and "bdata" in part:
            wide = np.frombuffer(base64.b64decode(part["bdata"]), dtype="f8")
            narrow = base64.b64encode(wide.astype("f4").tobytes()).decode()
            return {**part, "dtype": "f4", "bdata": narrow}
        return {name: _narrow(value) for name, value in part.items()}
    return [_narrow(value) for value in part] if isinstance(part, list) else part


# ----------------------------------------------------------------------------------- packing


def pack(recording: Recording, *, most_bytes: int = MOST_BYTES) -> bytes:
    """The recording as one compressed file of at most `most_bytes`.

    What does not fit is left out, values of sliders farthest from their defaults first, and the
    file says which.
    """
    kept = sorted(
        zip(recording.asked, recording.states, strict=True), key=lambda pair: pair[0].distance
    )
    needed = sum(asked.distance == 0 for asked, _ in kept)
    while len(packed := _packed(recording, [state for _, state in kept])) > most_bytes:
        if len(kept) <= needed:
            raise ValueError(
                f"{recording.name}: defaults and steps alone take {len(packed):,} bytes of "
                f"{most_bytes:,}: give the scene fewer marks or frames."
            )
        room = max(needed, int(0.97 * len(kept) * most_bytes / len(packed)))
        for asked, _ in kept[room:]:
            recording.leave_out(asked)
        kept = kept[:room]
    return packed


def _packed(recording: Recording, states: list[State]) -> bytes:
    table = _Table()
    whole = {
        **{"kind": recording.kind, "name": recording.name, "call": recording.call},
        **{"traits": recording.traits, "states": states, "verdicts": recording.verdicts},
        "dropped": recording.dropped,
    }
    return gzip.compress(msgspec.json.encode(table.write(whole)), compresslevel=9, mtime=0)


class _Ref:
    def __init__(self, number: int) -> None:
        self.number = number


class _Table:
    """JSON in which a part that stands in several places is written once.

    Such a part is the text "~" and its number in `shared`; a text that begins with "~" has it
    doubled.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._parts: list[Any] = []  # with references in the place of their own parts

    def write(self, whole: Any) -> dict[str, Any]:
        root = self._fold(whole)
        uses = [0] * len(self._parts)
        for part in (*self._parts, [root]):
            for inner in _inside(part):
                if isinstance(inner, _Ref):
                    uses[inner.number] += 1
        written: dict[int, int] = {}
        shared: list[Any] = []

        def unfold(part: Any) -> Any:
            if isinstance(part, _Ref):
                number = part.number
                if uses[number] == 1:
                    return unfold(self._parts[number])
                if number not in written:
                    written[number] = len(shared)
                    shared.append(None)
                    shared[written[number]] = unfold(self._parts[number])
                return f"~{written[number]}"
            if isinstance(part, dict):
                return {name: unfold(value) for name, value in part.items()}
            return [unfold(value) for value in part] if isinstance(part, list) else part

        return {"whole": unfold(root), "shared": shared}

    def _fold(self, part: Any) -> Any:
        if isinstance(part, str):
            folded: Any = f"~{part}" if part.startswith("~") else part
        elif isinstance(part, Mapping):
            folded = {name: self._fold(value) for name, value in part.items()}
        elif isinstance(part, (list, tuple)):
            folded = [self._fold(value) for value in part]
        else:
            return part
        key = msgspec.json.encode(folded, enc_hook=lambda ref: {"~": ref.number})
        if len(key) < SHARED_FROM:
            return folded
        if key not in self._numbers:
            self._numbers[key] = len(self._parts)
            self._parts.append(folded)
        return _Ref(self._numbers[key])


def _inside(part: Any) -> Iterator[Any]:
    if isinstance(part, dict):
        yield from part.values()
    elif isinstance(part, list):
        yield from part
