"""The browser's side, read from `front/` once.

A widget's module cannot import its neighbours, so the files are joined: plain functions
first, the one with `export default` last.
"""

from importlib import resources

_FRONT = resources.files(__package__).joinpath("front")


def _join(*names: str) -> str:
    return "\n".join(_FRONT.joinpath(name).read_text(encoding="utf-8") for name in names)


EXPLORER_JS = _join(
    *("dom.js", "liveness.js", "bus.js", "arithmetic.js", "controls.js", "handles.js", "plot.js"),
    *("hero.js", "tokens.js", "waiting.js", "explorer.js"),
)
QUESTION_JS = _join("dom.js", "liveness.js", "question.js")
RUNTIME_JS = _join("runtime.js")
RECORDED_JS = _join("recorded.js")  # of pages without Python, beside the two widgets' modules
CSS = _join("kit.css", "hero.css")
