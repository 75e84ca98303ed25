"""The ledger as text for a terminal, as JSON, and as a page of the documentation."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence

from .rows import Checked, Row, paper_names, paper_of
from .rules import VERDICTS

PAGE = """# Ledger of claims

What the papers claim, what was found here, and what follows. `intuitive claims` prints these rows
in a terminal, `intuitive claims --json` gives all there is about them, and
`intuitive claims --verify all` makes the quick ones again on a CPU. This page is written by
`intuitive claims --markdown`.

- **What is typed** are the claims, the papers' figures and their sources. Everything else is read
  from `benchmarks/results/`, each file with its command, commit, device and seeds; the verdict
  follows by a rule in the code, so that another record may change it.
- **The verdict is about our setting**, which is small: SmolLM2 with 135 million parameters and
  miniatures stand where the papers have billions. *Reproduced*: the figure, or every condition of
  the claim, is met here. *In part*: some of it; or ours lies so far beyond the paper's figure that
  something else is at work, which is then named. *Not reproduced*: our setting contradicts it, or
  does not show it. *Not testable here*: it needs hardware, data or training that is not there.
- Where two numbers stand behind a mean, they are the least and the greatest over seeds.
- **Claims are quoted as far as the papers were read**, and not all were read in full:

"""


def as_json(rows: Sequence[Row]) -> str:
    """All fields of the rows."""
    return json.dumps([dataclasses.asdict(row) for row in rows], indent=1, ensure_ascii=False)


def as_text(rows: Sequence[Row]) -> str:
    """A few lines for each row, and how often each verdict was given."""
    parts = []
    for row in rows:
        lines = [
            f"{row.id}: {row.verdict.upper()}",
            f"  claim  {row.claim}",
            f"  paper  {row.paper_value} [{row.source}]",
            f"  here   {row.our_value}",
            f"  why    {row.why}",
        ]
        lines += [f"  again  {row.command}"] if row.command else []
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, counted(rows)])


def as_page(rows: Sequence[Row]) -> str:
    """The page `docs/claims.md`."""
    parts = [PAGE + "\n".join(f"  - {name.upper()}, {read(name)}" for name in paper_names())]
    parts += ["", counted(rows)]
    for paper in sorted({row.paper for row in rows}):
        head = ["claim", "the paper", "here", "verdict", "made again by"]
        table = [head, ["---"] * len(head)]
        for row in (row for row in rows if row.paper == paper):
            table.append(
                [
                    f'<a id="{row.id}"></a>{row.claim} (`{row.id}`)',
                    f"{row.paper_value} ({row.source})",
                    row.our_value,
                    f"**{row.verdict}**: {row.why}",
                    f"`{row.command}`" if row.command else "–",
                ]
            )
        lines = ("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |" for cells in table)
        parts += [f"\n## {paper.upper()}\n", *lines]
    return "\n".join(parts) + "\n"


def read(name: str) -> str:
    """Which paper it is and how far it was read, in Markdown."""
    paper = paper_of(name)
    return f"*{paper.title}*, {paper.link}. Read {paper.read}."


def counted(rows: Sequence[Row]) -> str:
    """How many rows there are of each verdict."""
    found = Counter(row.verdict for row in rows)
    return f"{len(rows)} claims: " + ", ".join(f"{found[name]} {name}" for name in VERDICTS) + "."


def as_check(id: str, checked: Sequence[Checked]) -> str:
    """One line for every number that was made again."""
    return "\n".join(
        f"{id}: {one.name} was {one.row:.6g}, now {one.now:.6g}: "
        + ("the same" if one.equal else "DIFFERENT")
        for one in checked
    )
