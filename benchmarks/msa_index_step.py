"""One training step of many layers' Index Branches at once, small in the number of kernels.

The frozen model reads a batch in one pass and leaves each layer's input, queries and keys; then the
Index Branches of all layers are computed side by side, as batched products with a first axis for
the layer. Step by step it is what `intuitive.msa.index_training` does, and a test holds the two
together. On CUDA the whole step with its optimiser is recorded once and replayed.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lclm_fast_step import _norm, angles, linear, turn
from msa_index_kernel import kl_and_gradient
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common.decoder import Decoder
from intuitive.common.weights import in_4_bits
from intuitive.msa.config import MSAConfig
from intuitive.msa.index import TrainedIndex
from intuitive.msa.start import GAIN, main_start

MASKED = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # that take any mask

# ------------------------------------------------------------------------------- the student


class Student(nn.Module):
    """Index Branches of all layers, stacked.

    Args:
        decoder: whose attention they imitate.
        msa: sizes.
        generator: of the first weights, on the CPU.
        from_main: whether these are made of the main heads; else they are random.
    """

    def __init__(
        self,
        decoder: Decoder,
        msa: MSAConfig,
        generator: torch.Generator,
        *,
        from_main: bool = True,
    ) -> None:
        super().__init__()
        config = decoder.config
        self.msa, self.config = msa, config
        shape = (config.n_layers, (msa.n_kv_heads + 1) * msa.d_index, config.d_model)
        if from_main:
            made = [main_start(layer.attention, msa, generator) for layer in decoder.layers]
            w_q, w_k = (torch.stack(parts) for parts in zip(*made, strict=True))
        else:
            drawn = torch.empty(shape).normal_(std=0.02, generator=generator)
            w_q, w_k = drawn[:, msa.d_index :].clone(), drawn[:, : msa.d_index].clone()
        self.w_q, self.w_k = nn.Parameter(w_q), nn.Parameter(w_k)
        gain = GAIN if from_main else 1.0
        self.norm_q = nn.Parameter(torch.full((config.n_layers, msa.d_index), gain))
        self.norm_k = nn.Parameter(torch.full((config.n_layers, msa.d_index), gain))
        self.rounded = False  # whether steps compute with what storing in 4 bits leaves
        d = msa.d_index if msa.d_rotary is None else msa.d_rotary
        rates = config.rope_base ** (-torch.arange(0, d, 2).float() / max(d, 1))
        self.register_buffer("rates", rates, persistent=False)

    def weight(self, name: str, layers: slice, dtype: torch.dtype) -> Tensor:
        """A projection of some layers as it counts in this step, [layers, rows, d_model]."""
        weight = getattr(self, name)[layers]
        if self.rounded:
            stored = in_4_bits(weight.detach())
            weight = weight + (stored - weight).detach()  # straight through
        return weight.to(dtype)

    def queries(self, x: Tensor, at: Tensor, layers: slice = slice(None)) -> Tensor:
        """Index queries [layers, b, n, h_kv, d_idx] of x [layers, b, n, d_model] at `at` [b, n]."""
        made = self._project(x, self.weight("w_q", layers, x.dtype))
        return self._finish(made, self.norm_q[layers], at)

    def keys(self, x: Tensor, at: Tensor, layers: slice = slice(None)) -> Tensor:
        """Index keys [layers, b, n, d_idx]."""
        made = self._project(x, self.weight("w_k", layers, x.dtype))
        return self._finish(made, self.norm_k[layers], at).squeeze(3)

    def _project(self, x: Tensor, weight: Tensor) -> Tensor:
        made = torch.bmm(x.flatten(1, 2), weight.transpose(1, 2))
        return made.view(*x.shape[:3], -1, self.msa.d_index)

    def _finish(self, made: Tensor, norm: Tensor, at: Tensor) -> Tensor:
        wide = F.rms_norm(made.float(), made.shape[-1:], None, self.config.norm_eps)
        wide = wide * norm[:, None, None, None]
        turns = at[..., None, None].float() * self.rates  # [b, n, 1, d_rotary / 2]
        d = 2 * len(self.rates)
        turned = turn(wide[..., :d], turns.cos(), turns.sin())
        return torch.cat((turned, wide[..., d:]), -1).to(made.dtype)

    def index(self, made: dict[str, str]) -> TrainedIndex:
        """The Index Branches by their names in a converted decoder."""
        parts = {
            "index_w_q.weight": self.w_q,
            "index_w_k.weight": self.w_k,
            "index_norm_q.weight": self.norm_q,
            "index_norm_k.weight": self.norm_k,
        }
        weights = {
            f"layers.{layer}.attention.{name}": stacked[layer].detach().float().cpu().clone()
            for layer in range(self.config.n_layers)
            for name, stacked in parts.items()
        }
        if self.msa.d_rotary is not None:
            made = made | {"d_rotary": str(self.msa.d_rotary)}
        return TrainedIndex(weights, made)


# -------------------------------------------------------------------------------- the reader


@dataclass(frozen=True, eq=False)
class Seen:
    """What all layers' attention worked on."""

    x: Tensor  # [layers, b, n, d_model], the attention's input
    q: Tensor  # [layers, b, n_queries, h_q, d], at the compared queries
    k: Tensor  # [layers, b, n, h_kv, d]
    allowed: Tensor | None  # [layers, b, n_queries, h_kv, n_blk]; None where all was read


def rows_of(x: Tensor, at: Tensor) -> Tensor:
    """x [b, n, ...] at places `at` [b, n_queries]."""
    batch = torch.arange(len(x), device=x.device)[:, None]
    return x[batch, at.long()]


def chosen_blocks(student: Student, layer: int, x: Tensor, n_selected: int) -> Tensor:
    """Blocks [b, n, h_kv, n_blk] that each query of x [b, n, d_model] reads by the index."""
    b, n, _ = x.shape
    size, one = student.msa.block_size, slice(layer, layer + 1)
    at = torch.arange(n, device=x.device).expand(b, n)
    q, k = student.queries(x[None], at, one)[0], student.keys(x[None], at, one)[0]
    scores = torch.bmm(q.flatten(1, 2), k.transpose(1, 2)).view(b, n, -1, n)
    place = torch.arange(n, device=x.device)
    future = place > place[:, None, None]  # [n, 1, n]
    blocks = scores.masked_fill(future, -math.inf).unflatten(-1, (-1, size)).amax(-1)
    local = place // size
    block = torch.arange(n // size, device=x.device)
    own = block == local[:, None, None]  # [n, 1, n_blk]
    best = blocks.masked_fill(own, math.inf).topk(min(n_selected, n // size), -1).indices
    chosen = torch.zeros_like(blocks, dtype=torch.bool).scatter(-1, best, True)
    return chosen & (block <= local[:, None, None])


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, block_size: int) -> Tensor:
    """Causal attention [b, n, h_q, d] over everything, or over the tokens of allowed blocks."""
    b, n, h_q, _ = q.shape
    h = k.shape[2]
    if allowed is None:
        read = F.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (q, k, v)), is_causal=True, enable_gqa=h_q > h
        )
        return read.transpose(1, 2)
    blocks = allowed.transpose(1, 2)[..., None].expand(-1, -1, -1, -1, block_size).flatten(3)
    place = torch.arange(n, device=q.device)
    may = blocks & (place <= place[:, None])  # [b, h, n, n]
    bias = torch.zeros_like(may, dtype=q.dtype).masked_fill(~may, -math.inf)
    q = q.unflatten(2, (h, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1)  # [b h, group, n, d]
    k, v = (x.transpose(1, 2).flatten(0, 1)[:, None].expand_as(q) for x in (k, v))
    bias = bias.flatten(0, 1)[:, None].expand(-1, q.shape[1], -1, -1)
    with sdpa_kernel(MASKED) if q.is_cuda else contextlib.nullcontext():
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return read.unflatten(0, (b, h)).permute(0, 3, 1, 2, 4).flatten(2, 3)


def read(
    decoder: Decoder,
    tokens: Tensor,
    at: Tensor,
    choose: Callable[[int, Tensor], Tensor] | None = None,
    *,
    block_size: int = 64,
    to_the_end: bool = False,
) -> tuple[Seen, Tensor]:
    """Let the decoder read tokens [b, n]; what its layers saw, and the stream after the last.

    Args:
        decoder: dense, perhaps with low-rank changes.
        tokens: on its device.
        at: [b, n_queries] the queries that are kept.
        choose: given a layer and its input, the blocks each query reads; all are read if None.
        block_size: tokens per block.
        to_the_end: whether the last layer's output is wanted too.
    """
    b, n = tokens.shape
    config = decoder.config
    cos, sin = angles(decoder, n, tokens.device)
    flat = decoder.embedding(tokens).flatten(0, 1)
    kept: tuple[list, ...] = ([], [], [], [])
    for number, layer in enumerate(decoder.layers):
        attention, mlp = layer.attention, layer.mlp
        x = _norm(layer.attention_norm, flat)
        q, k, v = (
            linear(w, x).view(b, n, -1, config.d_head)
            for w in (attention.w_q, attention.w_k, attention.w_v)
        )
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        allowed = None if choose is None else choose(number, x.detach().view(b, n, -1))
        some = None if allowed is None else rows_of(allowed, at)
        seen = (x.detach().view(b, n, -1), rows_of(q.detach(), at), k.detach(), some)
        for held, part in zip(kept, seen, strict=True):
            held.append(part)
        if number + 1 == config.n_layers and not to_the_end:
            break
        heads = attend(q, k, v, allowed, block_size)
        flat = flat + linear(attention.w_o, heads.reshape(b * n, -1))
        x = _norm(layer.mlp_norm, flat)
        gated = F.silu(linear(mlp.w_gate, x)) * linear(mlp.w_up, x)
        flat = flat + linear(mlp.w_down, gated)
    xs, qs, ks, blocks = kept
    stacked = None if choose is None else torch.stack(blocks)
    return Seen(torch.stack(xs), torch.stack(qs), torch.stack(ks), stacked), flat.view(b, n, -1)


def align(student: Student, seen: Seen, at: Tensor, *, impl: str, weight: float = 1.0) -> Tensor:
    """Add the gradients of the layers' KL, summed, to the student; the KL [layers] in nats."""
    n_layers, b, n, _ = seen.x.shape
    place = torch.arange(n, device=at.device).expand(b, n)
    at_layers = torch.stack([rows_of(x, at) for x in seen.x])
    with torch.enable_grad():
        q_idx, k_idx = student.queries(at_layers, at), student.keys(seen.x, place)
    with torch.no_grad():
        one, two = q_idx.detach().flatten(0, 1), k_idx.detach().flatten(0, 1)
        kl, d_scores = kl_and_gradient(
            seen.q.flatten(0, 1),
            seen.k.flatten(0, 1),
            one,
            two,
            at.repeat(n_layers, 1),
            None if seen.allowed is None else seen.allowed.flatten(0, 1),
            block_size=student.msa.block_size,
            impl=impl,
        )
        rows, h, n_q, _ = d_scores.shape
        scale = weight / (b * n_q * h * math.sqrt(one.shape[-1]))
        flat = d_scores.to(one.dtype).view(rows, h * n_q, n)
        d_q = torch.bmm(flat, two).view(rows, h, n_q, -1).transpose(1, 2) * scale
        stacked = one.transpose(1, 2).reshape(rows, h * n_q, -1)
        d_k = torch.bmm(flat.transpose(1, 2), stacked) * scale
    torch.autograd.backward([q_idx, k_idx], [d_q.view_as(q_idx), d_k.view_as(k_idx)])
    return kl.view(n_layers, b, h, n_q).mean((1, 2, 3))


# ------------------------------------------------------------------------------------ replayed


class Recorded:
    """A step that is recorded on CUDA at its first call and replayed from then on.

    Args:
        step: computes with the tensors of `inputs`, changes `state` in place, returns a tensor.
        inputs: examples; the step gets copies of these, which every call fills anew.
        state: all that the step changes; put back after the calls that recording needs.
        on: whether to record at all.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        inputs: dict[str, Tensor],
        state: Callable[[], list[Tensor]],
        on: bool,
    ) -> None:
        self.step, self.on = step, on
        self.held = {name: tensor.clone() for name, tensor in inputs.items()}
        self.graph, self.out = None, None
        if not on:
            return
        before = [tensor.detach().clone() for tensor in state()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                step(**self.held)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = step(**self.held)
        after = state()
        known = len(before)
        with torch.no_grad():
            for tensor, value in zip(after[:known], before, strict=True):
                tensor.copy_(value)
            for tensor in after[known:]:  # the optimiser's, which began in the calls above
                tensor.zero_()

    def __call__(self, **inputs: Tensor) -> Tensor:
        """The step's output; on CUDA the next call overwrites it."""
        if self.graph is None:
            return self.step(**inputs)
        for name, tensor in inputs.items():
            self.held[name].copy_(tensor, non_blocking=True)
        self.graph.replay()
        return self.out
