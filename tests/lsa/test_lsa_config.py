"""Sizes of the paper, and what a config refuses, in words."""

import numpy as np
import pytest

from intuitive.lsa import LSAConfig


def test_paper_has_the_layers_of_v4_flash():
    paper = LSAConfig.paper()
    assert len(paper.layers) == 43
    assert (paper.layers.count("window"), paper.n_csa, paper.n_hca) == (2, 21, 20)
    assert paper.csa_layers == tuple(range(2, 43, 2))
    # The released indexer's layers, counted among CSA layers, and where they stand in the model.
    assert [paper.csa_layers[i] for i in paper.memory_layers] == [22, 26, 42]
    assert paper.tail_chunks == 2048


def test_paper_stores_entries_and_keys_in_mixed_precision():
    paper = LSAConfig.paper()
    assert paper.entry_bytes == 448 + 64 * 2 + 8 == 584
    assert paper.index_key_bytes == 128 + 4 == 132


def test_plain_layouts_store_every_channel_alike():
    assert LSAConfig(d_head=32, layout="float32").entry_bytes == 128
    assert LSAConfig(d_index=32, layout="bfloat16").index_key_bytes == 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lookahead": 0}, "lookahead=0 must be at least 1"),
        ({"threshold": 1.0}, "threshold=1.0 must lie between 0 and 1"),
        ({"threshold": 0}, "threshold=0 must lie between 0 and 1"),
        ({"label_top_p": float("nan")}, "label_top_p=nan must lie"),
        ({"layers": ("csa", "dense")}, "must be a row of"),
        ({"layers": ()}, "at least one"),
        ({"memory_layers": (0, 4)}, r"different numbers in \[0, 4\)"),
        ({"memory_layers": (1, 1)}, "different numbers"),
        ({"label_votes": 5}, "exceeds the 4 CSA layers"),
        ({"n_heads": 5}, "multiple of o_groups=2"),
        ({"d_rope": 15}, "must be even"),
        ({"d_rope": 48}, "exceeds d_head=32"),
        ({"d_index": 24, "hadamard": True}, "power of two"),
        ({"chunk_size": 2.0}, "whole number"),
        ({"norm_eps": 0.0}, "above 0"),
        ({"rope_base": 1.0}, "above 1"),
        ({"yarn_factor": 0.5}, "at least 1"),
        ({"layout": "fp4"}, "unknown"),
    ],
)
def test_a_wrong_size_is_refused_in_words(changes, words, as_installed):
    with pytest.raises(ValueError, match=words):
        LSAConfig(**changes)


def test_numpy_numbers_are_whole_numbers(as_installed):
    config = LSAConfig(top_k=np.int64(8), memory_layers=(np.int64(1),))
    assert type(config.top_k) is int
    assert type(config.memory_layers[0]) is int
