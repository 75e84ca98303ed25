"""The one choice between the plain-torch oracle and the Triton kernel."""

import os
from importlib.util import find_spec
from typing import Literal, get_args, no_type_check

import torch

Impl = Literal["auto", "reference", "triton"]
IMPLS = get_args(Impl)

TRITON_INSTALLED = find_spec("triton") is not None  # looks, does not import


def interpreting() -> bool:
    """True while Triton simulates kernels on the CPU (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@no_type_check  # so that a wrong `impl` meets the message below, under pytest too
def choose(impl: Impl, device: torch.device) -> Literal["reference", "triton"]:
    """Resolve `impl`. An explicit request is honoured or refused, never swapped.

    Args:
        impl: "auto" takes Triton for CUDA tensors where Triton is installed, else the oracle.
        device: where the inputs live.

    Raises:
        ValueError: `impl` is none of the three words.
        RuntimeError: "triton" was asked for where it cannot run.
    """
    if impl not in IMPLS:
        raise ValueError(f"impl={impl!r} must be one of {', '.join(map(repr, IMPLS))}.")
    if impl == "auto":
        return "triton" if device.type == "cuda" and TRITON_INSTALLED else "reference"
    if impl == "triton" and not TRITON_INSTALLED:
        raise RuntimeError(
            "impl='triton' needs the package triton, which is not installed here. "
            "Install it (Linux only), or pass impl='reference'."
        )
    if impl == "triton" and device.type != "cuda" and not interpreting():
        raise RuntimeError(
            f"impl='triton' needs a CUDA tensor, got one on {str(device)!r}. Pass "
            "impl='reference', or set TRITON_INTERPRET=1 before triton is imported to simulate "
            "the kernel on CPU."
        )
    return impl


@no_type_check
def choose_served(
    impl: Impl, device: torch.device, unserved: str | None
) -> Literal["reference", "triton"]:
    """Resolve `impl` where Triton does not serve every size: "auto" then takes the oracle.

    Args:
        impl, device: as in `choose`.
        unserved: why Triton does not serve these inputs, as a sentence; None if it does.

    Raises:
        ValueError: "triton" was asked for and does not serve them; as in `choose`.
        RuntimeError: as in `choose`.
    """
    chosen = choose(impl, device)
    if chosen == "triton" and unserved:
        if impl == "auto":
            return "reference"
        raise ValueError(f"{unserved} Pass impl='reference', or impl='auto' to have it chosen.")
    return chosen
