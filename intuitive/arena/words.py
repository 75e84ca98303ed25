"""What one question showed, in sentences made of its own numbers.

finding(run(QuestionParams(question="exact", ratio=4)))
"""

from collections.abc import Sequence

from .experiments.one_question import OneQuestion, Row, kept
from .methods import about
from .results import blocks


def said(row: Row) -> str:
    """A method's answer as one text."""
    return "".join(row.said).strip()


def blocks_and_index(row: Row) -> tuple[float, float]:
    """What MSA reads for a token, apart: its blocks, and the index keys by which it finds them."""
    read = blocks((row.resident, row.read, row.elsewhere))
    return read, row.read - read


def reason(row: Row, made: OneQuestion, *, verdict: bool = True) -> str:
    """What a method had of the answer's place when it was right or wrong, in one sentence."""
    if row.absent:
        return f"Takes no part: {row.absent}"
    name = about(row.method).label
    head = f"{name} is {'right' if row.right else 'wrong'}" if verdict else name
    if row.right is None:
        return (
            f"{name} held {row.resident:.0%} of the bytes and read {row.read:.0%} for each token."
        )
    if row.beads and not row.held:
        opened = " and the chunk that it opened is another one" * (row.method == "lclm_expand")
        return (
            f"{head}: of the answer's place there is nothing but latents of "
            f"{row.beads} tokens each{opened}."
        )
    if row.method in ("dense", "msa"):
        return (
            f"{head}: it holds all of the answer's place, and {row.looked:.1%} of its "
            "attention fell there."
        )
    return (
        f"{head}: it holds {row.held:.0%} of the answer's place, {row.whole or 0:.0%} of its "
        f"tokens in all layers and heads, and {row.looked:.1%} of its attention fell there."
    )


def finding(made: OneQuestion) -> str:
    """Who holds how much of what was asked for, and how many of them are right."""
    taking = [row for row in made.same if row.right is not None]
    parts = [
        ("all of it in all layers and heads", [row for row in taking if row.whole == 1], False),
        ("a part", [row for row in taking if row.held and row.whole != 1], True),
        ("none", [row for row in taking if not row.held], False),
    ]
    told = [
        f"{words}: {_listed(rows, shares) or 'nobody'}"
        for place, (words, rows, shares) in enumerate(parts)
        if rows or not place
    ]
    sentence = f"What was asked for was held, {'; '.join(told)}."
    msa = next((row for row in made.rows if row.method == "msa"), None)
    if msa is not None and msa.right is not None:
        sentence += (
            f" MSA holds all of it; {msa.looked:.1%} of its attention fell there, and it is "
            f"{'right' if msa.right else 'wrong'}."
        )
    code = kept().get(f"exact {made.ratio}") if made.question == "topic" else None
    if code is not None:
        sentence += f" With the code, {_right(code.same)} were right at this budget."
    return sentence


def _listed(rows: Sequence[Row], shares: bool) -> str:
    if not rows:
        return ""
    rows = sorted(rows, key=lambda row: -(row.held or 0))
    names = [
        f"{about(row.method).label} {_share(row.held or 0)}" if shares else about(row.method).label
        for row in rows
    ]
    return f"{', '.join(names)} ({_right(rows)} right)"


def _share(share: float) -> str:
    return "under 1%" if 0 < share < 0.005 else f"{share:.0%}"


def _right(rows: Sequence[Row]) -> str:
    taking = [row for row in rows if row.right is not None]
    return f"{sum(row.right is True for row in taking)} of {len(taking)}"
