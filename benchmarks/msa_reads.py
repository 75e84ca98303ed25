"""Which blocks every selector reads where a passage returns, and where nothing does.

    python benchmarks/msa_reads.py            writes benchmarks/results/msa_reads.json
    python benchmarks/msa_reads.py --slice    measure a little again and compare
    --earlier FILE    the earlier index too: the weights file of the package at commit 4b63351

The held-out texts of `msa_conversion.py`, as they are and with the passage that returns; SmolLM2
reads them densely, up to a block in the middle of that passage, and the tokens of this block choose
what they would read. A share is one of their choices: of all layers, groups, tokens and texts.
Takes some minutes on one CPU core.
"""

import dataclasses
import sys
from pathlib import Path

import helpers
import msa_conversion as conversion
import torch

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2
from intuitive.msa.config import MSAConfig
from intuitive.msa.experiments.conversion import EARLIER
from intuitive.msa.index import TrainedIndex, load_index
from intuitive.msa.quality import blocks_read

NAME = "msa_reads"
TOLERANCE = 0.02  # of a share, from one CPU to another


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    context: int = 4096  # tokens
    pieces: int = 4
    budgets: tuple[int, ...] = (2, 4, 8, 16)  # blocks
    into: int = 4  # blocks of the returning passage that are read before the one that asks
    layers: tuple[int, ...] | None = None  # all

    @classmethod
    def slice(cls) -> "Plan":
        return cls(context=1024, pieces=1, budgets=(4,), layers=(2, 12))


def measured(plan: Plan, indices: dict[str, TrainedIndex]) -> dict:
    """Shares in percent, by text, selector and budget."""
    model, msa = load_smollm2(), MSAConfig.smollm()
    block = (plan.context - conversion.PASSAGE) // msa.block_size + plan.into
    end = (block + 1) * msa.block_size
    values: dict = {"block": block, "block_size": msa.block_size, "rows": []}
    for text, change in (
        ("returning", conversion.with_returning_passage), ("plain", lambda tokens: tokens),
    ):  # fmt: skip
        found = []
        for kind, tokens in conversion.heldout_pieces(model, plan.context, plan.pieces):
            found.append(
                blocks_read(
                    model.decoder, change(tokens)[:end], indices, msa=msa, budgets=plan.budgets,
                    queries=msa.block_size, layers=plan.layers,
                )
            )  # fmt: skip
            print(f"{text}, {kind}: read", flush=True)
        for selector, budget in found[0]:
            mean = torch.stack([shares[selector, budget] for shares in found]).mean(0)
            row = {"text": text, "selector": selector, "n_selected": budget}
            values["rows"].append(row | {"percent": [round(100 * s) for s in mean.tolist()]})
    return values


def compare(folder: Path) -> list[str]:
    """Measure the slice again; what differs, in sentences."""
    committed, _ = records.load(folder / f"{NAME}.json")
    again = measured(Plan.slice(), {"trained_index": load_index()})
    faults = []
    for got, old in zip(again["rows"], committed["slice"]["rows"], strict=True):
        apart = [abs(a - b) for a, b in zip(got["percent"], old["percent"], strict=True)]
        if max(apart) > 100 * TOLERANCE:
            faults.append(f"{old['selector']}, {old['text']}: shares {max(apart)} percent apart")
    return faults


def main() -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--earlier", type=Path, help="weights of the earlier index")
    options = parser.parse_args()
    if options.slice:
        return helpers.told(compare(options.folder))
    index = load_index()
    indices = {"trained_index": index}
    values = {"slice": measured(Plan.slice(), indices)}
    if options.earlier:
        indices[EARLIER] = load_index(options.earlier)
    plan = Plan()
    values |= measured(plan, indices) | {"index": index.made["student"]}
    records.save(
        options.folder / f"{NAME}.json", values, config=dataclasses.asdict(plan),
        device=device_name(torch.device("cpu")), commit=options.commit, seed=0,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
