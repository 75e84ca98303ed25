"""The first call of each MSA kernel in a new process, with nothing compiled, on one CUDA GPU.

    python benchmarks/cold_start.py [--commit HASH] [--out FILE]

Each job runs in a process of its own, with an empty folder for Triton's cache; then once more with
what the first left there. Times from the call to the synchronised answer; importing the package
and opening the device stand beside them. Writes benchmarks/results/cold_start.json.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import helpers

RESULT = helpers.RESULTS / "cold_start.json"
SEED = 0
TOKENS = 8192
PAPER = {"h_q": 64, "h_kv": 4, "d": 128, "block_size": 128, "n_selected": 16, "dtype": "bfloat16"}
JOBS = ("prefill", "backward", "decode")
GOAL_S = 20


def job(name: str) -> Callable[[], object]:
    """Everything that one call needs, at the paper's sizes."""
    import torch

    from intuitive.kernels import block_sparse_attention, decode_step, score_and_select

    torch.manual_seed(SEED)
    n = 1 if name == "decode" else TOKENS

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    d, h_kv, block_size = PAPER["d"], PAPER["h_kv"], PAPER["block_size"]
    q, q_idx = normal(1, n, PAPER["h_q"], d), normal(1, n, h_kv, d)
    k, v, k_idx = normal(1, TOKENS, h_kv, d), normal(1, TOKENS, h_kv, d), normal(1, TOKENS, d)
    rule = {"block_size": block_size, "n_selected": PAPER["n_selected"]}
    if name == "decode":
        return lambda: decode_step(q, k, v, q_idx, k_idx, **rule)
    for tensor in (q, k, v):
        tensor.requires_grad_(name == "backward")

    def attend() -> torch.Tensor:
        blocks = score_and_select(q_idx, k_idx, **rule)
        return block_sparse_attention(q, k, v, blocks, block_size=block_size)

    return attend if name == "prefill" else lambda: attend().sum().backward()


def timed(name: str) -> dict[str, float]:
    """Seconds of this process: import and device, then the first call and the second."""
    marks = [time.perf_counter()]
    call = job(name)
    import torch

    torch.cuda.synchronize()
    marks.append(time.perf_counter())
    for _ in range(2):
        call()
        torch.cuda.synchronize()
        marks.append(time.perf_counter())
    names = ("import_and_device_s", "first_call_s", "second_call_s")
    return dict(zip(names, (b - a for a, b in itertools.pairwise(marks)), strict=True))


def in_a_new_process(name: str, cache: str) -> dict[str, float]:
    """`timed` in a process that keeps what it compiles in `cache`."""
    command = [sys.executable, __file__, "--job", name]
    run = subprocess.run(
        command, env=os.environ | {"TRITON_CACHE_DIR": cache}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    """Each job cold, then with a full cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--job", choices=JOBS, help="one job in this process, printed as JSON")
    chosen = parser.parse_args()
    if chosen.job:
        print(json.dumps(timed(chosen.job)))
        return
    from intuitive.common import records
    from intuitive.common.runtime import device_name

    rows = []
    for name in JOBS:
        with tempfile.TemporaryDirectory() as cache:
            for kept in ("nothing", "compiled"):
                rows.append({"job": name, "cache": kept, **in_a_new_process(name, cache)})
                print(rows[-1], flush=True)
    rows = helpers.rounded(rows, decimals=3)
    longest = max(row["first_call_s"] for row in rows)
    print(f"longest first call {longest} s, goal {GOAL_S}")
    records.save(
        chosen.out,
        {"rows": rows, "longest_first_call_s": longest, "goal_s": GOAL_S},
        config=PAPER | {"tokens": TOKENS},
        device=device_name("cuda"),
        commit=chosen.commit,
        seed=SEED,
    )


if __name__ == "__main__":
    main()
