"""Running sums with WAIT: problems, traces with planted errors, their reading and their grading.

A problem is K digits modulo P. A trace visits the digits in any order and writes after each
index the running total, then the answer:

    prompt   BOS d_1 ... d_K =
    trace    i_1 t_1 i_2 t_2 ... i_K t_K ANS t_K EOS          t_j = t_(j-1) + d_(i_j) mod P

The order is free so that a rewrite can keep it. WAIT may stand wherever an index may. If a visited
index follows, its step and all later ones are taken back and the trace goes on from there:

    2 t 0 t' WAIT 2 t ...                                     the first total was wrong

With `plan=True` a trace begins with a number written before any work: the total to start from.
Right is the count of large digits (at least P/2), so that a student can learn it. The prompt shows
the target, that count plus all digits, after the digits: whether the plan was right is seen when
the last total meets the target or misses it, and at no step before. After WAIT a number in place
of an index is a new plan, and every step is to be done again.

Every position is counted within the trace, from 0. Every teacher and every student shares one
vocabulary: P numbers, K indices, BOS, =, WAIT, ANS, EOS, REV, PAD.

    problems.py   sizes, vocabulary, problems and their prompts
    traces.py     traces with planted errors, with or without a repair
    reading.py    `parse_trace` reads one trace and is easy to follow
    batch.py      `read` and `verify` do the same for many
"""

from .batch import Mode, TraceState, Verdict, advance, read, start, verify
from .problems import (
    Problem,
    SumsConfig,
    answers,
    check_rows,
    fit_drafts,
    plans,
    prompts,
    refine_prompts,
    sample_digits,
)
from .reading import Trace, Wait, parse_trace
from .traces import Traces, sample_orders, sample_repair_steps, sample_shifts, write_traces

__all__ = [
    "Mode",
    "Problem",
    "SumsConfig",
    "Trace",
    "TraceState",
    "Traces",
    "Verdict",
    "Wait",
    "advance",
    "answers",
    "check_rows",
    "fit_drafts",
    "parse_trace",
    "plans",
    "prompts",
    "read",
    "refine_prompts",
    "sample_digits",
    "sample_orders",
    "sample_repair_steps",
    "sample_shifts",
    "start",
    "verify",
    "write_traces",
]
