"""Batches of sequences compile for cards that are not here, as in `test_compile.py`."""
# ruff: noqa: F811 - the fixture `launches` comes from there

import pytest
import torch
from varlen_inputs import draw_batch

from intuitive.kernels import attend_varlen, select_varlen

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from test_compile import (
    HALF,
    Card,
    launches,  # noqa: F401
    name_of,
    promised,
    shared_of,
    stack_bytes,
)
from test_compile_plans import BRAIN, FLOAT, SHARED, card, sound
from triton.runtime import driver

MANY = {"varlen_scores_kernel", "varlen_select_kernel", "varlen_lists_kernel"} | {
    "varlen_attend_kernel"
}
ONE = {"share_scores_kernel", "varlen_select_kernel", "varlen_part_kernel", "merge_kernel"}
SPILLED_BYTES = {"varlen_attend_kernel": 96}  # as `attend_kernel` with the plan "hopper"


def call(
    layout, dtype, *, single, plan="hopper", block_size=128, d=128, group=16, h_kv=2, n_selected=16
):
    """Selection and attention of three sequences; nothing is computed."""
    lengths = [(1, 300), (1, 0), (1, 40)] if single else [(30, 300), (0, 40), (9, 40)]
    batch = draw_batch(
        layout, lengths, h_kv, group, d, block_size=block_size, n_selected=n_selected, seed=0,
        dtype=dtype, single=single,
    )  # fmt: skip
    rule = batch.where | {"block_size": block_size, "impl": "triton", "validate": False}
    select_varlen(batch.q_idx, batch.k_idx, n_selected=n_selected, plan=plan, **rule)
    attend_varlen(*batch[:3], batch.block_idx, plan=plan, **rule)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", ["pages", *(pytest.param(x, marks=pytest.mark.sweep) for x in ("packed", "cache"))]
)
def test_hopper_has_bulk_copies_and_warpgroup_products(launches, layout):
    card(90)
    call(layout, BRAIN, single=False)
    made = sound(launches, 90)
    assert set(made) == MANY
    for name, kernel in made.items():
        assert stack_bytes(kernel) <= SPILLED_BYTES.get(name, 0), name
    for name in ("varlen_scores_kernel", "varlen_attend_kernel"):
        ptx = made[name].asm["ptx"]
        assert "wgmma.mma_async" in ptx, name
        assert "cp.async.bulk.tensor" in ptx, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", [75, 86, 90, *(pytest.param(arch, marks=pytest.mark.sweep) for arch in (80, 89))]
)
def test_every_card_is_served(launches, arch):
    """Many queries in general kernels, and one query each; keys load ahead from Ampere on."""
    card(arch)
    dtype = BRAIN if arch >= 80 else HALF
    sizes = {} if arch >= 89 else {"block_size": 32, "d": 64, "group": 4, "n_selected": 3}
    call("pages", dtype, single=True, **sizes)
    if arch in (75, 86):
        call("pages", dtype, single=False, plan="general", **sizes)
    made = sound(launches, arch)
    assert set(made) == (ONE | MANY if arch in (75, 86) else ONE)
    if arch >= 80:
        assert "cp.async" in made["share_scores_kernel"].asm["ptx"]


@pytest.mark.sweep
@pytest.mark.parametrize("case", [c for c in promised() if c[4] in (1, 16, 128)], ids=name_of)
@pytest.mark.parametrize("single", [False, True], ids=["many", "one"])
def test_chosen_tiles_fit_every_card_at_every_size(monkeypatch, launches, single, case):
    arch, dtype, block_size, d, group = case
    driver.set_active(Card(arch))
    for h_kv in (2, 24):  # a group of heads that fills one product of scores, and a wider one
        call("pages", dtype, single=single, block_size=block_size, d=d, group=group, h_kv=h_kv)
    names = {kernel.__name__ for kernel, *_ in launches}
    taken = list(shared_of(launches, monkeypatch, names))
    assert {name for name, _ in taken} == names
    assert [(name, bytes_) for name, bytes_ in taken if bytes_ > SHARED[arch]] == []


def test_a_card_too_small_is_refused_before_the_launch(launches):
    driver.set_active(Card(80, shared=8192))
    for single in (False, True):
        with pytest.raises(ValueError, match=r"gives a program 8192 bytes of shared memory"):
            call("cache", FLOAT, single=single)
    assert launches == []


def test_launches_do_not_depend_on_lengths(launches):
    """The same grids for other lengths in tensors of the same shapes: a captured graph serves."""
    card(90)
    grids = []
    for lengths in ([(20, 300), (4, 40), (0, 0)], [(8, 30), (8, 10), (8, 300)]):
        batch = draw_batch(
            "pages", lengths, 2, 4, 64, block_size=64, n_selected=3, seed=0, dtype=HALF
        )
        rule = batch.where | {"block_size": 64, "impl": "triton", "validate": False}
        select_varlen(batch.q_idx, batch.k_idx, n_selected=3, **rule)
        attend_varlen(*batch[:3], batch.block_idx, **rule)
        grids.append([(kernel.__name__, grid) for kernel, _, grid, _ in launches])
        launches.clear()
    assert grids[0] == grids[1]
    assert torch.tensor(grids[0][0][1]).prod() > 0
