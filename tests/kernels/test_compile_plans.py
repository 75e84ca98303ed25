"""Every plan compiles for cards that are not here, as in `test_compile.py`."""
# ruff: noqa: F811 - the fixture `launches` comes from there

import pytest
import torch
from kernel_inputs import draw_index

from intuitive.kernels import (
    block_sparse_attention,
    decode_step,
    index_codes,
    limits,
    score_and_select,
)

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from test_compile import (
    SHARED_BYTES,
    Card,
    compiled,
    launches,  # noqa: F401
    name_of,
    promised,
    shared_of,
    stack_bytes,
)
from triton.runtime import driver

from intuitive.kernels.measuring import decode_kernels

HALF, BRAIN, FLOAT = torch.float16, torch.bfloat16, torch.float32
SHARED = SHARED_BYTES | {89: 101_376}
SPILLED_BYTES = {"attend_kernel": 96}  # per thread, which is held to 168 registers
GENERAL = {
    "block_scores_kernel", "select_blocks_kernel", "list_blocks_kernel", "attend_kernel",
    "dq_kernel", "dkv_part_kernel", "dkv_sum_kernel", "attend_part_kernel", "merge_kernel",
}  # fmt: skip
HOPPER = GENERAL - {"select_blocks_kernel", "dkv_part_kernel", "attend_part_kernel"} | {
    "select_rows_kernel", "dkv_edges_kernel", "decode_scores_kernel", "select_and_attend_kernel",
}  # fmt: skip


STEP = {"decode_scores_kernel", "select_and_attend_kernel", "merge_kernel"}


def card(arch):
    driver.set_active(Card(arch, SHARED[arch]))


def call(plan, dtype, *, block_size=128, d=128, group=16, m=300):
    """A step of many queries with its gradients, and one of one query; nothing is computed."""
    h_kv, rule = 2, {"block_size": block_size, "impl": "triton", "validate": False, "plan": plan}
    once = rule | {"plan": "general" if plan == "scattered" else plan}
    q = torch.zeros(1, 40, h_kv * group, d, dtype=dtype, requires_grad=True)
    k = torch.zeros(1, m, h_kv, d, dtype=dtype)
    q_idx, k_idx = draw_index(1, 40, m, h_kv, d, seed=0, dtype=dtype)
    score_and_select(q_idx, k_idx, n_selected=16, **once)
    blocks = torch.zeros(1, 40, h_kv, 16, dtype=torch.int32)
    block_sparse_attention(q, k, k, blocks, **rule).sum().backward()
    decode_step(q[:, -1:].detach(), k, k, q_idx[:, -1:], k_idx, n_selected=16, **once)


def sound(launches, arch):
    """Kernels by name, none of which takes more than the card has."""
    made = dict(compiled(launches))
    for name, kernel in made.items():
        assert kernel.metadata.shared <= SHARED[arch], name
        assert "tf32" not in kernel.asm["ptx"], name
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block_size", "d", "group"),
    [
        (128, 128, 16),
        pytest.param(64, 64, 3, marks=pytest.mark.sweep),
        pytest.param(128, 64, 8, marks=pytest.mark.sweep),
    ],
)
def test_hopper_has_its_own_kernels(monkeypatch, launches, block_size, d, group):
    monkeypatch.setattr(limits, "FEWEST_ROWS", 1)
    card(90)
    call("hopper", BRAIN, block_size=block_size, d=d, group=group)
    made = sound(launches, 90)
    assert set(made) == HOPPER
    for name, kernel in made.items():
        assert stack_bytes(kernel) <= SPILLED_BYTES.get(name, 0), name
    for name in ("attend_kernel", "block_scores_kernel"):
        ptx = made[name].asm["ptx"]
        assert "wgmma.mma_async" in ptx, name
        assert "cp.async.bulk.tensor" in ptx, name
    assert ".maxnreg 168" in made["attend_kernel"].asm["ptx"]


@pytest.mark.slow
def test_launches_of_a_decode_step_may_overlap(monkeypatch, launches):
    way = {"overlap": 2, "chained": True, "ranked": True, "stretches": True}
    monkeypatch.setattr(decode_kernels, "CHANGED", way)
    card(90)
    call("hopper", BRAIN)
    made = sound(launches, 90)
    asked = [o["launch_pdl"] for *_, o in launches if "launch_pdl" in o]
    assert asked == [True] * 3
    assert all(stack_bytes(made[name]) == 0 for name in STEP)
    for name, first in (
        ("decode_scores_kernel", "griddepcontrol.launch_dependents"),
        ("select_and_attend_kernel", "griddepcontrol.wait"),
        ("merge_kernel", "griddepcontrol.wait"),
    ):
        assert first in made[name].asm["ptx"], name


@pytest.mark.sweep
@pytest.mark.parametrize("case", [c for c in promised([90]) if c[1] == BRAIN], ids=name_of)
@pytest.mark.parametrize("plan", ["hopper", "scattered"])
def test_a_plan_fits_a_hopper_card_at_every_size(monkeypatch, launches, plan, case):
    monkeypatch.setattr(limits, "FEWEST_ROWS", 1)
    _, dtype, block_size, d, group = case
    card(90)
    call(plan, dtype, block_size=block_size, d=d, group=group)
    names = {kernel.__name__ for kernel, *_ in launches}
    taken = list(shared_of(launches, monkeypatch, names))
    assert {name for name, _ in taken} == names
    assert [(name, bytes_) for name, bytes_ in taken if bytes_ > SHARED[90]] == []


@pytest.mark.parametrize("arch", [80, 86, 89])
def test_other_cards_get_the_general_kernels(monkeypatch, launches, arch):
    monkeypatch.setattr(limits, "FEWEST_ROWS", 1)
    card(arch)
    call("hopper", BRAIN)
    assert {kernel.__name__ for kernel, *_ in launches} == GENERAL
    assert not any(options.get(flag) for *_, options in launches for flag in ("HOPPER", "BULK"))


def test_a_turing_card_and_float32_get_the_general_kernels(launches):
    for arch, dtype in ((75, HALF), (90, FLOAT)):
        card(arch)
        call("hopper", dtype)
        assert {kernel.__name__ for kernel, *_ in launches} == GENERAL
        launches.clear()


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 86, 90])
def test_scattered_selections(launches, arch):
    card(arch)
    x = [torch.zeros(1, 40, h, 128, dtype=BRAIN) for h in (32, 2, 2)]
    blocks = torch.zeros(1, 40, 2, 16, dtype=torch.int32)
    rule = {"impl": "triton", "plan": "scattered", "validate": False}
    block_sparse_attention(*x, blocks, block_size=128, **rule)
    made = sound(launches, arch)
    served = {"attend_block_kernel", "merge_slots_kernel"}
    assert set(made) == (served if arch != 86 else {"list_blocks_kernel", "attend_kernel"})


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["general", "hopper"])
@pytest.mark.parametrize("arch", [75, 80, 86, 89, 90])
def test_narrow_index_vectors(monkeypatch, launches, plan, arch):
    monkeypatch.setattr(limits, "FEWEST_ROWS", 1)
    card(arch)
    rule = {"n_selected": 16, "impl": "triton", "validate": False, "plan": plan}
    for dtype, block_size in ((HALF if arch < 80 else BRAIN, 128), (FLOAT, 16)):
        q_idx, k_idx = draw_index(1, 40, 300, 2, 32, seed=0, dtype=dtype)
        score_and_select(q_idx, k_idx, block_size=block_size, **rule)
        score_and_select(q_idx[:, -1:], k_idx, block_size=block_size, **rule)
    assert "block_scores_kernel" in sound(launches, arch)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "d"), [(80, 128), (86, 128), (89, 128), (90, 128), (90, 32)])
def test_codes(monkeypatch, launches, arch, d):
    """Ada and Hopper multiply codes by codes; the others the same numbers in float16."""
    monkeypatch.setattr(limits, "FEWEST_ROWS", 1)
    card(arch)
    q_idx, k_idx = draw_index(1, 40, 300, 2, d, seed=0, dtype=BRAIN)
    rule = {"n_selected": 16, "block_size": 128, "impl": "triton", "validate": False}
    codes = index_codes(k_idx, unit=1.0)
    score_and_select(index_codes(q_idx), codes, **rule)
    q, k = (torch.zeros(1, n, h, 128, dtype=BRAIN) for n, h in ((1, 32), (300, 2)))
    decode_step(q, k, k, q_idx[:, -1:], codes, **rule)
    made = sound(launches, arch)
    rows = "select_rows_kernel" if arch >= 89 else "select_blocks_kernel"
    assert set(made) == {"block_scores_kernel", rows} | STEP
    assert (".e4m3" in made["block_scores_kernel"].asm["ptx"]) == (arch >= 89)
