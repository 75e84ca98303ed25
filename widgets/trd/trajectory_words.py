"""What the road says: sentences of frames, words of marks, and the sum behind every loss."""

import difflib
from collections.abc import Sequence
from functools import cached_property

from intuitive.trd.exercise import Own
from intuitive.trd.experiments.trajectory import LEAST_MASS, Path, Split, TrajectoryResult

from ..kit import Arithmetic, Readout, chosen, fixed, number
from .styles import DIVERGENCE_NAMES

UNKNOWN = "?"
WAITS, LOSS = "teacher's WAIT here", "loss here"
BACK, REWRITE = "pairs of the way back supplied", "pairs of the rewrite supplied"
PARTS = ("WAIT", "expected", "rest")


def mass(p: int | float) -> str:
    """A probability: two decimals, or its power of ten where it is small."""
    return fixed(p) if p >= 0.005 else number(p, 2)


class Account:
    """The words of one result, seen along y_o (`along="opd"`) or y_r (`along="trd"`)."""

    def __init__(self, result: TrajectoryResult, along: str, own: Own | None) -> None:
        self.result, self.params, self.along, self.own = result, result.params, along, own
        self.y_o, self.y_r = result.y_o, result.y_r
        self.walked = self.y_o if along == "opd" else self.y_r
        self.name = "y_o" if along == "opd" else "y_r"
        self.error = self.y_o.first_error
        self.at = result.onset_at
        self.k = len(result.digits)
        self.off = len(self.y_o.tokens) - 2 * self.k - 3  # 1 with a plan
        self.charge = DIVERGENCE_NAMES[self.params.divergence]

    # ------------------------------------------------------------------------------ what a token is

    def kind(self, i: int) -> str:
        """Of a slot of y_o or y_r: "plan", "index", "total", "ANS", "answer" or "EOS"."""
        if i < self.off:
            return "plan"
        i -= self.off
        if i < 2 * self.k:
            return "total" if i % 2 else "index"
        return ("ANS", "answer", "EOS")[min(i - 2 * self.k, 2)]

    def step(self, i: int) -> int:
        """The step of a slot, from 1; 0 is the plan."""
        return 0 if i < self.off else (i - self.off) // 2 + 1

    def before(self, path: Path, i: int) -> int:
        """The number that stands before a total at slot i."""
        numbers = [token for token in path.tokens[:i] if token.isdigit()]
        return int(numbers[-1]) if numbers else 0

    def rest(self, i: int) -> str:
        """What the rest of a distribution at slot i is."""
        kind = self.kind(i)
        return {"plan": "other plans", "index": "another digit", "total": "other totals"}.get(
            kind, "others"
        )

    def is_sign(self, i: int) -> bool:
        """Whether the teacher would stop at slot i of y_o."""
        return self.y_o.teacher[i].wait >= LEAST_MASS

    # ------------------------------------------------------------------------------ the frames

    def sentence(self, n: int) -> str:
        """After n tokens."""
        if n == 0:
            if self.along == "trd":
                return "The teacher reads the whole attempt first, then writes it anew as y_r."
            return (
                "A student wrote this attempt from left to right. Play: the teacher reads along, "
                "token by token."
            )
        i, path = n - 1, self.walked
        token, kind, split = path.tokens[i], self.kind(i), path.teacher[i]
        loss = f"{fixed(path.nats[i])} nats"
        if self.along == "trd":
            return self._on_rewrite(i, token, loss)
        if kind == "plan" and i == self.error:
            return (
                f"The plan {token} is wrong ({self.result.right} is right), and no one can see it "
                f"yet: the teacher guesses too. Loss {loss}."
            )
        if i == self.error:
            return (
                f"{token} is wrong, {path.expected[i]} is right. Loss {loss}, no more than at a "
                f"right total: the drawn {token} is not what KL looks at."
            )
        if self.is_sign(i):
            first = "A sign" if i == self.at else "A sign again"
            return (
                f"{first}: the teacher says WAIT with {mass(split.wait)}, the student with "
                f"{mass(path.student[i].wait)}. Loss {loss}."
            )
        if kind == "index":
            digit = self.result.digits[int(token[1:])]
            told = f"{token}: take digit {token} of the problem, which is {digit}."
        elif kind == "plan":
            told = f"{token} is the plan: the number to start from."
        elif kind == "total":
            digit = self.result.digits[int(path.tokens[i - 1][1:])]
            p = self.modulus
            told = f"{self.before(path, i)} + {digit} = {token} modulo {p}: the running total."
        elif kind == "ANS":
            told = "ANS: the answer comes next."
        elif kind == "answer":
            told = self.ending(path)
        else:
            signs = sum(map(self.is_sign, range(self.n_signs_from, len(self.y_o.tokens))))
            told = f"EOS: the end. {self.ending(path)}"
            if not signs:
                return told
            places = "one place" if signs == 1 else f"{signs} places"
            return f"{told} At {places} the teacher would have turned back."
        after = self.error is not None and i > self.error
        wrong = after and kind == "total"
        carried = " Right after what stands there, so even the teacher goes on." if wrong else ""
        return f"{told}{carried} Loss {loss}."

    @property
    def n_signs_from(self) -> int:
        """The slot from which on signs may stand."""
        return len(self.y_o.tokens) if self.at is None else self.at

    def _on_rewrite(self, i: int, token: str, loss: str) -> str:
        if i == self.error:
            return (
                f"The rewrite has {token} where the attempt has {self.y_o.tokens[i]}: from here on "
                f"every context is right. Loss {loss}."
            )
        if self.kind(i) == "answer":
            return f"{self.ending(self.y_r)} Loss {loss}."
        kept = "kept from the attempt" if token == self.y_o.tokens[i] else "put right"
        return f"{token}, {kept}. Context and target are of one solution. Loss {loss}."

    @property
    def modulus(self) -> int:
        return 23 if self.params.setting == "late" else 7

    @property
    def plans(self) -> str:
        """Which plans there are: fewer than totals."""
        return f"0 to {len(self.result.digits)}"

    @cached_property
    def in_rewrite(self) -> tuple[int | None, ...]:
        """For each token of the reader's rewrite its slot in y_r once both are aligned, or None."""
        found: list[int | None] = [None] * len(self.own.tokens)
        match = difflib.SequenceMatcher(None, self.own.tokens, self.y_r.tokens, autojunk=False)
        for at, there, n in match.get_matching_blocks():
            found[at : at + n] = range(there, there + n)
        return tuple(found)

    def ending(self, path: Path) -> str:
        """The answer, and the target where the problem shows one."""
        if self.off:
            met = "met" if path.answer == self.result.target else "missed"
            return f"It comes to {path.answer}: the target {self.result.target} is {met}."
        right = "right" if path.correct else f"wrong, {self.result.target} is right"
        return f"It answers {path.answer}: {right}."

    def count(self) -> str:
        """The last frame: which pairs the data hold."""
        needed, shared = len(self.result.ladder), self.shared
        if self.along == "trd":
            n = len(self.y_r.tokens)
            return (
                f"All {n} pairs along y_r are in the data, {self.result.n_right_supplied} of them "
                "along y_o too. Nobody needs a way back."
            )
        if not needed:
            n = len(self.y_o.tokens)
            return f"Nothing wrong was written: all {n} pairs are good, and no way back is needed."
        if not shared:
            why = "the teacher never says WAIT" if self.params.repair == 0 else "WAIT is too rare"
            return f"{why[0].upper()}{why[1:]}: none of the {needed} pairs of the way back is told."
        later = sum(map(self.is_sign, range(self.at + 1, len(self.y_o.tokens))))
        told = "Nobody ever walks the rest."
        if later:
            signs = "sign asks" if later == 1 else f"{later} signs ask"
            told = f"The later {signs} for WAIT again, after another text."
        return f"OPD supplies {shared} of the {needed} pairs of the way back: WAIT, once. {told}"

    @property
    def shared(self) -> int:
        return sum(rung.shared for rung in self.result.ladder)

    def readouts(self, i: int | None, counted: bool) -> tuple[Readout, ...]:
        """Of the open token i, and the count once it is made."""
        if self.along == "trd":
            n = len(self.y_r.tokens)
            pairs = f"{n} of {n}"
        else:
            pairs = f"{self.shared} of {len(self.result.ladder)}"
        waits = loss = UNKNOWN
        link = ""
        if i is not None:
            path = self.walked
            link = f"{self.name}:{i}"
            waits, loss = fixed(path.teacher[i].wait), f"{fixed(path.nats[i])} nats"
        return (
            Readout(REWRITE if self.along == "trd" else BACK, pairs if counted else UNKNOWN),
            Readout(WAITS, waits, link=link),
            Readout(LOSS, loss, link=link),
        )

    # ------------------------------------------------------------------------------ the marks

    def token(self, name: str, i: int) -> str:
        path = self.y_o if name == "y_o" else self.y_r
        token, kind = path.tokens[i], self.kind(i)
        said = f"Token {i + 1} of {name}, {token}."
        if name != self.name:
            return f"{said} The student does not train on it here."
        loss = f" Loss {fixed(path.nats[i])} nats."
        expected = path.expected[i]
        teacher, student = path.teacher[i], path.student[i]
        if name == "y_o" and self.is_sign(i):
            again = "" if i == self.at else " again, after another text than the way back needs,"
            return f"{said} The teacher says WAIT{again} with {mass(teacher.wait)} here.{loss}"
        also = ""
        if token != expected and kind in ("plan", "total"):
            also = f" The student wrote it with {mass(student.drawn)}."
        return (
            f"{said} On {expected} the teacher puts {mass(teacher.expected)}, the student "
            f"{mass(student.expected)}.{also}{loss}"
        )

    def rung(self, k: int) -> str:
        """Pair k of the way back, from 0."""
        rung, n = self.result.ladder[k], len(self.result.ladder)
        said = f"Pair {k + 1} of {n}, a text and its next token: "
        if k == 0:
            told = f"this context → WAIT. The teacher asks for it with {fixed(rung.onset_mass)}"
            return f"{said}{told}, and the context is on the road."
        context = " ".join(rung.context[-3:])
        here = f"after “{context}” write {rung.target}. "
        if not rung.opd_target:
            return f"{said}{here}The student's road has ended by then."
        return f"{said}{here}The student's road has “{' '.join(rung.opd_context[-3:])}” there."

    def own_token(self, i: int) -> str:
        there = self.in_rewrite[i]
        if there is None:
            return f"Token {i + 1} of your rewrite, {self.own.tokens[i]}: not in the package's."
        moved = "" if there == i else f", there token {there + 1}"
        return f"Token {i + 1} of your rewrite, {self.own.tokens[i]}, as in the package's{moved}."

    # ------------------------------------------------------------------------------ the sums

    def arithmetic(self) -> dict[str, Arithmetic]:
        """By link, the loss of every token that is trained on, with its numbers."""
        lines = {f"{self.name}:{i}": self._sum(i) for i in range(len(self.walked.tokens))}
        if self.along == "opd" and self.result.ladder:
            lines |= {f"pair:{k}": self._pair(k) for k in range(1, len(self.result.ladder))}
        return lines

    def _sum(self, i: int) -> Arithmetic:
        path, total = self.walked, self.walked.nats[i]
        if self.params.divergence != "forward_kl":
            parts = self._both(i)
            text = f"{self.charge}: {fixed(total, 3)} nats, from {parts}"
            return Arithmetic(text=text)
        names = {"WAIT": "WAIT", "expected": path.expected[i], "rest": self.rest(i)}
        plain, tex, values = [], [], []
        for place, part in enumerate(PARTS):
            t, s = (_part(side[i], part) for side in (path.teacher, path.student))
            term = path.terms[i][place]
            if part == "rest" or (part == "WAIT" and t < LEAST_MASS):
                continue
            plain.append(f"{mass(t)} ln({mass(t)}/{mass(s)}) for {names[part]}")
            ratio = rf"{_tex(t)}\,(\ln {_tex(t)} - \ln {_tex(s)})"
            name = names[part].replace("#", r"\#")
            tex.append(rf"\underset{{\text{{{name}}}}}{{{ratio}}}")
            values.append(term)
        small = total - sum(values)
        plain.append(f"{fixed(small)} for the rest")
        tex.append(rf"\underset{{\text{{rest}}}}{{{fixed(small).replace('−', '-')}}}")
        drawn = ""
        token = path.tokens[i]
        if token != path.expected[i] and self.kind(i) in ("plan", "total"):
            p = path.teacher[i].drawn
            drawn = f" (the drawn {token}: the teacher gives it {mass(p)})"
        joined = " + ".join(tex)
        return Arithmetic(
            text=f"{' + '.join(plain)} = {fixed(total)} nats{drawn}",
            tex=rf"{joined} = {total:.2f}\text{{ nats{drawn}}}",
        )

    def _both(self, i: int) -> str:
        path = self.walked
        sides = (("teacher", path.teacher[i]), ("student", path.student[i]))
        return "; ".join(
            f"{who} {mass(split.wait)} on WAIT, {mass(split.expected)} on {path.expected[i]}"
            for who, split in sides
        )

    def _pair(self, k: int) -> Arithmetic:
        says = self.y_o.student[self.at].wait
        visits = number(1e6 * says, 2)
        return Arithmetic(
            text=f"A million attempts · {mass(says)} = {visits} that say WAIT here, and whose text "
            "would need this pair."
        )


def _part(split: Split, part: str) -> int | float:
    return {"WAIT": split.wait, "expected": split.expected, "rest": split.rest}[part]


def _tex(p: int | float) -> str:
    if p >= 0.005 or p == 0:
        return f"{p:.2f}"
    mantissa, exponent = f"{p:.0e}".split("e")
    return rf"({mantissa}\cdot 10^{{{int(exponent)}}})"


def summary(result: TrajectoryResult, along: str, own: Own | None) -> str:
    """What the picture shows, without what the question asks."""
    say, params = Account(result, along, own), result.params
    where = "the plan" if params.step == 0 else f"step {params.step}"
    y_o = result.y_o
    if say.error is None:
        wrote = f"At {where} stands {result.right}, as it should."
        losses = f"Mean loss along it {fixed(_mean(y_o.nats))} nats."
    else:
        wrote = f"At {where} stands {y_o.tokens[say.error]} in the place of {result.right}."
        losses = f"Loss {fixed(y_o.nats[say.error])} nats at the error, "
        if say.is_sign(say.at):
            losses += (
                f"{fixed(y_o.nats[say.at])} at the first sign, where the teacher says WAIT with "
                f"{mass(y_o.teacher[say.at].wait)}."
            )
        else:
            losses += "and no sign after it: the teacher never turns back."
    rewritten = f"Along y_r {fixed(_mean(result.y_r.nats))} nats a token. {say.ending(result.y_r)}"
    lam = f", λ = {chosen(params.repair)}" if params.teacher != "learned" else ""
    trained = "own road y_o (OPD)" if along == "opd" else "rewrite y_r (TRD)"
    told = f" {own.told}" if own is not None else ""
    return f"{wrote} Trained along: {trained}{lam}. {say.ending(y_o)} {losses} {rewritten}{told}"


def _mean(values: Sequence[float]) -> int | float:
    return sum(values) / len(values)
