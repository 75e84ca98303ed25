"""Chunks with ids, and a miniature that asks for one of them again: EXPAND at its smallest.

    [1] latents  [2] latents  ...  [3] finer latents   WHERE key   -> 3
                                                        VAL key     -> the value

Between the chunks and the question one chunk may stand once more. WHERE needs few bits of a chunk,
VAL all of a record: what a coarse latent can no longer tell, it may still lead to.

Differs: what comes back is the chunk at a finer ratio, not its raw text. Two layers do not learn to
read raw records within the steps of a miniature (`miniature.RawReader`).

Source: arXiv:2606.09659v1, section 7; the question types are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from intuitive.common.checks import whole, whole_fields
from intuitive.common.runtime import seeded

from .config import LCLMConfig
from .miniature import Size, begin, outputs
from .model import LatentContextModel
from .splice import NOT_TRAINED, Latents, Piece, Raw
from .task import Examples, most_frequent_share

WHERE, VAL = 1, 2  # tokens

# ---------------------------------------------------------------------------------------- chunks


@dataclass(frozen=True, eq=False)
class ChunkExamples:
    """Chunks of records and one question each; what the answer is, and where it stands."""

    chunks: Int[Tensor, "*s b c n"]
    questions: Int[Tensor, "*s b 2"]  # WHERE or VAL, and a key
    answers: Int[Tensor, "*s b"]  # an id or a value, as tokens
    holder: Int[Tensor, "*s b"]  # the chunk that holds the key, counted from 0
    values: Int[Tensor, "*s b"]  # of the key, whichever question it is
    expanded: Int[Tensor, "*s b"]  # a chunk to show once more; -1: none

    def examples(self, task: "ChunkTask") -> Examples:
        """As spans and raw tokens, for a `ChunkReader`; in the place of no chunk stands filler."""
        shown = self.expanded.clamp(min=0)[..., None]  # [*s, b, 1]
        where = shown[..., None].expand(*shown.shape, self.chunks.shape[-1])
        again = self.chunks.gather(-2, where)  # [*s, b, 1, n]
        none = self.expanded[..., None] < 0
        again = again.masked_fill(none[..., None], 0)
        ids = torch.arange(task.n_chunks, device=shown.device) + task.id_token(0)
        ids = ids.expand(*shown.shape[:-1], -1)
        again_id = torch.where(none, torch.zeros_like(shown), task.id_token(shown))
        raw = torch.cat((ids, again_id, self.questions), -1)
        targets = torch.full_like(raw, NOT_TRAINED)
        targets = torch.cat((targets, self.answers[..., None]), -1)
        return Examples(torch.cat((self.chunks, again), -2).flatten(-2), raw, targets)


@dataclass(frozen=True, kw_only=True)
class ChunkTask:
    """A prompt of chunks with ids, and questions WHERE(key) -> id and VAL(key) -> value.

    Tokens are: filler, WHERE, VAL, then ids (counted from 0 here, shown from 1), keys and values.
    No key stands twice in a prompt.

    Raises:
        ValueError: a size out of range, or more records than keys.
    """

    n_chunks: int = 4
    chunk: int = 16  # tokens
    records: int = 2  # of each chunk
    n_keys: int = 16
    n_values: int = 8
    shown: float = 0.45  # share of training examples in which some chunk is shown once more

    def __post_init__(self) -> None:
        whole_fields(self, n_chunks=1, chunk=2, records=1, n_keys=1, n_values=1)
        if self.n_chunks * self.records > self.n_keys:
            raise ValueError(
                f"{self.n_chunks} chunks of {self.records} records exceed n_keys={self.n_keys}: "
                "no key stands twice in a prompt."
            )
        if self.chunk % self.records or 2 * self.records > self.chunk:
            raise ValueError(
                f"chunk={self.chunk} must be a multiple of records={self.records} and hold two "
                "tokens of each."
            )
        if not 0 <= self.shown <= 1:
            raise ValueError(f"shown={self.shown} is a share: it must lie in [0, 1].")

    @property
    def vocabulary(self) -> int:
        """Tokens that there are."""
        return 3 + self.n_chunks + self.n_keys + self.n_values

    def id_token(self, chunk: Tensor | int) -> Tensor | int:
        """Token of a chunk's id; chunks are counted from 0."""
        return 3 + chunk

    @property
    def id_tokens(self) -> range:
        """Tokens of all ids, among which WHERE is answered."""
        return range(3, 3 + self.n_chunks)

    @property
    def no_binding(self) -> float:
        """What VAL gets right at best, if values are known and not which key has which."""
        return most_frequent_share(self.n_chunks * self.records, self.n_values)

    def draw(self, *shape: int, generator: torch.Generator) -> ChunkExamples:
        """Examples of this shape, half of them WHERE; `shown` of them have a chunk to expand.

        In half of those it is the one that holds the key, or else any.
        """
        device, n = generator.device, self.n_chunks * self.records
        spacing = self.chunk // self.records

        def below(high: int, *more: int) -> Tensor:
            return torch.randint(high, (*shape, *more), generator=generator, device=device)

        ordered = torch.rand(*shape, self.n_keys, generator=generator, device=device).argsort(-1)
        first_key = 3 + self.n_chunks
        keys = first_key + ordered[..., :n]  # [*shape, n]
        values = first_key + self.n_keys + below(self.n_values, n)
        chunks = torch.zeros(*shape, self.n_chunks, self.chunk, dtype=torch.int64, device=device)
        by_chunk = (*shape, self.n_chunks, self.records)
        chunks[..., ::spacing] = keys.reshape(by_chunk)
        chunks[..., 1::spacing] = values.reshape(by_chunk)
        record = below(n)
        holder = record // self.records
        is_value = below(2).bool()
        key, value = (
            x.gather(-1, record[..., None]).squeeze(-1) for x in (keys, values)
        )  # [*shape]
        questions = torch.stack((torch.where(is_value, VAL, WHERE), key), dim=-1)
        answers = torch.where(is_value, value, self.id_token(holder))
        shows = torch.rand(*shape, generator=generator, device=device) < self.shown
        which = torch.where(below(2).bool(), holder, below(self.n_chunks))
        expanded = torch.where(shows, which, torch.full_like(which, -1))
        return ChunkExamples(chunks, questions, answers, holder, value, expanded)


# ------------------------------------------------------------------------------------ the reader


class ChunkReader(nn.Module):
    """A miniature that reads chunks at one ratio, and one of them again at a finer one.

    Args:
        model: made for the coarse ratio; a pooling that allows others.
        task: what its prompts are made of.
        finer: tokens per latent of the chunk that is shown again.
    """

    def __init__(self, model: LatentContextModel, task: ChunkTask, *, finer: int) -> None:
        super().__init__()
        self.model, self.task, self.finer = model, task, whole("finer", finer, low=1)
        self.decoder, self.tags = model.decoder, model.tags

    def pieces(self, examples: Examples) -> list[Piece]:
        """The prompt; the last of the chunks in `examples.spans` is the one shown again."""
        n = self.task.n_chunks
        chunks = examples.spans.unflatten(-1, (n + 1, -1))  # [b, n + 1, chunk]
        coarse = self.model.encode(chunks[:, :n].flatten(0, 1)).unflatten(0, (-1, n))
        found: list[Piece] = []
        for i in range(n):
            found += [Raw(examples.raw[:, i : i + 1]), Latents(coarse[:, i])]
        found += [Raw(examples.raw[:, n : n + 1])]
        found += [Latents(self.model.encode(chunks[:, n], ratio=self.finer))]
        return [*found, Raw(examples.raw[:, n + 1 :])]


def build_chunks(
    task: ChunkTask,
    size: Size,
    *,
    ratio: int,
    finer: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> ChunkReader:
    """A miniature for chunks, with first weights of its own.

    Args:
        task: what its prompts are made of.
        size: of both stacks.
        ratio: tokens per latent of all chunks.
        finer: and of the one shown again.
        seed: of the weights, which do not depend on the device.
        device: where the miniature comes to lie.

    Raises:
        ValueError: a ratio that does not divide the chunk.
    """
    latents = task.n_chunks * -(-task.chunk // ratio) + -(-task.chunk // finer)
    positions = 3 * (task.n_chunks + 1) + latents + 2
    config = size.decoder(vocabulary=task.vocabulary, max_positions=positions)
    generator = seeded(seed)
    with torch.device("cpu"):
        model = LatentContextModel(
            LCLMConfig(
                ratio=ratio,
                window=task.chunk,
                encoder=replace(config, max_positions=task.chunk),
                decoder=config,
            ),
            generator=generator,
        )
        begin(model.encoder, generator)
        begin(model.decoder, generator)
    return ChunkReader(model, task, finer=finer).to(device)


def chunk_measures(held_out: ChunkExamples, task: ChunkTask) -> Callable[[nn.Module], dict]:
    """What a chunk miniature gets right, by name.

        where          the chunk's id, nothing shown again
        value alone    the value, nothing shown again
        value chosen   with the chunk shown again that WHERE names
        value other    with a chunk shown again that does not hold the key
        value oracle   with the chunk shown again that does

    Args:
        held_out: [b, ...]; each is asked both questions.
        task: of the examples.
    """
    holder = held_out.holder
    none, other = torch.full_like(holder, -1), (holder + 1) % task.n_chunks

    @torch.no_grad()
    def measure(reader: nn.Module) -> dict[str, float]:
        device = reader.tags.device

        def said(kind: int, shown: Tensor) -> Tensor:
            questions = torch.stack((torch.full_like(holder, kind), held_out.questions[:, 1]), -1)
            asked = replace(held_out, questions=questions, expanded=shown).examples(task)
            return outputs(reader, asked.to(device))[:, -1].cpu()

        ids = said(WHERE, none)[:, list(task.id_tokens)].argmax(-1)
        found = {"where accuracy": float((ids == holder).double().mean())}
        shown = {"alone": none, "chosen": ids, "other": other, "oracle": holder}
        for name, which in shown.items():
            right = said(VAL, which).argmax(-1) == held_out.values
            found[f"value {name} accuracy"] = float(right.double().mean())
        return found

    return measure
