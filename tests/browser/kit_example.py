"""An explorer without a paper: it shows all that the kit can do, and needs no model.

The browser tests copy this file beside their notebook. `hurry` makes its computation slow or lets
it fail.
"""

import ctypes
import gc
import threading
import time
from dataclasses import dataclass

import torch

from intuitive.common.runtime import check, seeded
from intuitive.widgets import theme
from intuitive.widgets.kit import (
    Arithmetic,
    CheckYourself,
    Choice,
    Circle,
    Explorer,
    Frame,
    Hero,
    Plot,
    Predict,
    Range,
    Readout,
    Scene,
    Step,
    Table,
    Text,
    Timeline,
    TokenMarks,
    Tokens,
    View,
    Words,
    number,
    percent,
)

N_SCORES = 12
WIDTH, HEIGHT = 800, 240
STAGES = ("scores", "softmax", "cut")
SLOW_S = 3


@dataclass(frozen=True, kw_only=True)
class ShareParams:
    spread: float = 2.0  # standard deviation of the scores
    n_kept: int = 4
    hurry: str = "quick"
    text: str = ""

    def __post_init__(self):
        if self.n_kept == 1 and self.spread == 0:
            raise ValueError(f"n_kept={self.n_kept} of equal scores means nothing: keep more.")


@dataclass(frozen=True)
class Shares:
    params: ShareParams
    scores: tuple[float, ...]
    weights: tuple[float, ...]
    kept: tuple[int, ...]
    held: float


def run(params, *, stale, progress):
    if params.hurry == "failing":
        raise RuntimeError("this setting always fails")
    for part in range(30 if params.hurry == "slow" else 0):
        check(stale)
        progress(part / 30, f"Part {part + 1} of 30…")
        time.sleep(SLOW_S / 30)
    scores = params.spread * torch.randn(N_SCORES, generator=seeded(0), dtype=torch.float32)
    weights, kept = scores.softmax(0), scores.topk(params.n_kept).indices
    numbers = (tuple(part.tolist()) for part in (scores, weights, kept))
    return Shares(params, *numbers, held=float(weights[kept].sum()))


def stage(result, name):
    """One disc for each score; it sinks as far as its score or weight says."""
    discs = []
    for i, (score, weight) in enumerate(zip(result.scores, result.weights, strict=True)):
        deep = HEIGHT / 2 - 15 * score if name == "scores" else HEIGHT - 30 - 180 * weight
        discs.append(
            Circle(
                key=f"score{i}",
                x=40 + 65 * i,
                y=min(max(deep, 15), HEIGHT - 15),
                r=12,
                fill="blue" if name != "cut" or i in result.kept else "grey",
                link=f"token:{i}",
                words=f"Score {i} is {number(score)}; its weight is {percent(weight, 1)}.",
            )
        )
    told = Words(key="told", x=WIDTH - 8, y=20, anchor="end", text=percent(result.held))
    return Scene(width=WIDTH, height=HEIGHT, marks=(*discs, *[told] * (name == "cut")))


def cover(first):
    """A shape that hides all points but the first few."""
    box = {"type": "rect", "x0": first, "x1": N_SCORES, "yref": "paper", "y0": 0, "y1": 1}
    return box | {"fillcolor": "page", "line": {"width": 0}}


def points(result, values, title):
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": list(range(N_SCORES)),
        "y": list(values),
        "ids": [f"token:{i}" for i in range(N_SCORES)],
        "marker": {"color": theme.BLUE, "size": 9},
    }
    return theme.figure([trace], x="score", y=title, x_range=(-1, N_SCORES))


def present(result):
    held = percent(result.held)
    frames = (
        Frame(
            scene=stage(result, name),
            stage=name,
            sentence=f"Now the {name}.",
            figures={"weights": {"layout": {"shapes": [cover(place)]}}},
        )
        for place, name in enumerate(STAGES)
    )
    text = result.params.text or "A mad tea party with a hare, a hatter and a mouse"
    words = tuple(f"{word} " for word in text.split())[:N_SCORES]
    return View(
        summary=f"Of {N_SCORES} scores the {result.params.n_kept} largest hold {held}.",
        timeline=Timeline(frames=tuple(frames), axis="stage", start=-1),
        arithmetic={
            f"token:{i}": Arithmetic(
                text=f"e^{number(score)} / sum = {number(weight)}",
                tex=rf"w_{{{i}}} = {weight:.3f}",
            )
            for i, (score, weight) in enumerate(zip(result.scores, result.weights, strict=True))
        },
        figures={
            "all": lambda: points(result, result.weights, "weight"),
            "scores": lambda: points(result, result.scores, "score"),
            "weights": lambda: points(result, result.weights, "weight"),
        },
        tokens=TokenMarks(texts=words, marks=bytes(len(words))),
        readouts=(
            Readout("held by the kept", held),
            Readout("weight of score 0", percent(result.weights[0], 1), link="token:0"),
        ),
        table=Table(
            ("score", "weight"),
            tuple(
                (number(s), percent(w)) for s, w in zip(result.scores, result.weights, strict=True)
            ),
        ),
        code=f"run(ShareParams(spread={result.params.spread}, n_kept={result.params.n_kept}))",
    )


def how_much():
    return 1, "The four largest of twelve hold about half."


PREDICT = Predict(
    question="How much do the four largest hold?",
    choices=("about a tenth", "about half", "nearly all"),
    answer=how_much,
)


def explorer(name="kit_example", *, predict=None, **values):
    return Explorer(
        name=name,
        title="How few scores make a softmax?",
        params=ShareParams,
        compute=run,
        present=present,
        hero=Hero(label="Twelve scores and their softmax"),
        controls=(
            Range(name="spread", label="Spread of the scores", min=0, max=8, step=0.5),
            Range(name="n_kept", label="Scores kept", min=1, max=N_SCORES),
            Choice(
                name="hurry",
                label="Computation",
                options={"quick": "quick", "slow": "slow", "failing": "failing"},
            ),
            Text(name="text", label="Your text", more=True, max_bytes=2_000),
        ),
        plots=(
            Plot(name="all", label="All weights", height=700),
            Plot(name="scores", label="Scores", tab="Scores"),
            Plot(name="weights", label="Weights", tab="Weights"),
        ),
        tokens=Tokens(label="Words", classes=(("read", "read"),)),
        steps=(
            Step(title="See the stages", text="Watch the three stages.", frame="play"),
            Step(title="All equal", text="They share equally.", sets={"spread": 0}, frame="first"),
        ),
        defaults={"spread": 2.0, "n_kept": 4, "hurry": "quick", "text": "", **values},
        predict=predict,
    )


def question():
    return CheckYourself(
        name="kit_question",
        question="Equal scores: what do half of them hold?",
        choices=("almost all", "half"),
        answer=lambda: (1, "Equal scores share equally."),
    )


def stop_python(seconds):
    """All of Python stands still in a moment, as on a machine that has no time for it."""

    def hold():
        time.sleep(0.5)
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # no other thread runs meanwhile

    threading.Thread(target=hold).start()


def census():
    """Explorers that are not closed, and threads."""
    gc.collect()
    alive = [thing for thing in gc.get_objects() if issubclass(type(thing), Explorer)]
    return sum(thing.comm is not None for thing in alive), threading.active_count()
