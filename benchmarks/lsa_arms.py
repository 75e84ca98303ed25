"""Residency policies on topical records: a trained decoder, its Memory Indexers, and all arms.

    python benchmarks/lsa_arms.py --device cuda --out DIR   train decoder and indexers; 4 minutes
    python benchmarks/lsa_arms.py --indexers                train the indexers again, on one core
    python benchmarks/lsa_arms.py --measure                 measure, on one core; 10 minutes
    python benchmarks/lsa_arms.py --small --out DIR         all of it at a tiny size, on a CPU
    python benchmarks/lsa_arms.py --slice                   measure a part of the result again

Each stage adds to the result file, which tells how, where and from which commit each was made.
Training writes DIR/lsa_arms.json and DIR/topical.safetensors; the other stages take the shipped
weights, and measuring writes recordings. The decoder is trained once, by seed 0; Memory Indexers
and held-out documents have three seeds.
"""

import contextlib
import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import helpers
import torch
from helpers import aligned, rounded, spread
from lsa_sweeps import Plan, changed, measured, small_plan

from intuitive.common import records
from intuitive.common.decoder import Decoder
from intuitive.common.runtime import device_name, seeded
from intuitive.common.training import one_thread
from intuitive.lsa import shipped
from intuitive.lsa.arms import ARMS
from intuitive.lsa.experiments.topical_arms import Point, accuracy, hold_out, residencies
from intuitive.lsa.experiments.topical_decode import live_right, masked_right, observe
from intuitive.lsa.experiments.topical_training import train_decoder
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.indexer_training import Document, train_indexers
from intuitive.lsa.task import draw_documents

FILE = "lsa_arms.json"
STAGES = ("training", "weights", "indexers")  # that come before the measuring
HURRY = {"dense": 0.45, "lightning": 0.53, "finetune": 0.6}  # of the seconds, when a phase ends
MEASURING = 1500.0  # seconds after which no further documents are drawn
SLICE_TOLERANCE = 0.02  # on shares: another device or torch may turn a near tie


# --------------------------------------------------------------------------------- training


def harvest(plan: Plan, decoder: Decoder, device: torch.device) -> list[Document]:
    """What the Memory Indexers are trained on, on the device.

    Most documents give their triggers as in decoding, one in `among` gives more of them, between
    headers, as sets that are decided more often ask for. Documents are decoded for longer than the
    others here: a section costs less than a prompt.
    """
    draw = seeded(77, device)
    found: list[Document] = []
    config = plan.training.attention
    task = dataclasses.replace(plan.task, sections=plan.harvested_sections)
    for batch in range(-(-plan.harvested // plan.at_once)):
        stride = config.lookahead if batch % plan.among else plan.stride
        drawn = draw_documents(task, plan.at_once, draw)
        observed = observe(decoder, config, drawn)
        found += [observed.document(row, stride=stride) for row in range(plan.at_once)]
    return found[: plan.harvested]


# ------------------------------------------------------------------------------------ files


def saved(out: Path, plan: Plan, values: dict[str, Any], options: Any, device: str) -> Path:
    """Write what there is so far."""
    return records.save(
        out / FILE,
        rounded(values, decimals=4),
        config=rounded(plan, decimals=6),
        device=device,
        commit=options.commit,
        seed=list(plan.seeds),
    )


def record(
    plan: Plan, decoder: Any, indexers: MemoryIndexers, out: Path, device: Any, source: str
) -> None:
    """Decodes for the lesson: one document of each mode, and one twice as long."""
    for name, change in {
        "topical": {},
        "local": {"mode": "local"},
        "dense": {"mode": "dense"},
        "topical_2x": {"length": 2},
    }.items():
        task, length = changed(plan, change)
        task = dataclasses.replace(task, sections=min(task.sections, 4 if length == 1 else 3))
        held = hold_out(decoder, indexers, task, 1, seed=500, length=length, device=device)
        titled = dataclasses.replace(held.recordings[0], name=name, source=source)
        path = titled.save(out / f"{name}.npz")
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


def table(points: dict[str, Sequence[Point]]) -> str:
    """Mean and range over seeds of the first sweep."""
    rows = [["arm", "accuracy", "mass recall", "golden recall", "kept", "bytes per token"]]
    for arm in ARMS:
        mine = [point for point in points.get("arms", ()) if point.arm == arm]
        if mine:
            rows.append(
                [
                    arm,
                    *(
                        spread(getattr(point, name) for point in mine)
                        for name in ("accuracy", "mass_recall", "golden_recall", "kept")
                    ),
                    spread((point.bytes_per_token for point in mine), ".0f"),
                ]
            )
    return aligned(rows)


def check(
    plan: Plan, decoder: Decoder, indexers: MemoryIndexers, device: torch.device
) -> dict[str, Any]:
    """Exactness on this device before anything is measured."""
    held = hold_out(decoder, indexers, plan.task, 2, seed=900, device=device)
    everything = torch.ones(
        2, -(-plan.task.n_steps // plan.policy.lookahead), held.recordings[0].n_chunks,
        dtype=torch.bool, device=device,
    )  # fmt: skip
    right = masked_right(
        decoder,
        held.config,
        held.documents,
        everything,
        lookahead=plan.policy.lookahead,
        prompts=held.prompts,
    )
    same = bool((right == held.observed.right).all())
    exact = accuracy(held, residencies(held, dataclasses.replace(plan.policy, arm="reactive")), 1)
    live, sets = live_right(decoder, indexers, held.documents, prompts=held.prompts)
    replayed = torch.stack(
        [one.resident[:: plan.policy.lookahead] for one in residencies(held, plan.policy)]
    )
    found = {
        "everything_resident_is_unrestricted": same,
        "reactive_accuracy": exact,
        "unrestricted_accuracy": held.observed.accuracy,
        "live_accuracy": int(live.sum()) / int(held.documents.answers.sum()),
        "replayed_accuracy": accuracy(held, residencies(held, plan.policy), plan.policy.lookahead),
        "live_sets_differ": float((sets.cpu() != replayed).float().mean()),
    }
    if not same or abs(exact - held.observed.accuracy) > 0.01:
        print(f"WARNING: not exact: {found}", flush=True)
    return found


def made_here(options: Any, device: str) -> dict[str, str]:
    """How a stage was made; where its files went is left out."""
    words = iter(sys.argv[1:])
    told = [word for word in words if word != "--out" or not next(words)]
    return {
        "command": " ".join([Path(sys.argv[0]).name, *told]),
        "commit": options.commit or records.commit_here() or "",
        "device": device,
        "torch": torch.__version__,
    }


class Clock:
    """Seconds since the start, before each line that is printed."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.start

    def __call__(self, title: str) -> None:
        print(f"{self.seconds:6.1f} s  {title}", flush=True)


def run_training(plan: Plan, options: Any) -> shipped.Shipped:
    """Train the decoder and Memory Indexers, and write them and how it went."""
    device = torch.device(options.device)
    clock, out, made = Clock(), options.out, made_here(options, device_name(device))
    torch.set_float32_matmul_precision("high")

    def told(fraction: float, sentence: str, so_far: object = None) -> None:
        if fraction == 1.0 or options.talk:
            clock(sentence)

    def hurry(stage: str) -> bool:
        """A machine slower than expected ends its stages early, which the steps then tell."""
        share = next((s for word, s in HURRY.items() if stage.startswith(word)), 1.0)
        return clock.seconds > share * options.seconds

    trained = train_decoder(plan.training, seed=0, device=device, hurry=hurry, progress=told)
    clock(f"decoder trained: {trained.steps}")
    shipped.as_stored(trained.decoder)
    torch.set_float32_matmul_precision("highest")
    values: dict[str, Any] = {
        "training": {
            "made": made,
            "steps": trained.steps,
            "losses": {k: v[::10] for k, v in trained.losses.items()},
            "accuracy": {k: v[::10] for k, v in trained.accuracy.items()},
        },
        "weights": sum(p.numel() for p in trained.decoder.parameters()),
    }
    saved(out, plan, values, options, made["device"])
    torch.save(trained.decoder.state_dict(), out / "raw.pt")  # should safetensors not be there
    return train_all(plan, trained.decoder, options, values, made, clock)


def train_all(
    plan: Plan,
    decoder: Decoder,
    options: Any,
    values: dict[str, Any],
    decoded: Mapping[str, str],
    clock: Clock,
) -> shipped.Shipped:
    """Train the Memory Indexers of all seeds on one harvest, and write them with the decoder.

    Args:
        plan: how.
        decoder: frozen.
        options: where to, and on which device.
        values: of the result file so far.
        decoded: how the decoder was made.
        clock: for the lines printed.
    """
    device = torch.device(options.device)
    made = made_here(options, device_name(device))
    documents = harvest(plan, decoder, device)
    clock(f"harvested {len(documents)} documents")
    indexers: dict[int, MemoryIndexers] = {}
    losses: dict[str, list[float]] = {}
    for seed in plan.seeds:
        done = train_indexers(documents, plan.training.attention, plan.indexer, seed=seed)
        shipped.as_stored(done.indexers)
        indexers[seed], losses[str(seed)] = done.indexers, list(done.loss[::10])
        clock(f"indexers of seed {seed}: focal loss {statistics.mean(done.loss[-50:]):.4f}")
    values["indexers"] = {"made": made, "documents": len(documents), "focal_loss": losses}
    weights = options.out if options.out != helpers.RESULTS else shipped.FOLDER
    told = {**decoded, **{f"indexers {name}": text for name, text in made.items()}}
    with contextlib.suppress(ImportError):
        shipped.save(weights / shipped.TOPICAL, decoder, indexers, plan.training, told)
    saved(options.out, plan, values, options, made["device"])
    return shipped.Shipped(decoder, indexers.pop(0), plan.training, told, indexers)


def run_indexers(plan: Plan, ready: shipped.Shipped, options: Any) -> int:
    """Train the Memory Indexers again, of the shipped decoder."""
    values = before(options.out)
    own = {name: text for name, text in ready.made.items() if not name.startswith("indexers ")}
    train_all(plan, ready.decoder, options, values, own, Clock())
    return 0


def before(out: Path) -> dict[str, Any]:
    """What earlier stages wrote; each says how it was made."""
    values, made = records.load(out / FILE)
    if "made" not in values["training"]:
        told = {name: made[name] for name in ("commit", "device", "torch")}
        values["training"]["made"] = {"command": " ".join(made["command"]), **told}
    return {name: values[name] for name in STAGES if name in values}


def run_measuring(plan: Plan, ready: shipped.Shipped, options: Any, *, weights: Path) -> int:
    """Measure every arm, and add that to the result file; then record decodes for the lesson."""
    device = torch.device("cpu")
    clock, out = Clock(), options.out
    values = before(out)
    if ready.training != plan.training:
        raise ValueError(
            "the weights were trained with other settings than this script's: train them anew."
        )
    values["exactness"] = check(plan, ready.decoder, ready.indexers, device)
    clock(f"exactness: {values['exactness']}")
    source = "the shipped decoder, by benchmarks/lsa_arms.py --measure"
    record(plan, ready.decoder, ready.indexers, weights, device, source)
    clock("recorded")

    def left() -> bool:
        return options.small or clock.seconds < MEASURING

    for points in measured(plan, ready.decoder, ready.by_seed, device, left=left):
        values["points"], values["seconds"] = points, round(clock.seconds, 1)
        path = saved(out, plan, values, options, device_name(device))
        clock(f"measured {sum(map(len, points.values()))} points")
    print(f"\nMean (range) over seeds, held-out documents\n\n{table(points)}\nWritten to {path}")
    return 0


def compare_slice(folder: Path) -> list[str]:
    """Measure some policies of the first seed again, with the shipped weights."""
    import msgspec  # not needed where a GPU measures

    values, made = records.load(folder / FILE)
    plan = msgspec.convert(made["config"], Plan)
    ready = shipped.load()
    if ready.training != plan.training:
        return [f"{FILE} was made with other weights than those shipped: run the benchmark again"]
    seed = plan.seeds[0]
    (again,) = measured(
        plan,
        ready.decoder,
        {seed: ready.indexers},  # the first seed is 0
        torch.device("cpu"),
        only=lambda name, policy: name == "arms" and policy.arm in ("lsa", "recency", "everything"),
    )
    faults = []
    known = {point["arm"]: point for point in values["points"]["arms"] if point["seed"] == seed}
    for point in again["arms"]:
        for name in ("accuracy", "mass_recall", "golden_recall", "kept"):
            got, had = getattr(point, name), known[point.arm][name]
            print(f"{point.arm}: {name} {got:.4f}, committed {had:.4f}")
            if abs(got - had) > SLICE_TOLERANCE:
                faults.append(f"{point.arm}: {name} is {got:.4f}, committed {had:.4f}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--out", type=Path, default=helpers.RESULTS, help="where results go")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--indexers", action="store_true", help="train the Memory Indexers again")
    parser.add_argument("--measure", action="store_true", help="measure the shipped weights")
    parser.add_argument("--small", action="store_true", help="everything at a tiny size")
    parser.add_argument("--talk", action="store_true", help="a line for every step")
    parser.add_argument("--seconds", type=float, default=280.0, help="training ends well before")
    options = parser.parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))
    options.out.mkdir(parents=True, exist_ok=True)
    if options.indexers:
        return run_indexers(Plan(), shipped.load(), options)
    if options.measure:
        return run_measuring(Plan(), shipped.load(), options, weights=shipped.FOLDER)
    plan = small_plan() if options.small else Plan()
    ready = run_training(plan, options)
    return run_measuring(plan, ready, options, weights=options.out) if options.small else 0


if __name__ == "__main__":
    sys.exit(main())
