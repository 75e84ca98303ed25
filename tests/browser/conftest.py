"""One JupyterLab for all browser tests, on a copy of the lessons."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab import lab_server

LESSONS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))

# What the lessons hold, each in its smallest form.
EXPLORERS = """
from intuitive.widgets import panels
from intuitive.widgets.kit import Predict
#
panels.needle_pooling(predict=Predict(question="Which one?", choices=("largest", "mean")))
#
panels.block_selection()
#
panels.what_it_costs()
#
panels.trimodal_flow()
#
panels.weak_needle()
#
panels.halving_k()
"""


@pytest.fixture(scope="session")
def lab_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a JupyterLab that serves the lessons and `explorers.ipynb`."""
    folder = tmp_path_factory.mktemp("lessons")
    for lesson in LESSONS:
        shutil.copy(lesson, folder)
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in EXPLORERS.split("\n#\n")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "explorers.ipynb")
    with lab_server(folder) as url:
        yield url
