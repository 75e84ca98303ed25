"""What a value must be, in words: checks that every config and every function here shares."""

import operator
from typing import Any


def whole(
    name: str, value: Any, *, low: int | None = None, high: int | None = None, why: str = ""
) -> int:
    """`value` as an int; numpy's and torch's whole numbers count as such, True and 3.0 do not.

    Args:
        name: of the argument, for the message.
        value: what the caller gave.
        low: the least value allowed.
        high: the greatest value allowed.
        why: the reason or the next step, a phrase that ends the message.

    Raises:
        ValueError: no whole number, or out of range.
    """
    truth = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        if truth:
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(
            f"{name}={value!r} must be a whole number{_range(low, high)}"
            f"{_because(why) or '; give an integer, such as 1.'}"
        ) from None
    if (low is not None and number < low) or (high is not None and number > high):
        must = "must be" if low is None or high is None else "must lie"
        raise ValueError(f"{name}={number} {must}{_range(low, high)}{_because(why) or '.'}")
    return number


def number(name: str, value: Any) -> int | float:
    """`value` as a plain number; numpy's and torch's count as such, True does not.

    Raises:
        ValueError: no number, or several.
    """
    if type(value) is float or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, bool | str | bytes | complex) or getattr(value, "ndim", 0):
        plain = None
    else:
        plain = value.item() if hasattr(value, "item") and hasattr(value, "dtype") else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise ValueError(f"{name}={value!r} must be a number; give one, such as 1.0.")
    return plain if -(2**63) <= plain < 2**63 else float(plain)


def truth(name: str, value: Any) -> bool:
    """`value` as True or False; numpy's and torch's truth values count as such.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, bool):
        return value
    if not str(getattr(value, "dtype", "")).endswith("bool") or value.ndim:
        raise ValueError(f"{name}={value!r} must be True or False.")
    return bool(value)


def text(name: str, value: Any) -> str:
    """`value`, a text.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name}={value!r} must be a text, such as {name}='…'.")
    return value


def whole_fields(record: Any, **lows: int | None) -> None:
    """Make fields of a frozen record whole numbers, each with its least value; None is no limit.

    Raises:
        ValueError: as in `whole`.
    """
    for name, low in lows.items():
        object.__setattr__(record, name, whole(name, getattr(record, name), low=low))


def _range(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f" in [{low}, {high}]"
    if low is not None:
        return f" at least {low}"
    return "" if high is None else f" at most {high}"


def _because(why: str) -> str:
    return f": {why.rstrip('.')}." if why else ""
