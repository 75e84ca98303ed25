"""Five research methods of June 2026, taught by sliders over the real thing.

Map of the rooms:
    intuitive.common    decoder with exchangeable attention, SmolLM2, texts
    intuitive.kernels   block-sparse attention kernels beside their oracles
    intuitive.msa       MiniMax Sparse Attention
    intuitive.widgets   explorers for JupyterLab

Importing this package loads nothing heavy: each room is imported when first used.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = ("common", "kernels", "msa", "widgets")
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
