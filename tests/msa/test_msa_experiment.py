"""The records behind the explorers: consistent with each other, quick to ask again, and clear."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import Cancelled
from intuitive.common.smollm import SmolLM2, Tokenizer
from intuitive.msa import cost, reference
from intuitive.msa import experiment as ex
from intuitive.msa.config import MSAConfig
from intuitive.msa.experiment import CostParams, NeedleParams, SelectionParams

PARAMS = SelectionParams(layer=1, block_size=16, n_selected=4)


@pytest.fixture(scope="module")
def sample():
    return ex.synthetic_sample(n=200, seed=0)  # 16 leaves a ragged last block


def change(**settings):
    return dataclasses.replace(PARAMS, **settings)


# Block selection


@pytest.mark.parametrize("query", [0, 70, 199])
def test_selection_is_consistent_with_itself(sample, query):
    result = ex.select_in_text(sample, change(query=query))
    assert result.query == query and result.n_visible == query + 1
    assert result.n_tokens == 200 and result.n_blocks == 13
    for r in range(3):
        ids = {b for b in result.block_idx[query, r].tolist() if b >= 0}
        assert ids == set(np.flatnonzero(result.selected[r, query]))
        assert query // 16 in ids and max(ids) == result.local_block  # local, never the future
        read = {t for b in ids for t in range(16 * b, 16 * b + 16) if t <= query}
        assert read == set(np.flatnonzero(result.tokens_read[r]))
        assert result.n_read[r] == len(read)
        captured = result.token_mass[r][result.tokens_read[r]].sum()
        assert captured == pytest.approx(result.captured["main_max"][r], abs=1e-5)
    assert result.local_visible == query % 16 + 1
    np.testing.assert_allclose(result.token_mass.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(result.block_mass.sum(-1), 1, atol=1e-5)
    assert not result.token_mass[:, query + 1 :].any()
    assert np.isneginf(result.block_scores[:, query // 16 + 1 :]).all()


@pytest.mark.parametrize(
    ("selector", "pool"),
    [
        ("main_max", reference.block_max),
        ("main_mean", reference.block_mean),
        ("block_mean_keys", reference.block_mean),
        ("oracle", lambda x, size: reference.split_blocks(x.clamp(min=0), size, fill=0.0).sum(-1)),
    ],
)
def test_block_scores_pool_the_token_scores_shown(sample, selector, pool):
    result = ex.select_in_text(sample, change(query=150, selector=selector))
    pooled = pool(torch.from_numpy(result.token_scores.copy()), 16).numpy()
    seen = slice(0, 150 // 16 + 1)
    np.testing.assert_allclose(pooled[:, seen], result.block_scores[:, seen], atol=1e-5)


def test_the_oracle_captures_most_and_all_at_full_budget(sample):
    tight = ex.select_in_text(sample, change(query=180, n_selected=3))
    for name, captured in tight.captured.items():
        assert (captured <= tight.captured["oracle"] + 1e-6).all(), name
        assert (tight.captured_mean[name] <= tight.captured_mean["oracle"] + 1e-6).all(), name
    assert tight.n_choosing == 200 - 3 * 16
    full = ex.select_in_text(sample, change(query=180, n_selected=13))
    assert full.n_choosing == 0
    assert (full.n_read == 181).all()
    for name, captured in full.captured.items():
        np.testing.assert_allclose(captured, 1, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(full.captured_mean[name], 1, atol=1e-5, err_msg=name)


def test_overlap_and_recall(sample):
    result = ex.select_in_text(sample, change(query=199))
    np.testing.assert_allclose(np.diag(result.overlap), 1)
    np.testing.assert_allclose(result.overlap, result.overlap.T)
    sets = [set(row.tolist()) for row in result.block_idx[199]]
    assert result.overlap[0, 1] == pytest.approx(len(sets[0] & sets[1]) / 4)
    oracle = ex.select_in_text(sample, change(query=199, selector="oracle"))
    np.testing.assert_allclose(oracle.block_recall, 1)
    best = set(oracle.block_idx[199, 2].tolist())
    assert result.block_recall[2] == pytest.approx(len(best & sets[2]) / 4)


def test_switching_the_local_block_off_lets_it_go(sample):
    """A sink-and-window budget of one block is block 0, unless the local block is forced."""
    settings = {"query": 199, "selector": "window_sink", "n_selected": 1}
    assert ex.select_in_text(sample, change(n_local=0, **settings)).block_idx[199, 0, 0] == 0
    assert ex.select_in_text(sample, change(n_local=1, **settings)).block_idx[199, 0, 0] == 12


def test_only_a_new_layer_or_block_size_scores_again(monkeypatch):
    fresh = ex.synthetic_sample(n=120, seed=42)
    calls = []
    score = reference.selector_scores
    monkeypatch.setattr(
        reference, "selector_scores", lambda *a, **k: calls.append(a[0]) or score(*a, **k)
    )
    ex.select_in_text(fresh, change())
    assert calls == list(reference.SELECTORS)
    for quick in ({"query": 5}, {"n_selected": 2}, {"selector": "oracle"}, {"group": 2}):
        ex.select_in_text(fresh, change(**quick))
    assert len(calls) == 5
    ex.select_in_text(fresh, change(block_size=32))
    ex.select_in_text(fresh, change(layer=0))
    assert len(calls) == 15


def test_stale_work_is_cancelled_and_can_be_repeated():
    fresh = ex.synthetic_sample(n=80, seed=43)
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        ex.select_in_text(fresh, change(), stale=lambda: next(answers))
    assert ex.select_in_text(fresh, change()).n_tokens == 80


def test_results_cannot_be_changed(sample):
    result = ex.select_in_text(sample, PARAMS)
    with pytest.raises(ValueError, match="read-only"):
        result.token_mass[0, 0] = 1
    again = ex.select_in_text(sample, PARAMS)
    np.testing.assert_array_equal(result.block_idx, again.block_idx)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 2}, "layer=2 must lie from 0 to 1: there are 2 layers"),
        ({"group": 3}, "group=3 must lie from 0 to 2"),
        ({"query": 200}, "query=200 must lie from 0 to 199, or be -1 for the last"),
        ({"selector": "best"}, "selector='best' is unknown; choose one of oracle"),
        ({"n_selected": 0}, "n_selected=0 must be a whole number of at least 1"),
        ({"n_selected": 1, "n_init": 1}, "force more blocks than n_selected=1"),
    ],
)
def test_settings_that_do_not_fit(sample, settings, message):
    with pytest.raises(ValueError, match=message):
        ex.select_in_text(sample, change(**settings))


@pytest.mark.parametrize(
    "params", [change(query=7, selector="oracle"), CostParams(), NeedleParams(drag=0.25)]
)
def test_settings_survive_as_text(params):
    assert type(params).from_text(params.to_text()) == params
    assert type(params).from_text("") == type(params)()


def test_settings_text_says_what_is_wrong():
    assert SelectionParams.from_text("layer=3").layer == 3
    with pytest.raises(ValueError, match="'depth=3' is no setting: write name=value with one of"):
        SelectionParams.from_text("depth=3")
    with pytest.raises(ValueError, match="layer=x is not of type int: write for instance layer=10"):
        SelectionParams.from_text("layer=x")


# Reading a text; the little model has random weights and one token per byte


@pytest.fixture(scope="module")
def little_model():
    from tokenizers.pre_tokenizers import ByteLevel

    torch.manual_seed(0)
    config = DecoderConfig(n_q_heads=6, n_kv_heads=3, n_layers=3)
    tokenizer = Tokenizer(sorted(ByteLevel.alphabet()), [], special=())
    return SmolLM2(Decoder(config).eval(), tokenizer, config, end_of_text=0, end_of_turn=0)


TEXT = "The fox looked at the grapes, and the grapes looked back. " * 4


def test_reading_keeps_queries_and_keys_of_every_layer(little_model):
    told = []
    sample = ex.read_text(
        TEXT, model=little_model, title="Fox", progress=lambda share, words: told.append(share)
    )
    assert "".join(sample.tokens) == TEXT and sample.note == "" and sample.title == "Fox"
    assert (sample.n_tokens, sample.n_layers, sample.n_groups) == (len(TEXT), 3, 3)
    assert sample.queries[2].shape == (len(TEXT), 6, 16)
    assert told == sorted(told) and told[-1] == 1
    q, k = sample.queries[0], sample.keys[0]
    stream = little_model.decoder.hidden(torch.tensor([sample.token_ids]), until_layer=0)
    hidden = little_model.decoder.layers[0].attention_norm(stream)
    want_q, want_k, _ = little_model.decoder.layers[0].attention.project(
        hidden, torch.arange(len(TEXT))[None]
    )
    torch.testing.assert_close(q, want_q[0].detach())
    torch.testing.assert_close(k, want_k[0].detach())
    assert ex.select_in_text(sample, change(layer=2)).n_layers == 3


def test_reading_again_runs_nothing(little_model):
    told = []
    first = ex.read_text(TEXT, model=little_model)
    again = ex.read_text(
        TEXT, model=little_model, title="Other", progress=lambda *a: told.append(a)
    )
    assert again.queries is first.queries and again.title == "Other" and not told


def test_long_texts_are_cut_with_a_sentence(little_model):
    sample = ex.read_text(TEXT, model=little_model, max_tokens=100)
    assert sample.n_tokens == 100
    assert sample.note == "Only the first 100 tokens of the text are used."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n ", "The text is empty: paste"),
        ("Too short.", "The text has 10 tokens; at least 64 are needed"),
        ("\x00" * 100, "NUL characters, as binary files do: choose a text file"),
        ("a" * 80 + "\ud800", "Character 80 of the text is half of a surrogate pair"),
    ],
)
def test_odd_texts_get_a_sentence(little_model, text, message):
    with pytest.raises(ValueError, match=message):
        ex.read_text(text, model=little_model)


def test_reading_stops_between_layers(little_model):
    told = []
    with pytest.raises(Cancelled):
        ex.read_text(
            TEXT + "!",
            model=little_model,
            stale=lambda: len(told) > 2,
            progress=lambda share, words: told.append(words),
        )
    assert told[-1] == "Read by layer 2 of 3"


@pytest.mark.model
def test_real_attention_is_kept_by_max_pooling_and_lost_by_mean_pooling():
    """Measured on this model: max pooling stays near the oracle, mean pooling loses the sink."""
    from intuitive.common import corpus
    from intuitive.common.smollm import load_smollm2

    sample = ex.read_text(corpus.DEFAULT_TEXT, model=load_smollm2(), max_tokens=512)
    captured = ex.select_in_text(sample, SelectionParams(layer=10, n_selected=4)).captured_mean
    mean = {name: float(share.mean()) for name, share in captured.items()}
    assert mean["oracle"] >= mean["main_max"] > mean["oracle"] - 0.05
    assert mean["main_mean"] < mean["main_max"] - 0.1
    assert mean["window_sink"] < mean["main_max"] - 0.05


# Cost


def test_cost_here_lies_on_the_curves():
    result = ex.cost_curves(CostParams(context=2**17))
    at = result.curves.contexts.tolist().index(2**17)
    for field in dataclasses.fields(ex.CostCurves):
        here, curve = getattr(result.here, field.name), getattr(result.curves, field.name)
        assert here[0] == curve[at], field.name
    assert result.curves.contexts[0] == 4096 and result.curves.contexts[-1] == 2**20
    assert result.curves.flop_ratio[-1] == cost.flop_ratio(MSAConfig.paper(), 2**20)
    assert (np.diff(result.curves.flop_ratio) > 0).all()
    assert (result.flop_ceiling, result.byte_ceiling, result.cache_growth) == (32, 8, 0.125)
    assert result.break_even == pytest.approx(4228, abs=1)


@pytest.mark.parametrize("context", [1000, 2**13, 2**20])
def test_memory_is_that_of_the_last_queries_at_most_8192(context):
    params = CostParams(context=context, n_selected=8, element_bytes=4)
    result = ex.cost_curves(params)
    assert result.n_prefilled == min(context, 8192)
    want = cost.prefill_memory(params.config, context, result.n_prefilled, element_bytes=4)
    assert result.memory == want
    assert result.largest_memory >= max(sum(parts.values()) for parts in want.values())


def test_the_largest_memory_depends_on_the_layer_alone():
    moves = ({"context": 4096}, {"n_selected": 2}, {"n_selected": 64, "context": 2**20})
    found = {ex.cost_curves(CostParams(**move)).largest_memory for move in moves}
    assert len(found) == 1


def test_cost_without_break_even():
    dear = ex.cost_curves(CostParams(d_index=4096))
    assert dear.break_even is None and (dear.curves.flop_ratio < 1).all()


def test_cost_messages():
    with pytest.raises(ValueError, match="context=0 must be at least 1 token"):
        CostParams(context=0)
    with pytest.raises(ValueError, match="element_bytes=3 must be 1"):
        CostParams(element_bytes=3)
    with pytest.raises(ValueError, match="n_q_heads=6 must be a multiple of n_kv_heads=4"):
        CostParams(n_q_heads=6)


def test_measuring_without_cuda_says_what_to_do():
    with pytest.raises(ValueError, match=r"needs a CUDA device, and device='cpu'.*NVIDIA GPU"):
        ex.measure_here(MSAConfig.paper(), 4096, device="cpu")


@pytest.mark.parametrize(("n", "m"), [(6, 6), (3, 9), (1, 9)])
def test_what_is_timed_against_is_dense_attention(n, m):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, n, 4, 8, generator=generator)
    k, v = (torch.randn(1, m, 2, 8, generator=generator) for _ in range(2))
    torch.testing.assert_close(
        ex._dense_call(q, k, v)().transpose(1, 2), reference.dense_attention(q, k, v)
    )


@pytest.mark.gpu
def test_measuring_on_a_gpu():
    measured = ex.measure_here(MSAConfig.paper(), 8192, max_queries=1024)
    assert measured.n_queries == 1024
    assert measured.prefill_speedup > 0 and measured.decode_speedup > 0
    assert measured.dense_prefill.peak_bytes is not None


@pytest.mark.gpu
def test_decoding_a_long_context_is_faster_than_dense():
    measured = ex.measure_here(MSAConfig.paper(), 2**19, max_queries=128)
    assert measured.decode_speedup > 2


# The needle


@pytest.mark.parametrize("seed", range(5))
def test_needle_is_found_by_max_and_lost_by_mean(seed):
    result = ex.needle(NeedleParams(seed=seed))
    assert result.found_by_max and not result.found_by_mean
    assert result.rank_max == 1 and result.rank_mean > 4
    assert len(result.selected_max) == len(result.selected_mean) == 4
    assert result.captured_max > 0.5 > result.captured_mean
    assert result.captured_max == pytest.approx(
        sum(result.block_mass[b] for b in result.selected_max), abs=1e-5
    )
    assert math.isclose(result.block_mass.sum(), 1, abs_tol=1e-5)


def test_a_weak_needle_is_lost_by_both_and_a_full_budget_finds_it():
    weak = ex.needle(NeedleParams(strength=0.0))
    assert not weak.found_by_max and not weak.found_by_mean
    full = ex.needle(NeedleParams(strength=0.0, n_selected=32))
    assert full.found_by_max and full.found_by_mean
    assert full.captured_mean == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="needle=2000 must be a position from 0 to 1023"):
        NeedleParams(needle=2000)
