"""What the annotations of a public function promise, held in words.

`@public` looks at every argument before the function does: tensors have the annotated axes, sizes
that agree by letter, and a dtype of the annotated kind; whole numbers are whole, and numbers
numbers, whether they come from Python, numpy or torch. What a value must be beyond that, such as
its range, the function says itself.
"""

import contextlib
import dataclasses
import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from .checks import number, text, truth, whole

Function = TypeVar("Function", bound=Callable)
Rule = Callable[[str, Any, "_Seen"], Any]
LEAST, MOST = -(2**63), 2**63 - 1  # of the whole numbers that torch takes


class _Seen:
    """What the arguments of one call have in common so far."""

    def __init__(self) -> None:
        self.sizes: dict[str, tuple[Any, str]] = {}  # of each letter, and whose it was
        self.dtypes: dict[str, tuple[torch.dtype, str]] = {}  # of a kind of numbers, likewise


def public(
    function: Function | None = None, *, mixed: bool = False, empty: str = "", **lows: int
) -> Function:
    """The function, with its arguments checked and made plain.

    Args:
        function: whose annotations count.
        mixed: whether its floating tensors may differ in dtype.
        empty: letters of axes that may be empty; "*" for all.
        lows: the least value of whole numbers, by their name.

    Raises:
        ValueError: by the function returned: an argument that is not what its annotation says.
    """
    if function is None:
        return functools.partial(public, mixed=mixed, empty=empty, **lows)
    parameters = inspect.signature(function).parameters
    rules = {
        name: rule
        for name, parameter in parameters.items()
        if (rule := _rule(parameter.annotation, mixed, empty, lows.get(name, LEAST))) is not None
    }
    places = tuple(parameters)

    @functools.wraps(function)
    def call(*args, **kwargs):
        seen, args = _Seen(), list(args)
        for place, name in zip(range(len(args)), places, strict=False):
            if name in rules:
                args[place] = rules[name](name, args[place], seen)
        for name in kwargs:
            if name in rules:
                kwargs[name] = rules[name](name, kwargs[name], seen)
        return function(*args, **kwargs)

    return call


def tensor(name: str, value: Any) -> Tensor:
    """`value`, a tensor.

    Raises:
        ValueError: it is something else, or complex.
    """
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} is of type {type(value).__name__}, but must be a tensor: make it one with "
            "torch.as_tensor."
        )
    if value.is_complex():
        raise ValueError(f"{name} is {value.dtype}: complex numbers have no order; pass its .real.")
    return value


def plain_fields(record: Any, **lows: int) -> None:
    """Check the fields of a frozen record by their annotations, and make them plain.

    Args:
        record: just made.
        lows: the least value of whole numbers, by their name.

    Raises:
        ValueError: a field that is not what its annotation says.
    """
    seen = _Seen()
    for field in dataclasses.fields(record):
        rule = _rule(field.type, False, "*", lows.get(field.name, LEAST))
        if rule is not None:
            value = rule(field.name, getattr(record, field.name), seen)
            object.__setattr__(record, field.name, value)


def _rule(annotation: Any, mixed: bool, empty: str, low: int) -> Rule | None:
    """How an argument with this annotation is looked at; None where nothing is to be looked at."""
    options = _options(annotation)
    if type(None) in options and len(options) > 1:
        rest = tuple(option for option in options if option is not type(None))
        rule = _rule(functools.reduce(operator.or_, rest), mixed, empty, low)
        if rule is None:
            return None
        return lambda name, value, seen: None if value is None else rule(name, value, seen)
    if set(options) <= {int, float} and float in options:
        return lambda name, value, seen: number(name, value)
    if len(options) > 1:
        axes = [_rule(option, mixed, empty, low) for option in options]
        return _any_of(axes) if all(isinstance(one, _Axes) for one in axes) else None
    if annotation is int or annotation is typing.SupportsIndex:
        return functools.partial(_whole, low)
    if annotation is bool:
        return lambda name, value, seen: truth(name, value)
    if annotation is str or typing.get_origin(annotation) is typing.Literal:
        return lambda name, value, seen: text(name, value)
    if annotation is Tensor:
        return lambda name, value, seen: tensor(name, value)
    made_of = typing.get_args(annotation)
    if typing.get_origin(annotation) in (tuple, Sequence) and made_of[1:] in ((), (...,)):
        one = _rule(made_of[0], mixed, empty, low)
        return None if one is None else functools.partial(_row, one)
    if typing.get_origin(annotation) is tuple and len(set(made_of)) == 1:
        one = _rule(made_of[0], mixed, empty, low)
        return None if one is None else functools.partial(_row, one, length=len(made_of))
    if getattr(annotation, "array_type", None) is Tensor:
        return _Axes(annotation.dim_str.split(), annotation.dtypes, mixed, empty)
    return None


def _options(annotation: Any) -> tuple:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)
    return (annotation,)


def _whole(low: int, name: str, value: Any, seen: _Seen) -> int:
    if type(value) is int and low <= value <= MOST:
        return value
    if isinstance(value, torch.SymInt):  # torch.compile's own
        return value
    number = whole(name, value, low=None if low == LEAST else low)
    if not LEAST <= number <= MOST:
        raise ValueError(f"{name}={number} must fit into 64 bits.")
    return number


def _any_of(rules: Sequence[Rule]) -> Rule:
    """The rule that one of these holds; of all that do not, the last says why."""

    def rule(name: str, value: Any, seen: _Seen) -> Any:
        for one in rules[:-1]:
            with contextlib.suppress(ValueError):
                return one(name, value, seen)
        return rules[-1](name, value, seen)

    return rule


def _row(one: Rule, name: str, values: Any, seen: _Seen, length: int | None = None) -> tuple:
    if (
        isinstance(values, str | bytes)
        or not isinstance(values, Iterable)
        or (hasattr(values, "ndim") and values.ndim != 1)
    ):
        raise ValueError(f"{name}={values!r} must be a row of values, such as a tuple.")
    row = tuple(one(name, value, seen) for value in values)
    if length is not None and len(row) != length:
        raise ValueError(f"{name}={values!r} must hold {length} values.")
    return row


def token_ids(name: str, values: Any) -> Tensor:
    """Ids as they stand in a row, int64: of a tensor, an array or a sequence.

    Raises:
        ValueError: no row, or something in it that is no whole number.
    """
    try:
        ids = values if isinstance(values, Tensor) else torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # no numbers, ragged, beyond 64 bits
        ids = torch.empty((), device="cpu")
    fractional = ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool
    if ids.dim() != 1 or (fractional and len(ids)):
        raise ValueError(f"{name} must be one row of token ids: give a list of whole numbers.")
    return ids.long()


class _Axes:
    """The rule of an annotation with axes, such as `Float[Tensor, "b n d"]`."""

    def __init__(self, letters: list[str], dtypes: Any, mixed: bool, empty: str) -> None:
        self.letters, self.mixed, self.empty = letters, mixed, empty.split()
        self.dtypes = frozenset(dtypes) if isinstance(dtypes, list | tuple) else frozenset()
        many = [at for at, letter in enumerate(letters) if letter[0] == "*" or letter == "..."]
        self.many = many[0] if many else None

    def __call__(self, name: str, value: Any, seen: _Seen) -> Tensor:
        shape = tuple(tensor(name, value).shape)
        if self.dtypes and str(value.dtype).removeprefix("torch.") not in self.dtypes:
            raise ValueError(
                f"{name} has dtype {value.dtype}, but must be one of "
                f"{', '.join(sorted(self.dtypes))}. Convert it first."
            )
        if value.dtype.is_floating_point and not self.mixed:
            dtype, owner = seen.dtypes.setdefault("floating", (value.dtype, name))
            if dtype != value.dtype:
                raise ValueError(
                    f"{name} has dtype {value.dtype}, but {owner} has {dtype}. Convert one of "
                    f"them, for example {name}.to({owner}.dtype)."
                )
        extra = len(shape) - len(self.letters)
        if extra < (-1 if self.many is not None else 0) or (self.many is None and extra):
            raise ValueError(
                f"{name} has shape {shape}, but its axes must be {self}. Add, drop or reorder "
                "axes to match."
            )
        sizes = list(shape)
        if self.many is not None:
            stop = self.many + extra + 1
            sizes[self.many : stop] = [shape[self.many : stop]]
        for letter, size in zip(self.letters, sizes, strict=True):
            few = 0 in size if isinstance(size, tuple) else size == 0
            if few and "*" not in self.empty and letter.lstrip("*") not in self.empty:
                raise ValueError(
                    f"{name} has shape {shape}: give at least one entry along each axis of {self}."
                )
            if letter == "...":
                continue
            known, owner = seen.sizes.setdefault(letter, (size, name))
            if known != size:
                raise ValueError(
                    f"{name} has shape {shape}: {letter.lstrip('*')} of {self} is {size}, but "
                    f"{known} in {owner}. Pass tensors that agree on it."
                )
        return value

    def __str__(self) -> str:
        return f"[{', '.join(self.letters)}]"
