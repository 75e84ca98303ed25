"""Associative recall, a task that one attention layer solves only by finding one far token.

A token is either a pair (a key and a value) or, one time in four, a query that repeats the key of
an earlier pair; the answer is that pair's value. Pairings are drawn anew for every sequence, so
nothing can be learned by heart. The model is one layer of the shared decoder.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from intuitive.common.checks import whole_fields
from intuitive.common.decoder import Decoder, DecoderConfig, Probe, RMSNorm, Seen
from intuitive.common.runtime import seeded
from intuitive.kernels import select_blocks

from .alignment import layer_kl
from .config import MSAConfig
from .model import MSAAttention
from .reference import window_scores


@dataclass(frozen=True)
class Arm:
    """One way to train: what the layer reads, and how its Index Branch learns."""

    title: str
    reads: str  # "all", "index" (selected blocks) or "window"
    kl: bool = False  # whether the Index Branch is trained
    warms_up: bool = False  # whether everything is read for the first steps


ARMS = {
    "dense": Arm("Dense attention", reads="all"),
    "msa_warmup": Arm("MSA with warm-up", reads="index", kl=True, warms_up=True),
    "msa": Arm("MSA without warm-up", reads="index", kl=True),
    "msa_untrained": Arm("MSA, untrained selector", reads="index"),
    "window": Arm("Window and first block", reads="window"),
}


@dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """The task, the model and the training; the defaults take seconds on a CPU.

    Raises:
        ValueError: a size or share out of range, or more tokens than there are keys.
    """

    arm: str = "msa_warmup"
    n_tokens: int = 128
    n_keys: int = 256
    n_values: int = 32
    query_share: float = 0.25
    d_model: int = 64
    d_ff: int = 64
    msa: MSAConfig = field(default_factory=lambda: MSAConfig(block_size=4))
    batch_size: int = 8
    n_steps: int = 300
    warmup_steps: int = 100
    learning_rate: float = 5e-3
    kl_weight: float = 1.0  # the paper's lambda
    detach: bool = True  # False lets the KL into the residual stream, as in App. B.3
    n_heldout: int = 32  # sequences

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise ValueError(f"arm={self.arm!r} is unknown; choose one of {', '.join(ARMS)}.")
        whole_fields(self, n_tokens=None, n_keys=None, warmup_steps=None)
        for name in ("n_values", "d_model", "d_ff", "batch_size", "n_steps", "n_heldout"):
            whole_fields(self, **{name: 1})
        if not 2 <= self.n_tokens <= self.n_keys:
            raise ValueError(
                f"n_tokens={self.n_tokens} must be at least 2 and at most n_keys={self.n_keys}: "
                "every pair of a sequence has a key of its own."
            )
        if not 0 < self.query_share < 1:
            raise ValueError(f"query_share={self.query_share} must lie between 0 and 1.")
        if not 0 <= self.warmup_steps <= self.n_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} must lie in [0, n_steps={self.n_steps}]."
            )
        if self.learning_rate <= 0 or self.kl_weight <= 0:
            raise ValueError(
                f"learning_rate={self.learning_rate} and kl_weight={self.kl_weight} must be above "
                "0; arm='msa_untrained' trains without the KL."
            )

    @property
    def how(self) -> Arm:
        """The arm that `arm` names."""
        return ARMS[self.arm]

    def reads_all(self, step: int) -> bool:
        """Whether the layer reads every visible token at this step of training."""
        return self.how.reads == "all" or (self.how.warms_up and step < self.warmup_steps)


# ------------------------------------------------------------------------------------- data


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of pairs and queries."""

    keys: Int[Tensor, "b n"]
    values: Int[Tensor, "b n"]  # of pairs; -1 at queries
    needles: Int[Tensor, "b n"]  # position of the pair that a query asks for; -1 at pairs
    answers: Int[Tensor, "b n"]  # value of that pair; -1 at pairs

    @property
    def is_query(self) -> Bool[Tensor, "b n"]:
        return self.values < 0


def draw_sequences(config: RecallConfig, count: int, generator: torch.Generator) -> Sequences:
    """Draw sequences: keys differ within one, and a query asks for any earlier pair alike."""
    b, n = count, config.n_tokens
    is_query = torch.rand(b, n, generator=generator, dtype=torch.float32) < config.query_share
    is_query[:, 0] = False
    shuffled = torch.rand(b, config.n_keys, generator=generator, dtype=torch.float32).argsort(-1)
    values = torch.randint(config.n_values, (b, n), generator=generator)
    share = torch.rand(b, n, generator=generator, dtype=torch.float32)

    pairs_before = (~is_query).cumsum(-1) - (~is_query).long()
    # Positions of the pairs first, in order, so that entry j is the position of pair j.
    pair_at = torch.arange(n).expand(b, n).masked_fill(is_query, n).sort(-1).values
    asked = (share * pairs_before).long().clamp(max=n - 1)
    needles = pair_at.gather(-1, asked).masked_fill(~is_query, -1)
    pair = torch.where(is_query, asked, pairs_before)
    answers = values.gather(-1, needles.clamp(min=0)).masked_fill(~is_query, -1)
    return Sequences(
        keys=shuffled.gather(-1, pair),
        values=values.masked_fill(is_query, -1),
        needles=needles,
        answers=answers,
    )


# ------------------------------------------------------------------------------------ model


class RecallAttention(MSAAttention):
    """MSA with a norm on every main query and key, as in the public code.

    Args:
        detach: False lets the KL reach the residual stream through the index (App. B.3).
    """

    def __init__(self, config: DecoderConfig, msa: MSAConfig, *, detach: bool = True) -> None:
        super().__init__(config, msa)
        self.detach = detach
        self.norm_q = RMSNorm(config.d_head, config.norm_eps)
        self.norm_k = RMSNorm(config.d_head, config.norm_eps)

    def project(
        self, hidden: Float[Tensor, "b n d_model"], positions: Int[Tensor, "b n"]
    ) -> tuple[
        Float[Tensor, "b n h_q d"], Float[Tensor, "b n h_kv d"], Float[Tensor, "b n h_kv d"]
    ]:
        """As in dense attention, with the norms; the task has no positions to turn by."""
        q, k, v = super().project(hidden, positions)
        return self.norm_q(q), self.norm_k(k), v

    def index(
        self, hidden: Float[Tensor, "b n d_model"], positions: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n h_kv d_idx"], Float[Tensor, "b n d_idx"]]:
        """As in MSA; without `detach` the same values, with a gradient to `hidden`."""
        if self.detach:
            return super().index(hidden, positions)
        q_idx = self.index_w_q(hidden).unflatten(-1, (-1, self.msa.d_index))
        return self.index_norm_q(q_idx), self.index_norm_k(self.index_w_k(hidden))


class WindowAttention(RecallAttention):
    """Block 0 and the most recent blocks in the place of the index's choice (App. B.6)."""

    def select(
        self, q_idx: Float[Tensor, "b n h_kv d_idx"], k_idx: Float[Tensor, "b m d_idx"]
    ) -> Int[Tensor, "b n h_kv n_sel"]:
        """The same blocks for every sequence; of the arguments only the shapes matter."""
        b, _, h_kv, _ = q_idx.shape
        keys = k_idx[0, :, None].expand(-1, h_kv, -1)
        scores = window_scores(q_idx[0].detach(), keys, block_size=self.msa.block_size)
        block_idx = select_blocks(
            scores[None], n_selected=self.msa.n_selected, block_size=self.msa.block_size
        )
        return block_idx.expand(b, -1, -1, -1)


class RecallModel(nn.Module):
    """One decoder layer; key and value of a token are embedded apart and summed.

    Args:
        config: sizes; the arm decides what the layer reads.
        seed: of the first weights, which are the same in every arm.
    """

    def __init__(self, config: RecallConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        sizes = DecoderConfig(
            vocab_size=config.n_keys + config.n_values + 1,  # the last marks a query
            d_model=config.d_model,
            n_layers=1,
            n_q_heads=config.msa.n_q_heads,
            n_kv_heads=config.msa.n_kv_heads,
            d_head=config.msa.d_head,
            d_ff=config.d_ff,
            max_positions=config.n_tokens,
            positions="none",
        )
        kind = WindowAttention if config.how.reads == "window" else RecallAttention
        self.decoder = Decoder(
            sizes,
            lambda c: kind(c, config.msa, detach=config.detach),
            generator=seeded(seed),
        )

    @property
    def attention(self) -> RecallAttention:
        """The layer's attention."""
        return self.decoder.layers[0].attention

    def forward(
        self, sequences: Sequences, *, probe: Probe | None = None
    ) -> Float[Tensor, "b n n_values"]:
        """Logits of the values at every token; only those at queries mean something."""
        first, mark = self.config.n_keys, self.config.n_keys + self.config.n_values
        second = torch.where(sequences.is_query, mark, first + sequences.values)
        embeddings = self.decoder.embedding(sequences.keys) + self.decoder.embedding(second)
        return self.decoder(embeddings=embeddings, probe=probe)[..., first:mark]


# --------------------------------------------------------------------------------- training


class LiveProbe(Probe):
    """A probe that shows tensors with their gradients, for training without the detach."""

    def see(self, hidden: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        """As in `Probe`, but nothing is detached."""
        self.receive(Seen(self.layer, hidden, q, k, v))


def recall_loss(logits: Float[Tensor, "b n n_values"], sequences: Sequences) -> Float[Tensor, ""]:
    """Cross-entropy at the queries, in nats; pairs have nothing to predict."""
    asked = sequences.is_query
    return F.cross_entropy(logits[asked], sequences.answers[asked])


def training_losses(model: RecallModel, sequences: Sequences) -> dict[str, Float[Tensor, ""]]:
    """The task's loss and, in arms that train the index, the KL.

    The KL is computed from what a probe saw, which is detached: it cannot reach the stream.
    """
    seen: list[Seen] = []
    kind = Probe if model.config.detach else LiveProbe
    losses = {"loss": recall_loss(model(sequences, probe=kind((0,), seen.append)), sequences)}
    if model.config.how.kl:
        losses["kl"] = layer_kl(model.attention, seen[0], detach=model.config.detach)
    return losses


def backward(losses: dict[str, Float[Tensor, ""]], kl_weight: float) -> dict[str, float]:
    """Gradients of loss + kl_weight·KL; returns the values of both."""
    total = losses["loss"] + kl_weight * losses["kl"] if "kl" in losses else losses["loss"]
    total.backward()
    return {name: value.item() for name, value in losses.items()}
