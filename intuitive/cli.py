"""The `intuitive` command.

intuitive lab       copy the lessons to a folder of yours and open JupyterLab there
intuitive doctor    what is installed, what is missing and what to do about it
intuitive model     fetch the language model that the lessons look into
intuitive claims    what the papers claim, what was found here, and the verdict
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import intuitive
from intuitive.common import own_text
from intuitive.common.distribution import DISTRIBUTION
from intuitive.notebooks import START, lesson_named, that_take_text

FIRST_LESSON = f"{START}.ipynb"
MANIFEST = ".intuitive-lessons.json"  # in the learner's folder: lesson name -> hash of our copy
LAB_EXTENSIONS = {  # JupyterLab's name of the extension: the package that brings it
    "@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets",
    "anywidget": "anywidget",
}


def lessons_folder() -> Path:
    """Where the installed package (or the checkout) keeps the lessons."""
    return Path(str(files("intuitive.notebooks")))


# ------------------------------------------------------------------------------------ lab


def copy_lessons(source: Path, folder: Path) -> list[str]:
    """Bring `folder` up to date with the lessons in `source`; no change of the learner's is lost.

    A manifest in `folder` remembers the SHA-256 of every copy made, so that a copy nobody has
    changed can be replaced by a newer version. A changed lesson stays as it is and the newer
    version is put beside it as `NAME.new.ipynb`, once per version.

    Args:
        source: folder that holds `*.ipynb`.
        folder: the learner's folder; made when missing. If it is `source` itself, as in a
            checkout, there is nothing to copy.

    Returns:
        One sentence per lesson about which there is something to say.

    Raises:
        FileNotFoundError: `source` holds no lessons.
        ValueError: `folder` lies inside an installed package, or is a file.
    """
    lessons = sorted(source.glob("*.ipynb"))
    if not lessons:
        raise FileNotFoundError(
            f"no lessons (*.ipynb) in {source}: the installation is incomplete. "
            "Install the package again."
        )
    folder = folder.expanduser().resolve()
    if folder == source.resolve():
        return []
    if {"site-packages", "dist-packages"} & set(folder.parts):
        raise ValueError(
            f"--folder {folder} lies inside an installed package, where an update would "
            "delete your work. Choose a folder of your own."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--folder {folder} is a file. Name a folder, or one still to be made.")

    folder.mkdir(parents=True, exist_ok=True)
    copied = _read_manifest(folder)
    said = [
        sentence
        for lesson in lessons
        if (sentence := _copy_lesson(lesson.read_bytes(), folder, lesson.name, copied))
    ]
    (folder / MANIFEST).write_text(json.dumps(copied, indent=1) + "\n", encoding="utf-8")
    return said


def _read_manifest(folder: Path) -> dict[str, str]:
    """Hashes of our copies; a lost or damaged manifest only makes every lesson count as changed."""
    try:
        copied = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return copied if isinstance(copied, dict) else {}


def _copy_lesson(new: bytes, folder: Path, name: str, copied: dict[str, str]) -> str:
    """Copy one lesson, or its newer version beside it; the returned sentence may be empty."""
    placed = _place(new, folder / name, copied)
    if placed == "updated":
        return f"{name}: updated; you had not changed it."
    if placed != "kept":
        return ""
    beside = f"{name.removesuffix('.ipynb')}.new.ipynb"
    if _place(new, folder / beside, copied) == "kept":
        return f"{beside}: kept as you changed it; remove it to receive the newer version."
    copied[name] = _sha256(new)  # offered: the next start is silent about this version
    return f"{name}: kept as you changed it; the newer version lies beside it as {beside}."


def _place(
    new: bytes, target: Path, copied: dict[str, str]
) -> Literal["copied", "updated", "current", "kept"]:
    """Write `new` to `target` unless that would lose a change of the learner's ("kept").

    "current" means that this very version was handed out before, changed since or not.
    """
    before, new_hash = copied.get(target.name), _sha256(new)
    here = _sha256(target.read_bytes()) if target.exists() else None
    if here is not None and new_hash not in (here, before) and here != before:
        return "kept"
    copied[target.name] = new_hash
    if here is not None and new_hash in (here, before):
        return "current"
    target.write_bytes(new)
    return "copied" if here is None else "updated"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def lab(
    folder: Path,
    *,
    lesson: str = "",
    text: Path | None = None,
    browser: bool,
    jupyter_args: list[str],
) -> int:
    """Copy the lessons and run JupyterLab until it is stopped.

    Args:
        folder: the learner's.
        lesson: by paper or number; the first one by default, or the first that takes a text.
        text: the reader's own document, on which explorers that take a text start.
        browser: open one.
        jupyter_args: for JupyterLab.
    """
    taking = [] if text is None else that_take_text(lessons_folder())
    opened = lesson_named(lesson or [*taking, START][0], lessons_folder())
    if text is not None:
        if opened not in taking:
            raise ValueError(f"{opened} takes no text of yours; these do: {', '.join(taking)}.")
        text = text.expanduser().resolve()
        own_text.read(text)  # refuses what is no text before anything is done
    for argument in jupyter_args:
        if "root_dir" in argument or "notebook-dir" in argument or "notebook_dir" in argument:
            raise ValueError(f"{argument} names a folder: say --folder FOLDER instead.")
    for sentence in copy_lessons(lessons_folder(), folder):
        print(sentence)
    from jupyterlab.labapp import main as run_jupyterlab

    os.chdir(folder.expanduser())
    if text is not None:
        os.environ[own_text.TEXT_VARIABLE] = str(text)  # which its kernels inherit
        print(f"Explorers that take a text start on {text.name}, in {', '.join(taking)}.")
    print(f"JupyterLab opens {Path.cwd() / opened}; Ctrl-C stops it.", flush=True)
    arguments = [
        f"--LabApp.default_url=/lab/tree/{opened}",
        f"--ServerApp.root_dir={Path.cwd()}",  # the user's own configuration may name another
        f"--FileContentsManager.root_dir={Path.cwd()}",
        *jupyter_args,
    ]
    run_jupyterlab(arguments if browser else ["--no-browser", *arguments])
    return 0


# --------------------------------------------------------------------------------- doctor


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    `missing` is what no lesson can do without; `note` is for the rest.
    """

    state: Literal["ok", "note", "missing"]
    what: str
    found: str  # version or place; otherwise what to do

    def __str__(self) -> str:
        return f"{self.state:8}{self.what:33} {self.found}"


def doctor() -> int:
    """Print what is installed; 1 when something that the lessons need is missing, else 0."""
    missing = 0
    for check in (_python, _packages, _torch, _triton, _lab_extensions, _model, _answers):
        try:
            for finding in check():
                print(finding, flush=True)
                missing += finding.state == "missing"
        except RuntimeError as error:  # no home folder, for instance: say so and go on
            print(Finding("note", check.__name__.strip("_").replace("_", " "), str(error)))
    if missing:
        print(f"\n{missing} missing. Do what the lines above say, then run `intuitive doctor`.")
        return 1
    print("\nEverything the lessons need is here.")
    return 0


def _python() -> Iterable[Finding]:
    yield Finding("ok", "Python", f"{platform.python_version()} at {sys.executable}")


def _install(what: str) -> str:
    """The command that installs something here; not every environment is made with pip in it."""
    if importlib.util.find_spec("pip"):
        return f"pip install {what}"
    if shutil.which("uv"):
        return f"uv pip install {what}"
    return f"python -m ensurepip, then python -m pip install {what}"


def _packages() -> Iterable[Finding]:
    """Every dependency the package declares, against the version installed."""
    from packaging.requirements import Requirement

    try:
        declared = importlib.metadata.requires(DISTRIBUTION) or ()
    except importlib.metadata.PackageNotFoundError:
        remedy = f"used from {Path(__file__).parents[1]} without being installed"
        yield Finding("note", DISTRIBUTION, f"{remedy}: {_install('-e .')} there")
        return
    for line in declared:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            remedy = _install(f"'{wanted}'")
            yield Finding("missing", requirement.name, f"not installed: {remedy}")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding("ok", requirement.name, version)
        else:
            remedy = _install(f"'{wanted}'")
            yield Finding("missing", requirement.name, f"{version} is too old: {remedy}")


def _torch() -> Iterable[Finding]:
    torch, problem = _import("torch")
    if torch is None:
        remedy = _install("--upgrade torch")
        yield Finding("missing", "torch imports", f"{problem}; reinstall it: {remedy}")
    elif not torch.cuda.is_available():
        yield Finding("note", "CUDA", "no device: lessons run on the CPU, without GPU timings")
    else:
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        yield Finding(
            "ok", "CUDA", f"{torch.version.cuda} on {name} (sm_{capability[0]}{capability[1]})"
        )


def _triton() -> Iterable[Finding]:
    torch, _ = _import("torch")
    triton, problem = _import("triton")
    if triton is not None:
        yield Finding("ok", "Triton imports", triton.__version__)
        interpreting, _ = _import("intuitive.kernels.interpreting")
        fault = interpreting and interpreting.misfit()
        if fault:
            yield Finding("note", "Triton's interpreter", fault)
    elif torch is not None and torch.cuda.is_available():
        yield Finding("missing", "Triton imports", f"{problem}; the GPU kernels need it")
    else:
        yield Finding("note", "Triton imports", f"{problem}; without CUDA nothing needs it")


def _lab_extensions() -> Iterable[Finding]:
    """The JupyterLab half of the widgets: installed where this JupyterLab looks, and enabled."""
    try:
        from jupyter_core.paths import jupyter_path
        from jupyterlab_server.config import get_federated_extensions, get_page_config
    except ImportError as error:
        yield Finding("missing", "JupyterLab's extensions", f"{error}; {_install('jupyterlab')}")
        return
    places = jupyter_path("labextensions")
    present = get_federated_extensions(places)
    disabled = get_page_config(places)["disabledExtensions"]
    for name, package in LAB_EXTENSIONS.items():
        what = f"{package} in JupyterLab"
        if name not in present:
            remedy = _install(f"--force-reinstall --no-deps {package}")
            yield Finding("missing", what, f"not found: {remedy}")
        elif any(entry == name or entry.startswith(f"{name}:") for entry in disabled):
            yield Finding("missing", what, f"disabled: jupyter labextension enable {name}")
        else:
            yield Finding("ok", what, f"{present[name]['version']}, enabled")


def _model() -> Iterable[Finding]:
    smollm, problem = _import("intuitive.common.smollm")
    if smollm is None:
        yield Finding("missing", "SmolLM2-135M", f"cannot look for it: {problem}")
        return
    try:
        path = smollm.find_model()
        if path is None:
            yield Finding("note", "SmolLM2-135M", "not here; fetch it: intuitive model")
        else:
            smollm.verify_model(path)
            yield Finding("ok", "SmolLM2-135M", str(path))
    except (OSError, ValueError) as error:
        yield Finding("missing", "SmolLM2-135M", str(error))


def _answers() -> Iterable[Finding]:
    from intuitive.common.folders import data_folder

    folder = data_folder()
    if folder is None:
        yield Finding("note", "answers", "cannot store: no home folder; set HOME or INTUITIVE_HOME")
    else:
        yield Finding("ok", "answers", f"kept in {folder}")


def _import(name: str) -> tuple[object | None, str]:
    """The module, or None and why not; a broken install may raise any kind of error."""
    try:
        return importlib.import_module(name), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


# ---------------------------------------------------------------------------------- model


def model() -> int:
    """Fetch SmolLM2-135M, or find that it is here already."""
    from intuitive.common.smollm import fetch_model

    fetch_model()
    return 0


# --------------------------------------------------------------------------------- claims


def claims(paper: str | None, form: Literal["text", "json", "markdown"]) -> int:
    """Print the ledger of claims, or one paper's part of it."""
    from intuitive import claims as ledger

    told = {"text": ledger.as_text, "json": ledger.as_json, "markdown": ledger.as_page}[form]
    print(told(ledger.ledger(paper)), end="" if form == "markdown" else "\n")
    return 0


def verify(claim: str, paper: str | None) -> int:
    """Make some numbers of a row again; 1 if one comes out otherwise than it was recorded."""
    from intuitive import claims as ledger

    failed = []
    for one in ledger.quick_ids(paper) if claim == "all" else [claim]:
        checked = ledger.verify(one)
        print(ledger.as_check(one, checked), flush=True)
        failed += [one] * (not all(number.equal for number in checked))
    print(f"Otherwise than recorded: {', '.join(failed)}." if failed else "All as recorded.")
    return 1 if failed else 0


# ----------------------------------------------------------------------------------- main


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; a mistake of the user's becomes one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show stops nothing
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        prog="intuitive", description="The lessons and what they need."
    )
    parser.add_argument(
        "--version", action="version", version=f"{DISTRIBUTION} {intuitive.__version__}"
    )
    commands = parser.add_subparsers(
        required=True, dest="command", metavar="lab|doctor|model|claims"
    )
    lab_parser = commands.add_parser(
        "lab",
        help="copy the lessons to a folder of yours and open JupyterLab there",
        description="Further arguments go to JupyterLab, for instance --port 9000.",
    )
    lab_parser.add_argument(
        "--folder", type=Path, default=Path("intuitive-lessons"), help="default: %(default)s"
    )
    lab_parser.add_argument("--lesson", default="", help="which lesson to open, by name or number")
    lab_parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="start on a document of your own, in a lesson that takes one",
    )
    lab_parser.add_argument("--no-browser", action="store_true", help="only print the address")
    commands.add_parser("doctor", help="what is installed, what is missing, what to do")
    commands.add_parser("model", help="fetch the language model the lessons look into")
    claims_parser = commands.add_parser(
        "claims", help="what the papers claim, what was found here, and the verdict"
    )
    claims_parser.add_argument("--paper", help="one paper's claims alone")
    form = claims_parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all fields, for programs")
    form.add_argument("--markdown", action="store_true", help="the page docs/claims.md")
    form.add_argument(
        "--verify", metavar="ID", help="make a row's numbers again on a CPU; all: every quick row"
    )
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "lab":
        parser.error(f"unknown arguments: {' '.join(rest)}. Only `lab` passes arguments on.")

    run: dict[str, Callable[[], int]] = {
        "lab": lambda: lab(
            options.folder,
            lesson=options.lesson,
            text=options.text,
            browser=not options.no_browser,
            jupyter_args=rest,
        ),
        "doctor": doctor,
        "model": model,
        "claims": lambda: (
            verify(options.verify, options.paper)
            if options.verify
            else claims(
                options.paper,
                "json" if options.json else "markdown" if options.markdown else "text",
            )
        ),
    }
    try:
        return run[options.command]()
    except (ValueError, RuntimeError, OSError) as error:
        print(f"intuitive {options.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
