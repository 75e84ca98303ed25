"""Questions on long texts, with a tokenizer that needs no model file."""

import random
import re

import pytest
import torch

from intuitive.arena import tasks
from intuitive.arena.tasks import TASKS, Questions, draw, with_inserted
from intuitive.common.smollm import Tokenizer

WORDS: dict[str, int] = {}


def encode(text: str) -> list[int]:
    """One token for each word with the blank before it, and for each sign that is no letter."""
    pieces = re.findall(r" ?[A-Za-z]+|\s|.", text)
    return [WORDS.setdefault(piece, len(WORDS)) for piece in pieces]


def decode(ids) -> str:
    words = list(WORDS)
    return "".join(words[int(i)] for i in ids)


class Plain(Tokenizer):
    """Words are tokens."""

    def __init__(self) -> None:
        pass

    def encode(self, text: str) -> list[int]:
        return encode(text)


PLAIN = Plain()


@pytest.fixture(autouse=True)
def codes_of_words(monkeypatch):
    """Codes are words here: the tests' tokenizer makes one token of letters."""
    monkeypatch.setattr(tasks, "_code", lambda rng: "".join(rng.choices("0123456789", k=8)))


@pytest.mark.parametrize("task", TASKS)
def test_rows_of_a_task_are_alike_and_as_long_as_asked_for(task):
    questions = draw(task, PLAIN, n=256, count=3, seed=0)
    assert questions.context.shape == (3, 256)
    assert len(questions.question) == len(questions.answer) == 3


@pytest.mark.parametrize("task", [task for task in TASKS if task != "gist"])
def test_the_answer_stands_in_the_text_behind_the_words_of_the_question(task):
    questions = draw(task, PLAIN, n=256, count=6, seed=1)
    for row in range(6):
        start, end = questions.place[row].tolist()
        said = decode(questions.context[row, start:end])
        asked, answer = (decode(p[row]) for p in (questions.question, questions.answer))
        assert asked.strip() + answer in said


def test_the_gist_asks_for_the_next_tokens_of_the_same_text():
    questions = draw("gist", PLAIN, n=128, count=1, seed=0)
    longer = draw("gist", PLAIN, n=128, count=1, seed=0)
    assert questions.answer.shape[1] == tasks.GIST
    assert torch.equal(questions.answer, longer.answer)
    assert questions.place.tolist() == [[-1, -1]]


def test_another_seed_draws_other_texts():
    one, other = (draw("needle", PLAIN, n=128, count=2, seed=seed) for seed in (0, 1))
    assert not torch.equal(one.context, other.context)


def test_sentences_are_put_in_whole_and_the_length_stays():
    text = list(range(100, 200))
    made, starts = with_inserted(text, [[1, 2, 3], [4, 5]], random.Random(3))
    assert len(made) == 100
    assert made[starts[0] : starts[0] + 3] == [1, 2, 3]
    assert made[starts[1] : starts[1] + 2] == [4, 5]
    kept = [token for token in made if token >= 100]
    assert kept == text[: len(kept)]


def test_a_text_without_room_is_refused():
    with pytest.raises(ValueError, match="do not fit into a text of 20"):
        with_inserted(list(range(20)), [[0] * 30], random.Random(0))
    with pytest.raises(ValueError, match="task='x' is unknown"):
        draw("x", PLAIN, n=64, count=1, seed=0)


def test_right_is_every_token_or_the_best_choice():
    one = torch.zeros(2, 1, dtype=torch.int64)
    answer = torch.tensor([[1, 2], [1, 2]])
    logits = torch.zeros(2, 2, 5)
    logits[:, 0, 1] = logits[0, 1, 2] = logits[1, 1, 3] = 9.0
    plain = Questions("exact", one, one, answer, torch.zeros(2, 2, dtype=torch.int64))
    assert plain.right(logits).tolist() == [True, False]
    assert plain.nats(logits)[0] < plain.nats(logits)[1]
    among = Questions(
        "needle", one, one, answer[:, :1], torch.zeros(2, 2, dtype=torch.int64),
        choices=torch.tensor([1, 4]),
    )  # fmt: skip
    logits[1, 0, 4] = 20.0
    logits[0, 0, 3] = 50.0  # no choice
    assert among.right(logits).tolist() == [True, False]
