"""The cost meter: bars are seconds and GiB to scale, and the moments are those of the fits."""

import dataclasses

import plotly.graph_objects as go
import pytest

from intuitive.lclm import cost
from intuitive.lclm.experiments import cost as experiment
from intuitive.lclm.experiments.cost import CostParams
from intuitive.widgets.lclm import cost as widget
from intuitive.widgets.lclm import cost_lanes
from intuitive.widgets.lclm import cost_scene as scene
from intuitive.widgets.lclm.cost_figures import METHODS

SETTINGS = [
    {},
    {"logits": "last"},
    {"context": 2**12, "ratio": 4},
    {"context": 2**20, "ratio": 8, "logits": "last"},
]


def result_of(**settings):
    return experiment.run(CostParams(**settings))


@pytest.mark.parametrize("settings", SETTINGS)
def test_lanes_sum_to_the_fits(settings):
    result = result_of(**settings)
    params = result.params
    for lane, arm in zip(cost_lanes.lanes(result), experiment.ARMS, strict=True):
        assert lane.seconds == pytest.approx(result.here[arm].time.total)
        assert lane.peak == pytest.approx(result.here[arm].memory.total)
        assert lane.rests["kv"] == pytest.approx(result.here[arm].kept_kv_gib)
    both = cost.latent_moments(params.context, ratio=params.ratio, logits=params.logits)
    want = cost.memory_terms(params.context, ratio=params.ratio, logits=params.logits)
    assert want in both and want.total == max(moment.total for moment in both)


def test_moments_need_a_ratio():
    with pytest.raises(ValueError, match="ratio=1 must be at least 2"):
        cost.latent_moments(1024, ratio=1)


@pytest.mark.parametrize("settings", SETTINGS)
def test_bars_are_to_scale_at_every_moment(settings):
    result = result_of(**settings)
    lanes = cost_lanes.lanes(result)
    picture = scene.Picture(lanes, n_tokens=result.params.context, most=result.most_gib)
    per_s = (scene.TIME[1] - scene.TIME[0]) / max(lane.seconds for lane in lanes)
    per_gib = (scene.MEMORY[1] - scene.MEMORY[0]) / result.most_gib
    assert result.most_gib >= max(lane.peak for lane in lanes)
    clocks = picture.clocks()
    assert clocks[0] == 0 and clocks[-1] == pytest.approx(max(lane.seconds for lane in lanes))
    for clock, frame in zip(clocks, picture.frames(), strict=True):
        marks = frame.scene.marks
        for lane in lanes:
            spent = sum(m.w for m in marks if m.key.startswith(f"time:{lane.key}:"))
            assert spent == pytest.approx(per_s * min(clock, lane.seconds), abs=0.1)
            held = sum(m.w for m in marks if m.key.startswith(f"memory:{lane.key}:"))
            assert held == pytest.approx(per_gib * sum(lane.held(clock).values()), abs=0.1)
            dashed = frame.scene[f"peak:{lane.key}"].w
            assert dashed >= held - 0.1
            pale = sum(m.w for m in marks if m.key.startswith(f"pale:{lane.key}:"))
            assert pale == pytest.approx(dashed, abs=0.1)
    for lane in lanes:
        last = picture.frames()[-1].scene[f"peak:{lane.key}"].w
        assert last == pytest.approx(per_gib * lane.peak)


def test_the_encoders_own_cache_is_working_memory_and_goes():
    *_, lclm = cost_lanes.lanes(result_of(logits="last"))
    encode, prefill = lclm.phases
    assert encode.ends["kv"] == 0 and encode.ends["activations"] > 16
    assert prefill.starts["activations"] == pytest.approx(cost.REST_GIB)
    assert lclm.held(0.5 * encode.seconds)["activations"] == pytest.approx(
        (encode.starts["activations"] + encode.ends["activations"]) / 2
    )


def test_eviction_drops_its_cache_after_the_whole_text_was_read():
    raw, evict, _ = cost_lanes.lanes(result_of())
    read, drop = evict.phases
    assert read == raw.phases[0]
    kept = evict.held(evict.seconds)["kv"]
    assert kept == pytest.approx(raw.held(raw.seconds)["kv"] / 16)
    assert evict.held(evict.seconds - drop.seconds / 2)["kv"] == drop.starts["kv"]
    assert sum(evict.most(evict.seconds).values()) == evict.peak > raw.peak


def test_one_row_of_logits_leaves_the_scale_as_it_was():
    """A peak that falls is drawn shorter."""
    every, last = (
        widget.present(result_of(logits=kind)).timeline.frames[-1] for kind in ("all", "last")
    )
    long, short = (frame.scene["peak:raw"].w for frame in (every, last))
    assert short < 0.4 * long
    assert every.scene["peak:lclm"].w == last.scene["peak:lclm"].w
    assert last.scene["pale:lclm:activations"].w > 5 * last.scene["memory:lclm:activations"].w


def test_readouts_say_when_and_whether_it_fits():
    view = widget.present(result_of(context=2**20, logits="last"))
    first, *_, last = view.timeline.frames
    assert {readout.value for readout in last.readouts[:2]} == {
        "843 s, does not fit",
        "847 s, does not fit",
    }
    assert [readout.alarm for readout in last.readouts] == [True, True, False]
    assert all("reading" in readout.value for readout in first.readouts)
    assert "s" not in "".join(c for c in first.sentence if c.isdigit())
    assert len(view.table.rows) == 11


def test_the_clock_starts_without_the_answer():
    first = widget.present(result_of()).timeline.frames[0]
    assert first.sentence == "262\u2009144 tokens wait, and the clock starts."


def test_tabs_hold_the_papers_points():
    view = widget.present(result_of())
    times = {t.name: list(t.y) for t in go.Figure(view.figure("times")).data}
    assert times["the paper's latents"] == [point[1] for point in cost.DECODED_LCLM[16]]
    assert times["the paper's raw text"] == [point[1] for point in cost.DECODED_RAW]
    memories = {t.name: list(t.y) for t in go.Figure(view.figure("memories")).data}
    assert memories["the paper's eviction"] == [point[2] for point in cost.DECODED_EVICTION]


def test_what_was_measured_has_its_tabs():
    result = result_of(logits="last")
    view = widget.present(result)
    shown = {plot.tab for plot in widget._measured_plots()}
    assert shown == {"Measured", "Eviction"}
    drawn = {t.name: list(t.y) for t in go.Figure(view.figure("measured_times")).data if t.name}
    assert drawn["latents"] == [point.ttft_s for point in result.measured_curves["latents"]]
    held = {t.name: list(t.y) for t in go.Figure(view.figure("measured_memories")).data if t.name}
    assert held["raw text"] == [point.peak_gib for point in result.measured_curves["raw"]]
    prose, returning = (
        {t.name: (list(t.x), list(t.y)) for t in go.Figure(view.figure(name)).data}
        for name in ("evicted", "returning")
    )
    assert prose.keys() == returning.keys() == {title for title, _ in METHODS.values()}
    (whole,), (unsure,) = returning["everything"]
    assert all(min(y) > 2 * unsure for name, (_, y) in returning.items() if name != "everything")
    assert max(prose["the newest"][0]) < whole


def test_where_nothing_was_measured_the_plot_says_so():
    result = dataclasses.replace(result_of(), measured_curves={"raw": (), "latents": ()})
    view = widget.present(dataclasses.replace(result, eviction_quality=()))
    for name in ("measured_times", "measured_memories", "evicted"):
        assert "yet" in go.Figure(view.figure(name)).layout.annotations[0].text


def test_arithmetic_adds_the_lane():
    lines = widget.present(result_of()).arithmetic
    assert lines["lclm"].text.startswith("1.55 s + 509 ms = 2.06 s; raw text takes 29.9 times")
    assert lines["evict"].text == "61.4 s + 1.70 s = 63.1 s"


def test_the_prediction_is_judged_by_the_fits():
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "no sooner"
    assert "61.4 s" in sentence and "30 times" in sentence and "16\u2009384" in sentence


def eviction_is_no_sooner(seen):
    assert seen.number("eviction") > seen.number("raw text") == 61.4
    assert seen.number("latents") < seen.number("raw text") / 25
    assert any("raw text and eviction: the decoder reads" in s for s in seen.sentences)
    assert any("eviction: chooses and drops" in s for s in seen.sentences)


def peaks(seen):
    """GiB at most, of raw text, eviction and latents."""
    told = seen.summary.split("at most ")[1].split(" are held")[0]
    return [float(part.split()[0]) for part in told.replace(" and ", ", ").split(", ")]


def two_peaks_fall_and_the_encoders_stays(seen):
    assert seen.values["logits"] == "last"
    raw, evict, latents = peaks(seen)
    assert raw < 45 and evict < 47 and latents == 26  # 119, 121 and 26 with all rows


def little_is_gained(seen):
    assert seen.values["context"] == 4096
    assert 1 < seen.number("raw text") / seen.number("latents") < 2
    raw, _, latents = peaks(seen)
    assert raw < latents < 10 and 0.9 * raw < cost.WEIGHTS_GIB
    assert seen.number("eviction") > 5 * seen.number("raw text")  # ms, the purple piece


def raw_text_does_not_fit(seen):
    assert "does not fit" in seen.readouts["raw text"]
    assert "does not fit" in seen.readouts["eviction"]
    assert seen.readouts["latents"] == "10.7 s"
    raw, _, latents = peaks(seen)
    assert latents < scene.CARD < raw


STEPS = (
    eviction_is_no_sooner,
    two_peaks_fall_and_the_encoders_stays,
    little_is_gained,
    raw_text_does_not_fit,
)
