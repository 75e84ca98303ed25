"""The decoder and the Memory Indexer that are shipped with the package, and recorded decodes.

The weights are stored in float16 and computed with in float32; what is measured was measured with
the weights as they are stored. Rows of the output head that no answer uses are not stored.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.weights import load_weights, save_weights

from .config import LSAConfig
from .experiments.topical_training import DecoderTrainingConfig, Stage, make_decoder
from .indexer import MemoryIndexers
from .recording import Recording
from .task import TaskConfig

FOLDER = Path(__file__).parent / "weights"
TOPICAL = "topical.safetensors"
HEAD = "decoder.head.weight"
SEEDS = 10  # of Memory Indexers that a file can hold


@dataclass(frozen=True, eq=False)
class Shipped:
    """A frozen decoder and the Memory Indexer that goes with it."""

    decoder: Decoder
    indexers: MemoryIndexers
    training: DecoderTrainingConfig
    made: Mapping[str, str]  # the command, the commit and so on
    others: Mapping[int, MemoryIndexers] = field(default_factory=dict)  # by seed, from 1 on

    @property
    def config(self) -> LSAConfig:
        """Of the attention and the Memory Indexer."""
        return self.training.attention

    @property
    def task(self) -> TaskConfig:
        """The documents that it was trained on."""
        return self.training.task

    @property
    def by_seed(self) -> dict[int, MemoryIndexers]:
        """Memory Indexers of every seed; the first is the one that lessons use."""
        return {0: self.indexers, **self.others}


def stored(
    decoder: Decoder, indexers: Mapping[int, MemoryIndexers], task: TaskConfig
) -> dict[str, Tensor]:
    """Weights by name, as they are stored."""
    parts = {f"decoder.{name}": weight for name, weight in decoder.state_dict().items()}
    parts[HEAD] = parts[HEAD][: task.n_said]
    for seed, trained in indexers.items():
        prefix = _prefix(seed)
        parts |= {prefix + name: weight for name, weight in trained.state_dict().items()}
    return {name: weight.to(torch.float16) for name, weight in parts.items()}


def _prefix(seed: int) -> str:
    return f"memory{seed or ''}."


@torch.no_grad()
def as_stored(module: torch.nn.Module) -> None:
    """Round the weights to what float16 holds."""
    for weight in module.parameters():
        weight.copy_(weight.to(torch.float16).to(weight.dtype))


def save(
    path: str | Path,
    decoder: Decoder,
    indexers: Mapping[int, MemoryIndexers],
    training: DecoderTrainingConfig,
    made: Mapping[str, str],
) -> Path:
    """Write weights and settings as one file; `load` reads them back.

    Args:
        path: a file ending in .safetensors.
        decoder: frozen.
        indexers: by seed, 0 among them.
        training: of the decoder.
        made: short texts, such as the command and the commit.
    """
    settings = json.dumps(asdict(training))
    weights = stored(decoder, indexers, training.task)
    return save_weights(path, weights, {**made, "training": settings})


def load(path: str | Path | None = None) -> Shipped:
    """Read what `save` wrote; the shipped file if None.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or of another kind.
    """
    path = FOLDER / TOPICAL if path is None else Path(path)
    weights, made = load_weights(path)
    try:
        training = _settings(json.loads(made.pop("training")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say how its decoder was trained ({error}).") from error
    with torch.inference_mode(False):
        decoder = make_decoder(training)
        seeds = [seed for seed in range(SEEDS) if f"{_prefix(seed)}layers.0.w_dq" in weights]
        indexers = {seed: MemoryIndexers(training.attention) for seed in seeds}
        head = torch.zeros_like(decoder.head.weight)
        head[: training.task.n_said] = weights[HEAD]
        weights[HEAD] = head
        parts = {"decoder.": decoder} | {_prefix(seed): part for seed, part in indexers.items()}
        for prefix, module in parts.items():
            named = {
                name.removeprefix(prefix): weight.float()
                for name, weight in weights.items()
                if name.startswith(prefix)
            }
            module.load_state_dict(named)
            module.requires_grad_(False).eval()
    return Shipped(decoder, indexers.pop(0), training, made, indexers)


def _settings(plain: dict[str, Any]) -> DecoderTrainingConfig:
    """The settings that `asdict` and JSON made plain."""
    attention = {k: tuple(v) if isinstance(v, list) else v for k, v in plain["attention"].items()}
    return DecoderTrainingConfig(
        **plain
        | {
            "attention": LSAConfig(**attention),
            "task": TaskConfig(**plain["task"]),
            "stages": tuple(Stage(**stage) for stage in plain["stages"]),
            "lightning": Stage(**plain["lightning"]),
            "finetune": Stage(**plain["finetune"]),
        }
    )


@functools.cache
def topical() -> Shipped:
    """The shipped decoder, loaded once; leave its weights as they are."""
    return load()


def recording_names() -> tuple[str, ...]:
    """Recorded decodes that are shipped."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.npz")))


@functools.cache
def recording(name: str) -> Recording:
    """A shipped decode, loaded once.

    Raises:
        FileNotFoundError: no such recording; the message lists those there are.
    """
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"no recording {name!r}; there are {', '.join(recording_names())}.")
    with torch.inference_mode(False):  # whoever asks first, anybody may use it
        return Recording.load(path)
