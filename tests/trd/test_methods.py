"""Methods as data: what each trains on, what it costs, and that a stack changes nothing."""

import dataclasses

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.trd import distillation, divergences
from intuitive.trd.distillation import Arm, Plan, distil, grade, roll
from intuitive.trd.methods import ABLATIONS, LOSSES, METHODS, Method
from intuitive.trd.model import StackedDecoder, decoder_config
from intuitive.trd.rollout import Tokens
from intuitive.trd.sums import (
    SumsConfig,
    prompts,
    sample_digits,
    sample_orders,
    sample_shifts,
    verify,
    write_traces,
)
from intuitive.trd.teacher import ExactTeacher, TeacherConfig
from intuitive.trd.teaching import reference_solutions, trajectories

SUMS = SumsConfig(n_digits=3, modulus=5)
TEACHER = ExactTeacher(sums=SUMS, config=TeacherConfig(repair=0.3))
N = 40


@pytest.fixture
def students():
    config = decoder_config(
        vocab_size=SUMS.vocab_size,
        width=8,
        n_layers=1,
        max_positions=SUMS.prompt_length + SUMS.trace_length,
    )
    return StackedDecoder.fresh(config, (0, 1))


@pytest.fixture
def drafts():
    """(digits, rollouts): about half of them wrong, right to left."""
    generator = seeded(0)
    digits = sample_digits(SUMS, N, generator=generator)
    orders = sample_orders(SUMS, N, right_to_left=1.0, generator=generator)
    shifts = sample_shifts(SUMS, N, probability=0.25, generator=generator)
    return digits, write_traces(SUMS, digits, orders, shifts=shifts).tokens


def taught(method: Method, drafts, seed: int = 0):
    return trajectories(method, TEACHER, *drafts, generator=seeded(seed))


# ----------------------------------------------------------------------------------- what is read


def test_every_method_trains_on_the_trajectory_it_names(drafts):
    digits, y_o = drafts
    for name in ("opd_reverse", "trd", "sft_refined", "sft_teacher", "trd_any_order"):
        method = (METHODS | ABLATIONS)[name]
        found = taught(method, drafts)
        verdict = verify(SUMS, digits, found.tokens)
        if method.trajectory == "y_o":
            assert torch.equal(found.tokens, y_o), name
        else:
            assert float(verdict.correct.float().mean()) > 0.9, name
        backwards = (verdict.order == torch.tensor([2, 1, 0])).all(-1).float().mean()
        if method.trajectory == "y_r" and method.keep_order:
            assert backwards > 0.9, name
        if method.trajectory == "y_T" or not method.keep_order:
            assert backwards < 0.4, name  # the teacher's own habit is from left to right


def test_teacher_sees_the_context_that_the_method_names(drafts):
    digits, y_o = drafts
    for name, known in (
        ("trd", {"drafts": y_o}),
        ("trd_from_x", {}),
        ("opsd_forward", {"solutions": reference_solutions(SUMS, digits)}),
    ):
        found = taught(METHODS[name], drafts)
        want = TEACHER.logits(digits, found.tokens, **known)
        assert torch.equal(found.teacher_logits, want), name
    assert taught(METHODS["sft_teacher"], drafts).teacher_logits is None


def test_reference_solutions_are_right_and_from_left_to_right(drafts):
    verdict = verify(SUMS, drafts[0], reference_solutions(SUMS, drafts[0]))
    assert bool(verdict.correct.all())
    assert bool((verdict.order == torch.arange(3)).all())


def test_subsets_are_of_wrong_right_and_mended_rollouts(drafts):
    right = verify(SUMS, *drafts).correct
    assert 5 < int(right.sum()) < 35
    for subset, want in (("all", torch.ones(N, dtype=torch.bool)), ("wrong", ~right),
                         ("right", right)):  # fmt: skip
        assert torch.equal(taught(Method(subset=subset), drafts).in_subset, want)
    found = taught(Method(subset="fail_pass"), drafts)
    mended = verify(SUMS, drafts[0], found.tokens).correct & ~right
    assert torch.equal(found.in_subset, mended)


def test_corruption_changes_one_number_of_a_share(drafts):
    clean, dirty = (taught(Method(corrupted=share), drafts).tokens for share in (0.0, 1.0))
    changed = clean != dirty
    assert bool((changed.sum(-1) == 1).all())
    assert bool((clean[changed] < SUMS.modulus).all() and (dirty[changed] < SUMS.modulus).all())


def test_first_tokens_cut_the_loss_not_the_trajectory(drafts):
    found = taught(Method(first_tokens=4), drafts)
    assert found.counted.sum(-1).tolist() == [4] * N
    assert int((found.tokens != SUMS.pad).sum(-1).min()) > 4


# ----------------------------------------------------------------------------------------- costs


def test_costs_count_what_is_generated_read_and_rolled_out(drafts):
    """Prompts have 5 tokens, drafts 9, right traces 9, a refinement prompt 5 + 9 + 1."""
    y = SUMS.clean_length
    assert (SUMS.prompt_length, y) == (5, 9)
    wrote = {name: int((taught(METHODS[name], drafts).tokens != SUMS.pad).sum())
             for name in ("trd", "sft_teacher")}  # fmt: skip
    r, t = wrote["trd"], wrote["sft_teacher"]
    want = {  # teacher generated, teacher scored, student generated
        "opd_forward": (0, N * (5 + y), N * y),
        "trd": (r, N * 15 + r, N * y),
        "trd_from_x": (r, N * 15 + N * 5 + r, N * y),
        "sft_refined": (r, N * 15, N * y),
        "sft_teacher": (t, N * 5, 0),
    }
    for name, (generated, scored, rolled) in want.items():
        assert taught(METHODS[name], drafts).cost(slice(None)) == Tokens(
            teacher_generated=generated, teacher_scored=scored, student_generated=rolled
        ), name


def test_more_rounds_and_rollouts_cost_more(students):
    digits = sample_digits(SUMS, 120, generator=seeded(0), distinct=True)
    costs = {}
    for rounds, name in ((1, "opd_forward"), (4, "opd_forward"), (1, "opd_forward_x3")):
        arm = Arm(name=name, method=(METHODS | ABLATIONS)[name], teacher="exact", seed=0, lr=1e-9)
        plan = Plan(n_problems=120, n_steps=4, batch=4, rounds=rounds)
        (costs[rounds, name],) = distil(students, [arm], {"exact": TEACHER}, digits, plan).cost
    once = costs[1, "opd_forward"].teacher_scored
    assert costs[4, "opd_forward"].teacher_scored == pytest.approx(4 * once, rel=0.1)
    assert costs[1, "opd_forward_x3"].teacher_scored == pytest.approx(3 * once, rel=0.1)


# -------------------------------------------------------------------------------------- training

PLAN = Plan(n_problems=N, n_steps=6, batch=8, rounds=2)


def arms(*names: str, seeds=(0, 1)) -> list[Arm]:
    return [
        Arm(name=name, method=(METHODS | ABLATIONS)[name], teacher="exact", seed=seed)
        for name in names
        for seed in seeds
    ]


def test_every_loss_is_the_divergence_of_its_name():
    generator = seeded(0)
    t, s = torch.randn(2, 3, 4, 6, generator=generator)
    y = torch.randint(6, (3, 4), generator=generator)
    m = Method(cap=0.3, top_k=2, tail=True, beta=0.2)
    want = {
        "forward": divergences.forward_kl(t, s),
        "reverse": divergences.reverse_kl(t, s),
        "jensen_shannon": divergences.jensen_shannon(t, s, 0.2),
        "forward_clip": divergences.clipped_forward_kl(t, s, 0.3),
        "forward_entropy": divergences.entropy_weighted_forward_kl(t, s),
        "reverse_topk": divergences.topk_reverse_kl(t, s, 2, tail=True),
        "policy_gradient": divergences.policy_gradient_loss(t, s, y),
        "monte_carlo_forward": divergences.monte_carlo_forward_kl(t, s, y),
        "sft": -s.log_softmax(-1).gather(-1, y[..., None])[..., 0],
    }
    assert want.keys() == LOSSES.keys()
    for name, value in want.items():
        batch = (None, y, torch.ones_like(y, dtype=torch.bool), None if name == "sft" else t)
        got = distillation._arm_losses(dataclasses.replace(m, loss=name), batch, s)
        torch.testing.assert_close(got, value.mean(-1), msg=name)


def test_deterministic_arms_train_alone_as_they_do_together(students):
    """OPD draws nothing from the teacher, so the company of an arm cannot matter."""
    digits, teachers = sample_digits(SUMS, N, generator=seeded(0)), {"exact": TEACHER}
    together = distil(students, arms("opd_forward", "opd_reverse", "trd"), teachers, digits, PLAN)
    alone = distil(students, arms("opd_reverse", seeds=(1,)), teachers, digits, PLAN)
    assert together.arms[3] == alone.arms[0]
    got, want = together.stack.weights[3], alone.stack.weights[0]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)
    assert together.cost[3] == alone.cost[0]
    assert float((want - students.weights[1]).detach().abs().max()) > 1e-3  # it did train


def test_monte_carlo_forward_kl_takes_no_notice_of_the_teacher(students):
    """The trap: its gradient is that of imitating one's own rollouts."""
    digits = sample_digits(SUMS, N, generator=seeded(0))
    other = ExactTeacher(sums=SUMS, config=TeacherConfig(repair=0.9, left_to_right=0.0))
    found = [
        distil(students, arms("opd_monte_carlo_forward"), {"exact": t}, digits, PLAN)
        for t in (TEACHER, other)
    ]
    torch.testing.assert_close(found[0].stack.weights, found[1].stack.weights)
    opd = [
        distil(students, arms("opd_forward"), {"exact": t}, digits, PLAN) for t in (TEACHER, other)
    ]
    assert not torch.allclose(opd[0].stack.weights, opd[1].stack.weights, atol=1e-4)


def test_training_lowers_the_loss(students):
    digits = sample_digits(SUMS, N, generator=seeded(0))
    slow = [dataclasses.replace(arm, lr=1e-2) for arm in arms("trd", "sft_refined", seeds=(0,))]
    plan = Plan(n_problems=N, n_steps=50, batch=16)
    done = distil(students, slow, {"exact": TEACHER}, digits, plan)
    first, last = torch.tensor(done.losses[0]), torch.tensor(done.losses[-1])
    assert bool((last < 0.8 * first).all())


def test_an_arm_that_diverges_does_not_stop_the_others(students):
    digits, broken = sample_digits(SUMS, N, generator=seeded(0)), students.copies([0, 1])
    broken.weights.data[1] = torch.nan
    plan = dataclasses.replace(PLAN, n_steps=2, rounds=1)
    done = distil(broken, arms("opd_reverse"), {"exact": TEACHER}, digits, plan)
    assert done.stack.weights.isfinite().all(-1).tolist() == [True, False]
    assert not torch.equal(done.stack.weights[0], students.weights[0])  # it did train


def test_observers_see_every_mark_and_staleness_stops_at_once(students):
    digits, seen, calls = sample_digits(SUMS, N, generator=seeded(0)), [], []
    plan = dataclasses.replace(PLAN, observe_every=3)
    distil(
        students, arms("trd"), {"exact": TEACHER}, digits, plan,
        observe=lambda step, stack, cost: seen.append((step, cost[0].teacher)),
        progress=lambda share, sentence: calls.append(share),
    )  # fmt: skip
    assert [step for step, _ in seen] == [0, 3, 6]
    assert seen[0][1] < seen[1][1]  # the second round has been paid for
    assert calls == sorted(calls) and calls[-1] == 1.0
    with pytest.raises(Cancelled):
        distil(students, arms("trd"), {"exact": TEACHER}, digits, PLAN, stale=lambda: True)


def test_roll_and_grade_repeat_the_problems_sample_by_sample(students):
    digits = sample_digits(SUMS, 5, generator=seeded(0))
    rolled = roll(SUMS, students, digits, seeds=[0, 1], n_samples=3)
    assert rolled.shape == (2, 15, SUMS.trace_length)
    for own, verdict in zip(rolled, grade(SUMS, digits, rolled), strict=True):
        want = verify(SUMS, digits.repeat(3, 1), own)
        assert torch.equal(verdict.correct, want.correct)
        assert torch.equal(verdict.order, want.order)
    assert prompts(SUMS, digits).shape == (5, 5)


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trajectory": "y_x"}, "trajectory='y_x' must be one of y_o, y_r, y_T"),
        ({"loss": "kl"}, "loss='kl' must be one of forward"),
        ({"subset": "some"}, "subset='some' must be one of all"),
        ({"rollouts": 0}, "rollouts=0 must be at least 1"),
        ({"corrupted": 2.0}, r"corrupted=2\.0 be a share"),
        ({"cap": 0.0}, r"cap=0\.0 must be above 0"),
        ({"beta": 1.5}, r"beta=1\.5 lie in"),
        ({"top_k": 0}, r"top_k=0 must be at least 1"),
    ],
)
def test_methods_refuse_what_they_do_not_know(settings, message):
    with pytest.raises(ValueError, match=message):
        Method(**settings)


def test_plans_and_arms_are_checked(students):
    digits = sample_digits(SUMS, N, generator=seeded(0))
    with pytest.raises(ValueError, match="n_steps=240 must be a multiple of rounds=7"):
        Plan(rounds=7)
    with pytest.raises(ValueError, match="arms is empty"):
        distil(students, [], {"exact": TEACHER}, digits, PLAN)
    with pytest.raises(ValueError, match=r"seed=5 of trd must lie in \[0, 2\)"):
        distil(students, arms("trd", seeds=(5,)), {"exact": TEACHER}, digits, PLAN)
    with pytest.raises(ValueError, match="teacher='exact' of trd must be one of learned"):
        distil(students, arms("trd"), {"learned": TEACHER}, digits, PLAN)
    with pytest.raises(ValueError, match="subset='right' leaves a student none"):
        distil(students, arms("trd_right_only"), {"exact": TEACHER}, digits, PLAN)
