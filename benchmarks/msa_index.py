"""SmolLM2's MSA index: trained on long texts in which passages return, and what it is worth.

    python benchmarks/msa_index.py --device cuda --corpus FOLDER --out OUT --student 128:64:main:0 \
        --seconds 500 [--adapt 100] [--selectors]
    python benchmarks/msa_index.py --merge OUT [--ship]    all parts as one result, and the weights
    python benchmarks/msa_index.py --small --out OUT       a tiny cut for two CPU cores
    python benchmarks/msa_index.py --slice                 measure a little again and compare

FOLDER is made by `lclm_corpus.py`; none of its training texts shares eight words in a row with a
held-out text of `msa_conversion.py`. A student is named `d_index:d_rotary:start:seed`, where start
is "main" (weights made of the main heads) or "random"; several in one process learn from the same
texts, and the first is the one that is adapted to. All have learned with what 4 bits leave of their
weights, and are measured as they are stored. What is chosen is chosen by the validation texts.
"""

import dataclasses
import functools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import helpers
import msa_conversion as conversion
import msa_index_merge
import torch
from lclm_texts import KINDS, Texts
from msa_index_step import Student
from msa_index_training import Adaptation, Feed, Schedule, Training, kernel_differs

from intuitive.common import records
from intuitive.common.decoder import Decoder
from intuitive.common.runtime import device_name, seeded
from intuitive.common.smollm import load_smollm2
from intuitive.common.weights import save_weights
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.index import TrainedIndex, save_index, stored
from intuitive.msa.reference import SELECTORS

rounded = functools.partial(helpers.rounded, digits=5)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one process trains and measures."""

    schedule: Schedule = field(default_factory=Schedule)
    budgets: tuple[int, ...] = (2, 4, 8, 16)  # blocks
    contexts: tuple[int, ...] = (4096, 2048)
    pieces: int = 8  # held-out ones, as in `msa_conversion`
    recall_pieces: int = 4
    long_context: int | None = 8192
    long_pieces: int = 4
    validation: int = 6  # pieces, each also with a passage that returns
    judged: tuple[int, ...] = (4, 8, 16)  # budgets by which one is chosen

    @classmethod
    def small(cls) -> "Plan":
        """A cut for two CPU cores."""
        return cls(
            schedule=Schedule.small(), budgets=(2, 3), contexts=(320,), pieces=1, recall_pieces=0,
            long_context=None, validation=1, judged=(3,),
        )  # fmt: skip

    def quick(self) -> "Plan":
        """The same steps, and few measures, to try a machine."""
        return dataclasses.replace(
            self, budgets=(4, 8), contexts=self.contexts[:1], pieces=2, recall_pieces=1,
            long_context=None, validation=1, judged=(8,),
        )  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """A student by its name."""

    d_index: int
    d_rotary: int
    start: str
    seed: int

    @classmethod
    def of(cls, text: str) -> "Spec":
        d_index, d_rotary, start, seed = text.split(":")
        if start not in ("main", "random"):
            raise ValueError(f"start={start!r} must be main or random.")
        return cls(int(d_index), int(d_rotary), start, int(seed))

    def __str__(self) -> str:
        return f"d{self.d_index}-r{self.d_rotary}-{self.start}-s{self.seed}"

    @property
    def msa(self) -> MSAConfig:
        return dataclasses.replace(MSAConfig.smollm(), d_index=self.d_index, d_rotary=self.d_rotary)


class Bench:
    """One process: its students, and what was found so far."""

    def __init__(self, plan: Plan, args, device: torch.device) -> None:
        self.plan, self.args, self.device = plan, args, device
        self.begun = time.perf_counter()
        self.specs = [Spec.of(text) for text in args.student]
        self.wide = load_smollm2(device=device)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.narrow = load_smollm2(device=device, dtype=dtype).decoder
        self.texts = Texts(args.corpus, self.wide, torch.device("cpu"))
        self.feed = Feed(self.texts, plan.schedule, device, self.specs[0].seed, "train")
        self.impl = "triton" if device.type == "cuda" else "reference"
        self.indices: dict[Spec, TrainedIndex] = {}  # as trained
        self.values: dict = {"corpus": self.texts.about, "students": {}, "seconds": {}}
        self.training: Training | None = None

    def left(self) -> float:
        return self.args.seconds - (time.perf_counter() - self.begun)

    # ----------------------------------------------------------------------------- training

    def train(self) -> None:
        students = [
            Student(self.wide.decoder, s.msa, seeded(s.seed), from_main=s.start == "main")
            for s in self.specs
        ]
        if self.impl == "triton":
            try:
                fault = kernel_differs(self.narrow, self.feed, students[0].to(self.device))
            except Exception as error:  # the reference is slower, and always there
                fault = f"{type(error).__name__}: {str(error)[:300]}"
            if fault:
                print(f"the kernel is left out: {fault}", flush=True)
                self.impl, self.values["kernel_fault"] = "reference", fault
        self.judge("start", students)
        self.training = Training(self.narrow, students, self.plan.schedule, self.feed, self.impl)
        keep = self.args.keep + self.args.adapt
        self.training.run(self.left() - keep, steps=self.args.steps)
        self.values["steps"] = self.training.steps
        if self.device.type == "cuda":
            self.values["peak_gib"] = rounded(torch.cuda.max_memory_allocated() / 2**30)
        kl = torch.stack(self.training.kl).cpu()  # [some steps, students, layers]
        for i, spec in enumerate(self.specs):
            thin = kl[:: max(1, len(kl) // 60), i].mean(-1)
            about = {"kl": rounded(thin), "kl_by_layer": rounded(kl[-20:, i].mean(0))}
            self.told(spec).update(about)
            self.indices[spec] = students[i].index(self.made(spec))
            if spec.start == "main":
                save_index(self.args.out / f"{spec}.safetensors", self.indices[spec], bits=4)
        self.judge("end", students)

    def told(self, spec: Spec) -> dict:
        return self.values["students"].setdefault(str(spec), {"validation": {}})

    def made(self, spec: Spec) -> dict[str, str]:
        return {
            "command": "python benchmarks/msa_index.py --device cuda --corpus FOLDER --out OUT",
            "student": ":".join(map(str, dataclasses.astuple(spec))),
            "commit": self.args.commit or records.commit_here() or "",
            "config_hash": records.config_hash(self.plan),
            "device": device_name(self.device),
            "seed": str(spec.seed),
        }

    def judge(self, when: str, students: list[Student]) -> None:
        """Perplexity of validation texts, plain and where a passage returns."""
        n, count = self.plan.contexts[0], self.plan.validation
        plain = []
        for kind in KINDS:
            if self.texts.has("validation", kind):
                found = self.texts.of("validation", kind).pieces(-(-count // len(KINDS)), n)
                plain += [(kind, tokens.to(self.device)) for tokens in found]
        bench = self.measuring(self.specs[0])
        sets: dict[str, tuple[list, int | None]] = {"plain": (plain, None)}
        if self.plan.recall_pieces:
            again = [(kind, conversion.with_returning_passage(tokens)) for kind, tokens in plain]
            sets["returning"] = (again, conversion.PASSAGE - 32)
        for spec, student in zip(self.specs, students, strict=True):
            rows = {}
            index = stored(student.index({}))
            for name, (pieces, last) in sets.items():
                for k in self.plan.judged:
                    msa = dataclasses.replace(spec.msa, n_selected=k)
                    decoder = convert(self.wide.decoder, msa, index)
                    row = bench.perplexity_row(decoder, pieces, last=last)
                    rows[f"{name} {k}"] = row["all"]
            self.told(spec)["validation"][when] = rows
            print(f"{spec} at the {when}: {json.dumps(rows)}", flush=True)

    # ----------------------------------------------------------------------------- measuring

    def measuring(self, spec: Spec, selectors: tuple[str, ...] = ()) -> conversion.Bench:
        """The bench of `msa_conversion`, with a student as it is stored for its trained index."""
        plan = self.plan
        of = conversion.Plan(
            msa=spec.msa,
            budgets=plan.budgets,
            contexts=plan.contexts,
            pieces=plan.pieces,
            recall_pieces=plan.recall_pieces,
            long_context=plan.long_context,
            long_pieces=plan.long_pieces,
        )
        bench = conversion.Bench(of, self.device, selectors)
        if spec in self.indices:
            bench.indices = {spec.seed: stored(self.indices[spec])}
        return bench

    def heldout(self, spec: Spec, *, full: bool) -> None:
        """Perplexities of held-out texts; where full also at other contexts, and the quality."""
        bench = self.measuring(spec)
        self.told(spec)["heldout"] = self.losses(bench)
        if not full:
            return
        for context in self.plan.contexts[1:]:
            bench.perplexity(context)
        if self.plan.long_context:
            bench.long_context()
        exact = self.measuring(spec)  # what storing costs
        exact.plan = dataclasses.replace(bench.plan, budgets=self.plan.judged)
        exact.indices = {spec.seed: self.indices[spec]}
        self.told(spec)["float32"] = self.losses(exact)

    def losses(self, bench: conversion.Bench) -> dict[str, list[dict]]:
        """Perplexities at the first context, plain and where a passage returns; a live view."""
        bench.perplexity(self.plan.contexts[0])
        if self.plan.recall_pieces:
            bench.recall()
        names = ("perplexity", "returning_passage")
        return {name: bench.values[name] for name in names if name in bench.values}

    def quality(self, spec: Spec) -> None:
        """Mass captured and block recall of held-out texts."""
        bench = self.measuring(spec)
        bench.quality()
        self.told(spec)["heldout"]["quality"] = bench.values["quality"]

    def selectors(self) -> None:
        """The selectors that need no training."""
        bench = self.measuring(self.specs[0], tuple(SELECTORS))
        bench.indices = {}
        self.values["selectors"] = self.losses(bench)
        self.save()
        for context in self.plan.contexts[1:]:
            bench.perplexity(context)
            self.save()
        if self.plan.long_context:
            bench.long_context()

    def adapt(self) -> None:
        """The model and its index trained on through each other, at equal steps."""
        spec, k = self.specs[0], self.plan.schedule.adapted_n_selected
        schedule = dataclasses.replace(self.plan.schedule, pieces=1)
        bench = self.measuring(spec)
        found = self.values["adaptation"] = {"student": str(spec), "arms": [], "rows": []}
        n_steps, seconds = self.args.adapt_steps, 0.33 * self.args.adapt
        for arm in ("adapted", "frozen", "dense"):
            student = Student(self.wide.decoder, spec.msa, seeded(0)).to(self.device)
            student.load_state_dict(self.training.students[0].state_dict())
            student.rounded = True
            feed = Feed(self.texts, schedule, self.device, 1000 + spec.seed, "train")
            taught = Adaptation(self.narrow, student, arm, schedule, self.impl)
            told = taught.run(feed, n_steps=n_steps, seconds=seconds)
            n_steps = told["steps"]
            curve = torch.tensor(told.pop("curve"))
            told["loss_and_kl"] = rounded([curve[:20].mean(0), curve[-50:].mean(0)])
            found["arms"].append(told)
            model = taught.merged(self.wide.decoder)
            index = stored(student.index({}))
            self.adapted_rows(bench, arm, model, None if arm == "dense" else index, k)
            if arm == "adapted":
                path = self.args.out / f"adapted-{spec}.safetensors"
                save_weights(path, taught.changes(), self.made(spec))
            self.save()

    def adapted_rows(
        self, bench: conversion.Bench, arm: str, model: Decoder, index: TrainedIndex | None, k: int
    ) -> None:
        """Perplexities of held-out texts, read densely and through the index."""
        context, plan = self.plan.contexts[0], self.plan
        plain = bench.pieces(context, plan.pieces)
        again = [
            (kind, conversion.with_returning_passage(tokens))
            for kind, tokens in bench.pieces(context, plan.recall_pieces)
        ]
        readers: dict[int | None, Decoder] = {None: model}
        if index is not None:
            for budget in sorted({k, 8} & {*plan.budgets}):
                msa = dataclasses.replace(bench.msa, n_selected=budget)
                readers[budget] = convert(model, msa, index)
        for budget, decoder in readers.items():
            about = {"arm": arm, "n_selected": budget}
            sets = [("perplexity", plain, None)]
            if again:
                sets.append(("returning_passage", again, conversion.PASSAGE - 32))
            for name, pieces, last in sets:
                row = bench.perplexity_row(decoder, pieces, last=last, measure=name, **about)
                self.values["adaptation"]["rows"].append(row)
                print(json.dumps(row), flush=True)

    # ----------------------------------------------------------------------------- the whole

    def save(self) -> None:
        name = f"{msa_index_merge.NAME}-{self.specs[0]}.json"
        records.save(
            self.args.out / name,
            self.values,
            config={"plan": dataclasses.asdict(self.plan), "students": list(map(str, self.specs))},
            device=device_name(self.device),
            commit=self.args.commit,
            seed=[spec.seed for spec in self.specs],
        )

    def run(self) -> None:
        """Every stage that there is time for; saved after each."""
        first, *others = self.specs
        stages = [("train", self.train)]
        stages += [
            (f"heldout {s}", functools.partial(self.heldout, s, full=True)) for s in (first,)
        ]
        if self.args.selectors:
            stages.append(("selectors", self.selectors))
        stages += [(f"heldout {s}", functools.partial(self.heldout, s, full=False)) for s in others]
        if self.args.adapt:
            stages.append(("adapt", self.adapt))
        stages.append(("quality", functools.partial(self.quality, first)))
        for name, stage in stages:
            if name != "train" and self.left() < 5:
                print(f"left out for lack of time: {name}", flush=True)
                self.values.setdefault("left_out", []).append(name)
                continue
            begun = time.perf_counter()
            try:
                stage()
            except Exception as error:
                if name == "train" or self.args.small:
                    raise
                text = f"{type(error).__name__}: {str(error)[:300]}"
                self.values.setdefault("faults", {})[name] = text
                print(f"FAULT in {name}: {text}", flush=True)
            self.values["seconds"][name] = round(time.perf_counter() - begun, 1)
            print(f"{name}: {self.values['seconds'][name]} s, {self.left():.0f} s left", flush=True)
            self.save()
        print(self.table(), flush=True)

    def table(self) -> str:
        """Held-out perplexities at every budget."""
        lines = []
        parts = {name: told.get("heldout", {}) for name, told in self.values["students"].items()}
        parts["without training"] = self.values.get("selectors", {})
        for name, found in parts.items():
            for measure in ("perplexity", "returning_passage"):
                by: dict[str, list[str]] = {}
                for row in found.get(measure, ()):
                    if row["context"] == self.plan.contexts[0]:
                        text = f"{row.get('n_selected') or 'all'}: {row['all']:.4g}"
                        by.setdefault(row["selector"], []).append(text)
                lines += [f"{name} {measure} {who}: {'  '.join(t)}" for who, t in by.items()]
        return "\n".join(lines)


def main() -> None:
    parser = helpers.options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="the cut for two CPU cores")
    parser.add_argument("--quick", action="store_true", help="few measures, to try a machine")
    parser.add_argument("--corpus", type=Path, help="texts by lclm_corpus.py; else the package's")
    parser.add_argument("--out", type=Path, help="where results and weights go")
    parser.add_argument("--student", nargs="+", default=["128:64:main:0"])
    parser.add_argument("--seconds", type=float, default=500, help="for everything")
    parser.add_argument("--keep", type=float, default=90, help="of these, for measuring")
    parser.add_argument("--adapt", type=float, default=0, help="and for adapting the model")
    parser.add_argument("--adapt-steps", type=int, help="steps of each arm, instead of the time")
    parser.add_argument("--steps", type=int, help="steps of each phase at most")
    parser.add_argument("--selectors", action="store_true", help="measure those too")
    parser.add_argument("--merge", type=Path, help="the folder of all parts")
    parser.add_argument("--ship", action="store_true", help="put the best index into the package")
    args = parser.parse_args()
    if args.merge or args.slice:
        sys.exit(msa_index_merge.main(args))
    if args.out is None:
        parser.error("say where results go: --out OUT")
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    if device.type != "cuda" and not args.small:
        parser.error("training takes a GPU: pass --device cuda, or --small")
    plan = Plan.small() if args.small else Plan()
    Bench(plan.quick() if args.quick else plan, args, device).run()


if __name__ == "__main__":
    main()
