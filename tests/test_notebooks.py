"""Every lesson runs strictly under nbval: fresh kernel, clean copy, within a minute."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
ALONE = "PYTEST_XDIST_WORKER" not in os.environ
LIMIT_S = 60 if ALONE else 150  # from the start of pytest to its end; longer beside other tests


def run_nbval(lesson: Path, folder: Path) -> subprocess.CompletedProcess:
    """Run nbval on a copy of `lesson` alone in `folder`, where no repository is in sight."""
    shutil.copy(lesson, folder)
    shutil.copy(NOTEBOOKS / "conftest.py", folder)
    command = f"-m pytest --nbval --nbval-current-env --nbval-cell-timeout={LIMIT_S}"
    return subprocess.run(
        [sys.executable, *command.split(), "--rootdir=.", "-q", "--color=no", lesson.name],
        cwd=folder,
        env=os.environ | {"PYTEST_ADDOPTS": "", "INTUITIVE_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=5 * LIMIT_S,
    )


@pytest.mark.model
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lesson_gives_its_saved_outputs(lesson, tmp_path):
    started = time.monotonic()
    run = run_nbval(lesson, tmp_path)
    seconds = time.monotonic() - started
    assert run.returncode == 0, run.stdout + run.stderr
    print(f"{lesson.name}: {seconds:.1f} s")
    assert seconds < LIMIT_S, f"{lesson.name} took {seconds:.0f} s, more than {LIMIT_S} s"


def notebook(tmp_path, source, *outputs):
    """A notebook of one executed cell."""
    cell = nbformat.v4.new_code_cell(source, execution_count=1, outputs=list(outputs))
    path = tmp_path / "lesson.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    folder = tmp_path / "copy"
    folder.mkdir()
    return path, folder


def result(**data):
    return nbformat.v4.new_output("execute_result", data, execution_count=1)


@pytest.mark.parametrize(("saved", "agrees"), [("2", True), ("3", False)], ids=["right", "wrong"])
def test_nbval_compares_text(tmp_path, saved, agrees):
    path, folder = notebook(tmp_path, "1 + 1", result(**{"text/plain": saved}))
    run = run_nbval(path, folder)
    assert (run.returncode == 0) is agrees, run.stdout
    if not agrees:
        assert "Cell outputs differ" in run.stdout


def test_nbval_leaves_pictures_and_figures_out(tmp_path):
    source = (
        "from IPython.display import display\n"
        "display({'text/plain': 'summary', 'text/html': 'new', 'image/png': '',"
        " 'application/vnd.plotly.v1+json': {'uid': 'new'}}, raw=True)"
    )
    saved = nbformat.v4.new_output(
        "display_data", {"text/plain": "summary", "text/html": "old", "image/png": "AAAA"}
    )
    path, folder = notebook(tmp_path, source, saved)
    run = run_nbval(path, folder)
    assert run.returncode == 0, run.stdout
