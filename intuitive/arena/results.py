"""What the committed contest found: shares right, bytes, times, and who fails where.

found = contest()
found.score("lclm", 8, n=4096)
"""

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from intuitive.common import results
from intuitive.common.results import Committed

from .contest import Timing
from .methods import METHODS

RESULT = "arena"
LONGER = ("arena_2048", "arena_4096")  # runs on texts twice and four times as long
ENOUGH = 0.8  # share that the dense model must answer, or a task is left out
GIST = "gist"
LATE = 0.75  # of the text: what stands behind this is its last quarter


@dataclass(frozen=True)
class Cell:
    """One method and budget on one task, length and seed; as in `contest.Outcome`."""

    task: str
    n: int
    seed: int
    method: str
    ratio: int
    hits: str
    nats: float
    resident: float
    read: float
    elsewhere: float
    kept: float | None
    found: float | None
    own: str

    @property
    def share(self) -> float:
        """Of the texts answered right."""
        return self.hits.count("1") / len(self.hits)


@dataclass(frozen=True)
class Texts:
    """Where in its text each answer stands, as a share of the length."""

    task: str
    n: int
    seed: int
    depth: tuple[float, ...]


@dataclass(frozen=True)
class Absent:
    """A method that does not fit into a budget, and why."""

    task: str
    n: int
    method: str
    ratio: int
    why: str


@dataclass(frozen=True)
class Score:
    """A mean over tasks, and its range over seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Contest:
    """All that `benchmarks/arena.py` measured."""

    cells: tuple[Cell, ...]
    texts: tuple[Texts, ...]
    times: tuple[Timing, ...]
    absent: tuple[Absent, ...]
    faults: tuple[dict[str, str], ...]

    @functools.cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the texts, ascending."""
        return tuple(sorted({cell.n for cell in self.cells}))

    @functools.cached_property
    def _by_key(self) -> dict[tuple[str, int, str, int], list[Cell]]:
        found: dict[tuple[str, int, str, int], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault((cell.task, cell.n, cell.method, cell.ratio), []).append(cell)
        return found

    def of(self, task: str, n: int, method: str, ratio: int) -> Sequence[Cell]:
        """One cell per seed; none where the method took no part. Dense has no budget."""
        if METHODS[method].own_size:
            ratios = [key[3] for key in self._by_key if key[:3] == (task, n, method)]
            ratio = ratios[0] if ratios else ratio
        return self._by_key.get((task, n, method, ratio), ())

    def share(self, task: str, n: int, method: str, ratio: int) -> float | None:
        """Of all texts of a cell, those answered right."""
        cells = self.of(task, n, method, ratio)
        return statistics.mean(cell.share for cell in cells) if cells else None

    def questions(self, task: str, n: int) -> int:
        """Texts in a cell, all seeds together."""
        return sum(len(cell.hits) for cell in self.of(task, n, "dense", 4))

    def tasks(self, n: int) -> tuple[str, ...]:
        """Tasks measured at a length, the gist not among them."""
        return tuple(dict.fromkeys(c.task for c in self.cells if c.n == n and c.task != GIST))

    def ranked(self, n: int) -> tuple[str, ...]:
        """Tasks that the dense model can do at this length."""
        return tuple(t for t in self.tasks(n) if (self.share(t, n, "dense", 4) or 0) >= ENOUGH)

    def left_out(self, n: int) -> tuple[str, ...]:
        """Tasks that it cannot do well enough to tell methods apart by."""
        return tuple(task for task in self.tasks(n) if task not in self.ranked(n))

    def score(self, method: str, ratio: int, *, n: int) -> Score | None:
        """Share right over the ranked tasks, each counting alike; None if it misses one."""
        cells = [self.of(task, n, method, ratio) for task in self.ranked(n)]
        if not cells or not all(cells):
            return None
        seeds = [statistics.mean(c.share for c in of) for of in zip(*cells, strict=False)]
        return Score(statistics.mean(seeds), min(seeds), max(seeds))

    def gist(self, method: str, ratio: int, *, n: int) -> float | None:
        """Of what the whole text is worth to its next tokens, the share that is left.

        1 is the dense model, 0 no text at all.
        """
        nats = {}
        for name in (method, "dense", "nothing"):
            cells = self.of(GIST, n, name, ratio)
            if not cells:
                return None
            nats[name] = statistics.mean(cell.nats for cell in cells)
        return (nats["nothing"] - nats[method]) / (nats["nothing"] - nats["dense"])

    def bytes_of(self, method: str, ratio: int, *, n: int) -> tuple[float, float, float] | None:
        """Shares of the dense cache: resident, read by each token, and kept elsewhere."""
        for task in (*self.ranked(n), *self.tasks(n)):
            for cell in self.of(task, n, method, ratio):
                return cell.resident, cell.read, cell.elsewhere
        return None

    def time(self, method: str, ratio: int, *, n: int) -> Timing | None:
        """How long it took."""
        own = METHODS[method].own_size
        fits = [t for t in self.times if t.method == method and t.n == n]
        return next((t for t in fits if own or t.ratio == ratio), None)

    def by_depth(self, task: str, n: int, method: str, ratio: int) -> tuple[float, float] | None:
        """Share right where the answer stands in the last quarter of the text, and before it."""
        late, early = [], []
        for cell in self.of(task, n, method, ratio):
            for texts in self.texts:
                if (texts.task, texts.n, texts.seed) == (task, n, cell.seed):
                    for hit, depth in zip(cell.hits, texts.depth, strict=True):
                        (late if depth >= LATE else early).append(hit == "1")
        if not late or not early:
            return None
        return statistics.fmean(late), statistics.fmean(early)

    def held(self, task: str, n: int, method: str, ratio: int) -> float | None:
        """Of the answer's place, the share held in its own words, on average."""
        held = [c.kept for c in self.of(task, n, method, ratio) if c.kept is not None]
        return statistics.mean(held) if held else None

    def failing(self, method: str, ratio: int, *, n: int) -> str:
        """Where a method does worst and what it then lacks, in one sentence."""
        label = METHODS[method].label
        shares = {task: self.share(task, n, method, ratio) for task in self.ranked(n)}
        known = {task: share for task, share in shares.items() if share is not None}
        if not known:
            why = next((a.why for a in self.absent if (a.method, a.ratio) == (method, ratio)), "")
            return f"{label} takes no part: {why or 'it was not measured'}"
        low = min(known.values())
        worst_of = [task for task, share in known.items() if share == low]
        task, each = worst_of[0], "each, " * (len(worst_of) > 1)
        dense = self.share(task, n, "dense", ratio)
        if known[task] >= dense - 0.05:
            sizes = self.bytes_of(method, ratio, n=n)
            how = f", and reads {blocks(sizes):.0%} of it in blocks" * (method == "msa")
            holding = f"{label} holds everything{how}: it" if how else label
            return f"{holding} keeps up with dense attention on every task here."
        tasks = " and ".join(NAMES[one] for one in worst_of)
        worst = f"{label} does worst on {tasks}, {low:.0%} {each}where dense has {dense:.0%}"
        of = f"; on {NAMES[task]}" * (len(worst_of) > 1)
        return f"{worst}{of}: {self._lack(task, n, method, ratio)}."

    def _lack(self, task: str, n: int, method: str, ratio: int) -> str:
        cells = self.of(task, n, method, ratio)
        found = [cell.found for cell in cells if cell.found is not None]
        if found:
            return f"it opens the right chunk in {statistics.mean(found):.0%} of the texts"
        if method == "window":
            depth = self.by_depth(task, n, method, ratio)
            if depth:
                return (
                    f"{depth[0]:.0%} where the answer stands in the last quarter of the text, "
                    f"{depth[1]:.0%} before it"
                )
        held = self.held(task, n, method, ratio)
        if held is not None:
            how = "in whole chunks" if method == "lsa" else "here and there, by layer and head"
            return f"of the answer's place it holds {held:.0%} on average, {how}"
        if method == "lclm":
            return f"of the answer's place there are only latents, of {ratio} tokens each"
        if method == "nothing":
            return "it has not read the text"
        share = blocks(self.bytes_of(method, ratio, n=n))
        return f"it holds everything and reads {share:.0%} of it in blocks, not always the answer"


def blocks(sizes: tuple[float, float, float]) -> float:
    """Of what MSA reads for a token, what is no index key: it holds these beside everything."""
    resident, read, _ = sizes
    return read - (resident - 1)


NAMES = {
    "needle": "a needle",
    "several": "several needles",
    "exact": "an exact string",
    "topic": "a topic",
    "gist": "the gist",
}


def committed(name: str = RESULT) -> Committed[Contest]:
    """A committed contest and how it was made: `RESULT`, or one of `LONGER`.

    Raises:
        FileNotFoundError: there is none; run `python benchmarks/arena.py`.
    """
    return results.load(name, Contest)


def contest(name: str = RESULT) -> Contest:
    """The committed contest alone."""
    return committed(name).values


def by_length() -> dict[int, Contest]:
    """The committed contests by the length of their texts in tokens, ascending."""
    contests = [contest(name) for name in (RESULT, *LONGER)]
    return {n: one for one in contests for n in one.lengths}
