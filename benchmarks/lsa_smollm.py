"""SmolLM2's history off the GPU: Memory Indexers trained on its attention, and what they are worth.

    python benchmarks/lsa_smollm.py --device cuda --out FOLDER    everything, three seeds
    python benchmarks/lsa_smollm.py --small --out FOLDER          a tiny cut for two CPU cores
    python benchmarks/lsa_smollm.py --record                      recordings with shipped indexers
    python benchmarks/lsa_smollm.py --slice                       rerun a little and compare

Texts of the training files in which passages return are read by the frozen model; Memory Indexers
learn from its attention which chunks the next 64 tokens will need. The three target layers are
chosen on training texts alone. Held-out texts then tell, for every arm at equal budget, what was
found and how well the model predicts a returning passage with the rest of its history masked.

OUT receives lsa_smollm.json (to benchmarks/results), smollm2-135m-memory.safetensors and
recording-*.npz (both to intuitive/lsa/weights). Everything is saved after each stage.
"""

import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import helpers
import torch
from torch import Tensor

from intuitive.common import records
from intuitive.common.decoder import Probe, Seen, block_mass
from intuitive.common.returning import ReturningConfig, ReturningText, returning_texts
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2
from intuitive.lsa.arms import Policy, Residency, replay
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.experiments.shelves import record_shelf
from intuitive.lsa.indexer_training import Document, IndexerTrainingConfig, train_indexers
from intuitive.lsa.recording import Recording
from intuitive.lsa.shelf_texts import shelf_texts
from intuitive.lsa.smollm import (
    N_LAYERS,
    VOTERS,
    WEIGHTS,
    SmolIndexers,
    load_indexers,
    save_indexers,
    smollm_config,
)
from intuitive.lsa.smollm_decoding import (
    masked_decoder,
    policy_of,
    record,
    step_losses,
)
from intuitive.lsa.smollm_harvest import SmolTrace, harvest_for_training

rounded = functools.partial(helpers.rounded, digits=5)
RESULT = "lsa_smollm"
NOTICE = 16  # tokens of a returning passage that the model takes to notice it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run harvests, trains and measures."""

    texts: ReturningConfig = field(default_factory=lambda: ReturningConfig(n=3072, first=1024))
    n_train: int = 240
    n_choosing: int = 24  # of these, to choose the target layers by
    n_heldout: int = 16
    stride: int = 4  # steps between the triggers that are trained on
    candidates: tuple[int, ...] = (8, 11, 14, 16, 18, 20, 22, 24, 26, 28)
    n_targets: int = 3
    choosing: IndexerTrainingConfig = field(
        default_factory=lambda: IndexerTrainingConfig(n_steps=300, n_documents=8, n_triggers=16)
    )
    training: IndexerTrainingConfig = field(
        default_factory=lambda: IndexerTrainingConfig(n_steps=1200, n_documents=8, n_triggers=32)
    )
    seeds: tuple[int, ...] = (0, 1, 2)  # the first one is shipped
    budgets: tuple[int, ...] = (4, 8, 16)  # chunks beside the tail and the sink
    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    lookaheads: tuple[int, ...] = (8, 16, 32, 64, 128)
    variants_at: int = 8  # budget of the variants

    @classmethod
    def small(cls) -> "Plan":
        """A cut for two CPU cores."""
        steps = IndexerTrainingConfig(n_steps=20, n_documents=2, n_triggers=8)
        return cls(
            texts=ReturningConfig(n=1024, first=640),
            n_train=3,
            n_choosing=1,
            n_heldout=1,
            candidates=(14, 18, 20, 23),
            choosing=steps,
            training=steps,
            seeds=(0, 1),
            budgets=(4, 8),
            thresholds=(0.5,),
            lookaheads=(16, 64),
        )


class Bench:
    """One run: the model, the plan, and the values found so far."""

    def __init__(self, plan: Plan, device: torch.device, out: Path) -> None:
        self.plan, self.device, self.out = plan, device, out
        self.model = load_smollm2(device=device)
        self.masked, self.view = masked_decoder(self.model.decoder)
        self.indexers: dict[int, SmolIndexers] = {}
        self.values: dict[str, object] = {"seconds": {}}
        self.traces: list[SmolTrace] = []
        self.targets: tuple[int, ...] = ()

    @property
    def n_prompt(self) -> int:
        """Where the first passage returns: what is decoded begins there."""
        return self.plan.texts.first

    def texts(self, split: str, count: int, seed: int) -> list[ReturningText]:
        tokenizer = self.model.tokenizer
        return returning_texts(
            tokenizer.encode,
            tokenizer.token_strings,
            self.plan.texts,
            split=split,
            count=count,
            seed=seed,
        )

    # ------------------------------------------------------------------------ correctness

    @torch.no_grad()
    def check(self) -> None:
        """Masking nothing changes nothing; masking is gathering; saved losses are the model's."""
        (text,) = self.texts("heldout", 1, 5)
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
        """Read all training texts; which layers look back is measured on the first of them."""
        texts = self.texts("train", self.plan.n_train, 1)
        self.values["voters"] = self.look_back(texts[: self.plan.n_choosing])
        config = smollm_config(targets=self.plan.candidates)
        for text in texts:
            tokens = text.tokens.to(self.device)
            trace = harvest_for_training(self.model.decoder, tokens, config, n_prompt=self.n_prompt)
            thin = trace.hidden[:, :: self.plan.stride].clone()
            self.traces.append(dataclasses.replace(trace, hidden=thin))
        golden = torch.stack([trace.golden.sum(-1).float().mean() for trace in self.traces])
        keys = torch.cat([trace.keys for trace in self.traces], 1)
        self.centre = keys.mean(1).half().float()  # as in the file
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

    def documents(self, targets: Sequence[int], traces: Sequence[SmolTrace]) -> list[Document]:
        """Training documents of some of the candidate layers."""
        place = [self.plan.candidates.index(layer) for layer in targets]
        centre = self.centre[place]
        found = []
        for trace in traces:
            stride = self.plan.stride
            whole = dataclasses.replace(
                trace, hidden=trace.hidden[place], keys=trace.keys[place] - centre[:, None]
            )
            found.append(thinned(whole, smollm_config(targets=tuple(targets)), stride))
        return found

    def choose(self) -> None:
        """Train an indexer for every candidate layer, and take the three that go best together."""
        plan = self.plan
        learn, judge = self.traces[plan.n_choosing :], self.traces[: plan.n_choosing]
        config = smollm_config(targets=plan.candidates)
        made = train_indexers(
            self.documents(plan.candidates, learn), config, plan.choosing, seed=100
        ).indexers
        asked = []
        for document in self.documents(plan.candidates, judge):
            few = slice(None, None, max(1, 16 // plan.stride))
            logits = made(document.hidden[:, few], document.positions[few], document.keys)
            asked.append((logits, document.labels[few], document.candidates[few]))
        alone = {layer: self.recall(asked, [i]) for i, layer in enumerate(plan.candidates)}
        sets = itertools.combinations(range(len(plan.candidates)), plan.n_targets)
        joined = {chosen: self.recall(asked, list(chosen)) for chosen in sets}
        best = max(joined, key=joined.get)
        self.targets = tuple(plan.candidates[i] for i in best)
        self.values["targets"] = {
            "chosen": list(self.targets),
            "recall": rounded(joined[best]),
            "recall_alone": {str(layer): rounded(value) for layer, value in alone.items()},
            "worst_three": rounded(min(joined.values())),
        }
        print("targets", self.targets, self.values["targets"]["recall_alone"], flush=True)

    def recall(
        self, asked: Sequence[tuple[Tensor, Tensor, Tensor]], layers: Sequence[int]
    ) -> float:
        """Golden recall of training texts, averaged over the budgets."""
        found = torch.zeros(len(self.plan.budgets), device=self.device)
        count = torch.zeros((), device=self.device)
        for logits, labels, candidates in asked:
            joined = logits[:, layers].amax(1).masked_fill(~candidates, -torch.inf)
            order = joined.argsort(-1, descending=True)
            hit = (labels & candidates).gather(1, order)
            count += hit.sum()
            found += torch.stack([hit[:, :budget].sum() for budget in self.plan.budgets])
        return float((found / count).mean())

    def train(self) -> None:
        """One set of Memory Indexers per seed, on all training texts."""
        config = smollm_config(targets=self.targets)
        documents = self.documents(self.targets, self.traces)
        place = [self.plan.candidates.index(layer) for layer in self.targets]
        self.values["training"] = []
        for seed in self.plan.seeds:
            made = train_indexers(documents, config, self.plan.training, seed=seed)
            self.indexers[seed] = SmolIndexers.of(made.indexers, self.centre[place])
            every = made.loss[:: max(1, len(made.loss) // 24)]
            self.values["training"].append(
                {"seed": seed, "loss": rounded(list(every)), "last": rounded(mean(made.loss[-40:]))}
            )
            print(f"seed {seed}: loss {mean(made.loss[:40]):.3f} to {mean(made.loss[-40:]):.3f}")
        self.traces = []

    # -------------------------------------------------------------------------- measuring

    def measure(self) -> None:
        """Every arm on held-out texts, at equal budget: what it found, and what it cost."""
        rows: dict[tuple, list[dict[str, float]]] = {}
        for number, text in enumerate(self.texts("heldout", self.plan.n_heldout, 2)):
            for key, row in self.measure_text(text, seed=number):
                rows.setdefault(key, []).append(row)
        names = ("arm", "seed", "rule", "size", "threshold", "lookahead", "lag", "layers")
        self.values["arms"] = [
            dict(zip(names, key, strict=True)) | self.spread(found) for key, found in rows.items()
        ]

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

        for index_seed, indexers in self.indexers.items():
            made = record(self.model, tokens, indexers, n_prompt=n, name=text.source)
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
        """Means over the texts, perplexities, and the range of the returning passages' one."""
        row = {name: rounded(mean([one[name] for one in found])) for name in found[0]}
        row["texts"] = len(found)
        for part in ("returned", "other"):
            losses = torch.tensor([one[f"loss_{part}"] for one in found])
            row[f"perplexity_{part}"] = rounded(losses.mean().exp())
        each = [rounded(torch.tensor(one["loss_returned"]).exp()) for one in found]
        row["perplexity_returned_range"] = [min(each), max(each)]
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

    def recordings(self, names: Sequence[str] | None = None) -> None:
        indexers = self.indexers[self.plan.seeds[0]]
        found = {}
        for name, text in shelf_texts().items():
            if names is None or name in names:
                made = record_shelf(self.model, text, indexers)
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


def thinned(trace: SmolTrace, config: LSAConfig, stride: int) -> Document:
    """A training document of a trace whose hidden states are those of every `stride`th step."""
    steps = len(trace.closed)
    full = trace.hidden.repeat_interleave(stride, 1)[:, :steps]
    return dataclasses.replace(trace, config=config, hidden=full).document(stride=stride)


# ------------------------------------------------------------------------------------ the runs


def run(plan: Plan, device: torch.device, out: Path, commit: str | None) -> None:
    """Train, measure and record; save after every stage."""
    out.mkdir(parents=True, exist_ok=True)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False  # as on the CPU, where the slice runs again
    started = time.perf_counter()
    bench = Bench(plan, device, out)

    def finish() -> None:
        bench.save_shipped(commit)
        bench.recordings()

    stages = {
        "check": bench.check,
        "harvest": bench.harvest,
        "choose": bench.choose,
        "train": bench.train,
        "finish": finish,
        "measure": bench.measure,
    }
    for name, stage in stages.items():
        before = time.perf_counter()
        stage()
        bench.values["seconds"][name] = round(time.perf_counter() - before, 1)
        print(f"{name}: {bench.values['seconds'][name]} s", flush=True)
        records.save(
            out / f"{RESULT}.json",
            bench.values,
            config=plan,
            device=device_name(device),
            commit=commit,
            seed=plan.seeds,
        )
    print(table(bench.values))
    print(f"in all {time.perf_counter() - started:.0f} s")


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


def compare_slice(folder: Path) -> list[str]:
    """Record one lesson text again with the shipped indexers; what differs, in sentences."""
    values, made = records.load(folder / f"{RESULT}.json")
    faults = []
    if made["config_hash"] != records.config_hash(Plan()):
        faults.append(f"{RESULT}.json was made by another plan: run it again")
    again = record_shelf(load_smollm2(), shelf_texts()["lease"], load_indexers())
    residency = replay(again, policy_of(load_indexers()))
    committed = values["recordings"]["lease"]
    for name, got in (("golden_recall", residency.golden_recall), ("kept", residency.kept)):
        print(f"{name}: {got:.4g}, committed {committed[name]:.4g}")
        if abs(got - committed[name]) > 0.03:  # chunks at the threshold, on another device
            faults.append(f"{name}: {got:.4g} differs from the committed {committed[name]:.4g}")
    return faults


def main() -> None:
    parser = helpers.options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="the cut for two CPU cores")
    parser.add_argument("--record", action="store_true", help="only record the lesson's texts")
    parser.add_argument("--out", type=Path, help="where everything goes")
    args = parser.parse_args()
    if args.slice:
        sys.exit(helpers.told(compare_slice(args.folder)))
    device = torch.device(args.device)
    if args.record:
        model, indexers = load_smollm2(device=device), load_indexers().to(device)
        for name, text in shelf_texts().items():
            made = record_shelf(model, text, indexers)
            print(made.save((args.out or WEIGHTS.parent) / f"recording-{name}.npz"))
    elif args.out is None:
        parser.error("name a folder for the results: --out FOLDER")
    elif args.small or device.type == "cuda":
        run(Plan.small() if args.small else Plan(), device, args.out, args.commit)
    else:
        parser.error("all of it takes a GPU: pass --device cuda, or --small")


if __name__ == "__main__":
    main()
