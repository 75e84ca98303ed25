"""Calls of LSA's public functions, with plain answers in Python."""

import math

import torch
from draws import near
from fuzzing import Case, calls, coins, drawn, numbers, whole_numbers
from hypothesis import strategies as st
from lsa_layers import SMALL, make_decoder
from recordings import draw_recording

from intuitive.common.decoder import DecoderConfig
from intuitive.lsa import LSAConfig, MemoryIndexers, Policy

ROOMS = ("cost", "labels", "selection")
LEFT_OUT = {
    "CellPool": "holds the cells of a decode, reached by LookaheadDecoding; test_residency.py",
    "Recording": "a record that draws on ten arrays; its checks are tested in test_recording.py",
    "Residency": "a record that replay makes",
    "train_indexers": "trains on documents that harvest makes; test_indexer.py, test_switches.py",
    "arms": "Policy and replay are tried",
    "attention": "parts of a layer, reached by lsa_decoder; test_attention.py",
    "cache": "the layers' own caches, reached by lsa_decoder",
    "config": "LSAConfig is tried",
    "exercise": "check_choose and replay_choose are tried",
    "experiments": "each is run over every control by tests/widgets/test_every_explorer.py",
    "fast": "inner loops of residency; test_fast.py",
    "harvest": "runs a model over texts; test_harvest.py",
    "indexer": "MemoryIndexer and MemoryIndexers are tried",
    "indexer_training": "trains; test_indexer.py",
    "lightning": "the training of another indexer; test_lightning.py",
    "packing": "bytes of stored entries, an inner form; test_packing.py",
    "recording": "Recording's file; test_recording.py",
    "reference": "layers as formulas over a module's own weights; test_attention.py",
    "residency": "LookaheadDecoding is tried",
    "results": "reads committed files; test_lsa_arms.py",
    "rotary": "tables of angles, an inner part; test_attention.py",
    "shelf_texts": "the shelves' texts; test_written.py",
    "shipped": "reads committed files; test_topical.py",
    "smollm": "needs the language model; test_smollm.py",
    "smollm_decoding": "needs the language model; test_smollm_decoding.py",
    "smollm_harvest": "needs the language model; test_smollm_harvest.py",
    "task": "draws documents for training; test_lsa_task.py",
}
configs = st.sampled_from([SMALL, LSAConfig(), LSAConfig.paper()])
tokens = st.integers(0, 10**6)
shares = st.sampled_from([0.0, 0.25, 1.0])
few = st.integers(1, 4)
SIZES = DecoderConfig(
    d_model=SMALL.d_model,
    n_layers=len(SMALL.layers),
    positions="none",
    max_positions=256,
    tied_embeddings=False,
)
DECODER, INDEXERS = make_decoder(), MemoryIndexers(SMALL)
RECORDING = draw_recording()


def check_positive(answer, **_):
    values = answer.values() if isinstance(answer, dict) else [answer]
    assert all(0 <= value < math.inf for value in values)


# ----------------------------------------------------------------------------------------- labels


def draw_logits(draw) -> dict:
    logits = numbers(draw, draw(few), draw(st.integers(2, 4)), draw(few), scale=3)
    logits[..., logits.shape[-1] - draw(st.integers(0, 1)) :] = -math.inf
    return {"logits": logits}


def draw_votes(draw) -> dict:
    return {
        **draw_logits(draw),
        "top_k": draw(few),
        "top_p": draw(st.sampled_from([0.3, 0.6, 1.0])),
    }


def kept(row, top_k, top_p) -> set[int]:
    """The nucleus of one layer: the fewest of its best chunks that reach `top_p`."""
    there = [i for i, x in enumerate(row) if x > -math.inf]
    best = sorted(there, key=lambda i: (-row[i], i))[: int(top_k)]
    p = torch.tensor([row[i] for i in best], dtype=torch.float64).softmax(-1).tolist()
    chosen, total = set(), 0.0
    for i, share in zip(best, p, strict=True):
        if top_p < 1 and total >= top_p - 1e-9:
            break
        if share > 0:
            chosen.add(i)
        total += share
    return chosen


def check_count(answer, *, logits, top_k, top_p):
    for got, layers in zip(answer.tolist(), logits.double().tolist(), strict=True):
        nuclei = [kept(row, top_k, top_p) for row in layers]
        assert got == [sum(i in nucleus for nucleus in nuclei) for i in range(logits.shape[-1])]


def check_golden(answer, *, logits, top_k, top_p, votes):
    for got, layers in zip(answer.tolist(), logits.double().tolist(), strict=True):
        nuclei = [kept(row, top_k, top_p) for row in layers]
        count = [sum(i in nucleus for nucleus in nuclei) for i in range(logits.shape[-1])]
        assert got == [n >= votes for n in count]


def draw_windows(draw) -> dict:
    steps, chunks = draw(st.integers(1, 6)), draw(few)
    return {
        "golden": coins(draw, steps, chunks),
        "closed": whole_numbers(draw, steps, high=chunks + 1).sort().values,
        "lookahead": draw(few),
        "stride": draw(st.sampled_from([None, 1, 2])),
    }


def check_windows(answer, *, golden, closed, lookahead, stride):
    starts = range(0, len(golden), int(lookahead if stride is None else stride))
    want = [
        [
            i < int(closed[t]) and bool(golden[t : t + int(lookahead), i].any())
            for i in range(golden.shape[1])
        ]
        for t in starts
    ]
    assert answer.tolist() == want


def draw_factory(draw) -> dict:
    call = draw_logits(draw)
    steps, _, chunks = call["logits"].shape
    closed = whole_numbers(draw, steps, high=chunks + 1).sort().values
    return {
        **call,
        "closed": closed,
        "config": SMALL,
        "lookahead": draw(st.sampled_from([None, 2])),
    }


def check_nucleus(answer, *, probabilities, top_p):
    assert answer.shape == probabilities.shape
    short = (probabilities.double() * ~answer).sum(-1)
    assert bool((short <= 1 - top_p + 1e-3).all()) or float(probabilities.sum(-1).min()) < top_p


def draw_nucleus(draw) -> dict:
    rows = numbers(draw, draw(few), draw(few)).softmax(-1).sort(descending=True).values
    return {"probabilities": rows, "top_p": draw(st.sampled_from([0.3, 0.9, 1.0]))}


def check_softmax(answer, *, logits, top_k):
    p, chunks = answer
    total = p.sum(-1)
    assert bool((((total - 1).abs() < 1e-6) | (total == 0)).all())
    assert bool((p.diff(dim=-1) <= 1e-12).all()) and p.shape[-1] <= top_k
    assert bool((chunks < logits.shape[-1]).all())


def check_weights(answer, *, golden, common, weight):
    often = golden.double().mean(0) > common
    assert torch.equal(answer.double(), torch.where(often, float(weight), 1.0).float().double())


# -------------------------------------------------------------------------------------- selection


def draw_memory(draw) -> dict:
    h, d = draw(few), draw(few)
    return {
        "q": numbers(draw, h, d),
        "weights": numbers(draw, h),
        "keys": numbers(draw, draw(few), d),
    }


def check_memory(answer, *, q, weights, keys):
    want = weights.double() @ (q.double() @ keys.double().T).relu()
    torch.testing.assert_close(answer.double(), want, **near(q, weights, keys))


def draw_layers(draw) -> dict:
    return {"logits": numbers(draw, draw(few), draw(few), scale=3)}


def check_above(answer, *, logits, threshold):
    bar = math.log(threshold) - math.log1p(-threshold)
    assert answer.tolist() == (logits.double().amax(-2) > bar).tolist()


def check_best(answer, *, logits, n):
    joined = logits.double().amax(0).tolist()
    there = [i for i, x in enumerate(joined) if x > -math.inf]
    best = sorted(there, key=lambda i: (-joined[i], i))[: int(n)]
    assert answer.nonzero().flatten().tolist() == sorted(best)


def draw_pages(draw) -> dict:
    n = draw(st.integers(1, 7))
    return {
        "chosen": coins(draw, n),
        "page_size": draw(few),
        "n_pages": draw(st.integers(0, 3)),
        "forced": coins(draw, n, share=0.2),
    }


def check_pages(answer, *, chosen, page_size, n_pages, forced):
    pages = range(-(-len(chosen) // int(page_size)))
    of = [[*range(p * page_size, min((p + 1) * page_size, len(chosen)))] for p in pages]
    must = [p for p in pages if forced[of[p]].any()]
    count = [int(chosen[of[p]].sum()) for p in pages]
    free = sorted((p for p in pages if p not in must and count[p]), key=lambda p: (-count[p], p))
    kept = {*must, *free[: max(int(n_pages) - len(must), 0)]}
    assert answer.tolist() == [i // page_size in kept for i in range(len(chosen))]


def draw_always(draw) -> dict:
    n = draw(st.integers(1, 9))
    closed = draw(st.integers(0, n))
    decoded = draw(st.one_of(st.none(), st.integers(0, closed)))
    return {"closed": closed, "n": n, "config": SMALL, "decoded_from": decoded}


def check_mask(answer, *, n, **_):
    assert answer.shape == (n,) and answer.dtype == torch.bool


def draw_sets(draw) -> dict:
    windows, layers, chunks = draw(few), draw(few), draw(st.integers(1, 6))
    rule, size = draw(st.sampled_from([("threshold", None), ("budget", 2), ("pages", 1)]))
    return {
        "logits": numbers(draw, windows, layers, chunks),
        "closed": whole_numbers(draw, windows, high=chunks + 1).sort().values,
        "config": SMALL,
        "rule": rule,
        "size": size,
        "lag": draw(st.integers(0, 1)),
        "sticky": draw(st.booleans()),
    }


def check_sets(answer, *, closed, **_):
    for row, there in zip(answer, closed.tolist(), strict=True):
        assert not bool(row[there:].any())


def draw_decision(draw) -> dict:
    call = draw_layers(draw)
    rule, size = draw(st.sampled_from([("threshold", None), ("budget", 2), ("pages", 1)]))
    always = coins(draw, call["logits"].shape[1], share=0.2)
    return {**call, "always": always, "config": SMALL, "rule": rule, "size": size}


def check_stored(answer, *, keys):
    stored, scale = answer
    back = stored.double() * scale.double()[..., None]
    most = keys.double().abs().amax(-1, keepdim=True)
    assert bool(((back - keys.double()).abs() <= most / 14 + 1e-30).all())


def draw_stored(draw) -> dict:
    n, d = draw(few), draw(few)
    return {"stored": numbers(draw, n, d), "scale": numbers(draw, n).abs()}


def check_back(answer, *, stored, scale):
    torch.testing.assert_close(
        answer.double(), stored.double() * scale.double()[..., None], **near(stored, scale)
    )


# --------------------------------------------------------------------------------------- the rest


def draw_policy(draw) -> dict:
    rule, size = draw(st.sampled_from([("threshold", None), ("budget", 2), ("pages", 1)]))
    return {
        "arm": draw(st.sampled_from(["lsa", "reactive", "recency", "random", "quest", "oracle"])),
        "lookahead": draw(st.integers(1, 9)),
        "rule": rule,
        "threshold": draw(st.sampled_from([0.3, 0.5])),
        "size": size,
        "lag": draw(st.integers(0, 1)),
        "layers": draw(st.sampled_from([None, 1])),
        "tail_chunks": draw(st.integers(0, 4)),
        "sticky": draw(st.booleans()),
        "seed": draw(few),
        "sink": draw(st.integers(0, 2)),
        "page_size": draw(few),
        "top_k": draw(st.integers(0, 4)),
    }


def draw_replay(draw) -> dict:
    return {"recording": RECORDING, "policy": Policy(**draw_policy(draw))}


def check_replay(answer, **_):
    for share in (answer.golden_recall, answer.kept, answer.mass_recall, answer.refetch_rate):
        assert 0 <= share <= 1 + 1e-6


def check_replayed(answer, *, recording, **_):
    assert answer.recording == recording.name and repr(answer)


READERS = st.sampled_from(
    [
        lambda logits, most: [],
        lambda logits, most: None,
        lambda logits, most: [-1],
        lambda logits, most: [0.5],
        lambda logits: 1,
        lambda logits, most: list(range(10**3)),
    ]
)


def draw_decoding(draw) -> dict:
    rule, size = draw(st.sampled_from([("threshold", None), ("budget", 2), ("pages", 1)]))
    return {
        "decoder": DECODER,
        "indexers": INDEXERS,
        "capacity": draw(st.integers(1, 256)),
        "mode": draw(st.sampled_from(["sync", "overlapped"])) if size == 2 else "sync",
        "rule": rule,
        "size": size,
        "lag": 1,
        "sticky": draw(st.booleans()),
        "full_limit": draw(st.sampled_from([None, 0.5])),
        "shadow": draw(st.booleans()),
    }


def generators():
    return st.integers(0, 9).map(lambda seed: torch.Generator().manual_seed(seed))


TABLE = {
    "LSAConfig": Case(
        calls(
            d_model=st.integers(1, 9),
            d_rope=st.sampled_from([0, 2]),
            norm_eps=st.sampled_from([1e-6]),
            chunk_size=few,
            hca_size=few,
            top_k=few,
            rope_base=st.sampled_from([500.0]),
            yarn_factor=st.sampled_from([1.0, 4.0]),
            layout=st.sampled_from(["float32", "bfloat16", "v4"]),
            memory_layers=st.sampled_from([(0,), (0, 2)]),
            memory_bias=st.booleans(),
            hadamard=st.booleans(),
            threshold=st.sampled_from([0.3, 0.5]),
            lookahead=few,
            tail=st.integers(0, 9),
            sink=st.integers(0, 2),
            label_top_p=st.sampled_from([0.5, 0.6]),
            label_votes=st.integers(1, 4),
        )
    ),
    "kv_bytes": Case(calls(config=configs, n_tokens=tokens), check_positive),
    "resident_bytes": Case(
        calls(
            config=configs,
            n_tokens=tokens,
            kept=shares,
            accounting=st.sampled_from(["everything", "paper"]),
            all_index_keys=st.booleans(),
        ),
        check_positive,
    ),
    "golden_chunks": Case(
        drawn(lambda draw: {**draw_votes(draw), "votes": draw(st.integers(1, 2))}), check_golden
    ),
    "window_labels": Case(drawn(draw_windows), check_windows),
    "memory_logits": Case(drawn(draw_memory), check_memory),
    "MemoryIndexer": Case(calls(config=st.just(SMALL), generator=generators()), meta=True),
    "MemoryIndexers": Case(calls(config=st.just(SMALL), generator=generators()), meta=True),
    "LSAAttention": Case(
        calls(config=st.just(SMALL), kind=st.sampled_from(["window", "csa", "hca"])), random=True
    ),
    "lsa_decoder": Case(
        calls(config=st.just(SMALL), decoder=st.just(SIZES), generator=generators()), meta=True
    ),
    "LookaheadDecoding": Case(drawn(draw_decoding)),
    "Policy": Case(drawn(draw_policy)),
    "replay": Case(drawn(draw_replay), check_replay),
    "check_choose": Case(calls(choose=READERS)),
    "replay_choose": Case(
        calls(choose=READERS, recording=st.just(RECORDING), most=st.integers(0, 9)), check_replayed
    ),
    "cost.n_chunks": Case(calls(config=configs, n_tokens=tokens), check_positive),
    "cost.window_bytes": Case(calls(config=configs), check_positive),
    "cost.transfer_bytes": Case(
        calls(config=configs, chunks=tokens, index_keys=st.booleans()), check_positive
    ),
    "cost.transfer_ms": Case(
        calls(n_bytes=tokens, gb_per_s=st.sampled_from([25.0, 55])), check_positive
    ),
    "cost.native_scoring_flops": Case(calls(config=configs, chunks=tokens), check_positive),
    "cost.memory_scoring_flops": Case(calls(config=configs, chunks=tokens), check_positive),
    "cost.gflop_per_token": Case(
        calls(config=configs, n_tokens=tokens, kept=shares), check_positive
    ),
    "cost.memory_indexer_weights": Case(calls(config=configs), check_positive),
    "labels.top_k_softmax": Case(
        drawn(lambda draw: {**draw_logits(draw), "top_k": draw(few)}), check_softmax
    ),
    "labels.nucleus": Case(drawn(draw_nucleus), check_nucleus),
    "labels.count_votes": Case(drawn(draw_votes), check_count),
    "labels.make_labels": Case(drawn(draw_factory)),
    "labels.positive_weights": Case(
        drawn(lambda draw: {"golden": coins(draw, draw(few), 3), "common": 0.8, "weight": 0.5}),
        check_weights,
    ),
    "selection.quantise_keys": Case(
        drawn(lambda draw: {"keys": numbers(draw, draw(few), draw(few))}), check_stored
    ),
    "selection.dequantise_keys": Case(drawn(draw_stored), check_back),
    "selection.above": Case(
        drawn(lambda draw: {**draw_layers(draw), "threshold": draw(st.sampled_from([0.3, 0.5]))}),
        check_above,
    ),
    "selection.best": Case(
        drawn(lambda draw: {**draw_layers(draw), "n": draw(st.integers(0, 5))}), check_best
    ),
    "selection.densest_pages": Case(drawn(draw_pages), check_pages),
    "selection.always_resident": Case(drawn(draw_always), check_mask),
    "selection.check_rule": Case(calls(rule=st.just("budget"), size=few), lambda answer, **_: None),
    "selection.decide": Case(drawn(draw_decision)),
    "selection.resident_sets": Case(drawn(draw_sets), check_sets),
}
