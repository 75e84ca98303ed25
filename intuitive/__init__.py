"""Five research methods of June 2026, taught by sliders over the real thing.

Map of the rooms:
    intuitive.common    decoder with exchangeable attention, SmolLM2, texts
    intuitive.kernels   block-sparse attention kernels beside their oracles
    intuitive.widgets   explorers for JupyterLab
    intuitive.claims    what the papers claim, what was found here, and the verdict
    and one room per paper, found by looking: `dir(intuitive)` names them all

Importing this package loads nothing heavy: each room is imported when first used.
"""

import importlib
import os
import pkgutil

# Sliders share the processor with a browser. OpenMP's threads otherwise spin while they wait for
# each other, and with every core taken that makes torch many times slower. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_FILES = {"notebooks", "results"}  # packages that only carry files
_ROOMS = tuple(
    sorted(
        {"kernels", "widgets"}  # these two lie beside the package in a checkout
        | {room.name for room in pkgutil.iter_modules(__path__) if room.ispkg} - _FILES
    )
)
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
