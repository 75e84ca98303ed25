"""Every size and choice of a decoder."""

from dataclasses import dataclass

from ..checks import whole_fields


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
        whole_fields(self, vocab_size=1, d_model=1, n_layers=1, n_q_heads=1, n_kv_heads=1)
        whole_fields(self, d_head=1, d_ff=1, max_positions=1)
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
        if self.norm_eps <= 0 or self.rope_base <= 1:
            raise ValueError(
                f"norm_eps={self.norm_eps} must be above 0 and rope_base={self.rope_base} above 1."
            )

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.n_q_heads // self.n_kv_heads
