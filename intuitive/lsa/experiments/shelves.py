"""Two shelves: a recorded decode, and what any policy would have had on the GPU at each step."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.checks import whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..arms import ARMS, Arm, Policy, Residency, replay
from ..recording import Recording
from ..selection import check_rule

Stale = Callable[[], bool]

SMOLLM2_TOKEN_BYTES = 30 * 3 * 64 * 2 * 2  # layers, KV heads, channels, K and V, bytes of bfloat16


def recordings() -> dict[str, Path]:
    """The recordings that come with the package, by name."""
    folder = Path(str(resources.files("intuitive.lsa").joinpath("recordings")))
    return {file.stem: file for file in sorted(folder.glob("*.npz"))}


@cached(LRUCache(4))
def load(name: str) -> Recording:
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
    size: int = 8  # chunks of the rule "budget", pages of "pages"
    lag: int = 0  # cycles by which a choice arrives late
    layers: int = 3  # target layers whose verdicts are joined
    tail: int = 16  # newest chunks, always resident
    sticky: bool = False
    link: float = 25.0  # GB/s
    step_ms: float = 5.0  # what one decode step computes for
    seed: int = 0  # of the random arm

    def __post_init__(self) -> None:
        whole_fields(self, size=1, layers=1, tail=0)
        for name in ("link", "step_ms"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")
        check_rule(self.rule, None if self.rule == "threshold" else self.size)
        self.policy()

    def policy(self) -> Policy:
        """The same settings as `arms.replay` takes them."""
        return Policy(
            arm=self.arm,
            lookahead=self.lookahead,
            rule=self.rule,
            threshold=self.threshold,
            size=None if self.rule == "threshold" else self.size,
            lag=self.lag,
            layers=self.layers,
            tail_chunks=self.tail,
            sticky=self.sticky,
            seed=self.seed,
            page_size=4,
            sink=1,
            top_k=16,
        )


@dataclass(frozen=True, eq=False)
class Shelves:
    """One policy over one recording; arrays are read-only numpy arrays.

    Old chunks are those that a policy may evict: neither the first, nor the tail, nor decoded.
    """

    params: ShelvesParams
    recording: Recording
    residency: Residency

    @property
    def chunk_bytes(self) -> int:
        """Keys and values of one chunk in all layers."""
        return self.recording.chunk_size * SMOLLM2_TOKEN_BYTES

    @cached_property
    def moved(self) -> Int[np.ndarray, " steps"]:
        """Chunks copied to the GPU before each step."""
        moved = torch.zeros(self.recording.n_steps, dtype=torch.int64)
        moved[self.residency.triggers] = self.residency.copied
        return read_only(moved)

    @cached_property
    def found(self) -> Float[np.ndarray, " steps"]:
        """Share of the attention on needed old chunks that are on the GPU."""
        return read_only(self._needed(self.residency)[0])

    @cached_property
    def wanted(self) -> Float[np.ndarray, " steps"]:
        """Share of the attention on needed old chunks."""
        return read_only(self._needed(self.residency)[1])

    def _needed(self, residency: Residency) -> tuple[Tensor, Tensor]:
        mass = self.recording.mass.double() * (self.recording.needed & residency.evictable)
        return (mass * residency.resident).sum(-1), mass.sum(-1)

    @cached_property
    def arms(self) -> dict[Arm, Residency]:
        """Every arm under the same settings."""
        policy = self.params.policy()
        return {
            arm: self.residency
            if arm == self.params.arm
            else replay(self.recording, dataclasses.replace(policy, arm=arm))
            for arm in ARMS
        }

    def found_share(self, residency: Residency) -> float:
        """Of the attention on needed old chunks, what found them on the GPU; 1 if there is none."""
        found, wanted = self._needed(residency)
        return float(found.sum() / wanted.sum()) if wanted.sum() else 1.0

    def bytes_per_token(self, residency: Residency) -> float:
        """Bytes copied to the GPU, spread over all steps."""
        return float(residency.copied.sum()) * self.chunk_bytes / self.recording.n_steps

    def memory_share(self, residency: Residency) -> float:
        """Of the chunks that exist, those on the GPU, over all steps."""
        return float(residency.resident.sum()) / float(self.recording.closed.sum())


def run(params: ShelvesParams, *, stale: Stale = never, progress: Progress = silent) -> Shelves:
    """What a policy would have had on the GPU at each step of a recorded decode.

    Raises:
        ValueError: an unknown recording, or more layers than were recorded.
        Cancelled: `stale()` became true.
    """
    recording = load(params.text)
    check(stale)
    return replayed(recording, params)


def replayed(recording: Recording, params: ShelvesParams) -> Shelves:
    """The same of a recording in hand."""
    return Shelves(params, recording, replay(recording, params.policy()))
