"""Making a decoder's cache small after it has read everything: baselines for whoever reads less.

`evict(decoder, tokens, method=..., budget=...)` prefills a prompt, keeps `budget` entries per layer
and key/value head, and returns a cache from which ordinary decoding goes on. Every method keeps as
many entries in every layer and head; which ones may differ from head to head. Positions are those
of the text: the first new token stands where the whole prompt ends.

    raw          everything is kept
    truncation   only the newest tokens are read: no eviction, and the one that saves prefill
    snapkv       what the last queries of the prompt attend to, pooled over neighbours
    kvzip        what is attended to while the model repeats the prompt
    expected     what queries yet to come are expected to attend to, as Gaussians

Map of the rooms:
    methods      settings and scores, pure functions
    cache        a cache that has lost entries and counts them still
    prefill      reading, scoring and keeping
    quality      how well the text is predicted that follows

Differs: the papers' own schedules per layer and head are left out, so that all caches are equal in
size; scores are computed on the prefill's own tensors, not in a kernel.

Source: SnapKV, Li et al. 2024, arXiv:2404.14469; KVzip, Kim et al. 2025, arXiv:2505.23416; Expected
Attention, Devoto et al. 2025, arXiv:2510.00636.
"""

from .cache import EvictedCache
from .methods import (
    METHODS,
    ExpectedAttention,
    KVzip,
    Method,
    Raw,
    SnapKV,
    Truncation,
    attention_expected,
    attention_of_last_queries,
    attention_while_repeating,
)
from .prefill import Evicted, Scored, evict, keep_places, scored
from .quality import continuation_losses

__all__ = [
    "METHODS",
    "Evicted",
    "EvictedCache",
    "ExpectedAttention",
    "KVzip",
    "Method",
    "Raw",
    "Scored",
    "SnapKV",
    "Truncation",
    "attention_expected",
    "attention_of_last_queries",
    "attention_while_repeating",
    "continuation_losses",
    "evict",
    "keep_places",
    "scored",
]
