"""What one policy found, missed and moved in a recorded decode, in numbers that a picture draws."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.arrays import read_only

from ..arms import ARMS, Arm, Policy, Residency, replay
from ..recording import Recording

SMOLLM2_TOKEN_BYTES = 30 * 3 * 64 * 2 * 2  # layers, KV heads, channels, K and V, bytes of bfloat16


@dataclass(frozen=True, eq=False)
class Measures:
    """One policy over one recording; arrays are read-only numpy arrays.

    Old chunks are those that a policy may evict: neither the first, nor the tail, nor decoded.
    """

    recording: Recording
    residency: Residency

    @classmethod
    def of(cls, recording: Recording, policy: Policy) -> "Measures":
        """The measures of a policy that is replayed now."""
        return cls(recording, replay(recording, policy))

    @property
    def policy(self) -> Policy:
        return self.residency.policy

    @cached_property
    def chunk_bytes(self) -> int:
        """Keys and values of one chunk of SmolLM2 in all layers."""
        return self.recording.chunk_size * SMOLLM2_TOKEN_BYTES

    @cached_property
    def moved(self) -> Int[np.ndarray, " steps"]:
        """Chunks that choices copied to the GPU before each step.

        Those that are always there come once, before the first step, whoever chooses the others.
        """
        moved = torch.zeros(self.recording.n_steps, dtype=torch.int64)
        moved[self.residency.triggers] = self.residency.chosen
        return read_only(moved)

    @cached_property
    def found(self) -> Float[np.ndarray, " steps"]:
        """Share of the attention on needed old chunks that are on the GPU."""
        return read_only((self._needed * self.residency.resident).sum(-1))

    @cached_property
    def wanted(self) -> Float[np.ndarray, " steps"]:
        """Share of the attention on needed old chunks."""
        return read_only(self._needed.sum(-1))

    @cached_property
    def _needed(self) -> Float[Tensor, "steps chunks"]:
        needed = self.recording.needed & self.residency.evictable
        return self.recording.mass.double() * needed

    @property
    def found_share(self) -> float:
        """Of the attention on needed old chunks, what found them on the GPU; 1 if there is none."""
        wanted = float(self.wanted.sum())
        return float(self.found.sum()) / wanted if wanted else 1.0

    @property
    def bytes_per_token(self) -> float:
        """Bytes that choices copied to the GPU, spread over all steps."""
        return int(self.moved.sum()) * self.chunk_bytes / self.recording.n_steps

    @property
    def memory_share(self) -> float:
        """Of the chunks that exist, those on the GPU, over all steps."""
        return int(self.residency.resident.sum()) / max(int(self.recording.closed.sum()), 1)

    @cached_property
    def arms(self) -> "dict[Arm, Measures]":
        """Every arm under the same settings."""
        policies = {arm: dataclasses.replace(self.policy, arm=arm) for arm in ARMS}
        return {
            arm: self if policy == self.policy else Measures.of(self.recording, policy)
            for arm, policy in policies.items()
        }
