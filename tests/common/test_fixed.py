"""Steps of fixed shape: what they compute is what the ordinary pass computes, on a graph too."""

import dataclasses

import pytest
import torch

from intuitive.common.decoder import (
    Decoder,
    DecoderConfig,
    DenseAttention,
    FixedStep,
    RMSNorm,
    TensorCache,
    generate,
    normed,
)
from intuitive.common.runtime import seeded

SMALL = DecoderConfig(vocab_size=50, d_model=24, n_layers=3, d_head=8, d_ff=32, max_positions=64)
CLOSE = {"atol": 1e-10, "rtol": 1e-10}  # float64: only the order of sums differs


def small_decoder(make_attention=DenseAttention, **changes) -> Decoder:
    config = dataclasses.replace(SMALL, **changes)
    decoder = Decoder(config, make_attention, dtype=torch.float64, generator=seeded(0))
    for weight in decoder.requires_grad_(False).parameters():
        weight *= 4  # attention far from uniform, so that mistakes show
    return decoder


def draw_tokens(b: int, n: int) -> torch.Tensor:
    return torch.randint(SMALL.vocab_size, (b, n), generator=seeded(1))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_a_step_of_fixed_shape_is_an_ordinary_step(positions):
    decoder, tokens = small_decoder(positions=positions), draw_tokens(2, 12)
    want = decoder(tokens)
    cache = decoder.make_cache(2, 16)
    for layer in cache.layers:  # what a former text left behind is never seen
        layer.append(keys=torch.full((2, 16, 2, 8), torch.nan), values=torch.zeros(2, 16, 2, 8))
    cache.crop(0)
    decoder(tokens[:, :5], cache=cache)
    step = FixedStep(decoder, cache, 12)
    got = torch.stack([step(token).clone() for token in tokens[:, 5:].T], 1)
    torch.testing.assert_close(got, want[:, 5:], **CLOSE)
    assert cache.length == 12
    fresh = decoder.make_cache(2, 16)
    decoder(tokens, cache=fresh)
    for ours, theirs in zip(cache.layers, fresh.layers, strict=True):
        torch.testing.assert_close(ours.held(), theirs.held(), **CLOSE)
    with pytest.raises(ValueError, match="12 tokens are held, the step was made for 12"):
        step(tokens[:, 0])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_quick_norm_rounds_as_the_norm_does(dtype, device):
    norm = RMSNorm(72, 1e-5).to(device, dtype).requires_grad_(False)
    norm.weight.normal_(generator=seeded(0, device))
    x = 3 * torch.randn(200, 72, dtype=dtype, device=device, generator=seeded(1, device))
    got, want = normed(norm, x), norm(x)
    if dtype == torch.bfloat16:  # sums of another order round the other way now and then
        assert ((got != want).float().mean() < 0.02) and (got - want).abs().max() < 0.1
    else:
        torch.testing.assert_close(got, want)
    assert normed(torch.nn.Identity(), x) is x


class Blurred(DenseAttention):
    """Reads otherwise than its class says, so its class's step would be wrong."""

    def attend(self, q, k, v):
        return super().attend(q / 2, k, v)


class Moving(TensorCache):
    """A cache of another kind."""


def test_what_cannot_be_a_step_of_fixed_shape_is_said():
    decoder = small_decoder(Blurred)
    with pytest.raises(ValueError, match="Blurred in layer 0 has no step of fixed shape"):
        FixedStep(decoder, decoder.make_cache(1, 8), 8)
    decoder = small_decoder()
    cache = decoder.make_cache(1, 8)
    with pytest.raises(ValueError, match=r"limit=9 must lie in \[0, 8\]"):
        FixedStep(decoder, cache, 9)
    cache.layers[1].__class__ = Moving
    with pytest.raises(ValueError, match="cache of layer 1 is a Moving, whose entries move"):
        FixedStep(decoder, cache, 8)
    decoder.layers[2].mlp.register_forward_hook(lambda *call: None)
    with pytest.raises(ValueError, match=r"layers\.2\.mlp has a hook"):
        FixedStep(decoder, decoder.make_cache(1, 8), 8)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ValueError, match="autocast"):
        FixedStep(small_decoder(), small_decoder().make_cache(1, 8), 8)


def test_a_graph_on_a_cpu_is_refused_only_if_asked_for(recwarn):
    decoder, tokens = small_decoder(), draw_tokens(1, 4)
    plain = generate(decoder, tokens, max_new_tokens=9, graph=False)
    assert torch.equal(generate(decoder, tokens, max_new_tokens=9), plain)
    assert not recwarn.list
    with pytest.raises(ValueError, match="graph=True cannot be had: CUDA graphs need a CUDA"):
        generate(decoder, tokens, max_new_tokens=9, graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "top_p": 0.9}, {"stop_tokens": [7]}])
def test_a_graph_makes_the_same_tokens(settings, recwarn):
    decoder, tokens = small_decoder().cuda(), draw_tokens(3, 9).cuda()
    seen = []
    runs = [
        generate(
            decoder,
            tokens,
            max_new_tokens=40,
            graph=graph,
            generator=seeded(0, "cuda"),
            on_token=seen.append,
            **settings,
        )
        for graph in (False, True, None)
    ]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])
    assert torch.equal(torch.stack(seen, 1), torch.cat(runs, 1))
    assert not [each for each in recwarn.list if "ordinary loop" in str(each.message)]


@pytest.mark.gpu
def test_a_graph_goes_on_from_a_filled_cache_again_and_again():
    decoder, tokens = small_decoder().cuda(), draw_tokens(1, 20).cuda()
    cache = decoder.make_cache(1, 60)
    logits = decoder(tokens, cache=cache, last_only=True)[:, -1]
    want = generate(decoder, tokens, max_new_tokens=30, graph=False)
    for _ in range(2):
        got = generate(decoder, cache=cache, logits=logits, max_new_tokens=30, graph=True)
        assert torch.equal(got, want)
        assert cache.length == 49
        cache.crop(20)


@pytest.mark.gpu
def test_where_no_graph_can_be_the_ordinary_loop_says_so():
    decoder, tokens = small_decoder(Blurred).cuda(), draw_tokens(1, 4).cuda()
    with pytest.warns(UserWarning, match="ordinary loop, which Python slows down: Blurred in"):
        told = generate(decoder, tokens, max_new_tokens=12)
    assert torch.equal(told, generate(decoder, tokens, max_new_tokens=12, graph=False))
    with pytest.raises(ValueError, match="graph=True cannot be had: Blurred in layer 0"):
        generate(decoder, tokens, max_new_tokens=12, graph=True)
