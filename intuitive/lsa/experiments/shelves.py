"""Two shelves: a recorded decode, and what any policy would have had on the GPU at each step."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cachetools import LRUCache, cached

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..arms import Policy, Residency, replay
from ..recording import Recording
from ..selection import check_rule

Stale = Callable[[], bool]

TEXTS = ("letter", "lease", "alice")
SMOLLM2_TOKEN_BYTES = 30 * 3 * 64 * 2 * 2  # layers, KV heads, channels, K and V, bytes of bfloat16


def recordings() -> dict[str, Path]:
    """The recordings that come with the package, by name."""
    folder = Path(str(resources.files("intuitive.lsa").joinpath("recordings")))
    return {file.stem: file for file in sorted(folder.glob("*.npz"))}


@cached(LRUCache(4))
def recorded(name: str) -> Recording:
    """One recording by its name.

    Raises:
        ValueError: there is none of that name.
    """
    known = recordings()
    if name not in known:
        raise ValueError(f"text={name!r} is not recorded; choose one of {', '.join(known)}.")
    return Recording.load(known[name])


@dataclass(frozen=True, kw_only=True)
class ShelvesParams(Settings):
    """The sliders of the shelves; what depends on the recording is checked by `run`."""

    text: str = "lease"
    arm: str = "lsa"
    lookahead: int = 64  # steps that one trigger serves (τ)
    threshold: float = 0.5
    rule: str = "threshold"
    budget: int = 8  # chunks of the rule "budget", pages of "pages"
    lag: int = 0  # cycles by which a choice arrives late
    layers: int = 3  # target layers whose verdicts are joined
    tail: int = 256  # newest tokens, always resident
    sticky: bool = False
    seed: int = 0  # of the random arm

    def __post_init__(self) -> None:
        whole_fields(self, budget=0, layers=1, tail=0)
        check_rule(self.rule, None if self.rule == "threshold" else self.budget)
        self.policy()

    def policy(self, chunk_size: int = 16) -> Policy:
        """The same settings as `arms.replay` takes them."""
        return Policy(
            arm=self.arm,
            lookahead=self.lookahead,
            rule=self.rule,
            threshold=self.threshold,
            size=None if self.rule == "threshold" else self.budget,
            lag=self.lag,
            layers=self.layers,
            tail_chunks=-(-self.tail // chunk_size),
            sticky=self.sticky,
            seed=self.seed,
            page_size=4,
            sink=1,
            top_k=16,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShelvesResult:
    """A decode, and what of its history was at hand."""

    params: ShelvesParams
    recording: Recording
    residency: Residency
    live: bool


def run(
    params: ShelvesParams, *, stale: Stale = never, progress: Progress = silent
) -> ShelvesResult:
    """Play the policy over the recorded decode."""
    check(stale)
    made = recorded(params.text)
    residency = replay(made, params.policy(made.chunk_size))
    return ShelvesResult(params=params, recording=made, residency=residency, live=False)
