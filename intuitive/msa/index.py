"""Trained Index Branches: kept apart from the model they serve, and as files.

Source: arXiv:2606.13392v2, section 3.2.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.weights import load_weights, save_weights

INDEX_PART = ".index_"  # in the names of an Index Branch's weights, and of no others
WEIGHTS = Path(__file__).parent / "weights" / "smollm2-135m-index.safetensors"
WEIGHTS_COMMAND = "python benchmarks/msa_conversion.py --device cuda"


@dataclass(frozen=True, eq=False)
class TrainedIndex:
    """The Index Branches of some of a decoder's layers."""

    weights: dict[str, Tensor]  # by their names in a converted decoder
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


def save_index(path: str | Path, index: TrainedIndex) -> Path:
    """Write an index in half precision, as one safetensors file.

    Raises:
        ValueError: the path does not end in .safetensors.
    """
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
    return TrainedIndex({name: weight.float() for name, weight in weights.items()}, made)


@functools.cache
def shipped_index() -> TrainedIndex | None:
    """The index that comes with the package, or None where its file is absent."""
    return load_index() if WEIGHTS.is_file() else None
