"""What callers may pass: settings in limits, generators, fields."""

import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any

import torch

from intuitive.common.checks import truth

Limits = Mapping[str, tuple[int | float, int | float]]


def settle(params: Any, limits: Limits) -> None:
    """Turn the numbers of a frozen record into Python's own and hold them to their limits.

    Fields of type int and float that have no limits are turned all the same.

    Raises:
        ValueError: a number that is none, not whole, or out of range.
    """
    for field in dataclasses.fields(params):
        if field.type is bool:
            object.__setattr__(params, field.name, truth(field.name, getattr(params, field.name)))
        if field.type not in (int, float):
            continue
        name, given = field.name, getattr(params, field.name)
        low, high = limits.get(name, (-math.inf, math.inf))
        try:
            value = operator.index(given) if field.type is int else float(given)
        except (TypeError, ValueError):
            kind = "whole number" if field.type is int else "number"
            raise ValueError(f"{name}={given!r} must be a {kind}.") from None
        if not low <= value <= high:  # NaN included
            raise ValueError(f"{name}={value} must lie in [{low}, {high}]: move it inside.")
        object.__setattr__(params, name, value)


def check_generator(generator: Any) -> None:
    """Raise unless randomness comes as a torch generator."""
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator={generator!r} must be a torch.Generator: make one with "
            "torch.Generator().manual_seed(0)."
        )


def check_field(field: Any) -> None:
    """Raise unless `field` says its velocity and the size of its actions."""
    if not (hasattr(field, "action_size") and callable(getattr(field, "velocity", None))):
        raise ValueError(
            f"the field is a {type(field).__name__}, but must have a method velocity(x, t) and an "
            "attribute action_size, which is None where positions are numbers: pass a "
            "GaussianMixture, or a class of your own with these two."
        )
