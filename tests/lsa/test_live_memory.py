"""A decode that counts the bytes of its two pools as it goes; `test_memory.py` has its picture."""

import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.lsa import shipped
from intuitive.lsa.experiments import live_memory


@pytest.fixture(scope="module")
def streamed():
    """A tenth kept, and all that was told meanwhile."""
    told = []
    result = live_memory.run(0.1, progress=lambda *said: told.append(said))
    return result, told


def test_bytes_are_those_of_the_two_pools(streamed):
    result, told = streamed
    made = shipped.topical()
    config, task = made.config, made.task
    chunk_bytes = config.n_csa * config.d_head * 4  # all index keys stay: all layers vote
    chunks = task.n_tokens // config.chunk_size
    assert result.host == chunks * chunk_bytes
    budget = round(0.1 * task.n_prompt / config.chunk_size)
    room = budget + config.tail_chunks + task.n_steps // config.chunk_size
    assert set(result.bytes["cells"]) == {room * chunk_bytes}
    assert result.in_use[-1] <= room * chunk_bytes
    kept = result.in_use[0] // chunk_bytes
    assert budget <= kept <= budget + config.tail_chunks + 1
    assert result.everything - result.total(-1) == (chunks - room) * chunk_bytes
    assert result.bytes["hca"][-1] >= config.n_hca * (task.n_tokens // config.hca_size) * 256
    # told as it went: every count is the start of the last one
    grown = [said[2] for said in told if len(said) == 3]
    assert [len(part.steps) for part in grown] == list(range(1, len(result.steps) + 1))
    assert all(part.in_use == result.in_use[: len(part.steps)] for part in grown)
    assert [said[0] for said in told] == sorted(said[0] for said in told)


def test_the_slider_sets_the_cells_and_a_newer_one_stops_it(streamed):
    more = []

    def stale():
        return len(more) > 1

    with pytest.raises(Cancelled):
        live_memory.run(0.3, stale=stale, progress=lambda *said: more.append(said))
    assert more[-1][2].bytes["cells"][0] > streamed[0].bytes["cells"][0]
    with pytest.raises(ValueError, match=r"kept=1.5 must lie in \[0, 1\]"):
        live_memory.run(1.5)


def test_an_allocator_is_asked_before_and_at_every_count(monkeypatch, streamed):
    """A stand-in for CUDA's: it has given out 1,000 bytes before, and 10 more at each question."""
    asked = []

    def given_out(device):
        asked.append(device)
        return 1000 + 10 * len(asked)

    monkeypatch.setattr(live_memory, "given_out", given_out)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**21 + len(asked))
    result = live_memory.run(0.05, device="cpu")
    assert result.on_gpu and set(asked) == {torch.device("cpu")}
    assert result.allocated == tuple(10 * (i + 1) for i in range(len(result.steps)))
    assert result.reserved == tuple(2**21 + 3 + i for i in range(len(result.steps)))
    assert result.bytes["cells"] < streamed[0].bytes["cells"]


def test_without_a_gpu_nobody_is_asked(streamed):
    result, _ = streamed
    assert live_memory.given_out(torch.device("cpu")) is None
    if not torch.cuda.is_available():
        assert not result.on_gpu and result.allocated == result.reserved == ()


@pytest.mark.gpu
def test_a_gpus_allocator_agrees():
    result = live_memory.run(0.2, device="cuda")
    assert result.on_gpu and result.allocated[-1] > result.bytes["cells"][-1]
    assert result.reserved[-1] >= result.allocated[-1]
    torch.testing.assert_close(result.allocated[-1], result.total(-1), rtol=0.5, atol=0)
