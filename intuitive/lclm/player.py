"""A latent-context model plays EXPAND: it names chunks by its own logits, then answers.

Differs: the paper's agent writes its tool call as text. A small model that was never taught to
write one is asked for the id directly: what it gives most to, among the ids alone, is its choice.

Source: arXiv:2606.09659v1, section 7.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from intuitive.common.checks import whole

from .expand import Answer, Expand, Turn, id_logits
from .inference import Prefilled, decode, prefill
from .model import LatentContextModel
from .splice import Raw


class ModelPlayer:
    """A player for `expand.play`.

    Args:
        model: reads the prompt of each turn.
        id_tokens: the token of each id 1, 2, ...
        look: raw tokens after the question when it is to name a chunk.
        say: raw tokens after the question when it is to answer.
        n_ids: chunks named per turn.
        n_looks: turns on which it names chunks before it answers.
        max_new_tokens: of an answer.
        stop_tokens: that end one, and are no part of it.

    Attributes:
        looks: what it gave to each id on the turns that named chunks; -inf for those at hand.

    The positions of `look` and `say` and of the answer are not part of a trace's count.
    """

    def __init__(
        self,
        model: LatentContextModel,
        id_tokens: Sequence[int],
        *,
        look: Sequence[int] = (),
        say: Sequence[int] = (),
        n_ids: int = 1,
        n_looks: int = 1,
        max_new_tokens: int = 16,
        stop_tokens: Sequence[int] = (),
    ) -> None:
        self.model, self.id_tokens = model, tuple(id_tokens)
        self.look, self.say, self.stop_tokens = tuple(look), tuple(say), tuple(stop_tokens)
        self.n_ids, self.n_looks = whole("n_ids", n_ids, low=1), whole("n_looks", n_looks, low=1)
        self.max_new_tokens = whole("max_new_tokens", max_new_tokens, low=1)
        self.looks: list[Float[Tensor, " k"]] = []

    def __call__(self, turn: Turn) -> Expand | Answer:
        """Name chunks while it may and wants to, then answer.

        Raises:
            ValueError: more chunks than ids, or a prompt that does not fit.
        """
        if turn.n_chunks > len(self.id_tokens):
            raise ValueError(
                f"{turn.n_chunks} chunks, and only {len(self.id_tokens)} ids have a token: make "
                "the chunks longer."
            )
        if turn.number == 1:
            self.looks = []
        room = len(self.look) + len(self.say) + self.max_new_tokens
        read = prefill(self.model, turn.pieces, room=room)
        left = turn.n_chunks - len(turn.expanded)
        if turn.must == "expand" or (
            turn.must == "either" and turn.number <= self.n_looks and left
        ):
            logits = id_logits(
                self._after(read, self.look).logits,
                self.id_tokens[: turn.n_chunks],
                without=turn.expanded,
            )
            self.looks.append(logits)
            best = torch.sort(logits, descending=True, stable=True).indices
            return Expand(tuple(int(i) + 1 for i in best[: min(self.n_ids, left)]))
        told = decode(
            self.model,
            self._after(read, self.say),
            max_new_tokens=self.max_new_tokens,
            stop_tokens=self.stop_tokens,
        ).tolist()
        return Answer(tuple(told[:-1] if told[-1] in self.stop_tokens else told))

    def _after(self, read: Prefilled, tokens: Sequence[int]) -> Prefilled:
        return prefill(self.model, [Raw(tokens)], after=read) if tokens else read
