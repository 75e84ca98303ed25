"""Dense and sparse model continue one text: marked from the first difference on."""

from dataclasses import replace

import pytest

from intuitive.common import smollm
from intuitive.msa.experiments import continuation as experiment
from intuitive.msa.experiments.continuation import Continuation, ContinueParams
from intuitive.widgets.msa import continuation as widget


def continued(dense, sparse):
    return Continuation(
        params=ContinueParams(reader="main_max"),
        prompt=("Why", " is"),
        dense=tuple(map(str, dense)),
        sparse=tuple(map(str, sparse)),
        dense_ids=tuple(dense),
        sparse_ids=tuple(sparse),
        guesses=tuple("abcdefgh"[i % 8] for i in range(len(dense))),
        agrees=tuple(a == b for a, b in zip(dense, sparse, strict=True)),
        read_share=0.25,
    )


def marks_of(frame):
    return {mark.key: mark for mark in frame.scene.marks}


def test_tokens_are_marked_from_the_first_difference_on():
    view = widget.present(continued([1, 2, 3, 4], [1, 2, 9, 4]))
    last = marks_of(view.timeline.frames[-1])
    grounds = {k: mark.fill for k, mark in last.items() if k.startswith("ground:")}
    assert {k for k, fill in grounds.items() if fill == "blue"} == {
        f"ground:{name}:{i}" for name in ("dense", "sparse") for i in (0, 1)
    }
    assert grounds["ground:dense:3"] == "grey" and grounds["ground:sparse:3"] == "vermilion"
    assert [last[f"agrees:{i}"].fill for i in range(4)] == ["blue", "blue", "page", "blue"]
    assert "would write “c” instead" in last["agrees:2"].words
    assert last["fork:name"].text == "they part at token 3"
    assert not any(word in view.summary for word in ("part", "%", "same tokens"))  # as they write
    assert "agrees at 3 of 4 places" in view.timeline.frames[-1].sentence


def test_a_frame_shows_what_has_been_written_by_then():
    frames = widget.present(continued([1, 2, 3, 4], [1, 2, 9, 4])).timeline.frames
    assert len(frames) == 5
    for count, frame in enumerate(frames):
        written = [k for k in marks_of(frame) if k.startswith("text:sparse:")]
        assert len(written) == count
        assert ("fork" in marks_of(frame)) == (count > 2)


def test_long_texts_stay_within_the_picture():
    long = [10**6 + i for i in range(96)]
    (*_, last) = widget.present(continued(long, long[::-1])).timeline.frames
    for mark in last.scene.marks:
        if mark.kind == "rectangle":
            assert mark.x >= 0 and mark.x + mark.w <= last.scene.width
            assert mark.y >= 0 and mark.y + mark.h <= last.scene.height


def test_equal_texts_have_no_difference():
    result = continued([1, 2], [1, 2])
    assert result.first_difference is None
    view = widget.present(result)
    assert view.timeline.frames[-1].sentence == "After 2 tokens both have written the same."
    assert "fork" not in marks_of(view.timeline.frames[-1])


@pytest.mark.model
def test_reading_every_block_continues_like_the_dense_model():
    explorer = widget.explorer(
        reader="main_max", n_selected=16, block_size=16, n_prompt=128, n_new=8
    )
    assert explorer.status["state"] == "done", explorer.status
    assert explorer.result.first_difference is None and explorer.result.agreement == 1
    explorer.set(text="too short")
    assert explorer.wait(60)
    assert "at least two blocks" in explorer.status["text"]
    assert explorer.result.first_difference is None  # the old picture stays
    explorer.close()


@pytest.mark.model
def test_the_dense_text_is_written_once_for_all_readers():
    said = []
    params = ContinueParams(reader="main_max", n_prompt=64, n_new=3)
    first, other = (
        experiment.run(replace(params, reader=name), progress=lambda _, text: said.append(text))
        for name in ("main_max", "main_mean")
    )
    assert said[-6:] == [f"sparse: token {n} of 3" for n in (1, 2, 3, 1, 2, 3)]
    assert first.dense_ids == other.dense_ids and len(first.dense) == 3


def test_without_the_model_the_explorer_says_how_to_get_it(no_model, opened):
    assert opened(widget.explorer).status["text"] == smollm.MISSING_MODEL_SENTENCE


def three_blocks_part_and_mostly_agree(seen):
    assert "at token 13:" in seen.sentences[-1] and len(seen.sentences) == 17
    assert 80 < seen.number("agreement along dense") < 95
    assert "They parted at token" in seen.sentences[-1]
    assert not any("parted" in said for said in seen.sentences[:4])  # the first frame keeps it


def four_blocks_write_the_same(seen):
    assert seen.sentences[-1] == "After 16 tokens both have written the same."
    assert 40 < seen.number("tokens read") < 50


def random_picks_write_nonsense(seen):
    assert seen.number("agreement along dense") < 60
    assert seen.number("same tokens in a row") < 4


STEPS = (
    three_blocks_part_and_mostly_agree,
    four_blocks_write_the_same,
    random_picks_write_nonsense,
)
