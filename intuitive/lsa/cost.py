"""What a cache of CSA and HCA entries holds, moves and computes: arithmetic on a configuration.

Bytes are those of one request. The window's own tokens are left out of every sum, as in the
paper's figures: they do not grow with the context (`window_bytes` has them).

Two accountings stand side by side. "everything" counts all that must be on the GPU: the kept
chunks, the index keys that the Memory Indexer scores, and HCA. "paper" counts kept chunks alone,
which is what reproduces the paper's LSA column.

Source: arXiv:2606.09079v2, section 3; the repository's byte layout. "paper" is inferred from the
printed figures, not stated there.
"""

import math
from typing import Literal

from intuitive.common.checks import whole
from intuitive.common.inputs import public

from .config import LSAConfig

Accounting = Literal["everything", "paper"]

PAPER_CONSTANT_GFLOP = 26.6  # per token of DeepSeek-V4-Flash, whatever the context
LINK_GB_PER_S = (25.0, 55.0)  # what copies from pinned memory reach over PCIe 4 and 5


@public
def n_chunks(config: LSAConfig, n_tokens: int) -> int:
    """Chunks that so many tokens have closed."""
    return whole("n_tokens", n_tokens, low=0) // config.chunk_size


@public
def kv_bytes(config: LSAConfig, n_tokens: int) -> dict[str, int]:
    """Bytes by category with everything resident, over all layers.

    Args:
        config: sizes.
        n_tokens: in the cache; entries that are not closed are not held.

    Returns:
        `csa_entries`, `index_keys` and `hca_entries`, in bytes.

    Raises:
        ValueError: `n_tokens` is no whole number, or negative.
    """
    chunks = n_chunks(config, n_tokens)
    return {
        "csa_entries": config.n_csa * chunks * config.entry_bytes,
        "index_keys": config.n_csa * chunks * config.index_key_bytes,
        "hca_entries": config.n_hca * (n_tokens // config.hca_size) * config.entry_bytes,
    }


@public
def resident_bytes(
    config: LSAConfig,
    n_tokens: int,
    *,
    kept: float | int,
    accounting: Accounting = "everything",
    all_index_keys: bool = False,
) -> dict[str, int]:
    """Bytes by category on the GPU while a share of the chunks is resident.

    Args:
        config: sizes.
        n_tokens: in the cache.
        kept: share of all chunks that is resident, the tail among them, in [0, 1].
        accounting: "everything", or "paper" for kept chunks alone.
        all_index_keys: whether the index keys of all CSA layers stay on the GPU, and not only
            those that the Memory Indexer scores. Not in the paper's accounting.

    Returns:
        The categories of `kv_bytes`. Everything kept is everything resident.

    Raises:
        ValueError: `kept` or `n_tokens` out of range, an unknown accounting.
    """
    if not 0 <= kept <= 1:
        raise ValueError(f"kept={kept} must lie in [0, 1]: it is a share of all chunks.")
    if accounting not in ("everything", "paper"):
        raise ValueError(f"accounting={accounting!r} is unknown: 'everything' or 'paper'.")
    full = kv_bytes(config, n_tokens)
    chunks = n_chunks(config, n_tokens)
    cells = round(kept * chunks)
    entries = config.n_csa * cells * config.entry_bytes
    if accounting == "paper":
        keys = config.n_csa * cells * config.index_key_bytes
        return {"csa_entries": entries, "index_keys": keys, "hca_entries": 0}
    whole_layers = config.n_csa if all_index_keys else len(config.memory_layers)
    rows = whole_layers * chunks + (config.n_csa - whole_layers) * cells
    return {
        "csa_entries": entries,
        "index_keys": rows * config.index_key_bytes,
        "hca_entries": full["hca_entries"],
    }


@public
def window_bytes(config: LSAConfig) -> int:
    """Bytes of the full windows of all layers, which are in no other sum here."""
    return len(config.layers) * config.window * config.entry_bytes


@public
def transfer_bytes(config: LSAConfig, chunks: int, *, index_keys: bool = False) -> int:
    """Bytes that fetching so many chunks moves, for all CSA layers.

    Args:
        config: sizes.
        chunks: how many are fetched.
        index_keys: whether index keys come along, in the layers that do not keep all of theirs.

    Raises:
        ValueError: `chunks` is no whole number, or negative.
    """
    chunks = whole("chunks", chunks, low=0)
    keyless = config.n_csa - len(config.memory_layers)
    keys = keyless * config.index_key_bytes if index_keys else 0
    return chunks * (config.n_csa * config.entry_bytes + keys)


@public(n_bytes=0)
def transfer_ms(n_bytes: int, gb_per_s: float | int) -> float:
    """Milliseconds that a contiguous copy takes, at 10^9 bytes per second and unit.

    Raises:
        ValueError: the bandwidth is not positive.
    """
    if not (math.isfinite(gb_per_s) and gb_per_s > 0):
        raise ValueError(f"gb_per_s={gb_per_s} must be above 0.")
    return n_bytes / gb_per_s / 1e6


@public
def native_scoring_flops(config: LSAConfig, chunks: int) -> int:
    """FLOPs per token of the lightning indexers, which score so many chunks in every CSA layer."""
    chunks = whole("chunks", chunks, low=0)
    return 2 * chunks * config.n_csa * config.n_index_heads * config.d_index


@public
def memory_scoring_flops(config: LSAConfig, chunks: int) -> float:
    """FLOPs per token of the Memory Indexer, spread over the steps that one trigger serves."""
    chunks = whole("chunks", chunks, low=0)
    per_trigger = 2 * chunks * len(config.memory_layers) * config.n_memory_heads * config.d_index
    return per_trigger / config.lookahead


@public
def gflop_per_token(config: LSAConfig, n_tokens: int, *, kept: float | int = 1.0) -> float:
    """GFLOP per decoded token of DeepSeek-V4-Flash: a constant and the native scoring.

    The Memory Indexer is left out, as in the paper (`memory_scoring_flops` has it).

    Raises:
        ValueError: `kept` or `n_tokens` out of range.
    """
    if not 0 <= kept <= 1:
        raise ValueError(f"kept={kept} must lie in [0, 1]: it is a share of all chunks.")
    scored = round(kept * n_chunks(config, n_tokens))
    return PAPER_CONSTANT_GFLOP + native_scoring_flops(config, scored) / 1e9


@public
def memory_indexer_weights(config: LSAConfig) -> int:
    """Numbers in the Memory Indexer of one layer: three projections, a gain, perhaps a bias."""
    down = config.d_model * config.memory_rank + config.memory_rank
    up = config.memory_rank * config.n_memory_heads * config.d_index
    return down + up + config.d_model * config.n_memory_heads + int(config.memory_bias)
