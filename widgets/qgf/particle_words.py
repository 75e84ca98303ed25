"""What the hero of "One particle and its swarm" says: sentences, numbers, equations."""

from collections.abc import Sequence

import numpy as np

from intuitive.qgf.experiments.particle import ParticleResult

from ..kit import Arithmetic, Readout, chosen, fixed, number, percent
from .styles import SHORT_NAMES

Number = int | float

REACH = {"A": 3.3, "B": 2.6, "C": 2.6}  # positions in sight, up and down
UNKNOWN = "play to see"
BESIDE = {"bc": (), "ood": ("bc",), "qgf": ("ood", "bc")}  # ghosts that do not tell what comes


def signed(value: Number) -> str:
    return fixed(value, 2, sign=True)


def tex(value: Number, *, apart: bool = False) -> str:
    """A number in an equation, in brackets where it is negative and something stands before it."""
    text = f"{value:.2f}" if abs(value) >= 0.005 else "0.00"
    return f"({text})" if apart and text.startswith("-") else text


class Account:
    """All that is said of one result."""

    def __init__(self, result: ParticleResult) -> None:
        self.result, self.params, self.walk = result, result.params, result.walk
        self.n_steps = self.params.n_steps
        self.reach = REACH[self.params.preset]
        self.method = SHORT_NAMES[self.params.estimator]
        self.asks = self.params.estimator != "bc"
        nearest = result.means[result.peak_mode]
        self.in_a_gap = abs(nearest - self.params.peak) > 3 * result.std  # the peak, in no mode
        self.ghosts = {name: result.ghosts[name] for name in BESIDE[self.params.estimator]}

    def told_at(self, position: Number) -> str:
        """A position in words; an arrow says that it is out of sight."""
        edge = "↑ " if position > self.reach else "↓ " if position < -self.reach else ""
        return edge + fixed(position)

    def critic_at(self, position: Number) -> float:
        return float(np.interp(position, self.result.grid, self.result.critic))

    def sentence(self, k: int, stage: str) -> str:
        walk, t = self.walk, fixed(k / self.n_steps)
        x, est, velocity, push = (
            float(part[k]) for part in (walk.x, walk.estimate, walk.velocity, walk.push)
        )
        if stage == "start":
            asks = "Where will it ask, and where will they all end?"
            alone = "Which of the three modes will it take?"
            n = self.params.n_particles + 1
            begins = f"One particle of {n} starts at {fixed(x)}. {asks if self.asks else alone}"
            yours = self.result.yours
            return yours.fault if yours is not None and yours.fault else begins
        if stage == "actions":
            return self.outcome()
        if stage == "jump" and self.params.estimator == "ood":
            asked = f"OOD asks about the noisy particle itself, at {fixed(x)}."
            if k == 0:
                return asked
            peak, decoded = fixed(self.params.peak), number(float(self.result.ray[k]))
            return f"{asked} Yet at t = {t} height {peak} is on the ray to {decoded}."
        if stage == "jump":
            return (
                f"Straight on at velocity {signed(velocity)} it would land at {fixed(est)}: "
                "its clean estimate."
            )
        if stage == "step":
            total = fixed(velocity)
            if self.asks:
                total = f"({total} {'−' if push < 0 else '+'} {fixed(abs(push))})"
            after = fixed(float(walk.x[k + 1]))
            return f"The step: {fixed(x)} + {total}/{self.n_steps} = {after}. So does the swarm."
        asked, slope = float(walk.asked[k]), float(walk.slope[k])
        if stage == "ask":
            return f"The critic is asked about {fixed(asked)}: Q = {fixed(self.critic_at(asked))}."
        if stage == "slope":
            if abs(slope) < 0.005:
                return f"Its slope at {fixed(asked)} is 0: the critic says, stay."
            side = "higher" if slope > 0 else "lower"
            return f"Its slope at {fixed(asked)} is {signed(slope)}: {side} would be better."
        w = chosen(self.params.weight)
        return (
            f"Carried back, times w = {w}: a push of {signed(push)} beside the velocity "
            f"{signed(velocity)}."
        )

    def outcome(self) -> str:
        """Where the particle and the swarm have ended."""
        result, mode = self.result, self.walk.final_mode
        ends = fixed(float(self.walk.x[-1]))
        where = "in no mode" if mode < 0 else f"in the mode at {chosen(result.means[mode])}"
        who = f"{self.method[0].upper() + self.method[1:]}: it ends at {ends}, {where}"
        yours = result.yours
        if yours is not None and yours.shares:
            same = SHORT_NAMES.get(yours.same_as)
            said = f"yours goes the way of {same}" if same else f"yours at {fixed(yours.x[-1])}"
            mine, share = (
                percent(shares[result.peak_mode]) for shares in (yours.shares, result.swarm.shares)
            )
            return f"{who}; {said}. In the peak's mode: {share}, of yours {mine}."
        if not self.asks:
            shares = ", ".join(map(percent, result.swarm.shares))
            return f"{who}. Of the swarm {shares} end in the three, from the lowest up."
        if result.swarm.off_mode > 0.5:
            lost = percent(result.swarm.off_mode)
            return f"{who}, like {lost} of the swarm: push and flow are added, and the push wins."
        share = percent(result.swarm.shares[result.peak_mode])
        if self.in_a_gap:
            left = percent(result.swarm.off_mode)
            return f"{who}. The peak lies in no mode; {left} of the swarm end in none."
        others = ", ".join(
            f"{SHORT_NAMES[name]} {percent(result.ghost_swarms[name].shares[result.peak_mode])}"
            for name in self.ghosts
        )
        beside = f" ({others})" if others else ""
        return f"{who}; {share} of the swarm reach the peak's mode{beside}."

    def readouts(self, k: int, stage: str) -> tuple[Readout, ...]:
        """The numbers beside a frame; what is not known yet is not told."""
        result, end, peak = self.result, stage == "actions", self.result.peak_mode
        ends = self.told_at(float(self.walk.x[-1])) if end else UNKNOWN
        yours = result.yours if result.yours is not None and result.yours.shares else None
        if not self.asks:
            shares = UNKNOWN
            if end:
                shares = " · ".join(percent(part).removesuffix("%") for part in result.swarm.shares)
            estimate = self.told_at(float(self.walk.estimate[k]))
            return (
                Readout("swarm in the modes, %", shares),
                Readout("this particle ends at", ends, link="particle"),
                Readout("clean estimate now", estimate, link="estimate"),
            )
        share, slope = UNKNOWN, UNKNOWN
        if end:
            share = percent(self._counted(result.swarm.shares))
            if yours is not None:
                share += f", yours {percent(self._counted(yours.shares))}"
        if stage in ("slope", "carry", "step", "actions"):
            slope = fixed(float(self.walk.slope[k]), sign=True)
        where, tilted = "the peak's mode", result.tilt_shares[peak]
        if self.in_a_gap:
            away = np.abs(result.grid[:, None] - np.array(result.means)).min(1)
            off = result.tilted[away > 3 * result.std].sum()
            where, tilted = "no mode", float(off / result.tilted.sum())
        link = "" if self.in_a_gap else f"mode:{peak}"
        return (
            Readout(f"swarm in {where}", share, link=link),
            Readout("exact tilt there", percent(tilted), link="tilt"),
            Readout("slope where asked", slope, link="slope"),
        )

    def _counted(self, shares: Sequence[float]) -> float:
        """Of the shares in the modes, what is told: the peak's own, or what is in none."""
        return max(1 - sum(shares), 0.0) if self.in_a_gap else shares[self.result.peak_mode]

    # ------------------------------------------------------------------------------- the words

    def particle(self, now: int) -> str:
        t = fixed(now / self.n_steps)
        return f"The chosen particle is at {fixed(float(self.walk.x[now]))} at t = {t}."

    def estimate(self, k: int) -> str:
        return (
            f"The clean estimate {fixed(float(self.walk.estimate[k]))}: where one straight jump "
            "along the velocity would land."
        )

    def asked(self, k: int) -> str:
        at = float(self.walk.asked[k])
        place = "the noisy particle" if self.params.estimator == "ood" else "the clean estimate"
        return (
            f"The critic is asked at {fixed(at)}, {place}, and reads {fixed(self.critic_at(at))}."
        )

    def slope(self, k: int) -> str:
        slope, push = float(self.walk.slope[k]), float(self.walk.push[k])
        w = chosen(self.params.weight)
        return f"The critic's slope {signed(slope)} times w = {w} pushes it by {signed(push)}."

    def mode(self, mode: int) -> str:
        share, asked = (
            percent(shares[mode]) for shares in (self.result.swarm.shares, self.result.tilt_shares)
        )
        ended = f"{share} of the swarm end in the mode at {chosen(self.result.means[mode])}"
        return f"{ended}; the exact tilt asks for {asked}." if self.asks else f"{ended}."

    # ------------------------------------------------------------------------------- the equations

    def arithmetic(self, k: int, stage: str) -> dict[str, Arithmetic]:
        walk, T = self.walk, self.n_steps
        t, rest = k / T, 1 - k / T
        x, v, est, push, step = (
            float(part[k]) for part in (walk.x, walk.velocity, walk.estimate, walk.push, walk.step)
        )
        lines = {
            "estimate": Arithmetic(
                text=f"x + (1 − t) v = {fixed(x)} + {fixed(rest)} · {fixed(v)} = {fixed(est)}",
                tex=rf"\hat x_1 = x + (1-t)\,v = {tex(x)} + {rest:.2f}\cdot {tex(v, apart=True)}"
                rf" = {tex(est)}",
            )
        }
        if k == T:  # how it came here
            k = T - 1
            t, rest = k / T, 1 / T
            x, v, est, push, step = (
                float(part[k])
                for part in (walk.x, walk.velocity, walk.estimate, walk.push, walk.step)
            )
        if k < T:
            w = f"{self.params.weight:g}"
            pushed = (
                rf"{tex(x)} + \tfrac{{1}}{{{T}}}\,({tex(v)} + {w}\cdot "
                rf"{tex(float(walk.carried[k]), apart=True)})"
                if self.asks
                else rf"{tex(x)} + \tfrac{{1}}{{{T}}}\cdot {tex(v, apart=True)}"
            )
            total = "x + (v + w g)/T" if self.asks else "x + v/T"
            lines["particle"] = Arithmetic(
                text=f"{total} = {fixed(x)} + ({fixed(v)} + {fixed(push)})/{T} = {fixed(x + step)}",
                tex=rf"x_{{t+1/T}} = {pushed} = {tex(x + step)}",
            )
        if self.asks:
            asked, slope = float(walk.asked[k]), float(walk.slope[k])
            name = "x" if self.params.estimator == "ood" else r"\hat x_1"
            value = tex(slope)
            if self.params.preset == "A":
                peak = tex(self.params.peak, apart=True)
                value = rf"-2\,({tex(asked)} - {peak}) = {value}"
            lines["slope"] = Arithmetic(
                text=f"Q′({fixed(asked)}) = {fixed(slope)}; w Q′ = {fixed(push)}",
                tex=rf"Q'({name}) = Q'({tex(asked)}) = {value},\quad w\,Q' = {tex(push)}",
            )
            lines["asked"] = Arithmetic(
                text=f"Q({fixed(asked)}) = {fixed(self.critic_at(asked))}",
                tex=rf"Q({name}) = Q({tex(asked)}) = {tex(self.critic_at(asked))}",
            )
            lines["critic"] = self._critic(asked)
        if k and self.params.estimator == "ood":
            peak, decoded = self.params.peak, float(self.result.ray[k])
            lines["ray"] = Arithmetic(
                text=f"a*/t = {fixed(peak)} / {fixed(t)} = {fixed(decoded)}",
                tex=rf"a^\ast/t = {tex(peak)}/{t:.2f} = {tex(decoded)}",
            )
        if stage == "actions":
            n = self.params.n_particles
            for mode, share in enumerate(self.result.swarm.shares):
                ended = round(share * n)
                lines[f"mode:{mode}"] = Arithmetic(
                    text=f"of the data a third; of the swarm {ended} of {n} = {percent(share)}",
                    tex=r"\text{data } \tfrac13;\quad\text{swarm } "
                    rf"\frac{{{ended}}}{{{n}}} = {100 * share:.1f}\,\%",
                )
        return lines

    def _critic(self, asked: float) -> Arithmetic:
        """The critic at its peak, and where it is asked."""
        peak = self.params.peak
        top, here = self.critic_at(peak), self.critic_at(asked)
        form, shape = "", ""
        if self.params.preset == "A":
            form, shape = "Q(a) = −(a − a*)²; ", r"Q(a) = -(a - a^\ast)^2,\quad "
        return Arithmetic(
            text=f"{form}Q(a*) = {fixed(top)}, Q({fixed(asked)}) = {fixed(here)}",
            tex=rf"{shape}Q(a^\ast) = {tex(top)},\quad Q({tex(asked)}) = {tex(here)}",
        )
