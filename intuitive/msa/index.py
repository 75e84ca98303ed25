"""Trained Index Branches: kept apart from the model they serve, and as files.

Source: arXiv:2606.13392v2, section 3.2.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.weights import (
    from_int4,
    load_weights,
    save_weights,
    to_int4,
)

from .config import MSAConfig

INDEX_PART = ".index_"  # in the names of an Index Branch's weights, and of no others
WEIGHTS = Path(__file__).parent / "weights" / "smollm2-135m-index.safetensors"
WEIGHTS_COMMAND = "benchmarks/msa_index.py"


@dataclass(frozen=True, eq=False)
class TrainedIndex:
    """The Index Branches of some of a decoder's layers."""

    weights: dict[str, Tensor] = field(repr=False)  # by their names in a converted decoder
    made: dict[str, str]  # how they came about, in words

    @classmethod
    def of(cls, decoder: Decoder, made: Mapping[str, str]) -> "TrainedIndex":
        """The Index Branches of a converted decoder; the tensors are copies."""
        state = decoder.state_dict()
        weights = {name: state[name].clone() for name in state if INDEX_PART in name}
        return cls(weights, dict(made))

    @functools.cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers that have an Index Branch, ascending."""
        return tuple(sorted({int(name.split(".")[1]) for name in self.weights}))

    @property
    def d_index(self) -> int:
        """Channels of an index head."""
        return self.weights[f"layers.{self.layers[0]}.attention.index_w_k.weight"].shape[0]

    @property
    def d_rotary(self) -> int | None:
        """How many of these channels RoPE turns; all if None."""
        turned = self.made.get("d_rotary")
        return None if turned is None else int(turned)

    def sized(self, msa: MSAConfig) -> MSAConfig:
        """The config with this index's own sizes."""
        return replace(msa, d_index=self.d_index, d_rotary=self.d_rotary)


def stored(index: TrainedIndex) -> TrainedIndex:
    """What `save_index` in 4 bits leaves of an index."""
    return TrainedIndex(from_int4(to_int4(index.weights)), index.made)


def save_index(path: str | Path, index: TrainedIndex, *, bits: int = 16) -> Path:
    """Write an index as one safetensors file.

    Args:
        path: a file ending in .safetensors.
        index: as trained.
        bits: of each number of a matrix, 16 or 4; norms take 16 anyway.

    Raises:
        ValueError: another ending, another number of bits, or in 4 bits a width of the model that
            does not divide into groups of 64.
    """
    if bits not in (4, 16):
        raise ValueError(f"bits={bits} must be 16 or 4.")
    if bits == 4:
        return save_weights(path, to_int4(index.weights), index.made)
    halves = {name: weight.to(torch.float16) for name, weight in index.weights.items()}
    return save_weights(path, halves, index.made)


def load_index(path: str | Path | None = None) -> TrainedIndex:
    """Read an index, in float32; by default the one for SmolLM2-135M that comes with the package.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds other weights.
    """
    if path is None and not WEIGHTS.is_file():
        raise FileNotFoundError(
            f"This copy of the package has no trained index ({WEIGHTS.name}): make it with "
            f"`{WEIGHTS_COMMAND}`, or use a selector that needs no training."
        )
    path = WEIGHTS if path is None else Path(path)
    weights, made = load_weights(path)
    strange = [name for name in weights if INDEX_PART not in name]
    if strange or not weights:
        raise ValueError(
            f"{path} holds {strange[:3] or 'nothing'}, which is no part of an Index Branch: give "
            "a file that save_index wrote."
        )
    return TrainedIndex(from_int4(weights), made)


@functools.cache
def shipped_index() -> TrainedIndex | None:
    """The index that comes with the package, or None where its file is absent."""
    return load_index() if WEIGHTS.is_file() else None
