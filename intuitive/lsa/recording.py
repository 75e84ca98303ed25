"""One decode with everything resident, recorded so that any residency can be played over it.

The model is run once. What each step needed, what every selector thought of each chunk, and where
the attention lay do not depend on what is resident, as long as everything is; so `arms.replay` can
ask at once what another policy would have had at hand. What a miss does to the text that follows
is not in a recording: that takes the model itself (`residency.LookaheadDecoding`).

On disk a recording is one compressed file. Scores take a byte each, as 254 steps between the least
and the greatest of their row, and mass a byte for its square root.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from intuitive.common.checks import whole

NOT_THERE = 255  # the byte of -inf
LEVELS = 254


@dataclass(frozen=True, eq=False)
class Recording:
    """What happened in one decode, step by step; chunks count from the start of the text.

    Raises:
        ValueError: parts that do not fit each other, in words.
    """

    name: str
    words: tuple[str, ...]  # of every token, prompt and decoded
    n_prompt: int  # tokens of the prompt; the others are steps
    chunk_size: int  # tokens
    closed: Int[Tensor, " steps"]  # chunks that exist before each step
    needed: Bool[Tensor, "steps chunks"]  # golden chunks of each step
    mass: Float[Tensor, "steps chunks"]  # share of the whole attention, mean of heads and layers
    scores: Float[Tensor, "steps layers chunks"]  # Memory Indexer, asked before each step
    native: Float[Tensor, "steps chunks"]  # native selector in the step, best over layers
    bounds: Float[Tensor, "steps chunks"]  # Quest's, asked before each step
    sections: tuple[tuple[int, str], ...] = ()  # first step and title of topical sections
    source: str = ""  # which model, which command

    def __post_init__(self) -> None:
        whole("chunk_size", self.chunk_size, low=1)
        whole("n_prompt", self.n_prompt, low=1, high=len(self.words) - 1, why="the rest is decoded")
        steps, chunks = self.needed.shape
        if steps != len(self.words) - self.n_prompt:
            raise ValueError(
                f"{len(self.words)} words less {self.n_prompt} of the prompt are not the "
                f"{steps} steps of needed: give every decoded token a word."
            )
        for name in ("mass", "native", "bounds"):
            shape = tuple(getattr(self, name).shape)
            if shape != (steps, chunks):
                raise ValueError(f"{name} has shape {shape}, needed {(steps, chunks)}.")
        if self.scores.shape[::2] != (steps, chunks) or not self.scores.shape[1]:
            raise ValueError(
                f"scores has shape {tuple(self.scores.shape)}, and should have "
                f"({steps}, layers, {chunks}), with at least one layer."
            )
        closed = self.closed
        if closed.shape != (steps,) or not 0 <= int(closed[0]) <= int(closed[-1]) <= chunks:
            raise ValueError(
                f"closed must name, for each of {steps} steps, how many of {chunks} chunks exist."
            )
        if bool((closed[1:] < closed[:-1]).any()):
            raise ValueError("closed falls: a chunk that exists does not open again.")

    @property
    def n_steps(self) -> int:
        """Decoded tokens."""
        return len(self.needed)

    @property
    def n_chunks(self) -> int:
        """Chunks of the whole text, prompt and decoded."""
        return self.needed.shape[1]

    @property
    def exists(self) -> Bool[Tensor, "steps chunks"]:
        """Chunks that exist before each step."""
        return torch.arange(self.n_chunks, device=self.closed.device) < self.closed[:, None]

    def text(self, chunk: int) -> str:
        """Words of one chunk, the last of which may be cut short by the end of the text."""
        chunk = whole("chunk", chunk, low=0)
        return "".join(self.words[chunk * self.chunk_size : (chunk + 1) * self.chunk_size])

    def save(self, path: str | Path) -> Path:
        """Write one compressed file that ends in .npz; an older one of that name is replaced.

        Raises:
            ValueError: another ending.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path={str(path)!r} must end in .npz.")
        plain = {
            "name": self.name,
            "words": self.words,
            "n_prompt": self.n_prompt,
            "chunk_size": self.chunk_size,
            "n_chunks": self.n_chunks,
            "sections": self.sections,
            "source": self.source,
        }
        arrays: dict[str, np.ndarray] = {
            "plain": np.frombuffer(json.dumps(plain, ensure_ascii=False).encode(), dtype=np.uint8),
            "closed": self.closed.cpu().numpy().astype(np.int32),
            "needed": np.packbits(self.needed.cpu().numpy(), axis=-1),
        }
        for name in ("scores", "native", "bounds"):
            arrays[name], arrays[f"{name}_range"] = _coarse(getattr(self, name))
        roots = self.mass.float().clamp(min=0).sqrt()
        arrays["mass"], arrays["mass_range"] = _coarse(roots)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, **arrays)
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """Read what `save` wrote, on the CPU.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or of another kind.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: run the command that records it.")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            plain: dict[str, Any] = json.loads(arrays["plain"].tobytes())
            n_chunks = plain.pop("n_chunks")
            unpacked = np.unpackbits(arrays["needed"], axis=-1, count=n_chunks)
            parts = {
                name: _fine(arrays[name], arrays[f"{name}_range"])
                for name in ("scores", "native", "bounds", "mass")
            }
        except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
            raise ValueError(
                f"{path} is no whole recording ({error}): restore it, or record anew."
            ) from error
        parts["mass"] = parts["mass"] ** 2
        plain["words"] = tuple(plain["words"])
        plain["sections"] = tuple((step, title) for step, title in plain["sections"])
        return cls(
            closed=torch.from_numpy(arrays["closed"]).long(),
            needed=torch.from_numpy(unpacked.astype(bool)),
            **parts,
            **plain,
        )

    def to(self, device: torch.device | str) -> "Recording":
        """The same on another device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Recording(
            **{n: p.to(device) if isinstance(p, Tensor) else p for n, p in parts.items()}
        )


def _coarse(values: Float[Tensor, "*rows chunks"]) -> tuple[np.ndarray, np.ndarray]:
    """A byte for each value, and the least and greatest finite value of its row."""
    values = values.detach().float().cpu()
    finite = values.isfinite()
    if bool((values.isnan() | (values == torch.inf)).any()):
        raise ValueError("a recording holds NaN or +inf: only -inf has a meaning, a missing chunk.")
    low = values.masked_fill(~finite, torch.inf).amin(-1, keepdim=True)
    low = torch.where(low.isfinite(), low, 0.0)
    high = torch.maximum(values.amax(-1, keepdim=True), low)
    width = (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    steps = ((values - low) / width * LEVELS).round()
    levels = torch.where(finite, steps, float(NOT_THERE)).to(torch.uint8)
    return levels.numpy(), torch.cat((low, high), -1).numpy()


def _fine(levels: np.ndarray, ends: np.ndarray) -> Float[Tensor, "*rows chunks"]:
    """The values that `_coarse` stored, each within a 508th of its row's range."""
    low, high = torch.from_numpy(ends).split(1, -1)
    values = low + (high - low) * torch.from_numpy(levels).float() / LEVELS
    return values.masked_fill(torch.from_numpy(levels == NOT_THERE), -torch.inf)
