"""SmolLM2 with an encoder of its own first layers: training on real text, and what it is worth.

    python benchmarks/lclm_smollm.py --device cuda --corpus FOLDER --out OUT --seed 0 --seconds 480
    python benchmarks/lclm_smollm.py ... --candidate NAME   with other settings
    python benchmarks/lclm_smollm.py ... --probe-only       the beginning alone, looked at often
    python benchmarks/lclm_smollm.py ... --control          the decoder adapted to raw text alone
    python benchmarks/lclm_smollm.py --merge OUT            results of all seeds, `--ship`: weights
    python benchmarks/lclm_smollm.py --small --out OUT      a tiny cut for two CPU cores
    python benchmarks/lclm_smollm.py --slice                measure a little again and compare

FOLDER is made by `lclm_corpus.py`. Training begins with short texts to be repeated; then
every step also holds text that alternates between compressed and raw, raw text, and maps of chunks
with questions; each has its own ratio. The decoder's low-rank changes join after adapters and
encoder. Settings were chosen by
the validation texts (`--pilot` prints them at the end); the held-out texts are read once, after
training, by the weights as they are stored, in float32.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import helpers
import lclm_smollm_eval as measures
import torch
from lclm_needles import HELD_OUT_PLACES, PLACES, needles
from lclm_smollm_fit import Training, told
from lclm_smollm_training import CANDIDATES, Plan, smollm2
from lclm_texts import KINDS, Batches, Texts
from torch import Tensor

from intuitive.common import corpus, records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2
from intuitive.common.weights import from_int8, to_int8
from intuitive.lclm.smollm import REPEAT, WEIGHTS, SmolLatents, load_pair, save_pair

ON_CPU = 0.01  # nats per token, from TF32 products on the GPU to float32 ones

# ------------------------------------------------------------------------------------ one seed


def probe(plan: Plan, args, device: torch.device, texts: Texts) -> None:
    """The beginning of a training with these settings, looked at every few seconds."""
    started = time.perf_counter()
    trained = Training(plan, args, device, texts)
    print(f"{args.candidate}: ready after {time.perf_counter() - started:.0f} s", flush=True)
    if not args.control:
        print(f"before: {told(trained.watch())}", flush=True)
    left = args.seconds - (time.perf_counter() - started)
    curve = trained.run(left, args.steps, of=args.of, every=args.every)
    recorded = trained.steps.recorded
    print(f"{len(recorded.kept)} forms recorded {recorded.fault}", flush=True)
    values = {"candidate": args.candidate, "curve": curve, "steps": trained.masters.taken}
    if trained.opened:
        trained.weights()
        values["stored"] = trained.watch()
        print(f"stored with ranks {plan.ranks}: {told(values['stored'])}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(helpers.rounded(values, digits=6), indent=1)
    (args.out / f"probe-{args.candidate}-seed{args.seed}.json").write_text(text + "\n")


def train(plan: Plan, args, device: torch.device, texts: Texts) -> tuple[dict[str, Tensor], dict]:
    """Train one seed; its weights, and what it took."""
    begun = time.perf_counter()
    trained = Training(plan, args, device, texts)
    spent = time.perf_counter() - begun
    print(f"training from {spent:.0f} s on", flush=True)
    seconds = args.seconds - spent - (2 if args.small else args.keep)
    start = time.perf_counter()
    curve = trained.run(seconds, args.steps, every=args.every)
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    took = {
        "seed": args.seed,
        "candidate": args.candidate,
        "steps": trained.masters.taken,
        "seconds": time.perf_counter() - start,
        "peak_gib": memory,
        "recorded": len(trained.steps.recorded.kept),
        "fault": trained.steps.recorded.fault,
        "curve": curve,
    }
    if trained.opened:
        took["validation_whole"] = trained.validation()
    weights = trained.weights()
    if not args.control:
        took["validation"] = trained.validation()
    return weights, took


def passages(texts: Texts, plan: Plan, device: torch.device, split: str) -> dict[str, Tensor]:
    """[pieces, n] passages by kind; held-out prose half from each of its two books."""
    n = (measures.CONTEXT + measures.CONTINUATION) // plan.scale
    books = [texts.named(split, "prose", name, device) for name in ("alice.txt", "persuasion")]
    half = [book.pieces(plan.pieces // 2, n) for book in books if book is not None]
    sets = {"prose": torch.cat(half)} if half else {}
    for kind in KINDS:
        if kind not in sets and texts.has(split, kind):
            sets[kind] = texts.of(split, kind).pieces(max(1, plan.pieces * 2 // 3), n)
    return sets


def evaluate(weights: dict, plan: Plan, args, device: torch.device, texts: Texts) -> Iterator[dict]:
    """All that is measured on held-out texts, table by table, with the weights as they are stored.

    A pilot reads the validation texts instead.
    """
    split = "validation" if args.pilot else "heldout"
    smollm = smollm2(device, torch.float32, args.small)
    model = SmolLatents(smollm, plan.ranks).requires_grad_(False)
    model.put(from_int8(to_int8(weights, keep=("tags", "places"))))
    batches = Batches(
        smollm,
        texts,
        replace(plan.mix, returning=0.0),
        device,
        9,
        split=split,
        scale=plan.scale,
    )
    places = PLACES if args.pilot else HELD_OUT_PLACES
    held = needles(smollm, places, device, 1)
    largest = {}
    for bucket in sorted(held, key=lambda bucket: len(bucket.place)):
        largest[bucket.fact[0]] = bucket
    batches.buckets = list(largest.values())[: 1 if args.small else None]
    sets = passages(texts, plan, device, split)
    if args.small:
        sets = {"prose": sets["prose"]}
    reader = measures.Reader(model, rows=2 if args.small else 72)
    end = smollm.end_of_text
    name = "raw only" if args.control else "shared"
    found: dict = {}
    latents = not args.control
    found |= {"continuations": [], "far": []}
    found["continuations"] = measures.continuations(sets, reader, end, name, latents)
    yield found
    if latents:
        found["reconstruction"] = measures.reconstructions(smollm, sets, reader, batches.repeat)
        small = {"n_chunks": 3, "n": 24} if args.small else {}
        rows = min(128, plan.questions)
        found["maps"] = measures.maps(
            batches, held, reader, device, count=plan.questions, rows=rows, **small
        )
        yield found
    prose = {"prose": sets["prose"]}
    found["far"] = measures.far(prose, batches, reader, end, name, latents)
    yield found
    if latents and args.seed == 0:
        untouched = measures.Reader(model, smollm.decoder, rows=reader.rows)
        found["continuations"] += measures.continuations(sets, untouched, end, "none", False)
        found["far"] += measures.far(prose, batches, untouched, end, "none", False)
        yield found


def timings(plan: Plan, args, device: torch.device, texts: Texts, weights: dict) -> list[dict]:
    """Time to first token and peak memory, in the training's dtype."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    smollm = smollm2(device, dtype, args.small)
    model = SmolLatents(smollm, plan.ranks).requires_grad_(False)
    model.put(weights)
    stream = texts.of("heldout", "prose")
    prompts = 16 if device.type == "cuda" else 1
    return measures.costs(
        smollm, model, stream, plan.lengths, prompts=prompts, repeats=plan.repeats
    )


def run(plan: Plan, args) -> None:
    device = torch.device(args.device)
    started = time.perf_counter()
    torch.set_float32_matmul_precision("high")
    texts = Texts(args.corpus, None if args.corpus else load_smollm2(), device)
    print(f"texts {texts.about}, {time.perf_counter() - started:.0f} s", flush=True)
    args.seconds -= time.perf_counter() - started
    if args.probe_only:
        return probe(plan, args, device, texts)
    weights, took = train(plan, args, device, texts)
    if whole := took.get("validation_whole"):
        print(f"whole encoder: {json.dumps(helpers.rounded(whole, digits=4))}")
    words = {k: round(v, 4) for k, v in took.get("validation", {}).items()}
    print(f"{took['steps']} steps, peak {took['peak_gib']} GiB, validation {json.dumps(words)}")
    kind = "control" if args.control else "pair"
    holder = SmolLatents(smollm2("cpu", torch.float32, args.small), plan.ranks)
    holder.put({name: weight.cpu() for name, weight in weights.items()})
    made = {"command": " ".join(records.command()), "commit": args.commit or ""}
    made |= {"device": device_name(device), "torch": torch.__version__, "seed": str(args.seed)}
    save_pair(args.out / f"{kind}-seed{args.seed}.safetensors", holder, made)
    values = {"training": took, "texts": texts.about}

    def save() -> None:
        records.save(
            args.out / f"{kind}-seed{args.seed}.json",
            helpers.rounded(values, digits=6),
            config=asdict(plan),
            device=device_name(device),
            commit=args.commit,
            seed=args.seed,
        )

    save()
    for found in evaluate(weights, plan, args, device, texts):
        values |= found
        save()
        print(f"measured {list(found)}, {time.perf_counter() - started:.0f} s", flush=True)
    if args.pilot:
        print(json.dumps(helpers.rounded(values, digits=4)))
    if not args.control and args.seed == 0:
        values["costs"] = timings(plan, args, device, texts, weights)
        save()
    print(f"done after {time.perf_counter() - started:.0f} s", flush=True)


TABLES = ("continuations", "far", "reconstruction", "maps")


def merge(found: Path, folder: Path, ship: bool) -> None:
    """Put the outputs of all seeds into one result, and the first seed's weights into the package.

    A control, and a pair called `longer-seed0.json`, may come from a later commit and another
    device; `parts` says how each was made. The longer one stays apart: it is no further seed.

    Args:
        found: where the outputs lie.
        folder: where the result goes.
        ship: whether the weights are worth it.

    Raises:
        ValueError: the pairs had different settings, commits or devices.
    """
    values: dict = {"training": [], "costs": [], "texts": {}, "parts": {}, "longer": None}
    values |= {name: [] for name in TABLES}
    seen, settings, seeds, first = set(), set(), set(), {}
    for path in sorted(found.glob("*-seed*.json")):
        ours, made = records.load(path)
        kind = path.name.partition("-")[0]
        tables = {
            name: [{"seed": made["seed"], **row} for row in ours.get(name, [])] for name in TABLES
        }
        training = {"control": kind == "control", **ours["training"]}
        if path.name.endswith("-seed0.json"):
            part = {name: made[name] for name in ("commit", "device", "torch")}
            values["parts"][kind] = {"command": " ".join(made["command"]), **part}
        if kind != "control":  # which has no settings to choose
            settings.add(made["config_hash"])
        if kind == "longer":
            values["longer"] = {"training": training, **tables}
            continue
        if kind == "pair":
            seen.add((made["commit"], made["device"]))
        seeds.add(made["seed"])
        first = made if path.name == "pair-seed0.json" else first
        values["texts"] = ours["texts"]
        values["training"].append(training)
        values["costs"] += ours.get("costs", [])
        for name, rows in tables.items():
            values[name] += rows
    if len(seen) != 1 or len(settings) != 1:
        raise ValueError(
            f"runs differ in settings, commit or device: {sorted(seen)}, {sorted(settings)}."
        )
    ((commit, device),) = seen
    if ship:
        shutil.copyfile(found / "pair-seed0.safetensors", WEIGHTS)
    saved = records.save(
        folder / "lclm_smollm.json",
        values,
        config=first["config"],
        device=device,
        commit=commit,
        seed=sorted(seeds),
    )
    document = json.loads(saved.read_text(encoding="utf-8"))
    document["made"] |= {name: first[name] for name in ("command", "python", "torch", "written")}
    saved.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{saved.name}: {len(values['continuations'])} continuations, seeds {sorted(seeds)}")


def compare(folder: Path) -> list[str]:
    """Measure the first held-out passage again with the shipped weights; what differs."""
    values, _ = records.load(folder / "lclm_smollm.json")
    smollm = load_smollm2()
    reader = measures.Reader(load_pair(smollm).model)
    n = measures.CONTEXT + measures.CONTINUATION
    (alice,) = (d for d in corpus.load("heldout") if d.name == "alice.txt")
    piece = torch.tensor(smollm.tokenizer.encode(alice.text)[:n])[None]
    faults = []
    rows = measures.continuations({"prose": piece}, reader, smollm.end_of_text, "shared", True)
    for row in rows:
        (committed,) = (
            one["first_nats"][0]
            for one in values["continuations"]
            if one["seed"] == 0 and all(one[k] == row[k] for k in ("texts", "adaptation", "arm"))
        )
        if abs(committed - row["first_nats"][0]) > ON_CPU:
            faults.append(f"{row['arm']}: {row['first_nats'][0]:.4f} nats, not {committed:.4f}")
    repeat = torch.tensor(smollm.tokenizer.encode(REPEAT))
    for row in measures.reconstructions(smollm, {"prose": piece}, reader, repeat):
        (committed,) = (
            one["first_right"][0]
            for one in values["reconstruction"]
            if (one["seed"], one["texts"], one["ratio"]) == (0, "prose", row["ratio"])
        )
        if abs(committed - row["first_right"][0]) > 3 / measures.WINDOW:  # ties
            faults.append(f"ratio {row['ratio']}: {row['first_right'][0]:.3f}, not {committed:.3f}")
    return faults


def main() -> None:
    parser = helpers.options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="the cut for two CPU cores")
    parser.add_argument(
        "--corpus", type=Path, help="of lclm_corpus.py; the committed texts if none"
    )
    parser.add_argument("--out", type=Path, help="where everything goes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=480.0, help="in which all must be done")
    parser.add_argument("--keep", type=float, default=70.0, help="seconds of it for measuring")
    parser.add_argument("--steps", type=int, help="of training, in the place of a time")
    parser.add_argument("--candidate", choices=CANDIDATES, default="low", help="named settings")
    parser.add_argument("--probe-only", action="store_true", help="train for a while and look")
    parser.add_argument("--of", type=float, default=400.0, help="seconds that a probe begins")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two looks")
    parser.add_argument("--control", action="store_true", help="only the decoder, on raw text")
    parser.add_argument("--pilot", action="store_true", help="measure on validation texts")
    parser.add_argument("--eager", action="store_true", help="record no steps for replaying")
    parser.add_argument("--merge", type=Path, help="a folder of all seeds' outputs")
    parser.add_argument("--ship", action="store_true", help="merge the first seed's weights too")
    parser.add_argument("--set", nargs="*", default=[], help="settings, such as lr_encoder=2e-3")
    args = parser.parse_args()
    plan = replace(Plan.small() if args.small else Plan(), **CANDIDATES[args.candidate])
    for setting in args.set:
        name, value = setting.split("=")
        plan = changed(plan, name, json.loads(value))
    if args.slice:
        sys.exit(helpers.told(compare(args.folder)))
    if args.merge is not None:
        return merge(args.merge, args.folder, args.ship)
    if args.out is None:
        parser.error("name a folder for the results: --out FOLDER")
    return run(plan, args)


def changed(plan: Plan, name: str, value: float | list) -> Plan:
    """The plan with one setting changed; "mix.raw" and "ranks.encoder_mlp" reach inside."""
    value = tuple(value) if isinstance(value, list) else value
    if "." in name:
        outer, inner = name.split(".")
        return replace(plan, **{outer: replace(getattr(plan, outer), **{inner: value})})
    return replace(plan, **{name: value})


if __name__ == "__main__":
    main()
