import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from intuitive.common.checks import whole
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
        ({"n_selected": 0}, r"n_selected=0 must be at least 1"),
        ({"n_local": -1}, r"n_local=-1 must be at least 0"),
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


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8, torch.tensor])
def test_whole_numbers_of_any_kind_become_pythons(kind):
    value = whole("size", kind(32), low=1)
    assert value == 32 and type(value) is int


@pytest.mark.parametrize(
    "wrong", [3.0, np.float64(3), np.bool_(True), torch.tensor(True), "3", None], ids=repr
)
def test_other_numbers_are_refused_in_words(wrong):
    with pytest.raises(ValueError, match=r"size=.* must be a whole number at least 1; give"):
        whole("size", wrong, low=1)


PROGRAM = """
import dataclasses
import numpy as np
import torch
from intuitive.msa import MSAConfig, cost
from intuitive.msa.experiments import (
    block_selection, continuation, conversion, loop_orders, needle, training_replay,
    what_it_costs, where_it_looks,
)
from intuitive.msa.index_training import IndexTrainingConfig
from intuitive.msa.task import RecallConfig

records = [
    MSAConfig(), RecallConfig(), IndexTrainingConfig(), block_selection.SelectionParams(),
    continuation.ContinueParams(), conversion.ConversionParams(), loop_orders.LoopParams(),
    needle.NeedleParams(), training_replay.ReplayParams(), what_it_costs.CostParams(),
    where_it_looks.LookParams(),
]
for record in records:
    whole = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    whole = {name: value for name, value in whole.items() if type(value) is int}
    assert whole, record
    for kind in (np.int64, np.int32, torch.tensor):
        other = type(record)(**{name: kind(value) for name, value in whole.items()})
        assert other == record and hash(other) == hash(record), (record, kind)
        assert all(type(getattr(other, name)) is int for name in whole), (record, kind)
assert cost.dense_flops(MSAConfig.paper(), np.int32(2**20)) == 2**34
assert cost.msa_decode_bytes(MSAConfig.paper(), torch.tensor(2**20)) == 260 * 2**20
"""


def test_every_config_and_explorer_takes_them():
    """In a process of its own, where no checker of signatures refuses them first."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_selection_is_what_the_kernels_take():
    selection = MSAConfig(n_selected=6, n_local=2, n_init=1).selection
    assert selection == {"n_selected": 6, "block_size": 16, "n_local": 2, "n_init": 1}
