"""Batched generation and scoring with a learned model, and what they cost in tokens.

Prompts of one call have equal length, so a batch needs no padding on the left: `prompts` and
`refine_prompts` of `sums` see to it. A trace ends with EOS; the rest of its row is PAD.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder, generate
from intuitive.common.inputs import public
from intuitive.common.runtime import check, never

from .sums import SumsConfig


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens that a method has cost; add two to have both."""

    teacher_generated: int = 0
    teacher_scored: int = 0  # read by the teacher at once, prompts and drafts included
    student_generated: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            teacher_generated=self.teacher_generated + other.teacher_generated,
            teacher_scored=self.teacher_scored + other.teacher_scored,
            student_generated=self.student_generated + other.student_generated,
        )

    @property
    def teacher(self) -> int:
        """Generated and scored."""
        return self.teacher_generated + self.teacher_scored


def count_tokens(sums: SumsConfig, tokens: Int[Tensor, "b n"]) -> int:
    """Tokens that are not PAD."""
    return int((tokens != sums.pad).sum())


@public(empty="*")
def sample_rollouts(
    decoder: Decoder,
    sums: SumsConfig,
    prompts: Int[Tensor, "b m"],
    *,
    n_samples: int = 1,
    temperature: int | float = 1.0,
    generator: torch.Generator | None = None,
    stale: Callable[[], bool] = never,
) -> Int[Tensor, "b_n_samples n"]:
    """Let the model continue prompts, all rows at once over one KV cache.

    Args:
        decoder: student or learned teacher, with the vocabulary of `sums`.
        sums: the setting.
        prompts: of equal length.
        n_samples: rollouts per prompt; those of one prompt lie next to each other.
        temperature: 0 is greedy.
        generator: the source of randomness, on the prompts' device; needed unless greedy.
        stale: turns true when nobody waits for the result any more.

    Returns:
        Traces of `trace_length` tokens: those without EOS by then are cut.

    Raises:
        ValueError: `n_samples` below 1; a temperature below 0 or not finite; no generator for one
            above 0; another vocabulary; prompt and trace are longer than the decoder's
            `max_positions`.
        Cancelled: `stale()` became true between two tokens.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples={n_samples} must be at least 1.")
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"temperature={temperature} must be finite and at least 0, which is greedy."
        )
    if temperature > 0 and generator is None:
        raise ValueError(
            f"temperature={temperature} draws at random: pass generator=seeded(seed), or 0."
        )
    if decoder.config.vocab_size != sums.vocab_size:
        raise ValueError(
            f"the decoder has vocab_size={decoder.config.vocab_size}, the setting "
            f"{sums.vocab_size}: build it with vocab_size=sums.vocab_size."
        )
    new = generate(
        decoder,
        prompts.repeat_interleave(n_samples, dim=0),
        max_new_tokens=sums.trace_length,
        temperature=float(temperature),
        generator=generator,
        stop_tokens=(sums.eos,),
        stale=stale,
    )
    return pad_after_eos(sums, new)


def rollouts_one_by_one(
    decoder: Decoder,
    sums: SumsConfig,
    prompts: Int[Tensor, "b m"],
    *,
    temperature: int | float = 1.0,
    generator: torch.Generator | None = None,
    stale: Callable[[], bool] = never,
) -> Int[Tensor, "b n"]:
    """What `sample_rollouts` does, one prompt after the other: to compare speeds with."""
    rows = []
    for prompt in prompts.split(1):
        check(stale)
        rows.append(
            sample_rollouts(
                decoder, sums, prompt, temperature=temperature, generator=generator, stale=stale
            )
        )
    return torch.cat(rows)


def pad_after_eos(sums: SumsConfig, tokens: Int[Tensor, "b n"]) -> Int[Tensor, "b n_trace"]:
    """PAD behind the first EOS of every row, and up to `trace_length`."""
    ended = (tokens == sums.eos).int().cumsum(-1)
    after = (ended - (tokens == sums.eos).int()) > 0
    padded = tokens.masked_fill(after, sums.pad)
    return torch.nn.functional.pad(padded, (0, sums.trace_length - tokens.shape[1]), value=sums.pad)


def response_logits(
    decoder: Decoder, prompts: Int[Tensor, "b m"], responses: Int[Tensor, "n_responses n"]
) -> Float[Tensor, "b n v"]:
    """Logits of every response token, given the prompt and the tokens before it.

    Row i speaks about `responses[:, i]` itself, so teacher and student line up however long
    their prompts are. Gradients flow unless the caller turns them off.

    Raises:
        ValueError: prompts or responses without tokens, another number of responses than prompts,
            a token out of range, or as in `Decoder.hidden`.
    """
    if not prompts.numel() or not responses.numel() or len(prompts) != len(responses):
        raise ValueError(
            f"prompts have shape {tuple(prompts.shape)} and responses {tuple(responses.shape)}: "
            "both need tokens, and one row each per rollout."
        )
    low, high, v = int(responses.min()), int(responses.max()), decoder.config.vocab_size
    if low < 0 or high >= v:  # the decoder never reads the last token
        raise ValueError(f"response tokens from {low} to {high} must lie in [0, {v}).")
    tokens = torch.cat([prompts, responses[:, :-1]], dim=1)
    return decoder.logits(decoder.hidden(tokens)[:, prompts.shape[1] - 1 :])
