"""What bounds each step of MSA on a GPU: parts left out, inputs changed, occupancy, counters.

    python benchmarks/kernel_profile.py OUT.json --commit HASH [--seconds 60]

Experiments need no counters: a step is timed without one of its kernels, with as many empty
launches, or on selections that share more or less. Where `ncu` may read counters, it adds them.
"""

import csv
import io
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from unittest import mock

import helpers
import ladder_base
import torch
import triton
from ladder_tasks import PARTS
from triton.runtime.jit import JITFunction

from intuitive.common import records
from intuitive.kernels import block_sparse_attention, distinct_blocks, score_and_select
from intuitive.kernels.shared_memory import card

KERNELS = "intuitive.kernels."
SPARSE, DECODE = KERNELS + "block_sparse_attention.", KERNELS + "decode_step.triton_kernel:"
LEFT_OUT = {  # kernels by step, each as "module:name"
    "attend": {"attend": SPARSE + "triton_forward:attend_kernel"},
    "select": {
        "scores": KERNELS + "block_scores.triton_kernel:block_scores_kernel",
        "rows": KERNELS + "select_blocks.triton_rows:select_rows_kernel",
        "slots": KERNELS + "select_blocks.triton_kernel:select_blocks_kernel",
    },
    "decode": {
        "scores": DECODE + "decode_scores_kernel",
        "attend": DECODE + "select_and_attend_kernel",
        "merge": SPARSE + "triton_decode:merge_kernel",
    },
    "backward": {
        "dq": SPARSE + "triton_backward:dq_kernel",
        "tiles": SPARSE + "triton_backward:dkv_part_kernel",
        "edges": SPARSE + "triton_edges:dkv_edges_kernel",
        "sum": SPARSE + "triton_backward:dkv_sum_kernel",
    },
}
COUNTERS = (
    "gpu__time_duration.sum", "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active",
    "sm__inst_issued.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_math_pipe_throttle_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_gmma_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio",
)  # fmt: skip
COUNTED = {  # by case: the kernel that is counted
    "attend": "attend_kernel", "select": "block_scores_kernel", "rows": "select_rows_kernel",
    "decode": "decode_scores_kernel", "backward": "dkv_edges_kernel",
}  # fmt: skip


class Nothing:
    """Stands for a kernel that is not launched."""

    asked = False  # whether it would have been

    def __getitem__(self, grid):
        self.asked = True
        return lambda *arguments, **options: None


@contextmanager
def without(*kernels: str):
    """Leave out kernels, each "module:name"; yields what stands for them."""
    with ExitStack() as stack:
        stand_ins = []
        for kernel in kernels:
            module, name = kernel.split(":")
            stand_ins.append(Nothing())
            stack.enter_context(mock.patch.object(import_module(module), name, stand_ins[-1]))
        yield stand_ins


@triton.jit
def empty_kernel(x_ptr):
    pass


def occupancy(kernel) -> dict:
    """What a compiled kernel takes, how many programs fit a multiprocessor, and why no more."""
    warps, shared = kernel.metadata.num_warps, kernel.metadata.shared
    registers = -(-kernel.n_regs // 8) * 8
    fit = {
        "registers": 65536 // (registers * 32 * warps),
        "shared": (card().shared + 1024) // (shared + 1024),
        "threads": 2048 // (32 * warps),
    }
    return {
        "registers": kernel.n_regs, "spills": kernel.n_spills, "shared": shared, "warps": warps,
        "programs_fit": min(fit.values()), "by": min(fit, key=fit.get),
    }  # fmt: skip


@contextmanager
def compiled(found: dict):
    """Registers, shared memory and programs a multiprocessor of every kernel that is launched."""
    run = JITFunction.run

    def noted(self, *arguments, grid, warmup, **options):
        kernel = run(self, *arguments, grid=grid, warmup=warmup, **options)
        if self.__name__ not in found:
            found[self.__name__] = {}
            with suppress(Exception):  # what a compiled kernel is called differs by version
                found[self.__name__] = occupancy(kernel)
        return kernel

    with mock.patch.object(JITFunction, "run", noted):
        yield


class Profile:
    def __init__(self) -> None:
        self.device = torch.device("cuda")
        self.parts = {name: part("cuda", False) for name, part in PARTS.items()}

    def ceilings(self) -> dict:
        """Bytes and FLOPs a second that plain calls reach here."""
        x = torch.empty(2**30, dtype=torch.uint8, device="cuda")
        y = torch.empty_like(x)
        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        return {
            "copy": 2 * x.numel() / helpers.median_ms(lambda: y.copy_(x)) * 1e3,
            "matmul": 2 * 8192**3 / helpers.median_ms(lambda: a @ a) * 1e3,
        }

    def attend(self) -> dict:
        """128K queries on selections that share all, much or little, near and far in memory."""
        part, n = self.parts["attend"], 131072
        h_q, d, block = ladder_base.H_Q, ladder_base.D, ladder_base.BLOCK
        q, k, v = (part.normal(1, n, h, d) for h in (h_q, 4, 4))
        near = part.near(n, n)
        shared = near[:, ::4].repeat_interleave(4, dim=1)
        own = (torch.arange(n, device=self.device) // block).int()[None, :, None, None]
        hot = torch.where(near >= 0, near % 64, -1).minimum(own)  # 64 blocks of keys, all in L2
        found = {}
        for name, blocks in (("near", near), ("shared by four", shared), ("hot", hot)):
            union = distinct_blocks(blocks).item()
            row = {"distinct": union, "distinct of one": distinct_blocks(blocks, queries=1).item()}
            for plan in ("general", "hopper"):
                ms = helpers.median_ms(lambda b=blocks, p=plan: part.run(p, q, k, v, b), 3)
                flops = 4 * union * n / 4 * 4 * 64 * block * d  # of tiles of 64 rows
                row |= {f"{plan}_ms": ms, f"{plan}_flops_issued": flops / ms * 1e3}
            found[name] = row
        with without(*LEFT_OUT["attend"].values()):
            found["lists_ms"] = helpers.median_ms(lambda: part.run("hopper", q, k, v, near), 3)
        return found

    def select(self) -> dict:
        part, found = self.parts["select"], {}
        scores, rows, slots = LEFT_OUT["select"].values()
        for name, n, m in (
            ("32K", 32768, 32768), ("128K", 131072, 131072), ("8K of 1M", 8192, 2**20),
        ):  # fmt: skip
            x = part.normal(1, n, 4, 128), part.normal(1, m, 128)
            pairs = n * (m - n) + n * (n + 1) / 2
            for plan in ("general", "hopper", "codes"):
                y = part.coded(plan, *x)
                times = {}
                for what, left_out in (
                    ("whole", ()), ("scores", (rows, slots)), ("selection", (scores,)),
                ):  # fmt: skip
                    with without(*left_out):
                        run = lambda y=y, p=plan: part.run(p, *y)  # noqa: E731
                        times[f"{what}_ms"] = helpers.median_ms(run, 3)
                times["flops"] = 2 * 128 * 4 * pairs / times["scores_ms"] * 1e3
                times["score_bytes"] = 4 * 4 * pairs / 128
                found[f"{name}, {plan}"] = times
        return found

    def decode(self) -> dict:
        part, found = self.parts["decode"], {}
        scores, attend, merge = LEFT_OUT["decode"].values()
        one = torch.zeros(1, device="cuda")
        for count in (1, 2, 3):

            def launches(count=count):
                for _ in range(count):
                    empty_kernel[(132,)](one, num_warps=4)

            found[f"{count} empty launches_us"] = helpers.graph_us([launches])
        for name, m in (("8K", 8192), ("32K", 32768), ("128K", 131072), ("1M", 2**20)):
            count = min(max(ladder_base.L2_BYTES // (m * 256), 1), 16)
            for plan in ("hopper", "codes"):
                sets = [part.inputs(plan, 1, m, 4, 16) for _ in range(count)]
                row = {"index_bytes": sets[0][4].numel() * sets[0][4].element_size()}
                for what, left_out in (
                    ("whole", ()), ("scores", (attend, merge)), ("attend", (scores, merge)),
                    ("merge", (scores, attend)), ("without merge", (merge,)),
                ):  # fmt: skip
                    with without(*left_out) as stand_ins:
                        steps = [lambda x=x, p=plan: part.run(p, *x) for x in sets]
                        took = helpers.graph_us(steps)
                    if all(one.asked for one in stand_ins):  # else another way was taken
                        row[f"{what}_us"] = took
                found[f"{name}, {plan}"] = row
        return found

    def backward(self) -> dict:
        part, n, found = self.parts["backward"], 32768, {}
        x = [part.normal(1, n, h, 128) for h in (64, 4, 4)]
        part.dout = part.normal(1, n, 64, 128)
        names = LEFT_OUT["backward"]
        for kind in ("near", "random"):
            blocks = getattr(part, kind)(n, n)
            for plan in ("general", "hopper"):
                leaves, (out, _) = part.forward(plan, *x, blocks, 128)
                times = {"whole_ms": part.back(leaves, out)}
                for what in (*names, None):  # each kernel alone, then none
                    with without(*(kernel for name, kernel in names.items() if name != what)):
                        times[f"{what or 'lists'}_ms"] = part.back(leaves, out)
                found[f"{kind}, {plan}"] = times
        return found

    def counted(self, case: str) -> None:
        """One call, for ncu."""
        if case == "attend":
            part, n = self.parts["attend"], 131072
            x = [part.normal(1, n, h, 128) for h in (64, 4, 4)]
            block_sparse_attention(*x, part.near(n, n), block_size=128, plan="hopper")
        elif case in ("select", "rows"):
            part = self.parts["select"]
            q_idx, k_idx = part.normal(1, 32768, 4, 128), part.normal(1, 32768, 128)
            score_and_select(q_idx, k_idx, n_selected=16, block_size=128, plan="hopper")
        elif case == "decode":
            part = self.parts["decode"]
            part.run("hopper", *part.inputs("hopper", 1, 131072, 4, 16))
        else:
            part, n = self.parts["backward"], 32768
            x = [part.normal(1, n, h, 128) for h in (64, 4, 4)]
            _, (out, _) = part.forward("hopper", *x, part.near(n, n), 128)
            out.float().sum().backward()
        torch.cuda.synchronize()


def counters(case: str, seconds: float) -> dict:
    """What ncu counts of one kernel, or why it does not."""
    command = [
        shutil.which("ncu") or "ncu", "--csv", "--page", "raw", "--clock-control", "none",
        "--kernel-name", COUNTED[case], "--launch-count", "1", "--metrics", ",".join(COUNTERS),
        sys.executable, __file__, "-", "--case", case,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 5))
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": " ".join(f"{error!r}".split())[:300]}
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    if len(rows) < 2:
        return {"error": " ".join((done.stdout + done.stderr).split())[-300:]}
    units, values = rows[0], rows[-1]
    return {name: f"{values[name]} {units[name]}".strip() for name in COUNTERS if name in values}


def main() -> int:
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("out", type=Path, help="the JSON file")
    parser.add_argument("--seconds", type=float, default=60, help="after which nothing begins")
    parser.add_argument("--case", choices=COUNTED, help="one call, for counters")
    option = parser.parse_args()
    profile = Profile()
    if option.case:
        profile.counted(option.case)
        return 0
    start, values, faults = time.time(), {"seconds": {}}, 0

    def save() -> None:
        records.save(
            option.out, helpers.rounded(values, digits=5), config={}, seed=0,
            commit=option.commit, device=profile.parts["attend"].about()["device"],
            versions=profile.parts["attend"].about()["versions"],
        )  # fmt: skip

    kernels: dict[str, dict] = {}
    with compiled(kernels):
        for name in ("ceilings", "decode", "attend", "select", "backward"):
            begun = time.time()
            try:
                left = option.seconds - (begun - start)
                values[name] = getattr(profile, name)() if left > 0 else {"error": "no time left"}
            except Exception as error:
                values[name] = {"error": " ".join(f"{error!r}".split())[:400]}
            faults += "error" in values[name]
            torch.cuda.empty_cache()
            values["kernels"], values["seconds"][name] = kernels, time.time() - begun
            save()
    if shutil.which("ncu"):
        values["counters"] = {}
        for case in COUNTED:
            left = option.seconds - (time.time() - start)
            values["counters"][case] = (
                counters(case, left) if left > 5 else {"error": "no time left"}
            )
            save()
    print(option.out.read_text())
    return faults


if __name__ == "__main__":
    sys.exit(main())
