"""A dense decoder made sparse: nothing of it changes, its index learns, caches stay in step."""

import dataclasses

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig, Probe, generate
from intuitive.common.runtime import Cancelled
from intuitive.msa import index as index_room
from intuitive.msa.alignment import layer_kl
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.index import TrainedIndex, load_index, save_index
from intuitive.msa.index_training import (
    IndexTrainingConfig,
    align_indices,
    pieces_of,
    train_indices,
)
from intuitive.msa.quality import blocks_read, selection_quality, token_losses
from intuitive.msa.reference import SELECTORS, dense_attention

MSA = MSAConfig(block_size=4, n_selected=3)  # 12 tokens read at most
TRAINING = IndexTrainingConfig(
    msa=MSA, context=64, n_warmup=140, n_sparse=12, n_ramp=4, n_queries=32, learning_rate=2e-2
)
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def make_decoder(seed=0, **sizes):
    """A small decoder whose attention is sharp enough to be worth imitating."""
    torch.manual_seed(seed)
    decoder = Decoder(DecoderConfig(max_positions=128, **sizes)).eval().requires_grad_(False)
    for layer in decoder.layers:
        layer.attention.w_q.weight *= 25
        layer.attention.w_k.weight *= 25
        layer.attention.w_o.weight *= 10
    return decoder


def draw_tokens(*shape, seed=1):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def decoder():
    return make_decoder()


@pytest.fixture(scope="module")
def training(decoder):
    return train_indices(decoder, [draw_tokens(500, seed=3)], TRAINING)[0]


# ----------------------------------------------------------------------------- conversion


def test_the_dense_decoder_stays_as_it_is_and_its_weights_are_shared(decoder, training):
    tokens = draw_tokens(1, 40)
    before = decoder(tokens)
    converted = convert(decoder, MSA, training.index)
    assert torch.equal(decoder(tokens), before)
    assert (converted(tokens) - before)[:, 12:].abs().max() > 1e-3
    ours = dict(decoder.named_parameters())
    for name, weight in converted.named_parameters():
        assert weight is ours[name] if name in ours else ".index_" in name, name
    assert converted.head.weight is converted.embedding.weight


@pytest.mark.parametrize("index", [None, "trained", *SELECTORS])
def test_a_budget_for_everything_gives_the_dense_model(decoder, training, index):
    index = training.index if index == "trained" else index
    everything = dataclasses.replace(MSA, n_selected=10)
    tokens = draw_tokens(2, 40)
    converted = convert(decoder, everything, index)
    torch.testing.assert_close(converted(tokens), decoder(tokens), **CLOSE)


def test_switched_off_it_reads_densely(decoder, training):
    tokens = draw_tokens(1, 40)
    converted = convert(decoder, MSA, training.index, sparse=False)
    torch.testing.assert_close(converted(tokens), decoder(tokens), **CLOSE)


def test_only_the_named_layers_are_converted(decoder, training):
    converted = convert(decoder, MSA, training.index, layers=[1])
    kinds = [type(layer.attention).__name__ for layer in converted.layers]
    assert kinds == ["DenseAttention", "MSAAttention"]
    loaded = converted.state_dict()
    for name, weight in training.index.weights.items():
        if name.startswith("layers.1."):
            assert torch.equal(loaded[name], weight), name
        else:
            assert name not in loaded


@pytest.mark.parametrize("index", ["trained", *SELECTORS])
def test_cached_decoding_equals_prefill_row_by_row(decoder, training, index):
    tokens = draw_tokens(2, 31)
    converted = convert(decoder, MSA, training.index if index == "trained" else index)
    want = converted(tokens)
    cache = converted.make_cache(2, 31)
    got = [converted(tokens[:, :9], cache=cache)]
    got += [converted(tokens[:, i : i + 1], cache=cache) for i in range(9, 31)]
    torch.testing.assert_close(torch.cat(got, 1), want, **CLOSE)


@pytest.mark.parametrize("index", ["trained", "main_max"])
def test_generation_under_autocast_reads_its_float32_cache(decoder, training, index):
    """With a budget for everything, as the dense decoder under the same autocast writes."""
    trained = training.index if index == "trained" else index
    sparse = convert(decoder, dataclasses.replace(MSA, n_selected=32), trained)
    tokens = draw_tokens(1, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        along, dense = sparse(tokens), decoder(tokens)
        cache = sparse.make_cache(1, 30)
        steps = torch.cat([sparse(part, cache=cache) for part in tokens.split(7, 1)], 1)
        assert generate(sparse, tokens, max_new_tokens=4).shape == (1, 4)
    spread = float(dense.float().std())
    for written in (along, steps):
        assert (written - dense).float().abs().mean() < 0.05 * spread


def test_generation_equals_generation_without_a_cache(decoder, training):
    converted = convert(decoder, MSA, training.index)
    prompt = draw_tokens(1, 20)
    got = generate(converted, prompt, max_new_tokens=8)
    tokens = prompt
    for _ in range(8):
        tokens = torch.cat([tokens, converted(tokens)[:, -1:].argmax(-1)], 1)
    assert torch.equal(got, tokens[:, 20:])


@pytest.mark.gpu
@pytest.mark.parametrize("index", ["trained", *SELECTORS])
def test_cpu_and_gpu_run_the_same_generation(index):
    """Oracles on the CPU, Triton on the GPU: one greedy continuation, logits within 1e-3."""
    sizes = {"d_model": 96, "n_q_heads": 9, "n_kv_heads": 3, "d_head": 64}
    msa = MSAConfig(n_q_heads=9, n_kv_heads=3, d_head=64, d_index=64, block_size=16, n_selected=3)
    decoder = make_decoder(**sizes)
    prompt = draw_tokens(1, 90)
    outputs = []
    for device in ("cpu", "cuda"):
        here = make_decoder(**sizes).to(device)
        if index == "trained":
            untrained = convert(decoder, msa, None, generator=torch.Generator().manual_seed(5))
            converted = convert(here, msa, TrainedIndex.of(untrained, {}))
        else:
            converted = convert(here, msa, index)
        logits = converted(prompt.to(device)).cpu()
        outputs.append((logits, generate(converted, prompt.to(device), max_new_tokens=12).cpu()))
    torch.testing.assert_close(outputs[0][0], outputs[1][0], atol=1e-3, rtol=1e-3)
    assert torch.equal(outputs[0][1], outputs[1][1])


# ------------------------------------------------------------------------------- training


def test_the_kl_falls_and_the_index_beats_an_untrained_one(decoder, training):
    assert len(training.kl) == 152
    mean = [sum(step) / len(step) for step in training.kl]
    assert sum(mean[130:140]) < 0.8 * sum(mean[:10])
    untrained = TrainedIndex.of(
        convert(decoder, MSA, None, generator=torch.Generator().manual_seed(9)), {}
    )
    quality = selection_quality(
        decoder,
        draw_tokens(64, seed=8),  # held out
        {"trained": training.index, "untrained": untrained},
        msa=MSA,
        budgets=(3,),
    )
    mass = {name: by_layer.mean() for (name, _), by_layer in quality.mass_captured.items()}
    assert mass["trained"] > mass["untrained"] + 0.05


def test_training_repeats_and_depends_on_the_seed(decoder):
    short = dataclasses.replace(TRAINING, n_warmup=3, n_sparse=2)
    texts = [draw_tokens(200, seed=3)]
    first, other = train_indices(decoder, texts, short, seeds=(0, 1))
    (again,) = train_indices(decoder, texts, short, seeds=(1,))
    assert again.kl == other.kl  # seeds trained together do not touch each other
    assert first.kl[0] != other.kl[0]
    assert first.layers == (0, 1)


def test_nothing_but_index_branches_is_trained(decoder):
    before = {name: weight.clone() for name, weight in decoder.named_parameters()}
    student = convert(decoder, MSA, None)
    for name, weight in student.named_parameters():
        weight.requires_grad_(".index_" in name)
    draw = torch.Generator().manual_seed(0)
    align_indices(student, [student], draw_tokens(48), [draw], layers=(0, 1), n_queries=16)
    for name, weight in student.named_parameters():
        assert (weight.grad is not None) == (".index_" in name), name
    for name, weight in decoder.named_parameters():
        assert torch.equal(weight, before[name]), name


def see(decoder, tokens, layer):
    seen = []
    decoder.hidden(tokens[None], probe=Probe((layer,), seen.append))
    return seen[0]


@pytest.mark.parametrize("sparse", [False, True])
def test_stretches_of_queries_average_to_the_whole(decoder, sparse):
    """Their mean KL is the KL over all queries (Eq. 10), and so are the gradients."""
    student = convert(decoder, MSA, None, sparse=sparse, generator=torch.Generator().manual_seed(2))
    attention = student.layers[1].attention
    weight = attention.index_w_k.weight.requires_grad_()
    seen = see(student, draw_tokens(48), 1)
    results = []
    for size in (48, 8):
        stretches = [slice(start, start + size) for start in range(0, 48, size)]
        loss = torch.stack([layer_kl(attention, seen, stretch) for stretch in stretches]).mean()
        results.append((loss.detach(), *torch.autograd.grad(loss, weight)))
    torch.testing.assert_close(results[0], results[1])


def test_the_sparse_kl_covers_the_selected_tokens_alone(decoder):
    """Local blocks only: each block is a text of its own. All blocks: the KL of warm-up."""
    student = convert(decoder, MSA, None, generator=torch.Generator().manual_seed(2))
    attention = student.layers[0].attention
    seen = see(student, draw_tokens(48), 0)
    attention.msa = dataclasses.replace(MSA, n_selected=1)
    by_block = []
    for start in range(0, 48, 4):
        part = {
            name: getattr(seen, name)[:, start : start + 4] for name in ("hidden", "q", "k", "v")
        }
        by_block.append(layer_kl(attention, dataclasses.replace(seen, **part), slice(0, 4)))
    local = layer_kl(attention, seen, slice(0, 48))
    torch.testing.assert_close(local, torch.stack(by_block).mean())  # RoPE sees distances only
    attention.msa = dataclasses.replace(MSA, n_selected=12)
    everything = layer_kl(attention, seen, slice(0, 48))
    attention.sparse = False
    torch.testing.assert_close(everything, layer_kl(attention, seen, slice(0, 48)))
    assert (everything - local).abs() > 0.01


def test_an_index_equal_to_the_main_head_has_no_kl(monkeypatch):
    """With one head, main queries and keys in the place of index ones leave nothing to learn."""
    decoder = make_decoder(n_q_heads=1, n_kv_heads=1)
    msa = dataclasses.replace(MSA, n_q_heads=1, n_kv_heads=1)
    attention = convert(decoder, msa, None, sparse=False).layers[1].attention
    seen = see(decoder, draw_tokens(30), 1)
    assert layer_kl(attention, seen, slice(5, 30)) > 0.1
    monkeypatch.setattr(attention, "index", lambda *_: (seen.q, seen.k[:, :, 0]))
    assert layer_kl(attention, seen, slice(5, 30)).abs() < 1e-5


def test_stale_training_stops(decoder):
    steps = []
    with pytest.raises(Cancelled):
        train_indices(
            decoder,
            [draw_tokens(200)],
            TRAINING,
            stale=lambda: len(steps) == 2,
            progress=lambda step, kl: steps.append(step),
        )
    assert steps == [1, 2]


def test_the_rate_rises_and_then_falls_to_nothing():
    rates = [TRAINING.rate(step) for step in range(TRAINING.n_steps)]
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] < 0.01 * max(rates)


def test_pieces_never_cross_documents_and_lose_only_short_rests():
    pieces = pieces_of([range(10), range(100, 107)], 4, shortest=3)
    assert [part.tolist() for part in pieces] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [100, 101, 102, 103],
        [104, 105, 106],
    ]


# ------------------------------------------------------------------------------- measures


def test_token_losses_are_the_cross_entropies_of_the_next_tokens(decoder):
    tokens = draw_tokens(37)
    logits = decoder(tokens[None])[0, :-1]
    want = -logits.log_softmax(-1).gather(-1, tokens[1:, None])[:, 0]
    for chunk in (5, 36, 100):
        torch.testing.assert_close(token_losses(decoder, tokens, chunk=chunk), want, **CLOSE)


def test_the_oracle_is_best_and_more_blocks_capture_more(decoder, training):
    quality = selection_quality(
        decoder, draw_tokens(64, seed=8), {"index": training.index}, msa=MSA, budgets=(2, 4, 8)
    )
    names = {name for name, _ in quality.mass_captured}
    assert names == {"index", *SELECTORS}
    for budget in (2, 4, 8):
        torch.testing.assert_close(quality.block_recall["oracle", budget], torch.ones(2))
        for name in names:
            ours, best = (quality.mass_captured[n, budget] for n in (name, "oracle"))
            assert (ours <= best + 1e-6).all(), (name, budget)
    torch.testing.assert_close(quality.group_overlap["window_sink", 4], torch.ones(2))


def test_blocks_read_are_the_share_of_all_choices(decoder, training):
    """The last 8 of 64 tokens, blocks of 4: of layers and groups alike."""
    tokens = draw_tokens(64, seed=8)
    about = {"msa": MSA, "budgets": (2, 4), "queries": 8}
    found = blocks_read(decoder, tokens, {"index": training.index}, **about)
    assert set(found) == {(name, k) for name in ("index", *SELECTORS) for k in (2, 4)}
    for (_, k), shares in found.items():
        assert len(shares) == 16 and shares.sum() == pytest.approx(k)
        assert shares[15] == pytest.approx(0.5)  # the local block of the last four
    window = torch.zeros(16)
    window[0], window[12], window[13:15], window[15] = 1.0, 0.5, 1.0, 0.5
    torch.testing.assert_close(found["window_sink", 4], window)
    parts = [
        blocks_read(decoder, tokens, {"index": training.index}, layers=[layer], **about)
        for layer in (0, 1)
    ]
    for key, shares in found.items():
        torch.testing.assert_close(sum(part[key] for part in parts) / 2, shares)
    with pytest.raises(ValueError, match="queries=65 must lie from 1 to 64"):
        blocks_read(decoder, tokens, {}, msa=MSA, budgets=(2,), queries=65)


def test_quality_of_some_layers_equals_their_part_of_all(decoder, training):
    tokens = draw_tokens(64, seed=8)
    indices = {"index": training.index}
    every, one = (
        selection_quality(decoder, tokens, indices, msa=MSA, budgets=(3,), layers=layers)
        for layers in (None, [1])
    )
    for key, mass in one.mass_captured.items():
        torch.testing.assert_close(mass, every.mass_captured[key][1:])


def test_a_sparse_layer_attends_as_its_selection_says(decoder):
    """The oracle selector keeps most attention: its output is nearer to dense than the window's."""
    seen = see(decoder, draw_tokens(64), 1)
    dense = dense_attention(seen.q, seen.k, seen.v)
    apart = {}
    for name in ("oracle", "window_sink"):
        attention = convert(decoder, MSA, name).layers[1].attention
        apart[name] = (attention.attend(seen.q, seen.k, seen.v) - dense).norm()
    assert apart["oracle"] < apart["window_sink"]


# ---------------------------------------------------------------------------------- files


def test_an_index_returns_from_its_file_in_half_precision(training, tmp_path):
    made = dataclasses.replace(training.index, made={"command": "this test"})
    found = load_index(save_index(tmp_path / "index.safetensors", made))
    assert found.made == {"command": "this test"}
    assert found.layers == (0, 1)
    assert found.d_index == 16
    assert found.weights.keys() == made.weights.keys()
    for name, weight in found.weights.items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, made.weights[name].half().float())


def test_without_the_shipped_file_there_is_no_index(monkeypatch, tmp_path):
    monkeypatch.setattr(index_room, "WEIGHTS", tmp_path / "absent.safetensors")
    index_room.shipped_index.cache_clear()
    assert index_room.shipped_index() is None
    index_room.shipped_index.cache_clear()
    with pytest.raises(
        FileNotFoundError, match=r"has no trained index \(absent\.safetensors\): make"
    ):
        load_index()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": "guess"}, "selector='guess' is unknown; choose one of oracle"),
        ({"layers": [0, 2]}, r"no Index Branch for layers \[2\]; it has \[0, 1\]"),
        ({"index": None, "layers": [5]}, r"layers=\[5\] must lie in \[0, 2\)"),
        ({"msa": MSAConfig(d_index=8)}, "the index has d_index=16 and 2 query heads"),
    ],
)
def test_conversion_messages(decoder, training, change, message):
    arguments = {"msa": MSA, "index": training.index} | change
    with pytest.raises(ValueError, match=message):
        convert(decoder, arguments.pop("msa"), arguments.pop("index"), **arguments)


def test_a_sparse_decoder_is_not_converted_again(decoder, training):
    with pytest.raises(ValueError, match="layer 0 has MSAAttention: convert the dense decoder"):
        convert(convert(decoder, MSA, training.index), MSA, "oracle")


def test_other_messages(decoder, tmp_path):
    with pytest.raises(ValueError, match="none of 1 documents has 24 tokens"):
        train_indices(decoder, [range(20)], TRAINING)
    with pytest.raises(ValueError, match="12 tokens fit into 3 blocks of 4"):
        selection_quality(decoder, draw_tokens(12), {}, msa=MSA, budgets=(3,))
    with pytest.raises(ValueError, match="n_warmup=0 must be at least 1"):
        IndexTrainingConfig(n_warmup=0)
    with pytest.raises(ValueError, match=r"learning_rate=2\.0 must lie between 0 and 1"):
        IndexTrainingConfig(learning_rate=2.0)
    with pytest.raises(ValueError, match="no part of an Index Branch"):
        load_index(save_index(tmp_path / "w.safetensors", TrainedIndex(decoder.state_dict(), {})))
