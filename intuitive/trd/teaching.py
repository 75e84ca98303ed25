"""What a teacher makes of students' rollouts: rewrites, solutions, scores, and their cost.

Source: arXiv:2606.08432, sections 2 to 5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from intuitive.common.runtime import check, never

from .draws import uniform
from .methods import HARD, Method
from .rollout import Tokens
from .sums import SumsConfig, prompts, refine_prompts, verify, write_traces
from .teacher import Teacher

ROWS_AT_ONCE = {"cpu": 256, "cuda": 16_384}  # that a teacher reads; few on the CPU, to stop soon


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
