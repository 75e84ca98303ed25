"""One item of the committed measurement of SmolLM2; `intuitive.trd.real_text` measures."""

from dataclasses import dataclass

from intuitive.common.checks import whole, whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..real_text import KeptItem, RealText
from ..results import real_text
from ..signals import Stale

ENDINGS = ("means", "rewrite")


@dataclass(frozen=True, kw_only=True)
class RealParams(Settings):
    """Which item, and what is drawn along it."""

    item: int = 1
    measure: str = "onset_mass"
    kind: str = "all"
    ending: str = "means"  # what the last picture compares: a name in ENDINGS

    def __post_init__(self) -> None:
        whole_fields(self, item=1)
        if self.ending not in ENDINGS:
            raise ValueError(f"ending={self.ending!r} must be one of {', '.join(ENDINGS)}.")


@dataclass(frozen=True, kw_only=True)
class Read:
    """The committed measurement, and the item looked at."""

    params: RealParams
    found: RealText
    kept: KeptItem


def run(params: RealParams, *, stale: Stale = never, progress: Progress = silent) -> Read:
    """One kept item of `results.real_text()`.

    Raises:
        ValueError: no such item.
        FileNotFoundError: the measurement is not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    found = real_text()
    whole("item", params.item, low=1, high=len(found.kept))
    return Read(params=params, found=found, kept=found.kept[params.item - 1])
