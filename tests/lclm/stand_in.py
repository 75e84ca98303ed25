"""A pair without a network: beads forget by a seeded draw, the decoder copies what it finds raw.

It has the interface of the real pair (`intuitive.lclm.smollm`), so that pictures and words can be
tested without weights. What it forgets is made up.
"""

import re
from types import SimpleNamespace

import torch

from intuitive.common.runtime import seeded
from intuitive.common.smollm import Tokenizer
from intuitive.lclm.splice import Raw

KEPT = {4: 0.95, 8: 0.75, 16: 0.45}  # share of tokens that survive


class Words(Tokenizer):
    """A tokenizer of words with their space, digits and marks; it learns as it reads."""

    def __init__(self):
        self.pieces = ["?", "!"]

    def encode(self, text):
        found = re.findall(r" ?[A-Za-z]+| ?\d|\s|[^\w\s]|\w", text)
        assert "".join(found) == text
        new = dict.fromkeys(piece for piece in found if piece not in self.pieces)
        self.pieces += new
        return [self.pieces.index(piece) for piece in found]

    def token_strings(self, ids):
        return [self.pieces[int(index)] for index in ids]

    def decode(self, ids):
        return "".join(self.token_strings(ids))


class StandIn:
    """Args: tokenizer: SmolLM2's or `Words`; seed: of what is forgotten."""

    def __init__(self, tokenizer=None, seed=0):
        self.tokenizer, self.seed = tokenizer or Words(), seed
        self.asked = []  # ("reconstruct" or "continuation", tokens)

    def encode(self, tokens, ratio):
        self.asked.append(("encode", len(tokens)))
        return torch.zeros(-(-len(tokens) // ratio), 4)

    def reconstruct(self, tokens, ratio):
        self.asked.append(("reconstruct", len(tokens)))
        n = len(tokens)
        draw = torch.rand(n, 2, generator=seeded(self.seed), dtype=torch.float64)
        survives = draw[:, 0] < KEPT[ratio]
        other = tokens.flip(0)  # another token of the text
        other = torch.where(other == tokens, 0, other)
        third = torch.full_like(tokens, int(tokens.max()))
        p_best = 0.4 + 0.5 * draw[:, 1]
        p_second = (1 - p_best) * 0.7
        p_true = torch.where(survives, p_best, p_second)
        ids = [torch.where(survives, tokens, other), torch.where(survives, other, tokens), third]
        return SimpleNamespace(
            log_probability=p_true.log().float(),
            top_ids=torch.stack(ids, -1),
            top_probability=torch.stack([p_best, p_second, p_second / 3], -1).float(),
        )

    def continuation(self, pieces, n, *, ratio, stop=""):
        """What followed "is" in the last raw text before the question, else its first word."""
        self.asked.append(("continuation", n))
        raw = [piece.tokens.tolist() for piece in pieces if isinstance(piece, Raw)]
        words = self.tokenizer.token_strings(raw[-2] if len(raw) > 1 else [])
        at = words.index(" is") + 1 if " is" in words else 0
        found = raw[-2][at : at + n] if words else raw[-1][:1] if raw else [0]
        return torch.tensor(found * n)[:n]

    def likeliest(self, pieces, tokens):
        """Every third token is guessed without any bead."""
        return torch.where(torch.arange(len(tokens)) % 3 == 0, tokens, tokens + 1)

    def where(self, chunks, question, ratio):
        """The more words of the question a chunk has, the likelier it is."""
        words = set(self.tokenizer.encode(question))
        return torch.tensor([float(len(words & set(chunk.tolist()))) for chunk in chunks])
