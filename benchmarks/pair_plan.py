"""What `lclm_pair.py` measures: lengths, repeats, and the sizes of the two models."""

from dataclasses import dataclass

from intuitive.common.decoder import DecoderConfig
from intuitive.lclm import LCLMConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured; lengths in tokens."""

    lengths: tuple[int, ...] = (4096, 16_384, 65_536, 131_072, 262_144)
    ratios: tuple[int, ...] = (16, 8, 4)
    full_logits_up_to: int = 131_072  # raw; a row of every position of more does not fit
    once_from: int = 262_144  # raw prompts of this length on are read once
    repeats: int = 3
    piece: int = 8192  # tokens at a time, of the decoder where it goes through the cache
    batch: int = 32  # windows in an encoder pass
    small_batch: int = 8  # where the least memory is wanted
    batches: tuple[int, ...] = (32, 8, 128)  # windows in the throughput's passes
    evicted: tuple[int, ...] = (8192, 65_536)  # lengths prefilled and evicted, the longest once
    evicted_share: int = 16  # one entry in so many is kept
    middle: int = 65_536  # read with either kernel; and with all logits up to it, as latents
    seed: int = 0

    @classmethod
    def small(cls) -> "Plan":
        """Seconds on a CPU."""
        return cls(
            lengths=(100, 256),
            ratios=(4, 2),
            full_logits_up_to=100,
            once_from=256,
            repeats=3,
            piece=48,
            batch=4,
            small_batch=2,
            batches=(2, 4),
            evicted=(40, 96),
            middle=100,
        )


def sizes(small: bool) -> LCLMConfig:
    """The paper's pair, or one that fits anywhere."""
    if not small:
        return LCLMConfig.paper()
    decoder = DecoderConfig(d_model=48)
    return LCLMConfig(ratio=4, window=32, encoder=DecoderConfig(d_model=32), decoder=decoder)
