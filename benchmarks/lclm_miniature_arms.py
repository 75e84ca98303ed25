"""What `lclm_miniature.py` trains: every size and count, and the arms of each part."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from intuitive.lclm.chunks import ChunkTask
from intuitive.lclm.miniature import Form, Size
from intuitive.lclm.stages import Stage
from intuitive.lclm.task import RecallTask, ReconstructionTask, TextTask

POOLINGS = ("mean", "concat", "last", "eos", "queries")
MASKS = ("causal", "bidirectional")
WHOLE = Fraction(1)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every size and count."""

    seeds: tuple[int, ...] = (0, 1, 2)
    small: Size = field(default_factory=Size)
    large: Size = field(
        default_factory=lambda: Size(
            d_model=256, n_layers=4, n_heads=4, d_ff=704, batch=16, lr=1e-3
        )
    )
    recall: RecallTask = field(default_factory=RecallTask)
    symbols: ReconstructionTask = field(default_factory=ReconstructionTask)
    chunks: ChunkTask = field(default_factory=ChunkTask)
    finer: int = 4  # tokens per latent of a chunk that is shown again
    # the large ones
    records: tuple[int, ...] = (32, 64)
    large_recall: RecallTask = field(
        default_factory=lambda: RecallTask(
            n_keys=32, n_values=16, n_records=32, context=256, questions=32
        )
    )
    large_symbols: ReconstructionTask = field(
        default_factory=lambda: ReconstructionTask(n_symbols=16, context=64)
    )
    text: TextTask = field(default_factory=TextTask)
    ratios: tuple[int, ...] = (1, 2, 4, 8, 16)
    windows: tuple[int, ...] = (8, 64, 256)
    # steps: by scale and data, and for studies of their own
    steps: dict[str, int] = field(
        default_factory=lambda: {
            "small records": 400,
            "small symbols": 600,
            "small chunks": 3000,
            "large records": 2000,
            "large symbols": 800,
            "large bytes": 1200,
            "sweep": 800,
            "raw": 2000,  # of the decoder alone, before latents
        }
    )
    longer: dict[str, int] = field(  # of arms that are to come to a plateau
        default_factory=lambda: {
            "small records": 12_000,
            "small symbols": 8000,
            "large records": 4000,
            "large bytes": 4000,
        }
    )
    held_out: int = 256  # examples
    observed: int = 8  # times while training, at equal steps
    observed_large: int = 4  # beside the ends of its stages
    observed_longer: int = 30  # times, on the way to a plateau


def small_plan() -> Plan:
    """All kinds of arms at a tiny size, to see that they run."""
    tiny = Size(d_model=16, n_layers=1, n_heads=2, d_ff=16, batch=4)
    plan = Plan()
    return dataclasses.replace(
        plan,
        seeds=(0, 1),
        small=tiny,
        large=tiny,
        records=(2, 4),
        large_recall=RecallTask(n_records=2, context=32, questions=4),
        large_symbols=ReconstructionTask(n_symbols=4, context=32),
        text=TextTask(context=32, continued=16),
        ratios=(1, 8),
        windows=(8, 32),
        steps=dict.fromkeys(plan.steps, 5),
        longer=dict.fromkeys(plan.longer, 10),
        held_out=4,
        observed=2,
        observed_large=1,
        observed_longer=5,
    )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One miniature to train."""

    study: str
    form: Form
    seed: int
    scale: str = "small"
    data: str = "records"  # "records", "symbols", "bytes" or "chunks"
    budget: str = "equal"
    training: str = "scratch"
    reconstruction: float = 0.0
    n_records: int = 0

    @property
    def sizes(self) -> tuple[str, str]:
        """What decides how long it takes."""
        return self.scale, self.data


# ---------------------------------------------------------------------------------- the studies


def latents(ratio: int, window: int, **choices: str) -> Form:
    return Form(ratio=ratio, window=window, **choices)


RAW = (Form(reader="smeared", ratio=1), Form(reader="raw", ratio=1))


def small_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """The recipe for a CPU: recall, reconstruction, and the sweep."""
    t, u = plan.recall.context, plan.symbols.context
    for form in (*(latents(n, t) for n in (1, 2, 4, 8, 16)), *RAW):
        yield Arm(study="recall", n_records=plan.recall.n_records, form=form, seed=seed)
    for n in (1, 2, 4, 8, 16):
        yield _again(latents(n, u), seed)
    for pooling in POOLINGS:
        for mask in MASKS:
            for window in (8, u):
                form = latents(8, window, pooling=pooling, mask=mask)
                yield _again(form, seed, study="sweep")


def small_long_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """The same until they gain no more, the raw control among them."""
    of = {"study": "recall", "n_records": plan.recall.n_records, "budget": "plateau", "seed": seed}
    for form in (RAW[1], latents(16, plan.recall.context)):
        yield Arm(form=form, **of)
    for n in (16, 8, 4):
        yield _again(latents(n, plan.symbols.context), seed, budget="plateau")


def _again(form: Form, seed: int, **more: str) -> Arm:
    """Reconstruction of random symbols."""
    made = {"study": "reconstruction", "data": "symbols", "reconstruction": 1.0, **more}
    return Arm(form=form, seed=seed, **made)


def expand_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Chunks at several ratios, of which one may be asked for again at a finer one."""
    of = plan.chunks
    for n in (16, 8, 4):
        yield Arm(
            study="expand",
            data="chunks",
            form=latents(n, of.chunk),
            n_records=of.records * of.n_chunks,
            seed=seed,
        )


def ratio_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Large: recall and reconstruction against the ratio."""
    t, u = plan.large_recall.context, plan.large_symbols.context
    base = {"scale": "large", "seed": seed}
    few, *more = plan.records
    for form in (*(latents(n, t) for n in reversed(plan.ratios)), *RAW):
        yield Arm(study="recall", n_records=few, form=form, **base)
    for n in plan.ratios:
        yield _bytes(latents(n, t), seed, study="reconstruction", reconstruction=1.0)
    for n_records in more:
        for form in (*(latents(n, t) for n in reversed(plan.ratios) if n > 2), RAW[0]):
            yield Arm(study="recall", n_records=n_records, form=form, **base)
    for n in plan.ratios:
        yield _again(latents(n, u), seed, scale="large")


def stage_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Large, on real text: mixes, and what trains when."""
    form = latents(8, plan.text.context)
    for share in (0.5, 1.0, 0.0):
        for training in ("joint", "frozen"):
            yield _bytes(form, seed, study="stages", reconstruction=share, training=training)
    for training in ("staged", "scratch"):
        yield _bytes(form, seed, study="stages", reconstruction=0.5, training=training)
    for share in (1.0, 0.0):
        yield _bytes(form, seed, study="stages", reconstruction=share, training="staged")


def sweep_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Large, on real text, both objectives: pooling, mask and window."""
    narrow, *middle, wide = plan.windows
    for window in (wide, narrow, *middle):
        for pooling in POOLINGS:
            for mask in MASKS:
                form = latents(8, window, pooling=pooling, mask=mask)
                yield _bytes(form, seed, study="sweep", reconstruction=0.5)


def long_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Large: recall and reconstruction until nothing is gained any more."""
    t, n_records = plan.large_recall.context, plan.records[0]
    for n in reversed(plan.ratios):
        if n > 2:
            form = latents(n, t)
            how = {"study": "reconstruction", "reconstruction": 1.0, "budget": "plateau"}
            yield _bytes(form, seed, **how)
            yield Arm(
                study="recall",
                n_records=n_records,
                form=form,
                scale="large",
                budget="plateau",
                seed=seed,
            )


def _bytes(form: Form, seed: int, *, training: str = "joint", **more: str | float) -> Arm:
    """Real text, on a decoder that has read it raw."""
    return Arm(form=form, scale="large", data="bytes", training=training, seed=seed, **more)


PARTS = {
    "small": small_arms,
    "small_long": small_long_arms,
    "expand": expand_arms,
    "ratio": ratio_arms,
    "stages": stage_arms,
    "sweep": sweep_arms,
    "long": long_arms,
}


# ------------------------------------------------------------------------------------ the stages


GROWTH = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))  # a fifth of the steps each


def growing(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages on spans that grow: an eighth, a quarter, a half, the whole.

    Output j must learn to look at latent ⌊j/N⌋. On long spans alone that takes thousands of steps
    to begin; what was learned on short ones carries over.
    """
    total = sum(stage.n_steps for stage in stages)
    ends = [total * (i + 1) // 5 for i in range(len(GROWTH))]
    found, taken = [], 0
    for stage in stages:
        stop = taken + stage.n_steps
        cuts = [*(end for end in ends if taken < end < stop), stop]
        for cut in cuts:
            done = sum(end <= taken for end in ends)
            share = GROWTH[done] if done < len(GROWTH) else WHOLE
            if cut > taken:
                name = f"{stage.name}, {share} of it"
                found.append(dataclasses.replace(stage, name=name, n_steps=cut - taken))
            taken = cut
    return found
