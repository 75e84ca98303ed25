"""Every headline claim of the papers, what was found here, and the verdict that follows.

    from intuitive import claims
    claims.ledger()          # rows, built from committed records
    claims.verify(id)        # some of that row's numbers, made again on a CPU

Map of the rooms:
    claim.py     a claim as the paper states it, and what was found of it
    rules.py     rules that make a verdict of numbers
    rows.py      the rows, and the quick ones made again
    words.py     rows as text, as JSON, and as a page
    papers/      the claims of each paper, one file by its name
    facts/       what a CPU works out in seconds, likewise
"""

from .claim import Claim, Facts, Measured, Paper, Spread
from .rows import Checked, Row, ledger, make_again, paper_names, paper_of, quick_ids, row, verify
from .rules import VERDICTS, Judged, Verdict
from .words import as_check, as_json, as_page, as_text

__all__ = [
    "VERDICTS",
    "Checked",
    "Claim",
    "Facts",
    "Judged",
    "Measured",
    "Paper",
    "Row",
    "Spread",
    "Verdict",
    "as_check",
    "as_json",
    "as_page",
    "as_text",
    "ledger",
    "make_again",
    "paper_names",
    "paper_of",
    "quick_ids",
    "row",
    "verify",
]
