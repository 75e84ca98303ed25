"""One request: prefill, then decoding with a resident set that is chosen every few steps.

A trigger decides which chunks the coming steps may read. When that takes effect is the schedule,
and masked decoding follows the same one, so that moving gives the same tokens:

    delay = 0    at once; moving waits for the copies
    delay = n    after n more steps, which still read the former set while the new chunks travel
    lag = 1      at the next trigger, a whole cycle late, as the repository's server does it

The first set is applied at once in any case but a lag: nothing older could serve.

Differs: a trigger reads the hidden states of the last token read and serves the steps after it,
so that no layer has to wait for a later one.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import number, whole
from intuitive.common.decoder import Decoder, DecoderCache, Probe, Seen
from intuitive.common.runtime import check, never

from ..attention import Look, missed, watching
from ..cache import LSACache
from ..indexer import MemoryIndexers
from ..selection import Rule, always_resident, check_rule, decide
from .memory import Moved, RequestMemory
from .pool import CellPool

# What a trigger asks for, from the layers' logits [layers, chunks] and what is resident anyhow.
Choose = Callable[[Tensor, Tensor], Tensor]
Mode = Literal["sync", "overlapped"]


@dataclass(frozen=True, eq=False)
class Cycle:
    """What one trigger did."""

    step: int  # decode steps before it
    logits: Float[Tensor, "layers chunks"]  # of the Memory Indexer
    asked: Bool[Tensor, " chunks"]  # what it asked for
    resident: Bool[Tensor, " chunks"]  # what is resident from `applied` on, as far as it existed
    fetched: int  # chunks copied to the device; 0 where nothing moves
    moved_bytes: int  # of these, in all layers
    refetched: int  # of these, chunks that were resident at an earlier trigger
    full: bool  # whether the request has fallen back to full attention
    applied: int = 0  # decode steps before the set was applied
    late: int = 0  # of the fetched, chunks that decoding waited for
    waited_ms: float = 0.0  # for these, on the host


@dataclass(frozen=True, eq=False)
class _Decision:
    """A set that waits for its step."""

    due: int  # decode steps before it is applied
    step: int
    logits: Tensor
    asked: Tensor
    resident: Tensor
    full: bool


class LookaheadDecoding:
    """One request: prefill, then decoding with a resident set that is chosen every few steps.

    Args:
        decoder: made by `attention.lsa_decoder`.
        indexers: of its target layers.
        capacity: tokens, prompt and text.
        pool: cells that entries move into; None to mask what is not resident.
        mode: "sync" waits for copies where they are needed; "overlapped" begins them at the
            trigger and goes on decoding, which needs a delay or a lag. Masking ignores it.
        rule, size: which chunks a trigger asks for, as in `selection.resident_sets`.
        lag: cycles by which a decision is applied late, 0 or 1.
        delay: steps by which a decision is applied late, at most a cycle; not with a lag.
        sticky: whether what was resident stays so.
        full_limit: share of the chunks not resident anyhow above which a trigger that asks for
            them makes all chunks resident, for the rest of the request; None never does.
        choose: asks in the place of the Memory Indexer, for other arms: a function of its logits
            [layers, chunks] and of the chunks resident anyhow [chunks], to bool [chunks].
        shadow: whether `misses` is kept: for each step and CSA layer the chunks that the native
            selector would have read and could not. Only without a pool, which lacks index keys.

    Raises:
        ValueError: a decoder of other layers; a rule without its size; a lag other than 0 and 1;
            a limit outside [0, 1]; a budget larger than the pool, or a pool of another dtype or
            device; a capacity longer than the decoder's position table; a shadow with a pool.

    `tokens` holds what was generated so far, whatever happens; `cycles` what each trigger did.
    """

    def __init__(
        self,
        decoder: Decoder,
        indexers: MemoryIndexers,
        *,
        capacity: int,
        pool: CellPool | None = None,
        mode: str = "sync",
        rule: Rule = "threshold",
        size: int | None = None,
        lag: int = 0,
        delay: int = 0,
        sticky: bool = False,
        full_limit: float | None = None,
        choose: Choose | None = None,
        shadow: bool = False,
    ) -> None:
        config = indexers.config
        kinds = tuple(getattr(layer.attention, "kind", None) for layer in decoder.layers)
        if kinds != config.layers:
            raise ValueError(f"the decoder has the layers {kinds}, the indexers {config.layers}.")
        check_rule(rule, size)
        lag = whole("lag", lag)
        if lag not in (0, 1):
            raise ValueError(f"lag={lag} must be 0 or 1 cycles.")
        delay = whole("delay", delay, low=0, high=config.lookahead, why="steps of one cycle")
        if lag and delay:
            raise ValueError(f"lag={lag} is a delay of a whole cycle: give delay={delay} or a lag.")
        if mode not in get_args(Mode):
            raise ValueError(f"mode={mode!r} is unknown; choose from {get_args(Mode)}.")
        if mode == "overlapped" and not (lag or delay):
            raise ValueError(
                "mode='overlapped' needs steps that go on with the former set while copies "
                "travel: give a delay, such as delay=8, or lag=1."
            )
        full_limit = None if full_limit is None else number("full_limit", full_limit)
        if full_limit is not None and not 0 <= full_limit <= 1:
            raise ValueError(f"full_limit={full_limit} must lie in [0, 1], or None for never.")
        capacity = whole("capacity", capacity, low=1, high=decoder.config.max_positions)
        budget = {"threshold": 0, "budget": size, "pages": (size or 0) * config.page_size}[rule]
        if pool is not None and budget > pool.n_cells:
            raise ValueError(
                f"a budget of {budget} chunks is larger than the pool of {pool.n_cells} cells: "
                "make the pool larger, and leave room for the tail and for decoded chunks."
            )
        weight = decoder.embedding.weight
        if pool is not None and (pool.dtype, pool.device) != (weight.dtype, weight.device):
            raise ValueError(
                f"the pool holds {pool.dtype} on {pool.device}, the decoder {weight.dtype} on "
                f"{weight.device}: make the pool with the decoder's dtype and device."
            )
        self.decoder, self.indexers, self.config, self.pool = decoder, indexers, config, pool
        self.rule, self.size, self.lag, self.sticky = rule, size, lag, sticky
        self.mode, self.delay = mode, delay
        if shadow and pool is not None:
            raise ValueError(
                "shadow=True needs all index keys on the device: decode without a pool, which "
                "gives the same tokens."
            )
        self.full_limit, self.choose, self.shadow = full_limit, choose, shadow
        self.misses: list[list[int]] = []  # by step, then by CSA layer
        self.memory = None if pool is None else RequestMemory(pool, capacity)
        self.request = None if self.memory is None else self.memory.request
        self.cache = self._make_cache(capacity)
        self.tokens: list[int] = []
        self.cycles: list[Cycle] = []
        self.full = False
        self._steps = 0  # decode steps taken
        self._unread = False  # whether the last of the tokens has not been read yet
        self._next: Tensor | None = None  # [1, v] logits of the next token
        self._hidden: dict[int, Float[Tensor, "1 d_model"]] = {}  # of the last token read
        self._late: Bool[Tensor, " chunks"] | None = None  # what the last trigger asked for
        self._due: _Decision | None = None  # decided, not yet applied
        self._decided: Bool[Tensor, " chunks"] | None = None  # the last set, applied or not
        self._seen: Bool[Tensor, " chunks"] = torch.zeros(0, dtype=torch.bool)
        self._triggers = 0
        self._prompt_chunks = 0

    def _make_cache(self, capacity: int) -> DecoderCache:
        weight = self.decoder.embedding.weight
        moving = iter(() if self.memory is None else self.memory.caches)
        caches = []
        for layer in self.decoder.layers:
            if layer.attention.kind == "csa" and self.memory is not None:
                caches.append(next(moving))
            else:
                caches.append(layer.attention.make_cache(1, capacity, weight.device, weight.dtype))
        return DecoderCache(caches)

    @property
    def csa_caches(self) -> list[LSACache]:
        """Caches of the CSA layers."""
        return [self.cache.layers[i] for i in self.config.csa_layers]

    def _probe(self) -> Probe:
        """Keeps the hidden states of the last token in the target layers."""

        def receive(seen: Seen) -> None:
            self._hidden[seen.layer] = seen.hidden[0, -1:]

        layers = tuple(self.config.csa_layers[i] for i in self.config.memory_layers)
        return Probe(layers, receive)

    @torch.no_grad()
    def prefill(self, prompt: Int[Tensor, " n"]) -> Float[Tensor, " v"]:
        """Read the prompt with its whole history, as the model does without LSA.

        Returns:
            Logits of the first new token.

        Raises:
            ValueError: something was read already; as in `Decoder.hidden`.
        """
        if self.cache.length:
            raise ValueError(f"{self.cache.length} tokens were read already: open a new request.")
        logits = self.decoder(prompt[None], cache=self.cache, probe=self._probe(), last_only=True)
        self._next = logits[:, -1]
        self._prompt_chunks = self.csa_caches[0].n_entries
        return self._next[0]

    @torch.no_grad()
    def step(self, token: int) -> Float[Tensor, " v"]:
        """Read one token, after a trigger where one is due; returns the next one's logits.

        Raises:
            ValueError: no prompt was read; the cache is full.
            PoolFull: more must be resident than the pool has cells. The cache is as before.
            Exception: whatever a copy or a layer raises; the token can be read again.
        """
        if self._next is None:
            raise ValueError("no prompt was read: call prefill first.")
        if self._due is not None and self._steps >= self._due.due:
            self._apply(self._due)
        if self._triggers * self.config.lookahead == self._steps:
            self._trigger()
        due = (self._steps + 1) % self.config.lookahead == 0
        tokens = torch.tensor([[token]], device=self._next.device)
        probe = self._probe() if due else None
        row: list[int] = []

        def count(ordinal: int, look: Look) -> None:
            row.append(int(missed(look)))

        with watching(self.decoder, count) if self.shadow else contextlib.nullcontext():
            logits = self.decoder(tokens, cache=self.cache, probe=probe, last_only=True)
        self._next = logits[:, -1]
        self._steps += 1
        if self.shadow:
            self.misses.append(row)
        return self._next[0]

    def generate(self, n: int, *, stale: Callable[[], bool] = never) -> list[int]:
        """Continue greedily by n tokens, the lower id on a tie; returns these n.

        After an error the next call goes on where this one stopped.

        Raises:
            ValueError, PoolFull: as in `step`; what was generated stands in `tokens`.
            Cancelled: `stale()` became true between two tokens.
        """
        start = len(self.tokens) - self._unread
        for _ in range(whole("n", n, low=1)):
            check(stale)
            if self._next is None:
                raise ValueError("no prompt was read: call prefill first.")
            if not self._unread:  # else an error came between the last token and its reading
                self.tokens.append(int(self._next.argmax(-1)))
                self._unread = True
            self.step(self.tokens[-1])
            self._unread = False
        return self.tokens[start:]

    def close(self) -> None:
        """Give the cells back; once more does nothing."""
        if self.memory is not None:
            self.memory.close()

    # ------------------------------------------------------------------------- a trigger

    def _trigger(self) -> None:
        decision = self._decide()
        if decision.due <= self._steps:
            self._apply(decision)  # nothing has changed if this fails
        else:
            self._due = decision
        self._triggers += 1
        self.full, self._late, self._decided = decision.full, decision.asked, decision.resident
        if self.mode == "overlapped" and self.memory is not None:
            coming = self._late | self._always() if self.lag else decision.resident
            if self.lag or self._due is not None:
                steps = self.delay or self.config.lookahead
                spare = steps // self.config.chunk_size + 1  # chunks that close meanwhile
                self.memory.prefetch(_numbers(coming), spare=spare)

    def _always(self) -> Bool[Tensor, " chunks"]:
        closed = self.csa_caches[0].n_entries
        always = always_resident(closed, closed, self.config, decoded_from=self._prompt_chunks)
        return always.to(self._next.device)

    def _decide(self) -> _Decision:
        config, closed = self.config, self.csa_caches[0].n_entries
        logits, always = self._logits(), self._always()
        if self.choose is not None:
            asked = self.choose(logits, always).to(logits.device)
        elif closed:
            asked = decide(logits, always, config, rule=self.rule, size=self.size)
        else:
            asked = torch.zeros_like(always)
        served = asked
        if self.lag:
            served = _longer(self._late, closed, asked.device)
        resident = served | always
        if self.sticky and self._decided is not None:
            resident = resident | _longer(self._decided, closed, asked.device)
        evictable = int((~always).sum())
        share = int((served & ~always).sum()) / evictable if evictable else 0.0
        full = self.full or (self.full_limit is not None and share > self.full_limit)
        return _Decision(
            due=self._steps + (self.delay if self._triggers else 0),
            step=self._steps,
            logits=logits,
            asked=asked,
            resident=resident | full,
            full=full,
        )

    def _logits(self) -> Float[Tensor, "layers chunks"]:
        config, caches = self.config, self.csa_caches
        hidden = torch.stack([self._hidden[config.csa_layers[i]] for i in config.memory_layers])
        keys = torch.stack([caches[i].index_keys()[0] for i in config.memory_layers])
        positions = torch.tensor([self.cache.length - 1], device=hidden.device)
        return self.indexers(hidden, positions, keys)[0]

    def _apply(self, decision: _Decision) -> None:
        """Make a set resident in all CSA layers, chunks that closed since its trigger included."""
        closed, resident = self.csa_caches[0].n_entries, decision.resident
        now = _longer(resident, closed, resident.device)
        now[len(resident) :] = True
        if self.memory is None:
            for cache in self.csa_caches:
                cache.confine(now[None])
            moved = Moved(_numbers(resident[:0]), 0, 0.0)
        else:
            moved = self.memory.apply(_numbers(now))
        # From here on nothing can fail.
        self._due = None
        resident_before, self._seen = self._seen, _longer(self._seen, closed, self._seen.device)
        before = _longer(resident_before, closed, resident_before.device)
        self._seen[: len(resident)] |= resident.cpu()
        fetched = len(moved.chunks)
        made = {f.name: getattr(decision, f.name) for f in dataclasses.fields(decision)}
        del made["due"]
        self.cycles.append(
            Cycle(
                **made,
                fetched=fetched,
                moved_bytes=fetched * (0 if self.pool is None else self.pool.cell_bytes),
                refetched=int(before[torch.from_numpy(moved.chunks)].sum()),
                applied=self._steps,
                late=moved.late,
                waited_ms=1e3 * moved.waited_s,
            )
        )


def _numbers(chosen: Bool[Tensor, " chunks"]) -> np.ndarray:
    """The chunks that are chosen, rising, on the host."""
    return chosen.nonzero().flatten().cpu().numpy()


def _longer(
    chosen: Bool[Tensor, " former"] | None, n: int, device: torch.device
) -> Bool[Tensor, " n"]:
    """An earlier decision about the n chunks that there are now; nothing where there was none."""
    longer = torch.zeros(n, dtype=torch.bool, device=device)
    if chosen is not None:
        longer[: len(chosen)] = chosen
    return longer
