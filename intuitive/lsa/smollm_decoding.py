"""SmolLM2 with only a part of its history at hand: recorded, measured, and decoding live.

Non-resident chunks are masked in all layers, which gives what gathering the resident ones gives
(`residency` moves memory for the small CSA model, and there both are compared token for token).

Source: arXiv:2606.09079v2, section 2.1.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, pad, scaled_dot_product_attention

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder, DecoderCache, DecoderConfig, DenseAttention
from intuitive.common.runtime import check, never
from intuitive.common.smollm import SmolLM2
from intuitive.common.training import Progress, silent

from .arms import Policy, Residency, replay
from .recording import Recording
from .smollm import SmolIndexers
from .smollm_harvest import SmolTrace, Watcher, harvest

# ------------------------------------------------------------------------------- the masking


@dataclass
class View:
    """What all layers of a masked decoder may read at the moment."""

    allowed: Bool[Tensor, "n m"] | None = None  # by the next call's queries; None: everything


class MaskedAttention(DenseAttention):
    """Dense attention that leaves out what its view does not allow."""

    def __init__(self, config: DecoderConfig, view: View) -> None:
        super().__init__(config)
        self.view = view

    def attend(
        self,
        q: Float[Tensor, "b n h_q d"],
        k: Float[Tensor, "b m h_kv d"],
        v: Float[Tensor, "b m h_kv d"],
    ) -> Float[Tensor, "b n h_q d"]:
        if self.view.allowed is None:
            return super().attend(q, k, v)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        attended = scaled_dot_product_attention(
            q, k, v, attn_mask=self.view.allowed, enable_gqa=self.config.group_size > 1
        )
        return attended.transpose(1, 2)


def masked_decoder(decoder: Decoder) -> tuple[Decoder, View]:
    """The same decoder with attention that can be masked, and the view that masks all layers.

    Every weight is shared with the given decoder, which stays as it is.
    """
    masked = copy.deepcopy(decoder, {id(weight): weight for weight in decoder.parameters()})
    view = View()
    for number, layer in enumerate(masked.layers):
        dense = layer.attention
        with torch.device("meta"):  # the dense layer's weights come next
            module = MaskedAttention(dense.config, view)
        module.w_q, module.w_k, module.w_v, module.w_o = dense.w_q, dense.w_k, dense.w_v, dense.w_o
        masked.exchange_attention(number, module.train(dense.training))
    return masked, view


def readable(
    resident: Bool[Tensor, "n chunks"], first: int, chunk_size: int
) -> Bool[Tensor, "n m"]:
    """Which tokens the queries from `first` on may read: resident chunks, and the open one.

    Args:
        resident: by the queries; chunks that no query's past has closed yet do not matter.
        first: position of the first query; m = first + n.
        chunk_size: tokens.
    """
    n, device = len(resident), resident.device
    place = torch.arange(first, first + n, device=device)[:, None]
    token = torch.arange(first + n, device=device)
    chunk = token // chunk_size
    wide = pad(resident, (0, max(0, int(chunk[-1]) + 1 - resident.shape[1])))
    return (wide[:, chunk] | (chunk >= place // chunk_size)) & (token <= place)


@torch.no_grad()
def step_losses(
    decoder: Decoder,
    view: View,
    cache: DecoderCache,
    steps: Int[Tensor, " steps"],
    resident: Bool[Tensor, "steps chunks"] | None,
    chunk_size: int,
) -> Float[Tensor, " predicted"]:
    """How badly each step of a given text predicts the next token, in nats.

    Args:
        decoder, view: from `masked_decoder`.
        cache: of the prompt, read with everything; it is the same afterwards.
        steps: the decoded tokens. The last one predicts nothing.
        resident: chunks at hand in each step; None: everything.
        chunk_size: tokens.
    """
    first = cache.length
    view.allowed = None if resident is None else readable(resident, first, chunk_size)
    try:
        stream = decoder.hidden(steps[None], cache=cache)[0, :-1]
    finally:
        view.allowed = None
        cache.crop(first)
    losses = [
        cross_entropy(decoder.logits(rows[None])[0].float(), targets, reduction="none")
        for rows, targets in zip(stream.split(512), steps[1:].split(512), strict=True)
    ]
    return torch.cat(losses)


# ------------------------------------------------------------------------------- recordings


def recording(
    trace: SmolTrace,
    indexers: SmolIndexers,
    words: Sequence[str],
    *,
    name: str,
    sections: tuple[tuple[int, str], ...] = (),
    source: str = "",
) -> Recording:
    """A trace and what Memory Indexers say to it, in the form that `arms.replay` plays.

    Args:
        trace: from `harvest` or `Watcher`, with the target layers of the indexers.
        indexers: the trained ones.
        words: of all tokens, prompt and decoded.
        name, sections, source: as in `Recording`.
    """
    n = trace.n_chunks
    with torch.no_grad():
        scores = indexers(trace.hidden, trace.positions, trace.keys[:, :n])
    there = torch.arange(n, device=scores.device) < trace.closed[:, None]
    parts = {
        "closed": trace.closed,
        "needed": trace.golden[:, :n],
        "mass": trace.mass[:, :n],
        "scores": scores.masked_fill(~there[:, None], -torch.inf),
        "native": trace.native[:, :n].masked_fill(~there, -torch.inf),
        "bounds": trace.bounds[:, :n].masked_fill(~there, -torch.inf),
    }
    return Recording(
        name=name,
        words=tuple(words),
        n_prompt=len(words) - len(trace.closed),
        chunk_size=trace.config.chunk_size,
        sections=sections,
        source=source,
        **{part: tensor.cpu() for part, tensor in parts.items()},
    )


def record(
    model: SmolLM2,
    tokens: Int[Tensor, " n"],
    indexers: SmolIndexers,
    *,
    n_prompt: int,
    name: str,
    sections: tuple[tuple[int, str], ...] = (),
    source: str = "",
    stale: Callable[[], bool] = never,
) -> Recording:
    """Read a text with everything resident and record its part from token `n_prompt` on.

    Args:
        model: SmolLM2.
        tokens: prompt and decoded tokens, on the model's device.
        indexers: trained Memory Indexers, on that device too.
        n_prompt: tokens of the prompt.
        name, sections, source: as in `Recording`.
        stale: turns true when nobody waits; asked before every layer.

    Raises:
        ValueError: as in `smollm.harvest`.
        Cancelled: `stale()` became true.
    """
    trace = harvest(model.decoder, tokens, indexers.config, n_prompt=n_prompt, stale=stale)
    words = model.tokenizer.token_strings(tokens.tolist())
    return recording(trace, indexers, words, name=name, sections=sections, source=source)


def policy_of(indexers: SmolIndexers, arm: str = "lsa", **changes: object) -> Policy:
    """A policy with the tail, sink, page size and lookahead that the indexers were trained for."""
    config = indexers.config
    fields = {
        "lookahead": config.lookahead,
        "tail_chunks": config.tail_chunks,
        "sink": config.sink,
        "page_size": config.page_size,
    }
    return Policy(arm, **(fields | changes))


# ------------------------------------------------------------------------------ live decoding


@dataclass(frozen=True, eq=False)
class LiveDecode:
    """What the model wrote while it saw only what the policy kept resident."""

    recording: Recording  # of this decode; what was needed is judged with everything in sight
    residency: Residency
    tokens: tuple[int, ...]  # written
    losses: Float[Tensor, " steps"]  # nats: how unlikely the model held each written token


LIVE_ARMS = ("lsa", "recency", "random", "quest", "reactive", "everything")


@torch.no_grad()
def decode_live(
    model: SmolLM2,
    prompt: Int[Tensor, " n"],
    indexers: SmolIndexers,
    policy: Policy,
    *,
    n_new: int,
    forced: Sequence[int] | None = None,
    name: str = "live",
    sections: tuple[tuple[int, str], ...] = (),
    stale: Callable[[], bool] = never,
    progress: Progress = silent,
) -> LiveDecode:
    """Continue a prompt while non-resident chunks are masked in every layer.

    The prompt is read with everything, as in the paper. At every trigger the policy decides by
    what the masked model itself has come to; misses are judged against its unrestricted attention.

    Args:
        model: SmolLM2.
        prompt: its tokens, on the model's device.
        indexers: trained Memory Indexers, on that device too.
        policy: any arm but the oracle, which would have to know what comes. Reactive fetches
            whatever a step asks for, so nothing is masked.
        n_new: tokens to write, greedily; at least 2.
        forced: tokens to take instead of the model's own, as many.
        name, sections: of the recording.
        stale: turns true when nobody waits; asked before every layer of every step.
        progress: called after each token with a share in [0, 1] and a sentence; its third argument
            is the text written so far.

    Raises:
        ValueError: the oracle; lengths that do not fit.
        Cancelled: `stale()` became true.
    """
    if policy.arm not in LIVE_ARMS:
        raise ValueError(
            f"arm={policy.arm!r} cannot decode live, as it looks ahead: choose one of "
            f"{', '.join(LIVE_ARMS)}, or replay a recording."
        )
    n_new = whole("n_new", n_new, low=2)
    limit = model.config.max_positions - n_new
    whole("tokens of the prompt", len(prompt), low=1, high=limit, why="the model holds no more")
    if forced is not None and len(forced) != n_new:
        raise ValueError(f"forced has {len(forced)} tokens, n_new={n_new}: give as many.")
    decoder, view = masked_decoder(model.decoder)
    watcher = Watcher(decoder, indexers.config, len(prompt) + n_new)
    size = indexers.config.chunk_size
    check(stale)
    stream = watcher.prompt(prompt)
    plan = _Plan(len(prompt), n_new, size, len(indexers.layers), policy)
    tokens: list[int] = []
    losses: list[Tensor] = []
    for step in range(n_new):
        log_p = decoder.logits(stream[None, None])[0, 0].float().log_softmax(-1)
        token = (
            log_p.argmax() if forced is None else torch.tensor(forced[step], device=log_p.device)
        )
        tokens.append(int(token))
        losses.append(-log_p[token])
        if step % policy.lookahead == 0:
            plan.ask(step, watcher.ask(indexers), watcher.bounds())
        view.allowed, here = None, plan.resident(step)
        if here is not None:
            view.allowed = readable(here[None].to(prompt.device), len(prompt) + step, size)
        stream = watcher.steps(token[None], stale=stale)[0]
        text = model.tokenizer.decode(tokens)
        progress((step + 1) / n_new, f"Token {step + 1} of {n_new}", text)
    words = model.tokenizer.token_strings([*prompt.tolist(), *tokens])
    made = recording(
        watcher.trace(), indexers, words, name=name, sections=sections, source="decoded live"
    )
    return LiveDecode(made, replay(made, policy), tuple(tokens), torch.stack(losses).cpu())


class _Plan:
    """What is resident in each step of a live decode: `arms.replay` of what is known so far."""

    def __init__(self, n_prompt: int, n_new: int, size: int, layers: int, policy: Policy) -> None:
        self.policy = policy
        closed = (n_prompt + torch.arange(n_new)) // size
        steps, n = n_new, int(closed[-1])
        unknown = torch.full((steps, n), -torch.inf, dtype=torch.float32)
        self.known = Recording(
            name="",
            words=("",) * (n_prompt + steps),
            n_prompt=n_prompt,
            chunk_size=size,
            closed=closed,
            needed=torch.zeros(steps, n, dtype=torch.bool),
            mass=torch.zeros(steps, n, dtype=torch.float32),
            scores=unknown[:, None].repeat(1, layers, 1),
            native=unknown,
            bounds=unknown.clone(),
        )
        self._resident = self.known.exists

    def ask(
        self, step: int, logits: Float[Tensor, "layers chunks"], bounds: Float[Tensor, " chunks"]
    ) -> None:
        """Decide for the window that begins at this step."""
        n = int(self.known.closed[step])
        self.known.scores[step, :, :n] = logits[:, :n].cpu()
        self.known.bounds[step, :n] = bounds[:n].cpu()
        self._resident = replay(self.known, self.policy).resident

    def resident(self, step: int) -> Bool[Tensor, " chunks"] | None:
        """Chunks at hand; None where nothing is left out."""
        whole_history = self.policy.arm in ("everything", "reactive")
        return None if whole_history else self._resident[step]
