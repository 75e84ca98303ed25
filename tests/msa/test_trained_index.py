"""The trained index as a selector of the block selection explorer."""

import dataclasses

import numpy as np
import pytest
import torch

from intuitive.common import smollm
from intuitive.common.decoder import Decoder, DecoderConfig, Probe
from intuitive.common.smollm import SmolLM2, Tokenizer
from intuitive.kernels import score_and_select
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.experiments.block_selection import SelectionParams, select_in_text
from intuitive.msa.index import TrainedIndex, shipped_index
from intuitive.msa.reference import SELECTORS
from intuitive.msa.texts import INDEXES, TRAINED_INDEX, UNTRAINED_INDEX, read_text

TEXT = "It was much pleasanter at home, thought poor Alice. " * 4
PARAMS = SelectionParams(layer=1, block_size=16, n_selected=4, selector=TRAINED_INDEX)


@pytest.fixture(scope="module")
def model():
    characters = sorted(set(TEXT.replace(" ", "Ġ")))
    tokenizer = Tokenizer(characters, (), ())
    torch.manual_seed(0)
    config = DecoderConfig(vocab_size=len(characters))
    return SmolLM2(Decoder(config).eval(), tokenizer, config, end_of_text=0, end_of_turn=0)


@pytest.fixture(scope="module")
def index(model):
    draw = torch.Generator().manual_seed(1)
    return TrainedIndex.of(convert(model.decoder, MSAConfig(), None, generator=draw), {})


@pytest.fixture(scope="module")
def sample(model, index):
    return read_text(TEXT, model=model, index=index)


def test_only_a_text_read_with_an_index_offers_it(model, sample):
    plain = read_text(TEXT, model=model)
    assert plain.selectors == tuple(SELECTORS)
    assert sample.selectors == (*SELECTORS, TRAINED_INDEX, UNTRAINED_INDEX)
    assert set(select_in_text(sample, PARAMS).captured) == set(sample.selectors)
    for name in INDEXES:
        with pytest.raises(ValueError, match="read without one: pass index=load_index"):
            select_in_text(plain, dataclasses.replace(PARAMS, selector=name))
    for ours, theirs in zip(sample.queries, plain.queries, strict=True):
        assert torch.equal(ours, theirs)


def test_it_selects_what_the_converted_model_reads(model, index, sample):
    n = sample.n_tokens
    result = select_in_text(sample, PARAMS)
    attention = convert(model.decoder, MSAConfig(), index).layers[1].attention
    seen = []
    probe = Probe((1,), seen.append)
    model.decoder.hidden(torch.tensor([sample.token_ids]), probe=probe)
    q_idx, k_idx = attention.index(seen[0].hidden, torch.arange(n)[None])
    want = score_and_select(q_idx.detach(), k_idx.detach(), n_selected=4, block_size=16)[0]
    np.testing.assert_array_equal(result.block_idx, want.numpy())


def test_the_untrained_index_is_as_drawn_from_its_seed(model, index, sample):
    again = read_text(TEXT + " ", model=model, index=index, max_tokens=sample.n_tokens)
    assert again is not sample and again.token_ids == sample.token_ids
    for ours, theirs in zip(
        *(s.index_queries[UNTRAINED_INDEX] for s in (sample, again)), strict=True
    ):
        assert torch.equal(ours, theirs)
    draw = torch.Generator().manual_seed(0)
    attention = convert(model.decoder, MSAConfig(), None, generator=draw).layers[1].attention
    seen = []
    model.decoder.hidden(torch.tensor([sample.token_ids]), probe=Probe((1,), seen.append))
    q_idx, k_idx = attention.index(seen[0].hidden, torch.arange(sample.n_tokens)[None])
    want = score_and_select(q_idx.detach(), k_idx.detach(), n_selected=4, block_size=16)[0]
    result = select_in_text(sample, dataclasses.replace(PARAMS, selector=UNTRAINED_INDEX))
    np.testing.assert_array_equal(result.block_idx, want.numpy())


@pytest.mark.parametrize("selector", INDEXES)
@pytest.mark.parametrize("query", [0, 77, -1])
def test_block_scores_are_the_maxima_of_the_token_scores(sample, query, selector):
    params = dataclasses.replace(PARAMS, query=query, selector=selector)
    result = select_in_text(sample, params)
    tokens = result.token_scores
    assert np.isneginf(tokens[:, result.query + 1 :]).all()
    for block in range(result.local_block + 1):
        best = tokens[:, 16 * block : 16 * block + 16].max(-1)
        np.testing.assert_allclose(result.block_scores[:, block], best, atol=1e-5)


def test_an_index_of_other_layers_is_refused(model, index):
    first = {name: w for name, w in index.weights.items() if name.startswith("layers.0.")}
    with pytest.raises(ValueError, match=r"no Index Branch for layers \[1\]"):
        read_text(TEXT, model=model, index=TrainedIndex(first, {}))


@pytest.mark.model
@pytest.mark.slow
def test_the_shipped_index_serves_the_shipped_text():
    """It keeps more of the model's attention than an untrained one: what the KL has taught it."""
    index = shipped_index()
    if index is None:
        pytest.skip("this copy has no trained index")
    from intuitive.common.corpus import DEFAULT_TEXT

    sample = read_text(DEFAULT_TEXT, model=smollm.load_smollm2(), index=index)
    for layer in (2, 10, 17, 24):
        params = SelectionParams(layer=layer, block_size=32, n_selected=6)
        captured = select_in_text(sample, params).captured_mean
        trained, untrained = captured[TRAINED_INDEX].mean(), captured[UNTRAINED_INDEX].mean()
        assert trained > untrained + 0.1, layer
        if layer == 10:
            assert trained > captured["block_mean_keys"].mean()


@pytest.mark.model
def test_the_sizes_that_the_lesson_gives_its_formulas():
    """H_kv = G = 3 and d_idx = 128; one query head for each group, one key for all."""
    heads = smollm.load_smollm2().config
    assert heads.n_kv_heads == 3 and heads.n_q_heads == 3 * 3
    index = shipped_index()
    rows = {name: len(w) for name, w in index.weights.items() if name.endswith(".weight")}
    assert index.d_index == rows["layers.0.attention.index_w_k.weight"] == 128
    assert rows["layers.0.attention.index_w_q.weight"] == 3 * 128
