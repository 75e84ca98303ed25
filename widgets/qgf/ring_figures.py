"""The hero of "A ring of modes": particles move through the plane, guided by what a critic says.

Left the plane. Green is the true reward, gold what the critic says of it: lines of equal value,
and a shade where it promises more than there is to earn. Golden arrows are the guidance at one
time. Right, for every weight, what the critic promises and what is earned.
"""

import math
from functools import cached_property

import numpy as np

from intuitive.qgf.experiments.ring import SIGHT, UNPUSHED, RingResult
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.ring import REWARD_WIDTH, STD

from ..kit import (
    Arithmetic,
    Arrow,
    Circle,
    Drag,
    Frame,
    Mark,
    Path,
    Readout,
    Rectangle,
    Scene,
    Swarm,
    chosen,
    fixed,
    number,
    percent,
)
from .contours import crossings
from .labels import Box, Labels
from .ring_curves import HEIGHT, Curves
from .ways import Way, beyond

WIDTH = 1000
UNIT = 121  # of the plane
LEFT, TOP = 1, 1
RIGHT, BOTTOM = LEFT + UNIT * (SIGHT[0][1] - SIGHT[0][0]), TOP + UNIT * (SIGHT[1][1] - SIGHT[1][0])
LEVELS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
FINER = 5  # rows of the shade per row of the critic's grid
SHADES = LEVELS[:3]  # of the reward
BELIEVED = 1.1  # above this the critic promises more than there is
FRAMES = 20  # at most, and one for the noise
HEAD = 6  # length of an arrow's head
N_TRAILS = 24
SPEED = 2.0  # of guidance at which an arrow has three quarters of its greatest length
OFF_MODE = 3 * STD
FOLLOWED = (0.5, 0.866)  # the followed particle is the one that ends nearest, unguided
UNKNOWN = "?"


class Picture:
    """All frames of one result."""

    def __init__(self, result: RingResult) -> None:
        self.result, self.params, self.sampled = result, result.params, result.sampled
        self.n_steps = self.params.n_steps
        self.colour = "grey"  # of the particles; hues belong to modes, reward and critic
        self.pushes = self.params.estimator not in UNPUSHED and self.params.weight > 0
        ends = self.sampled.trajectories[-1, 0]  # unguided
        self.one = int(np.linalg.norm(ends - np.array(FOLLOWED), axis=1).argmin())
        count = min(self.n_steps, FRAMES)
        self.told = [round(i * self.n_steps / count) for i in range(count + 1)]

    # ------------------------------------------------------------------------------- places

    def at(self, positions: np.ndarray):
        """Where positions [..., 2] stand; what is out of sight stands at the edge."""
        (low_x, high_x), (low_y, high_y) = SIGHT
        x = LEFT + UNIT * (np.clip(positions[..., 0], low_x + 0.02, high_x - 0.02) - low_x)
        return x, BOTTOM - UNIT * (np.clip(positions[..., 1], low_y + 0.02, high_y - 0.02) - low_y)

    def point(self, position) -> tuple[float, float]:
        """Where one position (x, y) stands."""
        x, y = self.at(np.asarray(position, dtype=float))
        return float(x), float(y)

    # ------------------------------------------------------------------------------- the plane

    @cached_property
    def ground(self) -> tuple[Mark, ...]:
        """What stays while time runs: reward, critic, modes, the peak, and the curves."""
        frame = {"w": RIGHT - LEFT, "h": BOTTOM - TOP, "stroke": "faint", "width": 1}
        marks: list[Mark] = [Rectangle(key="plane", x=LEFT, y=TOP, corner=3, **frame)]
        marks += [self._hill(level) for level in SHADES]
        for i, mode in enumerate(self.sampled.modes):
            x, y = self.point(mode)
            share = percent(float(self.sampled.shares[self.result.place, i]))
            marks.append(
                Circle(
                    key=f"mode:{i}",
                    x=x,
                    y=y,
                    r=UNIT * OFF_MODE,
                    stroke="faint",
                    width=1.2,
                    dash="2 4",
                    link=f"mode:{i}",
                    words=f"A mode of the data, out to 3σ: a share 1/{self.params.n_modes} of the "
                    f"data; {share} of the actions end nearest to it.",
                )
            )
        marks += self._belief()
        return (*marks, *self._peak(), *Curves(self.result).marks())

    @property
    def peak(self) -> np.ndarray:
        return np.array([self.params.peak_x, self.params.peak_y])

    def _hill(self, level: int | float) -> Path:
        angles = np.linspace(0, 2 * np.pi, 49)
        radius = REWARD_WIDTH * np.sqrt(-2 * np.log(level))
        rim = self.peak + radius * np.stack([np.cos(angles), np.sin(angles)], -1)
        words = f"Inside this line an action earns more than {chosen(level)}."
        look = {"fill": "green", "opacity": 0.13, "link": "reward", "words": words}
        return Path.through(*self.at(rim), closed=True, key=f"reward:{level}", **look)

    def _belief(self) -> list[Mark]:
        """The critic as lines of equal value, and where it promises more than there is."""
        sampled, marks = self.sampled, []
        x, y, z = sampled.surface_x, sampled.surface_y, sampled.critic
        fine = np.linspace(y[0], y[-1], FINER * (len(y) - 1) + 1)
        rows = np.stack([np.interp(fine, y, column) for column in z.T], 1)  # [finer y, x]
        high = rows > BELIEVED
        tall = UNIT * (fine[1] - fine[0])
        boxes = []
        for place, row, inside in zip(fine, rows, high, strict=True):
            edges = np.flatnonzero(np.diff(inside.astype(int)))
            share = (BELIEVED - row[edges]) / (row[edges + 1] - row[edges])
            cuts = [*(x[edges] + share * (x[edges + 1] - x[edges])).tolist()]
            cuts = [x[0]] * bool(inside[0]) + cuts + [x[-1]] * bool(inside[-1])
            for low, end in zip(cuts[::2], cuts[1::2], strict=True):
                (a, top), (b, _) = self.point((low, place)), self.point((end, place))
                top = min(max(top - tall / 2, TOP), BOTTOM - tall)
                boxes.append(f"M{a:.0f},{top:.1f}H{b:.0f}v{tall + 0.3:.1f}H{a:.0f}Z")
        words = "Here the critic promises clearly more than 1, the most that any action earns."
        look = {"fill": "gold", "opacity": 0.2, "link": "promised", "words": words}
        marks.append(Path(key="believed", d="".join(boxes), **look))
        labels = Labels(Box(LEFT + 2, TOP + 2, RIGHT - 2, BOTTOM - 2))
        labels.keep_off(Box.around(*self.point(self.peak), 16))
        self._name(labels, np.argwhere(high[::FINER]))
        out = self.peak / max(float(np.linalg.norm(self.peak)), 1e-6)
        levels = [level for level in LEVELS if z.min() < level < z.max()]
        first = 0.5 if 0.5 in levels else levels[0] if levels else 0
        for level in levels:
            pieces = crossings(x, y, z, level)
            xs, ys = self.at(pieces)
            ends = zip(xs.tolist(), ys.tolist(), strict=True)
            d = "".join(f"M{a:.0f},{c:.0f}L{b:.0f},{e:.0f}" for (a, b), (c, e) in ends)
            words = f"On this line the critic says {chosen(level)}."
            look = {"stroke": "gold", "width": 2 if level == 1 else 1.2, "opacity": 0.9}
            marks.append(
                Path(key=f"critic:{level}", d=d, link="critic", words=words, layer=1, **look)
            )
            middle = pieces.mean(1)  # [n, 2]
            for turn in (0.9, -0.9, 0.5, -0.5, 1.6, -1.6, 2.4):
                cos, sin = np.cos(turn), np.sin(turn)
                way = np.array([out[0] * cos - out[1] * sin, out[0] * sin + out[1] * cos])
                from_peak = middle - self.peak
                aside = np.abs(from_peak[:, 0] * way[1] - from_peak[:, 1] * way[0])
                aside += 10 * (from_peak @ way < 0)
                best = middle[aside.argmin()]
                px, py = self.point(best)
                before = len(labels.marks)
                text = f"critic {chosen(level)}" if level == first else chosen(level)
                at = [(px, py + 4, "middle")]
                labels.put(f"value:{level}", text, at, size=12, fill="gold")
                if len(labels.marks) > before:
                    break
        return marks + labels.marks

    def _name(self, labels: Labels, believed: np.ndarray) -> None:
        """Write what the colours of the plane mean; `believed` are [row, column] of the grid."""
        sampled, bold = self.sampled, {"bold": True}
        x, y = self.point(self.peak)
        rim = UNIT * REWARD_WIDTH * math.sqrt(-2 * math.log(SHADES[0]))
        places = [(x + dx, y + rim * up, "middle") for up in (0.92, -0.85) for dx in (0, -30, 30)]
        labels.put("reward's name", "true reward", places, fill="green", link="reward", **bold)
        if len(believed) > 40:
            order = np.argsort(np.abs(believed - believed.mean(0)).sum(1))[::3]
            spots = [
                self.point((sampled.surface_x[column], sampled.surface_y[row]))
                for row, column in believed[order].tolist()
            ]
            places = [(a, b, "middle") for a, b in spots]
            labels.keep_off(Box.around(x, y, 0.6 * rim))
            text = "promised: more than there is"
            labels.put("believed's name", text, places, fill="gold", link="promised", **bold)
        low = self.sampled.modes[:, 0].argmin()
        mode_x, mode_y = self.point(self.sampled.modes[low])
        reach = UNIT * OFF_MODE
        places = [(mode_x - reach - 6, mode_y + 4, "end"), (mode_x, mode_y - reach - 6, "middle")]
        labels.put("mode's name", "a mode of the data", places, fill="faint")

    def _peak(self) -> tuple[Mark, ...]:
        (low_x, high_x), (low_y, high_y) = SIGHT
        x, y = self.point(self.peak)
        drag = Drag(
            x="peak_x",
            y="peak_y",
            x_scale=((low_x, LEFT), (high_x, RIGHT)),
            y_scale=((low_y, BOTTOM), (high_y, TOP)),
        )
        where = f"({fixed(self.params.peak_x)}, {fixed(self.params.peak_y)})"
        return (
            Circle(
                key="peak",
                x=x,
                y=y,
                r=10,
                fill="green",
                stroke="page",
                width=2,
                label="✥",
                size=13,
                link="reward",
                words=f"The reward's peak, at {where}: 1 is earned there. Drag it.",
                drag=drag,
                layer=7,
            ),
        )

    # ------------------------------------------------------------------------------- the frames

    def frames(self) -> tuple[Frame, ...]:
        return tuple(self._frame(k) for k in self.told)

    def _frame(self, k: int) -> Frame:
        marks = [self._cloud(k), *self._arrows(k), *self._trails(k), *self._followed(k)]
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=(*self.ground, *marks)),
            label=f"t = {fixed(k / self.n_steps)}",
            sentence=self.sentence(k),
            readouts=self.readouts(k),
            arithmetic=self.arithmetic(k),
        )

    def _cloud(self, k: int) -> Swarm:
        """All particles; at the end those that are off every mode turn dark."""
        x, y = self.at(self.result.path[k])
        off = np.zeros(len(x), dtype=int)
        if k == self.n_steps:
            off = (self.sampled.nearest[self.result.place] > OFF_MODE).astype(int)
        return Swarm(
            key="swarm", xs=x, ys=y, colours=(self.colour, "ink"), shades=off, r=2.6, opacity=0.75
        )

    def _arrows(self, k: int) -> list[Mark]:
        """The guidance on a grid; an arrow begins at the point that it tells of."""
        if not self.pushes:
            return []
        sampled = self.sampled
        push = self.params.weight * sampled.slopes[min(k, self.n_steps - 1)].astype(float)
        speed = np.linalg.norm(push, axis=-1, keepdims=True)
        pitch = UNIT * (sampled.arrows_x[1] - sampled.arrows_x[0])
        way = 0.85 * pitch * np.tanh(speed / SPEED) * push / np.maximum(speed, 1e-9)
        way[..., 1] *= -1
        x, y = self.at(np.stack(np.meshgrid(sampled.arrows_x, sampled.arrows_y), -1))
        along = way * (HEAD / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), HEAD))
        across = 0.6 * np.stack([-along[..., 1], along[..., 0]], -1)
        one, other = across - along, -across - along  # from the tip to the ends of the head
        parts = np.concatenate([np.stack([x, y], -1), way, one, -one, other], -1)
        numbers = np.rint(parts).astype(int).ravel().tolist()
        d = "M%d,%dl%d,%d %d,%dl%d,%d %d,%d" * (len(numbers) // 10) % tuple(numbers)
        return [Path(key="guidance", d=d, stroke="gold", width=1.3, opacity=0.7)]

    @cached_property
    def ways(self) -> list[Way]:
        """The trails of some particles, with a corner at every frame."""
        paths = self.result.path[self.told, :N_TRAILS].swapaxes(0, 1)
        return [self._way(path) for path in paths]

    @cached_property
    def own_ways(self) -> tuple[Way, Way]:
        """Of the followed particle, guided and unguided, with a corner at every step."""
        paths = self.result.path[:, self.one], self.sampled.trajectories[:, 0, self.one]
        guided, free = map(self._way, paths)
        return guided, free

    def _way(self, path: np.ndarray) -> Way:
        return Way(*self.at(path), beyond(path, SIGHT))

    def _trails(self, k: int) -> list[Mark]:
        last = self.told.index(k)
        d = "".join(way.upto(last) for way in self.ways)
        return [Path(key="trails", d=d, stroke=self.colour, width=0.8, opacity=0.3)]

    def _followed(self, k: int) -> list[Mark]:
        """One particle, its way, where it would end unguided, and where the critic is asked."""
        path, free = self.result.path[:, self.one], self.sampled.trajectories[:, 0, self.one]
        x, y = self.point(path[k])
        words = f"The chosen particle stands at {self._told(path[k])}."
        own = {"link": "particle", "words": words}
        marks: list[Mark] = []
        if self.params.weight > 0:
            gx, gy = self.point(free[k])
            ghost = {"link": "ghost", "words": "The same particle, unguided.", "stroke": "grey"}
            marks += [
                Path(
                    key="ghost's way",
                    d=self.own_ways[1].upto(k),
                    width=2,
                    dash="6 4",
                    layer=2,
                    **ghost,
                ),
                Circle(key="ghost", x=gx, y=gy, r=5, fill="page", width=2, layer=3, **ghost),
            ]
        marks += [
            Path(key="way", d=self.own_ways[0].upto(k), stroke="ink", width=2.5, layer=4, **own),
            Circle(key="particle", x=x, y=y, r=7, fill="ink", stroke="page", layer=6, **own),
        ]
        asked = self._asked(k)
        if asked is not None:
            ax, ay = self.point(asked)
            words = (
                f"Here, at {self._told(asked)}, the critic is asked about the chosen particle: it "
                f"promises {number(self.promise(asked))}; {number(self.reward(asked))} is earned."
            )
            look = {"stroke": "gold", "link": "asked", "words": words}
            marks += [
                Arrow(
                    key="jump", x=x, y=y, x2=ax, y2=ay, width=2, dash="4 3", layer=5, head=7, **look
                ),
                Circle(key="asked", x=ax, y=ay, r=6, fill="page", width=3, layer=5, **look),
            ]
        return marks

    def _asked(self, k: int) -> np.ndarray | None:
        """Where the critic is asked about the followed particle at step k, if it is."""
        if not self.pushes or k >= self.n_steps or len(self.sampled.queries) != self.n_steps:
            return None
        return self.sampled.queries[k, self.result.place, self.one]

    # ------------------------------------------------------------------------------- the words

    def promise(self, position: np.ndarray):
        """About what the critic says of a position in sight, by the nearest points of its grid."""
        sampled = self.sampled
        row = int(np.abs(sampled.surface_y - position[1]).argmin())
        column = int(np.abs(sampled.surface_x - position[0]).argmin())
        return float(sampled.critic[row, column])

    def reward(self, position: np.ndarray):
        return float(np.exp(-np.square(position - self.peak).sum() / (2 * REWARD_WIDTH**2)))

    def _told(self, position: np.ndarray) -> str:
        return f"({fixed(float(position[0]))}, {fixed(float(position[1]))})"

    def sentence(self, k: int) -> str:
        result, w = self.result, chosen(self.params.weight)
        if k == self.n_steps:
            off = percent(result.off_mode)
            return (
                f"At w = {w} the critic promises {fixed(result.promised)}; {fixed(result.earned)} "
                f"is earned, by imitation {fixed(result.bc_reward)}. {off} (dark) end off every "
                "mode."
            )
        asked = self._asked(k)
        if k == 0:
            does = (
                "golden arrows show how guidance will push them" if self.pushes else "nobody pushes"
            )
            return f"{self.params.n_particles} particles of noise; {does}."
        t = fixed(k / self.n_steps)
        if asked is None:
            return f"t = {t}: the flow moves the particles, and nobody pushes."
        return (
            f"t = {t}: at {self._told(asked)}, where the chosen particle has the critic asked, it "
            f"promises {fixed(self.promise(asked))}; {fixed(self.reward(asked))} is earned there."
        )

    def readouts(self, k: int) -> tuple[Readout, ...]:
        """Known only at the end: before it, particles are no actions yet."""
        result, end = self.result, k == self.n_steps
        return (
            Readout("critic promises", fixed(result.promised) if end else UNKNOWN, link="promised"),
            Readout("earned", fixed(result.earned) if end else UNKNOWN, link="earned"),
            Readout("off every mode", percent(result.off_mode) if end else UNKNOWN),
        )

    def arithmetic(self, k: int) -> dict[str, Arithmetic]:
        sampled, place, T, w = self.sampled, self.result.place, self.n_steps, self.params.weight
        lines = {}
        if k < T:
            x, after = self.result.path[k, self.one], self.result.path[k + 1, self.one]
            push = sampled.pushes[k, place, self.one]
            v = (after - x) * T - push
            lines["particle"] = Arithmetic(
                text=f"x + (v + w g)/T = {self._told(x)} + ({self._told(v)} + "
                f"{self._told(push)})/{T} = {self._told(after)}",
                tex=rf"x + \tfrac1{{{T}}}\,(v + w\,g) = {_pair(x)} + \tfrac1{{{T}}}\,"
                rf"\bigl({_pair(v)} + {_pair(push)}\bigr) = {_pair(after)}",
            )
        asked = self._asked(k)
        if asked is not None:
            far = float(np.square(asked - self.peak).sum())
            lines["asked"] = Arithmetic(
                text=f"promised {number(self.promise(asked))}, earned exp(−{fixed(far)}/"
                f"(2·0.5²)) = {number(self.reward(asked))}",
                tex=rf"Q = {self.promise(asked):.2f},\quad R = e^{{-{far:.2f}/(2\cdot 0.5^2)}} = "
                rf"{self.reward(asked):.2f}",
            )
        if self.params.estimator not in UNPUSHED:
            bend = sampled.bend
            lines["stability"] = Arithmetic(
                text=f"w/T · bend = {chosen(w)}/{T} · {fixed(bend)} = "
                f"{fixed(self.result.stability)}",
                tex=rf"\frac wT\,\lambda_{{\max}}(-\nabla^2 Q) = \frac{{{w:g}}}{{{T}}}\cdot "
                rf"{bend:.2f} = {self.result.stability:.2f}",
            )
        return lines


def method(result: RingResult) -> str:
    """The estimator's name."""
    return ESTIMATOR_NAMES[result.params.estimator]


def _pair(position: np.ndarray) -> str:
    x, y = (f"{0.0 if abs(v) < 0.005 else v:.2f}" for v in position.tolist())
    return rf"({x}, {y})"
