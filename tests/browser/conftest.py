"""One JupyterLab for all browser tests, with the lessons and some notebooks of the tests' own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab import lab_server

from intuitive.widgets import catalogue

LESSONS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))
EXAMPLE = Path(__file__).with_name("kit_example.py")

CATALOGUE = "from intuitive.widgets import catalogue"
KIT_CELLS = (
    "import time\nimport kit_example as kit",
    'kit.explorer("kit_asked", predict=kit.PREDICT)',
    "kit.explorer()",
    'shown = kit.explorer("kit_twice")\nshown',
    "shown",
    "kit.question()",
    "time.sleep(4)",
    "print(*kit.census())",
    'kit.explorer("kit_slow", hurry="slow")',
    "kit.stop_python(4)",
)
EXPLORER_CELLS = (
    "from intuitive.widgets.msa import block_selection, ladder, needle, what_it_costs\n"
    "from intuitive.widgets.qgf import particle",
    "needle.explorer()",
    "block_selection.explorer()",
    "what_it_costs.explorer()",
    "particle.explorer()",
    "ladder.explorer()",
)
SAVED_CELLS = (
    "import kit_example as kit\nfrom intuitive.widgets.msa import needle",
    "needle.explorer()",
    "kit.explorer(spread=3.0)",
    "kit.question()",
)


def _notebook(path: Path, sources: tuple[str, ...]) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture(scope="session")
def lab_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a JupyterLab that serves the lessons and the tests' notebooks.

    `catalogue.ipynb` holds every explorer and question in a cell of its own.
    """
    folder = tmp_path_factory.mktemp("lessons")
    for file in (*LESSONS, EXAMPLE):
        shutil.copy(file, folder)
    every = [f'catalogue.explorers()["{name}"]()' for name in catalogue.explorers()]
    every += [f'catalogue.questions()["{name}"]()' for name in catalogue.questions()]
    _notebook(folder / "catalogue.ipynb", (CATALOGUE, *every))
    _notebook(folder / "explorers.ipynb", EXPLORER_CELLS)
    _notebook(folder / "kit.ipynb", KIT_CELLS)
    _notebook(folder / "saved.ipynb", SAVED_CELLS)
    threads = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2  # beside another worker's
    with lab_server(folder, threads=threads) as url:
        yield url
