"""What the trained pair reads out of the passages of "Words fold into beads", written down.

    python benchmarks/lclm_beads.py --device cuda --out FOLDER     all that a reader may choose
    python benchmarks/lclm_beads.py --small --out FOLDER           what the steps show
    python benchmarks/lclm_beads.py --slice                        ask for one answer again

OUT receives lclm_beads.json (to benchmarks/results), saved after every passage and ratio, the
first first. `--weights` names the pair's weights where they are not the shipped ones.
"""

import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import helpers
import torch

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2
from intuitive.lclm.experiments.passages import PASSAGES
from intuitive.lclm.experiments.reading import (
    NAMED,
    NOTHING,
    RESULT,
    Live,
    Record,
    Recorded,
    Recorder,
)
from intuitive.lclm.smollm import RATIOS, WEIGHTS, load_pair

ALMOST = 0.03  # nats and probability by which devices may differ


@dataclass(frozen=True)
class Plan:
    """What is asked: (passage, ratio, settings of EXPAND), the most important first."""

    asked: tuple[tuple[str, int, tuple[str, ...]], ...]


def whole_plan() -> Plan:
    chunks = tuple(map(str, range(1, 5)))
    first = [(name, ratio, (NOTHING,)) for name in PASSAGES for ratio in RATIOS]
    return Plan((*small_plan().asked, *first, *((n, r, (NAMED, *chunks)) for n, r, _ in first)))


def small_plan() -> Plan:
    first = [("letter", 4, (NOTHING,)), ("letter", 16, (NOTHING, NAMED, "3"))]
    return Plan((*first, ("uuids", 16, (NOTHING,))))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(plan: Plan, weights: Path, device: torch.device, out: Path, args) -> None:
    pair = load_pair(load_smollm2(device=device), weights)
    recorder, started = Recorder(pair, digest(weights)), time.perf_counter()
    seed = int(pair.made["seed"])  # of the training; nothing is drawn here
    made = {"device": device_name(device), "commit": args.commit, "seed": seed}
    for name, ratio, expands in plan.asked:
        if args.seconds and time.perf_counter() - started > args.seconds:
            print("Out of time: the rest is left to be computed when it is asked for.")
            break
        chunks = len(recorder.reader.cut(PASSAGES[name]).chunks)
        possible = [e for e in expands if e in (NOTHING, NAMED) or int(e) <= chunks]
        recorder.take(name, ratio, *possible)
        records.save(out / f"{RESULT}.json", recorder.record, config=plan, **made)
        print(f"{time.perf_counter() - started:.0f} s: {name} at {ratio}", flush=True)
    for key, words in recorder.record.answers.items():
        print(f"{key}: {''.join(words)!r}")


def compare_slice(weights: Path, folder: Path) -> list[str]:
    """One reading and one answer of the committed record again; what differs, in sentences."""
    import msgspec

    values, _ = records.load(folder / f"{RESULT}.json")
    record = msgspec.convert(values, Record)
    faults = []
    if record.weights != digest(weights):
        faults.append(f"{RESULT}.json was made with other weights: run it again")
    before, now = Recorded(record), Live(load_pair(load_smollm2(), weights))
    passage = PASSAGES["letter"]
    old, new = (who.reading(passage, 16, chunked=False) for who in (before, now))
    far = float(abs(old.top_probability - new.top_probability).max())
    if far > ALMOST:
        faults.append(f"the letter at 16: probabilities differ by up to {far:.3f}")
    old, new = (who.answer(passage, 16, 2) for who in (before, now))
    if old != new:
        faults.append(f"the letter at 16, chunk 3 raw: {''.join(new)!r}, not {''.join(old)!r}")
    return faults


def main() -> None:
    parser = helpers.options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="only what the steps show")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of the pair")
    parser.add_argument("--seconds", type=float, default=0, help="begin nothing new after these")
    parser.add_argument("--out", type=Path, help="where the record goes")
    args = parser.parse_args()
    if args.slice:
        sys.exit(helpers.told(compare_slice(args.weights, args.folder)))
    if args.out is None:
        parser.error("name a folder for the record: --out FOLDER")
    plan = small_plan() if args.small else whole_plan()
    run(plan, args.weights, torch.device(args.device), args.out, args)


if __name__ == "__main__":
    main()
