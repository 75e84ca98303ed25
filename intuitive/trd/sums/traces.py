"""Traces that are written: orders, planted errors, repairs."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..draws import uniform
from .problems import SumsConfig, plans


def sample_orders(
    config: SumsConfig,
    b: int,
    *,
    left_to_right: int | float = 0.0,
    right_to_left: int | float = 0.0,
    generator: torch.Generator,
) -> Int[Tensor, "b n_digits"]:
    """Orders in which to visit the digits: two habits with given shares, the rest uniform.

    Raises:
        ValueError: the shares are negative or exceed 1 together.
    """
    if min(left_to_right, right_to_left) < 0 or left_to_right + right_to_left > 1:
        raise ValueError(
            f"left_to_right={left_to_right} and right_to_left={right_to_left} are shares: none "
            "below 0, together at most 1."
        )
    device = generator.device
    forwards = torch.arange(config.n_digits, device=device)
    orders = uniform(b, config.n_digits, generator=generator).argsort(-1)
    habit = uniform(b, 1, generator=generator)
    orders = torch.where(habit < left_to_right + right_to_left, forwards.flip(0), orders)
    return torch.where(habit < left_to_right, forwards, orders)


def sample_shifts(
    config: SumsConfig, b: int, *, probability: int | float, generator: torch.Generator
) -> Int[Tensor, "b n_digits"]:
    """What is added to each total by mistake: 0, or with this probability one of 1 ... P − 1.

    Raises:
        ValueError: `probability` outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability} must lie in [0, 1].")
    shape, device = (b, config.n_digits), generator.device
    shifts = torch.randint(1, config.modulus, shape, generator=generator, device=device)
    return shifts * (uniform(*shape, generator=generator) < probability)


def sample_repair_steps(
    config: SumsConfig,
    first_seen: Int[Tensor, " b"],
    *,
    repair: int | float,
    generator: torch.Generator,
) -> Int[Tensor, " b"]:
    """After how many steps each trace says WAIT; 0 if it never does.

    Args:
        config: sizes.
        first_seen: steps after which the error can first be seen, in [1, K]: one more than the
            step of the first wrong total (counted from 0), K for a wrong plan; 0 for no error.
        repair: chance of WAIT at every boundary from there on, the one before ANS included.
        generator: the source of randomness.
    """
    b, k, device = len(first_seen), config.n_digits, generator.device
    says = uniform(b, k, generator=generator) < repair  # after 1 ... K steps
    steps = torch.arange(1, k + 1, device=device)
    says &= (first_seen[:, None] > 0) & (steps >= first_seen[:, None])
    return torch.where(says.any(-1), says.int().argmax(-1) + 1, 0)


@dataclass(frozen=True)
class Traces:
    """Written traces, filled up with PAD to `trace_length`."""

    tokens: Int[Tensor, "b n"]
    planted: Bool[Tensor, "b n"]  # the wrong numbers that were asked for; not what follows them


def write_traces(
    config: SumsConfig,
    digits: Int[Tensor, "b n_digits"],
    orders: Int[Tensor, "b n_digits"],
    *,
    shifts: Int[Tensor, "b n_digits"] | None = None,
    plan_shifts: Int[Tensor, " b"] | None = None,
    wait_after: Int[Tensor, " b"] | None = None,
) -> Traces:
    """Traces in given orders, right or with planted errors, with or without a repair.

    After a wrong number the trace goes on consistently from it. After WAIT it goes back to the
    first wrong total or, if none is wrong and all steps stand, to the plan, and does right, in the
    same order, what it has taken back.

    Args:
        config: sizes.
        digits: the problems.
        orders: a permutation of 0 ... K − 1 per row.
        shifts: added to the j-th total; 0 is right.
        plan_shifts: added to the plan modulo K + 1; 0 is right. Only with a plan.
        wait_after: steps after which the trace says WAIT; 0 is never.

    Raises:
        ValueError: an order is no permutation; a plan where there is none; WAIT without an error
            that can be seen there; digits out of range.
    """
    config.check_digits(digits)
    b, k, p, off = len(digits), config.n_digits, config.modulus, int(config.plan)
    if not torch.equal(orders.sort(-1).values, torch.arange(k, device=orders.device).expand(b, k)):
        raise ValueError(f"orders must be permutations of 0 ... {k - 1}, one per problem.")
    zeros = digits.new_zeros(b)
    shifts = torch.zeros_like(digits) if shifts is None else shifts % p
    if plan_shifts is not None and not config.plan:
        raise ValueError("plan_shifts were given, but plan=False: use SumsConfig(plan=True).")
    plan_shifts = zeros if plan_shifts is None else plan_shifts % config.n_plans
    wait_after = zeros if wait_after is None else wait_after
    steps = torch.arange(k, device=digits.device)

    wrong = shifts != 0
    first_bad = torch.where(wrong.any(-1), wrong.int().argmax(-1), k)
    waits = wait_after > 0
    redo_step = first_bad < wait_after
    redo_plan = waits & ~redo_step & (plan_shifts != 0) & (wait_after == k)
    if (waits & ~redo_step & ~redo_plan | (wait_after > k)).any():
        row = int((waits & ~redo_step & ~redo_plan | (wait_after > k)).int().argmax())
        raise ValueError(
            f"row {row} says WAIT after {int(wait_after[row])} of {k} steps, where no error can "
            "be seen: plant one before, or take 0."
        )

    visited = digits.gather(1, orders)  # [b, k], in the order of the trace
    later = shifts * (steps >= wait_after[:, None])  # errors that the repair does not undo
    plan = plans(config, digits)
    start = (plan + plan_shifts) % config.n_plans if config.plan else plan
    restart = torch.where(redo_plan, plan, start)
    first = _steps(config, start, orders, (start[:, None] + (visited + shifts).cumsum(-1)) % p)
    second = _steps(config, restart, orders, (restart[:, None] + (visited + later).cumsum(-1)) % p)
    planted = _steps(config, plan_shifts != 0, torch.zeros_like(wrong), wrong)
    planted_again = _steps(config, zeros != 0, torch.zeros_like(wrong), later != 0)

    # Each row is cut from: first attempt, second attempt, WAIT, ANS, answer, EOS, PAD.
    n = off + 2 * k
    answer = torch.where(waits, second[:, -1], first[:, -1])
    single = [zeros + config.wait, zeros + config.ans, answer, zeros + config.eos]
    source = torch.cat([first, second, torch.stack([*single, zeros + config.pad], 1)], dim=1)
    marks = torch.cat([planted, planted_again, planted.new_zeros(b, 5)], dim=1)
    at = torch.arange(config.trace_length, device=digits.device).expand(b, -1)
    before = torch.where(waits, off + 2 * wait_after, n)[:, None]  # tokens before WAIT or ANS
    back_to = torch.where(redo_plan, 0, off + 2 * first_bad.clamp(max=k))[:, None]
    again = torch.where(waits[:, None], n - back_to, 0)  # tokens after WAIT, before ANS
    after = at - before - waits[:, None].long()
    column = torch.where(
        at < before,
        at,
        torch.where(
            after < 0,
            2 * n,
            torch.where(after < again, n + back_to + after, (2 * n + 1 + after - again)),
        ),
    ).clamp(max=2 * n + 4)
    return Traces(source.gather(1, column), marks.gather(1, column))


def _steps(config: SumsConfig, start: Tensor, orders: Tensor, totals: Tensor) -> Tensor:
    """Plan where there is one, then index and total in turn; for marks too, [b, n]."""
    indices = orders if orders.dtype == torch.bool else orders + config.first_index
    steps = torch.stack([indices, totals], dim=-1).flatten(1)
    return torch.cat([start[:, None], steps], dim=1) if config.plan else steps
