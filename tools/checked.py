"""Types and shapes of every call checked, at a fraction of the time that jaxtyping takes.

Under `--jaxtyping-packages`, jaxtyping's import hook decorates each function of the package. Its
own decorator binds every call to the signature, and checks the arguments twice, where a result is
annotated too: more than half of the whole suite's time. `install` hands the hook another one.
Which calls it refuses is the same:

- without a shape among the annotations beartype alone checks the call;
- with shapes beartype checks it once, arguments and result in one scope of axis sizes.

jaxtyping keeps what is rarer: generators, shapes computed from arguments, annotations that cannot
be resolved.
"""

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable

import jaxtyping
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import config

HOOKED = "intuitive"

_own = jaxtyping.jaxtyped


def install() -> None:
    """Let jaxtyping's import hook decorate with `checked`.

    Raises:
        RuntimeError: the package was imported before, and is checked by jaxtyping's own.
    """
    if HOOKED in sys.modules:
        raise RuntimeError(f"{HOOKED} is already imported: install the checks before that.")
    jaxtyping.jaxtyped = checked


def checked(fn=None, *, typechecker: Callable):
    """What `jaxtyping.jaxtyped` does to the calls of a function, or of a dataclass."""
    if fn is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and not hasattr(fn.__init__, "__wrapped__"):
            fn.__init__ = checked(fn.__init__, typechecker=typechecker)
        return fn
    if not inspect.isfunction(fn) or inspect.isgeneratorfunction(fn):
        return _own(fn, typechecker=typechecker)
    annotations = list(map(_resolved(fn), fn.__annotations__.values()))
    written = " ".join(map(repr, annotations))
    if "{" in written or any(isinstance(annotation, str) for annotation in annotations):
        return _own(fn, typechecker=typechecker)
    once = typechecker(fn)
    shapes = "jaxtyping" in written

    @functools.wraps(fn)
    def call(*args, **kwargs):
        __tracebackhide__ = True
        if config.jaxtyping_disable:
            return fn(*args, **kwargs)
        try:
            if not shapes:
                return once(*args, **kwargs)
            with _own("context"):
                return once(*args, **kwargs)
        except BeartypeCallHintViolation as error:
            raise jaxtyping.TypeCheckError(str(error)) from error

    return call


def _resolved(fn: Callable) -> Callable:
    """Gives an annotation that is written as text its meaning, where it has one already."""

    def resolve(annotation):
        if not isinstance(annotation, str):
            return annotation
        try:
            return eval(annotation, fn.__globals__)
        except Exception:  # a class that is still being defined
            return annotation

    return resolve
