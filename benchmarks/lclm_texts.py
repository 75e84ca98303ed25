"""What SmolLM2's encoder is trained on, drawn on the device: texts, needles, and prompts of both.

Texts come from `lclm_corpus.py`, needles from `lclm_needles.py`. Everything is laid out so that the
rows of a batch are alike, and drawn without waiting for the device.
"""

import json
import lzma
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lclm_needles import PLACES, Bucket, insert, needles
from torch import Tensor

from intuitive.common import corpus
from intuitive.common.returning import FOREIGN
from intuitive.common.smollm import SmolLM2
from intuitive.lclm.smollm import REPEAT, WINDOW, digits
from intuitive.lclm.splice import Latents, Piece, Raw, Span

KINDS = ("prose", "docs", "code")

# ------------------------------------------------------------------------------------ texts


class Stream:
    """Files of one kind and split on the device."""

    def __init__(self, files: list[np.ndarray], names: list[str], device: torch.device) -> None:
        self.files, self.names, self.device = files, names, device
        flat = np.concatenate(files).astype(np.int32)
        self.tokens = torch.from_numpy(flat).to(device)
        self._starts = np.concatenate(([0], np.cumsum([len(file) for file in files])[:-1]))
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def draw(self, b: int, n: int, generator: torch.Generator) -> Tensor:
        """[b, n] token ids, each row a passage of one file, all passages alike likely."""
        if n not in self._tables:
            room = np.maximum([len(file) - n + 1 for file in self.files], 0)
            if not room.sum():
                raise ValueError(f"no file of {self.names[:3]} ... has {n} tokens.")
            ends = torch.from_numpy(np.cumsum(room)).to(self.device)
            shift = torch.from_numpy(self._starts - (np.cumsum(room) - room)).to(self.device)
            self._tables[n] = (ends, shift)
        ends, shift = self._tables[n]
        u = torch.rand(b, device=self.device, generator=generator, dtype=torch.float64)
        lot = (u * ends[-1]).long()
        place = torch.searchsorted(ends, lot, right=True)
        start = lot + shift[place]
        index = start[:, None] + torch.arange(n, device=self.device)
        return self.tokens[index].long()

    def pieces(self, count: int, n: int) -> Tensor:
        """[count, n] passages that do not overlap, spread evenly over the files; maybe fewer."""
        found = [file[i : i + n] for file in self.files for i in range(0, len(file) - n + 1, n)]
        step = max(1.0, len(found) / count)
        chosen = [found[int(i * step)] for i in range(min(count, len(found)))]
        return torch.from_numpy(np.stack(chosen).astype(np.int64)).to(self.device)


class Texts:
    """All streams, by split and kind.

    Args:
        folder: of `lclm_corpus.py`; None for the committed texts.
        model: whose tokenizer reads the committed texts; a folder holds tokens.
        device: where they go.
    """

    def __init__(self, folder: Path | None, model: SmolLM2 | None, device: torch.device) -> None:
        parts: dict[tuple[str, str], tuple[list, list]] = defaultdict(lambda: ([], []))
        self.about: dict = {"corpus": "committed"}
        if folder is None:
            for document in corpus.load():
                if document.name in FOREIGN:
                    continue
                ids = np.array(model.tokenizer.encode(document.text), dtype=np.uint16)
                splits = {document.split: ids}
                if document.split == "train":
                    cut = int(0.9 * len(ids))
                    splits = {"train": ids[:cut], "validation": ids[cut:]}
                for split, part in splits.items():
                    parts[split, document.kind][0].append(part)
                    parts[split, document.kind][1].append(document.name)
        else:
            manifest = json.loads((folder / "manifest.json").read_text())
            data = lzma.decompress((folder / "tokens.bin.xz").read_bytes())
            flat = np.frombuffer(data, dtype="<u2")
            self.about = {"tokens": manifest["tokens"], "sha256": manifest["sha256"]}
            for part in manifest["parts"]:
                at = part["start"]
                for length in part["files"]:
                    files, names = parts[part["split"], part["kind"]]
                    files.append(flat[at : at + length])
                    names.append(part["source"])
                    at += length
        self.streams = {
            key: Stream(files, names, device) for key, (files, names) in sorted(parts.items())
        }
        for (split, kind), stream in self.streams.items():
            self.about[f"{split}_{kind}_tokens"] = len(stream.tokens)

    def has(self, split: str, kind: str) -> bool:
        return (split, kind) in self.streams

    def of(self, split: str, kind: str) -> Stream:
        return self.streams[split, kind]

    def named(self, split: str, kind: str, name: str, device: torch.device) -> Stream | None:
        """The files of one source alone."""
        if not self.has(split, kind):
            return None
        stream = self.of(split, kind)
        files = [f for f, n in zip(stream.files, stream.names, strict=True) if n == name]
        return Stream(files, [name] * len(files), device) if files else None


# ------------------------------------------------------------------------------------ batches


@dataclass(frozen=True)
class Mix:
    """Rows of each kind in a step, and how much each kind's loss counts."""

    interleaved: int = 16
    reconstruction: int = 40  # of 256 tokens; more of shorter ones
    raw: int = 2
    chunks: int = 6
    reconstruction_weight: float = 1.0
    raw_weight: float = 0.2
    chunks_weight: float = 0.3
    returning: float = 0.25  # of interleaved rows, in which a passage returns
    kinds: tuple[float, ...] = (0.55, 0.3, 0.15)  # prose, docs, code


PATTERNS = ((512, 256), (640, 384), (768, 256), (768, 256), (384, 128, 256, 256))


class Batches:
    """Draws the pieces of training prompts."""

    def __init__(
        self,
        model: SmolLM2,
        texts: Texts,
        mix: Mix,
        device: torch.device,
        seed: int,
        *,
        split: str = "train",
        scale: int = 1,
    ) -> None:
        self.model, self.texts, self.mix, self.split, self.scale = model, texts, mix, split, scale
        self.device, self._known = device, {}
        self.rng = random.Random(seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.buckets = needles(model, PLACES, device, 0)
        self.repeat = self._ids(REPEAT)
        self.digits = torch.tensor(digits(model.tokenizer), device=device)
        self.newline = self._ids("\n")

    def _ids(self, text: str) -> Tensor:
        if text not in self._known:  # making a tensor waits for the device
            ids = self.model.tokenizer.encode(text)
            self._known[text] = torch.tensor(ids, device=self.device)
        return self._known[text]

    def text(self, b: int, n: int) -> Tensor:
        """[b, n] passages, their kinds by the mix's shares."""
        known = [
            (kind, share)
            for kind, share in zip(KINDS, self.mix.kinds, strict=True)
            if self.texts.has(self.split, kind)
        ]
        whole = sum(share for _, share in known)
        rows, left = [], b
        for i, (kind, share) in enumerate(known):
            exact = share / whole * b
            count = int(exact) + (self.rng.random() < exact - int(exact))
            count = left if i == len(known) - 1 else min(count, left)
            if count:
                rows.append(self.texts.of(self.split, kind).draw(count, n, self.generator))
            left -= count
        return torch.cat(rows)

    def whole_number(self, low: int, high: int, *shape: int) -> Tensor:
        """Random whole numbers in [low, high)."""
        return torch.randint(low, high, shape, device=self.device, generator=self.generator)

    def interleaved(
        self, b: int, ratio: int, pattern: tuple[int, ...] | None = None
    ) -> list[Piece]:
        """Compressed and raw segments in turn; in some rows a passage of the first span returns."""
        pattern = self.rng.choice(PATTERNS) if pattern is None else pattern
        pattern = [max(1, part // self.scale) for part in pattern]
        ragged = self.rng.randrange(ratio) if self.rng.random() < 0.3 else 0
        pattern[0] -= ragged
        tokens = self.text(b, sum(pattern))
        back, n = int(b * self.mix.returning), max(8, 64 // self.scale)
        if back:
            start = self.whole_number(0, pattern[0] - n, back)
            last = sum(pattern) - pattern[-1]
            at = last + self.whole_number(4, pattern[-1] - n, back)
            p = torch.arange(tokens.shape[1], device=self.device)[None]
            inside = (p >= at[:, None]) & (p < at[:, None] + n)
            source = torch.where(inside, p - at[:, None] + start[:, None], p)
            tokens = torch.cat((tokens[:back].gather(1, source), tokens[back:]))
        parts = tokens.split(pattern, 1)
        return [Raw(part) if i % 2 else Span(part) for i, part in enumerate(parts)]

    def reconstruction(self, b: int, ratio: int, n: int = WINDOW) -> list[Piece]:
        """A text of about n tokens, then the same words."""
        n = max(n // self.scale, 2 * ratio)
        if n >= WINDOW // 2 and self.rng.random() < 0.4:
            n -= self.rng.randrange(ratio)
        tokens = self.text(b, n)
        return [Span(tokens), Raw(self.repeat, False), Raw(tokens)]

    def raw(self, b: int, n: int = 768) -> list[Piece]:
        """Text as it is."""
        return [Raw(self.text(b, n // self.scale))]

    def all_raw(self, b: int) -> list[Piece]:
        """What `interleaved` draws, nothing of it compressed."""
        tokens = torch.cat([piece.tokens for piece in self.interleaved(b, 4)], 1)
        return [Raw(tokens)]

    def chunk_texts(
        self, b: int, n_chunks: int, n: int, buckets: list[Bucket] | None = None
    ) -> tuple[Tensor, Tensor, Bucket, Tensor, Tensor]:
        """Chunks with needles in half of them, of which one is asked for.

        Returns:
            chunks [b, n_chunks, n]; the chunk [b] asked for, from 0; the needles' bucket; and
            which key [b] and value [b] of it.
        """
        buckets = self.buckets if buckets is None else buckets
        bucket = self.rng.choices(buckets, [len(x.place) for x in buckets])[0]
        chunks = self.text(b, n_chunks * n).unflatten(1, (n_chunks, n)).clone()
        n_keys, n_values, n_s = bucket.statement.shape
        some = min(max(2, n_chunks // 2), n_keys)
        keys = torch.rand(b, n_keys, device=self.device, generator=self.generator).argsort(1)
        homes = torch.rand(b, n_chunks, device=self.device, generator=self.generator).argsort(1)
        values = self.whole_number(0, n_values, b, some)
        rows = torch.arange(b, device=self.device)
        for i in range(some):
            said = bucket.statement[keys[:, i], values[:, i]]  # [b, n_s]
            at = self.whole_number(0, max(1, n - n_s + 1), b)
            chunks[rows, homes[:, i]] = insert(chunks[rows, homes[:, i]], said, at)
        return chunks, homes[:, 0], bucket, keys[:, 0], values[:, 0]

    def map_pieces(self, chunks: Tensor, *, compressed: bool = True) -> list[Piece]:
        """A map of chunks: their token ids [b, n_chunks, n], or latents [b, n_chunks, m, d]."""
        pieces: list[Piece] = []
        for number in range(chunks.shape[1]):
            pieces.append(Raw(self._ids(f"[{number + 1}] "), False))
            part = chunks[:, number]
            if part.is_floating_point():
                pieces.append(Latents(part))
            else:
                pieces.append(Span(part) if compressed else Raw(part, False))
        return pieces

    def opened(self, chunks: Tensor, which: Tensor) -> list[Piece]:
        """A newline, the id [b] of a chunk, and its words."""
        b = len(chunks)
        left, right = self._ids("\n["), self._ids("] ")
        rows = torch.arange(b, device=self.device)
        ids = self.digits[which][:, None]
        head = torch.cat((left.expand(b, -1), ids, right.expand(b, -1)), 1)
        return [Raw(head, False), Raw(chunks[rows, which], False)]

    def chunk_questions(self, b: int, *, compressed: bool = True) -> list[Piece]:
        """A map of chunks with WHERE and, for needles, VAL: from the latents or an open chunk."""
        n_chunks = self.rng.choice((4, 6, 8, 8, 9))
        n = self.rng.choice((48, 64, 96, 96, 128))
        chunks, asked, bucket, key, value = self.chunk_texts(b, n_chunks, n)
        pieces = self.map_pieces(chunks, compressed=compressed)
        rows = torch.arange(b, device=self.device)
        answer = self.digits[asked][:, None]
        if self.rng.random() < 0.3:  # a quotation
            head = self._ids('\nQuestion: Which chunk says "')
            tail = self._ids('"?\nLook in chunk [')
            at = self.whole_number(0, n - 8, b)
            index = at[:, None] + torch.arange(8, device=self.device)
            quoted = chunks[rows, asked].gather(1, index)
            return [*pieces, Raw(head, False), Raw(quoted, False), Raw(tail, False), Raw(answer)]
        pieces += [Raw(bucket.question[key], False), Raw(answer)]
        if self.rng.random() < 0.5:
            other = self.whole_number(0, n_chunks, b)
            wrong = torch.rand(b, device=self.device, generator=self.generator) < 0.15
            pieces += self.opened(chunks, torch.where(wrong, other, asked))
        pieces.append(Raw(bucket.asked[key], False))
        said = torch.cat((bucket.value[key, value], self.newline.expand(b, -1)), 1)
        return [*pieces, Raw(said)]
