"""Ways to teach a student, as data, and one training loop for all of them.

A method says which trajectory the student is trained along (its own rollout y_o, the teacher's
rewrite y_r, the teacher's own solution y_T), what the teacher sees when it scores, and what the
difference costs. `distil` trains any number of students at once: several methods, teachers,
learning rates and seeds in one stack, each on its own data.

Source: arXiv:2606.08432, sections 2 to 5. Differs: OPSD's teacher there is the first student
itself with a solution in its context; here it is the teacher of the setting with that context.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .divergences import DIVERGENCES, Divergence
from .draws import uniform
from .model import StackedDecoder, generate
from .optimizer import StackedAdamW, cosine
from .rollout import Tokens
from .sums import SumsConfig, Verdict, prompts, refine_prompts, verify, write_traces
from .teacher import Teacher

TRAJECTORIES = ("y_o", "y_r", "y_T")
CONTEXTS = ("x", "refine")
SUBSETS = ("all", "wrong", "right", "fail_pass")
ROWS_AT_ONCE = {"cpu": 256, "cuda": 16_384}  # that a teacher reads; few on the CPU, to stop soon
ROLLOUTS_AT_ONCE = 400_000  # on CUDA, over all models of a stack

HARD = "sft"  # the loss that takes tokens as labels: no divergence, nothing is scored
LOSSES = {  # names of losses, as committed runs hold them, and of their divergences
    "forward": "forward_kl",
    "reverse": "reverse_kl",
    "jensen_shannon": "jensen_shannon",
    "forward_clip": "clipped_forward_kl",
    "forward_entropy": "entropy_weighted_forward_kl",
    "reverse_topk": "topk_reverse_kl",
    "policy_gradient": "policy_gradient",
    "monte_carlo_forward": "monte_carlo_forward",
    HARD: "",
}


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    """One way to teach."""

    trajectory: str = "y_r"  # y_o, y_r or y_T
    context: str = "refine"  # what the teacher sees as it scores: x, or refine: x and y_o
    privileged: bool = False  # and a reference solution, whenever it reads or writes (OPSD)
    loss: str = "forward"  # a name in LOSSES
    cap: float = 0.1  # nats, of forward_clip
    beta: float = 0.5  # of jensen_shannon
    top_k: int = 4  # of reverse_topk
    tail: bool = False  # likewise
    subset: str = "all"  # rollouts trained on: all, wrong, right, fail_pass (wrong y_o, right y_r)
    first_tokens: int = 0  # train on so many tokens of a trajectory only; 0 is all
    rollouts: int = 1  # per problem and round
    keep_order: bool = True  # the rewrite keeps the draft's order; False for the exact teacher only
    corrupted: float = 0.0  # share of trajectories with one number changed

    def __post_init__(self) -> None:
        for name, allowed in (
            ("trajectory", TRAJECTORIES),
            ("context", CONTEXTS),
            ("loss", tuple(LOSSES)),
            ("subset", SUBSETS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}."
                )
        for name, low in (("rollouts", 1), ("first_tokens", 0), ("top_k", 1)):
            object.__setattr__(self, name, whole(name, getattr(self, name), low=low))
        if self.cap <= 0 or not 0 <= self.beta <= 1 or not 0 <= self.corrupted <= 1:
            raise ValueError(
                f"cap={self.cap} must be above 0, beta={self.beta} lie in [0, 1] and "
                f"corrupted={self.corrupted} be a share in [0, 1]."
            )

    @property
    def divergence(self) -> Divergence:
        """What is charged for; hard labels have none."""
        return DIVERGENCES[
            LOSSES[self.loss] + "_tail" * (self.tail and self.loss == "reverse_topk")
        ]


def _opd(**settings: object) -> Method:
    return Method(trajectory="y_o", context="x", **settings)


METHODS: dict[str, Method] = {
    "opd_forward": _opd(),
    "opd_forward_entropy": _opd(loss="forward_entropy"),
    "opd_forward_clip": _opd(loss="forward_clip"),
    "opd_jensen_shannon": _opd(loss="jensen_shannon"),
    "opd_reverse": _opd(loss="reverse"),
    "opd_reverse_topk": _opd(loss="reverse_topk"),
    "opd_reverse_topk_tail": _opd(loss="reverse_topk", tail=True),
    "opd_policy_gradient": _opd(loss="policy_gradient"),
    "opsd_forward": _opd(privileged=True),
    "opsd_reverse": _opd(privileged=True, loss="reverse"),
    "sft_teacher": Method(trajectory="y_T", context="x", loss=HARD),
    "sft_refined": Method(loss=HARD),
    "trd": Method(),
    "trd_from_x": Method(context="x"),
    "trd_reverse": Method(loss="reverse"),
    "trd_opsd": Method(privileged=True),
}
ABLATIONS: dict[str, Method] = {
    "opd_forward_x3": _opd(rollouts=3),
    "opd_reverse_x3": _opd(rollouts=3, loss="reverse"),
    "opd_forward_first_6": _opd(first_tokens=6),
    "opd_monte_carlo_forward": _opd(loss="monte_carlo_forward"),
    "trd_wrong_only": Method(subset="wrong"),
    "trd_right_only": Method(subset="right"),
    "trd_fail_pass": Method(subset="fail_pass"),
    "trd_corrupted_30": Method(corrupted=0.3),
    "trd_any_order": Method(keep_order=False),
}


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
class Trajectories:
    """What students are trained on in one round; the rows of several students may be joined.

    The counts are tokens per row, in the sense of `rollout.Tokens`: a teacher that rewrites reads
    prompt and draft once and then writes; scoring reads the trajectory too, and the prompt unless
    it was read to write.
    """

    prompts: Int[Tensor, "n_rows n_prompt"]
    tokens: Int[Tensor, "n_rows n"]
    counted: Bool[Tensor, "n_rows n"]
    teacher_logits: Tensor | None  # [n_rows, n, v]
    in_subset: Bool[Tensor, " n_rows"]
    teacher_generated: Int[Tensor, " n_rows"]
    teacher_scored: Int[Tensor, " n_rows"]
    student_generated: Int[Tensor, " n_rows"]

    def cost(self, rows: slice) -> Tokens:
        """Tokens of some of the rows."""
        return Tokens(
            teacher_generated=int(self.teacher_generated[rows].sum()),
            teacher_scored=int(self.teacher_scored[rows].sum()),
            student_generated=int(self.student_generated[rows].sum()),
        )


def trajectories(
    method: Method,
    teacher: Teacher,
    digits: Int[Tensor, "n_rows n_digits"],
    y_o: Int[Tensor, "n_rows n"],
    *,
    generator: torch.Generator,
    stale: Callable[[], bool] = never,
) -> Trajectories:
    """Rewrites, solutions and scores for students' rollouts.

    Raises:
        Cancelled: `stale()` became true.
    """
    sums, parts = teacher.sums, []
    at_once = ROWS_AT_ONCE[digits.device.type]
    for pair in zip(digits.split(at_once), y_o.split(at_once), strict=True):
        check(stale)
        parts.append(_teach(method, teacher, *pair, generator))
    tokens = torch.cat([part[0] for part in parts])
    scored = method.loss != HARD
    if method.corrupted:
        tokens = _corrupt(sums, tokens, method.corrupted, generator)
    counted = tokens != sums.pad
    if method.first_tokens:
        counted &= torch.arange(tokens.shape[1], device=tokens.device) < method.first_tokens

    from_x, writes = prompts(sums, digits), method.trajectory != "y_o"
    seen = refine_prompts(sums, digits, y_o) if method.trajectory == "y_r" else from_x
    n_prompt, n_seen, n_drafted, n_tokens = (
        (one != sums.pad).sum(-1) for one in (from_x, seen, y_o, tokens)
    )
    nothing = torch.zeros_like(n_tokens)
    read_before = writes and (method.context == "refine") == (method.trajectory == "y_r")
    score_cost = n_tokens + (nothing if read_before else n_prompt)
    drafted = verify(sums, digits, y_o).correct
    return Trajectories(
        prompts=from_x,
        tokens=tokens,
        counted=counted,
        teacher_logits=torch.cat([part[1] for part in parts]) if scored else None,
        in_subset={
            "all": lambda: torch.ones_like(drafted),
            "wrong": lambda: ~drafted,
            "right": lambda: drafted,
            "fail_pass": lambda: ~drafted & verify(sums, digits, tokens).correct,
        }[method.subset](),
        teacher_generated=n_tokens if writes else nothing,
        teacher_scored=(n_seen if writes else nothing) + (score_cost if scored else nothing),
        student_generated=nothing if method.trajectory == "y_T" else n_drafted,
    )


def _teach(
    method: Method, teacher: Teacher, digits: Tensor, y_o: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """The trajectory and the teacher's logits on it, of some rows."""
    solutions = reference_solutions(teacher.sums, digits) if method.privileged else None
    tokens = y_o
    if method.trajectory != "y_o":
        tokens = teacher.sample(
            digits,
            generator=generator,
            drafts=y_o if method.trajectory == "y_r" else None,
            solutions=solutions,
            keep_order=method.keep_order,
        )
    if method.loss == HARD:
        return tokens, None
    scores = teacher.logits(
        digits,
        tokens,
        drafts=y_o if method.context == "refine" else None,
        solutions=solutions,
        keep_order=method.keep_order,
    )
    return tokens, scores


def reference_solutions(sums: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> Tensor:
    """y*: the right trace from left to right, [b, trace_length]."""
    orders = torch.arange(sums.n_digits, device=digits.device).expand(len(digits), -1)
    return write_traces(sums, digits, orders).tokens


def _corrupt(sums: SumsConfig, tokens: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Traces of which a share has one of its numbers changed."""
    b, device = len(tokens), tokens.device
    draw = uniform(*tokens.shape, generator=generator)
    at = draw.masked_fill(tokens >= sums.modulus, -1.0).argmax(-1, keepdim=True)
    by = torch.randint(1, sums.modulus, (b, 1), generator=generator, device=device)
    hit = uniform(b, 1, generator=generator) < share
    old = tokens.gather(1, at)
    new = torch.where(hit & (old < sums.modulus), (old + by) % sums.modulus, old)
    return tokens.scatter(1, at, new)


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
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
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
    steps_per_round = plan.n_steps // plan.rounds
    for step in range(plan.n_steps):
        check(stale)
        if step % steps_per_round == 0:
            number = step // steps_per_round
            progress(step / plan.n_steps, f"Round {number + 1} of {plan.rounds}: drawing rollouts")
            banks = [
                _bank(done, group, teachers[group.teacher], digits, number, stale)
                for group in groups
            ]
            picks = {
                seed: uniform(
                    steps_per_round, plan.batch, generator=seeded(7919 * seed + number)
                ).to(device)
                for seed in {arm.seed for arm in arms}
            }
            longest = max(int(bank.counted.flatten(0, 1).any(0).sum()) for bank in banks)
        if observe and plan.observe_every and step % plan.observe_every == 0:
            observe(step, stack, done.cost)
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
        optimizer.zero_grad()
        each.sum().backward()
        optimizer.step()
        if step % 10 == 0 or step == plan.n_steps - 1:
            done.losses.append(each.tolist())
        progress((step + 1) / plan.n_steps, f"Step {step + 1} of {plan.n_steps}")
    if observe and plan.observe_every:
        observe(plan.n_steps, stack, done.cost)
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
