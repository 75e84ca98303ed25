"""How the pair of `lclm_smollm.py` is trained: settings, gradients of a step, speed."""

import math
from dataclasses import dataclass, field, replace

import lclm_fast_step
import torch
from lclm_texts import Batches, Mix
from torch import Tensor

from intuitive.common.smollm import SmolLM2, load_smollm2
from intuitive.lclm.low_rank import low_rank_decoder
from intuitive.lclm.smollm import Ranks, SmolLatents
from intuitive.lclm.splice import Piece

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


class Masters:
    """Mixed precision by hand: the model in bfloat16, weights that train also in float32.

    `optimizer` holds the float32 ones; around its steps the gradients come over and the weights go
    back, and the learning rates follow `share()`, how much of the training is over.
    """

    def __init__(self, model: SmolLatents, plan: Plan, parts: tuple[str, ...]) -> None:
        self.plan, self.share = plan, lambda: 0.0
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
        self.optimizer = torch.optim.AdamW(
            groups, betas=plan.betas, weight_decay=plan.weight_decay, fused=model.tags.is_cuda
        )
        self.optimizer.register_step_pre_hook(self._before)
        self.optimizer.register_step_post_hook(self._after)
        self.waits = len(parts) > 1  # the decoder, for adapters and encoder
        self.taken, self.decoder_from = 0, 0 if not self.waits else None

    def clear(self) -> None:
        for parameter, _ in self.pairs:
            parameter.grad = None

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
        for parameter, master in self.pairs:
            master.grad = None if parameter.grad is None else parameter.grad.float()
            given += [] if master.grad is None else [master]
        torch.nn.utils.clip_grad_norm_(given, plan.clip)

    @torch.no_grad()
    def _after(self, *_: object) -> None:
        held = [pair for pair in self.pairs if pair[1].grad is not None]
        torch._foreach_copy_([p for p, _ in held], [m for _, m in held])
        self.taken += 1


Losses = dict[str, Tensor]


Jobs = list[tuple[list[Piece], int]]


def draw(batches: Batches, mix: Mix) -> tuple[list[str], Jobs]:
    """One step's prompts by kind, each kind with a ratio of its own."""
    ratios = [batches.ratio() for _ in range(3)]
    kinds = [
        ("interleaved", mix.interleaved, ratios[0], batches.interleaved),
        (
            "reconstruction",
            mix.reconstruction,
            ratios[1],
            lambda b, r: batches.reconstruction(b, r),
        ),
        ("raw", mix.raw, 4, lambda b, _: batches.raw(b, 512)),
        ("chunks", mix.chunks, ratios[2], lambda b, _: batches.chunk_questions(b)),
    ]
    chosen = [(name, make(rows, r), r) for name, rows, r, make in kinds if rows]
    return [name for name, *_ in chosen], [(pieces, r) for _, pieces, r in chosen]


def draw_control(batches: Batches, mix: Mix) -> tuple[list[str], Jobs]:
    """The same texts and questions, nothing of them compressed."""
    texts = batches.all_raw(mix.interleaved)
    questions = batches.chunk_questions(mix.chunks, compressed=False)
    return ["raw", "chunks"], [(texts, 4), (questions, 4)]


def gradients(model: SmolLatents, batches: Batches, mix: Mix, control: bool) -> Losses:
    """Add one step's gradients; the losses by kind."""
    names, jobs = (draw_control if control else draw)(batches, mix)
    found = lclm_fast_step.losses(model, jobs)
    weights = {"reconstruction": mix.reconstruction_weight, "chunks": mix.chunks_weight}
    if not control:
        weights["raw"] = mix.raw_weight
    sum(weights.get(name, 1.0) * loss for name, loss in zip(names, found, strict=True)).backward()
    return {name: loss.detach() for name, loss in zip(names, found, strict=True)}


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
