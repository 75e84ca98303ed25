"""Training the Memory Indexer without the model: from harvested arrays to a set that is measured.

A document is what one run of the frozen model left behind: hidden states at triggers, index keys,
and labels. Each trigger's positives are all its labels; its negatives are drawn, three for each.
Evaluation is on all chunks, never on drawn ones: three to one flatters every measure.

Source: arXiv:2606.09079v2, sections 2.2-2.4, Eqs. 14-15; settings of the repository.
Differs: float32 throughout, a few hundred steps at a higher learning rate, no early stopping.
Chunks that are always resident, or do not exist at the trigger, are in neither class.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from intuitive.common.checks import whole, whole_fields
from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, silent, train

from .config import LSAConfig
from .indexer import MemoryIndexers
from .labels import positive_weights, window_labels
from .selection import always_resident

# ------------------------------------------------------------------------------ documents


@dataclass(frozen=True, eq=False)
class Document:
    """What a frozen model left behind for the Memory Indexer, at n triggers."""

    hidden: Float[Tensor, "layers n d_model"]  # attention input of each target layer
    positions: Int[Tensor, " n"]  # of the triggers' tokens
    keys: Float[Tensor, "layers chunks d_idx"]
    closed: Int[Tensor, " n"]  # chunks that exist at each trigger
    labels: Bool[Tensor, "n chunks"]  # what the steps from each trigger on need
    candidates: Bool[Tensor, "n chunks"]  # chunks that exist and are not resident anyhow
    weights: Float[Tensor, " chunks"]  # of a chunk as a positive

    @classmethod
    def of(
        cls,
        hidden: Float[Tensor, "layers steps d_model"],
        positions: Int[Tensor, " steps"],
        keys: Float[Tensor, "layers chunks d_idx"],
        golden: Bool[Tensor, "steps chunks"],
        closed: Int[Tensor, " steps"],
        config: LSAConfig,
        *,
        stride: int | None = None,
        decoding: bool = False,
    ) -> "Document":
        """Put a document together from what was harvested at every step.

        Args:
            hidden: attention input of each target layer at each step.
            positions: of the steps' tokens.
            keys: each target layer's index keys.
            golden: golden chunks of each step (`labels.golden_chunks`).
            closed: chunks that exist at each step.
            config: lookahead, tail and sink.
            stride: steps between triggers; `lookahead` if None, 1 to train on every step.
            decoding: whether chunks that were closed after the first step count as decoded, and
                so as resident.

        Raises:
            ValueError: as in `labels.window_labels`.
        """
        stride = config.lookahead if stride is None else whole("stride", stride, low=1)
        labels = window_labels(golden, closed, lookahead=config.lookahead, stride=stride)
        triggers = torch.arange(0, len(closed), stride, device=closed.device)
        chunks = golden.shape[1]
        decoded_from = int(closed[0]) if decoding else None
        always = torch.stack(
            [
                always_resident(int(count), chunks, config, decoded_from=decoded_from)
                for count in closed[triggers]
            ]
        ).to(golden.device)
        exists = torch.arange(chunks, device=golden.device) < closed[triggers, None]
        return cls(
            hidden=hidden[:, triggers],
            positions=positions[triggers],
            keys=keys,
            closed=closed[triggers],
            labels=labels,
            candidates=exists & ~always,
            weights=positive_weights(golden),
        )


# ----------------------------------------------------------------------------------- loss


def focal_loss(
    logits: Float[Tensor, "*axes"],
    needed: Bool[Tensor, "*axes"],
    weights: Float[Tensor, "*axes"],
    *,
    gamma: float = 2.0,
) -> Float[Tensor, "*axes"]:
    """w · (1 - p)^γ · (-ln p) of each chunk, where p is the probability of the right answer.

    Args:
        logits: of being needed.
        needed: the right answers.
        weights: of each chunk.
        gamma: how much less a chunk weighs that is already right; 0 is cross-entropy.

    Source: Lin et al. 2017, arXiv:1708.02002, without α; arXiv:2606.09079v2, Eq. 14.
    """
    right = torch.where(needed, logits, -logits)
    return weights * torch.sigmoid(-right) ** gamma * softplus(-right)


def draw_chunks(
    labels: Bool[Tensor, "n chunks"],
    candidates: Bool[Tensor, "n chunks"],
    generator: torch.Generator,
    *,
    negatives: int = 3,
    most: int = 512,
) -> tuple[Bool[Tensor, "n chunks"], Bool[Tensor, "n chunks"]]:
    """The positives and negatives that a step learns from.

    Args:
        labels: chunks needed.
        candidates: chunks that may stand in either class.
        generator: on the device of the labels.
        negatives: drawn for each positive, as far as there are so many.
        most: positives kept of one trigger; of more, so many are drawn.

    Returns:
        Both classes, disjoint.
    """
    shape, device = labels.shape, labels.device

    def drawn(allowed: Tensor, counts: Tensor) -> Tensor:
        lot = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
        rank = lot.masked_fill(~allowed, 2.0).argsort(-1).argsort(-1)
        return allowed & (rank < counts[:, None])

    positive = labels & candidates
    positive = drawn(positive, positive.sum(-1).clamp(max=most))
    return positive, drawn(candidates & ~labels, negatives * positive.sum(-1))


# ------------------------------------------------------------------------------- training


@dataclass(frozen=True, kw_only=True)
class IndexerTrainingConfig:
    """How Memory Indexers are trained; the defaults suit a laptop."""

    n_steps: int = 300
    n_documents: int = 4  # that one step draws
    n_triggers: int = 16  # that it draws from each of them
    learning_rate: float = 3e-3  # falls to 0 as a cosine
    weight_decay: float = 0.01
    clip: float = 1.0  # greatest norm of the gradients
    gamma: float = 2.0  # of the focal loss
    negatives: int = 3  # per positive
    most_positives: int = 512  # of one trigger

    def __post_init__(self) -> None:
        whole_fields(self, n_steps=1, n_documents=1, n_triggers=1, negatives=1, most_positives=1)
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate={self.learning_rate} must lie between 0 and 1.")
        if not (self.clip > 0 and self.gamma >= 0 and self.weight_decay >= 0):
            raise ValueError(
                f"clip={self.clip} must be above 0, gamma={self.gamma} and "
                f"weight_decay={self.weight_decay} not negative."
            )

    def rate(self, step: int) -> float:
        """Learning rate of one step, counted from 0."""
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.n_steps))

    @classmethod
    def paper(cls) -> "IndexerTrainingConfig":
        """The repository's settings: batches of 256, four passes over its 10,590 documents."""
        return cls(n_steps=662, n_documents=64, n_triggers=4, learning_rate=1e-4)


@dataclass(frozen=True, eq=False)
class IndexerTraining:
    """Trained Memory Indexers and how the loss went."""

    indexers: MemoryIndexers
    loss: tuple[float, ...]  # focal loss of each step's drawn chunks, averaged over layers


@torch.inference_mode(False)  # the indexers are made to be trained
def train_indexers(
    documents: Sequence[Document],
    config: LSAConfig,
    how: IndexerTrainingConfig | None = None,
    *,
    seed: int = 0,
    start: MemoryIndexers | None = None,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> IndexerTraining:
    """Train one Memory Indexer per target layer; they share labels and nothing else.

    Args:
        documents: on one device. Triggers without a positive teach nothing and are not drawn.
        config: sizes.
        how: schedule; the defaults if None.
        seed: of the first weights and of everything drawn.
        start: indexers to train on instead of such as are drawn; they are changed.
        stale: turns true when nobody waits; asked before every step.
        progress: called after every step.

    Raises:
        ValueError: no document has a trigger with something to fetch.
        RuntimeError: the loss is no longer finite.
        Cancelled: `stale()` became true.

    Source: arXiv:2606.09079v2, section 2.4.
    """
    how = IndexerTrainingConfig() if how is None else how
    documents = [_trainable(document) for document in documents]
    useful = [(document, _useful(document)) for document in documents]
    useful = [(document, rows) for document, rows in useful if len(rows)]
    if not useful:
        raise ValueError(
            f"none of {len(documents)} documents has a trigger with a positive outside what is "
            "always resident: give longer documents, or a shorter tail."
        )
    device = useful[0][0].hidden.device
    draw = seeded(seed)
    lots = seeded(seed, device)
    indexers = MemoryIndexers(config, generator=draw) if start is None else start
    indexers = indexers.to(device).requires_grad_(True)
    optimizer = torch.optim.AdamW(
        indexers.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay
    )
    losses: list[float] = []

    def gradients(step: int) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = how.rate(step)
        total, count = torch.zeros((), device=device, dtype=torch.float32), 0
        for pick in torch.randint(len(useful), (how.n_documents,), generator=draw).tolist():
            document, rows = useful[pick]
            chosen = rows[torch.randint(len(rows), (how.n_triggers,), generator=draw).to(device)]
            loss, n = sampled_loss(indexers, document, chosen, lots, how)
            total, count = total + loss, count + n
        loss = total / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(indexers.parameters(), how.clip)
        losses.append(loss.item())
        return {"focal loss": losses[-1]}

    train(gradients, optimizer, n_steps=how.n_steps, stale=stale, progress=progress)
    return IndexerTraining(indexers.requires_grad_(False), tuple(losses))


def _trainable(document: Document) -> Document:
    """The same without tensors of inference mode, which no gradient can pass."""
    parts = vars(document).items()
    return Document(**{name: part.clone() if part.is_inference() else part for name, part in parts})


def _useful(document: Document) -> Int[Tensor, " rows"]:
    """Triggers that have something to fetch."""
    return (document.labels & document.candidates).any(-1).nonzero().flatten()


def sampled_loss(
    indexers: MemoryIndexers,
    document: Document,
    rows: Int[Tensor, " rows"],
    generator: torch.Generator,
    how: IndexerTrainingConfig,
) -> tuple[Float[Tensor, ""], int]:
    """Summed focal loss of some triggers' drawn chunks, averaged over layers, and their number."""
    labels, candidates = document.labels[rows], document.candidates[rows]
    positive, negative = draw_chunks(
        labels, candidates, generator, negatives=how.negatives, most=how.most_positives
    )
    logits = indexers(document.hidden[:, rows], document.positions[rows], document.keys)
    weights = torch.where(positive, document.weights, 1.0)
    drawn = positive | negative
    loss = focal_loss(
        logits,
        positive[:, None].expand_as(logits),
        weights[:, None].expand_as(logits),
        gamma=how.gamma,
    )
    return (loss.mean(1) * drawn).sum(), int(drawn.sum())


# ----------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class FetchQuality:
    """How a resident set served the windows of one document; shares in [0, 1]."""

    golden_recall: float  # of needed chunks that must be fetched; 1 where none is needed
    kept: float  # resident chunks among all that exist, averaged over windows
    fetched: float  # of the chunks that may be fetched
    needed: float  # chunks per window that must be fetched
    missed: float  # of these, how many were not there


def fetch_quality(
    resident: Bool[Tensor, "n chunks"],
    labels: Bool[Tensor, "n chunks"],
    candidates: Bool[Tensor, "n chunks"],
    closed: Int[Tensor, " n"],
) -> FetchQuality:
    """Compare a resident set with the labels, on all chunks.

    Args:
        resident: of each window.
        labels: what each window needs.
        candidates: chunks that exist and are not always resident.
        closed: chunks that exist at each trigger.

    Raises:
        ValueError: no window.
    """
    if not len(resident):
        raise ValueError("there is no window to evaluate.")
    needed = labels & candidates
    n_needed, n_hit = int(needed.sum()), int((needed & resident).sum())
    return FetchQuality(
        golden_recall=n_hit / n_needed if n_needed else 1.0,
        kept=(resident.sum(-1) / closed.clamp(min=1)).mean().item(),
        fetched=int((resident & candidates).sum()) / max(int(candidates.sum()), 1),
        needed=n_needed / len(resident),
        missed=(n_needed - n_hit) / len(resident),
    )


def share_resident(
    weights: Float[Tensor, "steps layers chunks"],
    resident: Bool[Tensor, "windows chunks"],
    closed: Int[Tensor, " steps"],
    *,
    lookahead: int,
) -> float:
    """Share of some weight on chunks that lies on resident ones, averaged over steps and layers.

    With the unrestricted softmax's mass as weights this is attention-mass recall, the best
    predictor of quality; with ones at the native selector's choice its hit rate.

    Args:
        weights: not negative, of each decode step and layer.
        resident: of each window of `lookahead` steps. Chunks closed later are decoded, and there.
        closed: chunks that exist at each step.
        lookahead: steps of a window.

    Returns:
        A share in [0, 1]; steps and layers without any weight are left out, 1 if all are.

    Raises:
        ValueError: there are not as many windows as the steps need.
    """
    lookahead = whole("lookahead", lookahead, low=1)
    steps = torch.arange(len(weights), device=weights.device)
    windows = steps // lookahead
    if len(weights) and int(windows[-1]) + 1 != len(resident):
        raise ValueError(
            f"{len(weights)} steps make {int(windows[-1]) + 1} windows of {lookahead}, "
            f"resident has {len(resident)}."
        )
    chunk = torch.arange(weights.shape[-1], device=weights.device)
    decoded = chunk >= closed[windows * lookahead, None]
    there = resident[windows] | decoded  # [steps, chunks]
    total = weights.double().sum(-1)
    share = (weights.double() * there[:, None]).sum(-1) / total
    share = share[total > 0]
    return share.mean().item() if len(share) else 1.0
