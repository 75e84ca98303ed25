"""The reader's rewrite: a right one passes, wrong ones fail where they are wrong and hear why."""

import pytest

from intuitive.trd import exercise
from intuitive.trd.exercise import asks, check_rewrite, try_rewrite
from intuitive.trd.sums import Problem, SumsConfig


def solution(attempt, error, teacher):
    kept = attempt[:error]
    while not kept or kept[-1] != "EOS":
        kept.append(teacher(kept))
    return kept


def keeps_the_error(attempt, error, teacher):
    return solution(attempt, None if error is None else error + 1, teacher)


def from_scratch(attempt, error, teacher):
    return solution([], 0, teacher)


def mends_one_token(attempt, error, teacher):
    if error is None:
        return attempt
    return [*attempt[:error], teacher(attempt[:error]), *attempt[error + 1 :]]


def failing(rewrite):
    return {i for i, check in enumerate(check_rewrite(rewrite).checks) if not check.passed}


def test_right_solutions_pass_every_check():
    assert failing(solution) == set()
    assert (
        failing(lambda attempt, error, teacher: tuple(solution(attempt, error, teacher))) == set()
    )
    assert failing(from_scratch) == set()  # the teacher knows the order: it writes the same


@pytest.mark.parametrize(
    ("wrong", "where", "told"),
    [
        (lambda attempt, error, teacher: attempt, {2, 3, 4}, "Not begun: rewrite leaves"),
        (
            lambda attempt, error, teacher: attempt[: error and error + 1] + ["EOS"] * bool(error),
            {2, 3, 4},
            "wrong total is still there",
        ),
        (keeps_the_error, {2, 3, 4}, "the teacher says WAIT"),
        (mends_one_token, {3, 4}, "from token 3 on should be #2"),
        (lambda attempt, error, teacher: attempt[:error], {2, 3, 4}, "stops before EOS"),
        (
            lambda attempt, error, teacher: ["#0", *solution(attempt, error, teacher)[1:]],
            {0, 1},
            "before token 6 should be #3 6 #2 1 #1, not #0 6 #2 1 #1",
        ),
        (
            lambda attempt, error, teacher: (
                attempt if error is None else [*attempt[:error], *solution([], 0, teacher)[error:]]
            ),
            set(),
            "5 of 5",
        ),
        (lambda attempt, error, teacher: solution(attempt, error, teacher)[:-1], {0, 3, 4}, "EOS"),
        (
            lambda attempt, error, teacher: [*solution(attempt, error, teacher)[:-2], "0", "EOS"],
            {0, 3, 4},
            "ANS 0 EOS",
        ),
        (lambda *_: None, {0, 1, 2, 3, 4}, "returned nothing"),
        (lambda *_: "#3 6", {0, 1, 2, 3, 4}, "is no list of tokens"),
        (lambda *_: ["#9"], {0, 1, 2, 3, 4}, "'#9' is no token"),
        (lambda *_: [1], {0, 1, 2, 3, 4}, "1 is no token"),
        (lambda *_: ["#3"] * 99, {0, 1, 2, 3, 4}, "returned 99 tokens"),
        (lambda attempt, *_: attempt.clear() or [], {0, 1, 2, 3, 4}, "changed the attempt"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wrong_solutions_fail_where_they_are_wrong_and_are_told_why(wrong, where, told):
    assert failing(wrong) == where
    assert told in repr(check_rewrite(wrong))


def test_an_unfinished_or_endless_function_is_reported_not_raised(monkeypatch):
    monkeypatch.setattr(exercise, "MOST_QUESTIONS", 20)  # sooner than a reader would hear it

    def unfinished(*_):
        raise NotImplementedError

    def endless(attempt, error, teacher):
        while True:
            teacher(attempt)

    assert "nothing is written yet" in repr(check_rewrite(unfinished))
    assert "does the loop stop at 'EOS'?" in repr(check_rewrite(endless))


def test_the_teacher_of_the_exercise_insists_where_an_error_stands():
    problem, order = Problem(digits=(3, 5, 2, 6), config=SumsConfig()), (3, 2, 1, 0)
    teacher = asks(problem, order)
    assert teacher([]) == "#3" and teacher(["#3", "6", "#2"]) == "1"
    assert teacher(["#3", "6", "#2", "3"]) == "WAIT"
    assert asks(problem, order, repair=0.3)(["#3", "6", "#2", "3"]) == "#1"


def test_a_rewrite_of_any_task_is_compared_with_the_package_s():
    sums = SumsConfig.late()
    problem, order = Problem(digits=(1,) * 8, config=sums), tuple(range(8))[::-1]
    teacher, want = asks(problem, order), []
    while "EOS" not in want:
        want.append(teacher(want))
    assert want[-1] == "EOS" and len(want) == sums.clean_length
    own = try_rewrite(solution, ["5", *want[1:]], 0, problem, order, want)
    assert own.tokens == tuple(want) and "token by token" in own.told
    short = try_rewrite(lambda *_: want[:-1], want, None, problem, order, want)
    assert "has nothing as token 20; the package writes EOS" in short.told
