import dataclasses

import pytest

from intuitive.msa.config import MSAConfig


def test_paper_sizes():
    paper = MSAConfig.paper()
    assert paper.group_size == 16
    assert paper.n_selected_tokens == 2048
    assert MSAConfig.smollm().group_size == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_q_heads": 5}, r"n_q_heads=5 must be a multiple of n_kv_heads=2"),
        ({"n_selected": 0}, r"n_selected=0 must be a whole number of at least 1"),
        ({"n_local": -1}, r"n_local=-1 must be a whole number of at least 0"),
        ({"n_init": True}, r"n_init=True must be a whole number"),
        ({"n_selected": 2, "n_init": 2}, r"force more blocks than n_selected=2.*raise n_selected"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MSAConfig(**wrong)


def test_config_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MSAConfig().n_selected = 3
    with pytest.raises(TypeError):
        MSAConfig(4)
