"""No test may touch the folders of whoever runs it: shown on a suite of its own that does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intuitive.common import folders
from intuitive.common.smollm import find_model

TOOLS = str(Path(__file__).parents[1] / "tools")  # conftest.py finds the checks there


def test_core_8_tests_keep_their_things_in_a_temporary_folder(pytestconfig):
    scratch = Path(pytestconfig.scratch.name)
    assert folders.data_folder().is_relative_to(scratch)
    assert folders.cache_folder().is_relative_to(scratch)
    code = "from intuitive.common.folders import data_folder; print(data_folder())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(scratch)


@pytest.mark.model
def test_the_model_is_found_all_the_same():
    assert find_model().is_file()


@pytest.mark.parametrize("writes", [True, False])
def test_core_8_a_session_that_writes_into_the_users_folder_fails(tmp_path, writes):
    home = tmp_path / "home"
    home.mkdir()
    (home / "answers.json").write_text("{}")
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    body = f"open({str(home / 'answers.json')!r}, 'w').write('[]  ')" if writes else "pass"
    (suite / "test_one.py").write_text(f"def test_one():\n    {body}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)],
        cwd=suite,
        env=os.environ | {"INTUITIVE_HOME": str(home), "PYTHONPATH": TOOLS},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == (1 if writes else 0), done.stdout + done.stderr
    assert ("wrote into the user's own folder" in done.stdout) is writes
