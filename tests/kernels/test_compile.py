"""The kernels compile for cards that are not here: same public functions, no launch.

A stand-in driver names the card, and every launch becomes a compilation.
"""

import functools
import itertools
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch
from kernel_inputs import draw_index

from intuitive.kernels import (
    block_scores,
    block_sparse_attention,
    dispatch,
    limits,
    plans,
    score_and_select,
    select_blocks,
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
BACKWARD = {"dq_kernel", "dkv_part_kernel"}
HALF, BRAIN, FLOAT = torch.float16, torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def general(monkeypatch):
    """The general kernels, whatever is the default."""
    monkeypatch.setattr(plans, "DEFAULT", "general")


class Card:
    """As much of a driver as compiling asks for; its shared memory can be given another size."""

    def __init__(self, arch, shared=None):
        self.arch, self.shared = arch, shared or SHARED_BYTES[arch]
        self.utils = self

    def get_current_target(self):
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self):
        return 1000 * self.shared + self.arch  # what is compiled or chosen is kept by device

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
    return made


def compiled(launches):
    """(name, compiled kernel) of every launch."""
    return [
        (kernel.__name__, kernel.run(*args, grid=grid, warmup=True, **options))
        for kernel, args, grid, options in launches
    ]


class Stopped(Exception):
    """Carries the shared memory of a kernel, known before the assembler runs."""


def shared_of(launches, monkeypatch, names):
    """(name, bytes of shared memory) of every launch of these kernels; stops at LLVM's code."""
    add_stages = CUDABackend.add_stages

    def add_fewer_stages(self, stages, options, language):
        def stop(source, metadata):
            raise Stopped(metadata["shared"])

        add_stages(self, stages, options, language)
        stages["ptx"] = stop

    with monkeypatch.context() as patch:
        patch.setattr(CUDABackend, "add_stages", add_fewer_stages)
        seen = []
        for kernel, args, grid, options in launches:
            if kernel.__name__ in names and (kernel, options) not in seen:
                seen.append((kernel, options))
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


def call_everything(card, dtype, *, block_size, d, group):
    """Every function once, at n = 40 and n = 1, and a backward pass; values are never computed."""
    driver.set_active(card)
    m, h_kv, rule = 300, 2, {"block_size": block_size, "impl": "triton", "validate": False}
    for n in (1, 40):
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
        pytest.param(FLOAT, 64, 64, 4, marks=pytest.mark.sweep),
        pytest.param(HALF, 16, 64, 3, marks=pytest.mark.sweep),
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
        if dtype == BRAIN and name in ("attend_kernel", "dq_kernel", "dkv_part_kernel"):
            assert "wgmma.mma_async" in ptx, name
            assert "cp.async" in ptx, name  # loads run ahead of the products


@pytest.mark.slow
def test_products_of_float32_are_not_rounded(launches):
    """Of decoding alone; the sweep looks at every kernel."""
    driver.set_active(Card(90))
    q_idx, k_idx = draw_index(1, 1, 40, 1, 64, seed=0)
    block_scores(q_idx, k_idx, block_size=16, impl="triton")
    blocks = torch.zeros(1, 1, 1, 1, dtype=torch.int32)
    block_sparse_attention(q_idx, *[k_idx[:, :, None]] * 2, blocks, block_size=16, impl="triton")
    made = compiled(launches)
    assert {name for name, _ in made} >= {"block_scores_kernel", "attend_part_kernel"}
    assert [name for name, kernel in made if "tf32" in kernel.asm["ptx"]] == []


def promised(archs=SHARED_BYTES):
    """Every size that docs/kernels.md promises, as (card, dtype, block size, head size, group)."""
    for arch, dtype, block_size, d in itertools.product(
        archs, limits.DTYPES, limits.BLOCK_SIZES, limits.HEAD_SIZES
    ):
        if dtype != BRAIN or arch >= 80:
            yield from ((arch, dtype, block_size, d, 2**i) for i in range(8))


def name_of(case):
    arch, dtype, block_size, d, group = case
    return f"sm_{arch}-{str(dtype).removeprefix('torch.')}-block{block_size}-d{d}-group{group}"


def assert_fits(launches, monkeypatch, case, names=TILED):
    arch, dtype, block_size, d, group = case
    call_everything(Card(arch), dtype, block_size=block_size, d=d, group=group)
    shared = list(shared_of(launches, monkeypatch, names))
    assert {name for name, _ in shared} == names
    assert [(name, taken) for name, taken in shared if taken > SHARED_BYTES[arch]] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "names"),
    [  # each failed when every card got the tiles of an H100
        ((75, HALF, 128, 128, 16), {"block_scores_kernel", "attend_part_kernel"}),
        ((86, FLOAT, 128, 128, 64), BACKWARD),
        ((80, FLOAT, 128, 128, 128), BACKWARD),
    ],
    ids=lambda x: name_of(x) if isinstance(x, tuple) else "",
)
def test_chosen_tiles_fit_the_card(launches, monkeypatch, case, names):
    assert_fits(launches, monkeypatch, case, names)


@pytest.mark.sweep
@pytest.mark.parametrize("case", list(promised()), ids=name_of)
def test_chosen_tiles_fit_every_card_at_every_size(launches, monkeypatch, case):
    assert_fits(launches, monkeypatch, case)


def tiles_of(launches):
    """What the launches of tiled kernels say of their tiles."""
    sizes = ("ROWS", "QUERIES", "HEADS", "SPLIT", "SPAN", "KEYS", "num_warps", "num_stages")
    return [
        (kernel.__name__, *((size, options[size]) for size in sizes if size in options))
        for kernel, _, _, options in launches
        if kernel.__name__ in TILED
    ]


def test_an_h100_keeps_the_tiles_that_were_timed(launches):
    """The choice with 227 KiB is the choice with any amount, for every promised size."""
    for _, dtype, block_size, d, group in promised([90]):
        rule = {"block_size": block_size, "d": d, "group": group}
        call_everything(Card(90), dtype, **rule)
        chosen = tiles_of(launches)
        launches.clear()
        call_everything(Card(90, shared=2**30), dtype, **rule)
        assert tiles_of(launches) == chosen
        launches.clear()
    call_everything(Card(90), BRAIN, block_size=128, d=128, group=16)  # the paper's sizes
    assert set(tiles_of(launches)) == {
        ("block_scores_kernel", ("ROWS", 16), ("SPAN", 128), ("KEYS", 128), *warps(8, 2)),
        ("block_scores_kernel", ("ROWS", 128), ("SPAN", 128), ("KEYS", 128), *warps(4, 2)),
        ("attend_part_kernel", ("HEADS", 16), ("SPLIT", 1), ("KEYS", 64), *warps(4, 3)),
        *(
            (name, ("QUERIES", 4), ("HEADS", 16), ("SPLIT", 1), ("KEYS", 64), *warps(4, 2))
            for name in ("attend_kernel", "dq_kernel", "dkv_part_kernel")
        ),
    }


def warps(num_warps, num_stages):
    return ("num_warps", num_warps), ("num_stages", num_stages)


def test_a_launch_asks_the_driver_once_per_card(launches, monkeypatch):
    """Some drivers take a millisecond to answer, more than a short launch."""
    asked = []
    answer = Card.get_device_properties
    monkeypatch.setattr(
        Card,
        "get_device_properties",
        lambda self, device: asked.append(device) or answer(self, device),
    )
    for shared in (150_000, 150_001, 150_000):  # of no real card
        call_everything(Card(90, shared), HALF, block_size=16, d=64, group=2)
    assert asked == [150_000_090, 150_001_090]


def test_a_card_too_small_is_refused_before_the_launch(launches):
    with pytest.raises(
        ValueError,
        match=r"gives a program 8192 bytes of shared memory.*Pass impl='reference'",
    ):
        call_everything(Card(80, shared=8192), HALF, block_size=128, d=128, group=16)
    assert launches == []


def test_turing_has_no_bfloat16(launches):
    with pytest.raises(ValueError, match=r"bfloat16 needs a card from Ampere.* is sm_75.*float16"):
        call_everything(Card(75), BRAIN, block_size=64, d=64, group=1)
    assert launches == []


@pytest.mark.slow
def test_rows_of_the_most_slots_compile_in_seconds(launches):
    """256 slots take some 3 seconds a kernel, 512 take 26, 2048 fail."""
    driver.set_active(Card(90))
    rule = {"n_selected": limits.MAX_SELECTED, "block_size": 16, "impl": "triton"}
    select_blocks(torch.zeros(1, 1, 1, 4096), **rule)
    ((kernel, args, grid, options),) = launches
    start = time.perf_counter()
    kernel.run(*args, grid=grid, warmup=True, **options)
    assert time.perf_counter() - start < 20
