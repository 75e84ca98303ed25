"""Annotations of public functions and of configs are held, in words."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.inputs import plain_fields, public, token_ids
from intuitive.common.show import show_source

pytestmark = pytest.mark.usefixtures("as_installed")


@public(size=1)
def scaled(
    x: Float[Tensor, "*rows d"],
    gain: Float[Tensor, " d"] | None = None,
    *,
    size: int = 1,
    factor: int | float = 1.0,
    name: str = "x",
    kept: bool = True,
) -> tuple:
    """What it was given."""
    return x, gain, size, factor, name, kept


def test_what_the_annotations_say_is_taken_and_made_plain():
    x, gain = torch.ones(2, 3), torch.ones(3)
    _, _, *plain = scaled(
        x, gain, size=np.int64(2), factor=np.float32(0.5), name="y", kept=np.bool_(False)
    )
    assert plain == [2, 0.5, "y", False]
    assert list(map(type, plain)) == [int, float, str, bool]
    assert scaled(x[0])[1] is None and scaled(x[None, None])[0].ndim == 4


X = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": X.numpy()}, "x is of type ndarray, but must be a tensor"),
        ({"x": X.int()}, r"x has dtype torch.int32, but must be one of bfloat16, .*float32"),
        ({"x": X.to(torch.complex64)}, "x is torch.complex64: complex numbers have no order"),
        ({"x": torch.tensor(1.0)}, r"x has shape \(\), but its axes must be \[\*rows, d\]"),
        ({"x": X[:0]}, r"x has shape \(0, 3\): give at least one entry"),
        ({"x": X, "gain": torch.ones(2)}, r"gain has shape \(2,\): d of \[d\] is 2, but 3 in x"),
        ({"x": X, "gain": torch.ones(3).double()}, "gain has dtype torch.float64, but x has"),
        ({"x": X, "size": 0}, "size=0 must be at least 1"),
        ({"x": X, "size": 1.0}, r"size=1\.0 must be a whole number at least 1"),
        ({"x": X, "size": 2**70}, "must fit into 64 bits"),
        ({"x": X, "factor": "2"}, "factor='2' must be a number"),
        ({"x": X, "factor": np.ones(2)}, "must be a number"),
        ({"x": X, "factor": True}, "factor=True must be a number"),
        ({"x": X, "name": 3}, "name=3 must be a text"),
        ({"x": X, "kept": 1}, "kept=1 must be True or False"),
    ],
)
def test_what_they_do_not_say_is_refused_in_words(given, words):
    with pytest.raises(ValueError, match=words):
        scaled(**given)


def test_mixed_dtypes_and_empty_axes_are_taken_where_it_is_said():
    @public(mixed=True, empty="n")
    def loose(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> int:
        return len(x)

    assert loose(X[:0], X[:0].double()) == 0
    with pytest.raises(ValueError, match="at least one entry along each axis"):
        loose(X[:, :0], X[:, :0])


def test_one_of_two_shapes_is_enough():
    @public
    def either(x: Float[Tensor, "a b"] | Float[Tensor, " a"]) -> int:
        return x.ndim

    assert (either(X), either(X[0])) == (2, 1)
    with pytest.raises(ValueError, match=r"axes must be \[a\]"):
        either(X[None])


def test_rows_of_numbers_become_tuples():
    @public
    def rows(ids: tuple[int, ...], ends: tuple[float, float] | None = None) -> tuple:
        return ids, ends

    assert rows([np.int64(1), 2], np.array([0.5, 1])) == ((1, 2), (0.5, 1.0))
    for bad in ({"ids": "12"}, {"ids": [1.5]}, {"ids": 3}, {"ids": (), "ends": (1.0,)}):
        with pytest.raises(ValueError, match="must"):
            rows(**bad)


def test_fields_of_a_config_are_held_too():
    @dataclass(frozen=True)
    class Sizes:
        n: int
        share: float = 0.5
        mask: Bool[Tensor, " n"] | None = None
        ids: Int[Tensor, " n"] | None = None

        def __post_init__(self):
            plain_fields(self, n=1)

    made = Sizes(np.int32(3), torch.tensor(0.25))
    assert (type(made.n), made.share) == (int, 0.25)
    for bad in ({"n": 0}, {"n": 1, "share": None}, {"n": 1, "mask": X}):
        with pytest.raises(ValueError):
            Sizes(**bad)


@pytest.mark.parametrize("ids", [[1, 2], np.array([1, 2]), torch.tensor([1, 2]), (), range(3)])
def test_token_ids_of_every_kind_of_row(ids):
    assert token_ids("a document", ids).dtype == torch.int64


@pytest.mark.parametrize("ids", [[1.5], ["a"], [None], 3, [[1]], [2**70]])
def test_no_token_ids(ids):
    with pytest.raises(ValueError, match="a document must be one row of token ids"):
        token_ids("a document", ids)


def test_the_decorator_is_not_shown_to_readers():
    assert repr(show_source(scaled)).startswith("def scaled(")
