"""Critics as formulas, and the curvature that bounds Euler steps."""

import pytest
import torch

from intuitive.qgf.critics import (
    GaussianBumps,
    QuadraticCritic,
    Sum,
    largest_curvature,
    stability_number,
)


def test_quadratic_critic_of_numbers_and_vectors():
    torch.testing.assert_close(
        QuadraticCritic(1.0)(torch.tensor([0.0, 3.0])), torch.tensor([-1.0, -4.0])
    )
    assert float(QuadraticCritic(1.0)(torch.zeros(1, 3))) == -3.0


def test_bumps_add_up():
    a = torch.linspace(-2, 2, 9)
    both = GaussianBumps((0.3, -1.8), (0.35, 0.2), (1.0, 2.0))
    parts = Sum((GaussianBumps((0.3,), (0.35,)), GaussianBumps((-1.8,), (0.2,), (2.0,))))
    torch.testing.assert_close(both(a), parts(a))
    assert float(both(torch.tensor([0.3]))) == pytest.approx(1.0)
    assert both(torch.zeros(5, 2)).shape == (5,)


def test_curvature_of_known_critics():
    assert largest_curvature(QuadraticCritic(0.3), -2, 2) == pytest.approx(2, rel=1e-6)
    hill = GaussianBumps((0.3,), (0.35,), (1.0,))
    assert largest_curvature(hill, -1, 1) == pytest.approx(1 / 0.35**2, rel=1e-3)  # 8.16


def test_stability_number_of_spec_b():
    """Curvature 8.16: T = 10 bears w = 2 (1.6) but not w = 4 (3.3), which T = 20 does."""
    curvature = 1 / 0.35**2
    assert stability_number(curvature, 2, 10) < 2 < stability_number(curvature, 4, 10)
    assert stability_number(curvature, 4, 20) < 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuadraticCritic(float("nan")), "peak=nan"),
        (lambda: GaussianBumps((0.0,), (0.0,)), "width=0.0 must be above 0"),
        (lambda: GaussianBumps((0.0, 1.0), (0.5,)), "2 peaks, 1 widths"),
        (lambda: GaussianBumps((), (), ()), "at least one"),
        (lambda: Sum(()), "at least one critic"),
        (lambda: largest_curvature(QuadraticCritic(), 1, 1), "high must lie above low"),
    ],
)
def test_impossible_critics_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
