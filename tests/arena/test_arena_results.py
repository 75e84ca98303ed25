"""What is made of a contest's cells."""

import pytest

from intuitive.arena.contest import Timing
from intuitive.arena.results import Cell, Contest, Texts


def cell(method, hits, *, task="needle", ratio=4, seed=0, **more):
    fields = {"nats": 1.0, "resident": 0.25, "read": 0.25, "elsewhere": 0.0, "kept": None}
    fields |= {"found": None, "own": "", "n": 100}
    return Cell(task=task, seed=seed, method=method, ratio=ratio, hits=hits, **(fields | more))


def contest(*cells, texts=(), times=()):
    return Contest(cells=cells, texts=texts, times=times, absent=(), faults=())


HARD = cell("dense", "0001", task="exact"), cell("kvzip", "1111", task="exact")


def test_a_task_that_dense_cannot_do_is_left_out_and_named():
    found = contest(cell("dense", "1111"), cell("kvzip", "1100"), *HARD)
    assert found.ranked(100) == ("needle",)
    assert found.left_out(100) == ("exact",)
    assert found.score("kvzip", 4, n=100).mean == 0.5


def test_exactly_four_of_five_is_enough():
    assert contest(cell("dense", "11110")).ranked(100) == ("needle",)
    assert contest(cell("dense", "11100")).ranked(100) == ()


def test_a_score_is_the_mean_of_tasks_and_its_range_that_of_seeds():
    cells = [cell("dense", "11", task=t, seed=s) for t in ("needle", "topic") for s in (0, 1)]
    cells += [cell("lsa", hits, task=t, seed=s) for t, s, hits in (
        ("needle", 0, "11"), ("needle", 1, "00"), ("topic", 0, "10"), ("topic", 1, "10"),
    )]  # fmt: skip
    score = contest(*cells).score("lsa", 4, n=100)
    assert (score.mean, score.low, score.high) == (0.5, 0.25, 0.75)


def test_who_misses_a_task_has_no_score():
    found = contest(cell("dense", "11"), cell("dense", "11", task="topic"), cell("lsa", "11"))
    assert found.score("lsa", 4, n=100) is None
    assert found.score("lsa", 8, n=100) is None


def test_dense_is_the_same_at_every_budget():
    found = contest(cell("dense", "11"))
    assert found.share("needle", 100, "dense", 16) == 1.0


def test_the_gist_is_measured_between_nothing_and_everything():
    rows = [cell(m, "0", task="gist", nats=x) for m, x in
            (("dense", 2.0), ("nothing", 4.0), ("lclm", 3.5))]  # fmt: skip
    found = contest(cell("dense", "1"), *rows)
    assert found.gist("lclm", 4, n=100) == pytest.approx(0.25)
    assert found.gist("dense", 4, n=100) == 1.0
    assert "gist" not in found.tasks(100)


def test_a_failing_sentence_is_made_of_the_worst_task():
    found = contest(
        cell("dense", "1111"), cell("dense", "1111", task="exact"),
        cell("kvzip", "1111"), cell("kvzip", "1000", task="exact", kept=0.31),
    )  # fmt: skip
    told = found.failing("kvzip", 4, n=100)
    assert "an exact string, 25% where dense has 100%" in told
    assert "holds 31%" in told
    assert "keeps up" in contest(cell("dense", "1111"), cell("lsa", "1111")).failing(
        "lsa", 4, n=100
    )
    assert "takes no part" in found.failing("lclm", 4, n=100)


def test_depth_tells_the_last_quarter_from_the_rest():
    texts = (Texts("needle", 100, 0, (0.1, 0.8, 0.5, 0.9)),)
    found = contest(cell("dense", "1111"), cell("window", "0101"), texts=texts)
    assert found.by_depth("needle", 100, "window", 4) == (1.0, 0.0)
    assert "100% where the answer stands in the last quarter" in found.failing("window", 4, n=100)


def test_times_are_found_by_method_budget_and_length():
    times = tuple(
        Timing(method=m, ratio=r, n=100, ttft_ms=1.0 * r, token_ms=2.0)
        for m, r in (("dense", 4), ("lclm", 4), ("lclm", 8))
    )
    found = contest(cell("dense", "1"), times=times)
    assert found.time("lclm", 8, n=100).ttft_ms == 8
    assert found.time("dense", 16, n=100).ttft_ms == 4
    assert found.time("lclm", 16, n=100) is None
