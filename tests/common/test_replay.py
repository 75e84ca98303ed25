"""Replayed gradients train as plain ones do."""

import pytest
import torch

from intuitive.common.replay import Replayed
from intuitive.common.runtime import seeded
from intuitive.common.training import train


def trained(device: str, *, replayed: bool) -> tuple[list[torch.Tensor], list[float]]:
    """Parameters and losses after eight steps of a small regression, one parameter unused."""
    g = seeded(0)
    w, b, unused = (torch.nn.Parameter(torch.randn(n, generator=g).to(device)) for n in (3, 1, 1))
    batches = torch.randn(8, 16, 3, generator=g).to(device)

    def backward(x):
        loss = (x @ w + b - x.sum(-1)).square().mean()
        loss.backward()
        return loss.detach()

    take = Replayed(backward, [w, b, unused], device) if replayed else backward
    optimizer = torch.optim.Adam([w, b, unused], lr=0.1)
    found = train(lambda step: {"loss": float(take(batches[step]))}, optimizer, n_steps=8)
    return [p.detach().cpu() for p in (w, b, unused)], found["loss"]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_replayed_steps_are_the_plain_ones(device):
    got, want = trained(device, replayed=True), trained(device, replayed=False)
    for ours, theirs in zip(got[0], want[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    assert got[1] == pytest.approx(want[1], rel=1e-6)
    assert len(set(got[1])) == 8  # every step read its own batch
