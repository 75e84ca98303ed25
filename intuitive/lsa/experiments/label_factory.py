"""The label factory on one window: logits of every layer become the chunks that are needed.

The trace is drawn, not recorded: a text whose steps need a few chunks of one topic for a while,
seen by layers of which each looks at some of them and at chunks of its own besides. Every stage is
`labels.make_labels`.
"""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from cachetools import LRUCache, cached
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole_fields
from intuitive.common.runtime import never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..config import LSAConfig
from ..labels import Labels, make_labels

LAYERS, CHUNKS, LONGEST = 8, 128, 128  # CSA layers, chunks, steps
SECTION = 64  # steps that stay with one topic, as many as the usual window
PER_TOPIC = 7  # chunks that a topic needs
STRICT = (0.3, 0.6, 0.9)  # top-p of the curves


@dataclass(frozen=True, kw_only=True)
class LabelParams(Settings):
    """The sliders of the label factory."""

    top_p: float = 0.6  # share of a layer's softmax that its votes must reach
    votes: int = 3  # layers that must agree
    top_k: int = 32  # chunks over which a layer's softmax is taken
    lookahead: int = 64  # steps of the window
    seed: int = 0

    def __post_init__(self) -> None:
        whole_fields(self, votes=1, top_k=1, lookahead=1, seed=None)
        if not 0 < self.top_p < 1:
            raise ValueError(f"top_p={self.top_p} must lie between 0 and 1, both excluded.")
        if self.votes > LAYERS:
            raise ValueError(
                f"votes={self.votes} exceeds the {LAYERS} layers: no chunk could ever be golden."
            )
        if self.lookahead > LONGEST:
            raise ValueError(
                f"lookahead={self.lookahead} is longer than the trace: at most {LONGEST} steps."
            )

    @property
    def config(self) -> LSAConfig:
        """The same as the factory takes it."""
        return LSAConfig(
            layers=("csa",) * LAYERS,
            label_top_k=self.top_k,
            label_top_p=self.top_p,
            label_votes=self.votes,
            lookahead=self.lookahead,
        )


@dataclass(frozen=True, eq=False)
class LabelResult:
    """What the factory made of the window, stage by stage.

    Attributes:
        params: the settings.
        logits: native index logits; -inf where a chunk does not exist yet.
        labels: every stage, over the steps of one window.
        at_trigger: chunks that exist when the window begins.
        naive: chunks that any layer had among its top k, up to and with each step.
        found: labels up to and with each step.
        late: golden chunks up to each step that did not exist at the trigger, and so are none.
    """

    params: LabelParams
    logits: Float[Tensor, "steps layers chunks"]
    labels: Labels
    at_trigger: int
    naive: Bool[Tensor, "steps chunks"]
    found: Bool[Tensor, "steps chunks"]
    late: Bool[Tensor, "steps chunks"]


@cached(cache=LRUCache(4), lock=threading.Lock())
def draw_trace(
    seed: int,
) -> tuple[Float[Tensor, "steps layers chunks"], Int[Tensor, " steps"]]:
    """Logits of all layers at all steps, and how many chunks exist at each.

    A topic has `PER_TOPIC` chunks, of which a step needs two. Layers differ in how strongly they
    look for them; each has favourites of its own, which change slowly, and a liking for the newest
    chunks.
    """
    draw = seeded(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float32)

    prompt = CHUNKS - LONGEST // 4
    closed = prompt + torch.arange(LONGEST) // 4
    keen = torch.linspace(0.5, 1.3, LAYERS, dtype=torch.float32)[
        torch.randperm(LAYERS, generator=draw)
    ]
    wish = torch.zeros(LONGEST, CHUNKS, dtype=torch.float32)
    for start in range(0, LONGEST, SECTION):
        topic = torch.randperm(prompt - 8, generator=draw)[:PER_TOPIC]
        for step in range(start, min(start + SECTION, LONGEST)):
            now = topic[torch.randperm(PER_TOPIC, generator=draw)[:2]]
            wish[step, topic] = 1.2
            wish[step, now] = torch.tensor([6.0, 5.0], dtype=torch.float32)
    own = normal(LAYERS, CHUNKS)
    logits = torch.empty(LONGEST, LAYERS, CHUNKS, dtype=torch.float32)
    for step in range(LONGEST):
        own = 0.9 * own + 0.44 * normal(LAYERS, CHUNKS)  # the spread stays 1
        age = (closed[step] - 1 - torch.arange(CHUNKS)).clamp(min=0)
        newest = 3.0 * torch.exp(-age.float() / 2.0)
        logits[step] = own * 1.3 + keen[:, None] * (wish[step] + newest)
    exists = torch.arange(CHUNKS) < closed[:, None]
    return logits.masked_fill(~exists[:, None], -torch.inf), closed


@torch.inference_mode()
def run(
    params: LabelParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> LabelResult:
    """Run the factory on the first window of the trace; too quick to be given up."""
    logits, closed = draw_trace(params.seed)
    logits, closed = logits[: params.lookahead], closed[: params.lookahead]
    labels = make_labels(logits, closed, params.config)
    there = torch.arange(CHUNKS) < closed[0]
    golden = labels.golden.cumsum(0) > 0
    picked = (labels.probabilities > 0).any(1).cumsum(0) > 0
    return LabelResult(
        params=params,
        logits=logits,
        labels=labels,
        at_trigger=int(closed[0]),
        naive=picked & there,
        found=golden & there,
        late=golden & ~there,
    )


@cached(
    cache=LRUCache(8),
    key=lambda params: (params.top_k, params.lookahead, params.seed),
    lock=threading.Lock(),
)
def strictness(params: LabelParams) -> dict[float, tuple[int, ...]]:
    """Labels of the window for every number of votes from 1 on, by top-p."""
    found = {}
    for top_p in STRICT:
        counts = run(dataclasses.replace(params, top_p=top_p, votes=1)).labels.votes
        there = torch.arange(CHUNKS) < CHUNKS - LONGEST // 4
        found[top_p] = tuple(
            int(((counts >= votes).any(0) & there).sum()) for votes in range(1, LAYERS + 1)
        )
    return found
