"""The book's recordings, made in processes of their own and kept from one build to the next.

A recording is kept under a fingerprint of what made it: code, weights, results, texts, versions.
So a build that was stopped goes on where it stood, and a change to one paper's files records that
paper alone again.
"""

import concurrent.futures
import functools
import hashlib
import importlib.metadata
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from book_pages import Shown

from intuitive.common.smollm import cached_model_path
from intuitive.widgets import catalogue
from intuitive.widgets.kit import recording

ROOT = Path(__file__).resolve().parent.parent
SHARED = ("intuitive/common", "kernels", "widgets/kit", "benchmarks/results")
ABOVE = "arena"  # stands above all papers, so that all of them are in its recordings
NO_PART = ("__pycache__", "front", "posters")  # folders that say nothing of a state
VERSIONS = ("torch", "numpy", "plotly", "msgspec")
SECONDS = 120  # of the processor, for one explorer's states beside its defaults and steps


class Kept(msgspec.Struct, frozen=True):
    """One recording as it is kept."""

    name: str
    title: str
    dropped: dict[str, list[Any]]  # values that are not recorded, by control
    packed: bytes  # what the page loads
    seconds: int | float  # of the processor that recording took


def make(shown: Shown, seconds: int | float = SECONDS) -> Kept:
    """Record what a cell shows."""
    begun = time.process_time()
    found = recording.record(shown.make, call=shown.call, seconds=seconds)
    packed = recording.pack(found)
    title = found.traits["spec"].get("title", shown.name)
    return Kept(shown.name, title, found.dropped, packed, time.process_time() - begun)


# ---------------------------------------------------------------------------- fingerprints


def fingerprint(shown: Shown, seconds: int | float = SECONDS) -> str:
    """Of everything that a recording depends on."""
    paper = shown.module.split(".")[-2]
    parts = [recording.MOST_BYTES, seconds, shown.call, sys.version_info[:2]]
    parts += [importlib.metadata.version(name) for name in VERSIONS]
    model = cached_model_path()
    parts += [model.stat().st_size if model and model.is_file() else None]
    parts += [machine()] if torch.cuda.is_available() else []
    parts += [_files(folder, paper) for folder in (*SHARED, *_rooms(paper))]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def machine() -> str:
    """On what recordings of this build are made, as the book's pages say it."""
    if torch.cuda.is_available():
        return f"with a GPU ({torch.cuda.get_device_name()})"
    return "without a GPU"


def _rooms(paper: str) -> tuple[str, ...]:
    return ("intuitive" if paper == ABOVE else f"intuitive/{paper}", f"widgets/{paper}")


@functools.cache
def _files(folder: str, paper: str) -> str:
    """Of a folder's files; results of other papers are left out."""
    others = () if paper == ABOVE else tuple(f"{one}_" for one in catalogue.papers())
    own = f"{paper}_"
    found = hashlib.sha256()
    for file in sorted((ROOT / folder).rglob("*")):
        inside = file.relative_to(ROOT)
        foreign = file.suffix == ".json" and file.name.startswith(others)
        if file.is_dir() or set(inside.parts) & set(NO_PART):
            continue
        if foreign and not file.name.startswith(own):
            continue
        found.update(f"{inside}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


# ------------------------------------------------------------------------------- the store


def recordings(
    wanted: Iterable[Shown],
    folder: Path,
    *,
    seconds: int | float = SECONDS,
    workers: int = 2,
) -> Iterator[tuple[Kept, bool]]:
    """What `wanted` show, from `folder` where it stands there; whether it was made now.

    Args:
        wanted: explorers and questions.
        folder: where recordings are kept.
        seconds: of the processor, for one explorer's states beside its defaults and steps.
        workers: processes that record at the same time, each on one core.

    Raises:
        ExceptionGroup: some could not be recorded; all others are in the folder.
    """
    missing: dict[Shown, Path] = {}
    for shown in wanted:
        file = folder / f"{shown.name}.{fingerprint(shown, seconds)}.msgpack"
        if file.is_file():
            yield msgspec.msgpack.decode(file.read_bytes(), type=Kept), False
        else:
            missing[shown] = file
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        for kept in _made(missing, seconds, workers):
            yield kept, True


def _made(missing: Mapping[Shown, Path], seconds: int | float, workers: int) -> Iterator[Kept]:
    failed = []
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_one_core
    )
    with pool:
        running = {pool.submit(make, shown, seconds): shown for shown in missing}
        for future in concurrent.futures.as_completed(running):
            shown = running[future]
            try:
                kept = future.result()
            except Exception as error:
                error.add_note(f"while {shown.name} was recorded")
                failed.append(error)
                continue
            file = missing[shown]
            for old in file.parent.glob(f"{shown.name}.*"):
                old.unlink()
            file.with_suffix(".part").write_bytes(msgspec.msgpack.encode(kept))
            file.with_suffix(".part").replace(file)
            yield kept
    if failed:
        raise ExceptionGroup("not everything could be recorded", failed)


def _one_core() -> None:
    torch.set_num_threads(1)
