"""MiniMax Sparse Attention: every query reads only the key blocks that a small index picks.

Map of the rooms, in reading order:
    config.py      every size and choice
    reference.py   the paper's equations as plain functions, selectors and measures
    cost.py        FLOPs, bytes and memory as formulas
    model.py       the attention module that exchanges a decoder's dense one
    alignment.py   the KL loss that trains the Index Branch, and measures of its success
    task.py        associative recall: data, one-layer model, losses
    recall.py      its five arms: training runs and their records
    index.py       trained Index Branches and their files
    conversion.py  a dense model made sparse
    index_training.py  its index trained on the frozen model
    quality.py     what that costs: mass captured, perplexity
    texts.py       a text that the model has read once
    experiments/   the numbers behind the explorers, one file each
    transformers.py  the kernels in models of the package `transformers`
    minimax.py     MiniMax-M3's indexers there, quicker
    masked.py      attention over blocks under a mask, for padded batches
    results.py     what committed runs found, as typed records
    exercise.py    checks for the lesson's "your turn"
    interpreted.py  what the attention kernel fetches, step by step
    kernel_exercise.py  checks for the kernel lesson's "your turn"

There is no fast.py: the fast path is `intuitive.kernels`, beside its own references.

Source: Lai et al. 2026, arXiv:2606.13392v2.
"""

from intuitive.common.lazy import front_door

_HOME = {
    "MSAConfig": "config",
    "MSAAttention": "model",
    "TrainedIndex": "index",
    "load_index": "index",
    "shipped_index": "index",
    "SELECTORS": "reference",
    "selector_scores": "reference",
    "check_select": "exercise",
}
_ROOMS = (
    "alignment",
    "config",
    "conversion",
    "cost",
    "exercise",
    "experiments",
    "index",
    "index_training",
    "interpreted",
    "kernel_exercise",
    "masked",
    "minimax",
    "model",
    "quality",
    "recall",
    "reference",
    "results",
    "task",
    "texts",
    "transformers",
)
__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
