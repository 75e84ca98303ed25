"""Miniature models for the tasks of `task`, and their training.

Encoder and decoder are small and share one token embedding, which starts at standard deviation
d^-1/2 and stands in for pre-training: with the usual 0.02 no latent of averaged embeddings is told
from another for hundreds of steps.

`RawReader` is the control: the decoder reads the span as it is. Recall takes it two hops (which
token came before, then which of those matches), and 400 steps are too few for two layers to find
them. So the control either trains until it has, or gets the first hop for nothing: a smear adds to
every token a learned share, one half at first, of the one before.
"""

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from intuitive.common.checks import whole_fields
from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import seeded

from .config import LCLMConfig
from .model import LatentContextModel
from .splice import NOT_TRAINED, Latents, Piece, Raw, join
from .stages import parts_of
from .task import Examples


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a miniature, the same for encoder and decoder; defaults are the brief's recipe."""

    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    d_ff: int = 192
    batch: int = 64
    lr: float = 3e-3

    def __post_init__(self) -> None:
        whole_fields(self, d_model=1, n_layers=1, n_heads=1, d_ff=1, batch=1)
        if self.d_model % self.n_heads or not self.lr > 0:
            raise ValueError(
                f"d_model={self.d_model} must be a multiple of n_heads={self.n_heads}, and "
                f"lr={self.lr} above 0."
            )

    def decoder(self, *, vocabulary: int, max_positions: int) -> DecoderConfig:
        """One stack of these sizes, with learned positions.

        Differs: Qwen3 has rotary positions. Output j must look at latent ⌊j/N⌋, not a constant
        number of places back, which small rotary models learn slowly.
        """
        return DecoderConfig(
            vocab_size=vocabulary,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_q_heads=self.n_heads,
            n_kv_heads=self.n_heads,
            d_head=self.d_model // self.n_heads,
            d_ff=self.d_ff,
            max_positions=max_positions,
            positions="learned",
        )


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a span reaches the decoder.

    Args:
        reader: "latents"; or "raw", as tokens; or "smeared", as tokens that hold a share of the
            one before.
        ratio: tokens per latent; 1 for the raw readers.
        window: tokens per encoder pass.
        pooling: as in `LCLMConfig`, likewise
        mask: of the encoder, and
        adapter: between the two.
    """

    reader: str = "latents"
    ratio: int = 8
    window: int = 32
    pooling: str = "mean"
    mask: str = "causal"
    adapter: str = "mlp"

    def __post_init__(self) -> None:
        if self.reader not in ("latents", "raw", "smeared"):
            raise ValueError(
                f"reader={self.reader!r} is unknown; choose 'latents', 'raw' or 'smeared'."
            )
        if self.reader != "latents" and self.ratio != 1:
            raise ValueError(
                f"reader={self.reader!r} compresses nothing, so ratio={self.ratio} must be 1."
            )


class RawReader(nn.Module):
    """The decoder alone, reading a span between its two tags as it is.

    Args:
        config: of the decoder.
        smeared: whether each token gets a learned share (one per channel) of the one before.
        generator: of the first weights.
    """

    def __init__(
        self, config: DecoderConfig, *, smeared: bool = False, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.decoder = Decoder(config, generator=generator)
        begin(self.decoder, generator)
        self.tags = nn.Parameter(self.decoder.embedding.weight.new_empty(2, config.d_model))
        with torch.no_grad():
            self.tags.normal_(std=config.d_model**-0.5, generator=generator)
        self.adapters = nn.ModuleList()  # nothing between the two
        self.smear = nn.Parameter(torch.full_like(self.tags[0], 0.5)) if smeared else None

    def latents(self, spans: Tensor) -> Float[Tensor, "b n d"]:
        """What stands between the tags: the span's own embeddings."""
        tokens = self.decoder.embedding(spans)
        if self.smear is None:
            return tokens
        return tokens + self.smear * F.pad(tokens, (0, 0, 1, 0))[:, :-1]

    def pieces(self, examples: Examples) -> list[Piece]:
        """The prompt: the span, then what stands raw behind it."""
        return [Latents(self.latents(examples.spans)), Raw(examples.raw)]


class LatentReader(nn.Module):
    """A `LatentContextModel` as a miniature: one span, then raw tokens.

    Args:
        model: encoder, adapter, tags and decoder.
    """

    def __init__(self, model: LatentContextModel) -> None:
        super().__init__()
        self.model = model
        self.decoder, self.tags = model.decoder, model.tags

    def latents(self, spans: Tensor) -> Float[Tensor, "b m d"]:
        """What stands between the tags: the span's latents."""
        return self.model.encode(spans)

    def pieces(self, examples: Examples) -> list[Piece]:
        """The prompt: the span, then what stands raw behind it."""
        return [Latents(self.latents(examples.spans)), Raw(examples.raw)]


Reader = RawReader | LatentReader


@torch.no_grad()
def begin(decoder: Decoder, generator: torch.Generator) -> None:
    """Draw a miniature's first weights anew, wider than the 0.02 of large models.

    Embeddings get standard deviation d^-1/2, matrices 1/√(3 inputs), and those that write to the
    residual stream that divided by √(2 layers).
    """
    into_stream = (2 * decoder.config.n_layers) ** -0.5
    for name, weight in decoder.named_parameters():
        if weight.dim() == 2 and "position" not in name:
            width = 1.0 if "embedding" in name else 3.0
            std = (width * weight.shape[1]) ** -0.5
            if name.endswith(("w_o.weight", "w_down.weight")):
                std *= into_stream
            weight.normal_(std=std, generator=generator)


def build(
    form: Form,
    size: Size,
    *,
    vocabulary: int,
    context: int,
    behind: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Reader:
    """A miniature with first weights of its own.

    Args:
        form: how the span reaches the decoder.
        size: of both stacks.
        vocabulary: tokens that there are.
        context: tokens of a span.
        behind: raw tokens behind it.
        seed: of the weights, which do not depend on the device.
        device: where the miniature comes to lie.

    Raises:
        ValueError: a form or a size that does not fit.
    """
    generator = seeded(seed)
    config = size.decoder(vocabulary=vocabulary, max_positions=context + 2 + behind)
    with torch.device("cpu"):
        if form.reader != "latents":
            reader = RawReader(config, smeared=form.reader == "smeared", generator=generator)
        else:
            reader = _latent_reader(form, config, None, generator)
    return reader.to(device)


def build_upon(raw: RawReader, form: Form, *, seed: int, copied: bool = False) -> LatentReader:
    """A miniature whose decoder and tags are copies of those of a raw reader.

    Args:
        raw: trained or not; stays as it is.
        form: how the span reaches the decoder, by latents.
        seed: of the new weights.
        copied: whether the encoder begins as the decoder's layers too, as far as its positions go;
            then it must be causal.

    Raises:
        ValueError: a raw form, or a copied encoder that is not causal.
    """
    if form.reader != "latents" or (copied and form.mask != "causal"):
        raise ValueError(
            f"reader={form.reader!r}, mask={form.mask!r}: an encoder is wanted, and one that "
            "begins as a decoder is causal."
        )
    device = raw.tags.device
    with torch.device("cpu"), torch.inference_mode(False):
        decoder = copy.deepcopy(raw.decoder).cpu()
        reader = _latent_reader(form, decoder.config, decoder, seeded(seed))
        with torch.no_grad():
            reader.tags.copy_(raw.tags)
            if copied:
                own = dict(reader.model.encoder.named_parameters())
                for name, weight in decoder.named_parameters():
                    if own[name] is not weight:
                        own[name].copy_(weight[: len(own[name])])
    return reader.to(device)


def _latent_reader(
    form: Form, config: DecoderConfig, decoder: Decoder | None, generator: torch.Generator
) -> LatentReader:
    markers = form.window // form.ratio if form.pooling in ("eos", "queries") else 0
    model = LatentContextModel(
        LCLMConfig(
            ratio=form.ratio,
            window=form.window,
            pooling=form.pooling,
            mask=form.mask,
            adapter=form.adapter,
            encoder=replace(config, max_positions=form.window + markers),
            decoder=config,
        ),
        decoder=decoder,
        generator=generator,
    )
    if decoder is None:
        begin(model.decoder, generator)
    kept = model.decoder.embedding.weight.detach().clone()  # the encoder reads through it too
    begin(model.encoder, generator)
    with torch.no_grad():
        model.decoder.embedding.weight.copy_(kept)
    return LatentReader(model)


def parts(reader: nn.Module) -> dict[str, list[nn.Parameter]]:
    """A miniature's parameters by part, for `stages`; a raw reader has a decoder and tags alone."""
    return parts_of(getattr(reader, "model", reader))


def outputs(reader: nn.Module, examples: Examples) -> Float[Tensor, "b m1 v"]:
    """Logits at the closing tag and every raw token behind it: what `Examples.targets` are for.

    Args:
        reader: has a decoder, tags, and `pieces(examples)`, the prompt.
        examples: [b, ...], without an axis of steps.
    """
    joined = join(reader.pieces(examples), embed=reader.decoder.embedding, tags=reader.tags)
    hidden = reader.decoder.hidden(embeddings=joined.embeddings)
    return reader.decoder.logits(hidden[:, -examples.targets.shape[-1] :])


def loss_of(reader: nn.Module, examples: Examples) -> Float[Tensor, ""]:
    """Mean cross-entropy of the trained positions, in nats."""
    logits = outputs(reader, examples)
    return F.cross_entropy(
        logits.flatten(0, 1), examples.targets.flatten(), ignore_index=NOT_TRAINED
    )
