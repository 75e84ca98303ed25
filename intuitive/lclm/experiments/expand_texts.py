"""Texts for the trace stepper: paragraphs, a question, and the sentence that answers it.

The sentences have the form of the needles that the pair was trained on (`benchmarks/lclm_texts.py`)
with places that were kept out of the training.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text in paragraphs, each of which becomes a chunk.

    Attributes:
        title: as a menu shows it.
        paragraphs: at most nine.
        question: what is asked.
        answer: letter by letter, as it stands in the text.

    Raises:
        ValueError: the answer stands in no paragraph, or in several.
    """

    title: str
    paragraphs: tuple[str, ...]
    question: str
    answer: str

    def __post_init__(self) -> None:
        holders = sum(self.answer in part for part in self.paragraphs)
        if holders != 1:
            raise ValueError(
                f"answer={self.answer!r} stands in {holders} paragraphs: let it stand in one."
            )

    @property
    def holder(self) -> int:
        """Which paragraph holds the answer, from 0."""
        return next(i for i, part in enumerate(self.paragraphs) if self.answer in part)

    @property
    def fact(self) -> tuple[int, int]:
        """First character of the sentence with the answer, and the one behind it."""
        part = self.paragraphs[self.holder]
        at = part.index(self.answer)
        start = part.rfind(". ", 0, at)
        end = part.find(".", at)
        return (start + 2 if start >= 0 else 0), (end + 1 if end >= 0 else len(part))


STORM = Text(
    title="A code in a story of a storm",
    paragraphs=(
        "The storm closed the coast road before noon, so the night crew stayed on for a second "
        "shift. They tied the small boats twice, wrote the height of the water in the book, and "
        "boiled soup for everybody who was still there. Nobody slept much.",
        "Ingrid, who kept the stores, counted boxes of rope and tins of paint until it was too "
        "dark to read the labels. Two lamps were broken, and she asked the office for new ones. "
        "The office did not answer, as it never did after four in the afternoon.",
        "The old guard had left a note on the table. The pass code of the lighthouse is 4821. He "
        "had changed it in the morning, because somebody had left the gate open, and he wanted "
        "the new people to learn it by heart and then to burn the paper.",
        "In the night the wind dropped and a truck with bread came up from the valley. The "
        "driver had seen three trees across the road and a cow on the bridge. He drank two cups "
        "of coffee, told the story again, and drove back before it grew light.",
        "In the morning the divers looked at the wall below the crane. A few stones had moved, no "
        "more than the width of a hand. They took pictures, marked the place with yellow paint, "
        "and said that it could wait until spring if the winter stayed mild.",
        "Somebody put the old radio on, the lights came back, and the crew went home to sleep "
        "until evening. On the door hung a list of what was left to do: the lamps, the trees, the "
        "wall, and a letter to the family of the man who had lost his boat.",
    ),
    question="What is the pass code of the lighthouse?",
    answer="4821",
)
STATION = Text(
    title="A name in a story of a town",
    paragraphs=(
        "The library of the small town moved into the old station, because no train had stopped "
        "there for years. The books came on hand carts, street by street, and the children "
        "carried the atlases. It took nine days, and it rained on six of them.",
        "On the upper floor, where the clerks had slept, stands a map of the whole valley made of "
        "wood and wool. A teacher built it in one winter. He forgot a bridge, and somebody glued "
        "it in afterwards, a little too far to the north.",
        "There is a room for newspapers, with a stove that smokes. Old men sit there and correct "
        "the crosswords of the day before. They know the answers, they say, but want to see "
        "whether the paper does.",
        "On clear nights people walk up the hill to look at the moon. The keeper of the "
        "observatory is Clara. She lets nobody touch the large mirror, and tells the children "
        "that it is older than the town, which is true, and that it bites, which is not.",
        "In the waiting hall one may speak. People learn languages there, or play chess with the "
        "clock that once told the time of the trains. It runs four minutes late, which gives the "
        "second player something of an advantage.",
    ),
    question="Who is the keeper of the observatory?",
    answer="Clara",
)
PALACE = Text(
    title="A code in a story of gardeners",
    paragraphs=(
        "The gardeners of the palace begin at five, before it is hot. They water the lemon trees "
        "first, then the roses, and last the long hedge, which is older than the palace and does "
        "not need them.",
        "A fox lives behind the wall. The cook puts bones out for her and tells everybody that she "
        "does not. In the spring there were four young ones, who slept in the wheelbarrows and "
        "bit through a hose.",
        "The pass code of the boathouse is 7306. The boats were built in a country that is no "
        "longer there, so every broken oar is a sad day, and a party at the same time, because "
        "the carpenter brings wine.",
        "Visitors may come on Sundays. They walk in a circle without knowing it, since all paths "
        "lead back to the pond. Twice a year somebody falls in, and a gardener has to look as if "
        "it had never happened before.",
        "In autumn all the leaves are raked into one heap as high as a house. The gardeners stand "
        "around it, smoke, and discuss whether it is higher than last year's. It always is.",
        "The last thing before winter is to carry the lemon trees in, forty of them, each with "
        "its name on a small sign. They stand in rows under the glass and wait for the light.",
    ),
    question="What is the pass code of the boathouse?",
    answer="7306",
)
TEXTS = {"palace": PALACE, "storm": STORM, "station": STATION}
