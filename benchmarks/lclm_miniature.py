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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import helpers
import torch
from lclm_miniature_arms import PARTS, RAW, WHOLE, Arm, Plan, growing, small_arms, small_plan

from intuitive.common import corpus, records
from intuitive.common.runtime import device_name, seeded
from intuitive.common.training import one_thread
from intuitive.lclm import chunks, fitting, miniature, task
from intuitive.lclm.fitting import HELD_OUT
from intuitive.lclm.miniature import RawReader, Size
from intuitive.lclm.stages import Mix, Stage
from intuitive.lclm.task import Examples, RecallTask, ReconstructionTask, TextTask

NAME = "lclm_miniature"
SLICE_TOLERANCE = 0.1  # on accuracy: rounding differs between devices, and grows while training
KEPT = 40  # points of a curve that are kept, at most


# --------------------------------------------------------------------------------- the training


@dataclass
class Workshop:
    """What arms share: texts, raw-trained decoders by seed, the device."""

    plan: Plan
    device: torch.device
    raw: dict[int, RawReader] = field(default_factory=dict)
    raw_points: list[dict[str, Any]] = field(default_factory=list)
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

    def recall(self, arm: Arm, share: Fraction = WHOLE) -> RecallTask:
        """The task of an arm, or the first `share` of its context with as many of its records."""
        plan = self.plan
        whole = plan.recall if arm.scale == "small" else plan.large_recall
        n_records = max(1, int(arm.n_records * share))
        return dataclasses.replace(
            whole, n_records=n_records, context=n_records * (whole.context // arm.n_records)
        )

    def symbols(self, arm: Arm, share: Fraction = WHOLE) -> ReconstructionTask:
        whole = self.plan.symbols if arm.scale == "small" else self.plan.large_symbols
        return dataclasses.replace(whole, context=int(whole.context * share))

    def pieces(self, share: Fraction = WHOLE) -> TextTask:
        text = self.plan.text
        return TextTask(context=int(text.context * share), continued=int(text.continued * share))

    def shape(self, arm: Arm) -> dict[str, int]:
        """Vocabulary and lengths of a miniature for this arm."""
        if arm.data == "records":
            of = self.recall(arm)
            return {"vocabulary": of.vocabulary, "context": of.context, "behind": of.questions}
        if arm.data == "symbols":
            of = self.symbols(arm)
            return {"vocabulary": of.vocabulary, "context": of.context, "behind": of.context}
        if arm.data == "chunks":
            return {"context": self.plan.chunks.n_chunks * self.plan.chunks.chunk}
        text = self.plan.text
        behind = max(text.context, text.continued)
        return {"vocabulary": text.vocabulary, "context": text.context, "behind": behind}

    def draw(self, arm: Arm, batch: int, share: Fraction = WHOLE) -> fitting.Draw:
        """Examples to train on, `share` as long and as many times more of them."""
        batch = int(batch / share)
        if arm.data == "chunks":
            of = self.plan.chunks
            return lambda steps, generator: of.draw(steps, batch, generator=generator).examples(of)
        if arm.data != "bytes":
            of = self.recall(arm, share) if arm.data == "records" else self.symbols(arm, share)
            return lambda steps, generator: of.draw(steps, batch, generator=generator)
        data, text = self.text("train"), self.pieces(share)
        again = arm.reconstruction
        rows = Mix(reconstruction=again, next_token=1 - again).rows(batch)

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

    def draws(self, arm: Arm, batch: int, stages: Sequence[Stage]) -> dict[str, fitting.Draw]:
        """Examples of each stage; those of the growing ones are as long as their names say."""
        return {
            stage.name: self.draw(arm, batch, Fraction(stage.name.partition(" of ")[0].split()[-1]))
            if " of " in stage.name
            else self.draw(arm, batch)
            for stage in stages
        }

    def measure(self, arm: Arm) -> fitting.Measure:
        """What is measured of an arm, on examples that nobody trains on."""
        n, generator = self.plan.held_out, seeded(HELD_OUT + arm.seed)
        if arm.data == "chunks":
            of = self.plan.chunks
            return chunks.chunk_measures(of.draw(n, generator=generator), of)
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
        return fitting.measures({name: one.to(self.device) for name, one in sets.items()})

    def raw_reader(self, seed: int, size: Size) -> RawReader:
        """A decoder that has learned to repeat raw bytes and to go on from them."""
        if seed not in self.raw:
            arm = Arm(
                study="raw", form=RAW[1], seed=seed, scale="large", data="bytes", reconstruction=0.5
            )
            reader = miniature.build(RAW[1], size, seed=seed, device=self.device, **self.shape(arm))
            stages = growing([Stage(name="raw", n_steps=self.plan.raw_steps, decoder=size.lr)])
            curve = fitting.fit(
                reader,
                self.draws(arm, size.batch, stages),
                self.measure(arm),
                stages,
                seed=seed,
                observe_every=500,
                recorded=self.recorded,
            )
            print(f"raw decoder of seed {seed}: {short(curve.values)}", flush=True)
            self.raw[seed] = reader
            self.raw_points.append(self.told(arm, curve, False))
        return self.raw[seed]

    def reader(self, arm: Arm, size: Size) -> torch.nn.Module:
        if arm.data == "chunks":
            return chunks.build_chunks(
                self.plan.chunks,
                size,
                ratio=arm.form.ratio,
                finer=self.plan.finer,
                seed=arm.seed,
                device=self.device,
            )
        if arm.training == "scratch":
            return miniature.build(
                arm.form, size, seed=arm.seed, device=self.device, **self.shape(arm)
            )
        raw = self.raw_reader(arm.seed, size)
        return miniature.build_upon(raw, arm.form, seed=arm.seed, copied=arm.study != "sweep")

    def stages(self, arm: Arm, size: Size) -> list[Stage]:
        """What trains when; the steps of an arm's study in all."""
        plan, lr = self.plan, size.lr
        steps = {
            ("small", "records"): plan.recall_steps,
            ("small", "symbols"): plan.reconstruction_steps,
            ("small", "chunks"): plan.chunk_steps,
            ("large", "bytes"): plan.sweep_steps if arm.study == "sweep" else plan.text_steps,
        }.get(arm.sizes, plan.large_steps)
        both = {"adapter": lr, "encoder": lr}
        slow = lr / 4  # a trained decoder, as in the paper's stage 2
        fifth = max(1, steps // 5)
        if arm.form.reader != "latents":
            stages = [Stage(name="raw", n_steps=steps, decoder=lr)]
        elif arm.training == "scratch":
            stages = [Stage(name="joint", n_steps=steps, decoder=lr, **both)]
        elif arm.training == "joint":
            stages = [Stage(name="joint", n_steps=steps, decoder=slow, **both)]
        else:
            stages = [Stage(name="adapter", n_steps=fifth, adapter=lr)]
            if arm.training == "frozen":
                stages.append(Stage(name="encoder", n_steps=steps - fifth, **both))
            else:
                ends = Stage(name="end to end", n_steps=steps - 3 * fifth, decoder=slow, **both)
                stages += [Stage(name="encoder", n_steps=2 * fifth, **both), ends]
        return stages if arm.scale == "small" else growing(stages)

    def run(self, arm: Arm, left: Callable[[], bool]) -> dict[str, Any]:
        """Train one arm, and say what came of it."""
        plan = self.plan
        size = plan.small if arm.scale == "small" else plan.large
        reader, stages = self.reader(arm, size), self.stages(arm, size)
        draws, measure, reached = self.draws(arm, size.batch, stages), self.measure(arm), False
        early = stages if arm.budget == "equal" else stages[:-1]
        curve = fitting.Curve(steps=(), values={})
        if early:
            curve = fitting.fit(
                reader,
                draws,
                measure,
                early,
                seed=arm.seed,
                observe_every=plan.observe_every * (1 + (arm.data == "bytes")),
                recorded=self.recorded,
            )
        if arm.budget == "plateau":
            late, reached = fitting.fit_to_plateau(
                reader,
                draws[stages[-1].name],
                measure,
                stages[-1],
                plan.small_plateau if arm.scale == "small" else plan.large_plateau,
                watch="recall loss" if arm.data == "records" else "reconstruction loss",
                seed=arm.seed,
                left=left,
                recorded=self.recorded,
            )
            curve = fitting.joined(curve, late)
        return self.told(arm, curve, reached)

    def told(self, arm: Arm, curve: fitting.Curve, reached: bool) -> dict[str, Any]:
        """What is written of an arm."""
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
            points += [{"part": part, **one} for one in (*shop.raw_points, found)]
            shop.raw_points.clear()
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
    found[f"chunks small {plan.chunks.records * plan.chunks.n_chunks}"] = plan.chunks.no_binding
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
