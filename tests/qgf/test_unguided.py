"""A flow without a critic: what the lesson's first steps say of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from intuitive.qgf.experiments import particle
from intuitive.qgf.experiments.particle import ParticleParams
from intuitive.qgf.trimodal import MEANS
from intuitive.widgets.kit import chosen
from intuitive.widgets.qgf import unguided as shown

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_particle_begins_at_the_mean_and_parts_late(seed):
    found = particle.run(ParticleParams(estimator="bc", n_particles=4000, seed=seed))
    mean = sum(found.means) / 3
    assert found.walk.estimate[0] == pytest.approx(mean, abs=1e-9)
    assert np.min(np.abs(mean - np.array(found.means))) > 3 * found.std  # nobody ever took it
    assert found.swarm.x[5].std() < 0.8 * found.swarm.x[-1].std()
    assert found.swarm.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=0.06)
    assert found.swarm.off_mode < 0.05


def test_the_lesson_names_the_habits_where_they_are():
    lesson = json.loads((ROOT / "notebooks/06_qgf.ipynb").read_text(encoding="utf-8"))
    (told,) = ("".join(c["source"]) for c in lesson["cells"] if c["id"] == "qgf-01a")
    for mean in MEANS["A"]:
        assert f"near {chosen(mean)}," in told or f"near {chosen(mean)}." in told


def test_no_control_of_the_critic_is_in_sight():
    explorer = shown.explorer()
    seen = [c.name for c in explorer.declaration.controls if not c.more]
    assert seen == ["start", "n_steps", "seed"]
    keys = {m.key for f in explorer.view.timeline.frames for m in f.scene.marks}
    assert not keys & {"critic", "peak", "tilt"}
    first = explorer.view.timeline.frames[1].scene  # the jump from t = 0
    assert first["mean"].y == pytest.approx(first["jump"].y2)
    explorer.close()


# ------------------------------------------------------------------------------ steps and claims


def the_data_are_three_hills(seen) -> None:
    assert seen.values["estimator"] == "bc" and "·" not in seen.readouts["swarm in the modes, %"]


def it_heads_for_the_mean_and_ends_in_a_hill(seen) -> None:
    assert "in the mode at −2" in seen.sentences[-1]
    assert seen.readouts["swarm in the modes, %"].count("·") == 2


def from_another_start_it_ends_in_another_hill(seen) -> None:
    assert seen.values["start"] == 0.8 and "in the mode at 2" in seen.sentences[-1]


STEPS = (
    the_data_are_three_hills,
    it_heads_for_the_mean_and_ends_in_a_hill,
    from_another_start_it_ends_in_another_hill,
)
