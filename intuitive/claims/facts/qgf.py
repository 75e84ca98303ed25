"""What a CPU works out of Q-Guided Flow: the tri-modal flow of one seed, and neighbours."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from intuitive.common.runtime import seeded
from intuitive.qgf.experiments.backprop import jitter
from intuitive.qgf.results import trimodal
from intuitive.qgf.sampling import sample_guided
from intuitive.qgf.trimodal import PRESETS, modes

ORDER = ("qgf", "chain", "qgf_jacobian", "bptt")  # from the least to the most sensitive
PLACES = ("A", "B")  # presets whose neighbours are compared
SEEDS = (0, 1, 2)


def first_seed(preset: str, runs: Sequence[tuple[str, float]]) -> dict[str, int | float]:
    """What the first committed seed's particles come to, for estimators at some weights."""
    config, found = trimodal().made.config, {}
    for name, weight in runs:
        params = replace(PRESETS[preset], weight=weight)
        actions = sample_guided(
            params.mixture,
            params.q,
            estimator=name,
            weight=weight,
            n_steps=params.n_steps,
            n_particles=config["n_particles"][preset],
            generator=seeded(config["seeds"][0]),
        ).actions
        found |= {
            f"{name}_{weight:g}_mean": float(actions.mean()),
            f"{name}_{weight:g}_largest": float(actions.abs().max()),
            f"{name}_{weight:g}_critic": float(params.q(actions).mean()),
            f"{name}_{weight:g}_return": float(params.true_return(actions).mean()),
            f"{name}_{weight:g}_off_mode": float((modes(params, actions) < 0).double().mean()),
        }
    return found


def committed_seed(preset: str, runs: Sequence[tuple[str, float]]) -> dict[str, int | float]:
    """The same as the record has it."""
    found = {}
    for name, weight in runs:
        first = trimodal().values.row(preset, f"{name}, w={weight:g}").seeds[0]
        found |= {
            f"{name}_{weight:g}_mean": first.mean,
            f"{name}_{weight:g}_largest": first.largest,
            f"{name}_{weight:g}_critic": first.critic,
            f"{name}_{weight:g}_return": first.true_return,
            f"{name}_{weight:g}_off_mode": first.off_mode,
        }
    return found


def neighbours() -> dict[str, int | float]:
    """Cosine between guidance at a point and near it, mean over Euler steps and seeds."""
    found = {}
    for preset in PLACES:
        cosines: dict[str, list[float]] = {name: [] for name in ORDER}
        for seed in SEEDS:
            flow = replace(PRESETS[preset], weight=1.0, n_particles=1000, seed=seed)
            shaken = jitter(flow, ORDER)
            for name, row in zip(shaken.estimators, shaken.cosine, strict=True):
                cosines[name].append(float(row.mean()))
        found |= {f"{preset}_{name}": statistics.mean(each) for name, each in cosines.items()}
    return found
