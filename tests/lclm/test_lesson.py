"""What the lesson's prose says in figures, and what its cells are."""

import json
import re
from pathlib import Path

import pytest

from intuitive.lclm import LCLMConfig, cost, results, smollm_model
from intuitive.lclm.experiments import expand, recall, sweep
from intuitive.lclm.experiments.cost import CostParams, pair_device, run
from intuitive.lclm.experiments.expand import RATIOS
from intuitive.widgets.lclm import cost_lanes, sweep_sheets

LESSON = Path(__file__).parents[2] / "notebooks" / "04_lclm.ipynb"
CELLS = {c["id"]: c for c in json.loads(LESSON.read_text(encoding="utf-8"))["cells"]}
PAPER = LCLMConfig.paper()
RAW_SECONDS = [(n, s) for n, s, _ in cost.DECODED_RAW]


def prose(cell):
    return "".join(CELLS[cell]["source"])


def test_the_claim_in_the_hook_is_that_of_the_figure():
    text = prose("04-00")
    assert "At N = 16 and 256K tokens" in text and "about thirty times sooner" in text
    raw = dict(RAW_SECONDS)[2**18]
    latents = {n: s for n, s, _ in cost.DECODED_LCLM[16]}[2**18]
    assert raw / latents == pytest.approx(30, abs=0.6)


def test_the_sizes_in_the_prose():
    text = prose("04-02")
    assert "135 million parameters" in text and "350 billion tokens" in text
    assert "its own first four layers" in text and smollm_model.ENCODER_LAYERS == 4
    both = (cost.n_weights(PAPER.decoder) + cost.n_weights(PAPER.encoder)) / 1e9
    assert "4.6 billion parameters" in text and both == pytest.approx(4.6, abs=0.05)
    assert "four billion parameters, an encoder of 0.6" in prose("04-05")
    assert cost.n_weights(PAPER.encoder) / 1e9 == pytest.approx(0.6, abs=0.01)


def test_the_cost_model_in_the_prose():
    text, decoder = prose("04-07"), PAPER.decoder
    assert f"{cost.KV_BYTES:,}".replace(",", "{,}") in text
    told = rf"2 \cdot {decoder.n_layers} \cdot {decoder.n_kv_heads} \cdot {decoder.d_head} \cdot 2"
    assert told in text and cost.kv_bytes_per_position(decoder) == cost.KV_BYTES
    assert f"the {decoder.vocab_size:,} entries of the vocabulary" in text
    assert f"takes {cost.LOGIT_BYTES:,}, more than twice that" in text
    assert 2 < cost.LOGIT_BYTES / cost.KV_BYTES < 2.2
    assert rf"\alpha \approx {1e6 * cost.ALPHA_S:g}$ µs" in text
    assert f"a batch of {cost.ENCODER_BATCH // cost.WINDOW} windows" in text


def test_within_what_the_figures_memory_is_matched():
    assert "is matched within 0.2 GiB" in prose("04-07")
    points = {1: cost.DECODED_RAW, **cost.DECODED_LCLM}
    for ratio, decoded in points.items():
        for n, _, gib in decoded:
            near = 0.2 if gib < 100 else 0.5 + 0.2  # whole numbers are printed there
            assert abs(cost.memory_gib(n, ratio=ratio) - gib) <= near, (ratio, n)


def test_what_is_evicted():
    assert "1 in 16, say, which is 94% thrown away" in prose("04-05")
    lanes = cost_lanes.lanes(run(CostParams()))
    left = lanes[1].rests["kv"] / lanes[0].rests["kv"]
    assert f"{1 - left:.0%}" == "94%"


def test_what_was_measured_in_the_prose():
    text, found = prose("04-40"), run(CostParams(logits="last"))
    raw, latents = found.measured["raw"], found.measured["latents"]
    assert f"took {raw.ttft_s:.1f} s there, against {dict(RAW_SECONDS)[2**18]} in the paper" in text
    paper = {n: s for n, s, _ in cost.DECODED_LCLM[16]}[2**18]
    assert f"it was {latents.ttft_s:.2f} s instead of {paper}" in text
    assert f"beads come {found.measured_speedup:.0f} times sooner instead of 30" in text
    assert f"they take {found.measured_memory_ratio:.1f} times less" in text
    assert "our encoder is twice as fast" in text
    assert cost.ALPHA_S * 2**18 / latents.encoder_s == pytest.approx(2, abs=0.15)
    whole = run(CostParams())
    held = {point.n_tokens: point.peak_gib for point in whole.measured_curves["raw"]}
    paper = {n: gib for n, _, gib in cost.DECODED_RAW}
    assert f"{held[2**16]:.1f} GiB against {paper[2**16]} at 64K" in text
    assert latents.peak_gib < 0.5 * found.here["latents"].memory.total
    assert f"the paper's {whole.memory_ratio:.1f} is with" in text
    assert pair_device() == "NVIDIA H200"


def test_what_the_small_recall_found_in_the_prose():
    text = prose("04-12")
    assert "With 2, 4 or 8 tokens in a bead all three seeds solve it" in text
    found = recall.run(recall.RecallParams())
    at = {one.ratio: one for one in found.points}
    assert all(at[n].extent[0] > 0.99 and len(at[n].seeds) == 3 for n in (2, 4, 8))
    assert at[16].extent[1] < found.guess + 0.02
    on = recall.run(recall.RecallParams(budget="plateau", ratio=16))
    assert "one seed leaves it halfway" in text
    left = [a for a in on.chosen.accuracy if a > found.guess + 0.05]
    assert len(left) == 1 and left[0] < 0.7
    raw = [one for one in found.controls if one.reader == "raw"]
    assert {one.budget for one in raw} == {"equal", "plateau"}
    assert all(one.extent[1] < found.guess + 0.03 for one in raw)
    assert "sixteen in a bead or 64 bits, can be said again to 99%" in text
    long = recall.run(recall.RecallParams(task="symbols", budget="plateau", ratio=16)).chosen
    trained = [a for a, n in zip(long.accuracy, long.steps, strict=True) if n > 1000]
    assert len(trained) >= 2 and min(trained) > 0.985


def test_what_the_small_sweep_leaves_open_in_the_prose():
    text, found = prose("04-16"), sweep.run(sweep.SweepParams())
    assert "one seed calls three of six comparisons decided" in text
    assert "With three seeds none is decided" in text
    sheet = sweep_sheets.press_sheet(found, "")
    of_one, of_all = (
        [one.title for one in sheet.versus if one.decided(seeds)] for seeds in ((0,), (0, 1, 2))
    )
    assert len(sheet.versus) == 6 and len(of_one) == 3 and not of_all
    assert "looks back over both ways" in of_one
    won = {one.title: one.count((0, 1, 2)) for one in sheet.versus}
    assert "looking back wins 24 of 30 pairs" in text
    assert won["looks back over both ways"] == (24, 30)
    best = max(found.cells, key=lambda cell: cell.mean)
    assert (best.window, best.pooling) == (8, "mean") and found.ratio == 8
    mean, marker = (
        {
            window: found.cell(pooling=pooling, mask="causal", window=window).mean
            for window in (8, 32)
        }
        for pooling in ("mean", "eos")
    )
    assert mean[8] - marker[8] < 0.1 < 0.2 < mean[32] - marker[32]


def test_what_the_diet_does_in_the_prose():
    text, rows = prose("04-16"), sweep.run(sweep.SweepParams()).mixes
    at = {(row.share, row.training): row for row in rows}
    alone, half, on = (at[share, "joint"] for share in (1.0, 0.5, 0.0))

    def mean(values):
        assert len(values) == 3
        return sum(values) / 3

    losses = f"{mean(alone.continuation):.2f} nats per byte against {mean(half.continuation):.2f}"
    assert f"more than twice the loss when it goes on, {losses}" in text
    assert min(alone.continuation) > 1.9 * max(half.continuation)
    told = f"says {mean(on.reconstruction):.0%} of the bytes again, against"
    assert f"{told} {mean(half.reconstruction):.0%} with both" in text
    assert max(on.reconstruction) < min(half.reconstruction)
    sheet = sweep_sheets.diet_sheet(rows)
    won = {one.title: one.count((0, 1, 2)) for one in sheet.versus}
    count, of = won["says again: all over frozen"]
    assert count == of and "less again than a trained one, in all pairs" in text
    grid = sweep.run(sweep.SweepParams(scale="large"))
    assert f"after {grid.steps} steps no variant says more again" in text
    best = max(cell.mean for cell in grid.cells)
    assert best < 0.53 and not any(c.decided for c in grid.comparisons)


def test_what_the_pair_keeps_of_real_text_in_the_prose():
    text, found = prose("04-21a"), results.smollm().values
    shares = [
        found.extent("reconstruction", "right", texts="prose", ratio=ratio)[0] for ratio in RATIOS
    ]
    assert "right in 36% of the tokens, at 4, 8 and 16 tokens per bead alike" in text
    assert {f"{share:.0%}" for share in shares} == {"36%"}
    gaps = [gap for ratio in RATIOS for gap in found.gap_closed(ratio).values()]
    assert "a tenth to a quarter of the way" in text
    assert 0.09 < min(gaps) < 0.11 and 0.24 < max(gaps) < 0.26
    shared = {"texts": "prose", "adaptation": "shared"}
    for ratio in RATIOS:
        beads, cut = (
            found.extent("continuations", "perplexity", arm=arm.format(ratio), **shared)[0]
            for arm in ("compressed {}", "truncated to {}")
        )
        assert cut < beads
        again = found.extent(
            "far", "perplexity", what="passage", arm=f"compressed {ratio}", **shared
        )[0]
        never = found.extent("far", "perplexity", what="passage", arm="none", **shared)[0]
        assert again > 0.94 * never


def test_which_chunk_is_named_over_many_texts_in_the_prose():
    text = prose("04-20")
    many = {one.ratio: one for one in expand.asked()}[16]
    where = {name: shares[0] for name, shares in many.where.items()}
    assert f"the right chunk in {where['model']:.0%} of the questions" in text
    assert (
        f"chance at {where['chance']:.1%} and shuffled latents at {where['shuffled']:.1%}" in text
    )
    assert "With the right chunk raw all answers are right" in text
    assert many.value["oracle"] == (1.0, 1.0, 1.0)
    alone, with_words = expand.PRINTED["a UUID"][4096]
    assert f"answers {alone:.0f}% of its UUID questions from latents alone" in text
    assert f"{with_words:.0f}% with EXPAND" in text


def test_bits_in_the_prose():
    text = prose("04-20")
    assert "one of eight chunks takes three bits" in text and 2**3 == 8
    assert "code of four digits takes thirteen" in text and 2**13 < 10**4 < 2**14
    assert "more than a hundred" in text and 32 * 4 > 100  # digits of a UUID, four bits each


def test_the_pair_serves_three_ratios():
    assert "One pair serves three ratios" in prose("04-42") and len(RATIOS) == 3


def test_nothing_is_defined_but_in_exercises():
    for cell in CELLS.values():
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "exercise" not in cell["metadata"].get("tags", ()):
            assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE), cell["id"]


def test_folds_are_closed_and_render():
    for cell in CELLS.values():
        source = "".join(cell["source"])
        assert source.count("<details>") == source.count("</details>")
        for after in source.split("</summary>")[1:]:
            assert after.startswith("\n\n"), cell["id"]


def test_every_explorer_stands_in_the_lesson():
    code = "\n".join(prose(name) for name, c in CELLS.items() if c["cell_type"] == "code")
    for name in ("beads", "cost", "recall", "sweep", "expand"):
        assert f"{name}.explorer(predict={name}.PREDICT)" in code
