"""Folders and files outside the package: what the environment names, and the user's own.

Where there is no home folder to keep things in, the answer is None: nothing can be stored, and
everything else goes on.
"""

import os
from pathlib import Path

HOME_VARIABLE = "INTUITIVE_HOME"


def named(variable: str) -> Path | None:
    """The path that an environment variable names, `~` expanded; None where it names none.

    A `~` that no home folder stands behind is left as it is.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def data_folder() -> Path | None:
    """Where the reader's answers are kept: INTUITIVE_HOME, else the user's data folder."""
    import platformdirs

    chosen = named(HOME_VARIABLE)
    if chosen is not None:
        return None if chosen.parts[0].startswith("~") else chosen
    return _own(platformdirs.user_data_dir)


def cache_folder() -> Path | None:
    """Where a fetched model is kept: the user's cache folder."""
    import platformdirs

    return _own(platformdirs.user_cache_dir)


def _own(find) -> Path | None:
    try:
        folder = Path(find("intuitive")).expanduser()
    except (RuntimeError, KeyError, OSError):  # no HOME and no entry in the password file
        return None
    return folder if folder.is_absolute() else None
