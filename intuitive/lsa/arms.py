"""Residency policies at equal budget, played over a recorded decode.

    residency = replay(recording, Policy("lsa", lookahead=64, threshold=0.5))
    residency.golden_recall, residency.kept, residency.mass_recall, residency.moved_bytes(config)

Every arm has the same tail, sink and decoded chunks, and beside them as many chunks of each window
as LSA would keep under the same rule: arms differ in which, not in how many. Reactive is the one
that may exceed it, for it fetches whatever a step asks for. Only the oracle looks ahead.

Source: arXiv:2606.09079v2, sections 2.1 and 2.4, and Table 1 (recency, random); Quest: Tang et al.
2024, arXiv:2406.10774; reactive: HiSparse and ESS, arXiv:2512.10576.
Differs: the baselines share LSA's own count of every window, where Table 1's random keeps a tenth.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole, whole_fields
from intuitive.common.inputs import plain_fields
from intuitive.common.runtime import seeded

from . import cost
from .config import LSAConfig
from .labels import window_labels
from .recording import Recording
from .selection import Rule, always_resident, check_rule, resident_sets

Arm = Literal["lsa", "reactive", "recency", "random", "quest", "oracle", "everything"]
ARMS: tuple[Arm, ...] = get_args(Arm)


@dataclass(frozen=True)
class Policy:
    """Who decides what is resident, when, and how much.

    Raises:
        ValueError: an unknown arm or rule, a number out of range; in words.
    """

    arm: str = "lsa"  # one of ARMS
    lookahead: int = 64  # steps between two triggers (τ)
    rule: Rule = "threshold"
    threshold: float = 0.5  # of the rules "threshold" and "pages"
    size: int | None = None  # chunks of a budget, or pages
    lag: int = 0  # windows by which a decision comes late, 0 or 1
    layers: int | None = None  # target layers whose verdicts are joined, the first so many; all
    tail_chunks: int = 64  # newest chunks, always resident
    sticky: bool = False  # whether what was resident stays so
    seed: int = 0  # of the random arm
    sink: int = 0  # first chunks, always resident
    page_size: int = 64  # chunks
    top_k: int = 32  # chunks that a step of the reactive arm asks for, beside the needed ones

    def __post_init__(self) -> None:
        plain_fields(self)
        if self.arm not in ARMS:
            raise ValueError(f"arm={self.arm!r} is unknown; choose one of {', '.join(ARMS)}.")
        whole_fields(self, lookahead=1, tail_chunks=0, sink=0, page_size=1, top_k=0, seed=0)
        check_rule(self.rule, self.size)
        if self.size is not None:
            whole("size", self.size, low=0)
        if self.layers is not None:
            whole("layers", self.layers, low=1)
        if self.lag not in (0, 1):
            raise ValueError(f"lag={self.lag} must be 0 or 1 windows.")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} must lie between 0 and 1, both excluded.")

    def config(self, chunk_size: int) -> LSAConfig:
        """These settings as `selection` takes them."""
        return LSAConfig(
            chunk_size=chunk_size,
            threshold=self.threshold,
            lookahead=self.lookahead,
            tail=self.tail_chunks * chunk_size,
            sink=self.sink,
            page_size=self.page_size,
        )


@dataclass(frozen=True, eq=False)
class Residency:
    """What one policy had at hand; a cycle begins at each trigger, for reactive at each step.

    Chunks that a window's own steps close are decoded, and so at hand. The totals look at chunks
    that may be evicted: those that exist at a window's first step and are not resident anyhow.
    """

    policy: Policy
    resident: Bool[Tensor, "steps chunks"]
    triggers: Int[Tensor, " cycles"]  # steps
    fetched: Bool[Tensor, "cycles chunks"]  # resident from here on, and not so before
    evicted: Bool[Tensor, "cycles chunks"]  # the other way round
    copied: Int[Tensor, " cycles"]  # chunks that moved; none where everything stays
    refetched: Int[Tensor, " cycles"]  # of these, chunks that had been resident before
    hit: Bool[Tensor, "steps chunks"]  # needed and there
    missed: Bool[Tensor, "steps chunks"]  # needed and not there
    mass: Float[Tensor, " steps"]  # share of the mass on chunks that lay on resident ones
    evictable: Bool[Tensor, "steps chunks"]  # of each step's window
    closed: Int[Tensor, " steps"]  # chunks that exist before each step
    golden_recall: float  # needed evictable chunks that a window had whenever needed; 1 if none
    kept: float  # of the evictable chunks, over all steps
    mass_recall: float  # `mass`, averaged over steps
    refetch_rate: float  # of the chunks copied

    @property
    def chosen(self) -> Int[Tensor, " cycles"]:
        """Of the chunks copied, those that a choice brought: what is always there left out."""
        return (self.fetched & self.evictable[self.triggers]).sum(-1)

    @property
    def chosen_again(self) -> float:
        """Share of these that had been resident before."""
        return int(self.refetched.sum()) / max(int(self.chosen.sum()), 1)

    def moved_bytes(self, config: LSAConfig, *, chosen: bool = False) -> Int[Tensor, " cycles"]:
        """Bytes copied to the GPU at each trigger, in all CSA layers.

        Reactive scores every step against everything, so all index keys are there and entries
        alone move. Elsewhere index keys come along in the layers that do not vote.

        Args:
            config: sizes.
            chosen: whether to leave out what is always there.
        """
        one = cost.transfer_bytes(config, 1, index_keys=self.policy.arm != "reactive")
        return (self.chosen if chosen else self.copied) * one

    def resident_bytes(
        self, config: LSAConfig, step: int, *, accounting: cost.Accounting = "everything"
    ) -> dict[str, int]:
        """Bytes on the GPU before one step, by category (`cost.resident_bytes`)."""
        closed = int(self.closed[whole("step", step, low=0, high=len(self.closed) - 1)])
        share = int(self.resident[step].sum()) / closed if closed else 1.0
        whole_keys = self.policy.arm in ("reactive", "everything")
        return cost.resident_bytes(
            config,
            closed * config.chunk_size,
            kept=share,
            accounting=accounting,
            all_index_keys=whole_keys and accounting == "everything",
        )


def replay(recording: Recording, policy: Policy) -> Residency:
    """What the policy would have had at hand in every step of the recording.

    Raises:
        ValueError: more layers than were recorded.
    """
    n_layers = recording.scores.shape[1]
    whole("layers", policy.layers or n_layers, high=n_layers, why="that many were recorded")
    frame = _Frame.of(recording, policy)
    if policy.arm == "everything":
        windows = frame.exists
    else:
        windows = resident_sets(
            recording.scores[frame.triggers, : policy.layers],
            frame.closed,
            policy.config(recording.chunk_size),
            rule=policy.rule,
            size=policy.size,
            lag=policy.lag,
            sticky=policy.sticky,
        )
    if policy.arm in ("recency", "random", "quest", "oracle"):
        windows = _as_many(windows, frame, _ranks(recording, frame, policy), policy)
    resident = (windows[frame.window] | frame.decoded) & recording.exists
    triggers = frame.triggers
    if policy.arm == "reactive":
        resident = _on_demand(recording, frame, windows, policy)
        triggers = torch.arange(recording.n_steps, device=resident.device)
    return _measured(recording, frame, policy, resident, triggers)


@dataclass(frozen=True, eq=False)
class _Frame:
    """What all arms of one lookahead share."""

    triggers: Int[Tensor, " windows"]
    window: Int[Tensor, " steps"]  # of each step
    closed: Int[Tensor, " windows"]
    exists: Bool[Tensor, "windows chunks"]
    always: Bool[Tensor, "windows chunks"]
    decoded: Bool[Tensor, "steps chunks"]  # closed by decoding, whether already or not

    @classmethod
    def of(cls, recording: Recording, policy: Policy) -> "_Frame":
        device, n = recording.closed.device, recording.n_chunks
        steps, chunk = (
            torch.arange(recording.n_steps, device=device),
            torch.arange(n, device=device),
        )
        triggers = steps[:: policy.lookahead]
        closed = recording.closed[triggers]
        first = int(closed[0])
        config = policy.config(recording.chunk_size)
        always = [always_resident(int(c), n, config, decoded_from=first) for c in closed]
        return cls(
            triggers=triggers,
            window=steps // policy.lookahead,
            closed=closed,
            exists=chunk < closed[:, None],
            always=torch.stack(always).to(device),
            decoded=(chunk >= first).expand(len(steps), -1),
        )


def _ranks(recording: Recording, frame: _Frame, policy: Policy) -> Float[Tensor, "windows chunks"]:
    """How much an arm wants each chunk at each trigger."""
    shape, device = frame.exists.shape, frame.exists.device
    if policy.arm == "recency":
        return torch.arange(shape[1], device=device).double().expand(shape)
    if policy.arm == "random":
        draw = seeded(policy.seed)
        return torch.rand(shape, generator=draw, dtype=torch.float64, device="cpu").to(device)
    if policy.arm == "quest":
        return recording.bounds[frame.triggers].double()
    # The oracle: needed chunks of the window first, then the mass that lies on each.
    mass = torch.zeros(shape, dtype=torch.float64, device=device)
    mass.index_add_(0, frame.window, recording.mass.double())
    needed = window_labels(recording.needed, recording.closed, lookahead=policy.lookahead)
    return mass + needed.double() * (1 + mass.max())


def _as_many(
    windows: Bool[Tensor, "windows chunks"],
    frame: _Frame,
    ranks: Float[Tensor, "windows chunks"],
    policy: Policy,
) -> Bool[Tensor, "windows chunks"]:
    """Sets as large as these, chosen by rank; the lower chunk wins a tie.

    A late decision goes by the rank of the window before, among the chunks that existed then.
    """
    chosen = torch.zeros_like(windows)
    for w, target in enumerate(windows.sum(-1).tolist()):
        asked = w if policy.arm == "oracle" else max(w - policy.lag, 0)
        chosen[w] = frame.always[w]
        if policy.sticky and w:
            chosen[w] |= chosen[w - 1]
        free = frame.exists[asked] & ~chosen[w]
        rank = ranks[asked].masked_fill(~free, -torch.inf)
        order = rank.sort(descending=True, stable=True).indices
        order = order[free[order]]  # a bound may be -inf itself
        chosen[w, order[: target - int(chosen[w].sum())]] = True
    return chosen


def _on_demand(
    recording: Recording, frame: _Frame, windows: Bool[Tensor, "windows chunks"], policy: Policy
) -> Bool[Tensor, "steps chunks"]:
    """Every step fetches what it asks for; what was asked for longest ago makes room."""
    exists = recording.exists
    native = recording.native.masked_fill(~exists, -torch.inf)
    order = native.sort(dim=-1, descending=True, stable=True).indices[:, : policy.top_k]
    demand = torch.zeros_like(exists).scatter(1, order, True) | recording.needed
    demand &= exists
    always = (frame.always[frame.window] | frame.decoded) & exists
    room = (windows & ~frame.always).sum(-1)[frame.window].tolist()
    last = torch.full((recording.n_chunks,), -1.0, device=exists.device)  # step it was asked for
    last = last.double()
    here = torch.zeros_like(last, dtype=torch.bool)
    resident = torch.zeros_like(exists)
    for step in range(recording.n_steps):
        last = torch.where(demand[step], float(step), last)
        here = (here | demand[step]) & ~always[step]
        spare = int(here.sum()) - max(room[step], int((demand[step] & here).sum()))
        if spare > 0 and not policy.sticky:
            age = torch.where(here, last, torch.inf)
            here[age.sort(stable=True).indices[:spare]] = False
        resident[step] = here | always[step]
        here = resident[step]
    return resident


def _measured(
    recording: Recording,
    frame: _Frame,
    policy: Policy,
    resident: Bool[Tensor, "steps chunks"],
    triggers: Int[Tensor, " cycles"],
) -> Residency:
    """Hits, misses, copies and totals of a resident set."""
    exists, window = recording.exists, frame.window
    evictable = (frame.exists & ~frame.always)[window]
    needed = recording.needed & exists
    missed = needed & ~resident
    n_windows = len(frame.triggers)

    def in_window(steps: Tensor) -> Tensor:
        total = torch.zeros(n_windows, steps.shape[1], device=steps.device, dtype=torch.float32)
        return total.index_add(0, window, steps.float()) > 0

    asked, lost = in_window(needed & evictable), in_window(missed & evictable)
    mass = recording.mass.double()
    found, total = (mass * (resident | ~exists)).sum(-1), mass.sum(-1)
    share = torch.where(total > 0, found / total.clamp(min=1e-300), 1.0)

    # Before a trigger: what the last cycle left, and what decoding has added since.
    before = torch.zeros_like(resident[triggers])
    before[1:] = resident[triggers[1:] - 1] | (frame.decoded & exists)[triggers[1:]]
    if policy.arm == "everything":
        before = resident[triggers]
    fetched, evicted = resident[triggers] & ~before, before & ~resident[triggers]
    ever = torch.zeros_like(fetched)
    ever[1:] = resident[triggers].cumsum(0)[:-1] > 0
    copied, again = fetched.sum(-1), (fetched & ever).sum(-1)
    n_evictable, n_asked = int(evictable.sum()), int(asked.sum())
    return Residency(
        policy=policy,
        resident=resident,
        triggers=triggers,
        fetched=fetched,
        evicted=evicted,
        copied=copied,
        refetched=again,
        hit=needed & resident,
        missed=missed,
        mass=share.float(),
        evictable=evictable,
        closed=recording.closed,
        golden_recall=1 - int(lost.sum()) / n_asked if n_asked else 1.0,
        kept=int((resident & evictable).sum()) / n_evictable if n_evictable else 0.0,
        mass_recall=float(share.mean()) if len(share) else 1.0,
        refetch_rate=int(again.sum()) / max(int(copied.sum()), 1),
    )


def compared(
    recording: Recording, policy: Policy, arms: tuple[Arm, ...] = ARMS
) -> dict[Arm, Residency]:
    """The same settings under every arm."""
    return {arm: replay(recording, dataclasses.replace(policy, arm=arm)) for arm in arms}
