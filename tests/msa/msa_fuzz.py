"""Calls of MSA's public functions, with plain answers in float64."""

import itertools
import math

import torch
from draws import TINY, heads, near
from fuzzing import Case, calls, drawn, numbers, whole_numbers
from hypothesis import strategies as st

from intuitive.msa import SELECTORS, MSAConfig

ROOMS = ("cost", "reference")
LEFT_OUT = {
    "TrainedIndex": "a record of weights, which load_index makes and checks",
    "load_index": "reads a file by its path; test_trained_index.py damages files",
    "shipped_index": "takes no argument",
    "alignment": "the steps of index training, reached through MSAAttention; test_alignment.py",
    "config": "MSAConfig is tried; Selection is a type",
    "conversion": "turns a whole SmolLM2 over; test_conversion.py",
    "exercise": "check_select is tried",
    "experiments": "each is run over every control by tests/widgets/test_every_explorer.py",
    "index": "files of weights; test_trained_index.py",
    "index_training": "trains for minutes; test_index_training.py",
    "interpreted": "walks Triton's interpreter; test_interpreted.py",
    "kernel_exercise": "checks kernels that a reader writes; test_kernel_exercise.py",
    "masked": "how other attention is masked, an inner part; test_continuation.py",
    "minimax": "loads another package's model; test_transformers.py",
    "model": "MSAAttention is tried",
    "quality": "reads texts with SmolLM2; test_continuation.py",
    "recall": "trains a toy; test_msa_recall.py",
    "results": "reads committed files; test_results.py",
    "task": "draws and trains the toy; test_msa_task.py",
    "texts": "reads texts with SmolLM2; test_texts.py",
    "transformers": "serves another package's models; test_transformers.py",
}
CONFIG = MSAConfig(n_q_heads=4, n_kv_heads=2, d_head=4, d_index=4, block_size=2, n_selected=2)
configs = st.sampled_from([CONFIG, MSAConfig(), MSAConfig.paper(), MSAConfig.smollm()])
contexts = st.integers(1, 10**6)
sizes = st.integers(1, 5)


# ------------------------------------------------------------------------------------- selectors


def check_blocks(answer, *, q, k, block_size, **_):
    n, m, block_size = len(q), len(k), int(block_size)
    assert answer.shape == (n, k.shape[1], -(-m // block_size))
    for i in range(n):
        last = max(m - n + i, -1) // block_size  # -1: queries before the first key see none
        assert bool((answer[i, :, : last + 1] > -math.inf).all())
        assert bool((answer[i, :, last + 1 :] == -math.inf).all())


def plain_scores(q, k):
    """Scaled scores [n, h_q, m] in float64, -inf in the future."""
    (n, h_q, d), (m, h_kv) = q.shape, k.shape[:2]
    out = torch.full((n, h_q, m), -math.inf, dtype=torch.float64)
    for i in range(n):
        for h in range(h_q):
            seen = k[: max(m - n + i + 1, 0), h // (h_q // h_kv)].double()
            out[i, h, : len(seen)] = seen @ q[i, h].double() / math.sqrt(d)
    return out


def check_main(answer, *, q, k):
    torch.testing.assert_close(answer.double(), plain_scores(q, k), **near(q, k))


def blocks_of(rows, block_size, pool):
    """`pool` over the visible numbers of each block; -inf where there is none."""
    parts = []
    for part in rows.double().split(int(block_size), -1):
        pooled = torch.full(part.shape[:-1], -math.inf, dtype=torch.float64)
        for at in itertools.product(*map(range, part.shape[:-1])):
            seen = part[at]
            seen = seen[seen > -math.inf]
            if len(seen):
                pooled[at] = pool(seen)
        parts.append(pooled)
    return torch.stack(parts, -1)


def check_pooled(pool):
    def check(answer, *, q, k, block_size):
        best = plain_scores(q, k).unflatten(1, (k.shape[1], -1)).amax(2)
        torch.testing.assert_close(answer.double(), blocks_of(best, block_size, pool), **near(q, k))

    return check


def check_pool(pool):
    def check(answer, *, scores, block_size):
        want = blocks_of(scores, block_size, pool)
        torch.testing.assert_close(answer.double(), want, **near(scores))

    return check


def draw_visible(draw) -> dict:
    scores = numbers(draw, draw(sizes), draw(sizes))
    scores[:, scores.shape[1] - draw(st.integers(0, scores.shape[1])) :] = -math.inf
    return {"scores": scores, "block_size": draw(sizes)}


pooled = drawn(lambda draw: {**heads(draw), "block_size": draw(sizes)})


# --------------------------------------------------------------------------------- the two branches


def lengths(draw) -> tuple[int, int, int, int]:
    n = draw(st.integers(1, 5))
    return draw(st.integers(1, 2)), n, n + draw(st.integers(0, 4)), 2


def draw_branch(draw) -> dict:
    b, n, _, h_kv = lengths(draw)
    return {
        "hidden": numbers(draw, b, n, 8),
        "w_q": numbers(draw, h_kv * 4, 8),
        "w_k": numbers(draw, 4, 8),
        "norm_q": numbers(draw, 4),
        "norm_k": numbers(draw, 4),
        "positions": whole_numbers(draw, b, n, high=30),
        "rope_base": draw(st.sampled_from([None, 10_000.0])),
        "d_rotary": draw(st.sampled_from([None, 2])),
    }


def check_branch(answer, *, hidden, w_q, w_k, **_):
    q_idx, k_idx = answer
    b, n = hidden.shape[:2]
    assert q_idx.shape == (b, n, len(w_q) // len(w_k), len(w_k)) and k_idx.shape == (b, n, len(w_k))


def draw_index(draw) -> dict:
    b, n, m, h_kv = lengths(draw)
    return {"q_idx": numbers(draw, b, n, h_kv, 4), "k_idx": numbers(draw, b, m, 4)}


def check_tokens(answer, *, q_idx, k_idx):
    n, m = q_idx.shape[1], k_idx.shape[1]
    want = torch.einsum("bnhd,bmd->bnhm", q_idx.double(), k_idx.double()) / q_idx.shape[-1] ** 0.5
    for i in range(n):
        want[:, i, :, max(m - n + i + 1, 0) :] = -math.inf
    torch.testing.assert_close(answer.double(), want, **near(q_idx, k_idx))


def draw_attention(draw) -> dict:
    b, n, m, h_kv = lengths(draw)
    shapes = {"q": (b, n, 2 * h_kv, 4), "k": (b, m, h_kv, 4), "v": (b, m, h_kv, 4)}
    return {name: numbers(draw, *shape) for name, shape in shapes.items()}


def draw_chosen(draw) -> dict:
    call, block_size = draw_attention(draw), draw(st.integers(1, 3))
    (b, n), m = call["q"].shape[:2], call["k"].shape[1]
    n_blk = -(-m // block_size)
    slots = draw(st.integers(1, n_blk))
    order = torch.rand(b, n, 2, n_blk, generator=torch.Generator().manual_seed(draw(sizes)))
    blocks = order.argsort(-1)[..., :slots]
    start = blocks * block_size
    last = torch.arange(m - n, m)[:, None, None]
    return {**call, "block_idx": blocks.masked_fill(start > last, -1), "block_size": block_size}


def attended(q, k, v, visible):
    """Attention in float64 over the tokens that `visible(b, i, r)` lists."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=torch.float64)
    group = q.shape[2] // k.shape[2]
    for b in range(q.shape[0]):
        for i in range(q.shape[1]):
            for h in range(q.shape[2]):
                tokens = visible(b, i, h // group)
                if tokens:
                    scores = k[b, tokens, h // group].double() @ q[b, i, h].double()
                    p = (scores / math.sqrt(q.shape[-1])).softmax(-1)
                    out[b, i, h] = p @ v[b, tokens, h // group].double()
    return out


def check_dense(answer, *, q, k, v):
    n, m = q.shape[1], k.shape[1]
    want = attended(q, k, v, lambda b, i, r: list(range(m - n + i + 1)))
    torch.testing.assert_close(answer.double(), want, **near(q, k, v))


def check_chosen(answer, *, q, k, v, block_idx, block_size):
    n, m, block_size = q.shape[1], k.shape[1], int(block_size)

    def visible(b, i, r):
        chosen = set(block_idx[b, i, r].tolist())
        return [t for t in range(m - n + i + 1) if t // block_size in chosen]

    torch.testing.assert_close(answer.double(), attended(q, k, v, visible), **near(q, k, v))


def check_masked(answer, *, q, k, v, mask):
    want = attended(q, k, v, lambda b, i, r: mask[b, i, r].nonzero().flatten().tolist())
    torch.testing.assert_close(answer.double(), want, **near(q, k, v))


def draw_masked(draw) -> dict:
    call = draw_attention(draw)
    (b, n), m = call["q"].shape[:2], call["k"].shape[1]
    return {**call, "mask": whole_numbers(draw, b, n, 2, m, high=2).bool()}


def check_mask(answer, *, block_idx, m, block_size):
    n, m, block_size = block_idx.shape[1], int(m), int(block_size)
    for b, i, r in itertools.product(*map(range, block_idx.shape[:3])):
        chosen = set(block_idx[b, i, r].tolist())
        want = [t <= m - n + i and t // block_size in chosen for t in range(m)]
        assert answer[b, i, r].tolist() == want


def draw_mask(draw) -> dict:
    call = draw_chosen(draw)
    return {
        "block_idx": call["block_idx"],
        "m": call["k"].shape[1],
        "block_size": call["block_size"],
    }


def draw_partials(draw) -> dict:
    b, n, _, _ = lengths(draw)
    lse = numbers(draw, b, n, 2, 3)
    empty = whole_numbers(draw, b, n, 2, 3, high=2).bool()
    partial = numbers(draw, b, n, 2, 3, 4).masked_fill(empty[..., None], 0)
    return {"partial": partial, "lse": lse.masked_fill(empty, -math.inf)}


def check_partials(answer, *, partial, lse):
    weight = lse.double().softmax(-1).nan_to_num(0)
    want = (weight[..., None] * partial.double()).sum(-2)
    torch.testing.assert_close(answer.double(), want, **near(partial, lse))


def draw_method(draw) -> dict:
    call = draw_attention(draw)
    (b, n), m = call["q"].shape[:2], call["k"].shape[1]
    index = {"q_idx": numbers(draw, b, n, 2, 4), "k_idx": numbers(draw, b, m, 4)}
    return {**call, **index, "config": CONFIG}


def check_method(answer, *, q, **_):
    assert answer.shape == q.shape


# ------------------------------------------------------------------------------------- measures


def check_share(answer, **_):
    assert bool(((answer >= 0) & (answer <= 1 + 1e-5)).all())


def draw_ids(draw) -> dict:
    n, slots, n_blk = draw(sizes), draw(sizes), 6
    seed = draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.rand(1, n, 2, n_blk, generator=generator).argsort(-1)[..., :slots] for _ in "ab"]
    return {"selected": ids[0], "best": ids[1]}


def check_recall(answer, *, selected, best):
    for got, ours, theirs in zip(
        answer.flatten().tolist(), selected.flatten(0, -2), best.flatten(0, -2), strict=True
    ):
        wanted = {block for block in theirs.tolist() if block >= 0}
        hit = wanted & set(ours.tolist())
        assert math.isclose(got, len(hit) / max(len(wanted), 1), abs_tol=1e-5)


def draw_mass(draw) -> dict:
    call = draw_ids(draw)
    mass = numbers(draw, *call["best"].shape[:-1], 6).softmax(-1)
    return {"mass": mass, "block_idx": call["best"]}


def draw_score_recall(draw) -> dict:
    call = draw_ids(draw)
    return {"mass": numbers(draw, *call["best"].shape[:-1], 6).softmax(-1), **call}


def draw_overlap(draw) -> dict:
    return {"block_idx": draw_ids(draw)["best"][0]}


def draw_needle(draw) -> dict:
    n = draw(st.integers(1, 12))
    return {
        "n": n,
        "block_size": draw(sizes),
        "d": draw(sizes),
        "seed": draw(sizes),
        "needle": draw(st.integers(0, n - 1)),
    }


def check_needle(answer, *, n, d, **_):
    query, keys = answer
    assert query.shape == (1, 1, d) and keys.shape == (n, 1, d)


def draw_split(draw) -> dict:
    rows = numbers(draw, draw(sizes), draw(sizes))
    return {"rows": rows, "block_size": draw(sizes), "fill": 0.0}


def check_split(answer, *, rows, block_size, fill):
    flat = answer.flatten(-2)
    assert answer.shape[-1] == block_size and torch.equal(flat[..., : rows.shape[-1]], rows)
    assert bool((flat[..., rows.shape[-1] :] == fill).all())


def check_groups(answer, *, per_head, n_groups):
    assert answer.shape[-3] == n_groups and torch.equal(answer.flatten(-3, -2), per_head)


# ----------------------------------------------------------------------------------------- cost


def costs(**more):
    return calls(config=configs, context=contexts, **more)


def check_positive(answer, **_):
    values = answer.values() if isinstance(answer, dict) else [answer]
    assert all(value >= 0 for value in values)


ELEMENT = {"element_bytes": st.sampled_from([1, 2, 4])}
queries = st.integers(1, 4096)

TABLE = {
    "MSAConfig": Case(
        calls(
            n_q_heads=st.sampled_from([2, 4]),
            n_kv_heads=st.sampled_from([1, 2]),
            d_head=sizes,
            d_index=st.sampled_from([2, 4]),
            d_rotary=st.sampled_from([None, 0, 2]),
            block_size=sizes,
            n_selected=st.integers(2, 5),
            n_local=st.integers(0, 1),
            n_init=st.integers(0, 1),
        ),
    ),
    "MSAAttention": Case(
        calls(
            config=TINY,
            msa=MSAConfig(n_q_heads=2, n_kv_heads=1, d_head=4, d_index=4),
            sparse=st.booleans(),
            impl=st.sampled_from(["auto", "reference"]),
        ),
        # first weights come from torch's own generator, like those of every nn.Linear
        random=True,
    ),
    "selector_scores": Case(
        drawn(
            lambda draw: {
                "selector": draw(st.sampled_from(sorted(SELECTORS))),
                **heads(draw),
                "block_size": draw(sizes),
            }
        ),
        check_blocks,
    ),
    "check_select": Case(
        calls(
            select=st.sampled_from(
                [lambda *_: None, lambda *_: [0], lambda *_: 3, lambda *_: [math.nan], lambda: 1]
            )
        )
    ),
    "reference.index_branch": Case(drawn(draw_branch), check_branch),
    "reference.token_scores": Case(drawn(draw_index), check_tokens),
    "reference.split_blocks": Case(drawn(draw_split), check_split),
    "reference.block_max": Case(drawn(draw_visible), check_pool(torch.Tensor.amax)),
    "reference.block_mean": Case(drawn(draw_visible), check_pool(torch.Tensor.mean)),
    "reference.block_sparse_mask": Case(drawn(draw_mask), check_mask),
    "reference.masked_attention": Case(drawn(draw_masked), check_masked),
    "reference.dense_attention": Case(drawn(draw_attention), check_dense),
    "reference.msa_attention": Case(drawn(draw_method), check_method),
    "reference.attend_query_outer": Case(drawn(draw_chosen), check_chosen),
    "reference.attend_kv_outer": Case(drawn(draw_chosen), check_chosen),
    "reference.merge_partials": Case(drawn(draw_partials), check_partials),
    "reference.group_queries": Case(
        drawn(
            lambda draw: {
                "per_head": numbers(draw, draw(sizes), 6, 2),
                "n_groups": draw(st.sampled_from([1, 2, 3, 6])),
            }
        ),
        check_groups,
    ),
    "reference.main_scores": Case(drawn(heads), check_main),
    "reference.oracle_scores": Case(pooled, check_blocks),
    "reference.max_pooled_scores": Case(pooled, check_pooled(torch.Tensor.amax)),
    "reference.mean_pooled_scores": Case(pooled, check_pooled(torch.Tensor.mean)),
    "reference.mean_key_scores": Case(pooled, check_blocks),
    "reference.window_scores": Case(pooled, check_blocks),
    "reference.block_recall": Case(drawn(draw_ids), check_recall),
    "reference.mass_captured": Case(drawn(draw_mass), check_share),
    "reference.score_recall": Case(drawn(draw_score_recall), check_share),
    "reference.group_overlap": Case(drawn(draw_overlap), check_share),
    "reference.planted_needle": Case(drawn(draw_needle), check_needle),
    "cost.check_context": Case(calls(context=contexts), lambda answer, context: None),
    "cost.floor_seconds": Case(
        calls(flops=st.sampled_from([1e9, 10**12]), bytes_moved=st.sampled_from([1e6, 10**9])),
        check_positive,
    ),
}


TABLE |= {
    f"cost.{name}": Case(costs(), check_positive)
    for name in (
        "dense_flops", "index_flops", "main_flops", "msa_flops", "flop_ratio", "index_flop_share",
        "decode_byte_ratio",
    )
}  # fmt: skip
TABLE |= {
    f"cost.{name}": Case(costs(**ELEMENT), check_positive)
    for name in (
        "kv_memory", "dense_decode_bytes", "index_decode_bytes", "main_decode_bytes",
        "msa_decode_bytes", "query_outer_bytes", "kv_outer_bytes",
    )
}  # fmt: skip
TABLE |= {
    f"cost.{name}": Case(calls(config=configs), check_positive)
    for name in (
        "flop_ceiling", "break_even_context", "cache_growth", "decode_byte_ceiling",
        "decode_break_even_context",
    )
}  # fmt: skip
TABLE |= {
    "cost.attention_weights": Case(
        calls(config=configs, d_model=st.integers(1, 4096)), check_positive
    ),
    "cost.dense_scratch": Case(calls(config=configs, n_queries=queries, **ELEMENT), check_positive),
    "cost.attend_scratch": Case(
        calls(config=configs, n_queries=queries, **ELEMENT), check_positive
    ),
    "cost.selection_scratch": Case(
        calls(config=configs, context=contexts, n_queries=queries), check_positive
    ),
    "cost.prefill_memory": Case(
        calls(
            config=configs,
            context=st.integers(64, 4096),
            n_queries=st.integers(1, 64),
            d_model=st.integers(1, 4096),
            **ELEMENT,
        ),
    ),
    "cost.loop_intensity": Case(
        calls(config=configs, context=contexts, bytes_moved=st.integers(1, 10**9)), check_positive
    ),
}
