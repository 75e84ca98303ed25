"""What the lesson says in figures, held against the committed contest."""

import json
from pathlib import Path

import pytest

from intuitive.arena import results, tables
from intuitive.arena.experiments import one_question
from intuitive.arena.memories import BLOCK
from intuitive.arena.methods import METHODS, RATIOS
from intuitive.arena.tasks import NAMES, TOPICS
from intuitive.common import results as committed
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

    assert f"the window says {share('window'):.0%} at one entry in four" in text
    late, early = contest.by_depth("exact", N, "window", 4)
    assert "those that happen to stand in it" in text and (late, early) == (1.0, 0.0)
    assert f"KVzip says {share('kvzip'):.0%}, the others none" in text
    assert not any(share(method) for method in ("snapkv_blind", "expected", "lclm", "snapkv"))
    assert "SnapKV says none of them" in text and "say about half of them" in text
    held, brought = (contest.held("exact", N, method, 4) for method in ("snapkv", "lsa"))
    assert f"Why none with {held:.0%} of a code's place held" in text
    assert f"and {share('lsa'):.0%} with {brought:.0%}?" in text
    longest = results.by_length()[4096].share("exact", 4096, "kvzip", 4)
    assert f"KVzip says {longest:.0%} of the codes in texts of 4,096 tokens" in text
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
    assert f"say about half of them, {told}" in CELLS["05-07"]
    snapkv = made.row("snapkv")
    assert f"SnapKV holds {snapkv.held:.0%}, and not one of its tokens everywhere" in CELLS["05-07"]
    assert snapkv.whole == 0 and {made.row(m).whole for m in ("lsa", "lclm_expand")} == {1.0}


def test_who_was_asked_when_is_told_alike_in_all_places(contest):
    rows = [line for line in CELLS["05-02"].splitlines() if line.startswith("| ")][2:]
    told = {row.split(" | ")[0][2:]: row.split(" | ")[2].split(",")[0] for row in rows}
    assert told == {a.label: a.asked for m, a in METHODS.items() if m != "nothing"}
    assert "*Asked after*" in CELLS["05-00"] and "*Asked before*" in CELLS["05-00"]
    before = [a.label for a in METHODS.values() if a.asked == "before"]
    assert "Four methods know the question" in CELLS["05-03"] and len(before) == 4
    sentence = CELLS["05-03"].split("Four methods know")[1].split("\n")[0]
    assert all(name in sentence for name in before)
    printed = tables.by_task(contest, N)
    groups = [printed.index(words) for words in tables.GROUPS.values()]
    for about in METHODS.values():
        group = list(tables.GROUPS).index(about.asked)
        at = printed.index(f"\n{about.label:19s}")
        assert groups[group] < at and all(at < start for start in groups[group + 1 :])


def test_what_msa_reads_is_told_in_parts_and_what_lsa_has_elsewhere(contest):
    text = CELLS["05-03"]
    sizes = {ratio: contest.bytes_of("msa", ratio, n=N) for ratio in RATIOS}
    read = {ratio: f"{size[1]:.0%}" for ratio, size in sizes.items()}
    index = sizes[4][0] - 1
    assert f"a third more, {1 + index:.0%}" in text and index == pytest.approx(1 / 3, abs=1e-3)
    parts = f"{results.blocks(sizes[4]):.0%} in blocks, {index:.0%} in index keys"
    assert f"at one entry in four it reads {read[4]}: {parts}" in text
    assert f"in eight {read[8]}, in sixteen {read[16]}" in text
    assert all(f" {read[ratio]} " in tables.by_task(contest, N) for ratio in RATIOS)
    assert f"of LSA all entries, {contest.bytes_of('lsa', 4, n=N)[2]:.0%}" in text


def test_ties_are_named_both_and_what_lacks_is_said_of_one(contest):
    told = contest.failing("window", 4, n=N)
    assert "on an exact string and a topic, 21% each, where" in told and "; on an exact" in told
    assert contest.share("exact", N, "window", 4) == contest.share("topic", N, "window", 4)
    assert " each" not in contest.failing("kvzip", 4, n=N)


def test_the_table_by_length_has_dense_and_ranges():
    contests = results.by_length()
    lines = tables.by_length(contests).splitlines()
    dense = next(line for line in lines if line.startswith("Dense"))
    for n, one in contests.items():
        score = one.score("dense", 4, n=n)
        assert f"{score.mean:.0%} ({score.low:.0%}–{score.high:.0%})" in dense


def test_the_menu_s_answers_are_told_with_their_device():
    made = committed.load(one_question.KEPT, dict).made
    assert made.device == "cpu, 1 threads" and made.command[0] == "arena_kept.py"
    assert "on one CPU core, by `python benchmarks/arena_kept.py`" in CELLS["05-02"]


def test_names_and_topics_are_counted():
    assert "thirty names, eight topics" in CELLS["05-21"]
    assert (len(NAMES), len(TOPICS)) == (30, 8)


def test_the_prediction_is_answered_from_the_record(contest):
    right, told = PREDICT.answer()
    assert PREDICT.choices[right].startswith("LSA")
    assert f"{contest.share('exact', N, 'lsa', 4):.0%}" in told
    assert f"LSA {contest.held('exact', N, 'lsa', 4):.0%}. What LSA holds is whole" in told
    for method, choice in zip(("snapkv", "lsa", "lclm"), PREDICT.choices, strict=True):
        assert f"asked {METHODS[method].asked}" in choice


@pytest.mark.parametrize(
    ("make", "right"),
    [
        (checks.the_question_first, 2),
        (checks.what_folding_loses, 2),
        (checks.what_comes_next, 3),
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
    assert f"KVzip stands at {', '.join(means('kvzip', 4))}" in text
    names = [f"{one.share('needle', n, 'lclm', 4):.0%}" for n, one in contests.items()]
    assert f"of the names from {names[0]} to {names[-1]}" in text
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
