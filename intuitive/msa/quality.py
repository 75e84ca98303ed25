"""What a conversion costs: perplexity, how well selections serve the attention, what they read."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder, Probe, Seen
from intuitive.common.runtime import check, never
from intuitive.kernels import block_scores, select_blocks

from .alignment import choosing
from .config import MSAConfig
from .conversion import convert
from .index import TrainedIndex
from .reference import SELECTORS, block_recall, group_overlap, mass_captured, selector_scores


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
        best = select_blocks(table["oracle"][None, rows:].float(), **sized.selection)[0]
        for name, scores in table.items():
            chosen = select_blocks(scores[None, rows:].float(), **sized.selection)[0]
            yield (
                name,
                budget,
                mass_captured(mass[rows:], chosen).mean(),
                block_recall(chosen, best).mean(),
                group_overlap(chosen)[:, others].mean(),
            )


@torch.no_grad()
def blocks_read(
    decoder: Decoder,
    tokens: Int[Tensor, " n"],
    indices: Mapping[str, TrainedIndex],
    *,
    msa: MSAConfig,
    budgets: Sequence[int],
    queries: int,
    layers: Sequence[int] | None = None,
    stale: Callable[[], bool] = never,
) -> dict[tuple[str, int], Float[Tensor, " n_blk"]]:
    """How often the last queries of a text read each block, by (selector, n_selected).

    A share of their choices, one for every layer, group and query; the dense model's own attention
    is what every selector works on. Arguments and errors as in `selection_quality`, and

    Args:
        queries: how many of the last tokens ask.
    """
    n = len(tokens)
    if not 1 <= queries <= n:
        raise ValueError(f"queries={queries} must lie from 1 to {n}, the tokens of the text.")
    layers = tuple(range(decoder.config.n_layers)) if layers is None else tuple(layers)
    students = {
        name: convert(decoder, index.sized(msa), index, layers=layers)
        for name, index in indices.items()
    }
    n_blk = -(-n // msa.block_size)
    counts: dict[tuple[str, int], Tensor] = {}

    def receive(seen: Seen) -> None:
        check(stale)
        positions = torch.arange(n, device=seen.q.device)[None]
        q, k = seen.q[0, -queries:], seen.k[0]
        table = {name: selector_scores(name, q, k, block_size=msa.block_size) for name in SELECTORS}
        for name, student in students.items():
            q_idx, k_idx = student.layers[seen.layer].attention.index(seen.hidden, positions)
            scores = block_scores(q_idx[:, -queries:], k_idx, block_size=msa.block_size)
            table[name] = scores[0]
        for name, scores in table.items():
            for budget in budgets:
                sized = dataclasses.replace(msa, n_selected=budget)
                chosen = select_blocks(scores[None].float(), **sized.selection)
                read = torch.bincount(chosen[chosen >= 0].long(), minlength=n_blk)
                counts[name, budget] = counts.get((name, budget), 0) + read

    decoder.hidden(tokens[None], probe=Probe(layers, receive), until_layer=max(layers) + 1)
    choices = len(layers) * queries * msa.n_kv_heads
    return {key: found / choices for key, found in counts.items()}
