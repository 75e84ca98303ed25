"""One training step of the SmolLM2 pair in two passes: all spans encoded, then all prompts read.

Step by step it is what `LatentContextModel.batch` and `loss` do, and a test holds the two together.
Four kinds of prompts in passes of their own keep a GPU waiting for Python; here all windows of a
step go through the encoder together, and all prompts, filled up at the right, through the decoder.
The layers are written with fewer and larger operations than the decoder's own modules.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intuitive.common.decoder import Decoder
from intuitive.common.low_rank import LowRankLinear
from intuitive.lclm.reference import mean_pool
from intuitive.lclm.smollm import WINDOW, SmolLatents
from intuitive.lclm.splice import Latents, Piece, Raw, Span, batch_of

ALIKE = 0.75  # of the longest prompt's length, that a prompt has at least to be filled up to it

Jobs = Sequence[tuple[Sequence[Piece], int]]  # prompts laid out alike, and their spans' ratio


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer with or without a low-rank change, for x of shape [rows, width]."""
    if isinstance(layer, LowRankLinear):
        return torch.addmm(F.linear(x, layer.frozen), F.linear(x, layer.a), layer.b.T)
    return F.linear(x, layer.weight)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`decoder.rotate` with its angles at hand: x [b, n, h, d], cos and sin [n, 1, d/2]."""
    first, second = x.chunk(2, -1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    return turned.to(x.dtype)


def angles(decoder: Decoder, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE's angles at positions 0 to n - 1, [n, 1, d/2] in float32."""
    d = decoder.config.d_head
    rates = decoder.config.rope_base ** (-torch.arange(0, d, 2, device=device).float() / d)
    turns = torch.arange(n, device=device).float()[:, None, None] * rates
    return turns.cos(), turns.sin()


def hidden(decoder: Decoder, stream: Tensor) -> Tensor:
    """`Decoder.hidden` for embeddings [b, n, d] at positions 0 to n - 1, without a cache."""
    b, n, width = stream.shape
    config = decoder.config
    cos, sin = angles(decoder, n, stream.device)
    flat = stream.flatten(0, 1)
    for layer in decoder.layers:
        attention, mlp = layer.attention, layer.mlp
        x = _norm(layer.attention_norm, flat)
        q, k, v = (
            linear(w, x).view(b, n, -1, config.d_head)
            for w in (attention.w_q, attention.w_k, attention.w_v)
        )
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        read = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            is_causal=True,
            enable_gqa=config.group_size > 1,
        )
        flat = flat + linear(attention.w_o, read.transpose(1, 2).reshape(b * n, -1))
        x = _norm(layer.mlp_norm, flat)
        gated = F.silu(linear(mlp.w_gate, x)) * linear(mlp.w_up, x)
        flat = flat + linear(mlp.w_down, gated)
    return flat.view(b, n, width)


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.eps)


def encoded(model: SmolLatents, spans: Sequence[tuple[Tensor, int]]) -> list[Tensor]:
    """Latents [b, m, d] of spans [b, n] with a ratio each; windows of one length go together."""
    groups: dict[int, list[int]] = {}
    for i, (tokens, _) in enumerate(spans):
        n = tokens.shape[1]
        groups.setdefault(WINDOW if n > WINDOW // 2 else n, []).append(i)
    found: list[Tensor] = [spans[0][0]] * len(spans)  # each replaced below
    for length, members in groups.items():
        parts, streams = [], []
        for i in members:
            tokens, ratio = spans[i]
            embedded = model.decoder.embedding(tokens)  # [b, n, d]
            n = tokens.shape[1]
            stream = embedded
            if str(ratio) in model.places:
                stream = embedded + model.places[str(ratio)].repeat(-(-n // ratio), 1)[:n]
            stream = F.pad(stream, (0, 0, 0, -tokens.shape[1] % length))
            streams.append(stream.reshape(-1, length, stream.shape[-1]))
            parts.append(embedded)
        states = _norm(model.encoder.norm, hidden(model.encoder, torch.cat(streams)).flatten(0, 1))
        states = states.view(-1, length, states.shape[-1]).split([len(s) for s in streams])
        for i, embedded, its in zip(members, parts, states, strict=True):
            tokens, ratio = spans[i]
            b, n = tokens.shape
            own = its.reshape(b, -1, its.shape[-1])[:, :n]
            latents = model.adapter_for(ratio)(mean_pool(own, ratio))
            found[i] = latents + mean_pool(embedded, ratio)
    return found


def encoder_states(model: SmolLatents, tokens: Tensor, ratio: int) -> Tensor:
    """[b, n, d] what is pooled, for texts [b, n] of at most one window."""
    n = tokens.shape[1]
    stream = model.decoder.embedding(tokens)
    if str(ratio) in model.places:
        stream = stream + model.places[str(ratio)].repeat(-(-n // ratio), 1)[:n]
    return _norm(model.encoder.norm, hidden(model.encoder, stream))


def passes(lengths: Sequence[int]) -> list[list[int]]:
    """Which jobs go through the decoder together: those not much shorter than the longest."""
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not found or lengths[i] < ALIKE * lengths[found[-1][0]]:
            found.append([])
        found[-1].append(i)
    return found


def losses(
    model: SmolLatents, jobs: Jobs, heads: nn.Module | None = None, told: int = 0
) -> list[Tensor]:
    """Mean next-token loss of each job: pieces with rows laid out alike, and its spans' ratio.

    With heads, one loss more: what they read from the latents of job number `told`.
    """
    spans = [(p.tokens, ratio) for pieces, ratio in jobs for p in pieces if isinstance(p, Span)]
    made = encoded(model, spans) if spans else []
    latents = iter(made)
    batches = [
        batch_of(
            [model.join([Latents(next(latents)) if isinstance(p, Span) else p for p in pieces])]
        )
        for pieces, _ in jobs
    ]
    lengths = [batch.embeddings.shape[1] for batch in batches]
    states: list[Tensor] = [made[0] if made else model.tags] * len(jobs)  # each replaced below
    for members in passes(lengths):
        n = lengths[members[0]]
        rows = [F.pad(batches[i].embeddings, (0, 0, 0, n - lengths[i])) for i in members]
        its = hidden(model.decoder, torch.cat(rows)).split([len(row) for row in rows])
        for i, one in zip(members, its, strict=True):
            states[i] = one
    chosen, wanted = [], []
    for batch, its in zip(batches, states, strict=True):
        chosen.append(torch.cat([its[:, a:z] for a, z in batch.runs], 1).flatten(0, 1))
        wanted.append(torch.cat([batch.targets[:, a:z] for a, z in batch.runs], 1).flatten())
    read = _norm(model.decoder.norm, torch.cat(chosen))
    logits = F.linear(read, model.decoder.head.weight).float()
    each = F.cross_entropy(logits, torch.cat(wanted), reduction="none")
    counts = [(part >= 0).sum().clamp(min=1) for part in wanted]
    sums = [part.sum() for part in each.split([len(part) for part in wanted])]
    found = [total / count for total, count in zip(sums, counts, strict=True)]
    if heads is not None:
        before = sum(isinstance(p, Span) for pieces, _ in jobs[:told] for p in pieces)
        found.append(heads(model, made[before], *spans[before]))
    return found


# ------------------------------------------------------------------------------------ replayed


def form(jobs: Jobs) -> tuple:
    """What two steps must share to be replayed by one graph: kinds, shapes, ratios."""
    return tuple(
        (ratio, *((type(p).__name__, tuple(p.tokens.shape), _trained(p)) for p in pieces))
        for pieces, ratio in jobs
    )


def _trained(piece: Piece) -> bool:
    return getattr(piece, "trained", False)


def inputs(jobs: Jobs) -> list[Tensor]:
    """All token ids of a step, in order."""
    return [piece.tokens for pieces, _ in jobs for piece in pieces]


def with_inputs(jobs: Jobs, tensors: Sequence[Tensor]) -> Jobs:
    """The same prompts with other token ids."""
    given = iter(tensors)
    return [
        (
            [
                Span(next(given)) if isinstance(p, Span) else Raw(next(given), p.trained)
                for p in pieces
            ],
            ratio,
        )
        for pieces, ratio in jobs
    ]


class Recorded:
    """Gradients of steps, on CUDA recorded once for each form and replayed from then on.

    All graphs share one pool of memory, since they run one after the other. On the CPU, and where
    recording fails or gives other losses or gradients than the step itself, steps just run.

    Args:
        step: adds the gradients of jobs to the parameters; returns their losses, detached, [jobs].
        parameters: those that get gradients.
        on: whether to record; for CUDA alone.
    """

    def __init__(
        self, step: Callable[[Jobs], Tensor], parameters: Sequence[nn.Parameter], on: bool
    ) -> None:
        self.step, self.parameters, self.on = step, list(parameters), on
        self.fault = ""
        self.kept: dict[tuple, tuple] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.on else None
        self.side = torch.cuda.Stream() if self.on else None

    def __call__(self, jobs: Jobs, mark: str = "") -> Tensor:
        """Losses [jobs]; the next call overwrites them, and the gradients.

        Args:
            jobs: prompts of the step.
            mark: of what else makes a step differ.
        """
        self._clear()
        key = (mark, *form(jobs))
        if self.on and key not in self.kept:
            try:
                return self._record(key, jobs)
            except RuntimeError as error:
                self._give_up(f"{type(error).__name__}: {str(error)[:200]}")
                torch.cuda.synchronize()
        if not self.on:
            return self.step(jobs)
        return self._replay(key, jobs)

    def _lengths(self) -> Tensor:
        """Length of the gradient of each parameter that has one."""
        grads = [p.grad.float() for p in self.parameters if p.grad is not None]
        return torch.stack(torch._foreach_norm(grads))

    def _clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _give_up(self, fault: str) -> None:
        self.on, self.fault = False, fault
        self.kept.clear()
        self._clear()

    def _record(self, key: tuple, jobs: Jobs) -> Tensor:
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            want, lengths = self.step(jobs).clone(), self._lengths()
        torch.cuda.current_stream().wait_stream(self.side)
        self._clear()
        held = [tensor.clone() for tensor in inputs(jobs)]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            out = self.step(with_inputs(jobs, held))
        self.kept[key] = (graph, held, out, [p.grad for p in self.parameters])
        got = self._replay(key, jobs)
        if not torch.allclose(got, want, rtol=0.02, atol=0.02):
            self._give_up(f"a replayed step gave {got.tolist()}, not {want.tolist()}")
            return self.step(jobs)
        off = float((self._lengths() - lengths).norm() / lengths.norm())
        if not off < 0.1:
            self._give_up(f"gradients of a replayed step differ by {off:.0%} in length")
            return self.step(jobs)
        return got

    def _replay(self, key: tuple, jobs: Jobs) -> Tensor:
        graph, held, out, grads = self.kept[key]
        for target, tensor in zip(held, inputs(jobs), strict=True):
            target.copy_(tensor)
        graph.replay()
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        return out
