"""What the arena's explorers share: colours by meaning, and how methods are told apart.

Green is a token kept in its own words, blue one that is left in a latent, vermilion what is read;
purple is what was asked for.
"""

from intuitive.arena.methods import about

from .. import theme

KEPT, BEAD, READ, ASKED = theme.GREEN, theme.BLUE, theme.VERMILION, theme.PURPLE
RIGHT, WRONG = theme.GREEN, "ink"  # red is what is read
_LOOK = {  # colour, dash, symbol
    "dense": (theme.GREY, "solid", "star"),
    "window": (theme.GREY, "dot", "circle"),
    "snapkv_blind": (theme.VERMILION, "dot", "square"),
    "snapkv": (theme.VERMILION, "solid", "square"),
    "expected": (theme.PURPLE, "dash", "diamond"),
    "kvzip": (theme.PURPLE, "solid", "cross"),
    "lsa": (theme.GREEN, "solid", "triangle-up"),
    "msa": (theme.GREEN, "dash", "triangle-down"),
    "lclm": (theme.BLUE, "solid", "circle-open"),
    "lclm_expand": (theme.BLUE, "dash", "diamond-open"),
}
DRAWN = tuple(_LOOK)


def label(method: str) -> str:
    """What a method is called."""
    return about(method).label


def trace(
    method: str,
    xs: list[float],
    ys: list[float] | list[str],
    words: list[str],
    strong: list[bool],
) -> dict:
    """A method's points, told in words on hover; those of the chosen budget are strong."""
    colour, dash, symbol = _LOOK[method]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": xs,
        "y": ys,
        "meta": f"method:{method}",
        "hovertext": words,
        "hoverinfo": "text",
        "name": label(method),
        "line": {"color": colour, "dash": dash, "width": 1.5},
        "marker": {
            "color": colour,
            "symbol": symbol,
            "size": [13 if one else 7 for one in strong],
            "opacity": [1 if one else 0.6 for one in strong],
        },
        "cliponaxis": False,
    }
