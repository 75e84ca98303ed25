"""The suite's own checks of annotations refuse what jaxtyping refuses, and nothing else."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import checked as checking
import jaxtyping
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, Int, config
from torch import Tensor

from intuitive.common.decoder.rotary import rotate
from intuitive.common.runtime import seeded

ONE, TWO = torch.zeros(1), torch.zeros(2)


def scaled(x: Float[Tensor, " n"], by: int = 2) -> Float[Tensor, " n"]:
    return x * by


def paired(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> float:
    return float((x * y).sum())


def grown(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return torch.cat((x, x))


def listed(xs: Sequence[Float[Tensor, " n"]]) -> None:
    del xs


def written(x: "Float[Tensor, ' n']") -> "Float[Tensor, ' n']":
    return x[:1]


def computed(size: int) -> Float[Tensor, " {size}"]:
    del size
    return TWO


def counted(x: int, *more: int, **named: str) -> int:
    del more, named
    return str(x) if x > 9 else x


def yielded(x: Float[Tensor, " n"]) -> Iterator[int]:
    yield len(x)


def nested(x: Float[Tensor, " n"], inner: Int[Tensor, " n"]) -> None:
    """Sizes hold within one call, not in the calls that it makes."""
    del inner
    if len(x) == 2:
        MAKE["nested"](ONE, ONE.int())


def bare(x):
    return x


@dataclass
class Pair:
    x: Float[Tensor, " n"]
    y: Float[Tensor, " n"]

    def other(self, pair: "Pair") -> "Pair":
        return pair


FUNCTIONS = (scaled, paired, grown, listed, written, computed, counted, yielded, nested, bare)
MAKE = {}
CALLS = {
    "scaled": [(ONE,), (TWO, 3), (TWO, 0.5), (TWO.int(),), (TWO[None],)],
    "paired": [(ONE, ONE), (ONE, TWO)],
    "grown": [(torch.zeros(0),), (ONE,)],
    "listed": [([],), ([ONE],), ([ONE.int()],), (ONE.int(),)],
    "written": [(ONE,), (TWO,)],
    "computed": [(2,), (3,)],
    "counted": [(1,), (1, 2), (1.0,), (1, "2"), (10,)],
    "yielded": [(ONE,), (1,)],
    "nested": [(ONE, ONE.int()), (TWO, TWO.int()), (TWO, ONE.int())],
    "bare": [(ONE,), ("1",)],
}


def refuses(function, call) -> bool:
    try:
        function(*call)
    except Exception as error:
        assert "type" in str(error).lower() or "violat" in str(error).lower(), error
        return True
    return False


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_it_refuses_what_jaxtyping_refuses(function, monkeypatch):
    name, answers = function.__name__, []
    for decorate in (checking._own, checking.checked):
        made = decorate(function, typechecker=beartype)
        monkeypatch.setitem(MAKE, name, made)
        assert made.__name__ == name and inspect.signature(made) == inspect.signature(function)
        answers.append([refuses(made, call) for call in CALLS[name]])
    assert answers[0] == answers[1]
    assert not answers[0][0] and any(answers[0]) == (name != "bare")


def test_a_dataclass_is_checked_where_it_is_made():
    made = checking.checked(Pair, typechecker=beartype)
    assert made is Pair and not refuses(Pair, (ONE, ONE))
    assert refuses(Pair, (ONE, TWO)) and refuses(Pair, (1, 1))
    method = checking.checked(Pair.other, typechecker=beartype)
    assert not refuses(method, (Pair(ONE, ONE), Pair(TWO, TWO)))


def test_the_package_is_checked(as_installed):
    wrong_size = (torch.zeros(1, 2, 1, 4), torch.zeros(1, 3).long(), 1e4)
    config.update("jaxtyping_disable", False)
    assert jaxtyping.jaxtyped is checking.checked
    assert refuses(seeded, ("seven",))
    assert refuses(rotate, wrong_size)
    config.update("jaxtyping_disable", True)
    with pytest.raises(Exception, match=r"must match|size"):
        rotate(*wrong_size)


def test_it_comes_before_the_package(monkeypatch):
    assert checking.HOOKED in sys.modules
    with pytest.raises(RuntimeError, match="already imported"):
        checking.install()
