"""Check-yourself blocks: a question, choices, and feedback computed by the method itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from . import answers, showing
from .assets import CSS, QUESTION_JS
from .controls import Answer
from .latest import LatestWins, Stale


class CheckYourself(anywidget.AnyWidget):
    """One question on a new setting; the answer is computed, not written down.

    Args:
        name: stable identifier under which the reader's choice is kept.
        question: what is asked.
        choices: the answers offered.
        answer: returns `(index of the right choice, explanation)`; it calls the compute
            functions of the lesson, and runs on a worker once the reader has chosen.
    """

    _esm = QUESTION_JS
    _css = CSS

    spec = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    feedback = traitlets.Dict().tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    heard = traitlets.Int(0).tag(sync=True)
    _worker: LatestWins | None = None

    def __init__(self, *, name: str, question: str, choices: Sequence[str], answer: Answer) -> None:
        self.name, self._answer = name, answer
        self._choices = tuple(choices)
        self._worker = LatestWins(self._computed, self._tell, self._tell_error)
        super().__init__(spec={"name": name, "question": question, "choices": list(choices)})
        self.on_msg(self._on_message)
        self.observe(self._on_asked, "asked")
        kept = answers.recall(f"{name}/check")
        if kept in self._choices:
            self.chosen = self._choices.index(kept)
        showing.made_in_this_cell(self)

    def choose(self, index: int, *, timeout: int | float = 60) -> dict[str, Any]:
        """Answer from code; returns the feedback that the page shows.

        Raises:
            ValueError: there is no choice of that number.
            TimeoutError: the answer was not computed in `timeout` seconds.
        """
        self._choose(index)
        if not self.wait(timeout):
            raise TimeoutError(f"the answer took more than {timeout} s: ask for it again.")
        return dict(self.feedback)

    def wait(self, timeout: int | float = 60) -> bool:
        """Wait for the feedback; False after `timeout` seconds."""
        return self._worker.wait(timeout)

    def close(self) -> None:
        """Stop the worker and remove the widget from the page."""
        if self._worker is not None:
            self._worker.close()
        super().close()

    def outputs(self) -> list[dict[str, Any]]:
        """What a cell that shows the question displays, as mime bundles (showing.py)."""
        listed = "".join(f"\n  ( ) {choice}" for choice in self._choices)
        asked = f"{self.spec['question']}{listed}"
        return showing.outputs(asked, None, self.model_id, note="Run this cell to answer it.")

    def _ipython_display_(self, **_: Any) -> None:
        showing.show(self.outputs())

    def _choose(self, index: int) -> None:
        if not 0 <= index < len(self._choices):
            raise ValueError(
                f"choice {index} does not exist: there are {len(self._choices)}, counted from 0."
            )
        answers.remember(f"{self.name}/check", self._choices[index])
        self.chosen, self.feedback = index, {"verdict": "computing"}
        self._worker.submit(index)

    def _on_asked(self, change: Mapping[str, Any]) -> None:
        self.heard = change["new"]

    def _on_message(self, _widget: Any, content: Mapping[str, Any], _buffers: Any) -> None:
        if content.get("type") == "choose":
            self._choose(int(content["index"]))

    def _computed(self, _index: int, _stale: Stale) -> tuple[int, str]:
        return self._answer()

    def _tell(self, index: int, outcome: tuple[int, str], stale: Stale) -> None:
        if stale():
            return
        right, explanation = outcome
        verdict = "right" if index == right else "wrong"
        self.feedback = {"verdict": verdict, "right": right, "text": explanation}

    def _tell_error(self, _index: int, error: Exception, _stale: Stale) -> None:
        text = f"The answer could not be computed: {error}"
        self.feedback = {"verdict": "error", "right": -1, "text": text}
