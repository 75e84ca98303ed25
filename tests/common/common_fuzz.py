"""Calls of what all papers share."""

import torch
from draws import TINY, heads, near, shares, tiny_decoder
from fuzzing import Case, calls, drawn, whole_numbers
from hypothesis import strategies as st

ROOMS = ()
LEFT_OUT = {
    "show_source": "takes functions and classes, whatever they are; test_show.py",
    "Cancelled": "an exception, raised and never called by a learner",
    "Probe": "a record of which layers are shown to whom; it takes any function",
    "SmolLM2": "a record of a decoder and its tokenizer, made by load_smollm2",
    "find_model": "takes no argument; what it finds is tested in test_smollm.py",
    "load_smollm2": "reads a file of 138 MB; its errors are tested in test_smollm.py",
    "corpus": "reads committed texts by name; test_corpus.py",
    "decoder": "the decoder's parts, which Decoder and generate reach",
    "eviction": "its methods, which evict reaches",
    "records": "writes files of results; test_records.py",
    "runtime": "measures this machine; test_common_runtime.py",
    "show": "shows source code; show_source is tried",
    "smollm": "reads the model's file; test_smollm.py",
}
DECODER = tiny_decoder()


def check_rows(answer, *, q, k, query_index, scale):
    want = shares(q, k, scale)[query_index.long()].transpose(0, 1)
    torch.testing.assert_close(answer.double(), want, **near(q, k))


def check_mass(answer, *, q, k, block_size):
    rows = shares(q, k).unflatten(1, (k.shape[1], -1)).mean(2)  # [n, h_kv, m]
    want = torch.stack([part.sum(-1) for part in rows.split(int(block_size), -1)], -1)
    torch.testing.assert_close(answer.double(), want, **near(q, k))


def draw_rows(draw) -> dict:
    call = heads(draw)
    rows = whole_numbers(draw, draw(st.integers(1, 3)), high=len(call["q"]))
    return {**call, "query_index": rows, "scale": draw(st.sampled_from([None, 0.5]))}


def draw_generation(draw) -> dict:
    return {
        "decoder": DECODER,
        "prompt": whole_numbers(draw, draw(st.integers(1, 2)), draw(st.integers(1, 4)), high=19),
        "max_new_tokens": draw(st.integers(1, 4)),
        "temperature": draw(st.sampled_from([0.0, 1.0])),
        "top_k": draw(st.sampled_from([None, 2])),
        "top_p": draw(st.sampled_from([None, 0.5])),
        "generator": torch.Generator().manual_seed(draw(st.integers(0, 9))),
        "stop_tokens": draw(st.sampled_from([(), (3,), (3, 4)])),
    }


def check_generation(answer, *, prompt, max_new_tokens, **_):
    assert answer.shape[0] == len(prompt) and 1 <= answer.shape[1] <= int(max_new_tokens)
    assert bool(((answer >= 0) & (answer < TINY.vocab_size)).all())


def draw_eviction(draw) -> dict:
    return {
        "decoder": DECODER,
        "tokens": whole_numbers(draw, draw(st.integers(1, 2)), draw(st.integers(2, 6)), high=19),
        "method": draw(st.sampled_from(["raw", "truncation", "snapkv", "kvzip", "expected"])),
        "budget": draw(st.integers(1, 7)),
        "room": draw(st.integers(1, 4)),
    }


def check_eviction(answer, *, tokens, method, budget, **_):
    n = tokens.shape[1]
    kept = n if method == "raw" else min(int(budget), n)
    assert answer.logits.shape == (len(tokens), TINY.vocab_size)
    for places in answer.kept:
        assert places.shape == (len(tokens), TINY.n_kv_heads, kept)
        assert bool((places.diff(dim=-1) > 0).all()) and bool(((places >= 0) & (places < n)).all())


def draw_harvest(draw) -> dict:
    n = draw(st.integers(1, 9))
    return {
        "decoder": DECODER,
        "documents": [draw(st.lists(st.integers(0, 18), min_size=n, max_size=n))],
        "layers": draw(st.sampled_from([[0], [1], [0, 1]])),
        "context": draw(st.integers(1, 8)),
        "block_size": draw(st.integers(1, 4)),
    }


def check_harvest(answer, *, documents, layers, **_):
    read = sum(len(piece.tokens) for piece in answer)
    assert read == sum(map(len, documents)) * len(set(layers))


DECODER_SIZES = calls(
    vocab_size=st.integers(1, 30),
    d_model=st.integers(1, 12),
    n_layers=st.integers(1, 3),
    n_q_heads=st.sampled_from([2, 4]),
    n_kv_heads=st.sampled_from([1, 2]),
    d_head=st.sampled_from([2, 8]),
    d_ff=st.integers(1, 12),
    norm_eps=st.sampled_from([1e-5, 1e-6]),
    max_positions=st.integers(1, 40),
    positions=st.sampled_from(["rope", "learned", "none"]),
    rope_base=st.sampled_from([10000.0, 500.0]),
    tied_embeddings=st.booleans(),
)


def check_sizes(answer, **given):
    for name, value in given.items():
        assert type(getattr(answer, name)) in (int, float, bool, str), name
        assert getattr(answer, name) == value, name


TABLE = {
    "attention_rows": Case(drawn(draw_rows), check_rows),
    "block_mass": Case(
        drawn(lambda draw: {**heads(draw), "block_size": draw(st.integers(1, 4))}), check_mass
    ),
    "generate": Case(drawn(draw_generation), check_generation),
    "evict": Case(drawn(draw_eviction), check_eviction),
    "harvest": Case(drawn(draw_harvest), check_harvest),
    "Decoder": Case(
        drawn(
            lambda draw: {
                "config": TINY,
                "dtype": draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])),
                "generator": torch.Generator().manual_seed(draw(st.integers(0, 9))),
            }
        ),
        meta=True,
    ),
    "DecoderConfig": Case(DECODER_SIZES, check_sizes),
    "DenseAttention": Case(calls(config=TINY), random=True),
    "never": Case(calls(), lambda answer: None),
}
