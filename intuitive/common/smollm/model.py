"""The model itself: loaded once, shared by everyone who asks for it."""

import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from ..decoder import Decoder, DecoderConfig
from .file import MISSING_MODEL_SENTENCE, ModelMissing, find_model, verify_model
from .gguf import read_config, read_gguf, read_weights
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class SmolLM2:
    """The model with its tokenizer."""

    decoder: Decoder
    tokenizer: Tokenizer
    config: DecoderConfig
    end_of_text: int  # separates documents
    end_of_turn: int  # ends an answer in a chat


_loading = threading.Lock()


def load_smollm2(
    path: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SmolLM2:
    """Load SmolLM2-135M-Instruct, in seconds the first time and at once after that.

    Everyone who asks for the same path, device and dtype gets the same model, with gradients
    off: `copy.deepcopy` its decoder before exchanging attention or training.

    Args:
        path: the GGUF file; looked for by `find_model` if None.
        device: where to put the weights.
        dtype: their type.

    Raises:
        ModelMissing: no model file; the message says how to get it.
        ValueError: the file is damaged.
    """
    path = find_model() if path is None else Path(path).expanduser()
    if path is None:
        raise ModelMissing(MISSING_MODEL_SENTENCE)
    if not path.is_file():
        raise ModelMissing(f"{path} is not a file. {MISSING_MODEL_SENTENCE}")
    # Two threads at once would otherwise each load a copy. Whoever comes first may be in inference
    # mode; the weights are kept for everyone.
    with _loading, torch.inference_mode(False):
        return _load(path.resolve(), torch.device(device), dtype)


@functools.lru_cache(maxsize=2)
def _load(path: Path, device: torch.device, dtype: torch.dtype) -> SmolLM2:
    verify_model(path)
    fields, tensors = read_gguf(path)
    config = read_config(fields)
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        decoder = Decoder(config)
    weights = read_weights(tensors, config)
    decoder.load_state_dict(
        {name: weight.to(device, dtype) for name, weight in weights.items()}, assign=True
    )
    decoder.head.weight = decoder.embedding.weight
    control = (i for i, kind in enumerate(fields["tokenizer.ggml.token_type"]) if kind == 3)
    tokenizer = Tokenizer(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"], control)
    return SmolLM2(
        decoder=decoder.eval().requires_grad_(False),
        tokenizer=tokenizer,
        config=config,
        end_of_text=fields["tokenizer.ggml.unknown_token_id"],
        end_of_turn=fields["tokenizer.ggml.eos_token_id"],
    )
