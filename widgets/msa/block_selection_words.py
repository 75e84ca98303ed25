"""What "Block selection" says of a query, its blocks and tokens: words, readouts, arithmetic."""

import math
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from intuitive.msa.experiments.block_selection import SelectionResult

from ..kit import Arithmetic, Readout, fixed, number, percent
from ..kit.numbers import MINUS
from .strip import LEAST, LEAST_MISSED, quoted, share_text

MEANS = ("main_mean", "block_mean_keys")  # selectors that average a block
SHARES = ("oracle",)  # that add its attention up
WAITING = "–"  # a readout whose stage has not been played
ORDINALS = {1: "st", 2: "nd", 3: "rd"}


def ordinal(n: int) -> str:
    return f"{n}{'th' if n % 100 in (11, 12, 13) else ORDINALS.get(n % 10, 'th')}"


TEX_TEXT = str.maketrans(
    {"\\": "∖", "^": "ˆ", "~": "∼"} | {c: rf"\{c}" for c in "%#&_$"} | {c: rf"\{c}" for c in "{}"}
)


def as_text(words: str) -> str:
    """Words inside TeX."""
    return rf"\text{{{words.translate(TEX_TEXT)}}}"


def as_number(text: str) -> str:
    """A written number inside TeX."""
    return text.replace(MINUS, "-").replace("%", r"\%")


class Account:
    """What there is to say of one query of one group."""

    def __init__(self, result: SelectionResult) -> None:
        self.result, self.params = result, result.params
        self.group, self.size = result.params.group, result.params.block_size
        self.selector = result.params.selector
        self.scores = self.selector != "window_sink"
        self.token_scores = result.token_scores[self.group]
        self.token_mass = result.token_mass[self.group]
        self.riddle = {token // self.size for token in result.riddle}
        self._best: dict[int, int] = {}  # what was asked for once, as every frame asks again
        self._blocks: dict[int, str] = {}
        self._tokens: dict[int, str] = {}

    # ------------------------------------------------------------------------------- facts

    @cached_property
    def read(self) -> list[int]:
        """Blocks that are read, in order."""
        found = self.result.chosen[self.selector][self.group]
        return [int(block) for block in found if block >= 0]

    @cached_property
    def forced(self) -> list[int]:
        """Blocks that are read whatever they score: the local ones and the first."""
        last = self.result.local_block
        local = range(max(last - self.params.n_local + 1, 0), last + 1)
        forced = {*local, *range(min(self.params.n_init, last + 1))}
        return sorted(forced, reverse=True)

    @cached_property
    def ranks(self) -> dict[int, int]:
        """Place of each block among those that had to earn theirs, from 1."""
        scores = self.result.block_scores[self.group][: self.result.local_block + 1]
        order = np.argsort(-scores, kind="stable").tolist()
        rest = [block for block in order if block not in self.forced]
        return {block: place for place, block in enumerate(rest, 1)}

    @cached_property
    def by_rank(self) -> list[int]:
        """Blocks that are read for their score, the best first."""
        earned = [block for block in self.read if block not in self.forced]
        return sorted(earned, key=lambda block: self.ranks[block])

    @cached_property
    def missed(self) -> list[int]:
        """Blocks that hold attention worth a pipe and are not read, the largest first."""
        mass = self.result.block_mass[self.group]
        order = np.argsort(-mass, kind="stable").tolist()
        return [block for block in order if block not in self.read and mass[block] >= LEAST_MISSED]

    @cached_property
    def banded(self) -> list[int]:
        """Tokens with a band of their own."""
        return np.flatnonzero(self.token_mass >= LEAST).tolist()

    @cached_property
    def cut(self) -> float:
        """The score between the last block that is read for it and the next; infinite if none."""
        n, values = len(self.by_rank), self.result.block_scores[self.group]
        last = [block for block, rank in self.ranks.items() if rank in (n, n + 1)]
        if n == 0 or len(last) < 2:
            return math.inf
        return float(values[last].mean())

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Ends of the scale of scores: the least mean of a block, and the strongest token.

        The same for the maximum and the mean, so that a block's value moves when the rule changes.
        """
        if not self.scores:
            return 0.0, 1.0
        values = self.result.block_scores[self.group][: self.result.local_block + 1]
        tokens = self.token_scores[: self.result.n_visible]
        if self.selector in SHARES:
            return 0.0, float(values.max())
        means = [
            tokens[start : start + self.size].mean() for start in range(0, len(tokens), self.size)
        ]
        return float(min(means)), float(max(tokens.max(), values.max()))

    @cached_property
    def top(self) -> int:
        """The token with most attention."""
        return int(self.token_mass[: self.result.n_visible].argmax())

    def inside(self, block: int) -> range:
        """Visible tokens of a block."""
        return range(
            block * self.size, min((block + 1) * self.size, self.result.query + 1)
        ) or range(block * self.size, block * self.size + 1)

    def best(self, block: int) -> int:
        """The token of a block with the greatest score; of attention where none is scored."""
        if block not in self._best:
            by = self.token_scores if self.scores else self.token_mass
            self._best[block] = max(self.inside(block), key=lambda token: by[token])
        return self._best[block]

    def value(self, block: int) -> float:
        return float(self.result.block_scores[self.group][block])

    def mass(self, block: int) -> float:
        return float(self.result.block_mass[self.group][block])

    def colour(self, block: int) -> str:
        return "green" if block == self.result.local_block and block in self.forced else "blue"

    # ------------------------------------------------------------------------------- words

    @property
    def lane_name(self) -> str:
        if not self.scores:
            return ""
        if self.selector in MEANS:
            return "mean score →"
        return "its attention →" if self.selector in SHARES else "best score →"

    def written(self, value: int | float) -> str:
        """A score as the selector's kind is written."""
        return f"{fixed(100 * value, 1)}%" if self.selector in SHARES else fixed(value, 1)

    def name(self, block: int) -> str:
        extra = [
            words
            for words, holds in (
                ("the riddle", block in self.riddle),
                ("its own", block == self.result.local_block),
            )
            if holds
        ]
        return f"Block {block}" + (f", {' and '.join(extra)}" if extra else "")

    def fate(self, block: int) -> str:
        """How a block came to be read, or not."""
        if block in self.forced:
            return "always read"
        if not self.scores:
            if block not in self.read:
                return "neither the first nor recent, skipped"
            return "the first, read" if block == 0 else "recent, read"
        own = self.forced == [self.result.local_block]
        others = " besides its own" if own else " not forced" if self.forced else ""
        place = f"{ordinal(self.ranks[block])} of {len(self.ranks)}{others}"
        return f"{place}, {'read' if block in self.read else 'skipped'}"

    def outcome(self, block: int, *, flow: bool) -> str:
        """A lit block's words at the right: why, and from the flow on how much it holds."""
        if block in self.forced:
            is_local = block > self.result.local_block - self.params.n_local
            why = "local" if is_local else "first"
        elif self.scores:
            why = ordinal(self.ranks[block])
        else:
            why = "first" if block == 0 else "recent"
        return f"{why} · {share_text(self.mass(block))}" if flow else why

    def block(self, block: int) -> str:
        if block not in self._blocks:
            self._blocks[block] = self._told_of_block(block)
        return self._blocks[block]

    def _told_of_block(self, block: int) -> str:
        if block > self.result.local_block:
            return f"Block {block} begins after the query: it cannot be seen."
        return f"{self.name(block)}: {self.fate(block)}; holds {percent(self.mass(block), 1)}."

    def blocks(self, which: Iterable[int]) -> dict[int, str]:
        return {block: self.block(block) for block in which}

    def token(self, token: int) -> str:
        if token not in self._tokens:
            self._tokens[token] = self._told_of_token(token)
        return self._tokens[token]

    def _told_of_token(self, token: int) -> str:
        text = f"{quoted(self.result.tokens[token])}, token {token}"
        if token > self.result.query:
            return f"{text}, comes after the query. Click: it becomes the query."
        block = token // self.size
        score = f": score {fixed(float(self.token_scores[token]), 1)}"
        if not self.scores or self.selector in SHARES:
            score = ""
        elif token == self.best(block):
            score += ", the best of its block"
        share = percent(float(self.token_mass[token]), 1)
        return f"{text}, block {block}{score}; {share} of the attention."

    def tokens(self, which: Iterable[int]) -> dict[int, str]:
        return {token: self.token(token) for token in which}

    # ------------------------------------------------------------------------------- sentences

    @property
    def asks(self) -> str:
        return quoted(self.result.tokens[self.result.query])

    def sentence(self, stage: str, groups: list[list[int]], at: int) -> str:
        """What is to be seen in a stage; for `light`, of the group of blocks that lights up."""
        told = self._sentence(stage, groups, at)
        return told[0].upper() + told[1:]

    def _sentence(self, stage: str, groups: list[list[int]], at: int) -> str:
        if stage == "no scores":
            return (
                "A window scores nothing: it reads the newest blocks and the first, whatever "
                "they say."
            )
        if stage == "scores":
            return (
                f"{self.asks}, token {self.result.query}, scores the tokens up to itself: the "
                "taller the bar behind a word, the higher its score."
            )
        if stage == "caps":
            pooled = {True: "the mean of its scores", False: "its best score"}[
                self.selector in MEANS
            ]
            if self.selector in SHARES:
                pooled = "the attention it holds"
            return f"Each block is worth {pooled}: a dot carries it into the lane at the right."
        if stage == "flow":
            return self._flow()
        if groups[at] == self.forced:
            held = "its own block" if len(self.forced) == 1 else "the forced blocks"
            return f"First {held}: always read, and counted among the {self.params.n_selected}."
        if not self.scores:
            return f"Then {self._list(groups[at])}."
        rest = len(self.ranks) - len(self.by_rank)
        end = f" Below the cut {rest} stay dark." if at == len(groups) - 1 and rest else ""
        return f"Then {self._list(groups[at])}, by score.{end}"

    def _list(self, blocks: list[int]) -> str:
        told = [f"{b}, the riddle" if b in self.riddle else str(b) for b in blocks]
        return f"block {told[0]}" if len(told) == 1 else f"blocks {', '.join(told)}"

    def _flow(self) -> str:
        top, block = self.top, self.top // self.size
        where = f"{quoted(self.result.tokens[top])} in block {block}"
        where += ", the riddle" if block in self.riddle else ""
        share = percent(float(self.token_mass[top]))
        if block not in self.read:
            return f"{self.asks} wants {where}: {share} of its attention, in a pipe that is empty."
        if top == 0:
            rest = self.result.block_mass[self.group].copy()
            rest[0] = 0
            next_ = int(rest.argmax())
            more = ""
            if rest[next_] >= 0.1:
                more = f"; {percent(float(rest[next_]))} go to {self._list([next_])}"
            return f"{self.asks} parks {share} of its attention on the first token{more}."
        return f"{self.asks} reads what it wants: {share} of its attention goes to {where}."

    @property
    def is_free(self) -> bool:
        """Whether a place is left that a block has to earn."""
        return len(self.forced) < self.params.n_selected

    def captures(self) -> str:
        """What the blocks that are read hold, beside other choices under the same rule."""
        captured, best, window = (
            percent(float(self.result.captured[name][self.group]))
            for name in (self.selector, "oracle", "window_sink")
        )
        told = f"It captures {captured} of the attention"
        if not self.is_free:
            return f"{told}: every place is forced, so any selector reads the same."
        k = self.params.n_selected
        own = "its own" if self.forced == [self.result.local_block] else "the forced"
        told += f"; the best possible choice of {'as many blocks' if k > 1 else 'one block'}"
        told += f", {own} among them, captures {best}" if self.forced else f" captures {best}"
        if not self.scores:
            return f"{told}."
        if k > 1:
            return f"{told}, the window {window}."
        (only,) = self.result.chosen["window_sink"][self.group].tolist()
        return f"{told}, the window, which then is block {only}, {window}."

    def readouts(self, *, lit: bool = True, flow: bool = True) -> tuple[Readout, ...]:
        """What is read, once its blocks are `lit`; what that holds, once attention flows."""
        captured = float(self.result.captured[self.selector][self.group])
        best = float(self.result.captured["oracle"][self.group])
        k = self.params.n_selected
        holds = f"the best {k} hold" if k > 1 else "the best one holds"
        if not self.is_free:
            holds = "its own block holds" if len(self.forced) == 1 else "the forced blocks hold"
        read, seen = int(self.result.n_read[self.group]), self.result.n_visible
        return (
            Readout("tokens read", f"{read} of {seen}" if lit else WAITING),
            Readout("attention captured", percent(captured) if flow else WAITING),
            Readout(holds, percent(best) if flow else WAITING),
        )

    # ------------------------------------------------------------------------------- arithmetic

    def arithmetic(self) -> dict[str, Arithmetic]:
        """For every visible block, and for the tokens with a band of their own and the query."""
        blocks = range(self.result.local_block + 1)
        lines = {f"b:{block}": self._block_line(block) for block in blocks}
        for token in {*self.banded, self.result.query}:
            lines[f"t:{token}"] = self._token_line(token)
        return lines

    def _block_line(self, block: int) -> Arithmetic:
        """From the scores in a block to its value, its place and what it holds."""
        inside, value = self.inside(block), self.written(self.value(block))
        end = f"{self.fate(block)}, holds {percent(self.mass(block), 1)}"
        if not self.scores:
            text = f"{self.name(block)}: no score is asked for → {end}"
            return Arithmetic(text=text, tex=as_text(text))
        in_order = sorted(inside, key=lambda token: -self.token_scores[token])
        best = in_order[:3]
        numbers = [self.written(float(self.token_scores[token])) for token in best]
        names = [quoted(self.result.tokens[token]) for token in best]
        more = len(inside) > len(best)
        told = ", ".join(map(" ".join, zip(numbers, names, strict=True))) + ", …" * more
        parts = [as_number(n) for n in numbers[:2]]  # in TeX two, so that it stays on its line
        parts[0] += rf"\,{as_text(names[0])}"
        more_parts = len(inside) > len(parts)
        if self.selector in MEANS:
            text = f"mean of {len(inside)} scores ({told}) = {value}"
            terms = (f"({part})" if part.startswith("-") else part for part in parts)
            others = sum(float(self.token_scores[token]) for token in in_order[len(parts) :])
            rest = as_number(self.written(others))
            added = " + ".join(terms)
            if more_parts:
                added += rf" + ({rest}\text{{ of {len(inside) - len(parts)} others}})"
            tex = rf"\tfrac{{1}}{{{len(inside)}}}\left({added}\right)"
        elif self.selector in SHARES:
            text = f"sum({told}) = {value}"
            tex = " + ".join(parts) + r" + \cdots" * more_parts
        else:
            text = f"max({told}) = {value}"
            listed = ", ".join(parts) + r", \ldots" * more_parts
            tex = rf"\max({listed})"
        return Arithmetic(
            text=f"{self.name(block)}: {text} → {end}",
            tex=rf"M_{{{block}}} = {tex} = {as_number(value)} \;\to\; {as_text(end)}",
        )

    def _token_line(self, token: int) -> Arithmetic:
        """A token's score and share, head by head."""
        scores = self.result.head_scores[self.group, :, token].tolist()
        shares = self.result.head_mass[self.group, :, token].tolist()
        heads = ", ".join(fixed(score, 1) for score in scores)
        told = ", ".join(percent(share) for share in shares)
        mean = f"{number(100 * float(self.token_mass[token]))}%"
        name = quoted(self.result.tokens[token])
        text = (
            f"{name}: the group's {len(scores)} heads score it {heads} and give it {told} of "
            f"their attention: {mean} on average"
        )
        added = " + ".join(rf"{number(100 * share)}\%" for share in shares)
        tex = (
            rf"{as_text(f'{name}: scores {heads}, shares')}\;\tfrac{{1}}{{{len(shares)}}}({added})"
        )
        return Arithmetic(text=text, tex=rf"{tex} = {as_number(mean)}")
