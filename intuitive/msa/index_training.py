"""Training Index Branches on a frozen model: one per layer learns where the layer looks.

Nothing of the model itself is trained. `train_indices` lets the model read text; every layer shows
the input, queries and keys of its attention to a probe, and the KL to that attention trains the
layer's Index Branch. First comes warm-up: the model reads densely, and the KL covers the whole
causal row. Then the sparse phase: the model reads through its index, and the KL covers the
selected tokens.

Source: arXiv:2606.13392v2, section 3.2.
Differs: a step compares a stretch of each layer's queries, drawn at random, not all of them:
neighbours teach much the same, and the average over draws is the paper's loss.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.decoder import Decoder, Probe, Seen
from intuitive.common.runtime import never, seeded
from intuitive.common.training import train

from .alignment import layer_kl
from .config import MSAConfig
from .conversion import convert, index_weights
from .index import TrainedIndex

Documents = Sequence[Sequence[int] | Int[Tensor, " _"]]


@dataclass(frozen=True, kw_only=True)
class IndexTrainingConfig:
    """How Index Branches are trained."""

    msa: MSAConfig = field(default_factory=MSAConfig.smollm)
    layers: tuple[int, ...] | None = None  # None: all
    context: int = 4096  # tokens of a piece of text; one piece per step
    n_warmup: int = 120  # steps with the KL over the whole causal row
    n_sparse: int = 60  # then steps with the KL over the selected tokens
    learning_rate: float = 5e-3  # of AdamW, without weight decay
    n_ramp: int = 12  # steps over which the learning rate rises; it falls as a cosine after them
    n_queries: int = 512  # stretch of queries that one step compares in each layer

    def __post_init__(self) -> None:
        whole_fields(self, context=1, n_warmup=1, n_ramp=1, n_queries=1, n_sparse=0)
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate={self.learning_rate} must lie between 0 and 1.")

    @property
    def n_steps(self) -> int:
        return self.n_warmup + self.n_sparse

    def rate(self, step: int) -> float:
        """Learning rate of one step, counted from 0."""
        ramp = min(1.0, (step + 1) / self.n_ramp)
        return self.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * step / self.n_steps))


@dataclass(frozen=True, eq=False)
class IndexTraining:
    """A trained index and how the KL went."""

    index: TrainedIndex
    warmed_up: TrainedIndex  # as it was when warm-up ended
    layers: tuple[int, ...]
    kl: list[list[float]]  # by step, then by layer, in nats
    n_warmup: int


def pieces_of(documents: Documents, context: int, *, shortest: int) -> list[Int[Tensor, " _"]]:
    """Every document cut into pieces of `context` tokens; a rest under `shortest` is left out."""
    pieces = []
    for document in documents:
        ids = torch.as_tensor(document, dtype=torch.int64)
        pieces += [part for part in ids.split(context) if len(part) >= shortest]
    return pieces


@torch.inference_mode(False)  # the students are made to be trained
def train_indices(
    decoder: Decoder,
    documents: Documents,
    config: IndexTrainingConfig,
    *,
    seeds: Sequence[int] = (0,),
    stale: Callable[[], bool] = never,
    progress: Callable[[int, list[float]], None] | None = None,
) -> list[IndexTraining]:
    """Train one Index Branch per layer on a frozen model's own attention, once for every seed.

    All seeds see the same pieces of text in the same order, so that in warm-up the model reads
    each piece once for all of them.

    Args:
        decoder: the dense model, which is not changed.
        documents: token ids of the training texts.
        config: sizes and schedule.
        seeds: of the first weights and of the queries that are compared.
        stale: turns true when nobody waits; asked before every step.
        progress: called after every step with its number, from 1, and the KL of every seed,
            averaged over layers.

    Raises:
        ValueError: no document fills a piece of twice the selection's size, or the layers do not
            exist.
        RuntimeError: the KL is no longer finite.
        Cancelled: `stale()` became true.

    Source: arXiv:2606.13392v2, section 3.2.
    """
    shortest = min(config.context, 2 * config.msa.n_selected_tokens)
    pieces = pieces_of(documents, config.context, shortest=shortest)
    if not pieces:
        raise ValueError(
            f"none of {len(documents)} documents has {shortest} tokens: give longer texts, so that "
            "the selection has something to leave out."
        )
    layers = tuple(range(decoder.config.n_layers)) if config.layers is None else config.layers
    draws = [seeded(seed) for seed in seeds]
    students = [
        convert(decoder, config.msa, None, layers=layers, sparse=False, generator=draw)
        for draw in draws
    ]
    weights = [weight for student in students for weight in index_weights(student)]
    optimizer = torch.optim.AdamW([w.requires_grad_() for w in weights], weight_decay=0.0)
    align = functools.partial(align_indices, layers=layers, n_queries=config.n_queries)
    order_of_pieces = seeded(0)
    order: list[int] = []
    kl: list[Float[Tensor, "students layers"]] = []
    warmed_up: list[TrainedIndex] = []

    def end_warmup(step: int) -> None:
        warmed_up[:] = [TrainedIndex.of(student, {}) for student in students]
        for student in students:
            for layer in layers:
                student.layers[layer].attention.sparse = True

    def gradients(step: int) -> dict[str, float]:
        order[:] = order or torch.randperm(len(pieces), generator=order_of_pieces).tolist()
        tokens = pieces[order.pop()].to(decoder.embedding.weight.device)
        if step < config.n_warmup:
            losses = align(decoder, students, tokens, draws)
        else:
            losses = torch.cat(
                [
                    align(student, [student], tokens, [draw])
                    for student, draw in zip(students, draws, strict=True)
                ]
            )
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        kl.append(losses)
        return {"KL": losses.mean().item()}

    def told(share: float, sentence: str) -> None:
        if progress is not None:
            progress(len(kl), kl[-1].mean(-1).tolist())

    train(
        gradients,
        optimizer,
        n_steps=config.n_steps,
        observe=end_warmup,
        observe_at=(config.n_warmup,),
        stale=stale,
        progress=told,
    )
    by_seed = torch.stack(kl, 1).tolist()
    trained = [TrainedIndex.of(student, {}) for student in students]
    return [
        IndexTraining(index, early, layers, rows, config.n_warmup)
        for index, early, rows in zip(trained, warmed_up, by_seed, strict=True)
    ]


def align_indices(
    reader: Decoder,
    students: Sequence[Decoder],
    tokens: Int[Tensor, " n"],
    draws: Sequence[torch.Generator],
    *,
    layers: Sequence[int],
    n_queries: int,
) -> Float[Tensor, "students layers"]:
    """Let one decoder read a text; add the gradients of its layers' KL to every student's index.

    Args:
        reader: the dense decoder in warm-up; in the sparse phase the only student itself.
        students: converted decoders whose Index Branches learn.
        tokens: the text.
        draws: one generator per student, for the stretch of queries that each layer compares.
        layers: which layers learn.
        n_queries: length of the stretch.

    Returns:
        The KL of each student and layer, in nats.
    """
    losses: list[list[Tensor]] = [[] for _ in students]
    starts = range(0, len(tokens), n_queries)

    def receive(seen: Seen) -> None:
        for student, draw, row in zip(students, draws, losses, strict=True):
            start = starts[int(torch.randint(len(starts), (), generator=draw))]
            stretch = slice(start, min(start + n_queries, len(tokens)))
            with torch.enable_grad():
                loss = layer_kl(student.layers[seen.layer].attention, seen, stretch)
                weight = (stretch.stop - stretch.start) / n_queries  # of a shorter last stretch
                (weight * loss).backward()
            row.append(loss.detach())

    with torch.no_grad():
        probe = Probe(tuple(layers), receive)
        reader.hidden(tokens[None], probe=probe, until_layer=max(layers) + 1)
    return torch.stack([torch.stack(row) for row in losses])
