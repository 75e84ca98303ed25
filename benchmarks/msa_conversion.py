"""Measures of SmolLM2-135M made sparse, on held-out texts; `msa_index.py` trains and takes them.

Mass captured and block recall are of the dense model's own attention; perplexity is of the model
when all its layers read selected blocks only.
"""

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import helpers
import torch
from torch import Tensor

from intuitive.common import corpus
from intuitive.common.decoder import Decoder
from intuitive.common.smollm import SmolLM2, load_smollm2
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.index import TrainedIndex
from intuitive.msa.quality import selection_quality, token_losses
from intuitive.msa.reference import SELECTORS

rounded = functools.partial(helpers.rounded, digits=5)

PASSAGE = 512  # tokens of the passage that returns in the recall test


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run measures."""

    msa: MSAConfig = field(default_factory=MSAConfig.smollm)
    budgets: tuple[int, ...] = (2, 4, 8, 16)  # blocks
    contexts: tuple[int, ...] = (4096, 2048)  # of the measures, in tokens
    pieces: int = 8  # held-out pieces per context, half of them prose, half code
    long_context: int | None = 8192  # perplexity of a few selectors beyond the training's context
    long_pieces: int = 4
    recall_pieces: int = 4
    slice_layers: tuple[int, ...] = (2, 12)
    slice_context: int = 1024
    slice_budget: int = 4


# --------------------------------------------------------------------------------- the texts


def heldout_pieces(model: SmolLM2, context: int, count: int) -> list[tuple[str, Tensor]]:
    """(kind, tokens) of whole pieces of held-out English prose and code, each within one file.

    Pieces alternate between the kinds as long as both last.
    """
    kinds: dict[str, list[Tensor]] = {"prose": [], "code": []}
    for document in corpus.load("heldout"):
        if document.name.startswith("human-rights"):  # languages the model hardly knows
            continue
        ids = torch.tensor(model.tokenizer.encode(document.text))
        kinds[document.kind] += [part for part in ids.split(context) if len(part) == context]
    order = [
        (kind, pieces[place])
        for place in range(max(map(len, kinds.values())))
        for kind, pieces in kinds.items()
        if place < len(pieces)
    ]
    return order[:count]


def with_returning_passage(tokens: Tensor) -> Tensor:
    """The text with its end replaced by a passage from its second quarter: something to recall."""
    start = len(tokens) // 4
    return torch.cat([tokens[:-PASSAGE], tokens[start : start + PASSAGE]])


# ------------------------------------------------------------------------------ the measures


class Bench:
    """One run: the model, the plan, and the values found so far."""

    def __init__(
        self, plan: Plan, device: torch.device, selectors: tuple[str, ...] = tuple(SELECTORS)
    ) -> None:
        self.plan, self.device, self.selectors = plan, device, selectors
        self.model = load_smollm2(device=device)
        self.dense = self.model.decoder
        self.msa = plan.msa
        self.indices: dict[int, TrainedIndex] = {}
        self.values: dict[str, object] = {"seconds": {}}

    def pieces(self, context: int, count: int) -> list[tuple[str, Tensor]]:
        found = heldout_pieces(self.model, context, count)
        return [(kind, tokens.to(self.device)) for kind, tokens in found]

    def contestants(self) -> Iterator[tuple[str, int | None, TrainedIndex | str]]:
        """(name, seed, what `convert` takes) of every selector."""
        for seed, index in self.indices.items():
            yield "trained_index", seed, index
        for name in self.selectors:
            yield name, None, name

    def quality(self) -> None:
        rows = []
        named = {f"trained_index {seed}": index for seed, index in self.indices.items()}
        for context in self.plan.contexts:
            rows += self.quality_at(context, named)
        for row in rows:
            name, _, seed = row["selector"].partition(" ")
            row["selector"], row["seed"] = name, int(seed) if seed else None
        self.values["quality"] = rows

    def quality_at(self, context: int, named: dict[str, TrainedIndex]) -> list[dict]:
        """One row per selector and budget, averaged over held-out pieces."""
        found = [
            selection_quality(
                self.dense,
                tokens,
                named,
                msa=self.msa,
                budgets=self.plan.budgets,
            )
            for _, tokens in self.pieces(context, self.plan.pieces)
        ]
        rows = []
        for name, budget in found[0].mass_captured:
            row = {"selector": name, "context": context, "block_size": self.msa.block_size}
            row |= {"n_selected": budget, "pieces": len(found)}
            for measure in ("mass_captured", "block_recall", "group_overlap"):
                parts = [getattr(quality, measure)[name, budget] for quality in found]
                by_layer = torch.stack(parts).mean(0)
                row[measure] = rounded(by_layer.mean())
                if measure == "mass_captured":
                    row["mass_by_layer"] = [rounded(mass) for mass in by_layer]
            rows.append(row)
        return rows

    def perplexity(self, context: int) -> None:
        """Perplexity of the model with all its layers sparse, by selector and budget."""
        rows = self.values.setdefault("perplexity", [])
        pieces = self.pieces(context, self.plan.pieces)
        rows.append(self.perplexity_row(self.dense, pieces, selector="dense"))
        for budget in self.plan.budgets:
            for name, seed, index in self.contestants():
                about = {"selector": name, "seed": seed, "n_selected": budget}
                rows.append(self.sparse_row(index, budget, pieces, about))

    def long_context(self) -> None:
        """The same for a few selectors, beyond the context that an index was trained on."""
        rows = self.values.setdefault("perplexity", [])
        pieces = self.pieces(self.plan.long_context, self.plan.long_pieces)
        rows.append(self.perplexity_row(self.dense, pieces, selector="dense"))
        for budget in self.plan.budgets[-2:]:
            for name, seed, index in self.contestants():
                if name in ("trained_index", "main_max", "window_sink"):
                    about = {"selector": name, "seed": seed, "n_selected": budget}
                    rows.append(self.sparse_row(index, budget, pieces, about))

    def recall(self) -> None:
        """Perplexity of a passage that returns after more than half the context."""
        context = max(self.plan.contexts)
        pieces = [
            (kind, with_returning_passage(tokens))
            for kind, tokens in self.pieces(context, self.plan.recall_pieces)
        ]
        tail = PASSAGE - 32  # the model needs some tokens to notice that it has read them before
        rows = [self.perplexity_row(self.dense, pieces, last=tail, selector="dense")]
        for budget in self.plan.budgets:
            for name, seed, index in self.contestants():
                about = {"selector": name, "seed": seed, "n_selected": budget}
                rows.append(self.sparse_row(index, budget, pieces, about, last=tail))
        self.values["returning_passage"] = rows

    def sparse_row(
        self,
        index: TrainedIndex | str,
        budget: int,
        pieces: list[tuple[str, Tensor]],
        about: dict,
        *,
        last: int | None = None,
    ) -> dict:
        msa = dataclasses.replace(self.msa, n_selected=budget)
        decoder = convert(self.dense, msa, index)
        return self.perplexity_row(decoder, pieces, last=last, **about)

    def perplexity_row(
        self,
        decoder: Decoder,
        pieces: list[tuple[str, Tensor]],
        *,
        last: int | None = None,
        **about: object,
    ) -> dict:
        """Perplexity by kind of text, over the last tokens of every piece.

        By default those for which every budget leaves blocks out. The same tokens count for every
        selector and budget.
        """
        context = len(pieces[0][1])
        last = last or context - max(self.plan.budgets) * self.msa.block_size
        losses: dict[str, list[Tensor]] = {}
        for kind, tokens in pieces:
            losses.setdefault(kind, []).append(token_losses(decoder, tokens)[-last:])
        row = {"context": context, "pieces": len(pieces), **about}
        for kind, parts in losses.items():
            row[kind] = rounded(torch.cat(parts).mean().exp())
        parts = [part for of_kind in losses.values() for part in of_kind]
        row["all"] = rounded(torch.cat(parts).mean().exp())
        return row

    def slice(self) -> None:
        """What `--slice` computes again on a CPU with the shipped index."""
        plan, (index,) = self.plan, self.indices.values()
        ((_, tokens),) = self.pieces(plan.slice_context, 1)
        msa = dataclasses.replace(self.msa, n_selected=plan.slice_budget)
        quality = selection_quality(
            self.dense, tokens, {"it": index}, msa=msa, budgets=(plan.slice_budget,),
            layers=plan.slice_layers,
        )  # fmt: skip
        last = plan.slice_context - msa.n_selected_tokens
        sparse = convert(self.dense, msa, index)
        self.values["slice"] = {
            "mass_captured": {
                name: [rounded(mass) for mass in by_layer]
                for (name, _), by_layer in quality.mass_captured.items()
            },
            "loss_dense": rounded(token_losses(self.dense, tokens)[-last:].mean()),
            "loss_trained_index": rounded(token_losses(sparse, tokens)[-last:].mean()),
        }
