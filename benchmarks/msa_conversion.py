"""SmolLM2-135M made sparse: what its trained index captures, and what it costs in perplexity.

    python benchmarks/msa_conversion.py --device cuda         all layers, 4,096 tokens, three seeds
    python benchmarks/msa_conversion.py --device cpu --small  all layers, 1,024 tokens, one seed
    python benchmarks/msa_conversion.py --slice               rerun a little of both and compare

Trains one Index Branch per layer on the corpus's training texts, with the model frozen, and
measures everything on held-out texts: mass captured and block recall of the dense model's own
attention, and the perplexity of the model when all its layers read selected blocks only. The first
command also times decoding, and writes the index that the package ships. Results go to FOLDER
(default: benchmarks/results), the index to intuitive/msa/weights.
"""

import contextlib
import dataclasses
import functools
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import helpers
import torch
from torch import Tensor

from intuitive.common import corpus, records
from intuitive.common.decoder import Decoder, generate
from intuitive.common.runtime import Cancelled, device_name
from intuitive.common.smollm import SmolLM2, load_smollm2
from intuitive.msa.conversion import convert
from intuitive.msa.index import WEIGHTS, TrainedIndex, load_index, save_index
from intuitive.msa.index_training import IndexTrainingConfig, train_indices
from intuitive.msa.quality import selection_quality, token_losses
from intuitive.msa.reference import SELECTORS

rounded = functools.partial(helpers.rounded, digits=5)

PASSAGE = 512  # tokens of the passage that returns in the recall test


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run trains and measures."""

    training: IndexTrainingConfig = field(default_factory=IndexTrainingConfig)
    seeds: tuple[int, ...] = (0, 1, 2)  # the first one is shipped
    budgets: tuple[int, ...] = (2, 4, 8, 16)  # blocks of the training's block size
    contexts: tuple[int, ...] = (4096, 2048)  # of the measures, in tokens
    pieces: int = 8  # held-out pieces per context, half of them prose, half code
    other_block_size: int | None = 32  # measured too at the longest context, at twice the budgets
    long_context: int | None = 8192  # perplexity of a few selectors beyond the training's context
    long_pieces: int = 4
    recall_pieces: int = 4
    decode_contexts: tuple[int, ...] = (1024, 8128)  # prompt tokens, then 64 are generated
    slice_layers: tuple[int, ...] = (2, 12)
    slice_context: int = 1024
    slice_budget: int = 4

    @classmethod
    def small(cls) -> "Plan":
        """A cut for two CPU cores."""
        return cls(
            training=IndexTrainingConfig(
                context=1024, n_warmup=48, n_sparse=8, n_ramp=6, n_queries=256
            ),
            seeds=(0,),
            budgets=(2, 4),
            contexts=(1024,),
            pieces=2,
            other_block_size=None,
            long_context=None,
            recall_pieces=0,
            decode_contexts=(),
        )


# --------------------------------------------------------------------------------- the texts


def training_texts(model: SmolLM2) -> list[list[int]]:
    """Token ids of every training document, prose and code."""
    return [model.tokenizer.encode(document.text) for document in corpus.load("train")]


def heldout_pieces(model: SmolLM2, context: int, count: int) -> list[tuple[str, Tensor]]:
    """(kind, tokens) of whole pieces of held-out English prose and code, each within one file.

    Pieces alternate between the kinds as long as both last.
    """
    kinds: dict[str, list[Tensor]] = {"prose": [], "code": []}
    for document in corpus.load("heldout"):
        if document.name.startswith("human-rights"):  # languages the model hardly knows
            continue
        ids = torch.tensor(model.tokenizer.encode(document.text))
        kinds[document.kind] += [part for part in ids.split(context) if len(part) == context]
    order = [
        (kind, pieces[place])
        for place in range(max(map(len, kinds.values())))
        for kind, pieces in kinds.items()
        if place < len(pieces)
    ]
    return order[:count]


def with_returning_passage(tokens: Tensor) -> Tensor:
    """The text with its end replaced by a passage from its second quarter: something to recall."""
    start = len(tokens) // 4
    return torch.cat([tokens[:-PASSAGE], tokens[start : start + PASSAGE]])


# ------------------------------------------------------------------------------ the measures


def settings(plan: Plan) -> dict:
    """What the hash of a run is taken of: a setting that came later counts where it is used."""
    values = dataclasses.asdict(plan)
    if values["training"]["msa"]["d_rotary"] is None:  # all channels, as before there was a choice
        del values["training"]["msa"]["d_rotary"]
    return values


class Bench:
    """One run: the model, the plan, and the values found so far."""

    def __init__(
        self, plan: Plan, device: torch.device, selectors: tuple[str, ...] = tuple(SELECTORS)
    ) -> None:
        self.plan, self.device, self.selectors = plan, device, selectors
        self.model = load_smollm2(device=device)
        self.dense = self.model.decoder
        self.msa = plan.training.msa
        self.layers = plan.training.layers
        self.indices: dict[int, TrainedIndex] = {}
        self.values: dict[str, object] = {"seconds": {}}

    def pieces(self, context: int, count: int) -> list[tuple[str, Tensor]]:
        found = heldout_pieces(self.model, context, count)
        return [(kind, tokens.to(self.device)) for kind, tokens in found]

    def contestants(self) -> Iterator[tuple[str, int | None, TrainedIndex | str]]:
        """(name, seed, what `convert` takes) of every selector."""
        for seed, index in self.indices.items():
            yield "trained_index", seed, index
        for name in self.selectors:
            yield name, None, name

    def train(self) -> None:
        started = time.perf_counter()
        trainings = train_indices(
            self.dense,
            training_texts(self.model),
            self.plan.training,
            seeds=self.plan.seeds,
            progress=report,
        )
        self.values["seconds"]["training alone"] = round(time.perf_counter() - started, 1)
        self.values["layers"] = list(trainings[0].layers)
        self.values["training"] = []
        for seed, made in zip(self.plan.seeds, trainings, strict=True):
            # What is measured is what half precision leaves of the index, as in the shipped file.
            self.indices[seed] = halved(made.index)
            self.values["training"].append(
                {
                    "seed": seed,
                    "kl": [rounded(statistics.mean(step)) for step in made.kl],
                    "kl_by_layer_after_warmup": layer_means(made.kl[: made.n_warmup]),
                    "kl_by_layer_at_the_end": layer_means(made.kl),
                }
            )
        self.values["warmed_up"] = self.warmed_up_quality(trainings[0].warmed_up)

    def warmed_up_quality(self, index: TrainedIndex) -> dict[str, float]:
        """Mass captured by the index as warm-up left it, on the longest context."""
        context = max(self.plan.contexts)
        rows = self.quality_at(context, self.msa.block_size, self.plan.budgets, {"it": index}, 4)
        return {
            str(row["n_selected"]): row["mass_captured"] for row in rows if row["selector"] == "it"
        }

    def quality(self) -> None:
        rows = []
        named = {f"trained_index {seed}": index for seed, index in self.indices.items()}
        for context in self.plan.contexts:
            rows += self.quality_at(
                context, self.msa.block_size, self.plan.budgets, named, self.plan.pieces
            )
        if self.plan.other_block_size:
            context, budgets = max(self.plan.contexts), tuple(2 * b for b in self.plan.budgets)
            rows += self.quality_at(
                context, self.plan.other_block_size, budgets, named, self.plan.pieces
            )
        for row in rows:
            name, _, seed = row["selector"].partition(" ")
            row["selector"], row["seed"] = name, int(seed) if seed else None
        self.values["quality"] = rows

    def quality_at(
        self,
        context: int,
        block_size: int,
        budgets: tuple[int, ...],
        named: dict[str, TrainedIndex],
        count: int,
    ) -> list[dict]:
        """One row per selector and budget, averaged over held-out pieces."""
        found = [
            selection_quality(
                self.dense,
                tokens,
                named,
                msa=dataclasses.replace(self.msa, block_size=block_size),
                budgets=budgets,
                layers=self.layers,
            )
            for _, tokens in self.pieces(context, count)
        ]
        rows = []
        for name, budget in found[0].mass_captured:
            row = {"selector": name, "context": context, "block_size": block_size}
            row |= {"n_selected": budget, "pieces": len(found)}
            for measure in ("mass_captured", "block_recall", "group_overlap"):
                parts = [getattr(quality, measure)[name, budget] for quality in found]
                by_layer = torch.stack(parts).mean(0)
                row[measure] = rounded(by_layer.mean())
                if measure == "mass_captured":
                    row["mass_by_layer"] = [rounded(mass) for mass in by_layer]
            rows.append(row)
        return rows

    def perplexity(self, context: int) -> None:
        """Perplexity of the model with all its layers sparse, by selector and budget."""
        rows = self.values.setdefault("perplexity", [])
        pieces = self.pieces(context, self.plan.pieces)
        rows.append(self.perplexity_row(self.dense, pieces, selector="dense"))
        for budget in self.plan.budgets:
            for name, seed, index in self.contestants():
                about = {"selector": name, "seed": seed, "n_selected": budget}
                rows.append(self.sparse_row(index, budget, pieces, about))

    def dense_first_layers(self) -> None:
        """The same, with the first two layers left dense, since they look almost everywhere."""
        rows = self.values.setdefault("perplexity", [])
        pieces = self.pieces(max(self.plan.contexts), self.plan.pieces)
        later = tuple(range(2, self.dense.config.n_layers))
        seed = self.plan.seeds[0]
        for budget in self.plan.budgets:
            for name, index in (("trained_index", self.indices[seed]), ("window_sink",) * 2):
                about = {"selector": name, "n_selected": budget, "dense_layers": [0, 1]}
                rows.append(self.sparse_row(index, budget, pieces, about, layers=later))

    def long_context(self) -> None:
        """The same for a few selectors, beyond the context that the index was trained on."""
        rows = self.values.setdefault("perplexity", [])
        pieces = self.pieces(self.plan.long_context, self.plan.long_pieces)
        rows.append(self.perplexity_row(self.dense, pieces, selector="dense"))
        for budget in self.plan.budgets[-2:]:
            for name, seed, index in self.contestants():
                if name in ("trained_index", "main_max", "window_sink"):
                    about = {"selector": name, "seed": seed, "n_selected": budget}
                    rows.append(self.sparse_row(index, budget, pieces, about))

    def recall(self) -> None:
        """Perplexity of a passage that returns after more than half the context."""
        context = max(self.plan.contexts)
        pieces = [
            (kind, with_returning_passage(tokens))
            for kind, tokens in self.pieces(context, self.plan.recall_pieces)
        ]
        tail = PASSAGE - 32  # the model needs some tokens to notice that it has read them before
        rows = [self.perplexity_row(self.dense, pieces, last=tail, selector="dense")]
        for budget in self.plan.budgets:
            for name, seed, index in self.contestants():
                about = {"selector": name, "seed": seed, "n_selected": budget}
                rows.append(self.sparse_row(index, budget, pieces, about, last=tail))
        self.values["returning_passage"] = rows

    def sparse_row(
        self,
        index: TrainedIndex | str,
        budget: int,
        pieces: list[tuple[str, Tensor]],
        about: dict,
        *,
        layers: tuple[int, ...] | None = None,
        last: int | None = None,
    ) -> dict:
        msa = dataclasses.replace(self.msa, n_selected=budget)
        decoder = convert(self.dense, msa, index, layers=layers or self.layers)
        return self.perplexity_row(decoder, pieces, last=last, **about)

    def perplexity_row(
        self,
        decoder: Decoder,
        pieces: list[tuple[str, Tensor]],
        *,
        last: int | None = None,
        **about: object,
    ) -> dict:
        """Perplexity by kind of text, over the last tokens of every piece.

        By default those for which every budget leaves blocks out. The same tokens count for every
        selector and budget.
        """
        context = len(pieces[0][1])
        last = last or context - max(self.plan.budgets) * self.msa.block_size
        losses: dict[str, list[Tensor]] = {}
        for kind, tokens in pieces:
            losses.setdefault(kind, []).append(token_losses(decoder, tokens)[-last:])
        row = {"context": context, "pieces": len(pieces), **about}
        for kind, parts in losses.items():
            row[kind] = rounded(torch.cat(parts).mean().exp())
        parts = [part for of_kind in losses.values() for part in of_kind]
        row["all"] = rounded(torch.cat(parts).mean().exp())
        return row

    def slice(self) -> None:
        """What `--slice` computes again on a CPU with the shipped index."""
        plan, index = self.plan, self.indices[self.plan.seeds[0]]
        ((_, tokens),) = self.pieces(plan.slice_context, 1)
        msa = dataclasses.replace(self.msa, n_selected=plan.slice_budget)
        quality = selection_quality(
            self.dense, tokens, {"it": index}, msa=msa, budgets=(plan.slice_budget,),
            layers=plan.slice_layers,
        )  # fmt: skip
        last = plan.slice_context - msa.n_selected_tokens
        sparse = convert(self.dense, msa, index)
        self.values["slice"] = {
            "mass_captured": {
                name: [rounded(mass) for mass in by_layer]
                for (name, _), by_layer in quality.mass_captured.items()
            },
            "loss_dense": rounded(token_losses(self.dense, tokens)[-last:].mean()),
            "loss_trained_index": rounded(token_losses(sparse, tokens)[-last:].mean()),
        }

    def decode(self) -> None:
        """Tokens per second of the same generation loop, dense and sparse, in bfloat16."""
        model = load_smollm2(device=self.device, dtype=torch.bfloat16)
        index = self.indices[self.plan.seeds[0]]
        document = next(d for d in corpus.load("heldout", "prose") if d.name == "alice.txt")
        ids = torch.tensor(model.tokenizer.encode(document.text), device=self.device)
        rows = []
        for context in self.plan.decode_contexts:
            for name, budget in (("dense", None), ("trained_index", 8)):
                decoder = model.decoder
                if budget is not None:
                    msa = dataclasses.replace(self.msa, n_selected=budget)
                    decoder = convert(decoder, msa, index)
                row = {"selector": name, "n_selected": budget, "prompt_tokens": context}
                rows.append(row | timed_generation(decoder, ids[None, :context]))
        self.values["decode"] = rows
        self.values["decode_agreement"] = self.decode_agreement(ids[:2048])

    @torch.no_grad()
    def decode_agreement(self, ids: Tensor) -> dict[str, float]:
        """How far the converted float32 model's paths lie apart, in logits."""
        msa = dataclasses.replace(self.msa, n_selected=8)
        index = self.indices[self.plan.seeds[0]]
        decoder = convert(self.dense, msa, index)
        oracle = convert(self.dense, msa, index, impl="reference")
        whole = decoder(ids[None])[0]
        cache = decoder.make_cache(1, len(ids))
        decoder(ids[None, :-32], cache=cache)
        steps = [decoder(token[None, None], cache=cache)[0] for token in ids[-32:]]
        apart = (torch.cat(steps) - whole[-32:]).abs()
        kernels = (oracle(ids[None])[0] - whole).abs()
        return {
            "tokens": len(ids),
            "cached_decode_to_prefill_max": float(apart.max()),
            "reference_to_kernels_max": float(kernels.max()),
            "reference_to_kernels_median_of_row_max": float(kernels.amax(-1).median()),
            "logits_rms": float(whole.square().mean().sqrt()),
        }


def timed_generation(decoder: Decoder, prompt: Tensor, new: int = 64) -> dict[str, float]:
    """Prefill time, decode speed, and what the GPU did meanwhile."""
    stamps: list[float] = []

    def stamp(token: Tensor) -> None:
        token.tolist()  # waits for the device
        stamps.append(time.perf_counter())

    generate(decoder, prompt, max_new_tokens=8)  # warm up: kernels are compiled on first use
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    generate(decoder, prompt, max_new_tokens=new, on_token=stamp)
    steps = [1e3 * (b - a) for a, b in itertools.pairwise(stamps)]
    row = {
        "prefill_ms": rounded(1e3 * (stamps[0] - started)),
        "decode_ms_per_token": rounded(statistics.median(steps)),
        "decode_tokens_per_s": rounded(1e3 / statistics.median(steps)),
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }
    return row | gpu_share(decoder, prompt)


@torch.no_grad()
def gpu_share(decoder: Decoder, prompt: Tensor, steps: int = 8) -> dict[str, float]:
    """Kernels launched and GPU-busy time per decoded token, from the profiler."""
    cache = decoder.make_cache(1, prompt.shape[1] + steps)
    decoder(prompt, cache=cache, last_only=True)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            decoder(prompt[:, -1:], cache=cache)
        torch.cuda.synchronize()
    ran = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return {
        "kernels_per_token": rounded(len(ran) / steps),
        "gpu_busy_ms_per_token": rounded(sum(e.time_range.elapsed_us() for e in ran) / steps / 1e3),
    }


# ---------------------------------------------------------------------------------- helpers


def layer_means(kl: list[list[float]], last: int = 20) -> list[float]:
    """Each layer's KL, averaged over the last steps."""
    return [rounded(statistics.mean(layer)) for layer in zip(*kl[-last:], strict=True)]


def halved(index: TrainedIndex) -> TrainedIndex:
    """The index after a way through half precision."""
    weights = {name: weight.half().float() for name, weight in index.weights.items()}
    return TrainedIndex(weights, index.made)


def report(step: int, kl: list[float]) -> None:
    """Print the KL of every seed at the first and every 20th step."""
    if step == 1 or step % 20 == 0:
        print(f"step {step}: KL {' '.join(f'{value:.3f}' for value in kl)}", flush=True)


def table(values: dict) -> str:
    """The main figures as text: the longest context, by selector and budget."""
    lines = []
    for kind, measures in (
        ("quality", ("mass_captured", "block_recall")),
        ("perplexity", ("all", "prose", "code")),
        ("returning_passage", ("all",)),
    ):
        for row in values.get(kind, ()):
            seed = "" if row.get("seed") is None else f" seed {row['seed']}"
            extra = " first two layers dense" if row.get("dense_layers") else ""
            numbers = "  ".join(f"{m} {row[m]:.4g}" for m in measures if m in row)
            lines.append(
                f"{kind:17} n={row['context']} B={row.get('block_size', '-')} "
                f"k={row.get('n_selected', '-')} {row['selector']}{seed}{extra}: {numbers}"
            )
    lines += [str(row) for row in values.get("decode", ())]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ the runs


def run(plan: Plan, device: torch.device, path: Path, weights: Path, commit: str | None) -> None:
    """Train, measure, and save after every stage."""
    bench = Bench(plan, device)
    first, *others = plan.contexts
    stages = {
        "train": bench.train,
        "slice": bench.slice,
        "quality": bench.quality,
        f"perplexity {first}": lambda: bench.perplexity(first),
    }
    if plan.decode_contexts:
        stages["decode"] = bench.decode
    if plan.recall_pieces:
        stages["recall"] = bench.recall
    stages |= {f"perplexity {c}": functools.partial(bench.perplexity, c) for c in others}
    stages["dense first layers"] = bench.dense_first_layers
    if plan.long_context:
        stages["long context"] = bench.long_context
    for name, stage in stages.items():
        started = time.perf_counter()
        stage()
        seconds = time.perf_counter() - started
        bench.values["seconds"][name] = round(seconds, 1)
        print(f"{name}: {seconds:.1f} s", flush=True)
        records.save(
            path,
            bench.values,
            config=settings(plan),
            device=device_name(device),
            commit=commit,
            seed=plan.seeds,
        )
        if name == "train":
            _, made = records.load(path)
            about = {name: str(made[name]) for name in ("commit", "config_hash", "device")}
            about["command"] = "python benchmarks/msa_conversion.py " + (
                "--device cuda" if device.type == "cuda" else "--device cpu --small"
            )
            about["seed"] = str(plan.seeds[0])
            shipped = bench.indices[plan.seeds[0]]
            save_index(weights, dataclasses.replace(shipped, made=about))
    print(table(bench.values))


def compare_slice(folder: Path) -> list[str]:
    """Rerun a little of the committed results on the CPU; what differs, in sentences."""
    faults = []

    def expect(name: str, got: float, committed: float, tolerance: float) -> None:
        print(f"{name}: {got:.5g}, committed {committed:.5g}, tolerance {tolerance:g}")
        if not abs(got - committed) <= tolerance:
            faults.append(f"{name}: {got:.5g} differs from the committed {committed:.5g}")

    found = {}
    for name, plan in (("msa_conversion_small", Plan.small()), ("msa_conversion", Plan())):
        if (folder / f"{name}.json").is_file():
            values, made = records.load(folder / f"{name}.json")
            found[made["config_hash"]] = values, plan
            if made["config_hash"] != records.config_hash(settings(plan)):
                faults.append(f"{name}.json was made by another plan: run it again")

    plan = Plan.small()
    if records.config_hash(settings(plan)) not in found:
        return [*faults, "msa_conversion_small.json is missing: run --small"]
    bench = Bench(plan, torch.device("cpu"))
    first: list[float] = []
    with contextlib.suppress(Cancelled):
        train_indices(
            bench.dense,
            training_texts(bench.model),
            plan.training,
            seeds=plan.seeds,
            stale=lambda: len(first) == 2,
            progress=lambda step, kl: first.append(kl[0]),
        )
    committed = found[records.config_hash(settings(plan))][0]["training"][0]["kl"]
    for step, (got, kl) in enumerate(zip(first, committed, strict=False), start=1):
        expect(f"KL of training step {step}", got, kl, 2e-3 * kl)

    index = load_index()
    if index.made["config_hash"] not in found:
        return [*faults, "no committed result measured the shipped index: run the benchmark again"]
    values, plan = found[index.made["config_hash"]]
    bench = Bench(plan, torch.device("cpu"))
    bench.indices[plan.seeds[0]] = index
    bench.slice()
    again, committed = bench.values["slice"], values["slice"]
    for name, masses in committed["mass_captured"].items():
        got = again["mass_captured"][name]
        for layer, ours, theirs in zip(plan.slice_layers, got, masses, strict=True):
            expect(f"mass captured by {name} in layer {layer}", ours, theirs, 5e-3)
    for name, tolerance in (("loss_dense", 2e-3), ("loss_trained_index", 1e-2)):
        expect(name.replace("_", " "), again[name], committed[name], tolerance)
    return faults


def main() -> None:
    parser = helpers.options(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--small", action="store_true", help="the cut for two CPU cores")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the index goes")
    args = parser.parse_args()
    if args.slice:
        sys.exit(helpers.told(compare_slice(args.folder)))
    device = torch.device(args.device)
    if args.small:
        path = args.folder / "msa_conversion_small.json"
        run(Plan.small(), device, path, args.weights, args.commit)
    elif device.type == "cuda":
        run(Plan(), device, args.folder / "msa_conversion.json", args.weights, args.commit)
    else:
        parser.error("all layers at 4,096 tokens take a GPU: pass --device cuda, or --small")


if __name__ == "__main__":
    main()
