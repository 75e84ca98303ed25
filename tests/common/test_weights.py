"""Weights come back as they were saved; what is no such file is named."""

import pytest
import torch

from intuitive.common.weights import load_weights, save_weights


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
