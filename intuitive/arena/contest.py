"""One cell of the contest: a method's memories of some texts, and how it answered.

outcome(reading, reading.memory("lsa", 8))
"""

import statistics
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .memories import Contestants, Memory, Reading
from .tasks import Questions


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one method at one budget on some texts. Shares are of the dense cache's bytes.

    `kept` is how much of what was asked for is still there in its own words: a mean over layers
    and heads of the share of its tokens kept. None where all is kept, or nothing is in its own
    words.
    """

    method: str
    ratio: int
    hits: str  # one sign a text: 1 right, 0 wrong
    nats: float  # mean over texts, of the answer's tokens
    resident: float
    read: float  # by each new token
    elsewhere: float
    kept: float | None = None
    found: float | None = None  # share of texts whose right chunk EXPAND opened
    own: str = ""  # why the method is compared at its own size


def outcome(reading: Reading, memory: Memory) -> Outcome:
    """Ask a memory for the answers of its texts."""
    questions = reading.questions
    logits = memory.answer_logits(questions.answer)
    whole = memory.n * reading.all.entry_bytes
    kept = kept_of_asked(memory, questions)
    return Outcome(
        method=memory.method,
        ratio=memory.ratio,
        hits="".join("01"[int(right)] for right in questions.right(logits)),
        nats=float(questions.nats(logits).mean()),
        resident=memory.resident_bytes / whole,
        read=memory.read_bytes / whole,
        elsewhere=memory.elsewhere_bytes / whole,
        kept=None if kept is None else float(kept.mean()),
        found=found_share(memory, reading),
        own=memory.own,
    )


def kept_of_asked(memory: Memory, questions: Questions) -> Float[Tensor, " b"] | None:
    """Share of the asked-for tokens that a memory keeps, mean over layers and heads."""
    if memory.places is None or questions.where is None:
        return None
    start, end = questions.place[:, :1, None], questions.place[:, 1:, None]
    inside = [((p >= start) & (p < end)).sum(-1).float().mean(1) for p in memory.places]
    return torch.stack(inside).mean(0) / (end - start)[:, 0, 0]


def found_share(memory: Memory, reading: Reading) -> float | None:
    """Share of texts for which the chunk was brought back in which the asked-for place begins."""
    questions = reading.questions
    if memory.opened is None or questions.where is None:
        return None
    return float((memory.opened == questions.place[:, 0] // reading.chunk_size).float().mean())


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long one method takes for one text on one device."""

    method: str
    ratio: int
    n: int
    ttft_ms: float  # until the answer's first token is known: text, shortening, question
    token_ms: float  # each token after that


@torch.no_grad()
def timing(
    contestants: Contestants,
    questions: Questions,
    method: str,
    ratio: int,
    *,
    repeats: int = 3,
    steps: int = 8,
) -> Timing:
    """Time one method on one text, after a first call to warm up."""
    firsts, tokens = [], []
    for _ in range(repeats + 1):
        begun = _now(contestants.device)
        memory = Reading(contestants, questions).memory(method, ratio)
        logits = memory.decoder(memory.rest, cache=memory.cache, last_only=True)
        token = logits[:, -1].argmax(-1, keepdim=True)
        now = _now(contestants.device)
        firsts.append(now - begun)
        for _ in range(steps):
            logits = memory.decoder(token, cache=memory.cache)
            token, before = logits[:, -1].argmax(-1, keepdim=True), now
            now = _now(contestants.device)
            tokens.append(now - before)
    return Timing(
        method=method,
        ratio=ratio,
        n=questions.context.shape[1],
        ttft_ms=1000 * statistics.median(firsts[1:]),
        token_ms=1000 * statistics.median(tokens[steps:]),
    )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
