"""One decoding step of fixed shapes and addresses, which a CUDA graph can replay.

An ordinary step is some two thousand kernels for SmolLM2, each launched by Python; a slow host
needs 20 times as long for that as the GPU for the work. A graph replays them as one. It demands
that nothing changes from step to step but values in memory: the place of the new token is a tensor,
caches are read as a whole up to a limit, and what lies after the new token is masked.

An attention module takes part if it has a method `step`, see `DenseAttention.step`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .cache import DecoderCache, TensorCache
from .layers import normed
from .model import Decoder
from .place import Now


def unfit(decoder: Decoder, cache: DecoderCache) -> str | None:
    """Why no step of fixed shape can be made, as a sentence; None if it can."""
    if torch.is_autocast_enabled(decoder.embedding.weight.device.type):
        return "autocast is on."
    for index, layer in enumerate(decoder.layers):
        kind = type(layer.attention)
        owner = {
            name: next((i for i, base in enumerate(kind.__mro__) if name in vars(base)), 10**6)
            for name in ("step", "forward", "attend", "project", "output", "index", "select")
        }
        if owner.pop("step") > min(owner.values()):
            return f"{kind.__name__} in layer {index} has no step of fixed shape of its own."
        if type(cache.layers[index]) is not TensorCache:
            return (
                f"the cache of layer {index} is a {type(cache.layers[index]).__name__}, whose "
                "entries move."
            )
        if getattr(layer.attention, "unfit", None):
            return layer.attention.unfit
    for name, module in decoder.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{name or 'the decoder'} has a hook, which a replayed graph would not call."
    return None


class FixedStep:
    """Reads one token per row and tells the logits of the next, always the same way.

        step = FixedStep(decoder, cache, limit)
        step.capture()  # on CUDA
        logits = step(token)

    Args:
        decoder: whose attention modules all have a `step`.
        cache: a filled cache; entries are written into it as by an ordinary pass.
        limit: tokens that it will hold at most.

    Raises:
        ValueError: see `unfit`.
    """

    def __init__(self, decoder: Decoder, cache: DecoderCache, limit: int) -> None:
        why = unfit(decoder, cache)
        if why:
            raise ValueError(f"No step of fixed shape: {why}")
        self._decoder, self._cache, self._limit = decoder, cache, limit
        weight = decoder.embedding.weight
        rows = len(next(iter(cache.layers[0].fixed(limit).values())))
        for layer in cache.layers[1:]:
            layer.fixed(limit)
        with torch.inference_mode(False):
            self._token = torch.zeros(rows, dtype=torch.int64, device=weight.device)
            self._place = torch.full((1,), cache.length, dtype=torch.int64, device=weight.device)
        self._logits: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    @torch.no_grad()
    def _run(self) -> Float[Tensor, "b v"]:
        decoder, config = self._decoder, self._decoder.config
        stream = decoder.embedding(self._token[:, None])  # [b, 1, d_model]
        if config.positions == "learned":
            stream = stream + decoder.position_embedding(self._place)
        base = config.rope_base if config.positions == "rope" else None
        wide = torch.promote_types(stream.dtype, torch.float32)
        now = Now(self._place, self._limit, base, wide)
        for layer, cache in zip(decoder.layers, self._cache.layers, strict=True):
            hidden = normed(layer.attention_norm, stream)
            stream = stream + layer.attention.step(hidden, now, cache)
            stream = stream + layer.mlp(normed(layer.mlp_norm, stream))
        return decoder.head(normed(decoder.norm, stream))[:, -1]

    def capture(self) -> None:
        """Record the step as a CUDA graph; nothing is read yet.

        It runs once to warm up, which writes an entry at the next place, as the first call will.

        Raises:
            RuntimeError: a part of the step cannot be captured.
        """
        device = self._token.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            self._run()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        alone = torch.cuda.graph(graph, capture_error_mode="thread_local")  # others may go on
        with torch.cuda.device(device), alone:
            logits = self._run()
            self._place += 1
        self._graph, self._logits = graph, logits

    @torch.no_grad()
    def __call__(self, token: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Logits after this token; on a graph they are overwritten by the next call."""
        held = self._cache.length
        if held >= self._limit:
            raise ValueError(f"{held} tokens are held, the step was made for {self._limit}.")
        self._token.copy_(token)
        if self._graph is None:
            self._logits = self._run()
            self._place += 1
        else:
            self._graph.replay()
        for layer in self._cache.layers:
            layer.grow(held + 1)
        return self._logits
