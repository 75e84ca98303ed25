"""Questions on long texts: what is hidden where, what is asked, and which tokens are the answer.

    questions = draw("needle", model.tokenizer, n=1024, count=48, seed=0)

Rows of a task are alike in length, so that they can be read together: places, names and topics are
words of one token. The text around them is held-out prose, which no method here was trained on.

Every answer is judged by the same rule: after the question, and the true tokens before it, each
token of the answer is the likeliest one; a name or a topic, the likeliest of all that are drawn
from. The gist has no answer but the text's own next tokens, and is measured in nats.
"""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common import corpus
from intuitive.common.returning import FOREIGN
from intuitive.common.smollm import Tokenizer
from intuitive.lclm.smollm import WHERE

PLACES = (
    "library", "station", "museum", "garden", "castle", "market", "theatre", "school", "church",
    "bridge", "factory", "hospital", "prison", "tower", "office", "hotel", "kitchen", "farm",
    "forest", "island", "village", "palace", "temple", "airport", "laboratory", "court", "bank",
    "shop", "camp", "mine", "stadium", "pool", "clinic", "studio",
)  # fmt: skip
NAMES = (
    "Martin", "Clara", "Henry", "Peter", "Laura", "Simon", "Helen", "Oscar", "Emma", "Victor",
    "Maria", "Jacob", "Sophie", "Daniel", "Felix", "Julia", "Thomas", "Walter", "Arthur", "Grace",
    "Diana", "Bruno", "Leo", "Anna", "David", "Robert", "Sarah", "James", "Michael", "Kate",
)  # fmt: skip
ROLES = ("keeper", "owner", "painter", "guard", "cook", "teacher", "driver", "doctor")
TOPICS = {
    "music": (
        "She tuned the violin before the others came.",
        "The choir had practised the same melody for weeks.",
        "Nobody in the orchestra played the last notes softly enough.",
        "He hummed the song again and beat the rhythm with his foot.",
        "The pianist closed the lid after the final chord.",
    ),
    "cooking": (
        "She stirred the soup and added a pinch of salt.",
        "The onions had to fry slowly in butter.",
        "He kneaded the dough and put the loaf in the oven.",
        "The recipe asked for two eggs and a cup of flour.",
        "They tasted the sauce with a wooden spoon.",
    ),
    "war": (
        "The soldiers dug trenches along the river.",
        "At dawn the artillery opened fire on the enemy.",
        "The general moved two regiments to the front.",
        "The battle lasted until the troops had no ammunition left.",
        "The army retreated after the siege.",
    ),
    "medicine": (
        "The doctor listened to the patient's lungs.",
        "She swallowed two pills against the fever.",
        "The nurse bandaged the wound and took his pulse.",
        "The surgeon said that the operation had gone well.",
        "The infection spread before the vaccine came.",
    ),
    "money": (
        "The bank raised the interest on the loan.",
        "He had sold his shares before the market fell.",
        "She counted the coins and wrote a cheque for the rest.",
        "The debts were larger than the profits of the year.",
        "The accountant asked where the dollars had gone.",
    ),
    "space": (
        "The rocket left the atmosphere after four minutes.",
        "Through the telescope they saw the rings of Saturn.",
        "The astronauts orbited the moon twice.",
        "A distant galaxy appeared as a faint smear of light.",
        "The satellite passed the red planet in March.",
    ),
    "football": (
        "The goalkeeper caught the ball with both hands.",
        "The referee showed him a yellow card.",
        "They scored twice in the second half of the match.",
        "The coach put a new striker on the pitch.",
        "The players ran to the penalty area and the crowd cheered.",
    ),
    "religion": (
        "The priest read the prayer at the altar.",
        "The monks sang psalms before sunrise.",
        "They knelt down and asked God for mercy.",
        "The bishop blessed the pilgrims in the cathedral.",
        "She lit a candle for the saint after the sermon.",
    ),
}
TASKS = ("needle", "several", "exact", "topic", "gist")
N_SEVERAL = 4  # needles of which one is asked for
GIST = 128  # tokens that follow
SAID = {
    "keeper": " The keeper of the {place} is{answer}.",
    "code": " The pass code of the {place} is{answer}.",
    "role": " The {place}'s name is{answer}.",
    "topic": " This part is about{answer}.",
}
ASKED = {what: "\n" + said.strip().split("{answer}")[0] for what, said in SAID.items()}
LOOK = {
    "keeper": "Who is the keeper of the {place}?",
    "code": "What is the pass code of the {place}?",
    "role": "What is the {place}'s name?",
    "topic": "What is this part about?",
}


@dataclass(frozen=True, eq=False)
class Questions:
    """Texts of one length with a question each; rows can be read together."""

    task: str
    context: Int[Tensor, "b n"]
    question: Int[Tensor, "b q"]
    answer: Int[Tensor, "b a"]
    place: Int[Tensor, "b 2"]  # where what is asked for begins and ends; -1 for the gist
    where: Int[Tensor, "b w"] | None = None  # asks EXPAND for a chunk; None: there is no question
    choices: Int[Tensor, " c"] | None = None  # first tokens of the answers to choose from

    def rows(self, which: slice) -> "Questions":
        """Some of the rows."""
        parts = (self.context, self.question, self.answer, self.place, self.where)
        cut = (None if part is None else part[which] for part in parts)
        return Questions(self.task, *cut, self.choices)

    def to(self, device: torch.device | str) -> "Questions":
        """The same on another device."""
        parts = (self.context, self.question, self.answer, self.place, self.where, self.choices)
        return Questions(self.task, *(None if part is None else part.to(device) for part in parts))

    def right(self, logits: Float[Tensor, "b a v"]) -> Bool[Tensor, " b"]:
        """Which rows are answered right by these logits of the answer's tokens."""
        if self.choices is None:
            return (logits.argmax(-1) == self.answer).all(-1)
        return self.choices[logits[:, 0, self.choices].argmax(-1)] == self.answer[:, 0]

    def nats(self, logits: Float[Tensor, "b a v"]) -> Float[Tensor, " b"]:
        """Mean negative log-likelihood of the answer's tokens."""
        logits = logits.float()
        true = logits.gather(-1, self.answer[..., None])[..., 0]
        return (logits.logsumexp(-1) - true).mean(-1)


def draw(task: str, tokenizer: Tokenizer, *, n: int, count: int, seed: int) -> Questions:
    """Questions of one task.

    Args:
        task: one of `TASKS`.
        tokenizer: of the model that reads.
        n: tokens of each text.
        count: rows.
        seed: of everything drawn.

    Raises:
        ValueError: an unknown task, or no held-out file with so many tokens.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r} is unknown; choose one of {', '.join(TASKS)}.")
    rng = random.Random(f"{task} {n} {seed}")
    rows = [_ROW[task](tokenizer, rng, n) for _ in range(count)]
    context, question, answer, place, where = (
        torch.tensor(part) for part in zip(*rows, strict=True)
    )
    choices = None
    words = {"needle": NAMES, "several": NAMES, "topic": tuple(TOPICS)}.get(task)
    if words is not None:
        choices = torch.tensor([tokenizer.encode(f" {w}")[0] for w in _single(tokenizer, words)])
    looks = None if task == "gist" else where
    return Questions(task, context, question, answer, place, looks, choices)


@functools.lru_cache(maxsize=2)
def _files(tokenizer: Tokenizer) -> tuple[list[int], ...]:
    documents = corpus.load("heldout", "prose")
    return tuple(tokenizer.encode(d.text) for d in documents if d.name not in FOREIGN)


def _passage(tokenizer: Tokenizer, rng: random.Random, n: int) -> list[int]:
    files = [ids for ids in _files(tokenizer) if len(ids) >= n]
    if not files:
        raise ValueError(f"no held-out file of prose has {n} tokens: ask for shorter texts.")
    ids = rng.choices(files, [len(ids) - n + 1 for ids in files])[0]
    start = rng.randrange(len(ids) - n + 1)
    return ids[start : start + n]


def with_inserted(
    text: Sequence[int], said: Sequence[Sequence[int]], rng: random.Random
) -> tuple[list[int], list[int]]:
    """A text with sentences put in at random places, as long as before; and where they begin.

    Each has a stretch of its own, so that none parts another; the first and last 5% stay free.
    """
    n, total = len(text), sum(map(len, said))
    edge = n // 20
    free = n - total - 2 * edge
    if free < 0:
        raise ValueError(f"{total} tokens do not fit into a text of {n}: make it longer.")
    cuts = sorted(rng.randint(0, free) for _ in said)
    made, at, starts = list(text[:edge]), edge, []
    for cut, sentence in zip(cuts, said, strict=True):
        made += text[at : edge + cut]
        at = edge + cut
        starts.append(len(made))
        made += sentence
    made += text[at : n - total]
    return made, starts


def _single(tokenizer: Tokenizer, words: Sequence[str]) -> list[str]:
    return [word for word in words if len(tokenizer.encode(f" {word}")) == 1]


def _row(tokenizer: Tokenizer, rng: random.Random, n: int, what: str, facts, more: str = ""):
    """A text with facts (place, answer) of one kind in it, of which one is asked for."""
    said = [
        tokenizer.encode(SAID[what].format(place=place, answer=f" {answer}") + more)
        for place, answer in facts
    ]
    asked = rng.randrange(len(facts))
    text, starts = with_inserted(_passage(tokenizer, rng, n), said, rng)
    place, answer = facts[asked]
    question, where = words_of(what, place)
    span = (starts[asked], starts[asked] + len(said[asked]))
    encode = tokenizer.encode
    return text, encode(question), encode(f" {answer}"), span, encode(where)


def words_of(what: str, place: str = "") -> tuple[str, str]:
    """The question as it stands behind the text, and as EXPAND is asked for a chunk."""
    look = LOOK[what].format(place=place)
    return ASKED[what].format(place=place), WHERE.format(question=look)


def _needle(tokenizer: Tokenizer, rng: random.Random, n: int):
    place = rng.choice(_single(tokenizer, PLACES))
    return _row(tokenizer, rng, n, "keeper", [(place, rng.choice(_single(tokenizer, NAMES)))])


def _several(tokenizer: Tokenizer, rng: random.Random, n: int):
    roles = rng.sample(_single(tokenizer, ROLES), N_SEVERAL)
    names = rng.sample(_single(tokenizer, NAMES), N_SEVERAL)
    return _row(tokenizer, rng, n, "role", list(zip(roles, names, strict=True)))


def _code(rng: random.Random) -> str:
    letters = "bcdfghjkmpqrstvwxz"
    return "".join(rng.choice("23456789") + rng.choice(letters) for _ in range(4))


def _exact(tokenizer: Tokenizer, rng: random.Random, n: int):
    place = rng.choice(_single(tokenizer, PLACES))
    code = _code(rng)
    while len(tokenizer.encode(f" {code}")) != 9:  # a blank, and eight signs
        code = _code(rng)
    return _row(tokenizer, rng, n, "code", [(place, code)])


def _topic(tokenizer: Tokenizer, rng: random.Random, n: int):
    topic = rng.choice(tuple(TOPICS))
    about = "".join(f" {sentence}" for sentence in rng.sample(TOPICS[topic], 5))
    return _row(tokenizer, rng, n, "topic", [("", topic)], about)


def _gist(tokenizer: Tokenizer, rng: random.Random, n: int):
    text = _passage(tokenizer, rng, n + GIST + 1)
    return text[:n], text[n : n + 1], text[n + 1 :], (-1, -1), ()


_ROW = {
    "needle": _needle,
    "several": _several,
    "exact": _exact,
    "topic": _topic,
    "gist": _gist,
}
