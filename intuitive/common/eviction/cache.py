"""A cache that has lost entries and still counts them."""

from torch import Tensor

from ..decoder import TensorCache


class EvictedCache:
    """A `LayerCache` over what eviction kept of a prompt, and over all tokens after it.

    `length` counts tokens read, the evicted ones too, so that the decoder places new tokens where
    the text goes on; `nbytes` counts what is held.

    Args:
        kept: the entries kept, in order, with room for what follows.
        n_read: tokens of the prompt.
    """

    def __init__(self, kept: TensorCache, n_read: int) -> None:
        if n_read < kept.length:
            raise ValueError(f"{kept.length} entries cannot be kept of n_read={n_read} tokens.")
        self._kept = kept
        self._n_read = n_read
        self._gone = n_read - kept.length

    @property
    def length(self) -> int:
        """Tokens read so far, evicted ones among them."""
        return self._gone + self._kept.length

    @property
    def capacity(self) -> int:
        """Tokens that could have been read when it is full."""
        return self._gone + self._kept.capacity

    def append(self, **new: Tensor) -> dict[str, Tensor]:
        """Add n tokens; returns views of what is held, as `TensorCache.append` does."""
        return self._kept.append(**new)

    def held(self) -> dict[str, Tensor]:
        """Views of the entries held, each [b, entries, ...]."""
        return self._kept.held()

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens, the whole prompt among them.

        Raises:
            ValueError: the length lies within the prompt, or beyond what was read.
        """
        if not self._n_read <= length <= self.length:
            raise ValueError(
                f"length={length} must lie in [{self._n_read}, {self.length}]: each head kept "
                "other tokens of the prompt, so it cannot be cut short. Evict a shorter prompt."
            )
        self._kept.crop(length - self._gone)

    def reorder(self, batch_index: Tensor) -> None:
        """Let row i of the batch continue from former row `batch_index[i]`."""
        self._kept.reorder(batch_index)

    def nbytes(self) -> dict[str, int]:
        """Bytes of the entries held, by category."""
        return self._kept.nbytes()
