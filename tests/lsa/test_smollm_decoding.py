"""SmolLM2 with a part of its history: masking is gathering, and live decoding is what it says."""

import pytest
import torch
from smol import random_smollm

from intuitive.common.decoder import generate
from intuitive.common.runtime import Cancelled, seeded
from intuitive.common.smollm import load_smollm2
from intuitive.lsa.arms import Policy, replay
from intuitive.lsa.experiments.shelves import shipped_indexers
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.smollm import SmolIndexers, smollm_config
from intuitive.lsa.smollm_decoding import (
    View,
    decode_live,
    masked_decoder,
    policy_of,
    readable,
    recording,
    step_losses,
)
from intuitive.lsa.smollm_harvest import harvest

N, N_PROMPT = 150, 101
TOKENS = torch.randint(97, (N,), generator=seeded(3))


def prefilled():
    masked, view = masked_decoder(random_smollm())
    cache = masked.make_cache(1, N)
    masked.hidden(TOKENS[None, :N_PROMPT], cache=cache)
    return masked, view, cache


def some_resident(seed=0):
    steps, chunks = N - N_PROMPT, N // 16
    return torch.rand(steps, chunks, generator=seeded(seed)) < 0.4


def test_what_is_readable():
    resident = torch.zeros(3, 3, dtype=torch.bool)
    resident[:, 1] = True
    got = readable(resident, 14, 4)  # tokens 14, 15 and 16; chunks 0-2 are whole, 3 is open
    assert got[0].nonzero().flatten().tolist() == [4, 5, 6, 7, 12, 13, 14]
    assert got[1].nonzero().flatten().tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    # Token 16 opens chunk 4: chunk 3 is whole now, and gone if it is not resident.
    assert got[2].nonzero().flatten().tolist() == [4, 5, 6, 7, 16]


@torch.no_grad()
def test_everything_resident_is_the_model_itself():
    masked, view, cache = prefilled()
    every = torch.ones(N - N_PROMPT, N // 16 + 1, dtype=torch.bool)
    logits = random_smollm()(TOKENS[None])[0, N_PROMPT:-1]
    want = torch.nn.functional.cross_entropy(logits, TOKENS[N_PROMPT + 1 :], reduction="none")
    for resident in (None, every):
        got = step_losses(masked, view, cache, TOKENS[N_PROMPT:], resident, 16)
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert cache.length == N_PROMPT and view.allowed is None


@torch.no_grad()
def test_masking_is_gathering():
    """One layer's masked attention reads what attention over the resident tokens alone reads."""
    masked, _ = masked_decoder(random_smollm())
    attention = masked.layers[4].attention
    draw = seeded(5)
    q, k, v = (torch.randn(1, n, h, 64, generator=draw) for n, h in ((1, 9), (70, 3), (70, 3)))
    allowed = readable(torch.tensor([[True, False, True, False]]), 69, 16)
    attention.view = View(allowed)
    kept = allowed[0].nonzero().flatten()
    got = attention.attend(q, k, v)
    attention.view = View()
    torch.testing.assert_close(got, attention.attend(q, k[:, kept], v[:, kept]))
    assert len(kept) == 2 * 16 + 6


@torch.no_grad()
def test_what_is_masked_does_matter():
    masked, view, cache = prefilled()
    args = (masked, view, cache, TOKENS[N_PROMPT:])
    one, other = (step_losses(*args, some_resident(seed), 16) for seed in (0, 1))
    assert (one - other).abs().max() > 1e-3


def test_the_model_keeps_its_own_attention():
    model = random_smollm()
    masked, _ = masked_decoder(model)
    assert type(model.layers[0].attention) is not type(masked.layers[0].attention)
    assert masked.layers[3].attention.w_q.weight is model.layers[3].attention.w_q.weight
    assert masked.embedding.weight is model.embedding.weight


def test_a_recording_can_be_played():
    config = smollm_config(targets=(5, 18), tail=32)
    trace = harvest(random_smollm(), TOKENS, config, n_prompt=N_PROMPT)
    indexers = SmolIndexers.of(MemoryIndexers(config), trace.keys.mean(1))
    made = recording(trace, indexers, ["w"] * N, name="drawn")
    assert made.n_chunks == 149 // 16 and made.scores.shape[1] == 2
    for name in ("scores", "native", "bounds"):
        part = getattr(made, name)
        there = made.exists[:, None].expand_as(part) if name == "scores" else made.exists
        assert torch.equal(part.isfinite(), there)
    policy = policy_of(indexers, rule="budget", size=1)
    assert (policy.tail_chunks, policy.sink, policy.lookahead) == (2, 1, 64)
    residency = replay(made, policy)
    assert residency.resident[:, 0].all() and 0 < residency.kept < 1


# --------------------------------------------------------------------- the model itself, live


@pytest.fixture(scope="module")
def model():
    return load_smollm2()


@pytest.fixture(scope="module")
def prompt(model):
    text = "The key hangs behind the clock. Feed the grey cat in the morning. " * 2
    middle = "Rain came in from the sea, and nobody in the village had anything to tell. " * 6
    return torch.tensor(model.tokenizer.encode(text + middle + "The key hangs"))


@pytest.mark.model
@pytest.mark.slow
def test_everything_at_hand_writes_what_the_model_writes(model, prompt):
    want = generate(model.decoder, prompt[None], max_new_tokens=8)[0].tolist()
    heard = []
    live = decode_live(
        model,
        prompt,
        shipped_indexers(),
        policy_of(shipped_indexers(), "everything"),
        n_new=8,
        progress=lambda share, sentence, text=None: heard.append(text),
    )
    assert list(live.tokens) == want and live.recording.n_prompt == len(prompt)
    assert heard[-1] == model.tokenizer.decode(want)
    assert live.residency.missed.sum() == 0


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("arm", ["lsa", "quest", "random"])
def test_live_is_what_its_own_record_replays(model, prompt, arm):
    """The losses of a live decode are those of its text masked by the replayed resident set."""
    indexers = shipped_indexers()
    settings = {"tail_chunks": 1, "lookahead": 4, "rule": "budget", "size": 2, "seed": 3}
    policy = policy_of(indexers, arm, **settings)
    live = decode_live(model, prompt, indexers, policy, n_new=10)
    masked, view = masked_decoder(model.decoder)
    cache = masked.make_cache(1, len(prompt) + 10)
    with torch.no_grad():
        masked.hidden(prompt[None], cache=cache)
        losses = step_losses(
            masked, view, cache, torch.tensor(live.tokens), live.residency.resident, 16
        )
    torch.testing.assert_close(live.losses[1:], losses, atol=2e-3, rtol=1e-3)
    assert live.residency.kept < 0.9


@pytest.mark.model
def test_live_errors(model, prompt):
    indexers = shipped_indexers()
    with pytest.raises(ValueError, match="looks ahead: choose one of lsa"):
        decode_live(model, prompt, indexers, Policy("oracle"), n_new=4)
    with pytest.raises(ValueError, match="forced has 1 tokens, n_new=4"):
        decode_live(model, prompt, indexers, Policy(), n_new=4, forced=[5])
    with pytest.raises(ValueError, match="the model holds no more"):
        decode_live(model, prompt, indexers, Policy(), n_new=8190)
    with pytest.raises(Cancelled):
        decode_live(model, prompt, indexers, Policy(), n_new=4, stale=lambda: True)
