"""Training the learned teacher and the students it is to teach, from scratch on running sums.

The teacher learns to solve from x, with errors planted in its own prefix that it sometimes
repairs (WAIT) and sometimes carries on from, and to rewrite a draft in the draft's order. The
student has habits of its own: it works from right to left, and it errs.

`Examples` are what a model is trained on, and `fit` trains a stack on them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, silent, train

from .config import SettingConfig, student_decoder, teacher_decoder
from .draws import uniform
from .model import StackedDecoder
from .optimizer import GraphedStep, StackedAdamW, cosine
from .sums import (
    SumsConfig,
    prompts,
    refine_prompts,
    sample_digits,
    sample_orders,
    sample_repair_steps,
    sample_shifts,
    write_traces,
)

# ------------------------------------------------------------------------------------- examples


@dataclass(frozen=True)
class Examples:
    """Prompts, what should follow, and which tokens of that count in the loss."""

    prompts: Int[Tensor, "*m b n_prompt"]
    responses: Int[Tensor, "*m b n"]
    counted: Bool[Tensor, "*m b n"]

    def step(self, index: int) -> "Examples":
        """Those of one step, where the first axis is steps."""
        return Examples(self.prompts[index], self.responses[index], self.counted[index])


def student_examples(config: SettingConfig, b: int, *, generator: torch.Generator) -> Examples:
    """What the first student learns from: traces with its habits, errors included."""
    sums, habits = config.sums, config.student
    digits = sample_digits(sums, b, generator=generator)
    orders = sample_orders(sums, b, right_to_left=habits.right_to_left, generator=generator)
    traces = write_traces(
        sums,
        digits,
        orders,
        shifts=sample_shifts(sums, b, probability=habits.wrong_total, generator=generator),
        plan_shifts=_plan_shifts(sums, b, habits.wrong_plan, generator),
    )
    tokens = traces.tokens[:, : sums.clean_length]
    return Examples(prompts(sums, digits), tokens, tokens != sums.pad)


def solve_examples(
    config: SettingConfig,
    b: int,
    *,
    repair: int | float,
    spread: bool = False,
    generator: torch.Generator,
) -> Examples:
    """Solutions from x for the learned teacher: right ones, and ones with a planted wrong total.

    The planted total is masked from the loss, or the teacher would learn to err. A wrong plan is
    not, since from x the plan is a guess; where a total was planted the plan is right, and masked.

    Args:
        config: the setting.
        b: rows.
        repair: chance of WAIT at every boundary where the error can be seen.
        spread: instead, every error is repaired, at one of those boundaries chosen evenly, and the
            boundaries passed by are masked: this teaches what an error looks like, however long
            ago it was.
        generator: the source of randomness.
    """
    sums, habits = config.sums, config.teacher
    k, device = sums.n_digits, generator.device
    digits = sample_digits(sums, b, generator=generator)
    orders = sample_orders(sums, b, left_to_right=habits.left_to_right, generator=generator)
    draw = uniform(b, generator=generator)
    errs = draw < habits.planted / (habits.planted + habits.clean)
    at = torch.randint(k, (b,), generator=generator, device=device)
    by = torch.randint(1, sums.modulus, (b,), generator=generator, device=device)
    shifts = torch.zeros_like(digits).scatter(1, at[:, None], (by * errs)[:, None])
    first_seen = (at + 1) * errs
    plan_shifts = _plan_shifts(sums, b, habits.wrong_plan, generator)
    if plan_shifts is not None:
        plan_shifts = plan_shifts * ~errs  # one error at a time
        first_seen = torch.where(plan_shifts > 0, k, first_seen)
    if spread:
        among = (k + 1 - first_seen) * uniform(b, generator=generator)
        wait_after = torch.where(first_seen > 0, first_seen + among.long(), 0)
    else:
        wait_after = sample_repair_steps(sums, first_seen, repair=repair, generator=generator)
    traces = write_traces(
        sums, digits, orders, shifts=shifts, plan_shifts=plan_shifts, wait_after=wait_after
    )
    masked = traces.planted.clone()
    if sums.plan:
        masked[:, 0] = errs
    if spread:
        place = torch.arange(sums.trace_length, device=device) - int(sums.plan)
        passed = (place >= 2 * first_seen[:, None]) & (place < 2 * wait_after[:, None])
        masked |= passed & (place % 2 == 0)
    counted = (traces.tokens != sums.pad) & ~masked
    return Examples(prompts(sums, digits), traces.tokens, counted)


def revise_examples(config: SettingConfig, b: int, *, generator: torch.Generator) -> Examples:
    """Drafts and their rewrites: right, without WAIT, in the draft's order.

    Drafts have none to many wrong totals and, where there is a plan, often a wrong one. A quarter
    say WAIT on the way, an eighth break off; the rest of their order is then for the teacher to
    choose.
    """
    sums, habits = config.sums, config.teacher
    k, device = sums.n_digits, generator.device
    digits = sample_digits(sums, b, generator=generator)
    orders = sample_orders(sums, b, right_to_left=0.4, left_to_right=0.2, generator=generator)
    how_often = 0.5 * uniform(b, 1, generator=generator)
    shifts = sample_shifts(sums, b, probability=1.0, generator=generator)
    shifts = shifts * (uniform(b, k, generator=generator) < how_often)
    wrong = shifts != 0
    first_seen = torch.where(wrong.any(-1), wrong.int().argmax(-1) + 1, 0)
    plan_shifts = _plan_shifts(sums, b, habits.wrong_plan, generator)
    if plan_shifts is not None:
        first_seen = torch.where((plan_shifts > 0) & (first_seen == 0), k, first_seen)
    kind = uniform(b, generator=generator)
    waits = sample_repair_steps(sums, first_seen, repair=0.5, generator=generator)
    drafts = write_traces(
        sums,
        digits,
        orders,
        shifts=shifts,
        plan_shifts=plan_shifts,
        wait_after=waits * (kind < 0.25),
    ).tokens
    cut = torch.randint(sums.clean_length, (b,), generator=generator, device=device)
    cut = torch.where(kind > 0.875, cut, sums.trace_length)
    places = torch.arange(sums.trace_length, device=device)
    drafts = drafts.masked_fill(places >= cut[:, None], sums.pad)
    rewrites = write_traces(sums, digits, orders).tokens[:, : sums.clean_length]
    return Examples(refine_prompts(sums, digits, drafts), rewrites, rewrites != sums.pad)


def _plan_shifts(
    sums: SumsConfig, b: int, probability: float, generator: torch.Generator
) -> Tensor | None:
    """What is added to the plan by mistake, 0 or one of 1 ... K; None without a plan."""
    if not sums.plan:
        return None
    device = generator.device
    shifts = torch.randint(1, sums.n_plans, (b,), generator=generator, device=device)
    return shifts * (uniform(b, generator=generator) < probability)


# ------------------------------------------------------------------------------------- training


def losses(stack: StackedDecoder, examples: Examples) -> Float[Tensor, " m"]:
    """Cross-entropy per counted token, of each model on its own examples [m, b, ...]."""
    tokens = torch.cat([examples.prompts, examples.responses[..., :-1]], dim=-1)
    logits = stack(tokens)[:, :, examples.prompts.shape[-1] - 1 :]  # [m, b, n, v]
    nll = F.cross_entropy(logits.flatten(0, 2), examples.responses.flatten(), reduction="none")
    nll = nll.view(examples.responses.shape) * examples.counted
    return nll.flatten(1).sum(1) / examples.counted.flatten(1).sum(1).clamp(min=1)


def fit(
    stack: StackedDecoder,
    draw: Callable[[int, int], Sequence[Examples]],
    *,
    n_steps: int,
    lr: int | float,
    shares: Sequence[float] = (1.0,),
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> list[float]:
    """Train every model of a stack with AdamW and a cosine schedule.

    Args:
        stack: trained in place.
        draw: given the first step and a number of steps, returns one `Examples` [steps, m, b, ...]
            per kind; drawn for many steps at once, since drawing costs as much as training.
        n_steps: steps to take, at least 1.
        lr: the largest learning rate, for all models.
        shares: what each kind weighs in the loss.
        stale: turns true when nobody waits any more.
        progress: called after every step.

    Returns:
        The loss of every 50th step, averaged over the stack.

    Raises:
        RuntimeError: a loss is no longer finite.
        Cancelled: `stale()` became true.
    """
    device = stack.weights.device
    rates = torch.full((stack.n_models,), float(lr), device=device)
    optimizer = StackedAdamW(stack, rates, schedule=cosine(n_steps))

    def loss_and_gradient(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        kinds = [Examples(*tensors[i : i + 3]) for i in range(0, len(tensors), 3)]
        each = sum(s * losses(stack, kind) for s, kind in zip(shares, kinds, strict=True))
        (gradient,) = torch.autograd.grad(each.sum(), stack.weights)
        return each.detach().mean(), gradient

    fast, at_once = GraphedStep(loss_and_gradient, device), 50
    drawn: Sequence[Examples] = ()
    latest = math.nan

    def gradients(step: int) -> dict[str, float]:
        nonlocal drawn, latest
        if step % at_once == 0:
            drawn = draw(step, min(at_once, n_steps - step))
        now = [kind.step(step % at_once) for kind in drawn]
        loss, stack.weights.grad = fast(
            *(t for kind in now for t in (kind.prompts, kind.responses, kind.counted))
        )
        if step % at_once:
            return {}  # a look at the loss waits for a GPU
        latest = float(loss)
        return {"loss": latest}

    def told(share: float, _: str) -> None:
        progress(share, f"Step {round(share * n_steps)} of {n_steps}: loss {latest:.3f}")

    return train(gradients, optimizer, n_steps=n_steps, stale=stale, progress=told)["loss"]


def first_students(
    config: SettingConfig,
    seeds: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> StackedDecoder:
    """One first student per seed, each with its own weights and data; errors as in `fit`."""
    habits = config.student
    stack = StackedDecoder.fresh(student_decoder(config), seeds).to(device)
    generators = [seeded(seed, device) for seed in seeds]

    def draw(first: int, steps: int) -> list[Examples]:
        drawn = [student_examples(config, steps * habits.batch, generator=g) for g in generators]
        return [_by_step(drawn, steps)]

    fit(stack, draw, n_steps=habits.n_steps, lr=habits.lr, stale=stale, progress=progress)
    return stack


def learned_teacher(
    config: SettingConfig,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> StackedDecoder:
    """A stack of one: the teacher, trained with its curriculum; errors as in `fit`."""
    habits = config.teacher
    stack = StackedDecoder.fresh(teacher_decoder(config), [seed]).to(device)
    generator = seeded(seed, device)
    n_revise = round(habits.revise * habits.batch)

    def draw(first: int, steps: int) -> list[Examples]:
        n_solve, gone = habits.batch - n_revise, first / habits.n_steps
        solve = solve_examples(
            config,
            steps * n_solve,
            repair=1.0 if gone < habits.at_once else habits.repair,
            spread=habits.at_once <= gone < habits.at_once + habits.spread,
            generator=generator,
        )
        revise = revise_examples(config, steps * n_revise, generator=generator)
        return [_by_step([solve], steps), _by_step([revise], steps)]

    fit(
        stack,
        draw,
        n_steps=habits.n_steps,
        lr=habits.lr,
        shares=(1 - habits.revise, habits.revise),
        stale=stale,
        progress=progress,
    )
    return stack


def _by_step(drawn: Sequence[Examples], steps: int) -> Examples:
    """Examples [steps * b, ...] of each model as [steps, m, b, ...]."""

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(one, name).unflatten(0, (steps, -1)) for one in drawn], dim=1)

    return Examples(stacked("prompts"), stacked("responses"), stacked("counted"))
