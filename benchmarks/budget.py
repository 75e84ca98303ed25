"""What readers wait for as ratios, and the budget that CI holds them to.

    python benchmarks/budget.py [imports pictures page lessons]

Import, first pictures, redraws (Python's part and the page's) and whole lessons in processor time,
each over a fixed piece of work done beside it, so that neither a slow machine nor a busy one moves
a ratio much. Writes benchmarks/results/speed_budget.json. tests/browser/test_browser_budget.py
measures the same again and fails where something is more than `SLACK` times over.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import helpers
import nbformat
from helpers import ROOT
from nbclient import NotebookClient
from yardstick import yardstick

sys.path.insert(0, str(ROOT / "tools"))

from lab import ExplorerOnPage, Notebook, browser_page, lab_server
from playwright.sync_api import Page

from intuitive.common import records

RESULT = helpers.RESULTS / "speed_budget.json"
SLACK = 1.5  # a regression over this fails
ROUNDS = 2  # of each measure, of which the least counts
MOVES = 20
SEED = 0  # of the values moved to
FIRST = ("msa_needle", "msa_block_selection", "lclm_recall", "lsa_label_factory", "qgf_particle")
LIGHT = (("trd_trajectory", "divergence"), ("qgf_particle", "peak"), ("msa_needle", "strength"))
ON_PAGE = (("qgf_particle", "peak", (0.1, 0.7, 0.3, 0.9)), ("msa_needle", "strength", (2, 7, 4, 9)))
SHORT = ("00_start_here",)  # lessons that `make test` measures; the sweep takes all
LESSONS = tuple(sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb")))


def ratio(measure: Callable[[], float], unit: Callable[[], float], rounds: int = ROUNDS) -> float:
    """The least of some measures, each over the mean of the work done before and after it."""
    found, before = [], unit()
    for _ in range(rounds):
        seconds, after = measure(), unit()
        found.append(2 * seconds / (before + after))
        before = after
    return min(found)


def over(measured: Mapping[str, float], budget: Mapping[str, float]) -> list[str]:
    """What is more than `SLACK` times its budget, in words; what has no budget counts too."""
    told = [f"{name} has no budget" for name in measured if name not in budget]
    told += [
        f"{name}: {found:.3g}, {found / budget[name]:.2f} times its budget"
        for name, found in measured.items()
        if name in budget and found > SLACK * budget[name]
    ]
    return told


# ------------------------------------------------------------------------- in a process of its own


def first_picture(name: str) -> float:
    """Processor seconds until a new explorer stands, its modules already imported."""
    from intuitive.widgets import catalogue

    begun = time.process_time()
    catalogue.explorers()[name]().close()
    return time.process_time() - begun


def redraw(name: str, control: str, seed: int = SEED) -> float:
    """The 95th percentile of Python's processor seconds, over some moves of one control."""
    import redraws

    from intuitive.widgets import catalogue

    explorer = catalogue.explorers()[name]()
    explorer.prediction = ""
    moved = explorer.declaration.by_name[control]
    times_ms, _ = redraws.moved(explorer, moved, MOVES, random.Random(seed))
    explorer.close()
    return redraws.p95(times_ms) / 1e3


def inside() -> dict[str, float]:
    """First pictures and redraws, over the yardstick."""
    found = {}
    for name in FIRST:
        first_picture(name)  # reads what later ones find in memory
        found[f"first picture {name}"] = ratio(lambda name=name: first_picture(name), yardstick)
    for name, control in LIGHT:
        seeds = iter(range(SEED, SEED + ROUNDS))
        found[f"redraw {name} {control}"] = ratio(
            lambda name=name, control=control, seeds=seeds: redraw(name, control, next(seeds)),
            yardstick,
        )
    return found


# ------------------------------------------------------------------------- from outside


def of_children(*command: str) -> float:
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports() -> dict[str, float]:
    """What a lesson's first cell brings in, and all that the catalogue does, over torch alone."""
    return {
        f"import {name}": ratio(
            lambda code=code: of_children("-c", code),
            lambda: of_children("-c", "import torch"),
            rounds=1,
        )
        for name, code in {
            "an explorer": "from intuitive.widgets.qgf import particle",
            "all explorers": "from intuitive.widgets import catalogue; catalogue.explorers()",
        }.items()
    }


def pictures() -> dict[str, float]:
    """`inside`, in a process that checks no annotations and has drawn nothing yet."""
    command = [sys.executable, str(Path(__file__)), "--inside"]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


BEFORE = f"""import sys, time
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
from yardstick import yardstick
yardstick()
work_before, begun = yardstick(), time.process_time()"""
AFTER = """spent = time.process_time() - begun
print(2 * spent / (work_before + yardstick()))"""


def lesson(name: str) -> dict[str, float]:
    """A whole lesson in a fresh kernel, over the yardstick in the same kernel."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    before, after = map(nbformat.v4.new_code_cell, (BEFORE, AFTER))
    notebook.cells = [before, *notebook.cells, after]
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return {f"lesson {name}": float(after.outputs[-1].text)}


# ------------------------------------------------------------------------- in the page

WORK = """() => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    document.body.append(svg);
    for (let turn = 0; turn < 3; turn++) {
        const mark = (_, i) => ({key: `mark:${i}`, x: i * 0.37, y: i % 97});
        const rows = Array.from({length: 4000}, mark);
        for (const row of JSON.parse(JSON.stringify(rows)).slice(0, 1500)) {
            const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
            for (const name in row) mark.setAttribute(name, row[name]);
            svg.append(mark);
        }
        svg.getBBox();
    }
    svg.remove();
}"""


def page_seconds(page: Page) -> Callable[[Callable[[], None]], float]:
    """What measures the processor time that the page's main thread spends on something."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(entry["value"] for entry in metrics if entry["name"] == "TaskDuration")

    def spent(work: Callable[[], None]) -> float:
        begun = now()
        work()
        return now() - begun

    return spent


def page_redraw(explorer: ExplorerOnPage, control: str, values: Iterable[int | float]) -> float:
    """The page's work for a move of one control, until all stands still, over a fixed work."""
    page = explorer.page
    spent = page_seconds(page)

    def moves() -> None:
        for value in values:
            explorer.time_to_draw(control, value)
            page.wait_for_timeout(400)  # until its motion has ended

    moves()  # what is measured once is known from here on
    return ratio(lambda: spent(moves) / len(values), lambda: spent(lambda: page.evaluate(WORK)))


def on_page(find: Callable[[str], ExplorerOnPage]) -> dict[str, float]:
    """Redraws of explorers that `find` brings to a page."""
    return {
        f"page {name} {control}": page_redraw(find(name), control, values)
        for name, control, values in ON_PAGE
    }


def in_a_browser() -> dict[str, float]:
    """`on_page`, in a JupyterLab of its own."""
    import latency

    with tempfile.TemporaryDirectory() as folder, lab_server(Path(folder)) as url:
        own = latency.explorers_notebook(Path(folder), [name for name, *_ in ON_PAGE])
        with browser_page(latency.find_browser()) as page:
            page.set_default_timeout(180_000)  # a machine may be busy
            notebook = Notebook(page, url, own)
            notebook.run_all(timeout=600)
            return on_page(notebook.explorer)


def lessons() -> dict[str, float]:
    """Every lesson."""
    found = {}
    for name in LESSONS:
        found |= lesson(name)
    return found


PARTS = {"imports": imports, "pictures": pictures, "page": in_a_browser, "lessons": lessons}


def main() -> int:
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("parts", nargs="*", help="that are measured; all by default")
    parser.add_argument("--inside", action="store_true", help="the part in a process of its own")
    chosen = parser.parse_args()
    if chosen.inside:
        print(json.dumps(inside()))
        return 0
    kept = json.loads(RESULT.read_text("utf-8"))["values"]["ratios"] if chosen.parts else {}
    for part in chosen.parts or PARTS:
        found = helpers.rounded(PARTS[part](), digits=4)
        print("\n".join(f"{name:40s} {value}" for name, value in found.items()), flush=True)
        kept |= found
    config = {"slack": SLACK, "rounds": ROUNDS, "moves": MOVES}
    print(records.save(RESULT, {"ratios": kept}, config=config, commit=chosen.commit, seed=SEED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
