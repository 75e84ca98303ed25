"""An encoder, its pooling and adapter, and the decoder that reads latents among its own tokens.

Source: arXiv:2606.09659v1, section 3 (Eqs. 1-8).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from intuitive.common.checks import whole
from intuitive.common.decoder import Decoder, DenseAttention

from .adapter import Adapter, BidirectionalAttention
from .config import ANY_RATIO, LCLMConfig, check_ratio
from .reference import POOL, Window, latent_count, mean_pool, pool_ragged, windows
from .splice import (
    Batch,
    Joined,
    Latents,
    Piece,
    Raw,
    Span,
    Spliced,
    as_tokens,
    batch_of,
    join,
)


class LatentContextModel(nn.Module):
    """Encoder, adapter and decoder, trained together.

    Args:
        config: sizes and choices.
        encoder: used in the place of a new one; a shared embedding takes the place of its own.
        decoder: used in the place of a new one; whatever is made here goes to its device and dtype.
        dtype: of all new weights, where no decoder is given.
        generator: of the first weights, on the device they are made on; torch's own if None.

    Raises:
        ValueError: an encoder or decoder of other sizes, or whose attention is not the mask's.
    """

    def __init__(
        self,
        config: LCLMConfig,
        *,
        encoder: Decoder | None = None,
        decoder: Decoder | None = None,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        attention = DenseAttention if config.causal else BidirectionalAttention
        for name, given, sizes in (
            ("encoder", encoder, config.encoder),
            ("decoder", decoder, config.decoder),
        ):
            if given is not None and given.config != sizes:
                raise ValueError(f"the {name} given has {given.config}, the config says {sizes}.")
        for layer in () if encoder is None else encoder.layers:
            if isinstance(layer.attention, BidirectionalAttention) == config.causal:
                raise ValueError(
                    f"mask={config.mask!r} needs an encoder built as "
                    f"Decoder(config, {attention.__name__})."
                )
        with torch.inference_mode(False):
            if decoder is None:
                decoder = Decoder(config.decoder, dtype=dtype, generator=generator)
            held = decoder.embedding.weight
            dtype, device = held.dtype, held.device
            if encoder is None:
                with torch.device(device):
                    made = {"dtype": dtype, "generator": generator}
                    encoder = Decoder(config.encoder, attention, **made)
            self.encoder, self.decoder = encoder, decoder
            if config.shares_embedding:
                self.encoder.embedding = self.decoder.embedding
                if config.encoder.tied_embeddings:
                    self.encoder.head.weight = self.decoder.embedding.weight
            with torch.device(device):
                ratios = (config.ratio, *config.ratios)
                self.adapters = nn.ModuleDict({str(ratio): Adapter(config) for ratio in ratios})
            self.adapters.to(dtype)
            for adapter in self.adapters.values():
                adapter.draw_weights(generator)
            self.tags = self._drawn(2, config.decoder.d_model, held, generator)
            if config.takes_markers:
                n_markers = 1 if config.pooling == "eos" else config.window // config.ratio
                self.markers = self._drawn(n_markers, config.encoder.d_model, held, generator)

    @staticmethod
    def _drawn(n: int, width: int, like: Tensor, generator: torch.Generator | None) -> nn.Parameter:
        """Learned vectors that begin as a token's embedding might: normal, std 0.02."""
        made = torch.empty(n, width, dtype=like.dtype, device=like.device)
        return nn.Parameter(made.normal_(std=0.02, generator=generator))

    @property
    def adapter(self) -> Adapter:
        """The adapter of the config's own ratio."""
        return self.adapters[str(self.config.ratio)]

    def adapter_for(self, ratio: int) -> Adapter:
        """The adapter of a ratio; a ratio without one of its own takes the config's."""
        own = str(ratio)
        return self.adapters[own if own in self.adapters else str(self.config.ratio)]

    # ------------------------------------------------------------------------------- encoding

    def encode(
        self, tokens: Int[Tensor, "b n"], *, ratio: int | None = None
    ) -> Float[Tensor, "b m d_dec"]:
        """The latents of spans of equal length, all windows at once.

        Args:
            tokens: ids; any n >= 1, the last window and the last group may be shorter.
            ratio: in the place of the config's, for poolings that allow it.

        Returns:
            m = ⌈n/N⌉ latents per row.

        Raises:
            ValueError: an empty span, ids out of range, a ratio that does not divide the window or
                that the pooling has no weights for.
        """
        ratio = self._ratio(ratio)
        tokens = self._entering(tokens)
        b, n = tokens.shape
        pooled, based = [], []
        for first, count in self._runs(n):
            reads = self._reads(first, count, tokens.device)  # [count, length]
            states, base = self._pass(tokens[:, reads].flatten(0, 1), first, ratio)
            pooled.append(states.unflatten(0, (b, count)).flatten(1, 2))
            if base is not None:
                based.append(base.unflatten(0, (b, count)).flatten(1, 2))
        latents = self.adapter_for(ratio)(torch.cat(pooled, 1))
        return latents + torch.cat(based, 1) if based else latents

    def encode_spans(
        self,
        spans: Sequence[Tensor],
        *,
        ratio: int | None = None,
        batch_size: int = 32,
        on_pass: Callable[[int, int], None] | None = None,
    ) -> list[Tensor]:
        """The latents of spans of any lengths, a few windows at a time.

        Args:
            spans: [n] ids each.
            ratio: as in `encode`.
            batch_size: windows per encoder pass.
            on_pass: called after each pass with (windows done, windows in all); may raise.

        Returns:
            [m, d_dec] per span, in order.

        Raises:
            ValueError: as in `encode`.
        """
        ratio, batch_size = self._ratio(ratio), whole("batch_size", batch_size, low=1)
        if not len(spans):
            return []
        spans = [self._entering(span[None])[0] for span in spans]
        flat = torch.cat(spans)
        offsets = [0]
        for span in spans:
            offsets.append(offsets[-1] + len(span))
        kinds: dict[tuple[int, ...], list[tuple[int, Window]]] = {}
        of_span = []  # numbers of each span's windows
        n_windows = 0
        pads = self.config.causal and not self.config.takes_markers
        for offset, span in zip(offsets, spans, strict=False):
            passes = self._windows(len(span))
            of_span.append(range(n_windows, n_windows + len(passes)))
            for place in passes:
                left, right = place.start - place.read_start, place.read_stop - place.stop
                kind = (left,) if pads else (left, place.stop - place.start, right)
                moved = Window(*(offset + edge for edge in vars(place).values()))
                kinds.setdefault(kind, []).append((n_windows, moved))
                n_windows += 1
        pooled: list[Tensor] = [flat] * n_windows  # each replaced below
        based: list[Tensor] = [flat] * n_windows
        done = 0
        for jobs in kinds.values():
            jobs.sort(key=lambda job: job[1].start - job[1].stop)  # the longest first
            for chunk in (jobs[i : i + batch_size] for i in range(0, len(jobs), batch_size)):
                first = chunk[0][1]
                own = [place.stop - place.start for _, place in chunk]
                starts = torch.tensor([place.read_start for _, place in chunk])
                reads = starts.to(flat.device)[:, None] + torch.arange(
                    first.read_stop - first.read_start, device=flat.device
                )
                even = own[-1] == own[0]
                lengths = None if even else torch.tensor(own).to(flat.device)
                # What a short row reads beyond its end follows its states, which cannot see it.
                tokens = flat[reads.clamp(max=len(flat) - 1)]
                states, base = self._pass(tokens, first, ratio, lengths)
                for row, (number, _) in enumerate(chunk):
                    m = -(-own[row] // ratio)
                    pooled[number] = states[row, :m]
                    if base is not None:
                        based[number] = base[row, :m]
                done += len(chunk)
                if on_pass is not None:
                    on_pass(done, n_windows)
        adapter, counts = self.adapter_for(ratio), []
        for span in spans:
            counts.append(latent_count(len(span), ratio=ratio, window=self.config.window))
        if adapter.kind == "attention":  # latents of one span read each other
            latents = torch.cat(
                [adapter(torch.cat([pooled[i] for i in r])[None])[0] for r in of_span]
            )
        else:
            latents = adapter(torch.cat(pooled)[None])[0]
        if self.config.residual:
            latents = latents + torch.cat(based)
        return list(latents.split(counts))

    def _pass(
        self,
        tokens: Int[Tensor, "r length"],
        place: Window,
        ratio: int,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One encoder pass over windows alike: pooled states, and mean embeddings if wanted."""
        config = self.config
        own = slice(place.start - place.read_start, place.stop - place.read_start)
        stream = self.encoder.embedding(tokens)  # [r, length, d_enc]
        if config.takes_markers:
            m = -(-(place.stop - place.start) // ratio)
            markers = self.markers.expand(m, -1) if config.pooling == "eos" else self.markers[:m]
            stream = torch.cat((stream, markers.expand(len(tokens), -1, -1)), 1)
        states = self.encoder.hidden(embeddings=stream)
        if config.encoder_norm:
            states = self.encoder.norm(states)
        base = self.decoder.embedding(tokens[:, own]) if config.residual else None
        if config.takes_markers:
            pooled = states[:, tokens.shape[1] :]
        elif lengths is None:
            pooled = POOL[config.pooling](states[:, own], ratio)
        else:
            pooled = pool_ragged(config.pooling, states[:, own], ratio, lengths)
        if base is not None:
            base = (
                mean_pool(base, ratio)
                if lengths is None
                else pool_ragged("mean", base, ratio, lengths)
            )
        return pooled, base

    def _windows(self, n: int) -> tuple[Window, ...]:
        config = self.config
        return windows(n, window=config.window, overlap=config.overlap, causal=config.causal)

    def _runs(self, n: int) -> list[tuple[Window, int]]:
        """Windows of a span, those alike and next to each other together: the first, how many."""
        runs: list[tuple[Window, int]] = []
        last = None
        for place in self._windows(n):
            alike = (
                place.start - place.read_start,
                place.stop - place.start,
                place.read_stop - place.stop,
            )
            if alike == last:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((place, 1))
            last = alike
        return runs

    def _reads(
        self, first: Window, count: int, device: torch.device
    ) -> Int[Tensor, "count length"]:
        steps = torch.arange(count, device=device) * self.config.window
        return steps[:, None] + torch.arange(first.read_start, first.read_stop, device=device)

    def _ratio(self, ratio: int | None) -> int:
        config = self.config
        if ratio is None or ratio == config.ratio:
            return config.ratio
        if config.pooling not in ANY_RATIO:
            raise ValueError(
                f"pooling={config.pooling!r} was built for ratio={config.ratio} and has no weights "
                f"for ratio={ratio}: make a model with that ratio."
            )
        if config.takes_markers and config.window // ratio > config.window // config.ratio:
            neighbours = config.overlap * (1 if config.causal else 2)
            longest = config.window + neighbours + config.window // ratio
            if config.encoder.positions != "none" and longest > config.encoder.max_positions:
                raise ValueError(
                    f"ratio={ratio} makes encoder passes of {longest} positions, more than the "
                    f"encoder's max_positions={config.encoder.max_positions}."
                )
        return check_ratio(ratio, config.window)

    def _entering(self, tokens: Tensor) -> Tensor:
        """Token ids [b, n] on the model's device, checked where checking costs nothing."""
        tokens = as_tokens(tokens, "the span")
        if tokens.dim() != 2 or not tokens.shape[1] or not tokens.shape[0]:
            raise ValueError(
                f"the span has token ids of shape {tuple(tokens.shape)}: [b, n] with at least one "
                "token is needed, since an empty span has no latents."
            )
        if tokens.device.type == "cpu":
            self._check_ids(tokens)
        return tokens.to(self.tags.device)

    def _check_ids(self, tokens: Tensor) -> None:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.config.decoder.vocab_size:
            raise ValueError(
                f"token ids from {low} to {high} must lie in "
                f"[0, {self.config.decoder.vocab_size}): were they made by another tokenizer?"
            )

    # ------------------------------------------------------------------------------- splicing

    def _embed(self, tokens: Tensor) -> Tensor:
        if tokens.device.type == "cpu":
            self._check_ids(tokens)
        return self.decoder.embedding(tokens.to(self.tags.device))

    def _own(self, latents: Latents) -> Latents:
        width = self.config.decoder.d_model
        if latents.values.shape[-1] != width:
            raise ValueError(
                f"latents have width {latents.values.shape[-1]}, the decoder reads {width}: they "
                "were encoded for another model."
            )
        return Latents(latents.values.to(self.tags))

    def join(
        self, pieces: Sequence[Piece], *, ratio: int | None = None, tags: bool = True
    ) -> Joined:
        """Encode the spans among the pieces and put everything into one sequence.

        Args:
            pieces: raw text, spans to be encoded, latents from before; rows laid out alike if the
                tokens are [b, n].
            ratio: as in `encode`.
            tags: whether spans stand between the two tags.

        Raises:
            ValueError: as in `encode`, or pieces that do not fit together.
        """
        ready = []
        single = [i for i, p in enumerate(pieces) if isinstance(p, Span) and p.tokens.dim() == 1]
        spans = self.encode_spans([pieces[i].tokens for i in single], ratio=ratio)
        encoded = dict(zip(single, spans, strict=True))
        for i, piece in enumerate(pieces):
            if isinstance(piece, Span):
                values = encoded[i] if i in encoded else self.encode(piece.tokens, ratio=ratio)
                ready.append(Latents(values))
            elif isinstance(piece, Raw):
                ready.append(Raw(piece.tokens.to(self.tags.device), piece.trained))
                if piece.tokens.device.type == "cpu" and piece.tokens.numel():
                    self._check_ids(piece.tokens)
            else:
                ready.append(self._own(piece))
        return join(ready, embed=self._embed, tags=self.tags if tags else None)

    def spliced(
        self, pieces: Sequence[Piece], *, ratio: int | None = None, tags: bool = True
    ) -> Spliced:
        """One prompt of raw text and latents; arguments and errors as in `join`."""
        joined = self.join(pieces, ratio=ratio, tags=tags)
        if len(joined.embeddings) != 1:
            raise ValueError(
                f"the pieces make {len(joined.embeddings)} prompts: give tokens of shape [n]."
            )
        return Spliced(joined.embeddings, joined.kinds, joined.tokens[0])

    # ------------------------------------------------------------------------------- training

    def batch(self, pieces: Sequence[Piece], *, ratio: int | None = None) -> Batch:
        """Training prompts that are laid out alike: pieces hold tokens of shape [b, n].

        Raises:
            ValueError: as in `join`, or nothing is trained.
        """
        return batch_of([self.join(pieces, ratio=ratio)])

    def batch_rows(
        self, rows: Sequence[Sequence[Piece]], *, ratio: int | None = None, batch_size: int = 256
    ) -> Batch:
        """Training prompts, each laid out in its own way; pieces hold tokens of shape [n].

        The spans of all rows are encoded together, `batch_size` windows per pass.

        Raises:
            ValueError: as in `join`, no rows, or nothing is trained.
        """
        if not len(rows):
            raise ValueError("there are no rows: give at least one list of pieces.")
        spans = [piece.tokens for row in rows for piece in row if isinstance(piece, Span)]
        encoded = iter(self.encode_spans(spans, ratio=ratio, batch_size=batch_size))
        joined = []
        for row in rows:
            ready = [Latents(next(encoded)) if isinstance(p, Span) else p for p in row]
            joined.append(self.join(ready))
        return batch_of(joined)

    def trained_logits(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "b n_trained v"], Int[Tensor, "b n_trained"]]:
        """Logits where any row is trained, and what they should predict (-100 where nothing)."""
        hidden = self.decoder.hidden(embeddings=batch.embeddings)
        hidden = torch.cat([hidden[:, start:stop] for start, stop in batch.runs], 1)
        wanted = torch.cat([batch.targets[:, start:stop] for start, stop in batch.runs], 1)
        return self.decoder.logits(hidden), wanted

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean next-token loss in nats over the raw tokens that are trained.

        Tags and latents are never predicted; the raw token right after `memory_end` is.
        """
        logits, wanted = self.trained_logits(batch)
        wide = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(logits.flatten(0, 1).to(wide), wanted.flatten())
