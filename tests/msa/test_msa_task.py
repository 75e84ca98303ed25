"""Associative recall: sequences with one right answer, equal arms, gradients checked by name."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from intuitive.common.decoder import Probe
from intuitive.msa.alignment import layer_kl
from intuitive.msa.config import MSAConfig
from intuitive.msa.task import (
    ARMS,
    RecallConfig,
    RecallModel,
    backward,
    draw_sequences,
    recall_loss,
    training_losses,
)

SMALL = RecallConfig(
    n_tokens=32, n_keys=48, n_values=8, batch_size=4, msa=MSAConfig(block_size=4, n_selected=3)
)


def draw(config=SMALL, count=16, seed=0):
    return draw_sequences(config, count, torch.Generator().manual_seed(seed))


def gradients(model, losses):
    """Greatest absolute gradient of every parameter that received one, by name."""
    model.zero_grad()
    losses.backward()
    return {n: p.grad.abs().max().item() for n, p in model.named_parameters() if p.grad is not None}


def is_index(name):
    return ".index_" in name


# ------------------------------------------------------------------------------------- data


def test_every_query_asks_for_an_earlier_pair_and_its_value():
    drawn = draw(count=64)
    assert not drawn.is_query[:, 0].any()
    for b, i in drawn.is_query.nonzero().tolist():
        at = drawn.needles[b, i].item()
        assert 0 <= at < i
        assert not drawn.is_query[b, at]
        assert drawn.keys[b, at] == drawn.keys[b, i]
        assert drawn.values[b, at] == drawn.answers[b, i]
    assert (drawn.needles[~drawn.is_query] == -1).all()
    assert (drawn.answers[~drawn.is_query] == -1).all()


def test_keys_of_a_sequence_differ_so_that_an_answer_is_unique():
    drawn = draw(count=64)
    for keys, is_query in zip(drawn.keys, drawn.is_query, strict=True):
        pairs = keys[~is_query].tolist()
        assert len(set(pairs)) == len(pairs)


def test_a_quarter_of_the_tokens_ask_and_they_ask_uniformly():
    """Seed 0, 2,000 sequences: shares within five standard errors."""
    drawn = draw(count=2000)
    asked = drawn.is_query[:, 1:].float()
    assert asked.mean().item() == pytest.approx(0.25, abs=5 * 0.433 / asked.numel() ** 0.5)
    # The rank of the pair asked for, as a share of the pairs so far, is uniform on average.
    pairs = (~drawn.is_query).cumsum(-1)
    rank = pairs.gather(-1, drawn.needles.clamp(min=0)) - 1
    share = ((rank + 0.5) / pairs)[drawn.is_query]
    assert share.mean().item() == pytest.approx(0.5, abs=5 * 0.289 / len(share) ** 0.5)
    assert drawn.answers[drawn.is_query].unique().tolist() == list(range(8))


# --------------------------------------------------------------------------------- the arms


def test_all_arms_start_from_the_same_weights():
    models = [RecallModel(dataclasses.replace(SMALL, arm=arm), seed=3) for arm in ARMS]
    first = models[0].state_dict()
    for model in models[1:]:
        state = model.state_dict()
        assert state.keys() == first.keys()
        assert all(torch.equal(state[name], first[name]) for name in first)
    other = RecallModel(SMALL, seed=4).state_dict()
    assert not torch.equal(
        other["decoder.layers.0.attention.w_q.weight"],
        first["decoder.layers.0.attention.w_q.weight"],
    )


def test_making_a_model_leaves_torchs_generator_alone():
    torch.manual_seed(0)
    want = torch.rand(3)
    torch.manual_seed(0)
    RecallModel(SMALL, seed=3)
    assert torch.equal(torch.rand(3), want)


@pytest.mark.parametrize("arm", ARMS)
def test_warm_up_alone_changes_what_is_read(arm):
    config = dataclasses.replace(SMALL, arm=arm, n_steps=10, warmup_steps=4)
    reads_all = [config.reads_all(step) for step in range(10)]
    warm = {"dense": 10, "msa_warmup": 4}.get(arm, 0)
    assert reads_all == [step < warm for step in range(10)]


def test_window_reads_the_first_block_and_the_latest():
    model = RecallModel(dataclasses.replace(SMALL, arm="window"), seed=0)
    q_idx, k_idx = torch.randn(2, 32, 2, 16), torch.randn(2, 32, 16)
    got = model.attention.select(q_idx, k_idx)
    assert got.shape == (2, 32, 2, 3)
    for i in (0, 5, 8, 15, 31):
        local = i // 4
        want = sorted({0, max(local - 1, 0), local})
        assert (got[:, i] == torch.tensor(want + [-1] * (3 - len(want)))).all()


def test_window_cannot_use_what_lies_outside_it():
    """A value changed outside the first block and the last two changes no logits."""
    model = RecallModel(dataclasses.replace(SMALL, arm="window"), seed=0)
    drawn = draw(count=1)
    changed = dataclasses.replace(drawn, values=drawn.values.clone())
    at = next(i for i in range(4, 20) if not drawn.is_query[0, i])
    changed.values[0, at] = (drawn.values[0, at] + 1) % 8
    moved = (model(changed) - model(drawn)).abs().amax(-1)[0]
    assert moved[at] > 1e-5
    assert moved[:at].max() == 0
    assert moved[at // 4 * 4 + 8 :].max() < 1e-6


# -------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("sparse", [False, True], ids=["warm-up", "sparse"])
def test_each_loss_trains_parameters_of_its_own(sparse):
    model = RecallModel(SMALL, seed=0)
    model.attention.sparse = sparse
    losses = training_losses(model, draw())
    by_loss = gradients(model, losses["loss"])
    by_kl = gradients(model, losses["kl"])
    main = {name for name, _ in model.named_parameters() if not is_index(name)}
    index = {name for name, _ in model.named_parameters() if is_index(name)}
    assert len(index) == 4
    assert set(by_loss) == main
    assert set(by_kl) == index
    assert min(by_loss.values()) > 0
    assert min(by_kl.values()) > 0


def test_without_detach_the_kl_reaches_the_stream():
    model = RecallModel(dataclasses.replace(SMALL, detach=False), seed=0)
    model.attention.sparse = False
    received = gradients(model, training_losses(model, draw())["kl"])
    for name in ("embedding.weight", "layers.0.attention.w_q.weight", "attention_norm.weight"):
        assert any(key.endswith(name) and value > 0 for key, value in received.items()), name
    values = [name for name in received if name.endswith(("w_v.weight", "w_o.weight"))]
    assert values == []  # they come after the probabilities


def test_detach_changes_gradients_and_no_values():
    with_detach = RecallModel(SMALL, seed=0)
    without = RecallModel(dataclasses.replace(SMALL, detach=False), seed=0)
    drawn = draw()
    for name, value in training_losses(with_detach, drawn).items():
        torch.testing.assert_close(training_losses(without, drawn)[name], value)


def test_gradient_without_detach_is_that_of_the_loss():
    """Against central differences in float64, through the norm before the attention."""
    model = RecallModel(dataclasses.replace(SMALL, detach=False), seed=0).double()
    model.attention.sparse = False
    weight = model.decoder.layers[0].attention_norm.weight
    drawn = draw(count=2)
    training_losses(model, drawn)["kl"].backward()

    def kl_at(shift):
        with torch.no_grad():
            weight[0] += shift
            value = training_losses(model, drawn)["kl"].item()
            weight[0] -= shift
        return value

    slope = (kl_at(1e-5) - kl_at(-1e-5)) / 2e-5
    assert weight.grad[0].item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("sparse", [False, True], ids=["warm-up", "sparse"])
def test_sparse_kl_corrects_selected_tokens_only_and_warm_up_all(sparse, monkeypatch):
    """Of the last query: its index keys in unselected blocks receive no gradient at all."""
    model = RecallModel(SMALL, seed=0)
    seen = []
    model(draw(count=1), probe=Probe((0,), seen.append))
    attention, (saw,) = model.attention, seen
    q_idx, k_idx = attention.index(saw.hidden, torch.arange(32)[None])
    q_idx, k_idx = q_idx.detach(), k_idx.detach().requires_grad_()
    monkeypatch.setattr(attention, "index", lambda *_: (q_idx, k_idx))
    attention.sparse = sparse
    layer_kl(attention, saw, slice(31, 32)).backward()
    corrected = k_idx.grad[0].abs().amax(-1) > 0
    selected = set(attention.select(q_idx[:, -1:], k_idx).unique().tolist())
    assert len(selected) < 8
    assert corrected.tolist() == [not sparse or i // 4 in selected for i in range(32)]


def test_loss_counts_queries_alone():
    drawn = draw(count=3)
    logits = torch.randn(3, 32, 8, generator=torch.Generator().manual_seed(1))
    want = [
        F.cross_entropy(logits[b, i], drawn.answers[b, i])
        for b, i in drawn.is_query.nonzero().tolist()
    ]
    torch.testing.assert_close(recall_loss(logits, drawn), torch.stack(want).mean())


def test_weight_of_the_kl_scales_its_gradient_and_not_its_value():
    drawn, found, grads = draw(), [], []
    for weight in (1.0, 5.0):
        model = RecallModel(SMALL, seed=0)
        found.append(backward(training_losses(model, drawn), weight))
        grads.append(model.attention.index_w_q.weight.grad)
    assert found[0] == found[1]
    torch.testing.assert_close(grads[1], 5 * grads[0])


def test_an_arm_without_kl_leaves_the_index_as_it_was():
    model = RecallModel(dataclasses.replace(SMALL, arm="msa_untrained"), seed=0)
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    backward(training_losses(model, draw()), 1.0)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == is_index(name), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arm": "sparse"}, "arm='sparse' is unknown; choose one of dense"),
        ({"n_tokens": 300}, "n_tokens=300 must be at least 2 and at most n_keys=256"),
        ({"query_share": 1.0}, "query_share=1.0 must lie between 0 and 1"),
        ({"warmup_steps": 301}, r"warmup_steps=301 must lie in \[0, n_steps=300\]"),
        ({"kl_weight": 0.0}, "kl_weight=0.0 must be above 0; arm='msa_untrained'"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RecallConfig(**settings)
