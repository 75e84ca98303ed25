"""The teachers' sheets, `docs/teaching_answers.md`, as the tests read them."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2].joinpath("docs", "teaching_answers.md").read_text("utf-8")


def listed(text: str = PAGE) -> dict[str, list[str]]:
    """The cells of every row after the name of its question."""
    rows = re.findall(r"^\| [^|]+ \| `([\w-]+)` \| (.+) \|$", text, re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in rows}
