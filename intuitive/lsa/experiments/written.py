"""What SmolLM2 wrote while it saw only what a policy kept on the GPU, recorded.

In the other recordings the model had everything at hand, so that a miss does not change the words
after it. Here it does: the rest was masked in every layer (`benchmarks/lsa_written.py`).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from intuitive.common.runtime import check, never
from intuitive.common.training import Progress, silent

from ..arms import replay
from ..recording import Recording
from ..shipped import FOLDER, recording
from .shelves import ShelvesParams, ShelvesResult

STEM = "written-"


def settings(text: str, arm: str) -> ShelvesParams:
    """Those under which the model wrote: every arm may lift as many chunks as the indexer does."""
    return ShelvesParams(text=text, arm=arm)


def files() -> dict[tuple[str, str], Path]:
    """The recordings that come with the package, by text and arm."""
    found = {}
    for file in sorted(FOLDER.glob(f"{STEM}*.npz")):
        text, _, arm = file.stem.removeprefix(STEM).rpartition("-")
        found[text, arm] = file
    return found


def written(text: str, arm: str) -> Recording:
    """What the model wrote of a text under an arm with `settings`.

    Raises:
        ValueError: that was not recorded; the message says what was.
    """
    known = files()
    if (text, arm) not in known:
        listed = ", or ".join(f"text={text!r} and arm={arm!r}" for text, arm in known)
        raise ValueError(
            f"text={text!r} and arm={arm!r} were not recorded with the rest masked: take {listed}, "
            "or let it write now."
        )
    return recording(known[text, arm].stem)


def has(params: ShelvesParams) -> bool:
    """Whether the model's text under this policy was recorded."""
    asked = params.text, params.arm
    return asked in files() and params == settings(*asked)


def run(
    params: ShelvesParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> ShelvesResult:
    """The recorded decode under this policy.

    Raises:
        ValueError: it was not recorded.
        Cancelled: `stale()` was true.
    """
    check(stale)
    first = settings(params.text, params.arm)
    for name in (field.name for field in dataclasses.fields(params)):
        mine, theirs = getattr(params, name), getattr(first, name)
        if mine != theirs:
            raise ValueError(
                f"{name}={mine!r} was not recorded with the rest masked: take {name}={theirs!r}, "
                "or let it write now."
            )
    made = written(params.text, params.arm)
    residency = replay(made, params.policy(made.chunk_size))
    return ShelvesResult(params=params, recording=made, residency=residency, live=True)
