"""What SmolLM2 writes with a part of its history: the committed texts, and their first tokens."""

import pytest

from intuitive.common import records
from intuitive.lsa.experiments import shelves, written
from intuitive.lsa.experiments.shelves import ShelvesParams

RESULT = "benchmarks/results/lsa_written.json"


@pytest.fixture(scope="module")
def committed(request):
    values, _ = records.load(request.config.rootpath / RESULT)
    return values["written"]


def test_recordings_hold_the_committed_texts(committed):
    assert {arm for _, arm in written.files()} == set(committed)
    for (text, arm), _ in written.files().items():
        result = written.run(written.settings(text, arm))
        assert result.live and result.written == committed[arm]["text"]
        whole = shelves.recorded(text)
        ours, theirs = (made.words[made.n_prompt :] for made in (result.recording, whole))
        same = [a == b for a, b in zip(ours, theirs, strict=False)]
        assert sum(same) / len(same) == pytest.approx(committed[arm]["same_tokens"], abs=1e-3)


@pytest.mark.model
def test_the_first_tokens_are_written_again(committed):
    again = shelves.run_live(written.settings("letter", "recency"), n_new=4).written
    assert committed["recency"]["text"].startswith(again)


def test_the_indexer_keeps_the_text_where_the_newest_lose_it(committed):
    """At as many chunks in each cycle; the first words of the letter are the ones at stake."""
    whole = shelves.run(ShelvesParams(text="letter", arm="everything")).written
    ours, theirs = committed["lsa"]["text"], committed["recency"]["text"]
    assert ours[:150] == whole[:150]
    assert theirs[:40] != whole[:40]
    assert committed["lsa"]["same_tokens"] > 3 * committed["recency"]["same_tokens"]
