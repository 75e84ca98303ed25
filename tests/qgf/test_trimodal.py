"""The tri-modal flow: settings, the record behind the explorer, what is drawn and said."""

from dataclasses import replace

import numpy as np
import pytest

from intuitive.common.runtime import Cancelled
from intuitive.qgf.experiments import trimodal
from intuitive.qgf.guidance import ESTIMATORS
from intuitive.qgf.trimodal import PRESETS, TrimodalParams

SMALL = replace(PRESETS["B"], n_particles=1000)


# ------------------------------------------------------------------------------- the settings


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_as_text(preset):
    assert TrimodalParams.from_text(PRESETS[preset].to_text()) == PRESETS[preset]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "D"}, "preset='D': choose one of"),
        ({"critic": "cubic"}, "critic='cubic'"),
        ({"estimator": "dps"}, "estimator='dps'"),
        ({"second": "dps"}, "second='dps'.*none"),
        ({"schedule": "linear"}, "schedule='linear'"),
        ({"peak": 9.0}, r"peak=9.0 must lie in \[-4, 4\]"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"width": 0.0}, "width=0.0"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"n_particles": 5}, "n_particles=5"),
        ({"time": 1.5}, "time=1.5"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrimodalParams(**change)


def test_stability_number_of_spec_b():
    """The bump bends the critic too, but not where the data is."""
    number = replace(PRESETS["B"], weight=2.0).stability
    assert number == pytest.approx(2 / 10 / 0.35**2, rel=0.01)
    assert replace(PRESETS["A"], weight=10.0).stability == pytest.approx(2.0, rel=1e-3)


# --------------------------------------------------------------------------------- the record


@pytest.mark.parametrize("preset", PRESETS)
def test_the_exact_answer_is_a_density_at_every_time(preset):
    setting = replace(PRESETS[preset], n_particles=500, estimator="bc")
    for t in (0.0, 0.3, 0.8, 1.0):
        result = trimodal.run(replace(setting, time=t))
        assert result.frame_times[result.frame] == pytest.approx(t)
        for density in (result.density, result.tilted):
            # a little of the noise lies beyond the view
            assert np.trapezoid(density, result.x) == pytest.approx(1, abs=0.005)
    np.testing.assert_allclose(np.trapezoid(result.fine_tilted, result.fine), 1, atol=1e-6)
    at_fine = np.interp(result.x, result.fine, result.fine_tilted)
    np.testing.assert_allclose(result.tilted, at_fine, atol=0.02 * at_fine.max())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_run_counts_all_its_particles(estimator):
    result = trimodal.run(replace(SMALL, estimator=estimator))
    (run,) = result.runs
    assert sum(run.mode_masses) + run.off_mode == pytest.approx(1)
    width = np.diff(result.final_edges)[0]
    assert run.histogram.sum() * width == pytest.approx(1 - run.outside, abs=1e-9)
    assert run.trajectory.shape == (11, 300) and len(run.query_times) == len(run.queries)
    assert run.velocity.shape == run.guidance.shape == (len(result.map_x), 10)
    assert run.marginals.shape == (11, len(result.bin_edges) - 1)
    np.testing.assert_array_equal(run.trajectory[-1], run.actions[:300])
    assert run.ms > 0 and run.passes >= 10
    assert not run.actions.flags.writeable


def test_two_estimators_stand_side_by_side_on_the_same_noise():
    result = trimodal.run(replace(SMALL, estimator="qgf", second="ood"))
    qgf, ood = result.runs
    assert (qgf.estimator, ood.estimator) == ("qgf", "ood")
    np.testing.assert_array_equal(qgf.trajectory[0], ood.trajectory[0])
    np.testing.assert_array_equal(ood.queries, ood.trajectory[:-1])


def test_without_weight_the_map_is_the_field_and_the_tilt_the_data():
    result = trimodal.run(replace(SMALL, weight=0.0))
    assert (result.runs[0].guidance == 0).all()
    np.testing.assert_allclose(result.fine_tilted, result.fine_density, atol=1e-6)
    assert result.tilt_return == pytest.approx(result.bc_return)
    assert abs(result.runs[0].kl_to_bc - result.runs[0].kl_to_tilt) < 1e-6


def test_looking_at_another_time_samples_nothing_anew():
    first, later = (trimodal.run(replace(SMALL, time=t)) for t in (0.2, 0.8))
    assert first.runs is later.runs and later.params.time == 0.8
    assert later.tilted.max() > 1.5 * first.tilted.max()  # noise is wider than the modes


def test_many_steps_are_shown_by_few():
    result = trimodal.run(replace(SMALL, n_steps=60, n_particles=200))
    assert len(result.frame_times) == 21 and len(result.map_times) == 40
    assert result.frame_times[0] == 0 and result.frame_times[-1] == 1


def test_a_stale_request_stops():
    with pytest.raises(Cancelled):
        trimodal.run(replace(SMALL, seed=99), stale=lambda: True)
