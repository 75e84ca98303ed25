"""Latent Context Language Models: text folded into soft tokens before the decoder reads it.

Map of the rooms, in reading order:
    config.py       every size and choice
    reference.py    counts, windows, pooling and the label mask as formulas
    cost.py         memory and time to first token, term by term
    splice.py       spans of latents among raw text, as one prompt
    adapter.py      between encoder and decoder; attention that reads both ways
    model.py        encoder, adapter and decoder
    inference.py    encoding ahead, prefill, decoding, latents on disk
    expand.py       a tool that brings a chunk's words back
    player.py       a model that uses it
    documents.py    the three kinds of training data and their rules
    task.py         recall, reconstruction and bytes of text: one span, one answer
    stages.py       the four training stages
    miniature.py    small models for those tasks
    fitting.py      their training
    chunks.py       WHERE/VAL: chunks with ids, one of which comes back
    smollm_model.py the weights around SmolLM2
    smollm.py       a real pair from SmolLM2
    experiments/    what each explorer computes
    results.py      committed runs as typed records
    exercise.py     checks of the lesson's "your turn"

Source: Li et al. 2026, arXiv:2606.09659v1, and the official repository.
"""

from intuitive.common.lazy import front_door

_HOME = {
    "LCLMConfig": "config",
    "effective_ratio": "reference",
    "label_mask": "reference",
    "latent_count": "reference",
    "mean_pool": "reference",
    "memory_gib": "cost",
    "ttft_seconds": "cost",
    "LatentContextModel": "model",
    "Latents": "splice",
    "Raw": "splice",
    "Span": "splice",
}
_ROOMS = (
    "adapter",
    "chunks",
    "config",
    "cost",
    "documents",
    "exercise",
    "expand",
    "experiments",
    "fitting",
    "inference",
    "miniature",
    "model",
    "player",
    "reference",
    "results",
    "smollm",
    "smollm_model",
    "splice",
    "stages",
    "task",
)
__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
