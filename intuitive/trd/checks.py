"""Checks that settings share."""

import operator


def whole(name: str, value: object, *, low: int, high: int | None = None, why: str = "") -> int:
    """`value` as an int, whatever kind of whole number it is: Python's, numpy's or torch's.

    Args:
        name: how the caller knows it.
        value: the number.
        low: the least allowed.
        high: the largest allowed; None is no limit.
        why: the reason, for the message.

    Raises:
        ValueError: not whole, or out of range.
    """
    must = f"be at least {low}" if high is None else f"lie in [{low}, {high}]"
    reason = f": {why}." if why else "."
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be a whole number and {must}{reason}")
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name}={number} must {must}{reason}")
    return number
