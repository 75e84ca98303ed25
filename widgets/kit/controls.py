"""Declarations of an explorer's controls, plots and questions.

A declaration is data: it says what stands on the page, checks values that arrive, and
never touches a widget. `name` is always the field of the params that the control sets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

Number = int | float


def _own(value: Any) -> Any:
    """A single value of numpy or torch as Python's own; everything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


class ControlError(ValueError):
    """A value that a control does not take; the message says what it takes."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """What every control has.

    Attributes:
        name: field of the params.
        label: short visible name.
        help: one sentence shown under the control, or empty.
        more: stands under "More controls" instead of being visible at once.
        heavy: moving it computes for longer than a picture takes to draw (it trains, sweeps, or
            runs a network anew), so that no target of speed holds for it.
    """

    kind: ClassVar[str]
    name: str
    label: str
    help: str = ""
    more: bool = False
    heavy: bool = False

    def spec(self) -> dict[str, Any]:
        """The declaration as JSON for the browser."""
        spec = {key: value for key, value in vars(self).items() if not callable(value)}
        return {"kind": self.kind} | spec

    def check(self, value: Any) -> Any:
        """Return `value` in the type the params expect, or raise `ControlError`."""
        return value

    def places(self, bounds: Sequence[Number] | None = None) -> list[Any]:
        """Every value that a reader can move it to, in order; none of a text or a button.

        Args:
            bounds: of a slider whose ends depend on the data.
        """
        return []


@dataclass(frozen=True, kw_only=True)
class Range(Control):
    """A slider over numbers, or over the listed `values` when the steps are uneven.

    Attributes:
        min, max, step: numbers; ignored when `values` is given.
        values: the admissible numbers in order (block sizes, logarithmic weights).
        texts: how each of `values` is read out; their `str` by default.
        unit: read out after the number.
        live: recompute while dragging; False waits for the release.
    """

    kind: ClassVar[str] = "range"
    min: Number = 0
    max: Number = 1
    step: Number = 1
    values: tuple[Number, ...] = ()
    texts: tuple[str, ...] = ()
    unit: str = ""
    live: bool = True

    def __post_init__(self) -> None:
        if self.values and self.texts and len(self.values) != len(self.texts):
            raise ValueError(
                f"{self.name}: {len(self.values)} values and {len(self.texts)} texts; "
                "give one text per value."
            )
        if not self.values and not (self.min <= self.max and self.step > 0):
            raise ValueError(
                f"{self.name}: min={self.min}, max={self.max}, step={self.step}; "
                "min may not exceed max and step must be positive."
            )

    def check(self, value: Any) -> Number:
        value = _own(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ControlError(f"{self.label} takes a number, got {value!r}.")
        if self.values:
            if value not in self.values:
                listed = ", ".join(map(str, self.values))
                raise ControlError(f"{self.label} is one of {listed}, got {value!r}.")
            return next(listed for listed in self.values if listed == value)
        if value != value or value in (float("inf"), float("-inf")):
            raise ControlError(f"{self.label} takes a finite number, got {value!r}.")
        whole = all(float(number).is_integer() for number in (self.min, self.step))
        return round(value) if whole else float(value)

    def places(self, bounds: Sequence[Number] | None = None) -> list[Number]:
        if self.values:
            return list(self.values)
        low, high = bounds or (self.min, self.max)
        steps = int((high - low) / self.step + 1e-9)
        return [self.check(round(low + i * self.step, 10)) for i in range(steps + 1)]


@dataclass(frozen=True, kw_only=True)
class Choice(Control):
    """A drop-down list.

    Attributes:
        options: the text shown for each value.
        sets: values of other controls that come with an option, for lists of presets.
    """

    kind: ClassVar[str] = "choice"
    options: Mapping[str, str]
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"options": list(self.options.items())}

    def check(self, value: Any) -> str:
        if value not in self.options:
            listed = ", ".join(self.options)
            raise ControlError(f"{self.label} is one of {listed}, got {value!r}.")
        return value

    def places(self, bounds: Sequence[str] | None = None) -> list[str]:
        return list(self.options if bounds is None else bounds)


@dataclass(frozen=True, kw_only=True)
class Toggle(Control):
    """A checkbox."""

    kind: ClassVar[str] = "toggle"

    def check(self, value: Any) -> bool:
        value = _own(value)
        if not isinstance(value, bool):
            raise ControlError(f"{self.label} is True or False, got {value!r}.")
        return value

    def places(self, bounds: Sequence[Number] | None = None) -> list[bool]:
        return [False, True]


@dataclass(frozen=True, kw_only=True)
class Text(Control):
    """A box for the reader's own text, pasted or read from a file of theirs.

    Attributes:
        button: what the button that hands the text over says.
        sets: values of other controls that come with it, such as the entry of a menu.
        max_bytes: largest file the browser will send.
        opens: the explorer starts on so many tokens of the document that the reader named
            (`intuitive lab --text`); 0 where it does not.
    """

    kind: ClassVar[str] = "text"
    button: str = "Use this text"
    sets: Mapping[str, Any] = field(default_factory=dict)
    max_bytes: int = 200_000
    opens: int = 0

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ControlError(f"{self.label} takes text, got {type(value).__name__}.")
        return value


@dataclass(frozen=True, kw_only=True)
class Action(Control):
    """A button; each press adds one to the params field of its name.

    Attributes:
        disabled: why it cannot be pressed here, or empty when it can.
    """

    kind: ClassVar[str] = "action"
    disabled: str = ""

    def check(self, value: Any) -> int:
        value = _own(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ControlError(f"{self.label} counts presses from 0, got {value!r}.")
        return value


@dataclass(frozen=True, kw_only=True)
class Handle:
    """A point of a plot that can be dragged; it moves sliders and stands where they stand.

    Attributes:
        x, y: where it stands: the name of a `Range`, which dragging then sets, or a fixed
            number on that axis. One of them names a control.
        axes: the plot's axes that x and y count on.
        label: a word or two written beside the point.
        colour: of the point.
    """

    x: str | Number
    y: str | Number
    axes: tuple[str, str] = ("x", "y")
    label: str = ""
    colour: str

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError(
                f"handle at x={self.x!r}, y={self.y!r} sets nothing: name a control on one axis."
            )

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the controls that dragging sets."""
        return tuple(place for place in (self.x, self.y) if isinstance(place, str))


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot of an explorer.

    Attributes:
        name: key in `View.figures`.
        label: what a screen reader says it is.
        caption: how to read it, one or two sentences below the plot.
        span: columns of twelve that it takes on a wide page.
        height: pixels.
        on_click: maps a click `{"curve", "x", "y", "point"}` to new control values.
        drag: points that the reader may drag; the figure fixes the ranges of their axes.
        tab: name of the tab it waits in; plots without one are always in sight. Of all tabs only
            the open one is built, sent and drawn: give `View.figures` a function for its plots.
    """

    name: str
    label: str
    caption: str = ""
    span: int = 12
    height: int = 280
    on_click: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    drag: tuple[Handle, ...] = ()
    tab: str = ""

    def spec(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "label": self.label,
            "caption": self.caption,
            "span": self.span,
            "height": self.height,
            "clickable": self.on_click is not None,
            "tab": self.tab,
            "drag": [{**vars(handle), "sets": handle.sets} for handle in self.drag],
        }


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A text with marked tokens; a click on a token sets the control `sets`.

    Attributes:
        label: heading above the text.
        classes: `(css class, legend)` of each mark; the class names that kit.css styles
            are "future", "skipped", "read", "local" and "here".
        sets: name of the control that takes the index of a clicked token, or empty.
        height: pixels; a longer text scrolls.
    """

    label: str
    classes: tuple[tuple[str, str], ...]
    sets: str = ""
    height: int = 240

    def spec(self) -> dict[str, Any]:
        return vars(self) | {"classes": list(self.classes)}


Answer = Callable[[], tuple[int, str]]  # (index of the right choice, a sentence of explanation)


@dataclass(frozen=True, kw_only=True)
class Predict:
    """A question answered before the explorer unlocks: stored, never graded, skippable.

    Attributes:
        question: what is asked.
        choices: the answers offered.
        answer: computes which choice is right and a sentence that says why, from the lesson's own
            functions; asked once the reader has chosen or skipped, on the explorer's worker.
        after: what the reader is told to do then, where there is no `answer`.
    """

    question: str
    choices: tuple[str, ...]
    answer: Answer | None = None
    after: str = "Now move the sliders and compare."

    def spec(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "choices": list(self.choices),
            "after": "" if self.answer else self.after,
        }


@dataclass(frozen=True, kw_only=True)
class Step:
    """One instruction inside the explorer; its title is a button that sets the state it speaks of.

    Attributes:
        title: two to four words.
        text: one or two short sentences: what to look at in that state.
        sets: control values of that state; controls that it does not name go to the defaults.
        frame: where the timeline stands then: "first", "last", "play" (from the first on), the
            label of a frame, or None to leave it where it is.
    """

    title: str
    text: str
    sets: Mapping[str, Any] = field(default_factory=dict)
    frame: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hero:
    """The one picture that shows the mechanism: a scene, or a timeline of scenes.

    Attributes:
        label: what a screen reader says it is.
        caption: how to read it, one sentence below the picture.
    """

    label: str
    caption: str = ""

    def spec(self) -> dict[str, Any]:
        return {"label": self.label, "caption": self.caption}


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """All that stands on an explorer's page."""

    name: str
    title: str
    controls: tuple[Control, ...]
    plots: tuple[Plot, ...]
    tokens: Tokens | None = None
    predict: Predict | None = None
    hero: Hero | None = None
    steps: tuple[Step, ...] = ()
    poster: Mapping[str, Any] = field(default_factory=dict)
    by_name: dict[str, Control] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = [control.name for control in self.controls]
        names += [plot.name for plot in self.plots]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.name}: the names {twice} are used twice; names are unique.")
        by_name = {control.name: control for control in self.controls}
        object.__setattr__(self, "by_name", by_name)
        for choice in (control for control in self.controls if isinstance(control, Choice)):
            for brought in choice.sets.values():
                self.check(brought)
        for text in (control for control in self.controls if isinstance(control, Text)):
            self.check(text.sets)
        for brought in (self.poster, *(step.sets for step in self.steps)):
            self.check(brought)
        for plot in self.plots:
            for name in (name for handle in plot.drag for name in handle.sets):
                if not isinstance(by_name.get(name), Range):
                    raise ValueError(
                        f"{self.name}: a handle of plot {plot.name!r} sets {name!r}, which is no "
                        "Range: every point that can be dragged has a slider of the same name."
                    )

    def spec(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "controls": [control.spec() for control in self.controls],
            "plots": [plot.spec() for plot in self.plots],
            "tokens": self.tokens.spec() if self.tokens else None,
            "predict": self.predict.spec() if self.predict else None,
            "hero": self.hero.spec() if self.hero else None,
            "poster": self.with_presets(self.poster),
            "tabs": list(self.tabs),
            "steps": [{**vars(step), "sets": self.with_presets(step.sets)} for step in self.steps],
        }

    @property
    def tabs(self) -> tuple[str, ...]:
        """Names of the tabs, in the order of their first plots."""
        return tuple(dict.fromkeys(plot.tab for plot in self.plots if plot.tab))

    def with_presets(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` and what their options bring along; what is given counts for more."""
        brought: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(self.by_name.get(name), Choice):
                brought |= self.by_name[name].sets.get(value, {})
        return brought | values

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check a set of control values; unknown names are refused."""
        unknown = sorted(set(values) - set(self.by_name))
        if unknown:
            known = ", ".join(self.by_name)
            raise ControlError(f"no control is named {', '.join(unknown)}; there are {known}.")
        return {name: self.by_name[name].check(value) for name, value in values.items()}
