"""A trace says what decoding sees, and a Memory Indexer can be trained on it."""

import dataclasses

import pytest
import torch
from lsa_layers import CLOSE, SMALL, draw_tokens, make_decoder

from intuitive.lsa.attention import watching
from intuitive.lsa.harvest import harvest
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.indexer_training import IndexerTrainingConfig, share_resident, train_indexers
from intuitive.lsa.residency import LookaheadDecoding
from intuitive.lsa.selection import resident_sets

CONFIG = dataclasses.replace(
    SMALL, lookahead=8, tail=12, label_top_k=3, label_votes=1, memory_rank=16, n_memory_heads=4
)


@pytest.fixture(scope="module")
def decoder():
    return make_decoder(CONFIG)


def test_a_trace_holds_what_a_decode_of_the_same_text_sees(decoder):
    tokens = draw_tokens(1, 77)[0]
    trace = harvest(decoder, tokens, CONFIG, n_prompt=50)
    assert trace.logits.shape == trace.mass.shape == (27, 2, 19)
    assert trace.hidden.shape == (2, 27, 24)
    indexers = MemoryIndexers(CONFIG).requires_grad_(False)

    def everything(logits, always):
        return torch.ones_like(always)

    decoding = LookaheadDecoding(decoder, indexers, capacity=77, choose=everything)
    decoding.prefill(tokens[:50])
    seen = []
    with watching(decoder, lambda ordinal, look: seen.append((ordinal, look))):
        for token in tokens[50:].tolist():
            decoding.step(token)
    for i, (ordinal, look) in enumerate(seen):
        step, there = i // 2, look.scores.shape[-1]
        want = trace.logits[step, ordinal]
        torch.testing.assert_close(look.scores[0, 0], want[:there], atol=1e-4, rtol=1e-4)
        assert (want[there:] == -torch.inf).all()
        torch.testing.assert_close(
            look.mass[0, 0], trace.mass[step, ordinal, :there], atol=1e-4, rtol=1e-4
        )
    # At each trigger: the chunks there are, and the Memory Indexer's logits.
    scored = indexers(trace.hidden, trace.positions, trace.keys)
    for cycle in decoding.cycles:
        there = int(trace.closed[cycle.step])
        assert cycle.logits.shape[1] == there
        want = scored[cycle.step, :, :there]
        torch.testing.assert_close(cycle.logits, want, atol=1e-4, rtol=1e-4)


def test_labels_name_what_the_steps_read(decoder):
    """With top 3, one vote and p near 1 a label is whatever any layer reads in the window."""
    config = dataclasses.replace(CONFIG, label_top_p=1 - 1e-8, tail=0)
    tokens = draw_tokens(1, 66)[0]
    trace = harvest(decoder, tokens, config, n_prompt=50)
    document = trace.document()
    assert document.labels.shape == (2, 16)
    assert document.closed.tolist() == [12, 14]
    selected = [[], []]
    with watching(decoder, lambda ordinal, look: selected[ordinal].append(look.selected[0])):
        decoder(tokens[None])
    for row, start, closed in zip(document.labels, (50, 58), (12, 14), strict=True):
        read = {int(s) for (layer,) in selected for s in layer[start : start + 8].flatten()}
        assert set(row.nonzero().flatten().tolist()) == {s for s in read if s < closed}


def test_watching_ends_even_after_an_error(decoder):
    def fail(ordinal, look):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), watching(decoder, fail):
        decoder(draw_tokens(1, 9))
    assert all(layer.attention.watch is None for layer in decoder.layers)


def test_everything_resident_keeps_all_the_mass(decoder):
    trace = harvest(decoder, draw_tokens(1, 90)[0], CONFIG, n_prompt=60)
    everything = torch.ones(4, trace.logits.shape[-1], dtype=torch.bool)
    given = (trace.closed,)
    assert share_resident(trace.mass, everything, *given, lookahead=8) == pytest.approx(1)
    less = share_resident(trace.mass, ~everything, *given, lookahead=8)
    assert 0 < less < 0.7  # what was decoded, which is always there


def test_from_texts_to_resident_sets(decoder):
    """Texts of random tokens: recency aside nothing can be known, but the whole way is walked."""
    traces = [
        harvest(decoder, draw_tokens(1, 80, seed=seed)[0], CONFIG, n_prompt=48) for seed in range(4)
    ]
    how = IndexerTrainingConfig(n_steps=30, n_documents=2)
    documents = [trace.document(stride=1) for trace in traces]
    trained = train_indexers(documents, CONFIG, how)
    assert sum(trained.loss[-5:]) < sum(trained.loss[:5])
    document = traces[0].document(decoding=True)
    logits = trained.indexers(document.hidden, document.positions, document.keys)
    resident = resident_sets(logits, document.closed, CONFIG, rule="budget", size=4)
    kept = share_resident(traces[0].mass, resident, traces[0].closed, lookahead=8)
    nothing = resident_sets(logits, document.closed, CONFIG, rule="budget", size=0)
    least = share_resident(traces[0].mass, nothing, traces[0].closed, lookahead=8)
    assert least < kept < 1


def test_wrong_input_is_refused(decoder):
    tokens = draw_tokens(1, 20)[0]
    for n_prompt in (0, 20):
        with pytest.raises(ValueError, match=r"must lie in \[1, 19\]"):
            harvest(decoder, tokens, CONFIG, n_prompt=n_prompt)
    other = dataclasses.replace(CONFIG, layers=("csa", "csa"))
    with pytest.raises(ValueError, match="the decoder has the layers"):
        harvest(decoder, tokens, other, n_prompt=3)


def test_harvest_is_of_the_frozen_model_alone(decoder):
    """Whatever the caller has switched off or on, and without gradients."""
    tokens = draw_tokens(1, 40)[0]
    want = harvest(decoder, tokens, CONFIG, n_prompt=30)
    trainable = make_decoder(CONFIG).requires_grad_()
    got = harvest(trainable, tokens, CONFIG, n_prompt=30)
    assert not got.hidden.requires_grad
    torch.testing.assert_close(got.logits, want.logits, **CLOSE)
