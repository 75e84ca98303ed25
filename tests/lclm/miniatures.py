"""Made-up miniatures with the shape of the committed ones, for pictures and words.

Beads of up to 8 tokens learn recall, those of 16 and the raw reader stay at the guess; the sweep's
cells differ by pooling and by seed; training on reconstruction alone gains nothing when going on.
"""

from intuitive.common import results
from intuitive.lclm.results import MINIATURE, Miniatures, Part, Point

SEEDS = (0, 1, 2)
GUESS = 0.41
STEPS = (0, 100, 200, 400)
PART = Part(
    command="python benchmarks/lclm_miniature.py --part small",
    commit="0" * 40,
    device="a GPU",
    torch="2.11",
)

MADE = results.Made(
    record=MINIATURE,
    command=("python", "benchmarks/lclm_miniature.py"),
    commit="0" * 40,
    python="3.12",
    torch="2.11",
    device="a GPU",
    written="",
    config={},
    config_hash="",
    seed=SEEDS,
)


def rising(to, start=0.12):
    """A curve that ends at `to`."""
    return tuple(start + (to - start) * share for share in (0.0, 0.4, 0.9, 1.0))


def point(measures, **given):
    usual = {
        "part": "small",
        "study": "recall",
        "scale": "small",
        "data": "records",
        "budget": "equal",
        "reader": "latents",
        "ratio": 8,
        "window": 32,
        "pooling": "mean",
        "mask": "causal",
        "training": "scratch",
        "reconstruction": 0.0,
        "n_records": 0,
        "seed": 0,
        "steps": STEPS[-1],
        "reached": False,
        "context": 32,
        "curve_steps": STEPS,
    }
    return Point(**{**usual, **given}, curve=measures)


def recalls(scale, n_records, context, budget="equal"):
    for seed in SEEDS:
        shared = {"scale": scale, "n_records": n_records, "context": context, "seed": seed}
        shared |= {
            "budget": budget,
            "reached": budget == "plateau",
        }
        for ratio in (1, 2, 4, 8, 16):
            packed = max(1.0, ratio * n_records / context)
            end = 0.99 if packed <= 1 < ratio else GUESS + 0.01 * seed
            yield point({"recall accuracy": rising(end)}, ratio=ratio, **shared)
        readers = (("raw", GUESS), ("smeared", 1.0)) if budget == "equal" else (("raw", 0.97),)
        for reader, end in readers:
            curve = {"recall accuracy": rising(end)}
            yield point(curve, reader=reader, ratio=1, **shared)


def reconstructions(scale, data, context):
    for seed in SEEDS:
        for ratio in (1, 2, 4, 8, 16):
            curve = {"reconstruction accuracy": rising(1.02 - 0.04 * ratio + 0.01 * seed, 0.06)}
            yield point(
                curve,
                study="reconstruction",
                scale=scale,
                data=data,
                context=context,
                ratio=ratio,
                seed=seed,
                reconstruction=1.0,
            )


QUALITY = {"mean": 0.5, "concat": 0.45, "last": 0.3, "eos": 0.2, "queries": 0.18}


def sweep(scale, windows, data):
    for seed in SEEDS:
        for pooling, good in QUALITY.items():
            for m, mask in enumerate(("causal", "bidirectional")):
                for w, window in enumerate(windows):
                    luck = 0.05 * ((seed + m + w) % 3 - 1)
                    value = good + luck
                    curve = {"reconstruction accuracy": rising(value)}
                    if data == "bytes":
                        curve |= {"continuation loss": rising(2.2 - value, 5.5)}
                        curve |= {"without loss": rising(2.3, 5.5)}
                    yield point(
                        curve,
                        study="sweep",
                        scale=scale,
                        data=data,
                        pooling=pooling,
                        mask=mask,
                        window=window,
                        seed=seed,
                        reconstruction=1.0 if data == "symbols" else 0.5,
                        training="scratch" if data == "symbols" else "joint",
                    )


def stages():
    for seed in SEEDS:
        rows = [(s, t) for s in (0.5, 1.0, 0.0) for t in ("joint", "staged", "frozen")]
        for share, training in (*rows, (0.5, "scratch")):
            frozen = 0.2 * (training == "frozen")
            says = {0.5: 0.7, 1.0: 0.8, 0.0: 0.4}[share] - frozen + 0.002 * seed
            loss = {0.5: 2.0, 1.0: 4.5, 0.0: 1.98}[share] + frozen + 0.01 * seed
            curve = {
                "reconstruction accuracy": rising(says),
                "reconstruction loss": rising(1 - says, 5.5),
                "continuation loss": rising(loss, 5.5),
                "without loss": rising(loss + 0.1, 5.5),
            }
            yield point(
                curve,
                study="stages",
                scale="large",
                data="bytes",
                context=256,
                window=256,
                seed=seed,
                reconstruction=share,
                training=training,
            )


def made_up() -> Miniatures:
    """All of them."""
    points = [
        *recalls("small", 4, 32),
        *recalls("small", 4, 32, "plateau"),
        *(p for n in (16, 32, 64) for p in recalls("large", n, 256)),
        *reconstructions("small", "symbols", 32),
        *reconstructions("large", "bytes", 256),
        *sweep("small", (8, 32), "symbols"),
        *sweep("large", (8, 64, 256), "bytes"),
        *stages(),
    ]
    guesses = {"records small 4": GUESS, "symbols small 0": 1 / 16}
    guesses |= {f"records large {n}": 0.1 for n in (16, 32, 64)}
    return Miniatures(parts={"small": PART}, points=tuple(points), guesses=guesses)


def install(monkeypatch, *modules) -> Miniatures:
    """Let modules find the made-up miniatures where they look for the committed ones."""
    found = made_up()
    committed = results.Committed(found, MADE)
    for module in modules:
        if hasattr(module, "miniatures"):
            monkeypatch.setattr(module, "miniatures", lambda: committed)
        if hasattr(module, "names"):
            monkeypatch.setattr(module, "names", lambda: (*results.names(), MINIATURE))
        for cached in ("sets", "there"):
            if hasattr(module, cached):
                getattr(module, cached).cache_clear()
    return found
