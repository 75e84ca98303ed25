"""The kernels compile for cards that are not here: same public functions, no launch.

A stand-in driver names the card, and every launch becomes a compilation.
"""

import functools
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from kernel_inputs import draw_index

from intuitive.kernels import (
    block_scores,
    block_sparse_attention,
    dispatch,
    limits,
    score_and_select,
)

triton = pytest.importorskip("triton", reason="Triton is not installed on this platform")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.backends.nvidia.compiler import CUDABackend  # noqa: E402
from triton.runtime import driver  # noqa: E402
from triton.runtime.jit import KernelInterface  # noqa: E402

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SPILLED_BYTES = 160  # per thread on an H100; one kernel comes near, the others spill nothing
SHARED_BYTES = {75: 65_536, 80: 166_912, 86: 101_376, 90: 232_448}  # of one program, by card
TILED = {  # the kernels whose tiles are chosen; the others take next to no shared memory
    "block_scores_kernel", "attend_kernel", "attend_part_kernel", "dq_kernel", "dkv_part_kernel",
}  # fmt: skip
HALF, BRAIN, FLOAT = torch.float16, torch.bfloat16, torch.float32


class Card:
    """As much of a driver as compiling asks for; its shared memory can be given another size."""

    def __init__(self, arch, shared=None):
        self.arch, self.shared = arch, shared or SHARED_BYTES[arch]
        self.utils = self

    def get_current_target(self):
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0

    def get_device_properties(self, device):
        return {"max_shared_mem": self.shared}


@pytest.fixture
def launches(monkeypatch):
    """What was launched, filled by `launch` below while the functions run on CPU tensors."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here, and the GPU tests compile for it")
    made = []

    def launch(self, *args, grid, **options):
        made.append((self, args, grid, options))

    monkeypatch.setattr(
        KernelInterface,
        "__getitem__",
        lambda self, grid: functools.partial(launch, self, grid=grid),
    )
    monkeypatch.setattr(dispatch, "choose", lambda impl, device: impl)
    yield made
    driver.reset_active()


def compiled(launches):
    """(name, compiled kernel) of every launch."""
    return [
        (kernel.__name__, kernel.run(*args, grid=grid, warmup=True, **options))
        for kernel, args, grid, options in launches
    ]


class Stopped(Exception):
    """Carries the shared memory of a kernel, known before the assembler runs."""


def shared_of(launches, monkeypatch):
    """(name, bytes of shared memory) of every launch of a tiled kernel; stops at LLVM's code."""
    add_stages = CUDABackend.add_stages

    def add_fewer_stages(self, stages, options, language):
        def stop(source, metadata):
            raise Stopped(metadata["shared"])

        add_stages(self, stages, options, language)
        stages["ptx"] = stop

    with monkeypatch.context() as patch:
        patch.setattr(CUDABackend, "add_stages", add_fewer_stages)
        for kernel, args, grid, options in launches:
            if kernel.__name__ in TILED:
                try:
                    shared = kernel.run(*args, grid=grid, warmup=True, **options).metadata.shared
                except Stopped as stopped:
                    (shared,) = stopped.args
                yield kernel.__name__, shared


def stack_bytes(kernel):
    """Bytes of local memory per thread, which hold spilled registers."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        usage = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return int(re.search(r"STACK:(\d+)", usage)[1])


def call_everything(card, dtype, *, block_size, d, group, scores=True):
    """Every function once, at n = 40 and n = 1, and a backward pass; values are never computed."""
    driver.set_active(card)
    m, h_kv, rule = 300, 2, {"block_size": block_size, "impl": "triton", "validate": False}
    for n in (1, 40):
        if scores:
            q_idx, k_idx = draw_index(1, n, m, h_kv, d, seed=0, dtype=dtype)
            block_scores(q_idx, k_idx, **rule)
            score_and_select(q_idx, k_idx, n_selected=3, **rule)
        q = torch.zeros(1, n, h_kv * group, d, dtype=dtype, requires_grad=True)
        k = torch.zeros(1, m, h_kv, d, dtype=dtype)
        blocks = torch.zeros(1, n, h_kv, 3, dtype=torch.int32)
        out = block_sparse_attention(q, k, k, blocks, **rule)
    out.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "block_size", "d", "group"),
    [
        (BRAIN, 128, 128, 16),  # the paper's sizes
        (HALF, 16, 64, 3),
        (FLOAT, 64, 128, 4),
    ],
    ids=lambda x: str(x).removeprefix("torch."),
)
def test_kernels_compile_for_hopper(launches, dtype, block_size, d, group):
    call_everything(Card(90), dtype, block_size=block_size, d=d, group=group)
    made = compiled(launches)
    assert {name for name, _ in made} == TILED | {
        "select_blocks_kernel", "list_blocks_kernel", "merge_kernel", "dkv_sum_kernel",
    }  # fmt: skip
    for name, kernel in made:
        assert kernel.metadata.shared <= SHARED_BYTES[90], name
        assert stack_bytes(kernel) <= SPILLED_BYTES, name
        ptx = kernel.asm["ptx"]
        assert "tf32" not in ptx, name  # float32 products are not rounded
        if dtype == BRAIN and name in ("block_scores_kernel", "attend_kernel"):
            assert "cp.async" in ptx, name  # loads run ahead of the products
