"""Miniatures of LCLM: recall and reconstruction against the ratio, the sweep, mixes and stages.

    python benchmarks/lclm_miniature.py --part small --device cuda --out FOLDER
    python benchmarks/lclm_miniature.py --part large --device cuda --out FOLDER
    python benchmarks/lclm_miniature.py --part sweep --device cuda --out FOLDER
    python benchmarks/lclm_miniature.py --part plateau --device cuda --out FOLDER
    python benchmarks/lclm_miniature.py --collect FOLDER...    all parts, as one committed file

`small` is what a laptop can do too (an hour there): two layers, 32 tokens. The others have four
layers on each side and read 256 tokens: made up ones, or bytes of the corpus. Arms are trained seed
by seed, each part written after every arm, so that what the time allows is there. Weights and
examples are drawn on the CPU, and are the same on every device.
"""

import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helpers
import torch

from intuitive.common import corpus, records
from intuitive.common.runtime import device_name, seeded
from intuitive.common.training import one_thread
from intuitive.lclm import miniature, task
from intuitive.lclm.miniature import HELD_OUT, Form, Measure, Plateau, RawReader, Reader, Size
from intuitive.lclm.stages import Mix, Stage
from intuitive.lclm.task import Examples, RecallTask, ReconstructionTask, TextTask

NAME = "lclm_miniature"
POOLINGS = ("mean", "concat", "last", "eos", "queries")
MASKS = ("causal", "bidirectional")
SLICE_TOLERANCE = 0.1  # on accuracy: rounding differs between devices, and grows while training
KEPT = 40  # points of a curve that are kept, at most


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every size and count."""

    seeds: tuple[int, ...] = (0, 1, 2)
    small: Size = field(default_factory=Size)
    large: Size = field(
        default_factory=lambda: Size(
            d_model=256, n_layers=4, n_heads=4, d_ff=704, batch=32, lr=1e-3
        )
    )
    recall: RecallTask = field(default_factory=RecallTask)
    symbols: ReconstructionTask = field(default_factory=ReconstructionTask)
    recall_steps: int = 400
    reconstruction_steps: int = 600
    small_plateau: Plateau = field(default_factory=Plateau)
    # the large ones
    records: tuple[int, ...] = (16, 32, 64)
    large_recall: RecallTask = field(
        default_factory=lambda: RecallTask(
            n_keys=128, n_values=32, n_records=32, context=256, questions=32
        )
    )
    large_symbols: ReconstructionTask = field(
        default_factory=lambda: ReconstructionTask(n_symbols=16, context=256)
    )
    text: TextTask = field(default_factory=TextTask)
    large_steps: int = 800
    raw_steps: int = 1500  # of the decoder alone, before latents
    text_steps: int = 800
    sweep_steps: int = 600
    ratios: tuple[int, ...] = (1, 2, 4, 8, 16)
    windows: tuple[int, ...] = (8, 64, 256)
    large_plateau: Plateau = field(default_factory=lambda: Plateau(every=400, patience=1200))
    held_out: int = 256  # examples
    observe_every: int = 100


def small_plan() -> Plan:
    """All kinds of arms at a tiny size, to see that they run."""
    tiny = Size(d_model=16, n_layers=1, n_heads=2, d_ff=16, batch=4)
    few = Plateau(every=2, patience=2, most=4)
    return Plan(
        seeds=(0,),
        small=tiny,
        large=tiny,
        recall_steps=4,
        reconstruction_steps=4,
        small_plateau=few,
        records=(2, 4),
        large_recall=RecallTask(n_records=2, context=32, questions=4),
        large_symbols=ReconstructionTask(n_symbols=4, context=32),
        text=TextTask(context=32, continued=16),
        large_steps=4,
        raw_steps=4,
        text_steps=4,
        sweep_steps=4,
        ratios=(1, 8),
        windows=(8, 32),
        large_plateau=few,
        held_out=8,
        observe_every=2,
    )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One miniature to train."""

    study: str
    form: Form
    seed: int
    scale: str = "small"
    data: str = "records"  # "records", "symbols" or "bytes"
    budget: str = "equal"
    training: str = "scratch"
    reconstruction: float = 0.0
    n_records: int = 0

    @property
    def sizes(self) -> tuple[str, str]:
        """What decides how long it takes."""
        return self.scale, self.data


# ---------------------------------------------------------------------------------- the studies


def latents(ratio: int, window: int, **choices: str) -> Form:
    return Form(ratio=ratio, window=window, **choices)


RAW = (Form(reader="smeared", ratio=1), Form(reader="raw", ratio=1))


def small_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """What the brief's recipe says, for a CPU."""
    recall = {"study": "recall", "n_records": plan.recall.n_records, "seed": seed}
    again = {"study": "reconstruction", "data": "symbols", "reconstruction": 1.0, "seed": seed}
    t, u = plan.recall.context, plan.symbols.context
    for form in (*(latents(n, t) for n in (1, 2, 4, 8, 16)), *RAW):
        yield Arm(form=form, **recall)
    for n in (1, 2, 4, 8, 16):
        yield Arm(form=latents(n, u), **again)
    for pooling in POOLINGS:
        for mask in MASKS:
            for window in (8, u):
                form = latents(8, window, pooling=pooling, mask=mask)
                yield Arm(form=form, **{**again, "study": "sweep"})
    for form in (latents(16, t), Form(reader="raw", ratio=1)):
        yield Arm(form=form, budget="plateau", **recall)
    for n in (4, 8, 16):
        yield Arm(form=latents(n, u), budget="plateau", **again)


def large_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Recall and reconstruction against the ratio, then mixes and stages, on real text."""
    t = plan.large_recall.context
    base = {"scale": "large", "seed": seed}
    for n_records in plan.records:
        recall = {"study": "recall", "n_records": n_records, **base}
        for form in (*(latents(n, t) for n in plan.ratios), RAW[0]):
            yield Arm(form=form, **recall)
    for data in ("bytes", "symbols"):
        for n in plan.ratios:
            kind = {"study": "reconstruction", "data": data, "reconstruction": 1.0, **base}
            yield Arm(form=latents(n, t), **kind)
    kind = {"study": "stages", "data": "bytes", "form": latents(8, t), **base}
    for share in (0.5, 1.0, 0.0):
        for training in ("joint", "staged", "frozen"):
            yield Arm(reconstruction=share, training=training, **kind)
    yield Arm(reconstruction=0.5, training="scratch", **kind)


def sweep_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Pooling, mask and window on real text, both objectives."""
    for window in plan.windows:
        for pooling in POOLINGS:
            for mask in MASKS:
                yield Arm(
                    study="sweep",
                    form=latents(8, window, pooling=pooling, mask=mask),
                    scale="large",
                    data="bytes",
                    training="joint",
                    reconstruction=0.5,
                    seed=seed,
                )


def plateau_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Recall and reconstruction until nothing is gained any more."""
    t = plan.large_recall.context
    base = {"scale": "large", "budget": "plateau", "seed": seed}
    n_records = plan.records[len(plan.records) // 2]
    for n in reversed(plan.ratios):
        yield Arm(study="recall", n_records=n_records, form=latents(n, t), **base)
        yield Arm(
            study="reconstruction", data="bytes", reconstruction=1.0, form=latents(n, t), **base
        )


PARTS = {"small": small_arms, "large": large_arms, "sweep": sweep_arms, "plateau": plateau_arms}


# --------------------------------------------------------------------------------- the training


@dataclass
class Workshop:
    """What arms share: texts, raw-trained decoders by seed, the device."""

    plan: Plan
    device: torch.device
    raw: dict[int, RawReader] = field(default_factory=dict)
    recorded: bool = True  # steps as CUDA graphs, until one fails

    def text(self, split: str) -> torch.Tensor:
        """English prose and code of one split as bytes."""
        documents = [
            document.text
            for document in corpus.load(split)
            if document.kind == "code" or document.name.split(".")[0].endswith(ENGLISH)
        ]
        joined = "\n\n".join(documents).encode()
        return torch.frombuffer(bytearray(joined), dtype=torch.uint8).long()

    def recall(self, arm: Arm) -> RecallTask:
        plan = self.plan
        whole = plan.recall if arm.scale == "small" else plan.large_recall
        return dataclasses.replace(whole, n_records=arm.n_records)

    def symbols(self, arm: Arm) -> ReconstructionTask:
        return self.plan.symbols if arm.scale == "small" else self.plan.large_symbols

    def shape(self, arm: Arm) -> dict[str, int]:
        """Vocabulary and lengths of a miniature for this arm."""
        if arm.data == "records":
            of = self.recall(arm)
            return {"vocabulary": of.vocabulary, "context": of.context, "behind": of.questions}
        if arm.data == "symbols":
            of = self.symbols(arm)
            return {"vocabulary": of.vocabulary, "context": of.context, "behind": of.context}
        text = self.plan.text
        behind = max(text.context, text.continued)
        return {"vocabulary": text.vocabulary, "context": text.context, "behind": behind}

    def draw(self, arm: Arm, batch: int) -> miniature.Draw:
        """Examples to train on."""
        if arm.data == "records":
            of = self.recall(arm)
            return lambda steps, generator: of.draw(steps, batch, generator=generator)
        if arm.data == "symbols":
            of = self.symbols(arm)
            return lambda steps, generator: of.draw(steps, batch, generator=generator)
        data, text = self.text("train"), self.plan.text
        share = arm.reconstruction
        rows = Mix(reconstruction=share, next_token=1 - share).rows(batch)

        def mixed(steps: int, generator: torch.Generator) -> Examples:
            return task.joined(
                [
                    text.draw(
                        data, steps, n, reconstruct=kind == "reconstruction", generator=generator
                    )
                    for kind, n in rows.items()
                ]
            )

        return mixed

    def measure(self, arm: Arm) -> Measure:
        """What is measured of an arm, on examples that nobody trains on."""
        n, generator = self.plan.held_out, seeded(HELD_OUT + arm.seed)
        if arm.data == "records":
            sets = {"recall": self.recall(arm).draw(n, generator=generator)}
        elif arm.data == "symbols":
            sets = {"reconstruction": self.symbols(arm).draw(n, generator=generator)}
        else:
            data, text = self.text("heldout"), self.plan.text
            again, on = (
                text.draw(data, n, reconstruct=again, generator=generator)
                for again in (True, False)
            )
            other = dataclasses.replace(on, spans=on.spans.roll(1, 0))  # another text's latents
            sets = {"reconstruction": again, "continuation": on, "without": other}
        return miniature.measures({name: one.to(self.device) for name, one in sets.items()})

    def raw_reader(self, seed: int, size: Size) -> RawReader:
        """A decoder that has learned to repeat raw bytes and to go on from them."""
        if seed not in self.raw:
            arm = Arm(
                study="raw", form=RAW[1], seed=seed, scale="large", data="bytes", reconstruction=0.5
            )
            reader = miniature.build(RAW[1], size, seed=seed, device=self.device, **self.shape(arm))
            stage = Stage(name="raw", n_steps=self.plan.raw_steps, decoder=size.lr)
            curve = miniature.fit(
                reader,
                self.draw(arm, size.batch),
                self.measure(arm),
                [stage],
                seed=seed,
                observe_every=500,
                recorded=self.recorded,
            )
            print(f"raw decoder of seed {seed}: {short(curve.values)}", flush=True)
            self.raw[seed] = reader
        return self.raw[seed]

    def reader(self, arm: Arm, size: Size) -> Reader:
        if arm.training == "scratch":
            return miniature.build(
                arm.form, size, seed=arm.seed, device=self.device, **self.shape(arm)
            )
        raw = self.raw_reader(arm.seed, size)
        return miniature.build_upon(raw, arm.form, seed=arm.seed, copied=arm.study == "stages")

    def stages(self, arm: Arm, size: Size) -> list[Stage]:
        """What trains when; the steps of an arm's study in all."""
        plan, lr = self.plan, size.lr
        steps = {
            ("small", "records"): plan.recall_steps,
            ("small", "symbols"): plan.reconstruction_steps,
            ("large", "bytes"): plan.sweep_steps if arm.study == "sweep" else plan.text_steps,
        }.get(arm.sizes, plan.large_steps)
        if arm.form.reader != "latents":
            return [Stage(name="raw", n_steps=steps, decoder=lr)]
        both = {"adapter": lr, "encoder": lr}
        if arm.training == "scratch":
            return [Stage(name="joint", n_steps=steps, decoder=lr, **both)]
        slow = lr / 4  # a trained decoder, as in the paper's stage 2
        first, second = max(1, steps // 8), max(1, steps * 3 // 8)
        if arm.training == "joint":
            return [Stage(name="joint", n_steps=steps, decoder=slow, **both)]
        adapter = Stage(name="adapter", n_steps=first, adapter=lr)
        if arm.training == "frozen":
            return [adapter, Stage(name="encoder", n_steps=steps - first, **both)]
        return [
            adapter,
            Stage(name="encoder", n_steps=second, **both),
            Stage(name="end to end", n_steps=steps - first - second, decoder=slow, **both),
        ]

    def run(self, arm: Arm, left: Callable[[], bool]) -> dict[str, Any]:
        """Train one arm, and say what came of it."""
        plan = self.plan
        size = plan.small if arm.scale == "small" else plan.large
        reader, stages = self.reader(arm, size), self.stages(arm, size)
        draw, measure, reached = self.draw(arm, size.batch), self.measure(arm), False
        if arm.budget == "equal":
            curve = miniature.fit(
                reader,
                draw,
                measure,
                stages,
                seed=arm.seed,
                observe_every=plan.observe_every * (1 + (arm.data == "bytes")),
                recorded=self.recorded,
            )
        else:
            curve, reached = miniature.fit_to_plateau(
                reader,
                draw,
                measure,
                stages[0],
                plan.small_plateau if arm.scale == "small" else plan.large_plateau,
                watch="recall loss" if arm.data == "records" else "reconstruction loss",
                seed=arm.seed,
                left=left,
                recorded=self.recorded,
            )
        thin = -(-len(curve.steps) // KEPT)
        kept = [*range(0, len(curve.steps) - 1, thin), len(curve.steps) - 1]
        form = dataclasses.asdict(arm.form)
        form.pop("adapter")
        return {
            **{
                name: getattr(arm, name)
                for name in (
                    "study", "scale", "data", "budget", "training", "reconstruction", "n_records",
                    "seed",
                )
            },
            **form,
            "context": self.shape(arm)["context"],
            "steps": curve.steps[-1],
            "reached": reached,
            "curve_steps": [curve.steps[i] for i in kept],
            "curve": {name: [values[i] for i in kept] for name, values in curve.values.items()},
        }  # fmt: skip


ENGLISH = ("northanger-abbey", "alice", "english")  # ends of names; code is English anyway


def short(curve: dict[str, Sequence[float]]) -> str:
    """The last value of each measure."""
    return ", ".join(f"{name} {values[-1]:.3f}" for name, values in curve.items())


# ------------------------------------------------------------------------------------ the script


def run_part(part: str, plan: Plan, options: Any) -> Path:
    """Train the arms of a part, seed by seed, as far as the time goes; write after each."""
    begun = time.monotonic()
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("high")
    shop = Workshop(plan, device)
    made = device_name(device)
    points: list[dict[str, Any]] = []
    took: dict[Any, float] = {}
    path = options.out / f"{NAME}_{part}.json"

    def seconds() -> float:
        return time.monotonic() - begun

    def write() -> None:
        words = iter(sys.argv[1:])
        told = [word for word in words if word != "--out" or not next(words)]
        how = {
            "command": " ".join([Path(sys.argv[0]).name, *told]),
            "commit": options.commit or records.commit_here() or "",
            "device": made,
            "torch": torch.__version__,
            "seconds": round(seconds(), 1),
        }
        values = {"parts": {part: how}, "points": points, "guesses": guesses(plan)}
        records.save(
            path,
            helpers.rounded(values, digits=4),
            config=helpers.rounded(plan, digits=6),
            device=made,
            commit=options.commit,
            seed=list(plan.seeds),
        )

    skipped = 0
    for seed in plan.seeds:
        for arm in PARTS[part](plan, seed):
            kind = (*arm.sizes, arm.budget, arm.study)
            if seconds() + 1.2 * took.get(kind, 0.0) > options.seconds:
                skipped += 1
                continue
            start = seconds()

            def left(start: float = start) -> bool:  # with room for the rate to fall
                return seconds() + (seconds() - start) / 3 < options.seconds

            try:
                found = shop.run(arm, left)
            except Exception as error:  # one arm's fault must not cost the others
                if options.small:
                    raise
                print(f"FAILED {arm}: {type(error).__name__}: {error}", flush=True)
                if not points:
                    shop.recorded = False  # perhaps the graph; plain steps are slower
                continue
            finally:
                tidy(device)
            took[kind] = seconds() - start
            points.append({"part": part, **found})
            last = {k: v for k, v in found["curve"].items() if "accuracy" in k or "cont" in k}
            print(
                f"{seconds():6.1f} s  seed {seed} {arm.study} {arm.data} {arm.budget} "
                f"{arm.training} {arm.form.reader} N={arm.form.ratio} W={arm.form.window} "
                f"{arm.form.pooling} {arm.form.mask} r={arm.n_records} mix={arm.reconstruction} "
                f"{found['steps']} steps, {took[kind]:.1f} s: {short(last)}",
                flush=True,
            )
            if len(points) % 10 == 0:
                write()
    write()
    print(f"{part}: {len(points)} arms in {seconds():.0f} s, {skipped} left out; {path.name}")
    return path


def tidy(device: torch.device) -> None:
    """Give back what an arm's recorded graph held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def guesses(plan: Plan) -> dict[str, float]:
    """What is right without binding or reading, by data, scale and number of records."""
    found = {f"records small {plan.recall.n_records}": plan.recall.no_binding}
    for n in plan.records:
        large = dataclasses.replace(plan.large_recall, n_records=n)
        found[f"records large {n}"] = large.no_binding
    found["symbols small 0"] = plan.symbols.chance
    found["symbols large 0"] = plan.large_symbols.chance
    return found


def collect(folders: Sequence[Path], out: Path) -> Path:
    """Put the parts that lie in these folders into one file; later folders replace earlier."""
    parts: dict[str, Any] = {}
    for folder in folders:
        for file in sorted(folder.glob(f"{NAME}_*.json")):
            values, made = records.load(file)
            parts[file.stem.removeprefix(f"{NAME}_")] = (values, made)
    if not parts:
        raise FileNotFoundError(f"no {NAME}_*.json in {', '.join(map(str, folders))}.")
    values = {
        "parts": {k: v for one, _ in parts.values() for k, v in one["parts"].items()},
        "points": [point for one, _ in parts.values() for point in one["points"]],
        "guesses": {k: v for one, _ in parts.values() for k, v in one["guesses"].items()},
    }
    first = next(iter(parts.values()))[1]
    return records.save(
        out / f"{NAME}.json",
        values,
        config={name: made["config"] for name, (_, made) in sorted(parts.items())},
        device=first["device"],
        commit=first["commit"],
        seed=first["seed"],
    )


def compare_slice(folder: Path) -> list[str]:
    """Train one small arm again: recall with one record per latent, of the first seed."""
    values, _ = records.load(folder / f"{NAME}.json")
    plan = Plan()
    arm = next(
        arm
        for arm in small_arms(plan, plan.seeds[0])
        if arm.study == "recall" and arm.form.ratio == 8
    )
    again = Workshop(plan, torch.device("cpu")).run(arm, lambda: True)
    (had,) = (
        point
        for point in values["points"]
        if all(
            point[name] == again[name]
            for name in ("study", "scale", "budget", "reader", "ratio", "seed", "window", "steps")
        )
    )
    faults = []
    for name in ("recall accuracy",):
        got, known = again["curve"][name][-1], had["curve"][name][-1]
        print(f"recall at N = 8: {name} {got:.3f}, committed {known:.3f}")
        if abs(got - known) > SLICE_TOLERANCE:
            faults.append(f"recall at N = 8: {name} is {got:.3f}, committed {known:.3f}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--out", type=Path, default=helpers.RESULTS, help="where results go")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--part", choices=[*PARTS], nargs="*", default=[*PARTS])
    parser.add_argument("--small", action="store_true", help="everything at a tiny size")
    parser.add_argument("--seconds", type=float, default=440.0, help="of each part; it ends inside")
    parser.add_argument("--collect", type=Path, nargs="+", help="folders in which parts lie")
    options = parser.parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))
    options.out.mkdir(parents=True, exist_ok=True)
    if options.collect:
        print(f"Written to {collect(options.collect, options.out)}")
        return 0
    for part in options.part:
        run_part(part, small_plan() if options.small else Plan(), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
