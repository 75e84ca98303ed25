"""What a decoder has read so far: one cache per layer, kept in step."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor


@runtime_checkable
class LayerCache(Protocol):
    """What the decoder asks of a cache; the attention kind that made it decides the rest."""

    @property
    def length(self) -> int:
        """Tokens held so far."""

    @property
    def capacity(self) -> int:
        """Tokens it can hold."""

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens."""

    def reorder(self, batch_index: Tensor) -> None:
        """Let row i of the batch continue from former row `batch_index[i]`."""

    def nbytes(self) -> dict[str, int]:
        """Bytes of the tokens held, by category."""


class TensorCache:
    """A `LayerCache` of named tensors that grow by one entry per token, in step.

    Args:
        batch: rows.
        capacity: tokens; room for all of them is taken at once.
        parts: name of each part and the shape of one token's entry, such as
            `{"keys": (h_kv, d), "values": (h_kv, d)}`.
        device: where the parts live.
        dtype: what they hold.
    """

    def __init__(
        self,
        batch: int,
        capacity: int,
        parts: dict[str, tuple[int, ...]],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"batch={batch} and capacity={capacity} must be at least 1.")
        self.length = 0
        self.capacity = capacity
        with torch.inference_mode(False):  # else it could be written in inference mode only
            self._parts = {
                name: torch.empty(batch, capacity, *entry, device=device, dtype=dtype)
                for name, entry in parts.items()
            }

    def append(self, **new: Tensor) -> dict[str, Tensor]:
        """Add n tokens to every part; returns views of all tokens held, each [b, m, ...].

        Raises:
            ValueError: other parts than the cache has, no room left, another batch size, or
                tensors that carry gradients.
        """
        if new.keys() != self._parts.keys():
            raise ValueError(f"got parts {sorted(new)}, this cache holds {sorted(self._parts)}.")
        n = next(iter(new.values())).shape[1]
        end = self.length + n
        if end > self.capacity:
            raise ValueError(
                f"{n} new tokens after {self.length} exceed the cache's capacity of "
                f"{self.capacity}: make a larger cache or crop this one."
            )
        for name, entries in new.items():
            part = self._parts[name]
            if entries.shape != (part.shape[0], n, *part.shape[2:]):
                raise ValueError(
                    f"{name} has shape {tuple(entries.shape)}, the cache takes "
                    f"{(part.shape[0], n, *part.shape[2:])}."
                )
            if entries.requires_grad:
                raise ValueError(
                    "a cache is overwritten in place and keeps no gradients: "
                    "wrap the call in torch.no_grad(), or train without a cache."
                )
        for name, entries in new.items():
            self._parts[name][:, self.length : end] = entries
        self.length = end
        return self.held()

    def held(self) -> dict[str, Tensor]:
        """Views of the tokens held, each [b, length, ...]."""
        return {name: part[:, : self.length] for name, part in self._parts.items()}

    def fixed(self, limit: int) -> dict[str, Tensor]:
        """All parts for steps of fixed shape, zero in the entries that are not held below `limit`.

        Raises:
            ValueError: fewer entries fit.
        """
        if not self.length <= limit <= self.capacity:
            raise ValueError(
                f"limit={limit} must lie in [{self.length}, {self.capacity}], the tokens held and "
                "those that fit."
            )
        for part in self._parts.values():
            part[:, self.length : limit].zero_()
        return dict(self._parts)

    def put(self, place: Int[Tensor, " 1"], **new: Tensor) -> dict[str, Tensor]:
        """Write one token's entries, each [b, 1, ...], at a place known to the device only.

        `length` stays as it is: see `grow`. Returns all parts as a whole, each [b, capacity, ...].
        """
        for name, entries in new.items():
            self._parts[name].index_copy_(1, place, entries.to(self._parts[name].dtype))
        return dict(self._parts)

    def grow(self, length: int) -> None:
        """Count as held what `put` has written below `length`."""
        if not self.length <= length <= self.capacity:
            raise ValueError(f"length={length} must lie in [{self.length}, {self.capacity}].")
        self.length = length

    def crop(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise ValueError(f"length={length} must lie in [0, {self.length}], the tokens held.")
        self.length = length

    def reorder(self, batch_index: Int[Tensor, " b"]) -> None:
        rows = next(iter(self._parts.values())).shape[0]
        if not 0 <= int(batch_index.min()) <= int(batch_index.max()) < rows:
            raise ValueError(f"batch_index={batch_index.tolist()} must lie in [0, {rows}).")
        with torch.inference_mode(False):
            self._parts = {name: part[batch_index] for name, part in self._parts.items()}

    def nbytes(self) -> dict[str, int]:
        return {
            name: part[:, : self.length].numel() * part.element_size()
            for name, part in self._parts.items()
        }


class DecoderCache:
    """The caches of all layers, kept in step."""

    def __init__(self, layers: Sequence[LayerCache]) -> None:
        self.layers = list(layers)

    @property
    def length(self) -> int:
        """Tokens held so far."""
        return self.layers[0].length

    @property
    def capacity(self) -> int:
        """Tokens that fit in every layer."""
        return min(layer.capacity for layer in self.layers)

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        for layer in self.layers:
            layer.crop(length)

    def reorder(self, batch_index: Int[Tensor, " b"]) -> None:
        """Let row i of the batch continue from former row `batch_index[i]`."""
        for layer in self.layers:
            layer.reorder(batch_index)

    def nbytes(self) -> dict[str, int]:
        """Bytes of the tokens held, by category, summed over the layers."""
        total = Counter()
        for layer in self.layers:
            total.update(layer.nbytes())
        return dict(total)
