"""What a learner may do to a public function, and what may come of it.

A call is drawn within its range, then one argument of it may be spoiled, and torch or numpy may be
switched. An error in words or a right answer may come of that, and nothing else: `attempt` and
`judge` say which it was.
"""

import ast
import contextlib
import copy
import dataclasses
import functools
import inspect
import linecache
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import intuitive

ROOT = Path(intuitive.__file__).parents[1]


def right(answer: Any, **arguments: Any) -> None:
    """Nothing is known of the answer but that it holds no NaN."""


@dataclasses.dataclass(frozen=True)
class Case:
    """How one public function is called, and what its answer must be.

    Args:
        arguments: draws the arguments of one call that is in range, by name.
        check: asserts what must hold of `(answer, **arguments)` of every accepted call.
        changes: arguments that the function is there to change.
        spared: arguments, spoilings, or single ones as "argument: spoiling", that are not tried,
            as nothing is promised for them.
            nan: whether NaN may come of finite numbers; the docstring says when.
        random: whether torch's own generator is drawn from, as by every `nn.Linear` that is made;
            answers are not compared then.
        meta: whether what is made stands on torch's default device, as every module does.
    """

    arguments: st.SearchStrategy[dict[str, Any]]
    check: Callable[..., None] = right
    changes: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    nan: bool = False
    random: bool = False
    meta: bool = False


def calls(**arguments: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Independent arguments: strategies, or values as they are."""
    return st.fixed_dictionaries(
        {
            name: value if isinstance(value, st.SearchStrategy) else st.just(value)
            for name, value in arguments.items()
        }
    )


def drawn(build: Callable[..., dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments that depend on each other; `build(draw)` makes them."""
    return st.composite(build)()


def numbers(draw: Callable, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float32 numbers of a shape."""
    seed = draw(st.integers(0, 2**16))
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole_numbers(draw: Callable, *shape: int, low: int = 0, high: int) -> Tensor:
    """int64 in [low, high)."""
    seed = draw(st.integers(0, 2**16))
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def coins(draw: Callable, *shape: int, share: float = 0.5) -> Tensor:
    """Booleans, of which about a share is true."""
    seed = draw(st.integers(0, 2**16))
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


# --------------------------------------------------------------------------- spoiled arguments


def odd_integers(value: int) -> dict[str, Any]:
    return {
        "same: np.int64": np.int64(value),
        "same: np.uint64": np.uint64(max(value, 0)),
        "same: array": np.array(value),
        "same: tensor": torch.tensor(value),
        "same: float": float(value),
        "same: np.float32": np.float32(value),
        "0": 0,
        "-1": -1,
        "1": 1,
        "one more": value + 1,
        "twice": 2 * value,
        "half": value + 0.5,
        "NaN": math.nan,
        "inf": math.inf,
        "text": str(value),
        "a list": [value],
        "an array of one": np.array([value]),
        "a tensor of two": torch.tensor([value, value]),
        "complex": complex(value),
        "None": None,
        "beyond 64 bits": 2**70,
    }


def odd_floats(value: float) -> dict[str, Any]:
    return {
        "same: np.float64": np.float64(value),
        "same: np.float32": np.float32(value),
        "same: array": np.array(value),
        "same: tensor": torch.tensor(value, dtype=torch.float64),
        "0": 0.0,
        "-0": -0.0,
        "0, whole": 0,
        "1, whole": 1,
        "np.int64": np.int64(1),
        "minus": -value,
        "NaN": math.nan,
        "inf": math.inf,
        "-inf": -math.inf,
        "1e300": 1e300,
        "1e-300": 1e-300,
        "True": True,
        "text": str(value),
        "a list": [value],
        "an array of two": np.array([value, value]),
        "complex": complex(value),
        "None": None,
    }


def odd_texts(value: str) -> dict[str, Any]:
    odd = {"empty": "", "other": value + "?", "bytes": value.encode(), "None": None, "0": 0}
    return {"same: np.str_": np.str_(value), **odd, "a list": [value]}


def odd_truths(value: bool) -> dict[str, Any]:
    return {"same: np.bool_": np.bool_(value), "same: tensor": torch.tensor(value)}


def odd_sequences(value: tuple | list) -> dict[str, Any]:
    odd = {"same: list": list(value), "same: tuple": tuple(value), "empty": type(value)()}
    odd["doubled"] = type(value)((*value, *value))
    with contextlib.suppress(ValueError):
        odd["same: array"] = np.array(value)
    odd["a text in it"] = type(value)((*value[:-1], "x"))
    odd["None in it"] = type(value)((*value[:-1], None))
    odd["-1 in it"] = type(value)((*value[:-1], -1))
    odd["NaN in it"] = type(value)((*value[:-1], math.nan))
    return odd


def odd_tensors(value: Tensor) -> dict[str, Any]:
    odd: dict[str, Any] = {
        "same: array": value.detach().numpy().copy(),
        "same: list": value.tolist(),
        "same: strided": torch.stack((value, value), -1)[..., 0],
        "same: float64": value.double() if value.is_floating_point() else value.int(),
        "same: inference": inference(value),
        "an axis more": value[None],
        "integers": value.long() + 1,
        "booleans": value.bool(),
        "half": value.half(),
        "bfloat16": value.bfloat16(),
        "complex": value.to(torch.complex64),
        "None": None,
    }
    if value.is_floating_point():
        odd["same: with a gradient"] = value.detach().clone().requires_grad_()
    if value.dim():
        odd |= {
            "empty": value[:0],
            "empty at the end": value[..., :0],
            "one shorter": value[..., :-1],
            "one row less": value[:-1],
            "an axis less": value[0] if len(value) else value,
            "doubled": torch.cat((value, value)),
        }
    if value.numel():
        first = (0,) * value.dim()
        if value.is_floating_point():
            for number in (math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-40):
                odd[f"{number} in it"] = (
                    value.index_put(
                        tuple(map(torch.tensor, first)), torch.tensor(number).to(value.dtype)
                    )
                    if first
                    else torch.tensor(number)
                )
            odd["all alike"] = torch.full_like(value, 0.25)
            odd["zeros"] = torch.zeros_like(value)
            odd["huge"] = value * 1e30
        elif value.dtype != torch.bool:
            for number in (-1, -2, 2**40 if value.dtype == torch.int64 else 2**30):
                if value.dtype == torch.uint8:
                    continue
                odd[f"{number} in it"] = value.clone()
                odd[f"{number} in it"][first] = number
        else:
            odd |= {"none": value & False, "all": value | True}
    return odd


def inference(value: Tensor) -> Tensor:
    with torch.inference_mode():
        return value.clone()


def oddities(value: Any) -> dict[str, Any]:
    """Other values that a learner may give in the place of one, named; "same:" means the same."""
    for kind, odd in (
        (bool, odd_truths),
        (int, odd_integers),
        (float, odd_floats),
        (str, odd_texts),
        ((tuple, list), odd_sequences),
        (Tensor, odd_tensors),
    ):
        if isinstance(value, kind):
            return odd(value)
    return {}


# ---------------------------------------------------------------------------- switched settings


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def strict_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SWITCHES: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "nothing": contextlib.nullcontext,
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "meta by default": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "deterministic": deterministic,
    "numpy raises": lambda: np.errstate(all="raise"),
    "warnings raise": strict_warnings,
}


def settings() -> dict[str, Any]:
    """Whatever is global and a function might change."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "torch's random state": torch.random.get_rng_state().numpy().tobytes(),
        "numpy's random state": np.random.get_state()[1].tobytes(),
        "random state": random.getstate(),
        "numpy's errors": np.geterr(),
        "filters": list(warnings.filters),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }


# --------------------------------------------------------------------------------------- judging


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one call."""

    answer: Any = None
    error: Exception | None = None


def attempt(function: Callable, case: Case, arguments: Mapping[str, Any], switch: str) -> Outcome:
    """Call it under a switch; assert that it left arguments and settings as they were."""
    given = {name: duplicate(value) for name, value in arguments.items()}
    with SWITCHES[switch]():
        before = settings()
        try:
            answer = function(**given)
            outcome = Outcome(list(answer) if isinstance(answer, Iterator) else answer)
        except Exception as error:
            outcome = Outcome(error=error)
        after = settings()
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= ({"torch's random state"} if case.random else set()), changed
    for name, value in given.items():
        if name not in case.changes:
            assert same_bytes(value, arguments[name]), f"{name} was changed"
    if case.changes and outcome.error is None:
        outcome = Outcome(answer=(outcome.answer, *(given[name] for name in case.changes)))
    return outcome


def duplicate(value: Any) -> Any:
    """A copy that shares nothing; models and functions stay themselves."""
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if isinstance(value, Tensor):
        if value.is_inference():
            return inference(value)
        copied = value.detach().as_strided(value.size(), value.stride()).clone()
        return copied.requires_grad_(value.requires_grad)
    return copy.deepcopy(value) if isinstance(value, tuple | list | dict | np.ndarray) else value


def same_bytes(one: Any, other: Any) -> bool:
    """Whether two values hold the same, NaN and dtypes included."""
    if isinstance(one, Tensor):
        one, other = one.detach(), other.detach()
        both = (
            torch.empty(x.numel(), dtype=x.dtype, device="cpu").copy_(x.flatten()).view(torch.uint8)
            for x in (one, other)
        )
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*both)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same_bytes, one, other))
    if isinstance(one, torch.Generator) or callable(one) or dataclasses.is_dataclass(one):
        return True
    return one is other or one == other or (one != one and other != other)


@functools.cache
def raises_of(path: str) -> tuple[range, ...]:
    """The lines of every `raise` of a file."""
    tree = ast.parse("".join(linecache.getlines(path)))
    return tuple(
        range(node.lineno, node.end_lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
    )


def innermost(traceback: TracebackType) -> TracebackType:
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def documented(error: Exception, function: Callable) -> bool:
    """Whether the package itself says this, in an error that its docstring names."""
    where = innermost(error.__traceback__)
    path = where.tb_frame.f_code.co_filename
    ours = Path(path).is_relative_to(ROOT) and "tests" not in Path(path).relative_to(ROOT).parts
    said = ours and any(where.tb_lineno in lines for lines in raises_of(path))
    kinds = inspect.getdoc(function) or ""
    return said and (type(error) is ValueError or type(error).__name__ in kinds)


def leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """Numbers and tensors inside an answer."""
    if isinstance(value, Tensor | np.ndarray | float | int | str | bool) or value is None:
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from leaves(one, depth + 1)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from leaves(one, depth + 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and depth < 6:
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), depth + 1)
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict().values()


def has_nan(value: Any) -> bool:
    return any(bool(numbers.isnan().any()) for numbers in fractions(value))


def is_finite(value: Any) -> bool:
    """Whether every number in it is finite, and none so large that a sum of two is not."""
    return all(bool((numbers.abs() < 1e15).all()) for numbers in fractions(value))


def fractions(value: Any) -> Iterator[Tensor]:
    """The floating numbers inside an answer, in double precision."""
    for leaf in leaves(value):
        if isinstance(leaf, float | np.ndarray):
            leaf = torch.as_tensor(leaf)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.is_meta:
            yield leaf.detach().double()


def assert_close(one: Any, other: Any, path: str = "") -> None:
    """Two answers agree, dtypes aside, to single precision."""
    ones, others = list(leaves(one)), list(leaves(other))
    assert len(ones) == len(others), (one, other)
    for a, b in zip(ones, others, strict=True):
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            assert not a.is_meta and not b.is_meta, "an answer without numbers"
            torch.testing.assert_close(
                a.detach().double() if a.dtype != torch.bool else a,
                b.detach().double() if b.dtype != torch.bool else b,
                rtol=1e-4,
                atol=1e-5,
                equal_nan=True,
                check_dtype=False,
            )
        elif isinstance(a, str) or a is None:
            assert a == b
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)[:200]


def try_out(function: Callable, case: Case, arguments: dict[str, Any], seed: int) -> list[str]:
    """What goes wrong around one call: in range under every switch, then each argument spoiled.

    Args:
        function: the public one.
        case: how it is called and judged.
        arguments: in range.
        seed: of the switches under which the spoiled calls are made.

    Returns:
        One line per fault.
    """
    want = attempt(function, case, arguments, "nothing")
    if want.error is not None:
        raise AssertionError(f"a call in range is refused: {want.error!r}") from want.error
    assert case.nan or not has_nan(want.answer), "NaN in range"
    case.check(want.answer, **arguments)
    faults, chance = [], random.Random(seed)
    for switch in SWITCHES:
        if fault := judged(function, case, arguments, want, switch, same=True):
            faults.append(f"{switch}: {fault}")
    for name, value in arguments.items():
        if name in case.spared:
            continue
        for label, odd in oddities(value).items():
            if f"{name}: {label}" in case.spared or label in case.spared:
                continue
            switch = chance.choice([*SWITCHES, *["nothing"] * len(SWITCHES)])
            given = arguments | {name: odd}
            fault = judged(function, case, given, want, switch, same=label.startswith("same:"))
            if fault:
                faults.append(f"{name}: {label}; {switch}: {describe(odd)}: {fault}")
    return faults


def judged(
    function: Callable, case: Case, given: dict, want: Outcome, switch: str, *, same: bool
) -> str:
    """What is wrong with what comes of one call; empty if nothing is."""
    try:
        got = attempt(function, case, given, switch)
        if got.error is not None:
            return "" if documented(got.error, function) else shown(got.error)
        if same:
            if not case.random and not (case.meta and switch == "meta by default"):
                assert_close(got.answer, want.answer)
        elif is_finite(list(given.values())):
            assert case.nan or not has_nan(got.answer), "NaN from finite numbers"
            case.check(got.answer, **given)
    except Exception as error:
        return shown(error)
    return ""


def shown(error: Exception) -> str:
    where = innermost(error.__traceback__)
    place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"
    return f"{type(error).__name__} at {place}: {str(error).strip()[:300]}"
