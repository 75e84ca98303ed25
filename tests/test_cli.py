"""The `intuitive` command: copying lessons loses nothing, the doctor tells, mistakes are lines."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from intuitive import cli
from intuitive.common import own_text, smollm
from intuitive.kernels import interpreting
from intuitive.notebooks import that_take_text

# ------------------------------------------------------------------------------- lessons


@pytest.fixture
def source(tmp_path) -> Path:
    """A package with two lessons at their first version."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name in ("00_start_here.ipynb", "01_first.ipynb"):
        (folder / name).write_text(f"{name} v1")
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "learner" / "lessons"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.ipynb")}


def test_first_copy_is_complete_and_silent(source, folder):
    assert cli.copy_lessons(source, folder) == []
    assert contents(folder) == contents(source)


def test_second_copy_changes_nothing(source, folder):
    cli.copy_lessons(source, folder)
    (folder / "01_first.ipynb").write_text("my own")
    before = contents(folder)
    assert cli.copy_lessons(source, folder) == []
    assert contents(folder) == before


def test_unchanged_lesson_is_updated_and_changed_one_is_kept(source, folder):
    cli.copy_lessons(source, folder)
    (folder / "01_first.ipynb").write_text("my own")
    for name in contents(source):
        (source / name).write_text(f"{name} v2")
    assert cli.copy_lessons(source, folder) == [
        "00_start_here.ipynb: updated; you had not changed it.",
        "01_first.ipynb: kept as you changed it; "
        "the newer version lies beside it as 01_first.new.ipynb.",
    ]
    assert contents(folder) == {
        "00_start_here.ipynb": "00_start_here.ipynb v2",
        "01_first.ipynb": "my own",
        "01_first.new.ipynb": "01_first.ipynb v2",
    }
    assert cli.copy_lessons(source, folder) == []  # each version is offered once


def test_newer_version_beside_is_replaced_by_the_next_unless_changed(source, folder):
    cli.copy_lessons(source, folder)
    (folder / "01_first.ipynb").write_text("my own")
    beside = folder / "01_first.new.ipynb"
    for version in ("v2", "v3"):
        (source / "01_first.ipynb").write_text(version)
        cli.copy_lessons(source, folder)
        assert beside.read_text() == version
    beside.write_text("mine too")
    (source / "01_first.ipynb").write_text("v4")
    for _ in range(2):  # said until the way is free
        (sentence,) = cli.copy_lessons(source, folder)
        assert "01_first.new.ipynb: kept as you changed it; remove it" in sentence
    assert contents(folder)["01_first.ipynb"] == "my own"
    assert beside.read_text() == "mine too"
    beside.unlink()
    cli.copy_lessons(source, folder)
    assert beside.read_text() == "v4"


def test_removed_lesson_comes_back(source, folder):
    cli.copy_lessons(source, folder)
    (folder / "01_first.ipynb").unlink()
    assert cli.copy_lessons(source, folder) == []
    assert contents(folder) == contents(source)


@pytest.mark.parametrize("damage", [None, "{", "[]"], ids=["lost", "broken", "another kind"])
def test_without_its_manifest_nothing_is_overwritten(source, folder, damage):
    cli.copy_lessons(source, folder)
    manifest = folder / cli.MANIFEST
    manifest.unlink() if damage is None else manifest.write_text(damage)
    (source / "01_first.ipynb").write_text("v2")
    cli.copy_lessons(source, folder)
    assert contents(folder)["01_first.ipynb"] == "01_first.ipynb v1"
    assert contents(folder)["01_first.new.ipynb"] == "v2"


def test_lessons_run_in_place_in_a_checkout(source):
    assert cli.copy_lessons(source, source) == []
    assert not (source / cli.MANIFEST).exists()


@pytest.mark.parametrize("inside", ["site-packages", "dist-packages"])
def test_a_folder_of_an_installed_package_is_refused(source, tmp_path, inside):
    with pytest.raises(ValueError, match=r"inside an installed package.*Choose a folder"):
        cli.copy_lessons(source, tmp_path / inside / "lessons")


def test_a_file_is_refused(source, tmp_path):
    (tmp_path / "notes").touch()
    with pytest.raises(ValueError, match=r"notes is a file\. Name a folder"):
        cli.copy_lessons(source, tmp_path / "notes")


def test_a_package_without_lessons_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no lessons .* Install the package again"):
        cli.copy_lessons(tmp_path, tmp_path / "lessons")


# ----------------------------------------------------------------------------------- lab


@pytest.fixture
def jupyterlab(source, monkeypatch) -> list:
    """Stands in for JupyterLab: records the folder and the arguments it was started with."""
    started = []
    monkeypatch.setattr(cli, "lessons_folder", lambda: source)
    monkeypatch.setattr(
        "jupyterlab.labapp.main", lambda arguments: started.append((Path.cwd(), arguments))
    )
    monkeypatch.chdir(source.parent)  # put back afterwards, wherever lab() went
    return started


def test_lab_starts_on_the_first_lesson_in_a_folder_of_ones_own(jupyterlab, tmp_path):
    assert cli.main(["lab"]) == 0
    ((folder, given),) = jupyterlab
    assert folder == tmp_path / "intuitive-lessons"
    assert given[0] == "--LabApp.default_url=/lab/tree/00_start_here.ipynb"


@pytest.mark.parametrize("name", ["1", "01", "first", "FIRST", "fir", "01_first", "01_first.ipynb"])
def test_lab_opens_the_lesson_that_is_named(jupyterlab, name):
    assert cli.main(["lab", "--lesson", name]) == 0
    ((_, given),) = jupyterlab
    assert given[0] == "--LabApp.default_url=/lab/tree/01_first.ipynb"


@pytest.mark.parametrize("name", ["2", "second", "01_", ".ipynb"])
def test_lab_names_its_lessons_to_who_names_another(jupyterlab, capsys, name):
    assert cli.main(["lab", "--lesson", name]) == 1
    told = f"--lesson {name} is no lesson; choose one of 0 or start_here, 1 or first."
    assert told in capsys.readouterr().err
    assert jupyterlab == []


@pytest.fixture
def letter(source, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(own_text.TEXT_VARIABLE, "")  # taken back afterwards
    for name, takes in (("00_start_here", False), ("01_first", True)):
        metadata = {"intuitive": {"takes_text": True}} if takes else {}
        (source / f"{name}.ipynb").write_text(json.dumps({"metadata": metadata}))
    (tmp_path / "letter.txt").write_text("Dear reader")
    return tmp_path / "letter.txt"


@pytest.mark.parametrize("lesson", [[], ["--lesson", "first"]])
def test_lab_hands_the_readers_document_to_the_kernels(jupyterlab, letter, lesson, capsys):
    assert cli.main(["lab", *lesson, "--text", "letter.txt", "--folder", "deep/er"]) == 0
    ((_, given),) = jupyterlab
    assert given[0] == "--LabApp.default_url=/lab/tree/01_first.ipynb"
    assert os.environ[own_text.TEXT_VARIABLE] == str(letter)  # from wherever a kernel runs
    assert letter.read_text() == "Dear reader"
    assert "start on letter.txt, in 01_first.ipynb." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--lesson", "0"],
            "00_start_here.ipynb takes no text of yours; these do: 01_first.ipynb.",
        ),
        (["--text", "other.txt"], "other.txt cannot be read (No such file or directory)"),
    ],
)
def test_lab_refuses_a_document_before_it_copies_anything(
    jupyterlab, letter, arguments, told, capsys, tmp_path
):
    assert cli.main(["lab", "--text", "letter.txt", *arguments]) == 1
    assert told in capsys.readouterr().err
    assert jupyterlab == []
    assert not (tmp_path / "intuitive-lessons").exists()


def test_lessons_say_that_they_take_a_text_where_their_explorers_do():
    takes = []
    for lesson in sorted(cli.lessons_folder().glob("*.ipynb")):
        cells = json.loads(lesson.read_text("utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        for paper, names in re.findall(r"from intuitive\.widgets\.(\w+) import (.+)", code):
            folder = Path(str(files(f"intuitive.widgets.{paper}")))
            modules = [folder / f"{name}.py" for name in re.findall(r"\w+", names)]
            if any("opens=" in m.read_text("utf-8") for m in modules if m.is_file()):
                takes.append(lesson.name)
    assert sorted(set(takes)) == that_take_text(cli.lessons_folder())


def test_fault_c_a_folder_in_the_arguments_is_refused(jupyterlab, capsys):
    assert cli.main(["lab", "--ServerApp.root_dir=/tmp"]) == 1
    assert "say --folder FOLDER instead" in capsys.readouterr().err
    assert jupyterlab == []


def test_lab_passes_further_arguments_on(jupyterlab, tmp_path):
    arguments = ["lab", "--folder", str(tmp_path / "here"), "--no-browser", "--port", "9000"]
    assert cli.main(arguments) == 0
    ((folder, given),) = jupyterlab
    assert folder == tmp_path / "here"
    assert given[0] == "--no-browser"
    assert given[-2:] == ["--port", "9000"]


def test_lab_refuses_in_one_line(jupyterlab, tmp_path, capsys):
    assert cli.main(["lab", "--folder", str(tmp_path / "site-packages")]) == 1
    assert capsys.readouterr().err.startswith("intuitive lab: --folder ")
    assert jupyterlab == []


def test_other_commands_take_no_further_arguments(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["doctor", "--port", "9000"])
    assert "Only `lab` passes arguments on" in capsys.readouterr().err


@pytest.mark.skipif(
    not list(cli.lessons_folder().glob("*.ipynb")), reason="the package has no lessons"
)
def test_fault_c_lab_serves_the_lessons_that_it_announces(tmp_path):
    """The real JupyterLab, on a free port, hands out the copy of the first lesson."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("intuitive")), "lab", "--no-browser"]
    command += ["--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=word"]
    isolated = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "RUNTIME")}
    (tmp_path / "CONFIG").mkdir()  # fault C: the user's configuration names other folders
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "CONFIG" / "jupyter_server_config.py").write_text(
        f"c.ServerApp.root_dir = c.FileContentsManager.root_dir = {str(tmp_path / 'elsewhere')!r}\n"
    )
    server = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | isolated, stderr=subprocess.PIPE, text=True
    )
    try:
        site = f"http://127.0.0.1:{port}"
        lesson = json.loads(wait_for(f"{site}/api/contents/{cli.FIRST_LESSON}?token=word", server))
        with urllib.request.urlopen(f"{site}/?token=word") as front:
            opened = front.geturl()
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert lesson["type"] == "notebook"
    assert f"/lab/tree/{cli.FIRST_LESSON}" in opened
    assert (tmp_path / "intuitive-lessons" / cli.FIRST_LESSON).exists()


def wait_for(address: str, server: subprocess.Popen, seconds: float = 60) -> bytes:
    """What the server answers, once it does."""
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            return urllib.request.urlopen(address, timeout=10).read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.2)
    server.kill()
    raise AssertionError(f"no answer from {address}: {server.communicate()[1][-3000:]}")


def test_the_package_runs_as_a_module(tmp_path):
    """`python -m intuitive` is the command: its help, its mistakes, its exit code."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "intuitive", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert run("--help").stdout.startswith("usage: intuitive ")
    wrong = run("lab", "--lesson", "nine")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("intuitive lab: --lesson nine is no lesson; choose one of 0 or")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------- doctor


def test_doctor_finds_this_environment_in_order(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "missing " not in out
    for what in ("Python", "torch", "triton", "CUDA", "anywidget in JupyterLab", "SmolLM2-135M"):
        assert any(f" {what} " in line for line in out.splitlines()), what


def test_doctor_fails_on_a_missing_package(monkeypatch, capsys):
    monkeypatch.setattr(
        cli.importlib.metadata,
        "requires",
        lambda name: ["no-such-package>=2", "numpy>=999", "absent; platform_system == 'Nowhere'"],
    )
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "not installed: pip install 'no-such-package>=2'" in out
    assert "is too old: pip install 'numpy>=999'" in out
    assert "absent" not in out
    assert "2 missing" in out


@pytest.mark.parametrize(
    ("uv", "remedy"),
    [
        ("/usr/bin/uv", "not installed: uv pip install 'no-such-package>=2'"),
        (None, "python -m ensurepip, then python -m pip install 'no-such-package>=2'"),
    ],
)
def test_doctor_knows_a_remedy_where_there_is_no_pip(monkeypatch, capsys, uv, remedy):
    monkeypatch.setattr(cli.importlib.metadata, "requires", lambda name: ["no-such-package>=2"])
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cli.shutil, "which", lambda name: uv)
    assert cli.main(["doctor"]) == 1
    assert remedy in capsys.readouterr().out


def test_doctor_fails_on_a_missing_or_disabled_extension(monkeypatch, capsys):
    monkeypatch.setattr(cli, "LAB_EXTENSIONS", {"no-such-extension": "that_package"})
    assert cli.main(["doctor"]) == 1
    assert "not found: pip install --force-reinstall --no-deps that_package" in (
        capsys.readouterr().out
    )
    monkeypatch.setattr(cli, "LAB_EXTENSIONS", {"anywidget": "anywidget"})
    monkeypatch.setattr(
        "jupyterlab_server.config.get_page_config",
        lambda places: {"disabledExtensions": ["anywidget"]},
    )
    assert cli.main(["doctor"]) == 1
    assert "disabled: jupyter labextension enable anywidget" in capsys.readouterr().out


def test_doctor_reports_a_torch_that_does_not_import(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [finding.state for finding in cli._torch()] == ["missing"]
    assert "reinstall it" in next(iter(cli._torch())).found


def test_doctor_needs_triton_only_with_cuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    for cuda, state in ((False, "note"), (True, "missing")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert [finding.state for finding in cli._triton()] == [state]


@pytest.mark.parametrize(
    ("triton_version", "numpy_version", "fits"),
    [("3.6.0", "2.4.6", False), ("3.6.0", "2.3.5", True), ("3.7.1", "2.5.2", True)],
)
def test_doctor_tells_of_a_triton_that_cannot_interpret(
    triton_version, numpy_version, fits, monkeypatch
):
    if interpreting.dispatch.TRITON_INSTALLED is False:
        pytest.skip("Triton is not installed")
    installed = {"triton": triton_version, "numpy": numpy_version}
    monkeypatch.setattr(interpreting, "version", installed.__getitem__)
    found = list(cli._triton())
    assert [finding.state for finding in found] == ["ok"] + ["note"] * (not fits)
    if not fits:
        assert "numpy<2.4" in found[-1].found
        with pytest.raises(RuntimeError, match=r"triton>=3\.7 or numpy<2\.4"):
            interpreting.elsewhere("intuitive.kernels.interpreting")


def test_doctor_does_without_the_model(monkeypatch, capsys):
    monkeypatch.setattr(smollm, "find_model", lambda: None)
    assert cli.main(["doctor"]) == 0
    assert "intuitive model" in capsys.readouterr().out


def test_doctor_fails_on_a_damaged_model(monkeypatch, capsys, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"cut off")
    monkeypatch.setattr(smollm, "find_model", lambda: tmp_path / "model.gguf")
    assert cli.main(["doctor"]) == 1
    assert "has 7 bytes" in capsys.readouterr().out


# --------------------------------------------------------------------------------- model


def test_model_is_fetched(monkeypatch, capsys):
    monkeypatch.setattr(smollm, "fetch_model", lambda: print("fetched"))
    assert cli.main(["model"]) == 0
    assert capsys.readouterr().out == "fetched\n"


def test_model_that_cannot_be_fetched_is_one_line(monkeypatch, capsys):
    def offline():
        raise RuntimeError("no network")

    monkeypatch.setattr(smollm, "fetch_model", offline)
    assert cli.main(["model"]) == 1
    assert capsys.readouterr().err == "intuitive model: no network\n"
