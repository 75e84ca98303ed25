"""Training the lightning indexer: its scores learn where the attention of its layer lies.

Selecting carries no gradient, so the indexer of a CSA layer has a loss of its own. The layer
reads every closed entry; its probabilities, averaged over heads, are the teacher.

Source: DeepSeek-V3.2 report, section 2.1 (the dense warm-up of its indexer), which V4's inherits.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .attention import Look, LSAAttention, index_scores

PARTS = ("index_compressor.", "w_iuq.", "w_iw.")


def lightning_weights(attention: LSAAttention) -> list[torch.nn.Parameter]:
    """What `lightning_kl` trains."""
    return [weight for name, weight in attention.named_parameters() if name.startswith(PARTS)]


def lightning_kl(
    attention: LSAAttention, hidden: Float[Tensor, "b n d_model"], positions: Int[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """KL(teacher‖indexer) over the closed entries, in nats, averaged over queries that have any.

    Args:
        attention: a CSA layer.
        hidden: input of the attention; no gradient reaches it, nor the layer's other weights.
        positions: of these tokens, the text's first ones.

    Returns:
        Above 0, unless the scores' softmax is the teacher; 0 where no chunk is closed.

    Raises:
        ValueError: not a CSA layer.
    """
    if attention.kind != "csa":
        raise ValueError(f"a layer of kind {attention.kind!r} selects nothing: give a CSA layer.")
    hidden = hidden.detach()
    looks: list[Look] = []
    former = attention.selects, attention.watch
    attention.selects, attention.watch = False, looks.append
    try:
        with torch.no_grad():
            attention(hidden, positions)
            low = attention.norm_q(attention.w_dq(hidden))
    finally:
        attention.selects, attention.watch = former
    (look,) = looks
    values, gates = attention.index_compressor.project(hidden)
    tokens = {"positions": positions, "index_keys_values": values, "index_keys_gates": gates}
    keys = attention.close_chunks(tokens, 0, 0, only=("index_keys",))["index_keys"]
    closed = look.scores > -math.inf  # [b, n, r]
    scores = index_scores(*attention.index_queries(hidden, low, positions), keys)
    some = closed.any(-1)
    if not bool(some.any()):
        return scores.sum() * 0.0
    student = scores.masked_fill(~closed, -math.inf)[some].log_softmax(-1)
    teacher = look.mass[some]
    teacher = teacher / teacher.sum(-1, keepdim=True).clamp(min=torch.finfo(teacher.dtype).tiny)
    student = student.masked_fill(~closed[some], 0.0)
    return (torch.xlogy(teacher, teacher) - teacher * student).sum(-1).mean()
