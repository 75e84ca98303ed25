"""Many small decoders that train and generate side by side: teachers, students, whole sweeps.

A `StackedDecoder` holds m decoders of one config and computes what `intuitive.common.decoder`
computes for each of them, with one matrix product per weight for all m. A sweep over methods,
seeds and learning rates is then a few hundred models that cost about as much as a large one.

Axes: m models, b batch, n positions, v vocabulary. Every model has its own batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from intuitive.common.decoder import Decoder, DecoderConfig, causal_mask
from intuitive.common.runtime import check, never, seeded

from .draws import uniform


def decoder_config(*, vocab_size: int, width: int, n_layers: int, max_positions: int):
    """The config of a teacher or student: two heads, learned positions, tied embeddings."""
    return DecoderConfig(
        vocab_size=vocab_size,
        d_model=width,
        n_layers=n_layers,
        n_q_heads=2,
        n_kv_heads=2,
        d_head=width // 2,
        d_ff=3 * width,
        max_positions=max_positions,
        positions="learned",
    )


class StackedCache:
    """Keys and values of m models, [layers, m * b, h, capacity, d], written in place."""

    def __init__(self, stack: "StackedDecoder", batch: int, capacity: int) -> None:
        config, weight = stack.config, stack.weights
        shape = (config.n_layers, stack.n_models * batch, config.n_kv_heads, capacity)
        self.keys = torch.empty(*shape, config.d_head, device=weight.device, dtype=weight.dtype)
        self.values = torch.empty_like(self.keys)
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add new entries [m * b, h, n, d] to a layer; returns views of all it holds."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class StackedDecoder(nn.Module):
    """m decoders of one config; `weights` [m, p] holds all of a model's weights in one row.

    Args:
        config: sizes; as many key/value heads as query heads, learned positions, tied embeddings.
        weights: [m, p], in the order of `Decoder.named_parameters`.

    Raises:
        ValueError: another kind of config, or rows of another length.
    """

    def __init__(self, config: DecoderConfig, weights: Float[Tensor, "m p"]) -> None:
        super().__init__()
        if config.group_size > 1 or config.positions != "learned" or not config.tied_embeddings:
            raise ValueError(
                f"{config} cannot be stacked: one key/value head per query head, learned "
                "positions and tied embeddings are needed; use `decoder_config`."
            )
        with torch.device("meta"):
            template = Decoder(config)
        self._shapes = {name: p.shape for name, p in template.named_parameters()}
        size = sum(shape.numel() for shape in self._shapes.values())
        if weights.shape[1] != size:
            raise ValueError(
                f"weights have shape {tuple(weights.shape)}; [m, {size}] is needed for {config}."
            )
        self.config = config
        self.weights = nn.Parameter(weights)

    @classmethod
    def fresh(cls, config: DecoderConfig, seeds: Sequence[int]) -> "StackedDecoder":
        """One model per seed, with the first weights that `Decoder` would draw."""
        rows = []
        for seed in seeds:
            with _DrawnFrom(seeded(seed)):
                rows.append(_row(Decoder(config)))
        return cls(config, torch.stack(rows))

    @classmethod
    def of(cls, decoders: Sequence[Decoder]) -> "StackedDecoder":
        """A stack of existing decoders, copied."""
        return cls(decoders[0].config, torch.stack([_row(decoder) for decoder in decoders]))

    @property
    def n_models(self) -> int:
        return self.weights.shape[0]

    def decoder(self, model: int = 0) -> Decoder:
        """One of the models as a decoder of its own, copied."""
        with torch.device("meta"):  # draws nothing
            decoder = Decoder(self.config)
        parts = self._parts(self.weights.detach()[model : model + 1].clone())
        state = {name: part[0] for name, part in parts.items()}
        state["head.weight"] = state["embedding.weight"]
        decoder.load_state_dict(state, assign=True)
        decoder.head.weight = decoder.embedding.weight
        return decoder

    def copies(self, models: Sequence[int]) -> "StackedDecoder":
        """A new stack of copies, `models[i]` being the model that copy i starts from."""
        return StackedDecoder(self.config, self.weights.detach()[list(models)].clone())

    def _parts(self, weights: Tensor) -> dict[str, Tensor]:
        pieces = weights.split([shape.numel() for shape in self._shapes.values()], dim=1)
        return {
            name: piece.unflatten(1, shape)
            for piece, (name, shape) in zip(pieces, self._shapes.items(), strict=True)
        }

    def forward(
        self, tokens: Int[Tensor, "m b n"], cache: StackedCache | None = None
    ) -> Float[Tensor, "m b n v"]:
        """Logits of the next token at every position; with a cache, after the tokens it holds.

        Token ids are not looked at, so as not to wait for a GPU; one out of range has no embedding.
        """
        config, w = self.config, self._parts(self.weights)
        m, b, n = tokens.shape
        start = 0 if cache is None else cache.length
        # A product rather than a look-up: its gradient needs no sorting of token ids.
        vocabulary = torch.arange(config.vocab_size, device=tokens.device)
        stream = (tokens.flatten(1)[..., None] == vocabulary).to(self.weights.dtype)
        stream = stream @ w["embedding.weight"]
        places = w["position_embedding.weight"][:, start : start + n]  # [m, n, d_model]
        stream = (stream.unflatten(1, (b, n)) + places[:, None]).flatten(1, 2)  # [m, b*n, d_model]
        for layer in range(config.n_layers):
            part = f"layers.{layer}."
            hidden = _norm(stream, w[part + "attention_norm.weight"], config.norm_eps)
            q, k, v = (
                self._heads(hidden @ w[f"{part}attention.w_{name}.weight"].mT, b, n)
                for name in "qkv"
            )  # [m*b, h, n, d]
            if cache is not None:
                k, v = cache.append(layer, k, v)
            scores = q @ k.mT / math.sqrt(config.d_head)  # [m*b, h, n, start + n]
            if n > 1:
                scores = scores.masked_fill(~causal_mask(n, start + n, tokens.device), -torch.inf)
            read = (scores.softmax(-1) @ v).transpose(1, 2).reshape(m, b * n, -1)
            stream = stream + read @ w[part + "attention.w_o.weight"].mT
            hidden = _norm(stream, w[part + "mlp_norm.weight"], config.norm_eps)
            gate, up, down = (w[f"{part}mlp.w_{name}.weight"].mT for name in ("gate", "up", "down"))
            stream = stream + (F.silu(hidden @ gate) * (hidden @ up)) @ down
        if cache is not None:
            cache.length += n
        hidden = _norm(stream, w["norm.weight"], config.norm_eps)
        return (hidden @ w["embedding.weight"].mT).unflatten(1, (b, n))

    def _heads(self, x: Tensor, b: int, n: int) -> Tensor:
        return x.reshape(-1, n, self.config.n_q_heads, self.config.d_head).transpose(1, 2)


# In such a mode torch hands over the initialisers themselves, not what they call.
_DRAWS = (
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
)


class _DrawnFrom(TorchFunctionMode):
    """Modules made in here are float32 and draw from one generator, whatever torch's defaults are.

    Neither the global generator nor the default dtype is touched: other threads use them.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.ones, torch.zeros):
            kwargs["dtype"] = kwargs.get("dtype") or torch.float32
        elif func in _DRAWS:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


def _row(decoder: Decoder) -> Tensor:
    return torch.cat([p.detach().flatten() for p in decoder.parameters()])


def _norm(x: Float[Tensor, "m r d"], weight: Float[Tensor, "m d"], eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight[:, None]


@torch.no_grad()
def generate(
    stack: StackedDecoder,
    prompts: Int[Tensor, "m b n"],
    *,
    max_new_tokens: int,
    end: int,
    pad: int,
    generators: Sequence[torch.Generator],
    owners: Sequence[int],
    temperature: int | float = 1.0,
    stale: Callable[[], bool] = never,
) -> Int[Tensor, "m b max_new_tokens"]:
    """Sample a continuation of every prompt from its model.

    Models with one owner draw with the same random numbers, so that a model's rollouts do not
    depend on what else stands in the stack, and methods are compared on common noise.

    Args:
        stack: the models.
        prompts: token ids of equal length.
        max_new_tokens: how many at most; what ends earlier is filled up with `pad`.
        end: the token after which a row stops; it is kept.
        pad: fills the rest.
        generators: sources of randomness on the device of the stack.
        owners: for every model, which of the generators it draws from.
        temperature: divides the logits; 0 takes the likeliest token.
        stale: turns true when nobody waits any more.

    Raises:
        ValueError: the result would be longer than max_positions, or temperature below 0.
        Cancelled: `stale()` became true between two tokens.
    """
    m, b, n = prompts.shape
    if n + max_new_tokens > stack.config.max_positions:
        raise ValueError(
            f"{n} prompt tokens and {max_new_tokens} new ones exceed "
            f"max_positions={stack.config.max_positions}: shorten one of them."
        )
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must not be negative; 0 means greedy.")
    cache = StackedCache(stack, b, n + max_new_tokens)
    new = torch.full((m, b, max_new_tokens), pad, dtype=prompts.dtype, device=prompts.device)
    ended = torch.zeros(m, b, dtype=torch.bool, device=prompts.device)
    owner = torch.tensor(list(owners), device=prompts.device)
    latest = prompts
    for step in range(max_new_tokens):
        check(stale)
        logits = stack(latest, cache)[:, :, -1]  # [m, b, v]
        if temperature:
            noise = torch.stack([_gumbel(logits.shape[1:], one) for one in generators])
            logits = logits / temperature + noise[owner]
        token = torch.where(ended, pad, logits.argmax(-1))
        new[:, :, step] = token
        ended |= token == end
        if step % 8 == 7 and bool(ended.all()):
            break
        latest = token[..., None]
    return new


def _gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise that makes argmax(logits + noise) a sample of softmax(logits)."""
    noise = uniform(*shape, generator=generator)
    return -(-noise.clamp(min=1e-20).log()).log()
