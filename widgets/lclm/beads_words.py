"""What "Words fold into beads" says: sentences, readouts, words of marks, arithmetic."""

from functools import cached_property

import numpy as np

from intuitive.lclm.experiments.beads import FAR, Beads, counted
from intuitive.lclm.smollm import WINDOW

from ..kit import Arithmetic, Readout, fixed, number, percent
from .beads_text import quoted, shown
from .styles import KIND_NAMES

TEXT, FOLD, TRAVEL, READ, ASK, RETURN = "text", "fold", "travel", "read", "ask", "EXPAND"
QUOTE = 60  # letters of a text that are quoted
PLAIN = ("nothing", "one", "two", "three")


class Account:
    """Words about one result."""

    def __init__(self, found: Beads) -> None:
        self.found = found

    # ------------------------------------------------------------------------------- what is read

    @property
    def reads_right(self) -> np.ndarray:
        return self.found.reads_right

    def colour(self, token: int) -> str:
        """Of a word: green where the bead tells it, black where it is guessed anyway, or lost."""
        if not self.reads_right[token]:
            return "vermilion"
        return "ink" if self.found.guessed[token] else "green"

    def shares(self, tokens: range) -> tuple[float, float]:
        """Of some tokens the shares read right: by the bead alone, and those guessed without it."""
        right = self.reads_right[tokens.start : tokens.stop]
        guessed = self.found.guessed[tokens.start : tokens.stop]
        return float((right & ~guessed).mean()), float((right & guessed).mean())

    @cached_property
    def readings(self) -> tuple[str, ...]:
        """The likeliest reading at every token; where it is right, the token itself."""
        found = self.found
        if found.reading is None:
            return found.words
        tops = zip(self.reads_right.tolist(), found.words, found.reading.top_words, strict=True)
        return tuple(word if right else best[0] for right, word, best in tops)

    @cached_property
    def bead_of(self) -> list[int]:
        """By token, the bead that it is folded into."""
        return [bead for bead, group in enumerate(self.found.groups) for _ in group]

    def text(self, tokens: range, *, read: bool = False) -> str:
        """Words of some tokens as a sentence quotes them."""
        words = self.readings if read else self.found.words
        text = " ".join("".join(words[i] for i in tokens).replace("\n", "↵").split())
        return f"“{text if len(text) <= QUOTE else text[: QUOTE - 1] + '…'}”"

    # ------------------------------------------------------------------------------- marks

    def head(self, chunk: int) -> str:
        n = len(self.found.chunks[chunk])
        return f"chunk {chunk + 1}" + (f", {n} tokens" if len(self.found.chunks) < 6 else "")

    def click_on(self, chunk: int) -> str:
        """What a click on a chunk asks for: its words, or that they fold again."""
        return "nothing" if chunk == self.found.expanded else str(chunk + 1)

    def chunk(self, chunk: int) -> str:
        tokens = self.found.chunks[chunk]
        told = f"Chunk {chunk + 1}, tokens {tokens.start} to {tokens.stop - 1}. "
        if chunk == self.found.expanded:
            return told + "Its raw words came back. A click folds them again."
        return told + "A click brings its raw words back to the decoder."

    def border(self) -> str:
        if self.found.expanded is not None:
            return "The encoder begins anew at every chunk: nothing is read across this line."
        return (
            f"A window of the encoder: {WINDOW} tokens at most. Nothing is read across its border."
        )

    def bead(self, bead: int, *, read: bool) -> str:
        group = self.found.groups[bead]
        told = (
            f"Bead {bead + 1} of {len(self.found.groups)}, from tokens {group.start} to "
            f"{group.stop - 1}: {self.text(group)}."
        )
        if not read:
            return told
        right = int(self.reads_right[group.start : group.stop].sum())
        reads = f" It reads {self.text(group, read=True)}:" if right < len(group) else ""
        return f"{told}{reads} {right} of {len(group)} tokens right. A click opens it."

    def token(self, token: int, *, read: bool = True) -> str:
        found = self.found
        if not read:
            return f"Token {token} of the text: {quoted(found.words[token])}."
        tops, ps = found.reading.top_words[token], found.reading.top_probability[token].tolist()
        listed = ", ".join(f"{quoted(word)} {percent(p)}" for word, p in zip(tops, ps, strict=True))
        if self.reads_right[token]:
            return f"Reads {listed}.{' Needs no bead.' * bool(found.guessed[token])}"
        true = percent(float(np.exp(found.reading.log_probability[token])), 1)
        return f"Reads {listed}; {quoted(found.words[token])}, which it was, has {true}."

    def returned(self, token: int) -> str:
        return f"{quoted(self.found.words[token])} stands before the decoder as it was."

    def opened(self, stage: str) -> str:
        """What stands above the open bead."""
        bead = self.found.opened
        group = self.found.groups[bead]
        n, name = counted(len(group), "token"), f"bead {bead + 1}"
        if stage == TEXT:
            return f"These {n} become {name}:"
        if stage == FOLD:
            return f"The encoder makes one state of each of these {n}; {name} is their mean:"
        if stage == TRAVEL:
            return f"The decoder reads {name} as if it were the embedding of one token:"
        right = int(self.reads_right[group.start : group.stop].sum())
        return (
            f"B{name[1:]} is open: its {n}, below each the three likeliest readings, "
            f"bars as long as their probability. {right} right."
        )

    def tags(self) -> str:
        return "grey: two tags around the beads"

    def window(self, tokens: range, room: int | float) -> str:
        """Name of what the encoder reads at once, as long as there is room for it."""
        what = "chunk" if self.found.expanded is not None else "window"
        texts = (
            f"← one {what} of the encoder, {len(tokens)} tokens: nothing is read across its "
            "borders →",
            f"one {what}, {len(tokens)} tokens",
            what,
        )
        return next((text for text in texts if 6.4 * len(text) < room), "")

    def mechanism(self) -> str:
        return "mean of the states, through a small network: one vector"

    def question(self) -> str:
        """What stands before the answer."""
        return self.found.passage.question or "and on:"

    def unjudged(self) -> str:
        """That an answer to a question of the reader's own is nobody's to call right."""
        if self.found.passage.secret or not self.found.passage.question:
            return ""
        return " No right answer was given with this question, so none is judged."

    def answer(self, written: int) -> list[tuple[str, str]]:
        """Pieces of what was written, each with its colour."""
        given = "".join(self.found.answer[:written]).replace("\n", "↵")
        given = given.removeprefix(" ")
        secret = self.found.passage.secret
        if not secret:
            return [(given, "grey")]  # nobody knows whether it is right
        right = min(self.found.right_letters, len(given))
        pieces = [(given[:right], "green"), (given[right : len(secret)], "vermilion")]
        return [(text, fill) for text, fill in (*pieces, (given[len(secret) :], "faint")) if text]

    # ------------------------------------------------------------------------------- frames

    def positions(self, stage: str, written: int) -> tuple[int, int]:
        """Decoder positions that stand for the text in a frame, and those of the answer."""
        found = self.found
        n = found.n_positions
        if not (stage == RETURN or written):
            n -= self.n_back
        return n, written

    @cached_property
    def n_back(self) -> int:
        """Positions of the words that came back, and of the number before them."""
        return sum(cell.kind in ("raw", "opened") for cell in self.found.cells)

    def kept_text(self) -> str:
        """How many of the tokens that are no ordinary words are read right."""
        parts = []
        for kind in ("name", "number", "code"):
            right, n = self.found.read_of(kind)
            if n:
                parts.append(f"{KIND_NAMES[kind]} {right} of {n}")
        text = ", ".join(parts)
        return text[:1].upper() + text[1:]

    def sentence(self, stage: str, written: int) -> str:
        found, n = self.found, self.found.params.ratio
        beads = len(found.groups)
        if stage == TEXT:
            return (
                f"{counted(found.n_tokens, 'token')}, each a mark on the raw ruler. Every {n} of "
                "one shade become one bead."
            )
        if stage == FOLD:
            return (
                f"An encoder reads them and the mean of every {n} states becomes a bead: "
                f"{counted(beads, 'bead')}."
            )
        count, _ = self.positions(stage, written)
        if stage == TRAVEL:
            tags = "two tags and a number for each chunk"
            what = "two tags" if found.expanded is None else tags
            return (
                f"The same pitch, fewer positions: {counted(beads, 'bead')} and {what} are "
                f"{count} for the decoder."
            )
        if stage == READ:
            right = int(self.reads_right.sum())
            kinds = self.kept_text()
            return (
                f"Asked to repeat the text, the decoder reads {right} of {found.n_tokens} tokens "
                f"right: green from its bead, black where it needs none"
                f"{f'. {kinds}' if kinds else ''}."
            )
        if stage == ASK:
            return self._asked()
        if stage == RETURN:
            chunk = found.expanded
            back = len(found.chunks[chunk])
            return (
                f"EXPAND({chunk + 1}): its {back} raw tokens stand behind the beads, {count} "
                f"positions in all."
            )
        return self._writing(written)

    def _asked(self) -> str:
        found = self.found
        if found.named is None:
            return f"The question stays raw: “{self.question()}”"
        best = int(found.named.argmax())
        return (
            f"“{found.passage.question}” Of the numbers of the chunks, [{best + 1}] is the "
            f"likeliest: {percent(float(found.named[best]))}."
        )

    def _writing(self, written: int) -> str:
        given = "".join(self.found.answer[:written]).replace("\n", "↵").strip()
        told = f"The decoder writes “{given}”"
        secret = self.found.passage.secret
        if written < len(self.found.answer):
            return f"{told}."
        if not secret:
            return f"{told}.{self.unjudged()}"
        right = self.found.right_letters
        if right >= min(len(secret), len(given)):
            return f"{told}: every character is right."
        n = len(secret)
        return f"{told}; it should be “{secret}”: {right} of {n} characters, from the first on."

    def readouts(self, stage: str, written: int) -> tuple[Readout, ...]:
        found = self.found
        count, _ = self.positions(stage, written)
        if stage in (TEXT, FOLD):
            count = found.n_tokens
        kept = "–"
        if stage not in (TEXT, FOLD, TRAVEL):
            kept = percent(float(self.reads_right.mean()))
        ratio = fixed(found.n_tokens / count, 1)
        raw = stage in (TEXT, FOLD)
        return (
            Readout("decoder positions", f"{count} ({ratio}×)", link="count"),
            Readout("tokens read from beads", kept, link="kept"),
            Readout(f"first token, were it {FAR // 1024}K", self._after(raw), link="far"),
        )

    def _after(self, raw: bool) -> str:
        """EXPAND reads twice, and its time is written as that of two readings."""
        if raw or self.found.expanded is None:
            return self.far(raw=raw)
        return f"2 × {number(self.found.far_seconds / 2, 2, unit='s')}"

    def far(self, *, raw: bool = False) -> str:
        """Seconds to the first token of an answer about a far longer text."""
        seconds = self.found.far_raw_seconds if raw else self.found.far_seconds
        return number(seconds, 2, unit="s")

    # ------------------------------------------------------------------------------- arithmetic

    def arithmetic(self) -> dict[str, Arithmetic]:
        found, lines = self.found, {}
        for bead, group in enumerate(found.groups):
            lines[f"bead:{bead}"] = self._pooled(bead, group)
        lines["count"] = self._bill()
        lines["far"] = self._far()
        if found.reading is None:
            return lines
        for place, token in enumerate(found.groups[found.opened]):
            lines[f"reading:{place}"] = self._likely(token)
        return {**lines, "kept": self._share()}

    def _pooled(self, bead: int, group: range) -> Arithmetic:
        first, last, n = group.start, group.stop - 1, len(group)
        text = f"z = (h[{first}] + … + h[{last}]) / {n}, bead {bead + 1} = mean embedding + MLP(z)"
        tex = (
            rf"z_{{{bead + 1}}} = \frac{{1}}{{{n}}}\sum_{{j={first}}}^{{{last}}} h_j,\qquad "
            rf"s_{{{bead + 1}}} = \bar e_{{{bead + 1}}} + W_2\,\mathrm{{GELU}}(W_1\,"
            rf"\mathrm{{RMSNorm}}(z_{{{bead + 1}}}) + b_1) + b_2"
        )
        return Arithmetic(text=text, tex=tex)

    def _likely(self, token: int) -> Arithmetic:
        log_prob = float(self.found.reading.log_probability[token])
        p = percent(float(np.exp(log_prob)), 1)
        return Arithmetic(
            text=f"ln p({quoted(self.found.words[token])}) = {fixed(log_prob)} nats: {p}"
        )

    def _bill(self) -> Arithmetic:
        found = self.found
        kinds = [cell.kind for cell in found.cells]
        parts = [f"{len(found.groups)} beads", f"{kinds.count('start') + kinds.count('end')} tags"]
        if "id" in kinds:
            numbers = kinds.count("id") + kinds.count("opened")
            parts += [f"{numbers} tokens of numbers", f"{kinds.count('raw')} raw ones"]
        return Arithmetic(
            text=f"{' + '.join(parts)} = {found.n_positions} positions; {found.n_tokens} / "
            f"{found.n_positions} = {fixed(found.effective_ratio)}"
        )

    def _share(self) -> Arithmetic:
        kept, n = int(self.reads_right.sum()), self.found.n_tokens
        text = f"{kept} of {n} tokens are the likeliest reading of their beads."
        if self.found.expanded is not None:
            whole = int(self.found.kept.sum())
            text += f" With the words that came back, {whole} stand there right."
        return Arithmetic(text=text)

    def _far(self) -> Arithmetic:
        twice = ", twice, since EXPAND asks first" if self.found.expanded is not None else ""
        return Arithmetic(
            text=f"For {FAR:,} tokens at {self.found.params.ratio} per bead{twice}, by formulas "
            f"fitted to the paper's measurements on an H200: {self.far()}; raw text "
            f"{self.far(raw=True)}."
        )


def label(token: str) -> str:
    """A token in a table or a plot."""
    return shown(token) or "·"
