"""The hero of "One particle and its swarm": what stands in it, and one frame for each stage.

Time runs from left (noise) to right (action), position upwards. At the right edge stand the hills
of the data and, upright, the critic, so that a height means one position everywhere. A step of the
flow is told in five stages: a jump to where the critic is asked, the question, the slope, the slope
carried back, and the step. The first step and one on the way are told so, the others just taken.

Nothing tells where the swarm ends before the last frame, and no method is drawn beside one that
comes before it in the lesson: unguided, OOD, QGF.
"""

from functools import cached_property

import numpy as np

from intuitive.qgf.experiments.particle import ParticleResult, Walk

from ..kit import (
    Arrow,
    Circle,
    Drag,
    Frame,
    Line,
    Mark,
    Path,
    Rectangle,
    Scene,
    Swarm,
    Words,
    chosen,
    fixed,
    number,
    percent,
)
from .labels import Box, Labels, text_box
from .particle_words import Account, signed
from .styles import MODE_NAMES
from .styles import SHORT_NAMES as SHORT
from .ways import strokes

Number = int | float

WIDTH, HEIGHT = 1000, 436
LEFT, RIGHT, TOP, BOTTOM = 48, 640, 32, 402  # of the part where time runs
HILL = 34  # width of a hill of the data
TALLEST = 3.2  # the exact tilt is drawn up to so many hills wide
NAMES = RIGHT + 1 + HILL * TALLEST + 4  # of the modes, right of all hills and the exact tilt
CRITIC_LEFT, CRITIC_RIGHT = 794, 876
DEPTH = 5.0  # of the critic below its top in sight
TOLD = (0, 0.4)  # times of the steps that are told in stages
CORNERS = 10  # of a coarse path
N_ROADS, N_TRAILS = 48, 30  # particles of the swarm whose path is drawn
ROOM = Box(2, 2, WIDTH - 2, HEIGHT - 2)
STAGES = ("jump", "ask", "slope", "carry", "step")


class Picture:
    """All frames of one result."""

    def __init__(self, result: ParticleResult) -> None:
        self.result, self.params, self.walk = result, result.params, result.walk
        self.say = Account(result)
        self.asks, self.reach, self.ghosts = self.say.asks, self.say.reach, self.say.ghosts
        self.n_steps = self.params.n_steps
        self._moved: dict[tuple[int, str], list[Mark]] = {}
        self.told = {round(t * self.n_steps) for t in TOLD}

    # ------------------------------------------------------------------------------- places

    def x(self, t):
        """Where a time stands, or several."""
        return LEFT + (RIGHT - LEFT) * t

    def y(self, position: Number) -> Number:
        """Height of a position; what is out of sight stands at the edge."""
        shown = min(max(float(position), -self.reach), self.reach)
        return BOTTOM - (BOTTOM - TOP) * (shown + self.reach) / (2 * self.reach)

    def ys(self, positions: np.ndarray) -> np.ndarray:
        """Heights of several positions."""
        shown = np.clip(positions, -self.reach, self.reach)
        return BOTTOM - (BOTTOM - TOP) * (shown + self.reach) / (2 * self.reach)

    @property
    def names(self) -> Number:
        """Where the modes' names begin: right of all that stands beside them."""
        return NAMES if self.asks else RIGHT + HILL * 3 + 8

    @cached_property
    def critic_sight(self) -> tuple[float, float]:
        """Lowest and highest value of the critic in sight."""
        seen = np.abs(self.result.grid) <= self.reach
        top = float(self.result.critic[seen].max())
        return max(float(self.result.critic[seen].min()), top - DEPTH), top

    def critic_x(self, value: Number) -> Number:
        low, top = self.critic_sight
        share = min(max((value - low) / max(top - low, 1e-9), 0), 1)
        return CRITIC_LEFT + (CRITIC_RIGHT - CRITIC_LEFT) * share

    def drag(self, name: str) -> Drag:
        ends = (-self.reach, self.y(-self.reach)), (self.reach, self.y(self.reach))
        return Drag(y=name, y_scale=ends)

    def way(self, positions, upto: int, *, coarse: bool = False) -> str:
        """Paths up to a step; what has not been walked yet lies folded at the end, so that two
        times blend. A coarse one has `CORNERS` corners at most."""
        corners = self.n_steps
        if coarse:
            corners = min(corners, CORNERS)
        whole = np.arange(corners + 1) * self.n_steps // corners
        ks = np.minimum(whole, upto)
        drawn = strokes(np.abs(positions[whole]) > self.reach).reshape(corners, -1).T.tolist()
        xs = np.rint(self.x(ks / self.n_steps)).astype(int)
        ys = np.rint(self.ys(positions[ks])).astype(int).reshape(len(ks), -1)
        across = [f"{step}," for step in np.diff(xs).tolist()]
        lines = []
        downs = np.diff(ys, axis=0).T.tolist()
        for first, moves, pens in zip(ys[0].tolist(), downs, drawn, strict=True):
            rest = [f"{pen}{a}{b}" for pen, a, b in zip(pens, across, moves, strict=True)]
            lines.append(f"M{xs[0]},{first}{''.join(rest)}")
        return "".join(lines)

    # ------------------------------------------------------------------------------- what stays

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        """Axes, roads, hills, critic, the peak's handle, and their names."""
        marks = []
        for at in np.arange(-3, 4) * (1.0 if self.reach > 3 else 0.8):
            y = self.y(at)
            width = 1.2 if at == 0 else 0.6
            line = {"stroke": "faint", "width": width, "opacity": 0.35}
            marks.append(Line(key=f"grid:{at:.1f}", x=LEFT, y=y, x2=RIGHT, y2=y, **line))
            marks.append(self._tick(f"at:{at:.1f}", chosen(round(at, 1)), LEFT - 8, y + 4.5, "end"))
        for at in (0, 0.2, 0.4, 0.6, 0.8, 1):
            text = {0: "t = 0, noise", 1: "t = 1, action"}.get(at, chosen(at))
            marks.append(self._tick(f"time:{at}", text, self.x(at), BOTTOM + 22, "middle"))
        marks.append(self._tick("position", "position ↑", 8, 18, "start"))
        marks.append(self._tick("data", "data", RIGHT + 4, 18, "start"))
        marks += self._roads()
        marks += self._hills()
        edge = {"stroke": "faint", "width": 1}
        marks.append(Line(key="edge", x=RIGHT, y=TOP, x2=RIGHT, y2=BOTTOM, **edge))
        more = (*self._critic(), *self._peak()) if self.asks else self._mean()
        return (*marks, *more)

    def _mean(self) -> tuple[Mark, ...]:
        """The mean of the data, where every clean estimate begins."""
        mean = float(np.mean(self.result.means))
        y, words = self.y(mean), "The mean of the data: an action that is nowhere in it."
        own = {"link": "mean", "words": words}
        line = {"stroke": "grey", "width": 1.2, "dash": "2 5", "opacity": 0.9, **own}
        x = self.names + 60
        text = f"mean of the data {fixed(mean)}"
        return (
            Line(key="mean", x=LEFT, y=y, x2=x - 6, y2=y, **line),
            self._tick("mean's name", text, x, y + 4.5, "start", "grey"),
        )

    def _critic(self) -> list[Mark]:
        """The critic, upright, and where the exact tilt by it would put the data's mass."""
        result = self.result
        low, _ = self.critic_sight
        seen = (np.abs(result.grid) <= self.reach) & (result.critic >= low)
        places = np.linspace(*result.grid[seen][[0, -1]], 81)
        critic = np.interp(places, result.grid, result.critic)
        near = np.abs(result.grid[:, None] - np.array(result.means)).min(1) < 4 * result.std
        tall = np.minimum(result.tilted / result.density.max(), TALLEST)
        shown = np.flatnonzero(near & (np.abs(result.grid) <= self.reach))
        foot = {"x": CRITIC_LEFT, "y": TOP, "x2": CRITIC_LEFT, "y2": BOTTOM}
        return [
            self._tick("critic's name", "critic Q →", CRITIC_LEFT, 18, "start", "gold", True),
            self._tick("tilt's name", "exact tilt", RIGHT + 44, 18, "start", "green", True),
            Line(key="critic's foot", stroke="faint", width=1, **foot),
            Path.through(
                RIGHT + 1 + HILL * tall[shown],
                self.ys(result.grid[shown]),
                key="tilt",
                stroke="green",
                width=1.8,
                layer=2,
                link="tilt",
                words="The exact tilt: where a perfect sampler of data times e^(wQ) would put the "
                "mass of the hills.",
            ),
            Path.through(
                [self.critic_x(value) for value in critic],
                self.ys(places),
                key="critic",
                stroke="gold",
                width=2.5,
                link="critic",
                words="The critic, upright: how good it thinks an action at this height.",
            ),
        ]

    def _tick(self, key, text, x, y, anchor, fill="faint", bold=False) -> Words:
        look = {"anchor": anchor, "fill": fill, "bold": bold, "size": 13}
        return Words(key=key, text=text, x=x, y=y, **look)

    def _peak(self) -> tuple[Mark, ...]:
        peak = self.params.peak
        x, y = self.critic_x(self.say.critic_at(peak)) + 13, self.y(peak)
        level = {"stroke": "gold", "width": 1.2, "dash": "2 5", "opacity": 0.9}
        return (
            *self._bump(),
            Line(key="level", x=LEFT, y=y, x2=x, y2=y, **level),
            Circle(
                key="peak",
                x=x,
                y=y,
                r=9,
                fill="gold",
                stroke="page",
                label="↕",
                size=12,
                link="peak",
                words=f"The critic's peak a* is at {fixed(peak)}. Drag it up or down.",
                drag=self.drag("peak"),
                layer=6,
            ),
            self._tick(
                "peak's name", f"a* = {fixed(peak)}", x + 14, y + 4.5, "start", "gold", True
            ),
        )

    def _bump(self) -> tuple[Mark, ...]:
        """The handle of the critic's second hill, where it has one that stands alone."""
        if not self.result.params.flow.bump_height:
            return ()
        bump = self.params.bump
        x, y = self.critic_x(self.say.critic_at(bump)) + 13, self.y(bump)
        if abs(y - self.y(self.params.peak)) < 24:
            return ()
        real = self.params.flow.bump_real  # and so no error of the critic
        paid = "the return pays for it too" if real else "no return pays it"
        name = "paid hill" if real else "bump"
        words = f"The critic's second hill is at {fixed(bump)}; {paid}. Drag it up or down."
        look = {"r": 8, "fill": "page", "stroke": "gold", "width": 2, "label": "↕", "size": 12}
        look |= {"link": "bump", "words": words, "drag": self.drag("bump"), "layer": 6}
        return (
            Circle(key="bump", x=x, y=y, **look),
            self._tick("bump's name", name, x + 13, y + 4.5, "start", "gold"),
        )

    def _roads(self) -> list[Mark]:
        swarm = self.result.ghost_swarms["bc"]
        marks = []
        for mode, colour in enumerate(MODE_NAMES):
            members = np.flatnonzero(swarm.final_mode[:N_ROADS] == mode)
            d = self.way(swarm.x[:, members], self.n_steps) if len(members) else ""
            look = {"stroke": colour, "width": 1, "opacity": 0.16}
            marks.append(Path(key=f"road:{mode}", d=d, **look))
        return marks

    def _hills(self) -> list[Mark]:
        result, marks = self.result, []
        for mode, (mean, colour) in enumerate(zip(result.means, MODE_NAMES, strict=True)):
            places = mean + result.std * np.linspace(-4, 4, 41)
            tall = np.interp(places, result.grid, result.density) / result.density.max()
            marks.append(
                Path.through(
                    RIGHT + 1 + HILL * tall,
                    self.ys(places),
                    closed=True,
                    key=f"hill:{mode}",
                    fill=colour,
                    opacity=0.4,
                    link=f"mode:{mode}",
                    words=f"The data's mode at {chosen(mean)}, a third of all actions.",
                )
            )
            look = {"fill": colour, "bold": True}
            name = self._tick(
                f"mode:{mode}", chosen(mean), self.names, self.y(mean) - 3, "start", **look
            )
            marks.append(name)
        return marks

    @cached_property
    def taken(self) -> list[Box]:
        """Where no text may move: the texts and handles that stay."""
        boxes = [Box.around(LEFT, self.y(self.params.start), 9)]
        for mark in self.ground:
            if isinstance(mark, Words):
                boxes.append(text_box(mark.text, mark.size, mark.x, mark.y, mark.anchor))
            elif isinstance(mark, Circle):
                boxes.append(Box.around(mark.x, mark.y, 9))
        return boxes

    # ------------------------------------------------------------------------------- the frames

    def frames(self) -> tuple[Frame, ...]:
        frames = [self._frame(0, "start")]
        for k in range(self.n_steps):
            stages = (STAGES if self.asks else ("jump", "step")) if k in self.told else ("step",)
            frames += [self._frame(k, stage) for stage in stages]
        return (*frames, self._frame(self.n_steps, "actions"))

    def _frame(self, k: int, stage: str) -> Frame:
        now = k + (stage == "step")  # where the particle stands
        marks = self._moving(now, stage if stage in ("start", "actions") else "")
        if stage in STAGES:
            marks = [*marks, *self._told(k, STAGES.index(stage))]
        labels = self._labels(k, now, stage)
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=(*self.ground, *marks, *labels)),
            label=f"t = {fixed(k / self.n_steps)}",
            stage="stay" if stage == "jump" and self.params.estimator == "ood" else stage,
            sentence=self.say.sentence(k, stage),
            readouts=self.say.readouts(k, stage),
            arithmetic=self.say.arithmetic(k, stage),
        )

    def _moving(self, now: int, stage: str) -> list[Mark]:
        """Swarm, trails, ghosts and the particle at a time: the same marks for all its stages."""
        if (now, stage) not in self._moved:
            self._moved = {(now, stage): self._drawn(now, stage)}
        return self._moved[now, stage]

    def _drawn(self, now: int, stage: str) -> list[Mark]:
        swarm, end = self.result.swarm, stage == "actions"
        at, position = self.x(now / self.n_steps), float(self.walk.x[now])
        marks = [self._cloud(now, stage)]
        y = self.y(position)
        line = {"stroke": "faint", "width": 1, "opacity": 0.8}
        marks.append(Line(key="now", x=at, y=TOP, x2=at, y2=BOTTOM, **line))
        if stage != "start":
            for mode, colour in ((-1, "grey"), *enumerate(MODE_NAMES)):
                members = np.flatnonzero(swarm.final_mode[:N_TRAILS] == mode)
                if len(members):
                    d = self.way(swarm.x[:, members], now, coarse=True)
                    look = {"stroke": colour, "width": 1, "opacity": 0.45, "layer": 1}
                    marks.append(Path(key=f"trail:{mode}", d=d, **look))
            for name, ghost in self.ghosts.items():
                marks += self._ghost(name, ghost, now)
        marks += self._yours(now)
        own = {"link": "particle", "words": self.say.particle(now)}
        d = self.way(self.walk.x, now)
        marks.append(Path(key="path", d=d, stroke="ink", width=3, layer=3, **own))
        fill = "ink"
        if end and self.walk.final_mode >= 0:
            fill = MODE_NAMES[self.walk.final_mode]
        look = {"fill": fill, "stroke": "page", "width": 2}
        marks.append(Circle(key="particle", x=at, y=y, r=8, layer=4, **look, **own))
        start = self.y(self.params.start)
        words = f"The particle starts at {fixed(self.params.start)}. Drag it up or down."
        look = {"r": 8, "stroke": "ink", "width": 2, "layer": 4, "label": "↕", "size": 12}
        look |= {"fill": "page", "link": "start", "words": words, "drag": self.drag("start")}
        marks.append(Circle(key="start", x=LEFT, y=start, **look))
        if end:
            for mode, share in enumerate(swarm.shares):
                if not share:
                    continue
                y, colour = self.y(self.result.means[mode]), MODE_NAMES[mode]
                look = {"fill": colour, "stroke": "page", "corner": 2, "layer": 2}
                look |= {"link": f"mode:{mode}", "words": self.say.mode(mode)}
                size = {"w": max(HILL * len(swarm.shares) * share, 3), "h": 7}
                marks.append(Rectangle(key=f"share:{mode}", x=RIGHT + 1, y=y - 3.5, **size, **look))
            marks += self._your_shares()
        return marks

    def _your_shares(self) -> list[Mark]:
        """Hollow bars: where the swarm ends by the reader's own step."""
        yours, marks = self.result.yours, []
        for mode, share in enumerate(yours.shares if yours is not None else ()):
            if not share:
                continue
            y, mean = self.y(self.result.means[mode]), chosen(self.result.means[mode])
            words = f"{percent(share)} of the swarm end in the mode at {mean} by your guided_step."
            look = {"stroke": "ink", "width": 1.5, "corner": 2, "layer": 3, "words": words}
            size = {"w": max(HILL * len(yours.shares) * share, 3), "h": 7}
            link = {"key": f"your share:{mode}", "link": "yours"}
            marks.append(Rectangle(x=RIGHT + 1, y=y + 5, **size, **look, **link))
        return marks

    def _cloud(self, now: int, stage: str) -> Swarm:
        swarm = self.result.swarm
        shades = np.zeros(swarm.x.shape[1], dtype=int)
        if stage != "start":
            shades = swarm.final_mode + 1
        spread = (np.arange(len(shades)) * 0.618034 % 1 - 0.5) * 12  # so that it reads as a cloud
        return Swarm(
            key="swarm",
            xs=self.x(now / self.n_steps) + spread,
            ys=self.ys(swarm.x[now]),
            colours=("grey", *MODE_NAMES),
            shades=shades,
            r=2.0,
            opacity=0.65,
        )

    def _ghost(self, name: str, ghost: Walk, now: int) -> list[Mark]:
        link = f"ghost:{name}"
        words = (
            f"The same particle {'under OOD' if name == 'ood' else 'unguided'} stands at "
            f"{fixed(float(ghost.x[now]))}."
        )
        own = {"link": link, "words": words, "stroke": "grey"}
        x, y = self.x(now / self.n_steps), self.y(ghost.x[now])
        d = self.way(ghost.x, now)
        return [
            Path(key=link, d=d, width=2, dash="6 4", layer=2, **own),
            Circle(key=f"{link}:now", x=x, y=y, r=5, fill="page", width=2, layer=3, **own),
        ]

    def _yours(self, now: int) -> list[Mark]:
        """The particle as the reader's own step moves it."""
        yours = self.result.yours
        if yours is None or yours.fault:
            return []
        at = float(yours.x[now])
        words = f"The same particle by your guided_step stands at {fixed(at)}."
        own = {"link": "yours", "words": words, "stroke": "ink"}
        x, y, d = self.x(now / self.n_steps), self.y(at), self.way(yours.x, now)
        return [
            Path(key="yours", d=d, width=2.5, dash="2 5", layer=4, **own),
            Circle(key="yours:now", x=x, y=y, r=5, fill="page", width=2.5, layer=5, **own),
        ]

    # ------------------------------------------------------------------------------- the stages

    def _told(self, k: int, depth: int) -> list[Mark]:
        """The construction of step k, down to a stage."""
        walk, t = self.walk, k / self.n_steps
        here, there = (
            (self.x(t), self.y(walk.x[k])),
            (RIGHT, self.y(walk.estimate[k])),
        )
        ask = {"link": "estimate", "words": self.say.estimate(k)}
        marks: list[Mark] = []
        jump = {"stroke": "ink", "width": 1.8, "layer": 3, **ask}
        ood = self.params.estimator == "ood"
        if depth == 4:
            return self._step(k)
        if ood:
            ring = {"stroke": "ink", "width": 2, "link": "asked", "words": self.say.asked(k)}
            marks.append(Circle(key="asked here", x=here[0], y=here[1], r=13, layer=3, **ring))
            marks += self._ray(k)
        else:
            marks.append(
                Arrow(key="jump", x=here[0], y=here[1], x2=there[0] - 5, y2=there[1], **jump)
            )
            look = {"r": 5, "fill": "page", "stroke": "ink", "width": 2, "layer": 4}
            marks.append(Circle(key="estimate", x=there[0], y=there[1], **look, **ask))
        if not self.asks or depth == 0:
            return marks
        # The question goes level across to the critic's curve.
        asked = float(walk.asked[k])
        value = self.say.critic_at(asked)
        qx, qy = self.critic_x(value), self.y(asked)
        begin = here[0] + 13 if ood else there[0]
        own = {"link": "asked", "words": self.say.asked(k)}
        look = {"stroke": "gold", "width": 2, "dash": "1 5", "layer": 2}
        marks.append(Line(key="query", x=begin, y=qy, x2=qx, y2=qy, **look, **own))
        look = {"r": 5, "fill": "page", "stroke": "gold", "width": 2.5, "layer": 5}
        marks.append(Circle(key="answer", x=qx, y=qy, **look, **own))
        if depth == 1:
            return marks
        marks += self._tangent(k, value, qx, qy)
        tip = (1 - t) * float(walk.push[k])  # what the push adds until t = 1
        look = {"stroke": "gold", "width": 4, "head": 11, "layer": 4}
        look |= {"link": "slope", "words": self.say.slope(k)}
        if depth == 2:
            y2 = self.y(asked + tip)
            return [*marks, Arrow(key="push", x=qx, y=qy, x2=qx, y2=y2, **look)]
        y2 = self.y(walk.estimate[k] + tip)
        if ood:  # what the velocity alone would do is the wedge's other side
            thin = {"stroke": "grey", "width": 1.5, "layer": 2, **ask}
            marks.append(Line(key="velocity", x=here[0], y=here[1], x2=RIGHT, y2=there[1], **thin))
        marks.append(Arrow(key="push", x=RIGHT, y=there[1], x2=RIGHT, y2=y2, **look))
        corners = self._wedge(k, tip)
        look = {"fill": "gold", "opacity": 0.24, "layer": 1, "link": "slope"}
        words = self.say.slope(k)
        marks.append(Path.through(*corners, closed=True, key="wedge", words=words, **look))
        return marks

    def _wedge(self, k: int, tip: Number) -> tuple[list[Number], list[Number]]:
        """From the particle to its estimate, and to the estimate with the push; cut at the edge."""
        t, x, est = k / self.n_steps, float(self.walk.x[k]), float(self.walk.estimate[k])
        xs, ys = [self.x(t), RIGHT, RIGHT], [self.y(a) for a in (x, est, est + tip)]
        edge = np.sign(tip) * self.reach
        cut = t
        if abs(est + tip) > self.reach and (edge - x) * (est + tip - edge) > 0:
            cut = (edge - x) / (est + tip - x) * (1 - t) + t
            return [*xs, self.x(cut)], [*ys, self.y(edge)]
        return [*xs, RIGHT], [*ys, ys[-1]]

    def _ray(self, k: int) -> list[Mark]:
        """What height a* means at this time: the action a*/t."""
        if k == 0:
            return []
        t, decoded = k / self.n_steps, float(self.result.ray[k])
        cut = min(1, self.reach / max(abs(decoded), 1e-9))
        words = (
            f"A noisy action is a shrunken one: height a* = {fixed(self.params.peak)} at "
            f"t = {fixed(t)} decodes to about a*/t = {fixed(decoded)}."
        )
        own = {"link": "ray", "words": words, "stroke": "gold"}
        zero, end = self.y(0), self.y(decoded)
        look = {"width": 2, "dash": "8 5", "layer": 2}
        y = self.y(self.params.peak)
        return [
            Arrow(key="ray", x=LEFT, y=zero, x2=self.x(cut), y2=end, head=10, **look, **own),
            Circle(key="ray now", x=self.x(t), y=y, r=5, fill="page", width=2, layer=3, **own),
        ]

    def _tangent(self, k: int, value: Number, qx: Number, qy: Number) -> list[Mark]:
        low, top = self.critic_sight
        if value < low:
            return []
        across = float(self.walk.slope[k]) * (CRITIC_RIGHT - CRITIC_LEFT) / max(top - low, 1e-9)
        up = -(BOTTOM - TOP) / (2 * self.reach)
        long = 42 / np.hypot(across, up)
        ends = (across * long, up * long)
        look = {"stroke": "ink", "width": 2, "layer": 3, "link": "slope"}
        (x, y), (x2, y2) = (qx - ends[0], qy - ends[1]), (qx + ends[0], qy + ends[1])
        words = self.say.slope(k)
        return [Line(key="tangent", x=x, y=y, x2=x2, y2=y2, words=words, **look)]

    def _step(self, k: int) -> list[Mark]:
        """The step that was taken, and the push's part of it."""
        walk = self.walk
        x, x2 = self.x(k / self.n_steps), self.x((k + 1) / self.n_steps)
        y, y2 = (self.y(walk.x[at]) for at in (k, k + 1))
        look = {"stroke": "ink", "width": 5, "layer": 3, "link": "particle"}
        marks: list[Mark] = [
            Line(key="stride", x=x, y=y, x2=x2, y2=y2, words=self.say.particle(k + 1), **look)
        ]
        alone = self.y(walk.x[k] + walk.velocity[k] / self.n_steps)
        if self.asks and abs(alone - y2) > 10:
            look = {"stroke": "gold", "width": 4, "head": 8, "layer": 4}
            look |= {"link": "slope", "words": self.say.slope(k)}
            marks.append(Arrow(key="push", x=x2, y=alone, x2=x2, y2=y2, **look))
        return marks

    # ------------------------------------------------------------------------------- the texts

    def _labels(self, k: int, now: int, stage: str) -> list[Words]:
        """The texts of a frame that move, none over another."""
        labels, walk = Labels(ROOM, self.taken), self.walk
        x, y = self.x(now / self.n_steps), self.y(walk.x[now])
        labels.keep_off(Box.around(x, y, 9))
        t, depth = k / self.n_steps, STAGES.index(stage) if stage in STAGES else -1
        est = self.y(walk.estimate[k])
        self._lines(k, depth, labels)
        if now:
            before = self.y(walk.x[now - 1])
            labels.keep_off_line(self.x((now - 1) / self.n_steps), before, x, y)
        bold = {"bold": True}
        if stage == "actions":
            for mode, share in enumerate(self.result.swarm.shares):
                at = (self.names, self.y(self.result.means[mode]) + 13, "start")
                look = {"fill": MODE_NAMES[mode], "size": 15 if share > 0.5 else 13}
                labels.put(f"share's name:{mode}", percent(share), (at,), **look, **bold)
            if self.result.swarm.off_mode > 0.005:
                text = f"in no mode {percent(self.result.swarm.off_mode)}"
                places = [(RIGHT + 6, y, "start") for y in (BOTTOM - 6, TOP + 14)]
                labels.put("no mode", text, places, fill="grey", **bold)
        if 0 <= depth < 4:
            if self.params.estimator == "ood":
                places = [(x - 18, y + up, "end") for up in (-16, 24, 4)]
                places += [(x + 18, y + up, "start") for up in (-16, 24, 4)]
                labels.put(
                    "asked's name", f"asked here: {self.say.told_at(walk.x[k])}", places, **bold
                )
                self._label_ray(k, labels)
            else:
                text = f"clean estimate {fixed(float(walk.estimate[k]))}"
                places = [(RIGHT - 10, est + up, "end") for up in (-10, 20, -28, 38)]
                places += [(RIGHT - 10, est + up, "end") for up in (-46, 56)]
                labels.put("estimate's name", text, places, **bold)
        if 2 <= depth < 4:
            asked = float(walk.asked[k])
            qx, qy = self.critic_x(self.say.critic_at(asked)), self.y(asked)
            labels.keep_off(Box.around(qx, qy, 6))
            text = f"slope {signed(float(walk.slope[k]))}"
            ups = (-10, 20, -26, 36, -42, 52)
            places = [(qx - 12, qy + up, "end") for up in ups if qx > CRITIC_LEFT + 60]
            places += [(qx + 16, qy + up, "start") for up in ups]
            labels.put("slope's name", text, places, fill="gold", **bold)
        if depth == 3 and t < 0.7:
            tip = walk.estimate[k] + 0.5 * (1 - t) * walk.push[k]
            middle = 0.62 * self.y(tip) + 0.38 * y
            places = [(self.x(t + 0.62 * (1 - t)), middle + up, "middle") for up in (5, 24, -14)]
            if abs(self.y(walk.estimate[k] + (1 - t) * walk.push[k]) - est) > 34:
                labels.put("carried", "slope, carried back", places, fill="gold", **bold)
        if depth == 4 and self.asks:
            places = [(x + 14, y + up, "start") for up in (5, 24, -14)]
            if abs(float(walk.push[k]) / self.n_steps) > 0.02:
                text = f"push {signed(float(walk.push[k]) / self.n_steps)}"
                labels.put("push's name", text, places, fill="gold", **bold)
        if stage == "start":
            text = f"drag me: {fixed(self.params.start)}"
            places = [(LEFT + 16, y + up, "start") for up in (-12, 22, 5)]
            labels.put("particle's name", text, places, **bold)
        elif not (self.params.estimator == "ood" and 0 <= depth < 4):
            text = f"{self.say.method} {self.say.told_at(walk.x[now])}"
            places = [(x - 14, y + up, "end") for up in (-10, 22)]
            places += [(x + 14, y + up, "start") for up in (-10, 22)]
            labels.put("particle's name", text, places, **bold)
        if stage != "start" and now > 1:
            for name, ghost in self.ghosts.items():
                gy = self.y(ghost.x[now])
                labels.keep_off(Box.around(x, gy, 5))
                places = [(x - 12, gy + up, "end") for up in (-8, 18)]
                places += [(x + 12, gy + up, "start") for up in (-8, 18)]
                labels.put(f"ghost's name:{name}", SHORT[name], places, fill="grey")
        yours = self.result.yours
        if yours is not None and not yours.fault:
            gy = self.y(yours.x[now])
            labels.keep_off(Box.around(x, gy, 5))
            places = [(x - 12, gy + up, "end") for up in (-8, 18, 34, -24)]
            places += [(x + 12, gy + up, "start") for up in (-8, 18, 34, -24)]
            labels.put("your name", "yours", places, bold=True)
        return labels.marks

    def _lines(self, k: int, depth: int, labels: Labels) -> None:
        """Keep the texts off the construction's lines."""
        walk, x = self.walk, self.x(k / self.n_steps)
        y, est = self.y(walk.x[k]), self.y(walk.estimate[k])
        ood = self.params.estimator == "ood"
        if not 0 <= depth < 4:
            return
        if not ood or depth == 3:
            labels.keep_off_line(x, y, RIGHT, est)
        if ood and k:
            decoded = float(self.result.ray[k])
            cut = min(1, self.reach / max(abs(decoded), 1e-9))
            labels.keep_off_line(LEFT, self.y(0), self.x(cut), self.y(decoded))
        if depth > 0 and self.asks:
            asked = float(walk.asked[k])
            end = self.critic_x(self.say.critic_at(asked))
            labels.keep_off_line(RIGHT, self.y(asked), end, self.y(asked))

    def _label_ray(self, k: int, labels: Labels) -> None:
        if k == 0:
            return
        decoded = float(self.result.ray[k])
        cut = min(1, self.reach / max(abs(decoded), 1e-9))
        x, y = self.x(cut), self.y(decoded)
        ups = (-10, 22, -26, 38)
        places = [(x - 14, y + up, "end") for up in ups] + [(x + 12, y + up, "start") for up in ups]
        if abs(decoded) > self.reach:
            places = places[::-1]
        labels.put("ray's name", f"a*/t = {number(decoded)}", places, fill="gold", bold=True)
