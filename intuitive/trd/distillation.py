"""One training loop for all methods.

`distil` trains any number of students at once: several methods, teachers, learning rates and seeds
in one stack, each on its own data. `roll` and `grade` look at all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.runtime import check, never, seeded
from intuitive.common.training import Progress, silent, train

from .draws import uniform
from .methods import Method
from .model import StackedDecoder, generate
from .optimizer import StackedAdamW, cosine
from .rollout import Tokens
from .sums import SumsConfig, Verdict, prompts, verify
from .teacher import Teacher
from .teaching import trajectories

ROLLOUTS_AT_ONCE = 400_000  # on CUDA, over all models of a stack


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and on what students are trained; the same for all of a stack."""

    n_problems: int = 1536
    n_steps: int = 240
    batch: int = 96
    rounds: int = 1  # rollouts are drawn anew so often
    observe_every: int = 0  # steps; 0 is never

    def __post_init__(self) -> None:
        for name, low in (
            ("n_problems", 1), ("n_steps", 1), ("batch", 1), ("rounds", 1), ("observe_every", 0)
        ):  # fmt: skip
            object.__setattr__(self, name, whole(name, getattr(self, name), low=low))
        if self.n_steps % self.rounds:
            raise ValueError(
                f"n_steps={self.n_steps} must be a multiple of rounds={self.rounds}, at least 1: "
                "every round takes as many steps."
            )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One student to be trained."""

    name: str  # of the method, for tables
    method: Method
    teacher: str  # a key of the teachers
    seed: int  # which of the first students, and its random numbers
    lr: float = 1e-3


# ---------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def roll(
    sums: SumsConfig,
    stack: StackedDecoder,
    digits: Int[Tensor, "p n_digits"],
    *,
    seeds: Sequence[int],
    n_samples: int = 1,
    salt: int = 0,
    temperature: int | float = 1.0,
    stale: Callable[[], bool] = never,
) -> Int[Tensor, "m rows n"]:
    """Rollouts of every model on the same problems; rows are sample-major: all problems, again.

    Models of one seed draw the same random numbers. The traces are cut at `trace_length`.
    """
    device = stack.weights.device
    given = prompts(sums, digits).repeat(n_samples, 1)  # [rows, n_prompt]
    at_once = max(1, ROLLOUTS_AT_ONCE // len(given))
    unique = sorted(set(seeds))
    parts = []
    for first in range(0, stack.n_models, at_once):
        check(stale)
        chosen = range(first, min(first + at_once, stack.n_models))
        parts.append(
            generate(
                stack if len(chosen) == stack.n_models else stack.copies(chosen),
                given.expand(len(chosen), -1, -1),
                max_new_tokens=sums.trace_length,
                end=sums.eos,
                pad=sums.pad,
                generators=[seeded(1000 * salt + seed, device) for seed in unique],
                owners=[unique.index(seeds[model]) for model in chosen],
                temperature=temperature,
                stale=stale,
            )
        )
    return torch.cat(parts)


def grade(
    sums: SumsConfig, digits: Int[Tensor, "p n_digits"], rollouts: Int[Tensor, "m rows n"]
) -> list[Verdict]:
    """A verdict on the rollouts of each model, as `roll` returns them."""
    m, n_rows, _ = rollouts.shape
    verdict = verify(sums, digits.repeat(m * n_rows // len(digits), 1), rollouts.flatten(0, 1))
    apart = [
        {f.name: part for f, part in zip(fields(Verdict), parts, strict=True)}
        for parts in zip(
            *(getattr(verdict, f.name).split(n_rows) for f in fields(Verdict)), strict=True
        )
    ]
    return [Verdict(**one) for one in apart]


# ------------------------------------------------------------------------------------- training


@dataclass(frozen=True, eq=False)
class _Group:
    """Neighbouring arms with one method and one teacher."""

    arms: slice
    method: Method
    teacher: str
    seeds: tuple[int, ...]


@dataclass(eq=False)
class Distilled:
    """Trained students, in the order of the arms, and what they cost."""

    stack: StackedDecoder
    arms: tuple[Arm, ...]
    cost: list[Tokens]
    losses: list[list[float]] = field(default_factory=list)  # by observation, one per arm


def distil(
    first_students: StackedDecoder,
    arms: Sequence[Arm],
    teachers: Mapping[str, Teacher],
    digits: Int[Tensor, "n_problems n_digits"],
    plan: Plan,
    *,
    observe: Callable[[int, StackedDecoder, list[Tokens]], object] | None = None,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Distilled:
    """Train one student per arm, all at once.

    The loss of an arm is the sum over the counted tokens of its batch divided by their number.
    Arms of one seed start from one student, draw the same rollouts in the first round, and take
    the same rows of their data at every step.

    Args:
        first_students: arm.seed names one of them.
        arms: those with one method and teacher next to each other.
        teachers: by the names in the arms.
        digits: the training problems.
        plan: steps, batch and rounds.
        observe: called with the steps taken, the students and their costs so far, every
            `plan.observe_every` steps and before the first one.
        stale: turns true when nobody waits any more.
        progress: called after every step.

    Raises:
        ValueError: no arms, a seed without a student, an unknown teacher.
        Cancelled: `stale()` became true.
    """
    _check_arms(arms, teachers, first_students)
    with torch.inference_mode(False):  # whatever the caller's mode is
        return _distil(first_students, arms, teachers, digits, plan, observe, stale, progress)


def _distil(
    first_students: StackedDecoder,
    arms: Sequence[Arm],
    teachers: Mapping[str, Teacher],
    digits: Tensor,
    plan: Plan,
    observe: Callable[[int, StackedDecoder, list[Tokens]], object] | None,
    stale: Callable[[], bool],
    progress: Progress,
) -> Distilled:
    device = digits.device
    stack = first_students.copies([arm.seed for arm in arms])
    lr = torch.tensor([arm.lr for arm in arms], device=device)
    optimizer = StackedAdamW(stack, lr, schedule=cosine(plan.n_steps))
    done = Distilled(stack, tuple(arms), [Tokens() for _ in arms])
    groups = _groups(arms)
    steps_per_round, every = plan.n_steps // plan.rounds, plan.observe_every
    banks: list[_Bank] = []
    picks: dict[int, Tensor] = {}
    longest = 0

    def begin_round(number: int) -> None:
        nonlocal banks, picks, longest
        progress(number / plan.rounds, f"Round {number + 1} of {plan.rounds}: drawing rollouts")
        banks = [
            _bank(done, group, teachers[group.teacher], digits, number, stale) for group in groups
        ]
        picks = {
            seed: uniform(steps_per_round, plan.batch, generator=seeded(7919 * seed + number)).to(
                device
            )
            for seed in {arm.seed for arm in arms}
        }
        longest = max(int(bank.counted.flatten(0, 1).any(0).sum()) for bank in banks)

    def between(taken: int) -> None:
        """A round is drawn before it is looked at: what it costs is spent by then."""
        if taken < plan.n_steps and taken % steps_per_round == 0:
            begin_round(taken // steps_per_round)
        looks = taken == plan.n_steps or (every and taken % every == 0)
        if observe and every and looks:
            observe(taken, stack, done.cost)

    def gradients(step: int) -> dict[str, float]:
        batches = [bank.batch(picks, step % steps_per_round, longest) for bank in banks]
        given = torch.cat([batch[0] for batch in batches])
        tokens = torch.cat([batch[1] for batch in batches])
        logits = stack(torch.cat([given, tokens[..., :-1]], -1))[:, :, given.shape[-1] - 1 :]
        each = torch.cat(
            [
                _arm_losses(group.method, batch, logits[group.arms])
                for group, batch in zip(groups, batches, strict=True)
            ]
        )
        each.sum().backward()
        if step % 10 == 0 or step == plan.n_steps - 1:
            done.losses.append(each.tolist())
        return {}  # one arm that diverges does not stop the others, and a look waits for a GPU

    train(
        gradients,
        optimizer,
        n_steps=plan.n_steps,
        observe=between,
        observe_at=range(plan.n_steps + 1),
        stale=stale,
        progress=lambda share, _: progress(
            share, f"Step {round(share * plan.n_steps)} of {plan.n_steps}"
        ),
    )
    return done


def _check_arms(
    arms: Sequence[Arm], teachers: Mapping[str, Teacher], students: StackedDecoder
) -> None:
    if not arms:
        raise ValueError("arms is empty: name at least one student to train.")
    for arm in arms:
        if not 0 <= arm.seed < students.n_models:
            raise ValueError(
                f"seed={arm.seed} of {arm.name} must lie in [0, {students.n_models}), the first "
                "students there are."
            )
        if arm.teacher not in teachers:
            raise ValueError(
                f"teacher={arm.teacher!r} of {arm.name} must be one of {', '.join(teachers)}."
            )


def _groups(arms: Sequence[Arm]) -> list[_Group]:
    groups: list[_Group] = []
    for place, arm in enumerate(arms):
        last = groups[-1] if groups else None
        if last and (last.method, last.teacher) == (arm.method, arm.teacher):
            groups[-1] = _Group(
                slice(last.arms.start, place + 1), arm.method, arm.teacher, (*last.seeds, arm.seed)
            )
        else:
            groups.append(_Group(slice(place, place + 1), arm.method, arm.teacher, (arm.seed,)))
    return groups


@dataclass(frozen=True, eq=False)
class _Bank:
    """The trajectories of a group's arms; `source` says whose rows each arm reads."""

    group: _Group
    source: Int[Tensor, " g"]
    prompts: Int[Tensor, "n_rows n_prompt"]
    tokens: Int[Tensor, "s n_rows n"]
    counted: Bool[Tensor, "s n_rows n"]
    teacher_logits: Tensor | None  # [s, n_rows, n, v]
    allowed: Int[Tensor, "s n_rows"]  # rows of the subset first
    n_allowed: Int[Tensor, " s"]

    def batch(
        self, picks: Mapping[int, Tensor], step: int, longest: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Prompts, tokens, counted [g, b, ...] and teacher logits of one step."""
        draw = torch.stack([picks[seed][step] for seed in self.group.seeds])  # [g, b]
        place = (draw * self.n_allowed[self.source, None]).long()
        source = self.source[:, None]
        rows = self.allowed[source, place]
        scores = self.teacher_logits
        return (
            self.prompts[rows],
            self.tokens[source, rows, :longest],
            self.counted[source, rows, :longest],
            None if scores is None else scores[source, rows, :longest],
        )


def _bank(
    done: Distilled,
    group: _Group,
    teacher: Teacher,
    digits: Tensor,
    number: int,
    stale: Callable[[], bool],
) -> _Bank:
    """New rollouts of a group's students and what its teacher makes of them."""
    # In the first round all arms of a seed are the same student: one of them stands for all.
    seeds, first = group.seeds, number == 0
    source = [seeds.index(seed) for seed in seeds] if first else list(range(len(seeds)))
    kept = sorted(set(source))
    students = done.stack.copies([group.arms.start + place for place in kept])
    y_o = roll(
        teacher.sums,
        students,
        digits,
        seeds=[seeds[place] for place in kept],
        n_samples=group.method.rollouts,
        salt=number + 1,
        stale=stale,
    )
    n_rows = y_o.shape[1]
    found = trajectories(
        group.method,
        teacher,
        digits.repeat(len(kept) * group.method.rollouts, 1),
        y_o.flatten(0, 1),
        generator=seeded(100 * number + seeds[0], digits.device),
        stale=stale,
    )
    for arm, place in zip(range(group.arms.start, group.arms.stop), source, strict=True):
        whose = kept.index(place)
        done.cost[arm] += found.cost(slice(whose * n_rows, (whose + 1) * n_rows))
    apart = (len(kept), n_rows)
    in_subset = found.in_subset.view(apart)
    if not bool(in_subset.any(-1).all()):
        raise ValueError(
            f"subset={group.method.subset!r} leaves a student none of its {n_rows} rollouts: take "
            "more problems, or subset='all'."
        )
    scores = found.teacher_logits
    return _Bank(
        group,
        torch.tensor([kept.index(place) for place in source], device=digits.device),
        found.prompts[:n_rows],
        found.tokens.unflatten(0, apart),
        found.counted.unflatten(0, apart),
        None if scores is None else scores.unflatten(0, apart),
        (~in_subset).int().argsort(dim=-1, stable=True),
        in_subset.sum(-1),
    )


def _arm_losses(method: Method, batch: tuple, student_logits: Tensor) -> Tensor:
    """Mean nats per counted token of each arm, [g]."""
    _, tokens, counted, teacher_logits = batch
    if teacher_logits is None:
        nats = F.cross_entropy(student_logits.flatten(0, -2), tokens.flatten(), reduction="none")
        nats = nats.view(tokens.shape)  # [g, b, n]
    else:
        charge = method.divergence
        nats = charge(teacher_logits, student_logits, method, tokens=tokens, check=False)
    nats = torch.where(counted, nats, 0.0)
    return nats.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)
