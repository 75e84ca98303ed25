"""Decoding while most of the history is somewhere else: the memory that really moves.

    pool = CellPool(config, n_cells=512)
    decoding = LookaheadDecoding(decoder, indexers, capacity=4096, pool=pool)
    decoding.prefill(prompt)
    tokens = decoding.generate(256)

Every entry of the CSA layers has a copy in host memory, for good. The cell pool is GPU memory: a
cell holds one chunk's entries in all CSA layers, and its index keys in those that the Memory
Indexer does not read. A table says which chunk is in which cell. At a trigger only the difference
to the former set is copied. Without a pool the same decoding masks instead of moving, and gives
the same tokens.

Map of the rooms:
    table      which chunk is in which cell
    pool       the cells, and one request's places among them
    mirror     the copy of everything in host memory
    mover      copying, waited for or beside the decoding
    cells      a CSA layer's cache over the two
    memory     one request: its mirror, its cells, its caches
    reactive   the other way: fetch what the native selector chose, at every step
    decoding   prefill, then decoding with a set that is chosen every few steps

On a machine without a GPU both pools are host memory, and the bytes are those that would move.

Source: arXiv:2606.09079v2, section 2.1; reserve cells, lag and the full-attention fallback follow
the repository's server.
"""

from .cells import CellCache
from .decoding import Choose, Cycle, LookaheadDecoding
from .memory import Moved, RequestMemory
from .mirror import HostMirror
from .pool import CellLayout, CellPool, NoRoomOnDevice
from .reactive import ReactiveCache, reactive_cache
from .table import CellTable, PoolFull

__all__ = [
    "CellCache",
    "CellLayout",
    "CellPool",
    "CellTable",
    "Choose",
    "Cycle",
    "HostMirror",
    "LookaheadDecoding",
    "Moved",
    "NoRoomOnDevice",
    "PoolFull",
    "ReactiveCache",
    "RequestMemory",
    "reactive_cache",
]
