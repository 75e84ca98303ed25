"""One attention layer of MiniMax-M3 at its real sizes, in `transformers`: its `sdpa`, and ours.

    python benchmarks/msa_transformers.py --device cuda --commit HASH --out OUT/m3_layer.json

The layer has random weights in bfloat16, 64 query and 4 key heads of 128 channels, blocks of 128
tokens and 16 selected. Three arms: "sdpa" as shipped, which spells the selection out as a dense
mask; "ours", the attention function of `intuitive.msa.transformers` behind the shipped indexer; and
"ours, quick indexer". Peak memory is beyond weights and input; where an arm does not fit, what it
asked for is recorded. Outputs are compared with those of the first arm that fits. `--small` takes
short texts and small heads on a CPU.
"""

import argparse
import dataclasses
import os
import sys
import time

import helpers
import torch
from torch import Tensor, nn

from intuitive.common.runtime import measure, seeded

os.environ.setdefault("HF_HUB_OFFLINE", "1")
RESULT = helpers.RESULTS / "msa_transformers_h100.json"
ARMS = ("sdpa", "ours", "ours, quick indexer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run; sizes left out are those of the shipped config."""

    lengths: tuple[int, ...] = (2048, 4096, 8192, 16384, 32768)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    repeats: int = 3
    dtype: str = "bfloat16"
    seed: int = 0


SMALL = Plan(
    lengths=(64, 150),
    sizes={
        "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "index_n_heads": 2, "index_head_dim": 32, "index_block_size": 16, "index_topk_blocks": 3,
    },
    repeats=1,
    dtype="float32",
)  # fmt: skip


def layer_of(plan: Plan, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """A sparse attention layer with random weights, and the rotary embedding it is called with."""
    from transformers import MiniMaxM3VLTextConfig
    from transformers.models.minimax_m3_vl.modeling_minimax_m3_vl import (
        MiniMaxM3VLAttention,
        MiniMaxM3VLRotaryEmbedding,
    )

    rotary = {"rope_type": "default", "rope_theta": 5e6, "partial_rotary_factor": 0.5}
    config = MiniMaxM3VLTextConfig(
        num_hidden_layers=1,
        layer_types=["minimax_m3_sparse"],
        rope_parameters=rotary,
        **plan.sizes,
    )
    with torch.device(device):
        layer = MiniMaxM3VLAttention(config, 0).eval().requires_grad_(False)
    random = seeded(plan.seed, device)
    for weight in layer.parameters():
        if weight.dim() == 2:  # queries and keys of unit size after their norms: scores near 1
            weight.normal_(std=weight.shape[1] ** -0.5, generator=random)
    dtype = getattr(torch, plan.dtype)
    return layer.to(dtype), MiniMaxM3VLRotaryEmbedding(config).to(device)


class Bench(helpers.Rows):
    """One run."""

    def __init__(self, plan: Plan, option: argparse.Namespace) -> None:
        import transformers

        super().__init__(plan, option)
        self.versions = {"transformers": transformers.__version__}
        self.layer, self.rotary = layer_of(plan, self.device)

    def call(self, arm: str, hidden: Tensor):
        """The layer as a function without arguments."""
        from intuitive.msa.minimax import quick_indexers
        from intuitive.msa.transformers import register

        vars(self.layer.indexer).pop("forward", None)
        if arm == "ours, quick indexer":
            quick_indexers(self.layer)
        self.layer.config._attn_implementation = "sdpa" if arm == "sdpa" else register()
        place = torch.arange(hidden.shape[1], device=self.device)[None]
        turns = self.rotary(hidden, place)
        return lambda: self.layer(hidden, turns, None, position_ids=place)[0]

    @torch.no_grad()
    def run(self) -> None:
        dtype = getattr(torch, self.plan.dtype)
        width = self.layer.config.hidden_size
        for n in self.plan.lengths:
            random = seeded(self.plan.seed + n, self.device)
            hidden = torch.randn(1, n, width, generator=random, device=self.device).to(dtype)
            made: dict[str, Tensor] = {}
            for arm in ARMS:
                if time.perf_counter() > self.until:
                    self.values["skipped"].append({"arm": arm, "tokens": n})
                    continue
                row = {"arm": arm, "tokens": n}
                try:
                    run = self.call(arm, hidden)
                    made[arm] = run()
                    taken = measure(run, device=self.device, repeats=self.plan.repeats)
                    row |= {"ms": taken.median_ms, "peak_bytes": taken.peak_bytes}
                    first = next(iter(made))
                    row |= {"apart_from": first, "apart": apart(made[arm], made[first])}
                except torch.OutOfMemoryError as error:
                    row["does_not_fit"] = str(error).partition("GPU 0")[0].strip()
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                self.values["rows"].append(row)
                self.save()
                print(line(row), flush=True)

    def save(self) -> None:
        super().save(seed=self.plan.seed, versions=self.versions)


def apart(got: Tensor, want: Tensor) -> float:
    """Relative distance of two outputs."""
    return float((got.float() - want.float()).norm() / want.float().norm())


def line(row: dict) -> str:
    """A row in words."""
    told = f"{row['tokens']:6} tokens  {row['arm']:20}"
    if "ms" not in row:
        return f"{told} does not fit: {row['does_not_fit']}"
    peak = "" if row["peak_bytes"] is None else f"  {row['peak_bytes'] / 2**30:6.2f} GiB"
    return f"{told} {row['ms']:9.2f} ms{peak}  {row['apart']:.1e} from {row['apart_from']}"


def main() -> int:
    option = helpers.rows_options(
        __doc__, out=RESULT, seconds=40, small="short texts and small heads on a CPU"
    )
    bench = Bench(SMALL if option.small else Plan(), option)
    bench.run()
    return len(bench.values["skipped"])


if __name__ == "__main__":
    sys.exit(main())
