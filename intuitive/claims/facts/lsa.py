"""Exact facts of Lookahead Sparse Attention: bytes, FLOPs, labels, equal tokens."""

import torch
from torch import Tensor

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.lsa import LSAConfig, cost, kv_bytes, resident_bytes
from intuitive.lsa.attention import lsa_decoder
from intuitive.lsa.experiments.label_factory import LabelParams, run
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.residency import CellPool, LookaheadDecoding

SERVED = LSAConfig.paper()
GIB = 2**30
SEEDS = (0, 1, 2)


def everything_resident() -> dict[str, int | float]:
    """GiB of the cache with everything on the GPU, by thousands of tokens."""
    lengths = (64, 128, 256, 512, 1024)
    return {f"{n}K": sum(kv_bytes(SERVED, 1024 * n).values()) / GIB for n in lengths}


def tenth_resident() -> dict[str, int | float]:
    """GiB and share of the cache with a tenth of the chunks on the GPU, counted in both ways."""
    found = {}
    for n in (64, 128, 256, 512, 1024):
        whole = sum(kv_bytes(SERVED, 1024 * n).values())
        for accounting in ("paper", "everything"):
            held = resident_bytes(SERVED, 1024 * n, kept=0.1, accounting=accounting)
            found[f"{accounting}_{n}K"] = sum(held.values()) / GIB
            found[f"{accounting}_share_{n}K"] = sum(held.values()) / whole
    return found


def scoring_flops() -> dict[str, int | float]:
    """GFLOP per token at a million tokens, with all chunks scored and with a tenth."""
    return {
        "everything": cost.gflop_per_token(SERVED, 2**20),
        "tenth": cost.gflop_per_token(SERVED, 2**20, kept=0.1),
    }


def label_filter() -> dict[str, int | float]:
    """Positives of one window on a drawn trace, by the union of top k and after the filter."""
    found = {}
    for seed in SEEDS:
        result = run(LabelParams(seed=seed))
        found[f"naive_{seed}"] = int(result.naive[-1].sum())
        found[f"filtered_{seed}"] = int(result.found[-1].sum())
    return found


def _wandering(config: LSAConfig, seed: int) -> Decoder:
    """A small random decoder whose text wanders and hangs on what its attention reads."""
    sizes = DecoderConfig(
        d_model=config.d_model,
        n_layers=len(config.layers),
        positions="none",
        tied_embeddings=False,
        max_positions=1024,
    )
    decoder = lsa_decoder(config, sizes, generator=seeded(seed)).requires_grad_(False).eval()
    draw = seeded(seed + 1)
    for layer in decoder.layers:
        for name, weight in layer.attention.named_parameters():
            flat = weight.dim() != 2 or "slot_bias" in name
            weight.normal_(std=1.0 if flat else 2 * weight.shape[1] ** -0.5, generator=draw)
            if "norm" in name:
                weight.add_(1.5)
    decoder.embedding.weight.mul_(50)
    decoder.head.weight.mul_(20)
    return decoder


@torch.inference_mode()
def moving_equals_masking(steps: int = 48) -> dict[str, int | float]:
    """Tokens that two requests write with memory that moves, beside the same with masks alone."""
    config = LSAConfig(layers=("csa", "hca", "csa"), memory_layers=(0,), lookahead=8, tail=32)
    decoder = _wandering(config, 0)
    indexers = MemoryIndexers(config, generator=seeded(3)).requires_grad_(False)
    pool = CellPool(config, 400, reserve=8, device="cpu")

    def tenth(logits: Tensor, always: Tensor) -> Tensor:
        return torch.rand(len(always), generator=seeded(len(always))) < 0.1

    equal, distinct, fetched = 0, set(), 0
    for length in (331, 602):
        prompt = torch.randint(256, (length,), generator=seeded(length))
        written = []
        for more in ({}, {"pool": pool, "mode": "overlapped"}):
            one = LookaheadDecoding(decoder, indexers, choose=tenth, capacity=1024, delay=3, **more)
            one.prefill(prompt)
            one.generate(steps)
            written.append(list(one.tokens))
            fetched += sum(cycle.fetched for cycle in one.cycles) if more else 0
        equal += sum(a == b for a, b in zip(*written, strict=True))
        distinct |= set(written[0])
    return {"tokens": 2 * steps, "equal": equal, "distinct": len(distinct), "fetched": fetched}
