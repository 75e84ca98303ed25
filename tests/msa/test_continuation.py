"""Dense and sparse model continue one text: marked from the first difference on."""

import pytest

from intuitive.common import smollm
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
        agreement=0.5,
        read_share=0.25,
    )


def test_tokens_are_marked_from_the_first_difference_on():
    view = widget.present(continued([1, 2, 3, 4], [1, 2, 9, 4]))
    marks = list(view.tokens.marks)
    assert marks.count(widget.SAME) == 4  # two in each text
    assert marks.count(widget.DENSE) == marks.count(widget.SPARSE) == 2
    assert "part at token 3 of 4" in view.summary


def test_equal_texts_have_no_difference():
    result = continued([1, 2], [1, 2])
    assert result.first_difference is None
    assert "all 2 tokens are the same" in widget.present(result).summary


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


def test_without_the_model_the_explorer_says_how_to_get_it(no_model, opened):
    assert opened(widget.explorer).status["text"] == smollm.MISSING_MODEL_SENTENCE
