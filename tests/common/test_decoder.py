"""The decoder against facts: causality, caches that change nothing, and what RoPE preserves."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from intuitive.common.decoder import (
    Decoder,
    DecoderCache,
    DecoderConfig,
    DenseAttention,
    LayerCache,
    Probe,
    RMSNorm,
    TensorCache,
    attention_rows,
    block_mass,
    causal_mask,
    generate,
    rotate,
    sample,
)
from intuitive.common.runtime import Cancelled, seeded

SMALL = DecoderConfig(vocab_size=50, d_model=24, n_layers=3, d_head=8, d_ff=32, max_positions=64)
KINDS = ("rope", "learned", "none")
CLOSE = {"atol": 1e-10, "rtol": 1e-10}  # float64 throughout: only the order of sums differs


def small_decoder(**changes) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(dataclasses.replace(SMALL, **changes)).double().requires_grad_(False)
    for weight in decoder.parameters():
        weight *= 4  # attention far from uniform, so that mistakes show
    return decoder


def draw_tokens(b: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(SMALL.vocab_size, (b, n), generator=seeded(seed))


# ---------------------------------------------------------------------------------- mathematics


def test_rotate_keeps_lengths_and_sees_only_distances():
    x, y = torch.randn(2, 1, 6, 2, 8, generator=seeded(0), dtype=torch.float64)
    here, far = torch.arange(6)[None], torch.arange(6)[None] + 1000
    torch.testing.assert_close(rotate(x, here, 1e4).norm(dim=-1), x.norm(dim=-1))
    products = [rotate(x, at, 1e4)[0, :, 0] @ rotate(y, at, 1e4)[0, :, 0].T for at in (here, far)]
    torch.testing.assert_close(*products, **CLOSE)
    assert torch.equal(rotate(x, torch.zeros(1, 6, dtype=torch.int64), 1e4), x)


def test_rotate_turns_channel_i_with_channel_i_plus_half():
    x = torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64).view(1, 1, 1, 6)
    turned = rotate(x, torch.tensor([[2]]), 100.0).flatten()
    want = torch.zeros(6, dtype=torch.float64)
    want[0], want[3] = torch.tensor(2.0).double().cos(), torch.tensor(2.0).double().sin()
    torch.testing.assert_close(turned, want)


def test_rms_norm_ignores_scale_and_has_unit_rms():
    norm, x = RMSNorm(16, 1e-12).double(), torch.randn(5, 16, generator=seeded(0)).double()
    torch.testing.assert_close(norm(x), norm(1e3 * x))
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(5).double())


@pytest.mark.parametrize("n, m", [(4, 4), (1, 5), (3, 7)])
def test_causal_mask_is_aligned_to_the_last_token(n, m):
    mask = causal_mask(n, m)
    assert [int(row.sum()) for row in mask] == [m - n + i + 1 for i in range(n)]
    assert mask[-1].all()


@pytest.mark.parametrize("n", [9, 4, 1], ids="n={}".format)
def test_attention_rows_are_causal_probabilities(n):
    m, group = 9, 2
    q = torch.randn(n, 4, 8, generator=seeded(0), dtype=torch.float64)
    k = torch.randn(m, 2, 8, generator=seeded(1), dtype=torch.float64)
    chosen = torch.tensor([n - 1, 0])
    rows = attention_rows(q, k, chosen)
    torch.testing.assert_close(rows.sum(-1), torch.ones(4, 2).double())
    for r, i in enumerate(chosen.tolist()):
        visible = m - n + i + 1
        assert (rows[:, r, visible:] == 0).all()
        for head in range(4):
            want = torch.softmax(k[:visible, head // group] @ q[i, head] * 8**-0.5, 0)
            torch.testing.assert_close(rows[head, r, :visible], want)


def test_attention_rows_name_what_is_wrong():
    q, k = torch.zeros(3, 2, 4), torch.zeros(2, 2, 4)
    with pytest.raises(ValueError, match="2 keys for 3 queries"):
        attention_rows(q, k, torch.tensor([0]))
    with pytest.raises(ValueError, match=r"query_index=\[3\] must lie in \[0, 3\)"):
        attention_rows(q, torch.zeros(3, 2, 4), torch.tensor([3]))


@pytest.mark.parametrize("n, m, block_size", [(150, 150, 16), (5, 37, 8), (7, 7, 64), (6, 6, 1)])
def test_block_mass_sums_the_attention_of_a_group(n, m, block_size):
    q = torch.randn(n, 6, 8, generator=seeded(0), dtype=torch.float64)
    k = torch.randn(m, 2, 8, generator=seeded(1), dtype=torch.float64)
    mass = block_mass(q, k, block_size=block_size)
    torch.testing.assert_close(mass.sum(-1), torch.ones(n, 2).double())
    rows = attention_rows(q, k, torch.arange(n))  # [h_q, n, m]
    for block in range(mass.shape[-1]):
        columns = slice(block * block_size, (block + 1) * block_size)
        want = rows[:, :, columns].sum(-1).unflatten(0, (2, 3)).mean(1).T
        torch.testing.assert_close(mass[..., block], want)


# ------------------------------------------------------------------------------- forward passes


@pytest.mark.parametrize("positions", KINDS)
def test_the_future_never_leaks(positions):
    decoder, tokens = small_decoder(positions=positions), draw_tokens(2, 12)
    changed = tokens.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % SMALL.vocab_size
    before, after = decoder(tokens), decoder(changed)
    torch.testing.assert_close(before[:, :8], after[:, :8], **CLOSE)
    assert not torch.allclose(before[:, 8:], after[:, 8:])


@pytest.mark.parametrize("positions", KINDS)
@pytest.mark.parametrize("chunks", [[1] * 12, [12], [5, 1, 6], [1, 11]], ids=str)
def test_cached_chunks_equal_one_pass(positions, chunks):
    decoder, tokens = small_decoder(positions=positions), draw_tokens(2, 12)
    cache = decoder.make_cache(2, 12)
    pieces = [decoder(piece, cache=cache) for piece in tokens.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), decoder(tokens), **CLOSE)
    assert cache.length == 12


def test_cropping_goes_back_in_time():
    decoder, tokens, other = small_decoder(), draw_tokens(1, 12), draw_tokens(1, 5, seed=1)
    cache = decoder.make_cache(1, 12)
    decoder(tokens, cache=cache)
    cache.crop(7)
    joined = torch.cat((tokens[:, :7], other), 1)
    torch.testing.assert_close(decoder(other, cache=cache), decoder(joined)[:, 7:], **CLOSE)


def test_reordering_moves_beams():
    decoder, tokens, following = small_decoder(), draw_tokens(2, 6), draw_tokens(3, 2, seed=1)
    cache = decoder.make_cache(2, 8)
    decoder(tokens, cache=cache)
    rows = torch.tensor([1, 1, 0])
    cache.reorder(rows)
    joined = torch.cat((tokens[rows], following), 1)
    torch.testing.assert_close(decoder(following, cache=cache), decoder(joined)[:, 6:], **CLOSE)


def test_cache_bytes_follow_the_tokens_held():
    decoder = small_decoder()
    cache = decoder.make_cache(2, 64)
    assert cache.nbytes() == {"keys": 0, "values": 0}
    decoder(draw_tokens(2, 10), cache=cache)
    each = SMALL.n_layers * 2 * 10 * SMALL.n_kv_heads * SMALL.d_head * 8  # float64
    assert cache.nbytes() == {"keys": each, "values": each}
    assert isinstance(cache.layers[0], LayerCache)


def test_embeddings_in_the_place_of_tokens():
    decoder, tokens = small_decoder(), draw_tokens(2, 6)
    torch.testing.assert_close(decoder(embeddings=decoder.embedding(tokens)), decoder(tokens))


def test_rope_sees_distances_and_learned_positions_see_places():
    tokens, later = draw_tokens(1, 6), torch.arange(30, 36)[None]
    rope, learned = small_decoder(positions="rope"), small_decoder(positions="learned")
    torch.testing.assert_close(rope(tokens), rope(tokens, positions=later), **CLOSE)
    assert not torch.allclose(learned(tokens), learned(tokens, positions=later))


def test_without_positions_one_layer_reads_a_set():
    decoder, tokens = small_decoder(positions="none", n_layers=1), draw_tokens(1, 6)
    shuffled = tokens[:, [3, 1, 0, 4, 2, 5]]
    torch.testing.assert_close(decoder(tokens)[:, -1], decoder(shuffled)[:, -1], **CLOSE)


def test_gqa_equals_repeated_key_value_heads():
    grouped = small_decoder(n_q_heads=6, n_kv_heads=2)
    full = small_decoder(n_q_heads=6, n_kv_heads=6)
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if name.endswith(("w_k.weight", "w_v.weight")):
            heads = weight.unflatten(0, (2, SMALL.d_head))
            weights[name] = heads.repeat_interleave(3, dim=0).flatten(0, 1)
    full.load_state_dict(weights)
    tokens = draw_tokens(2, 9)
    torch.testing.assert_close(grouped(tokens), full(tokens), **CLOSE)


def test_last_only_and_stopping_early():
    decoder, tokens = small_decoder(), draw_tokens(2, 6)
    torch.testing.assert_close(decoder(tokens, last_only=True), decoder(tokens)[:, -1:])
    assert torch.equal(decoder.hidden(tokens, until_layer=0), decoder.embedding(tokens))
    stream = decoder.hidden(tokens, until_layer=2)
    rest = decoder.layers[2](stream, torch.arange(6).expand(2, 6))
    torch.testing.assert_close(decoder.logits(rest), decoder(tokens))
    torch.testing.assert_close(decoder(tokens, until_layer=2), decoder.logits(stream))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", KINDS)
def test_gradients_reach_every_weight(tied, positions):
    decoder = small_decoder(tied_embeddings=tied, positions=positions).requires_grad_()
    tokens = draw_tokens(2, 9)
    logits = decoder(tokens)[:, :-1]
    nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    silent = [n for n, w in decoder.named_parameters() if w.grad is None or not w.grad.any()]
    assert silent == []
    assert (decoder.head.weight is decoder.embedding.weight) == tied


# ------------------------------------------------------------------- probes, exchanged attention


def test_probes_see_what_attention_used_and_change_nothing():
    decoder, tokens = small_decoder(), draw_tokens(2, 9)
    seen = []
    probe = Probe((0, 2), seen.append)
    torch.testing.assert_close(decoder(tokens, probe=probe), decoder(tokens), atol=0, rtol=0)
    assert [part.layer for part in seen] == [0, 2]
    for part in seen:
        attention = decoder.layers[part.layer].attention
        for row in range(2):
            rows = attention_rows(part.q[row], part.k[row], torch.arange(9))  # [h_q, n, m]
            v = part.v[row].repeat_interleave(SMALL.group_size, dim=1)
            attended = torch.einsum("hnm,mhd->nhd", rows, v)[None]
            want = attention(part.hidden, torch.arange(9).expand(2, 9))[row]
            torch.testing.assert_close(attention.output(attended)[0], want, **CLOSE)


def test_probes_with_a_cache_see_all_keys():
    decoder, tokens = small_decoder(), draw_tokens(1, 9)
    whole, last = [], []
    decoder(tokens, probe=Probe((1,), whole.append))
    cache = decoder.make_cache(1, 9)
    decoder(tokens[:, :8], cache=cache)
    decoder(tokens[:, 8:], cache=cache, probe=Probe((1,), last.append))
    torch.testing.assert_close(last[0].k, whole[0].k, **CLOSE)
    torch.testing.assert_close(last[0].q, whole[0].q[:, 8:], **CLOSE)


def test_a_raising_probe_leaves_the_cache_as_it_was():
    decoder, tokens = small_decoder(), draw_tokens(1, 9)

    def give_up(seen):
        raise Cancelled

    cache = decoder.make_cache(1, 12)
    decoder(tokens[:, :6], cache=cache)
    with pytest.raises(Cancelled):
        decoder(tokens[:, 6:], cache=cache, probe=Probe((1,), give_up))
    assert [layer.length for layer in cache.layers] == [6, 6, 6]
    torch.testing.assert_close(decoder(tokens[:, 6:], cache=cache), decoder(tokens)[:, 6:], **CLOSE)


class NoAttention(nn.Module):
    """Reads nothing and remembers how many tokens went by."""

    def make_cache(self, batch, capacity, device, dtype):
        return TensorCache(batch, capacity, {"ticks": ()}, device, dtype)

    def forward(self, hidden, positions, *, cache=None, probe=None):
        if cache is not None:
            cache.append(ticks=hidden.new_ones(hidden.shape[:2]))
        return torch.zeros_like(hidden)


def test_attention_can_be_exchanged_layer_by_layer():
    decoder, tokens = small_decoder(), draw_tokens(1, 9)
    dense = decoder(tokens)
    former = decoder.exchange_attention(1, NoAttention())
    assert isinstance(former, DenseAttention)
    assert not torch.allclose(decoder(tokens), dense)
    cache = decoder.make_cache(1, 9)
    pieces = [decoder(piece, cache=cache) for piece in tokens.split(3, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), decoder(tokens), **CLOSE)
    assert cache.nbytes()["ticks"] == 9 * 8
    decoder.exchange_attention(1, former)
    torch.testing.assert_close(decoder(tokens), dense)


def test_a_decoder_of_another_attention_kind():
    decoder = Decoder(SMALL, make_attention=lambda config: NoAttention())
    tokens = draw_tokens(1, 5)
    shuffled = tokens.flip(1)  # nobody reads anybody: each token alone decides
    torch.testing.assert_close(decoder(tokens).flip(1), decoder(shuffled))


# ----------------------------------------------------------------------------------- generation


def greedy_by_hand(decoder: Decoder, tokens: torch.Tensor, count: int) -> torch.Tensor:
    for _ in range(count):
        tokens = torch.cat((tokens, decoder(tokens)[:, -1:].argmax(-1)), 1)
    return tokens[:, -count:]


@pytest.mark.parametrize("positions", KINDS)
def test_greedy_generation_takes_the_likeliest_token(positions):
    decoder, tokens = small_decoder(positions=positions), draw_tokens(2, 5)
    want = greedy_by_hand(decoder, tokens, 8)
    assert torch.equal(generate(decoder, tokens, max_new_tokens=8), want)
    from_embeddings = generate(decoder, decoder.embedding(tokens), max_new_tokens=8)
    assert torch.equal(from_embeddings, want)


def test_generation_goes_on_from_a_filled_cache():
    decoder, tokens = small_decoder(), draw_tokens(2, 9)
    want = generate(decoder, tokens, max_new_tokens=8)
    cache = decoder.make_cache(2, 16)
    logits = decoder(tokens[:, :4], cache=cache)[:, -1]
    got = generate(decoder, decoder.embedding(tokens[:, 4:]), cache=cache, max_new_tokens=8)
    assert torch.equal(got, want)
    assert cache.length == 9 + 8 - 1  # the last is never read
    cache.crop(4)
    assert torch.equal(
        generate(decoder, cache=cache, logits=logits, max_new_tokens=5),
        generate(decoder, tokens[:, :4], max_new_tokens=5),
    )


def test_sampling_repeats_with_its_generator():
    decoder, tokens = small_decoder(), draw_tokens(2, 5)
    runs = [
        generate(decoder, tokens, max_new_tokens=20, temperature=2.0, generator=seeded(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_narrow_sampling_is_greedy():
    decoder, tokens = small_decoder(), draw_tokens(2, 5)
    want = generate(decoder, tokens, max_new_tokens=8)
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}):
        got = generate(decoder, tokens, max_new_tokens=8, temperature=1.0, **narrow)
        assert torch.equal(got, want)


@settings(max_examples=30, deadline=None)
@given(top_p=st.floats(0.01, 1.0), seed=st.integers(0, 10))
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p, seed):
    p = torch.rand(1, 8, generator=seeded(seed)).softmax(-1)
    drawn = sample(
        p.log().expand(300, 8), temperature=1.0, top_p=top_p, generator=seeded(seed)
    ).unique()
    ranked = p[0].sort(descending=True)
    needed = int((ranked.values.cumsum(0) < top_p - 1e-6).sum()) + 1
    assert set(drawn.tolist()) <= set(ranked.indices[:needed].tolist())


def test_sampling_follows_the_temperature():
    logits = torch.tensor([[2.0, 1.0, 0.0]]).expand(20_000, 3)
    for temperature in (0.5, 1.0, 2.0):
        drawn = sample(logits, temperature=temperature, generator=seeded(0))
        shares = torch.bincount(drawn, minlength=3) / 20_000
        want = (logits[0] / temperature).softmax(-1)
        # five standard deviations of a share of 20,000 draws
        torch.testing.assert_close(shares, want, atol=5 * 0.5 / 20_000**0.5, rtol=0)


def test_stop_tokens_end_a_row():
    decoder, tokens = small_decoder(), draw_tokens(2, 5)
    free = generate(decoder, tokens, max_new_tokens=8)
    stop = int(free[0, 2])
    first = [row.index(stop) if stop in row else 7 for row in free.tolist()]
    steps = []
    stopped = generate(decoder, tokens, max_new_tokens=8, stop_tokens=[stop], on_token=steps.append)
    assert stopped.shape[1] == max(first) + 1
    assert torch.equal(torch.stack(steps, 1), stopped)
    for row, end in enumerate(first):
        assert torch.equal(stopped[row, : end + 1], free[row, : end + 1])
        assert (stopped[row, end + 1 :] == stop).all()


def test_generation_stops_when_nobody_waits():
    steps = []
    with pytest.raises(Cancelled):
        generate(
            small_decoder(),
            draw_tokens(1, 5),
            max_new_tokens=8,
            on_token=steps.append,
            stale=lambda: len(steps) >= 3,
        )
    assert len(steps) == 3


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({}, "got neither of tokens and embeddings"),
        (
            {"tokens": draw_tokens(1, 3), "embeddings": torch.zeros(1, 3, 24)},
            "got both of tokens and embeddings",
        ),
        ({"tokens": draw_tokens(1, 0)}, "the prompt is empty"),
        ({"tokens": torch.zeros(1, 3)}, "tokens are torch.float32; token ids must be int64"),
        ({"tokens": torch.zeros(3, dtype=torch.int64)}, r"tokens have shape \(3,\)"),
        ({"tokens": draw_tokens(1, 3).to("meta")}, "the prompt is on meta, the decoder on cpu"),
        ({"tokens": torch.tensor([[1, 50]])}, r"token ids from 1 to 50 must lie in \[0, 50\)"),
        ({"tokens": torch.tensor([[-1, 4]])}, "token ids from -1 to 4"),
        ({"tokens": torch.zeros(1, 65, dtype=torch.int64)}, "65 tokens are longer than max_posi"),
        ({"embeddings": torch.zeros(1, 3, 7).double()}, r"shape \(1, 3, 7\).*d_model=24"),
        ({"embeddings": torch.zeros(1, 3, 24)}, "embeddings are torch.float32, the decoder is"),
        (
            {"tokens": draw_tokens(1, 2), "positions": torch.tensor([[0, 64]])},
            r"positions from 0 to 64 must lie in \[0, max_positions=64\)",
        ),
        (
            {"tokens": draw_tokens(1, 2), "positions": torch.tensor([[0.0, 1.0]])},
            "integers of shape",
        ),
        ({"tokens": draw_tokens(1, 2), "until_layer": 4}, r"until_layer=4 must lie in \[0, 3\]"),
        (
            {"tokens": draw_tokens(1, 2), "probe": Probe((3,), print)},
            r"probe.layers=\(3,\) must lie in \[0, 3\)",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_wrong_inputs_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        small_decoder()(**inputs)


def test_cache_errors_leave_the_cache_usable():
    decoder, tokens = small_decoder(), draw_tokens(1, 6)
    cache = decoder.make_cache(1, 8)
    decoder(tokens, cache=cache)
    with pytest.raises(ValueError, match="3 new tokens after 6 exceed the cache's capacity of 8"):
        decoder(tokens[:, :3], cache=cache)
    with pytest.raises(ValueError, match="cache takes"):
        decoder(draw_tokens(2, 1), cache=cache)
    with pytest.raises(ValueError, match=r"length=7 must lie in \[0, 6\]"):
        cache.crop(7)
    with pytest.raises(ValueError, match=r"batch_index=\[1\] must lie in \[0, 1\)"):
        cache.reorder(torch.tensor([1]))
    with pytest.raises(ValueError, match="until_layer=2 with a cache"):
        decoder(tokens[:, :1], cache=cache, until_layer=2)
    assert cache.length == 6
    with pytest.raises(ValueError, match=r"wrap the call in torch.no_grad\(\)"):
        decoder.requires_grad_()(tokens[:, :1], cache=cache)
    assert cache.length == 6
    with pytest.raises(ValueError, match=r"this cache holds \['keys', 'values'\]"):
        cache.layers[0].append(keys=torch.zeros(1, 1, 2, 8))
    with pytest.raises(ValueError, match="capacity=0 must be at least 1"):
        TensorCache(1, 0, {"keys": (2, 8)})
    assert DecoderCache(cache.layers).capacity == 8


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
        ({"max_new_tokens": 61}, "4 prompt tokens and 61 new ones exceed max_positions=64"),
        ({"temperature": -1.0}, "temperature=-1.0 must be a finite number"),
        ({"temperature": 1.0, "top_k": 0}, "top_k=0 must be at least 1"),
        ({"temperature": 1.0, "top_p": 0.0}, r"top_p=0.0 must lie in \(0, 1\]"),
        ({"prompt": torch.tensor([1, 2])}, r"prompt has shape \(2,\)"),
        ({"prompt": draw_tokens(1, 0)}, "the prompt is empty"),
        ({"prompt": None}, "got neither of prompt and logits"),
        ({"logits": torch.zeros(1, 64)}, "got both of prompt and logits"),
        ({"prompt": None, "logits": torch.zeros(1, 64)}, "pass that cache too"),
        (
            {"cache": small_decoder().make_cache(1, 5)},
            "0 positions held, 4 prompt tokens and 3 new ones exceed the 5 that fit",
        ),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)
def test_generation_settings_are_checked(arguments, message):
    arguments = {"prompt": draw_tokens(1, 4), "max_new_tokens": 3} | arguments
    with pytest.raises(ValueError, match=message):
        generate(small_decoder(), **arguments)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_q_heads": 3}, "n_q_heads=3 must be a multiple of n_kv_heads=2"),
        ({"d_head": 7}, "d_head=7 must be even"),
        ({"n_layers": 0}, "n_layers=0 must be at least 1"),
        ({"positions": "sinus"}, "positions='sinus' is unknown"),
        ({"norm_eps": 0.0}, "norm_eps=0.0 must be above 0"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_config_speaks_up_early(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_exchanging_is_checked():
    with pytest.raises(ValueError, match=r"layer=3 must lie in \[0, 3\)"):
        small_decoder().exchange_attention(3, NoAttention())
    with pytest.raises(ValueError, match=r"Identity has no make_cache"):
        small_decoder().exchange_attention(0, nn.Identity())
    with pytest.raises(ValueError, match="block_size=0 must be at least 1"):
        block_mass(torch.zeros(2, 2, 4), torch.zeros(2, 2, 4), block_size=0)
