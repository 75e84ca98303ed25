"""The same idea on a real model: SmolLM2 stays as it is, and its own KV cache leaves the GPU.

    model = load_smollm2()
    trace = harvest(model.decoder, tokens, smollm_config(), n_prompt=1024)
    centre = trace.keys.mean(1)  # better: of many texts
    training = train_indexers([trace.document(centre)], trace.config)
    indexers = SmolIndexers.of(training.indexers, centre)

What this arm has of the paper: a Memory Indexer per target layer that reads this layer's attention
input (Eqs. 1-4, with a learned bias), one resident set for all layers, triggers every `lookahead`
steps, the label factory (top-k softmax, top-p, votes, window union), focal loss with drawn
negatives, a tail that is always resident. What it has not: CSA and HCA. No compression is invented
for attention: a chunk is 16 tokens of the model's own keys and values, all of which are read when
it is resident, and there is no second, native selection inside the resident set. There are no
positions in the index, and no fp8.

Differs: the index keys are made here, since a dense model has none. A chunk's own key is the mean
of its tokens' keys before RoPE, the KV heads side by side, measured from the mean of all texts and
brought to length 1. It is scored together with the keys of the four chunks before it, laid side by
side, as a CSA entry pools the chunk before its own too: what follows a match is needed next.
Differs: training starts from the layer's own key projection instead of random weights
(`first_indexers`): there are a few hundred texts, not ten thousand.
That start is most of what the shipped indexers know. On texts kept back, 400 steps raise golden
recall from 0.437 to 0.439, 0.441 and 0.450 by seed, while the loss falls to 25 to 29%: what they
learn is how sure to be, rather than what to look for. From random weights as many steps reach
0.333.
Differs: the first chunk is always resident. SmolLM2 rests most of its attention on the first
token (an attention sink); the paper's model has a learned logit for that.
Differs: an indexer reads the mean of the layer's attention inputs over the newest 16 tokens. One
token's state of so small a model says too little about where in the text it is.
Differs: labels come from the attention itself, averaged over a layer's heads, and only the layers
vote that look back most when a passage returns (`VOTERS`). The others spread their attention over
everything: their nucleus would make all of the history golden. The sink takes part in no nucleus;
the tail does, as in the paper, and is dropped afterwards.

Source: arXiv:2606.09079v2, sections 2.1, 2.2 and 2.4.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pad

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder
from intuitive.common.weights import load_weights, save_weights

from .config import LSAConfig
from .indexer import MemoryIndexers
from .labels import golden_chunks

N_LAYERS = 30
VOTERS = (14, 17, 18, 20, 23)  # layers that look back most where passages return
TARGETS = (18, 20, 23)  # layers with a Memory Indexer
D_KV = 192  # channels of the three KV heads
BEFORE = 64  # tokens before a chunk whose keys are scored with its own
NEWEST = 16  # tokens whose mean an indexer reads
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
    chunk_size = whole("chunk_size", chunk_size, low=1)
    places = 1 + BEFORE // chunk_size
    fields = {
        "d_model": 576,
        "layers": ("csa",) * N_LAYERS,
        "n_heads": 9,
        "o_groups": 1,
        "d_head": 2 * D_KV * chunk_size,
        "d_rope": 0,
        "layout": "bfloat16",
        "d_index": places * D_KV,
        "memory_layers": targets,
        "memory_rank": 64,
        "n_memory_heads": places,
        "tail": 256,
        "sink": 1,
        "page_size": 4,
        "label_top_k": 16,
        "label_top_p": 0.6,
        "label_votes": 4,  # of the five voters
    }
    return LSAConfig(chunk_size=chunk_size, **(fields | changes))


def index_keys(keys: Float[Tensor, "n d_kv"], chunk_size: int) -> Float[Tensor, "chunks d_kv"]:
    """Each whole chunk's own index key: the mean of its tokens' keys.

    Args:
        keys: of all tokens, before RoPE, the KV heads side by side.
        chunk_size: tokens per chunk.
    """
    n_chunks = len(keys) // chunk_size
    return keys[: n_chunks * chunk_size].unflatten(0, (n_chunks, chunk_size)).mean(1)


def side_by_side(
    own: Float[Tensor, "layers chunks d_kv"], centre: Float[Tensor, "layers d_kv"], places: int
) -> Float[Tensor, "layers chunks d_idx"]:
    """What an indexer scores: a chunk's own key and those of the `places - 1` chunks before it.

    Args:
        own: from `index_keys`.
        centre: mean of such keys, from which they are measured before they get length 1.
        places: keys side by side, the chunk's own first; zeros before the text's beginning.
    """
    n = own.shape[1]
    unit = normalize(own - centre[:, None], dim=-1)
    return torch.cat([pad(unit, (0, 0, back, 0))[:, :n] for back in range(places)], -1)


def newest_mean(hidden: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
    """At each token the mean over it and the tokens before it, `NEWEST` in all or as there are."""
    n = len(hidden)
    sums = torch.zeros(n + 1, hidden.shape[1], dtype=torch.float64, device=hidden.device)
    torch.cumsum(hidden.double(), 0, out=sums[1:])
    end = torch.arange(1, n + 1, device=hidden.device)
    begin = (end - NEWEST).clamp(min=0)
    return ((sums[end] - sums[begin]) / (end - begin)[:, None]).to(hidden.dtype)


def golden_of(
    shares: Sequence[Float[Tensor, "steps chunks"]], config: LSAConfig
) -> Bool[Tensor, "steps chunks"]:
    """Golden chunks from each voter's shares of attention on all chunks, the tail among them."""
    logits = torch.stack(list(shares), 1).log()  # [steps, voters, chunks]; -inf: nothing there
    logits[..., : config.sink] = -torch.inf
    return golden_chunks(
        logits, top_k=config.label_top_k, top_p=config.label_top_p, votes=config.label_votes
    )


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


# ------------------------------------------------------------------------- trained indexers


class SmolIndexers(MemoryIndexers):
    """Memory Indexers that take each chunk's own index key and lay them side by side themselves.

    Args:
        config: from `smollm_config`.
        centre: mean index key of each target layer over the training texts.
        generator: of the first weights.
    """

    def __init__(
        self,
        config: LSAConfig,
        centre: Float[Tensor, "layers d_kv"],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config, generator=generator)
        self.register_buffer("centre", centre.clone())

    def forward(
        self,
        hidden: Float[Tensor, "layers n d_model"],
        positions: Int[Tensor, " n"],
        keys: Float[Tensor, "layers chunks d_kv"],
    ) -> Float[Tensor, "n layers chunks"]:
        places = self.config.d_index // D_KV
        return super().forward(hidden, positions, side_by_side(keys, self.centre, places))

    @classmethod
    def of(cls, trained: MemoryIndexers, centre: Float[Tensor, "layers d_kv"]) -> "SmolIndexers":
        """Trained indexers with their centre, rounded to half precision as in the file."""
        made = cls(trained.config, centre.half().float()).to(centre.device)
        rounded = {name: weight.half().float() for name, weight in trained.state_dict().items()}
        made.load_state_dict(rounded, strict=False)
        return made.requires_grad_(False)


@torch.no_grad()
def first_indexers(
    decoder: Decoder,
    config: LSAConfig,
    hidden: Sequence[Float[Tensor, "n d_model"]],
    *,
    sharpness: float = 10.0,
    bias: float = -5.0,
) -> MemoryIndexers:
    """Indexers to start training from: they look for chunks like the newest tokens.

    The queries are the layer's own keys of the newest tokens, in the `memory_rank` directions in
    which these vary most, each brought to the same variance. Head i compares them with the i-th of
    the keys side by side, so that a chunk scores high if it, or one shortly before it, is alike.

    Args:
        decoder: SmolLM2.
        config: with as many heads as there are keys side by side, at least.
        hidden: a sample of what each target layer's indexer reads.
        sharpness: weight of a head at perfect likeness.
        bias: logit of a chunk that is like nothing.

    Raises:
        ValueError: fewer heads than keys side by side.
    """
    places, rank, heads = config.d_index // D_KV, config.memory_rank, config.n_memory_heads
    if heads < places:
        raise ValueError(f"n_memory_heads={heads} must be at least {places}, one for each place.")
    indexers = MemoryIndexers(config).to(hidden[0].device)
    for layer, number, sample in zip(indexers.layers, config.memory_layers, hidden, strict=True):
        mean = sample.float().mean(0)
        w_k = decoder.layers[number].attention.w_k.weight.float()
        w_k = w_k - torch.outer(w_k @ mean, mean) / mean.square().sum()  # blind to the mean
        keys = sample.float() @ w_k.T
        variance, axes = torch.linalg.eigh((keys.T @ keys / len(keys)).double())
        white = (axes[:, -rank:] / variance[-rank:].sqrt()).float()  # [d_kv, rank]
        layer.w_dq.copy_(white.T @ w_k)
        up = torch.zeros(heads, places, D_KV, rank, device=mean.device, dtype=torch.float32)
        up[range(places), range(places)] = white * (white.square().sum() / rank) ** -0.5 / rank**0.5
        layer.w_uq.copy_(up.flatten(0, 2))
        even = mean / mean.square().sum() * sharpness * (heads * config.d_index) ** 0.5
        layer.w_w.copy_(even.expand(heads, -1))
        layer.bias.fill_(bias)
    return indexers


def save_indexers(path: str | Path, indexers: SmolIndexers, made: dict[str, str]) -> Path:
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


def load_indexers(path: str | Path = WEIGHTS) -> SmolIndexers:
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
    indexers = SmolIndexers(config, weights["centre"].float())
    indexers.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return indexers.requires_grad_(False)
