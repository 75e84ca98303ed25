"""Times of the MSA kernels beside dense attention, on one CUDA GPU.

    KERNEL_ERRORS=errors.jsonl pytest tests/kernels/test_gpu.py
    python benchmarks/kernels.py FOLDER --errors errors.jsonl [--commit HASH]

Checks a sample of outputs against float64 first, then prints a table and writes
FOLDER/kernels.json, and FOLDER/kernel_errors.json with what the tests measured. One layer, batch
1, at the paper's sizes (arXiv:2606.13392v2, Fig. 4): 64 query heads, 4 key heads, head size 128,
blocks of 128, 16 selected, bfloat16.

Prefill times are medians over CUDA events. Decode times come from a captured graph that walks
over several caches, so that they are not served from L2. Dense attention is PyTorch's SDPA with
each backend that runs; ratios use the fastest.
"""

import json
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import helpers
import torch
import triton
from helpers import graph_us, median_ms
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.kernels import (
    block_scores,
    block_sparse_attention,
    score_and_select,
    select_blocks,
)

CONFIG = {
    "n_q_heads": 64,
    "n_kv_heads": 4,
    "head_size": 128,
    "index_size": 128,
    "block_size": 128,
    "n_selected": 16,
    "dtype": "bfloat16",
    "batch": 1,
    "prefill_tokens": [8192, 16384, 32768, 65536, 131072],
    "tail_queries": 8192,
    "tail_tokens": [262144, 524288, 1048576],
    "decode_tokens": [8192, 32768, 65536, 131072, 262144, 524288, 1048576],
    "backward_tokens": [8192, 32768],
    "seed": 0,
}
H_Q, H_KV, D = CONFIG["n_q_heads"], CONFIG["n_kv_heads"], CONFIG["head_size"]
BLOCK, K_SEL = CONFIG["block_size"], CONFIG["n_selected"]
RULE = {"n_selected": K_SEL, "block_size": BLOCK}
DENSE = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
L2_BYTES = 256 * 2**20  # rotate over caches of at least this much in all


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    """bfloat16 noise on the GPU."""
    return torch.empty(shape, device="cuda", dtype=torch.bfloat16).normal_(generator=generator)


def near_blocks(n: int, m: int, generator: torch.Generator) -> Tensor:
    """A selection like a served model's: int32 [1, n, h_kv, 16].

    Block 0, the local block, 11 far blocks and 3 of a pool of 17 that changes from query to
    query; every far block moves once in 512 queries. Four neighbouring queries then read about 22
    distinct blocks and sixteen about 29, as published measurements of MiniMax-M3 report.
    """
    core, pool, picked, stay = 11, 17, 3, 512
    query = torch.arange(n, device="cuda")
    local = (query + m - n) // BLOCK
    phase = torch.randint(stay, (H_KV, core + pool), device="cuda", generator=generator)
    epoch = (query[:, None, None] + phase) // stay  # [n, h_kv, core + pool]
    place = torch.rand(H_KV, core + pool, n // stay + 2, device="cuda", generator=generator)
    moved = (epoch * stay - phase).clamp(min=0) + m - n  # position at which the block was drawn
    past = moved // BLOCK
    place = place.expand(n, -1, -1, -1).gather(-1, epoch[..., None])[..., 0]
    far = 1 + (place * (past - 1).clamp(min=0)).long()
    draw = torch.rand(n, H_KV, pool, device="cuda", generator=generator).topk(picked).indices
    fixed = torch.stack((torch.zeros_like(local), local), dim=-1)[:, None].expand(-1, H_KV, -1)
    blocks = torch.cat((fixed, far[..., :core], far[..., core:].gather(-1, draw)), dim=-1)
    return distinct(blocks.clamp(max=local[:, None, None]))


def random_blocks(n: int, m: int, generator: torch.Generator) -> Tensor:
    """The local block and 15 uniformly random ones: int32 [1, n, h_kv, 16]."""
    local = (torch.arange(n, device="cuda") + m - n)[:, None, None] // BLOCK
    place = torch.rand(n, H_KV, K_SEL - 1, device="cuda", generator=generator)
    return distinct(torch.cat(((place * local).long(), local.expand(-1, H_KV, 1)), dim=-1))


def distinct(blocks: Tensor) -> Tensor:
    """Ascending ids with repetitions replaced by -1, as [1, n, h_kv, n_sel] int32."""
    blocks = blocks.sort(-1).values
    blocks[..., 1:][blocks[..., 1:] == blocks[..., :-1]] = -1
    return blocks.int()[None].contiguous()


def sharing(blocks: Tensor) -> dict[str, float]:
    """Mean number of distinct blocks among 1, 4, 8 and 16 neighbouring queries of one group."""
    rows = blocks[0, -2048:, 0]
    rows = {width: rows.reshape(-1, width * K_SEL) for width in (1, 4, 8, 16)}
    return {
        str(width): statistics.mean(len(set(row) - {-1}) for row in table.tolist())
        for width, table in rows.items()
    }


def peak_bytes(run: Callable[[], object]) -> int:
    """Memory that one call takes beyond its inputs, its output included."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def dense(q: Tensor, k: Tensor, v: Tensor, backend: str, *, causal: bool) -> Tensor:
    """SDPA with one backend; inputs and output [b, n, h, d]."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    with sdpa_kernel(DENSE[backend]):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    return out.transpose(1, 2)


def fastest(times: dict[str, float]) -> float:
    return min(times[name] for name in DENSE if name in times)


def over_backends(measure: Callable[[str], float]) -> dict[str, float]:
    """One time per dense backend that runs here."""
    times = {}
    for backend in DENSE:
        try:
            times[backend] = measure(backend)
        except RuntimeError as refused:
            print(f"{backend} does not run: {str(refused).splitlines()[0]}", file=sys.stderr)
    return times


def check(q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, out: Tensor) -> float:
    """Relative RMS error of sampled queries against float64; raises if it is not small."""
    n, m = q.shape[1], k.shape[1]
    got, want = [], []
    for i in torch.linspace(n // 2, n - 1, 9).long().tolist():  # early queries read few tokens
        for group in range(H_KV):
            ids = blocks[0, i, group].long()
            token = (ids[ids >= 0, None] * BLOCK + torch.arange(BLOCK, device="cuda")).flatten()
            token = token[token <= m - n + i]
            heads = slice(group * H_Q // H_KV, (group + 1) * H_Q // H_KV)
            s = q[0, i, heads].double() @ k[0, token, group].double().T / D**0.5
            want.append(s.softmax(-1) @ v[0, token, group].double())
            got.append(out[0, i, heads].double())
    want = torch.stack(want)
    error = ((torch.stack(got) - want).norm() / want.norm()).item()
    if not error < 5e-3:
        raise RuntimeError(f"error={error} against float64 must stay under 5e-3: no timing made.")
    return error


def attend(q: Tensor, k: Tensor, v: Tensor, generator: torch.Generator) -> dict:
    """Time, sharing, error and peak memory of the attention over both kinds of selection."""
    row = {}
    for name, draw in (("near", near_blocks), ("random", random_blocks)):
        blocks = draw(q.shape[1], k.shape[1], generator)

        def run(blocks: Tensor = blocks) -> Tensor:
            return block_sparse_attention(q, k, v, blocks, block_size=BLOCK)

        row[f"distinct_{name}"] = sharing(blocks)
        row[f"error_{name}"] = check(q, k, v, blocks, run())
        row[f"attend_{name}"] = median_ms(run)
        row[f"attend_{name}_peak_bytes"] = peak_bytes(run)
    return row


def prefill(n: int, generator: torch.Generator) -> dict:
    """Every query of a context of n tokens."""
    q, k, v = (normal(1, n, h, D, generator=generator) for h in (H_Q, H_KV, H_KV))
    q_idx, k_idx = (normal(1, n, *h, D, generator=generator) for h in ((H_KV,), ()))
    row = {"task": "prefill", "queries": n, "tokens": n}
    row |= over_backends(lambda backend: median_ms(lambda: dense(q, k, v, backend, causal=True)))
    row["dense_peak_bytes"] = peak_bytes(lambda: dense(q, k, v, "flash", causal=True))
    scores = block_scores(q_idx, k_idx, block_size=BLOCK)
    row["score"] = median_ms(lambda: block_scores(q_idx, k_idx, block_size=BLOCK))
    row["select"] = median_ms(lambda: select_blocks(scores, **RULE))
    row["score_and_select"] = median_ms(lambda: score_and_select(q_idx, k_idx, **RULE))
    row["score_and_select_peak_bytes"] = peak_bytes(lambda: score_and_select(q_idx, k_idx, **RULE))
    row |= attend(q, k, v, generator)
    row["msa"] = row["score_and_select"] + row["attend_near"]
    return row | {"ratio": fastest(row) / row["msa"], "unit": "ms"}


def tail(n: int, m: int, generator: torch.Generator) -> dict:
    """The last n queries of m tokens. Dense reads all m keys for each: its mask would save n/2m."""
    k, v = (normal(1, m, H_KV, D, generator=generator) for _ in range(2))
    q, q_idx = (normal(1, n, h, D, generator=generator) for h in (H_Q, H_KV))
    k_idx = normal(1, m, D, generator=generator)
    row = {"task": "last queries", "queries": n, "tokens": m}
    row |= over_backends(
        lambda backend: median_ms(lambda: dense(q, k, v, backend, causal=False), repeats=3)
    )
    row["dense_peak_bytes"] = peak_bytes(lambda: dense(q, k, v, "flash", causal=False))
    row["score_and_select_peak_bytes"] = peak_bytes(lambda: score_and_select(q_idx, k_idx, **RULE))
    row["score_and_select"] = median_ms(lambda: score_and_select(q_idx, k_idx, **RULE))
    row |= attend(q, k, v, generator)
    row["msa"] = row["score_and_select"] + row["attend_near"]
    return row | {"ratio": fastest(row) / row["msa"], "unit": "ms"}


def decode(m: int, generator: torch.Generator) -> dict:
    """One query on a cache of m tokens, in a captured graph."""
    sets = []
    for _ in range(max(L2_BYTES // (m * D * 2), 1)):  # by the index keys, the smallest cache
        q, q_idx = (normal(1, 1, h, D, generator=generator) for h in (H_Q, H_KV))
        k, v = (normal(1, m, H_KV, D, generator=generator) for _ in range(2))
        sets.append((q, k, v, q_idx, normal(1, m, D, generator=generator)))
    chosen = [score_and_select(q_idx, k_idx, **RULE) for *_, q_idx, k_idx in sets]
    q, k, v, *_ = sets[0]
    out = block_sparse_attention(q, k, v, chosen[0], block_size=BLOCK)
    row = {"task": "decode", "queries": 1, "tokens": m, "caches": len(sets)}
    row["error"] = check(q, k, v, chosen[0], out)

    def msa(q, k, v, q_idx, k_idx):
        blocks = score_and_select(q_idx, k_idx, **RULE)
        return block_sparse_attention(q, k, v, blocks, block_size=BLOCK)

    row |= over_backends(
        lambda backend: graph_us([lambda x=x: dense(*x[:3], backend, causal=False) for x in sets])
    )
    row["score_and_select"] = graph_us([lambda x=x: score_and_select(*x[3:], **RULE) for x in sets])
    row["attend"] = graph_us(
        [
            lambda x=x, c=c: block_sparse_attention(*x[:3], c, block_size=BLOCK)
            for x, c in zip(sets, chosen, strict=True)
        ]
    )
    row["msa"] = graph_us([lambda x=x: msa(*x) for x in sets])
    return row | {"ratio": fastest(row) / row["msa"], "unit": "us"}


def backward(n: int, generator: torch.Generator) -> dict:
    """Gradients of q, k and v, without the forward pass."""
    leaves = [normal(1, n, h, D, generator=generator).requires_grad_() for h in (H_Q, H_KV, H_KV)]
    dout = normal(1, n, H_Q, D, generator=generator)

    def time(out: Tensor) -> float:
        return median_ms(lambda: torch.autograd.grad(out, leaves, dout, retain_graph=True))

    row = {"task": "backward", "queries": n, "tokens": n}
    row |= over_backends(lambda backend: time(dense(*leaves, backend, causal=True)))
    for name, draw in (("near", near_blocks), ("random", random_blocks)):
        blocks = draw(n, n, generator)
        row[f"attend_{name}"] = time(block_sparse_attention(*leaves, blocks, block_size=BLOCK))
    return row | {"ratio": fastest(row) / row["attend_near"], "unit": "ms"}


def table(rows: list[dict]) -> str:
    """The rows as text, times only."""
    columns = ["cudnn", "flash", "score", "select", "score_and_select", "attend", "attend_near"]
    columns += ["attend_random", "msa", "ratio"]
    lines = [["task", "queries", "tokens", "unit", *columns]]
    for row in rows:
        values = [f"{row[c]:.4g}" if c in row else "" for c in columns]
        lines.append([row["task"], f"{row['queries']}", f"{row['tokens']}", row["unit"], *values])
    return helpers.aligned(lines, right=True)


def main() -> None:
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("folder", type=Path, help="where kernels.json goes")
    parser.add_argument("--errors", type=Path, help="JSON lines that the GPU tests wrote")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA device; torch.cuda.is_available() is False.")

    generator = torch.Generator("cuda").manual_seed(CONFIG["seed"])
    tasks = [(prefill, n) for n in CONFIG["prefill_tokens"]]
    tasks += [(tail, CONFIG["tail_queries"], m) for m in CONFIG["tail_tokens"]]
    tasks += [(decode, m) for m in CONFIG["decode_tokens"]]
    tasks += [(backward, n) for n in CONFIG["backward_tokens"]]
    rows = []
    for task, *sizes in tasks:
        rows.append(task(*sizes, generator))
        torch.cuda.empty_cache()
    print(table(rows))

    made = {
        "device": device_name("cuda"),
        "commit": options.commit,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
    }
    values = {"rows": rows}
    records.save(
        options.folder / "kernels.json", values, config=CONFIG, seed=CONFIG["seed"], **made
    )
    if options.errors:
        measured = sorted(options.errors.read_text().splitlines())
        values = {"rows": [json.loads(line) for line in measured]}
        seeds = range(max(row["shapes"] for row in values["rows"]))  # of the numbers in each shape
        records.save(options.folder / "kernel_errors.json", values, seed=seeds, **made)


if __name__ == "__main__":
    main()
