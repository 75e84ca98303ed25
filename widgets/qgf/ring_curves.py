"""What a critic promises and what is earned, over the weight: the right side of the ring's hero."""

import numpy as np

from intuitive.qgf.critics import STABILITY_LIMIT
from intuitive.qgf.experiments.ring import UNPUSHED, RingResult

from ..kit import Circle, Line, Mark, Path, Words, chosen, fixed, number
from .labels import Box, Labels

HEIGHT, RIGHT = 438, 998  # of the scene
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 690, 952, 52, 336
MOST_SHOWN = 2.5  # of a promise


class Curves:
    """Two curves of one result; every point is a weight that can be clicked."""

    def __init__(self, result: RingResult) -> None:
        self.result, self.params, self.sampled = result, result.params, result.sampled

    def promise_y(self, value: int | float):
        """Height of a promise or reward in the curves; what is above stands at the edge."""
        share = min(max(value, -0.1), MOST_SHOWN) / MOST_SHOWN
        return CURVE_BOTTOM - (CURVE_BOTTOM - CURVE_TOP) * share

    def weight_x(self, place: int):
        step = (CURVE_RIGHT - CURVE_LEFT) / max(len(self.sampled.weights) - 1, 1)
        return CURVE_LEFT + step * place

    def marks(self) -> list[Mark]:
        """Promise and reward over the weight; every point is a weight that can be clicked."""
        sampled, now = self.sampled, self.result.place
        places = range(len(sampled.weights))
        means = {"promised": sampled.promised.mean(1), "earned": sampled.earned.mean(1)}
        colours = {"promised": "gold", "earned": "green"}
        x_now = self.weight_x(now)
        base = {"stroke": "faint", "width": 1}
        one = self.promise_y(1)
        marks: list[Mark] = [
            Line(key="foot", x=CURVE_LEFT, y=CURVE_BOTTOM, x2=CURVE_RIGHT, y2=CURVE_BOTTOM, **base),
            Line(
                key="most",
                x=CURVE_LEFT,
                y=one,
                x2=CURVE_RIGHT,
                y2=one,
                stroke="green",
                width=1.2,
                dash="2 4",
            ),
            Line(
                key="weight",
                x=x_now,
                y=CURVE_TOP,
                x2=x_now,
                y2=CURVE_BOTTOM,
                stroke="ink",
                width=1,
                opacity=0.5,
            ),
        ]
        xs = [self.weight_x(place) for place in places]
        tops = [self.promise_y(float(v)) for v in means["promised"]]
        feet = [self.promise_y(float(v)) for v in means["earned"]]
        gap = Path.through(
            xs + xs[::-1],
            tops + feet[::-1],
            closed=True,
            key="gap",
            fill="gold",
            opacity=0.14,
            link="gap",
            words="The gap between what is promised and what is earned: the critic is exploited.",
        )
        marks.append(gap)
        for name, values in means.items():
            ys = [self.promise_y(float(value)) for value in values]
            look = {"stroke": colours[name], "width": 2.5, "link": name}
            marks.append(Path.through(xs, ys, key=f"curve:{name}", **look))
            for place, value in enumerate(values.tolist()):
                w = chosen(sampled.weights[place])
                look = {"r": 7 if place == now else 4, "fill": colours[name], "stroke": "page"}
                marks.append(
                    Circle(
                        key=f"{name}:{place}",
                        x=xs[place],
                        y=ys[place],
                        link=name if place == now else f"weight:{place}",
                        words=f"At w = {w}, {number(value)} is {name}. Click to set this weight.",
                        click={"weight": sampled.weights[place]},
                        layer=3,
                        **look,
                    )
                )
                if value > MOST_SHOWN and place != now:
                    text = f"↑ {number(value, 2)}"
                    at = xs[place], CURVE_TOP - 10, "middle", colours[name]
                    marks.append(_tick(f"above:{place}", text, *at))
        marks.append(_tick("weights", "weight w →", CURVE_RIGHT, CURVE_BOTTOM + 38, "end"))
        for place, weight in enumerate(sampled.weights):
            look = {"bold": place == now, "fill": "ink" if place == now else "faint"}
            text = "¼" if weight == 0.25 else "½" if weight == 0.5 else chosen(weight)
            at = xs[place], CURVE_BOTTOM + 19
            marks.append(_tick(f"w:{place}", text, *at, "middle", **look))
        for value in (0, 1, 2):
            marks.append(
                _tick(
                    f"value at {value}",
                    str(value),
                    CURVE_LEFT - 10,
                    self.promise_y(value) + 4.5,
                    "end",
                )
            )
        marks.append(
            _tick("most's name", "the most there is", CURVE_LEFT + 4, one - 7, "start", "green")
        )
        return [*marks, *self._names(means), *self._stability()]

    def _names(self, means: dict[str, np.ndarray]) -> list[Words]:
        room = Box(CURVE_LEFT + 2, 2, RIGHT, CURVE_BOTTOM - 2)
        labels, now = Labels(room), self.result.place
        labels.keep_off(
            Box(CURVE_LEFT, self.promise_y(1) - 22, CURVE_LEFT + 134, self.promise_y(1))
        )
        x = self.weight_x(now)
        colours = {"promised": "gold", "earned": "green"}
        ys = {name: self.promise_y(float(values[now])) for name, values in means.items()}
        for values in means.values():
            heights = [self.promise_y(value) for value in values.tolist()]
            for place, y in enumerate(heights):
                labels.keep_off(Box.around(self.weight_x(place), y, 7 if place == now else 4))
            for place in range(len(heights) - 1):
                ends = self.weight_x(place), self.weight_x(place + 1)
                labels.keep_off_line(ends[0], heights[place], ends[1], heights[place + 1], 3)
        for name in ("promised", "earned"):
            value, y = float(means[name][now]), ys[name]
            off = "↑ " if value > MOST_SHOWN else ""
            text = f"{name} {off}{fixed(value)}"
            ups = (-14, -32, -50, 24, 42) if name == "promised" else (24, 42, 60, -14, -32)
            places = [(x + 8, y + up, "start") for up in ups]
            places += [(x - 8, y + up, "end") for up in ups]
            places += [(x, y + up, "middle") for up in ups]
            look = {"fill": colours[name], "bold": True, "link": name}
            labels.put(f"{name}'s name", text, places, **look)
        return labels.marks

    def _stability(self) -> list[Mark]:
        """The stability number, and what it means where it is too large."""
        if self.params.estimator in UNPUSHED:
            return []
        value, y = self.result.stability, HEIGHT - 26
        alarm = value > STABILITY_LIMIT
        text = f"stability number {fixed(value)}, below {STABILITY_LIMIT}"
        if alarm:
            text = f"▲ stability {fixed(value)}, above {STABILITY_LIMIT}: overshoots"
        look = {"fill": "vermilion" if alarm else "faint", "bold": alarm}
        words = (
            "The stability number: the step w/T times the critic's sharpest bend. Above 2 a step "
            "up the slope lands on the other side of the peak, farther away: paths zigzag."
        )
        at = {"x": CURVE_LEFT - 18, "y": y, "size": 13}
        return [Words(key="stability", text=text, link="stability", words=words, **at, **look)]


def _tick(key, text, x, y, anchor, fill="faint", bold=False) -> Words:
    return Words(key=key, text=text, x=x, y=y, anchor=anchor, fill=fill, bold=bold, size=13)
