"""The four training stages: what trains in each, how fast, and on which mix.

    stage   trains                           the paper's learning rates (adapter, encoder, decoder)
    0       adapter                          1e-3
    1       + encoder                        6e-5, 6e-5
    2       + decoder                        6e-5, 6e-5, 1e-5
    3       all, on instructions             3e-5 each

The two tag vectors train in every stage, as the released code does with its tag rows: a frozen
decoder has never seen them. Where the encoder reads through the decoder's own embedding table, the
table belongs to the decoder and stays as it is until stage 2.

Source: arXiv:2606.09659v1, Table 1 and §4 (stages), App. C.1 (mix); the released trainer (warm-up,
weight decay, clip).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from intuitive.common.checks import whole
from intuitive.common.runtime import never
from intuitive.common.training import Progress, silent, train

PARTS = ("adapter", "encoder", "decoder", "tags")
WEIGHT_DECAY = {"adapter": 0.01, "encoder": 0.01, "decoder": 0.0, "tags": 0.0}


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What share of a batch's rows is of each data type; the shares add up to 1.

    Raises:
        ValueError: a share out of range, or shares that do not add up to 1.
    """

    reconstruction: float = 0.0  # compress a text, say it again
    next_token: float = 1.0  # interleaved compressed and raw segments: continue
    instruction: float = 0.0  # compressed prompts, loss on the reply

    def __post_init__(self) -> None:
        shares = (self.reconstruction, self.next_token, self.instruction)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(
                f"reconstruction, next_token, instruction = {shares} are shares of a batch: none "
                "below 0, and together 1."
            )

    def rows(self, batch: int) -> dict[str, int]:
        """Rows of each data type in a batch of this size, those without any left out.

        Every type of the mix gets at least one row; the largest type takes what rounding leaves.

        Raises:
            ValueError: fewer rows than types.
        """
        batch = whole("batch", batch, low=1)
        shares = {
            "reconstruction": self.reconstruction,
            "next_token": self.next_token,
            "instruction": self.instruction,
        }
        shares = {name: share for name, share in shares.items() if share > 0}
        if batch < len(shares):
            raise ValueError(f"batch={batch} has no row for each of {', '.join(shares)}.")
        rows = {name: max(1, round(share * batch)) for name, share in shares.items()}
        largest = max(shares, key=shares.__getitem__)
        rows[largest] += batch - sum(rows.values())
        return rows


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training: peak learning rates by part, None where a part does not train.

    Raises:
        ValueError: no steps, a learning rate not above 0, or nothing that trains beside the tags.
    """

    name: str
    n_steps: int
    adapter: float | None = None
    encoder: float | None = None
    decoder: float | None = None
    tags: float | None = None  # they always train; None: as fast as the fastest other part
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        whole("n_steps", self.n_steps, low=1)
        given = [rate for rate in (self.adapter, self.encoder, self.decoder, self.tags) if rate]
        named = {part: getattr(self, part) for part in PARTS}
        if any(rate is not None and not rate > 0 for rate in named.values()):
            raise ValueError(f"learning rates {named} must be above 0; None keeps a part frozen.")
        if not given or (self.tags and len(given) == 1):
            raise ValueError(
                f"stage {self.name!r} trains nothing beside the tags: give adapter, encoder or "
                "decoder a learning rate."
            )

    @property
    def rates(self) -> dict[str, float]:
        """Peak learning rate of each part that trains."""
        rates = {part: getattr(self, part) for part in PARTS}
        fastest = max(rate for rate in rates.values() if rate is not None)
        rates["tags"] = self.tags or fastest
        return {part: rate for part, rate in rates.items() if rate is not None}


def paper_stages(n_steps: Sequence[int] = (1, 1, 1, 1)) -> tuple[Stage, ...]:
    """The paper's learning rates (Table 1) with steps of your own, and its mixes (Tables 2, 3).

    The paper counts tokens, not steps: 4M decoder tokens a batch. Its shares of data types, of the
    tokens trained on: reconstruction 17.2%, instruction-style 25.5% and the rest text before SFT;
    reconstruction 12.1% and instructions in SFT.

    Raises:
        ValueError: not four numbers of steps, or one below 1.
    """
    if len(n_steps) != 4:
        raise ValueError(f"n_steps={tuple(n_steps)} must be four numbers, one for each stage.")
    text = Mix(reconstruction=0.172, next_token=0.573, instruction=0.255)
    reply = Mix(reconstruction=0.121, next_token=0.0, instruction=0.879)
    rates = (
        {"adapter": 1e-3},
        {"adapter": 6e-5, "encoder": 6e-5},
        {"adapter": 6e-5, "encoder": 6e-5, "decoder": 1e-5},
        {"adapter": 3e-5, "encoder": 3e-5, "decoder": 3e-5},
    )
    names = ("adapter", "encoder", "end to end", "instructions")
    mixes = (text, text, text, reply)
    return tuple(
        Stage(name=name, n_steps=steps, mix=mix, **rate)
        for name, steps, mix, rate in zip(names, n_steps, mixes, rates, strict=True)
    )


def parts_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """A model's parameters by part; what encoder and decoder share belongs to the decoder.

    Args:
        model: has `adapters`, `decoder` and `tags`, as `LatentContextModel` has. Parameters outside
            of these (learned queries, an end marker) are read by the encoder and count as its own.
    """
    adapter, decoder = list(model.adapters.parameters()), list(model.decoder.parameters())
    known = {id(p) for p in (*adapter, *decoder, model.tags)}
    encoder = [p for p in model.parameters() if id(p) not in known]
    return {"adapter": adapter, "encoder": encoder, "decoder": decoder, "tags": [model.tags]}


def warmed_cosine(step: int, n_steps: int, *, warmup: float = 0.05, end: float = 0.02) -> float:
    """Factor on the learning rate in a step, counted from 0: up over `warmup`, down to `end`.

    Source: the paper's schedule, 5% warm-up and a cosine to 1e-6.
    """
    rising = (step + 1) / max(1.0, warmup * n_steps)
    gone = (step + 1 - warmup * n_steps) / max(1.0, (1 - warmup) * n_steps)
    return min(1.0, rising) * (
        end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(max(gone, 0), 1)))
    )


def held_then_falling(step: int, n_steps: int) -> float:
    """Factor that stays at 1 after a warm-up of 2%, and falls to nothing in the last fifth."""
    rising = (step + 1) / max(1.0, 0.02 * n_steps)
    return min(1.0, rising, (n_steps - step) / max(1.0, 0.2 * n_steps))


class StageOptimizer(torch.optim.AdamW):
    """AdamW (0.9, 0.95) over the parts that train, with clip and schedule; made for `train`.

    Args:
        parts: parameters by part, as from `parts_of`; parts of other names are refused.
        stage: which of them train, and how fast.
        weight_decay: by part.
        schedule: factor on the learning rates, given the step and the number of steps.
        clip: largest norm of the whole gradient.
        on_device: keep the learning rates on the CUDA device, so that `step` can be part of a
            recorded graph; then `tell` has to be called before every step.

    Parameters of the parts that do not train stop asking for gradients, until a later stage.

    Raises:
        ValueError: a part that trains has no parameters, or an unknown part.
    """

    def __init__(
        self,
        parts: Mapping[str, Iterable[nn.Parameter]],
        stage: Stage,
        *,
        weight_decay: Mapping[str, float] | None = None,
        schedule: Callable[[int, int], float] = warmed_cosine,
        clip: float = 1.0,
        on_device: bool = False,
    ) -> None:
        held = {name: list(parameters) for name, parameters in parts.items()}
        if unknown := set(held) - set(PARTS):
            raise ValueError(f"unknown parts {sorted(unknown)}; the parts are {', '.join(PARTS)}.")
        decay = {**WEIGHT_DECAY, **(weight_decay or {})}
        rates = stage.rates
        for name, parameters in held.items():
            for parameter in parameters:
                parameter.requires_grad_(name in rates)
        # An adapter or a set of tags without parameters (identity, untagged) leaves nothing to do.
        groups = [
            {"params": held[name], "lr": rate, "weight_decay": decay[name], "peak": rate}
            for name, rate in rates.items()
            if held.get(name)
        ]
        if not groups:
            raise ValueError(
                f"stage {stage.name!r} trains {', '.join(rates)}, none of which has parameters "
                f"here: {', '.join(name for name in held if held[name]) or 'nothing'}."
            )
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        device = self.parameters[0].device
        self._factor = torch.ones((), device=device) if on_device else None
        if on_device:
            for group in groups:
                group["lr"] = torch.tensor(group["peak"], device=device)
        super().__init__(
            groups, betas=(0.9, 0.95), fused=device.type == "cuda", capturable=on_device
        )
        self._stage, self._schedule, self._clip, self._taken = stage, schedule, clip, 0
        self.register_step_pre_hook(_rate_and_clip)

    def tell(self, step: int) -> None:
        """Say which step comes next, counted from 0, where the rates lie on the device."""
        if self._factor is not None:
            self._factor.fill_(self._schedule(step, self._stage.n_steps))


def _rate_and_clip(optimizer: StageOptimizer, args: tuple, kwargs: dict) -> None:
    """Before each step: rates by the schedule, and a gradient no longer than allowed."""
    if optimizer._factor is None:
        factor = optimizer._schedule(optimizer._taken, optimizer._stage.n_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        optimizer._taken += 1
    else:
        for group in optimizer.param_groups:
            torch.mul(optimizer._factor, group["peak"], out=group["lr"])
    nn.utils.clip_grad_norm_(optimizer.parameters, optimizer._clip)


def train_stages(
    parts: Mapping[str, Iterable[nn.Parameter]],
    stages: Sequence[Stage],
    gradients_of: Callable[[Stage, StageOptimizer], Callable[[int], Mapping[str, float]]],
    *,
    weight_decay: Mapping[str, float] | None = None,
    schedule: Callable[[int, int], float] = warmed_cosine,
    clip: float = 1.0,
    observe: Callable[[Stage, int], object] | None = None,
    observe_every: int = 0,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> dict[str, dict[str, list[float]]]:
    """Train through stages, one after the other.

    Args:
        parts: parameters by part, as from `parts_of`, or with LoRA's where a decoder trains
            through it.
        stages: at least one, in order; names differ.
        gradients_of: called when a stage begins, with it and its optimiser (whose `parameters` are
            those that train); returns what `intuitive.common.training.train` calls each step. It
            draws its batches by `stage.mix`.
        weight_decay: by part.
        schedule: factor on the learning rates, given a stage's step and its number of steps.
        clip: largest norm of the whole gradient.
        observe: called with the stage and the steps taken in it.
        observe_every: steps from one such call to the next; the last step is always observed.
        stale: turns true when nobody waits for the result any more.
        progress: called after every step, its share over all stages.

    Returns:
        Losses by stage, then by name.

    Raises:
        ValueError: no stages, a name twice, or a stage that trains nothing here.
        RuntimeError: a loss is no longer finite.
        Cancelled: `stale()` became true.
    """
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"stages {names} must be at least one, with names that differ.")
    held = {name: list(parameters) for name, parameters in parts.items()}
    total, before = sum(stage.n_steps for stage in stages), 0
    losses = {}
    for stage in stages:
        optimizer = StageOptimizer(
            held, stage, weight_decay=weight_decay, schedule=schedule, clip=clip
        )
        done, share = before / total, stage.n_steps / total

        def told(
            fraction: float,
            sentence: str,
            so_far: object = None,
            *,
            stage: Stage = stage,
            done: float = done,
            share: float = share,
        ) -> None:
            progress(done + share * fraction, f"Stage {stage.name}: {sentence}")

        at = {stage.n_steps}
        if observe_every:
            at |= set(range(0, stage.n_steps, observe_every))
        losses[stage.name] = train(
            gradients_of(stage, optimizer),
            optimizer,
            n_steps=stage.n_steps,
            observe=None if observe is None else lambda step, stage=stage: observe(stage, step),
            observe_at=at if observe is not None else (),
            stale=stale,
            progress=told,
        )
        before += stage.n_steps
    return losses
