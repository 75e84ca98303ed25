"""Batches of sequences on a GPU, against float64 oracles; see `test_gpu.py`."""

import random

import pytest
import torch
from test_gpu import BRAIN, FLOAT, HALF, error, gathered_sdpa, poison
from varlen_inputs import LAYOUTS, draw_batch, ints, one_by_one

from intuitive.kernels import attend_varlen, block_scores, select_varlen

pytestmark = pytest.mark.gpu

layouts = pytest.mark.parametrize("layout", LAYOUTS)
PAPER = (BRAIN, 128, 128, 128, 16, 16)
combinations = pytest.mark.parametrize(
    ("layout", "dtype", "block_size", "page", "d", "group", "n_selected"),
    [
        *((layout, *PAPER) for layout in LAYOUTS),
        ("pages", HALF, 64, 128, 64, 3, 5),
        ("cache", BRAIN, 16, 16, 64, 8, 6),
        ("packed", FLOAT, 32, 32, 64, 2, 4),
        ("pages", HALF, 16, 48, 64, 2, 17),
    ],
    ids=str,
)


def random_lengths(seed, single=False):
    """Unequal lengths, one sequence of one token and one without keys among them."""
    rng = random.Random(seed)
    found = [(1, 1), (1 if single else 2, 0), (1, rng.randint(1, 3000))]
    for _ in range(rng.randint(1, 5)):
        m = rng.randint(1, 3000)
        n = 1 if single else rng.choice([m, rng.randint(0, m), rng.randint(0, min(m, 40))])
        found.append((min(n, 400), m))
    rng.shuffle(found)
    return found


def worst_loss(ids, q_idx, k_idx, block_size, n_local):
    """How far the best block left out beats the worst chosen one, against exact scores."""
    scores = block_scores(q_idx.double(), k_idx.double(), block_size=block_size, impl="reference")[
        0
    ].double()  # [n, h_kv, n_blk]
    n, m = q_idx.shape[1], k_idx.shape[1]
    seen = scores.isfinite()
    chosen = torch.zeros(*scores.shape[:2], scores.shape[2] + 1, dtype=torch.bool, device="cuda")
    chosen.scatter_(-1, torch.where(ids >= 0, ids, scores.shape[2]).long(), True)
    chosen = chosen[..., :-1]
    assert (chosen <= seen).all()
    assert torch.equal(chosen.sum(-1), seen.sum(-1).clamp(max=ids.shape[-1]))
    local = torch.arange(m - n, m, device="cuda") // block_size
    forced = torch.arange(scores.shape[2], device="cuda") > (local - n_local)[:, None, None]
    assert (chosen | ~(forced & seen)).all()
    free = chosen & ~forced
    worst = scores.masked_fill(~free, float("inf")).amin(-1)
    best = scores.masked_fill(chosen | ~seen, float("-inf")).amax(-1)
    gap = (best - worst)[free.any(-1)]
    return (gap.max() / scores[seen].abs().max()).item() if gap.numel() else 0.0


@combinations
@pytest.mark.parametrize("single", [False, True], ids=["many", "one"])
def test_every_sequence_equals_its_oracle(
    layout, single, dtype, block_size, page, d, group, n_selected
):
    """Attention within twice the error of SDPA; the chosen blocks are the best by exact scores."""
    for seed in range(3):
        lengths = random_lengths(seed + d, single)
        batch = draw_batch(
            layout, lengths, 1 + seed % 4, group, d, block_size=block_size, n_selected=n_selected,
            seed=seed, page=page, dtype=dtype, device="cuda", single=single,
        )  # fmt: skip
        for plan in ("general", "hopper"):
            poison()
            ids = select_varlen(
                batch.q_idx, batch.k_idx, **batch.where, n_selected=n_selected,
                block_size=block_size, plan=plan,
            )  # fmt: skip
            poison()
            out, lse = attend_varlen(
                batch.q, batch.k, batch.v, batch.block_idx, **batch.where, block_size=block_size,
                return_lse=True, plan=plan,
            )  # fmt: skip
            first = 0
            for (n, m), each in zip(lengths, batch.each, strict=True):
                part = slice(first, first + n)
                first += n
                if m == 0 or n == 0:
                    assert (ids[part] == -1).all()
                    assert (out[part] == 0).all()
                    assert lse[part].isneginf().all()
                    continue
                assert worst_loss(ids[part], each[3], each[4], block_size, 1) < 1e-6
                check_one(out[part], lse[part], each, block_size)


def check_one(out, lse, each, block_size):
    from intuitive.kernels import block_sparse_attention

    q, k, v, _, _, blocks = each
    want, want_lse = block_sparse_attention(
        q.double(), k.double(), v.double(), blocks, block_size=block_size, return_lse=True,
        impl="reference",
    )  # fmt: skip
    idle = want_lse[0].isneginf()
    assert torch.equal(lse.isneginf(), idle)
    assert (out[idle] == 0).all()
    if not idle.all():
        torch.testing.assert_close(lse[~idle], want_lse[0][~idle].float(), atol=2e-5, rtol=2e-5)
        theirs = error(gathered_sdpa(q, k, v, blocks, block_size)[0][~idle], want[0][~idle])
        assert error(out[~idle], want[0][~idle]) <= 2 * theirs + 1e-7


@layouts
def test_one_graph_serves_other_lengths_and_pages(layout):
    """Decode is captured once and replayed with lengths, tables and queries of another batch."""
    rule = {"n_selected": 4, "block_size": 64}
    lengths = [[(1, 700), (1, 0), (1, 64), (1, 1)], [(1, 1), (1, 699), (1, 300), (1, 65)]]
    made = []
    for seed, each in enumerate(lengths):  # the same shapes: as many keys, pages and table columns
        batch = draw_batch(
            layout, each, 2, 8, 128, seed=seed, dtype=BRAIN, device="cuda", single=True, **rule
        )
        batch.where["max_seqlen_k"] = 800
        made.append(batch)
    sizes = [max(x.k.shape[i] for x in made) for i in (0, 1)]
    held, where = None, dict(made[0].where)

    def grown(x, like):
        """In a tensor that holds either batch."""
        shape = [max(a, b) for a, b in zip(x.shape, like, strict=True)]
        whole = x.new_full(shape, -1 if x.dtype == torch.int32 else float("nan"))
        whole[tuple(slice(0, s) for s in x.shape)] = x
        return whole

    fields = ("q", "k", "v", "q_idx", "k_idx")
    other = made[1]
    first = {f: grown(getattr(made[0], f), getattr(other, f).shape) for f in fields}
    second = {f: grown(getattr(other, f), getattr(made[0], f).shape) for f in fields}
    places = [key for key, value in where.items() if isinstance(value, torch.Tensor)]
    for key in places:
        where[key] = grown(where[key], other.where[key].shape)
    held = {f: x.clone() for f, x in first.items()}
    assert list(held["k"].shape[:2]) == sizes[:2]

    def step():
        ids = select_varlen(held["q_idx"], held["k_idx"], **where, **rule)
        out, lse = attend_varlen(
            held["q"], held["k"], held["v"], ids, **where, block_size=64, return_lse=True
        )
        return ids, out, lse

    step()  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for batch, fresh in ((made[0], first), (other, second)):
        for f in fields:
            held[f].copy_(fresh[f])
        for key in places:
            where[key].copy_(grown(batch.where[key], where[key].shape))
        poison()
        graph.replay()
        torch.cuda.synchronize()
        replayed = [x.clone() for x in captured]
        for got, eager in zip(replayed, step(), strict=True):
            assert torch.equal(got, eager)
        want_ids = one_by_one(batch, rule)[0]
        assert (replayed[0] == want_ids).float().mean() > 0.99
        loop = batch._replace(each=[
            (*each[:5], ids[None]) for each, ids in zip(
                batch.each, replayed[0].split([1] * 4), strict=True)
        ])  # fmt: skip
        _, want, want_lse = one_by_one(loop, rule)
        torch.testing.assert_close(replayed[1], want, atol=2e-2, rtol=2e-2)
        torch.testing.assert_close(replayed[2], want_lse, atol=1e-4, rtol=1e-4)


@layouts
@pytest.mark.parametrize("single", [False, True], ids=["many", "one"])
def test_nothing_waits_for_the_device(layout, single):
    lengths = random_lengths(3, single)
    batch = draw_batch(
        layout, lengths, 2, 4, 64, block_size=64, n_selected=4, seed=0, dtype=BRAIN, device="cuda",
        single=single,
    )  # fmt: skip

    def step():
        ids = select_varlen(batch.q_idx, batch.k_idx, **batch.where, n_selected=4, block_size=64)
        return attend_varlen(*batch[:3], ids, **batch.where, block_size=64)

    step()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        first = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for _ in range(3):  # results do not move between runs
        assert torch.equal(first, step())


def test_compile_takes_both_in_one_graph():
    batch = draw_batch(
        "pages", [(20, 300), (9, 100)], 2, 4, 64, block_size=64, n_selected=3, seed=0, dtype=BRAIN,
        device="cuda",
    )  # fmt: skip

    def layer(q, k, v, q_idx, k_idx):
        ids = select_varlen(q_idx, k_idx, **batch.where, n_selected=3, block_size=64)
        return attend_varlen(q, k, v, ids, **batch.where, block_size=64)

    args = (*batch[:3], batch.q_idx, batch.k_idx)
    assert torch.equal(torch.compile(layer, fullgraph=True)(*args), layer(*args))


def test_strided_pages_are_read_in_place():
    """Keys and values of one tensor, [pages, 2, page, h_kv, d], as some servers hold them."""
    batch = draw_batch(
        "pages", [(3, 300), (40, 100)], 2, 4, 64, block_size=64, n_selected=3, seed=0, dtype=BRAIN,
        device="cuda",
    )  # fmt: skip
    want = attend_varlen(*batch[:3], batch.block_idx, **batch.where, block_size=64)
    both = torch.stack((batch.k, batch.v), dim=1)
    got = attend_varlen(
        batch.q, both[:, 0], both[:, 1], batch.block_idx, **batch.where, block_size=64
    )
    assert torch.equal(got, want)
    heads_first = batch.k.transpose(1, 2).contiguous().transpose(1, 2)
    got = attend_varlen(
        batch.q, heads_first, both[:, 1], batch.block_idx, **batch.where, block_size=64
    )
    assert torch.equal(got, want)


def test_lengths_on_another_device_are_refused():
    batch = draw_batch(
        "cache", [(1, 30)], 1, 1, 64, block_size=64, n_selected=1, seed=0, device="cuda"
    )
    with pytest.raises(ValueError, match=r"seq_lens is on 'cpu'.*read on the device"):
        attend_varlen(
            *batch[:3], batch.block_idx, **batch.where | {"seq_lens": ints([30])}, block_size=64
        )
