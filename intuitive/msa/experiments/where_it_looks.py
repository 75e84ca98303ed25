"""Where one attention group looks: the block of the text that holds most of one query's mass."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from . import block_selection
from .block_selection import SelectionResult


@dataclass(frozen=True, kw_only=True)
class LookParams(Settings):
    """Which GQA group; layer and query are those that the lesson begins with."""

    group: int = block_selection.FIRST.group

    def __post_init__(self) -> None:
        whole_fields(self, group=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LookResult:
    """One query, and the block that a group looks at most."""

    selection: SelectionResult
    group: int
    block: int
    share: float  # of the group's attention, in [0, 1]

    @property
    def distance(self) -> int:
        """Tokens from the block's first one to the query."""
        return self.selection.query - self.block * self.selection.params.block_size


def run(
    params: LookParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> LookResult:
    """Read the lesson's text (made-up heads without the model) and find that block."""
    settings = replace(block_selection.FIRST, group=params.group)
    return of(block_selection.run(settings, stale=stale, progress=progress))


def of(selection: SelectionResult) -> LookResult:
    """The block with most of the attention of a selection's query and group."""
    mass = selection.block_mass[selection.params.group]
    block = int(mass.argmax())
    return LookResult(
        selection=selection, group=selection.params.group, block=block, share=float(mass[block])
    )
