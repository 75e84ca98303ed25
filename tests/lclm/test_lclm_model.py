"""Encoder, adapter and decoder: exactness, masks, splicing and the loss."""

import copy

import pytest
import torch
from latent_models import SMALL, VOCABULARY, model_of, text
from torch import Tensor

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.lclm import LatentContextModel, Latents, LCLMConfig, Raw, Span, latent_count
from intuitive.lclm.adapter import BidirectionalAttention
from intuitive.lclm.config import ADAPTERS, MASKS, POOLINGS

close = torch.testing.assert_close
KINDS = [(pooling, mask) for pooling in POOLINGS for mask in MASKS]


def silent_encoder(model: LatentContextModel) -> None:
    """Let no layer of the encoder write anything: its states are the tokens' embeddings."""
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.attention.w_o.weight.zero_()
            layer.mlp.w_down.weight.zero_()


@pytest.mark.parametrize("mask", MASKS)
def test_one_token_per_latent_and_nothing_in_between_is_the_raw_decoder(mask):
    model = model_of(ratio=1, adapter="none", encoder_norm=False, mask=mask)
    silent_encoder(model)
    tokens = text(29)
    pieces = [Raw(tokens[:5]), Span(tokens[5:21]), Raw(tokens[21:])]
    prompt = model.spliced(pieces, tags=False)
    assert torch.equal(model.decoder(embeddings=prompt.embeddings), model.decoder(tokens[None]))
    assert not torch.equal(  # the tags are what is left of the difference
        model.decoder(embeddings=model.spliced(pieces).embeddings)[:, -1],
        model.decoder(tokens[None])[:, -1],
    )


@pytest.mark.parametrize(("pooling", "mask"), KINDS)
def test_windows_encoded_together_are_the_windows_encoded_one_by_one(pooling, mask):
    model = model_of(pooling=pooling, mask=mask)
    tokens = text(8 * 3 + 5)
    together = model.encode(tokens[None])[0]
    alone = [model.encode(tokens[i : i + 8][None])[0] for i in range(0, len(tokens), 8)]
    close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("pooling", "mask"), KINDS)
@pytest.mark.parametrize("overlap", [0, 3, 9])
@pytest.mark.parametrize("adapter", ["mlp", "attention"])
def test_a_batch_gives_what_each_span_gives_alone(pooling, mask, overlap, adapter):
    model = model_of(
        pooling=pooling, mask=mask, overlap=overlap, adapter=adapter, residual=overlap == 3
    )
    spans = [text(n, seed=n) for n in (17, 1, 8, 3, 30, 9, 30)]
    alone = [model.encode(span[None])[0] for span in spans]
    for batch_size in (1, 3, 100):
        for got, want in zip(model.encode_spans(spans, batch_size=batch_size), alone, strict=True):
            close(got, want, atol=1e-5, rtol=1e-5)
    rows = text(19, rows=3)
    for got, row in zip(model.encode(rows), rows, strict=True):
        close(got, model.encode(row[None])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("pooling", "mask"), KINDS)
def test_every_length_gives_as_many_latents_as_the_formula_says(pooling, mask):
    model = model_of(pooling=pooling, mask=mask)
    tokens = text(200)
    counts = [len(model.encode(tokens[None, :n])[0]) for n in range(1, 201, 7)]
    assert counts == [latent_count(n, ratio=4, window=8) for n in range(1, 201, 7)]
    spans = [tokens[:n] for n in range(1, 201)]
    for n, latents in enumerate(model.encode_spans(spans, batch_size=512), start=1):
        assert latents.shape == (latent_count(n, ratio=4, window=8), 32)


def test_an_empty_span_is_refused():
    model = model_of()
    with pytest.raises(ValueError, match="an empty span has no latents"):
        model.encode(torch.empty(1, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match="an empty span has no latents"):
        model.encode_spans([text(4), text(0)])
    with pytest.raises(ValueError, match="an empty span has no latents"):
        Span([])
    assert model.encode_spans([]) == []


@pytest.mark.parametrize("overlap", [0, 2])
def test_a_future_token_changes_a_past_state_only_if_bidirectional(overlap):
    tokens = text(16)
    changed = tokens.clone()
    changed[6] = (changed[6] + 1) % VOCABULARY  # in the second group of the first window
    for mask in MASKS:
        model = model_of(mask=mask, overlap=overlap)
        before, after = model.encode(tokens[None])[0], model.encode(changed[None])[0]
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        # latents 0 and 1 are of the first window, 2 and 3 of the second
        assert moved[0] == (mask == "bidirectional")
        assert moved[1]
        assert moved[2:] == [overlap > 0, overlap > 0]


def test_the_right_neighbours_of_a_window_are_read_only_if_bidirectional():
    tokens = text(16)
    changed = tokens.clone()
    changed[8] = (changed[8] + 1) % VOCABULARY  # the first token of the second window
    for mask in MASKS:
        model = model_of(mask=mask, overlap=2)
        before, after = model.encode(tokens[None])[0], model.encode(changed[None])[0]
        assert torch.equal(before[:2], after[:2]) == (mask == "causal")


def test_overlap_reads_neighbours_and_pools_none_of_them():
    tokens = text(16)
    model = model_of(overlap=3)
    states = model.encoder.norm(model.encoder.hidden(tokens[None, 5:16]))[0, 3:]
    want = model.adapter(states.unflatten(0, (2, 4)).mean(1)[None])[0]
    close(model.encode(tokens[None])[0, 2:], want, atol=1e-6, rtol=1e-5)


def test_bidirectional_attention_takes_no_cache():
    decoder = Decoder(SMALL, BidirectionalAttention)
    with torch.no_grad(), pytest.raises(ValueError, match="cannot go on from a cache"):
        decoder(text(4)[None], cache=decoder.make_cache(1, 8))


def test_a_short_last_group_is_filled_with_zeros():
    model = model_of(pooling="concat")
    tokens = text(6)
    states = model.encoder.norm(model.encoder.hidden(tokens[None]))[0]
    last = torch.cat((states[4:].flatten(), torch.zeros(2 * 32)))
    close(model.encode(tokens[None])[0, 1], model.adapter(last[None, None])[0, 0])


@pytest.mark.parametrize("pooling", ["eos", "queries"])
@pytest.mark.parametrize("n", [8, 6])
def test_markers_follow_the_tokens_of_their_window_in_the_same_pass(pooling, n):
    model = model_of(pooling=pooling)
    tokens = text(n)
    markers = model.markers.expand(2, -1) if pooling == "eos" else model.markers
    assert len(model.markers) == (1 if pooling == "eos" else 2)
    stream = torch.cat((model.encoder.embedding(tokens), markers))[None]
    states = model.encoder.norm(model.encoder.hidden(embeddings=stream))[:, n:]
    close(model.encode(tokens[None]), model.adapter(states), atol=1e-6, rtol=1e-5)


def test_copies_of_one_marker_differ_by_their_place_alone():
    """A marker sees the tokens and the markers before it; without positions, only copies."""
    sizes = DecoderConfig(vocab_size=VOCABULARY, d_model=32, d_head=8, d_ff=64, positions="none")
    tokens = text(8)[None]
    one = model_of(pooling="eos", mask="bidirectional", encoder=sizes).encode(tokens)[0]
    close(one[0], one[1], atol=1e-6, rtol=1e-5)
    one = model_of(pooling="eos", mask="bidirectional").encode(tokens)[0]
    assert not torch.allclose(one[0], one[1], atol=1e-6)


def test_the_residual_is_the_mean_embedding_of_the_group():
    plain, added = model_of(), model_of(residual=True)
    tokens = text(11)
    groups = [plain.decoder.embedding(tokens[i : i + 4]).mean(0) for i in (0, 4, 8)]
    close(
        added.encode(tokens[None])[0] - plain.encode(tokens[None])[0],
        torch.stack(groups),
        atol=1e-6,
        rtol=1e-4,
    )


@pytest.mark.parametrize("pooling", ["mean", "last", "eos"])
def test_another_ratio_may_be_asked_for(pooling):
    model = model_of(pooling=pooling, ratios=(2, 8))
    tokens = text(21)
    for ratio in (1, 2, 4, 8):
        assert model.encode(tokens[None], ratio=ratio).shape[1] == -(-21 // ratio)
        got = model.encode_spans([tokens, tokens[:3]], ratio=ratio)[0]
        close(got, model.encode(tokens[None], ratio=ratio)[0], atol=1e-5, rtol=1e-5)
    assert model.adapter_for(2) is model.adapters["2"]
    assert model.adapter_for(1) is model.adapter is model.adapters["4"]
    with pytest.raises(ValueError, match="ratio=3 must divide window=8"):
        model.encode(tokens[None], ratio=3)


@pytest.mark.parametrize("pooling", ["concat", "queries"])
def test_weights_that_know_their_ratio_take_no_other(pooling):
    model = model_of(pooling=pooling)
    assert model.encode(text(9)[None], ratio=4).shape[1] == 3
    with pytest.raises(ValueError, match="was built for ratio=4"):
        model.encode(text(9)[None], ratio=2)


# ---------------------------------------------------------------------------------- splicing


def test_a_prompt_knows_what_stands_where():
    model = model_of()
    first, second = text(9, seed=1), text(4, seed=2)
    prompt = model.spliced([Raw([5, 6]), Span(first), Raw([7]), Span(second), Raw([8])])
    kinds = ["raw"] * 2 + ["start", *3 * ["latent"], "end", "raw", "start", "latent", "end", "raw"]
    assert list(prompt.kinds) == kinds
    assert prompt.tokens.tolist() == [5, 6, *5 * [-1], 7, *3 * [-1], 8]
    assert prompt.positions.tolist() == list(range(12))
    assert prompt.embeddings.shape == (1, 12, 32)
    close(prompt.embeddings[0, 3:6], model.encode(first[None])[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(prompt.embeddings[0, 2], model.tags[0])
    assert torch.equal(prompt.embeddings[0, 10], model.tags[1])
    assert torch.equal(prompt.embeddings[0, 7], model.decoder.embedding.weight[7])


def test_latents_from_before_stand_for_their_span():
    model = model_of()
    tokens = text(13)
    held = model.encode_spans([tokens])[0]
    fresh = model.spliced([Raw([1]), Span(tokens), Raw([2])])
    again = model.spliced([Raw([1]), Latents(held), Raw([2])])
    assert torch.equal(fresh.embeddings, again.embeddings)
    assert fresh.kinds == again.kinds


def test_what_cannot_be_spliced_is_refused():
    model = model_of()
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.spliced([])
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.spliced([Raw([])])
    with pytest.raises(ValueError, match="make 2 prompts"):
        model.spliced([Raw(text(3, rows=2))])
    with pytest.raises(ValueError, match=r"pieces with \[2, 3\] rows"):
        model.batch([Raw(text(3, rows=2)), Span(text(3, rows=3))])
    with pytest.raises(ValueError, match="ids from 3 to 64"):
        model.spliced([Raw([3, 64])])
    with pytest.raises(ValueError, match="ids from 3 to 64"):
        model.spliced([Span([3, 64])])
    with pytest.raises(ValueError, match="width 16, the decoder reads 32"):
        model.spliced([Latents(torch.zeros(2, 16))])
    with pytest.raises(ValueError, match="token ids are integers"):
        Raw(torch.zeros(3))
    with pytest.raises(ValueError, match="m >= 1"):
        Latents(torch.zeros(0, 16))
    with pytest.raises(ValueError, match="one bool for each"):
        Raw([1, 2, 3], trained=torch.tensor([True, False]))


# ---------------------------------------------------------------------------------- the loss


def loss_by_hand(model: LatentContextModel, pieces: list) -> Tensor:
    """Mean over the raw tokens that something precedes, one at a time."""
    prompt = model.spliced(pieces)
    log_p = model.decoder(embeddings=prompt.embeddings)[0].log_softmax(-1)
    terms = [
        -log_p[i - 1, prompt.tokens[i]]
        for i in range(1, len(prompt.kinds))
        if prompt.kinds[i] == "raw"
    ]
    return torch.stack(terms).mean()


def test_the_loss_counts_raw_tokens_and_the_one_after_memory_end():
    model = model_of()
    pieces = [Raw([3, 4]), Span(text(9)), Raw([5, 6, 7])]
    batch = model.batch_rows([pieces])
    # position:        0    1    2     3 to 5    6    7, 8, 9
    # it is           raw  raw  start  latents  end  raw
    assert batch.targets.tolist() == [[4, *5 * [-100], 5, 6, 7, -100]]
    assert batch.runs == ((0, 1), (6, 9))
    close(model.loss(batch), loss_by_hand(model, pieces))


def test_rows_of_different_layouts_train_as_each_alone():
    model = model_of()
    rows = [
        [Raw([3, 4]), Span(text(9)), Raw([5, 6, 7])],
        [Span(text(30, seed=1)), Raw([8])],
        [Raw([1, 2, 3]), Span(text(2, seed=2)), Raw([9]), Span(text(8, seed=3)), Raw([9, 9])],
    ]
    trained = [4, 1, 5]  # tokens: the first of the first and the third row have nothing before
    total = sum(n * loss_by_hand(model, row).double() for n, row in zip(trained, rows, strict=True))
    close(model.loss(model.batch_rows(rows)).double(), total / sum(trained), atol=1e-5, rtol=1e-5)


def test_rows_laid_out_alike_train_as_each_alone():
    model = model_of()
    a, b, c = text(2, rows=3), text(9, seed=1, rows=3), text(4, seed=2, rows=3)
    together = model.loss(model.batch([Raw(a), Span(b), Raw(c)]))
    rows = [[Raw(a[i]), Span(b[i]), Raw(c[i])] for i in range(3)]
    close(together, model.loss(model.batch_rows(rows)), atol=1e-5, rtol=1e-5)
    close(together, torch.stack([loss_by_hand(model, row) for row in rows]).mean())


def test_a_piece_says_which_of_its_tokens_are_trained():
    model = model_of()
    span, question, answer = text(9, rows=2), text(4, seed=1, rows=2), text(4, seed=2, rows=2)
    only = model.batch([Span(span), Raw(question, trained=False), Raw(answer)])
    assert only.runs == ((8, 12),)  # 2 tags, 3 latents, 4 tokens: output 8 predicts answer 0
    assert torch.equal(only.targets[:, 8:12], answer)
    some = torch.tensor([True, False, False, True])
    batch = model.batch([Span(span), Raw(question, trained=some)])
    assert batch.targets[0, 4:].tolist() == [
        int(question[0, 0]),
        -100,
        -100,
        int(question[0, 3]),
        -100,
    ]
    first = model.batch([Raw(question, trained=some)])  # token 0 has nothing before it
    assert (first.targets != -100).sum(1).tolist() == [1, 1]


def test_a_loss_over_nothing_is_refused():
    model = model_of()
    with pytest.raises(ValueError, match="no raw token is trained"):
        model.batch_rows([[Span(text(5)), Raw([1], trained=False)]])
    with pytest.raises(ValueError, match="no raw token is trained"):
        model.batch_rows([[Raw([1]), Span(text(5))]])
    with pytest.raises(ValueError, match="there are no rows"):
        model.batch_rows([])


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_part_learns_in_both_precisions(pooling, adapter, dtype):
    if (pooling, adapter) == ("concat", "none"):
        narrow = DecoderConfig(vocab_size=VOCABULARY, d_model=8, d_head=8, d_ff=64)
        model = model_of(pooling=pooling, adapter=adapter, dtype=dtype, encoder=narrow)
    else:
        model = model_of(pooling=pooling, adapter=adapter, dtype=dtype)
    loss = model.loss(model.batch([Span(text(11, rows=2)), Raw(text(5, rows=2))]))
    assert loss.dtype == torch.float32
    loss.backward()
    unused = {"encoder.norm.weight", "encoder.head.weight"}
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert set(without) <= unused
    grown = [weight.grad.abs().sum() > 0 for _, weight in model.named_parameters()]
    assert all(grown)


# ------------------------------------------------------------------------------- construction


def test_the_embedding_is_the_decoders_own():
    model = model_of()
    assert model.encoder.embedding.weight is model.decoder.embedding.weight
    copied = copy.deepcopy(model)
    assert copied.encoder.embedding.weight is copied.decoder.embedding.weight
    apart = model_of(share_embedding=False)
    assert apart.encoder.embedding.weight is not apart.decoder.embedding.weight


def test_given_modules_are_used_as_they_are():
    config = LCLMConfig(encoder=SMALL, decoder=SMALL, ratio=4, window=8, share_embedding=False)
    encoder, decoder = Decoder(SMALL), Decoder(SMALL).requires_grad_(False)
    model = LatentContextModel(config, encoder=encoder, decoder=decoder)
    assert model.encoder is encoder
    assert model.decoder is decoder
    with pytest.raises(ValueError, match="the encoder given has"):
        LatentContextModel(config, encoder=Decoder(DecoderConfig()))
    both = LCLMConfig(encoder=SMALL, decoder=SMALL, mask="bidirectional")
    with pytest.raises(ValueError, match=r"Decoder\(config, BidirectionalAttention\)"):
        LatentContextModel(both, encoder=encoder)
    with pytest.raises(ValueError, match=r"Decoder\(config, DenseAttention\)"):
        LatentContextModel(config, encoder=Decoder(SMALL, BidirectionalAttention))


def test_one_seed_makes_one_model():
    one, same, other = model_of(3), model_of(3), model_of(4)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name]), name
    assert not torch.equal(one.tags, other.tags)


def test_a_notebooks_switches_break_nothing():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            model = model_of()
            latents = model.encode(text(9)[None])
    finally:
        torch.set_default_dtype(torch.float32)
    assert latents.dtype == torch.float32
    assert not any(weight.is_inference() for weight in model.parameters())
    model.loss(model.batch_rows([[Span(text(9)), Raw([1])]])).backward()


def test_what_is_made_follows_the_decoder_that_is_given():
    config = LCLMConfig(encoder=SMALL, decoder=SMALL, ratio=4, window=8)
    model = LatentContextModel(config, decoder=Decoder(SMALL, dtype=torch.bfloat16))
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    with torch.device("meta"):
        decoder = Decoder(SMALL)
    model = LatentContextModel(config, decoder=decoder)
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


# ---------------------------------------------------------------------------------- on a GPU


@pytest.mark.parametrize(("pooling", "mask"), KINDS)
def test_training_on_rows_laid_out_alike_never_waits_for_a_value(pooling, mask):
    """On the meta device no tensor has a value: whoever asks for one fails."""
    with torch.device("meta"):
        model = LatentContextModel(
            LCLMConfig(encoder=SMALL, decoder=SMALL, ratio=4, window=8, pooling=pooling, mask=mask)
        )
        span, rest = torch.zeros(3, 21).long(), torch.zeros(3, 5).long()
    loss = model.loss(model.batch([Span(span), Raw(rest, trained=False), Raw(rest)]))
    loss.backward()
    assert model.tags.grad is not None
    with pytest.raises(RuntimeError):
        float(loss.detach())


@pytest.mark.gpu
@pytest.mark.parametrize(("pooling", "mask"), KINDS)
def test_a_gpu_computes_the_same_without_waiting(pooling, mask):
    model = model_of(pooling=pooling, mask=mask)
    span, rest = text(21, rows=3), text(5, rows=3)
    want = model.loss(model.batch([Span(span), Raw(rest)]))
    model, span, rest = model.cuda(), span.cuda(), rest.cuda()
    model.loss(model.batch([Span(span), Raw(rest)]))  # first use sets things up
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = model.loss(model.batch([Span(span), Raw(rest)]))
    finally:
        torch.cuda.set_sync_debug_mode(before)
    close(got.cpu(), want, atol=1e-3, rtol=1e-3)
