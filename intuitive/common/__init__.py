"""What every method shares.

Map of the rooms:
    decoder    Llama-style decoder whose attention can be exchanged; generation
    smollm     SmolLM2-135M and its tokenizer, from one GGUF file
    corpus     committed texts, and the harvest of attention over them
    runtime    cancelling, devices, seeds, time and peak memory
    records    save and load the numbers of experiments
    settings   parameter records as one line of text
    training   one plain training loop
    weights    save and load trained weights
    show       show_source for notebooks
    exercise   reports of the lessons' exercises

Nothing is imported before it is used.
"""

import importlib

_ROOM_OF = {
    "Decoder": "decoder",
    "DecoderConfig": "decoder",
    "DenseAttention": "decoder",
    "Probe": "decoder",
    "attention_rows": "decoder",
    "block_mass": "decoder",
    "generate": "decoder",
    "SmolLM2": "smollm",
    "find_model": "smollm",
    "load_smollm2": "smollm",
    "harvest": "corpus",
    "Cancelled": "runtime",
    "never": "runtime",
    "show_source": "show",
}
_ROOMS = ("corpus", "decoder", "records", "runtime", "show", "smollm")
__all__ = [*_ROOMS, *_ROOM_OF]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _ROOM_OF:
        return getattr(importlib.import_module(f".{_ROOM_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
