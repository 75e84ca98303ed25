"""The lessons, as package data, and the names that they go by."""

import json
from pathlib import Path

START = "00_start_here"


def _stems(folder: Path) -> list[str]:
    """The lessons' names; a newer version beside a changed lesson (`NAME.new`) is none."""
    return sorted(path.stem for path in folder.glob("[0-9]*_*.ipynb") if "." not in path.stem)


def that_take_text(folder: Path) -> list[str]:
    """File names of the lessons whose explorers start on a document of the reader's."""
    files = [f"{stem}.ipynb" for stem in _stems(folder)]
    about = {name: json.loads((folder / name).read_text("utf-8"))["metadata"] for name in files}
    return [name for name in files if about[name].get("intuitive", {}).get("takes_text")]


def lesson_named(name: str, folder: Path) -> str:
    """File name of the lesson in `folder` that is meant: "start", "0", "00" or its own.

    Raises:
        ValueError: none, or several, are called so.
    """
    wanted = name.strip().lower().removesuffix(".ipynb")
    stems = _stems(folder)
    numbers = {stem: stem.partition("_")[0] for stem in stems}
    for is_meant in (
        lambda stem: wanted in (stem, stem.partition("_")[2]),
        lambda stem: wanted.isdecimal() and int(wanted) == int(numbers[stem]),
        lambda stem: wanted and stem.partition("_")[2].startswith(wanted),
    ):
        found = [stem for stem in stems if is_meant(stem)]
        if len(found) == 1:
            return f"{found[0]}.ipynb"
    listed = ", ".join(f"{int(numbers[stem])} or {stem.partition('_')[2]}" for stem in stems)
    raise ValueError(f"--lesson {name} is no lesson; choose one of {listed}.")
