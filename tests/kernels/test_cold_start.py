"""The committed run of first calls, and what the page says of it."""

from pathlib import Path

import cold_start

from intuitive.common import records


def test_first_calls_are_as_the_page_says():
    page = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text("utf-8")
    values, made = records.load(cold_start.RESULT)
    first = {(row["job"], row["cache"]): row["first_call_s"] for row in values["rows"]}
    assert set(first) == {
        (job, kept) for job in cold_start.JOBS for kept in ("nothing", "compiled")
    }
    bare = {job: f"{first[job, 'nothing']:.1f} s" for job in cold_start.JOBS}
    assert (
        f"prefill takes {bare['prefill']}, with its backward pass {bare['backward']} and a decode "
        f"step {bare['decode']} with nothing compiled before"
    ) in page
    kept = [first[job, "compiled"] for job in cold_start.JOBS]
    assert f"{min(kept):.1f} to {max(kept):.1f} s where Triton's cache holds it all" in page
    assert "on an H200" in page and "H200" in made["device"]
    assert values["longest_first_call_s"] == max(first.values()) < cold_start.GOAL_S


def test_every_job_is_built_with_the_papers_sizes(monkeypatch):
    """Without a GPU: the same call on the CPU, on shorter texts."""
    import torch

    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda shape, device, dtype: randn(shape, dtype=dtype))
    monkeypatch.setattr(cold_start, "TOKENS", 256)
    monkeypatch.setattr(cold_start, "PAPER", cold_start.PAPER | {"n_selected": 2})
    for name in cold_start.JOBS:
        cold_start.job(name)()
