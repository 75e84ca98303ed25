"""Divergences against sums written out, against their analytic gradients, and at their edges."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.trd import divergences as d
from intuitive.trd.divergences import inputs, pieces

INF = math.inf
SAMPLED = (d.policy_gradient_loss, d.monte_carlo_forward_kl, d.k3)
WHOLE = {
    "forward": d.forward_kl,
    "reverse": d.reverse_kl,
    "js": lambda t, s: d.jensen_shannon(t, s, 0.3),
    "clipped": lambda t, s: d.clipped_forward_kl(t, s, 0.4),
    "entrywise": lambda t, s: d.entrywise_clipped_forward_kl(t, s, 0.2),
    "entropy": d.entropy_weighted_forward_kl,
    "top1": lambda t, s: d.topk_reverse_kl(t, s, 1),
    "top1 tail": lambda t, s: d.topk_reverse_kl(t, s, 1, True),
}


def draw(v, *, seed=0, rows=6, scale=2.0, holes=0.0):
    """Two sets of float64 logits [rows, v]; a share of `holes` is −inf, never a whole row."""
    generator = seeded(seed)
    pair = []
    for _ in range(2):
        logits = scale * torch.randn(rows, v, dtype=torch.float64, generator=generator)
        hole = torch.rand(rows, v, generator=generator) < holes
        hole[torch.arange(rows), torch.randint(v, (rows,), generator=generator)] = False
        pair.append(logits.masked_fill(hole, -INF))
    return pair


def probabilities(logits):
    """Softmax of one row by hand, as a list."""
    weights = [math.exp(x) for x in logits.tolist()]
    return [w / sum(weights) for w in weights]


def by_hand(p, q):
    """KL(p ‖ q) of two lists."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0:
            total += a * math.log(a / b) if b > 0 else INF
    return total


def topk_by_hand(t, s, k, tail):
    best = sorted(range(len(t)), key=lambda i: (-t[i], i))[:k]
    rest = [i for i in range(len(t)) if i not in best]
    top_t, top_s = [t[i] for i in best], [s[i] for i in best]
    if tail:
        return by_hand([*top_s, sum(s[i] for i in rest)], [*top_t, sum(t[i] for i in rest)])
    if sum(top_s) == 0:
        return INF
    return by_hand([x / sum(top_s) for x in top_s], [x / sum(top_t) for x in top_t])


@pytest.mark.parametrize("holes", [0.0, 0.4])
@pytest.mark.parametrize("v", [1, 2, 7, 50])
def test_values_equal_sums_written_out(v, holes):
    teacher, student = draw(v, seed=v, holes=holes)
    k = max(1, v // 3)
    for row in range(len(teacher)):
        t, s = probabilities(teacher[row]), probabilities(student[row])
        mix = [0.3 * a + 0.7 * b for a, b in zip(t, s, strict=True)]
        kl = by_hand(t, s)
        terms = [a * math.log(a / b) if b else INF for a, b in zip(t, s, strict=True) if a]
        entropy = -sum(a * math.log(a) for a in t if a)
        want = {
            "forward": kl,
            "reverse": by_hand(s, t),
            "js": 0.3 * by_hand(t, mix) + 0.7 * by_hand(s, mix),
            "clipped": min(kl, 0.4),
            "entrywise": sum(min(term, 0.2) for term in terms),
            "entropy": kl * (1 - entropy / math.log(v)) if v > 1 else kl,
            "top1": topk_by_hand(t, s, 1, False),
            "top1 tail": topk_by_hand(t, s, 1, True),
        }
        got = {name: float(f(teacher[row], student[row])) for name, f in WHOLE.items()}
        assert got == pytest.approx(want, abs=1e-12)
        for tail in (False, True):
            got = float(d.topk_reverse_kl(teacher[row], student[row], k, tail))
            assert got == pytest.approx(topk_by_hand(t, s, k, tail), abs=1e-12)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_no_value_and_no_gradient_is_nan(name, holes):
    teacher, student = draw(9, seed=3, rows=40, holes=holes)
    student.requires_grad_()
    value = WHOLE[name](teacher, student)
    assert value.shape == (40,)
    assert not value.isnan().any()
    value.sum().backward()
    assert student.grad.isfinite().all()
    assert (student.grad[student == -INF] == 0).all()  # an impossible token cannot be moved


@pytest.mark.parametrize("name", WHOLE)
def test_gradients_equal_finite_differences(name):
    teacher, student = draw(5, seed=4)
    assert torch.autograd.gradcheck(lambda s: WHOLE[name](teacher, s), student.requires_grad_())


def gradient(function, teacher, student):
    student = student.clone().requires_grad_()
    (result,) = torch.autograd.grad(function(teacher, student).sum(), student)
    return result


@pytest.mark.parametrize("holes", [0.0, 0.5])
def test_analytic_gradients_of_forward_and_reverse(holes):
    teacher, _ = draw(8, seed=5, holes=holes)
    student = draw(8, seed=6)[0].masked_fill(teacher == -INF, -INF)  # the same support
    t, s = teacher.softmax(-1), student.softmax(-1)
    torch.testing.assert_close(gradient(d.forward_kl, teacher, student), s - t)
    ratio = torch.where(s > 0, s.log() - t.log(), 0.0)
    want = s * (ratio - d.reverse_kl(teacher, student)[:, None])
    torch.testing.assert_close(gradient(d.reverse_kl, teacher, student), want)


def test_the_two_token_example():
    """Onset wanted with 0.3, said with 1e-4: forward pulls 360 times harder than reverse."""
    lam, eps = 0.3, 1e-4
    teacher = torch.tensor([1 - lam, lam], dtype=torch.float64).log()
    student = torch.tensor([1 - eps, eps], dtype=torch.float64).log()
    forward, reverse = (
        gradient(f, teacher, student)[1].item() for f in (d.forward_kl, d.reverse_kl)
    )
    assert forward == pytest.approx(eps - lam)
    want = eps * (1 - eps) * (math.log(eps / lam) - math.log((1 - eps) / (1 - lam)))
    assert reverse == pytest.approx(want)
    assert forward / reverse == pytest.approx(360, rel=0.01)
    assert d.forward_kl(teacher, student).item() == pytest.approx(2.152, abs=1e-3)
    assert d.reverse_kl(teacher, student).item() == pytest.approx(0.356, abs=1e-3)
    clipped = gradient(lambda t, s: d.clipped_forward_kl(t, s, 0.1), teacher, student)
    assert (clipped == 0).all()


@pytest.mark.parametrize("name", WHOLE)
def test_equal_distributions_cost_nothing(name):
    teacher, _ = draw(6, seed=7, holes=0.3)
    shifted = teacher + 3.0  # logits matter up to a constant
    torch.testing.assert_close(
        WHOLE[name](teacher, shifted), torch.zeros(6).double(), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"entrywise"}))
def test_rounding_makes_nothing_negative(name):
    """Nearly equal float32 distributions, 2,000 of them: about half would be below 0."""
    teacher = torch.randn(2000, 30, generator=seeded(15))
    student = teacher + 1e-6 * torch.randn(2000, 30, generator=seeded(16))
    assert (WHOLE[name](teacher, student) >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    teacher, student = (x.to(dtype) for x in draw(12, seed=8, holes=0.2))
    for f in WHOLE.values():
        got = f(teacher, student)
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(
            got.double(), f(teacher.double(), student.double()), atol=1e-4, rtol=1e-4
        )


def test_tiny_probabilities_are_not_zero():
    """exp(−2000) is 0 in floating point, but the token is possible: finite one way only."""
    teacher, student = torch.tensor([0.0, -2000.0]), torch.tensor([0.0, 0.0])
    assert d.reverse_kl(teacher, student).item() == pytest.approx(1000 - math.log(2))
    assert d.forward_kl(teacher, student).item() == pytest.approx(math.log(2))
    assert d.forward_kl(teacher, torch.tensor([0.0, -INF])).item() == INF


def test_the_teacher_is_a_constant():
    teacher, student = draw(5, seed=9)
    teacher.requires_grad_()
    student.requires_grad_()
    for f in WHOLE.values():
        f(teacher, student).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_jensen_shannon_limits():
    teacher, student = draw(7, seed=10)
    small = 1e-6
    torch.testing.assert_close(
        d.jensen_shannon(teacher, student, small) / small,
        d.forward_kl(teacher, student),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(
        d.jensen_shannon(teacher, student, 1 - small) / small,
        d.reverse_kl(teacher, student),
        rtol=1e-4,
        atol=1e-5,
    )
    for beta in (0, 0.0, 1, 1.0):
        holed = draw(7, seed=11, holes=0.5)
        assert (d.jensen_shannon(*holed, beta) == 0).all()
        assert (gradient(lambda t, s, beta=beta: d.jensen_shannon(t, s, beta), *holed) == 0).all()
    apart = torch.tensor([0.0, -INF]), torch.tensor([-INF, 0.0])
    assert d.jensen_shannon(*apart, 0.5).item() == pytest.approx(math.log(2))
    one = d.jensen_shannon(teacher, student, 0.2)
    torch.testing.assert_close(one, d.jensen_shannon(student, teacher, 0.8))


def test_topk_ties_take_the_lower_ids():
    teacher = torch.zeros(6)
    student = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    want = by_hand(probabilities(student[:3]), [1 / 3] * 3)
    assert d.topk_reverse_kl(teacher, student, 3).item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("tail", [False, True])
def test_topk_with_the_whole_vocabulary_is_reverse_kl(tail):
    teacher, student = draw(9, seed=12, holes=0.2)
    torch.testing.assert_close(
        d.topk_reverse_kl(teacher, student, 9, tail), d.reverse_kl(teacher, student)
    )


def test_topk_takes_whole_numbers_of_any_kind():
    teacher, student = draw(5, seed=17)
    want = d.topk_reverse_kl(teacher, student, 2)
    for k in (np.int64(2), torch.tensor(2)):
        assert torch.equal(d.topk_reverse_kl(teacher, student, k), want)


def test_mass_outside_the_top_k_is_free_without_a_tail():
    teacher = torch.tensor([3.0, 2.0, -4.0, -5.0])
    inside = torch.tensor([3.0, 2.0, -9.0, -9.0])
    outside = torch.tensor([3.0, 2.0, -9.0, 12.0])  # nearly all mass where the teacher has none
    free = [d.topk_reverse_kl(teacher, s, 2).item() for s in (inside, outside)]
    assert free == pytest.approx([0.0, 0.0], abs=1e-6)
    assert d.topk_reverse_kl(teacher, outside, 2, tail=True).item() > 5
    assert (gradient(lambda t, s: d.topk_reverse_kl(t, s, 2), teacher, outside)[2:] == 0).all()
    lost = torch.tensor([-INF, -INF, 0.0, 0.0])
    assert d.topk_reverse_kl(teacher, lost, 2).item() == INF


def expected_gradient(function, teacher, student, sampler):
    """Gradient of a sampled form, averaged exactly over tokens drawn from `sampler`."""
    p = sampler.softmax(-1)

    def mean(t, s):
        losses = [function(t, s, torch.tensor(token)) for token in range(len(t))]
        return (p * torch.stack(losses)).sum()

    return gradient(mean, teacher, student)


def test_expected_gradients_of_the_sampled_forms():
    teacher, student = (x[0] for x in draw(6, seed=13))
    forward, reverse = (gradient(f, teacher, student) for f in (d.forward_kl, d.reverse_kl))
    on_student = {f.__name__: expected_gradient(f, teacher, student, student) for f in SAMPLED}
    torch.testing.assert_close(on_student["policy_gradient_loss"], reverse)
    torch.testing.assert_close(on_student["k3"], forward)
    zero = torch.zeros(6, dtype=torch.float64)
    torch.testing.assert_close(on_student["monte_carlo_forward_kl"], zero)  # no teacher at all
    on_teacher = expected_gradient(d.monte_carlo_forward_kl, teacher, student, teacher)
    torch.testing.assert_close(on_teacher, forward)


def test_any_leading_axes():
    teacher, student = (x.reshape(2, 3, 5) for x in draw(5, seed=14))
    tokens = torch.randint(5, (2, 3), generator=seeded(0))
    for f in WHOLE.values():
        torch.testing.assert_close(f(teacher, student)[1, 2], f(teacher[1, 2], student[1, 2]))
    for f in SAMPLED:
        assert f(teacher, student, tokens).shape == (2, 3)


OK = torch.zeros(2, 3)


@pytest.mark.parametrize("f", WHOLE.values(), ids=WHOLE.keys())
@pytest.mark.parametrize(
    ("teacher", "student", "says"),
    [
        (OK, torch.zeros(2, 4), r"\(2, 3\) and student_logits \(2, 4\): both need one shape"),
        (torch.zeros(3), OK, "both need one shape"),
        (OK.long(), OK.long(), "teacher_logits are torch.int64 .* floating numbers"),
        (torch.zeros(2, 0), torch.zeros(2, 0), "at least one token"),
        (torch.tensor(0.0), torch.tensor(0.0), "at least one token"),
        (OK, OK.clone().fill_(math.nan), "student_logits hold NaN"),
        (OK.clone().fill_(INF), OK, r"teacher_logits hold \+inf"),
        (OK, torch.tensor([[0.0, 0, 0], [-INF] * 3]), "all -inf in 1 of 2 rows"),
    ],
)
def test_bad_logits(f, teacher, student, says):
    with pytest.raises(ValueError, match=says):
        f(teacher, student)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: d.topk_reverse_kl(OK, OK, 0), r"k=0 must lie in \[1, 3\]"),
        (lambda: d.topk_reverse_kl(OK, OK, 4, True), r"k=4 must lie in \[1, 3\]"),
        (lambda: d.topk_reverse_kl(OK, OK, 2.0), r"k=2.0 must be a whole number in \[1, 3\]"),
        (lambda: d.topk_reverse_kl(OK, OK, True), "k=True must be a whole number in"),
        (lambda: d.clipped_forward_kl(OK, OK, 0), "cap=0 must be above 0"),
        (lambda: d.entrywise_clipped_forward_kl(OK, OK, -0.1), "cap=-0.1 must be above 0"),
        (lambda: d.clipped_forward_kl(OK, OK, math.nan), "cap=nan must be above 0"),
        (lambda: d.jensen_shannon(OK, OK, 1.5), r"beta=1.5 must lie in \[0, 1\]"),
        (lambda: d.jensen_shannon(OK, OK, math.nan), r"beta=nan must lie in \[0, 1\]"),
        (lambda: d.k3(OK, OK, torch.tensor([0, 3])), r"from 0 to 3 must lie in \[0, 3\)"),
        (lambda: d.k3(OK, OK, torch.tensor([0])), r"integers of shape \(2,\)"),
        (
            lambda: d.policy_gradient_loss(
                torch.tensor([0.0, -INF]), torch.zeros(2), torch.tensor(1)
            ),
            "the teacher gives 1 of the tokens probability zero",
        ),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_as_logits_and_what_is_no_distribution():
    p = torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float64, requires_grad=True)
    logits = d.as_logits(p)
    torch.testing.assert_close(logits.softmax(-1), p)
    logits[..., :2].sum().backward()
    torch.testing.assert_close(p.grad, torch.tensor([[1 / 0.7, 1 / 0.3, 0.0]]).double())
    for bad, says in (
        ([0.5, 0.4], "sums to 0.9 over its last axis, not to 1"),
        ([1.5, -0.5], "holds -0.5: probabilities are not negative"),
        ([math.nan, 1.0], "NaN"),
        ([], "at least one entry"),
        ([1, 0], "torch.int64"),
    ):
        with pytest.raises(ValueError, match=says):
            d.check_distribution(torch.tensor(bad))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounded_distributions_are_distributions(dtype):
    """A sum may miss 1 by what rounding to the dtype can do, not by more."""
    for v in (2, 9, 1000):
        p = (3 * torch.randn(200, v, generator=seeded(18))).softmax(-1).to(dtype)
        d.check_distribution(p)
        off = p.clone()
        off[7] *= 1.02
        with pytest.raises(ValueError, match=r"sums to 1\.0.* divide it by its sum"):
            d.as_logits(off)


@pytest.mark.parametrize("value", [[0.5, 0.5], np.zeros(2), None], ids=["list", "array", "None"])
def test_what_is_no_tensor(value):
    """Outside pytest nothing but the functions themselves looks at types."""
    says = f"is a {type(value).__name__}: pass torch.tensor"
    for call in (
        lambda: inspect.unwrap(d.check_distribution)(value),
        lambda: inspect.unwrap(inputs.check_logits)(value, OK, None, True),
        lambda: inspect.unwrap(inputs.check_logits)(OK, value, None, True),
    ):
        with pytest.raises(ValueError, match=says):
            call()


# ------------------------------------------------------------------- mask, temperature, pieces


def plain(name, t, s):
    """The textbook's formula, without any care."""
    t, s = t.log_softmax(-1), s.log_softmax(-1)
    if name == "forward":
        return (t.exp() * (t - s)).sum(-1)
    if name == "reverse":
        return (s.exp() * (s - t)).sum(-1)
    mix = (0.3 * t.exp() + 0.7 * s.exp()).log()
    return 0.3 * (t.exp() * (t - mix)).sum(-1) + 0.7 * (s.exp() * (s - mix)).sum(-1)


def with_options(name, t, s, **options):
    named = {"forward": d.forward_kl, "reverse": d.reverse_kl}
    return d.jensen_shannon(t, s, 0.3, **options) if name == "js" else named[name](t, s, **options)


@pytest.mark.parametrize("name", ["forward", "reverse", "js"])
def test_temperature_divides_both_sides_and_the_gradient_carries_it(name):
    teacher, student = draw(8, seed=20)
    got = with_options(name, teacher, student, temperature=2.5)
    torch.testing.assert_close(got, plain(name, teacher / 2.5, student / 2.5))
    tempered = gradient(lambda t, s: with_options(name, t, s, temperature=2.5), teacher, student)
    by_autograd = gradient(lambda t, s: plain(name, t / 2.5, s / 2.5), teacher, student)
    torch.testing.assert_close(tempered, by_autograd)
    if name == "forward":
        want = ((student / 2.5).softmax(-1) - (teacher / 2.5).softmax(-1)) / 2.5
        torch.testing.assert_close(tempered, want)
    for bad in (0, -1.0, INF, math.nan):
        with pytest.raises(ValueError, match="must be finite and above 0"):
            with_options(name, teacher, student, temperature=bad)


@pytest.mark.parametrize("name", d.DIVERGENCES)
def test_masked_positions_are_zero_get_no_gradient_and_may_hold_anything(name):
    teacher, student = draw(7, seed=21)
    tokens = torch.randint(7, (6,), generator=seeded(0))
    mask = torch.tensor([True, False, True, True, False, True])
    dirty = [x.masked_fill(~mask[:, None], math.nan) for x in (teacher, student)]
    knobs = SimpleNamespace(beta=0.3, cap=0.2, top_k=2)
    charge = d.DIVERGENCES[name]
    leaf = dirty[1].clone().requires_grad_()
    got = charge(dirty[0], leaf, knobs, tokens=tokens.masked_fill(~mask, 99), mask=mask)
    want = charge(teacher, student, knobs, tokens=tokens)
    torch.testing.assert_close(got, want * mask)
    got.sum().backward()
    assert (leaf.grad[~mask] == 0).all() and leaf.grad.isfinite().all()
    with pytest.raises(ValueError, match=r"mask is torch.int64 of shape \(6,\): booleans"):
        charge(teacher, student, knobs, tokens=tokens, mask=mask.long())


@pytest.mark.parametrize("name", d.DIVERGENCES)
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5), (3, 1, 2, 5)], ids=str)
def test_pieces_change_neither_values_nor_gradients(name, shape, monkeypatch):
    teacher, student = (
        torch.randn(shape, dtype=torch.float64, generator=seeded(seed)) for seed in (0, 1)
    )
    tokens = torch.randint(5, shape[:-1], generator=seeded(2))
    mask = torch.rand(shape[:-1], generator=seeded(3)) < 0.8
    knobs = SimpleNamespace(beta=0.3, cap=0.2, top_k=2)

    def both():
        leaf = student.clone().requires_grad_()
        nats = d.DIVERGENCES[name](teacher, leaf, knobs, tokens=tokens, mask=mask, temperature=1.5)
        (nats * torch.arange(nats.numel()).view(nats.shape)).sum().backward()
        return nats.detach(), leaf.grad

    whole = both()
    for chunk in (1, 10, 17):
        monkeypatch.setattr(pieces, "CHUNK", chunk)
        for got, want in zip(both(), whole, strict=True):
            torch.testing.assert_close(got, want)


def peak_bytes(work):
    """The most that torch's CPU allocator held at once beyond what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                profile_memory=True) as profile:  # fmt: skip
        work()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize("name", ["forward", "js"])
def test_memory_stays_below_plain_torch(name, monkeypatch):
    """A 64th of [4, 512, 49152] in pieces of a 64th; forwards, and with the gradient."""
    monkeypatch.setattr(pieces, "CHUNK", pieces.CHUNK // 64)
    teacher, student = (torch.randn(1, 32, 49152, generator=seeded(seed)) for seed in (0, 1))

    def forwards(charge):
        with torch.no_grad():
            charge(name, teacher, student)

    def backwards(charge):
        leaf = student.requires_grad_()
        torch.autograd.grad(charge(name, teacher, leaf).sum(), leaf)

    for way in (forwards, backwards):
        ours, theirs = (peak_bytes(lambda c=c, w=way: w(c)) for c in (with_options, plain))
        assert ours <= 1.2 * theirs, (way.__name__, ours / theirs)


@pytest.mark.parametrize("name", d.DIVERGENCES)
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_unchecked_nan_comes_out_as_nan(name, side):
    teacher, student = draw(5, seed=22)
    (teacher if side == "teacher" else student)[2, 1] = math.nan
    tokens = torch.zeros(6, dtype=torch.int64)
    for beta in (0.3, 0.0):
        knobs = SimpleNamespace(beta=beta, cap=0.2, top_k=2)
        got = d.DIVERGENCES[name](teacher, student, knobs, tokens=tokens, check=False)
        assert got.isnan().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k3_stays_finite_where_its_power_overflows(dtype):
    teacher = torch.tensor([[0.0, -90.0, -90.0]], dtype=dtype)
    student = torch.tensor([[-90.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    value = d.k3(teacher, student, torch.tensor([0]))
    value.sum().backward()
    assert value.isfinite().all() and (value > 1e30).all() and student.grad.isfinite().all()
    if dtype == torch.float64:
        assert value.item() == pytest.approx(2.44e39, rel=1e-2)  # as the formula says


def test_gradients_of_many_rows_ignore_the_callers_mode():
    teacher, student = draw(5, seed=23)
    with torch.inference_mode():
        quiet = d.forward_kl(teacher, student)
    torch.testing.assert_close(quiet, d.forward_kl(teacher, student))


def test_every_divergence_is_listed_once_with_its_direction():
    assert all(name == one.name for name, one in d.DIVERGENCES.items())
    assert len({one.label for one in d.DIVERGENCES.values()}) == len(d.DIVERGENCES)
    teacher = torch.tensor([0.0, 0.0, -INF])  # the student may say what the teacher never does
    student = torch.zeros(3)
    knobs = SimpleNamespace(beta=0.5, cap=5.0, top_k=3)
    for name in d.WHOLE:
        value = d.DIVERGENCES[name](teacher, student, knobs).item()
        assert (value == INF) == (d.DIVERGENCES[name].direction == "reverse"), name
    with pytest.raises(ValueError, match="reads sampled tokens: pass tokens="):
        d.divergence("k3")(teacher, student, knobs)
    with pytest.raises(ValueError, match="divergence='kl' must be one of forward_kl"):
        d.divergence("kl")
