"""What a mark does where its need is absent: a skip for a person, a failure for CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def outcome(folder: Path, mark: str, **env: str) -> str:
    """Closing report of one passing test with this mark, on a machine without browser or GPU."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu:\n  model:\n  browser:\n")
    (folder / "test_it.py").write_text(
        f"import pytest\n\n@pytest.mark.{mark}\ndef test_it():\n    pass\n"
    )
    bare = {"PATH": str(folder), "PYTEST_ADDOPTS": "", "CUDA_VISIBLE_DEVICES": "", "CI": ""}
    bare |= {"INTUITIVE_CHROMIUM": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
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
    package = tmp_path / "intuitive/common"  # stands in for the real one, and finds no model
    package.mkdir(parents=True)
    (package / "smollm.py").write_text("def find_model():\n    return None\n")
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    report = outcome(tmp_path, "model", CI=ci, PYTHONPATH=str(tmp_path))
    assert "no SmolLM2-135M file: run `intuitive model`" in report
    assert ("1 error" if ci else "1 skipped") in report
