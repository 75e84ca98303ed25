"""The exercise: which places stay in a cache."""

import pytest

from intuitive.arena.exercise import FIRST, NEWEST, ORDER, check_keep, kept_places, places_of


def test_the_packages_own_passes_all_checks():
    report = check_keep(kept_places)
    assert report.n_passed == len(report.checks)


@pytest.mark.parametrize("n", [30, 50, 200])
def test_first_newest_and_best_stay(n):
    scores = [(i * 37 % 101) / 101 for i in range(n)]
    got = kept_places(scores, 60)
    assert len(got) == min(n, 60)
    assert got == sorted(set(got))
    assert set(range(min(FIRST, n))) <= set(got)
    assert set(range(max(n - NEWEST, 0), n)) <= set(got)
    if n == 200:
        middle = range(FIRST, n - NEWEST)
        out = [scores[i] for i in middle if i not in got]
        assert min(scores[i] for i in middle if i in got) >= max(out)


def test_an_unfinished_or_wrong_function_is_told_why():
    none = repr(check_keep(lambda scores, budget: None))
    assert (
        none.startswith("Not begun: keep returns nothing. Return first") and "not yet" not in none
    )
    some = check_keep(lambda scores, budget: None if budget > 50 else [0])
    assert some.begun and "keep returned None" in repr(some)
    assert "only 38 fit" in repr(check_keep(lambda scores, budget: range(len(scores))))
    assert "ZeroDivisionError" in repr(check_keep(lambda scores, budget: 1 / 0))
    newest = check_keep(lambda scores, budget: list(range(len(scores)))[-budget:])
    assert 0 < newest.n_passed < len(newest.checks)


def test_order_is_checked_by_order_alone():
    """A rule of the reader's own, such as whole runs, keeps it; the same places reversed do not."""
    passed = {
        rule: {check.rule: check.passed for check in check_keep(keep).checks}[ORDER]
        for rule, keep in {
            "runs": lambda scores, budget: list(range(0, min(budget, len(scores)))),
            "reversed": lambda scores, budget: kept_places(scores, budget)[::-1],
        }.items()
    }
    assert passed == {"runs": True, "reversed": False}


@pytest.mark.parametrize(
    ("returned", "told"),
    [([], "at least one"), ([9], "go from 0 to 7"), ([1, 1], "twice"), ("ab", "whole numbers")],
)
def test_what_cannot_be_kept_is_refused(returned, told):
    with pytest.raises(ValueError, match=told):
        places_of(returned, 8, 4)
