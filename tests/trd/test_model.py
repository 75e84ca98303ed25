"""A stack of decoders computes, trains and generates what each decoder does alone."""

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.trd.model import StackedCache, StackedDecoder, decoder_config, generate
from intuitive.trd.optimizer import AdamWSettings, StackedAdamW, cosine

CONFIG = decoder_config(vocab_size=11, width=8, n_layers=2, max_positions=12)
END, PAD = 9, 10


@pytest.fixture
def stack():
    return StackedDecoder.fresh(CONFIG, seeds=(0, 1, 2))


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(CONFIG.vocab_size, shape, generator=seeded(0))


def test_every_model_of_a_stack_is_its_decoder(stack):
    batch = tokens(3, 4, 7)
    got = stack(batch)
    for model in range(3):
        want = stack.decoder(model)(batch[model])
        torch.testing.assert_close(got[model], want, atol=1e-5, rtol=1e-5)


def test_decoders_survive_the_way_into_a_stack_and_out(stack):
    again = StackedDecoder.of([stack.decoder(model) for model in range(3)])
    assert torch.equal(again.weights, stack.weights)
    assert torch.equal(stack.copies([2, 0]).weights, stack.weights[[2, 0]])


def test_first_weights_are_those_of_a_decoder_whatever_torch_defaults_to():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        want = torch.cat([p.detach().flatten() for p in Decoder(CONFIG).parameters()])
    before, usual = torch.get_rng_state(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        got = StackedDecoder.fresh(CONFIG, seeds=(4,)).weights[0]
    finally:
        torch.set_default_dtype(usual)
    assert got.dtype == torch.float32 and torch.equal(got, want)
    assert torch.equal(torch.get_rng_state(), before)


def test_cache_changes_nothing(stack):
    batch = tokens(3, 4, 7)
    cache = StackedCache(stack, 4, 7)
    with torch.no_grad():
        pieces = [stack(batch[:, :, a:b], cache) for a, b in ((0, 3), (3, 6), (6, 7))]
        torch.testing.assert_close(torch.cat(pieces, 2), stack(batch), atol=1e-5, rtol=1e-5)


def test_step_is_adamw_with_a_clip_for_every_model(stack):
    settings, lr = AdamWSettings(clip=0.5), [1e-2, 1e-3, 3e-2]
    optimizer = StackedAdamW(stack, torch.tensor(lr), settings=settings)
    alone = [torch.nn.Parameter(row.clone()) for row in stack.weights.detach()]
    singles = [
        torch.optim.AdamW([row], lr=rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay)
        for row, rate in zip(alone, lr, strict=True)
    ]
    generator = seeded(1)
    for size in (0.001, 3.0, 1.0):  # below the clip and above it
        grad = size * torch.randn(stack.weights.shape, generator=generator)
        stack.weights.grad = grad
        optimizer.step()
        for model, (row, single) in enumerate(zip(alone, singles, strict=True)):
            row.grad = grad[model].clone()
            torch.nn.utils.clip_grad_norm_([row], settings.clip)
            single.step()
    torch.testing.assert_close(stack.weights.detach(), torch.stack(alone).detach())


def test_gradient_of_one_model_leaves_the_others_alone(stack):
    stack(tokens(3, 2, 5))[1].sum().backward()
    moved = stack.weights.grad.abs().sum(1) > 0
    assert moved.tolist() == [False, True, False]


def test_greedy_rollouts_end_and_are_padded(stack):
    prompts = tokens(3, 5, 4)
    draws = {"generators": [seeded(0)], "owners": [0, 0, 0], "end": END, "pad": PAD}
    new = generate(stack, prompts, max_new_tokens=8, temperature=0, **draws)
    seen = prompts
    with torch.no_grad():
        for step in range(8):  # without a cache, until a row ends
            best = stack(seen)[:, :, -1].argmax(-1)
            ended = (new[:, :, :step] == END).any(-1)
            assert torch.equal(new[:, :, step], torch.where(ended, PAD, best))
            seen = torch.cat((seen, new[:, :, step : step + 1]), dim=-1)


def test_rollouts_do_not_depend_on_the_rest_of_the_stack(stack):
    prompts = tokens(1, 6, 4).expand(3, -1, -1)
    rules = {"max_new_tokens": 6, "end": END, "pad": PAD}
    whole = generate(stack, prompts, generators=[seeded(5)], owners=[0, 0, 0], **rules)
    alone = generate(stack.copies([2]), prompts[:1], generators=[seeded(5)], owners=[0], **rules)
    assert torch.equal(whole[2:], alone)


def test_samples_follow_the_softmax(stack):
    prompts = tokens(1, 1, 4).expand(1, 20_000, 4)
    one = stack.copies([0])
    new = generate(
        one, prompts, max_new_tokens=1, end=END, pad=PAD, generators=[seeded(3)], owners=[0],
        temperature=0.05,
    )  # fmt: skip
    with torch.no_grad():
        p = (one(prompts[:, :1])[0, 0, -1] / 0.05).softmax(-1)
    shares = torch.bincount(new.flatten(), minlength=CONFIG.vocab_size) / 20_000
    assert float((shares - p).abs().max()) < 0.015  # four standard errors of a share


def test_cosine_warms_up_and_falls_to_its_end():
    factors = cosine(100, warmup=0.1, end=0.2)
    assert factors[4] == pytest.approx(0.5)
    assert factors.argmax() == 9
    assert factors[-1] == pytest.approx(0.2)


def test_errors_name_what_was_given(stack):
    with pytest.raises(ValueError, match="cannot be stacked"):
        StackedDecoder(DecoderConfig(), torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"\[m, \d+\] is needed"):
        StackedDecoder(CONFIG, torch.zeros(1, 5))
    with pytest.raises(ValueError, match="3 learning rates above 0"):
        StackedAdamW(stack, torch.tensor([1e-3, 0.0, 1e-3]))
    with pytest.raises(ValueError, match="max_positions=12"):
        generate(
            stack, tokens(3, 1, 4), max_new_tokens=9, end=END, pad=PAD,
            generators=[seeded(0)], owners=[0, 0, 0],
        )  # fmt: skip
