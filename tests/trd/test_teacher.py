"""The exact teacher against enumeration over orders, and against what it is meant to say."""

import itertools
import math

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.trd.config import setting_config
from intuitive.trd.divergences import forward_kl
from intuitive.trd.sums import (
    SumsConfig,
    plans,
    sample_digits,
    sample_orders,
    sample_shifts,
    verify,
    write_traces,
)
from intuitive.trd.teacher import ExactTeacher, TeacherConfig

SMALL, LATE = SumsConfig(), SumsConfig.late()
EPS = TeacherConfig().smoothing


def teacher(sums=SMALL, **habits):
    return ExactTeacher(sums=sums, config=TeacherConfig(**habits))


def smoothed(p, sums=SMALL):
    return (1 - EPS) * p + EPS / sums.vocab_size


def draw(sums, b, *, seed, probability=0.0, right_to_left=0.0):
    """Digits, orders, shifts and the traces with them."""
    generator = seeded(seed)
    digits = sample_digits(sums, b, generator=generator)
    orders = sample_orders(sums, b, right_to_left=right_to_left, generator=generator)
    shifts = sample_shifts(sums, b, probability=probability, generator=generator)
    return digits, orders, shifts, write_traces(sums, digits, orders, shifts=shifts).tokens


def test_order_posterior_equals_enumeration():
    """All 24 orders, each with its prior; those that begin otherwise are struck out."""
    w, k = 0.5, SMALL.n_digits
    orders = list(itertools.permutations(range(k)))
    prior = {order: (1 - w) / len(orders) for order in orders}
    prior[tuple(range(k))] += w
    rows = torch.tensor(orders)
    digits = sample_digits(SMALL, len(rows), generator=seeded(0))
    p = teacher(left_to_right=w).logits(digits, write_traces(SMALL, digits, rows).tokens).exp()
    for row, order in enumerate(orders):
        for step in range(k):
            fits = {o: q for o, q in prior.items() if o[:step] == order[:step]}
            for index in range(k):
                weight = sum(q for o, q in fits.items() if o[step] == index)
                want = smoothed(weight / sum(fits.values()))
                got = p[row, 2 * step, SMALL.first_index + index].item()
                assert got == pytest.approx(want, rel=1e-5)


def test_probabilities_of_all_clean_traces_add_up_to_one():
    """Chain rule: with no smoothing a problem's traces are its 24 orders and nothing else."""
    orders = torch.tensor(list(itertools.permutations(range(4))))
    digits = torch.tensor([[3, 5, 6, 1]]).expand(24, 4)
    tokens = write_traces(SMALL, digits, orders).tokens
    log_p = teacher(smoothing=0.0).logits(digits, tokens)
    total = log_p.gather(-1, tokens[..., None]).sum((1, 2)).exp()  # PAD is certain
    want = torch.full((24,), 0.5 / 24)
    want[0] += 0.5
    torch.testing.assert_close(total, want)


@pytest.mark.parametrize("repair", [0.0, 0.3, 1.0])
def test_wait_has_its_weight_after_an_error_and_nowhere_else(repair):
    """For every step of the error and every delay, whatever the order."""
    sums, k = SMALL, SMALL.n_digits
    for bad in range(k):
        digits, orders, _, clean = draw(sums, 16, seed=bad)
        shifts = torch.zeros_like(digits)
        shifts[:, bad] = 1 + torch.randint(sums.modulus - 1, (16,), generator=seeded(bad))
        wrong = write_traces(sums, digits, orders, shifts=shifts).tokens
        for tokens, first in ((wrong, bad + 1), (clean, k + 1)):
            mass = teacher(repair=repair).logits(digits, tokens).exp()[..., sums.wait]
            for position in range(sums.clean_length):
                boundary = position % 2 == 0 and position <= 2 * k
                seen = boundary and position // 2 >= first
                want = smoothed(repair if seen else 0.0)
                torch.testing.assert_close(mass[:, position], torch.full((16,), want))


def test_totals_follow_what_is_written():
    """After an error every later number continues it: no silent repair."""
    digits, _, shifts, tokens = draw(SMALL, 64, seed=1, probability=0.4)
    p = teacher().logits(digits, tokens).exp()
    said = p.gather(-1, tokens[..., None])[..., 0]
    at_totals = said[:, 1:8:2]
    torch.testing.assert_close(
        at_totals, torch.where(shifts == 0, smoothed(1.0), smoothed(0.0)), rtol=1e-5, atol=1e-7
    )
    torch.testing.assert_close(said[:, 9], torch.full((64,), smoothed(1.0)))  # answer
    torch.testing.assert_close(said[:, 10:], torch.full((64, 10), smoothed(1.0)))  # EOS, PAD


def test_after_wait_the_way_back_is_certain():
    sums = SMALL
    digits, orders, _, _ = draw(sums, 32, seed=2)
    shifts = torch.tensor([0, 3, 0, 0]).expand(32, 4)
    tokens = write_traces(sums, digits, orders, shifts=shifts, wait_after=torch.full((32,), 3))
    p = teacher().logits(digits, tokens.tokens).exp()
    said = p.gather(-1, tokens.tokens[..., None])[..., 0]
    redone = said[:, 7:11]  # index and total of the wrong step, and of the one after it
    torch.testing.assert_close(redone, torch.full((32, 4), smoothed(1.0)))


def test_a_wait_without_cause_changes_nothing():
    digits, _, _, tokens = draw(SMALL, 32, seed=3)
    idle = torch.cat([tokens[:, :4], torch.full((32, 1), SMALL.wait), tokens[:, 4:-1]], dim=1)
    plain, after = (teacher().logits(digits, x) for x in (tokens, idle))
    torch.testing.assert_close(after[:, 5:12], plain[:, 4:11])


def test_a_lost_trace_is_ended():
    digits = torch.tensor([[3, 5, 6, 1]])
    lost = torch.tensor([[3, 3, 3]])  # a total where a step should stand
    p = teacher().logits(digits, lost).exp()
    torch.testing.assert_close(p[0, 1:, SMALL.eos], torch.full((2,), smoothed(1.0)))


@pytest.mark.parametrize("sums", [SMALL, LATE], ids=["small", "late"])
def test_rewrites_are_right_and_keep_the_order(sums):
    """Without smoothing always, for drafts of up to K errors and a wrong plan."""
    generator = seeded(4)
    digits, orders, shifts, _ = draw(sums, 200, seed=4, probability=0.3, right_to_left=0.7)
    plan_shifts = torch.randint(0, 4, (200,), generator=generator) if sums.plan else None
    drafts = write_traces(sums, digits, orders, shifts=shifts, plan_shifts=plan_shifts).tokens
    exact = teacher(sums, smoothing=0.0)
    rewrites = exact.sample(digits, drafts=drafts, generator=generator)
    verdict = verify(sums, digits, rewrites)
    assert verdict.correct.all() and (verdict.n_waits == 0).all()
    assert torch.equal(verdict.order, orders)
    assert rewrites.shape == (200, sums.trace_length)
    free = exact.sample(digits, drafts=drafts, keep_order=False, generator=generator)
    assert verify(sums, digits, free).correct.all()
    assert not torch.equal(verify(sums, digits, free).order, orders)


def test_a_broken_draft_gives_what_it_has():
    """Order up to the fault; with a plan nothing about it, since the end was never reached."""
    sums = LATE
    digits, orders, _, drafts = draw(sums, 100, seed=5)
    cut = drafts[:, :7]  # the plan and three steps
    exact = teacher(sums, smoothing=0.0)
    rewrites = exact.sample(digits, drafts=cut, generator=seeded(6))
    verdict = verify(sums, digits, rewrites)
    assert torch.equal(verdict.order[:, :3], orders[:, :3])
    first = exact.logits(digits, rewrites, drafts=cut)[:, 0].exp()
    right = first.gather(-1, plans(sums, digits)[:, None])
    torch.testing.assert_close(right, torch.full((100, 1), 0.6))


def test_a_wrong_plan_shows_only_at_the_end():
    sums = LATE
    digits, orders, _, _ = draw(sums, 50, seed=7)
    wrong = write_traces(sums, digits, orders, plan_shifts=torch.full((50,), 2)).tokens
    exact = teacher(sums, repair=0.3)
    wait = exact.logits(digits, wrong).exp()[..., sums.wait]  # [b, n]
    end = 1 + 2 * sums.n_digits  # before ANS
    torch.testing.assert_close(wait[:, end], torch.full((50,), smoothed(0.3, sums)))
    rest = torch.arange(sums.trace_length) != end
    torch.testing.assert_close(wait[:, rest], torch.full((50, 37), smoothed(0.0, sums)))
    # Before that it speaks as it does about the right plan, but for the sums themselves.
    right = write_traces(sums, digits, orders).tokens
    indices = slice(1, end, 2)
    torch.testing.assert_close(
        exact.logits(digits, wrong)[:, indices], exact.logits(digits, right)[:, indices]
    )
    # In hindsight it knows: with the draft in its context the first number is certain.
    plan = plans(sums, digits)[:, None]
    hindsight = exact.logits(digits, right, drafts=wrong)[:, 0].exp().gather(-1, plan)
    torch.testing.assert_close(hindsight, torch.full((50, 1), smoothed(1.0, sums)))


def test_a_solution_in_the_context_shows_a_wrong_plan_at_once():
    sums = LATE
    digits, orders, _, solution = draw(sums, 50, seed=8)
    wrong = write_traces(sums, digits, orders, plan_shifts=torch.full((50,), 2)).tokens
    p = teacher(sums).logits(digits, wrong, solutions=solution).exp()
    torch.testing.assert_close(p[:, 1, sums.wait], torch.full((50,), smoothed(0.3, sums)))
    follows = teacher(sums).logits(digits, solution, solutions=solution).exp()
    said = follows.gather(-1, solution[..., None])
    torch.testing.assert_close(said, torch.full_like(said, smoothed(1.0, sums)))
    # With a draft too the order is the draft's.
    drafts = write_traces(sums, digits, orders.flip(1)).tokens
    both = teacher(sums, smoothing=0.0)
    rewrites = both.sample(digits, drafts=drafts, solutions=solution, generator=seeded(0))
    assert torch.equal(verify(sums, digits, rewrites).order, orders.flip(1))


def test_own_solutions_err_and_mend_as_often_as_they_should():
    """Plan right 0.6, mended with 0.3 otherwise; four standard errors of 2,000 draws."""
    digits = sample_digits(LATE, 2000, generator=seeded(9))
    exact = teacher(LATE, smoothing=0.0)
    verdict = verify(LATE, digits, exact.sample(digits, generator=seeded(10)))
    assert verdict.well_formed.all()
    assert verdict.correct.double().mean().item() == pytest.approx(0.6 + 0.4 * 0.3, abs=0.04)
    assert (verdict.n_waits > 0).double().mean().item() == pytest.approx(0.4 * 0.3, abs=0.03)
    left = (verdict.order == torch.arange(8)).all(-1)
    assert left.double().mean().item() == pytest.approx(0.5, abs=0.045)


def test_scores_line_up_with_samples():
    """On its own samples the mean of −log p is the mean entropy; a shift by one would be far off.

    3,000 samples; the difference has mean 0 and its standard error is estimated from them.
    """
    digits = sample_digits(SMALL, 3000, generator=seeded(11))
    exact = teacher(smoothing=0.05)
    tokens = exact.sample(digits, generator=seeded(12))
    log_p = exact.logits(digits, tokens)
    ended = (tokens == SMALL.eos).int().cumsum(-1) - (tokens == SMALL.eos).int() > 0
    surprise = -log_p.gather(-1, tokens[..., None])[..., 0]
    entropy = -(log_p.exp() * log_p).sum(-1)
    gap = (surprise - entropy).masked_fill(ended, 0.0).sum(-1)
    assert abs(gap.mean().item()) < 4 * gap.std().item() / math.sqrt(3000)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3000, 20))


def test_prefix_failure_in_the_loss():
    """A student that never says WAIT pays λ ln(λ/ε') at every boundary after its error."""
    digits, orders, _, _ = draw(SMALL, 40, seed=13)
    shifts = torch.tensor([2, 0, 0, 0]).expand(40, 4)
    tokens = write_traces(SMALL, digits, orders, shifts=shifts).tokens
    mute = teacher(repair=0.0).logits(digits, tokens)
    kl = forward_kl(teacher(repair=0.3).logits(digits, tokens), mute)
    boundaries = torch.tensor([2, 4, 6, 8])
    assert (kl[:, boundaries] > 2).all()
    others = torch.ones(20, dtype=torch.bool)
    others[boundaries] = False
    assert (kl[:, others].abs() < 1e-5).all()


def test_whole_numbers_of_any_size():
    tokens = teacher().sample(DIGITS, generator=seeded(7))
    want = teacher().logits(DIGITS, tokens, drafts=tokens)
    got = teacher().logits(DIGITS.int(), tokens.to(torch.int16), drafts=tokens.int())
    assert torch.equal(got, want)


def test_reproducible_and_cancelled():
    digits = sample_digits(SMALL, 8, generator=seeded(0))
    first, second = (teacher().sample(digits, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(Cancelled):
        teacher().sample(digits, generator=seeded(1), stale=lambda: True)


DIGITS = torch.tensor([[3, 5, 6, 1]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: TeacherConfig(repair=1.2), r"repair=1.2 must lie in \[0, 1\]"),
        (lambda: TeacherConfig(plan_skill=-0.1), r"plan_skill=-0.1 must lie in \[0, 1\]"),
        (lambda: TeacherConfig(smoothing=1.0), r"smoothing=1.0 must lie in \[0, 1\)"),
        (
            lambda: teacher().logits(DIGITS, torch.full((1, 2), 18)),
            r"token ids from 18 to 18 must lie in \[0, 18\)",
        ),
        (lambda: teacher().logits(DIGITS, torch.zeros(1, 0).long()), "the rollout is empty"),
        (lambda: teacher().logits(DIGITS, torch.zeros(2, 3).long()), "2 traces for 1 problems"),
        (lambda: teacher().context(DIGITS, drafts=DIGITS.tile(2, 1)), "2 drafts for 1 problems"),
        (lambda: teacher().context(DIGITS + 9), r"must lie in \[0, modulus=7\)"),
        (
            lambda: teacher().sample(DIGITS, drafts=torch.zeros(1, 30).long(), generator=seeded(0)),
            "a draft of 30 tokens is longer than the 20",
        ),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("setting", ["small", "late"])
def test_the_program_draws_along_what_it_draws_as_a_sampler(setting):
    """`write` stops early; with one seed, 3, tokens are those of `sample`, and p is `logits`."""
    sums = setting_config(setting).sums
    teacher = ExactTeacher(sums=sums, config=TeacherConfig(repair=0.5, smoothing=0.01))
    digits = sample_digits(sums, 16, generator=seeded(0))
    orders = sample_orders(sums, 16, right_to_left=1.0, generator=seeded(1))
    shifts = torch.zeros_like(digits).index_fill(1, torch.tensor([1]), 2)
    drafts = write_traces(sums, digits, orders, shifts=shifts).tokens
    generator = seeded(3)
    found, p = teacher.write(
        teacher.context(digits, drafts=drafts),
        sums.trace_length,
        lambda p: p.multinomial(1, generator=generator)[:, 0],
    )
    n = found.shape[1]
    want = teacher.sample(digits, generator=seeded(3), drafts=drafts)
    assert torch.equal(found, want[:, :n]) and (want[:, n:] == sums.pad).all()
    torch.testing.assert_close(p.log(), teacher.logits(digits, found, drafts=drafts))


@pytest.mark.parametrize("setting", ["small", "late"])
def test_a_draft_of_padding_tells_the_program_nothing(setting):
    sums = setting_config(setting).sums
    teacher = ExactTeacher(sums=sums)
    digits = sample_digits(sums, 8, generator=seeded(0))
    tokens = teacher.sample(digits, generator=seeded(1))
    padding = torch.full_like(tokens, sums.pad)
    want = teacher.logits(digits, tokens)
    assert torch.equal(teacher.logits(digits, tokens, drafts=padding), want)
