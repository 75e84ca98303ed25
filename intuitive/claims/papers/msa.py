"""Claims of MiniMax Sparse Attention (Lai et al. 2026, arXiv:2606.13392v2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intuitive.common import results
from intuitive.msa.recall import Measures
from intuitive.msa.results import Losses, QualityRow, RecallFile, kernel_rows, kernel_times

from ..claim import Claim, Measured, Paper, Spread, fact, over, untested
from ..facts import msa as facts
from ..rules import Judged, alike, at_most, held, reached

PAPER = Paper(
    title="MiniMax Sparse Attention",
    arxiv="2606.13392v2",
    read="only in page-cited public readings of version 2 that agree with each other, and in "
    "public code",
)
MILLION = 2**20

# ------------------------------------------------------------------------------ exact facts


def _exact(found: dict[str, float]) -> tuple[str, Judged]:
    within, beyond = found["largest_error_within"], found["largest_beyond"]
    return (
        f"outputs differ by {within:.0e} at most while every block is selected, by {beyond:.2f} "
        "beyond (float64)",
        held(
            ("equal to dense attention within the budget", within < 1e-12),
            ("different beyond it", beyond > 1e-3),
        ),
    )


def _flops(found: dict[str, float]) -> tuple[str, Judged]:
    return (
        f"{found['ratio']:.2f} times fewer by Eq. 12 at 2^20 tokens, of at most "
        f"{found['ceiling']:.0f}; the index takes {found['index_share']:.0%} of what is left",
        alike(found["ratio"], 28.4, whole=0.01, part=0.1),
    )


def _orders(found: dict[str, float]) -> tuple[str, Judged]:
    return (
        f"{found['query_outer']:.1f} and {found['kv_outer']:.1f} FLOP per byte; outputs differ by "
        f"{found['largest_error']:.0e} (float64)",
        held(
            ("16 FLOP per byte within 3%", abs(found["query_outer"] / 16 - 1) < 0.03),
            ("85 FLOP per byte within 3%", abs(found["kv_outer"] / 85 - 1) < 0.03),
            ("equal outputs", found["largest_error"] < 1e-12),
        ),
    )


def _disjoint(found: dict[str, float]) -> tuple[str, Judged]:
    index, others = found["index_parameters"], found["others"]
    return (
        f"the language loss reaches {found['index_reached']:.0f} of {index:.0f} parameters of the "
        f"index and {found['others_reached']:.0f} of {others:.0f} others",
        held(
            ("no parameter of the index is reached", found["index_reached"] == 0 < index),
            ("all others are", found["others_reached"] == others),
        ),
    )


# ------------------------------------------------------------------------- times on one H100


def times(task: str, context: int, theirs: int | float, told: str) -> Callable[[], Measured]:
    """How many times faster MSA is, for one task of `kernel_times` at one context."""

    def measure() -> Measured:
        found = kernel_times()
        (row,) = (row for row in found.of(task) if row.context == context)
        return Measured(
            value=f"{row.speedup:.1f} times: {row.dense_ms:.4g} ms dense, {row.msa_ms:.4g} ms MSA "
            f"({told}, one layer, {found.device})",
            judged=reached(row.speedup, theirs, why=OTHERS),
            numbers={"speedup": row.speedup, "dense_ms": row.dense_ms, "msa_ms": row.msa_ms},
            records=(kernel_rows(),),
        )

    return measure


OTHERS = "other kernels on another card, against a baseline that the paper does not state"
PREFILL = "8,192 queries that see 2^19 tokens, as those of a prefill of 2^20 do on average"
DECODE = "one query that sees 2^20 tokens"


# ------------------------------------------------------------- the index of SmolLM2, converted


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What both runs that trained an index say of it."""

    perplexity: tuple[Losses, ...]
    quality: tuple[QualityRow, ...]


def index_run() -> str:
    """The newer run where it is there."""
    return "msa_index" if "msa_index" in results.names() else "msa_conversion"


CONTEXT, BLOCK = 4096, 64  # tokens


def _losses(rows: Sequence[Losses], selector: str, n_selected: int | None) -> Spread:
    return over(
        row.all
        for row in rows
        if (row.selector, row.context, row.n_selected) == (selector, CONTEXT, n_selected)
        and not row.dense_layers
    )


def _quality(found: Converted) -> tuple[list[QualityRow], int]:
    """The trained index's choice beside the main attention's, and the largest budget."""
    rows = [
        row
        for row in found.quality
        if (row.selector, row.context, row.block_size) == ("trained_index", CONTEXT, BLOCK)
    ]
    return rows, max(row.n_selected for row in rows)


def block_recall() -> Measured:
    """Of the trained index, at the largest budget measured."""
    found = results.load(index_run(), Converted)
    rows, k = _quality(found.values)
    recall = over(row.block_recall for row in rows if row.n_selected == k)
    mass = over(row.mass_captured for row in rows if row.n_selected == k)
    least = min(row.block_recall for row in rows)
    return Measured(
        value=f"block recall {recall:.2f}, attention mass captured {mass:.2f} "
        f"(SmolLM2, {k} of {CONTEXT // BLOCK} blocks of {BLOCK} tokens)",
        judged=reached(
            recall.mean,
            0.70,
            whole=1.0,
            part=0.75,
            why=f"a frozen model whose own projections the index starts from; {least:.2f} or more "
            "at every budget measured",
        ),
        numbers={"block_recall": recall, "mass_captured": mass},
        records=(found,),
    )


def window_against_index() -> Measured:
    """Perplexity of a window with the first block, and of the trained index, by budget."""
    found = results.load(index_run(), Converted)
    rows = found.values.perplexity
    budgets = sorted({r.n_selected for r in rows if r.context == CONTEXT and r.n_selected})
    numbers, told, conditions = {}, [], []
    for k in budgets:
        window, index = (_losses(rows, name, k) for name in ("window_sink", "trained_index"))
        numbers |= {f"window_{k}": window, f"index_{k}": index}
        told.append(f"{window.mean:.2f} and {index:.2f} with {k}")
        conditions.append((f"worse than every seed with {k} blocks", window.low > index.high))
    return Measured(
        value=f"perplexity of window and index: {', '.join(told)} blocks (SmolLM2, {CONTEXT} "
        "tokens)",
        judged=held(*conditions),
        numbers=numbers,
        records=(found,),
    )


def perplexity_after_conversion() -> Measured:
    """Of the sparse model over the dense one's, at the largest budget."""
    found = results.load(index_run(), Converted)
    rows = found.values.perplexity
    k = max(r.n_selected for r in rows if r.context == CONTEXT and r.n_selected)
    dense, sparse = _losses(rows, "dense", None).mean, _losses(rows, "trained_index", k)
    judged = at_most(sparse.mean / dense, 1.0, whole=1.01, part=1.1)
    return Measured(
        value=f"{sparse:.2f} against {dense:.2f} dense, {k} of {CONTEXT // BLOCK} blocks "
        "(SmolLM2 stayed frozen, only its index was trained)",
        judged=judged,
        numbers={"sparse": sparse, "dense": dense},
        records=(found,),
    )


# --------------------------------------------------------------------------- associative recall

ARMS = "python benchmarks/msa_arms.py"


def _arm(found: RecallFile, arm: str) -> list[Measures]:
    """The last measures of every seed of an arm."""
    return [run.heldout[-1] for run in found.runs if run.config.arm == arm]


def score_recall() -> Measured:
    """Main-attention mass on the blocks that both selections share; SmolLM2's was not recorded."""
    found, smol = results.load("msa_arms", RecallFile), results.load(index_run(), Converted)
    rows, k = _quality(smol.values)
    mass = over(row.mass_captured for row in rows if row.n_selected == k)
    last = _arm(found.values, "msa_warmup")
    score, block = over(m.score_recall for m in last), over(m.block_recall for m in last)
    return Measured(
        value=f"{score:.2f}, below a block recall of {block:.2f} (associative recall, 4 of 32 "
        f"blocks); SmolLM2's is not recorded: at most the {mass.mean:.2f} that all its {k} blocks "
        "hold",
        judged=held(
            ("score recall of 0.90", score.mean >= 0.90),
            ("above block recall", score.mean > block.mean),
        ),
        numbers={"score_recall": score, "block_recall": block, "smollm_at_most": mass},
        records=(found, smol),
    )


def gradient_source() -> Measured:
    """Accuracy with the KL, without it, and of a window."""
    found = results.load("msa_arms", RecallFile)
    with_kl, without, window = (
        over(m.accuracy for m in _arm(found.values, arm))
        for arm in ("msa_warmup", "msa_untrained", "window")
    )
    return Measured(
        value=f"accuracy {with_kl:.2f} with the KL, {without:.2f} by the language loss alone, "
        f"{window:.2f} with a window (associative recall)",
        judged=held(
            ("retrieval poor without the KL in every seed", without.high < 0.75 * with_kl.low),
            ("retrieval whole with it", with_kl.low > 0.95),
        ),
        numbers={"with_kl": with_kl, "without_kl": without, "window": window},
        records=(found,),
    )


def warm_up() -> Measured:
    """Accuracy and mass captured with and without it, at the end."""
    found = results.load("msa_arms", RecallFile)
    arms = _arm(found.values, "msa_warmup"), _arm(found.values, "msa")
    right = [over(m.accuracy for m in last) for last in arms]
    mass = [over(m.mass_captured for m in last) for last in arms]
    return Measured(
        value=f"accuracy {right[0]:.3f} with and {right[1]:.3f} without, mass captured "
        f"{mass[0]:.2f} and {mass[1]:.2f} (associative recall, after 300 steps)",
        judged=held(
            ("a higher accuracy with warm-up", right[0].mean > right[1].mean),
            ("more mass captured with warm-up", mass[0].mean > mass[1].mean),
        ),
        numbers=dict(
            zip(("accuracy", "accuracy_without", "mass", "mass_without"), right + mass, strict=True)
        ),
        records=(found,),
    )


def detach() -> Measured:
    """Accuracy and loss without the detach, with a large and with a moderate weight of the KL."""
    found = results.load("msa_arms", RecallFile)
    last = {name: [r.heldout[-1] for r in runs] for name, runs in found.values.variants.items()}
    names = {"kept": "kl_weight=5", "large": "kl_weight=5 without detach"}
    names["small"] = "kl_weight=1 without detach"
    right = {key: over(m.accuracy for m in last[name]) for key, name in names.items()}
    loss = over(m.loss for m in last[names["large"]])
    return Measured(
        value=f"at a KL weight of 5 accuracy {right['large']:.2f} and a loss of {loss:.2f} without "
        f"the detach, accuracy {right['kept']:.2f} with it; at a weight of 1 without it "
        f"{right['small']:.2f}",
        judged=held(
            ("training fails in every seed without it", right["large"].high < 0.2),
            ("and with it in none", right["kept"].low > 0.95),
            limit="gradient norms were not recorded",
        ),
        numbers=right | {"loss_large": loss},
        records=(found,),
    )


# ------------------------------------------------------------------------------------- the table

INDEX = {
    "msa_index": "python benchmarks/msa_index.py --device cuda --corpus corpus --out build/index "
    "--student 128:64:main:0",
    "msa_conversion": "python benchmarks/msa_conversion.py --device cuda",
}[index_run()]
KERNELS = "python benchmarks/kernels.py benchmarks/results"

CLAIMS = (
    fact(
        "msa-exact",
        facts.dense_within_budget,
        _exact,
        claim="selected blocks get exact attention: while they cover the text it is dense "
        "attention",
        paper_value="exact, no approximation within a block",
        source="Eq. 8",
    ),
    fact(
        "msa-flops-1m",
        facts.flops_at_a_million,
        _flops,
        claim="attention takes 28.4 times fewer FLOPs per token at a million tokens",
        paper_value="28.4 times; 64 query and 4 KV heads, 16 blocks of 128",
        source="Fig. 4, Eq. 12",
    ),
    fact(
        "msa-loop-orders",
        facts.loop_orders,
        _orders,
        claim="looping over key blocks gives the same output with five times the FLOPs per byte",
        paper_value="16 and about 85 FLOP per byte",
        source="Section 4, Eqs. 13 to 16",
    ),
    fact(
        "msa-disjoint-losses",
        facts.disjoint_losses,
        _disjoint,
        claim="language loss and index loss train disjoint parameters",
        paper_value="by construction: gradients are stopped",
        source="Section 3.2",
    ),
    Claim(
        id="msa-prefill-1m",
        claim="prefill is 14.2 times faster at a million tokens",
        paper_value="14.2 times on H800, baseline kernel not stated",
        source="Fig. 4",
        measure=times("last queries", MILLION // 2, 14.2, PREFILL),
        command=KERNELS,
    ),
    Claim(
        id="msa-decode-1m",
        claim="decoding is 7.6 times faster at a million tokens",
        paper_value="7.6 times on H800, batch size not stated",
        source="Fig. 4",
        measure=times("decode", MILLION, 7.6, DECODE),
        command=KERNELS,
    ),
    Claim(
        id="msa-block-recall",
        claim="after a conversion the index finds most of the blocks that matter",
        paper_value="block recall 0.70 to 0.75, read off a plot; 109B parameters",
        source="Fig. 3",
        measure=block_recall,
        command=INDEX,
    ),
    Claim(
        id="msa-score-recall",
        claim="the blocks that it shares with the main attention hold nearly all of the mass",
        paper_value="score recall 0.90 to 0.94, read off a plot",
        source="Fig. 3",
        measure=score_recall,
        command=ARMS,
    ),
    Claim(
        id="msa-window",
        claim="a window with the first block, at the same budget, is worse",
        paper_value="a higher perplexity on all six agent sets",
        source="App. B.6",
        measure=window_against_index,
        command=INDEX,
    ),
    Claim(
        id="msa-perplexity",
        claim="converted to sparse, the model keeps its perplexity",
        paper_value="1.150 against 1.155 (TAU2), 1.216 against 1.216 (SWE); 400B more tokens",
        source="Table 2",
        measure=perplexity_after_conversion,
        command=INDEX,
    ),
    Claim(
        id="msa-gradient-source",
        claim="by the language loss alone the index retrieves poorly; the KL mends it",
        paper_value="in words and plots",
        source="App. B.2",
        measure=gradient_source,
        command=ARMS,
    ),
    Claim(
        id="msa-warm-up",
        claim="a warm-up with full attention makes a better model",
        paper_value="better on short tasks and RULER, in a plot",
        source="App. B.4",
        measure=warm_up,
        command=ARMS,
    ),
    Claim(
        id="msa-detach",
        claim="without the detach a large weight of the KL breaks training",
        paper_value="gradient norm near 10^5 after 300 to 500 steps, loss 9 to 10 instead of 2.5",
        source="App. B.3",
        measure=detach,
        command=ARMS,
    ),
    Claim(
        id="msa-benchmarks",
        claim="quality is on par with dense attention, trained from scratch or converted",
        paper_value="MMLU 67.0, 67.2 and 66.8; RULER at 128K 72.00 and 72.12; 109B parameters",
        source="Tables 2 and 3",
        measure=untested("it takes 109 billion parameters and trillions of tokens"),
    ),
    Claim(
        id="msa-top-k",
        claim="top-k without exponentials is 2.7 to 5.1 times faster than torch.topk",
        paper_value="5.1 times at 128K tokens and k = 16, H800",
        source="Table 1",
        measure=untested("the table does not say how many rows a call selects from"),
    ),
)
