"""What all tests share: the marks that need something this machine may not have.

`gpu` tests are skipped without CUDA. `model` and `browser` tests are skipped where the model file
or the browser is absent, but fail there when the environment variable CI is set: CI has to see
everything that it can.
"""

import functools
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import checked
import pytest

checked.install()  # before anything imports the package
os.environ.setdefault("OMP_NUM_THREADS", "2")  # read when torch is first imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `import intuitive` does, if it is first

# Folders of tests whose files share a module, such as kernel_inputs.py.
for shared in sorted(Path(__file__).parent.glob("*/*.py")):
    if not shared.stem.startswith("test_") and shared.name != "conftest.py":
        sys.path.insert(0, str(shared.parent))

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """The Chromium that the browser tests drive; INTUITIVE_CHROMIUM names another."""
    named = os.environ.get("INTUITIVE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


# ------------------------------------------------------------------------- the user's own folders

OWN_FOLDERS = {"XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache", "INTUITIVE_HOME": "home"}


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything in a folder; empty where there is none."""
    found = {}
    for path in folder.rglob("*") if folder.is_dir() else ():
        about = path.stat()
        found[str(path.relative_to(folder))] = (about.st_size, about.st_mtime_ns)
    return found


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let every test, and every process that a test starts, keep things in a temporary folder."""
    import platformdirs

    from intuitive.common.smollm import find_model

    config = session.config
    named = os.environ.get("INTUITIVE_HOME")
    theirs = Path(named or platformdirs.user_data_dir("intuitive")).expanduser()
    config.user_folder, config.user_contents = theirs, contents(theirs)
    config.former = {name: os.environ.get(name) for name in (*OWN_FOLDERS, "INTUITIVE_SMOLLM_GGUF")}
    model = find_model()  # before its cache is out of sight
    if model is not None:
        os.environ["INTUITIVE_SMOLLM_GGUF"] = str(model.resolve())
    config.scratch = tempfile.TemporaryDirectory(prefix="intuitive-tests-")
    for name, sub in OWN_FOLDERS.items():
        os.environ[name] = str(Path(config.scratch.name, sub))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the whole session if the user's own folder is not as it was found."""
    config = session.config
    if not hasattr(config, "scratch"):
        return
    for name, value in config.former.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    config.scratch.cleanup()
    if contents(config.user_folder) != config.user_contents:
        print(f"\nA test wrote into the user's own folder {config.user_folder}.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# ------------------------------------------------------------------------- three workers

FIRST = ("tests/browser/", "tests/test_notebooks.py")  # the longest, so that no worker ends alone
BY_EXPLORER = "tests/widgets/test_every_"  # a test's last parameter is its explorer


def share(nodeid: str) -> str:
    """What stays with one worker: the browser tests, an explorer's, a lesson's or a file's.

    xdist's own way, the mark `xdist_group`, appends to the test's name, and pytest 9.2
    lets no plugin do that.
    """
    path, _, test = nodeid.partition("::")
    if path.startswith(FIRST[0]):
        return FIRST[0]
    if path.startswith((BY_EXPLORER, FIRST[1])) and test.endswith("]"):
        return test[test.index("[") :]
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first; within a share the order stays."""
    items.sort(key=lambda item: [not item.nodeid.startswith(first) for first in FIRST])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Give each worker whole shares, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share(nodeid)

    config.option.loadscopereorder = False  # not the share with the most tests first
    return Shares(config, log)


@functools.cache
def give_way() -> None:
    """Let a worker's tests, and what they start, wait for those in the browser.

    The browser's worker waits for pages as long as it computes: on two cores there is room for
    two workers beside it, and with this they do not make its pages late.
    """
    if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "nice"):
        os.nice(5)


# ------------------------------------------------------------------------- a million objects


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Modules and tests stay to the end: the garbage collector need not walk over them."""
    gc.disable()
    found = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return found


# ------------------------------------------------------------------------- what may be absent


@functools.cache
def _absent(mark: str) -> str | None:
    """Why tests with this mark cannot run here; None when they can."""
    if mark == "gpu":
        import torch

        return None if torch.cuda.is_available() else "no CUDA device"
    if mark == "model":
        from intuitive.common.smollm import find_model

        return None if find_model() else "no SmolLM2-135M file: run `intuitive model`"
    return None if find_browser() else f"no browser: install one of {', '.join(BROWSERS)}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.nodeid.startswith(FIRST[0]):
        give_way()
    for mark in ("gpu", "model", "browser"):
        if item.get_closest_marker(mark) is None or (reason := _absent(mark)) is None:
            continue
        if mark != "gpu" and os.environ.get("CI"):
            pytest.fail(f"{reason} (CI is set, so this is a failure)", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser, for tests marked `browser`."""
    found = find_browser()
    assert found is not None, "mark this test `browser`"
    return found


@pytest.fixture
def as_installed():
    """Without the checking of annotations that pytest switches on: what a reader's call meets."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
