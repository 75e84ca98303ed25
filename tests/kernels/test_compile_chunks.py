"""LSA's kernels compile for cards that are not here, as in `test_compile.py`."""

import pytest
import torch
from chunk_inputs import draw_logits, draw_reading, draw_scoring

from intuitive.kernels import cell_attention, copy_cells, score_chunks, select_chunks, tuning

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from test_compile import SHARED_BYTES, Card, compiled, launches, stack_bytes  # noqa: F401
from triton.runtime import driver

HALF, BRAIN, FLOAT = torch.float16, torch.bfloat16, torch.float32
SPILLED_BYTES = 64  # per thread; with fewer registers a third program fits a multiprocessor


def call_scores(arch, dtype, stored, *, heads=128, d=128, round_q=False, chunks=4096):
    driver.set_active(Card(arch))
    x = draw_scoring(1, heads, chunks, d, seed=0, stored=stored, dtype=dtype)
    score_chunks(*x, round_q=round_q, impl="triton", validate=False)


def call_attention(arch, dtype, *, packed, h=64, d=512, b=1):
    driver.set_active(Card(arch))
    x = draw_reading(b, h, d, 600, 512, 128, seed=0, dtype=dtype)
    cells = torch.zeros(600, 584, dtype=torch.uint8) if packed else x.cells
    cell_attention(x.q, cells, *x[2:], impl="triton", validate=False)


def call_the_rest(arch):
    driver.set_active(Card(arch))
    select_chunks(draw_logits(3, 5000, seed=0), threshold=0.5, impl="triton", validate=False)
    source, places = torch.zeros(50, 584, dtype=torch.uint8), torch.arange(40)
    copy_cells(source, source.clone(), places, places, impl="triton", validate=False)


def assert_sound(made, arch):
    for name, kernel in made:
        assert kernel.metadata.shared <= SHARED_BYTES[arch], name
        assert "tf32" not in kernel.asm["ptx"], name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stored", "round_q", "product"),
    [
        ("rows", True, "m64n128k32.f32.e4m3.e4m3"),
        ("rows", False, "m64n128k16.f32.f16.f16"),
        ("plain", False, "m64n128k16.f32.bf16.bf16"),
    ],
)
def test_scores_on_hopper(launches, stored, round_q, product):  # noqa: F811
    """The right tensor cores, loads that run ahead, and three programs a processor.

    8-bit keys stand in registers when they are multiplied, so that nothing stores them decoded.
    """
    call_scores(90, BRAIN, stored, round_q=round_q)
    made = compiled(launches)
    assert_sound(made, 90)
    ((name, kernel),) = made
    assert name == "score_chunks_kernel"
    ptx = kernel.asm["ptx"]
    assert f"wgmma.mma_async.sync.aligned.{product}" in ptx
    assert "cp.async" in ptx and "prefetch.L2" not in ptx
    assert stack_bytes(kernel) <= SPILLED_BYTES
    together = 2 if stored == "plain" else 3
    assert together * (kernel.metadata.shared + 1024) <= 228 * 1024


@pytest.mark.slow
def test_keys_are_sent_for_where_a_tile_says_so(launches):  # noqa: F811
    tile = tuning.ScoreTile(chunks=16, num_warps=4, num_stages=2, programs=264, prefetch=3)
    with tuning.force(score_chunks=tile):
        call_scores(90, BRAIN, "rows", heads=16, d=32)
    ptx = compiled(launches)[0][1].asm["ptx"]
    assert ptx.count("cp.async.bulk.prefetch.L2.global") == 3 + 1  # ahead of all, and as it goes
    launches.clear()
    with tuning.force(score_chunks=tile):
        call_scores(80, BRAIN, "rows", heads=16, d=32)
    assert "prefetch.L2" not in compiled(launches)[0][1].asm["ptx"]  # an A100 cannot


def test_packed_cells_take_eight_warps_while_each_program_is_alone(launches):  # noqa: F811
    """As measured: 80 programs of batch 1 fit 132 multiprocessors, the 640 of batch 8 do not."""
    warps = {}
    for packed in (True, False):
        for b in (1, 8):
            call_attention(90, BRAIN, packed=packed, b=b)
            warps[packed, b] = launches[0][3]["num_warps"]
            launches.clear()
    assert warps == {(True, 1): 8, (True, 8): 4, (False, 1): 4, (False, 8): 4}


@pytest.mark.slow
@pytest.mark.parametrize(("packed", "b"), [(False, 1), (True, 1), (True, 8)])
def test_attention_on_hopper(launches, packed, b):  # noqa: F811
    call_attention(90, BRAIN, packed=packed, b=b)
    made = compiled(launches)
    assert_sound(made, 90)
    assert [name for name, _ in made] == ["attend_cells_kernel", "merge_cells_kernel"]
    assert all(stack_bytes(kernel) <= SPILLED_BYTES for _, kernel in made)
    assert "cp.async" in made[0][1].asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
def test_selection_and_copies_compile(launches, arch):  # noqa: F811
    call_the_rest(arch)
    made = compiled(launches)
    assert {name for name, _ in made} == {
        "count_chunks_kernel", "write_chunks_kernel", "copy_cells_kernel",
    }  # fmt: skip
    assert_sound(made, arch)
    assert all("atom" not in kernel.asm["ptx"] for _, kernel in made)  # the order is fixed


@pytest.mark.slow
@pytest.mark.parametrize("round_q", [False, True])
def test_scores_without_8_bit_numbers(launches, round_q):  # noqa: F811
    """An A100 has none: codes are shifted into float16, and float16 is multiplied."""
    call_scores(80, BRAIN, "rows", round_q=round_q)
    made = compiled(launches)
    assert_sound(made, 80)
    ptx = made[0][1].asm["ptx"]
    assert "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" in ptx
    assert "e4m3" not in ptx


@pytest.mark.slow
def test_attention_without_8_bit_numbers(launches):  # noqa: F811
    call_attention(80, BRAIN, packed=True)
    made = compiled(launches)
    assert_sound(made, 80)
    assert all("e4m3" not in kernel.asm["ptx"] for _, kernel in made)


def test_the_largest_sizes_are_refused_on_turing(launches):  # noqa: F811
    """64 KiB of shared memory hold neither 128 heads of 128 numbers nor cells of 512."""
    for call in (
        lambda: call_scores(75, HALF, "rows"),
        lambda: call_attention(75, HALF, packed=True),
    ):
        with pytest.raises(ValueError, match=r"gives a program 65536.*Pass impl='reference'"):
            call()
    call_scores(75, HALF, "rows", heads=64)
    call_attention(75, HALF, packed=False, d=128)
    assert len(launches) == 3


def promised(sizes):
    return [
        pytest.param(*size, id="-".join(str(x).removeprefix("torch.") for x in size))
        for size in sizes
    ]


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("arch", "dtype", "stored", "heads", "d"),
    promised(
        (arch, dtype, stored, heads, d)
        for arch in (80, 86, 90)
        for dtype in (HALF, BRAIN, FLOAT)
        for stored in ("plain", "rows")
        for heads in (1, 64, 128)
        for d in (16, 32, 64, 128)
    ),
)
def test_scores_fit_every_card_at_every_size(launches, arch, dtype, stored, heads, d):  # noqa: F811
    call_scores(arch, dtype, stored, heads=heads, d=d, round_q=stored == "rows")
    assert_sound(compiled(launches), arch)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("arch", "dtype", "d", "packed"),
    promised(
        (arch, dtype, d, packed)
        for arch in (80, 86, 90)
        for dtype in (HALF, BRAIN, FLOAT)
        for d in (16, 64, 128, 256, 512)
        for packed in (False, True)
        if (dtype != FLOAT or d <= 128) and (not packed or d == 512)
    ),
)
def test_attention_fits_every_card_at_every_size(launches, arch, dtype, d, packed):  # noqa: F811
    call_attention(arch, dtype, packed=packed, d=d)
    assert_sound(compiled(launches), arch)
