"""Memory on the GPU by category: the sums are the byte model's, and the picture is to scale."""

import numpy as np
import plotly.graph_objects as go
import pytest

from intuitive.common import results
from intuitive.lsa import LSAConfig, kv_bytes, resident_bytes
from intuitive.lsa.experiments import live_memory, residency_memory
from intuitive.lsa.experiments import memory as experiment
from intuitive.lsa.experiments.memory import CONTEXTS, GIB, PRINTED, MemoryParams, run
from intuitive.widgets.lsa import memory as widget
from intuitive.widgets.lsa import memory_scene as scene
from intuitive.widgets.lsa.memory_figures import live_figure, live_words

PAPER = LSAConfig.paper()


@pytest.mark.parametrize("accounting", ["everything", "paper"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("all_index_keys", [False, True])
def test_the_parts_sum_to_the_byte_model(accounting, kept, all_index_keys):
    params = MemoryParams(kept=kept, accounting=accounting, all_index_keys=all_index_keys)
    for held, context in zip(run(params).at, CONTEXTS, strict=True):
        assert held.all_bytes == sum(kv_bytes(PAPER, context).values())
        want = resident_bytes(
            PAPER,
            context,
            kept=held.kept / held.chunks,
            accounting=accounting,
            all_index_keys=all_index_keys,
        )
        assert held.lsa_bytes == sum(want.values())
        assert held.kept == max(round(kept * held.chunks), 2048)  # the tail is 8,192 tokens
        assert held.tail == 2048
        if kept == 1 and accounting == "everything":
            assert held.lsa_bytes == held.all_bytes


def test_the_papers_columns_are_met_by_the_papers_accounting():
    """Within what rounding to two digits and other kept shares allow."""
    found = {held.context: held for held in run(MemoryParams(accounting="paper")).at}
    for context, everything, lsa in PRINTED:
        assert found[context].all_bytes / GIB == pytest.approx(everything, rel=0.03)
        assert found[context].lsa_bytes / GIB == pytest.approx(lsa, abs=0.02)
        rounded = round(found[context].lsa_bytes / GIB, 2)
        if context >= 2**18:
            assert lsa == rounded
        else:  # it prints more
            assert lsa > rounded


def test_everything_counted_at_a_million_tokens():
    last = run(MemoryParams()).at[-1]
    assert last.left == pytest.approx(0.144, abs=0.001)
    assert last.floor / last.all_bytes == pytest.approx(0.049, abs=0.001)
    whole_keys = run(MemoryParams(all_index_keys=True)).at[-1]
    assert whole_keys.left == pytest.approx(0.283, abs=0.002)


def test_a_wait_is_what_fetching_on_demand_adds_to_a_layer():
    found, waits = experiment.measured(), []
    for row in found.rows["reactive"]:
        usual = found.at("everything", row.context)
        waits.append(1000 / row.eager_steps_per_s - 1000 / usual.eager_steps_per_s)
    assert experiment.wait_ms() == pytest.approx(min(waits) / 21)


def test_bad_settings_are_told():
    with pytest.raises(ValueError, match=r"kept=1.5 must lie in \[0, 1\]"):
        MemoryParams(kept=1.5)
    with pytest.raises(ValueError, match="accounting='theirs' is unknown"):
        MemoryParams(accounting="theirs")
    params = MemoryParams(kept=0.3, all_index_keys=True)
    assert MemoryParams.from_text(params.to_text()) == params


def areas(marks, *keys):
    return sum(m.w * m.h for m in marks if any(m.key.startswith(key) for key in keys))


@pytest.mark.parametrize("settings", [{}, {"kept": 0.5}, {"all_index_keys": True}])
def test_areas_and_columns_are_bytes_to_scale(settings):
    result = run(MemoryParams(**settings))
    heights = []
    for held, frame in zip(result.at, widget.present(result).timeline.frames, strict=True):
        marks = [m for m in frame.scene.marks if hasattr(m, "h")]
        unit = areas(marks, "entries", "keys", "hca") / held.all_bytes
        kept = areas(marks, "slice:", "tail") / unit
        assert kept == pytest.approx(held.lsa["tail"] + held.lsa["fetched"], rel=0.02)
        floor = areas(marks, "floor:") / unit
        assert floor == pytest.approx(held.floor, rel=1e-6)
        for which, total in (("all", held.all_bytes), ("lsa", held.lsa_bytes)):
            columns = [m for m in marks if m.key.startswith(f"column:{which}:")]
            heights.append((sum(m.h for m in columns), total))
        inside = [m for m in marks if m.key != "uncounted"]
        assert all(m.y >= -1e-6 and m.y + m.h <= frame.scene.height for m in inside)
        assert all(m.x >= scene.LEFT - 1 for m in inside)
        assert all(m.x + m.w <= scene.RIGHT + 1.5 for m in inside if "column" not in m.key)
    tall, total = np.array(heights).T
    np.testing.assert_allclose(tall / total, tall[0] / total[0])


def test_what_one_step_reads_is_to_scale():
    frame = widget.present(run(MemoryParams())).timeline.frames[0]
    read, entries = frame.scene["read"], frame.scene["entries"]
    assert read.w / entries.w == pytest.approx(512 / (32768 / 4))
    assert read.h == entries.h


def test_the_tab_has_the_papers_figures():
    figure = go.Figure(widget.present(run(MemoryParams())).figure("lengths"))
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn["the paper's LSA"] == [row[2] for row in PRINTED]
    assert drawn["LSA"][-1] == pytest.approx(0.543, abs=0.001)
    without = go.Figure(widget.present(run(MemoryParams(accounting="paper"))).figure("lengths"))
    assert "its floor" not in {trace.name for trace in without.data}


def test_arithmetic_says_what_is_multiplied():
    lines = widget.present(run(MemoryParams())).timeline.frames[-1].arithmetic
    assert lines["entries"].text == "262\u202f144 chunks × 21 layers × 584 B = 2.99 GiB"
    assert lines["floor_keys"].text == "262\u202f144 chunks × 3 layers × 132 B = 99 MiB"
    assert "(21 × 584 B + 18 × 132 B)" in lines["tail"].text


def test_a_committed_run_brings_its_tab(monkeypatch):
    def row(arm, context, n_bytes, speed, **more):
        return residency_memory.Row(
            arm=arm,
            context=context,
            bytes={"csa_entries": n_bytes},
            steps_per_s=speed,
            eager_steps_per_s=speed / 5,
            graph=True,
            allocated_bytes=0,
            scratch_bytes=0,
            cycle_ms=(),
            **more,
        )

    rows = (
        row("lsa_sync", 2**17, GIB // 10, 80.0, exchange=0.3),
        row("lsa_sync", 2**17, GIB // 10, 90.0, exchange=0.1),
        row("everything", 2**17, GIB // 2, 100.0),
        row("everything", 2**15, GIB // 8, 120.0),
    )
    made = type("Made", (), {"device": "a GPU"})
    file = type("File", (), {"values": residency_memory.ResidencyFile(rows=rows, checks=())})
    file.made = made
    monkeypatch.setattr(residency_memory, "measured", lambda: file)
    found = experiment.measured()
    assert [r.context for r in found.rows["everything"]] == [2**15, 2**17]
    assert [r.steps_per_s for r in found.rows["lsa_sync"]] == [90.0]
    assert found.at("everything", 2**17).resident_bytes == GIB // 2
    with pytest.raises(KeyError, match="'reactive' was not measured at 131072"):
        found.at("reactive", 2**17)
    view = widget.present(run(MemoryParams()))
    used = {t.name: list(t.y) for t in go.Figure(view.figure("used")).data if t.name}
    assert used["everything"] == [0.125, 0.5]
    speed = {t.name: list(t.y) for t in go.Figure(view.figure("speed")).data}
    assert speed["everything"] == [120.0, 100.0]
    explorer = widget.explorer()
    assert explorer.declaration.tabs == ("Every length", "Measured", "Live")
    explorer.close()


def test_the_committed_run_uses_what_the_model_says():
    found = experiment.measured()
    model = {held.context: held for held in run(MemoryParams()).at}
    for arm, name in (("everything", "all_bytes"), ("lsa_sync", "lsa_bytes")):
        for row in found.rows[arm]:
            if row.context >= 2**17:  # below, windows and tables weigh more
                assert row.resident_bytes == pytest.approx(
                    getattr(model[row.context], name), rel=0.16
                )
    half = 2**19
    left = found.at("lsa_sync", half).resident_bytes / found.at("everything", half).resident_bytes
    assert left < 0.16  # the goal
    late = [row.graph for row in found.rows["reactive"]]
    assert not any(late) and found.at("everything", half).graph


def test_without_a_committed_run_there_is_no_tab(monkeypatch):
    monkeypatch.setattr(results, "names", lambda: ())
    explorer = widget.explorer()
    assert explorer.declaration.tabs == ("Every length", "Live")
    assert (
        "yet"
        in go.Figure(widget.present(run(MemoryParams())).figure("used")).layout.annotations[0].text
    )
    explorer.close()


def test_the_prediction_is_judged_by_the_byte_model():
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "about a seventh"
    assert "14.4%" in sentence and "4.9%" in sentence


def one_step_reads_a_sliver(seen):
    assert seen.readouts["everything resident"] == "3.76 GiB"
    gold, all_entries = seen.marks["read"], seen.marks["entries"]
    assert "512 of 262\u202f144 entries" in gold["words"]
    assert gold["w"] / all_entries["w"] == pytest.approx(512 / 2**18, rel=0.1)  # to scale
    assert "4.9% are there whatever is kept" in seen.sentences[-1]


def both_grow_and_the_share_settles(seen):
    shares = [float(s.split(" needs ")[1].split("%")[0]) for s in seen.sentences]
    assert shares == sorted(shares, reverse=True) and shares[-1] == shares[-2] == 14.4
    assert seen.readouts["LSA"] == "556 MiB"


def the_floor_grows(seen):
    assert seen.values["kept"] == 0 and "190 MiB are there whatever is kept" in seen.summary
    assert all("keeps the tail alone" in sentence for sentence in seen.sentences)
    assert seen.number("share left") == 5.7


def the_papers_accounting_leaves_the_strip_out(seen):
    assert seen.values["accounting"] == "paper" and seen.number("share left") == 9.8
    assert "if kept chunks are all that is counted" in seen.sentences[-1]
    assert "whatever is kept" not in seen.summary


def twice_as_much_is_left(seen):
    assert seen.values["all_index_keys"] and seen.number("share left") == 28.3  # 14.4 before


STEPS = (
    one_step_reads_a_sliver,
    both_grow_and_the_share_settles,
    the_floor_grows,
    the_papers_accounting_leaves_the_strip_out,
    twice_as_much_is_left,
)


def test_the_measured_setting_is_the_lessons():
    """The issue's goal at 512K, by the model: at most 16% with the tail inside a tenth."""
    held = experiment.hold(MemoryParams(), PAPER, 2**19)
    assert held.left < 0.16


# ------------------------------------------------------------------------------- the tab "Live"


def counted(**changes):
    made = {
        "device": "some GPU",
        "on_gpu": True,
        "n_steps": 2,
        "steps": (0, 1),
        "bytes": dict.fromkeys(live_memory.CATEGORIES, (50000, 50000)),
        "in_use": (10_000, 20_000),
        "allocated": (260_000, 262_000),
        "reserved": (44_000_000, 46_000_000),
        "host": 900_000,
        "everything": 990_000,
    }
    return live_memory.LiveMemory(**(made | changes))


def test_on_a_gpu_the_allocator_is_asked():
    """With a stand-in for it."""
    said = (
        "some GPU holds 250 kB (its allocator says 262 kB, and that it has reserved 46 MB for all "
        "of this process), the CPU 900 kB"
    )
    assert live_words(counted()) == said
    lines = {trace.name: trace.y for trace in go.Figure(live_figure(counted())).data}
    assert list(lines["the allocator's count"]) == [260, 262]
    assert list(lines["cells in use"]) == [210, 220]


def test_without_a_gpu_the_tab_says_so():
    here = counted(device="cpu, 1 threads", on_gpu=False, allocated=(), reserved=())
    said = "No GPU here: both pools are host memory. A GPU would hold 250 kB, the CPU 900 kB"
    assert live_words(here) == said
    figure = go.Figure(live_figure(here))
    assert sum(trace.y[-1] for trace in figure.data if trace.stackgroup) == 250
    assert "allocator" not in str(figure)
    assert "Decode here" in go.Figure(live_figure(None)).layout.annotations[0].text


def test_the_page_decodes_once_the_button_was_pressed(monkeypatch):
    asked, told = [], []

    def decode(kept, *, stale, progress):
        asked.append(kept)
        progress(0.5, "half", counted(steps=(0,)))
        return counted()

    monkeypatch.setattr(live_memory, "run", decode)
    still = {"stale": lambda: False, "progress": lambda *said: told.append(said)}
    assert widget.compute(widget.Page.of(kept=0.2), **still).live is None and not asked
    assert widget.compute(widget.Page.of(kept=0.2, decode=1), **still).live == counted()
    assert asked == [0.2]
    assert told[0][2].live.steps == (0,) and told[0][2].result.params.kept == 0.2
