"""The hero of an explorer as data: a scene of keyed marks, or a timeline of scenes.

A mark's `key` is its identity: between two scenes the page moves what has the same key, lets fade
in what is new, and lets fade out what is gone. Colours are names of the theme (`COLOURS`) or
"#rrggbb" from a scale of data. A `link` names the thing that a mark stands for: all marks, plot
points, tokens and readouts with one link light together. Positions are in the scene's own units,
from the top left corner; the page scales the whole to its width.

On the wire a timeline is its first scene and, for each later frame, what differs from the frame
before, so that scrubbing needs no answer from Python.
"""

import base64
import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

Number = int | float
Numbers = Sequence[Number] | np.ndarray

COLOURS = ("ink", "faint", "page", "grey", "blue", "sky", "vermilion", "green", "purple", "gold")
_NAMED = frozenset(("", *COLOURS))
ANCHORS = ("start", "middle", "end")
LABEL_PLACES = ("center", "right", "left", "above", "below")
SWARM_REACH = 0.5  # a swarm may leave the scene by this share of its size


@dataclass(frozen=True, kw_only=True)
class Drag:
    """What dragging a mark does: it moves sliders of the explorer.

    Attributes:
        x, y: name of the `Range` that a horizontal or vertical drag sets, or empty.
        x_scale, y_scale: `(value, position)` at two places: ((v0, p0), (v1, p1)), linear between.
    """

    x: str = ""
    y: str = ""
    x_scale: tuple[tuple[Number, Number], tuple[Number, Number]] = ((0.0, 0.0), (1.0, 1.0))
    y_scale: tuple[tuple[Number, Number], tuple[Number, Number]] = ((0.0, 0.0), (1.0, 1.0))

    def __post_init__(self) -> None:
        if not (self.x or self.y):
            raise ValueError("a Drag sets nothing: name a Range for x, for y, or for both.")
        for (_, p0), (_, p1) in (self.x_scale, self.y_scale):
            if p0 == p1:
                raise ValueError(f"a Drag's scale has both values at {p0}: give two positions.")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What every mark has.

    Attributes:
        key: identity through time, unique within the scene.
        x, y: position.
        fill, stroke: colours; empty for none.
        width: of the stroke, in pixels.
        dash: lengths of dash and gap, such as "4 3"; empty for a whole line.
        opacity: in [0, 1].
        label: text beside or in the mark; `place` says where.
        size: of the label or text, in pixels.
        link: name of the thing that the mark stands for, or empty.
        words: the sentence about it, for the status area and for screen readers.
        click: control values that a click (or Enter) sets.
        drag: sliders that dragging moves.
        layer: marks of a higher layer lie on top.
    """

    kind: ClassVar[str]
    key: str
    x: Number = 0.0
    y: Number = 0.0
    fill: str = ""
    stroke: str = ""
    width: Number = 1.5
    dash: str = ""
    opacity: Number = 1.0
    label: str = ""
    place: str = "center"
    size: Number = 13.0
    link: str = ""
    words: str = ""
    click: Mapping[str, Any] | None = None
    drag: Drag | None = None
    layer: int = 0

    def __post_init__(self) -> None:
        if self.fill not in _NAMED or self.stroke not in _NAMED:
            self._check_colours()
        if self.place not in LABEL_PLACES:
            raise ValueError(
                f"mark {self.key!r}: place={self.place!r} is none of {', '.join(LABEL_PLACES)}."
            )

    def _check_colours(self) -> None:
        for name in ("fill", "stroke"):
            colour = getattr(self, name)
            if colour not in _NAMED and not colour.startswith("#"):
                raise ValueError(
                    f"mark {self.key!r}: {name}={colour!r} is no colour of the theme; take one of "
                    f"{', '.join(COLOURS)}, or '#rrggbb' from a scale of data."
                )

    def wire(self) -> dict[str, Any]:
        """The mark as JSON: what stands at its default is left out."""
        names, values_of, defaults = _fields(type(self))
        return _written({"kind": self.kind}, names, values_of(self), defaults, defaults)

    def wire_after(self, before: "Mark", wired: dict[str, Any]) -> dict[str, Any]:
        """`wire()`, where the mark was `before` in the last frame, and `wired` is what was sent.

        What has not changed is taken over, and all of `wired` where nothing has.
        """
        names, values_of, defaults = _FIELDS.get(type(self)) or _fields(type(self))
        values, past = values_of(self), values_of(before)
        if values == past:
            return wired
        return _written(dict(wired), names, values, past, defaults)


@dataclass(frozen=True, kw_only=True)
class Circle(Mark):
    """A disc around (x, y)."""

    kind: ClassVar[str] = "circle"
    r: Number = 5.0


@dataclass(frozen=True, kw_only=True)
class Rectangle(Mark):
    """A box whose top left corner is (x, y)."""

    kind: ClassVar[str] = "rectangle"
    w: Number = 10.0
    h: Number = 10.0
    corner: Number = 0.0


@dataclass(frozen=True, kw_only=True)
class Line(Mark):
    """A straight line from (x, y) to (x2, y2)."""

    kind: ClassVar[str] = "line"
    x2: Number = 0.0
    y2: Number = 0.0


@dataclass(frozen=True, kw_only=True)
class Arrow(Line):
    """A line with a head at (x2, y2); drawn as a dot where it is shorter than its head."""

    kind: ClassVar[str] = "arrow"
    head: Number = 8.0


@dataclass(frozen=True, kw_only=True)
class Path(Mark):
    """An SVG path, relative to (x, y); paths of the same commands blend into each other."""

    kind: ClassVar[str] = "path"
    d: str = ""

    @classmethod
    def through(cls, xs: Numbers, ys: Numbers, *, closed: bool = False, **rest: Any) -> "Path":
        """A path of straight pieces through the points."""
        points = np.stack([np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)], -1)
        pieces = ("L%.1f,%.1f" * len(points))[1:] % tuple(points.ravel().tolist())
        return cls(d=f"M{pieces}{'Z' if closed else ''}" if pieces else "", **rest)


@dataclass(frozen=True, kw_only=True)
class Words(Mark):
    """A text at (x, y), which is on its base line.

    Attributes:
        text: what it says.
        anchor: which part of the text is at x: "start", "middle" or "end".
        bold, mono: how it is set.
    """

    kind: ClassVar[str] = "words"
    text: str = ""
    anchor: str = "start"
    fill: str = "ink"
    bold: bool = False
    mono: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchor not in ANCHORS:
            raise ValueError(
                f"mark {self.key!r}: anchor={self.anchor!r} is none of {', '.join(ANCHORS)}."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Swarm(Mark):
    """Many small discs on a canvas below the other marks of its scene.

    Attributes:
        xs, ys: positions, by member; a member keeps its index through the timeline.
        colours: names of the theme.
        shades: by member, the index of its colour; all the first where it is None.
        r: radius.
    """

    kind: ClassVar[str] = "swarm"
    xs: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ys: np.ndarray = field(default_factory=lambda: np.zeros(0))
    colours: tuple[str, ...] = ("grey",)
    shades: np.ndarray | None = None
    r: Number = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.xs) != len(self.ys):
            raise ValueError(f"swarm {self.key!r}: {len(self.xs)} xs and {len(self.ys)} ys.")

    def wire(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "key": self.key,
            "n": len(self.xs),
            "colours": list(self.colours),
            "r": self.r,
            "opacity": self.opacity,
        }

    def wire_after(self, before: Mark, wired: dict[str, Any]) -> dict[str, Any]:
        return wired if before is self else self.wire()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Marks on a surface of `width` by `height` units.

    Raises:
        ValueError: two marks share a key, or the surface has no size.
    """

    width: Number
    height: Number
    marks: tuple[Mark, ...]

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a scene of {self.width} by {self.height}: both must be positive.")
        object.__setattr__(self, "marks", tuple(self.marks))
        if len({mark.key for mark in self.marks}) == len(self.marks):
            return
        seen: set[str] = set()
        for mark in self.marks:
            if mark.key in seen:
                raise ValueError(
                    f"two marks have the key {mark.key!r}: a key is one thing's identity."
                )
            seen.add(mark.key)

    def __getitem__(self, key: str) -> Mark:
        """The mark with this key."""
        return next(mark for mark in self.marks if mark.key == key)


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """An equation with its numbers filled in, as plain text and as TeX."""

    text: str
    tex: str = ""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a timeline.

    Attributes:
        scene: what is drawn.
        label: where in time it is, such as "t = 0.30"; frames that share it are its stages.
        stage: name of the part of the mechanism that the frame adds, such as "slope".
        sentence: what is to be seen, one sentence; shown and read out.
        readouts: numbers of this frame, in the place of the view's.
        figures: figures of plots that move along; one without `data` only lays its shapes over the
            plot's own, where a `fillcolor` of "page" hides what is below.
        arithmetic: by link, added to the view's.
    """

    scene: Scene
    label: str = ""
    stage: str = ""
    sentence: str = ""
    readouts: tuple[Any, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    arithmetic: Mapping[str, Arithmetic] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Frames that the page plays, steps through and scrubs by itself.

    Attributes:
        frames: at least one, all of one size.
        axis: what the frames run over, such as "time t" or "token"; the scrubber's name.
        start: the frame that is shown first; negative numbers count from the end.
        pace_ms: how long a frame stays while it plays.
        told_last: whether the view's summary tells the end: the page shows it once that was seen.
    """

    frames: tuple[Frame, ...]
    axis: str = "time"
    start: int = 0
    pace_ms: int = 700
    told_last: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        if not self.frames:
            raise ValueError("a timeline without frames: give at least one.")
        sizes = {(frame.scene.width, frame.scene.height) for frame in self.frames}
        if len(sizes) > 1:
            raise ValueError(f"frames of different sizes, {sorted(sizes)}: give all the same.")
        if not -len(self.frames) <= self.start < len(self.frames):
            raise ValueError(f"start={self.start}, but there are {len(self.frames)} frames.")


# ------------------------------------------------------------------------------------ the wire


def wire(picture: Scene | Timeline) -> tuple[dict[str, Any], bytes]:
    """A scene or timeline as JSON, and the positions of its swarms as bytes.

    Each swarm of each frame where it moved is `{"key", "at"}`: from byte `at` on, x and y of all
    members as uint16 between -`SWARM_REACH` and 1 + `SWARM_REACH` of the scene's size, then one
    byte of shade per member.
    """
    if isinstance(picture, Scene):
        picture = Timeline(frames=(Frame(scene=picture),))
    data = bytearray()
    frames: list[dict[str, Any]] = []
    before: dict[str, dict[str, Any]] = {}
    marks: dict[str, Mark] = {}  # of the frame before: what two frames share is wired once
    swarms: dict[str, Swarm] = {}
    for frame in picture.frames:
        now: dict[str, dict[str, Any]] = {}
        changed: list[dict[str, Any]] = []
        moved: list[dict[str, Any]] = []
        for mark in frame.scene.marks:
            past = marks.get(key := mark.key)
            if past is mark:
                now[key] = before[key]
                continue
            same_kind = type(past) is type(mark)
            written = mark.wire_after(past, before[key]) if same_kind else mark.wire()
            now[key] = written
            if past is None or (before[key] is not written and before[key] != written):
                changed.append(written)
            if isinstance(mark, Swarm) and not _same_swarm(swarms.get(key), mark):
                moved.append({"key": key, "at": len(data)})
                data += _swarm_bytes(mark, frame.scene)
                swarms[key] = mark
        marks = {mark.key: mark for mark in frame.scene.marks}
        sent: dict[str, Any] = {
            "label": frame.label,
            "stage": frame.stage,
            "sentence": frame.sentence,
            "marks": changed,
            "gone": [key for key in before if key not in now],
            "swarms": moved,
        }
        if frame.readouts:
            sent["readouts"] = [dataclasses.astuple(readout) for readout in frame.readouts]
        if frame.figures:
            sent["figures"] = {name: plain(figure) for name, figure in frame.figures.items()}
        if frame.arithmetic:
            sent["arithmetic"] = {link: vars(line) for link, line in frame.arithmetic.items()}
        frames.append(sent)
        before = now
    first = picture.frames[0].scene
    return {
        "width": first.width,
        "height": first.height,
        "axis": picture.axis,
        "start": picture.start % len(frames),
        "pace": picture.pace_ms,
        "frames": frames,
    }, bytes(data)


def _same_swarm(one: Swarm | None, other: Swarm) -> bool:
    return one is other or (
        one is not None
        and (
            np.array_equal(one.xs, other.xs)
            and np.array_equal(one.ys, other.ys)
            and np.array_equal(one.shades, other.shades)
        )
    )


def _swarm_bytes(swarm: Swarm, scene: Scene) -> bytes:
    parts = []
    for positions, size in ((swarm.xs, scene.width), (swarm.ys, scene.height)):
        share = (np.asarray(positions, dtype=np.float64) / size + SWARM_REACH) / (
            1 + 2 * SWARM_REACH
        )
        parts.append(np.rint(share.clip(0, 1) * 65535).astype("<u2").tobytes())
    shades = np.zeros(len(swarm.xs)) if swarm.shades is None else swarm.shades
    parts.append(np.asarray(shades, dtype=np.uint8).tobytes())
    whole = b"".join(parts)
    return whole + b"\0" * (len(whole) % 2)  # the next swarm begins at an even byte


def _fields(kind: type[Mark]) -> tuple[tuple[str, ...], Callable[[Mark], tuple], tuple]:
    """Of a kind of marks: names, what reads their values, and their defaults."""
    if kind not in _FIELDS:
        names = tuple(item.name for item in dataclasses.fields(kind))
        defaults = tuple(item.default for item in dataclasses.fields(kind))
        _FIELDS[kind] = names, operator.attrgetter(*names), defaults
    return _FIELDS[kind]


_FIELDS: dict[type[Mark], tuple[tuple[str, ...], Callable[[Mark], tuple], tuple]] = {}


def _written(
    wire: dict[str, Any], names: tuple[str, ...], values: tuple, past: tuple, defaults: tuple
) -> dict[str, Any]:
    """`wire` with what differs from the past."""
    for name, value, old, default in zip(names, values, past, defaults, strict=True):
        if value is old or value == old:
            continue
        if value is default or value == default:
            wire.pop(name, None)
        else:
            wire[name] = value if type(value) in _AS_IT_IS else _short(value)
    return wire


_AS_IT_IS = (str, int, bool)


def _short(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        cents = value * 100 + 0.5
        whole = -1e12 < cents < 1e12  # round() is slow, and there are thousands of numbers
        return math.floor(cents) / 100 if whole else round(float(value), 2)
    if isinstance(value, np.integer):
        return int(value)
    return vars(value) if isinstance(value, Drag) else value


_DTYPES = {"int64": "i4", "uint64": "u4", "float16": "f4"}


def plain(part: Any) -> Any:
    """A figure as JSON: arrays are packed as plotly.js reads them, NaN in lists becomes null."""
    if isinstance(part, Mapping):
        return {name: plain(value) for name, value in part.items() if value is not None}
    if isinstance(part, list | tuple):
        return [plain(value) for value in part]
    if isinstance(part, np.ndarray):
        if part.dtype.kind not in "iuf":
            return plain(part.tolist())
        array = np.ascontiguousarray(part, dtype=_DTYPES.get(part.dtype.name))
        packed = {
            "dtype": array.dtype.str[1:],
            "bdata": base64.b64encode(array.tobytes()).decode(),
        }
        return packed | ({"shape": ",".join(map(str, array.shape))} if array.ndim > 1 else {})
    if isinstance(part, np.generic):
        part = part.item()
    return None if isinstance(part, float) and part != part else part
