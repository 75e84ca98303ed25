"""What the tests of MSA share: a home of their own, explorers that are closed, no model file."""

import pytest

from intuitive.common import smollm


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


@pytest.fixture
def no_model(monkeypatch):
    """As on a machine without the model file."""

    def load(*_, **__):
        raise smollm.ModelMissing(smollm.MISSING_MODEL_SENTENCE)

    monkeypatch.setattr(smollm, "find_model", lambda: None)
    monkeypatch.setattr(smollm, "load_smollm2", load)


@pytest.fixture
def opened():
    """Makes explorers, and closes them after the test."""
    made = []

    def make(maker, **values):
        made.append(maker(**values))
        return made[-1]

    yield make
    for explorer in made:
        explorer.close()


@pytest.fixture
def settle():
    """Moves controls of an explorer and waits for the picture."""

    def move(explorer, **values):
        explorer.set(**values)
        assert explorer.wait(120)
        return explorer

    return move
