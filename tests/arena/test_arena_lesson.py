"""What the lesson says in figures, held against the committed contest."""

import json
from pathlib import Path

import pytest

from intuitive.arena import results
from intuitive.arena.experiments import one_question
from intuitive.arena.memories import BLOCK
from intuitive.arena.methods import METHODS, RATIOS
from intuitive.arena.tasks import NAMES, TOPICS
from intuitive.widgets.arena import checks
from intuitive.widgets.arena.one_question import PREDICT
from intuitive.widgets.arena.one_question_figures import length_figure
from intuitive.widgets.arena.styles import label

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
    assert "three seeds of 16 texts a task" in CELLS["05-05"] and len(seeds) == 3
    assert {len(cell.hits) for cell in contest.cells if cell.task != "gist"} == {16}
    assert f"what do you expect of {48 * len(contest.ranked(N))} such questions" in CELLS["05-11"]
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


def test_the_texts_of_the_menu_are_of_the_record_and_answered_as_there(contest):
    for key, made in one_question.kept().items():
        question, ratio = key.split()
        seed, row = one_question.TEXTS[question]
        assert made.n == N
        for one in made.rows:
            cells = contest.of(question, N, one.method, int(ratio))
            hits = [cell.hits[row] for cell in cells if cell.seed == seed]
            assert (hits == []) == bool(one.absent)
            assert one.absent or one.right == (hits == ["1"]), (key, one.method)


def test_the_one_code_is_set_against_the_record(contest):
    made = one_question.kept()["exact 4"]
    assert {row.method for row in made.rows if row.right} == {"dense", "msa", "lsa", "lclm_expand"}
    shares = [contest.share("exact", N, method, 4) for method in ("lsa", "lclm_expand")]
    told = " and ".join(f"{share:.0%}" for share in shares)
    assert f"as they do with {told} of the codes" in CELLS["05-07"]


def test_names_and_topics_are_counted():
    assert "thirty names, eight topics" in CELLS["05-21"]
    assert (len(NAMES), len(TOPICS)) == (30, 8)


def test_the_prediction_is_answered_from_the_record(contest):
    right, told = PREDICT.answer()
    assert PREDICT.choices[right].startswith("LSA")
    assert f"{contest.share('exact', N, 'lsa', 4):.0%}" in told


@pytest.mark.parametrize(
    ("make", "right"),
    [
        (checks.the_question_first, 2),
        (checks.what_folding_loses, 2),
        (checks.what_comes_next, 2),
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


def test_what_is_said_of_longer_texts():
    text, contests = CELLS["05-twice-why"], results.by_length()
    assert list(contests) == [1024, 2048, 4096]
    assert {one.ranked(n) for n, one in contests.items()} == {("needle", "exact", "topic")}
    assert all(one.questions("needle", n) == 48 for n, one in contests.items())
    assert all(one.faults == () for one in contests.values())

    def means(method, ratio):
        return [f"{one.score(method, ratio, n=n).mean:.0%}" for n, one in contests.items()]

    assert f"{', '.join(means('msa', 16))} right. LSA" in text
    assert f"more chunks: {', '.join(means('lsa', 16))}." in text
    for name, method in (
        ("Expected Attention, at one entry in four,", "expected"),
        ("each,", "lclm"),
    ):
        first, between, last = means(method, 4)
        assert f"{name} falls from {first} to {last}" in text
        assert int(first[:-1]) > int(between[:-1]) > int(last[:-1])
    assert f"right in {means('dense', 4)[-1]} at 4,096" in text
    assert [n // 16 // BLOCK for n in contests] == [2, 4, 8]
    assert "reads two blocks of 1,024 tokens" in text and "eight of 4,096" in text


def test_the_tab_of_longer_texts_draws_every_length():
    drawn = length_figure(16, task="exact")["data"]
    msa = next(one for one in drawn if one["name"] == label("msa"))
    contests = results.by_length()
    assert msa["x"] == list(contests)
    assert msa["y"] == [one.share("exact", n, "msa", 16) for n, one in contests.items()]
    assert all(len(one["x"]) == len(contests) for one in drawn)
