"""The tabs of "Words fold into beads": what is left token by token, and labels."""

import numpy as np

from intuitive.lclm.experiments.beads import Beads
from intuitive.lclm.reference import label_mask

from .. import theme
from ..kit import fixed, percent
from . import styles
from .beads_text import quoted
from .beads_words import label

ACROSS = 16  # tokens in a row of the map: a bead at 16, two at 8, four at 4
LETTERS = 7  # of a word in its cell
WORST = -6.0  # nats: what is unlikelier has the same colour
SCALE = [[0.0, styles.LOST], [0.5, "#BDBDBD"], [1.0, styles.KEPT]]


def map_figure(found: Beads) -> theme.Figure:
    """The log-probability of every token, sixteen in a row."""
    n = found.n_tokens
    rows = -(-n // ACROSS)
    z = np.full(rows * ACROSS, np.nan)
    z[:n] = np.maximum(found.reading.log_probability, WORST)
    told = [_told(found, token) for token in range(n)] + [""] * (rows * ACROSS - n)
    words = [_short(label(word)) for word in found.words] + [""] * (rows * ACROSS - n)
    table = [list(words[i : i + ACROSS]) for i in range(0, len(words), ACROSS)]
    hover = [told[i : i + ACROSS] for i in range(0, len(told), ACROSS)]
    heat = {
        "type": "heatmap",
        "z": z.reshape(rows, ACROSS).tolist(),
        "text": table,
        "texttemplate": "%{text}",
        "textfont": {"size": 10},
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
        "colorscale": SCALE,
        "zmin": WORST,
        "zmax": 0.0,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": "ln p", "side": "right"}, "thickness": 10, "len": 0.9},
    }
    ends = [
        {
            "type": "line",
            "x0": x - 0.5,
            "x1": x - 0.5,
            "y0": -0.5,
            "y1": rows - 0.5,
            "line": {"color": theme.BLUE, "width": 2},
        }
        for x in range(0, ACROSS + 1, min(found.params.ratio, ACROSS))
    ]
    return theme.figure(
        [heat],
        shapes=ends,
        margin={"l": 44, "r": 10, "t": 10, "b": 48},
        xaxis={
            "title": {"text": "token of the row; blue lines part the beads", "standoff": 10},
            "dtick": 4,
        },
        yaxis={"autorange": "reversed", "dtick": 4, "title": {"text": "row"}},
    )


def _short(word: str) -> str:
    """As much of a word as a cell of a narrow window holds; all of it stands on its hover."""
    return word if len(word) <= LETTERS else f"{word[: LETTERS - 1]}…"


def _told(found: Beads, token: int) -> str:
    tops = zip(
        found.reading.top_words[token], found.reading.top_probability[token].tolist(), strict=True
    )
    lines = [f"{quoted(word)} {percent(p)}" for word, p in tops]
    log_prob = fixed(float(found.reading.log_probability[token]))
    return "<br>".join([f"<b>{quoted(found.words[token])}</b>, ln p = {log_prob}", *lines])


def place_figure(found: Beads) -> theme.Figure:
    """Mean log-probability and share kept by the place in the bead."""
    n = found.params.ratio
    place = np.arange(found.n_tokens) % n
    right = found.reads_right
    share = [float(right[place == i].mean()) for i in range(n) if (place == i).any()]
    mean = [float(found.reading.log_probability[place == i].mean()) for i in range(len(share))]
    bars = {
        "type": "bar",
        "x": [i + 1 for i in range(len(share))],
        "y": share,
        "marker": {"color": styles.KEPT},
        "customdata": [fixed(value) for value in mean],
        "hovertemplate": "place %{x}: %{y:.0%} kept, mean ln p %{customdata}<extra></extra>",
    }
    return theme.figure(
        [bars],
        x="place in the bead",
        y="read right",
        y_range=(0, 1),
        xaxis={"dtick": 1},
        yaxis={"tickformat": ".0%"},
    )


def kinds_figure(found: Beads) -> theme.Figure:
    """Share read right by the kind of token, and what is guessed without any bead."""
    names, read, guessed, told = [], [], [], []
    for kind, name in styles.KIND_NAMES.items():
        mine = found.is_kind(kind)
        if mine.any():
            names.append(name)
            right, n = found.read_of(kind)
            read.append(right / n)
            guessed.append(float(found.guessed[mine].mean()))
            told.append(f"{right} of {n}")
    bars = [
        {
            "type": "bar",
            "x": names,
            "y": read,
            "text": told,
            "textposition": "outside",
            "cliponaxis": False,
            "constraintext": "none",
            "textfont": {"size": 11},
            "marker": {"color": styles.KEPT},
            "hovertemplate": "%{x}: %{text} read right<extra></extra>",
        },
        {
            "type": "bar",
            "x": names,
            "y": guessed,
            "marker": {"color": styles.RAW},
            "hovertemplate": "%{x}: %{y:.0%} guessed without beads<extra></extra>",
        },
    ]
    return theme.figure(
        bars, x="kind of token", y="read right", y_range=(0, 1), yaxis={"tickformat": ".0%"}
    )


# ------------------------------------------------------------------------------- which are trained

STRIPS = {
    "interleaved": "text, half folded",
    "instruction": "folded prompt, reply",
    "reconstruction": "folded text, its copy",
}
TAG, BEAD, GIVEN, TRAINED = range(4)
STATES = ("not trained: tag", "not trained: bead", "not trained: given", "trained")
STATE_COLOURS = (theme.GREY, styles.BEAD, "#C9C9C9", styles.KEPT)


def strips(found: Beads) -> dict[str, list[tuple[str, int, str]]]:
    """By kind of data, (kind, place in `STATES`, words) of every decoder position.

    The text is cut as training data are: into spans and raw segments by turns, into a prompt with
    its reply, and into a text that is repeated.
    """
    n = found.n_tokens
    a, b, c = (max(1, n * part // 8) for part in (2, 4, 6))
    few = min(8, a)
    plans = {
        "interleaved": [("span", 0, a), ("raw", a, b), ("span", b, c), ("raw", c, n)],
        "instruction": [("given", 0, few), ("span", few, c), ("raw", c, n)],
        "reconstruction": [("span", 0, b), ("given", "\n", "Repeat", ":", "\n"), ("raw", 0, b)],
    }
    return {name: _strip(found, plan) for name, plan in plans.items()}


def _strip(found: Beads, plan: list[tuple]) -> list[tuple[str, int, str]]:
    strip: list[tuple[str, int, str]] = []
    ratio = found.params.ratio
    for what, *place in plan:
        texts = place if isinstance(place[0], str) else found.words[place[0] : place[1]]
        if what == "span":
            groups = [texts[i : i + ratio] for i in range(0, len(texts), ratio)]
            strip.append(("start", TAG, "tag"))
            strip += [("latent", BEAD, f"bead of {quoted(''.join(group))}") for group in groups]
            strip.append(("end", TAG, "tag"))
        else:
            state = TRAINED if what == "raw" else GIVEN
            strip += [("raw", state, quoted(text)) for text in texts]
    mask = label_mask([kind for kind, _, _ in strip]).tolist()
    return [
        (kind, GIVEN if state == TRAINED and not may else state, told)
        for (kind, state, told), may in zip(strip, mask, strict=True)
    ]


def labels_figure(found: Beads) -> theme.Figure:
    """Three strips of decoder positions: which tokens the loss counts."""
    made = strips(found)
    longest = max(map(len, made.values()))
    z, hover = [], []
    for strip in made.values():
        pad = longest - len(strip)
        z.append([float(state) for _, state, _ in strip] + [float("nan")] * pad)
        hover.append(
            [f"{told}<br>{why(strip, place)}" for place, (_, _, told) in enumerate(strip)]
            + [""] * pad
        )
    steps = [
        [edge, colour]
        for i, colour in enumerate(STATE_COLOURS)
        for edge in (i / len(STATES), (i + 1) / len(STATES))
    ]
    heat = {
        "type": "heatmap",
        "z": z,
        "y": list(STRIPS.values()),
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
        "colorscale": steps,
        "zmin": -0.5,
        "zmax": len(STATES) - 0.5,
        "xgap": 0.6,
        "ygap": 14,
        "colorbar": {
            "tickvals": list(range(len(STATES))),
            "ticktext": list(STATES),
            "thickness": 12,
        },
    }
    return theme.figure(
        [heat],
        x="decoder position",
        margin={"l": 160, "r": 10, "t": 10, "b": 46},
        yaxis={"autorange": "reversed"},
    )


def why(strip: list[tuple[str, int, str]], place: int) -> str:
    kind, state, _ = strip[place]
    """Why a position is trained, or not."""
    if state == TRAINED:
        before = strip[place - 1][0]
        if before == "end":
            return "trained: the first raw token after the end tag is predicted from that tag"
        return "trained: predicted from what stands before it"
    if kind in ("start", "end"):
        return "a tag is given, never predicted"
    if kind == "latent":
        return "a bead is no token: nothing can be predicted there"
    return "given: a prompt is read, not learnt by heart"
