"""Residency policies on topical records: a trained decoder, its Memory Indexers, and all arms.

    python benchmarks/lsa_arms.py --device cuda --out DIR   train, harvest and measure; 4 minutes
    python benchmarks/lsa_arms.py --small --out DIR         all of it at a tiny size, on a CPU
    python benchmarks/lsa_arms.py --slice                   measure a part of the result again

Writes DIR/lsa_arms.json, DIR/topical.safetensors and DIR/*.npz, after each stage what there is.
The decoder is trained once; Memory Indexers and held-out documents have three seeds.
"""

import contextlib
import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helpers
import torch
from helpers import aligned, rounded, spread

from intuitive.common import records
from intuitive.common.decoder import Decoder
from intuitive.common.runtime import device_name, seeded
from intuitive.common.training import one_thread
from intuitive.lsa import shipped
from intuitive.lsa.arms import ARMS, Policy
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.experiments.topical_arms import (
    Point,
    accuracy,
    hold_out,
    measure,
    residencies,
)
from intuitive.lsa.experiments.topical_decode import live_right, masked_right, observe
from intuitive.lsa.experiments.topical_training import (
    DecoderTrainingConfig,
    Stage,
    TrainedDecoder,
    attention_config,
    train_decoder,
)
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.indexer_training import Document, IndexerTrainingConfig, train_indexers
from intuitive.lsa.task import TaskConfig, draw_documents

FILE = "lsa_arms.json"
SEEDS = (0, 1, 2)
THRESHOLDS = (0.05, 0.12, 0.27, 0.5, 0.73, 0.88, 0.95)  # logits -3 … 3
LOOKAHEADS = (8, 16, 32, 64, 128)
COMPARED = ("lsa", "reactive", "recency", "random", "quest", "oracle", "everything")
BUDGETED = ("lsa", "reactive", "recency", "random", "quest", "oracle")
HURRY = {"dense": 0.45, "lightning": 0.53, "finetune": 0.6}  # of the seconds, when a phase ends
SWEPT = ("lsa", "recency", "random", "oracle")
SLICE_TOLERANCE = 0.02  # on shares: another device or torch may turn a near tie


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides the numbers."""

    training: DecoderTrainingConfig = field(default_factory=DecoderTrainingConfig)
    indexer: IndexerTrainingConfig = field(
        default_factory=lambda: IndexerTrainingConfig(n_steps=600, n_documents=12, n_triggers=4)
    )
    harvested: int = 1024  # documents
    at_once: int = 16  # documents side by side
    stride: int = 8  # steps between triggers in every so many-th of these batches:
    among: int = 4
    held_out: int = 6  # documents of each seed
    budgets: tuple[int, ...] = (16, 32, 48, 64, 96, 128, 192, 256)  # chunks, the tail among them
    pages: tuple[int, ...] = (4, 8, 16, 32, 48)
    lengths: tuple[int, ...] = (1, 2, 4)
    seeds: tuple[int, ...] = SEEDS

    @property
    def task(self) -> TaskConfig:
        """Documents as long as the longest that training saw."""
        return self.training.documents(self.training.stages[-1].topics)

    @property
    def policy(self) -> Policy:
        """The settings that every sweep starts from."""
        config = self.training.attention
        return Policy(
            "lsa",
            lookahead=config.lookahead,
            threshold=config.threshold,
            tail_chunks=config.tail_chunks,
            page_size=config.page_size,
        )


def small_plan() -> Plan:
    """A tiny decoder that learns little: to try the script, not the method."""
    tiny = {
        "d_model": 32,
        "layers": ("window", "csa", "csa"),
        "d_head": 16,
        "q_rank": 16,
        "o_rank": 16,
        "window": 16,
        "d_index": 16,
        "n_index_heads": 2,
        "top_k": 8,
        "label_top_k": 8,
        "memory_layers": (0, 1),
        "memory_rank": 16,
        "n_memory_heads": 4,
        "lookahead": 32,
        "tail": 16,
    }
    return Plan(
        training=DecoderTrainingConfig(
            attention=LSAConfig(**vars(attention_config()) | tiny),
            task=TaskConfig(n_topics=16, n_names=8, topics=4, records=8, sections=2, section=32),
            d_ff=64,
            max_positions=1024,
            stages=(Stage(2, 8, 12), Stage(4, 8, 6)),
            lightning=Stage(4, 4, 5),
            finetune=Stage(4, 4, 4),
        ),
        indexer=IndexerTrainingConfig(n_steps=15, n_documents=4, n_triggers=4),
        harvested=12,
        at_once=6,
        held_out=2,
        budgets=(8, 16),
        pages=(1, 2),
        lengths=(1, 2),
        seeds=(0, 1),
    )


# --------------------------------------------------------------------------------- training


def harvest(plan: Plan, trained: TrainedDecoder, device: torch.device) -> list[Document]:
    """What the Memory Indexers are trained on, on the device.

    Most documents give their triggers as in decoding, one in `among` gives more of them, between
    headers, and so do sets that are asked more often than they were trained for.
    """
    draw = seeded(77, device)
    found: list[Document] = []
    config = plan.training.attention
    for batch in range(-(-plan.harvested // plan.at_once)):
        stride = config.lookahead if batch % plan.among else plan.stride
        drawn = draw_documents(plan.task, plan.at_once, draw)
        observed = observe(trained.decoder, config, drawn)
        found += [observed.document(row, stride=stride) for row in range(plan.at_once)]
    return found[: plan.harvested]


def check(
    plan: Plan, trained: TrainedDecoder, indexers: MemoryIndexers, device: torch.device
) -> dict[str, Any]:
    """Exactness on this device before anything is measured."""
    held = hold_out(trained.decoder, indexers, plan.task, 2, seed=900, device=device)
    everything = torch.ones(
        2, -(-plan.task.n_steps // plan.policy.lookahead), held.recordings[0].n_chunks,
        dtype=torch.bool, device=device,
    )  # fmt: skip
    right = masked_right(
        trained.decoder,
        held.config,
        held.documents,
        everything,
        lookahead=plan.policy.lookahead,
        prompts=held.prompts,
    )
    same = bool((right == held.observed.right).all())
    exact = accuracy(held, residencies(held, dataclasses.replace(plan.policy, arm="reactive")), 1)
    live, sets = live_right(trained.decoder, indexers, held.documents, prompts=held.prompts)
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


# -------------------------------------------------------------------------------- measuring


def sweeps(plan: Plan) -> dict[str, list[tuple[dict[str, Any], Policy]]]:
    """By name: changes of the task ("length" among them), and a policy."""
    base, task = plan.policy, plan.task

    def policies(arms: Iterable[str] = ("lsa",), **change: Any) -> list[Policy]:
        return [dataclasses.replace(base, arm=arm, **change) for arm in arms]

    def on(policies: Iterable[Policy], **change: Any) -> list[tuple[dict[str, Any], Policy]]:
        return [(change, policy) for policy in policies]

    found = {"arms": on(policies(ARMS))}
    found["threshold"] = [
        pair for t in THRESHOLDS for pair in on(policies(SWEPT, threshold=t)) if t != 0.5
    ]
    found["budget"] = [
        pair for n in plan.budgets for pair in on(policies(BUDGETED, rule="budget", size=n))
    ]
    found["pages"] = [pair for n in plan.pages for pair in on(policies(rule="pages", size=n))]
    found["lookahead"] = [
        pair
        for tau in LOOKAHEADS
        for lag in (0, 1)
        for arms in [("lsa", "oracle") + (("reactive",) if not lag else ())]
        for pair in on(policies(arms, lookahead=tau, lag=lag))
    ]
    n_layers = len(plan.training.attention.memory_layers)
    found["layers"] = [pair for n in range(1, n_layers) for pair in on(policies(layers=n))]
    middle = plan.budgets[len(plan.budgets) // 2]
    found["length"] = [
        pair
        for length in plan.lengths[1:]
        for pair in on(policies(COMPARED), length=length)
        + on(
            policies(BUDGETED, rule="budget", size=middle),
            length=length,
        )
    ]
    found["mode"] = [
        pair
        for mode in ("local", "dense")
        for pair in on(policies(COMPARED), mode=mode)
        + [
            more
            for n in plan.budgets[1::2]
            for more in on(policies(("lsa", "recency", "oracle"), rule="budget", size=n), mode=mode)
        ]
    ]
    half = task.section // 2
    found["surprise"] = [
        pair
        for change in (
            {"offset": half // 2}, {"offset": half}, {"section": half}, {"section": half // 2},
        )
        for pair in on(policies(COMPARED), **change)
    ]  # fmt: skip
    return found


def changed(plan: Plan, change: dict[str, Any]) -> tuple[TaskConfig, float]:
    """The documents of a sweep, and their length."""
    change = dict(change)
    length = change.pop("length", 1)
    fields = vars(plan.task) | change | {"topics": plan.task.topics * length}
    if "section" in change:  # as many decoded tokens
        fields["sections"] = plan.task.sections * plan.task.section // change["section"]
    return TaskConfig(**fields), float(length)


def measured(
    plan: Plan,
    decoder: Decoder,
    indexers: Mapping[int, MemoryIndexers],
    device: torch.device,
    *,
    only: Callable[[str, Policy], bool] = lambda name, policy: True,
    left: Callable[[], bool] = lambda: True,
) -> Iterator[dict[str, list[Point]]]:
    """Every sweep with every seed; yields all points so far after each kind of documents.

    Args:
        plan: what is swept.
        decoder: frozen.
        indexers: by seed.
        device: of both.
        only: sweeps and policies that are wanted.
        left: whether there is time for more; asked before each held-out set.
    """
    found: dict[str, list[Point]] = {}
    grouped: dict[tuple[tuple[str, Any], ...], list[tuple[str, Policy]]] = {}
    for name, pairs in sweeps(plan).items():
        for change, policy in pairs:
            if only(name, policy):
                grouped.setdefault(tuple(sorted(change.items())), []).append((name, policy))
    for change, wanted in grouped.items():
        task, length = changed(plan, dict(change))
        for seed, trained in indexers.items():
            if not left():
                print(f"no time left for {dict(change)}, seed {seed}", flush=True)
                continue
            count = max(plan.held_out // int(length), 2)
            held = hold_out(decoder, trained, task, count, seed=seed, length=length, device=device)
            for name, policy in wanted:
                found.setdefault(name, []).append(measure(held, policy))
            del held
        gc.collect()
        yield found


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


def run_all(plan: Plan, options: Any) -> int:
    device = torch.device(options.device)
    name = device_name(device)
    torch.set_float32_matmul_precision("high")
    start = time.monotonic()
    out: Path = options.out

    def clock(title: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {title}", flush=True)

    def told(fraction: float, sentence: str, so_far: object = None) -> None:
        if fraction == 1.0 or options.talk:
            clock(sentence)

    def hurry(stage: str) -> bool:
        """A machine slower than expected ends its stages early, which the steps then tell."""
        share = next((s for word, s in HURRY.items() if stage.startswith(word)), 1.0)
        return time.monotonic() - start > share * options.seconds

    trained = train_decoder(plan.training, seed=0, device=device, hurry=hurry, progress=told)
    clock(f"decoder trained: {trained.steps}")
    shipped.as_stored(trained.decoder)
    torch.set_float32_matmul_precision("highest")
    values: dict[str, Any] = {
        "training": {
            "steps": trained.steps,
            "losses": {k: v[::10] for k, v in trained.losses.items()},
            "accuracy": {k: v[::10] for k, v in trained.accuracy.items()},
        },
        "weights": sum(p.numel() for p in trained.decoder.parameters()),
    }
    saved(out, plan, values, options, name)
    torch.save({"decoder": trained.decoder.state_dict()}, out / "raw.pt")

    documents = harvest(plan, trained, device)
    clock(f"harvested {len(documents)} documents")
    indexers: dict[int, MemoryIndexers] = {}
    losses: dict[int, tuple[float, ...]] = {}
    for seed in plan.seeds:
        done = train_indexers(documents, plan.training.attention, plan.indexer, seed=seed)
        shipped.as_stored(done.indexers)
        indexers[seed], losses[seed] = done.indexers, done.loss
        clock(f"indexers of seed {seed}: focal loss {done.loss[-1]:.4f}")
        if seed == plan.seeds[0]:
            made = {
                "command": " ".join(["benchmarks/lsa_arms.py", *sys.argv[1:]]),
                "commit": options.commit or records.commit_here() or "",
                "device": name,
                "torch": torch.__version__,
            }
            parts = (trained.decoder, indexers[seed])
            raw = dict(
                zip(("decoder", "memory"), (part.state_dict() for part in parts), strict=True)
            )
            torch.save(raw, out / "raw.pt")  # should the machine have no safetensors
            with contextlib.suppress(ImportError):
                shipped.save(out / shipped.TOPICAL, *parts, plan.training, made)
    del documents
    values["focal_loss"] = {str(seed): list(loss[::10]) for seed, loss in losses.items()}
    values["exactness"] = check(plan, trained, indexers[plan.seeds[0]], device)
    clock(f"exactness: {values['exactness']}")
    saved(out, plan, values, options, name)

    source = f"the shipped decoder, by {made['command']}"
    record(plan, trained.decoder, indexers[plan.seeds[0]], out, device, source)

    def left() -> bool:
        return time.monotonic() - start < options.seconds

    for points in measured(plan, trained.decoder, indexers, device, left=left):
        values["points"] = points
        values["seconds"] = round(time.monotonic() - start, 1)
        path = saved(out, plan, values, options, name)
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
        {seed: ready.indexers},
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
    parser.add_argument("--small", action="store_true", help="everything at a tiny size")
    parser.add_argument("--talk", action="store_true", help="a line for every step")
    parser.add_argument(
        "--seconds", type=float, default=280.0, help="after which nothing more is measured"
    )
    options = parser.parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))
    options.out.mkdir(parents=True, exist_ok=True)
    return run_all(small_plan() if options.small else Plan(), options)


if __name__ == "__main__":
    sys.exit(main())
