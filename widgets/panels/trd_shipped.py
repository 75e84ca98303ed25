"""What the TRD panels share: names of the settings, and what to do where a file is missing."""

import contextlib
from collections.abc import Iterator

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
