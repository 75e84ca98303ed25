"""The numbers behind the lesson's explorers, as frozen records.

    two_modes        one target with two modes: what every divergence charges and where it pulls
    mode_map         where a teacher says WAIT: error position × delay, false alarms beside it
    along            one failed rollout and its rewrite, token by token; the pair ladder; the diff
    train_live       students trained while one watches
    canonical_order  TRD becomes SFT when there is only one order

Each has a module of its own: `two_modes`, `signals`, `along`, `live`, `canonical`. Every function
is pure: params in, record out, the shipped weights of `committed` apart. Work that takes long asks
`stale()`.

Source: arXiv:2606.08432, sections 4 and 6.4.
"""

from .along import AlongParams, AlongResult, along
from .canonical import CanonicalParams, CanonicalResult, canonical_order
from .live import LiveParams, LiveResult, train_live
from .signals import ModeMapParams, ModeMapResult, mode_map
from .two_modes import DIVERGENCES, TwoModesParams, TwoModesResult, two_modes

__all__ = [
    "DIVERGENCES",
    "AlongParams",
    "AlongResult",
    "CanonicalParams",
    "CanonicalResult",
    "LiveParams",
    "LiveResult",
    "ModeMapParams",
    "ModeMapResult",
    "TwoModesParams",
    "TwoModesResult",
    "along",
    "canonical_order",
    "mode_map",
    "train_live",
    "two_modes",
]
