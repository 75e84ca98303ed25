"""Save and load named tensors with a few words about them, as one safetensors file."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def save_weights(path: str | Path, weights: Mapping[str, Tensor], made: Mapping[str, str]) -> Path:
    """Write tensors and how they were made; an older file of that name is replaced as a whole.

    Args:
        path: a file ending in .safetensors; its folder is made if needed.
        weights: tensors by name, in the dtype to be stored.
        made: short texts, such as the command and the commit.

    Raises:
        ValueError: another ending.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path={str(path)!r} must end in .safetensors.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    held, storages = {}, set()
    for name, weight in weights.items():
        kept = weight.detach().cpu().contiguous()
        place = kept.untyped_storage().data_ptr()
        held[name] = kept.clone() if place in storages else kept  # tied: the file knows no sharing
        storages.add(place)
    save_file(held, partial, metadata=dict(made))
    os.replace(partial, path)
    return path


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and how they were made.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the training that writes it.")
    try:
        # Whoever asks may be in inference mode, whose tensors could never be trained on.
        with torch.inference_mode(False), safe_open(path, framework="pt") as file:
            names = file.keys()  # the file itself cannot be iterated
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no whole safetensors file ({error}): restore it, or train anew."
        ) from error
