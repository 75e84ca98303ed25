"""MSA inside a decoder: caches in step, dense within the budget, gradients where they belong."""

import dataclasses

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig, FixedStep, generate
from intuitive.common.runtime import seeded
from intuitive.msa.config import MSAConfig
from intuitive.msa.model import MSAAttention

MSA = MSAConfig(block_size=4, n_selected=2)  # 8 tokens read at most
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def make_decoder(msa=MSA, positions="rope", seed=0):
    torch.manual_seed(seed)
    config = DecoderConfig(positions=positions, max_positions=64)
    decoder = Decoder(config, lambda c: MSAAttention(c, msa))
    with torch.no_grad():  # attention at initialisation is flat; sharpen it
        for layer in decoder.layers:
            layer.attention.w_q.weight *= 30
            layer.attention.w_k.weight *= 30
            layer.attention.w_o.weight *= 10
    return decoder.eval()


def draw_tokens(b, n, seed=1):
    return torch.randint(256, (b, n), generator=torch.Generator().manual_seed(seed))


def make_dense(decoder):
    for layer in decoder.layers:
        layer.attention.sparse = False


@torch.no_grad()
def test_equals_dense_within_the_budget_and_differs_beyond():
    decoder, tokens = make_decoder(), draw_tokens(2, 24)
    sparse = decoder(tokens)
    make_dense(decoder)
    dense = decoder(tokens)
    torch.testing.assert_close(sparse[:, :8], dense[:, :8], **CLOSE)
    assert (sparse - dense)[:, 12:].abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_cached_decoding_equals_prefill_row_by_row(positions):
    decoder, tokens = make_decoder(positions=positions), draw_tokens(2, 23)
    want = decoder(tokens)
    cache = decoder.make_cache(2, 23)
    got = torch.cat([decoder(tokens[:, i : i + 1], cache=cache) for i in range(23)], 1)
    torch.testing.assert_close(got, want, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(
    "positions, d_index, d_rotary, sparse",
    [
        ("rope", 16, None, True),
        ("rope", 8, None, True),
        ("rope", 16, 6, True),
        ("rope", 16, 0, True),
        ("none", 16, None, True),
        ("rope", 16, None, False),
    ],
)
def test_steps_of_fixed_shape_equal_prefill(positions, d_index, d_rotary, sparse):
    msa = dataclasses.replace(MSA, d_index=d_index, d_rotary=d_rotary)
    decoder, tokens = make_decoder(msa, positions), draw_tokens(2, 23)
    for layer in decoder.layers:
        layer.attention.sparse = sparse
    want = decoder(tokens)
    cache = decoder.make_cache(2, 30)
    decoder(tokens[:, :3], cache=cache)
    step = FixedStep(decoder, cache, 27)  # neither the text nor the limit ends with a block
    got = torch.stack([step(token).clone() for token in tokens[:, 3:].T], 1)
    torch.testing.assert_close(got, want[:, 3:], **CLOSE)


def test_a_step_of_fixed_shape_needs_a_forced_local_block():
    decoder = make_decoder(dataclasses.replace(MSA, n_local=0))
    with pytest.raises(ValueError, match="n_local=0 leaves out the newest block by its score"):
        FixedStep(decoder, decoder.make_cache(1, 8), 8)


@pytest.mark.gpu
@torch.no_grad()
def test_a_graph_makes_the_same_tokens():
    msa = MSAConfig(d_head=64, d_index=64, block_size=16, n_selected=3)
    config = DecoderConfig(d_head=64, max_positions=512)
    decoder = Decoder(config, lambda c: MSAAttention(c, msa), generator=seeded(0)).cuda()
    for layer in decoder.requires_grad_(False).layers:
        for name in ("w_q", "w_k", "w_o"):
            getattr(layer.attention, name).weight.mul_(10)
    for n in (5, 16, 200):
        prompt = draw_tokens(2, n).cuda()
        want = generate(decoder, prompt, max_new_tokens=60, graph=False)
        assert torch.equal(generate(decoder, prompt, max_new_tokens=60, graph=True), want)


@torch.no_grad()
def test_cached_decoding_equals_prefill_under_autocast():
    """Float32 weights, so a float32 cache, and half-precision projections."""
    decoder, tokens = make_decoder(), draw_tokens(2, 23)
    cache = decoder.make_cache(2, 23)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want = decoder(tokens)
        parts = [decoder(tokens[:, i : i + 1], cache=cache) for i in range(23)]
    assert want.dtype == torch.bfloat16
    got = torch.cat(parts, 1)
    torch.testing.assert_close(got, want, atol=0.1 * float(want.float().std()), rtol=0.05)


def test_gradients_under_autocast_are_near_those_without():
    decoder, tokens = make_decoder(msa=MSAConfig(block_size=4, n_selected=6)), draw_tokens(2, 23)
    weight = decoder.layers[0].attention.w_v.weight
    gradients = []
    for half in (False, True):
        decoder.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = decoder(tokens).float().square().mean()
        loss.backward()
        gradients.append(weight.grad.clone())
    assert torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.9


@torch.no_grad()
def test_chunked_prefill_equals_one_prefill():
    decoder, tokens = make_decoder(), draw_tokens(2, 23)
    cache = decoder.make_cache(2, 23)
    chunks = [decoder(part, cache=cache) for part in tokens.split([3, 9, 1, 10], 1)]
    torch.testing.assert_close(torch.cat(chunks, 1), decoder(tokens), **CLOSE)


@torch.no_grad()
def test_cropping_takes_index_keys_along():
    decoder, tokens = make_decoder(), draw_tokens(1, 24)
    cache = decoder.make_cache(1, 30)
    decoder(draw_tokens(1, 30, seed=5)[:, :13], cache=cache)
    cache.crop(0)
    decoder(tokens[:, :17], cache=cache)
    decoder(draw_tokens(1, 6, seed=6), cache=cache)
    cache.crop(17)
    torch.testing.assert_close(
        decoder(tokens[:, 17:], cache=cache), decoder(tokens)[:, 17:], **CLOSE
    )


@torch.no_grad()
def test_reordering_takes_index_keys_along():
    decoder, tokens = make_decoder(), draw_tokens(3, 20)
    cache = decoder.make_cache(3, 24)
    decoder(tokens, cache=cache)
    beams = torch.tensor([2, 0, 0])
    cache.reorder(beams)
    more = draw_tokens(3, 4, seed=7)
    want = decoder(torch.cat([tokens[beams], more], 1))[:, 20:]
    torch.testing.assert_close(decoder(more, cache=cache), want, **CLOSE)


@torch.no_grad()
def test_index_keys_make_the_cache_larger_by_the_formula():
    decoder = make_decoder()
    cache = decoder.make_cache(1, 16)
    decoder(draw_tokens(1, 10), cache=cache)
    held = cache.nbytes()
    assert held["index_keys"] == 2 * 10 * MSA.d_index * 4  # layers, tokens, channels, bytes
    assert held["index_keys"] / (held["keys"] + held["values"]) == 16 / (2 * 2 * 16)


@torch.no_grad()
def test_more_tokens_on_the_right_change_nothing_before_them():
    decoder, tokens = make_decoder(), draw_tokens(1, 22)
    padded = torch.cat([tokens, torch.zeros(1, 5, dtype=torch.int64)], 1)
    torch.testing.assert_close(decoder(padded)[:, :22], decoder(tokens), **CLOSE)


def test_generation_runs_and_equals_generation_without_cache():
    decoder, prompt = make_decoder(), draw_tokens(1, 18)
    got = generate(decoder, prompt, max_new_tokens=6)
    tokens = prompt
    with torch.no_grad():
        for _ in range(6):
            tokens = torch.cat([tokens, decoder(tokens)[:, -1:].argmax(-1)], 1)
    assert torch.equal(got, tokens[:, 18:])


def test_a_converted_layer_shares_the_dense_projections():
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(max_positions=64)).double().eval()
    tokens = draw_tokens(1, 8)
    with torch.no_grad():
        before = decoder(tokens)
    dense = decoder.layers[0].attention
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    layer, twin = (MSAAttention.from_dense(dense, MSA, generator=g) for g in seeded)
    assert torch.equal(layer.index_w_q.weight, twin.index_w_q.weight)
    assert layer.w_q is dense.w_q and layer.w_o is dense.w_o
    assert layer.index_w_k.weight.dtype == torch.float64
    decoder.exchange_attention(0, layer)
    with torch.no_grad():
        torch.testing.assert_close(decoder(tokens), before)  # 8 tokens fit the budget


def test_the_language_loss_never_reaches_the_index():
    decoder, tokens = make_decoder().train(), draw_tokens(2, 20)
    logits = decoder(tokens)
    torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    ).backward()
    for name, weight in decoder.named_parameters():
        if "index_" in name:
            assert weight.grad is None, name
        else:
            assert weight.grad.abs().max() > 0, name


def test_the_index_sends_no_gradient_into_the_stream():
    decoder, tokens = make_decoder().train(), draw_tokens(1, 12)
    stream = decoder.hidden(tokens, until_layer=1)
    attention = decoder.layers[1].attention
    q_idx, k_idx = attention.index(stream, torch.arange(12)[None])
    (q_idx.square().sum() + k_idx.pow(3).sum()).backward()
    touched = {name for name, weight in decoder.named_parameters() if weight.grad is not None}
    assert touched == {
        f"layers.1.attention.{name}.weight"
        for name in ("index_w_q", "index_w_k", "index_norm_q", "index_norm_k")
    }


@pytest.mark.parametrize(
    ("msa", "message"),
    [
        (MSAConfig(n_q_heads=8), "n_q_heads=8 of MSA differs from the decoder's 4"),
        (MSAConfig(d_index=7), "d_index=7 must be even"),
    ],
)
def test_messages(msa, message):
    with pytest.raises(ValueError, match=message):
        MSAAttention(DecoderConfig(), msa)
