"""What eight bits cost SmolLM2's trained index: blocks chosen otherwise, and perplexity.

    python benchmarks/msa_codes.py            writes benchmarks/results/msa_codes.json
    python benchmarks/msa_codes.py --slice    measure a little again and compare

Index queries and keys of held-out texts are chosen from as numbers and as e4m3 codes (`index_codes`
with one unit for all keys). Recall is over the queries that must leave blocks out, without the
forced blocks, and is told by layer; perplexity is that of the model with all its layers sparse,
over the tokens for which the budget leaves blocks out. Takes minutes on two CPU cores.
"""

import argparse
import dataclasses
import sys

import helpers
import msa_conversion as conversion
import torch
from torch import Tensor

from intuitive.common import records
from intuitive.common.decoder import Decoder, Probe, Seen
from intuitive.common.runtime import device_name
from intuitive.kernels import index_codes, score_and_select
from intuitive.msa.alignment import choosing
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.index import load_index
from intuitive.msa.model import MSAAttention

NAME = "msa_codes"
UNIT = 1.0  # of all keys: they are normalised
TOLERANCE = 5e-3  # of recalls and of relative perplexities, from one CPU to another


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    context: int = 4096  # tokens
    pieces: int = 2
    budgets: tuple[int, ...] = (4, 8, 16)  # blocks
    read: tuple[int, ...] = (8,)  # budgets at which the model is run through its index

    @classmethod
    def slice(cls) -> "Plan":
        return cls(context=1024, pieces=1, budgets=(4,), read=(4,))


class Coded(MSAAttention):
    """The sparse attention, choosing by codes."""

    def select(self, q_idx: Tensor, k_idx: Tensor) -> Tensor:
        return super().select(index_codes(q_idx.detach()), index_codes(k_idx.detach(), unit=UNIT))


def coded(decoder: Decoder) -> Decoder:
    """The same decoder; its layers choose by codes from now on."""
    for layer in decoder.layers:
        layer.attention.__class__ = Coded
    return decoder


def recalls(bench: conversion.Bench, tokens: Tensor, plan: Plan) -> dict[int, Tensor]:
    """Share of the chosen blocks that codes choose too [layers], by budget."""
    student = convert(bench.dense, bench.msa, bench.indices[0])
    n = len(tokens)
    found: dict[int, list[Tensor]] = {budget: [] for budget in plan.budgets}

    def receive(seen: Seen) -> None:
        positions = torch.arange(n, device=seen.q.device)[None]
        q_idx, k_idx = student.layers[seen.layer].attention.index(seen.hidden, positions)
        for budget, shares in found.items():
            msa = dataclasses.replace(bench.msa, n_selected=budget)
            rows = choosing(n, n, msa).nonzero()[0].item()
            q = q_idx[:, rows:]
            want, got = (
                score_and_select(a, b, **msa.selection)
                for a, b in ((q, k_idx), (index_codes(q), index_codes(k_idx, unit=UNIT)))
            )
            same = (got[..., :, None] == want[..., None, :]) & (want >= 0)[..., None, :]
            forced = msa.n_local + msa.n_init
            shares.append((same.sum((-2, -1)) - forced).float().mean() / (budget - forced))

    decoder = bench.dense
    decoder.hidden(tokens[None], probe=Probe(tuple(range(decoder.config.n_layers)), receive))
    return {budget: torch.stack(shares) for budget, shares in found.items()}


@torch.no_grad()
def measured(plan: Plan) -> dict:
    """Recall by budget and layer, and perplexities by budget."""
    index = load_index()
    msa = index.sized(MSAConfig.smollm())
    bench = conversion.Bench(conversion.Plan(msa=msa), torch.device("cpu"), ())
    bench.indices = {0: index}
    pieces = bench.pieces(plan.context, plan.pieces)
    by_piece = [recalls(bench, tokens, plan) for _, tokens in pieces]
    values: dict = {"recall": [], "perplexity": []}
    for budget in plan.budgets:
        by_layer = torch.stack([found[budget] for found in by_piece]).mean(0)
        row = {"n_selected": budget, "recall": by_layer.mean(), "by_layer": by_layer}
        values["recall"].append(helpers.rounded(row, digits=4))
        print(f"{budget} blocks: recall {by_layer.mean():.4f}, least {by_layer.min():.4f}")
    for budget in plan.read:
        sized = dataclasses.replace(bench.msa, n_selected=budget)
        last = plan.context - sized.n_selected_tokens
        for name, make in (("numbers", lambda decoder: decoder), ("codes", coded)):
            decoder = make(convert(bench.dense, sized, index))
            row = bench.perplexity_row(decoder, pieces, last=last, by=name, n_selected=budget)
            values["perplexity"].append(row)
            print(row, flush=True)
    return values


def compare(folder) -> list[str]:
    """Measure the slice again; what differs, in sentences."""
    committed, _ = records.load(folder / f"{NAME}.json")
    again, want = measured(Plan.slice()), committed["slice"]
    pairs = [(again["recall"][0]["recall"], want["recall"][0]["recall"], "recall")]
    for got, old in zip(again["perplexity"], want["perplexity"], strict=True):
        pairs.append((got["all"] / old["all"], 1.0, f"perplexity by {old['by']}, relative"))
    return [
        f"{name}: {got:.5g}, committed {old:.5g}"
        for got, old, name in pairs
        if not abs(got - old) <= TOLERANCE
    ]


def main() -> int:
    parser: argparse.ArgumentParser = helpers.options(__doc__)
    options = parser.parse_args()
    if options.slice:
        return helpers.told(compare(options.folder))
    plan = Plan()
    values = measured(plan) | {"slice": measured(Plan.slice())}
    values["index"] = load_index().made["student"]
    records.save(
        options.folder / f"{NAME}.json", values, config=dataclasses.asdict(plan),
        device=device_name(torch.device("cpu")), commit=options.commit, seed=0,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
