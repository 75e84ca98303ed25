"""The same idea on a real model: SmolLM2 stays as it is, and its own KV cache leaves the GPU.

    model = load_smollm2()
    trace = harvest(model.decoder, tokens, smollm_config(), n_prompt=1024)
    indexers = train_indexers([trace.document(stride=1)], trace.config).indexers

What this arm has of the paper: a Memory Indexer per target layer that reads this layer's attention
input (Eqs. 1-4, with a learned bias), one resident set for all layers, triggers every `lookahead`
steps, the label factory (top-k softmax, top-p, votes, window union), focal loss with drawn
negatives, a tail that is always resident. What it has not: CSA and HCA. No compression is invented
for attention: a chunk is 16 tokens of the model's own keys and values, all of which are read when
it is resident, and there is no second, native selection inside the resident set. There are no
positions in the index, and no fp8.

Differs: the index keys are made here, since a dense model has none. A chunk's is the mean of its
tokens' keys before RoPE, the KV heads side by side; beside it stands the mean of the tokens before
it, as a CSA entry pools the chunk before its own too: what matches the present is followed by what
is needed next.
Differs: the first chunk is always resident. SmolLM2 rests most of its attention on the first
token (an attention sink); the paper's model has a learned logit for that.
Differs: labels come from the attention itself, averaged over a layer's heads, and only the layers
vote that look back when a passage returns (`VOTERS`). The others spread their attention over
everything: their nucleus would make all of the history golden. The sink takes part in no nucleus;
the tail does, as in the paper, and is dropped afterwards.

Source: arXiv:2606.09079v2, sections 2.1, 2.2 and 2.4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder, DecoderCache, Probe, Seen, block_mass
from intuitive.common.runtime import check, never
from intuitive.common.weights import load_weights, save_weights

from .config import LSAConfig
from .indexer import MemoryIndexers
from .indexer_training import Document
from .labels import golden_chunks

N_LAYERS = 30
VOTERS = (7, 14, 15, 17, 18, 20, 21, 23, 24)  # layers that look back where passages return
TARGETS = (18, 20, 23)  # layers with a Memory Indexer
BEFORE = 64  # tokens before a chunk that its index key takes in
WEIGHTS = Path(__file__).parent / "weights" / "smollm2-135m-memory.safetensors"


def smollm_config(
    *, targets: tuple[int, ...] = TARGETS, chunk_size: int = 16, **changes: object
) -> LSAConfig:
    """SmolLM2-135M's sizes in the words of LSA: every layer counts as one that fetches entries.

    An "entry" is all keys and values of a chunk's tokens in one layer, laid side by side, so that
    `cost` counts the right bytes.

    Args:
        targets: layers with a Memory Indexer, counted among all 30.
        chunk_size: tokens.
        changes: other fields of `LSAConfig`, such as `tail` in tokens or `lookahead` in steps.
    """
    kv_heads, d_head = 3, 64
    fields = {
        "d_model": 576,
        "layers": ("csa",) * N_LAYERS,
        "n_heads": 9,
        "o_groups": 1,
        "d_head": 2 * kv_heads * d_head * chunk_size,
        "d_rope": 0,
        "layout": "bfloat16",
        "d_index": 2 * kv_heads * d_head,
        "memory_layers": targets,
        "memory_rank": 64,
        "n_memory_heads": 8,
        "tail": 256,
        "sink": 1,
        "page_size": 4,
        "label_top_k": 16,
        "label_top_p": 0.6,
        "label_votes": 4,
    }
    return LSAConfig(chunk_size=chunk_size, **(fields | changes))


def index_keys(
    keys: Float[Tensor, "n d_kv"], chunk_size: int, *, before: int
) -> Float[Tensor, "chunks two_d_kv"]:
    """One index key per whole chunk: the mean of its own tokens' keys, and of those before it.

    Args:
        keys: of all tokens, before RoPE, the KV heads side by side.
        chunk_size: tokens per chunk.
        before: tokens before a chunk that the second mean takes in; fewer at the text's beginning,
            and zeros for the first chunk.
    """
    n_chunks = len(keys) // chunk_size
    sums = torch.zeros(len(keys) + 1, keys.shape[1], dtype=torch.float64, device=keys.device)
    torch.cumsum(keys.double(), 0, out=sums[1:])
    first = torch.arange(n_chunks, device=keys.device) * chunk_size
    own = (sums[first + chunk_size] - sums[first]) / chunk_size
    begin = (first - before).clamp(min=0)
    earlier = (sums[first] - sums[begin]) / (first - begin).clamp(min=1)[:, None]
    return torch.cat((own, earlier), -1).to(keys.dtype)


def page_bounds(
    q: Float[Tensor, "n h_q d"], k: Float[Tensor, "m h_kv d"], chunk_size: int
) -> Float[Tensor, "n h_q pages"]:
    """Quest's upper bound of any attention score of a query with the keys of a whole chunk.

    Source: Tang et al. 2024, arXiv:2406.10774, section 3.2.
    """
    n_chunks, group = len(k) // chunk_size, q.shape[1] // k.shape[1]
    pages = k[: n_chunks * chunk_size].unflatten(0, (n_chunks, chunk_size)).float()
    low, high = (
        part.repeat_interleave(group, 1) for part in (pages.amin(1), pages.amax(1))
    )  # [pages, h_q, d]
    q = q.float() * q.shape[-1] ** -0.5
    return torch.einsum("nhd,phd->nhp", q.clamp(min=0), high) + torch.einsum(
        "nhd,phd->nhp", q.clamp(max=0), low
    )


# --------------------------------------------------------------------------------- the harvest


@dataclass(frozen=True, eq=False)
class SmolTrace:
    """What SmolLM2's layers did in the decoded part of one text, with everything to be read.

    The last chunk may still be open at the last step; it is among `chunks` nevertheless.
    """

    config: LSAConfig
    hidden: Float[Tensor, "layers steps d_model"]  # target layers; of the token before each step
    positions: Int[Tensor, " steps"]  # of the token before each step
    keys: Float[Tensor, "layers closed_chunks d_idx"]  # target layers
    closed: Int[Tensor, " steps"]  # chunks that exist before each step
    golden: Bool[Tensor, "steps chunks"]  # chunks that enough voters need; the sink never is
    mass: Float[Tensor, "steps chunks"]  # share of the attention, mean over heads and layers
    native: Float[Tensor, "steps chunks"]  # mean over heads, the greatest of all layers
    bounds: Float[Tensor, "steps chunks"]  # Quest's, as a softmax over pages, likewise

    @property
    def n_chunks(self) -> int:
        """Chunks that are whole before the last step."""
        return int(self.closed[-1])

    def document(self, *, stride: int | None = None, decoding: bool = False) -> Document:
        """All that the training of Memory Indexers needs; see `indexer_training.Document.of`."""
        n = self.keys.shape[1]
        golden = torch.nn.functional.pad(self.golden, (0, max(0, n - self.golden.shape[1])))
        return Document.of(
            self.hidden,
            self.positions,
            self.keys,
            golden[:, :n],
            self.closed,
            self.config,
            stride=stride,
            decoding=decoding,
        )


class Watcher:
    """Gathers a `SmolTrace` while a decoder reads, in one call or token by token.

    First the prompt is read with `prompt`, then any number of calls with `steps` follow, each with
    the same cache.

    Args:
        decoder: SmolLM2, or one that only masks what it reads.
        config: from `smollm_config`.
        capacity: tokens of the whole text.

    Raises:
        ValueError: a decoder of another size than the config's.
    """

    def __init__(self, decoder: Decoder, config: LSAConfig, capacity: int) -> None:
        if (decoder.config.n_layers, decoder.config.d_model) != (
            len(config.layers),
            config.d_model,
        ):
            raise ValueError(
                f"the decoder has {decoder.config.n_layers} layers of {decoder.config.d_model} "
                f"channels, the config {len(config.layers)} of {config.d_model}."
            )
        self.decoder, self.config, self.capacity = decoder, config, capacity
        self.cache: DecoderCache = decoder.make_cache(1, capacity)
        self._hidden: dict[int, list[Tensor]] = {layer: [] for layer in config.memory_layers}
        self._keys: dict[int, list[Tensor]] = {layer: [] for layer in config.memory_layers}
        self._closed: list[Tensor] = []
        self._parts: dict[str, list[Tensor]] = {
            name: [] for name in ("golden", "mass", "native", "bounds")
        }
        self._n_prompt = 0

    @torch.no_grad()
    def prompt(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, " d_model"]:
        """Read the prompt; returns the stream of its last token, before the final norm."""
        probe = Probe(self.config.memory_layers, self._remember)
        stream = self.decoder.hidden(tokens[None], cache=self.cache, probe=probe)
        for layer, parts in self._hidden.items():
            self._hidden[layer] = [parts[0][-1:]]
        self._n_prompt = len(tokens)
        return stream[0, -1]

    @torch.no_grad()
    def steps(
        self, tokens: Int[Tensor, " steps"], *, stale: Callable[[], bool] = never
    ) -> Float[Tensor, "steps d_model"]:
        """Read tokens, each of which is a decode step; returns their stream."""
        size, first = self.config.chunk_size, self.cache.length
        closed = torch.arange(first, first + len(tokens), device=tokens.device) // size
        n_chunks = -(-(first + len(tokens)) // size)
        there = torch.arange(n_chunks, device=tokens.device) < closed[:, None]
        mean = torch.zeros(len(tokens), n_chunks, device=tokens.device, dtype=torch.float32)
        native, bounds, shares = mean.clone(), mean.clone(), []

        def receive(seen: Seen) -> None:
            check(stale)
            self._remember(seen)
            share = block_mass(seen.q[0], seen.k[0], block_size=size).mean(1)
            mean.add_(share, alpha=1 / N_LAYERS)
            torch.maximum(native, share, out=native)
            if seen.layer in VOTERS:
                shares.append(share)
            bound = page_bounds(seen.q[0], seen.k[0], size)
            bound = bound.masked_fill(~there[:, None, : bound.shape[-1]], -torch.inf)
            bound[..., : self.config.sink] = -torch.inf
            likely = bound.softmax(-1).nan_to_num(0.0).mean(1)
            bounds[:, : likely.shape[1]].copy_(torch.maximum(bounds[:, : likely.shape[1]], likely))

        stream = self.decoder.hidden(
            tokens[None], cache=self.cache, probe=Probe(tuple(range(N_LAYERS)), receive)
        )
        logits = torch.stack(shares, 1).log()  # [steps, voters, chunks]; -inf: nothing there
        logits[..., : self.config.sink] = -torch.inf
        golden = golden_chunks(
            logits,
            top_k=self.config.label_top_k,
            top_p=self.config.label_top_p,
            votes=self.config.label_votes,
        )
        self._closed.append(closed)
        for name, part in zip(
            self._parts, (golden & there, mean, native, bounds), strict=True
        ):
            self._parts[name].append(part)
        return stream[0]

    def _remember(self, seen: Seen) -> None:
        if seen.layer in self._hidden:
            hidden = seen.hidden[0]
            self._hidden[seen.layer].append(hidden)
            self._keys[seen.layer].append(self.decoder.layers[seen.layer].attention.w_k(hidden))

    @torch.no_grad()
    def ask(self, indexers: MemoryIndexers) -> Float[Tensor, "layers chunks"]:
        """Logits of the chunks that exist now, from the last token read."""
        last = torch.stack([parts[-1][-1:] for parts in self._hidden.values()])
        position = torch.tensor([self.cache.length - 1], device=last.device)
        return indexers(last, position, self.index_keys())[0]

    def index_keys(self) -> Float[Tensor, "layers chunks d_idx"]:
        """Index keys of all whole chunks so far, of the target layers."""
        return torch.stack(
            [
                index_keys(torch.cat(parts), self.config.chunk_size, before=BEFORE)
                for parts in self._keys.values()
            ]
        )

    def trace(self) -> SmolTrace:
        """Everything gathered so far.

        Raises:
            ValueError: no step has been taken.
        """
        if not self._closed:
            raise ValueError("no step was read: let `steps` follow `prompt`.")
        closed = torch.cat(self._closed)
        width = max(part.shape[1] for part in self._parts["mass"])
        padded = {
            name: torch.cat(
                [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
            )
            for name, parts in self._parts.items()
        }
        n = len(closed)
        return SmolTrace(
            config=self.config,
            hidden=torch.stack([torch.cat(parts)[:n] for parts in self._hidden.values()]),
            positions=torch.arange(self._n_prompt - 1, self._n_prompt - 1 + n).to(closed.device),
            keys=self.index_keys(),
            closed=closed,
            **padded,
        )


def harvest(
    decoder: Decoder,
    tokens: Int[Tensor, " n"],
    config: LSAConfig,
    *,
    n_prompt: int,
    stale: Callable[[], bool] = never,
) -> SmolTrace:
    """Read a text with everything resident and keep what the layers did from `n_prompt` on.

    Args:
        decoder: SmolLM2.
        tokens: the text, on the decoder's device.
        config: from `smollm_config`.
        n_prompt: tokens that count as the prompt; each of the others is a decode step.
        stale: turns true when nobody waits; asked before every layer.

    Raises:
        ValueError: no token left to decode, or a decoder of another size.
        Cancelled: `stale()` became true.
    """
    why = "the others are decode steps"
    n_prompt = whole("n_prompt", n_prompt, low=1, high=len(tokens) - 1, why=why)
    watcher = Watcher(decoder, config, len(tokens))
    watcher.prompt(tokens[:n_prompt])
    watcher.steps(tokens[n_prompt:], stale=stale)
    return watcher.trace()


# ------------------------------------------------------------------------- trained indexers


def save_indexers(path: str | Path, indexers: MemoryIndexers, made: dict[str, str]) -> Path:
    """Write trained Memory Indexers in half precision, and the settings that they go with."""
    config = indexers.config
    about = {
        "targets": " ".join(map(str, config.memory_layers)),
        "heads": str(config.n_memory_heads),
        "lookahead": str(config.lookahead),
        "chunk_size": str(config.chunk_size),
        "tail": str(config.tail),
    }
    halves = {name: weight.half() for name, weight in indexers.state_dict().items()}
    return save_weights(path, halves, made | about)


def load_indexers(path: str | Path = WEIGHTS) -> MemoryIndexers:
    """Read the Memory Indexers of SmolLM2, in float32; by default those of the package.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds something else.
    """
    weights, made = load_weights(path)
    if "targets" not in made:
        raise ValueError(f"{path} holds no Memory Indexers of SmolLM2: train them anew.")
    config = smollm_config(
        targets=tuple(int(layer) for layer in made["targets"].split()),
        n_memory_heads=int(made["heads"]),
        memory_rank=weights["layers.0.w_dq"].shape[0],
        d_index=weights["layers.0.w_uq"].shape[0] // int(made["heads"]),
        lookahead=int(made["lookahead"]),
        chunk_size=int(made["chunk_size"]),
        tail=int(made["tail"]),
    )
    indexers = MemoryIndexers(config)
    indexers.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return indexers.requires_grad_(False)


def halved(indexers: MemoryIndexers) -> MemoryIndexers:
    """The same after a way through half precision, as in the shipped file."""
    with torch.no_grad():
        for weight in indexers.parameters():
            weight.copy_(weight.half().float())
    return indexers

