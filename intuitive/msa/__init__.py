"""MiniMax Sparse Attention: every query reads only the key blocks that a small index picks.

Map of the rooms, in reading order:
    config.py      every size and choice
    reference.py   the paper's equations as plain functions, selectors and measures
    cost.py        FLOPs, bytes and memory as formulas
    model.py       the attention module that exchanges a decoder's dense one
    alignment.py   the KL loss that trains the Index Branch, and measures of its success
    task.py        associative recall: data, one-layer model, losses
    recall.py      its five arms: training runs and their records
    convert.py     a dense model made sparse: its index trained, saved, and measured
    experiment.py  the numbers behind the lesson's explorers
    continuation.py  dense and sparse model continue one text
    converted.py   what that cost, from the committed run
    measured.py    committed kernel times
    loops.py       three loop orders, step by step, with the bytes they move
    exercise.py    checks for the lesson's "your turn"

There is no fast.py: the fast path is `intuitive.kernels`, beside its own references.

Source: Lai et al. 2026, arXiv:2606.13392v2.
"""

from intuitive.common.lazy import front_door

_HOME = {
    "MSAConfig": "config",
    "MSAAttention": "model",
    "TrainedIndex": "convert",
    "load_index": "convert",
    "shipped_index": "convert",
    "SELECTORS": "reference",
    "selector_scores": "reference",
    "check_select": "exercise",
}
_ROOMS = (
    "alignment",
    "config",
    "continuation",
    "convert",
    "converted",
    "cost",
    "exercise",
    "experiment",
    "loops",
    "measured",
    "model",
    "recall",
    "reference",
    "task",
)
__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
