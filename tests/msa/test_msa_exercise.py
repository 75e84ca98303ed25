import math

import pytest

from intuitive.msa.exercise import check_select


def solution(scores, n_selected, n_local):
    visible = [block for block, score in enumerate(scores) if score > -math.inf]
    forced = visible[len(visible) - n_local :]
    others = sorted((b for b in visible if b not in forced), key=lambda b: (-scores[b], b))
    return sorted(forced + others[: n_selected - len(forced)])


def test_a_right_solution_passes_every_check():
    report = check_select(solution)
    assert report.n_passed == len(report.checks) == 6
    assert repr(report).startswith("6 of 6 checks pass\n  pass: ")


def unordered(scores, n_selected, n_local):
    return solution(scores, n_selected, n_local)[::-1]


def sees_the_future(scores, n_selected, n_local):
    return sorted(range(len(scores)), key=lambda b: -scores[b])[: n_selected + 2]


def local_on_top(scores, n_selected, n_local):
    return sorted({*solution(scores, n_selected, 0), *solution(scores, n_selected, n_local)})


def local_forgotten(scores, n_selected, n_local):
    return solution(scores, n_selected, 0)


def ties_to_the_higher(scores, n_selected, n_local):
    flipped = solution([s + 1e-9 * b for b, s in enumerate(scores)], n_selected, n_local)
    return flipped


def only_the_highest(scores, n_selected, n_local):
    """The naive selection: no local block, and no look at what cannot be seen."""
    return sorted(sorted(range(len(scores)), key=lambda b: -scores[b])[:n_selected])


def all_of_none(scores, n_selected, n_local):
    """A slice from -0 on, which is everything."""
    visible = [block for block, score in enumerate(scores) if score > -math.inf]
    forced = visible[-n_local:]
    others = sorted((b for b in visible if b not in forced), key=lambda b: (-scores[b], b))
    return sorted(forced + others[: max(n_selected - len(forced), 0)])


@pytest.mark.parametrize(
    ("wrong", "failing"),
    [
        (unordered, {0, 2, 3, 4, 5}),
        (sees_the_future, {0, 1, 2, 3, 4, 5}),
        (only_the_highest, {1, 2, 3}),
        (local_on_top, {2}),
        (local_forgotten, {2}),
        (ties_to_the_higher, {4}),
        (all_of_none, {5}),
        (lambda scores, n_selected, n_local: [0][: n_local + 1], {0, 2, 3, 4, 5}),
    ],
)
def test_wrong_solutions_fail_where_they_are_wrong(wrong, failing):
    report = check_select(wrong)
    assert {i for i, check in enumerate(report.checks) if not check.passed} == failing


def test_a_finding_names_what_was_wrong():
    future = check_select(only_the_highest).checks[1].finding
    assert future.endswith("should be of [0, 1, 2] only; [0, 1, 2, 3] has [3].")
    none = check_select(all_of_none).checks[5].finding
    assert none.endswith("not [0, 1, 2, 3]. Here n_local is 0, and scores[-0:] is the whole list.")


def test_unfinished_and_broken_functions_are_reported_not_raised():
    def unfinished(scores, n_selected, n_local):
        raise NotImplementedError

    assert repr(check_select(unfinished)).startswith("0 of 6 checks pass\n  not yet: ")
    nothing = repr(check_select(lambda *_: None))
    assert nothing.startswith("0 of 6")
    assert nothing.count("select returned None; return a list") == 1
    assert check_select(lambda *_: 3).checks[0].finding.endswith("is not iterable")
    assert "raised ZeroDivisionError" in check_select(lambda *_: 1 / 0).checks[0].finding
    assert "should be [1, 3, 4], not [0]." in check_select(lambda *_: [0]).checks[0].finding


def test_the_reader_cannot_spoil_the_cases():
    check_select(lambda scores, *_: scores.clear() or [])
    assert check_select(solution).n_passed == 6
