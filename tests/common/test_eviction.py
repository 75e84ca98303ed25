"""Evicting a cache: scores against brute force, and decoding that goes on at the right place."""

import dataclasses

import pytest
import torch

from intuitive.common.decoder import (
    Decoder,
    DecoderConfig,
    DenseAttention,
    Probe,
    TensorCache,
    rotate,
)
from intuitive.common.eviction import (
    METHODS,
    EvictedCache,
    ExpectedAttention,
    KVzip,
    SnapKV,
    attention_expected,
    attention_of_last_queries,
    attention_while_repeating,
    continuation_losses,
    evict,
)
from intuitive.common.eviction.methods import mean_rotation
from intuitive.common.runtime import Cancelled, seeded

CONFIG = DecoderConfig(vocab_size=31, d_model=24, n_q_heads=4, n_kv_heads=2, d_head=6, d_ff=32)
N, BUDGET = 40, 12
ONE_BY_ONE = {
    "snapkv": SnapKV(window=4, kernel=3),
    "kvzip": KVzip(request=(7, 3, 5), chunk=16, lead=2, n_sink=2),
    "expected": ExpectedAttention(n_future=20, n_sink=2),
}


@pytest.fixture(scope="module")
def decoder():
    made = Decoder(CONFIG, dtype=torch.float64, generator=seeded(0))
    for layer in made.layers:  # attention that is far from even
        for w in (layer.attention.w_q, layer.attention.w_k):
            w.weight.data.mul_(40)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(CONFIG.vocab_size, (2, N), generator=seeded(1))


def heads(n, m, seed=0, h_q=4, h_kv=2, d=6):
    draw = seeded(seed)
    q = torch.randn(n, h_q, d, generator=draw, dtype=torch.float64) * 2
    return q, *(torch.randn(m, h_kv, d, generator=draw, dtype=torch.float64) for _ in range(2))


def attention(q, k, query, head, keys):
    """Probabilities of one query and head over chosen keys, written out."""
    weights = []
    for key in keys:
        dot = sum(
            float(a) * float(b) for a, b in zip(q[query, head], k[key, head // 2], strict=True)
        )
        weights.append(torch.tensor(dot / q.shape[-1] ** 0.5, dtype=torch.float64).exp())
    return [w / sum(weights) for w in weights]


# ---------------------------------------------------------------------------------------- scores


def test_snapkv_scores_against_loops():
    n, window = 11, 3
    q, k, _ = heads(n, n)
    got = attention_of_last_queries(q, k, window=window, kernel=3)
    for kv in range(2):
        mean = [0.0] * (n - window)
        for query in range(n - window, n):
            for head in (2 * kv, 2 * kv + 1):
                rows = attention(q, k, query, head, range(query + 1))
                for key in range(n - window):
                    mean[key] += float(rows[key]) / (2 * window)
        for key in range(n - window):
            near = [mean[i] for i in (key - 1, key, key + 1) if 0 <= i < n - window]
            assert float(got[kv, key]) == pytest.approx(sum(near) / 3)
    assert got[:, n - window :].isinf().all()


def test_kvzip_scores_against_loops():
    n_read, n = 7, 5
    q, k, _ = heads(n, n_read + n, seed=2)
    got = attention_while_repeating(q, k)
    for kv in range(2):
        for key in range(n_read):
            most = max(
                float(attention(q, k, query, head, range(n_read + query + 1))[key])
                for query in range(n)
                for head in (2 * kv, 2 * kv + 1)
            )
            assert float(got[kv, key]) == pytest.approx(most)


def test_kvzip_scores_do_not_depend_on_how_many_queries_are_held_at_once(monkeypatch):
    q, k, _ = heads(9, 20, seed=3)
    whole = attention_while_repeating(q, k)
    monkeypatch.setattr("intuitive.common.eviction.methods.AT_A_TIME", 2)
    torch.testing.assert_close(attention_while_repeating(q, k), whole)


def test_expected_attention_scores_against_loops():
    n, sink = 9, 2
    q, k, v = heads(n, n, seed=4)
    plain = q[sink:]
    got = attention_expected(q, k, v, torch.arange(n), rope_base=None, n_future=4, n_sink=sink)
    for kv in range(2):
        shares = []
        for head in (2 * kv, 2 * kv + 1):
            mean = plain[:, head].mean(0)
            spread = sum(torch.outer(x - mean, x - mean) for x in plain[:, head]) / (n - sink)
            expected = [
                (key @ mean / 6**0.5 + key @ spread @ key / (2 * 6)).exp() for key in k[sink:, kv]
            ]
            shares.append([e / sum(expected) for e in expected])
        for i in range(n - sink):
            want = (shares[0][i] + shares[1][i]) / 2 * v[sink + i, kv].norm()
            torch.testing.assert_close(got[kv, sink + i], want)
    assert got[:, :sink].isinf().all()


def test_expected_attention_is_the_mean_over_gaussian_queries():
    """The closed form against draws: log E[exp(q·k/√d)] of a Gaussian."""
    draw = seeded(5)
    mean, key = (torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(2))
    root = torch.randn(6, 6, generator=draw, dtype=torch.float64) / 3
    queries = mean + torch.randn(400_000, 6, generator=draw, dtype=torch.float64) @ root.T
    drawn = (queries @ key / 6**0.5).exp().mean().log()
    closed = key @ mean / 6**0.5 + key @ root @ root.T @ key / (2 * 6)
    assert float(drawn) == pytest.approx(float(closed), abs=0.01)


def test_the_mean_rotation_turns_as_the_decoder_does():
    x = torch.randn(6, generator=seeded(6), dtype=torch.float64)
    want = sum(rotate(x[None, None, None], torch.tensor([[p]]), 100.0)[0, 0, 0] for p in (5, 6, 7))
    torch.testing.assert_close(mean_rotation(5, 3, 6, 100.0, x) @ x, want / 3)


def test_expected_attention_takes_positions_out_before_the_statistics():
    """Equal queries before RoPE have no spread, wherever they stand."""
    n, base = 8, 100.0
    plain, k, v = heads(n, n, seed=7)
    plain[:] = plain[:1]
    q = rotate(plain[None], torch.arange(n)[None], base)[0]
    got = attention_expected(q, k, v, torch.arange(n), rope_base=base, n_future=1, n_sink=0)
    (ahead,) = rotate(plain[None, :1], torch.tensor([[n]]), base)[0]  # the query of the next token
    for kv in range(2):
        rows = [(k[:, kv] @ ahead[h] / 6**0.5).softmax(0) for h in (2 * kv, 2 * kv + 1)]
        torch.testing.assert_close(got[kv], (rows[0] + rows[1]) / 2 * v[:, kv].norm(dim=-1))


# -------------------------------------------------------------------------------------- decoding


class Masked(DenseAttention):
    """Full attention in which each head is kept from reading what was evicted: brute force."""

    kept = None  # [b, h_kv, budget]
    n_read = 0

    def attend(self, q, k, v):
        n, m = q.shape[1], k.shape[1]
        may = torch.ones(n, m, dtype=torch.bool).tril(m - n).expand(len(q), 2, n, m).clone()
        if n < self.n_read:  # tokens after the prompt
            gone = torch.ones(len(q), 2, self.n_read, dtype=torch.bool)
            gone.scatter_(2, self.kept, False)
            may[..., : self.n_read] &= ~gone[:, :, None]
        k, v = (x.repeat_interleave(2, dim=2) for x in (k, v))
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
        may = may.repeat_interleave(2, dim=1)
        weights = scores.masked_fill(~may, -torch.inf).softmax(-1)
        return torch.einsum("bhnm,bmhd->bnhd", weights, v)


@pytest.mark.parametrize("name", ["snapkv", "kvzip", "expected"])
def test_decoding_goes_on_as_if_evicted_tokens_were_masked(decoder, tokens, name):
    evicted = evict(decoder, tokens, method=ONE_BY_ONE[name], budget=BUDGET, room=5)
    brute = Decoder(CONFIG, Masked, dtype=torch.float64).requires_grad_(False)
    brute.load_state_dict(decoder.state_dict())
    for layer, kept in zip(brute.layers, evicted.kept, strict=True):
        layer.attention.kept, layer.attention.n_read = kept, N
    cache = brute.make_cache(2, N + 5)
    torch.testing.assert_close(evicted.logits, brute(tokens, cache=cache)[:, -1])
    new = torch.randint(CONFIG.vocab_size, (2, 5), generator=seeded(8))
    for piece in (new[:, :1], new[:, 1:4], new[:, 4:]):
        got = decoder(piece, cache=evicted.cache)
        torch.testing.assert_close(got, brute(piece, cache=cache))
    assert evicted.cache.length == N + 5


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_for_everything_is_the_raw_decoder(decoder, tokens, name):
    evicted = evict(decoder, tokens, method=name, budget=N + 3)
    new = tokens[:, :4]
    want = decoder(torch.cat((tokens, new), 1))
    torch.testing.assert_close(evicted.logits, want[:, N - 1])
    torch.testing.assert_close(decoder(new, cache=evicted.cache), want[:, N:])
    assert all(torch.equal(k, torch.arange(N).expand(2, 2, N)) for k in evicted.kept)


@pytest.mark.parametrize("name", METHODS)
def test_every_cache_is_as_large_as_its_budget(decoder, tokens, name):
    method = ONE_BY_ONE.get(name, name)
    evicted = evict(decoder, tokens, method=method, budget=BUDGET)
    held = N if name == "raw" else BUDGET
    entries = 2 * CONFIG.n_layers * CONFIG.n_kv_heads * CONFIG.d_head * 8  # rows, float64
    assert evicted.cache.nbytes() == {"keys": held * entries, "values": held * entries}
    for kept in evicted.kept:
        assert kept.shape == (2, 2, held)
        assert (kept.diff(dim=-1) > 0).all() and kept.min() >= 0 and kept.max() < N


def test_truncation_is_the_newest_tokens_read_alone(decoder, tokens):
    evicted = evict(decoder, tokens, method="truncation", budget=BUDGET)
    alone = decoder(tokens[:, -BUDGET:])
    torch.testing.assert_close(evicted.logits, alone[:, -1])  # RoPE sees distances only
    got = decoder(tokens[:, :2], cache=evicted.cache)
    want = decoder(torch.cat((tokens[:, -BUDGET:], tokens[:, :2]), 1))
    torch.testing.assert_close(got, want[:, BUDGET:])


def test_what_is_kept_scores_highest_and_windows_and_sinks_stay(decoder, tokens):
    for name, method in ONE_BY_ONE.items():
        kept = evict(decoder, tokens, method=method, budget=BUDGET).kept
        must = range(N - method.window, N) if name == "snapkv" else range(method.n_sink)
        for layer in kept:
            for row in layer.flatten(0, 1).tolist():
                assert set(must) <= set(row)
        assert len({tuple(row) for layer in kept for row in layer.flatten(0, 1).tolist()}) > 1


def test_windows_and_sinks_larger_than_the_budget_fill_it(decoder, tokens):
    kept = {n: evict(decoder, tokens, method=m, budget=1).kept for n, m in ONE_BY_ONE.items()}
    for name, place in (("snapkv", N - 1), ("kvzip", 0), ("expected", 0)):
        assert all((layer == place).all() for layer in kept[name])


def test_kvzip_scores_are_those_of_a_text_with_its_repetition(decoder, tokens):
    """One chunk: the model reads prompt, request and prompt at once, without a cache."""
    method = dataclasses.replace(ONE_BY_ONE["kvzip"], chunk=64, n_sink=0)
    kept = evict(decoder, tokens[:1], method=method, budget=BUDGET).kept
    seen = []
    text = torch.cat((tokens[:1], torch.tensor([method.request]), tokens[:1]), 1)
    decoder(text, probe=Probe((0, 1), seen.append))
    for layer, part in zip(kept, seen, strict=True):
        q, k = part.q[0, N:], part.k[0]
        best = attention_while_repeating(q, k).topk(BUDGET).indices.sort(-1).values
        assert torch.equal(layer[0], best)


def test_rows_of_a_batch_are_evicted_alone(decoder, tokens):
    for method in ONE_BY_ONE.values():
        both = evict(decoder, tokens, method=method, budget=BUDGET).kept
        for row in range(2):
            alone = evict(decoder, tokens[row : row + 1], method=method, budget=BUDGET).kept
            assert all(torch.equal(b[row], a[0]) for b, a in zip(both, alone, strict=True))


def test_the_first_logits_come_before_eviction(decoder, tokens):
    order = []
    for name in METHODS:
        evict(
            decoder,
            tokens,
            method=ONE_BY_ONE.get(name, name),
            budget=BUDGET,
            on_prefilled=lambda name=name: order.append(name),
        )
    assert order == list(METHODS)


# ------------------------------------------------------------------------------------- the cache


def test_an_evicted_cache_can_be_cropped_to_the_prompt_and_no_further(decoder, tokens):
    cache = evict(decoder, tokens, method=ONE_BY_ONE["snapkv"], budget=BUDGET, room=6).cache
    first = decoder(tokens[:, :3], cache=cache)
    cache.crop(N + 1)
    torch.testing.assert_close(decoder(tokens[:, 1:3], cache=cache), first[:, 1:])
    cache.crop(N)
    torch.testing.assert_close(decoder(tokens[:, :3], cache=cache), first)
    with pytest.raises(ValueError, match=rf"length={N - 1} must lie in \[{N}, {N + 3}\]"):
        cache.crop(N - 1)
    assert cache.length == N + 3


def test_a_full_evicted_cache_is_left_as_it_was(decoder, tokens):
    cache = evict(decoder, tokens, method="truncation", budget=BUDGET, room=2).cache
    assert cache.capacity == N + 2
    with pytest.raises(ValueError, match="exceed the cache's capacity"):
        decoder(tokens[:, :3], cache=cache)
    assert cache.length == N
    decoder(tokens[:, :2], cache=cache)


def test_rows_can_change_places(decoder, tokens):
    cache = evict(decoder, tokens, method=ONE_BY_ONE["expected"], budget=BUDGET).cache
    swapped = evict(decoder, tokens.flip(0), method=ONE_BY_ONE["expected"], budget=BUDGET).cache
    cache.reorder(torch.tensor([1, 0]))
    new = tokens[:1, :2].expand(2, 2)
    torch.testing.assert_close(decoder(new, cache=cache), decoder(new, cache=swapped))


def test_more_cannot_be_kept_than_was_read():
    cache = TensorCache(1, 4, {"keys": (1, 2)})
    cache.append(keys=torch.zeros(1, 3, 1, 2))
    with pytest.raises(ValueError, match="3 entries cannot be kept of n_read=2"):
        EvictedCache(cache, 2)


@pytest.mark.parametrize("switch", [torch.inference_mode, torch.enable_grad, torch.no_grad])
def test_what_a_notebook_switched_does_not_stick(decoder, tokens, switch):
    with switch():
        cache = evict(decoder, tokens, method=ONE_BY_ONE["snapkv"], budget=BUDGET).cache
    with torch.no_grad():
        decoder(tokens[:, :2], cache=cache)


# --------------------------------------------------------------------------------------- refused


def test_bad_input_is_refused(decoder, tokens):
    with pytest.raises(ValueError, match="method='h2o' is unknown; choose one of raw, trunc"):
        evict(decoder, tokens, method="h2o", budget=4)
    with pytest.raises(ValueError, match="budget=0 must be at least 1"):
        evict(decoder, tokens, method="snapkv", budget=0)
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        SnapKV(kernel=4)
    with pytest.raises(ValueError, match="chunk=0 must be at least 1"):
        KVzip(chunk=0)
    with pytest.raises(ValueError, match="n_future=0"):
        ExpectedAttention(n_future=0)
    for wrong in (tokens[:, :0], tokens[0]):
        with pytest.raises(ValueError, match=r"with at least one token is needed"):
            evict(decoder, wrong, method="snapkv", budget=4)
    with pytest.raises(ValueError, match="a repetition of 1100 exceed max_positions=2048"):
        evict(decoder, torch.zeros(1, 1100, dtype=torch.int64), method="kvzip", budget=4)


def test_a_cache_of_another_kind_is_refused(tokens):
    class Other(DenseAttention):
        def make_cache(self, batch, capacity, device, dtype):
            return TensorCache(batch, capacity, {"latents": (3,)}, device, dtype)

    with pytest.raises(ValueError, match="no plain cache of keys and values"):
        evict(Decoder(CONFIG, Other), tokens, method="snapkv", budget=4)


def test_nobody_waits(decoder, tokens):
    with pytest.raises(Cancelled):
        evict(decoder, tokens, method="kvzip", budget=4, stale=lambda: True)


# --------------------------------------------------------------------------------------- quality


def test_losses_of_a_whole_cache_are_the_decoders_own(decoder, tokens):
    got = continuation_losses(decoder, tokens, context=30, method="raw", budget=1, skip=3)
    logs = decoder(tokens).log_softmax(-1)[:, :-1]
    want = -logs.gather(-1, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(got, want[:, 30 + 3 - 1 :])
    with pytest.raises(ValueError, match="context=39 and skip=1 leave nothing to score of 40"):
        continuation_losses(decoder, tokens, context=39, method="raw", budget=1)
    with pytest.raises(ValueError, match="skip=0"):
        continuation_losses(decoder, tokens, context=30, method="raw", budget=1, skip=0)


def test_losses_of_a_small_cache_are_those_of_decoding_from_it(decoder, tokens):
    method = ONE_BY_ONE["snapkv"]
    got = continuation_losses(decoder, tokens, context=30, method=method, budget=8)
    evicted = evict(decoder, tokens[:, :30], method=method, budget=8)
    for i in range(9):
        logits = decoder(tokens[:, 30 + i : 31 + i], cache=evicted.cache)[:, -1]
        want = -logits.log_softmax(-1).gather(-1, tokens[:, 31 + i, None])[:, 0]
        torch.testing.assert_close(got[:, i], want)
