"""Training Index Branches of SmolLM2 on long texts in which passages return, and with its weights.

`Feed` draws texts and the queries that a step compares; `Training` is the index alone, the model
frozen; `Adaptation` lets low-rank changes of the model learn to read through its index.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msa_index_kernel
import torch
import torch.nn.functional as F
from lclm_fast_step import _norm
from lclm_texts import Texts
from msa_index_step import Recorded, Student, align, chosen_blocks, read
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.low_rank import changes, low_rank_decoder
from intuitive.common.returning import with_returns
from intuitive.common.runtime import seeded
from intuitive.common.training import step_once


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Texts, steps and rates of the training."""

    context: int = 4096  # tokens of a piece
    pieces: int = 2  # per step
    n_queries: int = 512  # compared in every piece, half of them where passages return
    first: int = 256  # no query before it is compared
    returning: float = 0.95  # share of pieces in which passages return
    count: tuple[int, int] = (3, 7)  # passages that return in a piece
    passage: tuple[int, int] = (48, 512)  # tokens of each
    kinds: dict[str, float] = field(
        default_factory=lambda: {"prose": 0.4, "docs": 0.3, "code": 0.3}
    )
    learning_rate: float = 4e-3  # of AdamW, without weight decay
    n_ramp: int = 50  # steps over which the rate rises; it falls as a cosine after them
    sparse_share: float = 0.2  # of the time, for steps through the index, with stored weights
    n_selected: int = 8  # blocks, in the sparse phase
    rank: int = 16  # of the changes to the attention's four matrices
    adapted_rate: float = 5e-4  # of these changes
    index_rate: float = 5e-4  # of the index beside them
    adapted_n_selected: int = 4

    @classmethod
    def small(cls) -> "Schedule":
        """A cut for two CPU cores."""
        return cls(
            context=256, pieces=1, n_queries=16, first=64, passage=(24, 60), n_ramp=2,
            n_selected=3, adapted_n_selected=3,
        )  # fmt: skip


def rate(step: int, n_steps: int, n_ramp: int) -> float:
    """Share of the learning rate at a step, counted from 0."""
    return min(1.0, (step + 1) / n_ramp) * 0.5 * (1 + math.cos(math.pi * step / n_steps))


class Feed:
    """Draws steps' texts and queries on the CPU, many at a time, and hands them out on the device.

    Args:
        texts: on the CPU.
        schedule: lengths and shares.
        device: of what is handed out.
        seed: of everything drawn.
        split: of the texts.
    """

    AHEAD = 16  # steps drawn at once, while the device works

    def __init__(
        self, texts: Texts, schedule: Schedule, device: torch.device, seed: int, split: str
    ) -> None:
        self.texts, self.schedule, self.device, self.split = texts, schedule, device, split
        self.generator, self.rng = seeded(seed), random.Random(seed)
        self.kinds = {k: v for k, v in schedule.kinds.items() if texts.has(split, k)}
        self.ready: list[tuple[Tensor, Tensor]] = []

    def piece(self) -> tuple[Tensor, Tensor]:
        """Tokens [n] and the queries [n_queries] to compare, ascending."""
        plan, generator = self.schedule, self.generator
        (kind,) = self.rng.choices(list(self.kinds), list(self.kinds.values()))
        tokens = self.texts.of(self.split, kind).draw(1, plan.context, generator)[0]
        anywhere = torch.randint(plan.first, plan.context, (plan.n_queries,), generator=generator)
        if self.rng.random() < plan.returning:
            made = with_returns(tokens, generator, count=plan.count, passage=plan.passage)
            tokens, again = made.tokens, made.returned.nonzero()[:, 0]
            half = plan.n_queries // 2
            anywhere[:half] = again[torch.randint(len(again), (half,), generator=generator)]
        return tokens, anywhere.sort().values

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Tokens [pieces, n] and queries [pieces, n_queries] of a step."""
        if not self.ready:
            b = self.schedule.pieces
            drawn = [self.piece() for _ in range(self.AHEAD * b)]
            tokens, at = (
                torch.stack(parts).unflatten(0, (-1, b)) for parts in zip(*drawn, strict=True)
            )
            if self.device.type == "cuda":
                tokens, at = tokens.pin_memory(), at.int().pin_memory()
            tokens, at = (x.to(self.device, non_blocking=True) for x in (tokens, at))
            self.ready = list(zip(tokens, at, strict=True))
        return self.ready.pop()


def optimizer_of(parameters: Sequence[Tensor] | list[dict], lr: Tensor) -> torch.optim.AdamW:
    """AdamW whose rates are tensors; on CUDA it can be recorded."""
    cuda = lr.device.type == "cuda"
    how = {"fused": True, "capturable": True} if cuda else {"foreach": False}
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, **how)


def states(optimizers: Sequence[torch.optim.Optimizer]) -> list[Tensor]:
    """All that steps of these optimisers change: parameters first, then what they remember."""
    groups = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    kept = [
        value
        for optimizer in optimizers
        for parameter in (p for group in optimizer.param_groups for p in group["params"])
        for value in optimizer.state.get(parameter, {}).values()
        if isinstance(value, Tensor)
    ]
    return [*groups, *kept]


class Training:
    """Students that learn from one frozen model side by side."""

    def __init__(
        self,
        decoder: Decoder,
        students: Sequence[Student],
        schedule: Schedule,
        feed: Feed,
        impl: str,
    ) -> None:
        self.decoder, self.schedule, self.feed, self.impl = decoder, schedule, feed, impl
        self.device = feed.device
        self.students = [student.to(self.device) for student in students]
        self.lr = torch.zeros((), device=self.device)
        self.optimizers = [optimizer_of(list(s.parameters()), self.lr) for s in self.students]
        self.kl: list[Tensor] = []  # [students, layers], of some steps
        self.steps = {"warm-up": 0, "sparse": 0}

    def state(self) -> list[Tensor]:
        return states(self.optimizers)

    def warm_step(self, tokens: Tensor, at: Tensor) -> Tensor:
        """One step of all students with everything read; their KL [students, layers]."""
        with torch.no_grad():
            seen, _ = read(self.decoder, tokens, at)
        return self._learn([(student, seen) for student in self.students], at)

    def sparse_step(self, tokens: Tensor, at: Tensor) -> Tensor:
        """The same, each student's text read through its own index."""
        return self._learn(
            [(student, self.through(student, tokens, at)) for student in self.students], at
        )

    @torch.no_grad()
    def through(self, student: Student, tokens: Tensor, at: Tensor):
        def choose(layer: int, x: Tensor) -> Tensor:
            return chosen_blocks(student, layer, x, self.schedule.n_selected)

        seen, _ = read(self.decoder, tokens, at, choose, block_size=student.msa.block_size)
        return seen

    def _learn(self, pairs, at: Tensor) -> Tensor:
        found = []
        for (student, seen), optimizer in zip(pairs, self.optimizers, strict=True):

            def gradients(_: int, student=student, seen=seen) -> dict[str, float]:
                found.append(align(student, seen, at, impl=self.impl))
                return {}  # read later: a graph records this step

            step_once(gradients, optimizer)
        return torch.stack(found)

    def run(self, seconds: float, *, steps: int | None = None) -> None:
        """Warm-up, then the sparse phase, in so many seconds in all."""
        begun = time.perf_counter()
        cuda = self.device.type == "cuda"
        share = self.schedule.sparse_share
        tokens, at = self.feed()
        step = Recorded(self.warm_step, {"tokens": tokens, "at": at}, self.state, cuda)
        self._phase("warm-up", step, begun, (1 - share) * seconds, seconds, steps)
        for student in self.students:
            student.rounded = True
        step = Recorded(self.sparse_step, {"tokens": tokens, "at": at}, self.state, cuda)
        self._phase("sparse", step, begun, seconds, seconds, steps)

    def _phase(
        self,
        name: str,
        step: Callable[..., Tensor],
        begun: float,
        until: float,
        whole: float,
        limit: int | None,
    ) -> None:
        cuda, chunks = self.device.type == "cuda", []
        while True:
            if cuda and len(chunks) > 1:  # one is computed while the next is drawn
                chunks.pop(0).synchronize()
            passed = time.perf_counter() - begun
            if self.steps[name] and (passed >= until or (limit and self.steps[name] >= limit)):
                return
            # The rate follows the time: nobody knows beforehand how many steps there will be.
            share = passed / whole
            for _ in range(8 if cuda else 1):
                ramp = min(1.0, (sum(self.steps.values()) + 1) / self.schedule.n_ramp)
                falling = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
                self.lr.fill_(self.schedule.learning_rate * ramp * falling)
                tokens, at = self.feed()
                kl = step(tokens=tokens, at=at)
                self.steps[name] += 1
            self.kl.append(kl.clone())
            if cuda:
                chunks.append(torch.cuda.Event())
                chunks[-1].record()
            if len(self.kl) % 50 == 1:
                told = " ".join(f"{value:.3f}" for value in kl.mean(1).tolist())
                print(f"{passed:5.0f} s, {name} {self.steps[name]}: KL {told}", flush=True)


class Adaptation:
    """Low-rank changes of the attention that learn with everything read, or through the index.

    Args:
        decoder: frozen.
        student: the index, which learns too; it is changed.
        arm: "frozen" (the index alone learns), "adapted", or "dense" (the changes alone, with
            everything read).
        schedule: as above, with texts one at a time.
        impl: of the KL.
    """

    def __init__(
        self, decoder: Decoder, student: Student, arm: str, schedule: Schedule, impl: str
    ) -> None:
        self.arm, self.schedule, self.impl, self.student = arm, schedule, impl, student
        device = decoder.embedding.weight.device
        self.decoder = decoder
        self.masters: list[tuple[Tensor, Tensor]] = []
        self.lr = torch.zeros((), device=device)
        self.index_lr = torch.zeros((), device=device)
        groups: list[dict] = []
        if arm != "frozen":
            self.decoder = low_rank_decoder(
                decoder, attention=schedule.rank, generator=seeded(0, device)
            )
            self.masters = [
                (p, p.detach().float().clone().requires_grad_())
                for p in changes(self.decoder).values()
            ]
            groups.append({"params": [m for _, m in self.masters], "lr": self.lr})
        if arm != "dense":
            groups.append({"params": list(student.parameters()), "lr": self.index_lr})
        self.optimizer = optimizer_of(groups, self.lr)
        self.steps = 0

    def state(self) -> list[Tensor]:
        return [p for p, _ in self.masters] + states([self.optimizer])

    def step(self, tokens: Tensor, at: Tensor) -> Tensor:
        """One step; the language model's loss and the mean KL, [2]."""
        found: list[Tensor] = []

        def gradients(_: int) -> dict[str, float]:
            found.append(self._gradients(tokens, at))
            return {}  # read later: a graph records this step

        step_once(gradients, self.optimizer)
        with torch.no_grad():
            for parameter, master in self.masters:
                parameter.copy_(master)
        return found[0]

    def _gradients(self, tokens: Tensor, at: Tensor) -> Tensor:
        def choose(layer: int, x: Tensor) -> Tensor:
            return chosen_blocks(self.student, layer, x, self.schedule.adapted_n_selected)

        for parameter, _ in self.masters:
            parameter.grad = None
        learns, sparse = self.arm != "frozen", self.arm != "dense"
        with torch.set_grad_enabled(learns):
            seen, stream = read(
                self.decoder,
                tokens,
                at,
                choose if sparse else None,
                block_size=self.student.msa.block_size,
                to_the_end=True,
            )
            states = _norm(self.decoder.norm, stream[:, :-1].flatten(0, 1))
            logits = F.linear(states, self.decoder.head.weight).float()
            loss = F.cross_entropy(logits, tokens[:, 1:].flatten())
        if learns:
            loss.backward()
            for parameter, master in self.masters:
                master.grad = parameter.grad.float()
        kl = loss.detach().new_zeros(())
        if sparse:
            kl = align(self.student, seen, at, impl=self.impl).mean()
        return torch.stack((loss.detach(), kl))

    def run(self, feed: Feed, *, n_steps: int | None = None, seconds: float | None = None) -> dict:
        """So many steps, or as many as a time allows; their losses and the time per step."""
        device = feed.device
        cuda = device.type == "cuda"
        tokens, at = feed()
        step = Recorded(self.step, {"tokens": tokens, "at": at}, self.state, cuda)
        curve = []
        begun = time.perf_counter()
        while n_steps is None or self.steps < n_steps:
            if n_steps is None and self.steps == 10:
                curve[-1].tolist()
                each = (time.perf_counter() - begun) / 10
                n_steps = max(20, int(seconds / each))
            share = rate(self.steps, n_steps or 1000, 20)
            self.lr.fill_(self.schedule.adapted_rate * share)
            self.index_lr.fill_(self.schedule.index_rate * share)
            tokens, at = feed()
            curve.append(step(tokens=tokens, at=at).clone())
            self.steps += 1
        found = torch.stack(curve).tolist()
        passed = time.perf_counter() - begun
        print(f"{self.arm}: {self.steps} steps in {passed:.0f} s, loss and KL {found[-1]}")
        return {"arm": self.arm, "steps": self.steps, "seconds": passed, "curve": found}

    def changes(self) -> dict[str, Tensor]:
        """The low-rank weights by name, in float16."""
        wide = {id(p): master for p, master in self.masters}
        return {n: wide[id(p)].detach().half() for n, p in changes(self.decoder).items()}

    def merged(self, decoder: Decoder) -> Decoder:
        """A copy of a decoder, of any dtype, with the changes added to its weights."""
        made = low_rank_decoder(decoder)  # shares all weights
        for ours, theirs in zip(made.layers, self.decoder.layers, strict=True):
            for name in ("w_q", "w_k", "w_v", "w_o"):
                change = getattr(theirs.attention, name)
                base = getattr(ours.attention, name)
                if not hasattr(change, "b"):
                    continue
                wide = {id(p): m for p, m in self.masters}
                b, a = wide[id(change.b)].detach(), wide[id(change.a)].detach()
                linear = torch.nn.Linear(*a.shape[::-1], bias=False, device="meta")
                linear.weight = torch.nn.Parameter(
                    base.weight + (b @ a).to(base.weight.dtype), requires_grad=False
                )
                setattr(ours.attention, name, linear)
        return made.eval()


def kernel_differs(decoder: Decoder, feed: Feed, student: Student) -> str:
    """What the kernel makes of a real text otherwise than the reference does; "" if nothing."""
    tokens, at = feed()
    with torch.no_grad():
        seen, _ = read(decoder, tokens[:1], at[:1])
        place = torch.arange(tokens.shape[1], device=tokens.device)[None]
        layers = slice(0, 2)
        rows = torch.stack([x[:1, at[0].long()] for x in seen.x[layers]])
        q_idx, k_idx = (
            student.queries(rows, at[:1], layers),
            student.keys(seen.x[layers], place, layers),
        )
        parts = (seen.q[layers], seen.k[layers], q_idx, k_idx)
        parts = [part.flatten(0, 1) for part in parts]
        found = [
            msa_index_kernel.kl_and_gradient(
                *parts, at[:1].repeat(2, 1), None, block_size=student.msa.block_size, impl=impl
            )
            for impl in ("reference", "triton")
        ]
    (kl, d), (kl_2, d_2) = found
    apart = ((kl - kl_2).abs().max().item(), (d - d_2.float()).abs().max().item())
    print(f"kernel to reference: KL {apart[0]:.2g} of {kl.mean():.2f}, gradient {apart[1]:.2g}")
    if apart[0] < 0.05 and apart[1] < 0.02:
        return ""
    return f"KL apart by {apart[0]:.3g}, gradient by {apart[1]:.3g}"
