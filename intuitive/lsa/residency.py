"""Decoding while most of the history is somewhere else: the memory that really moves.

    pool = CellPool(config, n_cells=512)
    decoding = LookaheadDecoding(decoder, indexers, capacity=4096, pool=pool)
    decoding.prefill(prompt)
    tokens = decoding.generate(256)

Every entry of the CSA layers has a copy in a host pool, for good. The cell pool stands for GPU
memory: a cell holds one chunk's entries in all CSA layers, and its index keys in those that the
Memory Indexer does not read. A table says which chunk is in which cell. At a trigger only the
difference to the former set is copied. Without a pool the same decoding masks instead of moving,
and gives the same tokens.

On a machine without a GPU both pools are host memory, and the bytes are those that would move.

Source: arXiv:2606.09079v2, section 2.1; reserve cells, lag and the full-attention fallback follow
the repository's server.
Differs: a trigger reads the hidden states of the last token read and serves the steps after it,
so that no layer has to wait for a later one. Copies are waited for; nothing overlaps yet.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder, DecoderCache, Probe, Seen
from intuitive.common.runtime import check, never

from .attention import Look, missed, watching
from .cache import LSACache, Readable
from .config import LSAConfig
from .indexer import MemoryIndexers
from .selection import Rule, always_resident, check_rule, decide

# What a trigger asks for, from the layers' logits [layers, chunks] and what is resident anyhow.
Choose = Callable[[Tensor, Tensor], Tensor]


class PoolFull(RuntimeError):
    """More chunks must be resident than the pool has cells."""


class CellPool:
    """Cells for the chunks of all requests, and the table of what is where.

    Args:
        config: sizes.
        n_cells: chunks that fit, of all requests together.
        reserve: cells that may keep chunks which are not resident at the moment, so that they
            need not be copied again; the one unused longest goes first. They are among `n_cells`
            and never in the way of a resident chunk.
        device: of the cells.
        dtype: of the cells.

    Raises:
        ValueError: no cell, or a negative reserve.
    """

    def __init__(
        self,
        config: LSAConfig,
        n_cells: int,
        *,
        reserve: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config = config
        self.n_cells = whole("n_cells", n_cells, low=1)
        self.reserve = whole("reserve", reserve, low=0)
        keyed = [i for i in range(config.n_csa) if i not in config.memory_layers]
        with torch.inference_mode(False):
            self.entries = [
                torch.zeros(self.n_cells, config.d_head, device=device, dtype=dtype)
                for _ in range(config.n_csa)
            ]
            self.keys = {
                i: torch.zeros(self.n_cells, config.d_index, device=device, dtype=dtype)
                for i in keyed
            }
        self._free = list(range(self.n_cells))[::-1]
        self._resident: dict[int, dict[int, int]] = {}  # request -> chunk -> cell
        self._reserved: OrderedDict[tuple[int, int], int] = OrderedDict()  # the oldest first
        self._next_request = 0
        self._sorted: dict[int, tuple[Tensor, Tensor]] = {}  # of requests unchanged since asked

    @property
    def device(self) -> torch.device:
        """Where the cells are."""
        return self.entries[0].device

    @property
    def dtype(self) -> torch.dtype:
        """What the cells hold."""
        return self.entries[0].dtype

    @property
    def cell_bytes(self) -> int:
        """Bytes of one cell, in all layers: what one fetched chunk moves."""
        parts = [*self.entries, *self.keys.values()]
        return sum(part.shape[1] * part.element_size() for part in parts)

    @property
    def n_free(self) -> int:
        """Cells that hold nothing."""
        return len(self._free)

    @property
    def n_reserved(self) -> int:
        """Cells that hold a chunk which is not resident."""
        return len(self._reserved)

    def open(self) -> int:
        """A number for a new request, which has never been used before."""
        request, self._next_request = self._next_request, self._next_request + 1
        self._resident[request] = {}
        return request

    def table(self, request: int) -> dict[int, int]:
        """Cell of each resident chunk of a request, in the order of chunks."""
        return dict(sorted(self._resident[request].items()))

    def cells(self, request: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
        """A request's resident chunks, rising, and the cell of each; on the device."""
        if request not in self._sorted:
            table = self.table(request)
            with torch.inference_mode(False):
                self._sorted[request] = (
                    torch.tensor(list(table.keys()), dtype=torch.int64, device=self.device),
                    torch.tensor(list(table.values()), dtype=torch.int64, device=self.device),
                )
        return self._sorted[request]

    def place(self, request: int, chunks: list[int]) -> dict[int, int]:
        """Make exactly these chunks of a request resident.

        Returns:
            Cell of each chunk that must be copied: it was neither resident nor in reserve.

        Raises:
            PoolFull: there are not enough cells. Nothing has changed then.
        """
        here, wanted = self._resident[request], set(chunks)
        leaving = [chunk for chunk in here if chunk not in wanted]
        back = [c for c in wanted if c not in here and (request, c) in self._reserved]
        missing = sorted(c for c in wanted if c not in here and (request, c) not in self._reserved)
        room = len(self._free) + len(leaving) + len(self._reserved) - len(back)
        if len(missing) > room:
            raise PoolFull(
                f"{len(wanted)} chunks must be resident, {len(missing)} of them new, and "
                f"{room} of {self.n_cells} cells can be had: make a larger pool, or choose less."
            )
        self._sorted.pop(request, None)
        for chunk in back:
            here[chunk] = self._reserved.pop((request, chunk))
        for chunk in leaving:
            self._reserved[request, chunk] = here.pop(chunk)
        copies = {}
        for chunk in missing:
            copies[chunk] = here[chunk] = self._take()
        while len(self._reserved) > self.reserve:
            self._free.append(self._reserved.popitem(last=False)[1])
        return copies

    def add(self, request: int, chunk: int) -> int:
        """A cell for a chunk that decoding has closed; the same one if asked again.

        Raises:
            PoolFull: no cell is left.
        """
        here = self._resident[request]
        if chunk not in here:
            if not (self._free or self._reserved):
                raise PoolFull(
                    f"decoding has closed chunk {chunk} and all {self.n_cells} cells hold resident "
                    "chunks: make a larger pool, or choose less."
                )
            here[chunk] = self._take()
            self._sorted.pop(request, None)
        return here[chunk]

    def forget(self, request: int, first: int) -> None:
        """Free the cells of a request's chunks from the first on, if they have any."""
        here = self._resident[request]
        self._sorted.pop(request, None)
        for chunk in [chunk for chunk in here if chunk >= first]:
            self._free.append(here.pop(chunk))
        for owner, chunk in [key for key in self._reserved if key[0] == request]:
            if chunk >= first:
                self._free.append(self._reserved.pop((owner, chunk)))

    def release(self, request: int) -> None:
        """Free all cells of a request, which is over; once more does nothing."""
        if request in self._resident:
            self.forget(request, 0)
            del self._resident[request]

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        return self._reserved.popitem(last=False)[1]


class CellCache(LSACache):
    """A CSA layer's cache whose entries live on the host, and in cells while they are resident.

    Until `offload` it reads everything from the host, as prefill does.

    Args:
        config: sizes.
        ordinal: of the layer among CSA layers.
        capacity: tokens.
        pool: the cells.
        request: from `CellPool.open`.
        dtype: of everything.

    `pinned` says whether the host pool is page-locked, which copies to a GPU need to be fast; it
    is not on a machine without one, or where the system refuses.
    """

    def __init__(
        self,
        config: LSAConfig,
        ordinal: int,
        capacity: int,
        pool: CellPool,
        request: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.ordinal, self.pool, self.request = ordinal, pool, request
        self.offloaded = False
        self.pinned = False
        self._keys: Float[Tensor, "1 rows d_idx"] | None = None  # all of a layer that votes
        super().__init__(config, "csa", 1, capacity, pool.device, dtype)

    def _make_pools(self, device: torch.device | str, dtype: torch.dtype) -> dict[str, Tensor]:
        """On the host; on the device only the index keys that the Memory Indexer reads."""
        host = super()._make_pools("cpu", dtype)
        if self.ordinal not in self.pool.keys:
            self._keys = torch.zeros_like(host["index_keys"], device=device)
        if torch.device(device).type == "cuda":
            host, self.pinned = _pin(host)
        return host

    def add_entries(self, **new: Float[Tensor, "b r _"]) -> None:
        start, n = self._n_entries, new["entries"].shape[1]
        for name, rows in new.items():
            self._pools[name][:, start : start + n] = rows
        if self._keys is not None:
            self._keys[:, start : start + n] = new["index_keys"]
        if self.offloaded:
            self._write({c: self.pool.add(self.request, c) for c in range(start, start + n)})
        self._n_entries = start + n

    def offload(self, copies: dict[int, int]) -> None:
        """From now on read cells only; first copy these chunks from the host into their cells."""
        self.offloaded = True
        self._write(copies)

    def _write(self, copies: dict[int, int]) -> None:
        if not copies:
            return
        chunks = torch.tensor(list(copies.keys()))
        cells = torch.tensor(list(copies.values()), device=self.pool.device)
        cells_of = {"entries": self.pool.entries[self.ordinal]}
        if self.ordinal in self.pool.keys:
            cells_of["index_keys"] = self.pool.keys[self.ordinal]
        for name, cell_rows in cells_of.items():
            cell_rows[cells] = self._pools[name][0, chunks].to(self.pool.device)

    def index_keys(self) -> Float[Tensor, "b r d_idx"]:
        """All index keys of a layer that votes; they are on the device.

        Raises:
            ValueError: a layer that does not vote has them on the host.
        """
        if self._keys is None:
            raise ValueError(
                f"CSA layer {self.ordinal} is not among memory_layers="
                f"{self.config.memory_layers}: its index keys are not all on the device."
            )
        return self._keys[:, : self._n_entries]

    def readable(self) -> Readable:
        device = self.pool.device
        if not self.offloaded:
            ids = torch.arange(self._n_entries, device=device)[None]
            parts = [part[:, : self._n_entries].to(device) for part in self._pools.values()]
            return Readable(*parts, ids, torch.ones_like(ids, dtype=torch.bool))
        ids, cells = self.pool.cells(self.request)
        if self._keys is None:
            keys = self.pool.keys[self.ordinal][cells][None]
        else:
            keys = self._keys[:, ids]
        entries = self.pool.entries[self.ordinal][cells][None]
        ids = ids[None]
        return Readable(entries, keys, ids, torch.ones_like(ids, dtype=torch.bool))

    def confine(self, resident: Bool[Tensor, "b chunks"] | None) -> None:
        """Not here: a pool says what is resident."""
        raise ValueError("this cache moves its entries: use CellPool.place and offload.")

    def crop(self, length: int) -> None:
        super().crop(length)
        if self.offloaded:
            self.pool.forget(self.request, self._n_entries)
        if length == 0:
            self.offloaded = False

    def reorder(self, batch_index: Int[Tensor, " b"]) -> None:
        """Not here: a request is one row."""
        raise ValueError("a request has one row, which cannot change places: open another one.")

    def nbytes(self) -> dict[str, int]:
        """Bytes on the device, by category; reserve cells are the pool's, and in no request's."""
        total = {name: n for name, n in super().nbytes().items() if name != "entries"}
        n = len(self.pool.table(self.request)) if self.offloaded else 0
        cell = self.pool.entries[self.ordinal]
        total["entries"] = n * cell.shape[1] * cell.element_size()
        rows, width = (n if self._keys is None else self._n_entries), self.config.d_index
        total["index_keys"] = rows * width * cell.element_size()
        return total

    def host_nbytes(self) -> int:
        """Bytes of the copy on the host."""
        used = (part[:, : self._n_entries] for part in self._pools.values())
        return sum(part.numel() * part.element_size() for part in used)


def _pin(host: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The same in page-locked memory, or as it was where the system refuses."""
    try:
        return {name: part.pin_memory() for name, part in host.items()}, True
    except RuntimeError:
        return host, False


@dataclass(frozen=True, eq=False)
class Cycle:
    """What one trigger did."""

    step: int  # decode steps before it
    logits: Float[Tensor, "layers chunks"]  # of the Memory Indexer
    asked: Bool[Tensor, " chunks"]  # what it asked for
    resident: Bool[Tensor, " chunks"]  # what is resident from here on, as far as it exists
    fetched: int  # chunks copied to the device; 0 where nothing moves
    moved_bytes: int  # of these, in all layers
    refetched: int  # of these, chunks that were resident at an earlier trigger
    full: bool  # whether the request has fallen back to full attention


class LookaheadDecoding:
    """One request: prefill, then decoding with a resident set that is chosen every few steps.

    Args:
        decoder: made by `attention.lsa_decoder`.
        indexers: of its target layers.
        capacity: tokens, prompt and text.
        pool: cells that entries move into; None to mask what is not resident.
        rule, size: which chunks a trigger asks for, as in `selection.resident_sets`.
        lag: cycles by which a decision is applied late, 0 or 1.
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
        rule: Rule = "threshold",
        size: int | None = None,
        lag: int = 0,
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
        if lag not in (0, 1):
            raise ValueError(f"lag={lag} must be 0 or 1 cycles.")
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
        if shadow and pool is not None:
            raise ValueError(
                "shadow=True needs all index keys on the device: decode without a pool, which "
                "gives the same tokens."
            )
        self.full_limit, self.choose, self.shadow = full_limit, choose, shadow
        self.misses: list[list[int]] = []  # by step, then by CSA layer
        self.request = None if pool is None else pool.open()
        self.cache = self._make_cache(capacity)
        self.tokens: list[int] = []
        self.cycles: list[Cycle] = []
        self.full = False
        self._steps = 0  # decode steps taken
        self._unread = False  # whether the last of the tokens has not been read yet
        self._next: Tensor | None = None  # [1, v] logits of the next token
        self._hidden: dict[int, Float[Tensor, "1 d_model"]] = {}  # of the last token read
        self._late: Bool[Tensor, " chunks"] | None = None  # a decision not yet applied
        self._prompt_chunks = 0

    def _make_cache(self, capacity: int) -> DecoderCache:
        weight = self.decoder.embedding.weight
        caches, ordinal = [], 0
        for layer in self.decoder.layers:
            if layer.attention.kind == "csa" and self.pool is not None:
                caches.append(
                    CellCache(self.config, ordinal, capacity, self.pool, self.request, weight.dtype)
                )
            else:
                caches.append(layer.attention.make_cache(1, capacity, weight.device, weight.dtype))
            ordinal += layer.attention.kind == "csa"
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
        """
        if self._next is None:
            raise ValueError("no prompt was read: call prefill first.")
        if (
            self._steps % self.config.lookahead == 0
            and len(self.cycles) * (self.config.lookahead) == self._steps
        ):
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
        if self.pool is not None:
            self.pool.release(self.request)

    # ------------------------------------------------------------------------- a trigger

    def _trigger(self) -> None:
        caches, config = self.csa_caches, self.config
        closed = caches[0].n_entries
        logits = self._logits()
        always = always_resident(closed, closed, config, decoded_from=self._prompt_chunks)
        always = always.to(logits.device)
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
        if self.sticky and self.cycles:
            resident = resident | _longer(self.cycles[-1].resident, closed, asked.device)
        evictable = int((~always).sum())
        share = int((served & ~always).sum()) / evictable if evictable else 0.0
        full = self.full or (self.full_limit is not None and share > self.full_limit)
        resident = resident | full
        copies = self._apply(resident)
        # From here on nothing can fail.
        self.full, self._late = full, asked
        earlier = torch.zeros(closed, dtype=torch.bool)
        for cycle in self.cycles:
            earlier[: len(cycle.resident)] |= cycle.resident.cpu()
        self.cycles.append(
            Cycle(
                step=self._steps,
                logits=logits,
                asked=asked,
                resident=resident,
                fetched=len(copies),
                moved_bytes=len(copies) * (0 if self.pool is None else self.pool.cell_bytes),
                refetched=sum(bool(earlier[chunk]) for chunk in copies),
                full=full,
            )
        )

    def _logits(self) -> Float[Tensor, "layers chunks"]:
        config, caches = self.config, self.csa_caches
        hidden = torch.stack([self._hidden[config.csa_layers[i]] for i in config.memory_layers])
        keys = torch.stack([caches[i].index_keys()[0] for i in config.memory_layers])
        positions = torch.tensor([self.cache.length - 1], device=hidden.device)
        return self.indexers(hidden, positions, keys)[0]

    def _apply(self, resident: Bool[Tensor, " chunks"]) -> dict[int, int]:
        """Make it so in all CSA layers; returns the chunks copied and their cells."""
        if self.pool is None:
            for cache in self.csa_caches:
                cache.confine(resident[None])
            return {}
        copies = self.pool.place(self.request, resident.nonzero().flatten().tolist())
        for cache in self.csa_caches:
            cache.offload(copies)
        return copies


def _longer(
    chosen: Bool[Tensor, " former"] | None, n: int, device: torch.device
) -> Bool[Tensor, " n"]:
    """An earlier decision about the n chunks that there are now; nothing where there was none."""
    longer = torch.zeros(n, dtype=torch.bool, device=device)
    if chosen is not None:
        longer[: len(chosen)] = chosen
    return longer
