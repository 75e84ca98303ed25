"""How a widget of the kit stands in a notebook: picture first, live widget after it.

A cell shows three outputs. The first is the poster, or text where there is none: what a code host
shows, and what stays when the kernel is gone. The second is a line that says how to bring it to
life, and hides what JupyterLab writes where a widget's kernel is gone. The third is the widget,
whose style sheet hides the other two as long as it lives; where outputs are not JupyterLab's,
`hideAsleep` in front/liveness.js does. Colab shows a widget of another package's once it was asked
to: anywidget asks when a widget is made, so that no cell has to.

Running a cell again frees what its widgets held before: the page has replaced them.
"""

import base64
import functools
import html
import importlib.metadata
import threading
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from intuitive.common.distribution import DISTRIBUTION

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
RUN_THIS = "Run this cell to move it."
BOOK = "Book"  # the address's name in the package's metadata
IN_THE_BOOK = "move it in the book, without Python"
_STYLE = """<style>
.jp-OutputArea-child:has(.intuitive-asleep) + .jp-OutputArea-child:not(:has(.intuitive-alive))
{ display: none; }
</style>"""


@runtime_checkable
class Closable(Protocol):
    """A widget that can be freed."""

    def close(self) -> None: ...


@functools.cache
def book() -> str:
    """Address of the published book, with its last slash; empty as long as there is none.

    It stands in one place, as `Book` among the addresses of the project's own `pyproject.toml`.
    """
    try:
        told = importlib.metadata.metadata(DISTRIBUTION).get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:  # read from its sources
        told = []
    found = (
        address for name, _, address in (line.partition(", ") for line in told) if name == BOOK
    )
    address = next(found, "")
    return address and address.rstrip("/") + "/"


def outputs(
    text: str, poster: Path | None, model_id: str, *, note: str = RUN_THIS, page: str = ""
) -> list[dict[str, Any]]:
    """The mime bundles of a cell that shows a widget, in order.

    Args:
        text: what the widget shows, in a sentence that is the same in every run.
        poster: a PNG file, or None.
        model_id: the widget's.
        note: how to bring it to life.
        page: where in the book it moves without Python.
    """
    picture: dict[str, Any] = {"text/plain": text}
    if poster is not None and poster.is_file():
        picture["image/png"] = base64.b64encode(poster.read_bytes()).decode()
    view = {"version_major": 2, "version_minor": 0, "model_id": model_id}
    link = (
        f' Or <a href="{html.escape(book() + page)}">{IN_THE_BOOK}</a>.' if book() and page else ""
    )
    told = f'<p class="intuitive-asleep"><strong>{note}</strong>{link}</p>\n{_STYLE}'
    return [picture, {"text/plain": note, "text/html": told}, {WIDGET_VIEW: view}]


def show(bundles: list[dict[str, Any]]) -> None:
    """Display mime bundles in the cell that runs."""
    from IPython.display import display

    for bundle in bundles:
        display(bundle, raw=True)


_lock = threading.Lock()
_made: dict[str, tuple[str, list[Closable]]] = {}  # by cell: which run of it, and what that made


def made_in_this_cell(widget: Closable) -> None:
    """Remember who made `widget`, and close what an earlier run of the same cell made."""
    cell, run = _running_cell()
    if not cell:
        return
    with _lock:
        before, earlier = _made.get(cell, (run, []))
        if before != run:
            _made[cell] = (run, [widget])
        else:
            _made[cell] = (run, [*earlier, widget])
            earlier = []
    for old in earlier:
        old.close()


def _running_cell() -> tuple[str, str]:
    """Id of the cell that runs now, and of this run of it; empty outside a notebook."""
    from IPython import get_ipython

    shell = get_ipython()
    parent = getattr(shell, "get_parent", dict)() if shell is not None else {}
    cell = parent.get("metadata", {}).get("cellId", "")
    return cell, parent.get("header", {}).get("msg_id", "")
