"""Weights come back as they were saved; what is no such file is named."""

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.common.weights import (
    SCALES,
    from_int4,
    from_int8,
    in_4_bits,
    load_weights,
    save_weights,
    to_int4,
    to_int8,
)


def test_weights_and_words_return_unchanged(tmp_path):
    weights = {"a": torch.randn(3, 2).half(), "b.c": torch.arange(4)}
    path = save_weights(tmp_path / "new" / "w.safetensors", weights, {"seed": "3"})
    found, made = load_weights(path)
    assert made == {"seed": "3"}
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        assert found[name].dtype == weight.dtype
        assert torch.equal(found[name], weight)
    assert [file.name for file in path.parent.iterdir()] == ["w.safetensors"]


def test_views_are_saved_as_what_they_show(tmp_path):
    whole = torch.arange(12).view(3, 4)
    path = save_weights(tmp_path / "w.safetensors", {"t": whole.T, "row": whole[1]}, {})
    found, _ = load_weights(path)
    assert torch.equal(found["t"], whole.T)
    assert torch.equal(found["row"], whole[1])


def test_messages(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_weights(tmp_path / "w.pt", {}, {})
    with pytest.raises(FileNotFoundError, match="run the training"):
        load_weights(tmp_path / "absent.safetensors")
    path = save_weights(tmp_path / "w.safetensors", {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        load_weights(path)


def test_eight_bits_err_by_half_a_step_at_most():
    weights = {"a": torch.randn(7, 33, generator=seeded(0)), "bias": torch.tensor([0.5, -2.0])}
    weights["a"][3] = 0
    packed = to_int8(weights)
    assert packed["a"].dtype == torch.int8
    back = from_int8(packed)
    step = packed["a" + SCALES][:, None]
    assert ((back["a"] - weights["a"]).abs() <= step / 2 * 1.0001).all()
    assert torch.equal(back["bias"], weights["bias"])
    again = from_int8(to_int8(back))
    torch.testing.assert_close(again["a"], back["a"])


def test_named_parts_stay_in_sixteen_bits():
    packed = to_int8({"tags": torch.ones(2, 3) / 3, "b": torch.ones(2, 3)}, keep=("tags",))
    assert packed["tags"].dtype == torch.float16
    assert packed["b"].dtype == torch.int8


def test_four_bits_err_by_half_a_step_and_training_sees_what_storing_leaves():
    weights = {"a": torch.randn(5, 128, generator=seeded(0)), "norm": torch.tensor([0.5, -2.0])}
    weights["a"][2, :64] = 0
    packed = to_int4(weights)
    assert packed["a"].shape == (5, 64)
    assert packed["a"].dtype == torch.uint8
    back = from_int4(packed)
    step = packed["a" + SCALES].float().repeat_interleave(64, 1)
    assert ((back["a"] - weights["a"]).abs() <= step * 0.51).all()
    assert torch.equal(back["norm"], weights["norm"])
    assert torch.equal(in_4_bits(weights["a"]), back["a"])
    assert torch.equal(in_4_bits(weights["a"].expand(3, 5, 128))[1], back["a"])
    with pytest.raises(ValueError, match="rows of 60 do not divide into groups of 64"):
        to_int4({"b": torch.ones(2, 60)})
