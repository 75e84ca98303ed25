"""The kernels compile for an H100 without one: same launchers, no launch.

A stand-in driver names the target, and every launch becomes a compilation.
"""

import functools
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed on this platform")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime import driver  # noqa: E402
from triton.runtime.jit import KernelInterface  # noqa: E402

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SHARED_BYTES = 227 * 1024  # what one program may take on sm_90
SPILLED_BYTES = 160  # per thread; one kernel comes near, the others spill nothing


class Hopper:
    """As much of a driver as compiling asks for."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0


@pytest.fixture
def compiled(monkeypatch):
    """Compiled kernels by name, filled while launchers run on CPU tensors."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here, and the GPU tests compile for it")
    kernels = []

    def launch(self, *args, grid, **options):
        kernels.append((self.__name__, self.run(*args, grid=grid, warmup=True, **options)))

    driver.set_active(Hopper())
    monkeypatch.setattr(
        KernelInterface,
        "__getitem__",
        lambda self, grid: functools.partial(launch, self, grid=grid),
    )
    return kernels


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


def run_everything(dtype, *, block_size, d, group):
    """Every launcher once, at n = 40 and n = 1; values are never computed."""
    from intuitive.kernels.block_sparse_attention import triton_kernel as attention
    from intuitive.kernels.score_and_select import triton_kernel as selection

    n, m, h_kv = 40, 300, 2
    for rows in (n, 1):
        q_idx, k_idx = torch.zeros(1, rows, h_kv, d), torch.zeros(1, m, d)
        selection.score_and_select(q_idx.to(dtype), k_idx.to(dtype), 3, block_size, 1, 0)
        q = torch.zeros(1, rows, h_kv * group, d, dtype=dtype)
        k = torch.zeros(1, m, h_kv, d, dtype=dtype)
        blocks = torch.zeros(1, rows, h_kv, 3, dtype=torch.int32)
        attention.block_sparse_attention(q, k, k, blocks, block_size, 0.1)
    q = torch.zeros(1, n, h_kv * group, d, dtype=dtype)
    lse = torch.zeros(1, n, h_kv * group)
    blocks = torch.zeros(1, n, h_kv, 3, dtype=torch.int32)
    attention.block_sparse_attention_backward(q, lse, q, k, k, q, lse, blocks, block_size, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "block_size", "d", "group"),
    [
        (torch.bfloat16, 128, 128, 16),  # the paper's sizes
        (torch.float16, 16, 64, 3),
        (torch.float32, 64, 128, 4),
    ],
    ids=lambda x: str(x).removeprefix("torch."),
)
def test_kernels_compile_for_hopper(compiled, dtype, block_size, d, group):
    run_everything(dtype, block_size=block_size, d=d, group=group)
    names = {name for name, _ in compiled}
    assert names == {
        "block_scores_kernel", "select_blocks_kernel", "list_blocks_kernel", "attend_kernel",
        "attend_part_kernel", "merge_kernel", "dq_kernel", "dkv_part_kernel", "dkv_sum_kernel",
    }  # fmt: skip
    for name, kernel in compiled:
        assert kernel.metadata.shared <= SHARED_BYTES, name
        assert stack_bytes(kernel) <= SPILLED_BYTES, name


def test_half_precision_uses_warpgroup_products(compiled):
    run_everything(torch.bfloat16, block_size=128, d=128, group=16)
    tiled = {"attend_kernel", "dq_kernel", "dkv_part_kernel"}
    for name, kernel in compiled:
        if name in tiled:
            assert "wgmma.mma_async" in kernel.asm["ptx"], name
            assert "cp.async" in kernel.asm["ptx"], name  # loads run ahead of the products


def test_float32_products_are_not_rounded_to_tf32(compiled):
    run_everything(torch.float32, block_size=64, d=128, group=4)
    for name, kernel in compiled:
        assert "tf32" not in kernel.asm["ptx"], name
