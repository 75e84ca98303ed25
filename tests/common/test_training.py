"""The training loop: it minimises, observes when asked, and stops for three reasons."""

import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.common.training import one_thread, train


def problem():
    """A parameter that starts at 5 and should go to 0, and its gradient function."""
    x = torch.nn.Parameter(torch.tensor(5.0))

    def gradients(step):
        loss = x.square()
        loss.backward()
        return {"loss": loss.item()}

    return x, torch.optim.SGD([x], lr=0.1), gradients


def test_gradient_descent_takes_the_steps_of_the_formula():
    x, optimizer, gradients = problem()
    losses = train(gradients, optimizer, n_steps=4)
    assert x.item() == pytest.approx(5 * 0.8**4)  # x <- x - 0.1 * 2x; old gradients are cleared
    assert losses == {"loss": pytest.approx([(5 * 0.8**i) ** 2 for i in range(4)])}


def test_observes_the_state_after_so_many_steps():
    x, optimizer, gradients = problem()
    seen = {}
    train(
        gradients,
        optimizer,
        n_steps=3,
        observe=lambda step: seen.update({step: x.item()}),
        observe_at=(0, 2, 3),
    )
    assert seen == {i: pytest.approx(5 * 0.8**i) for i in (0, 2, 3)}


def test_a_loss_that_occurs_in_some_steps_is_kept_for_those():
    _, optimizer, gradients = problem()
    losses = train(
        lambda step: gradients(step) | ({"extra": float(step)} if step % 2 else {}),
        optimizer,
        n_steps=4,
    )
    assert losses["extra"] == [1.0, 3.0]
    assert len(losses["loss"]) == 4


def test_a_step_may_keep_its_losses_to_itself():
    """Progress goes on with the losses returned last, and without a colon before there are any."""
    _, optimizer, gradients = problem()
    told = []
    losses = train(
        lambda step: gradients(step) if step % 2 else gradients(step) and {},
        optimizer,
        n_steps=3,
        progress=lambda share, sentence: told.append(sentence),
    )
    assert losses == {"loss": [pytest.approx(16.0)]}
    assert told == ["Step 1 of 3", "Step 2 of 3: loss 16.000", "Step 3 of 3: loss 16.000"]


def test_progress_reaches_one_and_names_the_loss():
    _, optimizer, gradients = problem()
    told = []
    train(gradients, optimizer, n_steps=4, progress=lambda *said: told.append(said))
    assert [share for share, _ in told] == [0.25, 0.5, 0.75, 1.0]
    assert told[0][1] == "Step 1 of 4: loss 25.000"


def test_stops_before_the_next_step_when_nobody_waits():
    x, optimizer, gradients = problem()
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        train(gradients, optimizer, n_steps=9, stale=lambda: next(answers))
    assert x.item() == pytest.approx(5 * 0.8**2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_loss_stops_training_before_it_spoils_the_weights(value):
    x, optimizer, gradients = problem()

    def diverging(step):
        losses = gradients(step)
        return {"loss": value} if step == 1 else losses

    with pytest.raises(RuntimeError, match=rf"loss is {value} at step 1.*Lower the learning"):
        train(diverging, optimizer, n_steps=3)
    assert x.item() == pytest.approx(5 * 0.8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_steps": 0}, "n_steps=0 must be at least 1"),
        ({"n_steps": 3, "observe_at": (1, 4)}, r"observe_at=\[1, 4\] must lie in \[0, n_steps=3\]"),
        ({"n_steps": 3, "observe_at": (-1,)}, r"observe_at=\[-1\]"),
    ],
)
def test_impossible_counts_are_refused(settings, message):
    _, optimizer, gradients = problem()
    with pytest.raises(ValueError, match=message):
        train(gradients, optimizer, **settings)


def test_one_thread_is_given_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
