"""What one run of the frozen model leaves behind for the Memory Indexer.

A text is read once, as it stands, with everything resident. Its last part counts as decoded: each
of those tokens is a step, whose native index logits say what was needed. The hidden state that
goes with a step is that of the token before it, because a trigger must decide before the step is
taken (`residency.LookaheadDecoding`).

Source: arXiv:2606.09079v2, section 2.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder

from .attention import Look, watching
from .config import LSAConfig
from .indexer_training import Document
from .labels import golden_chunks


@dataclass(frozen=True, eq=False)
class Trace:
    """What the CSA layers did in the decoded part of one text."""

    config: LSAConfig
    hidden: Float[Tensor, "layers steps d_model"]  # target layers; of the token before each step
    positions: Int[Tensor, " steps"]  # of the token before each step
    keys: Float[Tensor, "layers chunks d_idx"]  # target layers
    closed: Int[Tensor, " steps"]  # chunks that exist before each step
    logits: Float[Tensor, "steps csa chunks"]  # native; -inf: not there yet
    mass: Float[Tensor, "steps csa chunks"]  # softmax mass on entries, averaged over heads

    def document(self, *, stride: int | None = None, decoding: bool = False) -> Document:
        """Labels made by the config's settings, and all that training needs beside them.

        Args:
            stride: steps between triggers; `lookahead` if None, 1 to train on every step.
            decoding: whether chunks closed after the first step count as decoded.
        """
        golden = golden_chunks(
            self.logits,
            top_k=self.config.label_top_k,
            top_p=self.config.label_top_p,
            votes=self.config.label_votes,
        )
        return Document.of(
            self.hidden,
            self.positions,
            self.keys,
            golden,
            self.closed,
            self.config,
            stride=stride,
            decoding=decoding,
        )


@torch.no_grad()
def harvest(
    decoder: Decoder, tokens: Int[Tensor, " n"], config: LSAConfig, *, n_prompt: int
) -> Trace:
    """Read a text and keep what the CSA layers did from token `n_prompt` on.

    Args:
        decoder: made by `attention.lsa_decoder`; its CSA layers should select by now.
        tokens: the text.
        config: of its layers.
        n_prompt: tokens that count as the prompt, at least one; the others are decode steps.

    Raises:
        ValueError: a decoder of other layers, or no token left to decode.
    """
    kinds = tuple(getattr(layer.attention, "kind", None) for layer in decoder.layers)
    if kinds != config.layers:
        raise ValueError(f"the decoder has the layers {kinds}, the config {config.layers}.")
    n = len(tokens)
    n_prompt = whole("n_prompt", n_prompt, low=1, high=n - 1, why="the others are decode steps")
    looks: dict[int, Look] = {}
    with watching(decoder, looks.__setitem__):
        decoder.hidden(tokens[None])
    every = [looks[i] for i in range(config.n_csa)]
    targets = [looks[i] for i in config.memory_layers]
    before = torch.arange(n_prompt - 1, n - 1, device=tokens.device)
    return Trace(
        config=config,
        hidden=torch.stack([look.hidden[0, before] for look in targets]),
        positions=before,
        keys=torch.stack([look.index_keys[0] for look in targets]),
        closed=(before + 1) // config.chunk_size,
        logits=torch.stack([look.scores[0, n_prompt:] for look in every], 1),
        mass=torch.stack([look.mass[0, n_prompt:] for look in every], 1),
    )
