"""One question on one text, by every method at once: what it kept, what it read, what it said.

    run(QuestionParams(question="exact", ratio=8))

The questions of the menu were answered once and are committed (`benchmarks/arena_kept.py`), so
that the first picture needs no model; the reader's own text and question are answered here and now.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common import corpus, records, results
from intuitive.common.decoder import Probe, Seen, attention_rows
from intuitive.common.runtime import check, never
from intuitive.common.smollm import SmolLM2, load_smollm2
from intuitive.common.training import Progress, silent
from intuitive.lclm.smollm import WHERE

from ..exercise import Keep
from ..memories import BLOCK, Contestants, Memory, OverBudget, Reading
from ..methods import METHODS, RATIOS, YOURS
from ..tasks import Questions, draw

KEPT = "arena_kept"  # the committed answers
N = 1024  # tokens of the menu's texts
# Seed and row of each in the committed contest: texts whose codes LSA and EXPAND bring back at one
# entry in four, and whose other answers are the usual ones.
TEXTS = {"needle": (0, 12), "exact": (0, 15), "topic": (2, 1)}
BINS = 96  # stretches of the text that the picture tells apart
LONGEST = 1100  # tokens of the reader's own text
STEPS = 10  # tokens of an answer
OWN = "own"
QUESTIONS = tuple(TEXTS)
WHOLE = ("dense", "msa")  # hold everything, whatever the budget
SHOWN = tuple(method for method in METHODS if method != "nothing")


@dataclass(frozen=True, kw_only=True)
class QuestionParams:
    """Which question, and how much memory.

    Raises:
        ValueError: another question or ratio, or no words of the reader's own to ask about.
    """

    question: str = "needle"  # one of QUESTIONS, or "own"
    ratio: int = 4  # tokens for which there is room for one
    text: str = ""  # the reader's own
    ask: str = ""  # words after which the answer follows, the reader's own

    def __post_init__(self) -> None:
        if self.question not in (*QUESTIONS, OWN):
            listed = ", ".join((*QUESTIONS, OWN))
            raise ValueError(f"question={self.question!r} is unknown; choose one of {listed}.")
        if self.ratio not in RATIOS:
            listed = ", ".join(map(str, RATIOS))
            raise ValueError(f"ratio={self.ratio!r} must be one of {listed}.")
        if self.question == OWN and not self.ask.strip():
            raise ValueError("there is no question: write the beginning of a sentence to finish.")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one method made of it. Shares are of what the dense model holds, and of its heads."""

    method: str
    absent: str = ""  # why it takes no part at this budget
    resident: float = 0.0
    read: float = 0.0  # by each new token
    elsewhere: float = 0.0
    beads: int = 0  # tokens per latent
    kept: tuple[float, ...] = ()  # by stretch of the text: share of it held in its own words
    reads: tuple[tuple[float, ...], ...] = ()  # by step and stretch: share of attention
    said: tuple[str, ...] = ()  # tokens, in pieces of text
    right: bool | None = None  # None: nobody knows
    held: float | None = None  # share of the answer's place that is held in its own words
    whole: float | None = None  # share of its tokens that all layers and heads hold
    opened: tuple[float, ...] = ()  # MSA, by stretch: share of layers and groups that read it
    looked: float = 0.0  # share of attention on the answer's place, the best step's


@dataclass(frozen=True, kw_only=True)
class OneQuestion:
    """All methods on one question."""

    question: str
    ratio: int
    n: int  # tokens of the text
    opening: str  # its first words
    fact: str  # the place that is asked for, in words; empty where nobody knows
    place: tuple[int, int]  # tokens of it; (-1, -1)
    ask: str
    answer: str  # empty where nobody knows
    rows: tuple[Row, ...]

    @property
    def stretch(self) -> int:
        """Tokens of one stretch of the picture."""
        return -(-self.n // BINS)

    def row(self, method: str) -> Row:
        """One method's."""
        return next(row for row in self.rows if row.method == method)

    @property
    def same(self) -> tuple[Row, ...]:
        """Those held to the same memory: who holds everything is not among them."""
        return tuple(row for row in self.rows if row.method not in WHOLE)


def run(
    params: QuestionParams,
    *,
    keep: Keep | None = None,
    stale=never,
    progress: Progress = silent,
    live: bool = False,
) -> OneQuestion:
    """Every method's memory, reading and answer.

    Args:
        params: the question and the budget.
        keep: the reader's own choice of what stays (`exercise`), which gets a row.
        stale: turns true when nobody waits.
        progress: called after each method, with what there is so far.
        live: compute here and now what is committed, too.

    Raises:
        ModelMissing: live, and there is no model file.
        ValueError: a text that is too long or too short.
        Cancelled: `stale()` became true.
    """
    key = f"{params.question} {params.ratio}"
    made = None if live or params.question == OWN else kept().get(key)
    if made is not None and keep is None:
        return made
    contestants = shared()
    with torch.inference_mode():
        questions = asked(params, contestants.model).to(contestants.device)
        reading = Reading(contestants, questions, stale=stale)
        if made is None:
            made = answered(params, reading, stale=stale, progress=progress)
        if keep is None:
            return made
        progress(0.3, "Reading the text for your function")
        return replace(made, rows=(*made.rows, _yours(reading, keep, made)))


def _yours(reading: Reading, keep: Keep, made: OneQuestion) -> Row:
    try:
        memory = reading.yours(keep, made.ratio)
    except Exception as error:  # a reader's function may fail in any way
        return Row(method=YOURS, absent=str(error) or type(error).__name__)
    return _row(reading, memory, made, known=made.question != OWN)


@functools.cache
def kept() -> dict[str, OneQuestion]:
    """The committed answers by question and ratio; empty where there are none."""
    if not results.path(KEPT).is_file():
        return {}
    found = results.load(KEPT, dict).values
    return {key: unpacked(values) for key, values in found.items()}


def packed(made: OneQuestion) -> dict[str, Any]:
    """A result as plain values, its many shares as thousandths in one text each."""
    values = records.plain(made)
    for row in values["rows"]:
        row["kept"] = _thousandths(row["kept"])
        row["opened"] = _thousandths(row["opened"])
        row["reads"] = [_thousandths(step) for step in row["reads"]]
    return values


def unpacked(values: Mapping[str, Any]) -> OneQuestion:
    """What `packed` made of a result."""
    rows = []
    for row in values["rows"]:
        shares = {
            "kept": _shares(row["kept"]),
            "opened": _shares(row["opened"]),
            "reads": tuple(map(_shares, row["reads"])),
            "said": tuple(row["said"]),
        }
        rows.append(Row(**{**row, **shares}))
    start, end = values["place"]
    return OneQuestion(**{**values, "place": (start, end), "rows": tuple(rows)})


def _thousandths(shares: Sequence[float]) -> str:
    return " ".join(str(round(1000 * share)) for share in shares)


def _shares(text: str) -> tuple[float, ...]:
    return tuple(int(part) / 1000 for part in text.split())


@functools.cache
def shared() -> Contestants:
    """The model and all that was trained for it, loaded once."""
    with torch.inference_mode(False):
        return Contestants(load_smollm2())


def example_text() -> str:
    """What stands in the reader's box before anything is written there."""
    text = corpus.load("heldout", "prose")[0].text
    middle = text[3000:5500]
    return middle[middle.index(".") + 1 : middle.rindex(".") + 1].strip()


def asked(params: QuestionParams, model: SmolLM2, n: int = N) -> Questions:
    """The text and question of these params as tokens; n of them where the text is the menu's."""
    if params.question != OWN:
        seed, row = TEXTS[params.question]
        drawn = draw(params.question, model.tokenizer, n=n, count=row + 1, seed=seed)
        return drawn.rows(slice(row, None))
    encode = model.tokenizer.encode
    text = encode(params.text or example_text())
    if not 64 <= len(text) <= LONGEST:
        raise ValueError(
            f"the text has {len(text)} tokens: from 64 to {LONGEST} are read here in seconds."
        )
    ask = encode("\n" + params.ask.strip())
    look = encode(WHERE.format(question=params.ask.strip()))
    parts = ([text], [ask], [[0]], [[-1, -1]], [look])
    return Questions(OWN, *(torch.tensor(part) for part in parts))


def answered(
    params: QuestionParams,
    reading: Reading,
    *,
    stale=never,
    progress: Progress = silent,
) -> OneQuestion:
    """Let every method answer; the work behind `run`."""
    questions, tokenizer = reading.questions, reading.all.model.tokenizer
    context = questions.context[0].tolist()
    start, end = questions.place[0].tolist()
    known = params.question != OWN
    made = OneQuestion(
        question=params.question,
        ratio=params.ratio,
        n=len(context),
        opening=" ".join(tokenizer.decode(context[:80]).split()),
        fact=tokenizer.decode(context[start:end]).strip() if known else "",
        place=(start, end),
        ask=tokenizer.decode(questions.question[0]).strip(),
        answer=tokenizer.decode(questions.answer[0]).strip() if known else "",
        rows=(),
    )
    rows: list[Row] = []
    for i, method in enumerate(SHOWN):
        check(stale)
        try:
            rows.append(_row(reading, reading.memory(method, params.ratio), made, known=known))
        except OverBudget as error:
            rows.append(Row(method=method, absent=str(error)))
        made = replace(made, rows=tuple(rows))
        progress((i + 1) / len(SHOWN), f"{METHODS[method].label} has answered", made)
    return made


def _row(reading: Reading, memory: Memory, made: OneQuestion, *, known: bool) -> Row:
    questions, n, whole = reading.questions, made.n, made.n * reading.all.entry_bytes
    right = bool(questions.right(memory.answer_logits(questions.answer))[0]) if known else None
    n_steps = len(questions.answer[0]) if known else STEPS
    said, reads, opened = _spoken(reading, memory, n_steps)
    own = _own_words(memory, n)
    start, end = made.place
    looked = max((float(step[start:end].sum()) for step in reads), default=0.0) if known else 0.0
    return Row(
        method=memory.method,
        resident=round(memory.resident_bytes / whole, 4),
        read=round(memory.read_bytes / whole, 4),
        elsewhere=round(memory.elsewhere_bytes / whole, 4),
        beads=memory.beads,
        kept=_stretches(own, made.stretch, mean=True),
        reads=tuple(_stretches(step, made.stretch, mean=False) for step in reads),
        said=tuple(said),
        right=right,
        held=round(float(own[start:end].mean()), 4) if known else None,
        whole=round(float((own[start:end] > 1 - 1e-6).float().mean()), 4) if known else None,
        opened=_stretches(opened, made.stretch, mean=True) if memory.method == "msa" else (),
        looked=round(looked, 4),
    )


def _stretches(values: Tensor, size: int, *, mean: bool) -> tuple[float, ...]:
    parts = values.split(size)
    return tuple(round(float(part.mean() if mean else part.sum()), 3) for part in parts)


def _own_words(memory: Memory, n: int) -> Float[Tensor, " n"]:
    """By token of the text, the share of layers and heads that hold it in its own words."""
    if memory.places is not None:
        held = torch.zeros(n)
        for places in memory.places:
            held += torch.bincount(places[0].flatten().cpu(), minlength=n)
        return held / (len(memory.places) * memory.places[0].shape[1])
    held = torch.zeros(n) if memory.spans else torch.ones(n)
    for span in memory.spans:
        if span is not None and span[1] - span[0] == 1:
            held[span[0]] = 1.0
    return held


def _spoken(
    reading: Reading, memory: Memory, n_steps: int
) -> tuple[list[str], list[Float[Tensor, " n"]], Float[Tensor, " n"]]:
    """The likeliest answer, token by token, and what each step's attention fell on.

    And the share of layers and groups whose keys were read, over all steps, which MSA chooses.
    """
    layers = tuple(range(memory.decoder.config.n_layers))
    tokenizer, length = reading.all.model.tokenizer, memory.cache.length
    said: list[int] = []
    reads: list[Tensor] = []
    opened = torch.zeros(memory.n, device=memory.rest.device)
    tokens = memory.rest
    try:
        for _ in range(min(n_steps, STEPS)):
            fell = torch.zeros(memory.n, device=tokens.device)

            def receive(seen: Seen, fell: Tensor = fell) -> None:
                _fallen(memory, seen, fell, opened)

            logits = memory.decoder(
                tokens, cache=memory.cache, probe=Probe(layers, receive), last_only=True
            )[0, -1]
            said.append(_likeliest(logits, reading.questions.choices))
            reads.append(fell.cpu() / len(layers))
            tokens = tokens.new_tensor([[said[-1]]])
            if reading.questions.task == OWN and set(tokenizer.decode(said[-1:])) & set(".\n"):
                break
    finally:
        memory.cache.crop(length)
    return tokenizer.token_strings(said), reads, opened.cpu() / (len(reads) * len(layers))


def _likeliest(logits: Float[Tensor, " v"], choices: Tensor | None) -> int:
    """The likeliest token; of those to choose from, where there are some."""
    return int(logits.argmax() if choices is None else choices[logits[choices].argmax()])


def _fallen(
    memory: Memory, seen: Seen, fell: Float[Tensor, " n"], opened: Float[Tensor, " n"]
) -> None:
    """Add one layer's attention of the newest token to the tokens of the text that it fell on.

    And to `opened` the share of its groups by which MSA reads each of them.
    """
    q, k = seen.q[0], seen.k[0]
    rows = attention_rows(q, k, torch.tensor([len(q) - 1], device=q.device))[:, 0]
    by_head = rows.unflatten(0, (k.shape[1], -1)).mean(1)  # [h_kv, m]
    if memory.places is not None:
        places = memory.places[seen.layer][0]  # [h_kv, kept]
        mass = by_head[:, : places.shape[1]]
        fell.index_add_(0, places.flatten(), mass.flatten() / len(by_head))
        return
    if memory.method == "msa":
        selected = _selected(memory, seen)
        opened += selected[:, : memory.n].mean(0)
        by_head = by_head * selected
        by_head = by_head / by_head.sum(-1, keepdim=True).clamp(min=1e-9)
    mass = by_head.mean(0)
    if not memory.spans:
        fell += mass[: memory.n]
        return
    for entry, span in enumerate(memory.spans):
        if span is not None:
            fell[span[0] : span[1]] += mass[entry] / (span[1] - span[0])


def _selected(memory: Memory, seen: Seen) -> Float[Tensor, "h_kv m"]:
    """1 for the keys that MSA's newest token reads in one layer, by group."""
    attention = memory.decoder.layers[seen.layer].attention
    m = seen.k.shape[1]
    newest = seen.hidden[:, -1:]
    q_idx, _ = attention.index(newest, torch.tensor([[m - 1]], device=newest.device))
    blocks = attention.select(q_idx, memory.cache.layers[seen.layer].held()["index_keys"])[0, 0]
    wanted = torch.arange(m, device=newest.device) // BLOCK
    return (wanted == blocks[..., None]).any(1).float()


def code(params: QuestionParams) -> str:
    """The call that makes a result again."""
    own = f", text=..., ask={params.ask!r}" if params.question == OWN else ""
    return (
        "from intuitive.arena.experiments.one_question import QuestionParams, run\n\n"
        f"run(QuestionParams(question={params.question!r}, ratio={params.ratio}{own}))"
    )
