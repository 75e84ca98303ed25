"""The committed run of `benchmarks/lsa_residency.py` in words and as a table, whatever it found.

`printed` is what the lesson prints, `page` what docs/papers/lsa.md holds: a new run changes both.
"""

import textwrap
from collections.abc import Iterable, Iterator

from .residency_memory import (
    ALLOCATOR,
    HIDDEN,
    MEMORY,
    SPEED,
    Goal,
    ResidencyParams,
    ResidencyResult,
    Row,
    contexts,
    goals,
    run,
)

ASKED = 2**19  # the context that the goals were set for
ARM_WORDS = {
    "everything": "everything resident",
    "lsa_sync": "LSA that waits",
    "lsa_overlapped": "LSA with copies beside the steps",
    "reactive": "fetching on demand",
}
MIB = 2**20
WIDE = 88  # letters of a printed line


def tokens(context: int) -> str:
    """32K, 1M."""
    return f"{context // 2**20}M" if context >= 2**20 else f"{context // 2**10}K"


def _listed(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _extent(values: Iterable[float]) -> str:
    known = sorted(values)
    return f"{known[0]:.2f} to {known[-1]:.2f}"


def _all() -> dict[int, ResidencyResult]:
    return {context: run(ResidencyParams(context=context)) for context in contexts()}


def _goal(result: ResidencyResult, what: str, arm: str) -> Goal:
    return next(goal for goal in goals(result) if (goal.what, goal.arm) == (what, arm))


def _measured(goal: Goal, form: str) -> str:
    if goal.measured is None:
        return "not measured"
    return f"{goal.measured:{form}}, {'met' if goal.met else 'missed'}"


def printed() -> str:
    """`sentences` on lines that no page has to break."""
    return "\n".join(textwrap.fill(one, WIDE, subsequent_indent="  ") for one in sentences())


def sentences() -> tuple[str, ...]:
    """One for each thing that the run was made to find out."""
    found = _all()
    result = found.get(ASKED) or next(iter(found.values()))
    here = result.at(result.params.context)
    parts = (
        _aims(result, here),
        _missed(found),
        _speed(found),
        _price(result, here),
        _waits(found),
        _exchanges(result, here),
        _cap(found, result),
        _allocator(found),
        _tokens(result),
        (f"What failed: {'; '.join(f'{f.stage}: {f.error}' for f in result.faults)}",)
        if result.faults
        else (),
    )
    return tuple(sentence for part in parts for sentence in part)


def _aims(result: ResidencyResult, here: dict[str, Row]) -> Iterator[str]:
    """The goals at the context that they were set for."""
    at = tokens(result.params.context)
    whole = here["everything"].resident_bytes / MIB
    for what, goal_words, form in (
        (MEMORY, "at most 16% of the memory of everything resident", ".1%"),
        (SPEED, "at least 0.95 of its steps per second", ".2f"),
    ):
        told = [
            f"{ARM_WORDS[arm]} {_measured(_goal(result, what, arm), form)}"
            for arm in ("lsa_sync", "lsa_overlapped")
        ]
        yield f"Goal at {at} tokens: {goal_words}. {'; '.join(told)}."
    hidden = _measured(_goal(result, HIDDEN, "lsa_overlapped"), ".0%")
    yield (
        f"Goal at {at} tokens: copies beside the steps hide at least 90% of their time. {hidden}."
    )
    held = [
        f"{row.resident_bytes / MIB:.1f} MiB for {ARM_WORDS[arm]}"
        for arm, row in here.items()
        if arm.startswith("lsa")
    ]
    if held:
        yield f"In bytes that is {_listed(held)}, of {whole:.1f}."


def _missed(found: dict[int, ResidencyResult]) -> Iterator[str]:
    """The goals that another length misses."""
    told = [
        f"{heading}: {_goal(result, what, arm).measured:{form}} at {tokens(context)}"
        for context, result in found.items()
        if context != ASKED
        for heading, _, what, arm, form in COLUMNS
        if _goal(result, what, arm).met is False
    ]
    if told:
        yield f"The same goals are missed at other lengths by {'; '.join(told)}."


def _speed(found: dict[int, ResidencyResult]) -> Iterator[str]:
    rows = [r.at(c) for c, r in found.items() if {*ARM_WORDS} <= {*r.at(c)}]
    if not rows:
        return
    recorded, launched, demand = (
        [getattr(row[arm], speed) / getattr(row["everything"], speed) for row in rows]
        for arm, speed in (
            ("lsa_overlapped", "steps_per_s"),
            ("lsa_overlapped", "eager_steps_per_s"),
            ("reactive", "eager_steps_per_s"),
        )
    )
    of = f"of the steps that everything resident makes, from {tokens(min(found))} to "
    yield (
        f"Recorded as a graph, LSA with copies beside the steps makes {_extent(recorded)} {of}"
        f"{tokens(max(found))}."
    )
    yield (
        f"Launched kernel by kernel, fetching on demand makes {_extent(demand)} of the steps, LSA "
        f"with copies beside the steps {_extent(launched)}."
    )


def _price(result: ResidencyResult, here: dict[str, Row]) -> Iterator[str]:
    """What fetching on demand copies in a step, and what that step takes longer."""
    demand, everything = here.get("reactive"), here.get("everything")
    if demand is None or everything is None or demand.bytes_per_step is None:
        return
    longer = 1e3 / demand.eager_steps_per_s - 1e3 / everything.eager_steps_per_s
    link = ""
    if result.ceiling_gb_per_s is not None:
        travel = demand.bytes_per_step / result.ceiling_gb_per_s / 1e6
        link = f", which the link could carry in {travel:.3f} ms"
    yield (
        f"At {tokens(result.params.context)} fetching on demand copies "
        f"{demand.bytes_per_step / 1e6:.2f} MB a step{link}; with all its waits a step takes "
        f"{longer:.0f} ms longer than with everything resident, both launched kernel by kernel."
    )


def _waits(found: dict[int, ResidencyResult]) -> Iterator[str]:
    """Where copies are too short to be hidden, and what a trigger waits without any."""
    rows = {c: r.at(c)["lsa_overlapped"] for c, r in found.items() if "lsa_overlapped" in r.at(c)}
    for context, row in rows.items():
        if row.hidden is not None and not _goal(found[context], HIDDEN, row.arm).met:
            *others, longest = sorted(row.stall_ms)
            yield (
                f"At {tokens(context)} a copy takes {sum(row.copy_ms) / len(row.copy_ms):.2f} ms; "
                f"of {len(row.stall_ms)} triggers timed one makes decoding wait {longest:.3f} ms, "
                f"the others {max(others, default=0.0):.3f} at most."
            )
    for context, row in rows.items():
        if row.hidden is None:
            wait = f"; a trigger's wait measures {max(row.stall_ms, default=0.0):.3f} ms there too"
            told = wait if any(row.stall_ms) else ""
            yield f"At {tokens(context)} the tail is all that is kept and nothing is copied{told}."


def _exchanges(result: ResidencyResult, here: dict[str, Row]) -> Iterator[str]:
    for share in sorted({row.exchange for row in result.exchanged if row.exchange}):
        rows = {row.arm: row for row in result.exchanged if row.exchange == share}
        if {"lsa_sync", "lsa_overlapped"} <= {*rows}:
            late, sync = rows["lsa_overlapped"], rows["lsa_sync"]
            whole = here["everything"]
            yield (
                f"If each trigger exchanges {share:.0%} of the fetched chunks, copies beside the "
                f"steps leave {late.steps_per_s / whole.steps_per_s:.2f} of the speed (waiting: "
                f"{sync.steps_per_s / whole.steps_per_s:.2f}); cells of copies under way bring "
                f"the memory to {late.resident_bytes / whole.resident_bytes:.1%}."
            )


def _cap(found: dict[int, ResidencyResult], result: ResidencyResult) -> Iterator[str]:
    capped = result.capped
    if capped is None:
        return
    if "OutOfMemory" not in capped.everything:
        yield f"Under the cap everything resident did otherwise than expected: {capped.everything}."
        return
    told = (
        f"Under a cap of {capped.cap_bytes / 2**30:.0f} GiB everything resident runs out of memory "
        f"at {tokens(capped.context)} tokens. LSA runs on in "
        f"{capped.lsa.resident_bytes / capped.cap_bytes:.0%} of the cap"
    )
    free = found[capped.context].at(capped.context) if capped.context in found else {}
    if "lsa_overlapped" in free:
        ratio = capped.lsa.steps_per_s / free["lsa_overlapped"].steps_per_s
        told += f", at {ratio:.2f} of its speed without one"
    yield f"{told}."


def _allocator(found: dict[int, ResidencyResult]) -> Iterator[str]:
    """Where the categories and the allocator differ by more than was aimed at."""
    apart = [
        f"{ARM_WORDS[goal.arm]} at {tokens(context)} ({goal.measured:.1%})"
        for context, result in found.items()
        for goal in goals(result)
        if goal.what == ALLOCATOR and goal.met is False
    ]
    but = f", but for {_listed(apart)}" if apart else ""
    yield f"The allocator agrees with the sum of categories within 2%{but}."


def _tokens(result: ResidencyResult) -> Iterator[str]:
    if not result.checks:
        return
    steps = min(check.steps for check in result.checks)
    requests = min(check.requests for check in result.checks)
    same = "wrote the same tokens" if all(c.equal for c in result.checks) else "differed"
    yield (
        f"Moving and masked memory {same} over {steps} steps, {requests} requests at once, in "
        f"{len(result.checks)} ways to lay out and move."
    )


# ------------------------------------------------------------------------------- the page


COLUMNS = (  # heading, goal in words, what, arm, form
    ("memory, waiting", "at most 16%", MEMORY, "lsa_sync", ".1%"),
    ("memory, overlapped", "at most 16%", MEMORY, "lsa_overlapped", ".1%"),
    ("speed, waiting", "at least 0.95", SPEED, "lsa_sync", ".2f"),
    ("speed, overlapped", "at least 0.95", SPEED, "lsa_overlapped", ".2f"),
    ("copy time hidden", "at least 90%", HIDDEN, "lsa_overlapped", ".0%"),
)


def page() -> str:
    """The same as Markdown, after a table of the goals; bold where one is missed."""
    found = _all()
    lines = [
        f"Shares of everything resident on one {next(iter(found.values())).device}, a tenth of the "
        "chunks kept, a tenth of the fetched ones exchanged every 64 steps. Bold: the goal is "
        "missed.",
        "",
        _row("tokens", *(column[0] for column in COLUMNS)),
        _row(*["---"] * (1 + len(COLUMNS))),
        _row("goal", *(column[1] for column in COLUMNS)),
    ]
    for context, result in found.items():
        cells = []
        for _, _, what, arm, form in COLUMNS:
            goal = _goal(result, what, arm)
            told = "–" if goal.measured is None else f"{goal.measured:{form}}"
            cells.append(f"**{told}**" if goal.met is False else told)
        lines.append(_row(tokens(context), *cells))
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences())])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
