"""Every size and choice of a decoder."""

import math
from dataclasses import dataclass

from ..inputs import plain_fields


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes and choices of a decoder; the defaults are a toy that trains on a laptop."""

    vocab_size: int = 256
    d_model: int = 64
    n_layers: int = 2
    n_q_heads: int = 4
    n_kv_heads: int = 2
    d_head: int = 16
    d_ff: int = 192
    norm_eps: float = 1e-5
    max_positions: int = 2048
    positions: str = "rope"  # or "learned" or "none"
    rope_base: float = 10_000.0
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "d_model", "n_layers", "n_q_heads", "n_kv_heads", "d_head", "d_ff")
        plain_fields(self, **dict.fromkeys((*sizes, "max_positions"), 1))
        if self.n_q_heads % self.n_kv_heads:
            raise ValueError(
                f"n_q_heads={self.n_q_heads} must be a multiple of "
                f"n_kv_heads={self.n_kv_heads}: GQA groups are equal in size."
            )
        if self.positions not in ("rope", "learned", "none"):
            raise ValueError(
                f"positions={self.positions!r} is unknown; choose 'rope', 'learned' or 'none'."
            )
        if self.positions == "rope" and self.d_head % 2:
            raise ValueError(
                f"d_head={self.d_head} must be even: RoPE turns channels in pairs. "
                "Choose an even size, or positions='learned' or 'none'."
            )
        if not 0 < self.norm_eps < math.inf or not 1 < self.rope_base < math.inf:
            raise ValueError(
                f"norm_eps={self.norm_eps} must be above 0 and rope_base={self.rope_base} above 1, "
                "both finite."
            )

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.n_q_heads // self.n_kv_heads
