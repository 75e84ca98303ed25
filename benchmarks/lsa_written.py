"""What SmolLM2 writes while it sees only what a policy keeps on the GPU.

    python benchmarks/lsa_written.py --device cuda --out FOLDER    the lesson's policies
    python benchmarks/lsa_written.py --small --out FOLDER          two of them, on two CPU cores
    python benchmarks/lsa_written.py --slice                       write the first tokens again

The prompt is read with everything, as in the paper; then the model writes greedily with all other
chunks masked in all layers. OUT receives lsa_written.json (to benchmarks/results) and one
written-<text>-<arm>.npz per policy (to intuitive/lsa/weights).
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import helpers
import torch

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2
from intuitive.lsa.experiments.shelves import ShelvesResult, recorded, run_live
from intuitive.lsa.experiments.written import settings

RESULT = "lsa_written"
N_SLICE = 6  # tokens that a slice writes again


@dataclass(frozen=True)
class Plan:
    """What is written."""

    text: str = "letter"
    arms: tuple[str, ...] = ("recency", "lsa", "quest", "random")
    n_new: int = 128


SMALL = ("recency", "lsa")


def write(plan: Plan, arm: str, device: torch.device, n_new: int) -> ShelvesResult:
    """One arm's decode."""
    return run_live(settings(plan.text, arm), model=load_smollm2(device=device), n_new=n_new)


def same_tokens(result: ShelvesResult, text: str) -> float:
    """Share of the tokens that are those which the model writes with everything at hand."""
    whole = recorded(text)
    ours = result.recording.words[result.recording.n_prompt :]
    theirs = whole.words[whole.n_prompt :]
    return sum(a == b for a, b in zip(ours, theirs, strict=False)) / len(ours)


def run(plan: Plan, arms: tuple[str, ...], device: torch.device, out: Path, commit: str | None):
    """Let every arm write; save after each."""
    out.mkdir(parents=True, exist_ok=True)
    values: dict = {"written": {}}
    for arm in arms:
        started = time.perf_counter()
        result = write(plan, arm, device, plan.n_new)
        result.recording.save(out / f"written-{plan.text}-{arm}.npz")
        values["written"][arm] = {
            "text": result.written,
            "same_tokens": round(same_tokens(result, plan.text), 4),
            "mean_loss": round(sum(result.losses) / len(result.losses), 4),
        }
        print(f"{arm}, {time.perf_counter() - started:.0f} s: {result.written[:200]!r}", flush=True)
        made = {"device": device_name(device), "commit": commit, "seed": (0,)}
        records.save(out / f"{RESULT}.json", values, config=plan, **made)


def compare_slice(folder: Path) -> list[str]:
    """Write the first tokens of every committed arm again; what differs, in sentences."""
    values, made = records.load(folder / f"{RESULT}.json")
    plan, faults = Plan(), []
    if made["config_hash"] != records.config_hash(plan):
        faults.append(f"{RESULT}.json was made by another plan: run it again")
    for arm, found in values["written"].items():
        again = write(plan, arm, torch.device("cpu"), N_SLICE).written
        print(f"{arm}: {again!r}")
        if not found["text"].startswith(again):
            faults.append(f"{arm}: {again!r} is not how the committed text begins")
    return faults


def main() -> None:
    parser = helpers.options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="only what two CPU cores can write")
    parser.add_argument("--out", type=Path, help="where everything goes")
    args: argparse.Namespace = parser.parse_args()
    if args.slice:
        sys.exit(helpers.told(compare_slice(args.folder)))
    if args.out is None:
        parser.error("name a folder for the results: --out FOLDER")
    plan = Plan()
    arms = SMALL if args.small else plan.arms
    run(plan, arms, torch.device(args.device), args.out, args.commit)


if __name__ == "__main__":
    main()
