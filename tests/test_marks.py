"""What a mark does where its need is absent: a skip for a person, a failure for CI.

And what stays with one worker, where there are several.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"  # conftest.py finds the checks of annotations there


def no_model(folder: Path) -> None:
    """Lay a package into `folder` that stands in for the real one: no model, soon imported."""
    package = folder / "intuitive/common"
    package.mkdir(parents=True)
    (package / "smollm.py").write_text("def find_model():\n    return None\n")
    for room in (package, package.parent):
        (room / "__init__.py").touch()


def outcome(folder: Path, mark: str, **env: str) -> str:
    """Closing report of one passing test with this mark, on a machine without browser or GPU."""
    no_model(folder)
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu:\n  model:\n  browser:\n")
    (folder / "test_it.py").write_text(
        f"import pytest\n\n@pytest.mark.{mark}\ndef test_it():\n    pass\n"
    )
    bare = {"PATH": str(folder), "PYTEST_ADDOPTS": "", "CUDA_VISIBLE_DEVICES": "", "CI": ""}
    bare |= {"INTUITIVE_CHROMIUM": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    bare["PYTHONPATH"] = f"{folder}{os.pathsep}{TOOLS}"
    command = [sys.executable, "-m", "pytest", "-ra", "-q", "--color=no"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | bare | env, capture_output=True, text=True
    ).stdout


def test_absent_browser_is_a_skip_with_its_reason(tmp_path):
    report = outcome(tmp_path, "browser")
    assert "1 skipped" in report
    assert "no browser: install one of chromium" in report


def test_absent_browser_is_a_failure_in_ci(tmp_path):
    report = outcome(tmp_path, "browser", CI="true")
    assert "1 error" in report
    assert "CI is set, so this is a failure" in report


def test_named_browser_is_taken(tmp_path):
    assert "1 passed" in outcome(tmp_path, "browser", INTUITIVE_CHROMIUM=sys.executable, CI="true")


@pytest.mark.parametrize("ci", ["", "true"], ids=["person", "ci"])
def test_absent_gpu_is_a_skip_even_in_ci(tmp_path, ci):
    assert "no CUDA device" in outcome(tmp_path, "gpu", CI=ci)


@pytest.mark.parametrize("ci", ["", "true"], ids=["person", "ci"])
def test_absent_model_is_a_failure_in_ci_only(tmp_path, ci):
    report = outcome(tmp_path, "model", CI=ci)
    assert "no SmolLM2-135M file: run `intuitive model`" in report
    assert ("1 error" if ci else "1 skipped") in report


def test_what_shares_a_server_or_an_explorer_stays_with_one_worker(tmp_path):
    """And the longest comes first: the browser on one worker, the lessons on the other."""
    files = {
        "test_other.py": ["file"],
        "browser/test_page.py": ["page"],
        "browser/test_saved.py": ["page"],
        "test_notebooks.py": ["01_first", "03_third"],
        "widgets/test_every_explorer.py": ["needle", "particle"],
        "widgets/test_every_step.py": ["particle", "needle"],
    }
    for name, names in files.items():
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        every = f"@pytest.mark.parametrize('name', {names})\n"
        tests = [f"{every}def test_{turn}(name):\n    pass\n" for turn in "abc"]
        path.write_text("import pytest\n\n" + "\n".join(tests))
    no_model(tmp_path)
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    plain = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plain["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{TOOLS}"
    command = "-m pytest -p xdist -n 2 -v --color=no tests"
    report = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        env=os.environ | plain,
        capture_output=True,
        text=True,
    ).stdout
    ran = re.findall(r"^\[(gw\d)\].* PASSED tests/(\S+)::test_\w\[(\w+)\]", report, re.MULTILINE)
    assert len(ran) == 3 * sum(map(len, files.values())), report
    workers = {name: {worker for worker, _, other in ran if other == name} for _, _, name in ran}
    assert set(map(len, workers.values())) == {1}, workers
    begun = {worker: file for worker, file, _ in reversed(ran)}
    assert sorted(begun) == ["gw0", "gw1"]
    assert set(begun.values()) == {"browser/test_page.py", "test_notebooks.py"}


def test_what_measures_time_is_where_make_test_looks_for_it():
    """Its second run of pytest reads the browser tests alone, which saves some ten seconds."""
    tests = Path(__file__).parent
    mark = "pytest.mark" + ".timing"
    timed = {path.parent for path in tests.rglob("*.py") if mark in path.read_text("utf-8")}
    assert timed == {tests / "browser"}
    makefile = tests.with_name("Makefile").read_text("utf-8")
    assert '"timing and not sweep" $(or $(PYTEST_ARGS),tests/browser)' in makefile
