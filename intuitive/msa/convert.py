"""A dense model made sparse: one Index Branch per layer learns where the frozen layer looks.

    (training,) = train_indices(model.decoder, documents, ConversionConfig(), seeds=[0])
    sparse = convert(model.decoder, MSAConfig.smollm(), training.index)
    generate(sparse, prompt, max_new_tokens=40)

Nothing of the model itself is trained. `train_indices` lets the model read text; every layer shows
the input, queries and keys of its attention to a probe, and the KL to that attention trains the
layer's Index Branch. First comes warm-up: the model reads densely, and the KL covers the whole
causal row. Then the sparse phase: the model reads through its index, and the KL covers the
selected tokens. `selection_quality` and `token_losses` say what the conversion costs.

Source: arXiv:2606.13392v2, section 3.2 and 5.1 (MSA-CPT).
Differs: the paper goes on training the model for 400B tokens, so that it adapts to its index; here
it stays as it was. And a step compares a stretch of each layer's queries, drawn at random, not all
of them: neighbours teach much the same, and the average over draws is the paper's loss.
"""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from intuitive.common.decoder import Decoder, DecoderConfig, DenseAttention, Probe, Seen
from intuitive.common.runtime import check, never, seeded
from intuitive.common.weights import load_weights, save_weights
from intuitive.kernels import Impl, block_scores, block_sparse_attention, select_blocks

from .alignment import causal_support, choosing, index_kl, teacher_probabilities
from .config import MSAConfig
from .model import MSAAttention
from .reference import (
    SELECTORS,
    block_recall,
    block_sparse_mask,
    group_overlap,
    main_scores,
    mass_captured,
    selector_scores,
    token_scores,
)

INDEX_PART = ".index_"  # in the names of an Index Branch's weights, and of no others
WEIGHTS = Path(__file__).parent / "weights" / "smollm2-135m-index.safetensors"
WEIGHTS_COMMAND = "python benchmarks/msa_conversion.py --device cuda"

Documents = Sequence[Sequence[int] | Int[Tensor, " _"]]

# --------------------------------------------------------------------------------- the index


@dataclass(frozen=True, eq=False)
class TrainedIndex:
    """The Index Branches of some of a decoder's layers."""

    weights: dict[str, Tensor]  # by their names in a converted decoder
    made: dict[str, str]  # how they came about, in words

    @classmethod
    def of(cls, decoder: Decoder, made: Mapping[str, str]) -> "TrainedIndex":
        """The Index Branches of a converted decoder; the tensors are copies."""
        state = decoder.state_dict()
        weights = {name: state[name].clone() for name in state if INDEX_PART in name}
        return cls(weights, dict(made))

    @functools.cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers that have an Index Branch, ascending."""
        return tuple(sorted({int(name.split(".")[1]) for name in self.weights}))

    @property
    def d_index(self) -> int:
        """Channels of an index head."""
        return self.weights[f"layers.{self.layers[0]}.attention.index_w_k.weight"].shape[0]


def save_index(path: str | Path, index: TrainedIndex) -> Path:
    """Write an index in half precision, as one safetensors file.

    Raises:
        ValueError: the path does not end in .safetensors.
    """
    halves = {name: weight.to(torch.float16) for name, weight in index.weights.items()}
    return save_weights(path, halves, index.made)


def load_index(path: str | Path | None = None) -> TrainedIndex:
    """Read an index, in float32; by default the one for SmolLM2-135M that comes with the package.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds other weights.
    """
    if path is None and not WEIGHTS.is_file():
        raise FileNotFoundError(
            f"This copy of the package has no trained index ({WEIGHTS.name}): make it with "
            f"`{WEIGHTS_COMMAND}`, or use a selector that needs no training."
        )
    path = WEIGHTS if path is None else Path(path)
    weights, made = load_weights(path)
    strange = [name for name in weights if INDEX_PART not in name]
    if strange or not weights:
        raise ValueError(
            f"{path} holds {strange[:3] or 'nothing'}, which is no part of an Index Branch: give "
            "a file that save_index wrote."
        )
    return TrainedIndex({name: weight.float() for name, weight in weights.items()}, made)


@functools.lru_cache(maxsize=1)
def shipped_index() -> TrainedIndex | None:
    """The index that comes with the package, or None where its file is absent."""
    return load_index() if WEIGHTS.is_file() else None


# ----------------------------------------------------------------------------- the conversion


class SelectorAttention(DenseAttention):
    """Attention over the key blocks that a selector without training picks.

    It reads through the same kernel as MSA, so that only the choice differs. The selectors look at
    every main score or at every key, so this saves nothing; it is for comparison.

    Args:
        config: the decoder.
        msa: block size and budget.
        selector: one of `reference.SELECTORS`.
        impl: which kernels.

    Raises:
        ValueError: there is no selector of that name.
    """

    def __init__(
        self, config: DecoderConfig, msa: MSAConfig, selector: str, *, impl: Impl = "auto"
    ) -> None:
        if selector not in SELECTORS:
            raise ValueError(
                f"selector={selector!r} is unknown; choose one of {', '.join(SELECTORS)}."
            )
        super().__init__(config)
        self.msa, self.selector, self.impl = msa, selector, impl

    def attend(
        self,
        q: Float[Tensor, "b n h_q d"],
        k: Float[Tensor, "b m h_kv d"],
        v: Float[Tensor, "b m h_kv d"],
    ) -> Float[Tensor, "b n h_q d"]:
        scores = torch.stack(
            [
                selector_scores(self.selector, *row, block_size=self.msa.block_size)
                for row in zip(q, k, strict=True)
            ]
        )
        block_idx = _select(scores, self.msa, self.impl)
        return block_sparse_attention(
            q, k, v, block_idx, block_size=self.msa.block_size, impl=self.impl
        )


def _select(
    scores: Float[Tensor, "b n h_kv n_blk"], msa: MSAConfig, impl: Impl = "auto"
) -> Int[Tensor, "b n h_kv n_sel"]:
    return select_blocks(
        scores.float(),
        n_selected=msa.n_selected,
        block_size=msa.block_size,
        n_local=msa.n_local,
        n_init=msa.n_init,
        impl=impl,
    )


def convert(
    decoder: Decoder,
    msa: MSAConfig,
    index: TrainedIndex | str | None,
    *,
    layers: Sequence[int] | None = None,
    sparse: bool = True,
    impl: Impl = "auto",
    generator: torch.Generator | None = None,
) -> Decoder:
    """A decoder that reads selected blocks only, in some or all layers.

    The given decoder stays as it is. The new one has modules of its own and shares every weight
    with it, so that it takes no more memory than its Index Branches; therefore move a decoder to
    its device and dtype before converting it, not after.

    Args:
        decoder: with `DenseAttention` in the layers to convert.
        msa: sizes; any block size and budget go with any trained index, which scores tokens.
        index: trained Index Branches; or the name of one of `reference.SELECTORS`, to select
            without any; or None for untrained ones.
        layers: which layers, counted from 0; by default those that the index has, else all.
        sparse: whether Index Branches are obeyed; False reads densely, as in warm-up.
        impl: which kernels.
        generator: draws untrained Index Branches.

    Raises:
        ValueError: a layer without dense attention or without a trained index, sizes that do not
            fit, or an unknown selector.
    """
    shared = {id(weight): weight for weight in decoder.parameters()}
    converted = copy.deepcopy(decoder, shared)
    trained = isinstance(index, TrainedIndex)
    if layers is None:
        layers = index.layers if trained else range(decoder.config.n_layers)
    if trained:
        _check_fit(index, layers, msa)
    for layer in layers:
        if not 0 <= layer < decoder.config.n_layers:
            raise ValueError(
                f"layers={list(layers)} must lie in [0, {decoder.config.n_layers}), the layers of "
                "this decoder."
            )
        dense = converted.layers[layer].attention
        if type(dense) is not DenseAttention:
            raise ValueError(
                f"layer {layer} has {type(dense).__name__}: convert the dense decoder instead."
            )
        if isinstance(index, str):
            with torch.device("meta"):  # as the dense layer's weights come next
                module = SelectorAttention(dense.config, msa, index, impl=impl)
            module.w_q, module.w_k, module.w_v, module.w_o = (
                dense.w_q, dense.w_k, dense.w_v, dense.w_o
            )  # fmt: skip
            module.train(dense.training)
        else:
            module = MSAAttention.from_dense(
                dense, msa, sparse=sparse, impl=impl, generator=generator
            )
            for weight in _index_weights(module):
                weight.requires_grad_(dense.w_q.weight.requires_grad)
        converted.exchange_attention(layer, module)
    if trained:
        wanted = {f"layers.{layer}" for layer in layers}
        weights = {
            name: weight
            for name, weight in index.weights.items()
            if name.partition(".attention.")[0] in wanted
        }
        converted.load_state_dict(weights, strict=False)
    return converted


def _index_weights(module: nn.Module) -> list[nn.Parameter]:
    return [weight for name, weight in module.named_parameters() if INDEX_PART in f".{name}"]


def _check_fit(index: TrainedIndex, layers: Sequence[int], msa: MSAConfig) -> None:
    """ValueError where an index lacks layers or has other sizes."""
    lacking = sorted(set(layers) - set(index.layers))
    if lacking:
        raise ValueError(
            f"the index has no Index Branch for layers {lacking}; it has {list(index.layers)}. "
            "Convert those only, or train the others."
        )
    rows = index.weights[f"layers.{index.layers[0]}.attention.index_w_q.weight"].shape[0]
    if (index.d_index, rows) != (msa.d_index, msa.n_kv_heads * msa.d_index):
        raise ValueError(
            f"the index has d_index={index.d_index} and {rows // index.d_index} query heads, the "
            f"config d_index={msa.d_index} and n_kv_heads={msa.n_kv_heads}: give both the same."
        )


# ------------------------------------------------------------------------------- the training


@dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """How Index Branches are trained."""

    msa: MSAConfig = field(default_factory=MSAConfig.smollm)
    layers: tuple[int, ...] | None = None  # None: all
    context: int = 4096  # tokens of a piece of text; one piece per step
    n_warmup: int = 120  # steps with the KL over the whole causal row
    n_sparse: int = 60  # then steps with the KL over the selected tokens
    learning_rate: float = 5e-3  # of AdamW, without weight decay
    n_ramp: int = 12  # steps over which the learning rate rises; it falls as a cosine after them
    n_queries: int = 512  # stretch of queries that one step compares in each layer

    def __post_init__(self) -> None:
        for name in ("context", "n_warmup", "n_ramp", "n_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.n_sparse < 0:
            raise ValueError(f"n_sparse={self.n_sparse} must not be negative.")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate={self.learning_rate} must lie between 0 and 1.")

    @property
    def n_steps(self) -> int:
        return self.n_warmup + self.n_sparse

    def rate(self, step: int) -> float:
        """Learning rate of one step, counted from 0."""
        ramp = min(1.0, (step + 1) / self.n_ramp)
        return self.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * step / self.n_steps))


@dataclass(frozen=True, eq=False)
class IndexTraining:
    """A trained index and how the KL went."""

    index: TrainedIndex
    warmed_up: TrainedIndex  # as it was when warm-up ended
    layers: tuple[int, ...]
    kl: list[list[float]]  # by step, then by layer, in nats
    n_warmup: int


def pieces_of(documents: Documents, context: int, *, shortest: int) -> list[Int[Tensor, " _"]]:
    """Every document cut into pieces of `context` tokens; a rest under `shortest` is left out."""
    pieces = []
    for document in documents:
        ids = torch.as_tensor(document, dtype=torch.int64)
        pieces += [part for part in ids.split(context) if len(part) >= shortest]
    return pieces


def train_indices(
    decoder: Decoder,
    documents: Documents,
    config: ConversionConfig,
    *,
    seeds: Sequence[int] = (0,),
    stale: Callable[[], bool] = never,
    progress: Callable[[int, list[float]], None] | None = None,
) -> list[IndexTraining]:
    """Train one Index Branch per layer on a frozen model's own attention, once for every seed.

    All seeds see the same pieces of text in the same order, so that in warm-up the model reads
    each piece once for all of them.

    Args:
        decoder: the dense model, which is not changed.
        documents: token ids of the training texts.
        config: sizes and schedule.
        seeds: of the first weights and of the queries that are compared.
        stale: turns true when nobody waits; asked before every step.
        progress: called after every step with its number, from 1, and the KL of every seed,
            averaged over layers.

    Raises:
        ValueError: no document fills a piece of twice the selection's size, or the layers do not
            exist.
        Cancelled: `stale()` became true.

    Source: arXiv:2606.13392v2, section 3.2.
    """
    shortest = min(config.context, 2 * config.msa.n_selected_tokens)
    pieces = pieces_of(documents, config.context, shortest=shortest)
    if not pieces:
        raise ValueError(
            f"none of {len(documents)} documents has {shortest} tokens: give longer texts, so that "
            "the selection has something to leave out."
        )
    layers = tuple(range(decoder.config.n_layers)) if config.layers is None else config.layers
    draws = [seeded(seed) for seed in seeds]
    students = [
        convert(decoder, config.msa, None, layers=layers, sparse=False, generator=draw)
        for draw in draws
    ]
    weights = [weight for student in students for weight in _index_weights(student)]
    optimizer = torch.optim.AdamW([w.requires_grad_() for w in weights], weight_decay=0.0)
    align = functools.partial(align_indices, layers=layers, n_queries=config.n_queries)
    order_of_pieces = seeded(0)
    order: list[int] = []
    kl = []
    warmed_up: list[TrainedIndex] = []
    for step in range(config.n_steps):
        check(stale)
        if step == config.n_warmup:
            warmed_up = [TrainedIndex.of(student, {}) for student in students]
            for student in students:
                for layer in layers:
                    student.layers[layer].attention.sparse = True
        order = order or torch.randperm(len(pieces), generator=order_of_pieces).tolist()
        tokens = pieces[order.pop()].to(decoder.embedding.weight.device)
        if step < config.n_warmup:
            losses = align(decoder, students, tokens, draws)
        else:
            losses = torch.cat(
                [
                    align(student, [student], tokens, [draw])
                    for student, draw in zip(students, draws, strict=True)
                ]
            )
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        optimizer.step()
        optimizer.zero_grad()
        kl.append(losses)
        if progress is not None:
            progress(step + 1, losses.mean(-1).tolist())
    by_seed = torch.stack(kl, 1).tolist()
    trained = [TrainedIndex.of(student, {}) for student in students]
    return [
        IndexTraining(index, early, layers, rows, config.n_warmup)
        for index, early, rows in zip(trained, warmed_up or trained, by_seed, strict=True)
    ]


def align_indices(
    reader: Decoder,
    students: Sequence[Decoder],
    tokens: Int[Tensor, " n"],
    draws: Sequence[torch.Generator],
    *,
    layers: Sequence[int],
    n_queries: int,
) -> Float[Tensor, "students layers"]:
    """Let one decoder read a text; add the gradients of its layers' KL to every student's index.

    Args:
        reader: the dense decoder in warm-up; in the sparse phase the only student itself.
        students: converted decoders whose Index Branches learn.
        tokens: the text.
        draws: one generator per student, for the stretch of queries that each layer compares.
        layers: which layers learn.
        n_queries: length of the stretch.

    Returns:
        The KL of each student and layer, in nats.
    """
    losses: list[list[Tensor]] = [[] for _ in students]
    starts = range(0, len(tokens), n_queries)

    def receive(seen: Seen) -> None:
        for student, draw, row in zip(students, draws, losses, strict=True):
            start = starts[int(torch.randint(len(starts), (), generator=draw))]
            stretch = slice(start, min(start + n_queries, len(tokens)))
            with torch.enable_grad():
                loss = layer_kl(student.layers[seen.layer].attention, seen, stretch)
                weight = (stretch.stop - stretch.start) / n_queries  # of a shorter last stretch
                (weight * loss).backward()
            row.append(loss.detach())

    with torch.no_grad():
        probe = Probe(tuple(layers), receive)
        reader.hidden(tokens[None], probe=probe, until_layer=max(layers) + 1)
    return torch.stack([torch.stack(row) for row in losses])


def layer_kl(attention: MSAAttention, seen: Seen, stretch: slice) -> Float[Tensor, ""]:
    """KL(main attention‖index) of one layer, averaged over a stretch of queries (Eqs. 9-10).

    A layer whose attention is `sparse` is compared on the tokens that it selects, another on the
    whole causal row.
    """
    start, end = stretch.start, stretch.stop
    hidden = seen.hidden[:, :end]  # later tokens are in the future of all these queries
    positions = torch.arange(end, device=hidden.device).expand(len(hidden), end)
    q_idx, k_idx = attention.index(hidden, positions)
    q_idx = q_idx[:, start:]
    if attention.sparse:
        block_idx = attention.select(q_idx, k_idx)
        support = block_sparse_mask(block_idx, end, attention.msa.block_size)
    else:
        support = causal_support(end - start, end, q_idx.shape[2], hidden.device)[None]
    main = main_scores(seen.q[0, start:end], seen.k[0, :end])[None]
    teacher = teacher_probabilities(main, support)
    return index_kl(token_scores(q_idx, k_idx), teacher, support)


# ------------------------------------------------------------------------------- the measures


@torch.no_grad()
def token_losses(
    decoder: Decoder, tokens: Int[Tensor, " n"], *, chunk: int = 1024
) -> Float[Tensor, " predicted"]:
    """Negative log-likelihood of every token but the first, in nats; perplexity is exp(mean)."""
    hidden = decoder.hidden(tokens[None])[:, :-1]
    losses = []
    for rows, targets in zip(hidden.split(chunk, 1), tokens[1:].split(chunk), strict=True):
        logits = decoder.logits(rows)[0].float()
        losses.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
    return torch.cat(losses)


@dataclass(frozen=True, eq=False)
class Quality:
    """How well selections serve the dense attention of one text, by selector and budget.

    Averages over the groups and over the queries that must leave blocks out.
    """

    layers: tuple[int, ...]
    mass_captured: dict[tuple[str, int], Float[Tensor, " layers"]]  # by (selector, n_selected)
    block_recall: dict[tuple[str, int], Float[Tensor, " layers"]]
    group_overlap: dict[tuple[str, int], Float[Tensor, " layers"]]  # between different groups


@torch.no_grad()
def selection_quality(
    decoder: Decoder,
    tokens: Int[Tensor, " n"],
    indices: Mapping[str, TrainedIndex],
    *,
    msa: MSAConfig,
    budgets: Sequence[int],
    layers: Sequence[int] | None = None,
    stale: Callable[[], bool] = never,
) -> Quality:
    """Compare trained indices with the selectors that need no training, on the dense model.

    Args:
        decoder: the dense model.
        tokens: one text.
        indices: trained indices by the name they shall have in the result.
        msa: sizes; its budget is replaced by each of `budgets`.
        budgets: numbers of blocks.
        layers: which layers, counted from 0; all if None.
        stale: turns true when nobody waits; asked before every layer.

    Raises:
        ValueError: the text is so short that no query must choose.
        Cancelled: `stale()` became true.
    """
    n = len(tokens)
    if not choosing(n, n, dataclasses.replace(msa, n_selected=max(budgets))).any():
        raise ValueError(
            f"{n} tokens fit into {max(budgets)} blocks of {msa.block_size}: give a longer text "
            "or smaller budgets."
        )
    layers = tuple(range(decoder.config.n_layers)) if layers is None else tuple(layers)
    students = {
        name: convert(decoder, msa, index, layers=layers) for name, index in indices.items()
    }
    measured: dict[str, dict[tuple[str, int], list[Tensor]]] = {
        name: {} for name in ("mass_captured", "block_recall", "group_overlap")
    }

    def receive(seen: Seen) -> None:
        check(stale)
        positions = torch.arange(n, device=seen.q.device)[None]
        q, k = seen.q[0], seen.k[0]
        table = {name: selector_scores(name, q, k, block_size=msa.block_size) for name in SELECTORS}
        for name, student in students.items():
            q_idx, k_idx = student.layers[seen.layer].attention.index(seen.hidden, positions)
            table[name] = block_scores(q_idx, k_idx, block_size=msa.block_size)[0]
        for name, budget, *values in _compare(table, msa, budgets):
            for kind, value in zip(measured.values(), values, strict=True):
                kind.setdefault((name, budget), []).append(value)

    probe = Probe(layers, receive)
    decoder.hidden(tokens[None], probe=probe, until_layer=max(layers) + 1)
    stacked = {
        kind: {key: torch.stack(parts) for key, parts in table.items()}
        for kind, table in measured.items()
    }
    return Quality(layers=layers, **stacked)


def _compare(
    table: Mapping[str, Float[Tensor, "n h_kv n_blk"]], msa: MSAConfig, budgets: Sequence[int]
) -> Iterator[tuple[str, int, Tensor, Tensor, Tensor]]:
    """(selector, budget, mass captured, block recall, overlap of groups) at one layer."""
    mass = table["oracle"].clamp(min=0)  # the future counts -inf there
    n, h_kv, _ = mass.shape
    others = ~torch.eye(h_kv, dtype=torch.bool, device=mass.device)
    for budget in budgets:
        sized = dataclasses.replace(msa, n_selected=budget)
        rows = choosing(n, n, sized).nonzero()[0].item()  # the first query that must choose
        best = _select(table["oracle"][None, rows:], sized)[0]
        for name, scores in table.items():
            chosen = _select(scores[None, rows:], sized)[0]
            yield (
                name,
                budget,
                mass_captured(mass[rows:], chosen).mean(),
                block_recall(chosen, best).mean(),
                group_overlap(chosen)[:, others].mean(),
            )
