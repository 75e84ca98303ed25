"""Running sums: traces written by hand, every malformed kind, and the batch against the reader."""

import inspect
import itertools

import numpy as np
import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.trd.sums import (
    Problem,
    SumsConfig,
    Wait,
    answers,
    check_rows,
    parse_trace,
    plans,
    prompts,
    refine_prompts,
    sample_digits,
    sample_orders,
    sample_repair_steps,
    sample_shifts,
    verify,
    write_traces,
)

SMALL, LATE = SumsConfig(), SumsConfig(n_digits=3, modulus=5, plan=True)
SETTINGS = pytest.mark.parametrize("config", [SMALL, LATE, SumsConfig.late()], ids=str)
PROBLEM = Problem(digits=(3, 5, 6, 1), config=SMALL)  # the answer is 1
PLANNED = Problem(digits=(4, 1, 3), config=LATE)  # large: 4 and 3, so plan 2; target 0


def tokens(text, config=SMALL):
    """Token ids of words such as "#2 5 WAIT"."""
    ids = {config.name(token): token for token in range(config.vocab_size)}
    return [ids[word] for word in text.split()]


def words(config, row):
    return " ".join(config.name(token) for token in row.tolist() if token != config.pad)


RIGHT = "#2 6 #0 2 #3 3 #1 1 ANS 1 EOS"
WRONG = "#2 6 #0 4 #3 5 #1 3 ANS 3 EOS"  # 4 should be 2; the rest follows from it
MENDED = "#2 6 #0 4 #3 5 WAIT #0 2 #3 3 #1 1 ANS 1 EOS"


def test_the_prompt_and_one_vocabulary():
    assert SMALL.vocab_size == 7 + 4 + 7
    names = [SMALL.name(token) for token in range(SMALL.vocab_size)]
    assert len(set(names)) == SMALL.vocab_size
    assert words(SMALL, prompts(SMALL, torch.tensor([PROBLEM.digits]))[0]) == "BOS 3 5 6 1 ="
    assert words(LATE, prompts(LATE, torch.tensor([PLANNED.digits]))[0]) == "BOS 4 1 3 0 ="
    for config in (SMALL, LATE):
        digits = sample_digits(config, 2, generator=seeded(0))
        assert prompts(config, digits).shape == (2, config.prompt_length)


def test_a_right_trace():
    trace = parse_trace(tokens(RIGHT + " PAD PAD"), PROBLEM)
    assert trace.correct and trace.well_formed and trace.answer_correct
    assert trace.order == (2, 0, 3, 1)
    assert trace.totals == (6, 2, 3, 1)
    assert (trace.first_error, trace.waits, trace.answer, trace.reason) == (None, (), 1, None)


def test_a_wrong_total_and_what_follows_from_it():
    trace = parse_trace(tokens(WRONG), PROBLEM)
    assert trace.well_formed and not trace.correct and not trace.answer_correct
    assert trace.first_error == 3
    assert trace.answer == 3


def test_two_errors_that_cancel_are_not_correct():
    trace = parse_trace(tokens("#2 6 #0 4 #3 5 #1 1 ANS 1 EOS"), PROBLEM)
    assert trace.answer_correct and not trace.correct


def test_an_answer_beside_its_total_is_an_error():
    trace = parse_trace(tokens("#2 6 #0 2 #3 3 #1 1 ANS 4 EOS"), PROBLEM)
    assert trace.first_error == 9 and not trace.correct


def test_a_repair():
    trace = parse_trace(tokens(MENDED), PROBLEM)
    assert trace.correct
    assert trace.first_error == 3  # taken back, but it happened
    assert trace.waits == (Wait(position=6, error_stands=True, kept=1),)
    assert trace.order == (2, 0, 3, 1)


def test_wait_without_cause_or_without_going_back():
    trace = parse_trace(
        tokens("WAIT #2 6 WAIT WAIT #0 2 #3 3 WAIT #3 3 #1 1 WAIT ANS 1 EOS"), PROBLEM
    )
    assert trace.correct
    assert [wait.error_stands for wait in trace.waits] == [False] * 5
    assert [wait.kept for wait in trace.waits] == [None, None, None, 2, None]


def test_going_back_past_an_error_is_no_repair_of_an_earlier_one():
    trace = parse_trace(tokens("#2 5 #0 1 #3 3 WAIT #3 2 #1 0 ANS 0 EOS"), PROBLEM)
    assert trace.well_formed and not trace.correct  # 5 should be 6 and still stands
    assert trace.first_error == 1


def test_a_plan_that_shows_late():
    right = parse_trace(tokens("2 #1 3 #0 2 #2 0 ANS 0 EOS", LATE), PLANNED)
    assert right.correct and right.plan == 2
    wrong = parse_trace(tokens("1 #1 2 #0 1 #2 4 ANS 4 EOS", LATE), PLANNED)
    assert wrong.first_error == 0 and wrong.well_formed and not wrong.correct
    mended = parse_trace(tokens("1 #1 2 #0 1 #2 4 WAIT 2 #1 3 #0 2 #2 0 ANS 0 EOS", LATE), PLANNED)
    assert mended.correct and mended.plan == 2
    assert mended.waits == (Wait(position=7, error_stands=True, kept=-1),)
    guessed = parse_trace(tokens("1 #1 2 #0 1 #2 4 ANS 0 EOS", LATE), PLANNED)
    assert guessed.answer_correct and not guessed.correct  # copied from the prompt


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ("3", 0, "3 where a step should stand"),
        ("EOS", 0, "EOS where a step should stand"),
        ("PAD PAD", 0, "PAD where a step should stand"),
        ("#2 #0", 1, "#0 where a total should stand"),
        ("#2 WAIT", 1, "WAIT where a total should stand"),
        ("#2 6 #0 2 #2 1", 4, "index 2 is visited again without WAIT"),
        ("#2 6 WAIT 3", 3, "3 where a step should stand"),
        ("#2 6 WAIT EOS", 3, "EOS where a step should stand"),
        ("#2 6 ANS 6 EOS", 2, "ANS after 1 of 4 digits"),
        ("#2 6 WAIT ANS", 3, "ANS after 1 of 4 digits"),
        ("#2 6 #0 2 #3 3 #1 1 ANS WAIT", 9, "WAIT where the answer should stand"),
        ("#2 6 #0 2 #3 3 #1 1 ANS 1 1", 10, "1 where EOS should stand"),
        (RIGHT + " #0", 11, "#0 where PAD should stand"),
        (RIGHT + " EOS", 11, "EOS where PAD should stand"),
        ("#2 6 #0 2 #3 3 #1 1 ANS 1", 10, "the trace ends where EOS should follow"),
        ("#2", 1, "the trace ends where a total should follow"),
        ("#2 6 WAIT", 3, "the trace ends where a step should follow"),
    ],
)
def test_malformed_traces_are_reported(text, at, reason):
    trace = parse_trace(tokens(text), PROBLEM)
    assert not trace.well_formed and not trace.correct
    assert (trace.malformed_at, trace.reason) == (at, reason)


def test_malformed_with_a_plan():
    trace = parse_trace(tokens("#1", LATE), PLANNED)
    assert trace.reason == "#1 where a plan should stand" and trace.plan is None


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([], "the rollout is empty"),
        (torch.zeros(0, dtype=torch.int64), "the rollout is empty"),
        ([0, 18], r"token ids from 0 to 18 must lie in \[0, 18\)"),
        ([-1, 3], r"token ids from -1 to 3"),
        ([0.5], "token ids are integers"),
        (torch.zeros(2, 3, dtype=torch.int64), r"one trace \[n\] is needed"),
        (RIGHT.split(), r"tokens=\['#2', .* must be one row of integers: pass a list"),
        ([[1], [2, 3]], r"tokens=\[\[1\], \[2, 3\]\] must be one row"),
        ([2**63], f"tokens=.{2**63}. must be one row"),
    ],
)
def test_parse_trace_refuses(bad, says):
    with pytest.raises(ValueError, match=says):
        parse_trace(bad, PROBLEM)


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor], ids=["tuple", "array", "tensor"])
def test_a_row_of_integers_of_any_kind(kind):
    want = parse_trace(tokens(RIGHT), PROBLEM)
    assert parse_trace(kind(tokens(RIGHT)), PROBLEM) == want
    small = torch.tensor(tokens(RIGHT), dtype=torch.uint16)
    assert parse_trace(small, PROBLEM) == want
    verdict = verify(SMALL, DIGITS.to(torch.int16), small.to(torch.int8)[None])
    assert verdict.correct.item() and verdict.order.tolist() == [list(want.order)]


@pytest.mark.parametrize(
    ("digits", "says"),
    [
        ((1.5, 2, 3, 4), "digits are torch.float32"),
        ((True, False, True, True), "digits are torch.bool"),
        (("a", 1, 2, 3), r"digits=\('a', 1, 2, 3\) must be one row of integers"),
        (None, "digits=None must be one row of integers"),
    ],
)
def test_problems_of_integers_alone(digits, says):
    """Past the type checks of pytest, which learners do without."""
    problem = object.__new__(Problem)
    object.__setattr__(problem, "config", SMALL)
    object.__setattr__(problem, "digits", digits)
    with pytest.raises(ValueError, match=says):
        problem.__post_init__()


def test_a_problem_is_needed():
    with pytest.raises(ValueError, match=r"problem=\(3, 5, 6, 1\) must be a Problem\(digits="):
        inspect.unwrap(parse_trace)(tokens(RIGHT), PROBLEM.digits)


def assert_same(config, digits, rows):
    """`verify` says of every row what `parse_trace` says."""
    verdict = verify(config, digits, rows)
    for row in range(len(rows)):
        problem = Problem(digits=tuple(digits[row].tolist()), config=config)
        trace = parse_trace(rows[row], problem)
        n = len(trace.order)
        got = {name: getattr(verdict, name)[row].tolist() for name in verdict.__annotations__}
        idle = sum(not wait.error_stands for wait in trace.waits)
        assert got == {
            "correct": trace.correct,
            "answer_correct": trace.answer_correct,
            "well_formed": trace.well_formed,
            "order": [*trace.order, *[-1] * (config.n_digits - n)],
            "plan": trace.plan or 0,
            "first_error": -1 if trace.first_error is None else trace.first_error,
            "n_waits": len(trace.waits),
            "n_idle_waits": idle,
            "length": int((rows[row] != config.pad).sum()),
        }, words(config, rows[row])


@pytest.mark.parametrize("plan", [False, True])
def test_batch_and_reader_agree_on_every_short_trace(plan):
    config = SumsConfig(n_digits=1, modulus=2, plan=plan)
    every = torch.tensor(list(itertools.product(range(config.vocab_size), repeat=3)))
    assert_same(config, torch.ones(len(every), 1, dtype=torch.int64), every)


def draw(config, b, *, seed):
    """Digits, orders and traces, most with errors, some with a repair."""
    generator = seeded(seed)
    digits = sample_digits(config, b, generator=generator)
    orders = sample_orders(config, b, right_to_left=0.5, generator=generator)
    shifts = sample_shifts(config, b, probability=0.3, generator=generator)
    wrong = shifts != 0
    seen = torch.where(wrong.any(-1), wrong.int().argmax(-1) + 1, 0)
    plan_shifts = None
    if config.plan:
        plan_shifts = torch.randint(0, 3, (b,), generator=generator)
        seen = torch.where((seen == 0) & (plan_shifts > 0), config.n_digits, seen)
    wait_after = sample_repair_steps(config, seen, repair=0.5, generator=generator)
    traces = write_traces(
        config, digits, orders, shifts=shifts, plan_shifts=plan_shifts, wait_after=wait_after
    )
    return digits, orders, shifts, wait_after, traces


@SETTINGS
def test_batch_and_reader_agree_on_damaged_traces(config):
    digits, *_, traces = draw(config, 300, seed=1)
    generator = seeded(2)
    rows = traces.tokens
    noise = torch.randint(config.vocab_size, rows.shape, generator=generator)
    damage = torch.rand(rows.shape, generator=generator) < 0.04
    assert_same(config, digits, torch.where(damage, noise, rows))


@SETTINGS
def test_written_traces_are_what_was_asked_for(config):
    digits, orders, shifts, wait_after, traces = draw(config, 200, seed=3)
    verdict = verify(config, digits, traces.tokens)
    assert verdict.well_formed.all()
    assert torch.equal(verdict.order, orders)
    assert torch.equal(verdict.n_waits, (wait_after > 0).long())
    assert (verdict.n_idle_waits == 0).all()
    first = torch.where(traces.planted.any(-1), traces.planted.int().argmax(-1), -1)
    assert torch.equal(verdict.first_error, first)
    untouched = (shifts == 0).all(-1) & (verdict.first_error < 0)
    assert verdict.correct[untouched].all() and untouched.any()
    one_fault = traces.planted.sum(-1) == 1
    assert torch.equal(verdict.correct[one_fault], (wait_after > 0)[one_fault])


def test_a_trace_written_out():
    digits, order = torch.tensor([PROBLEM.digits]), torch.tensor([[2, 0, 3, 1]])
    shifts = torch.tensor([[0, 2, 0, 0]])
    clean = write_traces(SMALL, digits, order)
    wrong = write_traces(SMALL, digits, order, shifts=shifts)
    mended = write_traces(SMALL, digits, order, shifts=shifts, wait_after=torch.tensor([3]))
    assert words(SMALL, clean.tokens[0]) == RIGHT
    assert words(SMALL, wrong.tokens[0]) == WRONG
    assert words(SMALL, mended.tokens[0]) == MENDED
    assert mended.planted[0].nonzero().tolist() == [[3]]
    assert clean.tokens.shape == (1, SMALL.trace_length)
    assert len(RIGHT.split()) == SMALL.clean_length


def test_the_longest_trace_fits():
    for config in (SMALL, LATE):
        digits = sample_digits(config, 1, generator=seeded(0))
        order = torch.arange(config.n_digits)[None]
        shift = torch.ones(1, dtype=torch.int64)
        late = torch.tensor([config.n_digits])
        if config.plan:
            longest = write_traces(config, digits, order, plan_shifts=shift, wait_after=late)
        else:
            shifts = torch.zeros_like(digits)
            shifts[:, 0] = 1
            longest = write_traces(config, digits, order, shifts=shifts, wait_after=late)
        assert verify(config, digits, longest.tokens).correct.all()
        assert longest.tokens[0, -1] == config.eos


def test_plans_and_answers_of_a_batch_match_those_of_a_problem():
    config = SumsConfig.late()
    digits = sample_digits(config, 50, generator=seeded(4))
    for row, plan, answer in zip(
        digits.tolist(), plans(config, digits), answers(config, digits), strict=True
    ):
        problem = Problem(digits=tuple(row), config=config)
        assert (problem.plan, problem.answer) == (plan, answer)
        assert problem.plan == sum(d >= 11.5 for d in row)


def test_distinct_problems():
    every = sample_digits(LATE, 125, generator=seeded(0), distinct=True)
    assert len({tuple(row) for row in every.tolist()}) == 125
    many = sample_digits(SumsConfig.large(), 5000, generator=seeded(0), distinct=True)
    assert len({tuple(row) for row in many.tolist()}) == 5000
    with pytest.raises(ValueError, match="b=126 distinct problems are more than the 125"):
        sample_digits(LATE, 126, generator=seeded(0), distinct=True)


def test_shares_of_the_samplers():
    """Within four standard errors of 4,000 draws."""
    n, k = 4000, SMALL.n_digits
    orders = sample_orders(SMALL, n, left_to_right=0.5, right_to_left=0.2, generator=seeded(0))
    assert torch.equal(orders.sort(-1).values, torch.arange(k).expand(n, k))
    for row, share in (([0, 1, 2, 3], 0.5), ([3, 2, 1, 0], 0.2), ([2, 0, 1, 3], 0.0)):
        want = share + 0.3 / 24
        got = (orders == torch.tensor(row)).all(-1).double().mean().item()
        assert got == pytest.approx(want, abs=4 * (want * (1 - want) / n) ** 0.5)
    shifts = sample_shifts(SMALL, n, probability=0.15, generator=seeded(1))
    assert (shifts != 0).double().mean().item() == pytest.approx(0.15, abs=0.012)
    assert set(shifts.flatten().tolist()) == set(range(7))
    seen = torch.full((n,), 2)
    waits = sample_repair_steps(SMALL, seen, repair=0.3, generator=seeded(2))
    for step, want in ((2, 0.3), (3, 0.21), (4, 0.147), (0, 0.343), (1, 0.0)):
        got = (waits == step).double().mean().item()
        assert got == pytest.approx(want, abs=4 * (want * (1 - want) / n) ** 0.5)
    assert (sample_repair_steps(SMALL, 0 * seen, repair=1, generator=seeded(3)) == 0).all()


def test_no_problems_no_traces():
    none = torch.zeros(0, SMALL.n_digits, dtype=torch.int64)
    assert write_traces(SMALL, none, none).tokens.shape == (0, SMALL.trace_length)


def test_refine_prompts():
    draft = torch.tensor([tokens(WRONG)])
    prompt = refine_prompts(SMALL, torch.tensor([PROBLEM.digits]), draft)
    assert prompt.shape == (1, SMALL.refine_length)
    assert words(SMALL, prompt[0]) == f"BOS 3 5 6 1 = {WRONG} REV"
    assert prompt[0, -1] == SMALL.rev


DIGITS = torch.tensor([PROBLEM.digits])
ORDER = torch.tensor([[0, 1, 2, 3]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SumsConfig(n_digits=0), "n_digits=0 must be at least 1"),
        (lambda: SumsConfig(n_digits=8, plan=True), "modulus=7 must be above n_digits=8"),
        (lambda: Problem(digits=(1, 2), config=SMALL), r"n_digits=4\] are needed"),
        (lambda: Problem(digits=(1, 2, 3, 7), config=SMALL), r"from 1 to 7 must lie in \[0, mod"),
        (lambda: prompts(SMALL, DIGITS - 2), "digits from -1 to 4"),
        (
            lambda: refine_prompts(SMALL, DIGITS, torch.ones(1, 21, dtype=torch.int64)),
            "a draft of 21 tokens is longer than the 20",
        ),
        (
            lambda: refine_prompts(SMALL, DIGITS, torch.ones(2, 3, dtype=torch.int64)),
            "2 drafts for 1 problems",
        ),
        (lambda: verify(SMALL, DIGITS, torch.full((1, 3), 99)), "token ids from 99 to 99"),
        (lambda: verify(SMALL, DIGITS, torch.ones(2, 3, dtype=torch.int64)), "2 traces for 1"),
        (lambda: check_rows(SMALL, DIGITS, torch.ones(3).long()), r"shape \(3,\): \[b, n\]"),
        (lambda: verify(SMALL, DIGITS, torch.ones(1, 0, dtype=torch.int64)), "rollout is empty"),
        (lambda: write_traces(SMALL, DIGITS, 0 * ORDER), "must be permutations"),
        (
            lambda: write_traces(SMALL, DIGITS, ORDER, wait_after=torch.tensor([2])),
            "row 0 says WAIT after 2 of 4 steps, where no error can be seen",
        ),
        (
            lambda: write_traces(SMALL, DIGITS, ORDER, plan_shifts=torch.tensor([1])),
            "plan=False",
        ),
        (
            lambda: sample_orders(
                SMALL, 1, left_to_right=0.8, right_to_left=0.3, generator=seeded(0)
            ),
            "together at most 1",
        ),
        (
            lambda: sample_shifts(SMALL, 1, probability=2, generator=seeded(0)),
            r"probability=2 must lie in \[0, 1\]",
        ),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()
