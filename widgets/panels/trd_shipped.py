"""What the TRD panels need from files: which settings have their models or their results."""

import contextlib
from collections.abc import Iterator
from importlib import resources

from intuitive.trd.committed import SETTINGS, WEIGHTS, methods_file

SETTING_NAMES = {
    "small": "4 digits modulo 7",
    "late": "8 digits modulo 23, with a plan",
}
MAKE = {  # the command that makes each of them
    "models": "python benchmarks/trd_methods.py --stage train",
    "results": "python benchmarks/trd_methods.py",
    "measurements of SmolLM2": "python benchmarks/trd_real_text.py",
}


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Say which command makes what is missing; `what` is a key of MAKE."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The {what} of this lesson are not there: run `{MAKE[what]}`."
        ) from error


def trained_settings() -> dict[str, str]:
    """Names of the settings whose models are there; the small one in any case."""
    return {
        name: SETTING_NAMES[name]
        for name in SETTINGS
        if name == "small" or (WEIGHTS / f"{name}.safetensors").is_file()
    }


def measured_settings() -> dict[str, str]:
    """Names of the settings whose results are there; the small one in any case."""
    folder = resources.files("intuitive.results")
    return {
        name: SETTING_NAMES[name]
        for name in SETTINGS
        if name == "small" or folder.joinpath(methods_file(name)).is_file()
    }
