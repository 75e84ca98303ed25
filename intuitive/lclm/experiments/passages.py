"""Texts that are folded into beads, and what is asked about them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """A text and a question about it.

    Attributes:
        title: as a menu shows it.
        text: at most 512 tokens.
        question: asked after the text; empty where the decoder just goes on.
        secret: the answer, letter by letter, as it stands in the text; empty where there is none.
    """

    title: str
    text: str
    question: str = ""
    secret: str = ""

    @classmethod
    def own(cls, text: str) -> "Passage":
        """A text of the reader's, after which the decoder goes on."""
        return cls(title="Your text", text=text)


LETTER = (
    "The ferry to Stellan Island left at dawn with nine people on board. Captain Ingrid Maartens "
    "had crossed the sound for thirty years and did not trust the fog. She kept the engine slow, "
    "rang the bell twice, and let the dog sleep beside the wheel. Halfway over, the radio failed. "
    "The old lighthouse had been dark since Tuesday, and the keeper, Tomasz Wierzbicki, was in "
    "hospital with a broken leg. He had counted 4719 ships that year and was sorry to miss one. "
    "From his bed he had sent a letter, and the captain read it aloud: the key hangs behind the "
    "clock. The pass code of the lighthouse is 7391. The lamp needs 36 litres of oil and 24 wicks "
    "a year. Do not force the door, because its spring is weak. They landed at noon. The cook "
    "carried the oil up the stairs, the boy opened the shutters, and the captain stood a long "
    "time before the door, reading the letter once more. Then the light came on, white and "
    "steady, and somewhere out in the grey a horn answered. In the evening they ate fish and "
    "bread in the kitchen, and nobody spoke of the fog again."
)
UUIDS = """Keys of the archive, one line for each room.
north: 3c9d51e7-08ab-4f62-9d3e-71b0c25fa864
south: e17a40bd-5c92-4683-b1f7-2d98036eac51
tower: 90f2b6c8-d713-4ea5-8604-5fb3e1792dca
cellar: 5d08e3f1-a264-4b79-95c0-c86f17d3b92e
attic: b83e6a15-47d0-4c2f-a9e8-0e51d49c7f36
"""
CODE = '''def moving_average(values, width):
    """Mean of the last `width` values, one for each value."""
    if width < 1:
        raise ValueError(f"width={width} must be at least 1")
    total = 0.0
    window = []
    means = []
    for value in values:
        window.append(value)
        total += value
        if len(window) > width:
            total -= window.pop(0)
        means.append(total / len(window))
    return means


readings = [12.5, 13.1, 12.9, 47.0, 13.3]
smooth = moving_average(readings, width=3)
print("largest jump:", max(abs(a - b) for a, b in zip(smooth, smooth[1:])))
'''
PASSAGES = {
    "letter": Passage(
        title="A letter with a pass code",
        text=LETTER,
        question="What is the pass code of the lighthouse?",
        secret="7391",
    ),
    "uuids": Passage(
        title="Nothing but keys (UUIDs)",
        text=UUIDS,
        question="What is the key of the tower?",
        secret="90f2b6c8-d713-4ea5-8604-5fb3e1792dca",
    ),
    "code": Passage(
        title="A Python function",
        text=CODE,
        question="Which function is called to make `smooth`?",
        secret="moving_average",
    ),
}
