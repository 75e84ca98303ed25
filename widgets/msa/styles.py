"""What the MSA explorers share: colours by meaning, names of selectors, marks.

Blocks read are blue, the local block green, the rest grey.
"""

from .. import theme

READ, LOCAL, SKIPPED = theme.BLUE, theme.GREEN, "rgba(127,127,127,0.5)"
RIDDLE = "#B58100"  # the gold of scenes
BLOCK_SIZES = (16, 32, 64, 128)  # tokens, on sliders
SELECTOR_NAMES = {
    "oracle": "oracle (true mass)",
    "main_max": "main scores, max",
    "main_mean": "main scores, mean",
    "block_mean_keys": "block-mean keys",
    "window_sink": "window + first block",
    "trained_index": "trained index",
    "untrained_index": "untrained index",
}


def spread(
    places: dict[str, int | float],
    gap: int | float,
    low: int | float,
    high: int | float,
) -> dict[str, int | float]:
    """Places of names along one axis, in the order of `places`, `gap` apart within the limits."""
    ordered = sorted(places, key=lambda name: places[name])
    found: dict[str, int | float] = {}
    least = low
    for name in ordered:
        found[name] = max(places[name], least)
        least = found[name] + gap
    most = high
    for name in reversed(ordered):
        found[name] = min(found[name], most)
        most = found[name] - gap
    return found


def end_names(
    ends: dict[str, int | float],
    colours: dict[str, str],
    *,
    gap: int | float,
    low: int | float,
    high: int | float,
    x: int | float | None = None,
) -> list[dict]:
    """Annotations that name curves where they end, in axis units; right of the plot without `x`."""
    return [
        {
            "text": name,
            **({"xref": "paper", "x": 1} if x is None else {"x": x}),
            "y": height,
            "xanchor": "left",
            "xshift": 6,
            "showarrow": False,
            "font": {"color": colours[name], "size": 13},
        }
        for name, height in spread(ends, gap, low, high).items()
    ]
