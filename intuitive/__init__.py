"""Five research methods of June 2026, taught by sliders over the real thing.

Map of the rooms:
    intuitive.common    decoder with exchangeable attention, SmolLM2, texts
    intuitive.kernels   block-sparse attention kernels beside their oracles
    intuitive.msa       MiniMax Sparse Attention
    intuitive.qgf       Q-Guided Flow
    intuitive.trd       Trajectory-Refined Distillation
    intuitive.widgets   explorers for JupyterLab

Importing this package loads nothing heavy: each room is imported when first used.
"""

import importlib
import os

# Sliders share the processor with a browser. OpenMP's threads otherwise spin while they wait for
# each other, and with every core taken that makes torch many times slower. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_ROOMS = ("common", "kernels", "msa", "qgf", "trd", "widgets")
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
