"""The five arms of associative recall: what is measured while one of them trains, and kept.

    record = run(RecallConfig(arm="msa_warmup"), seed=0)
    record.curve("accuracy")

All arms of one seed share first weights, training sequences, their order and the held-out
sequences; no held-out sequence is trained on. A record is plain values and fits into JSON;
`results.recall_runs` reads the committed ones back. `k_sweep` distils an index for a model that
was trained dense.
"""

import base64
import dataclasses
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.decoder import Probe, Seen, causal_mask
from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, one_thread, silent, train

from .alignment import (
    Agreement,
    agreement,
    batch_main_scores,
    causal_support,
    choosing,
    layer_kl,
    teacher_probabilities,
)
from .reference import block_sparse_mask, split_blocks
from .task import (
    RecallConfig,
    RecallModel,
    Sequences,
    backward,
    draw_sequences,
    recall_loss,
    training_losses,
)

EVALUATE_EVERY = 10  # steps
SNAPSHOTS = (0, 30, 60, 80, 100, 120, 150, 200, 300)  # steps


# ---------------------------------------------------------------------------------- measures


@dataclass(frozen=True, kw_only=True)
class Measures:
    """One model on held-out sequences; None where an arm has no such thing.

    Loss, accuracy and the needle are means over all queries of the task. The agreement with the
    main attention is averaged over tokens that see more blocks than they may read, and over
    groups, while everything is read too: then it tells what the selection would capture.
    """

    step: int  # optimiser steps taken
    loss: float  # nats
    accuracy: float
    needle_selected: float | None  # share of groups and queries that select the answer's block
    needle_in_reach: float | None  # share of queries for which some group does
    kl: float | None  # nats, on the support of the phase
    mass_captured: float | None
    mass_at_queries: float | None  # the same over the task's queries alone
    block_recall: float | None
    score_recall: float | None
    teacher_entropy: float  # nats, of the main attention over the whole causal row


@dataclass(frozen=True, eq=False)
class Look:
    """What a model did with some sequences, before averaging."""

    logits: Float[Tensor, "b n n_values"]
    teacher: Float[Tensor, "b n h_kv m"]  # over the whole causal row
    block_idx: Int[Tensor, "b n h_kv n_sel"]
    agreement: Agreement
    kl: float


@torch.no_grad()
def look(model: RecallModel, sequences: Sequences) -> Look:
    """Run a model on sequences and compare its selection with its main attention."""
    seen: list[Seen] = []
    logits = model(sequences, probe=Probe((0,), seen.append))
    attention, (saw,) = model.attention, seen
    b, n = sequences.keys.shape
    q_idx, k_idx = attention.index(saw.hidden, torch.arange(n).expand(b, n))
    block_idx = attention.select(q_idx, k_idx)
    everything = causal_support(n, n, saw.k.shape[2]).expand(b, -1, -1, -1)
    teacher = teacher_probabilities(batch_main_scores(saw.q, saw.k), everything)
    return Look(
        logits=logits,
        teacher=teacher,
        block_idx=block_idx,
        agreement=agreement(teacher, block_idx, attention.msa),
        kl=layer_kl(attention, saw).item(),
    )


def measure(found: Look, sequences: Sequences, config: RecallConfig, *, step: int) -> Measures:
    """Average what `look` found."""
    asked = sequences.is_query
    right = (found.logits.argmax(-1) == sequences.answers)[asked]
    target = sequences.needles.clamp(min=0) // config.msa.block_size
    hit = (found.block_idx == target[..., None, None]).any(-1)[asked]  # [queries, h_kv]
    n = config.n_tokens
    rows = choosing(n, n, config.msa)

    def mean(measured: Tensor) -> float:
        return measured[:, rows].mean().item()

    selects = config.how.reads != "all"
    return Measures(
        step=step,
        loss=recall_loss(found.logits, sequences).item(),
        accuracy=right.float().mean().item(),
        needle_selected=hit.float().mean().item() if selects else None,
        needle_in_reach=hit.any(-1).float().mean().item() if selects else None,
        kl=found.kl if config.how.reads == "index" else None,
        mass_captured=mean(found.agreement.mass_captured) if selects else None,
        mass_at_queries=(
            found.agreement.mass_captured[asked & rows].mean().item() if selects else None
        ),
        block_recall=mean(found.agreement.block_recall) if selects else None,
        score_recall=mean(found.agreement.score_recall) if selects else None,
        teacher_entropy=mean(found.agreement.teacher_entropy),
    )


# ----------------------------------------------------------------------------------- records


@dataclass(frozen=True, kw_only=True)
class Example:
    """The held-out sequence that every snapshot shows; -1 where a token has no such thing."""

    keys: tuple[int, ...]
    values: tuple[int, ...]  # of pairs
    needles: tuple[int, ...]  # of queries: position of the pair asked for
    answers: tuple[int, ...]  # of queries


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One moment of training on the example: what is selected, and where the attention lies."""

    step: int
    reads_all: bool  # then the selection is what would be read
    answered: tuple[int, ...]  # value given at queries; -1 at pairs
    shape: tuple[int, int, int]  # h_kv, n, n_blk
    selected_bits: str  # one bit per group, query and block, base64
    teacher_bytes: str  # one byte each, share of attention times 255, base64

    def selected(self) -> Bool[np.ndarray, "h_kv n n_blk"]:
        """True where a query reads a block."""
        bits = np.frombuffer(base64.b64decode(self.selected_bits), np.uint8)
        return np.unpackbits(bits, count=math.prod(self.shape)).astype(bool).reshape(self.shape)

    def teacher(self) -> Float[np.ndarray, "h_kv n n_blk"]:
        """Share of dense attention on each block, to 1/255."""
        levels = np.frombuffer(base64.b64decode(self.teacher_bytes), np.uint8)
        return levels.reshape(self.shape).astype(np.float32) / 255


@dataclass(frozen=True, kw_only=True)
class RecallRun:
    """One arm trained from one seed."""

    config: RecallConfig
    seed: int
    seconds: float  # of training and measuring
    train_loss: tuple[float, ...]  # of every step's batch, nats
    train_kl: tuple[float, ...]  # likewise; empty where the index is not trained
    heldout: tuple[Measures, ...]
    example: Example
    snapshots: tuple[Snapshot, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps at which the held-out measures were taken."""
        return tuple(point.step for point in self.heldout)

    def curve(self, measure: str) -> tuple[float | None, ...]:
        """One of the `Measures` at every one of `steps`."""
        return tuple(getattr(point, measure) for point in self.heldout)

    def at(self, step: int) -> Measures:
        """The measures at one step.

        Raises:
            ValueError: nothing was measured at that step.
        """
        for point in self.heldout:
            if point.step == step:
                return point
        raise ValueError(f"step={step} was not measured; choose one of {self.steps}.")


def snapshot(found: Look, sequences: Sequences, config: RecallConfig, *, step: int) -> Snapshot:
    """Keep what `look` found in the first of its sequences."""
    size = config.msa.block_size
    n = config.n_tokens
    if config.how.reads == "all":
        readable = causal_mask(n, n)[:, None].expand(n, config.msa.n_kv_heads, n)
    else:
        readable = block_sparse_mask(found.block_idx[:1], n, size)[0]
    selected = split_blocks(readable.float(), size, fill=0.0).amax(-1).movedim(1, 0)
    mass = split_blocks(found.teacher[0], size, fill=0.0).sum(-1).movedim(1, 0)
    levels = (mass * 255).round().clamp(max=255).to(torch.uint8)
    answered = found.logits[0].argmax(-1).masked_fill(~sequences.is_query[0], -1)
    return Snapshot(
        step=step,
        reads_all=config.reads_all(step),
        answered=tuple(answered.tolist()),
        shape=tuple(mass.shape),
        selected_bits=base64.b64encode(np.packbits(selected.bool().numpy())).decode(),
        teacher_bytes=base64.b64encode(levels.numpy().tobytes()).decode(),
    )


# --------------------------------------------------------------------------------------- run


def sequences_for(config: RecallConfig, seed: int) -> tuple[torch.Generator, Sequences]:
    """The generator of training batches and the held-out sequences of a seed."""
    training, heldout = seeded(3 * seed + 1), seeded(3 * seed + 2)
    return training, draw_sequences(config, config.n_heldout, heldout)


@torch.inference_mode(False)
@torch.enable_grad()
@one_thread()
def run(
    config: RecallConfig,
    *,
    seed: int,
    snapshot_at: Collection[int] = SNAPSHOTS,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> RecallRun:
    """Train one arm and measure it on held-out sequences every ten steps, on one CPU thread.

    Args:
        config: task, model, arm and training.
        seed: of first weights, training batches and held-out sequences.
        snapshot_at: steps at which the example is looked at; those beyond the end do not occur.
        stale: turns true when nobody waits; asked before every step.
        progress: called after every step with a share in [0, 1] and a sentence.

    Raises:
        RuntimeError: training diverged.
        Cancelled: `stale()` became true.
    """
    started = time.perf_counter()
    model = RecallModel(config, seed=3 * seed)
    batches, heldout = sequences_for(config, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    points: list[Measures] = []
    snapshots: list[Snapshot] = []

    def gradients(step: int) -> dict[str, float]:
        model.attention.sparse = not config.reads_all(step)
        batch = draw_sequences(config, config.batch_size, batches)
        return backward(training_losses(model, batch), config.kl_weight)

    def observe(step: int) -> None:
        model.attention.sparse = not config.reads_all(step)
        found = look(model, heldout)
        points.append(measure(found, heldout, config, step=step))
        if step in snapshot_at:
            snapshots.append(snapshot(found, heldout, config, step=step))

    looks = {*range(0, config.n_steps, EVALUATE_EVERY), config.n_steps}
    losses = train(
        gradients,
        optimizer,
        n_steps=config.n_steps,
        observe=observe,
        observe_at=looks | {step for step in snapshot_at if step <= config.n_steps},
        stale=stale,
        progress=progress,
    )
    return RecallRun(
        config=config,
        seed=seed,
        seconds=time.perf_counter() - started,
        train_loss=tuple(losses["loss"]),
        train_kl=tuple(losses.get("kl", ())),
        heldout=tuple(points),
        example=Example(
            **{
                field.name: tuple(getattr(heldout, field.name)[0].tolist())
                for field in dataclasses.fields(Example)
            }
        ),
        snapshots=tuple(snapshots),
    )


# ----------------------------------------------------------------------------------- k-sweep


@dataclass(frozen=True, kw_only=True)
class KSweep:
    """A model trained dense, then read through an index distilled from it, at many budgets."""

    seed: int
    dense: Measures
    n_selected: tuple[int, ...]  # blocks
    sparse: tuple[Measures, ...]


@torch.inference_mode(False)
@torch.enable_grad()
@one_thread()
def k_sweep(
    config: RecallConfig,
    *,
    seed: int,
    budgets: tuple[int, ...] = (1, 2, 4, 8, 16),
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> KSweep:
    """Train dense, freeze, train the index by KL on the whole causal row, then read k blocks.

    Both trainings take `config.n_steps` steps; `config.arm` and `config.msa.n_selected` do not
    matter. Errors as in `run`.
    """
    config = dataclasses.replace(config, arm="dense", warmup_steps=0)
    model = RecallModel(config, seed=3 * seed)
    batches, heldout = sequences_for(config, seed)
    attention = model.attention
    attention.sparse = False
    index = [p for name, p in model.named_parameters() if ".index_" in name]
    main = [p for name, p in model.named_parameters() if ".index_" not in name]
    distil = dataclasses.replace(config, arm="msa")

    def learn(step: int) -> dict[str, float]:
        batch = draw_sequences(config, config.batch_size, batches)
        return backward(training_losses(model, batch), config.kl_weight)

    def imitate(step: int) -> dict[str, float]:
        seen: list[Seen] = []
        batch = draw_sequences(config, config.batch_size, batches)
        with torch.no_grad():
            model(batch, probe=Probe((0,), seen.append))
        kl = layer_kl(attention, seen[0])
        kl.backward()
        return {"kl": kl.item()}

    for parameters, gradients, half in ((main, learn, 0), (index, imitate, 1)):
        train(
            gradients,
            torch.optim.AdamW(parameters, lr=config.learning_rate),
            n_steps=config.n_steps,
            stale=stale,
            progress=lambda share, sentence, half=half: progress((half + share) / 2, sentence),
        )
    dense = measure(look(model, heldout), heldout, config, step=config.n_steps)
    attention.sparse = True
    sparse = []
    for k in budgets:
        msa = dataclasses.replace(config.msa, n_selected=k)
        attention.msa = msa
        sized = dataclasses.replace(distil, msa=msa)
        sparse.append(measure(look(model, heldout), heldout, sized, step=2 * config.n_steps))
    return KSweep(seed=seed, dense=dense, n_selected=budgets, sparse=tuple(sparse))
