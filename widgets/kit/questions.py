"""Check-yourself blocks: a question, choices, and feedback computed by the method itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from . import answers
from .assets import CSS, QUESTION_JS


class CheckYourself(anywidget.AnyWidget):
    """One question on a new setting; the answer is computed, not written down.

    Args:
        name: stable identifier under which the reader's choice is kept.
        question: what is asked.
        choices: the answers offered.
        answer: returns `(index of the right choice, explanation)`; it calls the compute
            functions of the lesson, and runs only once the reader has chosen.
    """

    _esm = QUESTION_JS
    _css = CSS

    spec = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    feedback = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        *,
        name: str,
        question: str,
        choices: Sequence[str],
        answer: Callable[[], tuple[int, str]],
    ) -> None:
        self.name, self._answer = name, answer
        self._choices = tuple(choices)
        super().__init__(spec={"name": name, "question": question, "choices": list(choices)})
        self.on_msg(self._on_message)
        kept = answers.recall(f"{name}/check")
        if kept in self._choices:
            self.chosen = self._choices.index(kept)

    def choose(self, index: int) -> dict[str, Any]:
        """Answer from code; returns the feedback that the page shows."""
        if not 0 <= index < len(self._choices):
            raise ValueError(
                f"choice {index} does not exist: there are {len(self._choices)}, counted from 0."
            )
        try:
            right, explanation = self._answer()
            verdict = "right" if index == right else "wrong"
        except Exception as error:  # shown on the page: an event handler has no caller
            right, explanation, verdict = -1, f"The answer could not be computed: {error}", "error"
        answers.remember(f"{self.name}/check", self._choices[index])
        self.chosen = index
        self.feedback = {"verdict": verdict, "right": right, "text": explanation}
        return dict(self.feedback)

    def _on_message(self, _widget: Any, content: Mapping[str, Any], _buffers: Any) -> None:
        if content.get("type") == "choose":
            self.choose(int(content["index"]))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        listed = "".join(f"\n  ( ) {choice}" for choice in self._choices)
        return {
            "text/plain": f"{self.spec['question']}{listed}",
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.model_id,
            },
        }
