"""The hero of "Block selection": the strip of blocks, stage by stage or query by query.

Every token before the query is scored (a bar behind its word); a block's best score leaves its word
for the lane at the right; the local block lights up first, then the best ones down to the cut; and
attention flows from what is lit. What is missed stays as an empty pipe.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from intuitive.msa.experiments.block_selection import SelectionResult

from ..kit import Drag, Frame, Line, Mark, Rectangle, Scene, Words
from . import strip
from .block_selection_words import Account
from .strip import Strip, dot, heading

HEIGHT = 291
ONE_BY_ONE = 3  # blocks that light up one after another; the rest at once
FEW = 8  # blocks: up to so many, what other selectors read is kept in sight too
BESIDE = ("main_max", "main_mean", "window_sink")  # those selectors
RIDDLE = "the riddle"


class Picture:
    """All frames of one query, or of several that follow each other.

    Args:
        results: of the queries in order; the last is the one that was chosen.
    """

    def __init__(self, results: Sequence[SelectionResult]) -> None:
        self.results, self.result = tuple(results), results[-1]
        self.group = self.result.params.group
        self.moves = len(self.results) > 1
        self.accounts = {each.query: Account(each) for each in self.results}
        self._stays: dict[tuple[int, bool], list[Mark]] = {}
        self._bars: dict[int, list[Mark]] = {}
        self._drawn_bands: dict[tuple[int, bool], list[Mark]] = {}
        self._values: dict[tuple[int, int, bool, bool], list[Mark]] = {}

    # ------------------------------------------------------------------------------- layout

    @cached_property
    def riddle_blocks(self) -> tuple[int, ...]:
        size = self.result.params.block_size
        return tuple(sorted({token // size for token in self.result.riddle}))

    @cached_property
    def strip(self) -> Strip:
        result, size = self.result, self.result.params.block_size
        must: list[int] = []
        for each in reversed(self.results):
            say = self.accounts[each.query]
            by_mass = sorted(say.read, key=say.mass, reverse=True)
            must += [each.local_block, *by_mass[:2], *say.missed[:1], *self.riddle_blocks]
        for each in reversed(self.results):
            must += self.accounts[each.query].by_rank
        beside: set[int] = set()
        if result.params.n_selected <= FEW and not self.moves:
            for name in BESIDE:
                beside |= set(result.chosen[name][self.group].tolist()) - {-1}
        largest = np.argsort(-result.block_mass[self.group])[:3].tolist()
        tags = dict.fromkeys(self.riddle_blocks, (RIDDLE, "gold"))
        if result.local_block not in tags:
            tags[result.local_block] = ("the query", "purple")
        say = self.accounts[result.query]
        anchors = {block: say.best(block) for block in range(result.local_block)}
        for block in self.riddle_blocks:
            anchors[block] = next(t for t in result.riddle if t // size == block)
        anchors[result.local_block] = result.query
        return Strip(
            result.tokens,
            size,
            height=HEIGHT,
            wanted=(must, sorted(beside), largest),
            last=max(each.local_block for each in self.results),
            anchors=anchors,
            tags=tags,
        )

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Ends of the lane of scores: from the least block to the strongest token."""
        ends = [say.ends for say in self.accounts.values()]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def lane(self, score: int | float) -> float:
        low, high = self.scale
        share = (score - low) / max(high - low, 1e-9)
        return strip.LANE + (strip.LANE_END - strip.LANE) * min(max(share, 0), 1)

    # ------------------------------------------------------------------------------- frames

    def frames(self) -> tuple[Frame, ...]:
        if self.moves:
            return tuple(self._frame(each, "flow", label=True) for each in self.results)
        return tuple(self._frame(self.result, stage) for stage in self.stages())

    def stages(self) -> list[str]:
        say = self.accounts[self.result.query]
        first = ["scores", "caps"] if say.scores else ["no scores"]
        return [*first, *(f"light {i}" for i in range(len(self.lit_groups(say)))), "flow"]

    def _stage_name(self, say: Account, stage: str, groups: list[list[int]], depth: int) -> str:
        """What the player's button calls a stage."""
        if not stage.startswith("light"):
            return stage
        group = groups[depth - 1]
        if group == say.forced:
            return "local"
        return say.outcome(group[0], flow=False) if len(group) == 1 else "the rest"

    def lit_groups(self, say: Account) -> list[list[int]]:
        """Blocks that light up together, in order: the local ones, then by rank."""
        forced, ranked = say.forced, say.by_rank
        one = [[block] for block in ranked[:ONE_BY_ONE]]
        rest = ranked[ONE_BY_ONE:]
        return [group for group in (forced, *one, rest) if group]

    def _frame(self, result: SelectionResult, stage: str, *, label: bool = False) -> Frame:
        say = self.accounts[result.query]
        groups = self.lit_groups(say)
        depth = len(groups) if stage == "flow" else 0
        if stage.startswith("light"):
            depth = int(stage.split()[1]) + 1
        lit = [block for group in groups[:depth] for block in group]
        marks = self._still(result, say, label)
        marks += self._light(say, stage, lit)
        marks += self._bands(result, say, stage)
        marks += self._lane(say, stage, lit)
        return Frame(
            scene=Scene(width=strip.WIDTH, height=HEIGHT, marks=tuple(marks)),
            label=f"{result.query}: {strip.quoted(result.tokens[result.query])}" if label else "",
            stage="" if label else self._stage_name(say, stage, groups, depth),
            sentence=say.sentence(stage, groups, depth - 1),
            readouts=say.readouts(lit=label or depth == len(groups), flow=label or stage == "flow"),
        )

    def _still(self, result: SelectionResult, say: Account, moves: bool) -> list[Mark]:
        """Words, grounds and headings: what no stage changes."""
        key = (result.query, moves)
        if key not in self._stays:
            marks = self.strip.texts(result.query, {} if moves else say.tokens(self.strip.words))
            marks += self.strip.grounds({} if moves else say.blocks(self.strip.lines))
            marks += self.strip.folded(result.block_mass[self.group], result.local_block, say.read)
            marks += self.strip.tagged()
            marks += self.strip.around(result.riddle, key="riddle", colour="gold")
            marks += self._handle(result)
            marks.append(heading("attention", "attention", strip.LEFT - 6, anchor="end"))
            text = f"the text, {result.params.block_size} tokens a line"
            text += "; bars: their scores" if say.scores else ""
            marks.append(heading("text", text, strip.LEFT + 2))
            marks.append(heading("number", "block", strip.NUMBER, anchor="end"))
            marks.append(heading("lane", say.lane_name, strip.LANE))
            self._stays = {key: marks}
        return list(self._stays[key])

    def _handle(self, result: SelectionResult) -> list[Mark]:
        word, line = self.strip.words.get(result.query), self.strip.lines[result.local_block]
        if word is None:
            return []
        first, last = line.words[0], line.words[-1]
        pitch = (last.x + last.w - first.x) / len(line.words) or strip.CELL  # one without width
        at = ((result.query, word.x), (result.query + 1, word.x + pitch))
        text = strip.quoted(result.tokens[result.query])
        return [
            Rectangle(
                key="query",
                x=word.x - 1.5,
                y=line.y - 0.5,
                w=max(word.w, strip.CELL) + 3,
                h=strip.PITCH,
                corner=2,
                fill="purple",
                opacity=0.5,
                link=f"t:{result.query}",
                words=f"The query: {text}, token {result.query}. Drag it along its line.",
                drag=Drag(x="query", x_scale=at),
                layer=strip.HANDLE,
            )
        ]

    def _light(self, say: Account, stage: str, lit: Sequence[int]) -> list[Mark]:
        colours = {block: say.colour(block) for block in lit}
        marks = self.strip.lights(colours) + self.strip.numbers(colours)
        if lit:
            marks += self.strip.veils(lit, say.result.local_block)
        for block, row in self.strip.lines.items():
            text, colour = "", colours.get(block, "faint")
            if block in colours:
                text = say.outcome(block, flow=stage == "flow")
            elif stage == "flow" and block in say.missed:
                text = f"missed {strip.share_text(say.mass(block))}"
            if text:
                own = {"link": f"b:{block}", "bold": block in colours, "fill": colour}
                place = {"x": strip.OUTCOME, "y": row.y + 8.2, "size": strip.SMALL}
                key = f"outcome:{block}"
                marks.append(Words(key=key, text=text, layer=strip.FRONT, **place, **own))
        return marks

    def _bands(self, result: SelectionResult, say: Account, stage: str) -> list[Mark]:
        if not stage.startswith(("light", "flow")):
            return []
        key = (result.query, stage == "flow")
        if key not in self._drawn_bands:
            self._drawn_bands[key] = self.strip.bands(
                result.token_mass[self.group],
                result.query,
                say.read,
                open_=stage == "flow",
                told=say.tokens(say.banded),
                blocks_told={} if self.moves else say.blocks(range(result.local_block + 1)),
            )
        return self._drawn_bands[key]

    def _lane(self, say: Account, stage: str, lit: Sequence[int]) -> list[Mark]:
        """Bars of token scores; each block's value in the lane; its ticks and the cut."""
        if not say.scores:
            return []
        low, high = self.scale
        query = say.result.query
        if query not in self._bars:
            self._bars = {query: self.strip.bars(say.token_scores, low, high, query)}
        marks = list(self._bars[query])
        risen = stage != "scores"
        for block in self.strip.lines:
            if block > say.result.local_block:
                continue
            strong = not lit or block in lit
            key = (query, block, risen, strong)
            if key not in self._values:
                self._values[key] = self._value(say, block, risen=risen, strong=strong)
            marks += self._values[key]
        if not risen:
            return marks
        foot = HEIGHT - strip.BOTTOM + 1
        cut = say.cut if lit and math.isfinite(say.cut) else None
        marks.append(
            Line(
                key="axis",
                x=strip.LANE,
                y=foot,
                x2=strip.LANE_END,
                y2=foot,
                stroke="faint",
                width=0.8,
            )
        )
        if cut is not None:
            x = self.lane(cut)
            look = {"stroke": "vermilion", "width": 1, "dash": "3 2", "layer": strip.FRONT}
            marks.append(Line(key="cut", x=x, y=strip.TOP - 1, x2=x, y2=foot, **look))
            marks.append(self._tick("cut's name", x, f"cut {say.written(cut)}", "vermilion"))
        ends = {"low": low} if say.written(low) == say.written(high) else {"low": low, "high": high}
        for name, value in ends.items():
            x = self.lane(value)
            if cut is None or abs(x - self.lane(cut)) > 30:
                marks.append(self._tick(name, x, say.written(value)))
        return marks

    def _value(self, say: Account, block: int, *, risen: bool, strong: bool) -> list[Mark]:
        """What a block is worth, as a dot: at its best word, or risen into the lane on a stem."""
        low, high = self.scale
        row, best = self.strip.lines[block], self.strip.words.get(say.best(block))
        y = row.y + (strip.PITCH - 1) / 2
        look = {"opacity": 1.0 if strong else 0.55, "link": f"b:{block}"}
        look["words"] = "" if self.moves else say.block(block)
        if risen:
            value = self.lane(say.value(block))
            place = {"x": strip.LANE, "y": y, "x2": value, "y2": y, "layer": strip.VEIL}
            stem = Line(key=f"stem:{block}", stroke="vermilion", width=1.6, **place, **look)
            return [stem, dot(f"cap:{block}", value, y, "vermilion", **look)]
        at = (strip.LEFT, y)
        if best is not None:
            tall = self.strip.tall(float(say.token_scores[best.token]), low, high)
            at = (best.x + best.w / 2, row.y + strip.PITCH - 1 - tall)
        return [dot(f"cap:{block}", *at, "vermilion", **look)]

    @staticmethod
    def _tick(key: str, x: int | float, text: str, colour: str = "faint") -> Words:
        place = {"x": x, "y": HEIGHT - 2.5, "anchor": "middle", "size": strip.SMALL}
        bold = colour != "faint"
        return Words(key=key, text=text, fill=colour, bold=bold, layer=strip.FRONT, **place)
