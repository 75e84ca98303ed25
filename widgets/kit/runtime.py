"""One plotly.js, one d3 and one temml for all explorers on a page.

What the page draws with travels once per kernel, compressed, inside one hidden widget. A page
that has loaded it keeps it, and a page that shows outputs in separate frames finds the widget
again from each of them. `library` is plotly.js as the plotly package ships it; `motion` is
`front/vendor.min.js`, which `make vendor` bundles: what heroes move and write equations with.
"""

import functools
import gzip
import importlib.metadata
from importlib import resources

import anywidget
import traitlets

from .assets import RUNTIME_JS


class PageRuntime(anywidget.AnyWidget):
    """Carries to the browser what all explorers of a page share."""

    _esm = RUNTIME_JS
    library = traitlets.Bytes().tag(sync=True)
    motion = traitlets.Bytes().tag(sync=True)
    version = traitlets.Unicode().tag(sync=True)


@functools.cache
def library() -> bytes:
    """plotly.js, compressed: what `loadPlotly` in front/plot.js opens."""
    file = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return _compressed(file.read_bytes())


@functools.cache
def motion() -> bytes:
    """d3 and temml, compressed: what `loadMotion` in front/hero.js opens."""
    return _compressed(resources.files(__package__).joinpath("front", "vendor.min.js").read_bytes())


def _compressed(source: bytes) -> bytes:
    return gzip.compress(source, compresslevel=4, mtime=0)


_runtime: PageRuntime | None = None


def shared_runtime() -> PageRuntime:
    """The kernel's runtime widget; made anew if somebody closed it."""
    global _runtime
    if _runtime is None or _runtime.comm is None:
        version = importlib.metadata.version("plotly")
        _runtime = PageRuntime(library=library(), motion=motion(), version=version)
    return _runtime
