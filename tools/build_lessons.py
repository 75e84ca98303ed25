"""Rebuild what the lessons show without a kernel: first frames and saved outputs.

    python tools/build_lessons.py [LESSON ...]

1. Every lesson runs in JupyterLab in headless Chromium; each explorer's picture becomes
   `widgets/frames/<name>.png`, which it adds to its output from then on.
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

ROOT = Path(__file__).resolve().parent.parent
LESSONS, FRAMES = ROOT / "notebooks", ROOT / "widgets" / "frames"
FRAME_WIDTH, FRAME_HEIGHT = 1260, 2600  # pixels of the page that frames are taken from
CELL_SECONDS = 300
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def take_frames(names: list[str], chromium: str) -> None:
    """Run lessons in JupyterLab and keep a picture of every explorer."""
    FRAMES.mkdir(exist_ok=True)
    with (
        lab_server(LESSONS) as url,
        browser_page(chromium, width=FRAME_WIDTH, height=FRAME_HEIGHT) as page,
    ):
        for name in names:
            print(f"frames of {name}", flush=True)
            notebook = Notebook(page, url, name)
            notebook.run_all()
            page.add_style_tag(content=".intuitive-status { display: none !important; }")
            pictured: set[str] = set()
            for index in range(notebook.cells()):
                notebook.scroll_to_cell(index)
                page.wait_for_timeout(80)
                for found in page.locator("[data-explorer]").all():
                    explorer = found.get_attribute("data-explorer")
                    if explorer in pictured:
                        continue
                    shown = notebook.explorer(explorer)
                    page.wait_for_timeout(400)
                    shown.root.screenshot(path=FRAMES / f"{explorer}.png")
                    pictured.add(explorer)
                    print(f"  {explorer}", flush=True)


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
            output.get("data", {}).pop(WIDGET_VIEW, None)
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="file names; all lessons by default")
    parser.add_argument("--no-frames", action="store_true", help="keep the frames there are")
    parser.add_argument("--chromium", default=os.environ.get("INTUITIVE_CHROMIUM", "chromium"))
    chosen = parser.parse_args()
    names = chosen.lessons or sorted(file.name for file in LESSONS.glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as home:
        os.environ["INTUITIVE_HOME"] = home  # no predictions of whoever builds
        if not chosen.no_frames:
            take_frames(names, shutil.which(chosen.chromium) or chosen.chromium)
        for name in names:
            execute(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
