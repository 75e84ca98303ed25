"""From a slider's event to its picture, in JupyterLab in headless Chromium; what is in sight.

    python benchmarks/latency.py [--moves 10] [--seed 0] [--heavy] [--only msa_block_selection ...]

Opens every lesson, takes the seconds from "Run All Cells" to its first picture, then moves the
sliders of every explorer one at a time, the explorers of one paper in one notebook. Times run in
the page, from the event that a slider fires to the end of the last plot's drawing and the
beginning of the hero's motion; painting follows with the next frame. Counts what stands in sight
at a width of 1,000 px, and for the same controls the processor time and the bytes of the Python
side (redraws.py). Writes benchmarks/results/latency_cpu.json, and tables of it into
build/latency.md. Takes about ten minutes on two cores with nothing else to do.

Moves of controls that compute nothing heavy have a target, a 95th percentile of 100 ms; those that
their declaration calls `heavy` show their progress and have none: they are named, and timed only
where asked for. A control that an explorer answers with an error, or not within a minute, is
skipped with its sentence; an explorer that does not come back to its first picture is left there,
and the next ones are timed.
"""

import itertools
import os
import platform
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import helpers
import nbformat
import redraws
from helpers import ROOT
from redraws import p95

sys.path.insert(0, str(ROOT / "tools"))

from lab import ExplorerOnPage, Notebook, Refused, browser_page, lab_server
from playwright.sync_api import Error, Page

from intuitive.common import records
from intuitive.widgets import catalogue

RESULT = helpers.RESULTS / "latency_cpu.json"
TABLES = ROOT / "build" / "latency.md"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TARGET_MS = 100  # 95th percentile of what computes nothing heavy
FIRST_PICTURE_S = 10
REST_MS = 60  # between two moves
WIDTH = 1000  # of an explorer, where its parts are counted and its height is taken
PACKAGES = ("jupyterlab", "ipykernel", "ipywidgets", "anywidget", "plotly", "playwright", "numpy")


def find_browser() -> str:
    """The Chromium that is driven; INTUITIVE_CHROMIUM names another."""
    named = os.environ.get("INTUITIVE_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        listed = ", ".join(BROWSERS)
        raise SystemExit(f"no browser: install one of {listed}, or set INTUITIVE_CHROMIUM")
    return found


def processor() -> str:
    """The CPU's name and how many cores may be used."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def sliders_of(explorer: ExplorerOnPage) -> list[dict]:
    """The sliders and drop-down lists of an explorer: name, admissible values, value now."""
    found = explorer.root.evaluate(
        """root => [
            ...root.querySelectorAll("input[type=range][data-control], select")
        ].filter(element => !element.disabled).map(element => ({
            name: element.dataset.control,
            heavy: "heavy" in element.dataset,
            listed: element.options
                ? [...element.options].filter(one => !one.disabled).map(one => one.value)
                : JSON.parse(element.dataset.values ?? "null"),
            range: [element.min, element.max, element.step].map(Number),
        }))"""
    )
    for slider in found:
        low, high, step = slider.pop("range")
        numbers = slider.pop("listed") or [
            round(low + step * position, 9) for position in range(round((high - low) / step) + 1)
        ]
        slider["values"] = numbers
        slider["now"] = explorer.values()[slider["name"]]
    return found


def choices(slider: dict, dice: random.Random, moves: int) -> Iterator[int | float | str]:
    """Random values of a control, never the same twice in a row."""
    last = slider["now"]
    for _ in range(moves):
        last = dice.choice([value for value in slider["values"] if value != last])
        yield last


def skipped(name: str, control: str, heavy: bool, sentence: str) -> dict:
    """The row of what was not timed, and why."""
    print(f"{name:22s} {control:12s} skipped: {sentence}", flush=True)
    row = {"explorer": name, "control": control, "heavy": heavy, "moves": 0}
    return row | {"skipped": sentence}


def go_home(explorer: ExplorerOnPage, home: dict) -> str:
    """Back to the values of the first picture; the first line of what went wrong, or nothing."""
    try:
        explorer.root.evaluate("(root, values) => root.intuitive.set(values)", home)
        explorer.page.wait_for_function(
            """root => root.dataset.state === "done" && root.intuitive.arrived()""",
            arg=explorer.root.element_handle(),
            timeout=120_000,
        )
    except Error as error:
        return f"did not come back to its first picture: {error.message.splitlines()[0]}"
    return ""


def time_moves(
    name: str, explorer: ExplorerOnPage, moves: int, dice: random.Random, *, all_of_them: bool
) -> list[dict]:
    """Times of every control of one explorer, one control at a time."""
    rows, home = [], explorer.values()
    for slider in sliders_of(explorer):
        control, times_ms = slider["name"], []
        heavy = slider["heavy"]
        if len(slider["values"]) < 2:
            continue
        if heavy and not all_of_them:
            rows.append(skipped(name, control, heavy, "computes for longer than it draws"))
            continue
        refused = ""
        for value in choices(slider, dice, moves):
            try:
                times_ms.append(explorer.time_to_draw(control, value))
            except Refused as sentence:
                refused = str(sentence)
                break
            explorer.page.wait_for_timeout(REST_MS)
        lost = go_home(explorer, home)
        if refused or lost:
            rows.append(skipped(name, control, heavy, refused or lost))
            if lost:
                break
            continue
        rows.append(
            {
                "explorer": name,
                "control": control,
                "heavy": heavy,
                "moves": len(times_ms),
                "median_ms": round(statistics.median(times_ms), 1),
                "p95_ms": round(p95(times_ms), 1),
                "longest_ms": round(max(times_ms), 1),
            }
        )
        row, kind = rows[-1], "heavy" if heavy else ""
        print(
            f"{name:22s} {control:12s} {kind:6s} median {row['median_ms']:6.1f}  "
            f"p95 {row['p95_ms']:6.1f}  longest {row['longest_ms']:6.1f} ms",
            flush=True,
        )
    return rows


def to_width(page: Page, explorer: ExplorerOnPage, width: int) -> None:
    """Make the window as wide as an explorer of `width` pixels needs."""
    now = explorer.root.evaluate("root => root.getBoundingClientRect().width")
    size = page.viewport_size
    page.set_viewport_size({**size, "width": round(size["width"] + width - now)})
    page.wait_for_timeout(500)


def first_picture_s(notebook: Notebook, name: str) -> float:
    """Seconds from "run all" until an explorer's picture stands."""
    started = time.perf_counter()
    notebook.run_all(wait=False)
    notebook.explorer(name)
    return round(time.perf_counter() - started, 2)


def explorers_notebook(folder: Path, names: list[str]) -> str:
    """A notebook with one explorer in each cell."""
    sources = ["from intuitive.widgets import catalogue"]
    sources += [f"catalogue.explorers()[{name!r}]()" for name in names]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "explorers.ipynb")
    return "explorers.ipynb"


def first_explorer(lesson: Path) -> str:
    """The name of the first explorer that a lesson shows."""
    taken = re.compile(r"from intuitive\.widgets\.(\w+) import (.+)")
    for cell in nbformat.read(lesson, as_version=4).cells:
        for paper, names in taken.findall(cell.source if cell.cell_type == "code" else ""):
            for module in re.findall(r"(?:^|, )(\w+)", names):
                if f"{paper}_{module}" in catalogue.explorers():
                    return f"{paper}_{module}"
    raise ValueError(f"{lesson.name} shows no explorer of the catalogue.")


def lessons_first_pictures(url: str, browser: str, lessons: Sequence[Path]) -> dict[str, float]:
    """Seconds from "run all" to the first picture of each lesson, each in a kernel of its own."""
    found = {}
    for lesson in lessons:
        with browser_page(browser) as page:
            notebook = Notebook(page, url, lesson.name)
            found[lesson.stem] = first_picture_s(notebook, first_explorer(lesson))
            notebook.session("shutdown")
        print(f"{lesson.stem}: first picture {found[lesson.stem]} s", flush=True)
    return found


def beside_python(rows: Sequence[dict], found: Sequence[redraws.Redraws]) -> list[dict]:
    """The rows, with what the same controls cost Python."""
    known = {(one.explorer, one.control): one for one in found if one.python_ms}
    told = []
    for row in rows:
        one = known.get((row["explorer"], row["control"]))
        costs = {}
        if one is not None:
            costs["python_ms"] = round(statistics.median(one.python_ms), 1)
            costs["python_p95_ms"] = round(p95(one.python_ms), 1)
            costs["kilobytes"] = round(statistics.median(one.bytes) / 1e3, 1)
        told.append(row | costs)
    return told


def of_explorers(rows: Sequence[dict]) -> list[dict]:
    """One row for each explorer: what its light controls take, and which are heavy."""
    told = []
    for name, group in itertools.groupby(rows, key=lambda row: row["explorer"]):
        own = list(group)
        timed = [row for row in own if row["moves"] and not row["heavy"]]
        found = {"explorer": name, "heavy": [row["control"] for row in own if row["heavy"]]}
        if timed:
            slowest = max(timed, key=lambda row: row["p95_ms"])
            found["median_ms"] = round(statistics.median(row["median_ms"] for row in timed), 1)
            found |= {"p95_ms": slowest["p95_ms"], "slowest": slowest["control"]}
            for cost in ("python_ms", "kilobytes"):
                found[cost] = max((row[cost] for row in timed if cost in row), default=None)
        told.append(found)
    return told


def tables(record: Mapping) -> str:
    """What was found, as Markdown."""
    head = "| explorer | median ms | p95 ms | of | Python ms | kB | heavy, with no target |"
    lines = [head, "|---|--:|--:|---|--:|--:|---|"]
    for row in record["explorers"]:
        keys = ("explorer", "median_ms", "p95_ms", "slowest", "python_ms", "kilobytes")
        cells = [str(row.get(key) or "–") for key in keys]
        lines.append(f"| {' | '.join(cells)} | {', '.join(row['heavy']) or '–'} |")
    over = [
        f"- {row['explorer']} {row['control']}: median {row['median_ms']}, p95 {row['p95_ms']} ms"
        for row in record["moves"]
        if row["moves"] and not row["heavy"] and row["p95_ms"] >= TARGET_MS
    ]
    first = [f"- {lesson}: {seconds} s" for lesson, seconds in record["first_picture_s"].items()]
    parts = [
        *("# From a slider to its picture", "\n".join(lines)),
        *(f"## Over {TARGET_MS} ms", "\n".join(over) or "None."),
        *("## First pictures", "\n".join(first)),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("--moves", type=int, default=10, help="per control")
    parser.add_argument("--seed", type=int, default=0, help="of the values moved to")
    parser.add_argument("--heavy", action="store_true", help="time heavy controls as well")
    timed = list(catalogue.explorers())
    parser.add_argument("--only", nargs="*", default=timed, metavar="NAME", help="explorers")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    browser = find_browser()
    begun, load_before = time.perf_counter(), os.getloadavg()[0]
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb")) if chosen.only == timed else []
    dice = random.Random(chosen.seed)
    rows, in_sight = [], {}
    with tempfile.TemporaryDirectory() as scratch, lab_server(Path(scratch)) as url:
        for lesson in lessons:
            shutil.copy(lesson, scratch)
        first = lessons_first_pictures(url, browser, lessons)
        for _, group in itertools.groupby(chosen.only, key=lambda name: name.partition("_")[0]):
            names = list(group)
            own = explorers_notebook(Path(scratch), names)
            with browser_page(browser) as page:
                notebook = Notebook(page, url, own)
                notebook.run_all(timeout=900)
                to_width(page, notebook.explorer(names[0]), WIDTH)
                for name in names:
                    try:
                        explorer = notebook.explorer(name)
                        in_sight[name] = explorer.in_sight()
                        all_of_them = {"all_of_them": chosen.heavy}
                        rows += time_moves(name, explorer, chosen.moves, dice, **all_of_them)
                    except Error as error:
                        rows.append(skipped(name, "", False, error.message.splitlines()[0]))
                browser_version = page.context.browser.version
                notebook.session("shutdown")
    costs = []
    for name in chosen.only:
        costs += redraws.of_explorer(name, chosen.moves, seed=chosen.seed, heavy=chosen.heavy)
    rows = beside_python(rows, costs)
    timed_rows = [row for row in rows if row["moves"] and not row["heavy"]]
    largest = max((row["p95_ms"] for row in timed_rows), default=0.0)
    record = {
        "first_picture_s": first,
        "in_sight": in_sight,
        "explorers": of_explorers(rows),
        "moves": rows,
        "largest_p95_ms": largest,
        "within_targets": largest < TARGET_MS
        and all(seconds < FIRST_PICTURE_S for seconds in first.values()),
        "load_before": round(load_before, 2),
        "took_s": round(time.perf_counter() - begun),
        "versions": {package: version(package) for package in PACKAGES}
        | {"chromium": browser_version},
    }
    config = {"moves": chosen.moves, "seed": chosen.seed, "target_ms": TARGET_MS}
    made = {"device": processor(), "commit": chosen.commit, "seed": chosen.seed}
    TABLES.parent.mkdir(exist_ok=True)
    TABLES.write_text(tables(record), encoding="utf-8")
    print(tables(record))
    print(records.save(chosen.out, record, config=config, **made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
