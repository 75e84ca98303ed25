"""A teacher that has learned: a trained decoder with the methods of every `teacher.Teacher`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.runtime import never

from .rollout import response_logits, sample_rollouts
from .sums import SumsConfig, prompts, refine_prompts
from .teacher import Refined

BATCH = 64  # traces that it reads at once


@dataclass(frozen=True, eq=False)
class LearnedTeacher:
    """A trained decoder behind the methods of `ExactTeacher`.

    With a draft, or a solution (OPSD), it reads `problem draft REV` and rewrites; without it
    solves from x. With both it reads the draft alone: one that came to its end shows all that the
    solution would.
    """

    sums: SumsConfig
    decoder: Decoder

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.decoder.embedding.weight.device

    @property
    def rows_at_once(self) -> int:
        """Few enough for a batch to take some hundredths of a second on the CPU."""
        return BATCH

    def _prompts(
        self, digits: Tensor, drafts: Tensor | None, solutions: Tensor | None, keep_order: bool
    ) -> Tensor:
        if drafts is not None and not keep_order:
            raise ValueError(
                "keep_order=False: the learned teacher was trained to keep a draft's order; only "
                "the exact one can leave it."
            )
        shown = solutions if drafts is None else drafts
        if shown is None:
            return prompts(self.sums, digits)
        return refine_prompts(self.sums, digits, shown)

    @torch.no_grad()
    def logits(
        self,
        digits: Int[Tensor, "b n_digits"],
        tokens: Int[Tensor, "b n"],
        *,
        drafts: Int[Tensor, "b n_draft"] | None = None,
        solutions: Int[Tensor, "b n_solution"] | None = None,
        keep_order: bool = True,
    ) -> Float[Tensor, "b n v"]:
        """Logits of every token of a trace, given those before it; as `ExactTeacher.logits`.

        Raises:
            ValueError: `keep_order=False` with drafts.
        """
        given = self._prompts(digits, drafts, solutions, keep_order)
        return response_logits(self.decoder, given, tokens)

    def sample(
        self,
        digits: Int[Tensor, "b n_digits"],
        *,
        generator: torch.Generator,
        drafts: Int[Tensor, "b n_draft"] | None = None,
        solutions: Int[Tensor, "b n_solution"] | None = None,
        keep_order: bool = True,
        stale: Callable[[], bool] = never,
    ) -> Int[Tensor, "b n"]:
        """Traces of the teacher's own at temperature 1; as `ExactTeacher.sample`.

        Raises:
            ValueError: `keep_order=False` with drafts.
        """
        given = self._prompts(digits, drafts, solutions, keep_order)
        return sample_rollouts(self.decoder, self.sums, given, generator=generator, stale=stale)

    def refine(
        self,
        digits: Int[Tensor, "b n_digits"],
        drafts: Int[Tensor, "b n_draft"],
        *,
        generator: torch.Generator,
    ) -> Refined:
        """Rewrites, then own solutions, drawn one after the other."""
        y_r = self.sample(digits, generator=generator, drafts=drafts)
        y_t = self.sample(digits, generator=generator)
        return Refined(y_r, self.logits(digits, y_r, drafts=drafts), y_t)
