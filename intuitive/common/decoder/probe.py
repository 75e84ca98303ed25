"""Being shown what a layer's attention works on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What one layer's attention worked on; detached, positions already applied."""

    layer: int
    hidden: Float[Tensor, "b n d_model"]  # normalised input of the attention
    q: Float[Tensor, "b n h_q d"]
    k: Float[Tensor, "b m h_kv d"]  # cached tokens included
    v: Float[Tensor, "b m h_kv d"]


@dataclass(frozen=True)
class Probe:
    """Shows the tensors of chosen layers to a function, one layer at a time.

    Nothing is kept unless the function keeps it. The function may raise, for instance
    `Cancelled`, to stop the forward pass there.

    Args:
        layers: which layers, counted from 0.
        receive: called with a `Seen` as each chosen layer runs.
        layer: the layer that is running; set by the decoder.
    """

    layers: tuple[int, ...]
    receive: Callable[[Seen], None]
    layer: int | None = None

    def at(self, layer: int) -> "Probe | None":
        """This probe for one layer, or None if the layer is not among the chosen."""
        return replace(self, layer=layer) if layer in self.layers else None

    def see(self, hidden: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Called once by the attention module; shapes as in `Seen`."""
        self.receive(Seen(self.layer, hidden.detach(), q.detach(), k.detach(), v.detach()))
