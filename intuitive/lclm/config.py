"""Every size and choice of a latent-context model."""

from dataclasses import dataclass, field

from intuitive.common.checks import whole
from intuitive.common.decoder import DecoderConfig
from intuitive.common.inputs import plain_fields

POOLINGS = ("mean", "concat", "last", "eos", "queries")
MASKS = ("causal", "bidirectional")
ADAPTERS = ("mlp", "none", "attention")
ANY_RATIO = ("mean", "last", "eos")  # poolings whose weights do not depend on the ratio


def check_ratio(ratio: int, window: int) -> int:
    """`ratio` as an int, if it divides the window.

    Raises:
        ValueError: no whole number, below 1, or no divisor of the window.
    """
    ratio, window = whole("ratio", ratio, low=1), whole("window", window, low=1)
    if window % ratio:
        raise ValueError(
            f"ratio={ratio} must divide window={window}: else the windows' latents would not add "
            "up to the span's. Choose another ratio, or a window that is a multiple of it."
        )
    return ratio


@dataclass(frozen=True, kw_only=True)
class LCLMConfig:
    """Sizes and choices of an encoder, its pooling and adapter, and the decoder that reads.

    Differs: the paper trains one checkpoint per ratio. Here one model may hold an adapter for each
    of several `ratios`, and a pooling without weights of its own can be asked for any ratio.
    """

    ratio: int = 8  # tokens per latent, N
    window: int = 32  # tokens per encoder pass, W
    pooling: str = "mean"  # or "concat", "last", "eos" (copies of one marker), "queries" (distinct)
    mask: str = "causal"  # or "bidirectional"
    overlap: int = 0  # neighbouring tokens read and not pooled; on the left only if causal
    adapter: str = "mlp"  # or "none", or "attention" (a block over the latents, then the MLP)
    residual: bool = (
        False  # Differs: add the mean of the group's embeddings to the adapter's output
    )
    encoder_norm: bool = True  # the encoder's final norm before pooling
    share_embedding: bool = True  # one token embedding for both, where their sizes agree
    ratios: tuple[int, ...] = ()  # further ratios with an adapter of their own
    encoder: DecoderConfig = field(default_factory=DecoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        plain_fields(self, window=1, overlap=0)
        object.__setattr__(self, "ratio", check_ratio(self.ratio, self.window))
        for name, known in (("pooling", POOLINGS), ("mask", MASKS), ("adapter", ADAPTERS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(known)}."
                )
        further = tuple(check_ratio(ratio, self.window) for ratio in self.ratios)
        object.__setattr__(self, "ratios", tuple(sorted({*further} - {self.ratio})))
        if self.ratios and self.pooling not in ANY_RATIO:
            raise ValueError(
                f"ratios={self.ratios} need a pooling without weights that depend on the ratio, "
                f"one of {', '.join(ANY_RATIO)}; got {self.pooling!r}."
            )
        if self.adapter == "none" and self.pooled_width != self.decoder.d_model:
            raise ValueError(
                f"adapter='none' hands over pooled states of width {self.pooled_width}, the "
                f"decoder reads embeddings of width {self.decoder.d_model}: make them equal, or "
                "choose adapter='mlp'."
            )
        if self.encoder.positions != "none" and self.pass_length > self.encoder.max_positions:
            raise ValueError(
                f"an encoder pass of up to {self.pass_length} positions (window={self.window}, "
                f"overlap={self.overlap}, pooling={self.pooling!r}) exceeds the encoder's "
                f"max_positions={self.encoder.max_positions}: shorten the window."
            )
        if self.encoder.vocab_size != self.decoder.vocab_size:
            raise ValueError(
                f"the encoder has {self.encoder.vocab_size} token ids, the decoder "
                f"{self.decoder.vocab_size}: both must read the same tokenizer's."
            )

    @property
    def causal(self) -> bool:
        """Whether an encoder state sees only what came before it."""
        return self.mask == "causal"

    @property
    def takes_markers(self) -> bool:
        """Whether latents are the states of markers that follow a window's tokens."""
        return self.pooling in ("eos", "queries")

    @property
    def pooled_width(self) -> int:
        """Channels of a pooled state, the adapter's input."""
        return self.encoder.d_model * (self.ratio if self.pooling == "concat" else 1)

    @property
    def pass_length(self) -> int:
        """Positions of the longest encoder pass: window, neighbours and markers."""
        n_markers = self.window // min(self.ratio, *self.ratios, self.ratio)
        neighbours = self.overlap * (1 if self.causal else 2)
        return self.window + neighbours + (n_markers if self.takes_markers else 0)

    @property
    def shares_embedding(self) -> bool:
        """Whether encoder and decoder use one token embedding."""
        return self.share_embedding and self.encoder.d_model == self.decoder.d_model

    @classmethod
    def paper(cls, *, ratio: int = 16) -> "LCLMConfig":
        """The released models: Qwen3-Embedding-0.6B before Qwen3-4B-Instruct-2507.

        Differs: Qwen3 norms queries and keys per head, the decoder here does not.

        Source: arXiv:2606.09659v1, section 2.
        """
        shared = {"vocab_size": 151_936, "n_kv_heads": 8, "d_head": 128, "norm_eps": 1e-6}
        shared |= {"rope_base": 1e6, "max_positions": 262_144, "tied_embeddings": True}
        return cls(
            ratio=ratio,
            window=1024,
            encoder=DecoderConfig(d_model=1024, n_layers=28, n_q_heads=16, d_ff=3072, **shared),
            decoder=DecoderConfig(d_model=2560, n_layers=36, n_q_heads=32, d_ff=9728, **shared),
        )
