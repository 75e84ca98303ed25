"""Where everything stands on the two rulers, without a model."""

from itertools import pairwise

import pytest
import torch
from latent_models import model_of, text

from intuitive.lclm import Raw, Span, effective_ratio, label_mask
from intuitive.lclm.splice import layout, runs_of

PIECES = [("raw", 2), ("span", 9), ("raw", 1), ("span", 4), ("raw", 1)]


def test_both_rulers_hold_every_token_once():
    slots = layout(PIECES, ratio=4, window=8)
    assert [slot.position for slot in slots] == list(range(len(slots)))
    covered = [i for slot in slots for i in range(slot.start, slot.stop)]
    assert covered == list(range(17))
    assert [(slot.start, slot.stop) for slot in slots if slot.kind == "latent"] == [
        (2, 6),
        (6, 10),
        (10, 11),
        (12, 16),
    ]
    tags = [slot for slot in slots if slot.kind in ("start", "end")]
    assert [(slot.start, slot.stop) for slot in tags] == [(2, 2), (11, 11), (12, 12), (16, 16)]
    assert [slot.piece for slot in slots] == [0, 0, *5 * [1], 2, *3 * [3], 4]


def test_the_layout_is_what_the_model_splices():
    model, tokens = model_of(), text(17)
    edges = [0, 2, 11, 12, 16, 17]
    parts = [tokens[a:b] for a, b in pairwise(edges)]
    whats = [Raw if what == "raw" else Span for what, _ in PIECES]
    prompt = model.spliced([what(part) for what, part in zip(whats, parts, strict=True)])
    slots = layout(PIECES, ratio=4, window=8)
    assert prompt.kinds == tuple(slot.kind for slot in slots)
    assert prompt.positions.tolist() == [slot.position for slot in slots]
    for slot, token in zip(slots, prompt.tokens.tolist(), strict=True):
        assert token == (tokens[slot.start] if slot.kind == "raw" else -1)
    assert [slot.trained for slot in slots] == label_mask(prompt.kinds).tolist()


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 100])
def test_the_effective_ratio_is_tokens_per_position(n):
    slots = layout([("span", n)], ratio=4, window=8)
    assert effective_ratio(n, ratio=4) == n / len(slots)
    assert len(layout([("span", n)], ratio=4, window=8, tags=False)) == len(slots) - 2


@pytest.mark.parametrize("piece", [("span", 0), ("latents", 3)])
def test_a_piece_that_is_none_is_refused(piece):
    with pytest.raises(ValueError, match="piece 1 is"):
        layout([("raw", 1), piece], ratio=4, window=8)


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_where_flags_are_up(seed):
    flags = torch.rand(20, generator=torch.Generator().manual_seed(seed)) > 0.4
    runs = runs_of(flags.tolist())
    assert [i for start, stop in runs for i in range(start, stop)] == flags.nonzero()[:, 0].tolist()
    assert all(a_stop < b_start for (_, a_stop), (b_start, _) in pairwise(runs))
