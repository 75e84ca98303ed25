"""The learned teacher and the students it is to teach, trained from scratch on running sums.

The teacher learns to solve from x, with errors planted in its own prefix that it sometimes
repairs (WAIT) and sometimes carries on from, and to rewrite a draft in the draft's order. The
student has habits of its own: it works from right to left, and it errs.

`Examples` are what a model is trained on, `fit` trains a stack on them, and `LearnedTeacher` has
the methods of `teacher.ExactTeacher`, so that either can teach.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import check, never, seeded
from intuitive.common.training import Progress, silent

from .model import GraphedStep, StackedAdamW, StackedDecoder, cosine, decoder_config
from .rollout import response_logits, sample_rollouts
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


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The first student: its sizes, habits and training."""

    width: int = 32
    n_layers: int = 2
    right_to_left: float = 0.8  # share of traces in this order; the others are in any
    wrong_total: float = 0.15  # chance that a total is wrong, in what it learns from
    wrong_plan: float = 0.4  # likewise for the plan, where there is one
    n_steps: int = 6000
    batch: int = 96
    lr: float = 3e-3


@dataclass(frozen=True, kw_only=True)
class LearnedTeacherConfig:
    """The learned teacher: its sizes, what it sees and its training. Shares add up to 1."""

    width: int = 64
    n_layers: int = 4
    clean: float = 0.4  # share of right solutions from x
    planted: float = 0.3  # of solutions with one planted wrong total
    revise: float = 0.3  # of drafts that are rewritten
    repair: float = 0.3  # chance of WAIT at a boundary after an error: the ideal λ
    at_once: float = 0.25  # first share of the steps: every error is repaired at once
    spread: float = 0.3  # next share: at any later boundary; then with `repair` as its chance
    left_to_right: float = 0.5  # orders of its own; the others are uniform
    wrong_plan: float = 0.4  # how often it guesses a wrong plan from x
    n_steps: int = 14_000
    batch: int = 128
    lr: float = 1.5e-3

    def __post_init__(self) -> None:
        if abs(self.clean + self.planted + self.revise - 1) > 1e-6:
            raise ValueError(
                f"clean={self.clean}, planted={self.planted} and revise={self.revise} are shares "
                "of a batch: they must add up to 1."
            )


@dataclass(frozen=True, kw_only=True)
class SettingConfig:
    """A problem with its teacher and student."""

    sums: SumsConfig = field(default_factory=SumsConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    teacher: LearnedTeacherConfig = field(default_factory=LearnedTeacherConfig)

    @classmethod
    def late(cls) -> "SettingConfig":
        """Eight digits, errors that show late: the student errs in the plan, rarely in a total.

        The teacher sees more errors than in the small setting: with fewer it does not learn to
        check an addition modulo 23.
        """
        return cls(
            sums=SumsConfig.late(),
            student=StudentConfig(width=64, wrong_total=0.03),
            teacher=LearnedTeacherConfig(
                width=96, clean=0.28, planted=0.42, n_steps=16_000, batch=160
            ),
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
    draw = torch.rand(b, generator=generator, device=device)
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
        among = (k + 1 - first_seen) * torch.rand(b, generator=generator, device=device)
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
    how_often = 0.5 * torch.rand(b, 1, generator=generator, device=device)
    shifts = sample_shifts(sums, b, probability=1.0, generator=generator)
    shifts = shifts * (torch.rand(b, k, generator=generator, device=device) < how_often)
    wrong = shifts != 0
    first_seen = torch.where(wrong.any(-1), wrong.int().argmax(-1) + 1, 0)
    plan_shifts = _plan_shifts(sums, b, habits.wrong_plan, generator)
    if plan_shifts is not None:
        first_seen = torch.where((plan_shifts > 0) & (first_seen == 0), k, first_seen)
    kind = torch.rand(b, generator=generator, device=device)
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
    return shifts * (torch.rand(b, generator=generator, device=device) < probability)


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

    def step_once(*tensors: Tensor) -> Tensor:
        optimizer.zero_grad()
        kinds = [Examples(*tensors[i : i + 3]) for i in range(0, len(tensors), 3)]
        each = sum(s * losses(stack, kind) for s, kind in zip(shares, kinds, strict=True))
        each.sum().backward()
        optimizer.step()
        return each.detach().mean()

    step_fast, at_once, kept = GraphedStep(step_once, device), 50, []
    for step in range(n_steps):
        check(stale)
        if step % at_once == 0:
            drawn = draw(step, min(at_once, n_steps - step))
        now = [kind.step(step % at_once) for kind in drawn]
        loss = step_fast(*(t for kind in now for t in (kind.prompts, kind.responses, kind.counted)))
        if step % at_once == 0:
            kept.append(float(loss))
            if not math.isfinite(kept[-1]):
                raise RuntimeError(f"the loss is {kept[-1]} at step {step}: lower lr={lr}.")
        progress((step + 1) / n_steps, f"Step {step + 1} of {n_steps}: loss {kept[-1]:.3f}")
    return kept


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


def student_decoder(config: SettingConfig) -> DecoderConfig:
    """Sizes of a student: its context is the problem and one trace."""
    sums, sizes = config.sums, config.student
    return decoder_config(
        vocab_size=sums.vocab_size,
        width=sizes.width,
        n_layers=sizes.n_layers,
        max_positions=sums.prompt_length + sums.trace_length,
    )


def teacher_decoder(config: SettingConfig) -> DecoderConfig:
    """Sizes of a learned teacher: its context has room for a draft too."""
    sums, sizes = config.sums, config.teacher
    return decoder_config(
        vocab_size=sums.vocab_size,
        width=sizes.width,
        n_layers=sizes.n_layers,
        max_positions=sums.refine_length + sums.trace_length,
    )


def _by_step(drawn: Sequence[Examples], steps: int) -> Examples:
    """Examples [steps * b, ...] of each model as [steps, m, b, ...]."""

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(one, name).unflatten(0, (steps, -1)) for one in drawn], dim=1)

    return Examples(stacked("prompts"), stacked("responses"), stacked("counted"))


# ---------------------------------------------------------------------------- a learned teacher


@dataclass(frozen=True, eq=False)
class LearnedTeacher:
    """A trained decoder behind the methods of `ExactTeacher`.

    With a draft, or a solution (OPSD), it reads `problem draft REV` and rewrites; without it
    solves from x. With both it reads the draft alone: one that came to its end shows all that the
    solution would.
    """

    sums: SumsConfig
    decoder: Decoder

    def _prompts(self, digits: Tensor, drafts: Tensor | None, solutions: Tensor | None) -> Tensor:
        shown = solutions if drafts is None else drafts
        if shown is None:
            return prompts(self.sums, digits)
        return refine_prompts(self.sums, digits, shown)

    @torch.no_grad()
    def logits(
        self,
        digits: Int[Tensor, "b n_digits"],
        tokens: Int[Tensor, "b n"],
        *,
        drafts: Int[Tensor, "b n_draft"] | None = None,
        solutions: Int[Tensor, "b n_solution"] | None = None,
    ) -> Float[Tensor, "b n v"]:
        """Logits of every token of a trace, given those before it; as `ExactTeacher.logits`."""
        return response_logits(self.decoder, self._prompts(digits, drafts, solutions), tokens)

    def sample(
        self,
        digits: Int[Tensor, "b n_digits"],
        *,
        generator: torch.Generator,
        drafts: Int[Tensor, "b n_draft"] | None = None,
        solutions: Int[Tensor, "b n_solution"] | None = None,
        stale: Callable[[], bool] = never,
    ) -> Int[Tensor, "b n"]:
        """Traces of the teacher's own at temperature 1; as `ExactTeacher.sample`."""
        given = self._prompts(digits, drafts, solutions)
        return sample_rollouts(self.decoder, self.sums, given, generator=generator, stale=stale)
