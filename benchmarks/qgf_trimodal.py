"""The tri-modal flow under every estimator: Specs A, B and C over five seeds.

    python benchmarks/qgf_trimodal.py                 tables A, B, C and the frontier's points
    python benchmarks/qgf_trimodal.py --slice         recompute some rows and compare
    python benchmarks/qgf_trimodal.py --speed         QGF against OOD, and BPTT's excess
    python benchmarks/qgf_trimodal.py --device cuda   64 weights x 16 seeds x 10,000 particles

Prints mean and standard deviation over seeds and writes FOLDER/qgf_trimodal.json (with --speed
qgf_speed.json, on a GPU qgf_sweep_h100.json; FOLDER is benchmarks/results by default).
"""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import helpers
import torch

from intuitive.common import records
from intuitive.common.runtime import device_name, seeded
from intuitive.common.training import one_thread
from intuitive.qgf import sample_guided, tilt, wasserstein1
from intuitive.qgf.guidance import ESTIMATORS
from intuitive.qgf.trimodal import MEANS, OFF_MODE, PRESETS, STDS, TrimodalParams

FILE = "qgf_trimodal.json"
SEEDS = (0, 1, 2, 3, 4)
GRID = torch.linspace(-4, 4, 8001, dtype=torch.float64)
SLICE_TOLERANCE = 1e-4  # on shares and means
N_PARTICLES = {"A": 10_000, "B": 20_000, "C": 20_000}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    name: str
    params: TrimodalParams
    estimator: str
    options: tuple[tuple[str, int], ...] = ()  # further arguments of sample_guided


def rows() -> list[Row]:
    """Every line of tables A, B, C."""
    found = []
    for weight in (1.0, 2.0, 4.0):
        for estimator in ("bc", "ood", "qgf", "bptt"):
            if estimator != "bc" or weight == 1.0:
                params = replace(PRESETS["A"], weight=weight)
                found.append(
                    Row(name=f"{estimator}, w={weight:g}", params=params, estimator=estimator)
                )
    for estimator in ESTIMATORS:
        found.append(Row(name=f"{estimator}, w=1", params=PRESETS["B"], estimator=estimator))
    for name, estimator, option in (
        ("best_of_n, N=16", "best_of_n", ("n_candidates", 16)),
        ("grad_step, 20 steps", "grad_step", ("ascent_steps", 20)),
    ):
        found.append(Row(name=name, params=PRESETS["B"], estimator=estimator, options=(option,)))
    for estimator in ("ood", "qgf", "bptt"):
        params = replace(PRESETS["B"], weight=2.0)
        found.append(Row(name=f"{estimator}, w=2", params=params, estimator=estimator))
    for n_steps in (10, 20):  # Euler's limit
        params = replace(PRESETS["B"], weight=4.0, n_steps=n_steps)
        found.append(Row(name=f"qgf, w=4, T={n_steps}", params=params, estimator="qgf"))
    for estimator in ("bc", "ood", "qgf", "exact"):
        params = PRESETS["C"]
        found.append(Row(name=f"{estimator}, w=4, T=20", params=params, estimator=estimator))
    option = (("n_candidates", 16),)
    found.append(
        Row(name="best_of_n, N=16", params=PRESETS["C"], estimator="best_of_n", options=option)
    )
    return found


def measures(row: Row, seed: int) -> dict[str, Any]:
    """What one sample of a line shows."""
    params = row.params
    a = sample_guided(
        params.mixture,
        params.q,
        estimator=row.estimator,
        weight=params.weight,
        n_steps=params.n_steps,
        n_particles=N_PARTICLES[params.preset],
        generator=seeded(seed),
        **dict(row.options),
    ).actions
    away = (a[:, None] - torch.tensor(MEANS[params.preset])).abs()
    near = away <= OFF_MODE * STDS[params.preset]
    exact = tilt(params.mixture, params.q, params.weight, GRID)
    return {
        "true_return": float(params.true_return(a).mean()),
        "median_return": float(
            params.true_return(a).median()
        ),  # BPTT's mean hangs on few particles
        "critic": float(params.q(a).mean()),
        "masses": near.double().mean(0).tolist(),
        "off_mode": float((~near.any(1)).double().mean()),
        "mean": float(a.mean()),
        "largest": float(a.abs().max()),
        "w1": wasserstein1(a, exact, GRID),
    }


def ideal(params: TrimodalParams) -> dict[str, Any]:
    """The same of the exact tilt, by quadrature."""
    p = tilt(params.mixture, params.q, params.weight, GRID)
    masses = []
    for mean in MEANS[params.preset]:
        near = (GRID - mean).abs() <= OFF_MODE * STDS[params.preset]
        masses.append(float(torch.trapezoid(p * near, GRID)))
    return {
        "true_return": float(torch.trapezoid(p * params.true_return(GRID), GRID)),
        "critic": float(torch.trapezoid(p * params.q(GRID), GRID)),
        "masses": masses,
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every measure."""
    found = {}
    for name, first in runs[0].items():
        columns = [run[name] for run in runs]
        parts = zip(*columns, strict=True) if isinstance(first, list) else [columns]
        pairs = [[statistics.mean(part), statistics.stdev(part)] for part in map(list, parts)]
        found[name] = pairs if isinstance(first, list) else pairs[0]
    return found


def measure_all(seeds: Sequence[int]) -> dict[str, Any]:
    """All tables."""
    tables: dict[str, list] = {preset: [] for preset in PRESETS}
    for row in rows():
        runs = [measures(row, seed) for seed in seeds]
        tables[row.params.preset].append({"name": row.name, "seeds": runs, **summary(runs)})
        print(line(row.params.preset, tables[row.params.preset][-1]), flush=True)
    tilts = {
        f"{preset}, w={weight:g}": ideal(replace(PRESETS[preset], weight=weight))
        for preset, weight in (
            ("A", 1.0),
            ("A", 2.0),
            ("A", 4.0),
            ("B", 1.0),
            ("B", 2.0),
            ("C", 4.0),
        )
    }
    return {"tables": tables, "tilt": tilts}


def line(preset: str, entry: dict[str, Any]) -> str:
    """One printed line."""
    shown = ("true_return", "median_return", "critic", "off_mode", "w1")
    cell = {name: entry[name] for name in shown}
    cells = "  ".join(f"{name} {mean:.3f}±{std:.3f}" for name, (mean, std) in cell.items())
    masses = "/".join(f"{mean:.2f}" for mean, _ in entry["masses"])
    return (
        f"{preset}  {entry['name']:22s} {cells}  masses {masses}  largest {entry['largest'][0]:.3g}"
    )


def plan(seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that decides the numbers, for the record."""
    return {
        "rows": [
            {"name": r.name, "estimator": r.estimator, "options": dict(r.options)}
            | {"params": asdict(r.params)}
            for r in rows()
        ],
        "n_particles": N_PARTICLES,
        "seeds": list(seeds),
    }


def compare_slice(folder: Path, names: Sequence[str] = ("bc", "ood", "qgf")) -> list[str]:
    """Recompute the first seed of some estimators; what differs from the committed numbers."""
    values, made = records.load(folder / FILE)
    faults = []
    if made["config_hash"] != records.config_hash(plan(made["config"]["seeds"])):
        faults.append(f"{FILE} was made with other settings: run the benchmark again")
    for row in rows():
        if row.estimator not in names:
            continue
        table = values["tables"][row.params.preset]
        known = next(entry for entry in table if entry["name"] == row.name)["seeds"][0]
        got = measures(row, made["config"]["seeds"][0])
        for name in ("true_return", "critic", "off_mode", "mean", "w1"):
            off = abs(got[name] - known[name])
            if off > SLICE_TOLERANCE * max(1, abs(known[name])):
                faults.append(f"{row.params.preset}, {row.name}: {name} differs by {off:.1e}")
    return faults


# --------------------------------------------------------------------------------------- speed


UNTIMED = 2  # rounds before those that count


def speed(repeats: int) -> dict[str, Any]:
    """Seconds of BC, OOD, QGF, Jacobian and BPTT in turn, 10,000 particles and T = 10."""
    names = ("bc", "ood", "qgf", "qgf_jacobian", "chain", "bptt", "best_of_n")
    params, taken = PRESETS["B"], {name: [] for name in names}
    for i in range(repeats + UNTIMED):
        for name in names:
            begin = time.perf_counter()
            sample_guided(
                params.mixture,
                params.q,
                estimator=name,
                weight=1.0,
                n_steps=10,
                n_particles=10_000,
                generator=seeded(i),
            )
            if i >= UNTIMED:
                taken[name].append(1e3 * (time.perf_counter() - begin))
    ms = {name: statistics.median(times) for name, times in taken.items()}
    ratios = [q / o for q, o in zip(taken["qgf"], taken["ood"], strict=True)]
    return {
        "median_ms": ms,
        "fastest_ms": {name: min(times) for name, times in taken.items()},
        "qgf_over_ood": statistics.median(ratios),
        "bptt_over_qgf": ms["bptt"] / ms["qgf"],
        "repeats": repeats,
    }


# --------------------------------------------------------------------------- the sweep on a GPU

SWEEP = ("bc", "ood", "qgf", "qgf_jacobian", "flow_dps", "chain", "bptt", "best_of_n")
N_WEIGHTS, N_SEEDS, N_SWEPT = 64, 16, 10_000
CHUNK_WEIGHTS = 8  # at once: 1.3 million particles, and BPTT's graph of them


def sweep(device: torch.device, n_weights: int, n_seeds: int, n: int) -> dict[str, Any]:
    """Mean critic and return over weight and seed of every estimator, and the seconds taken."""
    params = PRESETS["B"]
    weights = torch.logspace(-1, 1.5, n_weights, device=device)
    mixture, found = params.mixture, {}
    for name in SWEEP:
        for timed in (False, True):  # the first round warms the device up
            some = weights if timed else weights[:CHUNK_WEIGHTS]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            begin, means = time.perf_counter(), []
            for w in some.split(CHUNK_WEIGHTS):
                start = torch.randn(
                    len(w), n_seeds, n, generator=seeded(0, device), device=device
                )  # float32; the same noise for every weight's chunk
                a = sample_guided(
                    mixture,
                    params.q,
                    estimator=name,
                    weight=w[:, None, None],
                    n_steps=params.n_steps,
                    n_particles=start.shape,
                    generator=seeded(1, device),
                    start=start,
                ).actions
                flat = a.flatten()
                means.append(
                    torch.stack(
                        [f(flat).reshape(a.shape).mean(2) for f in (params.q, params.true_return)]
                    )
                )
            critic, earned = torch.cat(means, 1).cpu().tolist()  # each [weights, seeds]
            seconds = time.perf_counter() - begin
        found[name] = {
            "seconds": seconds,
            "critic": [statistics.mean(row) for row in critic],
            "true_return": [statistics.mean(row) for row in earned],
            "true_return_std": [statistics.stdev(row) for row in earned],
        }
        print(f"{name:14s} {seconds:.2f} s", flush=True)
    return {
        "weights": weights.cpu().tolist(),
        "estimators": found,
        "seconds": sum(entry["seconds"] for entry in found.values()),
    }


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--speed", action="store_true", help="time the estimators")
    parser.add_argument("--device", default="cpu", help="cuda: the large sweep")
    parser.add_argument("--sweep", type=int, nargs=3, default=(N_WEIGHTS, N_SEEDS, N_SWEPT))
    parser.add_argument("--repeats", type=int, default=30, help="of every timing")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if options.slice:
        return helpers.told(compare_slice(options.folder))
    if options.speed:
        file, values, config = (
            "qgf_speed.json",
            speed(options.repeats),
            {"repeats": options.repeats},
        )
        seeds = range(options.repeats + UNTIMED)
        print(f"QGF/OOD {values['qgf_over_ood']:.2f}, BPTT/QGF {values['bptt_over_qgf']:.2f}")
    elif device.type == "cuda":
        sizes = dict(zip(("n_weights", "n_seeds", "n"), options.sweep, strict=True))
        file, values = "qgf_sweep_h100.json", sweep(device, **sizes)
        config = sizes | {"estimators": list(SWEEP), "params": asdict(PRESETS["B"])}
        seeds = (0, 1)  # of the noise at the start, and of what a method draws on its way
    else:
        seeds = options.seeds
        file, values, config = FILE, measure_all(seeds), plan(seeds)
    path = records.save(
        options.folder / file,
        helpers.rounded(values, digits=6),
        config=config,
        device=device_name(device),
        commit=options.commit,
        seed=seeds,
    )
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
