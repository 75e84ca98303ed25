"""Batched rollouts against single ones, and scores against plain forward passes."""

import math
import time

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import Cancelled, seeded
from intuitive.common.training import one_thread
from intuitive.trd.rollout import (
    Tokens,
    count_tokens,
    pad_after_eos,
    response_logits,
    rollouts_one_by_one,
    sample_rollouts,
)
from intuitive.trd.sums import SumsConfig, prompts, refine_prompts, sample_digits

SUMS = SumsConfig()


@pytest.fixture(scope="module")
def decoder():
    """Untrained, with weights large enough that its samples differ from row to row."""
    torch.manual_seed(0)
    decoder = Decoder(
        DecoderConfig(vocab_size=SUMS.vocab_size, d_model=32, d_ff=96, max_positions=64)
    )
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(12 if weight.dim() == 2 else 1)
    return decoder.eval()


def problems(b, seed=0):
    return sample_digits(SUMS, b, generator=seeded(seed))


def test_batch_single_and_uncached_agree(decoder):
    prompt = prompts(SUMS, problems(12))
    batch = sample_rollouts(decoder, SUMS, prompt, temperature=0)
    assert torch.equal(batch, rollouts_one_by_one(decoder, SUMS, prompt, temperature=0))
    tokens = prompt
    with torch.no_grad():
        for _ in range(SUMS.trace_length):
            tokens = torch.cat([tokens, decoder(tokens)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(batch, pad_after_eos(SUMS, tokens[:, prompt.shape[1] :]))
    assert len({tuple(row) for row in batch.tolist()}) > 1


def test_samples_of_a_prompt_lie_together_and_follow_the_model(decoder):
    """First tokens of 1,000 rollouts of each prompt against the model's probabilities."""
    prompt, n = prompts(SUMS, problems(2)), 1000
    rollouts = sample_rollouts(decoder, SUMS, prompt, n_samples=n, generator=seeded(1))
    assert rollouts.shape == (2 * n, SUMS.trace_length)
    with torch.no_grad():
        want = decoder(prompt, last_only=True)[:, 0].softmax(-1)
    for row in range(2):
        first = rollouts[row * n : (row + 1) * n, 0]
        got = torch.bincount(first, minlength=SUMS.vocab_size) / n
        assert (got - want[row]).abs().max() < 4 * 0.5 / n**0.5
    assert (want[0] - want[1]).abs().max() > 0.1  # the two could be told apart


def test_pad_after_eos():
    rows = torch.tensor([[1, SUMS.eos, SUMS.eos, 3], [1, 2, 3, 4]])
    padded = pad_after_eos(SUMS, rows)
    assert padded.shape == (2, SUMS.trace_length)
    assert padded[0].tolist() == [1, SUMS.eos] + [SUMS.pad] * 18
    assert padded[1].tolist() == [1, 2, 3, 4] + [SUMS.pad] * 16
    assert count_tokens(SUMS, padded) == 6


def test_response_logits_speak_about_the_token_itself(decoder):
    """Whatever the length of the prompt before it."""
    digits = problems(3)
    traces = sample_rollouts(decoder, SUMS, prompts(SUMS, digits), generator=seeded(2))
    for prompt in (prompts(SUMS, digits), refine_prompts(SUMS, digits, traces)):
        got = response_logits(decoder, prompt, traces)
        assert got.shape == (3, SUMS.trace_length, SUMS.vocab_size)
        for position in (0, 1, 7):
            context = torch.cat([prompt, traces[:, :position]], dim=1)
            want = decoder(context, last_only=True)[:, 0]
            torch.testing.assert_close(got[:, position], want, atol=1e-4, rtol=1e-4)
    assert got.requires_grad


def test_batching_is_at_least_twenty_times_faster(decoder):
    """512 rollouts at once against a loop over single ones, both with a cache, best of three."""
    prompt, few = prompts(SUMS, problems(512)), 8

    def seconds(call):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        return min(times)

    with one_thread():
        batch = seconds(lambda: sample_rollouts(decoder, SUMS, prompt, generator=seeded(3)))
        single = seconds(
            lambda: rollouts_one_by_one(decoder, SUMS, prompt[:few], generator=seeded(3))
        )
    assert single / few * 512 / batch >= 20


def test_tokens_add_up():
    spent = Tokens(teacher_generated=1, teacher_scored=2) + Tokens(
        teacher_scored=3, student_generated=4
    )
    assert spent == Tokens(teacher_generated=1, teacher_scored=5, student_generated=4)
    assert spent.teacher == 6


def test_cancelling(decoder):
    with pytest.raises(Cancelled):
        sample_rollouts(
            decoder, SUMS, prompts(SUMS, problems(2)), temperature=0, stale=lambda: True
        )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_samples": 0, "temperature": 0}, "n_samples=0 must be at least 1"),
        ({}, r"temperature=1.0 draws at random: pass generator=seeded\(seed\)"),
        ({"temperature": -1}, "temperature=-1 must be finite and at least 0"),
        ({"temperature": math.nan}, "temperature=nan must be finite and at least 0"),
        ({"sums": SumsConfig.large(), "temperature": 0}, "vocab_size=18, the setting 38"),
    ],
)
def test_bad_settings(decoder, settings, says):
    sums = settings.pop("sums", SUMS)
    with pytest.raises(ValueError, match=says):
        sample_rollouts(decoder, sums, prompts(SUMS, problems(2)), **settings)


@pytest.mark.parametrize(
    ("n_rows", "n_prompt", "response", "says"),
    [
        (1, 6, [[]], r"responses \(1, 0\): both need tokens"),
        (1, 0, [[1]], r"prompts have shape \(1, 0\)"),
        (1, 6, [[1], [2]], r"shape \(1, 6\) and responses \(2, 1\): .* one row each"),
        (1, 6, [[1, 18]], r"response tokens from 1 to 18 must lie in \[0, 18\)"),
        (1, 6, [[-1, 1]], "response tokens from -1 to 1"),
        (1, 6, [[1] * 60], "65 tokens are longer than max_positions=64"),
    ],
)
def test_response_logits_refuses(decoder, n_rows, n_prompt, response, says):
    prompt = prompts(SUMS, problems(n_rows))[:, :n_prompt]
    with pytest.raises(ValueError, match=says):
        response_logits(decoder, prompt, torch.tensor(response, dtype=torch.int64))


def test_a_context_that_is_too_short(decoder):
    digits = problems(2)
    long = torch.cat([refine_prompts(SUMS, digits, torch.zeros(2, 1).long())] * 2, dim=1)
    with pytest.raises(ValueError, match="54 prompt tokens and 20 new ones"):
        sample_rollouts(decoder, SUMS, long, temperature=0)
