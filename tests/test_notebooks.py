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
LIMIT_S = 60 if ALONE else 240  # from the start of pytest to its end; longer beside other tests


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


PICTURES = """from IPython.display import display
display({"text/plain": "summary", "text/html": "new", "image/png": "",
         "application/vnd.plotly.v1+json": {"uid": "new"}}, raw=True)"""


def result(text: str):
    return nbformat.v4.new_output("execute_result", {"text/plain": text}, execution_count=1)


def test_nbval_compares_text_and_leaves_pictures_and_figures_out(tmp_path):
    drawn = nbformat.v4.new_output(
        "display_data", {"text/plain": "summary", "text/html": "old", "image/png": "AAAA"}
    )
    saved = {"1 + 1": result("2"), PICTURES: drawn, "2 + 1": result("4")}
    cells = [
        nbformat.v4.new_code_cell(source, execution_count=place, outputs=[output])
        for place, (source, output) in enumerate(saved.items(), 1)
    ]
    path = tmp_path / "lesson.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    folder = tmp_path / "copy"
    folder.mkdir()
    run = run_nbval(path, folder)
    assert "2 passed" in run.stdout and "1 failed" in run.stdout, run.stdout
    assert "Cell outputs differ" in run.stdout
    assert "lesson.ipynb::Cell 2" in run.stdout  # the last, counted from 0
    assert run.returncode == 1
