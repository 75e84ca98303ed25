"""The explorer widget: controls, linked plots, status line, summary, values and code.

One widget per explorer: all that a result changes reaches the browser in one message, so
plots, readouts and status never disagree. Every explorer on a page draws with one
plotly.js (runtime.py). The widget is whole before any browser sees it: the first result
is computed on construction, and tests drive `set`, `wait` and `result` without a kernel.
"""

import base64
import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import anywidget
import traitlets

from intuitive.common.runtime import Cancelled

from . import answers
from .assets import CSS, EXPLORER_JS
from .controls import (
    Action,
    Control,
    ControlError,
    Declaration,
    Hero,
    Plot,
    Predict,
    Step,
    Tokens,
)
from .latest import LatestWins, Stale
from .runtime import shared_runtime
from .scene import plain
from .view import View

ANNOUNCE_AFTER = 0.15  # seconds of silence before "computing…" appears
PROGRESS_EVERY = 0.1  # seconds between two progress messages
CANCELLED = "Cancelled. The picture shows the previous setting."
KEPT_RESULTS = 32  # results kept for settings a reader comes back to

Progress = Callable[[float, str], None]


class Explorer(anywidget.AnyWidget):
    """Sliders over a compute function.

    Args:
        name: stable identifier; names the static frame and the stored prediction.
        title: heading on the page.
        params: builds the params from control values; raises ValueError for bad ones.
        compute: `compute(params, *, stale, progress) -> result`; the function that the
            lesson and the tests call as well.
        present: `present(result) -> View`; plain data, no widgets.
        controls, plots, tokens, predict: what stands on the page (controls.py).
        defaults: first values by control name; must name every control.
    """

    _esm = EXPLORER_JS
    _css = CSS

    spec = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    bounds = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)
    info = traitlets.Dict().tag(sync=True)
    token_texts = traitlets.List().tag(sync=True)
    token_marks = traitlets.Bytes().tag(sync=True)
    token_focus = traitlets.Int(0).tag(sync=True)
    tab = traitlets.Unicode("").tag(sync=True)
    prediction = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    runtime = traitlets.Unicode().tag(sync=True)
    _worker: LatestWins | None = None

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
        self._kept: OrderedDict[Any, tuple[Any, View]] = OrderedDict()
        self._applied: dict[str, Any] = {}
        self._settling = False  # True while compute's own corrections reach the controls
        self._after_cancel = False
        self._count = 0
        self.result: Any = None
        self.view: View | None = None
        self._worker = LatestWins(self._run, self._apply, self._fail)
        self.add_traits(
            **{f"figure_{plot.name}": traitlets.Dict().tag(sync=True) for plot in plots}
        )
        super().__init__(
            spec=self.declaration.spec(),
            values=dict(self.defaults),
            tab=next(iter(self.declaration.tabs), ""),
            runtime=shared_runtime().model_id,
            prediction=answers.recall(self._prediction_key) if predict else "",
        )
        self.observe(self._on_values, "values")
        self.on_msg(self._on_message)
        self._first_picture()

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

    def wait(self, timeout: int | float = 30) -> bool:
        """Wait until the picture agrees with the controls; False after `timeout` seconds."""
        return self._worker.wait(timeout)

    def cancel(self) -> None:
        """Give up the running computation; controls go back to what the picture shows."""
        with self._lock:
            if self.status.get("state") != "computing":
                return
            self._worker.cancel()
            self._say("cancelled", CANCELLED)
            self._after_cancel = True
            self.values = dict(self._applied or self.defaults)

    def predict(self, choice: str | None) -> None:
        """Store a prediction, or skip with None; either unlocks the controls."""
        predict = self.declaration.predict
        if predict is None:
            return
        if choice is not None and choice not in predict.choices:
            listed = "; ".join(predict.choices)
            raise ControlError(f"the prediction is one of: {listed}; got {choice!r}.")
        answers.remember(self._prediction_key, choice or "")
        with self._lock:
            self.prediction = choice or ""

    def close(self) -> None:
        """Stop the worker and remove the widget from the page."""
        if self._worker is not None:  # None when construction failed
            self._worker.close()
        super().close()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {
            "text/plain": f"{self.declaration.title}: {self.summary}",
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.model_id,
            },
        }
        frame = resources.files("intuitive.widgets").joinpath("frames", f"{self.name}.png")
        if dict(self.values) == self.defaults and frame.is_file():
            bundle["image/png"] = base64.b64encode(frame.read_bytes()).decode()
        return bundle

    # From the browser. Events come on the main thread or on a subshell thread.

    def set_state(self, sync_data: dict[str, Any]) -> None:
        with self._lock:
            super().set_state(sync_data)

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
            self._worker.cancel()
            self._say("error", _sentence(error), values)
            return
        self._worker.submit((values, params))

    def _on_message(self, _widget: Any, content: Mapping[str, Any], _buffers: Any) -> None:
        try:
            match content.get("type"):
                case "cancel":
                    self.cancel()
                case "predict":
                    self.predict(content.get("choice"))
                case "forget":
                    answers.remember(self._prediction_key, None)
                    with self._lock:
                        self.prediction = None
                case "click":
                    plot = next(p for p in self.declaration.plots if p.name == content["plot"])
                    if plot.on_click is not None:
                        self.set(**plot.on_click(content["event"]))
        except Exception as error:  # an event handler has nobody to raise to
            self._say("error", _sentence(error))

    # On the worker.

    def _first_picture(self) -> None:
        request = (dict(self.values), None)
        try:
            request = (request[0], self._make_params(**self.defaults))
            self._apply(request, self._run(request, lambda: False))
        except Exception as error:
            self._fail(request, error)

    def _run(self, request: tuple[dict, Any], stale: Stale) -> tuple[Any, View, float]:
        values, params = request
        start = time.perf_counter()
        if params in self._kept:
            self._kept.move_to_end(params)
            result, view = self._kept[params]
            return result, view, time.perf_counter() - start

        said = 0.0

        def progress(fraction: float, sentence: str) -> None:
            nonlocal said
            if time.perf_counter() - said >= PROGRESS_EVERY and not stale():
                said = time.perf_counter()
                announce.cancel()
                self._say("computing", sentence, values, fraction=min(max(fraction, 0.0), 1.0))

        def speak() -> None:
            if not stale() and not finished.is_set():
                self._say("computing", "Computing…", values)

        finished = threading.Event()
        announce = threading.Timer(ANNOUNCE_AFTER, speak)
        announce.daemon = True
        announce.start()
        try:
            result = self._compute(params, stale=stale, progress=progress)
            if stale():
                raise Cancelled
            view = self._present(result)
        finally:
            finished.set()
            announce.cancel()
        self._kept[params] = (result, view)
        while len(self._kept) > KEPT_RESULTS:
            self._kept.popitem(last=False)
        return result, view, time.perf_counter() - start

    def _apply(self, request: tuple[dict, Any], outcome: tuple[Any, View, float]) -> None:
        values, _ = request
        result, view, seconds = outcome
        missing = {plot.name for plot in self.declaration.plots} - set(view.figures)
        if missing:
            raise ValueError(f"{self.name}: present() returned no figure for {sorted(missing)}.")
        figures = {
            plot.name: plain(view.figure(plot.name))
            for plot in self.declaration.plots
            if plot.tab in ("", self.tab)
        }
        with self._lock, self.hold_sync():
            self.result, self.view = result, view
            for name, figure in figures.items():
                setattr(self, f"figure_{name}", figure)
            self.info = {
                "summary": view.summary,
                "readouts": [dataclasses.astuple(readout) for readout in view.readouts],
                "table": dataclasses.asdict(view.table) if view.table else None,
                "code": view.code,
            }
            if view.tokens is not None:
                self.token_texts = list(view.tokens.texts)
                self.token_marks = view.tokens.marks
                self.token_focus = view.tokens.focus
            self.bounds = {name: list(bound) for name, bound in view.bounds.items()}
            settled = {**values, **view.values}
            self._applied = settled
            if self.values == values:
                self._settling = True
                self.values = settled
                self._settling = False
            text = f"Done in {_duration(seconds)}."
            if self._after_cancel:
                text, self._after_cancel = CANCELLED, False
            self._say("done", text, settled)

    def _fail(self, request: tuple[dict, Any], error: Exception) -> None:
        self._say("error", _sentence(error), request[0])

    def _say(
        self,
        state: str,
        text: str,
        values: Mapping[str, Any] | None = None,
        *,
        fraction: float | None = None,
    ) -> None:
        with self._lock:
            self._count += 1
            self.status = {
                "state": state,
                "text": text,
                "values": dict(self.values if values is None else values),
                "fraction": fraction,
                "count": self._count,
            }

    @property
    def _prediction_key(self) -> str:
        return f"{self.declaration.name}/prediction"

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the buttons."""
        return tuple(c.name for c in self.declaration.controls if isinstance(c, Action))


def _sentence(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, (ValueError, FileNotFoundError)):
        return text
    return f"{type(error).__name__}: {text}"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
