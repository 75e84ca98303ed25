"""FlashMemory's Lookahead Sparse Attention: a KV cache off the GPU, fetched before it is needed.

Map of the rooms, in reading order:
    config.py       every size and choice
    cost.py         bytes, transfers and FLOPs as formulas
    rotary.py       positions as V4 turns them
    reference.py    window, CSA and HCA attention with loops
    cache.py        what a layer has read: recent tokens and entries
    packing.py      how entries and index keys lie in memory
    fast.py         one decoded token's attention over stored rows
    attention.py    the same attention, fast, as a decoder's exchangeable layers
    lightning.py    training the native selector of a CSA layer
    labels.py       what a window will need: the label factory
    selection.py    from scores to a resident set
    indexer.py      the Memory Indexer
    indexer_training.py  its loss, its training, and what its choice is worth
    harvest.py      what a run of the frozen model leaves behind for it
    residency/      decoding while most of the history is somewhere else
    recording.py    one decode with everything resident, on disk
    arms.py         residency policies at equal budget, played over it
    smollm.py       the same on SmolLM2: its sizes, index keys, trained indexers
    smollm_harvest.py   what SmolLM2 leaves behind
    smollm_decoding.py  SmolLM2 with a part of its history at hand
    shelf_texts.py  texts that come back to what they said
    task.py         topical records, a text whose next questions can be foreseen
    experiments/    a decoder trained on them, its decodes, and what each explorer computes
    shipped.py      its weights and recorded decodes
    results.py      committed runs as typed records
    exercise.py     checks of the lesson's "your turn"

Source: Wang et al. 2026, arXiv:2606.09079v2, and the official repository; the attention below it
is DeepSeek-V4's.
"""

from intuitive.common.lazy import front_door

_HOME = {
    "LSAConfig": "config",
    "kv_bytes": "cost",
    "resident_bytes": "cost",
    "golden_chunks": "labels",
    "window_labels": "labels",
    "memory_logits": "selection",
    "MemoryIndexer": "indexer",
    "MemoryIndexers": "indexer",
    "LSAAttention": "attention",
    "lsa_decoder": "attention",
    "CellPool": "residency",
    "LookaheadDecoding": "residency",
    "train_indexers": "indexer_training",
    "Recording": "recording",
    "Policy": "arms",
    "Residency": "arms",
    "replay": "arms",
    "check_choose": "exercise",
    "replay_choose": "exercise",
}
_ROOMS = (
    "arms",
    "attention",
    "cache",
    "config",
    "cost",
    "exercise",
    "experiments",
    "fast",
    "harvest",
    "indexer",
    "indexer_training",
    "labels",
    "lightning",
    "packing",
    "recording",
    "reference",
    "residency",
    "results",
    "rotary",
    "selection",
    "shelf_texts",
    "smollm",
    "smollm_decoding",
    "smollm_harvest",
    "shipped",
    "task",
)
__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
