"""Where there is one order of solutions, TRD is SFT."""

import pytest
import torch

from intuitive.trd.canonical import CanonicalParams, canonical_order


def test_trd_is_sft_where_the_order_is_canonical():
    one, free = (canonical_order(CanonicalParams(left_to_right=w)) for w in (1.0, 0.0))
    assert one.same_trace > 0.9  # but for the smoothing of a thousandth per token
    assert one.gradient_cosine > 0.98
    assert free.same_trace < 0.2
    assert free.gradient_difference > 3 * one.gradient_difference
    with pytest.raises(ValueError, match=r"left_to_right=2\.0 must lie"):
        CanonicalParams(left_to_right=2.0)


def test_its_gradients_are_there_when_the_caller_has_turned_them_off():
    params = CanonicalParams(n_problems=8)
    with torch.no_grad():
        assert canonical_order(params) == canonical_order(params)
