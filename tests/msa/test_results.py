"""The committed kernel times, read as records."""

import dataclasses

import pytest

from intuitive.common import records, results
from intuitive.msa import MSAConfig, cost
from intuitive.msa.results import kernel_times, memory_use


def saved():
    return records.load(results.path("kernels_h100"))[0]


def test_every_timed_row_is_read_with_its_unit():
    rows = {(row["task"], row["tokens"]): row for row in saved()["rows"] if "msa" in row}
    times = kernel_times()
    assert len(times.rows) == len(rows) > 0
    for row in times.rows:
        file = rows[row.task, row.context]
        in_file = file["msa"] * (1e-3 if file["unit"] == "us" else 1)
        assert row.msa_ms == in_file
        assert row.dense_ms <= min(file[b] for b in ("cudnn", "flash") if b in file)


def test_speedup_is_the_ratio_that_the_benchmark_wrote():
    ratios = {(row["task"], row["tokens"]): row["ratio"] for row in saved()["rows"]}
    for row in kernel_times().rows:
        assert abs(row.speedup / ratios[row.task, row.context] - 1) < 1e-9


def test_tasks_are_sorted_by_context():
    for task in ("prefill", "last queries", "decode"):
        contexts = [row.context for row in kernel_times().of(task)]
        assert contexts == sorted(contexts) and contexts


def test_the_run_names_its_device_and_commit():
    times = kernel_times()
    assert "H100" in times.device and len(times.commit) == 40


def test_the_memory_model_meets_every_measured_peak():
    paper, checked = MSAConfig.paper(), 0
    for row in saved()["rows"]:
        if "dense_peak_bytes" not in row:
            continue
        n, context = row["queries"], row["tokens"]
        block_ids = 4 * n * paper.n_kv_heads * paper.n_selected  # an input, where it was measured
        modelled = {
            "dense_peak_bytes": cost.dense_scratch(paper, n),
            "score_and_select_peak_bytes": cost.selection_scratch(paper, context, n),
            "attend_near_peak_bytes": cost.attend_scratch(paper, n) - block_ids,
        }
        for name, peak in modelled.items():
            assert peak == pytest.approx(row[name], rel=0.01), (name, n, context)
        checked += 1
    assert checked == len(kernel_times().of("prefill")) + len(kernel_times().of("last queries"))


@pytest.mark.parametrize("use", [u for u in memory_use() if u.what == "layer"], ids=str)
def test_memory_formulas_meet_what_was_measured(use):
    paper = MSAConfig.paper()
    config = dataclasses.replace(paper, n_selected=use.n_selected or paper.n_selected)
    model = cost.prefill_memory(config, use.context, 8192)
    model = model["dense" if use.n_selected is None else "msa"]
    assert (use.keys_values, use.index_keys) == (model["keys_values"], model["index_keys"])
    assert use.prefill_scratch == pytest.approx(model["scratch"], rel=0.05)


def test_the_whole_model_holds_index_keys_and_index_weights_on_top():
    uses = {(u.context, u.n_selected): u for u in memory_use() if u.what == "SmolLM2"}
    for (context, n_selected), use in uses.items():
        dense = uses[context, None]
        assert use.keys_values == dense.keys_values
        assert (use.index_keys > 0) == (use.weights > dense.weights) == (n_selected is not None)
