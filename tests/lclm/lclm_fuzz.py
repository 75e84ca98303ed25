"""Calls of LCLM's public functions, with plain answers in Python."""

import math

import torch
from draws import TINY, near, tiny_decoder
from fuzzing import Case, calls, drawn, numbers, whole_numbers
from hypothesis import strategies as st

from intuitive.lclm import LCLMConfig

ROOMS = ("cost", "reference")
LEFT_OUT = {
    "adapter": "a part of LatentContextModel, which is tried",
    "chunks": "a task that small models train on; tests of the miniatures",
    "config": "LCLMConfig is tried",
    "documents": "makes training data of texts; test_documents.py",
    "exercise": "checks what a reader writes; test_lclm_exercise.py",
    "expand": "plays a tool with a model; test_lclm_expand.py",
    "experiments": "each is run over every control by tests/widgets/test_every_explorer.py",
    "fitting": "trains; test_fit_together.py",
    "inference": "runs a model; test_lclm_inference.py",
    "miniature": "makes small models to train; test_lclm_miniature.py",
    "model": "LatentContextModel is tried",
    "player": "plays EXPAND with a model; test_lclm_player.py",
    "results": "reads committed files; test_smollm_results.py",
    "smollm": "needs the language model; test_lclm_smollm.py",
    "smollm_model": "needs the language model; test_lclm_smollm.py",
    "splice": "Raw, Span and Latents are tried; test_lclm_splice.py",
    "stages": "trains; test_stages.py",
    "task": "draws training data; test_task.py",
}
few = st.integers(1, 6)
ratios = st.sampled_from([1, 2, 4, 8])
lengths = st.integers(0, 100)


def check_count(answer, *, n_tokens, ratio, window):
    windows = [min(window, n_tokens - start) for start in range(0, n_tokens, window)]
    assert answer == sum(math.ceil(w / ratio) for w in windows)


def check_effective(answer, *, n_tokens, ratio):
    assert math.isclose(answer, n_tokens / (math.ceil(n_tokens / ratio) + 2))


def check_windows(answer, *, n_tokens, window, overlap, causal):
    owned = [i for one in answer for i in range(one.start, one.stop)]
    assert owned == list(range(n_tokens))
    for one in answer:
        assert one.stop - one.start <= window and one.read_start == max(one.start - overlap, 0)
        assert one.read_stop == (one.stop if causal else min(one.stop + overlap, n_tokens))


def check_spans(answer, *, n_tokens, ratio, window):
    assert [i for start, stop in answer for i in range(start, stop)] == list(range(n_tokens))
    assert all(stop - start <= ratio for start, stop in answer)


def draw_states(draw) -> dict:
    return {"states": numbers(draw, draw(st.integers(1, 9)), draw(few)), "ratio": draw(few)}


def check_pool(pool):
    def check(answer, *, states, ratio):
        want = torch.stack([pool(g, int(ratio)) for g in states.double().split(int(ratio), -2)], -2)
        torch.testing.assert_close(answer.double(), want, **near(states))

    return check


def one_row(group, ratio):
    row = group.flatten(-2)
    return torch.nn.functional.pad(row, (0, ratio * group.shape[-1] - row.shape[-1]))


def draw_ragged(draw) -> dict:
    r, w = draw(few), draw(few)
    return {
        "pooling": draw(st.sampled_from(["mean", "concat", "last"])),
        "states": numbers(draw, r, w, draw(few)),
        "ratio": draw(few),
        "lengths": whole_numbers(draw, r, low=1, high=w + 1),
    }


def check_ragged(answer, *, pooling, states, ratio, lengths):
    pools = {"mean": lambda g, n: g.mean(-2), "concat": one_row, "last": lambda g, n: g[..., -1, :]}
    for row, own, length in zip(answer, states, lengths.tolist(), strict=True):
        groups = own[:length].double().split(int(ratio), -2)
        want = torch.stack([pools[pooling](group, int(ratio)) for group in groups], -2)
        torch.testing.assert_close(row[: len(want)].double(), want, **near(states))


KINDS = ("raw", "start", "latent", "end")


def check_labels(answer, *, kinds):
    assert answer.tolist() == [i > 0 and kind == "raw" for i, kind in enumerate(kinds)]


def check_positive(answer, **_):
    values = vars(answer).values() if hasattr(answer, "__dict__") else [answer]
    for value in answer if isinstance(answer, tuple) else values:
        total = getattr(value, "total", value)
        assert 0 <= total < math.inf


def check_weights(answer, *, config):
    assert answer == sum(weight.numel() for weight in tiny_decoder().parameters())


SIZES = {"n_tokens": st.integers(1, 10**6), "ratio": st.sampled_from([1, 2, 4, 8, 16])}
LOGITS = {"logits": st.sampled_from(["all", "last"])}
ids = st.lists(st.integers(0, 18), min_size=1, max_size=5)
CONFIG = LCLMConfig(ratio=2, window=4, encoder=TINY, decoder=TINY)


def generators():
    return st.integers(0, 9).map(lambda seed: torch.Generator().manual_seed(seed))


TABLE = {
    "LCLMConfig": Case(
        calls(
            ratio=st.sampled_from([1, 2, 4]),
            window=st.sampled_from([4, 8]),
            pooling=st.sampled_from(["mean", "last", "eos"]),
            mask=st.sampled_from(["causal", "bidirectional"]),
            overlap=st.integers(0, 2),
            adapter=st.sampled_from(["mlp", "none", "attention"]),
            residual=st.booleans(),
            encoder_norm=st.booleans(),
            share_embedding=st.booleans(),
            ratios=st.sampled_from([(), (2,), (1, 4)]),
            encoder=st.just(TINY),
            decoder=st.just(TINY),
        )
    ),
    "effective_ratio": Case(calls(n_tokens=st.integers(1, 99), ratio=ratios), check_effective),
    "label_mask": Case(
        calls(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)), check_labels
    ),
    "latent_count": Case(calls(n_tokens=lengths, ratio=ratios, window=st.just(8)), check_count),
    "mean_pool": Case(drawn(draw_states), check_pool(lambda group, n: group.mean(-2))),
    "memory_gib": Case(calls(**SIZES, **LOGITS), check_positive),
    "ttft_seconds": Case(calls(**SIZES), check_positive),
    "LatentContextModel": Case(
        calls(
            config=st.just(CONFIG),
            dtype=st.sampled_from([torch.float32, torch.float64]),
            generator=generators(),
        ),
        meta=True,
    ),
    "Latents": Case(drawn(lambda draw: {"values": numbers(draw, draw(few), draw(few))})),
    "Raw": Case(calls(tokens=ids, trained=st.booleans())),
    "Span": Case(calls(tokens=ids)),
    "reference.windows": Case(
        calls(n_tokens=lengths, window=few, overlap=st.integers(0, 3), causal=st.booleans()),
        check_windows,
    ),
    "reference.group_spans": Case(
        calls(n_tokens=lengths, ratio=ratios, window=st.just(8)), check_spans
    ),
    "reference.concat_pool": Case(drawn(draw_states), check_pool(one_row)),
    "reference.last_pool": Case(drawn(draw_states), check_pool(lambda group, n: group[..., -1, :])),
    "reference.pool_ragged": Case(drawn(draw_ragged), check_ragged),
    "cost.memory_terms": Case(calls(**SIZES, **LOGITS), check_positive),
    "cost.latent_moments": Case(
        calls(n_tokens=SIZES["n_tokens"], ratio=st.sampled_from([2, 4, 16]), **LOGITS),
        check_positive,
    ),
    "cost.ttft_terms": Case(calls(**SIZES), check_positive),
    "cost.eviction_terms": Case(calls(**SIZES, **LOGITS), check_positive),
    "cost.kept_kv_gib": Case(calls(**SIZES), check_positive),
    "cost.n_weights": Case(calls(config=st.just(TINY)), check_weights),
    "cost.n_adapter_weights": Case(calls(d_encoder=few, d_decoder=few, pooled=few), check_positive),
    "cost.kv_bytes_per_position": Case(
        calls(config=st.just(TINY), element_bytes=few), check_positive
    ),
    "cost.prefill_flops": Case(
        calls(config=st.just(TINY), n=few, window=st.sampled_from([None, 2])), check_positive
    ),
    "cost.pair_flops": Case(
        calls(encoder=st.just(TINY), decoder=st.just(TINY), n=few, ratio=ratios, window=st.just(8)),
        check_positive,
    ),
}
