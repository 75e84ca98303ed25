"""The benchmark of plans: what it checks, at sizes for Triton's interpreter."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from intuitive.common import records

pytest.importorskip("triton", reason="Triton is not installed on this platform")
LADDER = Path(__file__).parents[2] / "benchmarks" / "kernel_ladder.py"


@pytest.mark.slow
def test_every_plan_is_checked(tmp_path):
    done = subprocess.run(
        [sys.executable, LADDER, tmp_path, "--small", "--part", "decode", "backward"],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part, plans in (
        ("decode", ["codes", "general", "hopper"]),
        ("backward", ["general", "hopper"]),
    ):
        values, made = records.load(tmp_path / f"ladder_{part}.json")
        assert sorted(values["rows"]) == plans
        assert all(row["passed"] for row in values["rows"].values())
        assert made["config"] == {"part": part}
    assert "## backward" in (tmp_path / "ladder.txt").read_text()


def test_the_profile_leaves_out_kernels_that_exist():
    import kernel_profile

    for step in kernel_profile.LEFT_OUT.values():
        for kernel in step.values():
            module, name = kernel.split(":")
            assert callable(getattr(importlib.import_module(module), name).fn), kernel


def test_what_differs_between_runs_does_not_pass():
    import ladder_base
    import torch

    part = ladder_base.Part("cpu", small=True)
    assert torch.equal(*part.twice(lambda: (torch.ones(2), torch.ones(2))))
    with pytest.raises(RuntimeError, match="two runs differ"):
        part.twice(lambda: (torch.rand(9),))


def test_a_block_left_out_must_not_be_better():
    import ladder_prefill
    import torch

    exact = torch.tensor([[[[4.0, 1.0, 3.0, 2.0, float("-inf")]]]])

    def gap(*ids, n_local=0, n_init=0):
        return ladder_prefill.worst_gap(torch.tensor([[[ids]]]), exact, n_local, n_init)

    assert gap(0, 2) == gap(0, 2, 3) == 0
    assert gap(0, 3) == pytest.approx(1 / 4)
    assert gap(0, 3, n_local=1) == 0  # the last readable block is forced
    assert gap(0, 2, n_local=1) == gap(2, 3, n_init=1) == gap(0, 4) == float("inf")
    with pytest.raises(RuntimeError, match="selected twice"):
        gap(0, 0)


# ----------------------------------------------------------------------------- the committed runs


def test_the_page_holds_the_table_and_the_reasons():
    import ladder_table

    page = (LADDER.parents[1] / "docs" / "kernels.md").read_text("utf-8")
    folder = ladder_table.helpers.RESULTS
    assert ladder_table.table(folder) in page
    assert "\n".join(ladder_table.reasons(folder)) in page
    assert ladder_table.ways(folder) in page


def test_the_way_that_won_is_the_default():
    import dataclasses

    import ladder_steps
    import ladder_table

    won = ladder_steps.WAYS[ladder_table.WON]
    for _, way in ladder_steps.decode_kernels.WAYS:
        assert dataclasses.replace(way, **won) == way
    rows = ladder_table.load(ladder_table.helpers.RESULTS, "ladder_decode")["rows"]
    ours, codes = (rows[f"{plan}, {ladder_table.WON}"] for plan in ("hopper", "codes"))
    wide = rows[f"hopper, {ladder_table.WON}, eight warps"]
    assert all(abs(wide[size] / ours[size] - 1) < 0.03 for size in ("8K", "32K", "128K", "1M"))
    rates = 2**20 * 256 / ours["1M"], 2**20 * 128 / codes["1M"]
    assert [round(rate / 1e6, 1) for rate in rates] == [3.5, 2.9]


def test_no_other_cut_of_dk_and_dv_is_faster():
    import ladder_table

    rows = ladder_table.load(ladder_table.helpers.RESULTS, "ladder_backward")["rows"]
    others = [row["near 32K"] for name, row in rows.items() if ", " in name]
    assert [round(f(others), 1) for f in (min, max)] == [24.1, 25.5]
    assert round(rows["hopper"]["near 32K"], 1) == 23.9


def test_every_plan_passed_and_says_what_the_page_says():
    import ladder_table

    folder = ladder_table.helpers.RESULTS
    parts = {p: ladder_table.load(folder, f"ladder_{p}") for p in ladder_table.PARTS}
    assert all(row["passed"] for part in parts.values() for row in part["rows"].values())
    select = parts["select"]
    coded = select["rows"]["codes"]
    assert round(coded["score_error"], 5) == 4.8e-4
    assert round(coded["worst_score_gap"], 5) == 2.5e-4
    assert round(1 - coded["same_blocks"], 4) == 11e-4
    assert all(select["rows"][plan]["worst_score_gap"] == 0 for plan in ("general", "hopper"))
    assert round(select["about"]["recall of codes on noise, 32K"], 2) == 0.95
    last = parts["last"]["rows"]
    found = {n: [round(last[p][n], 1) for p in ("hopper", "codes")] for n in last["codes"]}
    assert found["step"] == [18.1, 10.1]
    assert found["select"] == [17, 9.4]
    assert found["step, random"] == [20.9, 13.7]
    kept = 2**13 * (64 * 128 * 2 + 64 * 4 + 64 * 4)  # outputs, log-sum-exps, ids
    assert {round((row["peak beyond output"] + kept) / 1e9, 2) for row in last.values()} == {0.27}
    assert round(last["hopper, bulk rows"]["select"], 1) == 17.4
    product = ladder_table.load(folder, "kernel_profile")["ceilings"]["matmul"]
    pairs = 2**13 * (2**20 - 2**13) + 2**13 * (2**13 + 1) / 2
    assert round(2 * 128 * 4 * pairs / product * 1e3) == 11
    assert round(parts["attend"]["rows"]["hopper"]["peak near 128K"] / 1e9, 1) == 2.2


def test_the_default_is_nowhere_slower_than_the_general_plan():
    import ladder_table

    for part in ("attend", "select", "decode", "backward"):
        rows = ladder_table.load(ladder_table.helpers.RESULTS, f"ladder_{part}")["rows"]
        times = (n for n in rows["general"] if n[-1] in "KM" and "peak" not in n)
        taken = rows[ladder_table.DEFAULTS.get(part, {}).get("hopper", "hopper")]
        assert all(taken[name] < 1.02 * rows["general"][name] for name in times)
