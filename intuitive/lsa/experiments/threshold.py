"""The Memory Indexer's scores at one trigger, and what a threshold or a budget takes of them.

The scores are those of a recorded decode. How a longer text would do is arithmetic: its chunks that
are not needed are as many times more and score like those here, so the rate of false positives
stays and their number grows; those needed stay as they are.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.checks import whole, whole_fields
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from .. import shipped
from ..arms import Policy
from ..config import LSAConfig
from ..labels import window_labels
from ..recording import Recording
from ..selection import above, always_resident

LENGTHS = (1, 2, 4, 8)  # times as long as the recorded text
SAMPLED = 3  # negatives per positive in training
BINS = 12  # of the calibration
WRITTEN = "written-"  # how names of the other decodes begin


@dataclass(frozen=True, kw_only=True)
class ThresholdParams(Settings):
    """The controls of the threshold explorer; what depends on the recording, `run` checks."""

    text: str = "topical"
    threshold: float = 0.5
    trigger: int = 1  # counted from 0; the first may come before anything is asked
    layers: int = 3  # target layers that are joined
    lookahead: int = 64  # steps
    tail: int = 16  # newest chunks, always resident

    def __post_init__(self) -> None:
        whole_fields(self, trigger=0, layers=1, lookahead=1, tail=0)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} must lie between 0 and 1, both excluded.")


@dataclass(frozen=True, kw_only=True)
class Longer:
    """What both rules take when the text is `times` as long; expected numbers of chunks."""

    times: int
    chunks: int
    false: float  # above the threshold and not needed
    fetched: float  # above the threshold
    budget_found: int  # needed ones among the budget
    budget: int  # chunks, as many as the threshold takes of the recorded text


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """What a probability of the indexer means, over all triggers of the recording."""

    said: Float[np.ndarray, " bins"]  # mean probability of a bin's chunks
    needed: Float[np.ndarray, " bins"]  # share of them that was needed
    count: Int[np.ndarray, " bins"]
    base_rate: float  # share of all chunks that is needed


@dataclass(frozen=True, eq=False)
class ThresholdResult:
    """Scores of the chunks that may be evicted, at one trigger."""

    params: ThresholdParams
    recording: Recording
    n_triggers: int
    chunks: Int[np.ndarray, " n"]  # their numbers
    scores: Float[np.ndarray, " n"]  # probabilities, the greatest of the layers
    needed: Bool[np.ndarray, " n"]  # by the steps of the window
    taken: Bool[np.ndarray, " n"]  # above the threshold
    longer: tuple[Longer, ...]  # of LENGTHS

    @property
    def n_needed(self) -> int:
        return int(self.needed.sum())

    @property
    def n_found(self) -> int:
        """Needed chunks above the threshold."""
        return int((self.needed & self.taken).sum())

    @property
    def false_rate(self) -> float:
        """Share of the chunks not needed that the threshold takes all the same."""
        others = ~self.needed
        return float((self.taken & others).sum() / max(others.sum(), 1))


def recordings() -> dict[str, str]:
    """The recordings that come with the package: their names here, and those of their files.

    Decodes in which a policy wrote the text (`written`) are not among them: policies cannot be
    compared on them.
    """
    names = {stem.removeprefix("recording-"): stem for stem in shipped.recording_names()}
    return {name: stem for name, stem in names.items() if not name.startswith(WRITTEN)}


def load(name: str) -> Recording:
    """One recording by its name.

    Raises:
        ValueError: there is none of that name.
    """
    known = recordings()
    if name not in known:
        raise ValueError(f"text={name!r} is not recorded; choose one of {', '.join(known)}.")
    return shipped.recording(known[name])


@torch.inference_mode()
def run(
    params: ThresholdParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> ThresholdResult:
    """Scores at the trigger, and both rules on longer texts.

    Raises:
        ValueError: an unknown recording; a trigger or layers that it does not have.
        Cancelled: `stale()` became true.
    """
    recording = load(params.text)
    check(stale)
    return at_trigger(recording, params)


def n_triggers(recording: Recording, lookahead: int) -> int:
    """How often a recording asks the indexer."""
    return -(-recording.n_steps // lookahead)


def at_trigger(recording: Recording, params: ThresholdParams) -> ThresholdResult:
    """The same of a recording in hand."""
    triggers = n_triggers(recording, params.lookahead)
    whole("trigger", params.trigger, high=triggers - 1, why="so many were recorded, from 0 on")
    layers = recording.scores.shape[1]
    whole("layers", params.layers, high=layers, why="that many were recorded")
    step = params.trigger * params.lookahead
    logits = recording.scores[step, : params.layers]
    candidates = evictable(recording, params, step)
    needed = window_labels(recording.needed, recording.closed, lookahead=params.lookahead)
    chunks = candidates.nonzero().flatten()
    taken = above(logits[:, chunks], params.threshold)
    scores = logits[:, chunks].amax(0).double().sigmoid()
    wanted = needed[params.trigger, chunks]
    return ThresholdResult(
        params=params,
        recording=recording,
        n_triggers=triggers,
        chunks=read_only(chunks),
        scores=read_only(scores),
        needed=read_only(wanted),
        taken=read_only(taken),
        longer=tuple(_longer(scores, wanted, taken, times) for times in LENGTHS),
    )


def evictable(recording: Recording, params: ThresholdParams, step: int) -> Bool[Tensor, " chunks"]:
    """Chunks that exist before a step and are resident only if they are chosen.

    The first chunk stays as well: attention rests on it when it needs nothing.
    """
    closed, n = int(recording.closed[step]), recording.n_chunks
    config = _config(recording, params)
    always = always_resident(closed, n, config, decoded_from=int(recording.closed[0]))
    return (torch.arange(n) < closed) & ~always


def _config(recording: Recording, params: ThresholdParams) -> LSAConfig:
    policy = Policy(lookahead=params.lookahead, tail_chunks=params.tail, sink=1)
    return policy.config(recording.chunk_size)


def _longer(
    scores: Float[Tensor, " n"], needed: Bool[Tensor, " n"], taken: Bool[Tensor, " n"], times: int
) -> Longer:
    """Both rules where every chunk that is not needed stands for `times` of its kind."""
    false, found = int((taken & ~needed).sum()), int((taken & needed).sum())
    budget = false + found
    weight = torch.where(needed, 1, times)
    order = scores.sort(descending=True, stable=True).indices
    upto = weight[order].cumsum(0)  # chunks as good as this one, itself included
    kept = order[upto <= budget]
    return Longer(
        times=times,
        chunks=int(weight.sum()),
        false=float(times * false),
        fetched=float(times * false + found),
        budget_found=int(needed[kept].sum()),
        budget=budget,
    )


@cached(
    LRUCache(8),
    key=lambda recording, params: (recording, params.layers, params.lookahead, params.tail),
    lock=threading.Lock(),
)
@torch.inference_mode()
def calibrate(recording: Recording, params: ThresholdParams) -> Calibration:
    """How often chunks of a given probability were needed, at the triggers.

    No other step counts: the indexer is asked nowhere else, and where it was not trained to be
    asked, such as within a record of the topical task, its scores say nothing.
    """
    needed = window_labels(recording.needed, recording.closed, lookahead=params.lookahead)
    steps = range(0, recording.n_steps, params.lookahead)
    candidates = torch.stack([evictable(recording, params, step) for step in steps])
    logits = recording.scores[:: params.lookahead, : params.layers].amax(1)
    scores = logits.double().sigmoid()[candidates]
    wanted = needed[candidates].double()
    place = (scores * BINS).long().clamp(max=BINS - 1)
    zeros = torch.zeros(BINS, dtype=torch.float64)
    count = zeros.index_add(0, place, torch.ones_like(scores))
    filled = count > 0
    said = zeros.index_add(0, place, scores)[filled] / count[filled]
    share = zeros.index_add(0, place, wanted)[filled] / count[filled]
    return Calibration(
        said=read_only(said),
        needed=read_only(share),
        count=read_only(count[filled].long()),
        base_rate=float(wanted.mean()) if len(wanted) else 0.0,
    )


def meant(said: int | float, base_rate: int | float) -> float:
    """Probability of being needed that stands behind `said`, after training on three to one.

    A score that is right on a sample of one positive to `SAMPLED` negatives gives odds that are too
    high by what the sample changed.

    Raises:
        ValueError: a probability outside [0, 1).
    """
    for name, value in (("said", said), ("base_rate", base_rate)):
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value} must lie in [0, 1).")
    odds = said / (1 - said) * SAMPLED * base_rate / (1 - base_rate)
    return odds / (1 + odds) if math.isfinite(odds) else 1.0
