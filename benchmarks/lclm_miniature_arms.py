"""What `lclm_miniature.py` trains: every size and count, and the arms of each part."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from intuitive.lclm.chunks import ChunkTask
from intuitive.lclm.fitting import Plateau
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
            d_model=256, n_layers=4, n_heads=4, d_ff=704, batch=32, lr=1e-3
        )
    )
    recall: RecallTask = field(default_factory=RecallTask)
    symbols: ReconstructionTask = field(default_factory=ReconstructionTask)
    recall_steps: int = 400
    reconstruction_steps: int = 600
    small_plateau: Plateau = field(default_factory=Plateau)
    chunks: ChunkTask = field(default_factory=ChunkTask)
    finer: int = 4  # tokens per latent of a chunk that is shown again
    chunk_steps: int = 2000
    # the large ones
    records: tuple[int, ...] = (16, 32, 64)
    large_recall: RecallTask = field(
        default_factory=lambda: RecallTask(
            n_keys=128, n_values=32, n_records=32, context=256, questions=32
        )
    )
    large_symbols: ReconstructionTask = field(
        default_factory=lambda: ReconstructionTask(n_symbols=16, context=64)
    )
    text: TextTask = field(default_factory=TextTask)
    large_steps: int = 800
    raw_steps: int = 2500  # of the decoder alone, before latents
    text_steps: int = 1200
    sweep_steps: int = 800
    ratios: tuple[int, ...] = (1, 2, 4, 8, 16)
    windows: tuple[int, ...] = (8, 64, 256)
    large_plateau: Plateau = field(default_factory=lambda: Plateau(every=400, patience=1200))
    held_out: int = 256  # examples
    observe_every: int = 100


def small_plan() -> Plan:
    """All kinds of arms at a tiny size, to see that they run."""
    tiny = Size(d_model=16, n_layers=1, n_heads=2, d_ff=16, batch=4)
    few = Plateau(every=2, patience=2, most=4)
    return Plan(
        seeds=(0,),
        small=tiny,
        large=tiny,
        recall_steps=4,
        reconstruction_steps=4,
        small_plateau=few,
        chunk_steps=4,
        records=(2, 4),
        large_recall=RecallTask(n_records=2, context=32, questions=4),
        large_symbols=ReconstructionTask(n_symbols=4, context=32),
        text=TextTask(context=32, continued=16),
        large_steps=4,
        raw_steps=4,
        text_steps=4,
        sweep_steps=4,
        ratios=(1, 8),
        windows=(8, 32),
        large_plateau=few,
        held_out=8,
        observe_every=2,
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
    """What the brief's recipe says, for a CPU."""
    recall = {"study": "recall", "n_records": plan.recall.n_records, "seed": seed}
    again = {"study": "reconstruction", "data": "symbols", "reconstruction": 1.0, "seed": seed}
    t, u = plan.recall.context, plan.symbols.context
    for form in (*(latents(n, t) for n in (1, 2, 4, 8, 16)), *RAW):
        yield Arm(form=form, **recall)
    for n in (1, 2, 4, 8, 16):
        yield Arm(form=latents(n, u), **again)
    for pooling in POOLINGS:
        for mask in MASKS:
            for window in (8, u):
                form = latents(8, window, pooling=pooling, mask=mask)
                yield Arm(form=form, **{**again, "study": "sweep"})
    for form in (latents(16, t), Form(reader="raw", ratio=1)):
        yield Arm(form=form, budget="plateau", **recall)
    for n in (4, 8, 16):
        yield Arm(form=latents(n, u), budget="plateau", **again)


def large_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Recall and reconstruction against the ratio, then mixes and stages, on real text."""
    t = plan.large_recall.context
    base = {"scale": "large", "seed": seed}
    for n_records in plan.records:
        recall = {"study": "recall", "n_records": n_records, **base}
        for form in (*(latents(n, t) for n in plan.ratios), RAW[0]):
            yield Arm(form=form, **recall)
    for data, window in (("bytes", t), ("symbols", plan.large_symbols.context)):
        for n in plan.ratios:
            kind = {"study": "reconstruction", "data": data, "reconstruction": 1.0, **base}
            upon = "joint" if data == "bytes" else "scratch"
            yield Arm(form=latents(n, window), training=upon, **kind)
    kind = {"study": "stages", "data": "bytes", "form": latents(8, t), **base}
    for share in (0.5, 1.0, 0.0):
        for training in ("joint", "staged", "frozen"):
            yield Arm(reconstruction=share, training=training, **kind)
    yield Arm(reconstruction=0.5, training="scratch", **kind)


def sweep_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Pooling, mask and window on real text, both objectives."""
    for window in plan.windows:
        for pooling in POOLINGS:
            for mask in MASKS:
                yield Arm(
                    study="sweep",
                    form=latents(8, window, pooling=pooling, mask=mask),
                    scale="large",
                    data="bytes",
                    training="joint",
                    reconstruction=0.5,
                    seed=seed,
                )


def plateau_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Recall and reconstruction until nothing is gained any more."""
    t = plan.large_recall.context
    base = {"scale": "large", "budget": "plateau", "seed": seed}
    n_records = plan.records[len(plan.records) // 2]
    for n in reversed(plan.ratios):
        yield Arm(study="recall", n_records=n_records, form=latents(n, t), **base)
        yield Arm(
            study="reconstruction",
            data="bytes",
            reconstruction=1.0,
            training="joint",
            form=latents(n, t),
            **base,
        )


def expand_arms(plan: Plan, seed: int) -> Iterator[Arm]:
    """Chunks at several ratios, of which one may be asked for again at a finer one."""
    of = plan.chunks
    for n in (4, 8, 16):
        yield Arm(
            study="expand",
            data="chunks",
            form=latents(n, of.chunk),
            n_records=of.records * of.n_chunks,
            seed=seed,
        )


PARTS = {"small": small_arms, "large": large_arms, "sweep": sweep_arms, "plateau": plateau_arms}
PARTS["expand"] = expand_arms


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
