"""One plotly.js for every plot on a page.

The library that the plotly package ships travels once per kernel, compressed, inside one
hidden widget. A page that has loaded it keeps it, and a page that shows outputs in separate
frames finds the widget again from each of them.
"""

import functools
import gzip
from importlib import resources

import anywidget
import traitlets

from .assets import RUNTIME_JS


class PlotlyRuntime(anywidget.AnyWidget):
    """Carries plotly.js to the browser."""

    _esm = RUNTIME_JS
    library = traitlets.Bytes().tag(sync=True)
    version = traitlets.Unicode().tag(sync=True)


@functools.lru_cache(maxsize=1)
def _library() -> tuple[bytes, str]:
    import plotly

    file = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return gzip.compress(file.read_bytes(), compresslevel=4, mtime=0), plotly.__version__


_runtime: PlotlyRuntime | None = None


def shared_runtime() -> PlotlyRuntime:
    """The kernel's runtime widget; made anew if somebody closed it."""
    global _runtime
    if _runtime is None or _runtime.comm is None:
        library, version = _library()
        _runtime = PlotlyRuntime(library=library, version=version)
    return _runtime
