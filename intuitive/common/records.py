"""Save and load the records of experiments: the numbers, and how they were made.

A record is a frozen dataclass of plain values. On disk it is one JSON file with the command, the
commit, the versions, the config and a hash of the config, so that a figure can be traced.
"""

import dataclasses
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .checks import whole

NUMBERS = re.compile(r"\[\n[^][{}\"]*\]")  # a list of plain numbers, over several lines


def config_hash(config: Any) -> str:
    """Twelve hexadecimal digits that change whenever a value of the config does.

    Raises:
        ValueError: the config holds something that JSON cannot.
    """
    return hashlib.sha256(_json(plain(config)).encode()).hexdigest()[:12]


def save(
    path: str | Path,
    record: Any,
    *,
    config: Any = None,
    device: str = "cpu",
    commit: str | None = None,
    seed: int | Sequence[int] | None = None,
    versions: Mapping[str, str | int] | None = None,
) -> Path:
    """Write a record and how it was made; an older file of that name is replaced as a whole.

    The command is that of this process; of absolute paths in it the last name is kept.

    Args:
        path: a file ending in .json; its folder is made if needed.
        record: a dataclass or a dict of plain values.
        config: the settings that led to it, likewise.
        device: where it ran, as from `runtime.device_name`.
        seed: of everything drawn at random, or all of them; None only where nothing was drawn.
        commit: of the source, where it runs outside its repository; found out if None.
        versions: of what else the numbers hang on, such as a driver.

    Raises:
        ValueError: another ending, or a value that JSON cannot hold (NaN and tensors included).
    """
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(f"path={str(path)!r} must end in .json.")
    made = {
        "record": type(record).__name__,
        "command": command(),
        "commit": commit or commit_here(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": plain(config),
        "config_hash": config_hash(config),
    }
    if versions:
        made["versions"] = dict(versions)
    if seed is not None:
        several = isinstance(seed, Sequence)
        made["seed"] = [whole("seed", s) for s in seed] if several else whole("seed", seed)
    text = _json({"made": made, "values": plain(record)}, indent=1) + "\n"
    text = NUMBERS.sub(lambda found: " ".join(found.group().split()), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def command() -> list[str]:
    """The command of this process; of absolute paths in it the last name is kept."""
    return [Path(sys.argv[0]).name, *map(_anywhere, sys.argv[1:])]


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and making of a saved record.

    Returns:
        (values, made): the record's fields, lists in the place of tuples; and how it was made.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no saved record, or its config was edited by hand.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the experiment that writes it.")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        values, made = saved["values"], saved["made"]
        found, expected = config_hash(made["config"]), made["config_hash"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a saved record ({error}): write it anew.") from error
    if found != expected:
        raise ValueError(
            f"{path}: the config hashes to {found}, the file says {expected}: it was changed "
            "after the run. Run the experiment again."
        )
    return values, made


def _anywhere(argument: str) -> str:
    """An argument of a command as other machines can read it: of a path there, the name alone."""
    option, equals, value = argument.rpartition("=")
    return option + equals + Path(value).name if Path(value).is_absolute() else argument


LATER = "later"  # in a field's metadata: runs before it had no such setting


def plain(value: Any) -> Any:
    """Dataclasses as dicts, all the way down.

    A field marked `LATER` is left out at its default, so that it changes no hash of the runs that
    were made before it came.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: plain(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if not (LATER in each.metadata and getattr(value, each.name) == each.default)
        }
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def _json(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a record holds plain numbers, strings, lists and dicts only: {error}. "
            "Convert tensors with .tolist(), and leave out NaN and infinity."
        ) from error


def commit_here() -> str | None:
    """The commit of this source, with a + if files differ from it; None outside its repository."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # not just any repository around it
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return None
