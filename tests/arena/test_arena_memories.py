"""What methods leave of a text: held to the budget, measured on the cache itself."""

import pytest
import torch

from intuitive.arena import METHODS, RATIOS, Contestants, OverBudget, Reading, budget_of, draw
from intuitive.arena.contest import kept_of_asked, outcome
from intuitive.arena.memories import SINK, folded_spans
from intuitive.common.smollm import load_smollm2

N = 256


def test_a_budget_is_what_latents_take():
    assert [budget_of(1024, ratio) for ratio in RATIOS] == [258, 130, 66]
    assert budget_of(1001, 4) == 253
    with pytest.raises(ValueError, match="ratio=5 must be one of 4, 8, 16"):
        budget_of(1024, 5)


def test_latents_stand_for_all_tokens():
    assert folded_spans(0, 10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert folded_spans(16, 24, 8) == [(16, 24)]


@pytest.fixture(scope="module")
def reading() -> Reading:
    model = load_smollm2()
    contestants = Contestants(model)
    return Reading(contestants, draw("needle", model.tokenizer, n=N, count=1, seed=0))


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_held_to_its_budget(reading, method):
    if method == "lclm_expand":  # so short a text leaves no room for a chunk
        with pytest.raises(OverBudget, match="take more than 1/4"):
            reading.memory(method, 4)
        return
    memory = reading.memory(method, 4)
    assert memory.budget_bytes == budget_of(N, 4) * reading.all.entry_bytes
    if method in ("dense", "msa"):
        assert memory.own and memory.resident_bytes >= N * reading.all.entry_bytes
    else:
        assert not memory.own and memory.resident_bytes <= memory.budget_bytes
    before = memory.cache.length
    found = outcome(reading, memory)
    assert memory.cache.length == before
    assert found.hits in ("0", "1")
    assert found.resident == memory.resident_bytes / (N * reading.all.entry_bytes)
    if method == "dense":
        assert found.hits == "1"  # else this text tells nothing


@pytest.mark.model
@pytest.mark.slow
def test_a_window_keeps_the_first_and_the_newest_tokens(reading):
    memory = reading.memory("window", 4)
    kept = memory.places[0][0, 0].tolist()
    newest = budget_of(N, 4) - SINK
    assert kept == [*range(SINK), *range(N - newest, N)]
    start, end = reading.questions.place[0].tolist()
    share = sum(start <= place < end for place in kept) / (end - start)
    assert kept_of_asked(memory, reading.questions).item() == pytest.approx(share)


@pytest.mark.model
@pytest.mark.slow
def test_a_memory_over_its_budget_is_refused(reading):
    cache, _ = reading._full
    with pytest.raises(OverBudget, match="the budget at 1/8"):
        reading._made("kvzip", 8, cache)


@pytest.mark.model
@pytest.mark.slow
def test_all_places_kept_by_ones_own_function_are_dense(reading):
    with pytest.raises(ValueError, match="only 66 fit"):
        reading.yours(lambda scores, budget: range(len(scores)), 4)
    memory = reading.yours(lambda scores, budget: range(budget), 4)
    assert torch.equal(memory.places[3][0, 2], torch.arange(budget_of(N, 4)))
