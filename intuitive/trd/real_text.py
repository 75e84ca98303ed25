"""Does a real language model have a second mode? SmolLM2 reads right and wrong solutions.

Problems are made by program, each with a right solution of a few lines and the same solution with
one wrong number, from which it carries on consistently. At every token of both the model's
next-token distribution is taken: how much of it starts a repair ("Wait", "Actually", "However"),
and how surprised the model is by what follows, with the problem alone in its prompt and with a
first attempt to rewrite.

Source: arXiv:2606.08432, section 6.4 (mass on epistemic tokens, perplexity gap).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from intuitive.common.checks import whole
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.smollm import SmolLM2, chat_prompt
from intuitive.common.training import Progress, silent

from .metrics import bootstrap_mean

ONSET_WORDS = (
    "Wait", "Actually", "However", "But", "Hmm", "No", "Oops", "Sorry", "Instead", "Hold",
    "Correction", "Mistake", "Although", "Unfortunately", "Incorrect", "Check",
)  # fmt: skip
KINDS = ("arithmetic", "reasoning")
NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gina", "Hugo")
THINGS = ("apples", "stamps", "coins", "books", "shells", "marbles", "cards", "pencils")
GAINS = ("finds {n} more", "buys {n} more", "is given {n} more")
LOSSES = ("loses {n} of them", "sells {n} of them", "gives {n} of them away")
CONTEXTS = ("plain", "refine")


@dataclass(frozen=True, kw_only=True)
class RealTextParams(Settings):
    """How many problems, and of what size."""

    n_items: int = 208  # half of each kind
    n_steps: int = 4  # lines of a solution before the answer
    n_kept: int = 16  # items whose trajectories are kept token by token
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_items", "n_steps", "n_kept", "seed"):
            object.__setattr__(self, name, whole(name, getattr(self, name), low=0))
        if self.n_items < 2 or self.n_steps < 3 or not 0 <= self.n_kept <= self.n_items:
            raise ValueError(
                f"n_items={self.n_items} must be at least 2, n_steps={self.n_steps} at least 3 and "
                f"n_kept={self.n_kept} at most n_items: after an error two lines follow."
            )


@dataclass(frozen=True, kw_only=True)
class Item:
    """A problem with a right solution and one that goes wrong in one line."""

    kind: str
    problem: str
    right: tuple[str, ...]  # lines, each ending in a line break
    wrong: tuple[str, ...]
    error_line: int


def make_items(params: RealTextParams) -> tuple[Item, ...]:
    """Problems of both kinds in turn, with sums and differences of small numbers."""
    generator = seeded(params.seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    items = []
    for number in range(params.n_items):
        kind = KINDS[number % 2]
        start, changes = draw(20, 60), []
        total = start
        for _ in range(params.n_steps):
            size = draw(3, 16)
            change = size if total < 30 or draw(0, 2) else -size
            changes.append(change)
            total += change
        error_line = draw(0, params.n_steps - 2)  # lines follow it
        shift = (1, -1, 2, -2, 10, -10)[draw(0, 6)]
        name, thing = NAMES[draw(0, len(NAMES))], THINGS[draw(0, len(THINGS))]
        events = [
            (GAINS if change > 0 else LOSSES)[draw(0, 3)].format(n=abs(change))
            for change in changes
        ]
        if kind == "arithmetic":
            problem = f"Compute {start}{''.join(f' {c:+d}' for c in changes)}."
            problem = problem.replace(" +", " + ").replace(" -", " - ")
        else:
            problem = f"{name} has {start} {thing}. {name} " + f". Then {name} ".join(events)
            problem += f". How many {thing} does {name} have now?"
        solutions = []
        for wrong in (False, True):
            total, lines = start, []
            for line, change in enumerate(changes):
                said = total + change + (shift if wrong and line == error_line else 0)
                sum_ = f"{total} {'+' if change > 0 else '-'} {abs(change)} = {said}"
                if kind == "reasoning":
                    sum_ = f"{name} {events[line]}: {sum_}"
                lines.append(f"{sum_}.\n")
                total = said
            lines.append(f"The answer is {total}.\n")
            solutions.append(tuple(lines))
        items.append(
            Item(
                kind=kind,
                problem=problem,
                right=solutions[0],
                wrong=solutions[1],
                error_line=error_line,
            )
        )
    return tuple(items)


def prompt(item: Item, context: str, *, attempt: Sequence[str] = ()) -> str:
    """The chat up to the solution: the problem alone, or with a first attempt to rewrite.

    Raises:
        ValueError: an unknown context, or "refine" without an attempt.
    """
    if context not in CONTEXTS or (context == "refine" and not attempt):
        raise ValueError(
            f"context={context!r} must be one of {', '.join(CONTEXTS)}; refine needs attempt=."
        )
    asked = f"{item.problem}\nSolve it step by step, one calculation per line."
    if context == "refine":
        asked += (
            "\n\nA first attempt:\n" + "".join(attempt) + "\nRewrite this attempt. Keep its steps "
            "and their order, correct every wrong number, and write nothing but the solution."
        )
    return chat_prompt([{"role": "user", "content": asked}])


def onset_ids(model: SmolLM2) -> dict[int, str]:
    """Token ids that begin a repair, with their words: those that are one token, as `encode`
    finds them at the start of a line and after a space."""
    found = {}
    for word in ONSET_WORDS:
        for text in (word, f" {word}"):
            ids = model.tokenizer.encode(text)
            if len(ids) == 1:
                found[ids[0]] = word
    return found


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What the model made of one solution, token by token."""

    tokens: tuple[str, ...]
    nll: tuple[float, ...]  # nats
    onset_mass: tuple[float, ...]  # of the distribution that each token was drawn from
    entropy: tuple[float, ...]  # nats
    lines: tuple[int, ...]  # which line each token belongs to
    first: tuple[bool, ...]  # it begins a line
    likeliest: tuple[str, ...]  # the likeliest token there


@torch.inference_mode()
def follow(
    model: SmolLM2, text: str, solutions: Sequence[Sequence[str]], onsets: Sequence[int]
) -> tuple[Trajectory, ...]:
    """The model's next-token distribution at every token of some solutions to one problem.

    Args:
        model: SmolLM2.
        text: what stands before, as `prompt` makes it; read once.
        solutions: lines of each.
        onsets: token ids whose probability is summed.

    Raises:
        ValueError: a solution without lines, or the whole is longer than the model's context.
    """
    if not all(solutions):
        raise ValueError(f"solutions={solutions!r}: give at least one line of each.")
    encode, decoder = model.tokenizer.encode, model.decoder
    given = encode(text)
    pieces = [[encode(line) for line in lines] for lines in solutions]
    longest = max(sum(map(len, lines)) for lines in pieces)
    cache = decoder.make_cache(1, len(given) + longest)
    before = decoder.hidden(torch.tensor([given]), cache=cache)[:, -1:]
    found = []
    for lines in pieces:
        ids = [index for line in lines for index in line]
        after = decoder.hidden(torch.tensor([ids]), cache=cache)[:, :-1]
        cache.crop(len(given))
        log_p = decoder.logits(torch.cat([before, after], dim=1))[0].log_softmax(-1)  # [n, v]
        p = log_p.exp()
        found.append(
            Trajectory(
                tokens=tuple(model.tokenizer.token_strings(ids)),
                nll=tuple((-log_p.gather(1, torch.tensor(ids)[:, None])[:, 0]).tolist()),
                onset_mass=tuple(p[:, list(onsets)].sum(-1).tolist()),
                entropy=tuple((-(p * log_p).sum(-1)).tolist()),
                lines=tuple(number for number, line in enumerate(lines) for _ in line),
                first=tuple(place == 0 for line in lines for place in range(len(line))),
                likeliest=tuple(
                    model.tokenizer.token_strings([index])[0] for index in p.argmax(-1).tolist()
                ),
            )
        )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over items with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class KeptItem:
    """One item with the trajectories of its solutions, the problem alone in the prompt."""

    item: Item
    right: Trajectory
    wrong: Trajectory


@dataclass(frozen=True, kw_only=True)
class RealText:
    """What was measured; masses are probabilities, surprises nats per token."""

    params: RealTextParams
    onset_words: tuple[str, ...]
    # By kind (and "all"): onset mass at the start of a line, on right and wrong solutions, by the
    # number of lines since the error: "-1" before it, "0" the line after it begins, and so on.
    onset_by_delay: dict[str, dict[str, dict[str, Estimate]]]
    onset_difference: dict[str, Estimate]  # wrong minus right, all lines after the error
    onset_per_token: dict[str, Estimate]  # on "right" and "wrong", over all tokens
    largest_onset: float  # the largest mass at any start of a line after an error
    surprise: dict[str, Estimate]  # "right|plain", "right|refine", "wrong|plain", "wrong|refine"
    perplexity_gap: dict[str, Estimate]  # plain minus refine, of right and wrong solutions
    surprise_at_error: dict[str, Estimate]  # of the "right" and the "wrong" number in that line
    error_preferred: Estimate  # share of items in which the wrong number was the likelier one
    kept: tuple[KeptItem, ...]


def measure(
    model: SmolLM2,
    params: RealTextParams,
    *,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> RealText:
    """Read every item's two solutions under both prompts.

    Raises:
        Cancelled: `stale()` became true.
    """
    items, onsets = make_items(params), onset_ids(model)
    read: list[dict[tuple[str, str], Trajectory]] = []
    for number, item in enumerate(items):
        found = {}
        for context in CONTEXTS:
            check(stale)
            text = prompt(item, context, attempt=item.wrong)
            right, wrong = follow(model, text, (item.right, item.wrong), list(onsets))
            found["right", context], found["wrong", context] = right, wrong
        read.append(found)
        progress((number + 1) / len(items), f"Item {number + 1} of {len(items)}")
    return summarise(params, items, read, tuple(sorted(set(onsets.values()))))


def summarise(
    params: RealTextParams,
    items: Sequence[Item],
    read: Sequence[dict[tuple[str, str], Trajectory]],
    onset_words: tuple[str, ...],
) -> RealText:
    """Means and intervals over items; one number per item goes into each."""
    kinds = {"all": tuple(range(len(items)))}
    kinds |= {k: tuple(i for i, item in enumerate(items) if item.kind == k) for k in KINDS}

    def starts(index: int, name: str) -> dict[int, float]:
        """Onset mass where each line begins, by lines since the error (0: the next line)."""
        seen, error = read[index][name, "plain"], items[index].error_line
        places = [place for place, first in enumerate(seen.first) if first]
        return {seen.lines[place] - error - 1: seen.onset_mass[place] for place in places}

    by_delay: dict[str, dict[str, dict[str, Estimate]]] = {}
    for kind, members in kinds.items():
        by_delay[kind] = {}
        for name in ("right", "wrong"):
            masses = {index: starts(index, name) for index in members}
            delays = sorted({max(d, -1) for m in masses.values() for d in m})
            by_delay[kind][name] = {
                str(delay): _estimate(
                    [
                        _mean([m for d, m in one.items() if max(d, -1) == delay])
                        for one in masses.values()
                        if any(max(d, -1) == delay for d in one)
                    ]
                )
                for delay in delays
            }

    def after(index: int, name: str) -> float:
        return _mean([mass for d, mass in starts(index, name).items() if d >= 0])

    def nll(index: int, name: str, context: str) -> float:
        return _mean(read[index][name, context].nll)

    def at_error(index: int, name: str) -> float:
        """Surprise by the whole line with the error; the lines differ in the number alone."""
        seen, error = read[index][name, "plain"], items[index].error_line
        return sum(s for s, line in zip(seen.nll, seen.lines, strict=True) if line == error)

    everyone = kinds["all"]
    return RealText(
        params=params,
        onset_words=onset_words,
        onset_by_delay=by_delay,
        onset_difference={
            kind: _estimate([after(i, "wrong") - after(i, "right") for i in members])
            for kind, members in kinds.items()
        },
        onset_per_token={
            name: _estimate([_mean(read[i][name, "plain"].onset_mass) for i in everyone])
            for name in ("right", "wrong")
        },
        largest_onset=max(m for i in everyone for d, m in starts(i, "wrong").items() if d >= 0),
        surprise={
            f"{name}|{context}": _estimate([nll(i, name, context) for i in everyone])
            for name in ("right", "wrong")
            for context in CONTEXTS
        },
        perplexity_gap={
            name: _estimate(
                [
                    math.exp(nll(i, name, "plain")) - math.exp(nll(i, name, "refine"))
                    for i in everyone
                ]
            )
            for name in ("right", "wrong")
        },
        surprise_at_error={
            name: _estimate([at_error(i, name) for i in everyone]) for name in ("right", "wrong")
        },
        error_preferred=_estimate(
            [float(at_error(i, "wrong") < at_error(i, "right")) for i in everyone]
        ),
        kept=tuple(
            KeptItem(
                item=items[i], right=read[i]["right", "plain"], wrong=read[i]["wrong", "plain"]
            )
            for i in range(params.n_kept)
        ),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _estimate(values: Sequence[float]) -> Estimate:
    found = bootstrap_mean(torch.tensor(values, dtype=torch.float64))
    return Estimate(mean=found.estimate, low=found.low, high=found.high, n=len(values))
