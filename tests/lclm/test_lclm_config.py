"""Configs speak up early."""

import pytest

from intuitive.common.decoder import DecoderConfig
from intuitive.lclm import LatentContextModel, LCLMConfig


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 5}, "ratio=5 must divide window=32"),
        ({"ratio": 0}, "ratio=0"),
        ({"window": 8.0}, "window=8.0"),
        ({"pooling": "max"}, "pooling='max' is unknown; choose one of mean"),
        ({"mask": "both"}, "mask='both' is unknown"),
        ({"adapter": "linear"}, "adapter='linear' is unknown"),
        ({"overlap": -1}, "overlap=-1"),
        ({"ratios": (4, 7)}, "ratio=7 must divide"),
        ({"ratios": (4,), "pooling": "concat"}, "ratios=.* need a pooling"),
        ({"adapter": "none", "pooling": "concat"}, "width 512, the decoder reads .* width 64"),
        ({"encoder": DecoderConfig(max_positions=16)}, "max_positions=16: shorten the window"),
        ({"encoder": DecoderConfig(vocab_size=17)}, "the encoder has 17 token ids"),
    ],
)
def test_a_wrong_setting_is_refused_in_words(settings, message):
    with pytest.raises(ValueError, match=message):
        LCLMConfig(**settings)


def test_the_longest_pass_holds_window_neighbours_and_markers():
    assert LCLMConfig(ratio=8, window=32, overlap=5).pass_length == 37
    assert LCLMConfig(ratio=8, window=32, overlap=5, mask="bidirectional").pass_length == 42
    assert LCLMConfig(ratio=8, window=32, pooling="queries").pass_length == 36
    assert LCLMConfig(ratio=8, window=32, pooling="eos", ratios=(4,)).pass_length == 40


def test_one_embedding_serves_both_where_their_widths_agree():
    assert LCLMConfig().shares_embedding
    assert not LCLMConfig(share_embedding=False).shares_embedding
    assert not LCLMConfig(encoder=DecoderConfig(d_model=32)).shares_embedding


def test_the_papers_sizes():
    """596M and 4.02B parameters, and a mean adapter of 9.18M."""
    import torch

    config = LCLMConfig.paper(ratio=16)
    with torch.device("meta"):
        model = LatentContextModel(config)
    counts = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in (("e", model.encoder), ("d", model.decoder), ("a", model.adapter))
    }
    assert round(counts["e"] / 1e6) == 596
    assert round(counts["d"] / 1e9, 2) == 4.02
    assert round(counts["a"] / 1e6, 2) == 9.18
