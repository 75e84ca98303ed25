"""Figures in a lesson's prose, taken out as they are checked."""

import re
from collections.abc import Iterable

FIGURE = re.compile(r"(?:over )?\d+(?:\.\d+)?%|\d+k")


def cut(text: str, phrases: Iterable[str]) -> str:
    """The text less each phrase once; fails, naming it, where one is not there."""
    for phrase in phrases:
        assert phrase in text, phrase
        text = text.replace(phrase, "", 1)
    return text
