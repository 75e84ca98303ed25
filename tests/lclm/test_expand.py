"""The trace stepper: what is read and said on a pair of letters, and how it is drawn."""

import dataclasses

import pytest
import torch
from letters import letter_pair

from intuitive.lclm import smollm
from intuitive.lclm.expand import positions_of
from intuitive.lclm.experiments import expand as experiment
from intuitive.lclm.experiments.expand import ExpandParams, derangement, lexical
from intuitive.lclm.experiments.expand_texts import TEXTS, Text
from intuitive.lclm.results import SMOLLM, ChunkMap, Smol
from intuitive.lclm.splice import Raw, Span
from intuitive.widgets.lclm import expand as widget
from intuitive.widgets.lclm import expand_scene as scene

PAIR = letter_pair()
OTHERS = [text for text in TEXTS if text != "palace"]


def result_of(choose=None, **settings):
    return experiment.run(ExpandParams(**settings), pair=PAIR, choose=choose)


@pytest.fixture(scope="module")
def result():
    return result_of(room=300)


def prompt_of(result, expanded):
    """The whole prompt, made anew: chunks folded, those that came back, the question."""
    encode = PAIR.tokenizer.encode
    tokens = [torch.tensor(encode(chunk.text)) for chunk in result.chunks]
    pieces = []
    for number, one in enumerate(tokens, 1):
        pieces += [Raw(torch.tensor(encode(f"[{number}] "))), Span(one)]
    for number in expanded:
        pieces += [Raw(torch.tensor(encode(f"\n[{number}] "))), Raw(tokens[number - 1])]
    asked = smollm.ANSWER.format(question=result.question)
    return [*pieces, Raw(torch.tensor(encode(asked)))]


@pytest.mark.parametrize("ratio", [4, 16])
@pytest.mark.parametrize("expanded", [(), (3,), (2, 5)])
def test_answers_are_those_of_the_whole_prompt(ratio, expanded):
    found = result_of(lambda *_: expanded, ratio=ratio, room=2000)
    n = len(found.answer) + 3
    new = PAIR.continuation(prompt_of(found, expanded), n, ratio=ratio)
    told = PAIR.tokenizer.decode(new).lstrip().split("\n")[0].strip().rstrip(".")
    assert found.after == told and found.expanded == expanded
    if not expanded:
        assert found.before == found.after


def test_shares_are_the_pairs_own_logits_over_the_ids(result):
    tokens = [torch.tensor(PAIR.tokenizer.encode(chunk.text)) for chunk in result.chunks]
    want = PAIR.where(tokens, result.question, result.params.ratio).softmax(-1)
    torch.testing.assert_close(
        torch.tensor([chunk.share for chunk in result.chunks]), want, atol=1e-5, rtol=1e-4
    )
    assert result.chosen == int(want.argmax()) + 1


def test_what_happens_is_a_play_of_the_protocol(result):
    """The pair, left to itself, names the same chunk and says the same."""
    found = result_of(lambda shares, *_: [shares.index(max(shares)) + 1], room=2000)
    tokens = [torch.tensor(PAIR.tokenizer.encode(chunk.text)) for chunk in found.chunks]
    ratio, n = found.params.ratio, len(found.answer) + 3
    trace = PAIR.expand(tokens, found.question, ratio, n=n)
    assert found.trace.expanded == trace.expanded == (found.chosen,)
    assert [one.must for one in found.trace.rounds] == ["expand", "answer"]
    assert found.trace.raw_tokens == trace.raw_tokens == found.at(found.chosen).n_tokens
    told = PAIR.tokenizer.decode(trace.answer)
    assert found.after == told.lstrip().split("\n")[0].strip().rstrip(".")
    nothing = result_of(room=0).trace
    assert nothing.ended == "nothing new" and nothing.expanded == ()


def test_positions_are_counted_with_tags_and_ids(result):
    chunks, question = result.chunks, result.positions_question
    latents = sum(-(-len(chunk.text) // 8) for chunk in chunks)
    assert sum(chunk.n_latents for chunk in chunks) == latents
    labels = sum(len(f"[{chunk.id}] ") for chunk in chunks)
    assert result.positions_before == latents + 2 * len(chunks) + labels + question
    back = sum(len(f"\n[{one}] ") + result.at(one).n_tokens for one in result.expanded)
    assert result.positions_after == result.positions_before + back
    raw = [p for p in prompt_of(result, ()) if not isinstance(p, Span)]
    text = sum(chunk.n_tokens for chunk in chunks)
    assert result.positions_raw == text + sum(map(positions_of, raw))


def test_likeliest_chunks_that_fit_come_back(result):
    assert result.expanded and result.expanded[0] == result.chosen
    assert sum(result.at(one).n_tokens for one in result.expanded) <= 300
    none = result_of(room=0)
    assert none.expanded == () and none.after == none.before
    assert none.positions_after == none.positions_before


def test_shuffled_latents_trade_places():
    plain, shuffled = result_of(), result_of(shuffled=True)
    counts = [[chunk.n_latents for chunk in found.chunks] for found in (plain, shuffled)]
    assert sorted(counts[0]) == sorted(counts[1]) and counts[0] != counts[1]
    assert shuffled.holder == plain.holder
    assert [chunk.latents_of for chunk in plain.chunks] == [chunk.id for chunk in plain.chunks]
    for chunk in shuffled.chunks:  # what stands under an id are the latents of the chunk it names
        assert chunk.latents_of != chunk.id
        assert chunk.n_latents == plain.at(chunk.latents_of).n_latents
    own, moved = (experiment._reading(PAIR, "palace", 8, one).latents for one in (False, True))
    for chunk, latents in zip(shuffled.chunks, moved, strict=True):
        assert torch.equal(latents, own[chunk.latents_of - 1])
    for n in (2, 5, 9):
        order = derangement(n, seed=1)
        assert sorted(order) == list(range(n)) and all(i != at for i, at in enumerate(order))


def test_search_takes_the_rarest_words():
    parts = ("the code of the mill is here", "the mill", "a code", "nothing at all")
    assert lexical(parts, "What is the code of the mill?") == 1
    assert lexical(parts, "Nothing at all?") == 4
    for text in TEXTS.values():
        assert lexical(text.paragraphs, text.question) == text.holder + 1


def test_facts_are_whole_sentences():
    for text in TEXTS.values():
        start, end = text.fact
        sentence = text.paragraphs[text.holder][start:end]
        assert sentence.startswith("The ") and sentence.endswith(f"{text.answer}.")
    with pytest.raises(ValueError, match="answer='x' stands in 2 paragraphs"):
        Text(title="", paragraphs=("x", "x"), question="", answer="x")


def test_bad_settings_are_told():
    with pytest.raises(ValueError, match="ratio=5 has no adapter: the pair has 4, 8, 16"):
        ExpandParams(ratio=5)
    with pytest.raises(ValueError, match="text='nowhere' is unknown; choose one of palace"):
        ExpandParams(text="nowhere")
    with pytest.raises(ValueError, match="room=-1"):
        ExpandParams(room=-1)
    params = ExpandParams(ratio=16, shuffled=True)
    assert ExpandParams.from_text(params.to_text()) == params


@pytest.mark.parametrize(
    ("choose", "finding"),
    [
        (lambda *_: None, "choose returned None"),
        (lambda *_: [9], "id 9 was chosen; ids go from 1 to 6"),
        (lambda *_: [1, 2], "only 64 fit"),
        (lambda *_: 1 / 0, "division by zero"),
    ],
)
def test_a_rule_that_fails_brings_nothing_back(choose, finding):
    found = result_of(choose)
    assert finding in found.finding and found.expanded == ()
    assert finding in widget.present(found).summary


# ------------------------------------------------------------------------------ the picture


def test_bars_and_rulers_are_to_scale(result):
    frames = widget.present(result).timeline.frames
    assert [frame.label for frame in frames] == list(scene.STAGES)
    last = frames[-1].scene
    tall = {chunk.id: last[f"share:{chunk.id}"].h for chunk in result.chunks}
    for chunk in result.chunks:
        assert tall[chunk.id] == pytest.approx(max(scene.BAR_TALL * chunk.share, 1))
    parts = [m.w for m in last.marks if m.key.startswith("ruler:") and hasattr(m, "w")]
    raw = last["raw"].x2 - last["raw"].x
    assert sum(parts) / raw == pytest.approx(result.positions_after / result.positions_raw, 0.01)
    for frame in frames:
        for mark in frame.scene.marks:
            assert 0 <= mark.x <= scene.WIDTH and 0 <= mark.y <= scene.HEIGHT, mark.key


def test_shuffled_rows_move_and_say_whose_they_are():
    found = result_of(shuffled=True)
    frames = widget.present(found).timeline.frames
    assert [frame.label for frame in frames] == list(scene.SHUFFLED)
    fold, shuffle = (frames[scene.SHUFFLED.index(stage)].scene for stage in ("fold", "shuffle"))
    for chunk in found.chunks:
        whose = chunk.latents_of
        for i in range(chunk.n_latents):  # the same disc in another place
            bead = f"bead:{whose}:{i}"
            assert (fold[bead].link, shuffle[bead].link) == (f"chunk:{whose}", f"chunk:{chunk.id}")
            assert f"of chunk {whose}" in shuffle[bead].words
            assert shuffle[bead].x + shuffle[bead].w < shuffle[f"of:{whose}"].x - 38
        assert shuffle[f"of:{whose}"].text == f"of [{whose}]"
    assert not any(
        m.key.startswith("of:")
        for m in scene.Picture(result_of())._marks(scene.Moment(stage="answer again", sentence=""))
    )


def test_the_words_that_came_back_are_named_by_their_chunk(result):
    for expanded, told in (((), "nothing"), ((2,), "chunk 2"), ((2, 5), "chunks 2, 5")):
        rounds = (dataclasses.replace(result.trace.rounds[0], brought=expanded),)
        trace = dataclasses.replace(result.trace, rounds=rounds)
        last = scene.Picture(dataclasses.replace(result, trace=trace)).frames()[-1].scene
        assert last["after:name"].text == f"with {told} raw"


def test_words_are_clear_where_they_can_be_read(result):
    text, fold, *_, expand, _ = widget.present(result).timeline.frames
    opacity = {
        name: {m.link: m.opacity for m in frame.scene.marks if m.key.startswith("line:")}
        for name, frame in (("text", text), ("fold", fold), ("expand", expand))
    }
    assert set(opacity["text"].values()) == {1.0}
    assert all(value < 1 for value in opacity["fold"].values())
    for chunk in result.chunks:
        clear = opacity["expand"][f"chunk:{chunk.id}"] == 1
        assert clear == (chunk.id in result.expanded)


def test_the_fact_stands_in_its_box_whole(result):
    picture = scene.Picture(result)
    start, end = result.at(result.holder).fact
    lines = picture._lines(result.at(result.holder))
    assert len(lines) * scene.LINE_TALL <= scene.BOX_TALL
    fact = " ".join(line for line, holds in lines if holds)
    assert fact == result.at(result.holder).text[start:end]


def test_characters_are_judged_one_by_one(result):
    told = dataclasses.replace(result, before="4x21", after="4821", answer="4821")
    last = widget.present(told).timeline.frames[-1].scene
    assert [last[f"before:{i}"].fill for i in range(4)] == ["green", "vermilion", "green", "green"]
    assert {last[f"after:{i}"].fill for i in range(4)} == {"green"}
    assert scene.matching("4x21", "4821") == 3 and scene.matching("", "4821") == 0


def test_first_frames_do_not_tell_the_answer(result):
    first, fold, ask, *_ = widget.present(result).timeline.frames
    for frame in (first, fold, ask):
        assert all(readout.value == "–" for readout in frame.readouts[1:])
        assert not any(m.key.startswith("share:") for m in frame.scene.marks)


# ---------------------------------------------------------------------------------- steps


def positions(seen):
    return seen.number("decoder positions")


def right(seen):
    """Characters that are right, and of how many."""
    return tuple(map(int, seen.readouts["characters right"].split(" of ")))


def the_code_is_read_once_its_words_are_back(seen):
    from_latents = seen.sentences[scene.STAGES.index("answer")]
    said, answer = from_latents.split("“")[1:]
    said, answer = said.split("”")[0], answer.split("”")[0]
    assert sorted(said) == sorted(answer) and said != answer
    assert "which holds it" in seen.sentences[scene.STAGES.index("which")]
    assert right(seen) == (4, 4)


def nothing_is_left_for_expand_to_do(seen):
    assert seen.values["ratio"] == 4
    said, answer = seen.sentences[scene.STAGES.index("answer")].split("“")[1:]
    assert said.split("”")[0] == answer.split("”")[0]
    assert right(seen) == (4, 4)


def fewer_positions_and_the_wrong_chunk(seen):
    assert seen.values["ratio"] == 16
    read = int(seen.sentences[1].split("reads ")[1].split(" ")[0])
    assert read < 0.25 * int(seen.sentences[0].split(", ")[1].split(" ")[0])
    assert "which does not hold it" in seen.sentences[scene.STAGES.index("which")]
    assert right(seen)[0] < 4
    found = experiment.run(ExpandParams(ratio=16))
    assert found.oracle == found.answer


def the_wrong_words_come_back(seen):
    assert seen.values["shuffled"] and "with the latents shuffled" in seen.summary
    named = seen.sentences[scene.SHUFFLED.index("which")]
    assert "which does not hold it" in named and "Under it stand the latents of chunk 3" in named
    marks = [mark["text"] for key, mark in seen.marks.items() if key.startswith("of:")]
    assert len(marks) == 6 and "of [3]" in marks
    assert right(seen)[0] < 4


def all_comes_back(seen):
    assert (seen.values["room"], seen.values["ratio"]) == (384, 16)
    raw = int(seen.sentences[0].split(", ")[1].split(" ")[0])
    assert positions(seen) > raw


def all_comes_back_and_is_read(seen):
    all_comes_back(seen)
    assert right(seen) == (4, 4)


def it_plays_through(seen):
    stages = scene.SHUFFLED if seen.values["shuffled"] else scene.STAGES
    assert positions(seen) > 0 and len(seen.sentences) == len(stages)


STEPS = (
    the_code_is_read_once_its_words_are_back,
    nothing_is_left_for_expand_to_do,
    fewer_positions_and_the_wrong_chunk,
    the_wrong_words_come_back,
    all_comes_back_and_is_read,
)
if not smollm.WEIGHTS.is_file():  # an untrained pair knows nothing: its steps only set their state
    STEPS = (*(it_plays_through,) * 4, all_comes_back)


# --------------------------------------------------------------------- over many held-out texts


def chunk_map(ratio, seed, where=0.8):
    value = {"alone": 0.1, "own": 0.7, "oracle": 0.9, "lexical": 0.85, "random": 0.2}
    return ChunkMap(
        seed=seed,
        ratio=ratio,
        chunks=8,
        chunk_tokens=96,
        questions=512,
        chance=0.125,
        where=where + 0.01 * seed,
        where_lexical=0.95,
        where_shuffled=None if ratio == 1 else 0.12,
        value=value,
        value_shuffled={} if ratio == 1 else {"alone": 0.02},
    )


@pytest.fixture
def many(monkeypatch):
    maps = tuple(chunk_map(ratio, seed) for ratio in (4, 16, 1) for seed in (0, 1, 2))
    values = Smol(training=(), continuations=(), far=(), reconstruction=(), maps=maps, costs=())
    file = type("File", (), {"values": values})
    monkeypatch.setattr(experiment.results, "smollm", lambda: file)
    monkeypatch.setattr(experiment.committed, "names", lambda: (SMOLLM,))


def test_the_committed_run_by_ratio(many):
    one, four, sixteen = experiment.asked()
    assert (one.ratio, four.ratio, sixteen.ratio) == (1, 4, 16)
    assert "shuffled" not in one.where and four.where["shuffled"] == (0.12, 0.12, 0.12)
    assert sixteen.where["model"] == pytest.approx((0.81, 0.8, 0.82))
    named = {trace["name"]: trace["y"] for trace in widget.where_figure()["data"]}
    assert named["the model"] == pytest.approx([0.81] * 3)
    assert len(named["latents shuffled"]) == 2
    said = {trace["name"]: trace["y"] for trace in widget.value_figure()["data"]}
    assert said["nothing"] == pytest.approx([0.1] * 3)


def test_the_prediction_is_judged_by_the_committed_run(many):
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "alone hardly ever, with the words nearly always"
    assert "Over 512 questions per seed 10% are right from latents alone and 90%" in sentence
    assert "It names that chunk in 81% of the questions, chance is 12.5%" in sentence


def test_the_prediction_is_judged_by_what_was_committed():
    right, sentence = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right].startswith("alone one time in three, with the words")
    many = {one.ratio: one for one in experiment.asked()}[16]
    assert many.value["alone"][0] == pytest.approx(1 / 3, abs=0.05)
    assert many.value["oracle"][0] > 0.95
    assert "But it names that chunk in 36% only of the questions" in sentence


def test_without_a_committed_run_there_is_the_papers_tab_alone(monkeypatch):
    monkeypatch.setattr(experiment.committed, "names", lambda: ())
    assert experiment.asked() == ()
    assert [plot.name for plot in widget._many_plots()] == ["paper"]
    assert "yet" in widget.where_figure()["layout"]["annotations"][0]["text"]


def test_the_papers_table_is_drawn_as_printed():
    drawn = {trace["name"]: trace["y"] for trace in widget.paper_figure()["data"]}
    assert drawn["a UUID, alone"] == pytest.approx([0.552, 0.558, 0.58])
    assert drawn["a UUID, with EXPAND"] == pytest.approx([0.976, 0.97, 0.98])
    assert len(drawn) == 6


@pytest.mark.model
@pytest.mark.skipif(not smollm.WEIGHTS.is_file(), reason="no weights are shipped")
@pytest.mark.parametrize(
    "text", ["palace", *(pytest.param(t, marks=pytest.mark.sweep) for t in OTHERS)]
)
def test_the_shipped_pair_on_the_texts_of_the_menu(text):
    """At 4 all three are found and answered from latents alone; at 16 none is found."""
    four, shuffled, sixteen = (
        experiment.run(ExpandParams(text=text, ratio=ratio, shuffled=mixed))
        for ratio, mixed in ((4, False), (4, True), (16, False))
    )
    assert four.trained and four.chosen == four.holder
    assert four.before == four.after == four.answer
    assert shuffled.chosen != shuffled.holder
    assert sixteen.chosen != sixteen.holder and sixteen.oracle == sixteen.answer


@pytest.mark.model
@pytest.mark.skipif(not smollm.WEIGHTS.is_file(), reason="no weights are shipped")
def test_at_eight_the_shipped_pair_finds_two_of_three():
    found = {text: experiment.run(ExpandParams(text=text, ratio=8)) for text in TEXTS}
    named = {text for text, one in found.items() if one.chosen == one.holder}
    assert named == {"palace", "station"}
    assert all(one.oracle == one.answer for one in found.values())
