"""How the real pair is trained: whole encoders and what is stored of them, heads, phases."""

import itertools

import lclm_fast_step
import pytest
import torch
from lclm_smollm_encoder import PlaceHeads, close_encoder, open_encoder, standardise, trained_parts
from lclm_smollm_training import CANDIDATES, Plan
from letters import letter_pair

from intuitive.common.runtime import seeded
from intuitive.lclm.reference import mean_pool
from intuitive.lclm.smollm import LIMIT, SmolLatents
from intuitive.lclm.splice import Raw, Span


def texts(b: int, n: int) -> torch.Tensor:
    return torch.randint(97, 123, (b, n), generator=seeded(3))


@pytest.fixture
def model() -> SmolLatents:
    return letter_pair().model


@torch.no_grad()
def test_a_whole_encoder_is_stored_as_its_best_low_rank_change(model):
    want = lclm_fast_step.encoder_states(model, texts(2, 8), 4)
    opened = open_encoder(model)
    assert len(opened) == 4 * 7
    torch.testing.assert_close(lclm_fast_step.encoder_states(model, texts(2, 8), 4), want)
    for weight, low in opened.values():
        change = torch.zeros_like(weight)
        for _ in range(low.a.shape[0]):  # of the rank that is stored
            draws = (torch.randn(n, generator=seeded(n)) for n in weight.shape)
            change += torch.outer(*draws) * 0.02
        weight += change
    changed = lclm_fast_step.encoder_states(model, texts(2, 8), 4)
    assert (changed - want).abs().max() > 0.01
    found, kept = close_encoder(model, opened, {})
    assert kept == pytest.approx(1.0, abs=1e-4)
    assert found.keys() < model.weights().keys()
    got = lclm_fast_step.encoder_states(model, texts(2, 8), 4)
    torch.testing.assert_close(got, changed, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_a_low_rank_leaves_out_is_told(model):
    opened = open_encoder(model)
    for weight, _ in opened.values():
        weight += torch.eye(*weight.shape)  # 32 directions alike, of which two are stored
    _, kept = close_encoder(model, opened, {})
    assert kept == pytest.approx(2 / 32, rel=0.01)


@torch.no_grad()
def test_adapters_begin_with_channels_alike(model):
    tokens = texts(64, 64)
    standardise(model, tokens)
    for ratio in (4, 8):
        adapter = model.adapter_for(ratio)
        states = mean_pool(lclm_fast_step.encoder_states(model, tokens, ratio), ratio)[:, 1:]
        read = adapter.norm(states).flatten(0, 1)
        assert (read.std(0) - 1).abs().max() < 0.05
        inner = adapter.w_1(read)
        assert inner.mean(0).abs().max() < 0.05


@torch.no_grad()
def test_an_adapters_output_cannot_grow(model):
    adapter = model.adapter_for(4)
    pooled = torch.randn(3, 5, 32, generator=seeded(0))
    small = adapter(pooled)
    adapter.w_2.weight.mul_(1e4)
    large = adapter(pooled)
    assert large.square().mean(-1).sqrt().max() <= LIMIT * 1.001
    assert large.square().mean(-1).sqrt().min() > 0.9 * LIMIT
    assert torch.nn.functional.cosine_similarity(small, large, dim=-1).min() > 0.99


def test_sixteen_takes_the_adapter_of_eight(model):
    assert model.adapter_for(16) is model.adapter_for(8) is not model.adapter_for(4)
    assert not [name for name in model.weights() if name.startswith("adapters.16")]


@torch.no_grad()
def test_heads_read_each_place(model):
    heads, tokens = PlaceHeads(model, seeded(0)), texts(2, 10)
    embedded = model.decoder.embedding.weight
    loss = heads(model, torch.randn(2, 3, 32, generator=seeded(1)), tokens, 4)
    latents = torch.randn(2, 3, 32, generator=seeded(1))
    total = 0.0
    for row, place in itertools.product(range(2), range(8)):  # the last group is not full
        own = heads.maps["4"].view(4, 32, 32)[place % 4]
        read = model.decoder.norm(own @ latents[row, place // 4])
        logits = read @ model.decoder.head.weight.T
        total -= float(logits.log_softmax(-1)[tokens[row, place]]) / 16
    assert float(loss) == pytest.approx(total, rel=1e-4)
    assert embedded.shape[0] == logits.shape[0]


def test_every_part_that_trains_gets_a_gradient(model):
    heads, opened = PlaceHeads(model, seeded(0)), open_encoder(model)
    parts = trained_parts(model, opened, heads)
    weights = [weight for part in parts.values() for weight in part.values()]
    for weight in weights:
        weight.requires_grad_(True)
    long, short = texts(2, 32), texts(3, 8)
    jobs = [
        ([Span(short), Raw(texts(3, 2)[0], False), Raw(short)], 4),
        ([Span(long), Raw(long)], 8),
    ]
    assert len(lclm_fast_step.passes([21, 40])) == 2
    found = lclm_fast_step.losses(model, jobs, heads)
    assert len(found) == 3
    sum(found).backward()
    unused = {"adapters.4", "maps.8", "maps.16", "places.16"}
    for part in parts.values():
        for name, weight in part.items():
            assert weight.grad is not None or name in unused, name


def test_prompts_much_shorter_than_the_longest_go_apart():
    assert lclm_fast_step.passes([100, 30, 80, 25]) == [[0, 2], [1, 3]]


def test_phases_reach_the_end():
    for settings in CANDIDATES.values():
        phases = Plan(**settings).phases
        assert [p.until for p in phases] == sorted(p.until for p in phases)
        assert phases[-1].until == 1.0
        assert not phases[-1].told, "what is measured is trained without heads at the end"
