"""A training of the pair of `lclm_smollm.py`, and what validation texts say of it on the way."""

import contextlib
import math
import time
from argparse import Namespace

import lclm_smollm_eval as measures
import torch
from lclm_fast_step import encoded
from lclm_smollm_encoder import PlaceHeads, close_encoder, open_encoder, standardise
from lclm_smollm_training import PARTS, Masters, Plan, Steps, smollm2, synchronize
from lclm_texts import Batches, Texts
from torch import Tensor

from intuitive.common import training
from intuitive.common.runtime import Cancelled, seeded
from intuitive.lclm.smollm import SmolLatents
from intuitive.lclm.splice import Latents, Raw

WATCHED = ((32, 4, 64), (32, 8, 64), (64, 4, 32), (256, 4, 16))  # tokens, ratio, rows


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


class Watch:
    """Signs of learning on validation prose, small enough to be looked at every few seconds."""

    def __init__(self, model: SmolLatents, texts: Texts, batches: Batches, plan: Plan) -> None:
        self.model, self.batches = model, batches
        prose = texts.of("validation", "prose")
        self.sets = [
            (n, ratio, prose.pieces(min(rows, 2 * plan.pieces), max(n // plan.scale, 2 * ratio)))
            for n, ratio, rows in WATCHED
        ]
        n = (measures.CONTEXT + measures.CONTINUATION) // plan.scale
        self.long = prose.pieces(min(16, plan.pieces), n)

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Losses in nats per token, shares of tokens right, and sizes.

        "32/4 loss" is of 32 tokens repeated from their own latents at ratio 4, "32/4 other loss"
        from another text's; "gap" is the second less the first, and above 0 only if the latents
        say something. "with" and "without" are losses of going on with a text after its latents
        at ratio 4, or after nothing.
        """
        model, found = self.model, {}
        reader = measures.Reader(model, rows=64)
        for n, ratio, tokens in self.sets:
            (latents,) = encoded(model, [(tokens, ratio)])
            name = f"{n}/{ratio}"
            for arm, read in (("", latents), (" other", latents.roll(1, 0))):
                scores, right = reader(
                    [Latents(read), Raw(self.batches.repeat, False)], tokens, ratio
                )
                found[f"{name}{arm} loss"] = -float(scores.mean())
                found[f"{name}{arm} right"] = float(right.float().mean())
            found[f"{name} gap"] = found[f"{name} other loss"] - found[f"{name} loss"]
            if (n, ratio) == WATCHED[0][:2]:
                found["latent rms"] = float(latents.float().square().mean().sqrt())
                words = model.decoder.embedding(tokens).float()
                found["token rms"] = float(words.square().mean().sqrt())
        cut = 3 * self.long.shape[1] // 4
        context, rest = self.long[:, :cut], self.long[:, cut:]
        end = context.new_full((len(context), 1), self.batches.model.end_of_text)
        (latents,) = encoded(model, [(context, 4)])
        found["with"] = -float(reader([Latents(latents)], rest)[0].mean())
        found["without"] = -float(reader([Raw(end)], rest)[0].mean())
        return found


def told(found: dict[str, float]) -> str:
    """What `Watch` found, on one line."""
    parts = []
    for n, ratio, _ in WATCHED:
        name = f"{n}/{ratio}"
        own = f"{found[f'{name} loss']:.2f} {found[f'{name} right']:.0%}"
        other = f"{found[f'{name} other loss']:.2f} {found[f'{name} other right']:.0%}"
        parts.append(f"{name}: {own} other {other} GAP {found[f'{name} gap']:+.2f}")
    parts.append(f"on {found['with']:.3f}/{found['without']:.3f}")
    parts.append(f"rms {found['latent rms']:.3f}/{found['token rms']:.3f}")
    return " | ".join(parts)


class Training:
    """A model and what it takes to train it."""

    def __init__(self, plan: Plan, args: Namespace, device: torch.device, texts: Texts) -> None:
        self.plan, self.args, self.device, self.texts = plan, args, device, texts
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        smollm = smollm2(device, dtype, args.small)
        generator = seeded(args.seed, device)
        self.model = SmolLatents(smollm, plan.ranks, generator=generator)
        self.batches = Batches(smollm, texts, plan.mix, device, args.seed, scale=plan.scale)
        pair = not args.control
        if pair:
            tokens = texts.of("train", "prose").draw(32, 256 // plan.scale, generator)
            standardise(self.model, tokens)
        self.opened = open_encoder(self.model) if pair and plan.whole else {}
        self.heads = PlaceHeads(self.model, generator) if pair and plan.heads else None
        parts = PARTS if pair else ("decoder",)
        self.masters = Masters(self.model, plan, parts, self.opened, self.heads)
        self.steps = Steps(
            self.model,
            self.batches,
            plan,
            args.seed,
            control=args.control,
            record=device.type == "cuda" and not args.eager,
            heads=self.heads,
        )
        self.watch = Watch(self.model, texts, self.batches, plan)

    def run(
        self, seconds: float, n_steps: int | None = None, *, of: float = 0.0, every: float = 30.0
    ) -> list[dict[str, float]]:
        """Train for a time, or a number of steps within it; what was seen on the way.

        Args:
            seconds: at most.
            n_steps: at most, and what the schedules go by.
            of: seconds of a whole training of which this is the beginning; `seconds` if 0.
            every: seconds between two looks.
        """
        curve, masters, spent = [], self.masters, 0.0
        start = time.perf_counter()
        whole = max(of, seconds)

        def elapsed() -> float:
            return time.perf_counter() - start

        def share() -> float:
            return masters.taken / n_steps if n_steps else elapsed() / whole

        def step(_: int) -> dict[str, float]:
            nonlocal spent
            losses = self.steps()
            if elapsed() >= every * (len(curve) + 1):
                row = {name: float(value) for name, value in losses.items()}
                begun = elapsed()
                seen = {} if self.args.control else self.watch()
                spent += elapsed() - begun
                curve.append({"step": masters.taken, "share": share(), **row, **seen})
                words = ", ".join(f"{name} {value:.2f}" for name, value in row.items())
                words += f", norm {float(masters.norm):.2f}"
                line = f" | {told(seen)}" if seen else ""
                print(f"{elapsed():3.0f} s {masters.taken}: {words}{line}", flush=True)
            return {}

        masters.share = self.steps.share = share
        with contextlib.suppress(Cancelled):  # the time is over
            training.train(
                step,
                masters.optimizer,
                n_steps=n_steps or 10**7,
                stale=lambda: elapsed() >= seconds,
            )
        synchronize(self.device)
        with torch.no_grad():
            for parameter, master in masters.pairs:
                parameter.copy_(master)
        print(f"{masters.taken} steps, of {elapsed():.0f} s {spent:.1f} s looking", flush=True)
        return curve

    def validation(self) -> dict[str, float]:
        """As `validation`, of the model as it is."""
        return validation(self.model, self.texts, self.batches, self.plan)

    def weights(self) -> dict[str, Tensor]:
        """All weights that are stored, those in training in float32; closes a whole encoder."""
        wide = {id(p): master for p, master in self.masters.pairs}
        low: dict[str, Tensor] = {}
        if self.opened:
            low, kept = close_encoder(self.model, self.opened, wide)
            self.opened = {}
            print(f"low-rank changes hold {kept:.1%} of the encoder's squared change", flush=True)
        stored = {n: wide.get(id(p), p.detach()) for n, p in self.model.weights().items()}
        return stored | low
