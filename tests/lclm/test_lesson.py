"""What the lesson's prose says in figures, and what its cells are."""

import json
import re
from pathlib import Path

import pytest

from intuitive.lclm import LCLMConfig, cost, results, smollm_model
from intuitive.lclm.exercise import best_that_fit
from intuitive.lclm.experiments import expand, recall, sweep
from intuitive.lclm.experiments.cost import CostParams, pair_device, run
from intuitive.lclm.experiments.expand import RATIOS
from intuitive.widgets.lclm import cost_lanes, sweep_sheets
from intuitive.widgets.lclm import recall as recalls

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
    assert "trained longer (the task *recall, 4 records in 32 tokens, longer*), one seed" in text
    assert "one seed leaves it halfway" in text
    assert "recall, 4 records in 32 tokens, longer" in map(recalls.title, recalls.sets().values())
    ones = at[1].curves
    assert "one seed of three has left the line when their 400 steps end" in text
    assert len(ones) == 3 and {curve.steps[-1] for curve in ones} == {400}
    assert sum(curve.accuracy[-1] > found.guess + 0.05 for curve in ones) == 1
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


def section_five():
    """Its prose, the fold among it."""
    return "\n".join(map(prose, ("04-21a", "04-21c", "04-21e")))


def found():
    return results.smollm().values


def between(values):
    return f"{100 * min(values):.0f} to {max(values):.0%}"


def of_seeds(table, measure, **fields):
    """The least and the greatest of three seeds, as the prose says it."""
    return between(found().extent(table, measure, **fields)[1:])


def pairs():
    runs = {run.seed: run for run in found().training if not run.control}
    assert len(runs) == 3
    return runs


def test_what_section_five_says_in_three_sentences():
    told, smol = prose("04-21c"), found()
    assert told.count(":** ") == 3 and told.count(". ") == 2  # three sentences
    four, sixteen = (
        smol.extent("reconstruction", "right", texts="prose", ratio=n)[0] for n in (4, 16)
    )
    assert f"said again to {four:.0%} of its tokens, from beads of 16 to {sixteen:.0%}" in told
    others = [run.curve[-1]["256/4 other right"] for run in pairs().values()]
    assert f"any other text to {sum(others) / len(others):.0%} already (measured at 4)" in told
    assert "close a tenth to a fifth of the gap" in told  # numbers below
    shared = {"texts": "prose", "adaptation": "shared"}
    for n in RATIOS:
        beads, cut = (
            smol.extent("continuations", "perplexity", arm=f"{arm} {n}", **shared)[0]
            for arm in ("compressed", "truncated to")
        )
        assert beads > cut + 2
    _, first, _, longer = smol.by_steps()
    assert f"trained for {smol.longer.training.seconds:.0f} s instead of three minutes" in told
    assert longer.gap[4] <= first.gap[4] and longer.seed == first.seed


def test_what_is_said_again_in_the_prose():
    text, said = section_five(), {"texts": "prose"}
    four, eight, sixteen = (
        of_seeds("reconstruction", "right", ratio=ratio, **said) for ratio in RATIOS
    )
    assert f"said again to {four} of its tokens at 4 tokens per bead" in text
    assert f"tokens per bead, {eight} at 8 and {sixteen} at 16" in text
    others = between([run.curve[-1]["256/4 other right"] for run in pairs().values()])
    assert f"from the beads of another text (on validation prose) to {others}" in text
    assert "We had hoped for 95% said again at 4" in text
    for row in found().reconstruction:
        if row.ratio == 4:
            kinds = {kind: row.by_kind[kind].share for kind in ("word", "name", "number")}
            least = 0.09 if row.by_kind["number"].tokens < 100 else 0.03  # 26 numbers in prose
            assert min(kinds.values()) > kinds["word"] - least, row


def test_what_a_fact_and_a_passage_need_in_the_prose():
    text, far = section_five(), {"texts": "prose", "adaptation": "shared"}
    four, eight, sixteen = (
        of_seeds("far", "all_right", what="fact", arm=f"compressed {ratio}", **far)
        for ratio in RATIOS
    )
    told = f"said whole in {four} of the cases from beads of 4, in {eight} at 8, in {sixteen} at 16"
    assert told in text
    cut = [
        share
        for ratio in RATIOS
        for share in found().extent(
            "far", "all_right", what="fact", arm=f"truncated to {ratio}", **far
        )
    ]
    assert f"and in {between(cut)} from the cut text" in text
    assert "recognised at 4, hardly at 8, and not at 16" in text
    beads, never = (
        [
            found().extent("far", "perplexity", what="passage", arm=arm.format(ratio), **far)[0]
            for ratio in RATIOS
        ]
        for arm in ("compressed {}", "truncated to {}")
    )
    less = [1 - one / other for one, other in zip(beads, never, strict=True)]
    assert less[0] > 0.6 and 0.1 < less[1] < 0.2 and less[2] < 0.02


def test_what_going_on_gains_in_the_prose():
    text, smol = section_five(), found()
    gaps = {ratio: smol.gap_closed(ratio) for ratio in RATIOS}
    shares = [share for gap in gaps.values() for share in gap.values()]
    assert "a tenth to a fifth of the gap" in text
    assert min(shares) == pytest.approx(0.1, abs=0.01) and max(shares) == pytest.approx(0.2, 0.06)
    assert "We had hoped for 70% at 4 and 55% at 8" in text
    shared = {"texts": "prose", "adaptation": "shared"}
    tail, raw = (
        smol.extent("continuations", "perplexity", arm=arm, **shared)[0] for arm in ("tail", "raw")
    )
    assert (
        f"640 more raw tokens before the last 128 lower the perplexity from {tail:.1f} to" in text
    )
    assert f"to {raw:.1f} only" in text
    assert "beads of 4 or 8 make every seed's guess worse" in text
    by_arm = {
        (row.arm, row.seed): row.perplexity
        for row in smol.continuations
        if (row.texts, row.adaptation) == ("prose", "shared")
    }
    for seed in pairs():
        assert all(by_arm[f"compressed {n} + tail", seed] > by_arm["tail", seed] for n in (4, 8))


def whole(shares):
    """Shares by ratio in percent, as "7, 4 and 2"."""
    four, eight, sixteen = (f"{100 * shares[ratio]:.0f}" for ratio in RATIOS)
    return f"{four}, {eight} and {sixteen}"


def test_what_more_steps_gave_in_the_prose():
    text = section_five()
    slow, first, third, longer = found().by_steps()
    assert (slow.seed, first.seed, third.seed, longer.seed) == (1, 0, 2, 0)
    assert pairs()[1].recorded == 0 < min(pairs()[0].recorded, pairs()[2].recorded)
    assert all(180 < run.seconds < 200 for run in pairs().values())
    told = f"took {slow.steps} in its three minutes and closes {slow.gap[4]:.0%} of the gap at 4"
    assert f"One seed, whose GPU had no room to record its steps and replay them, {told}" in text
    told = f"the two that took {first.steps:,} and {third.steps:,} close"
    assert f"{told} {100 * first.gap[4]:.0f} and {third.gap[4]:.0%}" in text
    assert f"{longer.steps:,} steps in {found().longer.training.seconds:.0f} s" in text
    assert found().parts["longer"].device != found().parts["pair"].device
    four, eight, sixteen = (f"{longer.gap[ratio]:.0%}" for ratio in RATIOS)
    told = f"closes {four} of the gap at 4, {eight} at 8 and {sixteen} at 16, after"
    assert f"{told} {whole(first.gap)}% with {first.steps:,} steps" in text
    assert f"It says {longer.right[4]:.0%} again at 4 instead of {first.right[4]:.0%}" in text
    above, before = (
        whole({n: over - 1 for n, over in one.over_cut.items()}) for one in (longer, first)
    )
    assert f"leave the perplexity {above}% above that of the cut text" in text
    assert f"where it was {before}% before" in text


def test_no_training_reaches_a_goal_as_the_prose_says():
    assert "not 70% and 55% of the gap, not 95% said again at 4, not below the" in section_five()
    for one in found().by_steps():
        assert one.gap[4] < 0.7 and one.gap[8] < 0.55 and one.right[4] < 0.95
        assert min(one.over_cut.values()) > 1


def test_what_the_control_reads_in_the_prose():
    text, (control,) = section_five(), [run for run in found().training if run.control]
    assert control.steps == pairs()[0].steps
    assert f"adapted to raw text alone for as many steps ({control.steps:,})" in text
    alone, shared = (
        found().extent("continuations", "perplexity", arm="raw", texts="prose", adaptation=how)[0]
        for how in ("raw only", "shared")
    )
    assert f"with a perplexity of {alone:.1f} instead of {shared:.1f}" in text
    ends = [r.perplexity for r in found().continuations if (r.texts, r.arm) == ("prose", "raw")]
    assert "That is the raw end of our gap" in text and min(ends) == pytest.approx(alone)


def test_what_training_asked_for_in_the_prose():
    text, config = section_five(), results.smollm().made.config
    first, *_, last = config["phases"]
    assert "with texts of 32 tokens and nothing else in its first tenth" in text
    assert (first["windows"], first["alone"], first["until"]) == ([32], True, 0.1)
    mix = config["mix"]
    rows = sum(mix[kind] for kind in ("interleaved", "reconstruction", "raw", "chunks"))
    assert f"in {mix['reconstruction']} of the {rows} rows of a step to its end" in text
    assert last["until"] == 1.0 and not last["alone"]
    assert f"in {mix['chunks']} of {rows} rows of a step" in prose("04-20")
    assert "trained further for three minutes" in prose("04-02")
    assert "in the first three tenths small heads" in prose("04-42")
    assert [phase["until"] for phase in config["phases"] if phase["told"]] == [0.1, 0.3]


def test_which_chunk_is_named_over_many_texts_in_the_prose():
    text, many = prose("04-20"), {one.ratio: one for one in expand.asked()}

    def shares(table, name):
        return [between(getattr(many[ratio], table)[name][1:]) for ratio in RATIOS]

    four, eight, sixteen = shares("where", "model")
    told = f"right chunk in {four} at 4 tokens per bead, {eight} at 8 and {sixteen} at 16"
    assert told in text and many[16].questions == 256 and many[16].chunks == 8
    shuffled = [share for ratio in RATIOS for share in many[ratio].where["shuffled"]]
    chance = many[16].where["chance"][0]
    assert f"Chance is {chance:.1%}; with the latents shuffled they fall to it" in text
    assert f"they fall to it, {between(shuffled)}." in text
    four, eight, sixteen = shares("value", "alone")
    assert f"right from latents alone in {four}, {eight} and {sixteen}" in text
    four, eight, sixteen = shares("value", "own")
    assert f"of the chunk that was named in {four}, {eight} and {sixteen}" in text
    gains = {
        ratio: {
            what: many[ratio].value[what][0] - many[ratio].value["alone"][0]
            for what in ("own", "oracle")
        }
        for ratio in RATIOS
    }
    assert "EXPAND adds nothing at 4" in text and abs(gains[4]["own"]) < 0.03
    assert "about twenty points at 8 and at 16" in text
    assert all(0.17 < gains[ratio]["own"] < 0.22 for ratio in (8, 16))
    assert "The right chunk would add nearly seventy at 16" in text
    assert 0.67 < gains[16]["oracle"] < 0.7
    raw = many[1]
    named, said = between(raw.where["model"][1:]), between(raw.value["alone"][1:])
    assert f"it names the right one in {named} only, fewer than from beads of 4" in text
    assert raw.where["model"][2] < many[4].where["model"][1]
    assert f"though it says the value then in {said}" in text
    assert f"counting words, here in {many[16].where['search'][0]:.0%}" in text
    alone, with_words = expand.PRINTED["a UUID"][4096]
    assert f"answers {alone:.0f}% of its UUID questions from latents alone" in text
    assert f"and {with_words:.0f}% with EXPAND" in text


def test_bits_in_the_prose():
    text = prose("04-20")
    assert "one of eight chunks takes three bits" in text and 2**3 == 8
    assert "code of four digits takes thirteen" in text and 2**13 < 10**4 < 2**14
    assert "more than a hundred" in text and 32 * 4 > 100  # digits of a UUID, four bits each


def test_the_example_of_the_exercise():
    (given, want) = re.search(r"`choose\((.*)\)` is `(.*)`:", prose("04-34")).groups()
    arguments = json.loads(f"[{given}]")
    assert best_that_fit(*arguments) == json.loads(want) == [2, 1]
    assert "takes 80 of the 110, chunk 3 with its 60" in prose("04-34")


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
