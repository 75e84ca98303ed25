"""GPU memory by category while the context and the blocks read move, dense beside MSA.

    python benchmarks/msa_memory.py [--commit HASH]

Two measures, in bfloat16, batch 1: SmolLM2 whole (with the shipped index, blocks of 64) from 1K to
8K tokens, and one layer of the paper's sizes from 32K to 1M tokens, of which the last 8,192 are
prefilled. Weights, keys and values, and index keys are the bytes of the tensors held; scratch is
the peak of the allocator during a step beyond what was held before it. Needs a CUDA device; writes
benchmarks/results/msa_memory_h100.json.
"""

import dataclasses
import gc

import helpers
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common import records
from intuitive.common.decoder import Decoder
from intuitive.common.runtime import device_name, seeded
from intuitive.common.smollm import load_smollm2
from intuitive.kernels import block_sparse_attention, score_and_select
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.index import shipped_index
from intuitive.msa.index_training import IndexTrainingConfig

RESULT = helpers.RESULTS / "msa_memory_h100.json"
SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Which points are measured."""

    model_contexts: tuple[int, ...] = (1024, 2048, 4096, 8064)  # tokens, then 8 are decoded
    model_budgets: tuple[int, ...] = (4, 8, 16)  # blocks of 64
    layer_contexts: tuple[int, ...] = (2**15, 2**17, 2**18, 2**19, 2**20)
    layer_budgets: tuple[int, ...] = (4, 16, 64)  # blocks of 128
    layer_queries: int = 8192


class Peak:
    """Most memory beyond what was held at the start, inside a `with`."""

    def __enter__(self) -> "Peak":
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *error: object) -> None:
        torch.cuda.synchronize()
        self.bytes = torch.cuda.max_memory_allocated() - self._before


@torch.inference_mode()
def whole_model(decoder: Decoder, context: int, vocabulary: int) -> dict[str, int]:
    """Memory of one prefill without logits and of decode steps after it."""
    tokens = torch.randint(vocabulary, (1, context + 8), generator=seeded(SEED)).cuda()
    weights = sum(p.numel() * p.element_size() for p in decoder.parameters())
    decoder.hidden(tokens[:, :64], cache=decoder.make_cache(1, 64))  # kernels compile first
    cache = decoder.make_cache(1, context + 8)
    with Peak() as prefill:
        decoder.hidden(tokens[:, :context], cache=cache)
    decoder.hidden(tokens[:, context : context + 1], cache=cache)
    with Peak() as decode:
        for place in range(context + 1, context + 8):
            decoder.hidden(tokens[:, place : place + 1], cache=cache)
    sizes = cache.nbytes()
    return {
        "weights": weights,
        "keys_values": sizes["keys"] + sizes["values"],
        "index_keys": sizes.get("index_keys", 0),
        "prefill_scratch": prefill.bytes,
        "decode_scratch": decode.bytes,
    }


@torch.inference_mode()
def one_layer(config: MSAConfig, context: int, n: int, *, dense: bool) -> dict[str, int]:
    """Memory of the attention of one layer: the last n queries, and one decoded token."""
    generator = seeded(SEED, "cuda")

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cuda", dtype=torch.bfloat16)

    k, v = (draw(1, context, config.n_kv_heads, config.d_head) for _ in range(2))
    k_idx = None if dense else draw(1, context, config.d_index)
    found = {
        "keys_values": 2 * k.numel() * k.element_size(),
        "index_keys": 0 if k_idx is None else k_idx.numel() * k_idx.element_size(),
    }
    for phase, rows in (("prefill", n), ("decode", 1)):
        q = draw(1, rows, config.n_q_heads, config.d_head)
        q_idx = None if dense else draw(1, rows, config.n_kv_heads, config.d_index)

        def step(q: Tensor = q, q_idx: Tensor | None = q_idx) -> Tensor:
            if q_idx is None:
                with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
                    return torch.nn.functional.scaled_dot_product_attention(
                        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), enable_gqa=True
                    )
            chosen = score_and_select(
                q_idx,
                k_idx,
                n_selected=config.n_selected,
                block_size=config.block_size,
                n_local=config.n_local,
                n_init=config.n_init,
            )
            return block_sparse_attention(q, k, v, chosen, block_size=config.block_size)

        step()
        with Peak() as peak:
            step()
        found[f"{phase}_scratch"] = peak.bytes
    return found


def main() -> None:
    """Measure all points and save them."""
    arguments = helpers.options(__doc__, folder=False, slices=False).parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("Memory is measured on a CUDA device, and this machine has none.")
    plan, rows = Plan(), []

    def note(row: dict) -> None:
        rows.append(row)
        print(row, flush=True)

    model = load_smollm2(device="cuda", dtype=torch.bfloat16)
    index = shipped_index()
    sizes = index.sized(IndexTrainingConfig().msa)
    for n_selected in (None, *plan.model_budgets):
        decoder = model.decoder
        if n_selected is not None:
            decoder = convert(
                model.decoder, dataclasses.replace(sizes, n_selected=n_selected), index
            )
        for context in plan.model_contexts:
            memory = whole_model(decoder, context, model.config.vocab_size)
            note({"what": "SmolLM2", "context": context, "n_selected": n_selected, **memory})
    paper = MSAConfig.paper()
    for n_selected in (None, *plan.layer_budgets):
        config = dataclasses.replace(paper, n_selected=n_selected or paper.n_selected)
        for context in plan.layer_contexts:
            torch.cuda.empty_cache()
            memory = one_layer(config, context, plan.layer_queries, dense=n_selected is None)
            note({"what": "layer", "context": context, "n_selected": n_selected, **memory})
    records.save(
        RESULT,
        {"rows": rows},
        config=plan,
        device=device_name(torch.device("cuda")),
        commit=arguments.commit,
        seed=SEED,
    )


if __name__ == "__main__":
    main()
