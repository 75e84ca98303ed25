"""Encoding ahead, prefill, decoding, and latents on disk."""

import pytest
import torch
from latent_models import SMALL, model_of, text

from intuitive.common.decoder import TensorCache, generate
from intuitive.common.runtime import Cancelled
from intuitive.common.weights import save_weights
from intuitive.lclm import Latents, Raw, Span
from intuitive.lclm.config import MASKS, POOLINGS
from intuitive.lclm.inference import (
    answer,
    decode,
    encode_ahead,
    load_latents,
    prefill,
    save_latents,
)

close = torch.testing.assert_close


def pieces_of(n: int = 30) -> list:
    return [Raw([1, 2]), Span(text(n)), Raw([3, 4, 5])]


def test_prefill_makes_the_logits_of_the_last_position_only():
    model, seen = model_of(), []
    model.decoder.head.register_forward_hook(lambda *call: seen.append(call[2].shape[1]))
    read = prefill(model, pieces_of())
    assert seen == [1]
    full = model.decoder(embeddings=model.spliced(pieces_of()).embeddings)
    close(read.logits, full[0, -1], atol=1e-5, rtol=1e-5)
    assert not read.logits.requires_grad


def test_the_cache_is_an_ordinary_one_with_a_position_per_latent_and_tag():
    model = model_of()
    read = prefill(model, pieces_of(30), room=5)
    n = 2 + (8 + 2) + 3  # 30 tokens at ratio 4, two tags
    assert read.n_positions == read.cache.length == n
    assert read.cache.capacity == n + 5
    assert all(type(layer) is TensorCache for layer in read.cache.layers)
    per_token = 2 * SMALL.n_layers * SMALL.n_kv_heads * SMALL.d_head * 4  # bytes
    assert sum(read.cache.nbytes().values()) == n * per_token


def test_decoding_from_the_cache_is_generating_from_the_prompt():
    model = model_of()
    read = prefill(model, pieces_of(), room=12)
    want = generate(model.decoder, model.spliced(pieces_of()).embeddings, max_new_tokens=12)[0]
    seen = []
    for _ in range(2):  # the cache is left as it was
        got = decode(model, read, max_new_tokens=12, on_token=seen.append)
        assert torch.equal(got, want)
        assert read.cache.length == read.n_positions
    assert seen == 2 * want.tolist()
    stop = int(want[4])
    got = decode(model, read, max_new_tokens=12, stop_tokens=[stop])
    assert got.tolist() == want.tolist()[: want.tolist().index(stop) + 1]


def test_latents_are_encoded_once_and_read_for_every_question():
    model, document = model_of(), text(40)
    (held,) = encode_ahead(model, [document])
    context = prefill(model, [held], room=20)
    runs = []
    model.encoder.norm.register_forward_hook(lambda *call: runs.append(1))
    for question in ([7, 8], [9], [7, 8]):
        got = answer(model, context, [Raw(question)], max_new_tokens=6)
        assert context.cache.length == context.n_positions == 12
        assert runs == []
        prompt = model.spliced([Span(document), Raw(question)]).embeddings
        assert torch.equal(got, generate(model.decoder, prompt, max_new_tokens=6)[0])
        runs.clear()


def test_a_prompt_may_be_read_in_parts():
    model = model_of()
    whole = prefill(model, pieces_of())
    first = prefill(model, pieces_of()[:2])
    both = prefill(model, pieces_of()[2:], after=first)
    assert both.n_positions == whole.n_positions
    close(both.logits, whole.logits, atol=1e-5, rtol=1e-5)


def test_too_little_room_is_said_before_anything_is_read():
    model = model_of()
    read = prefill(model, pieces_of(), room=2)
    assert len(decode(model, read, max_new_tokens=3)) == 3  # the last is never read
    with pytest.raises(ValueError, match="15 positions and 4 new tokens exceed the 17 that fit"):
        decode(model, read, max_new_tokens=4)
    with pytest.raises(ValueError, match="exceed the cache's capacity"):
        answer(model, read, [Raw([1, 2, 3])], max_new_tokens=1)
    assert read.cache.length == read.n_positions
    with pytest.raises(ValueError, match="longer than max_positions=2048"):
        prefill(model, [Raw(text(2049))])
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        decode(model, read, max_new_tokens=0)


def test_encoding_reports_its_progress_and_stops_when_nobody_waits():
    model, spans, seen = model_of(), [text(30), text(9)], []
    encode_ahead(model, spans, batch_size=4, on_pass=lambda *call: seen.append(call))
    assert seen == [(4, 6), (6, 6)]
    with pytest.raises(Cancelled):
        encode_ahead(model, spans, batch_size=4, stale=lambda: len(seen) == 2)
    with pytest.raises(Cancelled):
        decode(model, prefill(model, pieces_of()), max_new_tokens=3, stale=lambda: True)


def test_encoding_ahead_keeps_no_gradients():
    (held,) = encode_ahead(model_of(), [text(9)])
    assert not held.values.requires_grad


# ------------------------------------------------------------------------------- latents on disk


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("mask", MASKS)
def test_a_saved_latent_equals_a_fresh_one(tmp_path, pooling, mask, dtype):
    model = model_of(pooling=pooling, mask=mask, dtype=dtype)
    spans = [text(21), text(3)]
    fresh = encode_ahead(model, spans)
    path = save_latents(tmp_path / "a.safetensors", fresh, model, made={"text": "random"})
    again = load_latents(path, model)
    for one, other in zip(again, fresh, strict=True):
        assert torch.equal(one.values, other.values)
    prompts = [model.spliced([Raw([1]), *them, Raw([2])]).embeddings for them in (again, fresh)]
    assert torch.equal(*prompts)


def test_saved_latents_keep_their_order(tmp_path):
    model = model_of()
    fresh = encode_ahead(model, [text(4 * n, seed=n) for n in range(1, 13)])
    again = load_latents(save_latents(tmp_path / "a.safetensors", fresh, model), model)
    for one, other in zip(again, fresh, strict=True):
        assert torch.equal(one.values, other.values)


def test_latents_of_another_config_ratio_or_training_are_refused(tmp_path):
    model = model_of()
    path = save_latents(tmp_path / "a.safetensors", encode_ahead(model, [text(9)]), model)
    with pytest.raises(ValueError, match="mask='causal' there and 'bidirectional' here"):
        load_latents(path, model_of(mask="bidirectional"))
    with pytest.raises(ValueError, match="another config: ratio=4 there and 2 here"):
        load_latents(path, model, ratio=2)
    with pytest.raises(ValueError, match="latents of other weights"):
        load_latents(path, model_of(seed=1))
    with torch.no_grad():  # one weight of the encoder, a little
        model.encoder.layers[0].mlp.w_up.weight += 0.05
    with pytest.raises(ValueError, match="latents of other weights"):
        load_latents(path, model)


def test_what_holds_no_latents_is_refused(tmp_path):
    model = model_of()
    other = save_weights(tmp_path / "w.safetensors", {"w": torch.ones(2)}, {})
    with pytest.raises(ValueError, match="holds no latents"):
        load_latents(other, model)
    with pytest.raises(FileNotFoundError):
        load_latents(tmp_path / "none.safetensors", model)
    with pytest.raises(ValueError, match="no latents to save"):
        save_latents(tmp_path / "a.safetensors", [], model)
    with pytest.raises(ValueError, match="must end in"):
        save_latents(tmp_path / "a.bin", [Latents(torch.zeros(1, 32))], model)


def test_latents_may_be_saved_at_a_ratio_of_their_own(tmp_path):
    model = model_of(ratios=(2,))
    fresh = encode_ahead(model, [text(9)], ratio=2)
    path = save_latents(tmp_path / "a.safetensors", fresh, model, ratio=2)
    assert len(load_latents(path, model, ratio=2)[0].values) == 5
    with pytest.raises(ValueError, match="ratio=2 there and 4 here"):
        load_latents(path, model)


def test_a_notebook_in_inference_mode_reads_and_answers(tmp_path):
    model = model_of()
    with torch.inference_mode():
        held = encode_ahead(model, [text(9)])
        context = prefill(model, held, room=8)
        path = save_latents(tmp_path / "a.safetensors", held, model)
    again = load_latents(path, model)
    one = answer(model, context, [Raw([3])], max_new_tokens=4)
    context = prefill(model, again, room=8)
    assert torch.equal(one, answer(model, context, [Raw([3])], max_new_tokens=4))
    with torch.enable_grad():
        decode(model, prefill(model, held, room=8), max_new_tokens=4)
