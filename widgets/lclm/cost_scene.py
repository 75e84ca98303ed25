"""The hero of the cost meter: three ways to read one long prompt, on one clock.

Each way has a lane. Left, time: the bar grows with the clock, in the colour of what is read, until
the first token can be written. Right, what the GPU holds at that moment, as areas to scale: all
lanes have one height, so that length is memory. A thin frame keeps the greatest length so far, the
peak, which is what the card must have room for.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from intuitive.lclm import cost
from intuitive.lclm.experiments.cost import CostResult

from ..kit import Arithmetic, Frame, Line, Mark, Readout, Rectangle, Scene, Words, fixed
from .methods import ENCODER, LATENT, LOGITS, RAW, WEIGHTS

Number = int | float

WIDTH, HEIGHT = 1000, 372
CARD, CARD_NAME = 141e9 / 2**30, "H200"  # GiB of the figure's GPU
TIME, MEMORY = (24, 500), (572, 962)  # left and right end of the two scales
TOPS = {"raw": 72, "evict": 170, "lclm": 268}  # of each lane's bars
TALL = 40  # of a bar
PARTS = {  # of what is held, in the order of stacking
    "weights": ("weights", WEIGHTS),
    "kv": ("KV cache", ""),  # the colour of what was read
    "logits": ("logits", LOGITS),
    "activations": ("working memory", ENCODER),
}
KINDS = {  # of what is done
    "encode": ("the encoder reads", ENCODER),
    "prefill": ("the decoder reads", ""),
    "evict": ("throws away", "ink"),
}
NAMES = {
    "raw": "raw text",
    "evict": "eviction: read all, then drop most",
    "lclm": "latents: encode, then read few",
}
THIN = "\u2009"
TINY = 1e-6  # seconds that are no difference


def tokens_text(count: int) -> str:
    """A number of tokens as sliders say it: 32K, 1M."""
    return f"{count // 2**20}M" if count >= 2**20 else f"{count // 1024}K"


def whole(value: Number) -> str:
    """A whole number, a thin space between thousands."""
    return f"{round(value):,}".replace(",", THIN)


def seconds(value: Number) -> str:
    """Seconds with as many digits as one can use."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{fixed(value, 2 if value < 10 else 1 if value < 100 else 0)} s"


def gib(value: Number) -> str:
    """GiB with as many digits as one can use."""
    return f"{fixed(value, 0 if value >= 100 else 1)} GiB"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One thing that a way does before its first token.

    Attributes:
        kind: of `KINDS`.
        seconds: how long it takes.
        reads: positions that are read in it.
        starts, ends: GiB held at its first and last moment, by part.
    """

    kind: str
    seconds: float
    reads: int
    starts: dict[str, float]
    ends: dict[str, float]


@dataclass(frozen=True)
class Lane:
    """One way to read the prompt.

    Attributes:
        key: of `TOPS`.
        title: what it is called.
        fill: colour of what its decoder reads.
        phases: in order.
        rests: GiB held once the first token is there, by part.
    """

    key: str
    title: str
    fill: str
    phases: tuple[Phase, ...]
    rests: dict[str, float]

    @property
    def seconds(self) -> float:
        """Time to first token."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def peak(self) -> float:
        """The most GiB that are held at any moment."""
        return sum(self.at_peak.values())

    @property
    def at_peak(self) -> dict[str, float]:
        """GiB held at the peak, by part."""
        moments = [part for phase in self.phases for part in (phase.starts, phase.ends)]
        return max(*moments, self.rests, key=lambda held: sum(held.values()))

    def ends(self) -> Iterator[tuple[Phase, float]]:
        """Each phase and when it is over."""
        now = 0.0
        for phase in self.phases:
            now += phase.seconds
            yield phase, now

    def held(self, clock: float) -> dict[str, float]:
        """GiB held at a moment, by part."""
        for phase, end in self.ends():
            if clock < end - TINY:
                share = 1 - (end - clock) / phase.seconds
                return {
                    name: phase.starts[name] + share * (phase.ends[name] - phase.starts[name])
                    for name in PARTS
                }
        return self.rests

    def most(self, clock: float) -> float:
        """The most GiB that were held up to a moment."""
        seen = [sum(self.held(clock).values())]
        for phase, end in self.ends():
            if clock >= end - phase.seconds - TINY:
                seen.append(sum(phase.starts.values()))
            if clock >= end - TINY:
                seen.append(sum(phase.ends.values()))
        return max(seen)

    def told(self, phase: Phase) -> str:
        """What is done in a phase."""
        if phase.kind == "evict":
            return KINDS["evict"][0]
        what = "latents" if phase.kind == "prefill" and self.key == "lclm" else "tokens"
        return f"{KINDS[phase.kind][0]} {whole(phase.reads)} {what}"

    def deed(self, clock: float) -> str:
        """What is done at a moment."""
        if clock >= self.seconds - TINY:
            return "first token" if clock < self.seconds + TINY else "writing"
        return self.told(next(phase for phase, end in self.ends() if clock < end - TINY))


def lanes(result: CostResult) -> tuple[Lane, Lane, Lane]:
    """Raw text, eviction after reading it, and latents, by the fits at the result's setting."""
    params, here = result.params, result.here
    raw, evict, latents = (here[arm] for arm in ("raw", "eviction", "latents"))
    read = asdict(raw.memory)
    chosen = asdict(evict.memory)
    prefill = Phase(
        kind="prefill",
        seconds=raw.time.decoder,
        reads=params.context,
        starts=_before(read),
        ends=read,
    )
    encoding, decoding = (
        asdict(moment)
        for moment in cost.latent_moments(params.context, ratio=params.ratio, logits=params.logits)
    )
    encode = Phase(
        kind="encode",
        seconds=latents.time.encoder,
        reads=params.context,
        starts=_before(encoding),
        ends=_of_encoder(encoding),
    )
    short = Phase(
        kind="prefill",
        seconds=latents.time.decoder,
        reads=-(-params.context // params.ratio),
        starts=_before(decoding),
        ends=decoding,
    )
    evicting = Phase(kind="evict", seconds=evict.time.eviction, reads=0, starts=chosen, ends=chosen)
    return (
        Lane("raw", "raw text", RAW, (prefill,), _before(read) | {"kv": raw.kept_kv_gib}),
        Lane(
            "evict",
            "eviction",
            RAW,
            (prefill, evicting),
            _before(read) | {"kv": evict.kept_kv_gib},
        ),
        Lane(
            "lclm",
            "latents",
            LATENT,
            (encode, short),
            _before(decoding) | {"kv": latents.kept_kv_gib},
        ),
    )


def _before(held: dict[str, float]) -> dict[str, float]:
    """Weights and a little room: what is there before anything is read."""
    return {"weights": held["weights"], "kv": 0.0, "logits": 0.0, "activations": cost.REST_GIB}


def _of_encoder(held: dict[str, float]) -> dict[str, float]:
    """The encoder's own keys and values are working memory: nobody reads them afterwards."""
    return held | {"kv": 0.0, "activations": held["kv"] + held["activations"]}


class Picture:
    """All moments of one setting.

    Args:
        lanes: raw text first.
        n_tokens: of the prompt.
    """

    def __init__(self, lanes: tuple[Lane, ...], *, n_tokens: int) -> None:
        self.lanes, self.n_tokens = lanes, n_tokens
        self.longest = max(lane.seconds for lane in lanes)
        self.most = max(lane.peak for lane in lanes)

    # ------------------------------------------------------------------------------ frames

    def clocks(self) -> tuple[float, ...]:
        """Moments that are shown: ends of phases, and eighths of the longest bar between them."""
        ends = {round(end, 6) for lane in self.lanes for _, end in lane.ends()}
        eighths = {round(self.longest * i / 8, 6) for i in range(1, 8)}
        apart = self.longest / 40
        return tuple(
            sorted(
                {0.0} | ends | {at for at in eighths if all(abs(at - end) > apart for end in ends)}
            )
        )

    def frames(self) -> tuple[Frame, ...]:
        return tuple(
            Frame(
                scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(self._marks(clock))),
                label=seconds(clock) if clock else "0 s",
                sentence=self._sentence(clock),
                readouts=self.readouts(clock),
            )
            for clock in self.clocks()
        )

    def readouts(self, clock: float) -> tuple[Readout, ...]:
        """When each lane has its first token, once it has it, and whether it fits on the card."""
        found = []
        for lane in self.lanes:
            done = clock >= lane.seconds - TINY
            alarm = lane.peak > CARD
            told = seconds(lane.seconds) if done else "reading …"
            told += ", does not fit" * alarm
            found.append(Readout(lane.title, told, link=lane.key, alarm=alarm))
        return tuple(found)

    def _sentence(self, clock: float) -> str:
        if not clock:
            return f"{whole(self.n_tokens)} tokens wait, and the clock starts."
        by_deed: dict[str, list[str]] = {}
        for lane in self.lanes:
            by_deed.setdefault(lane.deed(clock), []).append(lane.title)
        told = [f"{' and '.join(titles)}: {deed}" for deed, titles in by_deed.items()]
        return f"{seconds(clock)}: {'; '.join(told)}.".replace(": ", " · ", 1)

    # ------------------------------------------------------------------------------- marks

    def _time(self, value: Number) -> float:
        low, high = TIME
        return low + (high - low) * value / self.longest

    def _length(self, value: Number) -> float:
        """Length of so many GiB."""
        return (MEMORY[1] - MEMORY[0]) * value / self.most

    def _marks(self, clock: float) -> list[Mark]:
        return [*self._ground(clock), *(m for lane in self.lanes for m in self._lane(lane, clock))]

    def _ground(self, clock: float) -> list[Mark]:
        x, bottom = self._time(clock), TOPS["lclm"] + TALL + 28
        marks: list[Mark] = [
            Words(key="head:time", x=TIME[0], y=18, text="Time to first token", bold=True, size=14),
            Words(
                key="head:memory",
                x=MEMORY[0],
                y=18,
                text="On the GPU now; dashed: the most so far",
                bold=True,
                size=14,
            ),
            *self._key(),
            Line(
                key="clock",
                x=x,
                x2=x,
                y=36,
                y2=bottom,
                stroke="ink",
                width=1.5,
                opacity=0.4,
                layer=-1,
            ),
            Words(
                key="clock:text",
                x=x,
                y=bottom + 17,
                text=seconds(clock) if clock else "0 s",
                anchor="middle" if clock else "start",
                size=14,
                bold=True,
            ),
        ]
        at = MEMORY[0] + self._length(CARD)
        told = f"{CARD_NAME}: {gib(CARD)}"
        if at <= MEMORY[1]:
            marks += [
                Line(key="card", x=at, x2=at, y=36, y2=bottom, stroke="ink", width=1, dash="4 3"),
                Words(key="card:text", x=at, y=bottom + 17, text=told, anchor="middle", size=13),
            ]
        else:
            end = {"x": MEMORY[1], "anchor": "end", "size": 13}
            marks.append(Words(key="card:text", y=bottom + 17, text=f"{told} →", **end))
        return marks

    def _key(self) -> list[Mark]:
        """What the colours of memory are."""
        marks: list[Mark] = []
        x = MEMORY[0]
        for name, (told, colour) in PARTS.items():
            for part in (colour,) if colour else (RAW, LATENT):
                marks.append(Rectangle(key=f"key:{name}:{part}", x=x, y=31, w=10, h=10, fill=part))
                x += 13
            marks.append(Words(key=f"key:{name}", x=x + 2, y=40, text=told, size=12))
            x += 7 * len(told) + 22
        return marks

    def _lane(self, lane: Lane, clock: float) -> list[Mark]:
        top = TOPS[lane.key]
        marks: list[Mark] = [
            Words(
                key=f"name:{lane.key}",
                x=TIME[0],
                y=top - 10,
                text=NAMES[lane.key],
                bold=True,
                size=15,
                link=lane.key,
            ),
        ]
        start = 0.0
        for i, (phase, end) in enumerate(lane.ends()):
            done = min(max(clock - start, 0.0), phase.seconds)
            colour = KINDS[phase.kind][1] or lane.fill
            words = f"{lane.title}: {lane.told(phase)}, {seconds(phase.seconds)}."
            marks.append(
                Rectangle(
                    key=f"time:{lane.key}:{i}",
                    link=f"{lane.key}:{phase.kind}",
                    x=self._time(start),
                    y=top,
                    w=self._time(done) - TIME[0],
                    h=TALL,
                    fill=colour,
                    words=words,
                )
            )
            start = end
        marks += self._said(lane, clock)
        marks += self._memory(lane, clock)
        return marks

    def _said(self, lane: Lane, clock: float) -> list[Mark]:
        """What the lane does, beside or in its bar."""
        top, done = TOPS[lane.key], clock >= lane.seconds - TINY
        if done:
            text = f"first token after {seconds(lane.seconds)}"
        elif clock:
            text = lane.deed(clock)
        else:
            text = lane.told(lane.phases[0])
        wide = self._time(min(clock, lane.seconds)) - TIME[0]
        return [
            Words(
                key=f"said:{lane.key}",
                x=TIME[0] + wide + 8 if wide < 220 else TIME[0],
                y=top + TALL / 2 + 5 if wide < 220 else top + TALL + 17,
                text=text,
                size=13,
                bold=done,
                layer=2,
            )
        ]

    def _memory(self, lane: Lane, clock: float) -> list[Mark]:
        top, held = TOPS[lane.key], lane.held(clock)
        marks: list[Mark] = []
        x = MEMORY[0]
        for name, (told, colour) in PARTS.items():
            wide = self._length(held[name])
            words = f"{lane.title}: {gib(held[name])} of {told}."
            marks.append(
                Rectangle(
                    key=f"memory:{lane.key}:{name}",
                    link=f"{lane.key}:{name}",
                    x=x,
                    y=top,
                    w=max(wide, 0.01),
                    h=TALL,
                    fill=colour or lane.fill,
                    words=words,
                )
            )
            x += wide
        most = lane.most(clock)
        marks += [
            Rectangle(
                key=f"peak:{lane.key}",
                link=lane.key,
                x=MEMORY[0],
                y=top - 2,
                w=self._length(most),
                h=TALL + 4,
                stroke="ink",
                width=1,
                dash="3 3",
                words=f"{lane.title}: at most {gib(most)} so far.",
            ),
            Words(
                key=f"most:{lane.key}",
                x=MEMORY[0],
                y=top + TALL + 17,
                text=f"{gib(sum(held.values()))} now, {gib(most)} at most",
                size=13,
                link=lane.key,
            ),
        ]
        return marks

    # -------------------------------------------------------------------------- arithmetic

    def arithmetic(self) -> dict[str, Arithmetic]:
        """Each lane's sum of times."""
        lines = {}
        for lane in self.lanes:
            parts = " + ".join(f"{seconds(phase.seconds)}" for phase in lane.phases)
            first = self.lanes[0].seconds
            times = f"; raw text takes {fixed(first / lane.seconds, 1)} times as long"
            lines[lane.key] = Arithmetic(
                text=f"{parts} = {seconds(lane.seconds)}{times if lane.key == 'lclm' else ''}"
            )
        return lines
