"""The hero of "The swarm": all particles from noise to action, under one estimator or two.

Every estimator has a lane: time runs from left to right, position upwards. Golden points are where
the critic is asked now: at the particles themselves, or at actions, on the lane's right edge. Right
of it stands how the swarm lies now, in front of the exact answer for the same time. Particles have
the colour of the mode in which they will end.
"""

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate

import numpy as np

from intuitive.qgf.critics import STABILITY_LIMIT
from intuitive.qgf.experiments.trimodal import Run, TrimodalResult
from intuitive.qgf.guidance import ESTIMATOR_NAMES, ESTIMATORS

from ..kit import (
    Arrow,
    Circle,
    Drag,
    Frame,
    Line,
    Mark,
    Path,
    Scene,
    Swarm,
    Words,
    chosen,
    fixed,
    percent,
)
from .particle_words import REACH
from .styles import MODE_NAMES, reading
from .ways import strokes

Number = int | float

WIDTH, HEIGHT = 1000, 410
TOP, BOTTOM = 50, 376
ALONE = (44, 700, 890)  # left, where time ends, and where the histogram ends
PAIR = ((44, 356, 470), (548, 860, 974))
N_TRAILS, N_SWARM, N_ASKED = 40, 240, 9
CORNERS = 10  # of a path
ASKS = {  # what an estimator asks about, where it is not clear from its points
    "bc": "asks nobody",
    "exact": "knows all that each particle can become",
    "cfgrl": "asks nobody: it flows to the better half",
    "grad_step": "asks about finished actions, then climbs",
    "best_of_n": "chooses among finished actions",
    "robust_q": "asks a critic that averages over what can become",
}


class Picture:
    """All frames of one result."""

    def __init__(self, result: TrimodalResult) -> None:
        self.result, self.params = result, result.params
        self.reach = REACH[self.params.preset]
        self.lanes = [
            Lane(self, run, *ends, i)
            for i, (run, ends) in enumerate(
                zip(result.runs, PAIR if len(result.runs) > 1 else (ALONE,), strict=False)
            )
        ]
        self.peak_mode = int(np.abs(np.array(result.means) - self.params.peak).argmin())

    def y(self, position: Number) -> float:
        shown = min(max(position, -self.reach), self.reach)
        return float(BOTTOM - (BOTTOM - TOP) * (shown + self.reach) / (2 * self.reach))

    def ys(self, positions: np.ndarray) -> np.ndarray:
        """Heights of positions; what is out of sight stands at the edge."""
        shown = np.clip(positions, -self.reach, self.reach)
        return BOTTOM - (BOTTOM - TOP) * (shown + self.reach) / (2 * self.reach)

    def frames(self) -> tuple[Frame, ...]:
        return tuple(self._frame(place, k) for place, k in enumerate(self.result.frames))

    def _frame(self, place: int, k: int) -> Frame:
        marks = [*self.ground]
        for lane in self.lanes:
            marks += lane.at(place, k)
        t, end = k / self.params.n_steps, k == self.params.n_steps
        if k == 0:
            asked = "Golden points: where the critic is asked." if self.asks else ""
            sentence = f"{self.params.n_particles} particles of pure noise. {asked}".strip()
        elif end:
            sentence = self.outcome
        else:
            sentence = f"t = {fixed(t)}. " + " ".join(
                filter(None, (ln.asked(k) for ln in self.lanes))
            )
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=f"t = {fixed(t)}",
            stage="actions" if end else "",
            sentence=sentence,
        )

    @property
    def asks(self) -> bool:
        """Is anybody asked at a point?"""
        return any(len(run.queries) for run in self.result.runs)

    @cached_property
    def outcome(self) -> str:
        """Who ends where."""
        ended = [
            f"{ESTIMATOR_NAMES[run.estimator]} {percent(run.mode_masses[self.peak_mode])}"
            for run in self.result.runs
        ]
        mean = chosen(self.result.means[self.peak_mode])
        return f"In the peak's mode, at {mean}, end: {', '.join(ended)}."

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        """Axes, lanes, the line at a*, its handle, and their names."""
        marks: list[Mark] = []
        for at in np.arange(-3, 4) * (1.0 if self.reach > 3 else 0.8):
            text, y = chosen(round(float(at), 1)), self.y(at)
            place = {"x": 36, "y": y + 4, "anchor": "end", "size": 12.5, "fill": "faint"}
            marks.append(Words(key=f"at:{at:.1f}", text=text, **place))
        for lane in self.lanes:
            marks += lane.ground
        peak = self.params.peak
        y, x = self.y(peak), (self.lanes[0].end + 26 if len(self.lanes) > 1 else 920)
        level = {"stroke": "gold", "width": 1.5, "dash": "5 4", "layer": 3}
        right = self.lanes[-1].end
        marks.append(Line(key="level", x=44, y=y, x2=right, y2=y, **level))
        scale = ((-self.reach, self.y(-self.reach)), (self.reach, self.y(self.reach)))
        words = f"The critic's peak a* is at {fixed(peak)}. Drag it up or down."
        look = {"fill": "gold", "stroke": "page", "label": "↕", "size": 12, "layer": 6}
        look |= {"link": "peak", "words": words, "drag": Drag(y="peak", y_scale=scale)}
        marks.append(Circle(key="peak", x=x, y=y, r=9, **look))
        marks.append(
            Words(
                key="peak's name",
                text=f"a* = {fixed(peak)}",
                x=x,
                y=y - 15 if y > TOP + 30 else y + 25,
                anchor="middle",
                fill="gold",
                bold=True,
                stroke="page",
                width=3,
                layer=6,
            )
        )
        return (*marks, *self._bump(x))

    def _bump(self, x: Number) -> list[Mark]:
        """Where the critic has a second hill, if it has one in sight."""
        p = self.params
        if not p.bump_height or p.critic == "quadratic" or abs(p.bump_position) > self.reach:
            return []
        y = self.y(p.bump_position)
        if abs(y - self.y(p.peak)) < 40:
            return []
        paid = "the return pays for it too" if p.bump_real else "no return pays it"
        name = "paid hill" if p.bump_real else "bump"
        words = f"The critic's second hill is at {fixed(p.bump_position)}; {paid}."
        look = {"fill": "gold", "anchor": "middle", "size": 12.5, "stroke": "page", "width": 3}
        own = {"link": "bump", "words": words}
        line = {"stroke": "gold", "width": 1, "dash": "1 4", "opacity": 0.9, "layer": 1, **own}
        return [
            Line(key="bump", x=44, y=y, x2=self.lanes[-1].end, y2=y, **line),
            Words(key="bump's name", text=name, x=x, y=y + 4, layer=6, **look, **own),
        ]

    @property
    def overshoots(self) -> bool:
        """Are an estimator's steps of ascent too long?"""
        return any(lane.overshoots for lane in self.lanes)


class Lane:
    """One estimator's part of the picture."""

    def __init__(
        self, picture: Picture, run: Run, left: Number, right: Number, end: Number, number: int
    ) -> None:
        self.picture, self.run, self.result = picture, run, picture.result
        self.left, self.right, self.end = left, right, end
        self.name = ESTIMATOR_NAMES[run.estimator]
        self.key = f"{number}"
        n_steps = picture.params.n_steps
        self.steps_asked = {round(float(t) * n_steps): i for i, t in enumerate(run.query_times)}
        exact = max(float(self.result.tilted.max()), float(self.result.fine_density.max()))
        self.scale = (end - right - 8) / exact  # pixels for a density

    def x(self, t):
        """Where a time stands, or several."""
        return self.left + (self.right - self.left) * t

    @cached_property
    def ground(self) -> list[Mark]:
        p, key = self.picture, self.key
        edge = {"stroke": "faint", "width": 1}
        marks: list[Mark] = [
            Line(key=f"{key}:edge", x=self.right, y=TOP, x2=self.right, y2=BOTTOM, **edge),
            Line(key=f"{key}:floor", x=self.left, y=BOTTOM, x2=self.end, y2=BOTTOM, **edge),
            Words(key=f"{key}:name", text=self.name, x=self.left, y=18, bold=True, size=16),
        ]
        if self.overshoots:
            said = (
                f"▲ overshoots: stability number {fixed(self.result.stability)}, "
                f"above {STABILITY_LIMIT}"
            )
            look = {"x": self.left, "y": HEIGHT - 4, "bold": True, "size": 13}
            marks.append(Words(key=f"{key}:alarm", text=said, **look))
        for t, text, anchor in ((0, "t = 0, noise", "start"), (1, "t = 1, action", "middle")):
            place = {"x": self.x(t), "y": BOTTOM + 16, "anchor": anchor, "size": 12}
            marks.append(Words(key=f"{key}:time:{t}", text=text, fill="faint", **place))
        density = np.interp(self.result.x, self.result.fine, self.result.fine_density)
        seen = np.abs(self.result.x) <= p.reach
        data = {"stroke": "grey", "width": 1.5, "dash": "2 3", "link": "data"}
        marks.append(
            Path.through(
                self.right + 1 + self.scale * density[seen],
                p.ys(self.result.x[seen]),
                key=f"{key}:data",
                words="The data: three modes, a third of all actions each.",
                **data,
            )
        )
        for name, fill, y in (("exact tilt", "green", 18), ("data", "grey", 36)):
            look = {"anchor": "end", "size": 12.5, "bold": name != "data"}
            marks.append(
                Words(key=f"{key}:name:{name}", text=name, x=self.end, y=y, fill=fill, **look)
            )
        return marks

    @property
    def overshoots(self) -> bool:
        """Are this estimator's steps of ascent too long?"""
        ascends = ESTIMATORS[self.run.estimator].ascends
        return ascends and self.result.stability > STABILITY_LIMIT

    def _asks(self) -> str:
        if self.run.estimator in ASKS:
            return ASKS[self.run.estimator]
        if self.run.asks_itself:
            return "asks about the noisy particles"
        return "asks about clean estimates"

    def asked(self, k: int) -> str:
        """Where the swarm asks at a step."""
        if k not in self.steps_asked:
            return ""
        queries = self.run.queries[self.steps_asked[k]]
        low, high = np.quantile(queries, (0.05, 0.95))
        if high - low < 0.01:
            return f"{self.name} asks about {fixed(low)}, for every particle."
        return f"{self.name} asks about {fixed(low)} to {fixed(high)}."

    def at(self, place: int, k: int) -> list[Mark]:
        """The marks of a frame."""
        p, run, key = self.picture, self.run, self.key
        end = k == p.params.n_steps
        shown, now = run.trajectory[:, :N_SWARM], self.x(k / p.params.n_steps)
        shades = run.final_mode[:N_SWARM] + 1
        spread = (np.arange(shown.shape[1]) * 0.618034 % 1 - 0.5) * 10  # reads as a cloud
        marks: list[Mark] = [
            Swarm(
                key=f"{key}:swarm",
                xs=now + spread,
                ys=p.ys(shown[k]),
                colours=("grey", *MODE_NAMES),
                shades=shades if k else np.zeros_like(shades),
                r=2.2,
                opacity=0.7,
            ),
            Line(key=f"{key}:now", x=now, y=TOP, x2=now, y2=BOTTOM, stroke="faint", opacity=0.7),
            *(self._trails(k) if k else ()),
            *self._density(place, end),
            *self._questions(k, now, spread),
        ]
        said = self._reads() if end else self._asks()
        marks.append(Words(key=f"{key}:asks", text=said, x=self.left, y=36, fill="gold", size=13))
        if end:
            marks += self._shares()
        return marks

    def _reads(self) -> str:
        """What the critic says of the finished actions, and what they earn."""
        run = self.run
        if run.outside > 0.5:
            return "off every scale"
        return f"critic reads {reading(run.critic_mean)}, they earn {reading(run.return_mean)}"

    def _trails(self, k: int) -> list[Mark]:
        """Paths walked so far; what is still to come lies folded at their end."""
        p, n = self.picture, self.picture.params.n_steps
        corners, pens, walked, by_mode = self._walks
        done = bisect_right(corners, k) - 1  # corners passed
        begun = k > corners[done]
        marks: list[Mark] = []
        if begun:
            across = round(self.x(k / n)) - round(self.x(corners[done] / n))
            here = np.rint(p.ys(self.run.trajectory[k, :N_TRAILS])).astype(int)
            last = np.rint(p.ys(self.run.trajectory[corners[done], :N_TRAILS])).astype(int)
            on = [f"{across},{down}" for down in (here - last).tolist()]
        for mode, colour, members in by_mode:
            lines = []
            for i in members:
                rest = [f"{pen}0,0" for pen in pens[i][done:]]
                if begun:
                    rest[0] = pens[i][done] + on[i]
                lines.append(walked[i][done] + "".join(rest))
            look = {"stroke": colour, "width": 1, "opacity": 0.4, "layer": 1}
            marks.append(Path(key=f"{self.key}:trail:{mode}", d="".join(lines), **look))
        return marks

    @cached_property
    def _walks(
        self,
    ) -> tuple[list[int], list[list[str]], list[list[str]], list[tuple[int, str, list[int]]]]:
        """Steps of the trails' corners, strokes between them, each trail up to each, by mode."""
        p, n = self.picture, self.picture.params.n_steps
        count = min(n, CORNERS)
        corners = [i * n // count for i in range(count + 1)]
        xs = np.rint(self.x(np.array(corners) / n)).astype(int)
        ys = np.rint(p.ys(self.run.trajectory[corners, :N_TRAILS])).astype(int)
        across = [f"{step}," for step in np.diff(xs).tolist()]
        out = np.abs(self.run.trajectory[corners, :N_TRAILS]) > p.reach
        pens, walked = strokes(out).T.tolist(), []
        downs = np.diff(ys, axis=0).T.tolist()
        for first, moves, drawn in zip(ys[0].tolist(), downs, pens, strict=True):
            steps = (f"{pen}{a}{b}" for pen, a, b in zip(drawn, across, moves, strict=True))
            walked.append(list(accumulate(steps, initial=f"M{xs[0]},{first}")))
        ended = self.run.final_mode[:N_TRAILS]
        by_mode = [
            (mode, colour, np.flatnonzero(ended == mode).tolist())
            for mode, colour in ((-1, "grey"), *enumerate(MODE_NAMES))
        ]
        return corners, pens, walked, [told for told in by_mode if told[2]]

    def _density(self, place: int, end: bool) -> list[Mark]:
        """How the swarm lies now, in front of the exact tilt for this time."""
        p, result, run = self.picture, self.result, self.run
        heights = np.minimum(self.scale * run.marginals[place], self.end - self.right - 2)
        lows, highs, mode = self._bins
        drawn = (mode > -2) & (heights > 0.3)
        base = f"{self.right + 1:.0f}"
        marks: list[Mark] = []
        for number, colour in ((-1, "grey"), *enumerate(MODE_NAMES)) if end else ((-1, "grey"),):
            part = np.flatnonzero(drawn & (mode == number) if end else drawn).tolist()
            talls = heights[part].tolist()
            d = "".join(
                f"M{base},{lows[i]}h{tall:.0f}V{highs[i]}H{base}Z"
                for i, tall in zip(part, talls, strict=True)
            )
            name = "swarm lies" if not end else f"ended:{number}"
            look = {"fill": colour if end else "grey", "opacity": 0.75 if end else 0.5, "layer": 1}
            words = "How the swarm lies now." if not end else self._ended(number)
            marks.append(
                Path(key=f"{self.key}:{name}", d=d, words=words, link=f"mode:{number}", **look)
            )
        tall = np.flatnonzero(self.scale * result.tilted[place] > 0.5)
        near = np.abs(result.x) <= p.reach
        near &= (np.arange(len(near)) >= tall[0]) & (np.arange(len(near)) <= tall[-1])
        tilted = np.minimum(self.scale * result.tilted[place][near], self.end - self.right - 2)
        words = "The exact tilt: how a perfect sampler of data times e^(wQ) would lie at this time."
        look = {"stroke": "green", "width": 2, "layer": 2, "link": "tilt", "words": words}
        ys = p.ys(result.x[near])
        return [*marks, Path.through(self.right + 1 + tilted, ys, key=f"{self.key}:tilt", **look)]

    @cached_property
    def _bins(self) -> tuple[list[str], list[str], np.ndarray]:
        """Of the histogram's bins: lower edges, upper edges, and modes, -2 for out of sight."""
        p, edges = self.picture, self.result.bin_edges
        middles, half = (edges[:-1] + edges[1:]) / 2, (edges[1] - edges[0]) / 2
        away = np.abs(middles[:, None] - np.array(self.result.means))
        mode = np.where(away.min(1) <= 3 * self.result.std, away.argmin(1), -1)
        mode[np.abs(middles) > p.reach] = -2
        lows, highs = (
            [f"{y:.0f}" for y in p.ys(at).tolist()] for at in (middles - half, middles + half)
        )
        return lows, highs, mode

    def _ended(self, mode: int) -> str:
        if mode < 0:
            return f"{percent(self.run.off_mode)} of {self.name}'s particles end in no mode."
        share, mean = self.run.mode_masses[mode], chosen(self.result.means[mode])
        return f"{percent(share)} of {self.name}'s particles end in the mode at {mean}."

    def _questions(self, k: int, now: Number, spread: np.ndarray) -> list[Mark]:
        """Where the critic is asked for some of the particles."""
        if k not in self.steps_asked:
            return []
        p, own = self.picture, self.run.asks_itself
        queries = self.run.queries[self.steps_asked[k]][:N_SWARM]
        few = slice(0, N_SWARM, 4)
        xs = (now if own else self.right) + spread[few]
        marks: list[Mark] = [
            Swarm(
                key=f"{self.key}:asked",
                xs=xs,
                ys=p.ys(queries[few]),
                colours=("gold",),
                r=2.6,
                opacity=0.95,
            )
        ]
        for i in range(0, 4 * N_ASKED, 4) if not own else ():
            at, asked = float(self.run.trajectory[k, i]), float(queries[i])
            line = {"x": now, "y": p.y(at), "x2": self.right - 3, "y2": p.y(asked)}
            words = f"The particle at {fixed(at)} asks about {fixed(asked)}."
            look = {"stroke": "gold", "width": 1.1, "opacity": 0.75, "layer": 2, "head": 6}
            look |= {"link": f"asks:{i}", "words": words}
            marks.append(Arrow(key=f"{self.key}:asks:{i}", **line, **look))
        return marks

    def _shares(self) -> list[Mark]:
        p, run = self.picture, self.run
        marks: list[Mark] = []
        look = {"anchor": "end", "bold": True, "stroke": "page", "width": 3, "layer": 5}
        for mode, (share, mean) in enumerate(zip(run.mode_masses, self.result.means, strict=True)):
            size = 17 if share > 0.5 else 13
            y = p.y(mean + 3 * self.result.std) - 5  # over the hill, and its bars
            text, link = percent(share), f"mode:{mode}"
            own = {"fill": MODE_NAMES[mode], "size": size, "words": self._ended(mode)}
            place = {"x": self.end - 18, "y": y, "link": link}
            marks.append(Words(key=f"{self.key}:share:{mode}", text=text, **place, **own, **look))
        lost = max(run.off_mode, 0)
        if lost > 0.005:
            text = f"none: {percent(lost)}"
            if run.outside > 0.5:
                text = "out of sight"
            y = BOTTOM - 8
            own = {"fill": "grey", "size": 13, "words": self._ended(-1), "link": "mode:-1"}
            marks.append(Words(key=f"{self.key}:lost", text=text, x=self.end, y=y, **own, **look))
        return marks
