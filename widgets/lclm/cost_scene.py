"""The hero of the cost meter: three ways to read one long prompt, on one clock.

Each way has a lane. Left, time: the bar grows with the clock, in the colour of what is read, until
the first token can be written. Right, what the GPU holds at that moment, as areas to scale: all
lanes have one height, so that length is memory. A thin frame keeps the greatest length so far, the
peak, which is what the card must have room for, and in it stands pale what was held then. The scale
of memory is the same whichever rows of the vocabulary are held.
"""

from ..kit import Arithmetic, Frame, Line, Mark, Readout, Rectangle, Scene, Words, fixed
from .cost_lanes import KINDS, PARTS, TINY, Lane, Number, gib, seconds, whole
from .methods import LATENT, RAW

WIDTH, HEIGHT = 1000, 372
PALE = 0.3  # opacity of what was held at the peak
CARD, CARD_NAME = 141e9 / 2**30, "H200"  # GiB of the figure's GPU
TIME, MEMORY = (24, 500), (572, 962)  # left and right end of the two scales
TOPS = {"raw": 72, "evict": 170, "lclm": 268}  # of each lane's bars
TALL = 40  # of a bar
NAMES = {
    "raw": "raw text",
    "evict": "eviction: read all, then drop most",
    "lclm": "latents: encode, then read few",
}


class Picture:
    """All moments of one setting.

    Args:
        lanes: raw text first.
        n_tokens: of the prompt.
        most: GiB at the right end of the scale, at least the greatest peak.
    """

    def __init__(self, lanes: tuple[Lane, ...], *, n_tokens: int, most: float) -> None:
        self.lanes, self.n_tokens = lanes, n_tokens
        self.longest = max(lane.seconds for lane in lanes)
        self.most = most

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
                text="On the GPU now; pale and dashed: the most so far",
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
                *(self._card(key, at, top) for key, top in TOPS.items()),
                Words(key="card:text", x=at, y=bottom + 17, text=told, anchor="middle", size=13),
            ]
        else:
            end = {"x": MEMORY[1], "anchor": "end", "size": 13}
            marks.append(Words(key="card:text", y=bottom + 17, text=f"{told} →", **end))
        return marks

    def _card(self, key: str, at: Number, top: Number) -> Line:
        """The end of the card across one lane, where no words stand."""
        ends = {"y": top - 10, "y2": top + TALL + 4, "stroke": "ink", "width": 1, "dash": "4 3"}
        return Line(key=f"card:{key}", x=at, x2=at, **ends)

    def _key(self) -> list[Mark]:
        """What the colours are."""
        marks: list[Mark] = []
        x = TIME[0]
        for kind, fill, told in (
            ("prefill", RAW, "decoder: text"),
            ("evict", KINDS["evict"][1], "eviction chooses"),
            ("encode", KINDS["encode"][1], "encoder: text"),
            ("short", LATENT, "decoder: latents"),
        ):
            marks.append(Rectangle(key=f"key:{kind}", x=x, y=31, w=10, h=10, fill=fill))
            marks.append(Words(key=f"key:{kind}:text", x=x + 14, y=40, text=told, size=12))
            x += 6.2 * len(told) + 26
        x = MEMORY[0]
        for name, (title, colour) in PARTS.items():
            told = title if colour else "KV of text, latents"
            for part in (colour,) if colour else (RAW, LATENT):
                marks.append(Rectangle(key=f"key:{name}:{part}", x=x, y=31, w=10, h=10, fill=part))
                x += 13
            marks.append(Words(key=f"key:{name}", x=x + 2, y=40, text=told, size=12))
            x += 6.2 * len(told) + 16
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
        at_most, x = lane.most(clock), MEMORY[0]
        for name, (_, colour) in PARTS.items():
            wide = self._length(at_most[name])
            marks.append(
                Rectangle(
                    key=f"pale:{lane.key}:{name}",
                    x=x,
                    y=top,
                    w=max(wide, 0.01),
                    h=TALL,
                    fill=colour or lane.fill,
                    opacity=PALE,
                    layer=-1,
                )
            )
            x += wide
        most = sum(at_most.values())
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
