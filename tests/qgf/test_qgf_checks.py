"""What callers may pass: whole numbers of other libraries, and clear answers to the rest."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.qgf import GaussianMixture, QuadraticCritic, sample_guided

WITHOUT_TYPE_CHECKS = """
import numpy as np, torch
from intuitive.common.runtime import seeded
from intuitive.qgf import GaussianMixture, QuadraticCritic, TrimodalParams, sample_guided
from intuitive.qgf.experiments.backprop import BackpropParams
from intuitive.qgf.experiments.frontier import FrontierParams
from intuitive.qgf.experiments.particle import ParticleParams
from intuitive.qgf.experiments.policies import PolicyParams
from intuitive.qgf.experiments.ring import RingParams
from intuitive.qgf.fork import ForkWorld
from intuitive.qgf.iql import IQLConfig

def refused(make):
    try:
        make()
    except ValueError as error:
        print(error)

PARAMS = TrimodalParams, FrontierParams, BackpropParams, ParticleParams, PolicyParams, RingParams
for kind in (*PARAMS, ForkWorld, IQLConfig):
    plain = kind(n_steps=10)
    for ten in (np.int64(10), np.int32(10), torch.tensor(10)):
        given = kind(n_steps=ten)
        assert given == plain and hash(given) == hash(plain) and type(given.n_steps) is int
        assert kind not in PARAMS or given.to_text() == plain.to_text()
    for odd in (10.5, "10", np.float64(10.0)):
        refused(lambda: kind(n_steps=odd))
weight = TrimodalParams(weight=np.float32(0.5)).weight
assert weight == 0.5 and type(weight) is float
mixture, q = GaussianMixture([0.0], [1.0]), QuadraticCritic()
options = {"estimator": "qgf", "weight": 1.0, "n_steps": 3, "n_particles": 5}
refused(lambda: sample_guided(mixture, q, generator=0, **options))
refused(lambda: sample_guided(lambda x, t: x, q, generator=seeded(0), **options))
"""


def test_settings_take_whole_numbers_of_other_libraries_and_refuse_the_rest():
    """As a reader meets it: here annotations would be checked before anything else."""
    code = [sys.executable, "-c", WITHOUT_TYPE_CHECKS]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *settings, generator, field = done.stdout.splitlines()
    assert len(settings) == 8 * 3
    assert all("n_steps=" in said and "must be a whole number" in said for said in settings)
    assert generator.startswith("generator=0 must be a torch.Generator: make one with")
    assert field.startswith("the field is a function, but must have a method velocity(x, t)")


@pytest.mark.parametrize(
    "ten", [np.int64(10), np.int32(10), torch.tensor(10)], ids=["int64", "int32", "torch"]
)
def test_sampling_takes_whole_numbers_of_other_libraries(ten):
    mixture, critic = GaussianMixture([0.0], [1.0]), QuadraticCritic()
    want, got = (
        sample_guided(
            *(mixture, critic),
            **{"estimator": "best_of_n", "weight": 1.0, "generator": seeded(0)},
            n_steps=n,
            n_particles=(n,),
            n_candidates=n,
        )
        for n in (10, ten)
    )
    assert torch.equal(got.actions, want.actions)
    assert mixture.sample(ten, seeded(0)).shape == (10,)


def test_equal_shares_where_no_weights_are_given():
    for weights in ((), (None,)):
        mixture = GaussianMixture([-1.0, 0.0, 2.0], [0.1] * 3, *weights)
        torch.testing.assert_close(mixture.weights, torch.full((3,), 1 / 3).double())
