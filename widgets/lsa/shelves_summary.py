"""The line below "Two shelves", about the whole text, and the numbers behind its plots."""

from dataclasses import replace
from functools import partial

from intuitive.lsa.experiments.measures import Measures

from ..kit import Rows, Table, fixed, percent
from . import styles
from .shelves_figures import COMPARED
from .shelves_words import counted, size_text


def summary(measures: Measures, parted: int | None) -> str:
    """What the policy did; `parted` as in `Writing`."""
    policy = measures.policy
    how = {
        "lsa": f"the trained indexer, threshold {fixed(policy.threshold)}",
        "oracle": "an oracle that knows the future",
        "quest": "Quest's bounds",
        "recency": "age: the newest of the old",
        "random": "chance",
    }.get(policy.arm, "")
    if policy.arm == "lsa" and policy.rule == "budget":
        how = "the trained indexer"
    what = {
        "reactive": "each token fetches what it asks for",
        "everything": "everything stays on the GPU",
    }.get(policy.arm, f"every {policy.lookahead} tokens, old chunks are chosen by {how}")
    if how and policy.rule == "budget":
        what += f", {counted(policy.size, 'chunk')} at most"
    elif how and policy.rule == "pages":
        what += f", {counted(policy.size, 'page')} of {policy.page_size} chunks at most"
    if how and policy.lag:
        what += ", one cycle late"
    name, found = f"“{measures.recording.name}”", percent(measures.found_share)
    price = (
        f"{percent(measures.memory_share)} of the memory and "
        f"{size_text(measures.bytes_per_token)} copied per token."
    )
    if parted is None:
        return (
            f"{name}: {what}. Of the attention on needed old chunks {found} is found, with {price} "
            f"{_also(measures)}"
        )
    n = measures.recording.n_steps
    told = f"The first {parted} of {n} tokens are those written with all at hand"
    if parted == n:
        told = f"All {n} tokens are those written with all at hand"
    astray = "; what follows is another text" * (parted < n)
    return (
        f"{name}, written with the rest masked: {what}. {told}{astray}. It takes {price} Of the "
        f"attention that this text pays to old chunks it needs {found} is found. But a text gone "
        "astray may need little of what it lost: that is no success."
    )


def _also(measures: Measures) -> str:
    """The stricter count beside the attention, and which controls do nothing here."""
    arm = measures.policy.arm
    if arm == "everything":
        return "Nothing is chosen, so lookahead and threshold change nothing here."
    strict, whole = (
        percent(share)
        for share in (measures.residency.golden_recall, measures.residency.mass_recall)
    )
    told = (
        f"Counted in chunks instead of attention, {strict} of those needed are there whenever "
        f"their cycle needs them. Of all attention, {whole} finds its chunk on the GPU."
    )
    if arm == "lsa" and measures.policy.lag:
        other = Measures.of(measures.recording, replace(measures.policy, arm="quest"))
        told += f" Quest, as late, finds {percent(other.found_share)} of what is needed."
    if arm == "reactive":
        told += " Lookahead and threshold only set how much of what was fetched may stay."
    elif measures.policy.rule == "budget":
        told += " A budget asks for no threshold."
    elif measures.policy.rule == "pages":
        told += " A page comes whole, with chunks below the threshold too."
    return told


def two_counts(measures: Measures) -> str:
    """How little of all attention needed chunks get in the letter, and who leads by which count."""
    lsa, quest = (measures.arms[arm] for arm in ("lsa", "quest"))
    counts = [
        (percent(arm.found_share), percent(arm.residency.mass_recall)) for arm in (lsa, quest)
    ]
    return (
        f"In the letter needed old chunks get {percent(float(measures.wanted.mean()))} of all "
        "attention; the rest lies on what is always there, or thinly on many chunks. So as the "
        f"explorer opens, the indexer finds {counts[0][0]} by the first count and {counts[0][1]} "
        f"by the second, Quest {counts[1][0]} and {counts[1][1]}. Section 4 says what each tells."
    )


def table(measures: Measures) -> Table:
    header = (
        "the same settings under every arm",
        "attention on needed old chunks found",
        "of all attention found",
        "needed chunks there for a whole cycle",
        "old chunks kept",
        "memory on the GPU",
        "copied per token",
        "of these copied again",
    )
    return Table(header, partial(_rows, measures))


def _rows(measures: Measures) -> Rows:
    rows = []
    for arm in COMPARED:
        own = measures.arms[arm]
        residency = own.residency
        rows.append(
            (
                styles.ARM_NAMES[arm],
                percent(own.found_share, 1),
                percent(residency.mass_recall, 1),
                percent(residency.golden_recall, 1),
                percent(residency.kept, 1),
                percent(own.memory_share, 1),
                size_text(own.bytes_per_token),
                percent(residency.chosen_again, 1),
            )
        )
    return tuple(rows)
