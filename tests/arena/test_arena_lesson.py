"""What the lesson says in figures, held against the committed contest."""

import json
from pathlib import Path

import pytest

from intuitive.arena import results
from intuitive.arena.experiments import one_question
from intuitive.arena.methods import METHODS, RATIOS
from intuitive.widgets.arena import checks
from intuitive.widgets.arena.one_question import PREDICT

LESSON = Path(__file__).parents[2] / "notebooks" / "05_arena.ipynb"
CELLS = {c["id"]: "".join(c["source"]) for c in json.loads(LESSON.read_text("utf-8"))["cells"]}
N = 1024


@pytest.fixture(scope="module")
def contest() -> results.Contest:
    return results.contest()


def test_the_record_is_of_the_size_that_the_lesson_names(contest):
    made = results.committed().made
    assert "48 of each task, of 1,024 tokens each" in CELLS["05-05"]
    assert "on an H200" in CELLS["05-05"] and "H200" in made.device
    assert contest.lengths == (N,)
    assert all(contest.questions(task, N) == 48 for task in contest.tasks(N))
    seeds = {cell.seed for cell in contest.cells}
    assert "three seeds" in CELLS["05-05"] and len(seeds) == 3
    assert contest.faults == ()


def test_a_task_that_dense_fails_is_left_out(contest):
    assert contest.ranked(N) == ("needle", "exact", "topic")
    assert contest.left_out(N) == ("several",)


def test_resident_bytes_are_equal_or_a_reason_is_given(contest):
    for cell in contest.cells:
        room = (-(-cell.n // cell.ratio) + 2) / cell.n
        assert cell.resident <= room + 1e-3 or cell.own, (cell.method, cell.ratio)


def test_what_is_said_of_codes(contest):
    text = CELLS["05-07"]

    def share(method, ratio=4):
        return contest.share("exact", N, method, ratio)

    assert "hardly any code, although SnapKV has seen" in text
    scored = ("snapkv", "snapkv_blind", "expected", "kvzip")
    assert all(share(method) < 0.1 for method in scored)
    assert "say about half of them" in text
    assert all(0.4 < share(method) < 0.6 for method in ("lsa", "lclm_expand"))
    assert "nearly all until its budget falls to two blocks" in text
    assert share("msa", 8) > 0.9 and share("msa", 16) < 0.1


def test_what_is_said_of_msa_at_sixteen(contest):
    assert "worth less than no text at all" in CELLS["05-21"]
    assert contest.gist("msa", 16, n=N) < 0
    assert f"MSA at 1/16 stands at {contest.gist('msa', 16, n=N):.0%}" in CELLS["05-07"]


def test_the_one_code_is_set_against_the_record(contest):
    made = one_question.kept()["exact 4"]
    assert f"in {made.n} tokens, is among those that LSA loses" in CELLS["05-07"]
    assert made.row("lsa").right is False
    assert (
        f"over the 48 texts here it says {contest.share('exact', N, 'lsa', 4):.0%}"
        in (CELLS["05-07"])
    )


def test_the_prediction_is_answered_from_the_record(contest):
    right, told = PREDICT.answer()
    assert PREDICT.choices[right].startswith("LSA")
    assert f"{contest.share('exact', N, 'lsa', 4):.0%}" in told


@pytest.mark.parametrize(
    ("make", "right"),
    [
        (checks.the_question_first, 2),
        (checks.what_folding_loses, 2),
        (checks.less_read_less_held, 0),
    ],
)
def test_questions_are_answered_from_the_record(make, right):
    question = make()
    assert question._answer()[0] == right
    question.close()


def test_every_method_has_a_sentence(contest):
    for method in METHODS:
        for ratio in RATIOS:
            told = contest.failing(method, ratio, n=N)
            assert told.startswith(METHODS[method].label) and told.endswith(".")
