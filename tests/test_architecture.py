"""Rules of the repository, held by reading its files: imports, lessons, and what is tracked."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Which layer may import which. "front" is intuitive/__init__.py, whose rooms load when asked for.
NO_PAPERS = {"common", "kernels", "widgets", "notebooks", "results", "arena", "claims"}
PAPERS = {
    folder.name
    for folder in (ROOT / "intuitive").iterdir()
    if (folder / "__init__.py").is_file() and folder.name not in NO_PAPERS
}
MAY_IMPORT = {"front": set(), "common": set(), "kernels": set(), "notebooks": set()}
MAY_IMPORT |= {paper: {"common", "kernels"} for paper in PAPERS}
MAY_IMPORT["arena"] = MAY_IMPORT["claims"] = PAPERS | {"common", "kernels"}
MAY_IMPORT["widgets"] = PAPERS | {"arena", "claims", "common", "kernels"}
MAY_IMPORT["cli"] = MAY_IMPORT["__main__"] = set(MAY_IMPORT) | {"cli"}

# What each layer may use from outside, beside the standard library.
MATHEMATICS = {"torch", "jaxtyping"}
OUTSIDE = {
    "front": set(),
    "notebooks": set(),
    "__main__": set(),
    "kernels": MATHEMATICS | {"triton"},
    "common": MATHEMATICS
    | {"numpy", "gguf", "tokenizers", "safetensors", "platformdirs"}
    | {"cachetools", "msgspec"},
    "widgets": MATHEMATICS
    | {"numpy", "plotly", "ipywidgets", "anywidget", "traitlets", "IPython", "platformdirs"}
    | {"cachetools", "msgspec"},
    "cli": {"torch", "triton", "packaging", "jupyter_core", "jupyterlab", "jupyterlab_server"},
}
OUTSIDE |= dict.fromkeys(PAPERS | {"arena", "claims"}, MATHEMATICS | {"numpy", "cachetools"})
for paper in PAPERS:  # to serve models of that package, asked for where it is needed
    OUTSIDE[paper] = OUTSIDE[paper] | {"transformers"}

LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSON_MIB = 3
TRACKED_MIB = 38


# ------------------------------------------------------------------------------- imports


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for folder, name in (
        ("intuitive", "intuitive"),
        ("kernels", "intuitive.kernels"),
        ("widgets", "intuitive.widgets"),
        ("notebooks", "intuitive.notebooks"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            if path.is_relative_to(ROOT / "intuitive/common/text") or path.name == "conftest.py":
                continue  # texts for the model to read, of which some are Python; pytest's own
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([name, *parts]).removesuffix(".__init__")] = path
    return found


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "front"


def imports(module: str, path: Path, source: str) -> Iterator[tuple[str, bool]]:
    """(absolute name, was it written as a relative import) of everything a module imports."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # `from intuitive import room` imports intuitive.room
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name, False) for name in (names if node.module == "intuitive" else ()))
            if node.module != "intuitive":
                yield node.module, False
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            tail = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((".".join([*base, name]), True) for name in tail)


def faults(module: str, path: Path, source: str) -> list[str]:
    """What a module's imports do against the table; empty when all is well."""
    found = []
    layer = layer_of(module)
    if layer not in MAY_IMPORT:
        return [f"{module}: the layer {layer!r} is not in the table of this test"]
    for name, relative in imports(module, path, source):
        outside = name.partition(".")[0]
        if outside == "__future__":
            found.append(f"{module}: `from __future__` hides the shapes from the checker")
        elif outside != "intuitive":
            if outside not in sys.stdlib_module_names and outside not in OUTSIDE[layer]:
                found.append(f"{module}: {layer} may not import {outside}")
        elif layer_of(name) != layer:
            if relative and layer != "__main__":
                found.append(f"{module}: import {name} absolutely, it is another layer")
            if layer_of(name) not in MAY_IMPORT[layer]:
                found.append(f"{module}: {layer} may not import {name}")
        elif not relative:
            found.append(f"{module}: import {name} relatively, it is the same layer")
    return found


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_follow_the_table(module):
    path = modules()[module]
    assert faults(module, path, path.read_text(encoding="utf-8")) == []


ONE, OTHER, *_ = sorted(PAPERS)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("intuitive.kernels.x", "from intuitive.common import runtime", "may not import"),
        ("intuitive.kernels.x", "import numpy", "kernels may not import numpy"),
        ("intuitive.common.x", "def f():\n    import plotly", "common may not import plotly"),
        (
            f"intuitive.{ONE}.x",
            f"from intuitive.{OTHER} import model",
            f"may not import intuitive.{OTHER}",
        ),
        (f"intuitive.{ONE}.x", "from intuitive import widgets", "may not import intuitive.widgets"),
        (f"intuitive.{ONE}.x", "from ..common import runtime", "absolutely"),
        (f"intuitive.{ONE}.x", f"from intuitive.{ONE} import config", "relatively"),
        (f"intuitive.{ONE}.x", "from __future__ import annotations", "hides the shapes"),
        ("intuitive.other.x", "", "not in the table"),
    ],
)
def test_a_wrong_import_is_found(module, source, fault):
    found = faults(module, Path("x.py"), source)
    assert len(found) >= 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (f"intuitive.{ONE}.x", "import math\nimport torch\nfrom .config import Config"),
        (f"intuitive.{ONE}.x", "from intuitive.kernels import block_scores"),
        (f"intuitive.widgets.{ONE}.x", f"from ..kit import explorer\nfrom intuitive import {ONE}"),
        ("intuitive.cli", "from intuitive.common.smollm import fetch_model"),
    ],
)
def test_a_right_import_passes(module, source):
    assert faults(module, Path("x.py"), source) == []


# ------------------------------------------------------------------------------ training

LOOP = "intuitive.common.training"  # the one loop that steps optimisers


def steps_of_optimisers(source: str) -> list[int]:
    """Lines that call `.step()` without arguments."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "step"
        and not (node.args or node.keywords)
    ]


def test_one_training_loop_serves_all():
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    assert len(steps_of_optimisers(sources.pop(LOOP))) == 1
    for script in (ROOT / "benchmarks").glob("*.py"):
        sources[script.name] = script.read_text(encoding="utf-8")
    assert [name for name, source in sources.items() if steps_of_optimisers(source)] == []


def test_a_loop_of_ones_own_is_found():
    source = "for _ in range(3):\n    loss().backward()\n    self.optimizer.step()\nkind.step(0)"
    assert steps_of_optimisers(source) == [3]


# ------------------------------------------------------------------------------- lessons


def code_cells(lesson: Path) -> list[dict]:
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def definitions(cells: list[dict]) -> list[str]:
    """Names of functions and classes defined outside cells tagged `exercise`."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [
        node.name
        for cell in cells
        if "exercise" not in cell["metadata"].get("tags", ())
        for node in ast.walk(ast.parse("".join(cell["source"])))
        if isinstance(node, kinds)
    ]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lesson_defines_nothing_outside_exercises(lesson):
    assert definitions(code_cells(lesson)) == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lesson_is_saved_clean(lesson):
    """Run from top to bottom, without errors, widget state, or times of execution."""
    assert lesson.stat().st_size < LESSON_MIB * 2**20, f"{lesson.name}: rebuild it, make lessons"
    assert "widgets" not in json.loads(lesson.read_text(encoding="utf-8"))["metadata"]
    cells = code_cells(lesson)
    # nbval compares nothing in a cell that was never run
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any("execution" in cell["metadata"] for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output["evalue"] for output in outputs if output["output_type"] == "error"]
    widget_view = "application/vnd.jupyter.widget-view+json"
    assert not any(widget_view in output.get("data", {}) for output in outputs)


def test_a_definition_in_a_lesson_is_found():
    plain = {"source": ["x = 1\n", "def f():\n", "    pass"], "metadata": {}}
    exercise = plain | {"metadata": {"tags": ["exercise"]}}
    assert definitions([plain, exercise]) == ["f"]


# ------------------------------------------------------------------------- tracked files


def tracked() -> list[Path]:
    """Files that git knows or would take up."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


# Folders that are one paper's own, or list what all of them brought: lessons, results, pages.
OWN = ("intuitive/{}/", "widgets/{}/", "tests/{}/")
OWN += ("intuitive/claims/papers/{}.py", "intuitive/claims/facts/{}.py")
SHARED = ("notebooks/", "benchmarks/", "docs/")
SHARED += tuple(own.format("arena") for own in OWN)  # sets the papers side by side
ROWS = ("README.md", "NOTICE.md")  # where each paper has its row
PAGES_OF_READERS = ("tests/browser/", "tests/test_book")  # opened by the names that readers see


def names_of_papers(path: str, text: str) -> list[str]:
    """Lines that name a paper by its folder, in a file that a new paper would not touch."""
    if path.startswith((*SHARED, *PAGES_OF_READERS)) or path in ROWS:
        return []
    found = []
    for paper in sorted(PAPERS):
        if path.startswith(tuple(own.format(paper) for own in OWN)):
            continue
        for line in text.splitlines():
            if re.search(rf"(?<![a-zA-Z]){paper}(?![a-zA-Z])", line):
                found.append(f"{path}: {line.strip()}")
    return found


def test_adding_a_paper_touches_only_its_own_folders():
    """And adds its lesson, results, page, rows in README and index, and a line of pyproject."""
    found, lines = [], []
    for file in tracked():
        path, data = file.relative_to(ROOT).as_posix(), file.read_bytes()
        if b"\0" in data or path.startswith("intuitive/common/text/"):
            continue  # pictures and weights; other people's texts
        hits = names_of_papers(path, data.decode("utf-8"))
        if path == "pyproject.toml":
            lines = hits
        else:
            found += hits
    assert found == []
    assert len(lines) == len(PAPERS)  # a line names one paper
    for paper in PAPERS:
        assert sum(f'"intuitive.{paper}"' in line for line in lines) == 1, paper
        for row in ("README.md", "docs/index.md"):
            assert paper in (ROOT / row).read_text(encoding="utf-8"), (paper, row)


def test_the_name_of_a_paper_is_found_where_it_does_not_belong():
    paper = min(PAPERS)
    for path, text, hit in (
        ("widgets/kit/x.py", f"explorer({paper}_map)", True),
        (f"widgets/{paper}/x.py", paper, False),
        (f"widgets/{max(PAPERS)}/x.py", f"import {paper}", True),
        ("docs/x.md", paper, False),
        ("tools/x.py", f"a{paper}b", False),
    ):
        assert bool(names_of_papers(path, text)) is hit, path


# A folder that exists only on somebody's machine, at the start of an absolute path.
MACHINE_PATH = re.compile(r"(?<![\w.~<>*}-])/(?:work|root|home|opt|Users)/[\w.-]+")


def test_no_tracked_file_names_a_path_of_one_machine():
    found = []
    for path in tracked():
        if path.is_relative_to(ROOT / "intuitive/common/text"):
            continue  # other people's texts
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {hit.group()}" for hit in MACHINE_PATH.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("see " + "/home" + "/ann/x", True),
        ('"' + "/opt" + '/tool"', True),
        ("https://host/work/x", False),
        ("docs/home/index", False),
        ("/usr/bin/env", False),
    ],
)
def test_machine_paths_are_recognised(text, hit):
    assert bool(MACHINE_PATH.search(text)) is hit


def test_tracked_tree_is_small():
    size = sum(path.stat().st_size for path in tracked())
    assert size < TRACKED_MIB * 2**20, f"{size / 2**20:.1f} MiB are tracked"
