"""Two shelves: which chunks of a text are on the GPU while SmolLM2 goes on with it.

`run` plays a policy over a recorded decode, at once. `run_live` lets the model itself decode under
the same policy, with everything else masked, and returns the same record with the text it wrote.
"""

import copy
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from intuitive.common import smollm
from intuitive.common.checks import whole_fields
from intuitive.common.decoder import generate
from intuitive.common.runtime import check, never
from intuitive.common.settings import Settings
from intuitive.common.smollm import SmolLM2
from intuitive.common.training import Progress, silent

from ..arms import Policy, Residency, replay
from ..recording import Recording
from ..selection import check_rule
from ..shelf_texts import ShelfText, shelf_texts
from ..shipped import recording
from ..smollm import SmolIndexers, load_indexers
from ..smollm_decoding import decode_live, record

TEXTS = ("letter", "lease", "alice")
RULES = ("threshold", "budget", "pages")
PAGE = 4  # chunks of a page
TOP_K = 16  # chunks that a step of the reactive arm asks for, as many as labels look at


@dataclass(frozen=True, kw_only=True)
class ShelvesParams(Settings):
    """Which text, and who decides what is on the GPU, when, and how much.

    Raises:
        ValueError: an unknown text, arm or rule, or a number out of range.
    """

    text: str = "letter"  # one of TEXTS
    arm: str = "lsa"  # one of `arms.ARMS`
    lookahead: int = 64  # steps between two triggers (τ)
    rule: str = "threshold"  # one of RULES
    threshold: float = 0.5  # of the rules "threshold" and "pages"
    budget: int = 8  # chunks beside tail and sink, of the rule "budget"
    pages: int = 12  # those of tail, sink and decoded chunks among them, of the rule "pages"
    lag: int = 0  # windows by which a decision comes late
    layers: int = 3  # target layers whose verdicts are joined
    tail: int = 256  # newest tokens that are always resident
    sticky: bool = False  # whether what was resident stays so

    def __post_init__(self) -> None:
        if self.text not in TEXTS:
            raise ValueError(f"text={self.text!r} is unknown; choose one of {', '.join(TEXTS)}.")
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r} is unknown; choose one of {', '.join(RULES)}.")
        whole_fields(self, lookahead=1, budget=0, pages=0, lag=0, layers=1, tail=0)
        _ = self.policy(chunk_size=16)

    def policy(self, chunk_size: int) -> Policy:
        """The same as `arms` takes it. The first chunk is an attention sink, always resident."""
        size = {"budget": self.budget, "pages": self.pages}.get(self.rule)
        check_rule(self.rule, size)
        return Policy(
            self.arm,
            lookahead=self.lookahead,
            rule=self.rule,
            threshold=self.threshold,
            size=size,
            lag=self.lag,
            layers=self.layers,
            tail_chunks=-(-self.tail // chunk_size),
            sink=1,
            sticky=self.sticky,
            page_size=PAGE,
            top_k=TOP_K,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShelvesResult:
    """A decode, and what of its history was at hand."""

    params: ShelvesParams
    recording: Recording
    residency: Residency
    live: bool  # whether the model decoded under this policy; else it had everything
    losses: tuple[float, ...] = ()  # nats of each written token, of a live decode

    @property
    def written(self) -> str:
        """The text of the decoded part."""
        return "".join(self.recording.words[self.recording.n_prompt :])


def recorded(text: str) -> Recording:
    """The recording of one of `TEXTS` that comes with the package.

    Raises:
        ValueError: no such text.
        FileNotFoundError: this copy of the package lacks it.
    """
    if text not in TEXTS:
        raise ValueError(f"text={text!r} is unknown; choose one of {', '.join(TEXTS)}.")
    return recording(f"recording-{text}")


@functools.cache
def shipped_indexers() -> SmolIndexers:
    """The Memory Indexers that come with the package, on the CPU."""
    with torch.inference_mode(False):
        return load_indexers()


def run(
    params: ShelvesParams, *, stale: Callable[[], bool] = never, progress: Progress = silent
) -> ShelvesResult:
    """Play the policy over the recorded decode.

    Raises:
        ValueError: more layers than were recorded.
        Cancelled: `stale()` was true.
    """
    check(stale)
    made = recorded(params.text)
    residency = replay(made, params.policy(made.chunk_size))
    return ShelvesResult(params=params, recording=made, residency=residency, live=False)


def run_live(
    params: ShelvesParams,
    *,
    model: SmolLM2 | None = None,
    n_new: int | None = None,
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> ShelvesResult:
    """Let SmolLM2 go on with the text by itself, greedily, seeing only what is resident.

    Args:
        params: any arm but "oracle", which would have to know what comes.
        model: SmolLM2; loaded if None.
        n_new: tokens to write; as many as the recording has if None.
        stale: turns true when nobody waits; asked before every layer of every token.
        progress: called after each token; its third argument is the text written so far.

    Raises:
        ModelMissing: the model file is absent.
        ValueError: the oracle, or more layers than there are indexers.
        Cancelled: `stale()` became true. What was written until then went to `progress`.
    """
    indexers = shipped_indexers()
    policy = params.policy(indexers.config.chunk_size)
    progress(0.0, "Loading the model")
    model = smollm.load_smollm2() if model is None else model
    device = model.decoder.embedding.weight.device
    text = shelf_texts()[params.text]
    prompt = torch.tensor(model.tokenizer.encode(text.prompt), device=device)
    progress(0.0, f"Reading {len(prompt):,} tokens")
    decode = decode_live(
        model,
        prompt,
        indexers if device.type == "cpu" else copy.deepcopy(indexers).to(device),
        policy,
        n_new=recorded(params.text).n_steps if n_new is None else n_new,
        name=text.name,
        stale=stale,
        progress=progress,
    )
    return ShelvesResult(
        params=params,
        recording=decode.recording,
        residency=decode.residency,
        live=True,
        losses=tuple(decode.losses.tolist()),
    )


@torch.no_grad()
def record_shelf(model: SmolLM2, text: ShelfText, indexers: SmolIndexers) -> Recording:
    """Record one of the lesson's texts, its decoded part given or written greedily by the model.

    Args:
        model: SmolLM2.
        text: one of `shelf_texts`.
        indexers: trained Memory Indexers, on the model's device.
    """
    encode, device = model.tokenizer.encode, model.decoder.embedding.weight.device
    prompt = encode(text.prompt)
    if text.given:
        parts = [(title, encode(part)) for title, part in text.parts]
        source = "decoded part given"
    else:
        start = torch.tensor([prompt], device=device)
        written = generate(model.decoder, start, max_new_tokens=text.n_new)[0].tolist()
        parts = [("Written by SmolLM2", written)]
        source = "decoded part written greedily by the model with everything resident"
    firsts = itertools.accumulate((len(ids) for _, ids in parts), initial=0)
    sections = tuple((first, title) for first, (title, _) in zip(firsts, parts, strict=False))
    ids = prompt + [token for _, part in parts for token in part]
    return record(
        model,
        torch.tensor(ids, device=device),
        indexers,
        n_prompt=len(prompt),
        name=text.name,
        sections=sections,
        source=f"SmolLM2-135M-Instruct, {source}; python benchmarks/lsa_smollm.py --record",
    )
