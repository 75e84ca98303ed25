"""The explorer of one question: its result on disk, its picture, its sentences."""

import dataclasses
import itertools

import pytest

from intuitive.arena import results
from intuitive.arena.exercise import NOTHING_RETURNED
from intuitive.arena.experiments import one_question as experiment
from intuitive.arena.experiments.one_question import (
    SHOWN,
    WHOLE,
    OneQuestion,
    QuestionParams,
    Row,
)
from intuitive.arena.methods import METHODS, RATIOS, YOURS
from intuitive.arena.results import NAMES
from intuitive.arena.tasks import TOPICS
from intuitive.arena.words import blocks_and_index, finding, reason
from intuitive.widgets.arena import one_question as explorer
from intuitive.widgets.arena import one_question_figures as figures
from intuitive.widgets.arena import styles
from intuitive.widgets.arena.one_question_scene import LEVELS, PER_DOT, Picture
from intuitive.widgets.arena.styles import label
from intuitive.widgets.kit import percent

HELD = tuple([0.25] * 40 + [1.0] * 56)
ROWS = (
    Row(method="dense", resident=1.0, read=1.0, kept=(1.0,) * 96, reads=((0.5,) + (0.0,) * 95,) * 2,
        said=(" 4", "2"), right=True, held=1.0, looked=0.2),
    Row(method="kvzip", resident=0.25, read=0.25, kept=HELD, reads=((0.0,) * 96,) * 2,
        said=(" 7", "7"), right=False, held=0.125, looked=0.01),
    Row(method="lclm", resident=0.25, read=0.25, beads=4, kept=(0.0,) * 96,
        reads=((0.0,) * 96,) * 2, said=(" 4", "1"), right=False, held=0.0, looked=0.05),
    Row(method="lclm_expand", absent="it does not fit."),
)  # fmt: skip
MADE = OneQuestion(
    question="exact", ratio=4, n=192, opening="Once upon", fact="The code is 42.", place=(20, 26),
    ask="The code is", answer="42", rows=ROWS,
)  # fmt: skip


def test_a_result_comes_back_from_disk_as_it_was():
    assert experiment.unpacked(experiment.packed(MADE)) == MADE


def test_params_say_what_is_wrong():
    with pytest.raises(ValueError, match="question='x' is unknown"):
        QuestionParams(question="x")
    with pytest.raises(ValueError, match="ratio=5 must be one of 4, 8, 16"):
        QuestionParams(ratio=5)
    with pytest.raises(ValueError, match="there is no question"):
        QuestionParams(question="own", text="a text")


def test_frames_go_from_the_text_to_the_verdict():
    frames = Picture(MADE).frames()
    assert len(frames) == 2 + 2
    keys = [{mark.key for mark in frame.scene.marks} for frame in frames]
    assert "mark:dense" not in keys[2] and "mark:dense" in keys[3]
    assert "bead:lclm:158:0" not in keys[0] and "bead:lclm:158:0" in keys[1]
    assert frames[3].scene["mark:kvzip"].text == "✗ wrong"
    assert frames[2].scene["said:dense"].text == "4"
    assert frames[3].scene["said:dense"].text == "42"
    assert frames[0].readouts[-1].value == "–" and frames[3].readouts[-1].value == "0 of 2"
    assert "no:lclm_expand" in keys[3]


def test_who_holds_everything_stands_apart_and_is_not_counted():
    scene = Picture(MADE).frames()[-1].scene
    assert scene["name:dense"].y < scene["after"].y < scene["name:kvzip"].y
    assert scene["name:kvzip"].y < scene["name:lclm"].y < scene["before"].y
    assert scene["bytes:dense"].text == scene["each:dense"].text == "100%"
    assert scene["each:kvzip"].text == "25%"
    boxes = sorted((scene[f"row:{row.method}"] for row in ROWS), key=lambda box: box.y)
    assert all(one.y + one.h <= two.y for one, two in itertools.pairwise(boxes))
    assert boxes[-1].y + boxes[-1].h <= scene.height


@pytest.mark.parametrize("yours", [False, True])
def test_rows_stand_with_those_that_were_asked_when_they_were(yours):
    rows = tuple(Row(method=m, kept=(1.0,) * 96) for m in SHOWN)
    rows += (Row(method=YOURS, kept=(0.5,) * 96),) * yours
    scene = Picture(dataclasses.replace(MADE, rows=rows)).frames()[1].scene
    for row in rows:
        y = scene[f"name:{row.method}"].y
        asked = "after" if row.method == YOURS else METHODS[row.method].asked
        whole = row.method in WHOLE
        assert (y < scene["after"].y) == whole
        assert whole or (y > scene["before"].y) == (asked == "before")
    assert max(scene[f"row:{row.method}"].y for row in rows) + 20 < scene.height
    assert all(when in scene[when].text for when in ("after", "before"))


def test_what_lies_elsewhere_stands_in_its_row_its_reckoning_and_values():
    made = experiment.kept()["needle 4"]
    scene, view = Picture(made).frames()[1].scene, explorer.present(made)
    place = view.table.header.index("elsewhere")
    told = {row[0]: row[place] for row in view.table.rows}
    assert scene["away:lsa"].text == told["LSA"] == percent(made.row("lsa").elsewhere) == "100%"
    assert "100% lies elsewhere" in view.arithmetic["method:lsa"].text
    assert scene["away:lclm_expand"].text == told["LCLM + EXPAND"] == "the text"
    assert scene["away:kvzip"].text == told["KVzip"] == "–"


def test_what_msa_reads_is_told_in_its_parts():
    for key, made in experiment.kept().items():
        row, ratio = made.row("msa"), _parts(key)[1]
        blocks, index = blocks_and_index(row)
        assert blocks == pytest.approx(1 / ratio, abs=1e-3)
        assert index == pytest.approx(1 / 3, abs=1e-3)
        view = explorer.present(made)
        (reads,) = (one[4] for one in view.table.rows if one[0] == "MSA")
        assert reads == f"{percent(row.read)}: {percent(blocks)} blocks, 33% index keys"
        told = Picture(made).frames()[1].scene["index"].text
        assert f"reads {percent(blocks)} in blocks" in told
        assert percent(blocks, 1) in view.arithmetic["method:msa"].text


def test_msa_s_row_tells_what_is_read_from_what_is_held():
    made = experiment.kept()["exact 16"]
    before, after = (Picture(made).frames()[i].scene for i in (1, -1))
    for scene in (before, after):
        assert scene["held:msa"].w == scene["kept:dense:0"].w and not scene["held:msa"].fill
    read = [mark for mark in after.marks if mark.key.startswith("kept:msa:")]
    assert not [mark for mark in before.marks if mark.key.startswith("kept:msa:")]
    assert 0 < sum(mark.w * mark.opacity for mark in read) < 0.5 * after["held:msa"].w
    opened = made.row("msa").opened
    assert sum(opened) / len(opened) < 0.1  # two blocks of 32


def test_no_attention_stands_over_a_place_that_nobody_holds():
    for made in experiment.kept().values():
        scene = Picture(made).frames()[-1].scene
        for row in (row for row in made.rows if not row.beads):
            boxes = [m for m in scene.marks if m.key.startswith(f"kept:{row.method}:")]
            for mark in scene.marks:
                if mark.key.startswith(f"read:{row.method}:"):
                    left = mark.x - 0.5  # a bar stands half a unit inside its stretch
                    assert any(b.x - 1e-6 <= left < b.x + b.w for b in boxes), (row.method, left)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_dot_is_two_latents(ratio):
    made = experiment.kept()[f"exact {ratio}"]
    dots = [m for m in Picture(made).frames()[1].scene.marks if m.key.startswith("bead:lclm:")]
    assert abs(len(dots) * PER_DOT - made.n / ratio) <= PER_DOT
    told = explorer.present(made).arithmetic["method:lclm"].text
    assert f"a latent stands for {ratio} tokens" in told


def test_the_last_sentence_answers_its_step():
    code, tight, topic = (experiment.kept()[key] for key in ("exact 4", "exact 16", "topic 16"))
    assert "all of it in all layers and heads: LSA, LCLM + EXPAND (2 of 2 right)" in finding(code)
    held = percent(code.row("snapkv").held)
    assert f"a part: SnapKV {held}, " in finding(code) and "(0 of 4 right)" in finding(code)
    assert code.row("snapkv").whole == 0 and code.row("lsa").whole == 1
    assert "all of it in all layers and heads: nobody;" in finding(tight)
    assert "SnapKV unasked under 1% (" in finding(topic)
    looked = f"{tight.row('msa').looked:.1%}"
    assert f"MSA holds all of it; {looked} of its attention fell there, and it is wrong" in (
        finding(tight)
    )
    right = [row.right for row in tight.same if not row.absent]
    assert f"With the code, {sum(right)} of {len(right)} were right" in finding(topic)
    for made in (code, tight, topic):
        assert finding(made) in Picture(made).frames()[-1].sentence


def test_who_takes_no_part_holds_nothing_in_words():
    view = explorer.present(experiment.kept()["exact 16"])
    told = view.arithmetic["method:lclm_expand"].text
    assert "0.0%" not in told and "Takes no part" in told


def test_the_legend_names_the_shades_and_no_place_where_there_is_none():
    scene = Picture(MADE).frames()[0].scene
    shades = [scene[f"key:kept:{i}"].opacity for i in range(1, LEVELS + 1)]
    assert shades == sorted(shades)
    assert Picture(MADE).frames()[1].scene["kept:kvzip:40"].opacity == shades[-1]
    assert scene["key:place:name"].text == "asked for"
    own = dataclasses.replace(MADE, fact="", place=(-1, -1), answer="", question="own")
    assert "key:place" not in {mark.key for mark in Picture(own).frames()[0].scene.marks}


def test_the_room_is_told_in_entries():
    frame = Picture(MADE).frames()[1]
    assert "50 entries for 192 tokens" in frame.sentence
    assert frame.readouts[0].value == "50 entries"


@pytest.mark.parametrize("task", [*experiment.QUESTIONS, None])
def test_every_curve_has_its_name_at_its_end_and_names_keep_apart(task):
    figure = figures.memory_figure(task=task)
    texts = {mark["text"]: mark["y"] for mark in figure["layout"]["annotations"]}
    names = {label(method) for method in styles.DRAWN} - {"MSA"}  # at its first mark
    (note,) = set(texts) - names
    assert note.startswith("holds 133%:")
    heights = sorted(texts[name] for name in names)
    gaps = [above - below for below, above in itertools.pairwise(heights)]
    assert min(gaps) >= figures.NAME - 1e-9
    assert figures.SHARE[0] <= heights[0] and heights[-1] < figures.SHARE[1]
    ends = {trace["name"]: trace["y"] for trace in figure["data"]}
    assert all(min(abs(texts[name] - y) for y in ends[name]) < 0.2 for name in names)


def test_in_the_second_plot_only_dense_and_msa_stand_elsewhere_and_have_names():
    held, read = (figures.memory_figure(which, task="exact") for which in (0, 1))
    assert [mark["text"] for mark in read["layout"]["annotations"]] == ["Dense"]
    for one, two in zip(held["data"], read["data"], strict=True):
        near = all(
            x == pytest.approx(y, abs=0.004) for x, y in zip(one["x"], two["x"], strict=True)
        )
        assert near == (one["name"] != "MSA")


def test_the_tabs_show_the_task_of_the_menu_and_the_budget_of_the_slider():
    contest = results.contest()
    n = figures.shown_length(contest)
    for key, made in experiment.kept().items():
        task, ratio = _parts(key)
        view = explorer.present(made)
        for plot in ("memory", "read"):
            figure = view.figure(plot)
            assert figure["layout"]["yaxis"]["title"]["text"] == f"share right, {NAMES[task]}"
            for trace in figure["data"]:
                method = trace["meta"].removeprefix("method:")
                ratios = [r for r in RATIOS if contest.of(task, n, method, r)]
                if method == "dense":
                    ratios = [ratio]
                assert trace["y"] == [contest.share(task, n, method, r) for r in ratios]
                large = [size > 10 for size in trace["marker"]["size"]]
                assert large == [r == ratio for r in ratios]
        for plot in ("time", "token"):
            traces = {trace["name"]: trace for trace in view.figure(plot)["data"]}
            assert set(traces) == {label(method) for method in styles.DRAWN}
            large = [size > 10 for size in traces["KVzip"]["marker"]["size"]]
            assert large == [r == ratio for r in RATIOS]
    own = dataclasses.replace(MADE, question="own", answer="")
    title = explorer.present(own).figure("memory")["layout"]["yaxis"]["title"]["text"]
    assert title == "share right, mean of a needle, an exact string, a topic"


def test_msa_s_marks_say_their_room_and_the_picture_what_it_reads():
    (msa,) = (t for t in figures.memory_figure(task="exact")["data"] if t["name"] == "MSA")
    assert msa["text"] == ["MSA 1/4, 1/8", "", "1/16"] and len(set(msa["x"])) == 1
    (msa,) = (t for t in figures.memory_figure(1, task="exact")["data"] if t["name"] == "MSA")
    assert msa["text"] == ["MSA 1/4", "1/8", "1/16"]
    made = experiment.kept()["exact 4"]
    told = Picture(made).frames()[1].scene["index"].text
    assert told.endswith(f"index keys, {percent(made.row('msa').resident - 1)}")
    assert "index" not in {mark.key for mark in Picture(MADE).frames()[1].scene.marks}


def test_the_strip_shows_how_much_is_kept():
    scene = Picture(MADE).frames()[1].scene
    pale, full = scene["kept:kvzip:0"], scene["kept:kvzip:40"]
    assert pale.opacity < full.opacity
    assert full.w / pale.w == pytest.approx(56 / 40)
    assert scene["kept:dense:0"].w == pytest.approx(pale.w + full.w)


def test_a_row_of_the_readers_own_says_what_its_function_lacks():
    def told(**row):
        made = dataclasses.replace(MADE, rows=(Row(**row),))
        return Picture(made).frames()[-1].scene[f"no:{row['method']}"].text

    assert told(method="lsa", absent="long.") == "takes no part: does not fit into this budget"
    assert told(method=YOURS, absent=NOTHING_RETURNED) == f"takes no part: {NOTHING_RETURNED}"


def test_reasons_are_made_of_the_rows_own_numbers():
    assert "holds 12% of the answer's place" in reason(ROWS[1], MADE)
    assert "latents of 4 tokens each" in reason(ROWS[2], MADE)
    assert reason(ROWS[3], MADE) == "Takes no part: it does not fit."
    other = dataclasses.replace(ROWS[1], held=0.5)
    assert "holds 50%" in reason(other, MADE)


def test_the_view_has_a_line_for_every_method():
    view = explorer.present(MADE)
    assert len(view.table.rows) == len(ROWS)
    assert set(view.arithmetic) == {f"method:{row.method}" for row in ROWS}
    assert "192/4 + 2 = 50 entries" in view.arithmetic["method:kvzip"].text
    assert view.summary.startswith("With room for one entry in 4 of 192 tokens: 3 methods answer")
    told = [view.summary, *(line.text for line in view.arithmetic.values())]
    assert not any("right" in text or "wrong" in text for text in told)


def test_the_caption_counts_rows_until_all_are_there():
    assert Picture(MADE).frames()[-1].sentence == "4 of 10 methods are there so far."
    others = [m for m in experiment.SHOWN if m not in {row.method for row in ROWS}]
    absent = [Row(method=m, absent="it does not fit.") for m in others]
    whole = dataclasses.replace(MADE, rows=(*ROWS, *absent))
    told = Picture(whole).frames()[-1].sentence
    assert told.startswith("It was “42”. What was asked for was held, all of it")
    assert "heads: nobody; a part: KVzip 12% (0 of 1 right); none: LCLM (0 of 1 right)." in told


def test_what_the_reader_writes_counts_for_more_than_the_menu():
    made = explorer.params_of(question="needle", ratio=4, ask="Her name is")
    assert (made.question, made.ask) == ("own", "Her name is")
    made = explorer.params_of(question="needle", ratio=4, text="a text")
    assert (made.question, made.ask) == ("own", explorer.ASK)
    assert explorer.params_of(question="exact", ratio=4).question == "exact"


@pytest.mark.parametrize("ratio", experiment.RATIOS)
def test_the_sentences_are_of_the_methods_and_the_budget_of_the_map(ratio):
    figure = explorer.fails_figure(ratio)
    told = figure["layout"]["annotations"][0]["text"].replace("<br>", " ")
    assert f"one entry in {ratio}<" in told
    methods = [name for name in figure["data"][0]["y"] if name != "Dense"]
    assert "takes no part" not in told and all(f"{m} " in told for m in methods)
    assert ("LCLM + EXPAND " in told) == ("LCLM + EXPAND" in methods)


def test_every_question_of_the_menu_is_committed():
    found = experiment.kept()
    wanted = {f"{q} {r}" for q in experiment.QUESTIONS for r in experiment.RATIOS}
    assert set(found) == wanted
    for key, made in found.items():
        assert (made.question, made.ratio, made.n) == (*_parts(key), experiment.N)
        assert [row.method for row in made.rows] == list(experiment.SHOWN)
        for row in made.rows:
            over = row.resident * made.n > -(-made.n // made.ratio) + 2 + 0.05 * made.ratio
            assert not over or row.method in ("dense", "msa"), (key, row.method)


def _parts(key: str) -> tuple[str, int]:
    question, ratio = key.split()
    return question, int(ratio)


# ------------------------------------------------------------------------------------ the steps


def dense_is_right(seen):
    assert seen.marks["mark:dense"]["text"] == "✓ right"


def a_name_is_asked_for_and_every_method_answers(seen):
    dense_is_right(seen)
    assert seen.sentences[-1].startswith("It was “")
    assert "bytes:kvzip" in seen.marks and "said:kvzip" in seen.marks


def the_same_memory_and_eight_signs(seen):
    dense_is_right(seen)
    assert (seen.values["question"], seen.values["ratio"]) == ("exact", 4)
    made = experiment.kept()["exact 4"]
    assert len(made.answer) == 8
    held = {row.method: row.resident for row in made.rows if not row.absent}
    room = (-(-made.n // 4) + 2) / made.n + 1e-3
    assert all(share <= room for method, share in held.items() if method not in ("dense", "msa"))


def some_hold_the_place_and_one_only_reads_less(seen):
    made = experiment.kept()["exact 16"]
    msa, kvzip = made.row("msa"), made.row("kvzip")
    assert msa.resident > 1 and msa.read < 0.5
    assert seen.marks["bytes:msa"]["text"] == percent(msa.resident)
    assert kvzip.resident < 0.07
    assert seen.marks["bytes:kvzip"]["text"] == percent(kvzip.resident)


def losing_some_of_six_sentences_costs_less(seen):
    same = [row for row in experiment.kept()["exact 16"].rows if row.method not in WHOLE]
    assert seen.number("right, same memory") > sum(row.right is True for row in same)
    assert f"{len(TOPICS)} topics" in explorer._steps()[3].text


STEPS = (
    a_name_is_asked_for_and_every_method_answers,
    the_same_memory_and_eight_signs,
    some_hold_the_place_and_one_only_reads_less,
    losing_some_of_six_sentences_costs_less,
)
