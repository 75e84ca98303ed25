"""How the pair of `lclm_smollm.py` is trained: settings, gradients of a step, speed."""

import math
import random
from dataclasses import dataclass, field, replace

import lclm_fast_step
import torch
from lclm_smollm_encoder import PlaceHeads, trained_parts
from lclm_texts import Batches, Mix
from torch import Tensor

from intuitive.common.low_rank import low_rank_decoder
from intuitive.common.smollm import SmolLM2, load_smollm2
from intuitive.lclm.smollm import WINDOW, Ranks, SmolLatents
from intuitive.lclm.splice import Piece

PARTS = ("adapter", "encoder", "places", "heads", "decoder", "tags")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What steps are made of until some share of the training is over."""

    until: float
    ratios: tuple[int, ...] = (4, 8, 4, 8, 16, 8, 4, 8, 4, 4)
    windows: tuple[int, ...] = (256, 256, 128, 256, 256, 64)  # tokens to be repeated
    forms: int = 10  # different layouts of a step; a GPU records each
    alone: bool = False  # nothing but text to be repeated
    told: float = 0.0  # weight of what the heads read


SHORT_FIRST = (
    Phase(until=0.1, ratios=(4, 8, 4), windows=(32,), forms=3, alone=True, told=0.5),
    Phase(until=0.3, ratios=(4, 8, 4, 8), windows=(64, 128, 64, 256), forms=4, told=0.5),
    Phase(until=1.0),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one training."""

    lr_adapter: float = 1e-3  # also of places, tags and heads
    lr_encoder: float = 3e-3
    lr_decoder: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    warmup: int = 40  # steps
    first_stage: float = 0.12  # of the time, in which the decoder does not train
    last_rate: float = 0.03  # of the peak
    whole: bool = False  # all weights of the encoder train, and are stored as low-rank changes
    heads: bool = False  # whether latents are also read directly, where a phase says so
    phases: tuple[Phase, ...] = SHORT_FIRST
    mix: Mix = field(default_factory=Mix)
    ranks: Ranks = field(default_factory=Ranks)
    scale: int = 1  # all lengths divided by this
    pieces: int = 72  # held-out pieces of prose; of documentation and of code 48
    questions: int = 256
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


# Settings that can be named, tried side by side for a short time.
CANDIDATES: dict[str, dict] = {
    "low": {},
    "taught": {"heads": True, "first_stage": 0.06, "lr_encoder": 1.5e-3},
    "whole": {"whole": True, "lr_encoder": 6e-4},
    "both": {"whole": True, "lr_encoder": 6e-4, "heads": True, "first_stage": 0.06},
    "pilot": {
        "whole": True,
        "lr_encoder": 6e-4,
        "first_stage": 0.15,
        "phases": (Phase(until=1.0, ratios=(4, 8), windows=(256,), forms=6),),
    },
}


class Masters:
    """Mixed precision by hand: the model in bfloat16, weights that train also in float32.

    `optimizer` holds the float32 ones; around its steps the gradients come over and the weights go
    back, and the learning rates follow `share()`, how much of the training is over.
    """

    def __init__(
        self,
        model: SmolLatents,
        plan: Plan,
        names: tuple[str, ...],
        opened: dict,
        heads: PlaceHeads | None,
    ) -> None:
        self.plan, self.share = plan, lambda: 0.0
        self.pairs: list[tuple[torch.nn.Parameter, Tensor]] = []
        groups = []
        model.requires_grad_(False)
        for part, named in trained_parts(model, opened, heads).items():
            if part not in names:
                continue
            masters = []
            for parameter in named.values():
                parameter.requires_grad_(True)
                master = parameter.detach().float().clone()
                masters.append(master)
                self.pairs.append((parameter, master))
            rate = getattr(plan, f"lr_{part}", plan.lr_adapter)
            groups.append({"params": masters, "lr": 0.0, "peak": rate, "part": part})
        self.wide = [torch.zeros_like(master) for _, master in self.pairs]  # for gradients
        self.optimizer = torch.optim.AdamW(
            groups, betas=plan.betas, weight_decay=plan.weight_decay, fused=model.tags.is_cuda
        )
        self.optimizer.register_step_pre_hook(self._before)
        self.optimizer.register_step_post_hook(self._after)
        self.norm = torch.zeros(())  # of the last gradient
        self.waits = len(names) > 1  # the decoder, for adapters and encoder
        self.taken, self.decoder_from = 0, 0 if not self.waits else None

    def _before(self, *_: object) -> None:
        plan, share = self.plan, min(self.share(), 1.0)
        if share >= plan.first_stage and self.decoder_from is None:
            self.decoder_from = self.taken
        fall = plan.last_rate + (1 - plan.last_rate) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimizer.param_groups:
            begun = self.decoder_from if group["part"] == "decoder" else 0
            rise = 0.0 if begun is None else min(1.0, (self.taken - begun + 1) / plan.warmup)
            group["lr"] = group["peak"] * rise * fall
        given = []
        for (parameter, master), wide in zip(self.pairs, self.wide, strict=True):
            master.grad = None if parameter.grad is None else wide
            given += [] if master.grad is None else [(parameter, master)]
        torch._foreach_copy_([m.grad for _, m in given], [p.grad for p, _ in given])
        self.norm = torch.nn.utils.clip_grad_norm_([m for _, m in given], plan.clip)

    @torch.no_grad()
    def _after(self, *_: object) -> None:
        held = [pair for pair in self.pairs if pair[1].grad is not None]
        torch._foreach_copy_([p for p, _ in held], [m for _, m in held])
        self.taken += 1


Losses = dict[str, Tensor]


class Steps:
    """Draws steps and adds their gradients.

    A step has one of its phase's forms: which ratio each kind has, how long everything is, what
    is asked. Only a form's texts differ from step to step, so that a GPU can replay it.
    """

    def __init__(
        self,
        model: SmolLatents,
        batches: Batches,
        plan: Plan,
        seed: int,
        *,
        control: bool,
        record: bool,
        heads: PlaceHeads | None = None,
    ) -> None:
        mix = plan.mix
        self.model, self.batches, self.mix, self.control = model, batches, mix, control
        self.phases, self.phase, self.heads = plan.phases, plan.phases[-1], heads
        self.share = lambda: 1.0
        self.rng = random.Random(seed)
        weights = {"reconstruction": mix.reconstruction_weight, "chunks": mix.chunks_weight}
        if not control:
            weights["raw"] = mix.raw_weight
        self.weights = weights
        trained = [p for p in model.parameters() if p.requires_grad]
        trained += [] if heads is None else list(heads.parameters())
        self.recorded = lclm_fast_step.Recorded(self.run, trained, record)
        self.names: list[str] = []

    def __call__(self) -> Losses:
        """Add one step's gradients; the losses by kind, overwritten by the next call."""
        share = min(self.share(), 1.0)
        self.phase = next(phase for phase in self.phases if share <= phase.until)
        jobs = self.draw(self.rng.randrange(self.phase.forms))
        found = self.recorded(jobs, f"{self.names} {self.phase.told}")
        return dict(zip(self.names, found, strict=True))

    def draw(self, number: int) -> list[tuple[list[Piece], int]]:
        """Prompts of a step of this form."""
        batches, mix, phase = self.batches, self.mix, self.phase
        batches.rng.seed(number)  # lengths and questions; the texts have a generator of their own
        if self.control:
            chosen = [
                ("raw", batches.all_raw(mix.interleaved), 4),
                ("chunks", batches.chunk_questions(mix.chunks, compressed=False), 4),
            ]
        else:
            ratios, n = phase.ratios, phase.windows[number % len(phase.windows)]
            mixed, again, asked = (ratios[(number * k) % len(ratios)] for k in (1, 3, 7))
            rows = mix.reconstruction * min(WINDOW // n, 6 if phase.alone else 3)
            chosen = [("reconstruction", batches.reconstruction(rows, again, n), again)]
            if not phase.alone:
                chosen += [
                    ("interleaved", batches.interleaved(mix.interleaved, mixed), mixed),
                    ("raw", batches.raw(mix.raw, 512), 4),
                    ("chunks", batches.chunk_questions(mix.chunks), asked),
                ]
        self.names = [name for name, *_ in chosen]
        if self.heads is not None and phase.told:
            self.names.append("told")
        return [(pieces, ratio) for _, pieces, ratio in chosen]

    def run(self, jobs: lclm_fast_step.Jobs) -> Tensor:
        """Add the gradients of these prompts; their losses [jobs], and the heads' if they read."""
        heads = self.heads if "told" in self.names else None
        found = lclm_fast_step.losses(self.model, jobs, heads)
        weights = {**self.weights, "told": self.phase.told}
        pairs = zip(self.names, found, strict=True)
        sum(weights.get(name, 1.0) * loss for name, loss in pairs).backward()
        return torch.stack([loss.detach() for loss in found])


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def smollm2(device: torch.device | str, dtype: torch.dtype, small: bool) -> SmolLM2:
    """SmolLM2; of the small cut the first layers alone, which say nothing sensible."""
    model = load_smollm2(device=device, dtype=dtype)
    if not small:
        return model
    cut = low_rank_decoder(model.decoder, n_layers=5)
    return replace(model, decoder=cut, config=cut.config)
