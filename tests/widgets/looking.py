"""What every picture of every explorer has to be: whole, drawable, well written."""

import re

import plotly.graph_objects as go

from intuitive.widgets.kit import Explorer

WAIT_S = 120
# A hyphen in the place of a minus, a zero below zero, powers of ten and parameters as programs
# write them.
BADLY_WRITTEN = re.compile(r"(?<![\w.)])-\d|[-−]0(\.0+)?(?![\d.,])|\d[eE][+-]?\d\d|\bnan\b|\binf\b")


def look_at(explorer: Explorer, after: str) -> None:
    """The picture is whole, drawable and well written; or a sentence refuses the setting."""
    assert explorer.wait(WAIT_S), f"{after}: still computing"
    state, text = explorer.status["state"], explorer.status["text"]
    if state == "error":
        assert not re.match(r"\w+(Error|Exception): ", text), f"{after}: {text}"
        assert len(text) > 20, f"{after}: {text!r} is no sentence"
        for name in explorer.declaration.by_name:
            assert "_" not in name or not re.search(rf"\b{name}\b", text), f"{after}: {text}"
        return
    assert state == "done", f"{after}: {state}"
    view = explorer.view
    for plot in explorer.declaration.plots:
        figure = go.Figure(view.figure(plot.name))  # plotly refuses what it does not know
        assert figure.data or figure.layout.annotations, f"{after}: {plot.name} is empty"
    written = [view.summary, *(f"{part.label} {part.value}" for part in view.readouts)]
    written += [cell for row in (view.table.cells() if view.table else ()) for cell in row]
    bad = [text for text in written if BADLY_WRITTEN.search(text)]
    assert not bad, f"{after}: {bad[:3]}"
    assert view.summary.endswith((".", "!", "?", "”")), f"{after}: {view.summary!r}"
