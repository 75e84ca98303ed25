"""What a Memory Indexer's bias is good for: two that are trained alike, with it and without.

The documents are drawn: chunks with a topic each in random order, and sections of steps that need
the chunks of one topic, which the hidden state tells. Held-out ones say what was learned.
"""

import functools
from dataclasses import dataclass

import torch

from intuitive.common.runtime import seeded
from intuitive.common.training import one_thread

from ..config import LSAConfig
from ..indexer_training import (
    Document,
    FetchQuality,
    IndexerTrainingConfig,
    fetch_quality,
    train_indexers,
)
from ..selection import resident_sets

TOPICS, CHUNKS, SECTIONS = 16, 256, 12
SECTION = 8  # steps, as many as a trigger serves
CHANNELS, WIDTH = 16, 32  # of index keys, of the hidden state
HELD_OUT = (1000, 1001, 1002)  # seeds of documents that are not trained on


@dataclass(frozen=True)
class BiasResult:
    """Means over held-out documents; shares in [0, 1]."""

    golden_recall: float  # of the needed chunks
    fetched: float  # of the chunks that may be fetched
    needed: float  # of these, by a perfect choice


def config_of(*, bias: bool, heads: int) -> LSAConfig:
    """Sizes of the indexers, two target layers."""
    return LSAConfig(
        d_model=WIDTH,
        d_index=CHANNELS,
        d_rope=0,
        memory_rank=WIDTH,
        n_memory_heads=heads,
        memory_bias=bias,
        memory_layers=(0, 1),
        lookahead=SECTION,
        tail=32,
    )


def draw_document(config: LSAConfig, seed: int) -> Document:
    """One document; keys and hidden states of a topic resemble its code."""
    common, draw = seeded(100), seeded(seed)

    def normal(*shape: int, generator: torch.Generator = draw) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    codes = 4 * torch.nn.functional.normalize(normal(TOPICS, CHANNELS, generator=common), dim=-1)
    told = normal(CHANNELS, WIDTH, generator=common) / 4
    topic = torch.randint(TOPICS, (CHUNKS,), generator=draw)
    section = torch.randint(TOPICS, (SECTIONS,), generator=draw).repeat_interleave(SECTION)
    steps, layers = len(section), len(config.memory_layers)
    return Document.of(
        codes[section] @ told + 0.3 * normal(layers, steps, WIDTH),
        CHUNKS * config.chunk_size + torch.arange(steps),
        codes[topic] + 0.3 * normal(layers, CHUNKS, CHANNELS),
        section[:, None] == topic,
        torch.full((steps,), CHUNKS),
        config,
    )


@functools.cache
@one_thread()
def run(*, bias: bool, heads: int = 4, seed: int = 0) -> BiasResult:
    """Train on two dozen documents and look at others; about a second on one CPU thread."""
    config = config_of(bias=bias, heads=heads)
    documents = [draw_document(config, number) for number in range(24)]
    how = IndexerTrainingConfig(n_steps=120, n_documents=1, n_triggers=8)
    trained = train_indexers(documents, config, how, seed=seed).indexers
    found: list[FetchQuality] = []
    for number in HELD_OUT:
        document = draw_document(config, number)
        logits = trained(document.hidden, document.positions, document.keys)
        resident = resident_sets(logits, document.closed, config)
        found.append(fetch_quality(resident, document.labels, document.candidates, document.closed))
    n = len(found)
    return BiasResult(
        golden_recall=sum(one.golden_recall for one in found) / n,
        fetched=sum(one.fetched for one in found) / n,
        needed=sum(one.needed for one in found) / n / (CHUNKS - config.tail_chunks),
    )
