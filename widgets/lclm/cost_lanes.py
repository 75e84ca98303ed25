"""Three ways to read one prompt as phases in time, with what the GPU holds in each."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from intuitive.lclm import cost
from intuitive.lclm.experiments.cost import CostResult

from ..kit import fixed
from .methods import CHOOSING, ENCODER, LATENT, LOGITS, RAW, WEIGHTS

Number = int | float

PARTS = {  # of what is held, in the order of stacking
    "weights": ("weights", WEIGHTS),
    "kv": ("KV cache", ""),  # the colour of what was read
    "logits": ("logits", LOGITS),
    "activations": ("working memory", ENCODER),
}
KINDS = {  # of what is done
    "encode": ("the encoder reads", ENCODER),
    "prefill": ("the decoder reads", ""),
    "evict": ("chooses and drops", CHOOSING),
}
THIN = "\u2009"
TINY = 1e-6  # seconds that are no difference


def tokens_text(count: int) -> str:
    """A number of tokens as sliders say it: 32K, 1M."""
    return f"{count // 2**20}M" if count >= 2**20 else f"{count // 1024}K"


def whole(value: Number) -> str:
    """A whole number, a thin space between thousands."""
    return f"{round(value):,}".replace(",", THIN)


def seconds(value: Number) -> str:
    """Seconds with as many digits as one can use."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{fixed(value, 2 if value < 10 else 1 if value < 100 else 0)} s"


def gib(value: Number) -> str:
    """GiB with as many digits as one can use."""
    return f"{fixed(value, 0 if value >= 100 else 1)} GiB"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One thing that a way does before its first token.

    Attributes:
        kind: of `KINDS`.
        seconds: how long it takes.
        reads: positions that are read in it.
        starts, ends: GiB held at its first and last moment, by part.
    """

    kind: str
    seconds: float
    reads: int
    starts: dict[str, float]
    ends: dict[str, float]


@dataclass(frozen=True)
class Lane:
    """One way to read the prompt.

    Attributes:
        key: of `TOPS`.
        title: what it is called.
        fill: colour of what its decoder reads.
        phases: in order.
        rests: GiB held once the first token is there, by part.
    """

    key: str
    title: str
    fill: str
    phases: tuple[Phase, ...]
    rests: dict[str, float]

    @property
    def seconds(self) -> float:
        """Time to first token."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def peak(self) -> float:
        """The most GiB that are held at any moment."""
        return sum(self.at_peak.values())

    @property
    def at_peak(self) -> dict[str, float]:
        """GiB held at the peak, by part."""
        moments = [part for phase in self.phases for part in (phase.starts, phase.ends)]
        return max(*moments, self.rests, key=lambda held: sum(held.values()))

    def ends(self) -> Iterator[tuple[Phase, float]]:
        """Each phase and when it is over."""
        now = 0.0
        for phase in self.phases:
            now += phase.seconds
            yield phase, now

    def held(self, clock: float) -> dict[str, float]:
        """GiB held at a moment, by part."""
        for phase, end in self.ends():
            if clock < end - TINY:
                share = 1 - (end - clock) / phase.seconds
                return {
                    name: phase.starts[name] + share * (phase.ends[name] - phase.starts[name])
                    for name in PARTS
                }
        return self.rests

    def most(self, clock: float) -> dict[str, float]:
        """GiB held, by part, when most was held up to a moment."""
        seen = [self.held(clock)]
        for phase, end in self.ends():
            if clock >= end - phase.seconds - TINY:
                seen.append(phase.starts)
            if clock >= end - TINY:
                seen.append(phase.ends)
        return max(seen, key=lambda held: sum(held.values()))

    def told(self, phase: Phase) -> str:
        """What is done in a phase."""
        if phase.kind == "evict":
            return KINDS["evict"][0]
        what = "latents" if phase.kind == "prefill" and self.key == "lclm" else "tokens"
        return f"{KINDS[phase.kind][0]} {whole(phase.reads)} {what}"

    def deed(self, clock: float) -> str:
        """What is done at a moment."""
        if clock >= self.seconds - TINY:
            return "first token" if clock < self.seconds + TINY else "writing"
        return self.told(next(phase for phase, end in self.ends() if clock < end - TINY))


def lanes(result: CostResult) -> tuple[Lane, Lane, Lane]:
    """Raw text, eviction after reading it, and latents, by the fits at the result's setting."""
    params, here = result.params, result.here
    raw, evict, latents = (here[arm] for arm in ("raw", "eviction", "latents"))
    read = asdict(raw.memory)
    chosen = asdict(evict.memory)
    prefill = Phase(
        kind="prefill",
        seconds=raw.time.decoder,
        reads=params.context,
        starts=_before(read),
        ends=read,
    )
    encoding, decoding = (
        asdict(moment)
        for moment in cost.latent_moments(params.context, ratio=params.ratio, logits=params.logits)
    )
    encode = Phase(
        kind="encode",
        seconds=latents.time.encoder,
        reads=params.context,
        starts=_before(encoding),
        ends=_of_encoder(encoding),
    )
    short = Phase(
        kind="prefill",
        seconds=latents.time.decoder,
        reads=-(-params.context // params.ratio),
        starts=_before(decoding),
        ends=decoding,
    )
    evicting = Phase(kind="evict", seconds=evict.time.eviction, reads=0, starts=chosen, ends=chosen)
    return (
        Lane("raw", "raw text", RAW, (prefill,), _before(read) | {"kv": raw.kept_kv_gib}),
        Lane(
            "evict",
            "eviction",
            RAW,
            (prefill, evicting),
            _before(read) | {"kv": evict.kept_kv_gib},
        ),
        Lane(
            "lclm",
            "latents",
            LATENT,
            (encode, short),
            _before(decoding) | {"kv": latents.kept_kv_gib},
        ),
    )


def _before(held: dict[str, float]) -> dict[str, float]:
    """Weights and a little room: what is there before anything is read."""
    return {"weights": held["weights"], "kv": 0.0, "logits": 0.0, "activations": cost.REST_GIB}


def _of_encoder(held: dict[str, float]) -> dict[str, float]:
    """The encoder's own keys and values are working memory: nobody reads them afterwards."""
    return held | {"kv": 0.0, "activations": held["kv"] + held["activations"]}
