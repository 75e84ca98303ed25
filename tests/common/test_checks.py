"""Whole numbers of every kind are taken, everything else is refused in words."""

import dataclasses

import numpy as np
import pytest
import torch

from intuitive.common.checks import whole, whole_fields
from intuitive.common.decoder import DecoderConfig


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.arange(4)[3], torch.tensor(3)])
def test_numpy_and_torch_whole_numbers_are_taken(value):
    taken = whole("n_steps", value, low=1)
    assert type(taken) is int
    assert taken == 3


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), torch.tensor(True), 3.0, np.float64(3), "3", None, [3]]
)
def test_everything_else_is_refused(value):
    with pytest.raises(ValueError, match=r"n_steps=.* must be a whole number at least 1"):
        whole("n_steps", value, low=1)


@pytest.mark.parametrize(
    ("value", "limits", "sentence"),
    [
        (0, {"low": 1}, "n=0 must be at least 1."),
        (9, {"high": 8}, "n=9 must be at most 8."),
        (9, {"low": 1, "high": 8}, "n=9 must lie in [1, 8]."),
        (0, {"low": 1, "why": "one step is needed"}, "n=0 must be at least 1: one step is needed."),
    ],
)
def test_the_message_holds_value_rule_and_reason(value, limits, sentence):
    with pytest.raises(ValueError) as error:
        whole("n", value, **limits)
    assert str(error.value) == sentence


def test_fault_l_a_decoder_config_takes_numpy_sizes_and_keeps_plain_ones(as_installed):
    config = DecoderConfig(d_model=np.int64(32), n_layers=torch.tensor(3))
    assert config == DecoderConfig(d_model=32, n_layers=3)
    assert type(config.d_model) is int
    with pytest.raises(ValueError, match=r"n_layers=2\.0 must be a whole number at least 1"):
        DecoderConfig(n_layers=2.0)


def test_fields_of_a_frozen_record_become_plain_whole_numbers():
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        n: int
        seed: int = 0

        def __post_init__(self):
            whole_fields(self, n=1, seed=None)

    made = Sizes(np.int64(3), torch.tensor(-5))
    assert (made.n, made.seed) == (3, -5)
    assert type(made.n) is type(made.seed) is int
    with pytest.raises(ValueError, match=r"n=0 must be at least 1\."):
        Sizes(0)
