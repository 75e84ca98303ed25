"""Show tested code in a notebook, so that prose and package cannot drift apart."""

import inspect
import textwrap
from collections.abc import Callable
from types import ModuleType


class Source:
    """The source of functions, classes or modules, for a notebook to display.

    Its text is the source; JupyterLab shows it in colour.
    """

    def __init__(self, *objects: Callable | type | ModuleType) -> None:
        if not objects:
            raise ValueError("show_source() needs a function, class or module to show.")
        self.text = "\n\n".join(_source(thing) for thing in objects)

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"


def show_source(*objects: Callable | type | ModuleType) -> Source:
    """The source code of what is given, as the last value of a notebook cell.

    Raises:
        ValueError: nothing given, or something whose source is not Python, such as `len`.
    """
    return Source(*objects)


def _source(thing: Callable | type | ModuleType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(thing))).rstrip()
    except (TypeError, OSError) as error:
        raise ValueError(
            f"{thing!r} has no Python source to show; pass a function, class or module of "
            "this package."
        ) from error
