"""The script that measures evictions of SmolLM2's cache, and a piece of what it found."""

import dataclasses
import json

import lclm_eviction
import msgspec
import pytest
import torch

from intuitive.common.eviction import METHODS
from intuitive.common.low_rank import low_rank_decoder
from intuitive.common.smollm import load_smollm2
from intuitive.lclm import results

TINY = lclm_eviction.Plan(
    lengths=(64,),
    repeats=1,
    contexts=(96,),
    shares=(8,),
    follows=16,
    passage=48,
    least_gap=32,
    pieces=1,
    batch_tokens=128,
)


@pytest.mark.model
def test_every_method_is_measured_and_read_back(monkeypatch):
    """With the first layers of SmolLM2."""

    def cut(**where):
        model = load_smollm2(**where)
        decoder = low_rank_decoder(model.decoder, n_layers=4)
        return dataclasses.replace(model, decoder=decoder, config=decoder.config)

    monkeypatch.setattr(lclm_eviction, "load_smollm2", cut)
    bench, saved = lclm_eviction.Bench(TINY, torch.device("cpu"), seconds=1e6), []
    bench.run(lambda values: saved.append(json.dumps(values)))
    assert bench.values["faults"] == []
    found = msgspec.convert(json.loads(saved[-1]), results.Eviction)
    times = {t.method: t for t in found.times}
    assert list(times) == list(METHODS)
    for name, time in times.items():
        assert time.budget == (64 if name == "raw" else 8)
        assert time.ready_s >= time.prefill_s > 0
        assert time.cache_mib == pytest.approx(times["raw"].cache_mib * time.budget / 64, rel=1e-4)
    assert {q.texts for q in found.quality} == {"prose", "code", "returning"}
    assert all(q.pieces == 1 and q.perplexity > 1 for q in found.quality)
    assert len(found.quality) == 3 * len(METHODS)


@pytest.mark.model
def test_pieces_do_not_overlap_and_passages_return():
    model = load_smollm2()
    found = lclm_eviction.texts(model, dataclasses.replace(TINY, pieces=2), 96)
    assert found["prose"].shape == found["code"].shape == (2, 112)
    first, second = found["prose"]
    ids = model.tokenizer.encode(lclm_eviction.corpus.load("heldout", "prose")[0].text)
    assert first.tolist() + second.tolist() == ids[:224]
    for row in found["returning"].tolist():
        passage, prompt = row[96:], row[:96]
        places = [i for i in range(49) if prompt[i : i + 48] == passage]
        assert places and min(places) + 48 + TINY.least_gap <= 96
