"""SmolLM2's history off the GPU: Memory Indexers trained on its attention, and what they are worth.

    python benchmarks/lsa_smollm.py --device cuda --out FOLDER    everything, three seeds
    python benchmarks/lsa_smollm.py --small --out FOLDER          a tiny cut for two CPU cores
    python benchmarks/lsa_smollm.py --record                      recordings with shipped indexers
    python benchmarks/lsa_smollm.py --slice                       rerun a little and compare

Texts of the training files in which passages return are read by the frozen model; Memory Indexers
learn from its attention which chunks the next 64 tokens will need. The last part of each training
file is kept back to choose the three target layers by, and when to stop. Held-out texts then tell,
for every arm at equal budget, what was found and how well the model predicts a returning passage
with the rest of its history masked.

OUT receives lsa_smollm.json (to benchmarks/results), smollm2-135m-memory.safetensors and
recording-*.npz (both to intuitive/lsa/weights). Everything is saved after each stage and each
held-out text. On an H200 it took 212 s, 5 of them for each of the ten held-out texts.
"""

import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import helpers
import smollm_slice
import torch
from torch import Tensor

from intuitive.common import records
from intuitive.common.decoder import Probe, Seen, block_mass
from intuitive.common.returning import ReturningConfig, ReturningText, returning_texts
from intuitive.common.runtime import device_name, seeded
from intuitive.common.smollm import load_smollm2
from intuitive.lsa.arms import Policy, Residency, replay
from intuitive.lsa.experiments.shelves import record_shelf
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.indexer_training import Document, IndexerTrainingConfig, train_indexers
from intuitive.lsa.recording import Recording
from intuitive.lsa.shelf_texts import shelf_texts
from intuitive.lsa.smollm import (
    N_LAYERS,
    VOTERS,
    WEIGHTS,
    SmolIndexers,
    first_indexers,
    load_indexers,
    save_indexers,
    smollm_config,
)
from intuitive.lsa.smollm_decoding import (
    masked_decoder,
    policy_of,
    recording,
    step_losses,
)
from intuitive.lsa.smollm_harvest import SmolTrace, harvest, harvest_for_training

rounded = functools.partial(helpers.rounded, digits=5)
RESULT = smollm_slice.RESULT
NOTICE = 16  # tokens of a returning passage that the model takes to notice it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run harvests, trains and measures."""

    texts: ReturningConfig = field(default_factory=lambda: ReturningConfig(n=3072, first=1024))
    n_train: int = 200
    n_judge: int = 20  # texts of the part kept back
    kept_back: float = 0.22  # of each training file
    n_heldout: int = 10  # of the held-out files in turn; five are long enough
    stride: int = 4  # steps between the triggers that are trained on
    candidates: tuple[int, ...] = (8, 11, 14, 16, 18, 20, 22, 24, 26, 28)
    n_targets: int = 3
    choosing: IndexerTrainingConfig = field(
        default_factory=lambda: IndexerTrainingConfig(
            n_steps=150, n_documents=8, n_triggers=16, learning_rate=3e-4
        )
    )
    training: IndexerTrainingConfig = field(
        default_factory=lambda: IndexerTrainingConfig(
            n_steps=400, n_documents=8, n_triggers=32, learning_rate=3e-4
        )
    )
    from_random: IndexerTrainingConfig = field(  # the same from random weights
        default_factory=lambda: IndexerTrainingConfig(
            n_steps=400, n_documents=8, n_triggers=32, learning_rate=3e-3
        )
    )
    judge_every: int = 25  # steps
    seeds: tuple[int, ...] = (0, 1, 2)  # the first one is shipped
    budgets: tuple[int, ...] = (4, 8, 16)  # chunks beside the tail and the sink
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)
    lookaheads: tuple[int, ...] = (8, 16, 32, 64, 128)
    variants_at: int = 8  # budget of the variants
    recorded: tuple[str, ...] = ("letter", "lease", "alice")

    @classmethod
    def small(cls) -> "Plan":
        """A cut for two CPU cores."""
        steps = IndexerTrainingConfig(n_steps=10, n_documents=2, n_triggers=8, learning_rate=3e-4)
        return cls(
            texts=ReturningConfig(n=896, first=576),
            n_train=3,
            n_judge=1,
            n_heldout=1,
            candidates=(14, 18, 20, 23),
            choosing=steps,
            training=steps,
            from_random=steps,
            judge_every=5,
            seeds=(0,),
            budgets=(4, 8),
            thresholds=(0.5,),
            lookaheads=(16, 64),
            recorded=("lease",),
        )


class Bench:
    """One run: the model, the plan, and the values found so far."""

    def __init__(self, plan: Plan, device: torch.device, out: Path, seconds: float) -> None:
        self.plan, self.device, self.out, self.seconds = plan, device, out, seconds
        self.started = time.perf_counter()
        self.model = load_smollm2(device=device)
        self.masked, self.view = masked_decoder(self.model.decoder)
        self.indexers: dict[int, SmolIndexers] = {}
        self.values: dict[str, object] = {"seconds": {}}
        self.traces: dict[str, list[SmolTrace]] = {"learn": [], "judge": []}
        self.targets: tuple[int, ...] = ()
        self.save: Callable[[], object] = bool  # what was found so far
        self.documents = functools.lru_cache(2)(self.documents)  # to learn from and to judge by

    @property
    def n_prompt(self) -> int:
        """Where the first passage returns: what is decoded begins there."""
        return self.plan.texts.first

    def texts(
        self, split: str, count: int, seed: int, part: tuple[float, float] = (0.0, 1.0)
    ) -> list[ReturningText]:
        tokenizer = self.model.tokenizer
        return returning_texts(
            tokenizer.encode,
            tokenizer.token_strings,
            self.plan.texts,
            split=split,
            count=count,
            seed=seed,
            part=part,
        )

    def heldout(self) -> list[ReturningText]:
        """Texts of every held-out file that is long enough, the files in turn."""
        return smollm_slice.heldout_texts(self.plan, self.model.tokenizer)

    # ------------------------------------------------------------------------ correctness

    @torch.no_grad()
    def check(self) -> None:
        """Masking nothing changes nothing; masking is gathering; saved losses are the model's."""
        (text,) = self.texts("train", 1, 5)
        tokens, n = text.tokens.to(self.device), self.n_prompt
        size = smollm_config().chunk_size
        cache = self.masked.make_cache(1, len(tokens))
        self.masked.hidden(tokens[None, :n], cache=cache)
        steps = tokens[n:]
        everything = torch.ones(len(steps), len(tokens) // size + 1, device=self.device).bool()
        args = (self.masked, self.view, cache, steps)
        plain = step_losses(*args, None, size)
        apart = (step_losses(*args, everything, size) - plain).abs().max()
        nothing = torch.zeros_like(everything)
        worse = step_losses(*args, nothing, size).mean() - plain.mean()
        self.values["check"] = {
            "everything_resident_to_unmasked_max": float(apart),
            "nothing_resident_costs_nats": rounded(worse),
        }
        print(self.values["check"], flush=True)
        if not (apart < 1e-2 and worse > 0.05):
            raise RuntimeError("masking does not do what it should: see the line above.")

    # --------------------------------------------------------------------------- training

    def harvest(self) -> None:
        """Read all training texts; which layers look back is measured on some of them."""
        plan = self.plan
        cut = 1 - plan.kept_back
        parts = {
            "learn": self.texts("train", plan.n_train, 1, (0.0, cut)),
            "judge": self.texts("train", plan.n_judge, 3, (cut, 1.0)),
        }
        self.values["voters"] = self.look_back(parts["judge"])
        config = smollm_config(targets=plan.candidates)
        for name, texts in parts.items():
            for text in texts:
                trace = harvest_for_training(
                    self.model.decoder,
                    text.tokens.to(self.device),
                    config,
                    n_prompt=self.n_prompt,
                )
                thin = trace.hidden[:, :: plan.stride].clone()
                self.traces[name].append(dataclasses.replace(trace, hidden=thin))
        learn = self.traces["learn"]
        golden = torch.stack([trace.golden.sum(-1).float().mean() for trace in learn])
        keys = torch.cat([trace.keys for trace in learn], 1)
        self.centre = keys.mean(1).half().float()  # as in the file
        texts = parts["learn"]
        self.values["harvest"] = {
            "texts": len(texts),
            "tokens": sum(len(text.tokens) for text in texts),
            "returns": sum(len(text.returns) for text in texts),
            "golden_chunks_per_step": rounded(golden.mean()),
        }

    @torch.no_grad()
    def look_back(self, texts: Sequence[ReturningText]) -> dict[str, list[float]]:
        """Share of each layer's attention on the place that comes again, in returned passages."""
        size, total, count = smollm_config().chunk_size, torch.zeros(N_LAYERS), 0
        for text in texts:
            tokens, n = text.tokens.to(self.device), self.n_prompt
            rows, chunks = [], []
            for passage in text.returns:
                inside = torch.arange(NEWEST_SEEN, passage.length)
                rows.append(passage.at + inside)
                chunks.append((passage.start + inside + 1) // size)
            row, chunk = torch.cat(rows).to(self.device), torch.cat(chunks).to(self.device)

            def receive(seen: Seen, row: Tensor = row, chunk: Tensor = chunk, n: int = n) -> None:
                share = block_mass(seen.q[0, n:], seen.k[0], block_size=size).mean(1)
                total[seen.layer] += share[row - n, chunk].sum().item()

            self.model.decoder.hidden(tokens[None], probe=Probe(tuple(range(N_LAYERS)), receive))
            count += len(row)
        share = total / count
        best = share.argsort(descending=True)[: len(VOTERS)].tolist()
        return {"share_by_layer": rounded(share.tolist()), "five_most": sorted(best)}

    def documents(self, name: str, targets: tuple[int, ...], stride: int) -> list[Document]:
        """Documents of some of the candidate layers, to learn from or to judge by."""
        place = [self.plan.candidates.index(layer) for layer in targets]
        config, every = smollm_config(targets=tuple(targets)), self.plan.stride
        found = []
        for trace in self.traces[name]:
            steps = len(trace.closed)
            hidden = trace.hidden[place].repeat_interleave(every, 1)[:, :steps]
            part = dataclasses.replace(trace, config=config, hidden=hidden, keys=trace.keys[place])
            found.append(part.document(self.centre[place], stride=stride))
        return found

    def taught(
        self,
        targets: Sequence[int],
        how: IndexerTrainingConfig,
        seed: int,
        *,
        random: bool = False,
    ) -> tuple[MemoryIndexers, dict[str, object], list[tuple[Tensor, Document]]]:
        """Trained indexers as they were when they judged best, and how the training went."""
        config = smollm_config(targets=tuple(targets))
        learn = self.documents("learn", tuple(targets), self.plan.stride)
        judge = self.documents("judge", tuple(targets), 16)
        if random:
            start = MemoryIndexers(config, generator=seeded(seed)).to(self.device)
        else:
            sample = [torch.cat([d.hidden[i, ::8] for d in learn]) for i in range(len(targets))]
            start = first_indexers(self.model.decoder, config, sample)
        best = {"step": 0, "recall": self.recall(self.asked(start, judge))}
        first, state = best["recall"], {k: v.clone() for k, v in start.state_dict().items()}
        step = 0

        def judged(fraction: float, sentence: str) -> None:
            nonlocal step, state
            step += 1
            if step % self.plan.judge_every == 0:
                recall = self.recall(self.asked(start, judge))
                if recall > best["recall"]:
                    best.update(step=step, recall=recall)
                    state = {k: v.clone() for k, v in start.state_dict().items()}

        loss = train_indexers(learn, config, how, seed=seed, start=start, progress=judged).loss
        last = self.recall(self.asked(start, judge))
        start.load_state_dict(state)
        about = {
            "seed": seed,
            "from_random": random,
            "recall_at_start": first,
            "best_step": best["step"],
            "best_recall": best["recall"],
            "last_recall": last,
            "loss_first": mean(loss[:20]),
            "loss_last": mean(loss[-20:]),
        }
        return start, rounded(about), self.asked(start, judge)

    @torch.no_grad()
    def asked(
        self, indexers: MemoryIndexers, documents: Sequence[Document]
    ) -> list[tuple[Tensor, Document]]:
        """Logits of all triggers [triggers, layers, chunks] with their documents."""
        return [(indexers(d.hidden, d.positions, d.keys), d) for d in documents]

    def recall(
        self, asked: Sequence[tuple[Tensor, Document]], layers: Sequence[int] | None = None
    ) -> float:
        """Golden recall of all triggers at a budget, averaged over the budgets."""
        found = torch.zeros(len(self.plan.budgets), device=self.device)
        count = torch.zeros((), device=self.device)
        for logits, document in asked:
            some = logits if layers is None else logits[:, list(layers)]
            joined = some.amax(1).masked_fill(~document.candidates, -torch.inf)
            order = joined.argsort(-1, descending=True)
            hit = (document.labels & document.candidates).gather(1, order)
            count += hit.sum()
            found += torch.stack([hit[:, :budget].sum() for budget in self.plan.budgets])
        return float((found / count.clamp(min=1)).mean())

    def choose(self) -> None:
        """Train an indexer for every candidate layer, and take the three that go best together."""
        plan = self.plan
        _, about, asked = self.taught(plan.candidates, plan.choosing, 100)
        alone = {layer: self.recall(asked, [i]) for i, layer in enumerate(plan.candidates)}
        sets = itertools.combinations(range(len(plan.candidates)), plan.n_targets)
        joined = {chosen: self.recall(asked, chosen) for chosen in sets}
        best = max(joined, key=joined.get)
        self.targets = tuple(plan.candidates[i] for i in best)
        self.values["targets"] = {
            "chosen": list(self.targets),
            "recall": rounded(joined[best]),
            "recall_alone": {str(layer): rounded(value) for layer, value in alone.items()},
            "worst_three": rounded(min(joined.values())),
            "all_candidates": about,
        }
        print("targets", self.targets, self.values["targets"]["recall_alone"], flush=True)

    def train(self) -> None:
        """One set of Memory Indexers per seed."""
        place = [self.plan.candidates.index(layer) for layer in self.targets]
        self.values["training"] = []
        for seed in self.plan.seeds:
            made, about, _ = self.taught(self.targets, self.plan.training, seed)
            self.indexers[seed] = SmolIndexers.of(made, self.centre[place])
            self.values["training"].append(about)
            print(about, flush=True)

    def from_random(self) -> None:
        """The same from random weights, to see what the first weights are worth."""
        if self.late():
            return
        _, about, _ = self.taught(
            self.targets, self.plan.from_random, self.plan.seeds[0], random=True
        )
        self.values["from_random"] = about
        print(about, flush=True)

    def late(self) -> bool:
        """Whether the time is up, which is said."""
        late = time.perf_counter() - self.started > self.seconds
        if late:
            print("the time is up: what is left is not measured", flush=True)
        return late

    # -------------------------------------------------------------------------- measuring

    def measure(self) -> None:
        """Every arm on held-out texts, at equal budget: what it found, and what it cost."""
        rows: dict[tuple, list[dict[str, float]]] = {}
        names = ("arm", "seed", "rule", "size", "threshold", "lookahead", "lag", "layers")
        sources: list[str] = []
        for number, text in enumerate(self.heldout()):
            if number and self.late():
                break
            for key, row in self.measure_text(text, seed=number):
                rows.setdefault(key, []).append(row)
            sources.append(text.source)
            self.values["heldout"] = sources
            self.values["arms"] = [
                dict(zip(names, key, strict=True)) | self.spread(found)
                for key, found in rows.items()
            ]
            self.save()
            print(f"held-out text {number + 1}: {text.source}", flush=True)

    def measure_text(self, text: ReturningText, seed: int) -> list[tuple[tuple, dict]]:
        tokens, n = text.tokens.to(self.device), self.n_prompt
        size = smollm_config().chunk_size
        cache = self.masked.make_cache(1, len(tokens))
        self.masked.hidden(tokens[None, :n], cache=cache)
        again = torch.zeros(len(tokens), dtype=torch.bool)
        for passage in text.returns:
            again[passage.at + NOTICE : passage.at + passage.length] = True
        again = again[n + 1 :]  # by the step that predicts it
        found, losses_of = [], {}

        def judged(residency: Residency, recorded: Recording) -> dict[str, float]:
            resident = residency.resident
            fingerprint = hash(resident.numpy().tobytes())
            if fingerprint not in losses_of:
                everything = residency.policy.arm in ("everything", "reactive")
                seen = None if everything else resident.to(self.device)
                losses_of[fingerprint] = step_losses(
                    self.masked, self.view, cache, tokens[n:], seen, size
                ).cpu()
            losses = losses_of[fingerprint]
            cycles = len(residency.copied)
            return {
                "loss_returned": float(losses[again].mean()),
                "loss_other": float(losses[~again].mean()),
                "golden_recall": residency.golden_recall,
                "kept": residency.kept,
                "mass_recall": residency.mass_recall,
                "chunks_copied_per_64_steps": float(residency.copied.sum()) * 64 / recorded.n_steps,
                "refetch_rate": residency.refetch_rate,
                "cycles": float(cycles),
            }

        config = smollm_config(targets=self.targets)
        trace = harvest(self.model.decoder, tokens, config, n_prompt=n)
        words = [""] * len(tokens)
        for index_seed, indexers in self.indexers.items():
            made = recording(trace, indexers, words, name=text.source)
            for policy in self.policies(indexers, index_seed, seed):
                residency = replay(made, policy)
                key = (
                    policy.arm, index_seed, policy.rule, policy.size,
                    policy.threshold if policy.rule == "threshold" else None,
                    policy.lookahead, policy.lag, policy.layers,
                )  # fmt: skip
                found.append((key, judged(residency, made)))
        return found

    def policies(self, indexers: SmolIndexers, index_seed: int, seed: int) -> list[Policy]:
        plan, of = self.plan, functools.partial(policy_of, indexers)
        chosen = [of("lsa", threshold=threshold) for threshold in plan.thresholds]
        for budget in plan.budgets:
            at = {"rule": "budget", "size": budget}
            chosen.append(of("lsa", **at))
            chosen.append(of("random", seed=1000 * index_seed + seed, **at))
            if index_seed == plan.seeds[0]:
                chosen += [of(arm, **at) for arm in ("recency", "quest", "oracle")]
        at = {"rule": "budget", "size": plan.variants_at}
        if index_seed == plan.seeds[0]:
            chosen.append(of("everything"))
            chosen.append(of("reactive", top_k=plan.variants_at, **at))
        chosen += [
            of("lsa", lookahead=lookahead, **at)
            for lookahead in plan.lookaheads
            if lookahead != indexers.config.lookahead
        ]
        chosen.append(of("lsa", lag=1, **at))
        chosen += [of("lsa", layers=layers, **at) for layers in range(1, len(self.targets))]
        return chosen

    @staticmethod
    def spread(found: Sequence[dict[str, float]]) -> dict[str, object]:
        """Means over the texts, perplexities, and of some of these what each text gave."""
        row = {name: rounded(mean([one[name] for one in found])) for name in found[0]}
        row["texts"] = len(found)
        for part in ("returned", "other"):
            losses = torch.tensor([one[f"loss_{part}"] for one in found])
            row[f"perplexity_{part}"] = rounded(losses.mean().exp())
            row[f"perplexity_{part}_each"] = rounded(losses.exp())
        for name in ("golden_recall", "kept", "mass_recall"):
            row[f"{name}_each"] = rounded([one[name] for one in found])
        return row

    # ------------------------------------------------------------------------- recordings

    def save_shipped(self, commit: str | None) -> None:
        indexers = self.indexers[self.plan.seeds[0]]
        about = {
            "command": "python benchmarks/lsa_smollm.py --device cuda",
            "device": device_name(self.device),
            "commit": str(commit or records.commit_here()),
            "config_hash": records.config_hash(self.plan),
            "seed": str(self.plan.seeds[0]),
        }
        save_indexers(self.out / WEIGHTS.name, indexers, about)

    def recordings(self) -> None:
        indexers = self.indexers[self.plan.seeds[0]]
        found = {}
        for name in self.plan.recorded:
            made = record_shelf(self.model, shelf_texts()[name], indexers)
            made.save(self.out / f"recording-{name}.npz")
            residency = replay(made, policy_of(indexers))
            found[name] = {
                "steps": made.n_steps,
                "chunks": made.n_chunks,
                "golden_recall": rounded(residency.golden_recall),
                "kept": rounded(residency.kept),
            }
            print(name, found[name], flush=True)
        self.values["recordings"] = found


NEWEST_SEEN = 4  # tokens of a passage before the layers can know that it returns


def mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


# ------------------------------------------------------------------------------------ the runs


def run(plan: Plan, device: torch.device, out: Path, seconds: float, commit: str | None) -> None:
    """Train, measure and record; save after every stage. Little is begun after `seconds`."""
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench(plan, device, out, seconds)

    def finish() -> None:
        bench.save_shipped(commit)
        bench.recordings()

    def save() -> None:
        records.save(
            out / f"{RESULT}.json",
            bench.values,
            config=plan,
            device=device_name(device),
            commit=commit,
            seed=plan.seeds,
        )

    bench.save = save
    stages = {
        "check": bench.check,
        "harvest": bench.harvest,
        "choose": bench.choose,
        "train": bench.train,
        "finish": finish,
        "from_random": bench.from_random,
        "measure": bench.measure,
    }
    for name, stage in stages.items():
        before = time.perf_counter()
        stage()
        bench.values["seconds"][name] = round(time.perf_counter() - before, 1)
        print(f"{name}: {bench.values['seconds'][name]} s", flush=True)
        save()
    print(table(bench.values))
    print(f"in all {time.perf_counter() - bench.started:.0f} s")


def table(values: dict) -> str:
    """The arms as text."""
    head = ("arm", "seed", "rule", "size", "thr", "τ", "lag", "layers")
    head += ("recall", "kept", "mass", "ppl back", "ppl else", "copied/64")
    rows = [head]
    for row in values["arms"]:
        keys = ("arm", "seed", "rule", "size", "threshold", "lookahead", "lag", "layers")
        cells = ["-" if row[key] is None else str(row[key]) for key in keys]
        numbers = ("golden_recall", "kept", "mass_recall", "perplexity_returned")
        numbers += ("perplexity_other", "chunks_copied_per_64_steps")
        rows.append((*cells, *(f"{row[name]:.3g}" for name in numbers)))
    return helpers.aligned(rows)


def main() -> None:
    parser = helpers.options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="the cut for two CPU cores")
    parser.add_argument("--record", action="store_true", help="only record the lesson's texts")
    parser.add_argument(
        "--seconds", type=float, default=250.0, help="after which no further text is measured"
    )
    parser.add_argument("--out", type=Path, help="where everything goes")
    args = parser.parse_args()
    if args.slice:
        sys.exit(helpers.told(smollm_slice.compare(args.folder, Plan())))
    device = torch.device(args.device)
    if args.record:
        model, indexers = load_smollm2(device=device), load_indexers().to(device)
        for name, text in shelf_texts().items():
            made = record_shelf(model, text, indexers)
            print(made.save((args.out or WEIGHTS.parent) / f"recording-{name}.npz"))
    elif args.out is None:
        parser.error("name a folder for the results: --out FOLDER")
    elif args.small or device.type == "cuda":
        plan = Plan.small() if args.small else Plan()
        run(plan, device, args.out, args.seconds, args.commit)
    else:
        parser.error("all of it takes a GPU: pass --device cuda, or --small")


if __name__ == "__main__":
    main()
