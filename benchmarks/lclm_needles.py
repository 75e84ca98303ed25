"""Needles: sentences with a fact, put into a text, and the questions that ask for it."""

import random
from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from intuitive.common.smollm import SmolLM2
from intuitive.lclm.smollm import ANSWER, WHERE

FACTS = (
    ("The pass code of the {place} is {value}.", "What is the pass code of the {place}?", "code"),
    ("The keeper of the {place} is {value}.", "Who is the keeper of the {place}?", "name"),
    ("The door of the {place} is {value}.", "What colour is the door of the {place}?", "colour"),
)
PLACES = [
    "harbour",
    "bakery",
    "library",
    "station",
    "museum",
    "garden",
    "castle",
    "market",
    "theatre",
    "school",
    "church",
    "mill",
    "bridge",
    "factory",
    "hospital",
    "prison",
    "tower",
    "office",
    "hotel",
    "kitchen",
    "cellar",
    "attic",
    "stable",
    "barn",
    "farm",
    "forest",
    "lake",
    "island",
    "village",
    "palace",
    "temple",
    "cinema",
    "airport",
    "garage",
    "workshop",
    "studio",
    "laboratory",
    "court",
    "bank",
    "shop",
    "tavern",
    "inn",
    "chapel",
    "abbey",
    "fort",
    "camp",
    "mine",
    "quarry",
    "vineyard",
    "orchard",
    "greenhouse",
    "aquarium",
    "zoo",
    "stadium",
    "gym",
    "pool",
    "salon",
    "pharmacy",
    "clinic",
    "dairy",
    "brewery",
    "foundry",
    "shipyard",
    "dock",
    "warehouse",
    "depot",
    "terminal",
    "embassy",
    "ministry",
    "archive",
    "gallery",
]
HELD_OUT_PLACES = [
    "lighthouse",
    "observatory",
    "cathedral",
    "monastery",
    "bookshop",
    "playground",
    "printworks",
    "windmill",
    "courthouse",
    "cottage",
    "fortress",
    "pavilion",
    "nursery",
    "butchery",
    "granary",
    "boathouse",
]
NAMES = [
    "Ruth",
    "Martin",
    "Clara",
    "Henry",
    "Alice",
    "Peter",
    "Laura",
    "Simon",
    "Helen",
    "Oscar",
    "Emma",
    "Victor",
    "Maria",
    "Jacob",
    "Sophie",
    "Daniel",
    "Nora",
    "Felix",
    "Julia",
    "Thomas",
    "Irene",
    "Walter",
    "Paula",
    "Arthur",
    "Grace",
    "Edgar",
    "Diana",
    "Bruno",
    "Agnes",
    "Leo",
]
COLOURS = [
    "red",
    "blue",
    "green",
    "yellow",
    "white",
    "black",
    "brown",
    "grey",
    "purple",
    "orange",
    "pink",
    "golden",
]


@dataclass
class Bucket:
    """Needles that are alike in length: keys, each with several values."""

    statement: Tensor  # [keys, values, n_s]
    question: Tensor  # [keys, n_where]: WHERE with the question in it
    asked: Tensor  # [keys, n_answer]: ANSWER with the question in it
    value: Tensor  # [keys, values, n_v], a blank first, without the end of the line
    place: list[str] = field(default_factory=list)
    fact: list[str] = field(default_factory=list)


def needles(model: SmolLM2, places: list[str], device: torch.device, seed: int) -> list[Bucket]:
    """Needles in buckets of equal lengths; at least six keys each."""
    rng, encode = random.Random(seed), model.tokenizer.encode
    groups: dict[tuple[int, ...], list] = defaultdict(list)
    for statement, question, what in FACTS:
        for place in places:
            asked = question.format(place=place)
            where = encode(WHERE.format(question=asked))
            answer = encode(ANSWER.format(question=asked))
            values = {"name": NAMES, "colour": COLOURS}.get(what)
            values = values or [f"{rng.randrange(1000, 10000)}" for _ in range(64)]
            by_length = defaultdict(list)
            for value in values:
                said = encode(" " + statement.format(place=place, value=value))
                by_length[len(said), len(encode(f" {value}"))].append((said, encode(f" {value}")))
            lengths, entries = max(by_length.items(), key=lambda item: len(item[1]))
            if len(entries) >= 8:
                entries = (entries * 64)[:64] if what == "code" else (entries * 8)[:24]
                key = (*lengths, len(where), len(answer), len(entries))
                groups[key].append((entries, where, answer, place, what))
    buckets = []
    for group in groups.values():
        if len(group) < 6:
            continue
        said = torch.tensor([[e[0] for e in entries] for entries, *_ in group], device=device)
        value = torch.tensor([[e[1] for e in entries] for entries, *_ in group], device=device)
        buckets.append(
            Bucket(
                said,
                torch.tensor([where for _, where, *_ in group], device=device),
                torch.tensor([answer for _, _, answer, *_ in group], device=device),
                value,
                [place for *_, place, _ in group],
                [what for *_, what in group],
            )
        )
    return buckets


def insert(text: Tensor, needle: Tensor, at: Tensor) -> Tensor:
    """Texts [b, n] with needles [b, n_s] put in at places [b]; what leaves the end is lost."""
    n, n_s = text.shape[1], needle.shape[1]
    p = torch.arange(n, device=text.device)[None]
    after = p - at[:, None]
    inside = (after >= 0) & (after < n_s)
    source = torch.where(after >= n_s, p - n_s, p)
    return torch.where(inside, needle.gather(1, after.clamp(0, n_s - 1)), text.gather(1, source))
