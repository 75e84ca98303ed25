"""Texts in which passages return: word for word, at the places that they say."""

import pytest
import torch

from intuitive.common import corpus
from intuitive.common.returning import (
    Return,
    ReturningConfig,
    ReturningText,
    returning_text,
    returning_texts,
    sentence_starts,
    with_returns,
)
from intuitive.common.runtime import seeded

CONFIG = ReturningConfig(n=400, first=200, passage=(16, 48), fresh=(8, 24), least_gap=64)


def characters(text):
    return list(text[:6000].encode())


def pieces(ids):
    return [chr(i) for i in ids]


def drawn(**changes):
    return returning_texts(
        characters, pieces, CONFIG, **({"split": "train", "count": 6, "seed": 3} | changes)
    )


def test_passages_return_word_for_word_after_the_gap():
    for text in drawn():
        assert len(text.tokens) == CONFIG.n and text.returns
        for passage in text.returns:
            before = text.tokens[passage.start : passage.start + passage.length]
            again = text.tokens[passage.at : passage.at + passage.length]
            assert torch.equal(before, again)
            assert passage.gap >= CONFIG.least_gap and passage.at >= CONFIG.first
            assert CONFIG.passage[0] <= passage.length <= CONFIG.passage[1]


def test_between_passages_the_source_goes_on_where_it_stopped():
    source = torch.arange(1000)
    text = returning_text(source, CONFIG, seeded(0))
    fresh = text.tokens[~text.returned]
    assert torch.equal(fresh, torch.arange(int(fresh[0]), int(fresh[0]) + len(fresh)))
    assert text.returned.sum() == sum(passage.length for passage in text.returns)


def test_passages_begin_where_they_may():
    starts = torch.arange(1000) % 10 == 7
    text = returning_text(torch.arange(1000), CONFIG, seeded(1), starts=starts)
    assert all(int(text.tokens[passage.start]) % 10 == 7 for passage in text.returns)


def test_same_seed_same_texts():
    first, again, other = drawn(), drawn(), drawn(seed=4)
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, other, strict=True))


def test_splits_share_no_file():
    train, heldout = ({t.source for t in drawn(split=s, count=20)} for s in ("train", "heldout"))
    assert train and heldout and not train & heldout
    assert heldout <= {document.name for document in corpus.load("heldout")}


def test_files_come_in_turn():
    texts = drawn(split="heldout", count=15, in_turn=True)
    names = [text.source for text in texts]
    files = list(dict.fromkeys(names))
    assert len(files) > 3
    assert names == [files[i % len(files)] for i in range(15)]
    first, second, *_ = (text for text in texts if text.source == files[0])
    assert not torch.equal(first.tokens, second.tokens)


def test_a_part_of_a_file_is_kept_back():
    whole = {d.name: characters(d.text) for d in corpus.load("train")}
    for part in ((0.0, 0.5), (0.5, 1.0)):
        for text in drawn(part=part, count=4):
            ids = whole[text.source]
            own = bytes(ids[int(part[0] * len(ids)) : int(part[1] * len(ids))])
            assert bytes(text.tokens[: CONFIG.first].tolist()) in own


def test_sentence_starts():
    pieces = ["He", " left", ".", " She", " said", " “", "no", ".”", "\n", "Then"]
    assert sentence_starts(pieces).nonzero().flatten().tolist() == [0, 3, 8, 9]


def test_marks_of_what_returned():
    text = ReturningText(torch.arange(10), (Return(at=6, start=1, length=3),), "x")
    assert text.returned.nonzero().flatten().tolist() == [6, 7, 8] and text.returns[0].gap == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": 10}, "let the first return come later"),
        ({"n": 210}, "longer text"),
        ({"passage": (40, 20)}, "range from low to high"),
        ({"fresh": (0, 3)}, "fresh=0 must be at least 1"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        ReturningConfig(
            **({"n": 400, "first": 200, "passage": (16, 48), "least_gap": 64} | changes)
        )


def test_a_source_that_is_too_short():
    with pytest.raises(ValueError, match="399 tokens, n=400"):
        returning_text(torch.arange(399), CONFIG, seeded(0))
    with pytest.raises(ValueError, match="make them shorter"):
        drawn(part=(0.0, 0.01))
    with pytest.raises(ValueError, match="two rising shares"):
        drawn(part=(0.5, 0.5))


def test_passages_are_written_over_a_text_after_their_gap():
    plain = torch.arange(600)
    text = with_returns(plain, seeded(1), count=(2, 2), passage=(20, 60), least_gap=30)
    assert len(text.returns) == 2
    assert all(p.gap >= 30 and 20 <= p.length <= 60 for p in text.returns)
    assert torch.equal(text.tokens[~text.returned], plain[~text.returned])
    assert (text.tokens[text.returned] < plain[text.returned] - 30).all()
    assert torch.equal(plain, torch.arange(600))
    with pytest.raises(ValueError, match="100 tokens are too few for passages of 48 to return"):
        with_returns(plain[:100], seeded(0))
