"""Low-rank changes start as nothing and share the frozen weights."""

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.low_rank import LowRankLinear, changes, low_rank_decoder
from intuitive.common.runtime import seeded

TOKENS = torch.tensor([[5, 9, 2, 7, 7, 1]])


def base() -> Decoder:
    decoder = Decoder(DecoderConfig(n_layers=3), generator=seeded(0))
    return decoder.requires_grad_(False).eval()


def test_it_starts_as_the_base_and_shares_its_memory():
    frozen = base()
    made = low_rank_decoder(frozen, attention=4, mlp=2, generator=seeded(1))
    assert torch.equal(made(TOKENS), frozen(TOKENS))
    ours, theirs = made.layers[1].attention.w_q, frozen.layers[1].attention.w_q
    assert ours.frozen.data_ptr() == theirs.weight.data_ptr()
    assert made.embedding is frozen.embedding
    assert sum(p.numel() for p in changes(made).values()) == 3 * (
        4 * ((64 + 64) * 2 + (64 + 32) * 2) + 2 * 3 * (64 + 192)
    )


def test_a_change_changes_this_decoder_alone():
    frozen = base()
    before = frozen(TOKENS)
    made = low_rank_decoder(frozen, attention=4, generator=seeded(1))
    changes(made)["layers.0.attention.w_v.b"].data.normal_(generator=seeded(2))
    assert not torch.allclose(made(TOKENS), before)
    assert torch.equal(frozen(TOKENS), before)


def test_it_is_the_sum_of_both_products():
    weight = torch.randn(6, 5, generator=seeded(0))
    layer = LowRankLinear(weight, 2, generator=seeded(1))
    layer.b.data.normal_(generator=seeded(2))
    x = torch.randn(3, 5, generator=seeded(3))
    torch.testing.assert_close(layer(x), x @ (weight + layer.b @ layer.a).T)
    layer(x).sum().backward()
    assert layer.a.grad is not None
    assert [name for name, _ in layer.named_parameters()] == ["a", "b"]
    assert set(layer.state_dict()) == {"a", "b"}


def test_the_first_layers_alone():
    frozen = base()
    made = low_rank_decoder(frozen, n_layers=2)
    assert torch.equal(made.hidden(TOKENS), frozen.hidden(TOKENS, until_layer=2))
    assert not changes(made)


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"n_layers=4 must lie in \[1, 3\]"):
        low_rank_decoder(base(), n_layers=4)
