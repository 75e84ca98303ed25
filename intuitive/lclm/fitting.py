"""Training of miniatures: gradients, curves, and until when.

Examples are drawn for many steps at once, and on CUDA a step is replayed as one recorded graph:
these models are so small that starting each operation takes longer than the operation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intuitive.common.checks import whole, whole_fields
from intuitive.common.replay import Replayed
from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, silent, train

from .miniature import loss_of, outputs, parts
from .splice import NOT_TRAINED
from .stages import Stage, StageOptimizer, train_stages
from .task import Examples

AT_ONCE = 50  # steps whose examples are drawn together
HELD_OUT = 10_000  # added to a seed: the examples that are measured, never trained on

Draw = Callable[[int, torch.Generator], Examples]  # steps, generator -> examples [steps, b, ...]
Measure = Callable[[nn.Module], dict[str, float]]  # of a reader, by name


@dataclass(frozen=True)
class Score:
    """What a miniature does on held-out examples."""

    accuracy: float  # share of trained positions whose most likely token is right
    loss: float  # nats per trained position


@torch.no_grad()
def score(reader: nn.Module, examples: Examples, *, rows: int = 256) -> Score:
    """Measure a miniature, `rows` examples at a time.

    Args:
        reader: the miniature.
        examples: [b, ...], without an axis of steps.
        rows: examples at once.

    Raises:
        ValueError: nothing is trained in these examples.
    """
    rows = whole("rows", rows, low=1)
    right = loss = n = 0
    for start in range(0, len(examples.spans), rows):
        part = Examples(*(x[start : start + rows] for x in examples.tensors()))
        logits = outputs(reader, part)
        counted = part.targets != NOT_TRAINED
        right = right + ((logits.argmax(-1) == part.targets) & counted).sum()
        loss = loss + F.cross_entropy(
            logits.flatten(0, 1).float(),
            part.targets.flatten(),
            ignore_index=NOT_TRAINED,
            reduction="sum",
        )
        n = n + counted.sum()
    if not int(n):
        raise ValueError("no target is trained in these examples: there is nothing to measure.")
    return Score(float(right / n), float(loss / n))


def gradients_of(
    reader: nn.Module,
    draw: Draw,
    optimizer: StageOptimizer,
    generator: torch.Generator,
    *,
    recorded: bool = True,
) -> Callable[[int], dict[str, float]]:
    """What the training loop calls each step; a recorded graph on CUDA.

    Args:
        reader: to train.
        draw: examples of some steps at once.
        optimizer: of the stage, which knows what trains.
        generator: of the examples. One on the CPU draws the same ones for every device.
        recorded: whether CUDA replays the step as a graph; it changes nothing but the time.
    """
    device = reader.tags.device

    def backward(*tensors: Tensor) -> Tensor:
        loss = loss_of(reader, Examples(*tensors))
        loss.backward()
        return loss.detach()

    replayed = Replayed(backward, optimizer.parameters, device) if recorded else backward
    drawn: list[Examples] = []

    def gradients(step: int) -> dict[str, float]:
        if step % AT_ONCE == 0:
            drawn[:] = [draw(AT_ONCE, generator).to(device)]
        loss = replayed(*drawn[0].step(step % AT_ONCE).tensors())
        return {"loss": float(loss)} if step % AT_ONCE == 0 else {}

    return gradients


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How a training went: what was measured on held-out examples, by name, and when."""

    steps: tuple[int, ...]
    values: dict[str, tuple[float, ...]]


def measures(held_out: Mapping[str, Examples]) -> Measure:
    """Accuracy and loss on each of several sets of examples, such as "recall accuracy".

    The two are named after the set, with " accuracy" and " loss" behind it.
    """

    def measure(reader: nn.Module) -> dict[str, float]:
        found = {}
        for name, examples in held_out.items():
            one = score(reader, examples)
            found |= {f"{name} accuracy": one.accuracy, f"{name} loss": one.loss}
        return found

    return measure


def fit(
    reader: nn.Module,
    draw: Draw | Mapping[str, Draw],
    measure: Measure,
    stages: Sequence[Stage],
    *,
    seed: int,
    observe_every: int = 100,
    recorded: bool = True,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Curve:
    """Train a miniature through stages.

    Args:
        reader: trained in place.
        draw: examples to train on; or those of each stage, by its name.
        measure: what to note down of it.
        stages: what trains in each, how fast and how long.
        seed: of the examples.
        observe_every: steps between two measurements; the end of a stage is always measured.
        recorded: as in `gradients_of`.
        stale: turns true when nobody waits any more.
        progress: called after every step.

    Raises:
        RuntimeError: the loss is no longer finite.
        Cancelled: `stale()` became true.
    """
    generator = seeded(seed)
    begins, seen = {}, {}
    for stage in stages:
        begins[stage.name] = sum(one.n_steps for one in stages if one.name in begins)

    def observe(stage: Stage, step: int) -> None:
        taken = begins[stage.name] + step
        if taken not in seen:  # a stage begins where the one before ended
            seen[taken] = measure(reader)

    train_stages(
        parts(reader),
        stages,
        lambda stage, optimizer: gradients_of(
            reader,
            draw[stage.name] if isinstance(draw, Mapping) else draw,
            optimizer,
            generator,
            recorded=recorded,
        ),
        observe=observe,
        observe_every=observe_every,
        stale=stale,
        progress=progress,
    )
    return _curve(seen)


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """When training counts as having nothing more to gain.

    The learning rate stays at its peak until the held-out loss has not fallen by `gain` of itself
    for `patience` steps; then it falls to nothing over a quarter of the steps taken.
    """

    every: int = 200  # steps from one measurement to the next
    patience: int = 800  # steps
    gain: float = 0.02
    most: int = 6000  # steps at the peak

    def __post_init__(self) -> None:
        whole_fields(self, every=1, patience=1, most=1)


def fit_to_plateau(
    reader: nn.Module,
    draw: Draw,
    measure: Measure,
    stage: Stage,
    plateau: Plateau,
    *,
    watch: str,
    seed: int,
    left: Callable[[], bool] = lambda: True,
    recorded: bool = True,
    stale: Callable[[], bool] = never,
) -> tuple[Curve, bool]:
    """Train a miniature until it gains no more.

    Args:
        reader: trained in place.
        draw: examples to train on.
        measure: what to note down of it.
        stage: what trains and how fast; its number of steps is not used.
        plateau: when to stop.
        watch: which of the measures has to fall.
        seed: of the examples.
        left: turns false when time is up; then the learning rate falls at once.
        recorded: as in `gradients_of`.
        stale: turns true when nobody waits any more.

    Returns:
        The curve, and whether the plateau was reached rather than the most steps or the time.
    """
    falling: list[int] = []  # the step at which the rate begins to fall, and over how many

    def factor(step: int, _: int) -> float:
        rising = min(1.0, (step + 1) / 50)
        if not falling:
            return rising
        return rising * max(0.0, 1 - (step - falling[0]) / falling[1])

    optimizer = StageOptimizer(parts(reader), stage, schedule=factor)
    gradients = gradients_of(reader, draw, optimizer, seeded(seed), recorded=recorded)
    seen = {0: measure(reader)}
    taken, best, since, reached = 0, seen[0][watch], 0, False

    def block(n_steps: int) -> None:
        nonlocal taken
        first = taken
        train(lambda step: gradients(first + step), optimizer, n_steps=n_steps, stale=stale)
        taken += n_steps
        seen[taken] = measure(reader)

    while taken < plateau.most and left() and not reached:
        block(plateau.every)
        if seen[taken][watch] < best * (1 - plateau.gain):
            best, since = seen[taken][watch], taken
        reached = taken - since >= plateau.patience
    falling[:] = [taken, max(1, taken // 4)]
    while taken < sum(falling):
        block(min(plateau.every, sum(falling) - taken))
    return _curve(seen), reached


def joined(first: Curve, then: Curve) -> Curve:
    """Two curves as one, where the second began as the first ended."""
    if not first.steps:
        return then
    last = first.steps[-1]
    return Curve(
        steps=(*first.steps, *(last + step for step in then.steps[1:])),
        values={name: (*first.values[name], *then.values[name][1:]) for name in then.values},
    )


def _curve(seen: Mapping[int, Mapping[str, float]]) -> Curve:
    steps = sorted(seen)
    return Curve(
        steps=tuple(steps),
        values={name: tuple(seen[step][name] for step in steps) for name in seen[steps[0]]},
    )
