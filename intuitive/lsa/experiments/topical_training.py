"""A small decoder of window, CSA and HCA layers that learns the topical records.

    dense     CSA layers read every closed entry, over prompts that grow from 2 topics to all
    lightning the native indexer of each CSA layer learns where its layer's attention lies
    finetune  CSA layers read their indexer's best entries only; then everything is frozen

Source: the order is DeepSeek-V3.2's (section 2.1), which V4's sparse layers inherit.
Differs: at first the attention of every CSA layer is also guided to the record that is asked for.
Unguided, models of this size sit on a plateau for thousands of steps; and guided all CSA layers
look records up, so that they can vote. Names of one topic begin with embeddings that resemble each
other, as words of one subject do.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from intuitive.common.checks import whole_fields
from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, silent, train

from ..attention import LSAAttention, lsa_decoder
from ..config import LSAConfig
from ..lightning import lightning_kl, lightning_weights
from ..task import RECORD, Documents, TaskConfig, draw_documents

OTHER_MODES = {8: "dense", 9: "local"}  # of ten steps, in stages with enough topics
GOOD_ENOUGH = 0.985  # accuracy, over the last steps, at which a stage of the curriculum is done
LOOKED_AT = 25  # steps


def attention_config() -> LSAConfig:
    """Attention of the decoder that is shipped."""
    return LSAConfig(
        d_model=96,
        layers=("window", "csa", "hca", "csa", "hca", "csa"),
        n_heads=4,
        d_head=64,
        d_rope=8,
        q_rank=48,
        o_groups=2,
        o_rank=32,
        window=32,
        chunk_size=RECORD,
        hca_size=32,
        n_index_heads=4,
        d_index=48,
        top_k=32,
        memory_layers=(0, 1, 2),
        memory_rank=48,
        n_memory_heads=12,
        lookahead=64,
        tail=64,
        page_size=8,
        label_top_k=32,
        label_votes=2,
    )


@dataclass(frozen=True)
class Stage:
    """So many steps at most on documents of so many topics."""

    topics: int
    batch: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class DecoderTrainingConfig:
    """The decoder and how it is trained; the defaults take two minutes on a large GPU."""

    attention: LSAConfig = field(default_factory=attention_config)
    task: TaskConfig = field(default_factory=lambda: TaskConfig(n_topics=128, topics=32))
    d_ff: int = 144
    max_positions: int = 16_384
    stages: tuple[Stage, ...] = (
        Stage(2, 128, 900),
        Stage(4, 64, 300),
        Stage(8, 48, 250),
        Stage(16, 32, 250),
        Stage(32, 24, 400),
    )
    lightning: Stage = Stage(32, 8, 250)
    finetune: Stage = Stage(32, 16, 120)
    learning_rate: float = 2e-3
    lightning_rate: float = 3e-3
    finetune_rate: float = 5e-4
    warmup: int = 50  # steps
    weight_decay: float = 0.01
    clip: float = 1.0
    guide: float = 1.0  # weight of guiding the attention; falls to 0 in the last dense stage
    topic: float = 0.3  # weight of saying the topic where a name comes next

    def __post_init__(self) -> None:
        whole_fields(self, d_ff=1, max_positions=1, warmup=0)
        if not self.stages:
            raise ValueError("stages is empty: name at least one.")
        if self.attention.chunk_size != RECORD:
            raise ValueError(
                f"chunk_size={self.attention.chunk_size} must be {RECORD}: a record fills a chunk."
            )

    def documents(self, topics: int, mode: str = "topical") -> TaskConfig:
        """Documents with so many topics, and no more sections than topics."""
        known = vars(self.task) | {"topics": topics, "mode": mode}
        return TaskConfig(**known | {"sections": min(self.task.sections, topics)})


@dataclass(frozen=True, eq=False)
class TrainedDecoder:
    """A frozen decoder and how it became one."""

    decoder: Decoder
    config: DecoderTrainingConfig
    losses: dict[str, tuple[float, ...]]  # by stage: cross-entropy of answers, or KL
    accuracy: dict[str, tuple[float, ...]]  # by stage: answers right in each step's batch
    steps: dict[str, int]  # taken in each stage


def make_decoder(config: DecoderTrainingConfig, *, seed: int = 0) -> Decoder:
    """An untrained decoder, on the CPU."""
    task, attention = config.task, config.attention
    draw = seeded(seed)
    sizes = DecoderConfig(
        vocab_size=task.vocabulary,
        d_model=attention.d_model,
        n_layers=len(attention.layers),
        d_ff=config.d_ff,
        positions="none",
        tied_embeddings=False,  # tied, the values' embeddings begin to differ only very late
        max_positions=config.max_positions,
    )
    decoder = lsa_decoder(attention, sizes, generator=draw)
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if weight.dim() == 2 and "slot_bias" not in name and "layers." in name:
                spread = weight.shape[1] ** -0.5
                if name.endswith(("w_o.weight", "w_down.weight")):
                    spread /= (2 * len(attention.layers)) ** 0.5
                weight.mul_(spread / weight.std())
        words = decoder.embedding.weight
        words.div_(words.std())
        first, said = task.topic_token(0), task.n_said
        topics = words[first : first + task.n_topics].repeat_interleave(task.n_names, 0)
        words[said:] = (words[said:] + topics) * 0.5**0.5
    return decoder


@contextlib.contextmanager
def csa_inputs(decoder: Decoder) -> Iterator[dict[LSAAttention, Tensor]]:
    """Inputs of the CSA layers' attention in the last call, with their gradients."""
    inputs: dict[LSAAttention, Tensor] = {}
    layers = [layer.attention for layer in decoder.layers if layer.attention.kind == "csa"]

    def keep(attention: LSAAttention, arguments: tuple[Tensor, ...]) -> None:
        inputs[attention] = arguments[0]

    hooks = [attention.register_forward_pre_hook(keep) for attention in layers]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def guide_loss(
    attention: LSAAttention,
    hidden: Float[Tensor, "b n d_model"],
    asked: Int[Tensor, "b steps"],
) -> Float[Tensor, ""]:
    """-ln of the attention on the entry of the chunk asked for, among closed entries, in nats.

    The probability is averaged over heads before the logarithm, over queries after it.

    Args:
        attention: a CSA layer.
        hidden: input of its attention, for whole texts.
        asked: chunk that each of the last tokens should look up; -1 for none.
    """
    b, n, _ = hidden.shape
    steps = asked.shape[1]
    positions = torch.arange(n, device=hidden.device).expand(b, -1)
    values, gates = attention.compressor.project(hidden)
    tokens = {"positions": positions, "entries_values": values, "entries_gates": gates}
    entries = attention.close_chunks(tokens, 0, 0, only=("entries",))["entries"]
    low = attention.norm_q(attention.w_dq(hidden[:, -steps:]))
    q = attention.queries(low, positions[:, -steps:])
    logits = torch.einsum("bnhd,brd->bnhr", q, entries) * q.shape[-1] ** -0.5
    closed = (positions[0, -steps:] + 1) // attention.compressor.size
    there = torch.arange(entries.shape[1], device=hidden.device) < closed[:, None]
    logits = logits.float().masked_fill(~there[:, None], -torch.inf)
    wanted = asked.clamp(min=0)[..., None, None].expand(-1, -1, logits.shape[2], 1)
    log_p = logits.log_softmax(-1).gather(-1, wanted)[..., 0].logsumexp(-1)
    heads = torch.tensor(float(logits.shape[2]), device=hidden.device).log()
    counted = (asked >= 0).float()
    return ((heads - log_p) * counted).sum() / counted.sum().clamp(min=1)


def predict(decoder: Decoder, documents: Documents) -> Float[Tensor, "b steps n_said"]:
    """Logits of what may be said of every decoded token, each by the token before it."""
    hidden = decoder.hidden(documents.tokens)
    before = decoder.norm(hidden)[:, documents.config.n_prompt - 1 : -1]
    return before @ decoder.head.weight[: documents.config.n_said].T


def answered(logits: Tensor, documents: Documents) -> Float[Tensor, ""]:
    """Share of the answers that are right."""
    steps = documents.tokens[:, documents.config.n_prompt :]
    right = (logits.argmax(-1) == steps) & documents.answers
    return right.sum() / documents.answers.sum().clamp(min=1)


def train_decoder(
    config: DecoderTrainingConfig | None = None,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    hurry: Callable[[str], bool] = lambda stage: False,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> TrainedDecoder:
    """Train a decoder in the three phases and freeze it.

    A stage of the curriculum ends early once its answers are right; the last one never does.

    Args:
        config: sizes and schedule; the defaults if None.
        seed: of the first weights and of all documents.
        device: to train on.
        hurry: asked now and then with a stage's name; true ends the stage where it is.
        stale: turns true when nobody waits; asked before every step.
        progress: called after every step.

    Raises:
        RuntimeError: a loss is no longer finite.
        Cancelled: `stale()` became true.
    """
    config = DecoderTrainingConfig() if config is None else config
    with torch.inference_mode(False):
        decoder = make_decoder(config, seed=seed).to(device)
        run = _Run(decoder, config, seeded(seed + 1, torch.device(device)), hurry, stale, progress)
        run.selects(False)
        run.dense()
        run.lightning()
        run.selects(True)
        run.finetune()
        decoder.requires_grad_(False).eval()
    return TrainedDecoder(decoder, config, run.losses, run.accuracy, run.steps)


class _Enough(Exception):
    """A stage has nothing left to teach."""


class _Run:
    """One training, phase by phase."""

    def __init__(
        self,
        decoder: Decoder,
        config: DecoderTrainingConfig,
        draw: torch.Generator,
        hurry: Callable[[str], bool],
        stale: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self.decoder, self.config, self.draw = decoder, config, draw
        self.hurry, self.stale, self.progress = hurry, stale, progress
        self.losses: dict[str, tuple[float, ...]] = {}
        self.accuracy: dict[str, tuple[float, ...]] = {}
        self.steps: dict[str, int] = {}
        self.csa = [layer.attention for layer in decoder.layers if layer.attention.kind == "csa"]

    def selects(self, value: bool) -> None:
        """Whether CSA layers read their indexer's best entries only."""
        for attention in self.csa:
            attention.selects = value

    def documents(self, stage: Stage, step: int) -> Documents:
        mode = "topical"
        if stage.topics >= 8 and stage.topics < self.config.task.n_topics:
            mode = OTHER_MODES.get(step % 10, mode)
        return draw_documents(self.config.documents(stage.topics, mode), stage.batch, self.draw)

    def answers_loss(self, documents: Documents) -> tuple[Tensor, Tensor]:
        """Cross-entropy of answers and topics, and the share of answers that are right."""
        logits = predict(self.decoder, documents)
        targets = documents.targets()
        nats = F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1, reduction="none"
        ).view_as(targets)
        answers = documents.answers
        names = (targets >= 0) & ~answers
        loss = (nats * answers).sum() / answers.sum().clamp(min=1)
        loss = loss + self.config.topic * (nats * names).sum() / names.sum().clamp(min=1)
        return loss, answered(logits, documents)

    def dense(self) -> None:
        config = self.config
        optimizer = torch.optim.AdamW(
            self.decoder.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
        )
        for number, stage in enumerate(config.stages):
            last = number == len(config.stages) - 1

            def loss_of(step: int, stage=stage, last=last, number=number) -> tuple[Tensor, Tensor]:
                rate = config.learning_rate
                if number == 0:
                    rate *= min(1.0, (step + 1) / max(config.warmup, 1))
                done = step / stage.steps
                if last:
                    rate *= 1 - 0.9 * done
                _set_rate(optimizer, rate)
                guide = config.guide * (max(0.0, 1 - 2 * done) if last else 1.0)
                documents = self.documents(stage, step)
                with csa_inputs(self.decoder) as inputs:
                    loss, right = self.answers_loss(documents)
                if guide and documents.config.mode != "local":
                    asked = documents.asked.clone()
                    asked[:, RECORD - 1 :: RECORD] = -1  # a query's last token looks nothing up
                    guided = [guide_loss(a, inputs[a], asked) for a in self.csa]
                    loss = loss + guide * torch.stack(guided).mean()
                return loss, right

            self.phase(f"dense, {stage.topics} topics", stage, loss_of, optimizer, early=not last)

    def lightning(self) -> None:
        config = self.config
        weights = [weight for attention in self.csa for weight in lightning_weights(attention)]
        optimizer = torch.optim.AdamW(weights, lr=config.lightning_rate, betas=(0.9, 0.98))

        def loss_of(step: int) -> tuple[Tensor, None]:
            _set_rate(optimizer, config.lightning_rate * (1 - 0.9 * step / config.lightning.steps))
            documents = self.documents(config.lightning, step)
            with torch.no_grad(), csa_inputs(self.decoder) as inputs:
                self.decoder.hidden(documents.tokens)
            b, n = documents.tokens.shape
            positions = torch.arange(n, device=documents.tokens.device).expand(b, -1)
            kl = [lightning_kl(a, inputs[a].detach(), positions) for a in self.csa]
            return torch.stack(kl).mean(), None

        self.phase("lightning", config.lightning, loss_of, optimizer)

    def finetune(self) -> None:
        config = self.config
        optimizer = torch.optim.AdamW(
            self.decoder.parameters(), lr=config.finetune_rate, betas=(0.9, 0.98)
        )

        def loss_of(step: int) -> tuple[Tensor, Tensor]:
            _set_rate(optimizer, config.finetune_rate * (1 - 0.9 * step / config.finetune.steps))
            return self.answers_loss(self.documents(config.finetune, step))

        self.phase("finetune", config.finetune, loss_of, optimizer)

    def phase(
        self,
        name: str,
        stage: Stage,
        loss_of: Callable[[int], tuple[Tensor, Tensor | None]],
        optimizer: torch.optim.Optimizer,
        *,
        early: bool = False,
    ) -> None:
        """Steps of one stage; losses stay on the device until they are looked at."""
        losses: list[Tensor] = []
        rights: list[Tensor] = []

        def gradients(step: int) -> dict[str, float]:
            if step and step % LOOKED_AT == 0:
                known = early and float(torch.stack(rights[-LOOKED_AT:]).mean()) > GOOD_ENOUGH
                if known or self.hurry(name):
                    raise _Enough
            loss, right = loss_of(step)
            loss.backward()
            weights = [w for group in optimizer.param_groups for w in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, self.config.clip)
            losses.append(loss.detach())
            if right is not None:
                rights.append(right.detach())
            if step % LOOKED_AT and step + 1 < stage.steps:
                return {}
            seen = {"loss": loss.item()}
            return seen if right is None else seen | {"accuracy": right.item()}

        def told(fraction: float, sentence: str, so_far: object = None) -> None:
            self.progress(fraction, f"{name}: {sentence}")

        with contextlib.suppress(_Enough):
            train(gradients, optimizer, n_steps=stage.steps, stale=self.stale, progress=told)
        self.losses[name] = tuple(torch.stack(losses).tolist())
        self.accuracy[name] = tuple(torch.stack(rights).tolist()) if rights else ()
        self.steps[name] = len(losses)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
