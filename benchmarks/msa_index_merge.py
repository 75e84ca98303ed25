"""Parts of a run of `msa_index.py` put together: one result, the shipped index, and a slice."""

import dataclasses
import math
import statistics
import sys
from pathlib import Path

import helpers
import msa_conversion as conversion
import torch
from torch import Tensor

from intuitive.common import records
from intuitive.common.weights import load_weights, save_weights
from intuitive.msa.config import MSAConfig
from intuitive.msa.index import WEIGHTS, TrainedIndex, load_index
from intuitive.msa.reference import SELECTORS

NAME = "msa_index"
SHIPPED = ("main", 128)  # start and d_index of the students of which one is shipped
TOLERANCE = {"mass_captured": 5e-3, "loss": 1e-2}  # from a GPU's products to a CPU's


def parts_of(folder: Path) -> list[tuple[dict, dict]]:
    """(values, how they were made) of all processes.

    Raises:
        FileNotFoundError: there are none.
    """
    found = [records.load(path) for path in sorted(folder.glob(f"{NAME}-*.json"))]
    if not found:
        raise FileNotFoundError(f"{folder} holds no {NAME}-*.json: run the benchmark first.")
    return found


def student(name: str) -> dict:
    """What a student's name says, such as d128-r64-main-s0."""
    d_index, d_rotary, start, seed = name.split("-")
    return {
        "student": name,
        "d_index": int(d_index[1:]),
        "d_rotary": int(d_rotary[1:]),
        "start": start,
        "seed": int(seed[1:]),
    }


def row_of(rows: list[dict], context: int, n_selected: int | None) -> float | None:
    """The perplexity of a trained index, or of the dense model."""
    for row in rows:
        name = "dense" if n_selected is None else "trained_index"
        if (row["selector"], row["context"], row.get("n_selected")) == (name, context, n_selected):
            return row["all"]
    return None


def merged(folder: Path) -> tuple[dict, dict]:
    """The values of all parts as one, and the config."""
    parts = parts_of(folder)
    values: dict = {name: [] for name in ("perplexity", "returning_passage", "quality", "curve")}
    values |= {"stored": [], "adaptation": [], "adaptation_arms": [], "training": {}}
    plan = parts[0][1]["config"]["plan"]
    context = plan["contexts"][0]
    seeds = []
    for part, made in parts:
        for name, told in part["students"].items():
            about = student(name)
            steps = {
                "warmup_steps": part["steps"]["warm-up"],
                "sparse_steps": part["steps"]["sparse"],
            }
            values["training"][name] = {
                **{key: told[key] for key in ("kl", "kl_by_layer", "validation") if key in told},
                **steps,
                "seconds": part["seconds"]["train"],
                "device": made["device"],
                "commit": made["commit"],
            }
            heldout = told.get("heldout")
            if heldout is None:
                continue
            for k in plan["budgets"]:
                values["curve"].append(
                    {
                        **about,
                        **steps,
                        "n_selected": k,
                        "context": context,
                        "perplexity": row_of(heldout["perplexity"], context, k),
                        "returning_passage": row_of(
                            heldout.get("returning_passage", ()), context, k
                        ),
                    }
                )
            if (about["start"], about["d_index"]) != SHIPPED or about["d_rotary"] == SHIPPED[1]:
                continue
            seeds.append(about["seed"])
            for measure in ("perplexity", "returning_passage", "quality"):
                add(values[measure], heldout.get(measure, ()))
            for measure, rows in told.get("float32", {}).items():
                exact = [row for row in rows if row["selector"] == "trained_index"]
                values["stored"] += [{"measure": measure, **row} for row in exact]
        for measure in ("perplexity", "returning_passage"):
            add(values[measure], part.get("selectors", {}).get(measure, ()))
        adapted = part.get("adaptation")
        if adapted:
            seed = student(adapted["student"])["seed"]
            values["adaptation"] += [{"seed": seed, **row} for row in adapted["rows"]]
            values["adaptation_arms"] += [{"seed": seed, **arm} for arm in adapted["arms"]]
    values["corpus"] = parts[0][0]["corpus"]
    values["runs"] = [
        {name: made[name] for name in ("command", "commit", "device")} for _, made in parts
    ]
    msa = dataclasses.replace(MSAConfig.smollm(), d_index=128, d_rotary=64)
    config = {
        "plan": plan,
        "students": sorted(values["training"]),
        "seeds": sorted(seeds),
        "training": {"msa": dataclasses.asdict(msa)},
    }
    return values, config


def add(rows: list[dict], more: list[dict]) -> None:
    """Append rows that are not there yet: the dense model and the selectors come several times."""
    names = ("selector", "seed", "context", "block_size", "n_selected")
    known = {tuple(row.get(name) for name in names) for row in rows}
    rows += [row for row in more if tuple(row.get(name) for name in names) not in known]


def carry(values: dict, committed: dict) -> None:
    """Keep of the committed values what these parts do not measure.

    That is the index before this one, which no command makes any more, and where no part was run
    with --selectors the selectors, which no training changes.
    """
    values["before"] = committed["before"]
    for measure in ("perplexity", "returning_passage"):
        add(values[measure], [r for r in committed[measure] if r["selector"] in SELECTORS])
    values["runs"] += [run for run in committed["runs"] if run not in values["runs"]]


def best(values: dict) -> str:
    """The student to ship: by the validation texts, plain and with a passage that returns."""
    scores = {}
    for name, told in values["training"].items():
        about = student(name)
        if (about["start"], about["d_index"]) == SHIPPED and about["d_rotary"] != about["d_index"]:
            found = told["validation"]["end"]
            kept = [value for key, value in found.items() if key.split()[1] in ("4", "8")]
            scores[name] = statistics.mean(map(math.log, kept or found.values()))
    return min(scores, key=scores.get)


def merge(folder: Path, results: Path, *, ship: bool, commit: str | None) -> None:
    """Write one result; where asked put the best student into the package."""
    values, config = merged(folder)
    name = best(values)
    made = parts_of(folder)[0][1]
    weights, about = load_weights(folder / f"{name}.safetensors")
    values["shipped"] = name
    path = WEIGHTS if ship else folder / WEIGHTS.name
    save_weights(path, weights, about)
    values["shipped_bytes"] = path.stat().st_size
    if (results / f"{NAME}.json").is_file():
        carry(values, records.load(results / f"{NAME}.json")[0])
    values["slice"] = sliced(load_index(path))
    saved = records.save(
        results / f"{NAME}.json",
        helpers.rounded(values, digits=5),
        config=config,
        device=made["device"],
        commit=commit or made["commit"],
        seed=config["seeds"],
    )
    print(f"{saved}: {saved.stat().st_size:,} bytes; {name} shipped: {path.stat().st_size:,} bytes")
    print(told(values, config["plan"]["contexts"][0]))


def told(values: dict, context: int) -> str:
    """The tables of the issue as text."""
    lines = [f"{'':26}{'k':>4}  perplexity  returning passage"]
    by: dict[tuple, dict[str, list[float]]] = {}
    for measure in ("perplexity", "returning_passage"):
        for row in values[measure]:
            if row["context"] == context:
                key = (row["selector"], row.get("n_selected") or 0)
                by.setdefault(key, {}).setdefault(measure, []).append(row["all"])
    for (selector, k), found in sorted(by.items()):
        cells = [helpers.spread(found.get(m, ())) for m in ("perplexity", "returning_passage")]
        lines.append(f"{selector:26}{k:4}  {'  '.join(cells)}")
    for row in values["curve"]:
        lines.append(
            f"{row['student']:26}{row['n_selected']:4}  {row['perplexity']}  "
            f"{row['returning_passage']}"
        )
    for row in values["adaptation"]:
        lines.append(
            f"{row['arm']} s{row['seed']} {row['measure']} k={row['n_selected']}: {row['all']}"
        )
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ the slice


def sliced(index: TrainedIndex) -> dict:
    """What `--slice` computes again on a CPU with the shipped index."""
    msa = index.sized(MSAConfig.smollm())
    bench = conversion.Bench(conversion.Plan(msa=msa), torch.device("cpu"), ())
    bench.indices = {0: index}
    bench.slice()
    return bench.values["slice"]


def compare_slice(folder: Path) -> list[str]:
    """Measure a little with the shipped index and compare; what differs, in sentences."""
    committed, _ = records.load(folder / f"{NAME}.json")
    index = load_index()
    faults = []
    if index.made["student"] != named(committed["shipped"]):
        faults.append(
            f"{NAME}.json ships {committed['shipped']}, the file holds {index.made['student']}: "
            "merge again with --ship."
        )
    again = sliced(index)

    def expect(name: str, got: float | Tensor, want: float, tolerance: float) -> None:
        print(f"{name}: {float(got):.5g}, committed {want:.5g}, tolerance {tolerance:g}")
        if not abs(float(got) - want) <= tolerance:
            faults.append(f"{name}: {float(got):.5g} differs from the committed {want:.5g}")

    for name, masses in committed["slice"]["mass_captured"].items():
        for i, (got, want) in enumerate(zip(again["mass_captured"][name], masses, strict=True)):
            expect(f"mass captured by {name}, {i}", got, want, TOLERANCE["mass_captured"])
    for name in ("loss_dense", "loss_trained_index"):
        expect(name, again[name], committed["slice"][name], TOLERANCE["loss"])
    return faults


def named(name: str) -> str:
    """A student's name as its command wrote it."""
    about = student(name)
    return ":".join(str(about[part]) for part in ("d_index", "d_rotary", "start", "seed"))


def main(args) -> int:
    """What `msa_index.py` does with --merge or --slice."""
    if args.slice:
        return helpers.told(compare_slice(args.folder))
    merge(args.merge, args.folder, ship=args.ship, commit=args.commit)
    return 0


if __name__ == "__main__":
    sys.exit("run msa_index.py --merge OUT, or --slice")
