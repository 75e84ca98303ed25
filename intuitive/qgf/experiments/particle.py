"""One particle and its swarm: where the critic is asked, what it answers, and the step taken.

The particle is the first of a batch of which the others are the swarm, so that both come out of one
sample. Beside it the same particle goes under the OOD gradient and unguided, and where a reader has
written a step of their own (`exercise.py`), by that one.

Source: Zhou et al. 2026, arXiv:2606.11087, Algorithm 1.
"""

import threading
from dataclasses import dataclass, replace

import numpy as np
import torch
from cachetools import LRUCache, cached
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.arrays import read_only
from intuitive.common.runtime import check, never, seeded
from intuitive.common.settings import Settings
from intuitive.common.training import Progress, silent

from ..checks import settle
from ..exercise import GuidedStep, StepFault, follow
from ..guidance import ESTIMATORS, Guidance, Oracles, Stale, Step
from ..sampling import sample_guided
from ..tilting import tilt
from ..trimodal import MEANS, PRESETS, STDS, VIEWS, TrimodalParams, modes

ASKING = ("bc", "ood", "qgf", "qgf_jacobian", "flow_dps", "chain", "bptt")  # at one point, or never
N_GRID = 481  # positions of densities and critic


@dataclass(frozen=True, kw_only=True)
class ParticleParams(Settings):
    """One particle of a preset's flow, and how many go with it."""

    preset: str = "A"  # decides the mixture, and the critic but for its peak
    peak: float = 0.8  # a*
    bump: float = -1.8  # where the critic's second hill is; preset A has none
    weight: float = 1.0  # w
    estimator: str = "qgf"  # one of `ASKING`
    n_steps: int = 10  # Euler steps T
    start: float = -0.6  # x_0 of the particle
    n_particles: int = 400  # of the swarm
    seed: int = 0  # of the swarm

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r}: choose one of {', '.join(PRESETS)}.")
        if self.estimator not in ASKING:
            raise ValueError(f"estimator={self.estimator!r}: choose one of {', '.join(ASKING)}.")
        settle(
            self,
            {
                "peak": (-4, 4),
                "bump": (-6, 6),
                "weight": (0, 100),
                "n_steps": (1, 200),
                "start": (-5, 5),
                "n_particles": (1, 100_000),
            },
        )

    @property
    def flow(self) -> TrimodalParams:
        """Mixture, critic and return."""
        return replace(
            PRESETS[self.preset],
            peak=self.peak,
            bump_position=self.bump,
            weight=self.weight,
            n_steps=self.n_steps,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """One particle's way under one estimator; entry k is of time k/T, and the last of the action.

    Where an estimator asks nobody, `asked`, `slope` and `carried` are NaN and `push` is 0. At
    t = 1, where no step is left, `step` is 0 and the rest is what would be asked there.
    """

    estimator: str
    x: Float[np.ndarray, " n_times"]  # where it stands
    velocity: Float[np.ndarray, " n_times"]  # of the flow alone
    estimate: Float[np.ndarray, " n_times"]  # x̂_1 = x + (1 - t) v
    asked: Float[np.ndarray, " n_times"]  # where the critic is asked
    slope: Float[np.ndarray, " n_times"]  # Q' there
    carried: Float[np.ndarray, " n_times"]  # the slope after Jacobian or identity, and schedule
    push: Float[np.ndarray, " n_times"]  # w times that, added to the velocity
    step: Float[np.ndarray, " n_times"]  # from this time to the next: (velocity + push)/T
    final_mode: int  # counted from the left; -1 is off every mode


@dataclass(frozen=True, kw_only=True, eq=False)
class Swarm:
    """All particles under one estimator."""

    estimator: str
    x: Float[np.ndarray, "n_times n"]
    final_mode: Int[np.ndarray, " n"]  # counted from the left; -1 is off every mode
    shares: tuple[float, ...]  # of the swarm, in each mode
    off_mode: float  # share farther than 3σ from every mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Yours:
    """The same particle and some of the swarm by a step that a reader has written.

    Where the step fails, `fault` says how and the arrays are empty.
    """

    x: Float[np.ndarray, " n_times"]
    swarm: Float[np.ndarray, "n_times n"]  # the first particles of the swarm
    shares: tuple[float, ...]  # of these, in each mode
    same_as: str  # the estimator that takes the particle the same way, or ""
    fault: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ParticleResult:
    """One particle and its swarm, with ghosts of both, and what to draw them on."""

    params: ParticleParams
    times: Float[np.ndarray, " n_times"]
    walk: Walk
    ghosts: dict[str, Walk]  # the same particle under "ood" and "bc"
    swarm: Swarm
    ghost_swarms: dict[str, Swarm]
    peak_mode: int  # the mode nearest to the peak
    ray: Float[np.ndarray, " n_times"]  # a*/t: what height a* decodes to; none at 0
    view: tuple[float, float]
    means: tuple[float, ...]
    std: float
    grid: Float[np.ndarray, " n_grid"]
    hills: Float[np.ndarray, "n_times n_grid"]  # p_t of the unguided flow
    density: Float[np.ndarray, " n_grid"]  # p_1
    tilted: Float[np.ndarray, " n_grid"]  # p*, the exact tilt at this weight
    critic: Float[np.ndarray, " n_grid"]
    true_return: Float[np.ndarray, " n_grid"]
    tilt_shares: tuple[float, ...]  # of the exact tilt, by the nearest mode
    yours: Yours | None = None


def run(
    params: ParticleParams,
    *,
    yours: GuidedStep | None = None,
    stale: Stale = never,
    progress: Progress = silent,
) -> ParticleResult:
    """Follow one particle and its swarm under an estimator, under OOD, and unguided.

    Args:
        params: the setting.
        yours: a reader's `guided_step` (`exercise.py`), followed beside them; whatever it does,
            nothing is raised, and what goes wrong stands in the result.
        stale: turns true when nobody waits; asked at every Euler step.
        progress: called with a share in [0, 1] and a sentence before each estimator.

    Raises:
        Cancelled: `stale()` became true.
    """
    flow = params.flow
    ghosts, walks = ("ood", "bc"), {}
    compared = () if yours is None else ("qgf",)
    for i, name in enumerate(dict.fromkeys((params.estimator, *ghosts, *compared))):
        check(stale)
        progress(i / 3, f"Sampling with {name}")
        asked = replace(params, estimator=name)
        if name == "bc":  # which no critic moves
            asked = replace(asked, peak=0.0, bump=0.0, weight=0.0)
        walks[name] = _walked(asked, stale)
    with torch.inference_mode(False), torch.no_grad():
        times = torch.arange(params.n_steps + 1, dtype=torch.float64) / params.n_steps
        grid = torch.linspace(*VIEWS[params.preset], N_GRID, dtype=torch.float64)
        mixture = flow.mixture
        means = MEANS[params.preset]
        walk, swarm = walks[params.estimator]
        tilted = tilt(mixture, flow.q, flow.weight, grid)
        nearest = (grid[:, None] - torch.tensor(means, dtype=torch.float64)).abs().argmin(1)
        return ParticleResult(
            params=params,
            times=read_only(times),
            walk=walk,
            ghosts={name: walks[name][0] for name in ghosts},
            swarm=swarm,
            ghost_swarms={name: walks[name][1] for name in ghosts},
            peak_mode=min(range(len(means)), key=lambda k: abs(means[k] - params.peak)),
            ray=read_only(params.peak / times),
            view=VIEWS[params.preset],
            means=means,
            std=STDS[params.preset],
            grid=read_only(grid),
            hills=read_only(torch.stack([mixture.log_prob_t(grid, t).exp() for t in times])),
            density=read_only(mixture.log_prob(grid).exp()),
            tilted=read_only(tilted),
            critic=read_only(flow.q(grid)),
            true_return=read_only(flow.true_return(grid)),
            tilt_shares=tuple(
                float((tilted * (nearest == k)).sum() / tilted.sum()) for k in range(len(means))
            ),
            yours=None if yours is None else _followed(yours, params, walks, stale),
        )


def _followed(
    step: GuidedStep, params: ParticleParams, walks: dict[str, tuple[Walk, Swarm]], stale: Stale
) -> Yours:
    """The particle and some of the swarm by a reader's step."""
    flow, (_, swarm) = params.flow, walks[params.estimator]
    start = torch.from_numpy(np.append(params.start, swarm.x[0])).double()
    try:
        path = follow(
            step,
            start,
            field=flow.mixture,
            critic=flow.q,
            weight=params.weight,
            n_steps=params.n_steps,
            stale=stale,
        )
    except StepFault as fault:
        return Yours(x=np.empty(0), swarm=np.empty((0, 0)), shares=(), same_as="", fault=f"{fault}")
    ends = modes(flow, path[-1, 1:])
    same = [name for name, (walk, _) in walks.items() if np.allclose(walk.x, path[:, 0], atol=1e-6)]
    return Yours(
        x=read_only(path[:, 0]),
        swarm=read_only(path[:, 1:]),
        shares=tuple(float((ends == k).double().mean()) for k in range(3)),
        same_as=same[0] if same else "",
        fault="",
    )


@cached(cache=LRUCache(16), key=lambda params, *_: params, lock=threading.Lock())
def _walked(params: ParticleParams, stale: Stale) -> tuple[Walk, Swarm]:
    """The particle and the swarm under one estimator."""
    flow, seen = params.flow, []

    def observe(step: Step, found: Guidance) -> None:
        seen.append(_first(step, found))

    with torch.inference_mode(False), torch.no_grad():
        noise = torch.randn(
            params.n_particles, generator=seeded(params.seed), dtype=torch.float32
        ).double()
        sample = sample_guided(
            flow.mixture,
            flow.q,
            estimator=params.estimator,
            weight=params.weight,
            n_steps=params.n_steps,
            n_particles=params.n_particles + 1,
            generator=seeded(params.seed),
            start=torch.cat((noise.new_tensor([params.start]), noise)),
            observe=observe,
            stale=stale,
        )
        path, ends = sample.trajectory, modes(flow, sample.actions)
        end = _at_the_end(params, path[-1, :1])
        observe(end, ESTIMATORS[params.estimator](end))
        velocity, estimate, asked, slope, carried, push = torch.stack(seen, 1)
        step = path[:, 0].diff(append=path[-1:, 0])
        swarm = ends[1:]
        walk = Walk(
            estimator=params.estimator,
            x=read_only(path[:, 0]),
            velocity=read_only(velocity),
            estimate=read_only(estimate),
            asked=read_only(asked),
            slope=read_only(slope),
            carried=read_only(carried),
            push=read_only(push),
            step=read_only(step),
            final_mode=int(ends[0]),
        )
        return walk, Swarm(
            estimator=params.estimator,
            x=read_only(path[:, 1:]),
            final_mode=read_only(swarm),
            shares=tuple(float((swarm == k).double().mean()) for k in range(3)),
            off_mode=float((swarm < 0).double().mean()),
        )


def _first(step: Step, found: Guidance) -> Tensor:
    """Of the first particle: velocity, estimate, query, slope there, slope carried, push."""
    nowhere = torch.full_like(step.x, torch.nan)
    told = (found.queries, found.slope, found.carried)
    parts = (step.velocity, step.estimate, *(nowhere if p is None else p for p in told))
    return torch.stack([part[0] for part in (*parts, found.velocity)])


def _at_the_end(params: ParticleParams, x: Tensor) -> Step:
    """The step that would follow the last one, at t = 1."""
    oracles = Oracles(field=params.flow.mixture, critics=(params.flow.q,))
    weight = torch.tensor(float(params.weight), dtype=x.dtype)
    return Step(x=x, velocity=oracles.velocity(x, 1.0), times=[1.0], weight=weight, oracles=oracles)
