"""Where a reader's predictions and answers are kept between kernels.

One small JSON file in the user's data folder, or where INTUITIVE_HOME points. Writing
is atomic; a file that cannot be read is set aside, never overwritten. Where there is no
folder to keep it in, nothing is kept.
"""

import json
import threading
from pathlib import Path

from intuitive.common.folders import data_folder

_LOCK = threading.Lock()


def _file() -> Path | None:
    folder = data_folder()
    return None if folder is None else folder / "answers.json"


def _load(file: Path) -> dict[str, str]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        stored = None
    if isinstance(stored, dict) and all(isinstance(text, str) for text in stored.values()):
        return stored
    aside = file.with_suffix(".unreadable.json")
    number = 1
    while aside.exists():
        number += 1
        aside = file.with_suffix(f".unreadable{number}.json")
    file.replace(aside)
    return {}


def recall(key: str) -> str | None:
    """The answer stored under `key`, or None."""
    with _LOCK:
        try:
            file = _file()
            return None if file is None else _load(file).get(key)
        except OSError:
            return None


def remember(key: str, answer: str | None) -> bool:
    """Store an answer, or forget it with None. False where nothing can be written."""
    with _LOCK:
        try:
            file = _file()
            if file is None:
                return False
            stored = _load(file)
            if answer is None:
                stored.pop(key, None)
            else:
                stored[key] = answer
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".draft")
            draft.write_text(json.dumps(stored, indent=1, ensure_ascii=False), encoding="utf-8")
            draft.replace(file)
        except OSError:
            return False
        return True
