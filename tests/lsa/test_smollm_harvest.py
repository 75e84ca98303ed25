"""What SmolLM2 leaves behind: the same read at once, token by token, or for training only."""

import dataclasses

import pytest
import torch
from smol import random_smollm

from intuitive.common.runtime import Cancelled, seeded
from intuitive.lsa.smollm import VOTERS, index_keys, smollm_config
from intuitive.lsa.smollm_harvest import Watcher, harvest, harvest_for_training

N, N_PROMPT = 150, 101
CONFIG = smollm_config(targets=(5, 18), tail=32)
TOKENS = torch.randint(97, (N,), generator=seeded(3))


@pytest.fixture(scope="module")
def trace():
    return harvest(random_smollm(), TOKENS, CONFIG, n_prompt=N_PROMPT)


def tensors(trace):
    parts = {field.name: getattr(trace, field.name) for field in dataclasses.fields(trace)}
    return {name: part for name, part in parts.items() if isinstance(part, torch.Tensor)}


def test_token_by_token_is_the_same(trace):
    watcher = Watcher(random_smollm(), CONFIG, N)
    watcher.prompt(TOKENS[:N_PROMPT])
    for token in TOKENS[N_PROMPT:]:
        watcher.steps(token[None])
    for name, part in tensors(watcher.trace()).items():
        torch.testing.assert_close(part, tensors(trace)[name], atol=2e-5, rtol=1e-4, msg=name)


def test_training_takes_the_same(trace):
    lean = harvest_for_training(random_smollm(), TOKENS, CONFIG, n_prompt=N_PROMPT)
    for name in ("hidden", "positions", "keys", "closed", "golden"):
        torch.testing.assert_close(
            tensors(lean)[name], tensors(trace)[name], atol=2e-5, rtol=1e-4, msg=name
        )
    assert lean.mass is None and lean.bounds is None


def test_shapes_and_shares(trace):
    steps = N - N_PROMPT
    assert trace.hidden.shape == (2, steps, 576) and trace.keys.shape == (2, N // 16, 192)
    assert trace.closed.tolist() == [(N_PROMPT + t) // 16 for t in range(steps)]
    torch.testing.assert_close(trace.mass.sum(-1), torch.ones(steps), atol=1e-4, rtol=1e-4)
    assert (trace.native >= trace.mass - 1e-6).all() and not trace.golden[:, 0].any()
    exists = torch.arange(trace.bounds.shape[1]) < trace.closed[:, None]
    assert not trace.bounds[~exists[:, : trace.bounds.shape[1]]].any()


def test_asking_at_once_is_what_the_trace_says(trace):
    """A trigger's logits are those that the recording finds for this step."""
    from intuitive.lsa.indexer import MemoryIndexers
    from intuitive.lsa.smollm import SmolIndexers

    indexers = SmolIndexers.of(MemoryIndexers(CONFIG), trace.keys.mean(1))
    watcher = Watcher(random_smollm(), CONFIG, N)
    watcher.prompt(TOKENS[:N_PROMPT])
    watcher.steps(TOKENS[N_PROMPT : N_PROMPT + 20])
    with torch.no_grad():
        every = indexers(trace.hidden, trace.positions, trace.keys)
    asked = watcher.ask(indexers)
    torch.testing.assert_close(asked, every[20, :, : asked.shape[1]], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        watcher.bounds(), trace.bounds[20, : len(watcher.bounds())], atol=1e-5, rtol=1e-4
    )


def test_document_leaves_tail_sink_and_future_out(trace):
    document = trace.document(trace.keys.mean(1), stride=8)
    for row, closed in zip(document.candidates, document.closed.tolist(), strict=True):
        assert row.nonzero().flatten().tolist() == list(range(1, closed - 2))
    assert document.keys.shape[-1] == CONFIG.d_index
    assert document.hidden.shape[1] == len(document.positions) == -(-(N - N_PROMPT) // 8)


def test_keys_are_of_before_rope(trace):
    from intuitive.common.decoder import Probe

    seen = {}
    random_smollm().hidden(TOKENS[None], probe=Probe((5,), lambda s: seen.update(h=s.hidden)))
    keys = random_smollm().layers[5].attention.w_k(seen["h"][0])
    torch.testing.assert_close(trace.keys[0], index_keys(keys, 16), atol=2e-5, rtol=1e-4)


def test_errors():
    with pytest.raises(ValueError, match="the others are decode steps"):
        harvest(random_smollm(), TOKENS, CONFIG, n_prompt=N)
    with pytest.raises(ValueError, match="the config 30 of 500"):
        harvest(random_smollm(), TOKENS, dataclasses.replace(CONFIG, d_model=500), n_prompt=9)
    with pytest.raises(ValueError, match="no step was read"):
        Watcher(random_smollm(), CONFIG, N).trace()
    with pytest.raises(Cancelled):
        harvest(random_smollm(), TOKENS, CONFIG, n_prompt=N_PROMPT, stale=lambda: True)
    assert set(VOTERS) <= set(range(30))
