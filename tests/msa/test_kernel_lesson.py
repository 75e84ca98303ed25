"""What the kernel lesson's prose says in figures, and what its cells are."""

import json
import re
from pathlib import Path

import pytest

from intuitive.kernels import dispatch
from intuitive.msa import MSAConfig, cost
from intuitive.msa.experiments.ladder import LadderParams, live_in_words, whole_in_words
from intuitive.msa.experiments.ladder import run as climb
from intuitive.msa.experiments.loop_orders import LoopParams, block_bytes, pair_flops, run
from intuitive.msa.interpreted import WALKED, walked_selection
from intuitive.msa.results import kernel_profile, kernel_rows

LESSON = Path(__file__).parents[2] / "notebooks" / "02_kernels.ipynb"
LADDERS = LESSON.parents[1] / "benchmarks" / "results"
CELLS = {c["id"]: c for c in json.loads(LESSON.read_text(encoding="utf-8"))["cells"]}
PAPER = MSAConfig.paper()


def prose(cell):
    return "".join(CELLS[cell]["source"])


def ladder(context, **settings):
    return climb(LadderParams(**settings)).at(context)


def test_the_question_and_the_card():
    text = prose("02-00")
    assert "To *attend* to them is, over a prompt of 128K tokens, a thirty-second of dense" in text
    assert cost.dense_flops(PAPER, 2**17) / cost.main_flops(PAPER, 2**17) == pytest.approx(
        32, abs=0.6
    )
    assert f"does {cost.H100_FLOPS / 1e12:.0f} trillion FLOPs" in text
    assert f"fetches {cost.H100_BYTES / 1e12:.2f} trillion bytes" in text
    assert "about three hundred FLOPs for each byte" in text
    assert pytest.approx(300, rel=0.03) == cost.H100_FLOPS / cost.H100_BYTES


def test_the_small_case_in_the_prose():
    first, explained = prose("02-01"), prose("02-03")
    params, result = LoopParams(), run(LoopParams())
    assert f"Below are {params.n_queries} neighbouring queries" in first
    assert f"{params.n_selected} of {params.n_blocks} blocks" in first
    assert f"**{pair_flops(PAPER) / block_bytes(PAPER):.0f} for each byte fetched**" in explained
    assert f"{block_bytes(PAPER) // 1024} KiB" in explained and "about a million" in explained
    assert pair_flops(PAPER) == pytest.approx(1e6, rel=0.05)
    all_pairs = result.chosen.size / result.useful_pairs
    assert "five times as many pairs" in explained and all_pairs == pytest.approx(5, abs=0.4)
    assert f"and {params.tile * 16} rows fill a tile" in explained.replace("eight queries use", "")


def test_the_rule_of_the_toy_and_where_it_turns():
    """Fetches of a query: all blocks, shared by a tile, or its own."""
    text, params = prose("02-03"), LoopParams()
    shared = params.n_blocks / params.tile
    assert f"{params.n_blocks} blocks for eight queries are **{shared:.0f} for each" in text
    assert f"each query, against {params.n_selected}** of its own" in text and params.tile == 8
    assert "in section 3 between 32K and 64K tokens" in text
    wins = {
        one.context: one["everything"].work.floor_ms < one["query_outer"].work.floor_ms
        for one in climb(LadderParams()).shown
    }
    counted = {
        one.context: one["everything"].ms < one["query_outer"].ms
        for one in climb(LadderParams()).shown
    }
    assert counted[2**15] and not counted[2**16] and wins[2**14] and not wins[2**16]


def test_how_much_the_recorded_neighbours_agree():
    text = prose("02-32")
    (row,) = (r for r in kernel_rows().values.rows if (r.task, r.tokens) == ("prefill", 2**17))
    four, sixteen = (row.distinct_near[count] for count in ("4", "16"))
    assert f"four neighbours read about {four:.0f} distinct ones" in text
    assert "sixteen about 29" in text and sixteen == pytest.approx(29, abs=1)


def test_attend_in_the_prose():
    text = prose("02-13")
    long = ladder(2**17)
    assert "more than half of the tensor cores' full speed" in text
    assert long["everything"].flops_per_s > 0.5 * cost.H100_FLOPS
    assert max(long.rungs, key=lambda rung: rung.ms).name == "everything"
    assert "Up to 32K tokens" in text
    slower = [
        landing.context
        for landing in climb(LadderParams()).landings
        if landing.queries == landing.context
        and landing["query_outer"].ms > landing["everything"].ms
    ]
    assert max(slower) == 2**15
    above = long["union_tile"].flops_per_s / long["union_tile"].work.intensity
    assert "above the slope of the memory" in text and above > cost.H100_BYTES
    found = kernel_profile()
    cached = f"at least {long['union_tile'].cached:.0%} of its bytes came from the card's *L2"
    assert f"at 128K tokens {cached}" in text
    memory, cache = (found.values.busy("attend", unit) for unit in ("dram", "lts"))
    assert f"a later version on an H200: memory {memory:.0%} busy, the L2 cache {cache:.0%}" in text
    assert found.made.device == "NVIDIA H200"
    built = json.loads((LADDERS / "ladder_attend.json").read_text(encoding="utf-8"))
    assert built["made"]["device"] == "NVIDIA H200"
    tile, block = (built["values"]["rows"][plan] for plan in ("hopper", "scattered"))
    near = f"over 128K tokens {block['near 128K']:.1f} ms, where the tile takes"
    assert f"{near} {tile['near 128K']:.1f}" in text
    random = f"blocks at random {block['random 128K']:.1f} ms, where the tile takes"
    assert f"{random} {tile['random 128K']:.1f}" in text
    apart = ladder(2**17, sharing="random")["union_tile"]
    union = apart.work.flops / apart.least.flops
    assert "nearly four times as large as one selection" in text and 3.5 < union < 4
    assert "nearly trebles" in text and 2.6 < apart.ms / long["union_tile"].ms < 3


def test_select_and_decode_in_the_prose():
    text = prose("02-13")
    stored = ladder(2**17, function="select")["every_score"]
    assert "more than ten times the products that made it" in text
    assert stored.ms > 10e3 * stored.work.flops / cost.H100_FLOPS
    blocks = 2**20 // PAPER.block_size
    whole_prompt = 4 * PAPER.n_kv_heads * 2**20 * blocks  # maxima in float32
    assert f"even those would be {whole_prompt // 2**30} GiB" in text
    steps = climb(LadderParams(function="decode")).landings
    over = [landing["attend_one"].over_floor for landing in steps]
    assert "five to seven times as long, at every context" in text
    assert min(over) >= 5 and max(over) < 7
    times = [landing["attend_one"].ms for landing in steps]
    assert "takes a little less at a million tokens" in text and times[-1] < 0.9 * times[0]
    apart = [s["select_one"].ms + s["attend_one"].ms - s["step"].ms for s in steps]
    assert "the parts need not add up" in text and min(apart) < 0 < max(apart)
    found = kernel_profile().values
    whole, scores, search, merge = (
        found.decode_us("8K", part) for part in ("whole", "scores", "attend", "merge")
    )
    assert f"three launches that do nothing take {found.empty_us(3):.2f} µs" in text
    assert f"Its step after 8K tokens takes {whole:.1f} µs" in text
    assert f"take {scores:.2f} µs for the scores, {search:.2f} for searching" in text
    assert f"{merge:.2f} for the merge" in text
    assert (
        f"After 128K tokens searching and attending takes "
        f"{found.decode_us('128K', 'attend'):.2f} µs" in text
    )
    assert "reaches its floor nearly" in text and steps[-1]["everything"].over_floor < 1.15
    assert "MSA reads an eighth or so" in text
    assert 7 < steps[-1]["everything"].work.bytes / steps[-1]["step"].work.bytes < 9


def test_the_blocks_that_the_walk_fetches():
    chosen = walked_selection()
    tiles = [chosen[first : first + WALKED.tile] for first in range(0, len(chosen), WALKED.tile)]
    fetched = sum(int(tile.any(0).sum()) for tile in tiles)
    assert len(tiles) == 2 and len(chosen) == 8
    told = f"Two programs fetch {fetched} blocks where eight queries alone would fetch"
    assert f"{told} {int(chosen.sum())}." in prose("02-17")


def test_what_happens_when_it_is_broken():
    text = prose("02-20")
    two, sixteen = (run(LoopParams(drift=1.0, tile=tile)).traces for tile in (2, 16))
    first, last = two["union_tile"], sixteen["union_tile"]
    assert f"from {1e6 * first.total_s:.2f} to {1e6 * last.total_s:.2f} µs" in text
    assert f"go from {first.masked.sum()} to {last.masked.sum()}:" in text
    masked = [f"{1e6 * one['everything'].total_s:.2f}" for one in (two, sixteen)]
    assert (
        f"*Everything, masked* gains by the larger tile too, from {masked[0]} to {masked[1]} µs"
        in (text)
    )
    short = ladder(2**13, sharing="random")
    assert "Tile by tile takes longer than computing everything" in text
    assert short["union_tile"].ms > short["everything"].ms
    select, attend = (ladder(2**20, function=f).rungs[-1].ms for f in ("select", "attend"))
    assert f"Select: {select:.1f} ms for the last 8K queries, and attend {attend:.2f} ms" in text


def test_the_busiest_rung_and_the_floor():
    rates = {
        landing.context: rung.flops_per_s / cost.H100_FLOPS
        for landing in climb(LadderParams()).landings
        for rung in landing.rungs
        if rung.name == "everything"
    }
    busiest = max(rates, key=rates.get)
    assert "two thirds of the tensor cores' 989 TFLOP/s" in prose("02-32")
    assert rates[busiest] == pytest.approx(2 / 3, abs=0.02)
    assert f"a prompt of {busiest // 1024}K tokens" in prose("02-32")


def test_nothing_is_defined_but_in_exercises():
    for cell in CELLS.values():
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "exercise" not in cell["metadata"].get("tags", ()):
            assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE), cell["id"]


def test_the_merge_in_the_fold_passes():
    from intuitive.msa.kernel_exercise import check_merge

    (code,) = re.findall(r"```python\n(.*?)```", prose("02-30"), re.DOTALL)
    space = {}
    exec(code, space)
    report = check_merge(space["merge"])
    assert report.n_passed == len(report.checks)


@pytest.mark.slow
@pytest.mark.skipif(not dispatch.TRITON_INSTALLED, reason="Triton is not installed")
def test_the_kernel_in_the_fold_passes(tmp_path):
    import importlib.util

    from intuitive.msa.kernel_exercise import HEADER, check_kernel

    (code,) = re.findall(r"```python\n(.*?)```", prose("02-27"), re.DOTALL)
    file = tmp_path / "solved.py"
    file.write_text(HEADER + code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("solved", file)
    solved = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(solved)
    report = check_kernel(solved.block_max_kernel)
    assert report.n_passed == len(report.checks)


def test_without_a_card_the_text_says_so(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert live_in_words(32768) == "This machine has no CUDA device: nothing was timed."


def test_with_a_card_every_part_has_its_time(monkeypatch):
    import torch

    from intuitive.common.runtime import Measurement
    from intuitive.msa.experiments import ladder as experiment
    from intuitive.msa.experiments.what_it_costs import Measured

    parts = [f"{p}_{when}" for when in ("prefill", "decode") for p in ("dense", "select", "attend")]
    times = {
        name: Measurement(
            median_ms=1.5 + place,
            fastest_ms=1.0,
            slowest_ms=9.0,
            repeats=3,
            peak_bytes=None,
            device="a card",
        )
        for place, name in enumerate(parts)
    }

    def measured(config, context, *, max_queries):
        assert config == PAPER
        return Measured(
            config=config, context=context, n_queries=max_queries, device="a card", **times
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(experiment, "measure_here", measured)
    first, *lines = live_in_words(32768).splitlines()
    assert first == "a card, 32,768 tokens, the last 8,192 queries, or one:"
    assert [line.split()[2] for line in lines] == [f"{1.5 + place:.4f}" for place in range(6)]
    assert lines[0].split()[:2] == ["prefill", "dense"]


def test_a_whole_prompt_is_less_quick_than_its_work_is_small():
    """Each line adds up, and the ratio of times stays below that of the work at every context."""
    rows = {int(row.tokens): row for row in kernel_rows().values.rows if row.task == "prefill"}
    lines = whole_in_words().splitlines()
    assert len(lines) == len(rows)
    for line in lines:
        tokens, dense, select, attend, total, quicker, attend_less, less = map(
            float, re.findall(r"[\d,.]*\d", line.replace(",", ""))
        )
        assert total == pytest.approx(select + attend, abs=0.02)
        assert quicker == pytest.approx(dense / total, abs=0.06)
        assert select == pytest.approx(rows[int(tokens)].score_and_select, rel=0.02)
        assert attend_less == pytest.approx(
            cost.dense_flops(PAPER, int(tokens)) / cost.main_flops(PAPER, int(tokens)), abs=0.06
        )
        assert less == pytest.approx(cost.flop_ratio(PAPER, int(tokens)), abs=0.06)
        assert 1 < quicker < less < attend_less
    text = prose("02-14c")
    assert f"At 128K tokens attend alone has {attend_less:.0f} times less work" in text
    assert f"the work of both is {less:.0f} times less. The time falls {quicker} times" in text
    tile = ladder(2**17)["union_tile"]
    assert f"useless pairs, {tile.work.flops / tile.least.flops:.1f} times what is useful" in text
    assert "it multiplies as much as attend does" in text
    assert cost.index_flop_share(PAPER, 2**17) == pytest.approx(0.5, abs=0.01)


def test_what_an_index_saves_is_said_of_the_config_as_it_is():
    """Index vectors are as long as the others; heads and values are what select does not have."""
    text, explained = prose("02-05"), prose("02-13")
    assert f"have {PAPER.d_index} numbers as they do" in text and PAPER.d_index == PAPER.d_head
    assert f"which the paper's layer sets to {PAPER.n_init}" in text
    assert "sixteen heads share one index query" in text and PAPER.group_size == 16
    assert "a thirty-second of dense attention's FLOPs for a query and a token" in explained
    assert cost.flop_ceiling(PAPER) == 32
    assert "over 128K tokens that is as much as attend's" in explained


def test_each_experiment_begins_in_the_same_state():
    """What one sets must not be left for the next."""
    told = [part for part in prose("02-20").split("\n\n") if part.startswith("**")]
    assert len(told) == 3 and all(", press *Reset*. Set" in part for part in told)
