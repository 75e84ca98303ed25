"""What every method shares.

Map of the rooms:
    decoder    Llama-style decoder whose attention can be exchanged; generation
    smollm     SmolLM2-135M and its tokenizer, from one GGUF file
    eviction   making a cache small after a full prefill: baselines
    corpus     committed texts, and the harvest of attention over them
    own_text   the reader's own document
    returning  texts in which passages return
    runtime    cancelling, devices, seeds, time and peak memory
    records    save and load the numbers of experiments
    settings   parameter records as one line of text
    training   one plain training loop
    replay     its gradients as one graph on CUDA
    weights    save and load trained weights
    arrays     arrays that nobody can change
    checks     what a value must be, in words
    show       show_source for notebooks
    lazy       front doors that load a room when asked
    distribution  the name under which pip knows the package
    exercise   reports of the lessons' exercises

Nothing is imported before it is used.
"""

from .lazy import front_door

_HOME = {
    "Decoder": "decoder",
    "DecoderConfig": "decoder",
    "DenseAttention": "decoder",
    "evict": "eviction",
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
_ROOMS = ("corpus", "decoder", "eviction", "records", "runtime", "show", "smollm")
__all__ = [*_ROOMS, *_HOME]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
