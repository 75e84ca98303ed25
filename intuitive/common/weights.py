"""Save and load named tensors with a few words about them, as one safetensors file.

Matrices may be stored in 8 or 4 bits per number.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
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


# --------------------------------------------------------------------------- few bits per number

SCALES = ".scale"  # ending of the names of packed weights' scales
GROUP = 64  # neighbours in a row that share a scale in 4 bits


def to_int8(weights: Mapping[str, Tensor], *, keep: Sequence[str] = ()) -> dict[str, Tensor]:
    """Matrices as int8 with one float32 scale per row; everything else in float16.

    Args:
        weights: by name.
        keep: parts of names that stay float16.
    """
    packed = {}
    for name, weight in weights.items():
        wide = weight.detach().float().cpu()
        if wide.dim() != 2 or any(part in name for part in keep):
            packed[name] = wide.half()
            continue
        scale = wide.abs().amax(1).clamp(min=1e-12) / 127
        packed[name] = (wide / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
        packed[name + SCALES] = scale
    return packed


def from_int8(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `to_int8` packed, in float32.

    Raises:
        KeyError: a matrix without its scales.
    """
    return {
        name: weight.float() * packed[name + SCALES][:, None]
        if weight.dtype == torch.int8
        else weight.float()
        for name, weight in packed.items()
        if not name.endswith(SCALES)
    }


def to_int4(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as whole numbers from -7 to 7, two to a byte; everything else in float16.

    `GROUP` neighbours in a row share a scale in float16, so that a number takes 4.25 bits.

    Raises:
        ValueError: a matrix whose rows do not divide into groups.
    """
    packed = {}
    for name, weight in weights.items():
        wide = weight.detach().float().cpu()
        if wide.dim() != 2:
            packed[name] = wide.half()
            continue
        whole, scale = _in_groups(wide)
        low, high = (whole + 8).to(torch.uint8).flatten(1).unflatten(1, (-1, 2)).unbind(-1)
        packed[name] = low + 16 * high
        packed[name + SCALES] = scale
    return packed


def from_int4(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `to_int4` packed, in float32.

    Raises:
        KeyError: a matrix without its scales.
    """
    found = {}
    for name, weight in packed.items():
        if name.endswith(SCALES):
            continue
        if weight.dtype != torch.uint8:
            found[name] = weight.float()
            continue
        whole = torch.stack((weight % 16, weight // 16), -1).flatten(1).float() - 8
        scale = packed[name + SCALES].float()
        found[name] = (whole.unflatten(1, (scale.shape[1], -1)) * scale[..., None]).flatten(1)
    return found


def in_4_bits(weight: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
    """What `to_int4` leaves of a matrix, or of a stack of them."""
    whole, scale = _in_groups(weight)
    return (whole * scale.float()[..., None]).flatten(-2).to(weight.dtype)


def _in_groups(
    weight: Float[Tensor, "*rows d"],
) -> tuple[Float[Tensor, "*rows groups size"], Float[Tensor, "*rows groups"]]:
    if weight.shape[-1] % GROUP:
        raise ValueError(f"rows of {weight.shape[-1]} do not divide into groups of {GROUP}.")
    groups = weight.float().unflatten(-1, (-1, GROUP))
    scale = (groups.abs().amax(-1) / 7).clamp(min=1e-6).half()
    return (groups / scale.float()[..., None]).round().clamp(-7, 7), scale
