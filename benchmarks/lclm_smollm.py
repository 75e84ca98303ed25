"""SmolLM2 with an encoder of its own first layers: training on real text, and what it is worth.

    python benchmarks/lclm_smollm.py --device cuda --corpus FOLDER --out OUT --seed 0 --seconds 480
    python benchmarks/lclm_smollm.py ... --control          the decoder adapted to raw text alone
    python benchmarks/lclm_smollm.py --merge OUT            results and weights of all seeds
    python benchmarks/lclm_smollm.py --small --out OUT      a tiny cut for two CPU cores
    python benchmarks/lclm_smollm.py --slice                measure a little again and compare

FOLDER is made by `lclm_corpus.py`. Every step holds text that alternates between compressed and
raw, windows to be repeated, raw text, and maps of chunks with questions; each draws its own ratio.
Adapters and encoder train first, then the decoder's low-rank changes too. Settings were chosen by
the validation texts (`--pilot` prints them at the end); the held-out texts are read once, after
training, by the weights as they are stored, in float32.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import helpers
import lclm_smollm_eval as measures
import torch
from lclm_texts import Batches, Mix, Texts
from torch import Tensor

from intuitive.common import records
from intuitive.common.runtime import device_name, seeded
from intuitive.common.smollm import SmolLM2, load_smollm2
from intuitive.lclm.low_rank import from_int8, low_rank_decoder, to_int8
from intuitive.lclm.smollm import Ranks, SmolLatents, save_pair

PARTS = ("adapter", "encoder", "decoder", "tags")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one training."""

    lr_adapter: float = 1e-3
    lr_encoder: float = 1e-3
    lr_decoder: float = 6e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    warmup: int = 60  # steps
    first_stage: float = 0.15  # of the time, in which the decoder does not train
    last_rate: float = 0.03  # of the peak
    mix: Mix = field(default_factory=Mix)
    ranks: Ranks = field(default_factory=Ranks)
    scale: int = 1  # all lengths divided by this
    pieces: int = 72  # held-out pieces of prose; of documentation and of code 48
    questions: int = 512
    lengths: tuple[int, ...] = (1024, 2048, 4096, 8192)  # tokens timed
    repeats: int = 9

    @classmethod
    def small(cls) -> "Plan":
        """A cut that runs through everything on a CPU."""
        mix = Mix(interleaved=2, reconstruction=2, raw=1, chunks=2)
        ranks = Ranks(encoder_attention=4, encoder_mlp=4, decoder_attention=2)
        return cls(
            mix=mix,
            ranks=ranks,
            scale=8,
            pieces=2,
            questions=2,
            lengths=(128,),
            repeats=1,
            warmup=2,
        )


class Trainer:
    """Mixed precision by hand: the model in bfloat16, weights that train also in float32."""

    def __init__(self, model: SmolLatents, plan: Plan, parts: tuple[str, ...]) -> None:
        self.plan = plan
        self.pairs: list[tuple[torch.nn.Parameter, Tensor]] = []
        groups = []
        model.requires_grad_(False)
        for part, named in model.trained().items():
            if part not in parts:
                continue
            masters = []
            for parameter in named.values():
                parameter.requires_grad_(True)
                master = parameter.detach().float().clone()
                masters.append(master)
                self.pairs.append((parameter, master))
            rate = getattr(plan, f"lr_{part}", plan.lr_adapter)
            groups.append({"params": masters, "lr": 0.0, "peak": rate, "part": part})
        on_cuda = model.tags.is_cuda
        self.optimizer = torch.optim.AdamW(
            groups, betas=plan.betas, weight_decay=plan.weight_decay, fused=on_cuda
        )
        self.taken, self.decoder_from = 0, None

    def clear(self) -> None:
        for parameter, _ in self.pairs:
            parameter.grad = None

    def step(self, share: float, stages: bool) -> None:
        """One step; `share` of the training is over."""
        plan = self.plan
        if share >= plan.first_stage and self.decoder_from is None:
            self.decoder_from = self.taken
        for group in self.optimizer.param_groups:
            begun = 0
            if group["part"] == "decoder" and stages:
                begun = self.taken if self.decoder_from is None else self.decoder_from
                if self.decoder_from is None:
                    group["lr"] = 0.0
                    continue
            rise = min(1.0, (self.taken - begun + 1) / plan.warmup)
            fall = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
            group["lr"] = group["peak"] * rise * (plan.last_rate + (1 - plan.last_rate) * fall)
        held = [(p, m) for p, m in self.pairs if p.grad is not None]
        for _, master in self.pairs:
            master.grad = None
        for parameter, master in held:
            master.grad = parameter.grad.float()
        torch.nn.utils.clip_grad_norm_([m for _, m in held], plan.clip)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_([p for p, _ in held], [m for _, m in held])
        self.taken += 1


Losses = dict[str, Tensor]


def gradients(model: SmolLatents, batches: Batches, mix: Mix) -> Losses:
    """Add one step's gradients, kind by kind, each with a ratio of its own."""

    def encode(tokens: Tensor, ratio: int) -> Tensor:
        return model.encode(tokens, ratio=ratio)

    jobs: list[tuple[str, int, float, Callable]] = [
        ("interleaved", mix.interleaved, 1.0, batches.interleaved),
        ("reconstruction", mix.reconstruction, mix.reconstruction_weight, batches.reconstruction),
        ("raw", mix.raw, mix.raw_weight, lambda b, ratio: batches.raw(b)),
        (
            "chunks",
            mix.chunks,
            mix.chunks_weight,
            lambda b, ratio: batches.chunk_questions(lambda tokens: encode(tokens, ratio), b),
        ),
    ]
    losses = {}
    for name, rows, weight, draw in jobs:
        if not rows:
            continue
        ratio = batches.ratio()
        loss = model.loss(model.batch(draw(rows, ratio), ratio=ratio))
        (weight * loss).backward()
        losses[name] = loss.detach()
    return losses


def control_gradients(model: SmolLatents, batches: Batches, mix: Mix) -> Losses:
    """The same texts and questions, nothing of them compressed."""
    losses = {}
    jobs = [
        ("raw", mix.interleaved, 1.0, batches.all_raw),
        ("chunks", mix.chunks, mix.chunks_weight, lambda b: batches.chunk_questions(_same, b)),
    ]
    for name, rows, weight, draw in jobs:
        loss = model.loss(model.batch(draw(rows)))
        (weight * loss).backward()
        losses[name] = loss.detach()
    return losses


def _same(tokens: Tensor) -> Tensor:
    return tokens


# ------------------------------------------------------------------------------------ speed


def smollm2(device: torch.device | str, dtype: torch.dtype, small: bool) -> SmolLM2:
    """SmolLM2; of the small cut the first layers alone, which say nothing sensible."""
    model = load_smollm2(device=device, dtype=dtype)
    if not small:
        return model
    cut = low_rank_decoder(model.decoder, n_layers=5)
    return replace(model, decoder=cut, config=cut.config)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(gradient: Callable[[], object], trainer: Trainer, device: torch.device, n: int) -> float:
    """Seconds of one call, over n of them; the gradients are thrown away."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(n):
        trainer.clear()
        gradient()
    synchronize(device)
    return (time.perf_counter() - start) / n


def compile_layers(model: SmolLatents, on: bool) -> None:
    """Let torch fuse what happens inside each layer, or not."""
    for layer in (*model.encoder.layers, *model.decoder.layers):
        if on:
            layer.compile()
        else:
            layer._compiled_call_impl = None


def choose_speed(
    model: SmolLatents, gradient: Callable[[], object], trainer: Trainer, how: str, n: int
) -> dict[str, float | str]:
    """Eager or compiled layers: as asked for, or ("auto") whichever takes less time here."""
    device = model.tags.device
    found: dict[str, float | str] = {}
    if how in ("auto", "no") and n:
        timed(gradient, trainer, device, 3)
        found["eager_s"] = timed(gradient, trainer, device, n)
    if how in ("auto", "yes"):
        torch._dynamo.config.recompile_limit = 64
        torch._dynamo.config.accumulated_recompile_limit = 4096
        start = time.perf_counter()
        try:
            compile_layers(model, True)
            timed(gradient, trainer, device, n)
            found["compile_s"] = time.perf_counter() - start
            found["compiled_s"] = timed(gradient, trainer, device, n)
        except Exception as error:  # whatever a compiler may say
            found["failed"] = f"{type(error).__name__}: {str(error)[:300]}"
            compile_layers(model, False)
    fused = found.get("compiled_s")
    if fused is not None and found.get("eager_s", math.inf) < fused:
        compile_layers(model, False)
        fused = None
    trainer.clear()
    found["layers"] = "eager" if fused is None else "compiled"
    return found


# ------------------------------------------------------------------------------------ one seed


def validation(model: SmolLatents, texts: Texts, batches: Batches, plan: Plan) -> dict[str, float]:
    """What settings are chosen by: perplexities and reconstruction on the validation texts."""
    n = (measures.CONTEXT + measures.CONTINUATION) // plan.scale
    reader, found = measures.Reader(model), {}
    with torch.no_grad():
        pieces = texts.of("validation", "prose").pieces(min(32, plan.pieces), n)
        cut = 3 * n // 4
        context, rest = pieces[:, :cut], pieces[:, cut:]
        held = ["raw", "none"]
        for arm, _, parts in measures.raw_arms(context, batches.model.end_of_text):
            if arm in held or arm.startswith("truncated"):
                found[arm] = measures.ppl(reader(parts, rest)[0])
        for arm, ratio, _, parts in measures.compressed_arms(context):
            found[arm] = measures.ppl(reader(parts, rest, ratio)[0])
        for row in measures.reconstructions(
            batches.model, {"prose": pieces}, reader, batches.repeat
        ):
            found[f"reconstruction {row['ratio']}"] = row["right"]
    gap = math.log(found["none"] / found["raw"])
    for ratio in (4, 8, 16):
        found[f"gap {ratio}"] = math.log(found["none"] / found[f"compressed {ratio}"]) / gap
        over = found[f"compressed {ratio} + tail"] / found[f"truncated to {ratio} + tail"]
        found[f"tail over truncated {ratio}"] = over
    return found


def train(plan: Plan, args, device: torch.device, texts: Texts) -> tuple[dict[str, Tensor], dict]:
    """Train one seed for a time, or a number of steps; its weights, and what it took."""
    begun = time.perf_counter()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    smollm = smollm2(device, dtype, args.small)
    model = SmolLatents(smollm, plan.ranks, generator=seeded(args.seed, device))
    parts = ("decoder",) if args.control else PARTS
    trainer = Trainer(model, plan, parts)
    batches = Batches(smollm, texts, plan.mix, device, args.seed, scale=plan.scale)
    make = control_gradients if args.control else gradients

    def gradient() -> Losses:
        return make(model, batches, plan.mix)

    speed = choose_speed(model, gradient, trainer, args.compile, 0 if args.small else 12)
    print(f"speed {speed}, {time.perf_counter() - begun:.0f} s", flush=True)
    curve, start, said, share = [], time.perf_counter(), 0.0, 0.0
    room = args.seconds - (start - begun) - (2 if args.small else args.keep)
    while share < 1:
        trainer.clear()
        losses = gradient()
        elapsed = time.perf_counter() - start
        share = trainer.taken / args.steps if args.steps else elapsed / room
        if args.steps and elapsed > room:
            break
        trainer.step(share, stages=not args.control)
        if elapsed - said > (5 if args.small else 30) or share >= 1:
            said = elapsed
            row = {name: float(value) for name, value in losses.items()}
            curve.append({"step": trainer.taken, "share": round(share, 4), **row})
            words = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
            print(f"{elapsed:5.0f} s, step {trainer.taken}: {words}", flush=True)
    synchronize(device)
    compile_layers(model, False)
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    took = {
        "seed": args.seed,
        "steps": trainer.taken,
        "seconds": time.perf_counter() - start,
        "peak_gib": memory,
        "speed": speed,
        "curve": curve,
    }
    with torch.no_grad():
        for parameter, master in trainer.pairs:
            parameter.copy_(master)
    if not args.control:
        took["validation"] = validation(model, texts, batches, plan)
    masters = dict(
        zip((id(p) for p, _ in trainer.pairs), (m for _, m in trainer.pairs), strict=True)
    )
    weights = {name: masters.get(id(p), p.detach()) for name, p in model.weights().items()}
    return weights, took


def passages(texts: Texts, plan: Plan, device: torch.device, split: str) -> dict[str, Tensor]:
    """[pieces, n] passages by kind; held-out prose half from each of its two books."""
    n = (measures.CONTEXT + measures.CONTINUATION) // plan.scale
    books = [texts.named(split, "prose", name, device) for name in ("alice.txt", "persuasion")]
    half = [book.pieces(plan.pieces // 2, n) for book in books if book is not None]
    sets = {"prose": torch.cat(half)} if half else {}
    for kind in measures.KINDS:
        if kind not in sets and texts.has(split, kind):
            sets[kind] = texts.of(split, kind).pieces(max(1, plan.pieces * 2 // 3), n)
    return sets


def evaluate(weights: dict, plan: Plan, args, device: torch.device, texts: Texts) -> dict:
    """All that is measured on held-out texts, with the weights as they are stored.

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
        split="heldout",
        scale=plan.scale,
    )
    places = measures.PLACES if args.pilot else measures.HELD_OUT_PLACES
    held = measures.needles(smollm, places, device, 1)
    largest = {}
    for bucket in sorted(held, key=lambda bucket: len(bucket.place)):
        largest[bucket.fact[0]] = bucket
    batches.buckets = list(largest.values())[: 1 if args.small else None]
    sets = passages(texts, plan, device, split)
    if args.small:
        sets = {"prose": sets["prose"]}
    reader = measures.Reader(model, rows=2 if args.small else 24)
    end = smollm.end_of_text
    name = "raw only" if args.control else "shared"
    found: dict = {"continuations": [], "far": []}
    readers = {name: reader}
    if not args.control and args.seed == 0:
        readers["none"] = measures.Reader(model, smollm.decoder, rows=reader.rows)
    for adaptation, its in readers.items():
        latents = adaptation == "shared"
        found["continuations"] += measures.continuations(sets, its, end, adaptation, latents)
        found["far"] += measures.far(
            {"prose": sets["prose"]}, batches, its, end, adaptation, latents
        )
    if not args.control:
        found["reconstruction"] = measures.reconstructions(smollm, sets, reader, batches.repeat)
        small = {"n_chunks": 3, "n": 24} if args.small else {}
        rows = min(32, plan.questions)
        found["maps"] = measures.maps(
            batches, held, reader, device, count=plan.questions, rows=rows, **small
        )
    return found


def timings(plan: Plan, args, device: torch.device, texts: Texts, weights: dict) -> list[dict]:
    """Time to first token and peak memory, in the training's dtype."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    smollm = smollm2(device, dtype, args.small)
    model = SmolLatents(smollm, plan.ranks).requires_grad_(False)
    model.put(weights)
    stream = texts.of("heldout", "prose")
    return measures.costs(smollm, model, stream, plan.lengths, plan.repeats)


def run(plan: Plan, args) -> None:
    device = torch.device(args.device)
    started = time.perf_counter()
    torch.set_float32_matmul_precision("high")
    texts = Texts(args.corpus, load_smollm2(), device)
    print(f"texts {texts.about}, {time.perf_counter() - started:.0f} s", flush=True)
    args.seconds -= time.perf_counter() - started
    weights, took = train(plan, args, device, texts)
    words = {k: round(v, 4) for k, v in took.get("validation", {}).items()}
    print(f"{took['steps']} steps, peak {took['peak_gib']} GiB, validation {json.dumps(words)}")
    kind = "control" if args.control else "pair"
    holder = SmolLatents(smollm2("cpu", torch.float32, args.small), plan.ranks)
    holder.put({name: weight.cpu() for name, weight in weights.items()})
    made = {"command": " ".join(["lclm_smollm.py", *sys.argv[1:]]), "commit": args.commit or ""}
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
    values |= evaluate(weights, plan, args, device, texts)
    save()
    print(f"measured, {time.perf_counter() - started:.0f} s", flush=True)
    if args.pilot:
        print(json.dumps(helpers.rounded(values, digits=4)))
    if not args.control and args.seed == 0:
        values["costs"] = timings(plan, args, device, texts, weights)
        save()
    print(f"done after {time.perf_counter() - started:.0f} s", flush=True)


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
    parser.add_argument("--control", action="store_true", help="only the decoder, on raw text")
    parser.add_argument("--pilot", action="store_true", help="measure on validation texts")
    parser.add_argument("--compile", choices=("auto", "yes", "no"), default="auto")
    parser.add_argument("--merge", type=Path, help="a folder of all seeds' outputs")
    parser.add_argument("--set", nargs="*", default=[], help="settings, such as lr_encoder=2e-3")
    args = parser.parse_args()
    plan = Plan.small() if args.small else Plan()
    for setting in args.set:
        name, value = setting.split("=")
        plan = changed(plan, name, json.loads(value))
    if args.out is None:
        parser.error("name a folder for the results: --out FOLDER")
    run(plan, args)


def changed(plan: Plan, name: str, value: float | list) -> Plan:
    """The plan with one setting changed; "mix.raw" and "ranks.encoder_mlp" reach inside."""
    value = tuple(value) if isinstance(value, list) else value
    if "." in name:
        outer, inner = name.split(".")
        return replace(plan, **{outer: replace(getattr(plan, outer), **{inner: value})})
    return replace(plan, **{name: value})


if __name__ == "__main__":
    main()
