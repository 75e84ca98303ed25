"""Examples say what they should, training lowers the loss, a learned teacher lines up."""

import dataclasses

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.trd.config import (
    LearnedTeacherConfig,
    SettingConfig,
    StudentConfig,
    student_decoder,
    teacher_decoder,
)
from intuitive.trd.learned import LearnedTeacher
from intuitive.trd.model import StackedDecoder
from intuitive.trd.rollout import response_logits
from intuitive.trd.sums import SumsConfig, prompts, refine_prompts, sample_digits, verify
from intuitive.trd.training import (
    first_students,
    fit,
    learned_teacher,
    losses,
    revise_examples,
    solve_examples,
    student_examples,
)

SMALL, LATE = SettingConfig(), SettingConfig.late()
B = 2000  # rows; a share has a standard error below 0.012


def digits_of(config: SettingConfig, given: torch.Tensor) -> torch.Tensor:
    return given[:, 1 : 1 + config.sums.n_digits]


def test_first_students_learn_their_habits():
    made = student_examples(SMALL, B, generator=seeded(0))
    verdict = verify(SMALL.sums, digits_of(SMALL, made.prompts), made.responses)
    right_to_left = (verdict.order == torch.tensor([3, 2, 1, 0])).all(-1).float().mean()
    assert float(right_to_left) == pytest.approx(0.8 + 0.2 / 24, abs=0.04)
    assert float(verdict.correct.float().mean()) == pytest.approx(0.85**4, abs=0.045)
    assert bool(verdict.well_formed.all()) and int(verdict.n_waits.sum()) == 0
    assert torch.equal(made.counted, made.responses != SMALL.sums.pad)


def test_planted_totals_are_masked_and_repaired_at_once():
    made = solve_examples(SMALL, B, repair=1.0, generator=seeded(0))
    sums, digits = SMALL.sums, digits_of(SMALL, made.prompts)
    verdict = verify(sums, digits, made.responses)
    erred = verdict.first_error >= 0
    habits = SMALL.teacher
    want = habits.planted / (habits.planted + habits.clean)
    assert float(erred.float().mean()) == pytest.approx(want, abs=0.045)
    assert bool(verdict.correct.all())  # every error was taken back
    masked = ~made.counted & (made.responses != sums.pad)
    assert torch.equal(masked.any(-1), erred)
    assert torch.equal(masked[erred].int().argmax(-1), verdict.first_error[erred])
    after = made.responses[erred].gather(1, verdict.first_error[erred][:, None] + 1)
    assert bool((after == sums.wait).all())


def test_without_repair_nobody_waits():
    made = solve_examples(SMALL, B, repair=0.0, generator=seeded(1))
    assert not bool((made.responses == SMALL.sums.wait).any())


@pytest.mark.parametrize("config", [SMALL, LATE], ids=["small", "late"])
def test_spread_repairs_come_at_every_delay_and_mask_what_they_pass(config):
    made = solve_examples(config, B, repair=0.0, spread=True, generator=seeded(0))
    sums, off = config.sums, int(config.sums.plan)
    verdict = verify(sums, digits_of(config, made.prompts), made.responses)
    assert bool(verdict.correct.all())
    delays = set()
    for row in (verdict.first_error >= 0).nonzero()[:, 0].tolist():
        error, tokens = int(verdict.first_error[row]), made.responses[row].tolist()
        wait = tokens.index(sums.wait)
        if error == 0 and sums.plan:
            assert wait == off + 2 * sums.n_digits and bool(made.counted[row, 0])
            continue
        hidden = [place for place in range(wait) if not made.counted[row, place]]
        assert hidden == [*range(off), error, *range(error + 1, wait, 2)]
        assert bool(made.counted[row, wait])
        delays.add((wait - error - 1) // 2)
    assert delays == set(range(sums.n_digits))


def test_a_wrong_plan_is_learned_and_repaired_at_the_end_alone():
    made = solve_examples(LATE, B, repair=1.0, generator=seeded(0))
    sums = LATE.sums
    verdict = verify(sums, digits_of(LATE, made.prompts), made.responses)
    wrong_plan = verdict.first_error == 0
    guessed = made.counted[:, 0]  # not where a total is wrong: there the plan is right
    assert bool(guessed[wrong_plan].all())
    share = float(wrong_plan[guessed].float().mean())
    assert share == pytest.approx(LATE.teacher.wrong_plan, abs=0.055)
    waits = (made.responses == sums.wait).int().argmax(-1)[wrong_plan]
    assert bool((waits == 1 + 2 * sums.n_digits).all())


def test_rewrites_are_right_and_keep_the_order_that_a_draft_shows():
    made = revise_examples(LATE, B, generator=seeded(0))
    sums, digits = LATE.sums, digits_of(LATE, made.prompts)
    rewrite = verify(sums, digits, made.responses)
    assert bool(rewrite.correct.all()) and int(rewrite.n_waits.sum()) == 0
    drafts = made.prompts[:, sums.prompt_length : -1]
    draft = verify(sums, digits, drafts)
    shown = draft.order >= 0
    assert bool((draft.order == rewrite.order)[shown].all())
    assert 0.05 < float((~shown.all(-1)).float().mean()) < 0.2  # some break off
    assert 0.05 < float((draft.n_waits > 0).float().mean()) < 0.3
    assert float(draft.correct.float().mean()) < 0.5


def test_loss_counts_the_marked_tokens_alone():
    made = solve_examples(SMALL, 5, repair=0.3, generator=seeded(0))
    stack = StackedDecoder.fresh(teacher_decoder(SMALL), [0])
    one = dataclasses.replace(
        made,
        prompts=made.prompts[None],
        responses=made.responses[None],
        counted=made.counted[None],
    )
    logits = response_logits(stack.decoder(), made.prompts, made.responses)
    nll = torch.nn.functional.cross_entropy(logits[made.counted], made.responses[made.counted])
    torch.testing.assert_close(losses(stack, one)[0], nll, atol=1e-5, rtol=1e-5)


TINY = SettingConfig(
    sums=SumsConfig(n_digits=2, modulus=3),
    student=StudentConfig(width=8, n_layers=1, n_steps=60, batch=32, lr=1e-2),
    teacher=LearnedTeacherConfig(width=8, n_layers=1, n_steps=60, batch=40, lr=1e-2),
)


@pytest.mark.parametrize("train", [lambda **k: first_students(TINY, (0, 1), **k),
                                   lambda **k: learned_teacher(TINY, 0, **k)])  # fmt: skip
def test_training_lowers_the_loss(train):
    said = []
    train(progress=lambda share, sentence: said.append(sentence))
    first, last = (float(sentence.split()[-1]) for sentence in (said[0], said[-1]))
    assert last < 0.8 * first
    with pytest.raises(Cancelled):
        train(stale=lambda: True)


def test_a_seed_gives_the_same_students_in_any_company():
    both = first_students(TINY, (0, 1))
    alone = first_students(TINY, (1,))
    torch.testing.assert_close(both.weights[1:], alone.weights, atol=1e-4, rtol=1e-3)


def test_divergence_in_training_is_an_error():
    stack = StackedDecoder.fresh(student_decoder(TINY), [0])
    stack.weights.data.fill_(float("nan"))
    made = student_examples(TINY, 4, generator=seeded(0))
    drawn = dataclasses.replace(
        made,
        prompts=made.prompts[None, None],
        responses=made.responses[None, None],
        counted=made.counted[None, None],
    )
    with pytest.raises(RuntimeError, match="loss is nan at step 0: training diverged"):
        fit(stack, lambda first, steps: [drawn], n_steps=1, lr=0.1)


# ---------------------------------------------------------------------------- learned teacher


@pytest.fixture
def teacher():
    stack = StackedDecoder.fresh(teacher_decoder(TINY), [0])
    return LearnedTeacher(TINY.sums, stack.decoder())


def test_a_learned_teacher_reads_what_its_context_says(teacher):
    sums = TINY.sums
    digits = sample_digits(sums, 4, generator=seeded(0))
    y = teacher.sample(digits, generator=seeded(1))
    draft = teacher.sample(digits, generator=seeded(2), drafts=y)
    assert y.shape == draft.shape == (4, sums.trace_length)
    for context, given in (
        ({}, prompts(sums, digits)),
        ({"drafts": draft}, refine_prompts(sums, digits, draft)),
        ({"solutions": y}, refine_prompts(sums, digits, y)),
        ({"solutions": y, "drafts": draft}, refine_prompts(sums, digits, draft)),
    ):
        want = response_logits(teacher.decoder, given, y)
        torch.testing.assert_close(teacher.logits(digits, y, **context), want)


def test_shares_of_a_batch_add_up():
    with pytest.raises(ValueError, match=r"clean=0\.9.*must add up to 1"):
        LearnedTeacherConfig(clean=0.9)
