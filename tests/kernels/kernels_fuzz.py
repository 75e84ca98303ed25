"""Calls of the kernels' public functions, with plain answers in float64."""

import math

import torch
from fuzzing import Case, drawn, numbers, whole_numbers
from hypothesis import strategies as st
from torch import Tensor

from intuitive.kernels import pack_cells

ROOMS = ()
LEFT_OUT = {
    "Impl": "a type for annotations, which nobody calls",
    "Plan": "a type for annotations, which nobody calls",
}
IMPL = {"impl": st.sampled_from(["auto", "reference"]), "validate": st.sampled_from([None, True])}


def sizes(draw) -> dict[str, int]:
    n = draw(st.integers(1, 6))
    return {
        "b": draw(st.integers(1, 2)),
        "n": n,
        "m": n + draw(st.integers(0, 9)),
        "h_kv": draw(st.integers(1, 2)),
        "d": draw(st.sampled_from([2, 4, 8])),
    }


def options(draw) -> dict:
    return {name: draw(strategy) for name, strategy in IMPL.items()}


def index_vectors(draw) -> dict:
    b, n, m, h_kv, d = sizes(draw).values()
    return {"q_idx": numbers(draw, b, n, h_kv, d), "k_idx": numbers(draw, b, m, d)}


def rule(draw) -> dict:
    n_init, n_local = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    n_selected = max(n_init + n_local, 1) + draw(st.integers(0, 3))
    block_size = draw(st.integers(1, 5))
    return {
        "n_selected": n_selected,
        "block_size": block_size,
        "n_local": n_local,
        "n_init": n_init,
    }


def plain_scores(q_idx: Tensor, k_idx: Tensor, block_size: int) -> Tensor:
    (_, n, _, _), m = q_idx.shape, k_idx.shape[1]
    scores = torch.einsum("bnhd,bmd->bnhm", q_idx.double(), k_idx.double())
    blocks = []
    for start in range(0, m, block_size):
        part = scores[..., start : start + block_size].clone()
        for i in range(n):
            part[:, i, :, max(m - n + i + 1 - start, 0) :] = -torch.inf
        blocks.append(part.amax(-1))
    return torch.stack(blocks, -1)


def check_scores(answer, *, q_idx, k_idx, block_size, **_):
    want = plain_scores(q_idx, k_idx, int(block_size))
    scale = 1 + want[want.isfinite()].abs().amax()
    torch.testing.assert_close(answer.double() / scale, want / scale, atol=1e-5, rtol=1e-5)


def plain_choice(row: list[float], *, n_selected, n_local, n_init, **_) -> list[int]:
    there = [i for i, score in enumerate(row) if score > -math.inf]
    if not there:
        return []
    local = there[-1]
    forced = [i for i in there if i < n_init or local - n_local < i <= local]
    free = sorted((i for i in there if i not in forced), key=lambda i: (-row[i], i))
    return sorted([*forced, *free[: n_selected - len(forced)]])


def check_choice(answer, *, scores, **options):
    for got, row in zip(answer.flatten(0, -2), scores.flatten(0, -2), strict=True):
        want = plain_choice(row.tolist(), **options)
        assert got.tolist() == want + [-1] * (int(options["n_selected"]) - len(want))


def check_both(answer, *, q_idx, k_idx, block_size, n_selected, n_local, n_init, **_):
    """The scores of what was chosen are those of the best choice, up to rounding."""
    scores = plain_scores(q_idx, k_idx, int(block_size))
    options = {"n_selected": int(n_selected), "n_local": int(n_local), "n_init": int(n_init)}
    rounding = 1e-5 * (1 + scores[scores.isfinite()].abs().amax())
    for got, row in zip(answer.flatten(0, -2), scores.flatten(0, -2), strict=True):
        want = plain_choice(row.tolist(), **options)
        taken = [i for i in got.tolist() if i >= 0]
        assert taken == sorted(set(taken)) and len(taken) == len(want)
        assert all(
            abs(a - b) <= rounding
            for a, b in zip(sorted(row[taken].tolist()), sorted(row[want].tolist()), strict=True)
        )


def draw_scores(draw) -> dict:
    b, n, _, h_kv, _ = sizes(draw).values()
    scores = numbers(draw, b, n, h_kv, draw(st.integers(1, 6)))
    hidden = draw(st.integers(0, scores.shape[-1] - 1))
    scores[..., scores.shape[-1] - hidden :] = -torch.inf
    return {"scores": scores, **rule(draw), **options(draw)}


def heads(draw, size: dict[str, int]) -> dict:
    b, n, m, h_kv, d = size.values()
    group = draw(st.integers(1, 3))
    shapes = {"q": (b, n, h_kv * group, d), "k": (b, m, h_kv, d), "v": (b, m, h_kv, d)}
    return {name: numbers(draw, *shape) for name, shape in shapes.items()}


def draw_attention(draw) -> dict:
    size = sizes(draw)
    block_size = draw(st.integers(1, 5))
    n_blk = -(-size["m"] // block_size)
    slots = (size["b"], size["n"], size["h_kv"], draw(st.integers(1, 4)))
    return {
        **heads(draw, size),
        "block_idx": whole_numbers(draw, *slots, low=-1, high=n_blk),
        "block_size": block_size,
        "scale": draw(st.sampled_from([None, 0.5])),
        "return_lse": draw(st.booleans()),
        **options(draw),
    }


def plain_attention(q, k, v, block_idx, block_size, scale) -> tuple[Tensor, Tensor]:
    q, k, v = q.double(), k.double(), v.double()
    (b, n, h_q, d), (m, h_kv) = q.shape, k.shape[1:3]
    out, lse = torch.zeros_like(q), torch.full(q.shape[:3], -torch.inf, dtype=torch.float64)
    for at in ((i, j, h) for i in range(b) for j in range(n) for h in range(h_q)):
        i, j, h = at
        group = h // (h_q // h_kv)
        blocks = {int(block) for block in block_idx[i, j, group] if block >= 0}
        tokens = [t for t in range(m - n + j + 1) if t // block_size in blocks]
        if tokens:
            scores = k[i, tokens, group] @ q[i, j, h] * (d**-0.5 if scale is None else scale)
            out[at], lse[at] = scores.softmax(-1) @ v[i, tokens, group], scores.logsumexp(-1)
    return out, lse


def check_attention(answer, *, q, k, v, block_idx, block_size, scale, return_lse, **_):
    out, lse = plain_attention(q, k, v, block_idx, int(block_size), scale)
    near = {"atol": 2e-2, "rtol": 2e-2} if q.dtype.itemsize < 4 else {"atol": 1e-4, "rtol": 1e-4}
    if return_lse:
        answer, got = answer
        torch.testing.assert_close(got.double(), lse, **near)
    torch.testing.assert_close(answer.double(), out, **near)


def draw_step(draw) -> dict:
    size = sizes(draw) | {"n": 1}
    b, _, m, h_kv, d = size.values()
    index = {"q_idx": numbers(draw, b, 1, h_kv, d), "k_idx": numbers(draw, b, m, d)}
    return {**heads(draw, size), **index, **rule(draw), **options(draw)}


def check_step(answer, *, q, k, v, q_idx, k_idx, block_size, **options):
    rest = {name: options[name] for name in ("n_selected", "n_local", "n_init")}
    check_both(answer.block_idx, q_idx=q_idx, k_idx=k_idx, block_size=block_size, **rest)
    out, lse = plain_attention(q, k, v, answer.block_idx, int(block_size), options.get("scale"))
    torch.testing.assert_close(answer.out.double(), out, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer.lse.double(), lse, atol=1e-4, rtol=1e-4)


def draw_cells(draw) -> dict:
    b, h, k, w = (draw(st.integers(1, 3)) for _ in range(4))
    n_cells, d = draw(st.integers(1, 5)), draw(st.sampled_from([2, 8]))
    return {
        "q": numbers(draw, b, h, d),
        "cells": numbers(draw, n_cells, d),
        "slots": whole_numbers(draw, b, k, low=-1, high=n_cells).int(),
        "window": numbers(draw, b, w, d) if draw(st.booleans()) else None,
        "sinks": numbers(draw, h) if draw(st.booleans()) else None,
        "scale": draw(st.sampled_from([None, 0.5])),
        **options(draw),
    }


def check_cells(answer, *, q, cells, slots, window, sinks, scale, **_):
    for i in range(len(q)):
        rows = [cells[slot].double() for slot in slots[i].tolist() if slot >= 0]
        rows += [] if window is None else [*window[i].double()]
        for h in range(q.shape[1]):
            want = torch.zeros(q.shape[-1], dtype=torch.float64)
            if rows:
                read = torch.stack(rows)
                scores = read @ q[i, h].double() * (q.shape[-1] ** -0.5 if scale is None else scale)
                sink = [] if sinks is None else [sinks[h : h + 1].double()]
                want = torch.cat([scores, *sink]).softmax(-1)[: len(rows)] @ read
            torch.testing.assert_close(answer[i, h].double(), want, atol=1e-4, rtol=1e-3)


def draw_copy(draw) -> dict:
    n, cells, width = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    m = draw(st.integers(1, cells))
    places = torch.randperm(cells, generator=torch.Generator().manual_seed(cells))[:m]
    return {
        "source": numbers(draw, n, width),
        "target": numbers(draw, cells, width),
        "rows": whole_numbers(draw, m, low=-1, high=n),
        "cells": places,
        **options(draw),
    }


def check_copy(answer, *, source, target, rows, cells, **_):
    _, got = answer
    want = target.clone()
    for row, cell in zip(rows.tolist(), cells.tolist(), strict=True):
        if row >= 0 and cell >= 0:
            want[cell] = source[row]
    assert torch.equal(got.nan_to_num(), want.nan_to_num())


def draw_chunks(draw) -> dict:
    b, h, chunks, d = (draw(st.integers(1, 3)) for _ in range(4))
    queries = {"q": numbers(draw, b, h, d), "weights": numbers(draw, b, h)}
    slots = whole_numbers(draw, b, chunks, low=-1, high=1).int() if draw(st.booleans()) else None
    return {**queries, "keys": numbers(draw, b, chunks, d), "slots": slots, **options(draw)}


def check_chunks(answer, *, q, weights, keys, slots, **_):
    products = torch.einsum("bhd,bcd->bhc", q.double(), keys.double()).relu()
    want = torch.einsum("bh,bhc->bc", weights.double(), products)
    if slots is not None:
        want = want.masked_fill(slots == -1, -torch.inf)
    scale = 1 + products.abs().amax() * weights.double().abs().amax()
    near = 1e-2 if q.dtype.itemsize < 4 else 1e-5
    torch.testing.assert_close(answer.double() / scale, want / scale, atol=near, rtol=near)


def draw_votes(draw) -> dict:
    layers, chunks = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    return {
        "logits": numbers(draw, layers, chunks, scale=3),
        "threshold": draw(st.sampled_from([0.1, 0.5, 0.9])),
        "forced_from": draw(st.one_of(st.none(), st.integers(0, chunks))),
        **options(draw),
    }


def check_votes(answer, *, logits, threshold, forced_from, **_):
    ids, count = answer
    bar = math.log(threshold) - math.log1p(-threshold)
    last = len(logits[0]) if forced_from is None else int(forced_from)
    want = [c for c in range(logits.shape[1]) if c >= last or float(logits[:, c].max()) > bar]
    assert ids.tolist() == want + [-1] * (logits.shape[1] - len(want)) and count == len(want)


def check_distinct(answer, *, block_idx, queries, **_):
    seen = [
        len({block for row in group for block in row if block >= 0})
        for sequence in block_idx.transpose(1, 2).flatten(0, 1).tolist()
        for start in range(0, len(sequence), int(queries))
        for group in [sequence[start : start + int(queries)]]
    ]
    assert min(seen) <= float(answer) + 1e-4 and float(answer) <= max(seen) + 1e-4


def check_codes(answer, *, x, unit):
    assert answer.shape == x.shape and answer.dtype == torch.float8_e4m3fn
    assert bool((answer.float().abs() <= 448).all())
    if unit is not None:
        want = (x.double() / float(unit)).clamp(-448, 448)
        torch.testing.assert_close(answer.double(), want, rtol=1 / 16 + 1e-3, atol=2**-9)


def draw_packed(draw) -> tuple[dict, int, int]:
    """Where two sequences lie, and how many queries and keys they have in all."""
    queries = [draw(st.integers(1, 3)) for _ in range(2)]
    keys = [n + draw(st.integers(0, 4)) for n in queries]
    starts = [torch.tensor([0, n, n + m], dtype=torch.int32) for n, m in (queries, keys)]
    return {"cu_seqlens_q": starts[0], "cu_seqlens_k": starts[1]}, sum(queries), sum(keys)


def draw_varlen_index(draw) -> dict:
    where, n, m = draw_packed(draw)
    index = {"q_idx": numbers(draw, n, 2, 4), "k_idx": numbers(draw, m, 4)}
    return {**index, **where, **rule(draw), **options(draw)}


def draw_varlen(draw) -> dict:
    where, n, m = draw_packed(draw)
    shapes = {"q": (n, 4, 4), "k": (m, 2, 4), "v": (m, 2, 4)}
    return {
        **{name: numbers(draw, *shape) for name, shape in shapes.items()},
        "block_idx": whole_numbers(draw, n, 2, 2, low=-1, high=1),
        **where,
        "block_size": draw(st.integers(1, 5)),
        "return_lse": False,
        **options(draw),
    }


def sequences(cu_seqlens_q, cu_seqlens_k):
    """Slices of the queries and the keys of each sequence."""
    if cu_seqlens_q is None:  # one query each
        cu_seqlens_q = torch.arange(len(cu_seqlens_k))
    at, keys = (x.unfold(0, 2, 1).tolist() for x in (cu_seqlens_q, cu_seqlens_k))
    for ends in zip(at, keys, strict=True):
        yield tuple(slice(*end) for end in ends)


def check_varlen_index(answer, *, q_idx, k_idx, cu_seqlens_q, cu_seqlens_k, **rest):
    for at, keys in sequences(cu_seqlens_q, cu_seqlens_k):
        check_both(answer[None, at], q_idx=q_idx[None, at], k_idx=k_idx[None, keys], **rest)


def check_varlen(answer, *, q, k, v, block_idx, cu_seqlens_q, cu_seqlens_k, **rest):
    for at, keys in sequences(cu_seqlens_q, cu_seqlens_k):
        tensors = {"q": q[None, at], "k": k[None, keys], "v": v[None, keys]}
        check_attention(
            answer[None, at], **tensors, block_idx=block_idx[None, at], scale=None, **rest
        )


CELLS = drawn(lambda draw: {"cells": numbers(draw, draw(st.integers(1, 3)), 512)})
PACKED = CELLS.map(lambda call: {"packed": pack_cells(call["cells"])})


def draw_block_ids(draw) -> Tensor:
    b, n, _, h_kv, _ = sizes(draw).values()
    return whole_numbers(draw, b, n, h_kv, draw(st.integers(1, 3)), low=-1, high=5)


def check_share(answer, **_):
    assert 0 <= float(answer) <= 1


def check_packed(answer, *, cells):
    assert answer.shape == (*cells.shape[:-1], 584) and answer.dtype == torch.uint8


def check_unpacked(answer, *, packed):
    assert answer.shape == (*packed.shape[:-1], 512)


TABLE = {
    "block_scores": Case(
        drawn(
            lambda draw: {
                **index_vectors(draw),
                "block_size": draw(st.integers(1, 5)),
                **options(draw),
            }
        ),
        check_scores,
    ),
    "select_blocks": Case(drawn(draw_scores), check_choice),
    "score_and_select": Case(
        drawn(lambda draw: {**index_vectors(draw), **rule(draw), **options(draw)}), check_both
    ),
    "block_sparse_attention": Case(drawn(draw_attention), check_attention),
    "select_varlen": Case(drawn(draw_varlen_index), check_varlen_index),
    "attend_varlen": Case(drawn(draw_varlen), check_varlen),
    "decode_step": Case(drawn(draw_step), check_step),
    "cell_attention": Case(drawn(draw_cells), check_cells),
    "copy_cells": Case(drawn(draw_copy), check_copy, changes=("target",)),
    "score_chunks": Case(drawn(draw_chunks), check_chunks),
    "select_chunks": Case(drawn(draw_votes), check_votes),
    "code_recall": Case(
        drawn(lambda draw: {**index_vectors(draw), **rule(draw), "unit": 1.0}), check_share
    ),
    "distinct_blocks": Case(
        drawn(lambda draw: {"block_idx": draw_block_ids(draw), "queries": draw(st.integers(1, 4))}),
        check_distinct,
    ),
    "suggest_plan": Case(drawn(lambda draw: {"block_idx": draw_block_ids(draw)})),
    "index_codes": Case(
        drawn(
            lambda draw: {
                "x": numbers(draw, draw(st.integers(1, 3)), 4),
                "unit": draw(st.sampled_from([None, 1.0, 0.25])),
            }
        ),
        check_codes,
    ),
    "pack_cells": Case(CELLS, check_packed),
    "unpack_cells": Case(PACKED, check_unpacked),
}
