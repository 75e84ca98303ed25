"""SmolLM2's index keys, what an indexer reads, and where its training starts."""

import pytest
import torch
from smol import random_smollm

from intuitive.common.runtime import seeded
from intuitive.common.weights import save_weights
from intuitive.lsa import cost
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.smollm import (
    D_KV,
    NEWEST,
    SmolIndexers,
    first_indexers,
    golden_of,
    index_keys,
    load_indexers,
    newest_mean,
    page_bounds,
    save_indexers,
    side_by_side,
    smollm_config,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def test_bytes_are_those_of_the_models_own_cache():
    held = cost.kv_bytes(smollm_config(), 2048)
    assert held["csa_entries"] == 30 * 2048 * 2 * 3 * 64 * 2  # layers, tokens, k and v, bfloat16
    assert held["hca_entries"] == 0


def test_index_keys_are_means_of_whole_chunks():
    keys = drawn(39, D_KV)
    got = index_keys(keys, 16)
    assert got.shape == (2, D_KV)
    torch.testing.assert_close(got[1], keys[16:32].mean(0))


def test_side_by_side_holds_the_chunks_before():
    own, centre = drawn(1, 6, D_KV), drawn(1, D_KV, seed=1)
    laid = side_by_side(own, centre, 3).unflatten(-1, (3, D_KV))[0]
    unit = torch.nn.functional.normalize(own - centre[:, None], dim=-1)[0]
    torch.testing.assert_close(laid[4], unit[[4, 3, 2]])
    torch.testing.assert_close(laid[1, :2], unit[[1, 0]])
    assert not laid[0, 1:].any() and not laid[1, 2].any()


def test_newest_mean():
    hidden = drawn(40, 5)
    got = newest_mean(hidden)
    for place in (0, 7, 15, 16, 39):
        want = hidden[max(0, place + 1 - NEWEST) : place + 1].mean(0)
        torch.testing.assert_close(got[place], want, atol=1e-5, rtol=1e-5)


def test_page_bounds_are_above_every_score_and_tight_for_single_tokens():
    q, k = drawn(5, 6, 8), drawn(32, 2, 8, seed=1)
    scores = torch.einsum("nhd,mhd->nhm", q, k.repeat_interleave(3, 1)) / 8**0.5
    bounds = page_bounds(q, k, 4)
    assert (bounds >= scores.unflatten(-1, (8, 4)).amax(-1) - 1e-5).all()
    torch.testing.assert_close(page_bounds(q, k, 1), scores, atol=1e-5, rtol=1e-5)


def test_golden_needs_votes_and_is_never_the_sink():
    config = smollm_config(label_votes=2)
    lead, other = torch.full((1, 6), 0.02), torch.full((1, 6), 0.02)
    lead[0, 0], lead[0, 3], other[0, 3], other[0, 5] = 0.6, 0.5, 0.3, 0.4
    assert golden_of([lead, lead, other], config)[0].nonzero().flatten().tolist() == [3]


def test_training_starts_where_likeness_already_ranks_high():
    """A chunk that is like the newest tokens, and the four after it, score above all others."""
    decoder, config = random_smollm(), smollm_config(targets=(3, 9), memory_rank=64)
    inputs = [drawn(1600, 576, seed=seed) + 2 for seed in (1, 2)]
    start = first_indexers(decoder, config, inputs)
    own = torch.stack(
        [
            index_keys(decoder.layers[number].attention.w_k(hidden), 16)
            for number, hidden in zip(config.memory_layers, inputs, strict=True)
        ]
    )
    indexers = SmolIndexers.of(start, own.mean(1))
    newest = torch.stack([hidden[640:656].mean(0, keepdim=True) for hidden in inputs])  # chunk 40
    logits = indexers(newest, torch.tensor([1599]), own)[0]  # [layers, chunks]
    for layer in logits:
        assert set(layer.topk(5).indices.tolist()) == {40, 41, 42, 43, 44}


def test_fewer_heads_than_places():
    config = smollm_config(targets=(3,), n_memory_heads=2)
    with pytest.raises(ValueError, match="n_memory_heads=2 must be at least 5"):
        first_indexers(random_smollm(), config, [drawn(64, 576)])


def test_indexers_come_back_from_their_file(tmp_path):
    config = smollm_config(targets=(4, 7), lookahead=32, tail=128, memory_rank=8)
    made = SmolIndexers.of(MemoryIndexers(config), drawn(2, D_KV))
    path = save_indexers(tmp_path / "some.safetensors", made, {"command": "test"})
    read = load_indexers(path)
    assert read.config == config
    hidden, keys = drawn(2, 3, 576), drawn(2, 9, D_KV, seed=4)
    places = torch.arange(3)
    torch.testing.assert_close(read(hidden, places, keys), made(hidden, places, keys))


def test_a_file_of_something_else(tmp_path):
    path = save_weights(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {})
    with pytest.raises(ValueError, match="no Memory Indexers of SmolLM2"):
        load_indexers(path)
