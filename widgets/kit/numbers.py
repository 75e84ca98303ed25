"""How numbers are written: one function for readouts, tables and sentences.

Three significant digits, a typographic minus, no negative zero, and words where a number has left
every scale.
"""

import functools
import math

MINUS = "−"
THIN = "\u2009"
HUGE, TINY = 1e6, 1e-6  # beyond these a number is told by its power of ten


def number(value: int | float, digits: int = 3, *, unit: str = "", sign: bool = False) -> str:
    """`value` in words that a reader takes in at a glance.

    Args:
        value: any number; NaN and infinities are named.
        digits: significant digits.
        unit: written after a space.
        sign: also write the plus of a positive number.
    """
    text = _magnitude(abs(float(value)), digits)
    zero = not any(digit in text for digit in "123456789∞") and text != "undefined"
    if value < 0 and not zero:
        text = MINUS + text
    elif sign and value > 0 and not zero:
        text = "+" + text
    return f"{text} {unit}" if unit else text


def fixed(value: int | float, decimals: int = 2, *, unit: str = "", sign: bool = False) -> str:
    """`value` with a fixed number of decimals, for columns that are compared by eye."""
    if not -HUGE < value < HUGE:  # NaN included
        return number(value, unit=unit, sign=sign)
    text = f"{abs(value):.{decimals}f}"
    if text.strip("0."):
        text = MINUS + text if value < 0 else "+" * sign + text
    return f"{text} {unit}" if unit else text


def chosen(value: int | float) -> str:
    """A number that somebody chose, as it was chosen: w = 0.5, not 0.500."""
    return f"{value:g}".replace("-", MINUS)


def percent(share: int | float, decimals: int = 0) -> str:
    """A share as percent; a share that is not quite all or nothing is never rounded to it."""
    text = fixed(100 * share, decimals)
    nothing, everything = _ends(decimals)
    if share > 0 and text == nothing:
        return f"under {fixed(10**-decimals, decimals)}%"
    if share < 1 and text == everything:
        return f"over {fixed(100 - 10**-decimals, decimals)}%"
    return f"{text}%"


@functools.cache
def _ends(decimals: int) -> tuple[str, str]:
    return fixed(0, decimals), fixed(100, decimals)


def _magnitude(size: float, digits: int) -> str:
    if math.isnan(size):
        return "undefined"
    if math.isinf(size):
        return "∞"
    if size == 0:
        return "0"
    if TINY <= size < HUGE:
        decimals = max(digits - 1 - math.floor(math.log10(size)), 0)
        text = f"{size:.{min(decimals, digits + 3)}f}"
        return text if float(text) < 1e4 else f"{float(text):,.0f}".replace(",", THIN)
    exponent = math.floor(math.log10(size))
    leading = f"{size / 10.0**exponent:.{max(digits - 2, 0)}f}"
    if leading.startswith("10"):
        exponent, leading = exponent + 1, "1"
    return f"{leading} × 10{_superscript(exponent)}"


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
