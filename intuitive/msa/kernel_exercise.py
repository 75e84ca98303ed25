"""Checks for the kernel lesson's "your turn": a masked kernel and a merge, against the oracle.

    @triton.jit
    def block_max_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr): ...

    check_kernel(block_max_kernel)

    def merge(outs, lses): ...

    check_merge(merge)

A kernel runs in Triton's interpreter, so no GPU is needed. `triton` and `tl` are Triton itself
where it can be installed.
"""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from intuitive.common.exercise import Check, ExerciseReport, Tried
from intuitive.common.runtime import seeded
from intuitive.kernels import block_sparse_attention
from intuitive.kernels.interpreting import simulate, tl, triton

from . import reference

__all__ = ["check_kernel", "check_merge", "tl", "triton"]

BLOCK = 16  # tokens
BEHIND, FAR_BELOW = 99.0, -99.0  # what stands in memory behind the visible scores
NOTHING_RETURNED = "merge returned None; return the output and its lse."
GIVEN = """def block_max_kernel(scores_ptr, out_ptr, visible, BLOCK):
    block = tl.program_id(0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    scores = tl.load(scores_ptr + token)
    tl.store(out_ptr + block, tl.max(scores, axis=0))
"""  # as the lesson has it
MASK_FIRST = (
    "the kernel reads every place, also those that are not the query's to see. `tl.load` takes "
    "more than an address."
)
MERGE_FIRST = (
    "merge returns nothing. Compute first L, the log-sum-exp of the whole, from the parts' `lses`."
)
HEADER = "import triton\nimport triton.language as tl\n\n"

# rule, visible scores, blocks, whether every score is below zero, what stands behind them; a fault
# that a rule does not speak of is not found by it
_KERNEL_CASES = (
    ("Whole blocks: the largest score of each.", 3 * BLOCK, 3, False, BEHIND),
    (
        "A block cut short: what stands behind the last visible score does not count.",
        37,
        3,
        False,
        BEHIND,
    ),
    ("Scores below zero: a place that is not read adds no zero.", 37, 3, True, FAR_BELOW),
    ("A block wholly in the future: what the oracle has for it.", BLOCK, 3, False, BEHIND),
)


def check_kernel(kernel: Any) -> ExerciseReport:
    """Try the reader's kernel in the interpreter against `reference.block_max`.

    Program b is to write the largest visible score of block b.

    Args:
        kernel: a function under `triton.jit`, with the parameters of `block_max_kernel`.
    """
    runs, wanted = [], []
    for number, (_, visible, n_blk, negative, behind) in enumerate(_KERNEL_CASES):
        scores = torch.randn(visible, generator=seeded(number), dtype=torch.float32)
        scores = -scores.abs() - 0.5 if negative else scores
        memory = torch.full((n_blk * BLOCK,), behind, dtype=torch.float32)
        memory[:visible] = scores
        runs.append({"row": memory.tolist(), "visible": visible, "n_out": n_blk, "block": BLOCK})
        seen = memory.where(torch.arange(len(memory)) < visible, -math.inf)
        wanted.append(reference.block_max(seen[None], BLOCK)[0].tolist())
    try:
        source = textwrap.dedent(inspect.getsource(getattr(kernel, "fn", kernel)))
        if _body(source) == _body(GIVEN):
            waiting = tuple(Check(case[0], False, "") for case in _KERNEL_CASES)
            return ExerciseReport(waiting, first=MASK_FIRST)
        results = simulate(HEADER + source, kernel.__name__, runs)
    except (OSError, SyntaxError, TypeError, RuntimeError) as error:
        first, *others = (case[0] for case in _KERNEL_CASES)
        none = [Check(rule, False, "") for rule in others]
        return ExerciseReport((Check(first, False, str(error)), *none))
    checks = [
        _kernel_check(case[0], got, want)
        for case, got, want in zip(_KERNEL_CASES, results, wanted, strict=True)
    ]
    if len({*map(str, results)}) == 1:  # one fault in all: said once is enough
        checks[1:] = [replace(check, finding="") for check in checks[1:]]
    return ExerciseReport(tuple(checks))


def _body(source: str) -> list[str]:
    """The statements of a function, its documentation left out."""
    (function,) = ast.parse(source).body
    statements = function.body[ast.get_docstring(function) is not None :]
    return [ast.unparse(statement) for statement in statements]


def _kernel_check(rule: str, got: list[float] | str, want: list[float]) -> Check:
    if isinstance(got, str):
        return Check(rule, False, got)
    for block, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        if ours != theirs and not math.isclose(ours, theirs, rel_tol=1e-6):
            told = "nothing" if math.isnan(ours) else f"{ours:.4g}"
            return Check(rule, False, f"Block {block}: should be {theirs:.4g}, not {told}.")
    return Check(rule, True, "")


Merge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _parts(cuts: tuple[int, ...], louder: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attention of one query to 8 blocks: in parts that begin at `cuts`, and whole."""
    draw = {"generator": seeded(3), "dtype": torch.float32}
    q = louder * torch.randn(1, 1, 1, 64, **draw)
    k, v = (torch.randn(1, 128, 1, 64, **draw) for _ in range(2))

    def over(blocks: range) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([*blocks] or [-1])[None, None, None]
        out, lse = block_sparse_attention(
            q, k, v, ids, block_size=16, return_lse=True, impl="reference"
        )
        return out[0, 0, 0], lse[0, 0, 0]

    ends = (*cuts[1:], 8)
    outs, lses = zip(*(over(range(*cut)) for cut in zip(cuts, ends, strict=True)), strict=True)
    return torch.stack(outs), torch.stack(lses), *over(range(8))


def check_merge(merge: Merge) -> ExerciseReport:
    """Try the reader's `merge(outs, lses)` against attention to everything at once.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.

    Args:
        merge: gets the parts' outputs [parts, d] and log-sum-exps [parts]; returns the output [d]
            and the log-sum-exp of the whole.
    """
    cases = (
        ("Two halves that weigh the same: the output.", _doubled(), False),
        ("Parts of any weight: the output.", _parts((0, 1, 3)), False),
        ("A part that read nothing, with output 0 and log-sum-exp -inf: the output.",
         _parts((0, 4, 4)), False),
        ("Large scores: nothing overflows on the way.", _doubled(louder=40.0), False),
        ("The log-sum-exp of the whole.", _parts((0, 1, 3)), True),
    )  # fmt: skip
    tried = Tried(merge, lambda outs, lses: None)
    return tried.report(
        tuple(_merge_check(tried, rule, case, of_lse) for rule, case, of_lse in cases),
        MERGE_FIRST,
    )


def _doubled(louder: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same part twice, and what both are together."""
    out, lse, *_ = _parts((0,), louder)
    return out.repeat(2, 1), lse.repeat(2), out[0], lse[0] + math.log(2)


def _merge_check(
    merge: Merge, rule: str, case: tuple[Tensor, Tensor, Tensor, Tensor], of_lse: bool
) -> Check:
    """One rule's check, of the log-sum-exp or of the output; both must be numbers."""
    outs, lses, out, lse = case
    try:
        returned = merge(outs.clone(), lses.clone())
        if returned is None:
            return Check(rule, False, NOTHING_RETURNED)
        got_out, got_lse = (torch.as_tensor(part).float() for part in returned)
    except NotImplementedError:
        return Check(rule, False, "Nothing is written yet.")
    except Exception as error:  # a reader's function may fail in any way
        return Check(rule, False, f"merge raised {type(error).__name__}: {error}")
    name, got, want = ("log-sum-exp", got_lse, lse) if of_lse else ("output", got_out, out)
    if got.shape != want.shape:
        shapes = f"{list(want.shape)}, not {list(got.shape)}"
        return Check(rule, False, f"The {name}'s shape should be {shapes}.")
    for told, part in (("output", got_out), ("log-sum-exp", got_lse)):
        if not part.isfinite().all():
            return Check(rule, False, f"The {told} is infinite or no number (inf or nan).")
    if not torch.allclose(got, want, atol=1e-4, rtol=1e-4):
        if of_lse:
            off = f"should be {want.item():.4g}, not {got.item():.4g}"
        else:
            off = f"is off by up to {(got - want).abs().max().item():.2g}"
        return Check(rule, False, f"The {name} {off}.")
    return Check(rule, True, "")
