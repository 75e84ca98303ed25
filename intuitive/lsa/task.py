"""Topical records: a text whose next questions can be foreseen, until its topic changes.

    record    name colour number place        one chunk; names belong to topics, the rest is drawn
    prompt    records of many topics, shuffled, so that neither age nor neighbours tell a topic
    decoding  sections: a header that names a topic, then names of that topic, each followed by
              the colour, number and place that its record gave; these answers are supervised

A section ends with the header of the next one. With sections as long as the lookahead, every
trigger has just read a header, which tells the records that the window needs, though not in which
order; `offset` shifts the two against each other, and shorter sections change the topic within a
window: both are surprises. In a "dense" section names come from all topics, so that no choice is
right; in a "local" one records are stated anew before they are asked for, and the history is not
needed at all.

Values of the three slots have words of their own, so that a record's parts can be told apart even
where an entry has averaged them.
"""

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from intuitive.common.checks import whole, whole_fields

Mode = Literal["topical", "local", "dense"]

RECORD = 4  # tokens: a name and three values
HEADER = 4  # tokens: a mark, the topic twice, and a mark
BLANK, HEAD, GO, ALL = range(4)  # marks; ALL stands in the place of a topic in dense sections
MARKS = 4
SLOTS = 3  # values of a record
STATED = 3  # records that a local section states before it asks for them


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The vocabulary, and what one document is made of.

    Raises:
        ValueError: a size out of range, or more than the vocabulary has; in words.
    """

    # vocabulary
    n_topics: int = 64
    n_names: int = 16  # of each topic
    n_values: int = 16  # of each slot: colours, numbers, places

    # a document
    topics: int = 16  # that the prompt has records of: all but the asked one distract
    records: int = 16  # of each of them
    sections: int = 4
    section: int = 64  # tokens, the next section's header among them
    offset: int = 0  # tokens of a first, shorter section, which shifts headers against triggers
    mode: Mode = "topical"

    def __post_init__(self) -> None:
        whole_fields(self, n_topics=1, n_names=1, n_values=1, topics=1, records=1, sections=1)
        whole("section", self.section, low=HEADER + RECORD)
        whole("offset", self.offset, low=0)
        if self.section % RECORD or self.offset % RECORD:  # RECORD and HEADER are equal
            raise ValueError(
                f"section={self.section} and offset={self.offset} must be multiples of {RECORD}: "
                "records and headers fill whole chunks."
            )
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode={self.mode!r} is unknown; choose from {get_args(Mode)}.")
        spare = self.mode == "local"
        if self.topics + spare > self.n_topics:
            raise ValueError(
                f"topics={self.topics} is too much for n_topics={self.n_topics}"
                f"{': a local section has a topic that the prompt has not' if spare else ''}."
            )
        if self.records > self.n_names:
            raise ValueError(f"records={self.records} exceeds n_names={self.n_names} of a topic.")

    @property
    def vocabulary(self) -> int:
        """Tokens that there are."""
        return MARKS + self.n_topics * (1 + self.n_names) + SLOTS * self.n_values

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt: records, then the first header."""
        return self.topics * self.records * RECORD + HEADER

    @property
    def n_steps(self) -> int:
        """Tokens decoded."""
        return self.sections * self.section + self.offset

    @property
    def n_tokens(self) -> int:
        """Tokens of a document."""
        return self.n_prompt + self.n_steps

    def topic_token(self, topic: Tensor | int) -> Tensor | int:
        """Token of a topic."""
        return MARKS + topic

    def value_token(self, slot: Tensor | int, value: Tensor | int) -> Tensor | int:
        """Token of a value in one of the three slots."""
        return MARKS + self.n_topics + slot * self.n_values + value

    @property
    def n_said(self) -> int:
        """Tokens that a model may have to say: marks, topics and values; names come after them."""
        return MARKS + self.n_topics + SLOTS * self.n_values

    def name_token(self, topic: Tensor | int, name: Tensor | int) -> Tensor | int:
        """Token of a topic's name."""
        return self.n_said + topic * self.n_names + name

    def lengths(self) -> tuple[int, ...]:
        """Tokens of each section, its closing header among them."""
        return (self.offset,) * bool(self.offset) + (self.section,) * self.sections

    def words(self, tokens: Int[Tensor, " n"]) -> tuple[str, ...]:
        """Text of each token, a blank before each word."""
        return tuple(_word(self, token) for token in tokens.tolist())


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents of one configuration."""

    config: TaskConfig
    tokens: Int[Tensor, "b n"]
    answers: Bool[Tensor, "b steps"]  # decoded tokens that are supervised, each by the one before
    asked: Int[Tensor, "b steps"]  # chunk of the record that a query's tokens are about; -1: none
    topics: Int[Tensor, "b sections"]  # of each section; -1 in dense ones

    def __len__(self) -> int:
        return len(self.tokens)

    def targets(self) -> Int[Tensor, "b steps"]:
        """What a model should say of each decoded token before it comes; -1: nothing.

        Answers are said as they are. Of a name nobody can know more than its topic, which is said
        in its place, so that a model has a reason to keep the topic in mind, as one of language
        has.
        """
        config = self.config
        steps = self.tokens[:, config.n_prompt :]
        is_name = steps >= config.n_said
        topic = config.topic_token((steps - config.n_said) // config.n_names)
        if config.mode == "dense":
            topic = torch.full_like(topic, ALL)
        said = torch.where(is_name, topic, torch.full_like(steps, -1))
        return torch.where(self.answers, steps, said)

    @property
    def sections(self) -> tuple[int, ...]:
        """First step of each section."""
        lengths = self.config.lengths()
        return tuple(sum(lengths[:i]) for i in range(len(lengths)))


def draw_documents(config: TaskConfig, count: int, generator: torch.Generator) -> Documents:
    """Draw documents, on the device of the generator.

    Topics of one document differ until they run out, and so do the records of one section.

    Args:
        config: what they are made of.
        count: how many.
        generator: of everything drawn.
    """
    count = whole("count", count, low=1)
    device = generator.device

    def shuffled(*shape: int) -> Tensor:
        draws = torch.rand(*shape, generator=generator, device=device, dtype=torch.float32)
        return draws.argsort(-1)

    def values(*shape: int) -> Tensor:
        slots = torch.arange(SLOTS, device=device)
        drawn = torch.randint(config.n_values, (*shape, SLOTS), generator=generator, device=device)
        return config.value_token(slots, drawn)

    all_topics = shuffled(count, config.n_topics)
    here, elsewhere = all_topics[:, : config.topics], all_topics[:, config.topics :]
    names = shuffled(count, config.topics, config.n_names)[..., : config.records]
    named = config.name_token(here[..., None], names)
    records = torch.cat((named.flatten(1)[..., None], values(count, named[0].numel())), -1)
    n_records = records.shape[1]  # [b, topics * records, RECORD], topic by topic
    order = shuffled(count, n_records)
    chunk = order.argsort(-1)  # of each record
    prompt = records.gather(1, order[..., None].expand(-1, -1, RECORD)).flatten(1)

    lengths = config.lengths()
    n_sections = len(lengths) + 1  # the last one is named by a header and never comes
    among = elsewhere if config.mode == "local" else here
    which = _cycled(shuffled(count, among.shape[1]), n_sections)
    topics = among.gather(1, which)
    parts, answers, asked = [prompt, _header(config, topics[:, 0])], [], []
    for i, length in enumerate(lengths):
        n_queries = length // RECORD - 1
        if config.mode == "local":
            name = _cycled(shuffled(count, config.n_names), n_queries)
            stated = config.name_token(topics[:, i, None], name)
            queries = torch.cat((stated[..., None], values(count, n_queries)), -1)
            place = torch.arange(n_queries, device=device)
            answered = (place // STATED) % 2 == 1
            queries = queries[:, torch.where(answered, place - STATED, place)]
            about = torch.full((count, n_queries), -1, device=device)
        else:
            if config.mode == "dense":
                record = _cycled(shuffled(count, n_records), n_queries)
            else:
                record = _cycled(shuffled(count, config.records), n_queries)
                record = record + which[:, i, None] * config.records
            queries = records.gather(1, record[..., None].expand(-1, -1, RECORD))
            about = chunk.gather(1, record)
            answered = torch.ones(n_queries, dtype=torch.bool, device=device)
        supervised = answered[:, None] & (torch.arange(RECORD, device=device) > 0)
        no_header = torch.zeros(HEADER, dtype=torch.bool, device=device)
        answers.append(torch.cat((supervised.flatten(), no_header)).expand(count, -1))
        none = torch.full((count, HEADER), -1, device=device)
        asked.append(torch.cat((about.repeat_interleave(RECORD, 1), none), 1))
        parts += [queries.flatten(1), _header(config, topics[:, i + 1])]
    if config.mode == "dense":
        topics = torch.full_like(topics, -1)
    return Documents(
        config=config,
        tokens=torch.cat(parts, 1),
        answers=torch.cat(answers, 1),
        asked=torch.cat(asked, 1),
        topics=topics[:, :-1],
    )


def _cycled(order: Int[Tensor, "b n"], count: int) -> Int[Tensor, "b count"]:
    """The first `count` of a row that begins again at its end."""
    return order.repeat(1, -(-count // order.shape[1]))[:, :count]


def _header(config: TaskConfig, topic: Int[Tensor, " b"]) -> Int[Tensor, "b header"]:
    """Mark, topic, topic, mark; a dense section's names no topic."""
    token = config.topic_token(topic)
    if config.mode == "dense":
        token = torch.full_like(token, ALL)
    return torch.stack((torch.full_like(token, HEAD), token, token, torch.full_like(token, GO)), 1)


# ------------------------------------------------------------------------------- as text

_SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "ri", "so", "tu", "va", "zo")
# fmt: off
_SUBJECTS = (
    "birds", "rivers", "metals", "stars", "herbs", "ships", "towns", "songs", "games", "stones",
    "winds", "fruits", "coins", "maps", "tools", "cloths", "clouds", "fishes", "roads", "trees",
    "wines", "books", "bells", "lamps", "paints", "horses", "islands", "valleys", "lakes",
    "bridges", "towers", "gardens", "storms", "masks", "drums", "flutes", "looms", "kilns",
    "wells", "mills", "forts", "ports", "kings", "poets", "monks", "smiths", "weavers", "bakers",
    "sailors", "hunters", "judges", "clerks", "painters", "potters", "beetles", "moths", "shells",
    "ferns", "mosses", "roots", "seeds", "salts", "oils",
)
_COLOURS = (
    "red", "blue", "green", "white", "black", "yellow", "brown", "grey", "pink", "violet",
    "orange", "golden", "silver", "pale", "dark", "bright",
)
_PLACES = (
    "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Paris", "Kyoto", "Accra", "Minsk", "Perth",
    "Turin", "Hanoi", "Dakar", "Sofia", "Leeds", "Basel",
)
# fmt: on


@functools.cache
def _texts(n_topics: int, n_names: int, n_values: int) -> tuple[str, ...]:
    """The text of every token of a vocabulary."""
    subjects = [_pick(_SUBJECTS, topic) for topic in range(n_topics)]
    values = [_pick(_COLOURS, i) for i in range(n_values)]
    values += [str(10 + i) for i in range(n_values)]
    values += [_pick(_PLACES, i) for i in range(n_values)]
    names = [
        f"{_SYLLABLES[i % 12].title()}{_SYLLABLES[i // 12 % 12]}{_SYLLABLES[i // 144 % 12]}"
        for i in range(n_topics * n_names)
    ]
    return ("", "On", ":", "everything", *subjects, *values, *names)


def _pick(words: tuple[str, ...], i: int) -> str:
    """The i-th word; with a number once they run out."""
    turn, place = divmod(i, len(words))
    return words[place] if not turn else f"{words[place]}{turn + 1}"


def _word(config: TaskConfig, token: int) -> str:
    return " " + _texts(config.n_topics, config.n_names, config.n_values)[token]
