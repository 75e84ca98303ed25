"""Ready for where readers are: recipes, versions and templates agree with each other."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import intuitive
from intuitive import cli
from intuitive.widgets.kit import assets, showing

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def text(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


# ------------------------------------------------------------------------------- recipes


def recipes() -> dict[str, str]:
    """What each recipe installs from, by its file; the development container uses Dockerfile."""
    hub = re.search(r"```dockerfile\n(.+?)```", text("docs/teaching.md"), re.DOTALL)[1]
    return {
        "Dockerfile": text("Dockerfile"),
        ".devcontainer/devcontainer.json": text(".devcontainer/devcontainer.json"),
        ".binder/requirements.txt": text(".binder/requirements.txt"),
        "docs/teaching.md": hub,
        "Makefile": text("Makefile"),
    }


@pytest.mark.parametrize("file", recipes())
def test_every_recipe_installs_from_the_same_constraints(file):
    named = re.findall(r"-c (\S+\.txt)", recipes()[file])
    assert named, f"{file} installs without constraints"
    assert {Path(name).name for name in named} == {"constraints.txt"}
    beside = (ROOT / file).parent
    for name in named:
        if name.startswith("../"):  # from where the recipe lies
            assert (beside / name).resolve() == ROOT / "constraints.txt"


def test_recipes_take_a_python_that_the_tests_run_on():
    docker = re.findall(r"^FROM python:([\d.]+)", text("Dockerfile"), re.M)
    binder = re.findall(r"python-([\d.]+)", text(".binder/runtime.txt"))
    assert docker == binder and len(docker) == 1
    tested = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["test"]["strategy"]
    assert docker[0] in tested["matrix"]["python"]
    assert all(python in SpecifierSet(PROJECT["requires-python"]) for python in docker)


def test_the_development_container_is_the_container():
    made = json.loads(text(".devcontainer/devcontainer.json"))
    assert (ROOT / ".devcontainer" / made["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (ROOT / ".devcontainer" / made["build"]["context"]).resolve() == ROOT


def test_the_recipes_commands_exist():
    words = text("Dockerfile") + text(".binder/postBuild")
    for command in set(re.findall(r"\bintuitive (lab|doctor|model|\w+)\b", words)):
        assert command in ("lab", "doctor", "model"), command
    assert re.search(r'"intuitive", "lab"', words)
    assert (ROOT / ".binder/postBuild").stat().st_mode & 0o100


def test_constraints_pin_what_the_project_names():
    pinned = {
        canonicalize_name(line.partition("==")[0]): line.strip().partition("==")[2]
        for line in text("constraints.txt").splitlines()
        if not line.startswith("#")
    }
    wanted = [*PROJECT["dependencies"]]
    for extra in ("apps", "test"):
        wanted += PROJECT["optional-dependencies"][extra]
    for line in wanted:
        need = Requirement(line)
        assert pinned.get(canonicalize_name(need.name), "absent") in need.specifier, line


def test_what_the_apps_need_is_tested():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["apps"]) <= set(extras["test"])


# ----------------------------------------------------------------------------- a release


def test_one_name_and_one_version_everywhere():
    assert PROJECT["name"] == cli.DISTRIBUTION
    citation = yaml.safe_load(text("CITATION.cff"))
    newest = re.search(r"^## (\S+?),", text("CHANGELOG.md"), re.M)[1]
    assert {PROJECT["version"], intuitive.__version__, citation["version"], newest} == {newest}
    told = subprocess.run(
        [sys.executable, "-m", "intuitive", "--version"], capture_output=True, text=True
    )
    assert told.stdout == f"{PROJECT['name']} {PROJECT['version']}\n"
    assert f"pip install {PROJECT['name']}" in text("README.md")


def test_the_citation_has_what_its_format_asks_for():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert {"message", "title", "authors"} <= set(citation)
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert citation["license"] in PROJECT["license"]


FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_issue_forms_have_what_the_code_host_asks_for(form):
    made = yaml.safe_load(form.read_text("utf-8"))
    if form.name == "config.yml":
        assert set(made) <= {"blank_issues_enabled", "contact_links"}
        return
    assert made["name"] and made["description"]
    fields = [part for part in made["body"] if part["type"] != "markdown"]
    assert fields
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))
    for field in fields:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
        assert field["type"] != "dropdown" or len(field["attributes"]["options"]) > 1


def test_the_doctor_of_a_bare_checkout_says_that_it_is_one(monkeypatch):
    monkeypatch.setattr(cli, "DISTRIBUTION", "no-such-distribution")
    (finding,) = cli._packages()
    assert finding.state == "note"
    assert "without being installed" in finding.found


# -------------------------------------------------------------------- notebooks elsewhere

FAKE_COLAB = """
import sys, types
asked = []
if {colab}:
    output = types.ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: asked.append("asked")
    colab, google = types.ModuleType("google.colab"), types.ModuleType("google")
    google.colab, colab.output = colab, output
    sys.modules |= {{"google": google, "google.colab": colab, "google.colab.output": output}}
from intuitive.widgets.kit import CheckYourself
question = CheckYourself(name="x", question="?", choices=("a", "b"), answer=lambda: (0, "."))
before = list(asked)
question._ipython_display_()
print(before == asked, len(asked))
"""


@pytest.mark.parametrize(("colab", "times"), [(True, 1), (False, 0)])
def test_colab_is_asked_to_let_our_widgets_in_before_the_first_is_shown(colab, times, tmp_path):
    """By anywidget, when a widget is made: no cell of a lesson has to."""
    done = subprocess.run(
        [sys.executable, "-c", FAKE_COLAB.format(colab=colab)],
        env=os.environ | {"INTUITIVE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == [f"True {times}"], done.stderr


def test_what_colab_has_to_be_given_is_what_it_lacks():
    """The page's command for Colab names every dependency that it does not say is there."""
    page = text("docs/where.md")
    given = re.search(r"^%pip install --quiet (anywidget .+)$", page, re.M)[1].split()
    there = re.search(r"Colab has (.+?) of its own", page)[1]
    names = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    listed = {canonicalize_name(re.match(r"[\w-]+", part)[0]) for part in given}
    own = {canonicalize_name(name) for name in re.findall(r"`([\w-]+)`", there)}
    assert listed | own == names
    assert not listed & own
    for part in given:
        assert part in PROJECT["dependencies"] or re.fullmatch(r"[\w-]+", part), part


LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_is_a_notebook_that_any_front_end_opens(lesson):
    made = nbformat.read(lesson, as_version=nbformat.NO_CONVERT)
    nbformat.validate(made)
    assert (made.nbformat, made.metadata.kernelspec.name) == (4, "python3")
    assert made.metadata.language_info.name == "python"  # VS Code chooses the language by it
    ids = [cell.id for cell in made.cells]
    assert len(ids) == len(set(ids))


# What only JupyterLab's page offers to a widget's module; VS Code, Colab and the book have none.
ONLY_JUPYTERLAB = (
    *("jupyterapp", "_JUPYTERLAB", "jupyterlab", "requirejs", "require(", "IPython"),
    *("context.sessionContext", "nbextension", "define("),
)


@pytest.mark.parametrize("name", ["EXPLORER_JS", "QUESTION_JS", "RUNTIME_JS"])
def test_a_widgets_module_asks_its_page_for_nothing_of_jupyterlabs(name):
    source = re.sub(r"//.*|/\*.*?\*/", "", getattr(assets, name))
    assert [word for word in ONLY_JUPYTERLAB if word in source] == []
    asked = set(re.findall(r"\bmodel\.(\w+)", source))
    assert asked <= {"get", "set", "on", "off", "send", "save_changes", "widget_manager"}


def test_a_cell_shows_a_widget_by_the_mime_type_that_every_front_end_knows():
    outputs = showing.outputs("In words.", None, "an-id")
    assert [sorted(bundle) for bundle in outputs] == [
        ["text/plain"],
        ["text/html", "text/plain"],
        ["application/vnd.jupyter.widget-view+json"],
    ]
    view = outputs[-1]["application/vnd.jupyter.widget-view+json"]
    assert view == {"version_major": 2, "version_minor": 0, "model_id": "an-id"}
