"""Training of miniatures: gradients, curves, and until when.

Examples are drawn for many steps at once, and on CUDA a step is replayed as one recorded graph:
these models are so small that starting each operation takes longer than the operation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intuitive.common.checks import whole
from intuitive.common.replay import Replayed
from intuitive.common.runtime import never, seeded
from intuitive.common.training import Progress, silent, step_once, train

from .miniature import loss_of, outputs, parts
from .splice import NOT_TRAINED
from .stages import Stage, StageOptimizer, train_stages, warmed_cosine
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
    schedule: Callable[[int, int], float] = warmed_cosine,
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
        schedule: factor on the learning rates, given a stage's step and its number of steps.
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
        schedule=schedule,
        observe=observe,
        observe_every=observe_every,
        stale=stale,
        progress=progress,
    )
    return _curve(seen)


class Member:
    """One of several miniatures that train side by side: its examples, its optimiser, its step.

    Args:
        reader: to train.
        draw: examples of some steps at once.
        optimizer: of the stage.
        generator: of the examples.
    """

    def __init__(
        self,
        reader: nn.Module,
        draw: Draw,
        optimizer: StageOptimizer,
        generator: torch.Generator,
    ) -> None:
        self.reader, self.optimizer = reader, optimizer
        self._draw, self._generator = draw, generator
        device = reader.tags.device
        self._held: tuple[Tensor, ...] = ()  # examples of AT_ONCE steps, always in the same place
        self._at = torch.zeros(1, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)

    def prepare(self, step: int) -> None:
        """Draw examples where the last ones are used up, and set the learning rates."""
        if step % AT_ONCE == 0:
            drawn = self._draw(AT_ONCE, self._generator).tensors()
            if not self._held:
                self._held = tuple(x.to(self._at.device).contiguous() for x in drawn)
            else:
                for held, new in zip(self._held, drawn, strict=True):
                    held.copy_(new)
        self.optimizer.tell(step)

    def advance(self) -> None:
        """Take one step; all of its work stays on the device."""
        step_once(self._gradients, self.optimizer)

    def _gradients(self, step: int) -> dict[str, float]:
        """Of the examples whose turn it is; reading the loss would make the device wait."""
        examples = Examples(*(x.index_select(0, self._at)[0] for x in self._held))
        loss = loss_of(self.reader, examples)
        loss.backward()
        self.loss.copy_(loss.detach())
        self._at.add_(1).remainder_(AT_ONCE)
        return {}


class SideBySide:
    """The steps of several miniatures at once: on CUDA, branches of one recorded graph.

    One of these models leaves most of the device idle, and every operation that Python starts
    costs more than it takes. The first step runs plainly, the second is recorded.

    Args:
        members: on one device, their optimisers made with `on_device` if that is CUDA.
        recorded: whether CUDA records the step; it changes nothing but the time.
    """

    def __init__(self, members: Sequence[Member], *, recorded: bool = True) -> None:
        self._members, self._calls, self._recorded = members, 0, recorded
        self._graph: torch.cuda.CUDAGraph | None = None
        on_cuda = members[0].loss.device.type == "cuda"
        self._streams = [torch.cuda.Stream() for _ in members] if on_cuda else []

    def __call__(self) -> None:
        """Take the next step of every member."""
        self._calls += 1
        if not self._streams or not self._recorded or self._calls == 1:
            self._branches()
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._branches()
        self._graph.replay()

    def _branches(self) -> None:
        if not self._streams:
            for member in self._members:
                member.advance()
            return
        here = torch.cuda.current_stream()
        for stream, member in zip(self._streams, self._members, strict=True):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                member.advance()
        for stream in self._streams:
            here.wait_stream(stream)


class _Taken:
    """What `train` asks of an optimiser, where the step has been taken already."""

    def zero_grad(self) -> None: ...

    def step(self) -> None: ...


def fit_together(
    readers: Sequence[nn.Module],
    draw: Draw | Mapping[str, Draw],
    measures: Sequence[Measure],
    stages: Sequence[Stage],
    *,
    seeds: Sequence[int],
    schedule: Callable[[int, int], float] = warmed_cosine,
    observe_every: int = 100,
    recorded: bool = True,
    stale: Callable[[], bool] = never,
) -> list[Curve]:
    """Train miniatures that differ in their seed side by side; otherwise as `fit`.

    Args:
        readers: trained in place.
        draw: examples to train on; or those of each stage, by its name.
        measures: what to note down of each.
        stages: what trains in each, how fast and how long.
        seeds: of the examples of each.
        schedule: factor on the learning rates, given a stage's step and its number of steps.
        observe_every: steps between two measurements; the end of a stage is always measured.
        recorded: as in `SideBySide`.
        stale: turns true when nobody waits any more.

    Returns:
        One curve per reader.

    Raises:
        RuntimeError: a mean loss is no longer finite.
        Cancelled: `stale()` became true.
    """
    generators = [seeded(seed) for seed in seeds]
    on_cuda = readers[0].tags.device.type == "cuda"
    seen: list[dict[int, dict[str, float]]] = [{} for _ in readers]
    begins = 0
    for stage in stages:
        of_stage = draw[stage.name] if isinstance(draw, Mapping) else draw
        members = [
            Member(
                reader,
                of_stage,
                StageOptimizer(parts(reader), stage, schedule=schedule, on_device=on_cuda),
                generator,
            )
            for reader, generator in zip(readers, generators, strict=True)
        ]
        together = SideBySide(members, recorded=recorded)

        def gradients(
            step: int, members: list[Member] = members, together: SideBySide = together
        ) -> dict[str, float]:
            for member in members:
                member.prepare(step)
            together()
            if step % AT_ONCE:
                return {}
            return {"loss": sum(float(member.loss) for member in members) / len(members)}

        def observe(step: int, begins: int = begins) -> None:
            for kept, reader, measure in zip(seen, readers, measures, strict=True):
                if begins + step not in kept:
                    kept[begins + step] = measure(reader)

        train(
            gradients,
            _Taken(),
            n_steps=stage.n_steps,
            observe=observe,
            observe_at={*range(0, stage.n_steps, observe_every), stage.n_steps},
            stale=stale,
        )
        begins += stage.n_steps
    return [_curve(kept) for kept in seen]


def joined(first: Curve, then: Curve) -> Curve:
    """Two curves as one, where the second began as the first ended."""
    last = first.steps[-1]
    return Curve(
        steps=(*first.steps, *(last + step for step in then.steps[1:])),
        values={name: (*first.values[name], *then.values[name][1:]) for name in then.values},
    )


def settled(curve: Curve, watch: str, *, before: int, gain: float = 0.02) -> bool:
    """Whether training at the highest learning rate had nothing more to gain.

    Args:
        curve: of a training whose rate is held until `before`.
        watch: the measure that has to fall.
        before: step at which the rate begins to fall.
        gain: the share of itself by which the best of the last third before that step is below
            the best of the first two thirds, at most.

    Raises:
        ValueError: nothing was measured in one of the two.
    """
    values = list(zip(curve.steps, curve.values[watch], strict=True))
    early = [value for step, value in values if step <= before * 2 / 3]
    late = [value for step, value in values if before * 2 / 3 < step <= before]
    if not early or not late:
        raise ValueError(
            f"{watch} was measured at steps {curve.steps}: before step {before} both the first two "
            "thirds and the last one need a measurement."
        )
    return min(late) >= min(early) * (1 - gain)


def _curve(seen: Mapping[int, Mapping[str, float]]) -> Curve:
    steps = sorted(seen)
    return Curve(
        steps=tuple(steps),
        values={name: tuple(seen[step][name] for step in steps) for name in seen[steps[0]]},
    )
