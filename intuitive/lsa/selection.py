"""Which chunks are on the GPU: from the Memory Indexer's logits to a resident set.

Scores are logits of one trigger, per target layer. The canonical rule is a threshold on single
chunks, joined over the layers; pages and a fixed budget are arms beside it. The tail, the sink
and decoded tokens are always resident.

Source: arXiv:2606.09079v2, sections 2.1 and 2.4; pages, lag and sticky sets follow the
repository's server.
Differs: strictly above the threshold, as in the repository's code; the paper's "at least" would
keep every chunk for which no head fires, whose logit is exactly 0.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.inputs import public

from .config import LSAConfig

Rule = Literal["threshold", "budget", "pages"]

FP8_MAX = 448.0  # greatest value of float8 e4m3


@public(mixed=True, empty="*")
def memory_logits(
    q: Float[Tensor, "heads d"], weights: Float[Tensor, " heads"], keys: Float[Tensor, "chunks d"]
) -> Float[Tensor, " chunks"]:
    """Σ_h w_h · ReLU(q_h · K_s) of one query against every chunk's key, in float32.

    Args:
        q: queries of the heads, positions already applied.
        weights: of the heads, already scaled; of either sign.
        keys: frozen index keys; dequantise fp8 first (`dequantise_keys`).

    Source: arXiv:2606.09079v2, Eq. 4, before the sigmoid.
    """
    agreement = (q.float() @ keys.float().T).relu()  # [heads, chunks]
    return weights.float() @ agreement


@public(empty="axes")
def quantise_keys(
    keys: Float[Tensor, "*axes d"],
) -> tuple[Float[Tensor, "*axes d"], Float[Tensor, "*axes"]]:
    """Keys as fp8 (e4m3) and one float32 scale per chunk: d + 4 bytes each."""
    scale = keys.float().abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny * FP8_MAX)
    scale = scale / FP8_MAX
    return (keys.float() / scale[..., None]).to(torch.float8_e4m3fn), scale


@public(mixed=True, empty="*")
def dequantise_keys(
    stored: Float[Tensor, "*axes d"], scale: Float[Tensor, "*axes"]
) -> Float[Tensor, "*axes d"]:
    """The float32 keys that `quantise_keys` stored, each value within a 16th of its own size."""
    return stored.float() * scale[..., None]


@public(empty="axes chunks windows")
def above(
    logits: Float[Tensor, "*axes layers chunks"], threshold: float
) -> Bool[Tensor, "*axes chunks"]:
    """Chunks whose probability is greater than the threshold in at least one layer.

    Logits are compared, not probabilities: near 0 the sigmoid rounds to 0.5 exactly.

    Args:
        logits: -inf marks chunks that do not exist.
        threshold: a probability in (0, 1).

    Raises:
        ValueError: `threshold` out of range.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold} must lie between 0 and 1, both excluded.")
    return logits.amax(-2) > math.log(threshold) - math.log1p(-threshold)


@public(empty="axes chunks windows")
def best(logits: Float[Tensor, "layers chunks"], n: int) -> Bool[Tensor, " chunks"]:
    """The `n` chunks with the greatest logit of any layer; ties to the lower chunk."""
    joined = logits.amax(-2)
    order = joined.sort(descending=True, stable=True).indices[: whole("n", n, low=0)]
    chosen = torch.zeros_like(joined, dtype=torch.bool)
    chosen[order] = True
    return chosen & (joined > -torch.inf)


@public(empty="*")
def densest_pages(
    chosen: Bool[Tensor, " chunks"],
    *,
    page_size: int,
    n_pages: int,
    forced: Bool[Tensor, " chunks"],
) -> Bool[Tensor, " chunks"]:
    """All chunks of the pages that hold most of the chosen ones.

    Pages with a forced chunk come first and count; ties go to the lower page. A page without any
    chosen chunk is not taken.

    Args:
        chosen: chunks above the threshold.
        page_size: chunks per page; the last page may be shorter.
        n_pages: pages kept at most (the paper's KMAX), unless more are forced.
        forced: chunks whose pages must be there.
    """
    n = len(chosen)
    page = torch.arange(n, device=chosen.device) // whole("page_size", page_size, low=1)
    count = torch.zeros(-(-n // page_size), device=chosen.device, dtype=torch.float32)
    must = count.index_add(0, page, forced.float()) > 0
    density = count.index_add(0, page, chosen.float()).masked_fill(must, torch.inf)
    order = density.sort(descending=True, stable=True).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    kept = must | ((rank < whole("n_pages", n_pages, low=0)) & (density > 0))
    return kept[page]


@public(empty="*", n=0)
def always_resident(
    closed: int, n: int, config: LSAConfig, *, decoded_from: int | None = None
) -> Bool[Tensor, " n"]:
    """The sink, the tail and the decoded chunks among n, `closed` of which exist.

    Args:
        closed: chunks that exist at the trigger.
        n: length of the result.
        config: `sink` and `tail`.
        decoded_from: first chunk that decoding closed; None if there is none.
    """
    chunk = torch.arange(n, device="cpu")
    first = closed - config.tail_chunks
    if decoded_from is not None:
        first = min(first, decoded_from)
    return ((chunk < config.sink) | (chunk >= first)) & (chunk < closed)


@public(empty="*")
def check_rule(rule: str, size: int | None) -> None:
    """ValueError unless the rule exists and has the size that it needs."""
    if rule not in ("threshold", "budget", "pages"):
        raise ValueError(f"rule={rule!r} is unknown: 'threshold', 'budget' or 'pages'.")
    if (size is None) != (rule == "threshold"):
        raise ValueError(
            f"size={size} does not go with rule={rule!r}: a budget and pages have a size, a "
            "threshold has none."
        )


@public(empty="axes chunks windows")
def decide(
    logits: Float[Tensor, "layers chunks"],
    always: Bool[Tensor, " chunks"],
    config: LSAConfig,
    *,
    rule: Rule,
    size: int | None,
) -> Bool[Tensor, " chunks"]:
    """Chunks that one trigger asks for; arguments as in `resident_sets`.

    Args:
        always: chunks that are resident in any case: a budget is not spent on them, and their
            pages come first.
    """
    if rule == "budget":
        return best(logits.masked_fill(always, -torch.inf), size)
    chosen = above(logits, config.threshold)
    if rule == "threshold":
        return chosen
    return densest_pages(chosen, page_size=config.page_size, n_pages=size, forced=always)


@public(empty="axes chunks windows")
def resident_sets(
    logits: Float[Tensor, "windows layers chunks"],
    closed: Int[Tensor, " windows"],
    config: LSAConfig,
    *,
    rule: Rule = "threshold",
    size: int | None = None,
    lag: int = 0,
    sticky: bool = False,
) -> Bool[Tensor, "windows chunks"]:
    """Resident chunks at each trigger of one decode, one set for all CSA layers.

    Args:
        logits: the Memory Indexer's, at each trigger.
        closed: chunks that exist at each trigger; those after the first trigger's are decoded.
        config: threshold, tail, sink and page size.
        rule: "threshold" keeps what is above it; "budget" the best `size` chunks besides the tail,
            the sink and decoded chunks; "pages" the `size` densest pages, theirs among them.
        size: chunks or pages; not for "threshold".
        lag: windows by which a decision arrives late, 0 or 1. The first window of a late server
            has the always-resident chunks only.
        sticky: whether a window keeps what earlier ones fetched.

    Raises:
        ValueError: an unknown rule, a size that is missing or out of place, a lag other than 0
            and 1, or `closed` of another length.

    Source: arXiv:2606.09079v2, section 2.1; lag, pages and sticky sets as in the repository.
    """
    check_rule(rule, size)
    if lag not in (0, 1):
        raise ValueError(f"lag={lag} must be 0 or 1 windows.")
    n_windows, _, n = logits.shape
    exists = torch.arange(n, device=logits.device) < closed[:, None]
    logits = logits.masked_fill(~exists[:, None], -torch.inf)
    always = [
        always_resident(count, n, config, decoded_from=int(closed[0])).to(logits.device)
        for count in closed.tolist()
    ]
    resident = torch.zeros(n_windows, n, dtype=torch.bool, device=logits.device)
    for window, here in enumerate(always):
        if window >= lag:
            asked = window - lag  # a late set was decided by what was resident then
            here = here | decide(logits[asked], always[asked], config, rule=rule, size=size)
        if sticky and window:
            here = here | resident[window - 1]
        resident[window] = here & exists[window]
    return resident
