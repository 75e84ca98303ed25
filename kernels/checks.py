"""Argument checks shared by the public functions: value received, rule, next step."""

import math
import operator
from typing import SupportsIndex, no_type_check

import torch
from torch import Tensor

from . import limits
from .dispatch import interpreting

ID_DTYPES = (torch.int32, torch.int64)


GREATEST = 2**31 - 1  # of whole numbers: kernels count in 32 bits


@no_type_check  # this is the type check
def tensors(**named: Tensor) -> None:
    """Raise ValueError unless all of these are tensors."""
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} is of type {type(value).__name__}, but must be a tensor. Make it one with "
                "torch.as_tensor."
            )


@no_type_check
def number(name: str, value: float) -> float:
    """A finite number as Python's own, whether it comes from Python, NumPy or torch.

    Raises:
        ValueError: no number, several, or one that is not finite.
    """
    plain_kinds = (bool, str, bytes)  # as a union they stop torch.compile in torch 2.9
    several = isinstance(value, plain_kinds) or getattr(value, "ndim", 0)
    try:
        plain = None if several else float(value)
    except TypeError:
        plain = None
    if plain is None or not math.isfinite(plain):
        raise ValueError(f"{name}={value!r} must be a finite number, such as 1.0.")
    return plain


@no_type_check
def axes(**named: tuple[Tensor, str]) -> dict[str, int]:
    """Read axis sizes off tensors, one letter one size.

    Args:
        named: for each argument its tensor and its axes, such as `q=(q, "b n h_q d")`.

    Returns:
        The size of every letter.

    Raises:
        ValueError: one is no tensor, has another number of axes or an empty one, or a letter's
            size differs between two tensors.
    """
    sizes: dict[str, int] = {}
    owner: dict[str, str] = {}
    tensors(**{name: tensor for name, (tensor, _) in named.items()})
    for name, (tensor, layout) in named.items():
        letters = layout.split()
        shape = tuple(tensor.shape)
        if len(shape) != len(letters):
            raise ValueError(
                f"{name} has shape {shape}, but its axes must be [{', '.join(letters)}]. "
                "Add, drop or reorder axes to match."
            )
        for letter, size in zip(letters, shape, strict=True):
            if size == 0:
                raise ValueError(
                    f"{name} has shape {shape}: axis {letter!r} of [{', '.join(letters)}] is "
                    "empty. Pass at least one entry along it."
                )
            if sizes.setdefault(letter, size) != size:
                raise ValueError(
                    f"{name} has shape {shape}: axis {letter!r} of [{', '.join(letters)}] is "
                    f"{size}, but {owner[letter]} has {letter}={sizes[letter]}. Pass tensors "
                    "that agree on it."
                )
            owner.setdefault(letter, name)
    return sizes


@no_type_check  # this is the type check
def whole(name: str, value: SupportsIndex, *, low: int = 1) -> int:
    """A whole number as Python's own, whether it comes from Python, NumPy or torch.

    Raises:
        ValueError: it is no whole number, truth values included, or below `low`.
    """
    if isinstance(value, torch.SymInt):  # torch.compile's own
        return value
    if type(value) is not int:
        truth = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
        try:
            number = None if truth else operator.index(value)
        except TypeError:
            number = None
        if number is None:
            raise ValueError(f"{name}={value!r} must be an integer of at least {low}.")
        value = number
    if value > GREATEST:
        raise ValueError(f"{name}={value} must be at most {GREATEST}.")
    if value < low:
        raise ValueError(f"{name}={value} must be at least {low}.")
    return value


def same_device(**named: Tensor) -> torch.device:
    """The one device of all tensors; ValueError if there are several."""
    (first, tensor), *rest = named.items()
    for name, other in rest:
        if other.device != tensor.device:
            raise ValueError(
                f"{name} is on {str(other.device)!r}, but {first} is on {str(tensor.device)!r}. "
                f"Move them to one device, for example {name}.to({first}.device)."
            )
    return tensor.device


def same_float_dtype(**named: Tensor) -> None:
    """Raise ValueError unless all tensors share one floating-point dtype."""
    (first, tensor), *rest = named.items()
    if not tensor.dtype.is_floating_point:
        raise ValueError(
            f"{first} has dtype {tensor.dtype}, but must be floating point. Convert it first."
        )
    for name, other in rest:
        if other.dtype != tensor.dtype:
            raise ValueError(
                f"{name} has dtype {other.dtype}, but {first} has {tensor.dtype}. Convert one of "
                f"them, for example {name}.to({first}.dtype)."
            )


def causal(n: int, m: int) -> None:
    """Raise ValueError if there are more queries than keys."""
    if n > m:
        raise ValueError(
            f"n={n} queries but only m={m} keys: queries are aligned with the last keys, so every "
            "query needs a key at its own position. Pass the keys of all earlier tokens too."
        )


def whole_groups(h_q: int, h_kv: int) -> None:
    """Raise ValueError unless every key head serves the same number of query heads."""
    if h_q % h_kv:
        raise ValueError(
            f"h_q={h_q} must be a multiple of h_kv={h_kv}: GQA groups are equal in size. Change "
            "the number of query or key heads."
        )


def id_dtype(block_idx: Tensor) -> None:
    """Raise ValueError unless block ids are whole numbers of 32 or 64 bits."""
    if block_idx.dtype not in ID_DTYPES:
        raise ValueError(
            f"block_idx has dtype {block_idx.dtype}, but must be torch.int32 or torch.int64. "
            "Pass the ids from the selection."
        )


def wants_values(validate: bool | None, device: torch.device) -> bool:
    """Whether to look at tensor values: by default on CPU only, where looking is cheap.

    On CUDA a look would wait for the device, and inside torch.compile it would break the graph.
    """
    if validate is None:
        return device.type == "cpu" and not torch.compiler.is_compiling()
    return validate


def finite(**named: Tensor) -> None:
    """Raise ValueError if a tensor holds NaN or an infinity."""
    for name, tensor in named.items():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise ValueError(
                f"{name} holds {bad} values that are NaN or infinite, of {tensor.numel()}. Find "
                "where they arise (torch.isfinite shows which), or pass validate=False to go on."
            )


def triton_limits(
    *, block_size: int, dtype: torch.dtype, head_size: int = 0, index_width: int = 0
) -> None:
    """Raise ValueError for sizes and dtypes that the Triton kernels do not serve; 0 is no size."""
    for name, value, allowed in (
        ("block_size", block_size, limits.BLOCK_SIZES),
        ("head size", head_size, (0, *limits.HEAD_SIZES)),
        ("index width", index_width, (0, *limits.INDEX_WIDTHS)),
        ("dtype", dtype, limits.DTYPES),
    ):
        if value not in allowed:
            raise ValueError(
                f"{name}={value} is not served by impl='triton', which takes "
                f"{', '.join(str(x) for x in allowed if x)}. Pass impl='reference'."
            )
    if dtype == torch.bfloat16 and interpreting():
        raise ValueError(
            "dtype=torch.bfloat16 gives wrong products in Triton's CPU interpreter. Use float16 "
            "or float32 there, or impl='reference'."
        )


def triton_group(group: int) -> None:
    """Raise ValueError for GQA groups wider than the Triton kernels serve."""
    if group > limits.MAX_GROUP:
        raise ValueError(
            f"h_q/h_kv={group} query heads share a key head, but impl='triton' takes at most "
            f"{limits.MAX_GROUP}. Pass impl='reference'."
        )


def triton_slots(n_selected: int) -> None:
    """Raise ValueError for more slots than the Triton kernels hold in registers."""
    if n_selected > limits.MAX_SELECTED:
        raise ValueError(
            f"n_selected={n_selected} blocks per query, but impl='triton' takes at most "
            f"{limits.MAX_SELECTED}: it keeps a row of them in registers. Select fewer, or pass "
            "impl='reference'."
        )
