"""The words and numbers of "Two shelves": what is said of each moment, chunk and total."""

from functools import cached_property

import numpy as np

from intuitive.lsa.experiments.measures import Measures
from intuitive.lsa.recording import Recording

from ..kit import Arithmetic, Readout, fixed, number, percent
from .shelves_scores import Scores
from .shelves_text import writing_of

NAMED = 2  # chunks that a sentence names
NEAR = 0.7  # of the threshold: scores from here on are told in full
FOUND = "attention found on needed old chunks"
SCORE, CUT, RISE = STAGES = ("score", "threshold", "rise")


def size_text(n_bytes: float | int) -> str:
    """Bytes with a unit, three digits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{number(n_bytes / scale)} {unit}"
    return f"{number(n_bytes)} B"


def counted(n: int, thing: str) -> str:
    """ "1 chunk", "3 chunks"."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


class Account:
    """What is said of one policy's decode; `whole` as in `Writing`."""

    def __init__(self, measures: Measures, whole: Recording | None = None) -> None:
        self.measures, self.policy = measures, measures.policy
        self.arm = self.policy.arm
        self.recording, self.residency = measures.recording, measures.residency
        self.writing, self.scores = writing_of(self.recording, whole), Scores(measures)
        self.parted = self.writing.parted  # where misses have changed the words, if they could
        self.on_demand, self.keeps_all = self.arm == "reactive", self.arm == "everything"
        self.triggers = [] if self.on_demand or self.keeps_all else self.scores.cycles
        self.n_steps = self.recording.n_steps
        self.closed = self.recording.closed.tolist()
        self.evictable, self.resident = self.scores.evictable, self.scores.resident
        self.mass = self.recording.mass.numpy()
        self.hit, self.missed = self.residency.hit.numpy(), self.residency.missed.numpy()

    @property
    def is_masked(self) -> bool:
        """Whether the words were written with the rest masked, so that a miss could change them."""
        return self.parted is not None

    @property
    def sections(self) -> tuple[tuple[int, str], ...]:
        """Where sections of the text begin; the first says whether misses could change it."""
        found = self.recording.sections
        if self.is_masked:
            return ((0, "written with the rest masked"),)
        if not found or not self.missed.any():
            return found
        (start, title), *rest = found
        title += ", with everything at hand: what is missed here changes no word of it"
        return ((start, title), *rest)

    # ------------------------------------------------------------------------------- memory

    def served(self, step: int) -> int:
        """Tokens that a trigger serves."""
        return min(self.policy.lookahead, self.n_steps - step)

    def share(self, there: np.ndarray, step: int) -> float:
        """Of the chunks that exist, those on the GPU."""
        closed = self.closed[step]
        return int(there[:closed].sum()) / max(closed, 1)

    def memory_words(self, there: np.ndarray, step: int) -> str:
        closed, one = self.closed[step], self.measures.chunk_bytes
        on = int(there[:closed].sum())
        return (
            f"{on} of {closed} chunks are on the GPU: {size_text(on * one)} of "
            f"{size_text(closed * one)}."
        )

    @cached_property
    def moved_by(self) -> np.ndarray:
        """Chunks copied up to and with each step."""
        return self.measures.moved.cumsum()

    def copied(self, step: int, stage: str, before: int) -> tuple[int, str]:
        """Chunks copied for this moment, and for how long or since when, in words."""
        if self.keeps_all:
            return 0, "is copied"
        if self.on_demand:
            tokens = counted(step - before, "token")
            return int(self.moved_by[step] - self.moved_by[before]) if before >= 0 else int(
                self.moved_by[step]
            ), f"in {tokens}"
        if stage in (SCORE, CUT):
            return 0, "copied yet"
        at = self.triggers[self.scores.cycle(step)]
        return int(self.measures.moved[at]), f"for {counted(self.served(at), 'token')}"

    @cached_property
    def most_copied(self) -> int:
        """Most chunks that go over the link at once, the first time aside."""
        most = int(self.measures.moved[1:].max()) if self.n_steps > 1 else 0
        return max(most * (3 if self.on_demand else 1), 1)

    def link_words(self, copied: int, since: str) -> str:
        one = size_text(self.measures.chunk_bytes)
        moved = f"{counted(copied, 'chunk')} of {one} {since}" if copied else f"nothing {since}"
        free = "" if self.on_demand else " To sink is free: a copy of each never leaves the CPU."
        return f"The link from CPU to GPU: {moved}.{free}"

    # ------------------------------------------------------------------------------- chunks

    def chunk(self, chunk: int, state: str) -> str:
        """A chunk's real words, and where it is."""
        where = {
            "lifted": "on the GPU",
            "always": "always on the GPU, being new",
            "away": "on the CPU only",
        }[state]
        if chunk == 0 and state == "always":
            where = "always on the GPU, where attention rests when it needs nothing"
        return f"Chunk {chunk}, {where}: “{self.writing.chunks[chunk]}”"

    def needed(self, step: int) -> tuple[list[int], list[int]]:
        """Needed chunks that are found and that are missed, most attention first."""
        mass = self.mass[step]
        found, missed = (
            sorted(np.flatnonzero(part[step]).tolist(), key=lambda chunk: -mass[chunk])
            for part in (self.hit, self.missed)
        )
        return found, missed

    @cached_property
    def used(self) -> np.ndarray:
        """By step, chunks that some token up to it has needed."""
        return np.logical_or.accumulate(self.hit | self.missed, axis=0)

    # ------------------------------------------------------------------------------- the line

    def score_name(self, cycle: int) -> str:
        asked = self.scores.asked(cycle)
        if asked < 0:
            return "no score has arrived yet"
        late = asked < cycle
        return {
            "lsa": "score: will it be needed?",
            "oracle": "attention it will get",
            "quest": "bound from its keys",
        }[self.arm] + f" (asked {self.policy.lookahead} tokens ago, for those)" * late

    def no_scores(self) -> str:
        """What stands in the place of scores where there are none."""
        return {
            "recency": "no scores: at each trigger the newest of the old chunks rise",
            "random": "no scores: at each trigger some old chunks rise, drawn at random",
            "reactive": "no trigger: each token fetches what it asks for, and waits for it",
            "everything": "no trigger: nothing has to rise",
        }[self.arm]

    @property
    def page_words(self) -> str:
        """A page, by its tokens."""
        return f"page of {counted(self.policy.page_size * self.recording.chunk_size, 'token')}"

    def cut_name(self) -> str:
        if self.scores.by_pages:
            return f"above {fixed(self.policy.threshold)} it counts for its page"
        if self.scores.has_threshold:
            return f"above {fixed(self.policy.threshold)}, the threshold, it rises"
        return "the best rise"

    def cut_words(self) -> str:
        if not self.scores.has_threshold:
            return "The line lies under the last chunk that rises: no more fit in."
        if self.scores.by_pages:
            return (
                f"The threshold, {fixed(self.policy.threshold)}: a chunk with a greater score "
                f"counts for its {self.page_words}. The fullest pages rise whole."
            )
        return (
            f"The threshold, {fixed(self.policy.threshold)}: a chunk with a greater score rises. "
            "Drag it, or move its slider."
        )

    def idle_name(self) -> str:
        """What the threshold does where it is not the line that cuts."""
        does = "sets how many rise"
        if self.keeps_all:
            does = "nothing is chosen"
        elif self.policy.rule == "budget":
            does = "not asked, there is a budget"
        elif self.on_demand:
            does = "bounds what may stay"
        return f"threshold {fixed(self.policy.threshold)}: {does}"

    def idle_words(self) -> str:
        threshold = fixed(self.policy.threshold)
        if self.keeps_all:
            return f"The threshold, {threshold}: here nothing is chosen, so it cuts nothing."
        if self.policy.rule == "budget":
            return f"The threshold, {threshold}, is not asked: a budget says how many rise."
        room = f"as many chunks as the trained indexer scores above the threshold, {threshold}"
        return f"At most {room}, may {'stay' if self.on_demand else 'rise'} here."

    # ------------------------------------------------------------------------------- sentences

    def sentence(self, step: int, stage: str) -> str:
        if not stage:
            return self._writing(step) + self._astray(step)
        cycle, old = self.scores.cycle(step), int(self.evictable[step].sum())
        asked, lifted = self.scores.asked(cycle), self.scores.lifted(cycle)
        if asked < 0:
            return (
                f"Step {step}, a trigger. Choices arrive one cycle late, so none is here yet: only "
                f"the {int(self.resident[step].sum())} chunks that are always on the GPU "
                f"{'can be read' if self.is_masked else 'are at hand'}, and nothing is copied."
            )
        if stage == SCORE:
            late = " These scores are of the trigger before: they come late." * (asked < cycle)
            served = counted(self.served(step), "token")
            what = {
                "lsa": f"may one of the next {served} need it?",
                "oracle": f"the attention that the next {served} will really give it.",
                "quest": "how well its keys could fit at best.",
            }[self.arm]
            return f"Step {step}, a trigger. Each of {old} old chunks gets a score: {what}{late}"
        n = int(lifted.sum())
        if stage == CUT and self.scores.by_pages:
            return (
                "The pages that hold most chunks with a score above "
                f"{fixed(self.policy.threshold)} are wanted on the upper shelf, whole: {n} of "
                f"{old} old chunks."
            )
        if stage == CUT:
            over = "have the greatest"
            if self.scores.has_threshold:
                over = f"score above {fixed(self.policy.threshold)}"
            return f"{n} of {old} old chunks {over}: these are wanted on the upper shelf."
        fetched = int((self.residency.fetched[cycle].numpy() & lifted).sum())
        sunk = int(self.residency.evicted[cycle].sum())
        how = {"recency": "the newest of them", "random": "drawn at random"}.get(self.arm, "")
        chosen = f"Step {step}, a trigger: {n} of {old} old chunks, {how}. " if how else ""
        size = size_text(int(self.measures.moved[step]) * self.measures.chunk_bytes)
        if not step:
            beside = int((self.resident[step] & ~lifted).sum())
            return (
                f"{chosen}{fetched} rise, {size} over the link, to the {beside} that are always "
                "here. On the CPU a copy of each stays."
            )
        return (
            f"{chosen}{fetched} rise ({size} over the link), {n - fetched} stay and {sunk} sink, "
            "which is free: a copy of each never leaves the CPU."
        )

    def is_astray(self, step: int) -> bool:
        """Whether the words up to and with a step are no longer those with all at hand."""
        return self.parted is not None and step >= self.parted

    def _astray(self, step: int) -> str:
        if not self.is_astray(step):
            return ""
        if step == self.parted:
            return " Here the words part from those with all at hand."
        return f" Since step {self.parted} this is another text, judged by what it needs itself."

    def _writing(self, step: int) -> str:
        found, missed = self.needed(step)
        n, closed = len(found) + len(missed), self.closed[step]
        told = f"Writing “{self.writing.token(step)}” needs {counted(n, 'chunk') if n else 'none'}"
        told += f" of the {closed} so far"
        if self.keeps_all:
            so_far = int(self.used[step].sum())
            ones = "1 was" if so_far == 1 else f"{so_far} different ones were"
            return f"{told}; {ones} needed up to here."
        told += "."
        if self.on_demand:
            return f"{told} {self._waits(step)}; none that is needed is missed."
        if not missed:
            new = not self.evictable[step, found].any()
            stands = f"{'It stands' if n == 1 else 'All stand'} on the GPU"
            return f"{told} {stands}{', among those always there' * new}." if n else told
        names = ", ".join(f"chunk {c}, with {self.writing.titles[c]}" for c in missed[:NAMED])
        more = ", …" if len(missed) > NAMED else ""
        lost = percent(float(self.mass[step, missed].sum()))
        stays = "One stays" if len(missed) == 1 else f"{len(missed)} stay"
        if not self.is_masked:
            return (
                f"{told} {stays} below ({names}{more}): not at hand. {lost} of this token's "
                "attention goes there, in this text that was written with all at hand."
            )
        return (
            f"{told} {stays} below ({names}{more}): masked, not fetched. {lost} of this token's "
            "attention would have gone there."
        )

    def _waits(self, step: int) -> str:
        """What fetching on demand waits for: it cannot know which of those it asks for matter."""
        new, best = int(self.measures.moved[step]), self.policy.top_k
        if not new:
            return f"The best {best} for it were there"
        return f"It asks for the best {best} and waits until {counted(new, 'old chunk')} came"

    # ------------------------------------------------------------------------------- numbers

    @cached_property
    def _sums(self) -> tuple[np.ndarray, np.ndarray]:
        return self.measures.found.cumsum(), self.measures.wanted.cumsum()

    def readouts(self, step: int, stage: str) -> tuple[Readout, ...]:
        """Totals and means up to this moment, so that the last are those of the summary."""
        last = step - 1 if stage else step
        found, wanted = self._sums
        share = "none yet"
        if last >= 0 and wanted[last] > 0:
            share = percent(float(found[last] / wanted[last]))
        here = max(last, 0)
        memory, moved = self._held[here] / self._existing[here], int(self.moved_by[here])
        if last < 0 and stage != RISE:  # nothing was written, and nothing copied yet
            memory, moved = self.share(self.resident[0] & ~self.evictable[0], 0), 0
        first = Readout(FOUND, share, link="found")
        if self.is_masked:  # what a text gone astray needs says nothing of the first one
            alike = f"{min(self.parted, last + 1)} of {last + 1}" if last >= 0 else "none yet"
            first = Readout("same as all at hand", alike, link="parted")
        return (
            first,
            Readout("memory, mean", percent(float(memory)), link="memory"),
            Readout(
                "copied per token",
                size_text(moved * self.measures.chunk_bytes / self._provided(here)),
                link="moved",
            ),
        )

    def _provided(self, step: int) -> int:
        """Tokens for which all that was copied up to a step is there: to the end of its cycle."""
        if not self.triggers:
            return step + 1
        return min((self.scores.cycle(step) + 1) * self.policy.lookahead, self.n_steps)

    @cached_property
    def _held(self) -> np.ndarray:
        """Chunks on the GPU, summed over the steps up to and with each."""
        return self.resident.sum(-1).cumsum()

    @cached_property
    def _existing(self) -> np.ndarray:
        """Chunks that exist, summed in the same way; at least 1."""
        return np.maximum(np.cumsum(self.closed), 1)

    # ------------------------------------------------------------------------------- arithmetic

    def arithmetic(self, step: int, stage: str) -> dict[str, Arithmetic]:
        """By chunk, its numbers at this moment."""
        if stage:
            told = self.arm == "lsa" and stage != SCORE
            return self._decided(self.scores.cycle(step), stage) if told else {}
        lines = {}
        for where, chunks in zip(("found", "missed"), self.needed(step), strict=True):
            for chunk in chunks:
                mass = percent(float(self.mass[step, chunk]), 1)
                lines[f"chunk:{chunk}"] = Arithmetic(
                    text=f"Chunk {chunk} gets {mass} of this token's attention, the mean of all "
                    f"heads and layers: needed, and {where}."
                )
        return lines

    def _decided(self, cycle: int, stage: str) -> dict[str, Arithmetic]:
        """Scores of the chunks that rise, and before they do of those near the threshold too."""
        if self.scores.asked(cycle) < 0:
            return {}
        logits, scores = self.scores.logits(cycle), self.scores.of(cycle)
        lines, threshold = {}, self.policy.threshold
        least = threshold * (NEAR if stage == CUT else 1)
        for chunk in np.flatnonzero(scores > least).tolist():
            layers, score = logits[:, chunk].tolist(), float(scores[chunk])
            rises = score > threshold
            listed = ", ".join(map(fixed, layers))
            verdict = "> {}: it rises" if rises else "≤ {}: it stays"
            if self.scores.by_pages:
                verdict = "> {}: its page counts it" if rises else "≤ {}: it counts for nothing"
            tex_layers = r",\,".join(f"{logit:.2f}" for logit in layers)
            tex_sign = ">" if rises else r"\le"
            lines[f"chunk:{chunk}"] = Arithmetic(
                text=f"σ(max({listed})) = {fixed(score)} {verdict.format(fixed(threshold))}",
                tex=rf"\sigma(\max({tex_layers})) = {score:.2f} {tex_sign} {threshold:.2f}",
            )
        return lines

    def always(self) -> dict[str, Arithmetic]:
        """By link, what holds at every moment."""
        one, size = self.measures.chunk_bytes, self.recording.chunk_size
        sizes = f"{size} tokens × 30 layers × 3 heads × 64 channels × 2 (key, value) × 2 bytes"
        line = Arithmetic(text=f"One chunk: {sizes} = {size_text(one)}.")
        return {f"chunk:{c}": line for c in range(self.recording.n_chunks)} | {"moved": line}
