"""No global switch that a notebook may hold changes or breaks what is computed here."""

import contextlib

import pytest
import torch
from lsa_layers import CLOSE, SMALL, draw_hidden, draw_tokens, places

from intuitive.common.decoder import DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.lsa import labels, reference
from intuitive.lsa.attention import lsa_decoder
from intuitive.lsa.harvest import harvest
from intuitive.lsa.indexer_training import IndexerTrainingConfig, train_indexers
from intuitive.lsa.residency import CellPool, LookaheadDecoding
from intuitive.lsa.selection import resident_sets


@contextlib.contextmanager
def wide_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def everything():
    """Numbers from every room, from weights and texts that are made inside."""
    sizes = DecoderConfig(d_model=24, n_layers=4, positions="none", max_positions=256)
    decoder = lsa_decoder(SMALL, sizes, generator=seeded(0))
    tokens = draw_tokens(1, 130)[0]
    trace = harvest(decoder, tokens, SMALL, n_prompt=60)
    document = trace.document(stride=8)
    how = IndexerTrainingConfig(n_steps=3, n_documents=1)
    short = labels.make_labels(trace.logits, trace.closed, SMALL)
    document = type(document)(
        **vars(document) | {"candidates": torch.ones_like(document.candidates)}
    )
    trained = train_indexers([document], SMALL, how)
    logits = trained.indexers(document.hidden, document.positions, document.keys)
    sets = [
        resident_sets(logits, document.closed, SMALL, **rule)
        for rule in ({}, {"rule": "budget", "size": 3}, {"rule": "pages", "size": 1})
    ]
    decoding = LookaheadDecoding(
        decoder, trained.indexers, capacity=130, pool=CellPool(SMALL, 60), rule="budget", size=9
    )
    first = decoding.prefill(tokens[:100])
    decoding.generate(9)
    attention, hidden = decoder.layers[1].attention, draw_hidden(1, 12)
    with torch.no_grad():
        slow = reference.layer(dict(attention.named_parameters()), hidden[0], SMALL, "csa")
        fast = attention(hidden, places(1, 12))[0]
    torch.testing.assert_close(fast, slow, **CLOSE)
    parts = [
        torch.tensor(trained.loss, dtype=torch.float64),
        torch.tensor(decoding.tokens),
        first,
        slow,
    ]
    return [*parts, short.probabilities, short.windows, document.weights, *sets]


@pytest.mark.parametrize(
    "switch",
    [lambda: torch.set_grad_enabled(False), torch.inference_mode, wide_by_default],
    ids=["no gradients", "inference mode", "float64"],
)
def test_switches_of_the_caller_do_not_matter(switch):
    want = everything()
    with switch():
        got = everything()
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
