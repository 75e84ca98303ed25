"""Where teachers say WAIT: error position by delay, and false alarms beside it.

Source: arXiv:2606.08432, section 4.
"""

import threading
from dataclasses import dataclass

from cachetools import LRUCache, cached

from intuitive.common.checks import whole
from intuitive.common.runtime import never
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
        object.__setattr__(self, "n_traces", whole("n_traces", self.n_traces, low=1))
        object.__setattr__(self, "seed", whole("seed", self.seed, low=0))


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
    learned = learned_map(params.setting, params.n_traces, params.seed, stale=stale)
    program = named_teacher("exact", params.setting, params.repair)
    exact = wait_map("exact", program, n_traces=params.n_traces, seed=params.seed, stale=stale)
    return ModeMapResult(params=params, exact=exact, learned=learned)


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
