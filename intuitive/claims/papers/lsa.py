"""Claims of Lookahead Sparse Attention (Wang et al. 2026, arXiv:2606.09079)."""

from typing import Any

from intuitive.common import results
from intuitive.lsa.experiments.residency_memory import ResidencyParams, measured, of
from intuitive.lsa.results import NAME, SMOLLM, LSAArms, SmolArms

from ..claim import Claim, Measured, Paper, Spread, fact, over, untested
from ..facts import lsa as facts
from ..rules import Judged, alike, held

PAPER = Paper(
    title="FlashMemory-DeepSeek-V4: Lookahead Sparse Attention",
    arxiv="2606.09079",
    read="in full in version 2; of version 3 only the figures that the official repository shows",
)
EVERYTHING_GB = {"64K": 0.23, "128K": 0.47, "256K": 0.94, "512K": 1.87, "1024K": 3.73}
TENTH_GB = {"64K": 0.04, "128K": 0.06, "256K": 0.09, "512K": 0.18, "1024K": 0.37}

# ------------------------------------------------------------------------------ exact facts


def _everything(found: dict[str, float]) -> tuple[str, Judged]:
    apart = max(abs(found[n] / paper - 1) for n, paper in EVERYTHING_GB.items())
    return (
        f"{found['64K']:.3f} to {found['1024K']:.3f} GiB from 64K to 1M tokens, by the layout of "
        "the repository",
        alike(1 + apart, 1.0, whole=0.025, part=0.1),
    )


def _tenth(found: dict[str, float]) -> tuple[str, Judged]:
    def met(accounting: str) -> int:
        return sum(abs(found[f"{accounting}_{n}"] - paper) < 0.006 for n, paper in TENTH_GB.items())

    return (
        f"{found['paper_1024K']:.2f} GiB at 1M tokens and a tenth of the chunks, if kept chunks "
        f"alone are counted; {found['everything_1024K']:.2f} GiB, "
        f"{found['everything_share_1024K']:.1%} of everything, with all that has to stay",
        held(
            ("all five lengths, kept chunks counted", met("paper") == len(TENTH_GB)),
            ("three lengths of five or more, kept chunks counted", met("paper") >= 3),
            ("three or more, everything counted", met("everything") >= 3),
        ),
    )


def _flops(found: dict[str, float]) -> tuple[str, Judged]:
    everything, tenth = found["everything"], found["tenth"]
    return (
        f"{everything:.1f} and {tenth:.1f} GFLOP, as arithmetic; the scores of the Memory Indexer "
        "are not in it",
        held(
            ("118.9 within 4%", abs(everything / 118.9 - 1) < 0.04),
            ("35.4 within 4%", abs(tenth / 35.4 - 1) < 0.04),
        ),
    )


def _labels(found: dict[str, float]) -> tuple[str, Judged]:
    naive, filtered = (
        over(found[f"{name}_{seed}"] for seed in facts.SEEDS) for name in ("naive", "filtered")
    )
    shares = [found[f"filtered_{seed}"] / found[f"naive_{seed}"] for seed in facts.SEEDS]
    return (
        f"{naive.mean:.0f} positives become {filtered:.0f} on a drawn trace of 8 layers",
        held(
            ("at most a tenth is left", max(shares) <= 0.1),
            ("something is left", filtered.low >= 1),
            limit="the trace is drawn, and has 96 chunks where the paper's have many thousands",
        ),
    )


def _tokens(found: dict[str, float]) -> tuple[str, Judged]:
    tokens, equal = found["tokens"], found["equal"]
    return (
        f"{equal:.0f} of {tokens:.0f} tokens are the same, {found['distinct']:.0f} of them "
        f"different from each other, while {found['fetched']:.0f} chunks moved (random weights)",
        held(
            ("every token is the same", equal == tokens),
            ("chunks moved and the text wanders", found["fetched"] > 0 and found["distinct"] > 10),
        ),
    )


# ----------------------------------------------------------------- memory, measured on one GPU


def memory_share() -> Measured:
    """Share of everything resident that LSA holds at 512K tokens, all categories counted."""
    found = measured()
    result = of(found, ResidencyParams(context=2**19))
    shares = {arm: result.memory_share[arm] for arm in ("lsa_sync", "lsa_overlapped")}
    return Measured(
        value=f"{shares['lsa_sync']:.1%}, or {shares['lsa_overlapped']:.1%} with room for copies "
        f"under way, at 512K tokens, a tenth kept, everything counted ({result.device})",
        judged=held(
            ("13.5% within a tenth of it", min(shares.values()) <= 1.1 * 0.135),
            ("16% with copies under way", shares["lsa_overlapped"] <= 0.16),
            limit="that a tenth suffices is assumed: no model was trained at these lengths",
        ),
        numbers=shares,
        records=(found,),
    )


# --------------------------------------------------------------------- a small model on records

USUAL: dict[str, Any] = {
    "length": 1.0, "section": 64, "offset": 0, "rule": "threshold", "threshold": 0.5, "size": None,
}  # fmt: skip


def _arm(found: LSAArms, sweep: str, arm: str, measure: str = "accuracy", **fields: Any) -> Spread:
    """A measure of one arm with the usual threshold, over seeds."""
    wanted = USUAL | {"lookahead": 64, "lag": 0, "layers": 3, "mode": "topical"} | fields
    return over(getattr(point, measure) for point in found.select(sweep, arm=arm, **wanted))


def parity() -> Measured:
    """Accuracy of LSA beside everything resident, recency and chance."""
    found = results.load(NAME, LSAArms)
    names = ("everything", "lsa", "recency", "random")
    right = {name: _arm(found.values, "arms", name) for name in names}
    kept = _arm(found.values, "arms", "lsa", "kept")
    whole, lsa = right["everything"], right["lsa"]
    return Measured(
        value=f"accuracy {lsa:.2f} with {kept.mean:.0%} of the chunks, {whole.mean:.2f} with all, "
        f"{right['recency'].mean:.2f} by recency, {right['random'].mean:.2f} by chance (a small "
        "model on topical records)",
        judged=held(
            ("level with everything resident (97%)", lsa.mean >= 0.97 * whole.mean),
            (
                "far above recency and chance in every seed",
                lsa.low > 1.5 * max(right["recency"].high, right["random"].high),
            ),
        ),
        numbers=right | {"kept": kept},
        records=(found,),
    )


def leak() -> Measured:
    """What is fetched, and how well, where every answer stands in the newest tokens."""
    found = results.load(NAME, LSAArms)
    kept, topical = (
        _arm(found.values, sweep, "lsa", "kept", mode=mode)
        for sweep, mode in (("mode", "local"), ("arms", "topical"))
    )
    right = _arm(found.values, "mode", "lsa", mode="local")
    whole = _arm(found.values, "mode", "everything", mode="local")
    return Measured(
        value=f"{kept:.1%} of the chunks are fetched (where answers need them "
        f"{topical.mean:.1%}), accuracy {right.mean:.2f} against {whole.mean:.2f}",
        judged=held(
            ("quality kept (97%)", right.mean >= 0.97 * whole.mean),
            ("at least 5% fetched all the same", kept.low >= 0.05),
        ),
        numbers={"kept": kept, "kept_topical": topical, "accuracy": right, "everything": whole},
        records=(found,),
    )


def dense_demand() -> Measured:
    """LSA and the oracle where every section needs all topics."""
    found = results.load(NAME, LSAArms)
    lsa, oracle, whole = (
        _arm(found.values, "mode", arm, mode="dense") for arm in ("lsa", "oracle", "everything")
    )
    return Measured(
        value=f"accuracy {lsa:.2f} against {whole.mean:.2f}; an oracle with as much room "
        f"{oracle.mean:.2f} (every section needs all topics)",
        judged=held(
            ("it loses as much (48 of 76 are left)", lsa.mean / whole.mean <= 48 / 76),
            ("an oracle loses too", oracle.mean < 0.99 * whole.mean),
        ),
        numbers={"lsa": lsa, "oracle": oracle, "everything": whole},
        records=(found,),
    )


def length_wall() -> Measured:
    """Accuracy beyond the length that the Memory Indexers were trained at."""
    found = results.load(NAME, LSAArms)
    one = _arm(found.values, "arms", "lsa")
    two, four = (_arm(found.values, "length", "lsa", length=n) for n in (2.0, 4.0))
    chance = _arm(found.values, "length", "random", length=4.0)
    return Measured(
        value=f"accuracy {one.mean:.2f}, {two:.2f} and {four:.2f} at 1, 2 and 4 times the length; "
        f"{chance.mean:.2f} by chance at 4 times",
        judged=held(("near chance at 4 times (within 25%)", four.mean <= 1.25 * chance.mean)),
        numbers={"one": one, "two": two, "four": four, "chance_four": chance},
        records=(found,),
    )


def one_layer() -> Measured:
    """Accuracy by the number of layers that may ask."""
    found, smol = results.load(NAME, LSAArms), results.load(SMOLLM, SmolArms)
    by = {n: _arm(found.values, "layers", "lsa", layers=n) for n in (1, 2)}
    by[3] = _arm(found.values, "arms", "lsa")
    one, three = (_smol(smol.values, "lsa", layers=layers) for layers in (1, None))
    return Measured(
        value=f"accuracy {by[1]:.2f}, {by[2]:.2f} and {by[3]:.2f} with one, two and three layers "
        f"on topical records; SmolLM2's perplexity {one:.2f} with one and {three:.2f} with three",
        judged=held(
            ("one layer below three in every seed", by[1].high < by[3].low),
            ("less than half of three layers' accuracy", by[1].mean < 0.5 * by[3].mean),
            ("in SmolLM2 a perplexity higher by a tenth", one.mean >= 1.1 * three.mean),
        ),
        numbers={f"layers_{n}": spread for n, spread in by.items()}
        | {"ppl_one": one, "ppl_three": three},
        records=(found, smol),
    )


def late() -> Measured:
    """Accuracy and perplexity where a decision is applied one window late."""
    found, smol = results.load(NAME, LSAArms), results.load(SMOLLM, SmolArms)
    right, wrong = _arm(found.values, "arms", "lsa"), _arm(found.values, "lookahead", "lsa", lag=1)
    chance = _arm(found.values, "arms", "random")
    now, then = (_smol(smol.values, "lsa", lag=lag) for lag in (0, 1))
    return Measured(
        value=f"accuracy falls from {right.mean:.2f} to {wrong:.2f} (chance {chance.mean:.2f}), "
        f"SmolLM2's perplexity in returned passages rises from {now.mean:.2f} to {then:.2f}",
        judged=held(
            ("accuracy within 3%", wrong.mean >= 0.97 * right.mean),
            ("perplexity within 3%", then.mean <= 1.03 * now.mean),
        ),
        numbers={"in_time": right, "late": wrong, "ppl_in_time": now, "ppl_late": then},
        records=(found, smol),
    )


# ------------------------------------------------------------------------------------- SmolLM2


def _smol(found: SmolArms, arm: str, **fields: Any) -> Spread:
    """Perplexity in passages that have returned, over seeds, with room for 8 chunks."""
    wanted = {"rule": "budget", "size": 8, "lookahead": 64, "lag": 0, "layers": None} | fields
    return over(point.perplexity_returned for point in found.select(arm=arm, **wanted))


def smollm() -> Measured:
    """Perplexity in returned passages, by arm at equal room."""
    found = results.load(SMOLLM, SmolArms)
    whole = over(p.perplexity_returned for p in found.values.select(arm="everything"))
    by = {arm: _smol(found.values, arm) for arm in ("oracle", "lsa", "quest", "random", "recency")}
    others = min(by[arm].low for arm in ("quest", "random", "recency"))
    return Measured(
        value=f"perplexity {by['lsa']:.2f}, with everything {whole.mean:.2f}, by an oracle "
        f"{by['oracle'].mean:.2f}, by page bounds {by['quest'].mean:.2f}, by chance "
        f"{by['random'].mean:.2f}, by recency {by['recency'].mean:.2f} (SmolLM2, passages that "
        "return, equal room)",
        judged=held(
            ("level with everything resident (3%)", by["lsa"].mean <= 1.03 * whole.mean),
            ("below recency, chance and page bounds in every seed", by["lsa"].high < others),
        ),
        numbers=by | {"everything": whole},
        records=(found,),
    )


# ------------------------------------------------------------------------------------- the table

ARMS = "python benchmarks/lsa_arms.py --device cuda"
REAL = "python benchmarks/lsa_smollm.py --device cuda"

CLAIMS = (
    fact(
        "lsa-everything-resident",
        facts.everything_resident,
        _everything,
        claim="the compressed cache takes 0.23 to 3.73 GB from 64K to 1M tokens",
        paper_value="0.23, 0.47, 0.94, 1.87 and 3.73 GB",
        source="Table 1; Fig. 1 of version 3",
    ),
    fact(
        "lsa-footprint",
        facts.tenth_resident,
        _tenth,
        claim="LSA leaves 0.04 to 0.37 GB of it on the GPU",
        paper_value="0.04, 0.06, 0.09, 0.18 and 0.37 GB",
        source="Table 1; Fig. 1 of version 3",
    ),
    Claim(
        id="lsa-memory-share",
        claim="GPU memory of the cache falls to 13.5%",
        paper_value="13.5%, the mean of nine ratios; the ratio of the means is about 10.7%",
        source="abstract, Table 1",
        measure=memory_share,
        command="python benchmarks/lsa_residency.py --device cuda",
    ),
    fact(
        "lsa-scoring-flops",
        facts.scoring_flops,
        _flops,
        claim="a token takes 35.4 instead of 118.9 GFLOP at a million tokens",
        paper_value="118.9 and 35.4 GFLOP",
        source="Fig. 1 of version 3",
    ),
    fact(
        "lsa-label-filter",
        facts.label_filter,
        _labels,
        claim="a filter of votes leaves a hundredth to a tenth of a window's positives",
        paper_value="nearly 10,000 become 100 to 1,000",
        source="Section 2.2",
    ),
    fact(
        "lsa-masking-is-moving",
        facts.moving_equals_masking,
        _tokens,
        claim="entries that really move give the text that masking them gives",
        paper_value="asserted; the scores of Table 1 may have been masked",
        source="repository",
    ),
    Claim(
        id="lsa-parity",
        claim="quality is on par with everything resident, where recency and chance collapse",
        paper_value="77.5 against 76.9; recency 33.3, a random tenth 38.7; nine rows",
        source="Table 1",
        measure=parity,
        command=ARMS,
    ),
    Claim(
        id="lsa-parity-smollm",
        claim="the same of a language model on real texts",
        paper_value="77.5 against 76.9; recency 33.3, a random tenth 38.7; nine rows",
        source="Table 1",
        measure=smollm,
        command=REAL,
    ),
    Claim(
        id="lsa-leak",
        claim="where history is irrelevant, quality holds and fetching does not end",
        paper_value="96.7 becomes 95.0 and 91.2 becomes 92.5; 8.4% fetched at 500K tokens",
        source="Table 2",
        measure=leak,
        command=ARMS,
    ),
    Claim(
        id="lsa-dense-demand",
        claim="a task that needs much of the text at once loses, even with an oracle",
        paper_value="MRCR 76.0 becomes 48.0; an oracle loses about 2 points with half",
        source="Section 3",
        measure=dense_demand,
        command=ARMS,
    ),
    Claim(
        id="lsa-length-wall",
        claim="beyond twice its training length the indexer is near chance",
        paper_value="works to 2 times, then near-random",
        source="Section 3",
        measure=length_wall,
        command=ARMS,
    ),
    Claim(
        id="lsa-one-layer",
        claim="one layer is too weak; the union of three is needed",
        paper_value="in words",
        source="ablations, in prose",
        measure=one_layer,
        command=ARMS,
    ),
    Claim(
        id="lsa-late",
        claim="a decision applied a window late is harmless",
        paper_value="windows are said to overlap by 63 of 64 steps",
        source="repository",
        measure=late,
        command=ARMS,
    ),
    Claim(
        id="lsa-throughput",
        claim="a server makes 1.7 to 2.8 times the tokens",
        paper_value="1584 to 2759 tokens per second at 256K, 455 to 1266 at 1M; 8 H20",
        source="repository",
        measure=untested(
            "it takes a server of eight GPUs, a model of 284 billion parameters and "
            "many requests at once"
        ),
    ),
    Claim(
        id="lsa-recent-requests",
        claim="over 90% of long requests can be answered from the newest 8K tokens",
        paper_value="over 90% of requests above 64K tokens",
        source="Section 1",
        measure=untested("it is about logs of a service that are not public"),
    ),
)
