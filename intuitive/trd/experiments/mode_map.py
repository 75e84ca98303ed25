"""Where teachers say WAIT: error position by delay, and false alarms beside it.

Source: arXiv:2606.08432, section 4.
"""

import threading
from dataclasses import dataclass

from cachetools import LRUCache, cached

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..config import setting_config
from ..results import WaitMap
from ..signals import Stale, wait_map
from ..trained import named_teacher


@dataclass(frozen=True, kw_only=True)
class ModeMapParams(Settings):
    """Which teacher is asked."""

    setting: str = "small"
    repair: float = 0.3  # λ of the exact teacher
    n_traces: int = 64  # per error position
    seed: int = 0

    def __post_init__(self) -> None:
        setting_config(self.setting)
        whole_fields(self, n_traces=1, seed=0)


@dataclass(frozen=True, kw_only=True)
class ModeMapResult:
    """Both teachers on the same traces."""

    params: ModeMapParams
    exact: WaitMap
    learned: WaitMap


def run(
    params: ModeMapParams, *, stale: Stale = never, progress: Progress = silent
) -> ModeMapResult:
    """WAIT mass by error position and delay, and false alarms, of both teachers.

    Raises:
        FileNotFoundError: the setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    check(stale)
    given = (params.setting, params.n_traces, params.seed)
    learned = learned_map(*given, stale=stale)
    never_, always = (program_map(*given, repair, stale=stale) for repair in (0.0, 1.0))
    return ModeMapResult(
        params=params, exact=_between(never_, always, params.repair), learned=learned
    )


def _between(never_: WaitMap, always: WaitMap, repair: int | float) -> WaitMap:
    """The map of a program with λ = `repair`: its distributions are linear in λ."""

    def mixed(a: int | float, b: int | float) -> int | float:
        return (1 - repair) * a + repair * b

    def row(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(map(mixed, a, b))

    clean = row(never_.clean, always.clean)
    return WaitMap(
        teacher="exact",
        by_error={
            error: row(masses, always.by_error[error]) for error, masses in never_.by_error.items()
        },
        clean=clean,
        worst_clean=max(clean),
        consistent=mixed(never_.consistent, always.consistent),
        repaired=mixed(never_.repaired, always.repaired),
    )


@cached(
    cache=LRUCache(32),
    key=lambda setting, n_traces, seed, repair, **_: (setting, n_traces, seed, repair),
    lock=threading.Lock(),
)
def program_map(
    setting: str, n_traces: int, seed: int, repair: float, *, stale: Stale = never
) -> WaitMap:
    """The program's map at one λ, kept for the next call.

    Raises:
        Cancelled: `stale()` became true.
    """
    program = named_teacher("exact", setting, repair)
    return wait_map("exact", program, n_traces=n_traces, seed=seed, stale=stale)


@cached(
    cache=LRUCache(32),
    key=lambda setting, n_traces, seed, **_: (setting, n_traces, seed),
    lock=threading.Lock(),
)
def learned_map(setting: str, n_traces: int, seed: int, *, stale: Stale = never) -> WaitMap:
    """The learned teacher's map, kept for the next call: it has no λ.

    Raises:
        FileNotFoundError: the setting's weights are not there.
        Cancelled: `stale()` became true.
    """
    learned = named_teacher("learned", setting, 0.0)
    return wait_map("learned", learned, n_traces=n_traces, seed=seed, stale=stale)
