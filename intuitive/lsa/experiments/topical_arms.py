"""What a residency policy is worth on the task: accuracy of the model itself, recall and bytes.

A held-out set is decoded once with everything resident; every policy is then replayed over its
recordings, and the model is run again with the sets that the policy chose.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from intuitive.common.decoder import Decoder, DecoderCache
from intuitive.common.runtime import seeded

from ..arms import Policy, Residency, replay
from ..config import LSAConfig
from ..indexer import MemoryIndexers
from ..recording import Recording
from ..task import Documents, TaskConfig, draw_documents
from .topical_decode import Observed, masked_right, observe, read_prompts


@dataclass(frozen=True, kw_only=True)
class Point:
    """One policy on one held-out set; shares in [0, 1], means over documents."""

    seed: int  # of the Memory Indexer and of the held-out documents
    length: float  # prompt, in lengths of the training's longest
    mode: str
    section: int  # tokens
    offset: int  # tokens
    arm: str
    rule: str
    threshold: float
    size: int | None
    lookahead: int
    lag: int
    layers: int  # joined
    accuracy: float  # answers right, the model run with what was resident
    mass_recall: float
    golden_recall: float
    kept: float  # of the evictable chunks
    resident: float  # of all chunks, at triggers
    copied_per_token: float  # chunks
    bytes_per_token: float  # that these are, in all CSA layers
    refetch_rate: float


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out documents, decoded once with everything resident."""

    decoder: Decoder
    config: LSAConfig
    seed: int
    length: float
    observed: Observed
    prompts: DecoderCache
    recordings: tuple[Recording, ...]
    demands: tuple[Recording, ...]  # the same, where needed is whatever any layer reads

    @property
    def documents(self) -> Documents:
        """What was decoded."""
        return self.observed.documents


def hold_out(
    decoder: Decoder,
    indexers: MemoryIndexers,
    task: TaskConfig,
    count: int,
    *,
    seed: int,
    length: float = 1.0,
    device: torch.device | str = "cpu",
) -> HeldOut:
    """Draw documents that no training has seen, and decode them.

    Args:
        decoder: frozen.
        indexers: of its target layers.
        task: what the documents are made of.
        count: documents.
        seed: of the documents; training draws on the device, these come from the CPU.
        length: for the record.
        device: of the decoder.
    """
    drawn = draw_documents(task, count, seeded(1_000_003 + seed))
    parts = {name: part for name, part in vars(drawn).items() if name != "config"}
    documents = Documents(task, **{name: part.to(device) for name, part in parts.items()})
    prompts = read_prompts(decoder, documents)
    observed = observe(decoder, indexers.config, documents, prompts=copy.deepcopy(prompts))
    recordings = tuple(observed.recording(row, indexers) for row in range(count))
    demands = tuple(
        dataclasses.replace(recording, needed=observed.wanted[row].cpu())
        for row, recording in enumerate(recordings)
    )
    return HeldOut(decoder, indexers.config, seed, length, observed, prompts, recordings, demands)


def residencies(held: HeldOut, policy: Policy) -> list[Residency]:
    """The policy over every document; reactive fetches whatever any CSA layer reads."""
    if policy.arm == "reactive":
        policy = dataclasses.replace(policy, top_k=0)
        return [replay(recording, policy) for recording in held.demands]
    return [replay(recording, policy) for recording in held.recordings]


def accuracy(held: HeldOut, found: Sequence[Residency], lookahead: int) -> float:
    """Answers right with these sets in the model's caches."""
    sets = torch.stack([one.resident[::lookahead] for one in found])
    right = masked_right(
        held.decoder,
        held.config,
        held.documents,
        sets.to(held.documents.tokens.device),
        lookahead=lookahead,
        prompts=held.prompts,
    )
    return int(right.sum()) / int(held.documents.answers.sum())


def measure(held: HeldOut, policy: Policy) -> Point:
    """Replay a policy, and run the model with what it chose.

    Everything and reactive read what the unrestricted model reads, and so answer as it does; that
    of the latter is tested (`accuracy` with a lookahead of one step).
    """
    found = residencies(held, policy)
    exact = policy.arm in ("everything", "reactive")
    config, task = held.config, held.documents.config

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    at = [one.resident[one.triggers].sum(-1) / one.closed[one.triggers] for one in found]
    return Point(
        seed=held.seed,
        length=held.length,
        mode=task.mode,
        section=task.section,
        offset=task.offset,
        arm=policy.arm,
        rule=policy.rule,
        threshold=policy.threshold,
        size=policy.size,
        lookahead=policy.lookahead,
        lag=policy.lag,
        layers=policy.layers or len(config.memory_layers),
        accuracy=held.observed.accuracy if exact else accuracy(held, found, policy.lookahead),
        mass_recall=mean([one.mass_recall for one in found]),
        golden_recall=mean([one.golden_recall for one in found]),
        kept=mean([one.kept for one in found]),
        resident=mean([float(share.mean()) for share in at]),
        copied_per_token=mean([int(one.copied.sum()) / task.n_steps for one in found]),
        bytes_per_token=mean([int(one.moved_bytes(config).sum()) / task.n_steps for one in found]),
        refetch_rate=mean([one.refetch_rate for one in found]),
    )
