"""What one attention layer costs: pure arithmetic on a configuration and a context length.

FLOPs follow Eq. 12 of the paper: causal, averaged over a whole sequence, two per multiply-add;
projections, block maxima and top-k are left out, and no query is
charged for more tokens than it sees (`main_flops`). Bytes count each tensor once per pass over
memory. `context` is a number of tokens throughout.

Source: arXiv:2606.13392v2, Eqs. 12-16.
"""

from typing import Literal

from intuitive.common.checks import whole
from intuitive.common.inputs import public
from intuitive.kernels.limits import SCORE_BYTES

from .config import MSAConfig

PAPER_D_MODEL = 3072  # channels of the 109B model (section 5.1)


@public
def check_context(context: int) -> int:
    """A context as Python's own number; ValueError unless it is a positive number of tokens."""
    if whole("context", context) < 1:
        raise ValueError(f"context={context} must be at least 1 token.")
    return whole("context", context)


# FLOPs per token (Eq. 12 divided by the context)


@public
def dense_flops(config: MSAConfig, context: int) -> int:
    """FLOPs per token of dense causal GQA: 2·H_q·d_h·N."""
    context = check_context(context)
    return 2 * config.n_q_heads * config.d_head * context


@public
def index_flops(config: MSAConfig, context: int) -> int:
    """FLOPs per token of the Index Branch: H_kv·d_idx·N, still linear in the context."""
    context = check_context(context)
    return config.n_kv_heads * config.d_index * context


@public
def main_flops(config: MSAConfig, context: int) -> float:
    """FLOPs per token of the Main Branch: 4·H_q·d_h times the tokens that a query reads.

    A query reads k·B_k tokens, or all that it sees where these are fewer; averaged over the
    context that is k·B_k − (k·B_k)²/2N, and N/2 in a context shorter than the selection.

    Differs: Eq. 12 charges every query k·B_k tokens. At a million tokens that is 0.1 % more; in a
    context that the selection covers it would charge more than dense attention reads.
    """
    context = check_context(context)
    full = min(config.n_selected_tokens, context)
    return 4 * config.n_q_heads * config.d_head * (full - full**2 / (2 * context))


@public
def msa_flops(config: MSAConfig, context: int) -> float:
    """FLOPs per token of MSA: Index Branch and Main Branch together."""
    return index_flops(config, context) + main_flops(config, context)


@public
def flop_ratio(config: MSAConfig, context: int) -> float:
    """Dense FLOPs over MSA FLOPs; below 1 MSA is the dearer one."""
    return dense_flops(config, context) / msa_flops(config, context)


@public
def flop_ceiling(config: MSAConfig) -> float:
    """The limit of `flop_ratio` at endless context: 2·H_q·d_h / (H_kv·d_idx)."""
    return 2 * config.n_q_heads * config.d_head / (config.n_kv_heads * config.d_index)


@public
def index_flop_share(config: MSAConfig, context: int) -> float:
    """Share of MSA's FLOPs that the Index Branch takes, in [0, 1]."""
    return index_flops(config, context) / msa_flops(config, context)


@public
def break_even_context(config: MSAConfig) -> float:
    """Context in tokens where both methods cost the same: k·B_k / (1 − 1/√c), c the FLOP ceiling.

    MSA is dearer below it: while the selection covers the context, by its index alone.

    Raises:
        ValueError: the Index Branch alone costs as much as dense attention, at every length.
    """
    ceiling = flop_ceiling(config)
    if ceiling <= 1:
        raise ValueError(
            f"d_index={config.d_index} makes the Index Branch as dear as dense attention at every "
            "context; choose a smaller d_index."
        )
    return config.n_selected_tokens / (1 - ceiling**-0.5)


# Bytes of the cache: held, and read for one decoded token


@public(element_bytes=1)
def kv_memory(config: MSAConfig, context: int, *, element_bytes: int = 2) -> dict[str, int]:
    """Bytes that one layer's cache holds: `keys`, `values`, and MSA's extra `index_keys`."""
    context = check_context(context)
    main = config.n_kv_heads * config.d_head * context * element_bytes
    return {"keys": main, "values": main, "index_keys": config.d_index * context * element_bytes}


@public
def cache_growth(config: MSAConfig) -> float:
    """Index keys as a share of keys and values: MSA's cache is larger by this much."""
    return config.d_index / (2 * config.n_kv_heads * config.d_head)


@public(element_bytes=1)
def dense_decode_bytes(config: MSAConfig, context: int, *, element_bytes: int = 2) -> int:
    """Cache bytes that dense attention reads for one new token: all keys and values."""
    held = kv_memory(config, context, element_bytes=element_bytes)
    return held["keys"] + held["values"]


@public(element_bytes=1)
def index_decode_bytes(config: MSAConfig, context: int, *, element_bytes: int = 2) -> int:
    """Cache bytes that the Index Branch reads for one new token: every index key."""
    return kv_memory(config, context, element_bytes=element_bytes)["index_keys"]


@public(element_bytes=1)
def main_decode_bytes(config: MSAConfig, context: int, *, element_bytes: int = 2) -> int:
    """Cache bytes that the Main Branch reads for one new token: keys and values selected."""
    tokens = min(context, config.n_selected_tokens)
    return dense_decode_bytes(config, tokens, element_bytes=element_bytes)


@public(element_bytes=1)
def msa_decode_bytes(config: MSAConfig, context: int, *, element_bytes: int = 2) -> int:
    """Cache bytes that MSA reads for one new token: index keys and the selected blocks."""
    return index_decode_bytes(config, context, element_bytes=element_bytes) + main_decode_bytes(
        config, context, element_bytes=element_bytes
    )


@public
def decode_byte_ratio(config: MSAConfig, context: int) -> float:
    """Dense decode bytes over MSA decode bytes."""
    return dense_decode_bytes(config, context) / msa_decode_bytes(config, context)


@public
def decode_byte_ceiling(config: MSAConfig) -> float:
    """The limit of `decode_byte_ratio` at endless context: 2·H_kv·d_h / d_idx."""
    return 2 * config.n_kv_heads * config.d_head / config.d_index


@public
def decode_break_even_context(config: MSAConfig) -> float:
    """Context in tokens where both methods read as much for one new token: k·B_k / (1 − 1/c).

    MSA reads more below it: its selection covers nearly everything, and the index keys come on top.

    Raises:
        ValueError: the index keys alone are as large as all keys and values.
    """
    ceiling = decode_byte_ceiling(config)
    if ceiling <= 1:
        raise ValueError(
            f"d_index={config.d_index} makes the index keys as large as keys and values at every "
            "context; choose a smaller d_index."
        )
    return config.n_selected_tokens / (1 - 1 / ceiling)


# Bytes held by one layer while it prefills, by category

Category = Literal["weights", "keys_values", "index_keys", "scratch"]


@public
def attention_weights(config: MSAConfig, d_model: int) -> dict[str, int]:
    """Numbers in one layer's projections: `main` (q, k, v, o) and MSA's extra `index` (q, k).

    Raises:
        ValueError: `d_model` is not positive.
    """
    if d_model < 1:
        raise ValueError(f"d_model={d_model} must be at least 1 channel.")
    rows = 2 * (config.n_q_heads + config.n_kv_heads) * config.d_head
    return {"main": rows * d_model, "index": (config.n_kv_heads + 1) * config.d_index * d_model}


@public(n_queries=0, element_bytes=1)
def dense_scratch(config: MSAConfig, n_queries: int, *, element_bytes: int = 2) -> int:
    """Bytes that fused dense attention needs beyond its inputs.

    The output, and a log-sum-exp in float32 for every query and head; no scores are kept.
    """
    outputs = n_queries * config.n_q_heads * config.d_head * element_bytes
    return outputs + 4 * n_queries * config.n_q_heads


@public(n_queries=0)
def selection_scratch(config: MSAConfig, context: int, n_queries: int) -> int:
    """Bytes that scoring and selecting need beyond their inputs, at the most.

    Block scores in float32, of as many queries at a time as `SCORE_BYTES` hold, and the block ids
    of all queries in 32 bits.
    """
    context = check_context(context)
    per_query = 4 * config.n_kv_heads * -(-context // config.block_size)
    at_a_time = min(n_queries, max(1, SCORE_BYTES // per_query))
    return at_a_time * per_query + _block_ids(config, n_queries)


@public(n_queries=0, element_bytes=1)
def attend_scratch(config: MSAConfig, n_queries: int, *, element_bytes: int = 2) -> int:
    """Bytes that attending to selected blocks needs beyond queries, keys and values.

    What dense attention needs, the block ids, and these sorted by block with their queries.
    """
    dense = dense_scratch(config, n_queries, element_bytes=element_bytes)
    return dense + 3 * _block_ids(config, n_queries)


def _block_ids(config: MSAConfig, n_queries: int) -> int:
    return 4 * n_queries * config.n_kv_heads * config.n_selected


@public(element_bytes=1)
def prefill_memory(
    config: MSAConfig,
    context: int,
    n_queries: int,
    *,
    d_model: int = PAPER_D_MODEL,
    element_bytes: int = 2,
) -> dict[Literal["dense", "msa"], dict[Category, int]]:
    """Bytes that one layer's attention holds while the last queries of a context are prefilled.

    Weights, keys and values, and index keys stay; scratch is the most that a step takes besides.
    MSA selects first and attends then, so its scratch is the larger of the two.

    Args:
        config: the layer.
        context: tokens in the cache, these queries among them.
        n_queries: tokens prefilled at once, at most `context`.
        d_model: channels of the model around the layer.
        element_bytes: of weights, cache and outputs.

    Raises:
        ValueError: more queries than the context has, or none.
    """
    if not 1 <= n_queries <= context:
        raise ValueError(
            f"n_queries={n_queries} must lie from 1 to {context}: they are the last of the context."
        )
    weights = attention_weights(config, d_model)
    held = kv_memory(config, context, element_bytes=element_bytes)
    keys_values = held["keys"] + held["values"]
    return {
        "dense": {
            "weights": element_bytes * weights["main"],
            "keys_values": keys_values,
            "index_keys": 0,
            "scratch": dense_scratch(config, n_queries, element_bytes=element_bytes),
        },
        "msa": {
            "weights": element_bytes * (weights["main"] + weights["index"]),
            "keys_values": keys_values,
            "index_keys": held["index_keys"],
            "scratch": max(
                selection_scratch(config, context, n_queries),
                attend_scratch(config, n_queries, element_bytes=element_bytes),
            ),
        },
    }


# Bytes of a prefill's Main Branch under two loop orders (Eqs. 13-16)


@public(element_bytes=1)
def query_outer_bytes(config: MSAConfig, context: int, *, element_bytes: int = 2) -> int:
    """Bytes moved when each query gathers its own blocks (Eq. 13).

    Queries are read and outputs written once; every query reads k·B_k keys and values.
    """
    context = check_context(context)
    queries_and_outputs = 2 * config.n_q_heads * context * config.d_head
    gathered = 2 * config.n_kv_heads * context * config.n_selected_tokens * config.d_head
    return element_bytes * (queries_and_outputs + gathered)


@public(element_bytes=1)
def kv_outer_bytes(config: MSAConfig, context: int, *, element_bytes: int = 2) -> int:
    """Bytes moved when each key block gathers the queries that chose it (Eq. 15).

    Keys and values are read once; each query is read, and its partial output written, once per
    selected block; then the k partial outputs are read and merged into one.
    """
    context = check_context(context)
    one_pass = config.n_q_heads * context * config.d_head
    keys_and_values = 2 * config.n_kv_heads * context * config.d_head
    queries_and_partials = 2 * config.n_selected * one_pass
    merge = (config.n_selected + 1) * one_pass
    return element_bytes * (keys_and_values + queries_and_partials + merge)


@public(context=1, bytes_moved=1)
def loop_intensity(config: MSAConfig, context: int, bytes_moved: int) -> float:
    """FLOPs of the Main Branch per byte moved (Eqs. 14 and 16); all selections are full."""
    per_query = 4 * config.n_q_heads * config.d_head * config.n_selected_tokens
    return per_query * context / bytes_moved


# What a card can do at most

H100_FLOPS = 989e12  # bfloat16 products a second, from the data sheet of the H100 SXM
H100_BYTES = 3.35e12  # bytes a second from its memory, likewise


@public(flops=0, bytes_moved=0)
def floor_seconds(flops: int | float, bytes_moved: int | float) -> float:
    """Time that an H100 needs at the least, computing and moving at the same time."""
    return max(flops / H100_FLOPS, bytes_moved / H100_BYTES)
