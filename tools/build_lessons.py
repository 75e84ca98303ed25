"""Rebuild what the lessons show without a kernel: posters and saved outputs.

    python tools/build_lessons.py [LESSON ...]

1. Every lesson runs in JupyterLab in headless Chromium; each explorer's picture, without controls
   and without what would answer its question, becomes `widgets/<paper>/posters/<explorer>.png`,
   which it shows from then on where no kernel runs.
2. Every lesson is executed again in a fresh kernel and saved with its outputs, without widget
   state, widget views and timestamps, so that a code host shows text and pictures.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from lab import Notebook, browser_page, lab_server
from nbclient import NotebookClient
from PIL import Image

from intuitive.widgets import catalogue

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "notebooks"
PAGE_WIDTH, PAGE_HEIGHT = 1260, 2600  # pixels of the page that posters are taken from
CELL_SECONDS = 300
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def take_posters(names: list[str], chromium: str) -> None:
    """Run lessons in JupyterLab and keep a picture of every explorer."""
    with (
        lab_server(LESSONS) as url,
        browser_page(chromium, width=PAGE_WIDTH, height=PAGE_HEIGHT) as page,
    ):
        page.emulate_media(reduced_motion="reduce")
        for name in names:
            print(f"posters of {name}", flush=True)
            notebook = Notebook(page, url, name)
            notebook.run_all()
            pictured: set[str] = set()
            for index in range(notebook.cells()):
                notebook.scroll_to_cell(index)
                page.wait_for_timeout(80)
                for found in page.locator("[data-explorer]").all():
                    explorer = found.get_attribute("data-explorer")
                    if explorer in pictured:
                        continue
                    shown = notebook.explorer(explorer)
                    shown.root.evaluate("root => root.intuitive.poster()")
                    shown.settled()
                    page.mouse.move(1, 1)  # or what lies under the pointer is lit
                    page.wait_for_timeout(400)
                    poster = catalogue.poster(explorer)
                    poster.parent.mkdir(exist_ok=True)
                    shown.root.screenshot(path=poster)
                    shrink(poster)
                    pictured.add(explorer)
                    print(f"  {explorer}", flush=True)


def shrink(poster: Path) -> None:
    """Keep the 256 colours that cover a picture best: a drawn one has hardly more.

    The file, of which every notebook holds a copy, is then less than half as large.
    """
    best = Image.Quantize.MAXCOVERAGE
    few = Image.open(poster).convert("RGB").quantize(256, best, dither=Image.Dither.NONE)
    few.save(poster, optimize=True)


def execute(name: str) -> None:
    """Run one lesson in a fresh kernel and save it with clean outputs."""
    print(f"executing {name}", flush=True)
    file = LESSONS / name
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(LESSONS)}},
        record_timing=False,
        coalesce_streams=True,  # however a busy machine cut them
    )
    client.execute()
    nbformat.write(normalise(notebook), file)


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs from run to run or means nothing without a kernel."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.execution_count = number + 1
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            if output.get("execution_count") is not None:
                output.execution_count = number + 1
        cell.outputs = [out for out in cell.outputs if WIDGET_VIEW not in out.get("data", {})]
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="file names; all lessons by default")
    parser.add_argument("--no-posters", action="store_true", help="keep the posters there are")
    parser.add_argument("--chromium", default=os.environ.get("INTUITIVE_CHROMIUM", "chromium"))
    chosen = parser.parse_args()
    names = chosen.lessons or sorted(file.name for file in LESSONS.glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as home:
        os.environ["INTUITIVE_HOME"] = home  # no predictions of whoever builds
        if not chosen.no_posters:
            take_posters(names, shutil.which(chosen.chromium) or chosen.chromium)
        for name in names:
            execute(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
