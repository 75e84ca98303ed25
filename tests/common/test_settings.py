"""Parameter records survive the way through a line of text."""

from dataclasses import dataclass

import pytest

from intuitive.common.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Sliders(Settings):
    layer: int = 3
    weight: float = 0.1
    name: str = "max"
    forced: bool = True


def test_text_makes_an_equal_record():
    sliders = Sliders(layer=-1, weight=1e-9, name="mean", forced=False)
    assert Sliders.from_text(sliders.to_text()) == sliders


def test_what_is_left_out_keeps_its_default():
    assert Sliders.from_text("layer=7") == Sliders(layer=7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layer", "'layer' is no setting: write name=value with one of layer, weight"),
        ("depth=2", "'depth=2' is no setting"),
        ("layer=two", "layer=two is not of type int: write for instance layer=3"),
        ("forced=maybe", "forced=maybe is not of type bool: write for instance forced=True"),
    ],
)
def test_bad_text_is_refused_in_words(text, words):
    with pytest.raises(ValueError, match=words):
        Sliders.from_text(text)
