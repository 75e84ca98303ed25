"""Where `lclm_miniature.py` trains its arms: tasks, texts, stages, and what is measured."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from lclm_miniature_arms import RAW, WHOLE, Arm, Plan, growing

from intuitive.common import corpus
from intuitive.common.runtime import seeded
from intuitive.lclm import chunks, fitting, miniature, task
from intuitive.lclm.fitting import HELD_OUT
from intuitive.lclm.miniature import RawReader, Size
from intuitive.lclm.stages import Mix, Stage, held_then_falling
from intuitive.lclm.task import Examples, RecallTask, ReconstructionTask, TextTask

KEPT = 40  # points of a curve that are kept, at most


@dataclass
class Workshop:
    """What arms share: texts, raw-trained decoders by seed, the device."""

    plan: Plan
    device: torch.device
    raw: dict[int, RawReader] = field(default_factory=dict)
    together: bool = True
    raw_points: list[dict[str, Any]] = field(default_factory=list)

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
            whole,
            n_keys=max(whole.n_keys, arm.n_records),  # whatever the share: one vocabulary
            n_records=n_records,
            context=n_records * (whole.context // arm.n_records),
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

    def raw_readers(self, size: Size) -> dict[int, RawReader]:
        """For each seed a decoder that has learned to repeat raw bytes and to go on from them."""
        if not self.raw:
            arms = [
                Arm(
                    study="raw",
                    form=RAW[1],
                    seed=seed,
                    scale="large",
                    data="bytes",
                    reconstruction=0.5,
                )
                for seed in self.plan.seeds
            ]
            readers, curves = self.train(arms, size)
            for arm, reader, curve in zip(arms, readers, curves, strict=True):
                self.raw[arm.seed] = reader
                self.raw_points.append(self.told(arm, curve, False))
        return self.raw

    def reader(self, arm: Arm, size: Size) -> torch.nn.Module:
        """A miniature for this arm, untrained but for what it is built upon."""
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
        raw = self.raw_readers(size)[arm.seed]
        return miniature.build_upon(raw, arm.form, seed=arm.seed, copied=arm.study != "sweep")

    def stages(self, arm: Arm, size: Size) -> list[Stage]:
        """What trains when; the steps of an arm's study in all."""
        plan, lr = self.plan, size.lr
        steps = plan.steps.get(arm.study, plan.steps[f"{arm.scale} {arm.data}"])
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

    def train(
        self, arms: Sequence[Arm], size: Size
    ) -> tuple[list[torch.nn.Module], list[fitting.Curve]]:
        """Train arms that differ in their seed, side by side where that works."""
        plan = self.plan
        readers = [self.reader(arm, size) for arm in arms]
        measures = [self.measure(arm) for arm in arms]
        arm, stages = arms[0], self.stages(arms[0], size)
        draws = self.draws(arm, size.batch, stages)
        total = sum(stage.n_steps for stage in stages)
        observed = plan.observed if arm.scale == "small" else plan.observed_large
        every, seeds = max(1, total // observed), [one.seed for one in arms]
        early = stages if arm.budget == "equal" else stages[:-1]
        curves: list[fitting.Curve] = []
        if early:
            curves = self.fit(readers, draws, measures, early, seeds=seeds, observe_every=every)
        if arm.budget == "plateau":
            n_steps = plan.longer[f"{arm.scale} {arm.data}"]
            last = dataclasses.replace(stages[-1], n_steps=n_steps)
            late = self.fit(
                readers,
                draws[last.name],
                measures,
                [last],
                seeds=seeds,
                schedule=held_then_falling,
                observe_every=max(1, n_steps // plan.observed_longer),
            )
            pairs = zip(curves, late, strict=True) if early else ()
            curves = [fitting.joined(*pair) for pair in pairs] or late
        return readers, curves

    def fit(self, readers: Any, draw: Any, measures: Any, stages: Any, **how: Any) -> Any:
        """Side by side, or one after the other, which comes to the same."""
        if self.together:
            return fitting.fit_together(readers, draw, measures, stages, **how)
        seeds = how.pop("seeds")
        return [
            fitting.fit(reader, draw, measure, stages, seed=seed, **how)
            for reader, measure, seed in zip(readers, measures, seeds, strict=True)
        ]

    def run(self, arms: Sequence[Arm]) -> list[dict[str, Any]]:
        """Train arms that differ in their seed, and say what came of them."""
        plan, arm = self.plan, arms[0]
        _, curves = self.train(arms, plan.small if arm.scale == "small" else plan.large)
        found = []
        for one, curve in zip(arms, curves, strict=True):
            reached = False
            if arm.budget == "plateau":
                n_steps = plan.longer[f"{arm.scale} {arm.data}"]
                watch = "recall loss" if arm.data == "records" else "reconstruction loss"
                held = curve.steps[-1] - round(0.2 * n_steps)  # then the rate begins to fall
                reached = fitting.settled(curve, watch, before=held)
            found.append(self.told(one, curve, reached))
        return found

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
