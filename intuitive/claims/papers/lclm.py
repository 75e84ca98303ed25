"""Claims of Latent Context Language Models (Li et al. 2026, arXiv:2606.09659v1)."""

from collections.abc import Callable, Iterable

from intuitive.common import results
from intuitive.common.results import Committed
from intuitive.lclm.experiments import sweep
from intuitive.lclm.results import (
    MINIATURE,
    PAIR,
    SMOLLM,
    Miniatures,
    Pair,
    Smol,
    pair_part,
)

from ..claim import Claim, Measured, Paper, fact, over, untested
from ..facts import lclm as facts
from ..rules import Judged, held, most, reached

PAPER = Paper(
    title="End-to-End Context Compression at Scale",
    arxiv="2606.09659v1",
    read="in full, and the authors' code; points of Figure 4 were read off by a third party",
)
GPU = 141e9 / 2**30  # GiB of the H200 of the paper's Figure 4

# ------------------------------------------------------------------------------ exact facts


def _latents(found: dict[str, float]) -> tuple[str, Judged]:
    return (
        f"⌈T/N⌉ latents at {found['right']:.0f} of {found['lengths']:.0f} lengths; with both tags "
        f"{found['effective_512']:.2f} tokens per position in a span of 512, "
        f"{found['effective_million']:.2f} in one of a million",
        held(
            ("windows add up at every length", found["right"] == found["lengths"]),
            ("16 tokens per position in a long span", found["effective_million"] > 15.99),
        ),
    )


def _million(found: dict[str, float]) -> tuple[str, Judged]:
    return (
        f"{found['raw_gib']:.0f} GiB raw, {found['gib_16']:.1f} GiB and "
        f"{found['seconds_16']:.1f} s at 16 tokens per latent, by formulas",
        held(
            ("raw does not fit an H200", found["raw_gib"] > GPU),
            ("36.8 GiB within 2%", abs(found["gib_16"] / 36.8 - 1) < 0.02),
            ("10.6 s within 5%", abs(found["seconds_16"] / 10.6 - 1) < 0.05),
            limit="the constants of the formulas were fitted to the same figure; nothing was "
            "measured at this length",
        ),
    )


# ------------------------------------------------------------------------ time and memory


def _pair() -> Committed[Pair]:
    return results.load(PAIR, Pair)


def first_token(n_tokens: int, ratio: int, theirs: tuple[float, float]) -> Callable[[], Measured]:
    """How many times sooner the first token comes than from the raw prompt.

    Args:
        n_tokens: of the prompt.
        ratio: tokens per latent.
        theirs: the paper's seconds, raw and folded.
    """

    def measure() -> Measured:
        found = _pair()
        given = {"n_tokens": n_tokens, "logits": "last", "way": "whole"}
        (raw,) = found.values.select(arm="raw", ratio=1, **given)
        (folded,) = found.values.select(arm="lclm", ratio=ratio, **given)
        times = raw.ttft_s / folded.ttft_s
        return Measured(
            value=f"{times:.1f} times: {raw.ttft_s:.3g} s raw, {folded.ttft_s:.3g} s folded "
            f"(untrained pair of the same shapes, median of {folded.repeats}, "
            f"{found.made.device})",
            judged=reached(
                times,
                theirs[0] / theirs[1],
                why=f"raw text takes {raw.ttft_s / theirs[0]:.0%} of the paper's time, folded text "
                f"{folded.ttft_s / theirs[1]:.0%}",
            ),
            numbers={"times": times, "raw_s": raw.ttft_s, "folded_s": folded.ttft_s},
            records=(found,),
        )

    return measure


def memory() -> Measured:
    """How many times less memory a prompt of 256K tokens takes at the peak."""
    found = _pair()
    given = {"n_tokens": 2**18, "logits": "last", "way": "whole"}
    (raw,) = found.values.select(arm="raw", ratio=1, **given)
    (folded,) = found.values.select(arm="lclm", ratio=16, **given)
    times = raw.peak_gib / folded.peak_gib
    return Measured(
        value=f"{times:.1f} times: {raw.peak_gib:.1f} GiB raw, {folded.peak_gib:.1f} GiB folded, "
        f"with the logits of the last token alone ({found.made.device})",
        judged=reached(times, 119 / 26.1),
        numbers={"times": times, "raw_gib": raw.peak_gib, "folded_gib": folded.peak_gib},
        records=(found,),
    )


def eviction_time() -> Measured:
    """Time until decoding can begin after each way to evict, over reading the prompt alone."""
    found = pair_part("evictions")
    rows = [r for r in found.values.evictions if r.method not in ("raw", "truncation")]
    raw = {r.n_tokens: r.ready_s for r in found.values.evictions if r.method == "raw"}
    slower = {f"{r.method} at {r.n_tokens:,} tokens": r.ready_s / raw[r.n_tokens] for r in rows}
    all_of_them = over(slower.values())
    return Measured(
        value=f"{all_of_them.low:.2f} to {all_of_them.high:.2f} times the time of reading the "
        f"prompt ({', '.join(sorted({r.method for r in rows}))}; {found.made.device})",
        judged=held(*((f"{name} is not quicker", share >= 1) for name, share in slower.items())),
        numbers=slower,
        records=(found,),
    )


# ------------------------------------------------------------------------ the SmolLM2 pair


def facts_kept(ratio: int, theirs: int | float) -> Callable[[], Measured]:
    """Share of the facts that are asked for, of those answered from the raw text."""

    def measure() -> Measured:
        found = results.load(SMOLLM, Smol)
        rows = [r for r in found.values.far if (r.texts, r.what) == ("prose", "fact")]
        kept, raw, cut = (
            over(r.all_right for r in rows if (r.arm, r.adaptation) == (arm, "shared"))
            for arm in (f"compressed {ratio}", "raw", f"truncated to {ratio}")
        )
        return Measured(
            value=f"{kept:.0%} of the facts asked for, against {raw.mean:.0%} from raw text and "
            f"{cut.mean:.0%} from text cut to as many positions (SmolLM2 pair, three minutes of "
            "training)",
            judged=reached(kept.mean / raw.mean, theirs, whole=0.95, part=0.75),
            numbers={"kept": kept, "raw": raw, "cut": cut},
            records=(found,),
        )

    return measure


def expand() -> Measured:
    """Answers before and after the pair opens the chunk that it names, at 16 tokens per latent."""
    found = results.load(SMOLLM, Smol)
    rows = [row for row in found.values.maps if row.ratio == 16]
    alone, own, oracle = (
        over(row.value[name] for row in rows) for name in ("alone", "own", "oracle")
    )
    gained = (own.mean - alone.mean) / (oracle.mean - alone.mean)
    theirs = (93.99 - 76.89) / (99.5 - 76.89)
    return Measured(
        value=f"{alone:.0%} right from latents alone, {own:.0%} with the chunk that the pair "
        f"names, {oracle:.0%} with the right one: {gained:.0%} of the way",
        judged=held(
            (
                "more right in every seed",
                all(row.value["own"] > row.value["alone"] for row in rows),
            ),
            (f"three quarters of the paper's way ({theirs:.0%})", gained >= 0.75 * theirs),
        ),
        numbers={"alone": alone, "own": own, "oracle": oracle, "way": gained},
        records=(found,),
    )


# ------------------------------------------------------------------------------- miniatures


def choice(better: str, worse: str) -> Callable[[], Measured]:
    """One choice of the encoder against another, over all pairs of the small sweep."""

    def measure() -> Measured:
        found = sweep.run(sweep.SweepParams())
        (one,) = (c for c in found.comparisons if (c.better, c.worse) == (better, worse))
        gain = over(one.gains)
        return Measured(
            value=f"ahead in {one.wins} of {len(one.gains)} pairs, by {gain:+.2f} of the symbols "
            f"said again (miniature, {found.ratio} tokens per latent, three seeds)",
            judged=most(one.wins, len(one.gains)),
            numbers={"wins": one.wins, "pairs": len(one.gains), "gain": gain},
            records=(results.load(MINIATURE, Miniatures),),
        )

    return measure


def _mixes(**wanted: object) -> list[sweep.MixRow]:
    rows = sweep.run(sweep.SweepParams()).mixes
    return [r for r in rows if all(getattr(r, name) == v for name, v in wanted.items())]


def diet() -> Measured:
    """What training on reconstruction alone, or on going on alone, leaves unlearned."""
    (alone,), (mixed,), (on,) = (_mixes(training="joint", share=s) for s in (1.0, 0.5, 0.0))
    going = [over(row.continuation) for row in (alone, mixed)]
    again = [over(row.reconstruction) for row in (on, mixed)]
    return Measured(
        value=f"going on costs {going[0]:.2f} nats a byte after reconstruction alone, "
        f"{going[1].mean:.2f} after a mix; {again[0]:.0%} of the bytes are said again after "
        f"going on alone, {again[1].mean:.0%} after a mix (miniature, real text)",
        judged=held(
            ("reconstruction alone goes on worse in every seed", going[0].low > going[1].high),
            ("going on alone says less again in every seed", again[0].high < again[1].low),
        ),
        numbers={
            "going_alone": going[0], "going_mixed": going[1],
            "again_on": again[0], "again_mixed": again[1],
        },
        records=(results.load(MINIATURE, Miniatures),),
    )  # fmt: skip


def _versus(one: str, other: str) -> Measured:
    """One way to train against another: mixes of both measures, seed by seed."""
    gains: list[float] = []
    for row in _mixes(training=one):
        for against in _mixes(training=other, share=row.share):
            gains += _apart(row.reconstruction, against.reconstruction) if row.share else []
            gains += _apart(against.continuation, row.continuation) if row.share < 1 else []
    wins = sum(gain > 0 for gain in gains)
    return Measured(
        value=f"{one} training is ahead of {other} training in {wins} of {len(gains)} pairs of "
        "what a mix trains (miniature, real text, three seeds)",
        judged=most(wins, len(gains)),
        numbers={"wins": wins, "pairs": len(gains)},
        records=(results.load(MINIATURE, Miniatures),),
    )


def _apart(more: Iterable[float], less: Iterable[float]) -> list[float]:
    return [a - b for a, b in zip(more, less, strict=True)]


# ------------------------------------------------------------------------------------- the table

COST = "python benchmarks/lclm_pair.py --device cuda"
REAL = "python benchmarks/lclm_smollm.py --device cuda --candidate taught"
SMALL = "python benchmarks/lclm_miniature.py --part small --device cuda"
STAGES = "python benchmarks/lclm_miniature.py --part stages --device cuda"

CLAIMS = (
    fact(
        "lclm-positions",
        facts.latents,
        _latents,
        claim="the decoder holds N times fewer positions, in an ordinary cache",
        paper_value="⌈T/N⌉ latents, windows of 1,024 tokens",
        source="Section 3",
    ),
    fact(
        "lclm-million",
        facts.million_tokens,
        _million,
        claim="a million tokens fit one GPU at 16 tokens per latent and do not fit raw",
        paper_value="out of memory raw; 36.8 GiB and 10.6 s; H200",
        source="Fig. 4",
    ),
    Claim(
        id="lclm-first-token-256k",
        claim="the first token comes 30 times sooner at 256K tokens and 16 per latent",
        paper_value="61.4 and 2.02 s, 30 times; H200",
        source="Fig. 4",
        measure=first_token(2**18, 16, (61.4, 2.02)),
        command=COST,
    ),
    Claim(
        id="lclm-first-token-4k",
        claim="and 1.4 times sooner at 4K tokens and 4 per latent",
        paper_value="0.100 and 0.069 s, 1.4 times; H200",
        source="Fig. 4",
        measure=first_token(2**12, 4, (0.100, 0.069)),
        command=COST,
    ),
    Claim(
        id="lclm-memory-256k",
        claim="memory at the peak falls 4.6 times at 256K tokens and 16 per latent",
        paper_value="119 and 26.1 GiB, 4.6 times; logits of the whole prompt are counted",
        source="Fig. 4",
        measure=memory,
        command=COST,
    ),
    Claim(
        id="lclm-eviction-time",
        claim="evicting from the cache does not bring the first token sooner",
        paper_value="FastKVzip 63.1 s, no compression 61.4 s at 256K tokens",
        source="Fig. 4",
        measure=eviction_time,
        command=f"{COST} --part evictions",
    ),
    Claim(
        id="lclm-quality-4",
        claim="at 4 tokens per latent nearly all of the quality is left",
        paper_value="RULER at 4K 91.76 against 94.41, 97% of it",
        source="Table 6",
        measure=facts_kept(4, 91.76 / 94.41),
        command=REAL,
    ),
    Claim(
        id="lclm-quality-16",
        claim="at 16 tokens per latent much of the quality is left",
        paper_value="RULER at 4K 75.06 against 94.41, 80% of it",
        source="Table 6",
        measure=facts_kept(16, 75.06 / 94.41),
        command=REAL,
    ),
    Claim(
        id="lclm-eviction-quality",
        claim="at 16 times less it is ahead of every eviction on RULER",
        paper_value="75.06 at 4K; KVzip 62.73, SnapKV 20.54",
        source="Table 6",
        measure=untested(
            "evictions and pair were measured on different texts, and a pair trained for three "
            "minutes says nothing of one trained on 350 billion tokens"
        ),
    ),
    Claim(
        id="lclm-expand",
        claim="EXPAND restores nearly all of what 16 tokens per latent lose",
        paper_value="76.89 becomes 93.99 at 4K, where raw text gives 99.5 (derived)",
        source="Table 33",
        measure=expand,
        command=REAL,
    ),
    Claim(
        id="lclm-mean-or-marker",
        claim="mean pooling is better than marker tokens",
        paper_value="loss 1.169 against 1.191 with windows of 1,024",
        source="Fig. 9",
        measure=choice("mean", "eos"),
        command=SMALL,
    ),
    Claim(
        id="lclm-causal",
        claim="an encoder that looks back is better than one that looks both ways",
        paper_value="loss 1.169 against 1.191; RULER at 4K 75.06 against 71.62",
        source="Fig. 9, Table 30",
        measure=choice("causal", "bidirectional"),
        command=SMALL,
    ),
    Claim(
        id="lclm-window",
        claim="wide windows are better than windows of one group",
        paper_value="loss 1.169 against 1.183; RULER at 4K 62.33 (another mask) against 24.85",
        source="Fig. 9, Table 31",
        measure=choice("32", "8"),
        command=SMALL,
    ),
    Claim(
        id="lclm-diet",
        claim="reconstruction alone trains nothing else; going on alone loses exact strings",
        paper_value="in words",
        source="App. C.1",
        measure=diet,
        command=STAGES,
    ),
    Claim(
        id="lclm-frozen",
        claim="a frozen decoder is clearly worse",
        paper_value="in words",
        source="Section 4",
        measure=lambda: _versus("joint", "frozen"),
        command=STAGES,
    ),
    Claim(
        id="lclm-staged",
        claim="training in stages beats training everything from the start",
        paper_value="in words",
        source="Section 4",
        measure=lambda: _versus("staged", "joint"),
        command=STAGES,
    ),
    Claim(
        id="lclm-benchmarks",
        claim="accuracy on LongBench, LongHealth and GSM8K",
        paper_value="46.04, 76.25 and 91.05 at 4 tokens per latent; raw 45.21, 75.75 and 93.25",
        source="Table 6",
        measure=untested(
            "it takes a pair of 0.6 and 4 billion parameters trained on 350 billion tokens"
        ),
    ),
)
