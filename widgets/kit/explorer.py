"""The explorer widget: controls, a hero, plots, status line, steps, values and code.

One widget per explorer: all that a result changes reaches the browser in one message, so
picture, readouts and status never disagree. Every explorer on a page draws with one
plotly.js and one d3 (runtime.py). The widget is whole before any browser sees it: the first
result is computed on construction, and tests drive `set`, `wait` and `result` without a kernel.
"""

import dataclasses
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import msgspec
import traitlets
from cachetools import LRUCache

from intuitive.common.own_text import own_text
from intuitive.common.runtime import Cancelled

from . import answers, collector, scene, showing
from .assets import CSS, EXPLORER_JS
from .controls import (
    Action,
    Choice,
    Control,
    ControlError,
    Declaration,
    Hero,
    Plot,
    Predict,
    Step,
    Text,
    Tokens,
)
from .latest import LatestWins, Stale
from .runtime import shared_runtime
from .view import Rows, View

ANNOUNCE_AFTER = 0.15  # seconds of silence before "computing…" appears
PROGRESS_EVERY = 0.1  # seconds between two progress messages
NOTICED = 0.1  # seconds from which the page says how long it took
STREAM_EVERY = 0.4  # seconds between two pictures of a result that is still growing
CANCELLED = "Cancelled. The picture shows the previous setting."
KEPT_RESULTS = 32  # results kept for settings a reader comes back to

Progress = Callable[[float, str], None]


@dataclasses.dataclass
class Kept:
    """A result, its view, and what of the view is already in the form that the page reads."""

    result: Any
    view: View
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    picture: tuple[bytes, bytes] | None = None
    cells: Rows | None = None  # of its table


class Explorer(anywidget.AnyWidget):
    """Sliders over a compute function.

    Args:
        name: stable identifier; names the poster and the stored prediction.
        title: heading on the page.
        params: builds the params from control values; raises ValueError for bad ones.
        compute: `compute(params, *, stale, progress) -> result`; the function that the
            lesson and the tests call as well.
        present: `present(result) -> View`; plain data, no widgets.
        controls, hero, plots, steps, tokens, predict: what stands on the page (controls.py).
        defaults: first values by control name; must name every control. Reset brings them back.
        poster: control values of the picture that stands there before the cell runs, where the
            defaults would give an answer away.
    """

    _esm = EXPLORER_JS
    _css = CSS

    spec = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True, echo_update=False)
    bounds = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)
    info = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)  # the hero, as scene.wire makes it, in JSON
    swarm = traitlets.Bytes().tag(sync=True)  # positions of its swarms
    tab = traitlets.Unicode("").tag(sync=True, echo_update=False)
    unfolded = traitlets.Bool(False).tag(sync=True, echo_update=False)  # the table of values
    token_texts = traitlets.List().tag(sync=True)
    token_marks = traitlets.Bytes().tag(sync=True)
    token_focus = traitlets.Int(0).tag(sync=True)
    prediction = traitlets.Unicode(None, allow_none=True).tag(sync=True, echo_update=False)
    verdict = traitlets.Dict().tag(sync=True)
    # Number of the page's latest question, …
    asked = traitlets.Int(0).tag(sync=True, echo_update=False)
    heard = traitlets.Int(0).tag(sync=True)  # … and of the latest that Python took
    runtime = traitlets.Unicode().tag(sync=True)
    _worker: LatestWins | None = None
    _judge: LatestWins | None = None
    _opener: LatestWins | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "Explorer":
        collector.set_aside()  # before there is an explorer
        return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        *,
        name: str,
        title: str,
        params: Callable[..., Any],
        compute: Callable[..., Any],
        present: Callable[[Any], View],
        controls: Sequence[Control],
        plots: Sequence[Plot] = (),
        defaults: Mapping[str, Any],
        hero: Hero | None = None,
        steps: Sequence[Step] = (),
        tokens: Tokens | None = None,
        predict: Predict | None = None,
        poster: Mapping[str, Any] | None = None,
    ) -> None:
        self.declaration = Declaration(
            name=name,
            title=title,
            controls=tuple(controls),
            plots=tuple(plots),
            tokens=tokens,
            predict=predict,
            hero=hero,
            steps=tuple(steps),
            poster=dict(poster or {}),
        )
        missing = sorted(set(self.declaration.by_name) - set(defaults))
        if missing:
            raise ValueError(f"{name}: no default for {missing}; give every control one.")
        self.defaults = self.declaration.check(defaults)
        self._make_params, self._compute, self._present = params, compute, present
        self._lock = threading.RLock()
        self._kept: LRUCache[Any, Kept] = LRUCache(KEPT_RESULTS)  # of the worker alone
        self._shown: Kept | None = None  # whose picture the page has
        self._applied: dict[str, Any] = {}
        self._settling = False  # True while compute's own corrections reach the controls
        self._after_cancel = False
        self._note = ""  # goes before the next picture's "Done"
        self._count = 0
        self.result: Any = None
        self.view: View | None = None
        self._worker = LatestWins(self._run, self._apply, self._fail, after=collector.release)
        self._judge = LatestWins(self._judged, self._give_verdict, self._no_verdict)
        self._opener = LatestWins(self._opened, self._show_opened, self._fail_opened)
        self.add_traits(
            **{f"figure_{plot.name}": traitlets.Dict().tag(sync=True) for plot in plots}
        )
        super().__init__(
            spec=self.declaration.spec() | {"defaults": self.defaults},
            values=dict(self.defaults),
            tab=next(iter(self.declaration.tabs), ""),
            runtime=shared_runtime().model_id,
            prediction=self._recalled() if predict else "",
        )
        self.observe(self._on_values, "values")
        self.observe(self._on_opening, ["tab", "unfolded"])
        self.on_msg(self._on_message)
        self._first_picture()
        self._start_on_own_text()
        showing.made_in_this_cell(self)

    # What readers and tests call.

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def params(self) -> Any:
        """The params of the current control values."""
        return self._make_params(**self.declaration.check(self.values))

    @property
    def summary(self) -> str:
        """One stable sentence about the picture, or about why there is none."""
        return self.view.summary if self.view else self.status.get("text", "")

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the buttons."""
        return tuple(c.name for c in self.declaration.controls if isinstance(c, Action))

    def set(self, **values: Any) -> "Explorer":
        """Move controls from code: `explorer.set(layer=3, n_selected=8)`.

        An option that sets other controls does so here too, save those given beside it.

        Raises:
            ControlError: a name or value that no control takes.
        """
        checked = self.declaration.check(self.declaration.with_presets(values))
        with self._lock:
            self.values = {**self.values, **checked}
        return self

    def reset(self) -> "Explorer":
        """Back to the state in which the lesson speaks."""
        return self.set(**self.defaults)

    def take(self, step: int) -> "Explorer":
        """Set the state of one of the steps, counted from 0, as its button does."""
        declared = self.declaration
        return self.set(**(self.defaults | declared.with_presets(declared.steps[step].sets)))

    def show_tab(self, tab: str) -> "Explorer":
        """Open a tab.

        Raises:
            ControlError: there is no tab of that name.
        """
        if tab not in self.declaration.tabs:
            listed = ", ".join(self.declaration.tabs) or "none"
            raise ControlError(f"no tab is named {tab!r}; there are {listed}.")
        self.tab = tab
        return self

    def wait(self, timeout: int | float = 30) -> bool:
        """Wait until the picture agrees with the controls; False after `timeout` seconds."""
        ends = time.monotonic() + timeout
        workers = (self._worker, self._judge, self._opener)
        return all(worker.wait(max(ends - time.monotonic(), 0)) for worker in workers)

    def cancel(self) -> None:
        """Give up the running computation; controls go back to what the picture shows."""
        with self._lock:
            if self.status.get("state") != "computing":
                return
            self._worker.cancel()
            self._say("cancelled", CANCELLED)
            self._after_cancel = True
            self.values = dict(self._applied or self.defaults)

    def predict(self, choice: str | None) -> "Explorer":
        """Store a prediction, or skip with None; either unlocks the controls.

        The verdict, `explorer.verdict`, is computed on a worker: `wait()` for it.
        """
        predict = self.declaration.predict
        if predict is None:
            return self
        if choice is not None and choice not in predict.choices:
            listed = "; ".join(predict.choices)
            raise ControlError(f"the prediction is one of: {listed}; got {choice!r}.")
        answers.remember(self._prediction_key, choice or "")
        with self._lock:
            self.prediction = choice or ""
        self._ask_for_verdict()
        return self

    def close(self) -> None:
        """Stop the workers, remove the widget from the page, and free what it holds."""
        for worker in (self._worker, self._judge, self._opener):
            if worker is not None:  # None when construction failed
                worker.close()
        self.unobserve_all()
        super().close()
        self._kept = LRUCache(1)
        self.result = self.view = self._shown = None

    def outputs(self) -> list[dict[str, Any]]:
        """What a cell that shows the explorer displays, as mime bundles (showing.py)."""
        page = f"explorers/{self.name}.html"
        return showing.outputs(self._words(), self._poster(), self.model_id, page=page)

    def _ipython_display_(self, **_: Any) -> None:
        showing.show(self.outputs())

    def _words(self) -> str:
        predict = self.declaration.predict
        asks = predict is not None and self.prediction is None and self._poster() is None
        title = self.declaration.title
        colon = "" if title.endswith("?") else ":"
        return f"{title}{colon} {predict.question if asks else self.summary}"

    def _poster(self) -> Path | None:
        from .. import catalogue

        poster = catalogue.poster(self.name)
        at_home = dict(self.values) == self.defaults
        return poster if at_home and poster.is_file() else None

    # From the browser. Events come on the main thread or on a subshell thread.

    def set_state(self, sync_data: dict[str, Any]) -> None:
        with self._lock:
            idle, before = self._worker.wait(0), self._worker.requests
            super().set_state(sync_data)
            begun = idle and self._worker.requests > before
            if not begun:  # what has begun tells soon: with its picture, or that it computes
                self.heard = self.asked

    def _on_opening(self, _change: Mapping[str, Any]) -> None:
        self._opener.submit(self._shown)

    def _on_values(self, change: Mapping[str, Any]) -> None:
        values = dict(change["new"])
        if self._settling:
            return
        try:
            checked = self.declaration.check(values)
            if set(checked) != set(self.defaults):
                missing = sorted(set(self.defaults) - set(checked))
                raise ControlError(f"values for {missing} are missing; send every control's value.")
            params = self._make_params(**checked)
        except (ValueError, TypeError) as error:
            with self._lock:
                self._worker.cancel()
                self._say("error", self._sentence(error), values)
            return
        self._worker.submit((values, params))

    def _on_message(self, _widget: Any, content: Mapping[str, Any], _buffers: Any) -> None:
        try:
            match content.get("type"):
                case "cancel":
                    self.cancel()
                case "predict":
                    self.predict(content.get("choice"))
                case "verdict":
                    if not self.verdict and self.prediction is not None:
                        self._ask_for_verdict()
                case "forget":
                    answers.remember(self._prediction_key, None)
                    with self._lock:
                        self.prediction, self.verdict = None, {}
                case "click":
                    plot = next(p for p in self.declaration.plots if p.name == content["plot"])
                    if plot.on_click is not None:
                        self.set(**plot.on_click(content["event"]))
        except Exception as error:  # an event handler has nobody to raise to
            self._say("error", self._sentence(error))

    # On the worker.

    def _first_picture(self) -> None:
        request = (dict(self.values), None)
        try:
            request = (request[0], self._make_params(**self.defaults))
            self._apply(request, self._run(request, _wanted), _wanted)
        except Exception as error:
            self._fail(request, error, _wanted)
        finally:
            collector.release()

    def _start_on_own_text(self) -> None:
        """Go on to the document that the reader started the lesson with, where there is one."""
        for place, control in enumerate(self.declaration.controls):
            if not isinstance(control, Text) or self.defaults[control.name]:
                continue
            try:
                own = own_text(control.opens)
            except ValueError as error:
                self._say("error", self._sentence(error))
                continue
            if own is not None:
                self._note = " ".join(filter(None, (f"From {own.name}.", own.told)))
                spec = self.declaration.spec() | {"defaults": self.defaults}
                spec["controls"][place]["own"] = own.text  # stays in the box, to come back to
                self.spec = spec
                self.set(**{control.name: own.text})

    def _run(self, request: tuple[dict, Any], stale: Stale) -> tuple[Kept, float]:
        values, params = request
        start = time.perf_counter()
        kept = self._kept.get(params)
        if kept is None:
            kept = Kept(*self._computed(values, params, stale))
            self._kept[params] = kept
        self._prepare(kept)
        return kept, time.perf_counter() - start

    def _computed(self, values: dict, params: Any, stale: Stale) -> tuple[Any, View]:
        said, shown = time.perf_counter() + ANNOUNCE_AFTER - PROGRESS_EVERY, 0.0
        news: tuple[str, float | None] = ("Computing…", None)
        growing = False  # whether a part of this result stands on the page

        def say() -> None:
            text, fraction = news
            self._say("computing", text, values, fraction=fraction, growing=growing)

        def progress(fraction: float, sentence: str, so_far: Any = None) -> None:
            nonlocal said, shown, news, growing
            now = time.perf_counter()
            news = sentence, min(max(fraction, 0.0), 1.0)
            draws = so_far is not None and now - shown >= STREAM_EVERY
            if (draws or now - said >= PROGRESS_EVERY) and not stale():
                said = now
                announce.cancel()
                say()
            if draws and not stale():
                growing = True
                self._show_so_far(so_far, stale, say)
                shown = time.perf_counter()

        def speak() -> None:
            with self._lock:
                if not stale() and not finished.is_set():
                    say()

        finished = threading.Event()
        announce = threading.Timer(ANNOUNCE_AFTER, speak)
        announce.daemon = True
        announce.start()
        try:
            result = self._compute(params, stale=stale, progress=progress)
            if stale():
                raise Cancelled
            collector.hold()  # until the picture has left, or the request has ended without one
            return result, self._present(result)
        finally:
            finished.set()
            announce.cancel()

    def _prepare(self, kept: Kept) -> None:
        """Bring what is in sight into the form that the page reads, once."""
        view = kept.view
        missing = {plot.name for plot in self.declaration.plots} - set(view.figures)
        if missing:
            raise ValueError(f"{self.name}: present() returned no figure for {sorted(missing)}.")
        for name in view.idle:
            if not isinstance(self.declaration.by_name.get(name), Choice):
                raise ValueError(f"{self.name}: {name!r} cannot stand idle: it is no Choice.")
        for plot in self.declaration.plots:
            if plot.tab in ("", self.tab) and plot.name not in kept.figures:
                kept.figures[plot.name] = scene.plain(view.figure(plot.name))
        if kept.cells is None and view.table is not None and self.unfolded:
            kept.cells = view.table.cells()
        if kept.picture is None and self.declaration.hero is not None:
            drawn = view.timeline or view.scene
            if drawn is None:
                raise ValueError(f"{self.name}: present() returned no scene for its hero.")
            header, swarms = scene.wire(drawn)
            kept.picture = msgspec.json.encode(header, enc_hook=_number), swarms

    def _apply(self, request: tuple[dict, Any], outcome: tuple[Kept, float], stale: Stale) -> None:
        values, _ = request
        kept, seconds = outcome
        view = kept.view
        with self._lock, self.hold_sync():
            if stale():  # refused or cancelled while this was on its way
                return
            self._prepare(kept)  # a tab may have been opened meanwhile
            self._draw(kept)
            if view.tokens is not None:
                self.token_texts = list(view.tokens.texts)
                self.token_marks = view.tokens.marks
                self.token_focus = view.tokens.focus
            self.bounds = {name: list(bound) for name, bound in view.bounds.items()}
            settled = {**values, **view.values}
            self._applied = settled
            if self.values == values:
                self._settling = True
                try:
                    self.values = settled
                finally:
                    self._settling = False
            text = _done(seconds)
            if self._after_cancel:
                text, self._after_cancel = CANCELLED, False
            if self._note:
                text, self._note = f"{self._note} {text}", ""
            self._say("done", text, settled)

    def _show_so_far(self, result: Any, stale: Stale, say: Callable[[], None]) -> None:
        """The picture of a result that is still growing; the controls keep waiting."""
        collector.hold()
        try:
            kept = Kept(result, self._present(result))
            self._prepare(kept)
            with self._lock, self.hold_sync():
                if not stale():
                    self._prepare(kept)
                    self._draw(kept)
                    say()
        finally:
            collector.release()

    def _draw(self, kept: Kept) -> None:
        """Bring a result to the page; the caller holds the lock."""
        view = kept.view
        self.result, self.view, self._shown = kept.result, view, kept
        self._draw_figures(kept)
        if kept.picture is not None:
            self.picture, self.swarm = kept.picture
        self._draw_texts(kept)

    def _draw_texts(self, kept: Kept) -> None:
        view = kept.view
        rows = kept.cells if self.unfolded else None
        self.info = {
            "summary": view.summary,
            "told_last": view.timeline is not None and view.timeline.told_last,
            "readouts": [dataclasses.astuple(readout) for readout in view.readouts],
            "table": {"header": view.table.header, "rows": rows} if view.table else None,
            "code": view.code,
            "arithmetic": {link: vars(line) for link, line in view.arithmetic.items()},
            "related": {link: list(others) for link, others in view.related.items()},
            "idle": dict(view.idle),
        }

    def _draw_figures(self, kept: Kept) -> None:
        for plot in self.declaration.plots:
            if plot.name in kept.figures and plot.tab in ("", self.tab):
                setattr(self, f"figure_{plot.name}", kept.figures[plot.name])

    # A tab or fold that was opened, on a worker of its own: what else is computed goes on.

    def _opened(self, kept: Kept | None, _stale: Stale) -> Kept | None:
        if kept is not None:  # there is a picture
            self._prepare(kept)
        return kept

    def _show_opened(self, _kept: Kept | None, prepared: Kept | None, _stale: Stale) -> None:
        with self._lock, self.hold_sync():
            if prepared is not None and prepared is self._shown:
                self._draw_figures(prepared)
                self._draw_texts(prepared)

    def _fail_opened(self, _kept: Kept | None, error: Exception, _stale: Stale) -> None:
        self._say("error", self._sentence(error))

    def _fail(self, request: tuple[dict, Any], error: Exception, stale: Stale) -> None:
        with self._lock:
            if not stale():
                self._say("error", self._sentence(error), request[0])

    # The verdict on a prediction, on a worker of its own.

    def _ask_for_verdict(self) -> None:
        if self.declaration.predict.answer is None:
            return
        with self._lock:
            self.verdict = {"state": "computing"}
            self._judge.submit(self.prediction)

    def _judged(self, _prediction: str, _stale: Stale) -> tuple[int, str]:
        return self.declaration.predict.answer()

    def _give_verdict(self, prediction: str, outcome: tuple[int, str], stale: Stale) -> None:
        right, why = outcome
        choice = self.declaration.predict.choices[right]
        with self._lock:
            if stale() or self.prediction is None:
                return
            if not prediction:
                said = ""
            elif prediction == choice:
                said = f"You said “{prediction}”, and so it is. "
            else:
                said = f"You said “{prediction}”; it is “{choice}”. "
            state = "right" if prediction == choice else "wrong" if prediction else "told"
            self.verdict = {"state": state, "right": right, "text": said + why}

    def _no_verdict(self, _prediction: str, error: Exception, _stale: Stale) -> None:
        with self._lock:
            text = f"The answer could not be computed: {self._sentence(error)}"
            self.verdict = {"state": "error", "right": -1, "text": text}

    def _say(
        self,
        state: str,
        text: str,
        values: Mapping[str, Any] | None = None,
        *,
        fraction: float | None = None,
        growing: bool = False,
    ) -> None:
        with self._lock, self.hold_sync():
            self._count += 1
            self.heard = self.asked
            self.status = {
                "state": state,
                "text": text,
                "values": dict(self.values if values is None else values),
                "fraction": fraction,
                "growing": growing,
                "count": self._count,
            }

    def _sentence(self, error: BaseException) -> str:
        """What went wrong, in the words that stand on the page: labels in the place of names."""
        text = str(error).strip() or type(error).__name__
        if not isinstance(error, (ValueError, FileNotFoundError)):
            return f"{type(error).__name__}: {text}"
        for name, control in self.declaration.by_name.items():
            if isinstance(control, Choice):
                for option, told in control.options.items():
                    asked = rf"(?<![\w.]){name}=(['\"]?){re.escape(option)}\1(?!\w)"
                    text = re.sub(asked, f"{control.label} “{told}”", text)
            text = re.sub(rf"(?<![\w.]){name}=", f"{control.label} = ", text)
            if "_" in name:
                text = re.sub(rf"(?<![\w.]){name}(?![\w(])", control.label, text)
        return text

    def _recalled(self) -> str | None:
        """The prediction of another day, unless the question is asked otherwise now."""
        kept = answers.recall(self._prediction_key)
        return kept if kept in ("", *self.declaration.predict.choices) else None

    @property
    def _prediction_key(self) -> str:
        return f"{self.declaration.name}/prediction"


def _wanted() -> bool:
    return False


def _number(value: Any) -> Any:
    """A numpy scalar as a number of Python's own."""
    return value.item()


def _done(seconds: float) -> str:
    """What took a while says how long."""
    if seconds < NOTICED:
        return "Done."
    return f"Done in {seconds * 1e3:.0f} ms." if seconds < 1 else f"Done in {seconds:.1f} s."
