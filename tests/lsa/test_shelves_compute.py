"""The hero's compute: a policy over recorded decodes at once, or SmolLM2 live."""

import pytest

from intuitive.common.runtime import Cancelled
from intuitive.lsa import shipped
from intuitive.lsa.arms import ARMS
from intuitive.lsa.experiments import shelves, threshold, written
from intuitive.lsa.experiments.shelves import TEXTS, ShelvesParams, recorded, run, run_live
from intuitive.lsa.shelf_texts import CLAUSES, LETTER, shelf_texts


@pytest.mark.parametrize("text", TEXTS)
def test_recordings_hold_their_texts(text):
    made, source = recorded(text), shelf_texts()[text]
    assert "".join(made.words[: made.n_prompt]) == source.prompt
    written = "".join(made.words[made.n_prompt :])
    assert written == "".join(part for _, part in source.parts) or not source.given
    assert 1400 <= made.n_prompt <= 2100 and 190 <= made.n_steps <= 260
    assert made.needed[:, 1:].any() and made.scores.shape[1] == 3
    steps = [step for step, _ in made.sections]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] < made.n_steps


def test_what_returns_stands_in_the_prompt():
    texts = shelf_texts()
    assert LETTER in texts["letter"].prompt
    for _, part in (*texts["lease"].parts, *texts["alice"].parts):
        assert part.strip() in texts["lease"].prompt + texts["alice"].prompt
    assert len(CLAUSES) == 16


def test_the_model_wrote_the_letter_again():
    written = run(ShelvesParams(text="letter", arm="everything")).written
    assert written.strip()[:200] == LETTER[25:].strip()[:200]


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_plays(arm):
    result = run(ShelvesParams(text="lease", arm=arm, rule="budget", budget=6))
    assert not result.live and result.residency.resident.shape == result.recording.needed.shape
    assert 0 <= result.residency.golden_recall <= 1


def test_settings_reach_the_policy():
    params = ShelvesParams(lookahead=32, threshold=0.4, lag=1, layers=2, tail=100)
    policy = params.policy(16)
    assert (policy.lookahead, policy.threshold, policy.lag, policy.layers) == (32, 0.4, 1, 2)
    assert policy.tail_chunks == 7 and policy.sink == 1 and policy.size is None
    assert ShelvesParams(rule="budget", budget=5).policy(16).size == 5
    assert ShelvesParams.from_text(params.to_text()) == params
    paged = ShelvesParams(rule="pages", pages=9).policy(16)
    assert (paged.rule, paged.size, paged.page_size) == ("pages", 9, 4)


def test_pages_come_whole():
    params = ShelvesParams(text="letter", rule="pages", pages=14, threshold=0.3)
    result = run(params)
    resident, closed = result.residency.resident[0], int(result.recording.closed[0])
    whole = resident[: closed // 4 * 4].view(-1, 4)
    old = whole[: (closed - 16) // 4]  # what the tail does not reach
    assert bool((old.all(-1) | ~old.any(-1))[1:].all()) and int(old[1:].any(-1).sum()) > 2


def test_recordings_are_read_once_whoever_asks():
    assert recorded("lease") is shipped.recording("recording-lease") is threshold.load("lease")
    ours = written.written("letter", "lsa")
    assert ours is shipped.recording("written-letter-lsa")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "novel"}, "choose one of letter"),
        ({"arm": "magic"}, "arm='magic' is unknown"),
        ({"rule": "best"}, "choose one of threshold, budget, pages"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"lookahead": 0}, "lookahead=0 must be at least 1"),
        ({"lag": 2}, "lag=2 must be 0 or 1"),
        ({"budget": -1, "rule": "budget"}, "budget=-1 must be at least 0"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        ShelvesParams(**changes)


def test_more_layers_than_recorded():
    with pytest.raises(ValueError, match="layers=4 must be at most 3"):
        run(ShelvesParams(layers=4))


def test_nobody_waits():
    with pytest.raises(Cancelled):
        run(ShelvesParams(), stale=lambda: True)


@pytest.mark.model
@pytest.mark.slow
def test_live_keeps_what_was_written_until_nobody_waits():
    """A decode that is given up has told its progress every word; the oracle is refused."""
    heard = []

    def progress(share, sentence, text=None):
        heard.append(text)

    with pytest.raises(Cancelled):
        run_live(
            ShelvesParams(text="lease"),
            n_new=20,
            progress=progress,
            stale=lambda: sum(text is not None for text in heard) == 3,
        )
    assert heard[-1] and heard[-1].startswith(heard[-2])
    with pytest.raises(ValueError, match="replay a recording"):
        run_live(ShelvesParams(arm="oracle"))


def test_an_unknown_recording():
    with pytest.raises(ValueError, match="choose one of letter"):
        shelves.recorded("novel")
