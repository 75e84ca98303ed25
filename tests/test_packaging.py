"""The wheel holds everything and works where the repository is not; importing is cheap."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {  # folder of the repository: folder of the wheel
    "intuitive": "intuitive",
    "kernels": "intuitive/kernels",
    "widgets": "intuitive/widgets",
    "notebooks": "intuitive/notebooks",
    "benchmarks/results": "intuitive/results",
}


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Standard output of a command that has to succeed, apart from the caller's Python paths."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=inherited | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """A copy of what git would hand out, so that nothing built earlier creeps into the wheel."""
    copy = tmp_path_factory.mktemp("sources")
    listing = run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT
    ).split("\0")
    for name in listing:
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def wheel(sources, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "--quiet", "--wheel-dir", out, ".", cwd=sources,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """bin folder of an environment with the wheel and its dependencies, but not the repository.

    The dependencies are those of the running environment, seen through a .pth file; .pth files
    are not followed twice, so an editable install of the repository stays out of sight.
    """
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder / "venv")}))
    python = scripts / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
        "--quiet", wheel, cwd=folder,
    )  # fmt: skip
    (purelib,) = (folder / "venv").glob("**/site-packages")
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def test_every_folder_of_modules_is_a_declared_package(sources):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        ".".join([inside.replace("/", "."), *init.parent.relative_to(sources / folder).parts])
        for folder, inside in FOLDERS.items()
        for init in (sources / folder).rglob("__init__.py")
    }
    assert set(declared["packages"]) == found


def test_wheel_holds_every_file_of_the_package(sources, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"{inside}/{path.relative_to(sources / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for path in (sources / folder).rglob("*")
        if path.is_file()
    }
    assert wanted - names == set()
    kept = {name for name in names if ".dist-info/" not in name}
    assert kept - wanted == set(), "the wheel holds files that the repository does not"
    for licence in ("LICENSE", "NOTICE.md"):
        assert any(name.endswith(f".dist-info/licenses/{licence}") for name in names)


def test_the_wheel_is_light(wheel):
    """What the default lessons need comes with it; the language model is fetched by a command."""
    assert wheel.name.startswith("intuitive_lessons-")
    assert wheel.stat().st_size < 60e6


def test_installed_wheel_works_away_from_the_repository(installed, tmp_path):
    program = """
import importlib, json
rooms = ("", ".common", ".kernels", ".widgets", ".widgets.catalogue", ".notebooks", ".cli")
print(json.dumps([importlib.import_module("intuitive" + room).__file__ for room in rooms]))
"""
    places = json.loads(run(installed / "python", "-I", "-c", program, cwd=tmp_path))
    assert all(Path(place).is_relative_to(installed.parent) for place in places), places
    assert "lab" in run(installed / "intuitive", "--help", cwd=tmp_path)


def test_kernels_import_without_triton(installed, tmp_path):
    program = """
import sys
sys.modules["triton"] = None
import importlib, intuitive, intuitive.kernels, pkgutil
for room in pkgutil.iter_modules(intuitive.__path__):
    if room.ispkg:
        importlib.import_module(f"intuitive.{room.name}")
"""
    run(installed / "python", "-c", program, cwd=tmp_path)


def fastest_import(python: Path, module: str, cwd: Path) -> float:
    """Seconds that `import module` takes in a fresh interpreter: the least of five."""
    program = f"from time import perf_counter as t; s = t(); import {module}; print(t() - s)"
    return min(float(run(python, "-c", program, cwd=cwd)) for _ in range(5))


def test_import_is_cheap(installed, tmp_path):
    python = installed / "python"
    limit = 2 * fastest_import(python, "numpy", tmp_path) + 0.1
    assert fastest_import(python, "intuitive", tmp_path) < limit


@pytest.mark.parametrize("module", ["intuitive", "intuitive.cli"])
def test_import_loads_nothing_heavy(installed, tmp_path, module):
    program = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run(installed / "python", "-c", program, cwd=tmp_path)))
    assert loaded & {"torch", "plotly", "numpy", "triton", "ipywidgets", "jupyterlab"} == set()
