"""What the layers need to know of the place of one new token, for steps of fixed shape.

See `fixed`: the place is a tensor, so that a CUDA graph can replay the step.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .rotary import angles


class Now:
    """Where the step stands: what all layers need to know of the new tokens' place.

    Args:
        place: [1], the index of the new token in the cache, counted from 0; int64.
        limit: tokens that any step may see at most.
        rope_base: of the decoder; None where it does not turn queries and keys.
        dtype: in which angles are computed.
    """

    def __init__(
        self, place: Int[Tensor, " 1"], limit: int, rope_base: float | None, dtype: torch.dtype
    ) -> None:
        self.place, self.limit = place, limit
        self._rope_base, self._dtype = rope_base, dtype
        self._kept: dict[object, Any] = {}

    def keep(self, name: object, make: Callable[[], Any]) -> Any:
        """What `make()` returns, made once for all layers of the step."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    @property
    def hidden_keys(self) -> Bool[Tensor, " limit"]:
        """True for the places after the new token."""
        return self.keep(
            "hidden keys",
            lambda: torch.arange(self.limit, device=self.place.device) > self.place,
        )

    def turned(self, *parts: Float[Tensor, "b 1 _ _"]) -> tuple[Tensor, ...]:
        """Queries and keys of the new token, each [b, 1, h, d], turned as `rotate` does it.

        Those of equal d are turned together: a step is bound by the number of its kernels.
        """
        if self._rope_base is None:
            return parts
        if len({x.shape[-1] for x in parts}) > 1:
            return tuple(self.turned(x)[0] for x in parts)
        d = parts[0].shape[-1]

        def make() -> tuple[Tensor, Tensor]:
            cos, sin = angles(self.place[None], d, self._rope_base, self._dtype)
            return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)

        cos, sin = self.keep(("angles", d), make)  # [1, 1, 1, d]
        x = torch.cat(parts, 2)
        wide = x.to(cos.dtype)
        turned = torch.addcmul(wide * cos, wide.roll(d // 2, -1), sin).to(x.dtype)
        return turned.split([part.shape[2] for part in parts], 2)


def attend_fixed(
    q: Float[Tensor, "b 1 h_q d"],
    k: Float[Tensor, "b h_kv m d"],
    v: Float[Tensor, "b h_kv m d"],
    hidden_keys: Bool[Tensor, "*m"],
) -> Float[Tensor, "b 1 h_q d"]:
    """Softmax attention of one query per row, scaled by 1/sqrt(d); float32 or wider inside.

    Args:
        q: queries; heads of a group are neighbours.
        k, v: keys and values; hidden ones must be finite.
        hidden_keys: True where a key may not be read; broadcast over [b, h_kv, group, m].
    """
    (b, _, h_q, d), h_kv = q.shape, k.shape[1]
    wide = torch.promote_types(q.dtype, torch.float32)
    grouped = q.view(b, h_kv, h_q // h_kv, d).to(wide) * d**-0.5
    scores = grouped @ k.to(wide).transpose(-1, -2)  # [b, h_kv, group, m]
    p = scores.masked_fill(hidden_keys, -torch.inf).softmax(-1)
    return (p @ v.to(wide)).to(q.dtype).view(b, 1, h_q, d)
