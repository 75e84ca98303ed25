"""Window, CSA and HCA layers against the loops, in pieces, confined, and inside a decoder."""

import dataclasses
import math
import types

import pytest
import torch
from lsa_layers import CLOSE, SMALL, draw_hidden, draw_tokens, make_decoder, make_layer, places, run

from intuitive.common.decoder import DecoderConfig, Probe, generate
from intuitive.common.runtime import seeded
from intuitive.lsa import LSAConfig, reference
from intuitive.lsa.attention import (
    index_scores,
    lsa_decoder,
    missed,
    sink_attention,
    top_slots,
)
from intuitive.lsa.cache import cells_in_order

KINDS = ("window", "csa", "hca")

# ------------------------------------------------------------------------ what is computed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 3, 23], ids="n={}".format)
def test_layer_equals_the_loops(kind, n):
    attention, hidden = make_layer(kind), draw_hidden(1, n)
    want = reference.layer(dict(attention.named_parameters()), hidden[0], SMALL, kind)
    torch.testing.assert_close(run(attention, hidden)[0], want, **CLOSE)


def test_layer_that_reads_all_entries_equals_the_loops():
    attention, hidden = make_layer("csa"), draw_hidden(1, 27)
    selected = run(attention, hidden)
    attention.selects = False
    weights = dict(attention.named_parameters())
    want = reference.layer(weights, hidden[0], SMALL, "csa", selects=False)
    got = run(attention, hidden)
    torch.testing.assert_close(got[0], want, **CLOSE)
    assert (got - selected)[:, -8:].abs().max() > 1e-3  # six entries are closed, three selected


def test_stretched_positions_and_the_hadamard_transform_are_in_both():
    config = dataclasses.replace(SMALL, hadamard=True, yarn_factor=4.0, yarn_length=16)
    attention, hidden = make_layer("csa", config), draw_hidden(1, 18)
    weights = dict(attention.named_parameters())
    want = reference.layer(weights, hidden[0], config, "csa")
    torch.testing.assert_close(run(attention, hidden)[0], want, **CLOSE)
    plain = dataclasses.replace(config, hadamard=False)
    torch.testing.assert_close(
        reference.layer(weights, hidden[0], plain, "csa"), want, **CLOSE
    )  # a rotation of queries and keys alike
    unstretched = dataclasses.replace(config, yarn_factor=1.0)
    assert (reference.layer(weights, hidden[0], unstretched, "csa") - want).abs().max() > 1e-3


def test_rows_of_a_batch_do_not_meet():
    hidden = draw_hidden(3, 14)
    for kind in KINDS:
        attention = make_layer(kind)
        rows = torch.cat([run(attention, row[None]) for row in hidden])
        torch.testing.assert_close(run(attention, hidden), rows, **CLOSE)


@pytest.mark.parametrize("kind", ["csa", "hca"])
def test_an_entry_is_invisible_until_its_chunk_is_closed(kind):
    """Changing a token changes its own output and later ones, and no earlier one."""
    attention, hidden = make_layer(kind), draw_hidden(1, 21)
    before = run(attention, hidden)
    for t in (0, 6, 7, 8, 15):
        changed = hidden.clone()
        changed[:, t] += 1.0
        moved = (run(attention, changed) - before).abs().amax(-1)[0]
        assert (moved[:t] == 0).all()
        assert moved[t] > 1e-3


def test_a_token_out_of_the_window_is_read_through_entries_alone():
    """Window 5 and chunks of 4, each read by its own entry and by the next one."""
    attention, hidden = make_layer("csa"), draw_hidden(1, 12)
    attention.selects = False
    changed = hidden.clone()
    changed[:, 0] += 1.0
    moved = (run(attention, changed) - run(attention, hidden)).abs().amax(-1)[0]
    assert (moved[5:] > 1e-4).all()
    window = make_layer("window")
    moved = (run(window, changed) - run(window, hidden)).abs().amax(-1)[0]
    assert (moved[:5] > 1e-4).all()
    assert (moved[5:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_positions_count_by_distance_alone(kind):
    """The turn of a value is undone at the query's position: shifting a text changes nothing."""
    attention, hidden = make_layer(kind), draw_hidden(1, 20)
    at_0 = attention(hidden, places(1, 20))
    torch.testing.assert_close(attention(hidden, places(1, 20, 37)), at_0, atol=1e-4, rtol=1e-4)
    stretched = attention(hidden, 3 * places(1, 20))
    assert (stretched - at_0).abs().max() > 1e-3


def test_a_great_sink_leaves_nothing_to_read():
    attention, hidden = make_layer("csa"), draw_hidden(1, 9)
    attention.sinks.fill_(1e4)
    assert run(attention, hidden).abs().max() == 0
    attention.sinks.fill_(-1e4)
    assert run(attention, hidden).abs().max() > 0.01


def test_sink_attention_by_hand():
    q = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2) * math.sqrt(2)
    near = torch.tensor([[0.0, 0.0], [math.log(2), 1.0]]).view(1, 1, 2, 2)
    far = torch.tensor([[math.log(3), 0.0], [9.0, 9.0]]).view(1, 2, 2)
    there = torch.tensor([[[True, True]]]), torch.tensor([[[True, False]]])
    read, mass = sink_attention(q, torch.tensor([math.log(4)]), near, there[0], far, there[1])
    torch.testing.assert_close(mass.flatten(), torch.tensor([0.3, 0.0]))  # of 1 + 2 + 3 + 4
    torch.testing.assert_close(
        read.flatten(), torch.tensor([0.2 * math.log(2) + 0.3 * math.log(3), 0.2])
    )


def test_ties_go_to_the_lower_slot_and_slots_rise():
    scores = torch.tensor([[[0.0, 2.0, 0.0, -math.inf, 0.0, 3.0]]])
    slots, there = top_slots(scores, 3)
    assert slots.tolist() == [[[0, 1, 5]]]
    assert there.all()
    slots, there = top_slots(scores, 6)
    assert slots.tolist() == [[list(range(6))]]
    assert there.tolist() == [[[True, True, True, False, True, True]]]
    many = torch.zeros(1, 1, 500)
    assert top_slots(many, 40)[0].flatten().tolist() == list(range(40))


def test_index_scores_by_hand():
    draw = seeded(3)
    q, w = torch.randn(2, 5, 3, 8, generator=draw), torch.randn(2, 5, 3, generator=draw)
    keys = torch.randn(2, 7, 8, generator=draw)
    want = (torch.einsum("bnhd,brd->bnhr", q, keys).relu() * w[..., None]).sum(2)
    torch.testing.assert_close(index_scores(q, w, keys), want, **CLOSE)


def test_many_queries_are_taken_in_parts(monkeypatch):
    attention, hidden = make_layer("csa"), draw_hidden(2, 40)
    looks = []
    attention.watch = looks.append
    want = run(attention, hidden)
    monkeypatch.setattr("intuitive.lsa.attention.QUERIES_AT_A_TIME", 7)
    torch.testing.assert_close(run(attention, hidden), want, **CLOSE)
    for one, other in zip(*(vars(look).values() for look in looks), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_gradients_reach_every_weight_but_the_selectors():
    """Choosing entries carries no gradient: the lightning indexer learns by a loss of its own."""
    for kind in KINDS:
        attention = make_layer(kind).requires_grad_()
        run(attention, draw_hidden(1, 30)).square().sum().backward()
        for name, weight in attention.named_parameters():
            selects = name.startswith(("index_compressor", "w_iuq", "w_iw"))
            assert (weight.grad is None) == selects, name
            assert selects or weight.grad.abs().max() > 0, name


# ----------------------------------------------------------------------------- in pieces


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 11], ids="pieces={}".format)
def test_text_in_pieces_equals_the_text_at_once(kind, pieces):
    attention, hidden = make_layer(kind), draw_hidden(2, 29)
    torch.testing.assert_close(run(attention, hidden, pieces), run(attention, hidden), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_may_be_taken_back(kind):
    attention, hidden = make_layer(kind), draw_hidden(1, 26)
    want = run(attention, hidden)
    cache = attention.make_cache(1, 26, "cpu", torch.float32)
    run(attention, hidden[:, :9], 9, cache)
    run(attention, draw_hidden(1, 10, seed=7), 10, cache)  # another text
    cache.crop(9)
    run(attention, hidden[:, 9:20], 11, cache)
    cache.crop(14)  # half of a call
    got = run(attention, hidden[:, 14:], 5, cache)
    torch.testing.assert_close(got, want[:, 14:], **CLOSE)
    cache.crop(0)
    torch.testing.assert_close(run(attention, hidden, 26, cache), want, **CLOSE)


def test_closed_chunks_cannot_be_opened_again():
    attention = make_layer("csa")
    cache = attention.make_cache(1, 30, "cpu", torch.float32)
    run(attention, draw_hidden(1, 20), 10, cache)
    with pytest.raises(ValueError, match="length=9 lies before the last call, at 10"):
        cache.crop(9)
    with pytest.raises(ValueError, match=r"length=21 must lie in \[0, 20\]"):
        cache.crop(21)
    assert cache.length == 20


def test_rows_may_change_places():
    attention, hidden = make_layer("csa"), draw_hidden(3, 22)
    cache = attention.make_cache(3, 22, "cpu", torch.float32)
    run(attention, hidden[:, :13], 13, cache)
    order = torch.tensor([2, 2, 0])
    cache.reorder(order)
    got = run(attention, hidden[order][:, 13:], 2, cache)
    torch.testing.assert_close(got, run(attention, hidden[order])[:, 13:], **CLOSE)
    with pytest.raises(ValueError, match="batch_index"):
        cache.reorder(torch.tensor([3]))


def test_a_cache_refuses_what_it_cannot_hold():
    attention = make_layer("csa")
    cache = attention.make_cache(1, 5, "cpu", torch.float32)
    with pytest.raises(ValueError, match="exceed the cache's capacity of 5"):
        run(attention, draw_hidden(1, 6), 6, cache)
    with pytest.raises(ValueError, match="2 rows, this cache has 1"):
        run(attention, draw_hidden(2, 2), 2, cache)
    with pytest.raises(ValueError, match="keeps no gradients"):
        run(make_layer("csa").requires_grad_(), draw_hidden(1, 2), 2, cache)
    assert cache.length == 0
    with pytest.raises(ValueError, match="must be at least 1"):
        attention.make_cache(0, 5, "cpu", torch.float32)


def test_a_cache_counts_its_bytes():
    attention = make_layer("csa")
    cache = attention.make_cache(1, 40, "cpu", torch.float32)
    run(attention, draw_hidden(1, 33), 33, cache)
    run(attention, draw_hidden(1, 1), 1, cache)
    got = cache.nbytes()
    assert got["entries"] == 8 * 16 * 4
    assert got["index_keys"] == 8 * 8 * 4
    assert got["window"] == cache.kept_tokens * 16 * 4 == 7 * 64


# ------------------------------------------------------------------------------ confined


def confine(resident, *, gathers):
    def before(cache):
        cache.gathers = gathers
        if cache.resident is None and cache.n_entries:
            cache.confine(resident[:, : cache.n_entries])

    return before


def decode_confined(attention, hidden, resident, n, *, gathers):
    """Prefill n tokens unrestricted, then confine and go on token by token."""
    cache = attention.make_cache(len(hidden), hidden.shape[1], "cpu", torch.float32)
    run(attention, hidden[:, :n], n, cache)
    return run(attention, hidden[:, n:], 1, cache, confine(resident, gathers=gathers))


@pytest.mark.parametrize("kind", ["csa", "hca"])
def test_masking_equals_gathering_equals_the_loops(kind):
    attention, hidden = make_layer(kind), draw_hidden(2, 44)
    count = 30 // attention.compressor.size
    resident = torch.rand(2, count, generator=seeded(5)) < 0.5
    resident[:, 0] = torch.tensor([True, False])  # rows with different counts
    masked, gathered = (
        decode_confined(attention, hidden, resident, 30, gathers=gathers)
        for gathers in (False, True)
    )
    torch.testing.assert_close(gathered, masked, **CLOSE)
    for row in range(2):
        # Chunks that decoding closes are resident.
        there = set(resident[row].nonzero().flatten().tolist()) | set(range(count, 44))
        want = reference.layer(
            dict(attention.named_parameters()), hidden[row], SMALL, kind, resident=there
        )
        torch.testing.assert_close(masked[row], want[30:], **CLOSE)


@pytest.mark.parametrize("gathers", [False, True])
def test_everything_resident_equals_the_unrestricted_layer(gathers):
    attention, hidden = make_layer("csa"), draw_hidden(2, 40)
    everything = torch.ones(2, 7, dtype=torch.bool)
    got = decode_confined(attention, hidden, everything, 30, gathers=gathers)
    assert torch.equal(got, decode_confined(attention, hidden, everything, 30, gathers=not gathers))
    torch.testing.assert_close(got, run(attention, hidden)[:, 30:], **CLOSE)
    some = everything.clone()
    some[:, :5] = False
    less = decode_confined(attention, hidden, some, 30, gathers=gathers)
    assert (less - got).abs().max() > 1e-3


@pytest.mark.parametrize("gathers", [False, True])
def test_nothing_resident_leaves_the_window_and_what_is_decoded(gathers):
    attention, hidden = make_layer("csa"), draw_hidden(1, 36)
    nothing = torch.zeros(1, 7, dtype=torch.bool)
    got = decode_confined(attention, hidden, nothing, 30, gathers=gathers)
    weights = dict(attention.named_parameters())
    want = reference.layer(weights, hidden[0], SMALL, "csa", resident=range(7, 9))
    torch.testing.assert_close(got[0], want[30:], **CLOSE)


@pytest.mark.parametrize("gathers", [False, True])
def test_selection_stays_inside_the_resident_set_and_fills_up(gathers):
    """A miss is replaced by lower-ranked entries, silently; the shadow selector tells."""
    attention, hidden = make_layer("csa"), draw_hidden(1, 41)
    looks = []
    resident = torch.tensor([[1, 0, 1, 0, 1, 0, 0, 1, 0, 1]]).bool()
    attention.watch = looks.append
    decode_confined(attention, hidden, resident, 40, gathers=gathers)
    look = looks[-1]
    there = set(resident[0].nonzero().flatten().tolist())
    selected = look.selected.flatten().tolist()
    assert len(selected) == SMALL.top_k
    assert set(selected) <= there
    order = sorted(there, key=lambda s: (-full_scores(attention, hidden)[s], s))
    assert selected == sorted(order[: SMALL.top_k])
    if not gathers:
        scores = full_scores(attention, hidden)
        best = sorted(range(10), key=lambda s: (-scores[s], s))[: SMALL.top_k]
        assert look.wanted.flatten().tolist() == sorted(best)
        assert set(best) - there  # this draw does miss something
    else:
        assert look.ids.flatten().tolist() == sorted(there)


def test_missed_by_hand(as_installed):
    def rows(*slots):
        return torch.tensor([slots])

    look = types.SimpleNamespace(
        wanted=rows([1, 4, 7], [0, 2, -1], [3, 5, 6]),
        selected=rows([1, 2, 4], [0, 2, -1], [0, 1, 2]),
    )
    assert missed(look).tolist() == [[1, 0, 3]]


def full_scores(attention, hidden):
    looks, former = [], attention.watch
    attention.watch = looks.append
    run(attention, hidden)
    attention.watch = former
    return looks[0].scores[0, -1].tolist()


def test_a_look_shows_the_softmax_of_what_was_read():
    attention, hidden = make_layer("csa"), draw_hidden(2, 30)
    looks = []
    attention.watch = looks.append
    run(attention, hidden)
    (look,) = looks
    closed = (torch.arange(30) + 1) // 4
    assert look.scores.shape == look.mass.shape == (2, 30, 7)
    exists = torch.arange(7) < closed[:, None]
    assert torch.equal(look.scores > -math.inf, exists.expand(2, -1, -1))
    read = torch.zeros(2, 30, 8, dtype=torch.bool).scatter(-1, look.selected % 8, True)[..., :7]
    assert torch.equal(look.mass > 0, read)
    assert torch.equal(read.sum(-1), closed.clamp(max=3).expand(2, -1))
    assert (look.mass.sum(-1) < 1).all()
    assert torch.equal(look.selected, look.wanted)
    assert torch.equal(look.hidden, hidden)


def test_cells_are_gathered_in_the_order_of_chunks():
    resident = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    ids, there = cells_in_order(resident)
    assert ids.tolist() == [[1, 2], [0, 0], [0, 0]]
    assert there.tolist() == [[True, True], [True, False], [False, False]]


def test_a_resident_set_of_another_size_is_refused():
    cache = make_layer("csa").make_cache(1, 30, "cpu", torch.float32)
    with pytest.raises(ValueError, match=r"\(1, 0\) chunks are held"):
        cache.confine(torch.ones(1, 3, dtype=torch.bool))


# ---------------------------------------------------------------------------- in a decoder


@torch.no_grad()
@pytest.mark.parametrize("pieces", [1, 5])
def test_decoding_equals_prefill(pieces):
    decoder, tokens = make_decoder(), draw_tokens(2, 37)
    want = decoder(tokens)
    cache = decoder.make_cache(2, 37)
    got = torch.cat([decoder(part, cache=cache) for part in tokens.split(pieces, 1)], 1)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert want.std() > 1
    assert set(cache.nbytes()) == {"window", "open_chunks", "entries", "index_keys"}


@torch.no_grad()
def test_generation_is_what_repeated_prefill_gives():
    decoder, prompt = make_decoder(), draw_tokens(2, 18)
    got = generate(decoder, prompt, max_new_tokens=12)
    text = prompt
    for _ in range(12):
        text = torch.cat((text, decoder(text)[:, -1:].argmax(-1)), 1)
    assert torch.equal(got, text[:, 18:])


@torch.no_grad()
def test_an_error_on_the_way_leaves_the_cache_as_it_was():
    decoder, tokens = make_decoder(), draw_tokens(1, 30)
    cache = decoder.make_cache(1, 30)
    decoder(tokens[:, :17], cache=cache)

    def fail(seen):
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        decoder(tokens[:, 17:25], cache=cache, probe=Probe((2,), fail))
    assert [layer.length for layer in cache.layers] == [17] * 4
    got = decoder(tokens[:, 17:], cache=cache)
    torch.testing.assert_close(got, decoder(tokens)[:, 17:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_cache_made_in_inference_mode_serves_outside_it():
    decoder, tokens = make_decoder(), draw_tokens(1, 20)
    with torch.inference_mode():
        cache = decoder.make_cache(1, 20)
        decoder(tokens[:, :10], cache=cache)
    got = decoder(tokens[:, 10:], cache=cache)
    torch.testing.assert_close(got, decoder(tokens)[:, 10:], atol=1e-4, rtol=1e-4)


def test_decoder_and_attention_must_fit():
    with pytest.raises(ValueError, match="d_model=32 of the decoder differs from"):
        lsa_decoder(LSAConfig(), DecoderConfig(d_model=32, n_layers=8))
    with pytest.raises(ValueError, match="n_layers=2 of the decoder differs from"):
        lsa_decoder(LSAConfig(), DecoderConfig(d_model=64, n_layers=2))
    made = lsa_decoder(LSAConfig(), DecoderConfig(d_model=64, n_layers=8), generator=seeded(0))
    assert [layer.attention.kind for layer in made.layers] == list(LSAConfig().layers)
    assert all((layer.attention.sinks == 0).all() for layer in made.layers)
