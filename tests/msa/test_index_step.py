"""The fast training step does what the plain one does: layer by layer, gradient by gradient."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig, Probe
from intuitive.common.low_rank import LowRankLinear
from intuitive.common.runtime import seeded
from intuitive.msa import start
from intuitive.msa.alignment import layer_kl
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.index import TrainedIndex, stored
from intuitive.msa.quality import token_losses

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import msa_index_kernel
from msa_index_step import Student, align, chosen_blocks, read
from msa_index_training import Adaptation, Schedule

MSA = MSAConfig(
    n_q_heads=6, n_kv_heads=2, d_head=16, d_index=16, d_rotary=8, block_size=8, n_selected=3
)
N = 64


@pytest.fixture(scope="module")
def decoder():
    config = DecoderConfig(d_model=64, n_layers=2, n_q_heads=6, n_kv_heads=2, d_head=16)
    made = Decoder(config, generator=seeded(0)).requires_grad_(False).eval()
    for layer in made.layers:
        for name in ("w_q", "w_k"):  # so that attention has something to choose
            getattr(layer.attention, name).weight.mul_(12)
    return made


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 256, (2, N), generator=seeded(1))


def every_query(tokens):
    return torch.arange(N).expand(len(tokens), N)


def choose_with(student, n_selected):
    return lambda layer, x: chosen_blocks(student, layer, x, n_selected)


@pytest.mark.parametrize("sparse", [False, True])
def test_all_layers_at_once_learn_what_each_alone_would(decoder, tokens, sparse):
    student = Student(decoder, MSA, seeded(2))
    at = every_query(tokens)
    choose = choose_with(student, MSA.n_selected) if sparse else None
    with torch.no_grad():
        seen, _ = read(decoder, tokens, at, choose, block_size=MSA.block_size)
    kl = align(student, seen, at, impl="reference")

    plain = convert(decoder, MSA, student.index({}), sparse=sparse)
    for layer in (0, 1):
        shown = []
        plain.hidden(tokens, probe=Probe((layer,), shown.append))
        attention = plain.layers[layer].attention
        for name, weight in attention.named_parameters():
            weight.requires_grad_("index_" in name)
        loss = layer_kl(attention, shown[0])
        loss.backward()
        torch.testing.assert_close(kl[layer], loss.detach(), rtol=1e-4, atol=1e-5)
        for ours, theirs in (
            (student.w_q, attention.index_w_q),
            (student.w_k, attention.index_w_k),
            (student.norm_k, attention.index_norm_k),
        ):
            assert theirs.weight.grad.abs().max() > 1e-5
            torch.testing.assert_close(ours.grad[layer], theirs.weight.grad, rtol=1e-3, atol=1e-6)


def test_a_start_takes_over_the_main_heads_channels(decoder, monkeypatch):
    monkeypatch.setattr(start, "NOISE", 0.0)
    attention = decoder.layers[1].attention
    w_q, w_k = start.main_start(attention, MSA, seeded(2))
    main_k = attention.w_k.weight.view(2, 16, 64)
    main_q = attention.w_q.weight.view(2, 3, 16, 64).mean(1)
    scale = start.SPREAD / main_k.std()
    turned = [(0, 0), (1, 2), (0, 4), (1, 6)]  # (group, pair): as fast as each of the four
    slowest = [(0, 7), (1, 7), (0, 6), (1, 6)]
    for first, pairs in ((0, turned), (8, slowest)):
        for i, (group, pair) in enumerate(pairs):
            for part in (0, 1):
                row, of = first + i + 4 * part, pair + 8 * part
                torch.testing.assert_close(w_k[row], scale * main_k[group, of])
                mine = w_q.view(2, 16, 64)[:, row]
                torch.testing.assert_close(mine[group], scale * 3**0.5 * main_q[group, of])
                assert (mine[1 - group] == 0).all()


def test_reading_through_the_index_is_the_converted_model(decoder, tokens):
    student = Student(decoder, MSA, seeded(2))
    choose = choose_with(student, MSA.n_selected)
    _, stream = read(
        decoder, tokens, every_query(tokens), choose, block_size=MSA.block_size, to_the_end=True
    )
    want = convert(decoder, MSA, student.index({})).hidden(tokens)
    torch.testing.assert_close(stream, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arm", ["adapted", "dense"])
def test_an_adapted_model_learns_and_is_merged_as_it_was_trained(decoder, tokens, arm):
    student = Student(decoder, MSA, seeded(2))
    schedule = dataclasses.replace(
        Schedule.small(), adapted_n_selected=MSA.n_selected, rank=4, adapted_rate=1e-2
    )
    taught = Adaptation(decoder, student, arm, schedule, "reference")
    taught.lr.fill_(1e-2)
    taught.index_lr.fill_(1e-3)
    losses = [float(taught.step(tokens[:1], every_query(tokens[:1]))[0]) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.02
    merged = taught.merged(decoder)
    assert not any(isinstance(module, LowRankLinear) for module in merged.modules())
    if arm == "adapted":
        merged = convert(merged, MSA, student.index({}))
    losses.append(float(token_losses(merged, tokens[0]).mean()))
    again = float(taught.step(tokens[:1], every_query(tokens[:1]))[0])
    assert losses[-1] == pytest.approx(again, abs=2e-3)


def test_stored_weights_are_those_that_training_saw(decoder):
    student = Student(decoder, MSA, seeded(2))
    student.rounded = True
    back = stored(student.index({}))
    for name, stacked in (("w_q", student.w_q), ("w_k", student.w_k)):
        seen = student.weight(name, slice(0, 2), torch.float32)
        for layer in (0, 1):
            kept = back.weights[f"layers.{layer}.attention.index_{name}.weight"]
            assert torch.equal(kept, seen[layer].detach())
            assert not torch.equal(kept, stacked[layer])


def test_an_index_goes_with_its_own_rotation(decoder):
    index = Student(decoder, MSA, seeded(2)).index({"seed": "2"})
    assert index.d_rotary == 8
    with pytest.raises(ValueError, match="trained with d_rotary=8, the config has d_rotary=None"):
        convert(decoder, dataclasses.replace(MSA, d_rotary=None), index)
    assert TrainedIndex(index.weights, {}).d_rotary is None


def test_the_reference_has_no_gradient_outside_the_support():
    r, n, m = 1, 5, 32
    q, k, q_idx, k_idx = (
        torch.randn(*shape, generator=seeded(3))
        for shape in ((r, n, 6, 16), (r, m, 2, 16), (r, n, 2, 8), (r, m, 8))
    )
    at = torch.tensor([[3, 9, 17, 30, 31]])
    allowed = torch.zeros(r, n, 2, 4, dtype=torch.bool)
    allowed.scatter_(-1, (at // 8)[..., None, None].expand(-1, -1, 2, 1), True)
    kl, d = msa_index_kernel.kl_and_gradient(q, k, q_idx, k_idx, at, allowed, block_size=8)
    assert (kl > 0).all()
    torch.testing.assert_close(d.sum(-1), torch.zeros(r, 2, n), atol=1e-5, rtol=0)
    column = torch.arange(m)
    outside = (column // 8 != at[..., None] // 8) | (column > at[..., None])
    assert (d.transpose(1, 2)[outside[:, :, None].expand(-1, -1, 2, -1)] == 0).all()


@pytest.mark.gpu
@pytest.mark.parametrize("sparse", [False, True])
def test_the_kernel_is_the_reference(sparse):
    r, n, m, h = 2, 70, 300, 3
    q, k, q_idx, k_idx = (
        (1.5 * torch.randn(*shape, generator=seeded(i))).to("cuda", torch.bfloat16)
        for i, shape in enumerate(((r, n, 3 * h, 64), (r, m, h, 64), (r, n, h, 128), (r, m, 128)))
    )
    at = torch.randint(0, m, (r, n), generator=seeded(9)).sort(-1).values.int().cuda()
    allowed = None
    if sparse:
        allowed = torch.rand(r, n, h, 5, generator=seeded(8)).cuda() < 0.5
        own = (at // 64).long()[..., None, None].expand(-1, -1, h, 1)
        allowed.scatter_(-1, own, True)
    want, got = (
        msa_index_kernel.kl_and_gradient(q, k, q_idx, k_idx, at, allowed, block_size=64, impl=impl)
        for impl in ("reference", "triton")
    )
    torch.testing.assert_close(got[0], want[0], atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(got[1].float(), want[1], atol=5e-3, rtol=2e-2)
