"""What docs/kernels.md says of decode steps follows from the committed runs."""

from pathlib import Path

import pytest

from intuitive.common import records, results

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"


def values(name: str) -> dict:
    return records.load(results.path(name))[0]


@pytest.fixture(scope="module")
def told() -> str:
    page = PAGE.read_text("utf-8")
    return page[page.index("**One decode step after 8K") : page.index("### The ladder")]


def test_figures_of_one_layer(told):
    rows = values("kernels_h100")["rows"]
    first = next(row for row in rows if (row["task"], row["tokens"]) == ("decode", 8192))
    profile, ladder = values("kernel_profile"), values("ladder_decode")
    ours = {name: row["8K"] for name, row in ladder["rows"].items()}
    now, dense = ours["hopper, late, counted"], ladder["about"]["dense 8K"]
    assert f"| {first['msa']:.1f} µs, dense {first['cudnn']:.1f} | H100 |" in told
    assert f"; {profile['decode']['8K, hopper']['whole_us']:.1f} too in `kernel_profile" in told
    assert f"| {now:.1f} µs, dense {dense:.1f} | H200 |" in told
    assert f"four launches take {ours['general']:.1f} µs, three in turn " in told
    assert f"{ours['hopper, in turn']:.1f}, and today's version {now:.1f}:" in told
    assert f"dense attention takes {first['cudnn'] - dense:.1f} µs less on" in told


def test_one_figure_of_a_whole_model(told):
    took = {
        row["attention"]: row["fixed_ms_per_token"]
        for row in values("generation_h200")["rows"]
        if row["dtype"] == "bfloat16"
    }
    assert f"| {took['dense'] / took['msa']:.1f} times as fast as dense | H200 |" in told
