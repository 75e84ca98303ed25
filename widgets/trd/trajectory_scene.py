"""The hero of the TRD lesson: a road of tokens that forks at the error.

From top to bottom: the problem; signs where the teacher would say WAIT; the student's attempt y_o,
under each token what teacher and student expect there and what that costs; the way back, slot under
slot; the rewrite y_r; the open token's two distributions. Trained along y_o the way back lies
between the roads; trained along y_r the rewrite moves up into its place and is paved.

One frame for each token that is walked, and one that counts the pairs. No frame before it tells
which pairs the data hold.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from intuitive.trd.exercise import Own
from intuitive.trd.experiments.trajectory import Path as Road
from intuitive.trd.experiments.trajectory import Split, TrajectoryResult

from ..kit import Frame, Line, Mark, Path, Rectangle, Scene, Words, fixed
from .trajectory_words import Account, mass

Number = int | float

WIDTH, HEIGHT = 960, 444
ROAD, BACK, BELOW = 136, 262, 324  # heights of the roads' middles: y_o, the way back, y_r unused
PAVED, OWN = 222, 326  # of y_r when it is trained along, and of the reader's
PANEL, KEY = 356, 436  # the open token; what the colours mean
TALL = 32
LEFT, SHARE = 214, 436  # width of an open distribution
GO, REPAIR, OTHER = "vermilion", "green", "grey"
COUNTED = "pairs"


class Picture:
    """All frames of one result."""

    def __init__(
        self, result: TrajectoryResult, along: str, look: int, own: Own | None = None
    ) -> None:
        self.result, self.along, self.own = result, along, own
        self.say = Account(result, along, own)
        self.y_o, self.y_r = result.y_o, result.y_r
        self.n, self.n_r = len(self.y_o.tokens), len(self.y_r.tokens)
        self.length = self.n if along == "opd" else self.n_r
        self.look = look if 0 < look <= self.length else 0
        self.small = self.n <= 12
        self.left, self.pitch = (36, 68) if self.small else (24, 45.4)
        self.wide = 54 if self.small else 39
        self.size = 15 if self.small else 13
        self.at, self.ladder = result.onset_at, result.ladder
        self.slots = 14 if self.small else 21
        self.begin = 0 if self.at is None else min(self.at, self.slots - len(self.ladder))
        self._kept: dict[tuple, Mark] = {}

    def x(self, slot: Number) -> Number:
        """Middle of a slot."""
        return self.left + self.pitch * slot

    def keep(self, make: Callable[..., Mark], key: str, *state: Any, **look: Any) -> Mark:
        """The mark of this key in this state, made once."""
        if (key, *state) not in self._kept:
            self._kept[key, *state] = make(key=key, **look)
        return self._kept[key, *state]

    # ------------------------------------------------------------------------------ frames

    def frames(self) -> tuple[Frame, ...]:
        made = [self._frame(n, counted=False) for n in range(self.length + 1)]
        return (*made, self._frame(self.length, counted=True))

    def _frame(self, n: int, *, counted: bool) -> Frame:
        opened = n - 1
        if 0 < self.look <= n:
            opened = self.look - 1
        elif n == self.length and self.at is not None:  # back to what it is all about
            opened = self.at if self.along == "opd" else self.say.error
        i = opened if opened >= 0 else None
        marks = [*self.ground, *self._attempt(n, i), *self._rewrite(n, i)]
        if self.along == "opd":
            marks += self._signs(n) + self._way_back(n, counted)
        else:
            marks += self._own()
        marks += [*self._open(i), *self.key]
        return Frame(
            scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=COUNTED if counted else f"{n} tokens" if n != 1 else "1 token",
            sentence=self.say.count() if counted else self.say.sentence(n),
            readouts=self.say.readouts(i, counted),
        )

    def _words(self, key: str, text: str, x: Number, y: Number, **look: Any) -> Mark:
        look = {"size": 13, "fill": "faint", **look}
        return self.keep(Words, key, text, x, y, *look.values(), text=text, x=x, y=y, **look)

    # ------------------------------------------------------------------------------ what stays

    @cached_property
    def ground(self) -> list[Mark]:
        result, marks = self.result, []
        late = not self.small
        told = "modulo 23: plan +" if late else "add modulo 7:"
        marks.append(self._words("problem", told, 8, 22))
        begin, gap, wide, size = (174, 68, 64, 13) if late else (170, 72, 64, 14)
        for k, digit in enumerate(result.digits):
            x, label = begin + gap * k, f"#{k}={digit}" if late else f"#{k} = {digit}"
            words = f"Digit number {k} of the problem is {digit}; the token #{k} takes it."
            marks.append(
                self.keep(
                    Rectangle, f"digit:{k}", x=x, y=6, w=wide, h=24, corner=6, fill="page",
                    stroke="faint", label=label, size=size, link=f"digit:{k}",
                    words=words,
                )
            )  # fmt: skip
        x = begin + gap * len(result.digits) + 4
        target = f"→ target {result.target}" if late else f"→ right answer {result.target}"
        marks.append(self._words("target", target, x, 22, fill="ink", size=14, bold=True))
        hint = "▲▼ change" if late else "▲▼ write another number"
        marks.append(self._words("hint", hint, WIDTH - 8, 22, anchor="end"))
        return marks

    @cached_property
    def key(self) -> list[Mark]:
        """What tiles and bars are coloured by."""
        tile = {"h": 14, "corner": 4}
        entries: list[tuple[str, dict[str, Any]]] = [
            ("to the right one", {"fill": REPAIR, "h": 10}),
            ("wrong ones", {"fill": GO, "h": 10, "opacity": 0.5}),
            ("others", {"fill": OTHER, "h": 10, "opacity": 0.5}),
        ]
        if self.along == "opd":
            entries[:0] = [
                ("the error", {"fill": GO, "stroke": "ink", "width": 2, **tile}),
                ("follows from it", {"fill": "page", "stroke": GO, "width": 1.5, **tile}),
            ]
            entries.insert(3, ("on from the error", {"fill": GO, "h": 10}))
        else:
            put_right = {"fill": REPAIR, "stroke": REPAIR, "width": 2, **tile}
            entries.insert(0, ("put right", put_right))
            if self.own is not None:
                only = {"fill": GO, "stroke": GO, "width": 2, **tile}
                entries.append(("only in your rewrite", only))
        marks, x = [], 8.0
        for text, look in entries:
            if text == "to the right one":
                marks.append(self._words("key", "bars:", x, KEY, fill="ink"))
                x += 50
            key, h = f"key:{text}", look.pop("h")
            marks.append(self.keep(Rectangle, key, x=x, y=KEY - 5 - h / 2, w=22, h=h, **look))
            marks.append(self._words(f"{key}'s", text, x + 28, KEY))
            x += 34 + 9.3 * len(text)
        return marks

    # ------------------------------------------------------------------------------ roads

    def _tile(self, name: str, slot: int, y: Number, text: str, **look: Any) -> Mark:
        state = (text, y, *map(str, look.values()))
        size = self.size - 2 * (len(text) > 3)
        return self.keep(
            Rectangle, f"{name}:{slot}", *state, x=self.x(slot) - self.wide / 2, y=y - TALL / 2,
            w=self.wide, h=TALL, corner=7, label=text, **{"size": size, **look},
        )  # fmt: skip

    def _band(
        self, name: str, y: Number, first: int, last: int, fill: str, opacity: Number
    ) -> Mark:
        """A road from slot `first` to before `last`; of no length where nothing is walked."""
        x, end = self.x(first) - self.pitch / 2, self.x(max(last, first)) - self.pitch / 2
        return self.keep(
            Rectangle, f"band:{name}", y, first, last, opacity, x=x, y=y - 22, w=end - x, h=44,
            corner=18, fill=fill, opacity=opacity if end > x else 0,
        )  # fmt: skip

    def _attempt(self, n: int, opened: int | None) -> list[Mark]:
        opd, say, error = self.along == "opd", self.say, self.say.error
        walked = n if opd else self.n
        bad = self.n if error is None else error
        strong = 1.0 if opd else 0.7
        marks = [
            self._band("y_o", ROAD, 0, min(walked, bad), "faint", 0.3 * strong),
            self._band("y_o wrong", ROAD, bad, max(walked, bad), GO, 0.22 * strong),
        ]
        for i, token in enumerate(self.y_o.tokens):
            on = i < walked
            late = error is not None and i > error
            look = {"fill": "page", "stroke": GO if late else "faint", "width": 1.5}
            if i == error:
                look = {"fill": GO, "stroke": "ink", "width": 2}
            if opd and i == opened:
                look |= {"stroke": "blue", "width": 3}
            if not on:
                look = {"fill": "page", "stroke": "faint", "width": 1, "opacity": 0.75}
            elif not opd:
                look["opacity"] = strong
            link = f"y_o:{i}"
            if on:
                look |= {"link": link, "words": say.token("y_o", i)}
                if opd:
                    look["click"] = {"look": 0 if self.look == i + 1 else i + 1}
            marks.append(self._tile("y_o", i, ROAD, token, **look))
            if say.kind(i) in ("total", "plan"):
                marks += self._nudges(i)
        marks += self._notes(n)
        if opd:
            marks += self._losses("y_o", self.y_o, ROAD, walked)
        end = say.ending(self.y_o) if walked == self.n else ""
        marks += self._name("y_o", "y_o, the attempt", end, ROAD, not self.y_o.correct)
        return marks

    def _name(self, key: str, name: str, end: str, y: Number, wrong: bool) -> list[Mark]:
        """A road's name and where it ends: at its right, or below where there is no room."""
        colour = GO if wrong else REPAIR if key == "y_o" or self.along == "trd" else "faint"
        if self.small:
            x = self.x(10.66)
            marks = [self._words(f"{key}'s name", name, x, y - 4, fill="ink")]
            if end:
                short = end.removeprefix("It ").rstrip(".").replace(", 2 is right", "")
                short = short.split(",")[0]
                marks.append(self._words(f"{key}'s end", short, x, y + 14, fill=colour, bold=True))
            return marks
        marks = [self._words(f"{key}'s name", key, self.x(self.n - 0.4), y + 5, fill="ink")]
        if end:
            below = {"y_o": 79 if self.along == "opd" else 22, "y_r": 60}
            down = y + TALL / 2 + below[key]
            x = 100 if self.along == "opd" else 8  # right of where the fork comes down
            marks.append(self._words(f"{key}'s end", end, x, down, fill=colour, bold=True))
        return marks

    def _nudges(self, i: int) -> list[Mark]:
        """▲ and ▼ over a number of the attempt: a click writes another one there."""
        say, result = self.say, self.result
        step, now = say.step(i), int(self.y_o.tokens[i])
        p = say.modulus if step else len(result.digits) + 1
        marks, wide = [], 24 if self.small else 19
        for name, by, side, sign in (("up", 1, -1, "▲"), ("down", -1, 0, "▼")):
            to = (now + by) % p
            where = f"step {step}" if step else "the plan"
            words = f"Write {to} in the place of {now} at {where}."
            marks.append(
                self.keep(
                    Rectangle, f"{name}:{i}", now, x=self.x(i) + side * wide, y=ROAD - 42, w=wide,
                    h=20, fill="page", label=sign, size=13, words=words,
                    click={"step": step, "written": to, "along": "opd", "look": 0},
                )
            )  # fmt: skip
        return marks

    def _notes(self, n: int) -> list[Mark]:
        """What the tokens mean, on the road itself, until signs need the room."""
        say, off = self.say, self.say.off
        digit = self.y_o.tokens[off][1:]
        notes = [(off, 62, f"take digit #{digit},"), (off + 1, 82, "write the running total")]
        if off:
            told = f"the plan, {self.say.plans}: start here"
            if self.say.error == 0 and n > 0:
                told = f"the plan, wrong: {self.result.right} is right"
            notes.insert(0, (0, 44, told))
        marks = []
        for slot, y, text in notes:
            x = self.x(slot) - 6
            pole = {"stroke": "faint", "width": 1.2}
            foot = ROAD - TALL / 2 - (26 if say.kind(slot) in ("total", "plan") else 2)
            marks.append(
                self.keep(Line, f"note:{slot}", x=x + 6, y=y + 5, x2=x + 6, y2=foot, **pole)
            )
            marks.append(self._words(f"note's words:{slot}", text, x, y))
        hidden = self.along == "opd" and self.at is not None and n >= self.at and self.at < 8
        return [] if hidden else marks

    # ------------------------------------------------------------------------------ bars, losses

    def _parts(self, name: str, i: int, split: Split) -> list[tuple[str, str, float]]:
        """(part, colour, mass) of a distribution: a colour says where its token leads."""
        error = self.say.error
        lost = name == "y_o" and error is not None and i > error
        total = self.say.kind(i) in ("total", "plan", "answer")
        rest = OTHER if lost or not total else GO
        return [
            ("wait", REPAIR, split.wait),
            ("expected", GO if lost else REPAIR, split.expected),
            ("rest", rest, split.rest),
        ]

    def _losses(self, name: str, road: Road, y: Number, walked: int) -> list[Mark]:
        marks, top = [], y + TALL / 2 + 6
        for i in range(min(walked, len(road.tokens))):
            for row, split in enumerate((road.teacher[i], road.student[i])):
                x = self.x(i) - self.wide / 2
                for part, colour, p in self._parts(name, i, split):
                    w = self.wide * p
                    pale = {"opacity": 0.5} if part == "rest" else {}
                    if w >= 0.4:
                        key = f"bar:{name}:{i}:{row}:{part}"
                        marks.append(
                            self.keep(
                                Rectangle, key, y, x=x, y=top + 12 * row, w=w, h=10, fill=colour,
                                **pale,
                            )
                        )  # fmt: skip
                    x += w
            marks.append(self._loss(name, road, i, top + 39))
        if self.small:
            x = self.x(10.66)
            marks.append(self._words("bars", "teacher / student", x, top + 17))
            marks.append(
                self._words("bars: loss", "loss in nats", x, top + 39, fill="purple", size=13)
            )
        return marks

    def _loss(self, name: str, road: Road, i: int, y: Number) -> Mark:
        nats = road.nats[i]
        look = {"fill": "purple", "anchor": "middle", "bold": abs(nats) > 1}
        size = 13 if self.small else 11.5
        return self._words(
            f"loss:{name}:{i}", fixed(nats, 2 if self.small else 1), self.x(i), y, size=size, **look
        )

    # ------------------------------------------------------------------------------ signs

    def _signs(self, n: int) -> list[Mark]:
        if self.at is None:
            return []
        marks, half = [], 60 if self.small else 30
        signs = [i for i in range(self.at, min(n + 1, self.n)) if self.say.is_sign(i)]
        for i in signs:
            split, x, link = self.y_o.teacher[i], self.x(i), f"y_o:{i}"
            post = {"stroke": "faint", "width": 3}
            words = (
                f"Before token {i + 1} the teacher says WAIT with {mass(split.wait)}, and with "
                f"{mass(1 - split.wait)} goes on from the error."
            )
            if i > self.at:
                words += " WAIT again, but after another text: no pair of the way back."
            marks.append(self.keep(Line, f"post:{i}", x=x, y=88, x2=x, y2=ROAD - 17, **post))
            marks.append(
                self.keep(
                    Rectangle, f"board:{i}", x=x - half, y=38, w=2 * half, h=50, corner=7,
                    fill="page", stroke="faint", link=link, words=words,
                )
            )  # fmt: skip
            if not self.small:  # one number under the other
                middle = {"anchor": "middle", "fill": REPAIR, "bold": True}
                marks.append(self._words(f"sign:{i}:0", "WAIT", x, 58, **middle))
                marks.append(self._words(f"sign's value:{i}:0", fixed(split.wait), x, 80, **middle))
                continue
            for row, (name, p, colour) in enumerate(
                (("WAIT", split.wait, REPAIR), ("go on", 1 - split.wait, GO))
            ):
                y = 58 + 22 * row
                marks.append(
                    self._words(f"sign:{i}:{row}", name, x - half + 6, y, fill=colour, bold=True)
                )
                marks.append(
                    self.keep(
                        Rectangle, f"sign's bar:{i}:{row}", p, x=x - 1, y=y - 11,
                        w=max(18 * p, 1), h=12, fill=colour,
                    )
                )  # fmt: skip
                value = {"anchor": "end", "fill": "ink"}
                marks.append(
                    self._words(f"sign's value:{i}:{row}", fixed(p), x + half - 4, y, **value)
                )
        return marks

    # ------------------------------------------------------------------------------ the way back

    def _way_back(self, n: int, counted: bool) -> list[Mark]:
        if self.at is None or n < self.at:
            return []
        marks, length = [], len(self.ladder)
        fork, first = self.x(self.at) - self.pitch / 2, self.x(self.begin) - self.pitch / 2
        end = self.x(self.begin + length - 1) + self.pitch / 2 - 6
        bend, low = min(fork, first + 26), ROAD + 77  # it passes below the losses
        d = f"M{fork:.1f},{ROAD + 18}V{low}H{bend:.1f}V{BACK - TALL / 2}"
        way = {"stroke": REPAIR, "width": 2, "dash": "5 4"}
        marks.append(self.keep(Path, "fork", d=d, **way))
        marks.append(self.keep(Line, "way", x=first + 6, y=BACK, x2=end, y2=BACK, **way))
        for k, rung in enumerate(self.ladder):
            slot, lit = self.begin + k, counted and rung.shared
            look = {"fill": "page", "stroke": REPAIR, "dash": "4 3", "width": 1.5}
            if lit:
                look = {"fill": REPAIR, "stroke": REPAIR, "width": 2}
            link = f"pair:{k}" if k else f"y_o:{self.at}"
            marks.append(
                self._tile(
                    "back", slot, BACK, rung.target, **look, link=link, words=self.say.rung(k)
                )
            )
            mark = "" if not counted else " ✓" if rung.shared else " ✗"
            pair = {"anchor": "middle", "fill": REPAIR if lit else "faint", "bold": lit}
            marks.append(
                self._words(f"pair:{k}", f"{k + 1}{mark}", self.x(slot), BACK + 30, **pair)
            )
        told = ("the way back,", "nobody walks it" if counted else "pair by pair")
        later = counted and any(self.say.is_sign(i) for i in range(self.at + 1, self.n))
        if self.small:
            for row, text in enumerate(told):
                look = {"fill": REPAIR if not row else "faint", "bold": not row}
                y = BACK - 4 + 17 * row
                marks.append(self._words(f"way's name:{row}", text, 8, y, **look))
            if later:
                text = "later signs: WAIT again, after another text; no new pair"
                marks.append(self._words("later signs", text, fork + 10, BACK - 31))
        else:
            look = {"anchor": "end", "fill": REPAIR, "bold": True}
            text = "later signs: WAIT after another text" if later else " ".join(told)
            marks.append(self._words("way's name:0", text, WIDTH - 8, BACK - 31, **look))
        return marks

    # ------------------------------------------------------------------------------ the rewrite

    def _rewrite(self, n: int, opened: int | None) -> list[Mark]:
        opd, say = self.along == "opd", self.say
        y = BELOW if opd else PAVED
        walked = 0 if opd else n
        marks = [
            self._band("y_r ground", y, 0, self.n_r, "faint", 0.14),
            self._band("y_r", y, 0, walked, REPAIR, 0.25),
        ]
        for i, token in enumerate(self.y_r.tokens):
            on, was = i < walked, self.y_o.tokens[i] if i < self.n else ""
            look = {"fill": "page", "stroke": "faint", "width": 1, "opacity": 0.75}
            if on:
                fixed_here = token != was
                look = {"fill": REPAIR if fixed_here else "page", "stroke": REPAIR, "width": 2}
                if i == opened:
                    look |= {"stroke": "blue", "width": 3}
            look |= {"link": f"y_r:{i}", "words": say.token("y_r", i)}
            if on:
                look["click"] = {"look": 0 if self.look == i + 1 else i + 1}
            marks.append(self._tile("y_r", i, y, token, **look))
        if not opd:
            marks += self._losses("y_r", self.y_r, y, walked)
        end = "OPD never reads it" if opd else ""
        if not opd and walked == self.n_r:
            end = say.ending(self.y_r)
        if not self.small and opd:
            end = ""
        marks += self._name("y_r", "y_r, the rewrite", end, y, not self.y_r.correct)
        return marks

    def _own(self) -> list[Mark]:
        """The reader's rewrite, beside the package's: orange is what that does not have."""
        if self.own is None:
            return []
        look = {"fill": "ink", "bold": True}
        if not self.own.tokens:
            return [self._words("own's name", self.own.told[:130], 8, OWN, **look)]
        marks, n = [], len(self.own.tokens)
        drawn = self.own.tokens[: self.slots]
        for i, token in enumerate(drawn):
            same = self.say.in_rewrite[i] is not None
            tile = {"fill": "page" if same else GO, "stroke": "sky" if same else GO, "width": 2}
            tile |= {"link": f"own:{i}", "words": self.say.own_token(i)}
            marks.append(self._tile("own", i, OWN, token, **tile))
        name = self.own.told if self.small else "your rewrite"
        if n > len(drawn):
            name = f"your rewrite, {len(drawn)} of {n} tokens"
        look |= {"anchor": "start" if self.small else "end"}
        x = 8 if self.small else WIDTH - 8
        return [*marks, self._words("own's name", name, x, OWN - 23, **look)]

    # ------------------------------------------------------------------------------ the open token

    def _open(self, i: int | None) -> list[Mark]:
        if i is None:
            text = "Play the road, or click a token to see what teacher and student expect there."
            return [self._words("open", text, 8, PANEL + 16)]
        road, name, say = self.say.walked, self.say.name, self.say
        token, kind = road.tokens[i], say.kind(i)
        marks = [
            self._words("open", f"token {i + 1}: {token}", 8, PANEL + 15, fill="blue", bold=True),
            self._words("open:0", "teacher", LEFT - 8, PANEL + 15, fill="ink", anchor="end"),
            self._words("open:1", "student", LEFT - 8, PANEL + 39, fill="ink", anchor="end"),
        ]
        names = {"wait": "WAIT", "expected": road.expected[i], "rest": say.rest(i)}
        for row, split in enumerate((road.teacher[i], road.student[i])):
            x, y = float(LEFT), PANEL + 24 * row
            for part, colour, p in self._parts(name, i, split):
                w = SHARE * p
                texts = (f"{names[part]}: {mass(p)}", names[part], "")
                text = next(text for text in texts if 7.4 * len(text) < w or not text)
                rest = part == "rest"  # pale, and so its text stands apart from it
                marks.append(
                    self.keep(
                        Rectangle, f"open:{row}:{part}", w, x, text, colour, x=x, y=y,
                        w=max(w, 1.5 if part == "wait" else 0), h=20, fill=colour,
                        label="" if rest else text, size=13, opacity=0.55 if rest else 1.0,
                    )
                )  # fmt: skip
                if rest and text:
                    look = {"fill": "ink", "anchor": "middle"}
                    marks.append(
                        self._words(f"open:{row}:rest's", text, x + w / 2, y + 14.5, **look)
                    )
                x += w
        x = LEFT + SHARE + 18
        loss = f"{say.charge}: {fixed(road.nats[i])} nats"
        marks.append(self._words("open's loss", loss, x, PANEL + 15, fill="purple", bold=True))
        marks.append(self._words("open's hint", "click the token for its sum", x, PANEL + 39))
        if token != road.expected[i] and kind in ("total", "plan"):
            at = LEFT + SHARE * (1 - road.student[i].rest / 2)
            drawn = f"the drawn {token} is in here, with {mass(road.student[i].drawn)} ↑"
            marks.append(self._words("drawn", drawn, at + 8, PANEL + 57, fill="ink", anchor="end"))
        elif name == "y_o" and say.is_sign(i):
            says = f"↑ the student's WAIT is a sliver: {mass(road.student[i].wait)}"
            marks.append(self._words("drawn", says, LEFT - 4, PANEL + 57, fill="ink"))
        else:
            marks.append(self._words("drawn", "", LEFT, PANEL + 57))
        return marks
