"""What the pair of `lclm_smollm.py` can do on texts that nothing was trained on.

Every function returns plain rows. Perplexities are over the same tokens for all arms. Arms that
read text as it is are measured with the decoder that they are given: untouched, adapted together
with the encoder, or adapted to raw text alone.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence

import lclm_fast_step
import torch
from lclm_needles import Bucket, insert
from lclm_texts import Batches, Stream
from torch import Tensor

from intuitive.common.decoder import Decoder
from intuitive.common.runtime import measure
from intuitive.common.smollm import SmolLM2
from intuitive.lclm.smollm import RATIOS, WINDOW, SmolLatents
from intuitive.lclm.splice import Latents, Piece, Raw, Span

CONTEXT, CONTINUATION, TAIL = 768, 256, 128  # tokens
FIRST = 2  # pieces whose own numbers are kept, to be measured again

Read = Callable[[Sequence[Piece], Tensor], Tensor]


class Reader:
    """Scores texts after pieces, a few rows at a time.

    Args:
        model: encoder, tags and embeddings.
        decoder: that reads; the model's own if None.
        rows: at once.
    """

    def __init__(self, model: SmolLatents, decoder: Decoder | None = None, rows: int = 8) -> None:
        self.model, self.decoder, self.rows = model, decoder or model.decoder, rows

    @torch.no_grad()
    def __call__(
        self, pieces: Sequence[Piece], tokens: Tensor, ratio: int = 4
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each token [b, n] after the pieces, and whether it is likeliest."""
        scores, right = [], []
        for rows in torch.arange(len(tokens), device=tokens.device).split(self.rows):
            part = [_rows(piece, rows) for piece in pieces]
            joined = self.model.join([*part, Raw(tokens[rows])], ratio=ratio)
            n = tokens.shape[1]
            hidden = lclm_fast_step.hidden(self.decoder, joined.embeddings)[:, -n - 1 : -1]
            logits = self.decoder.logits(hidden).float()
            true = tokens[rows][..., None]
            right.append(logits.argmax(-1) == tokens[rows])
            scores.append(logits.gather(-1, true)[..., 0] - logits.logsumexp(-1))
        return torch.cat(scores), torch.cat(right)

    @torch.no_grad()
    def last(self, pieces: Sequence[Piece], ratio: int = 4) -> Tensor:
        """Logits [b, v] of what follows the pieces."""
        joined = self.model.join(pieces, ratio=ratio)
        hidden = lclm_fast_step.hidden(self.decoder, joined.embeddings)[:, -1:]
        return self.decoder.logits(hidden)[:, 0].float()


def _rows(piece: Piece, rows: Tensor) -> Piece:
    if isinstance(piece, Latents):
        return Latents(piece.values[rows]) if piece.values.dim() == 3 else piece
    if piece.tokens.dim() == 1:
        return piece
    return Raw(piece.tokens[rows], False) if isinstance(piece, Raw) else Span(piece.tokens[rows])


def ppl(scores: Tensor) -> float:
    """Perplexity of tokens with these log-probabilities."""
    return math.exp(-float(scores.double().mean()))


# ------------------------------------------------------------------------------ continuations


def raw_arms(context: Tensor, end_of_text: int) -> Iterator[tuple[str, int, list[Piece]]]:
    """Name, decoder positions and pieces of the arms that read text as it is."""
    n = context.shape[1]
    yield "raw", n, [Raw(context)]
    yield "none", 1, [Raw(context.new_full((len(context), 1), end_of_text))]
    for name, kept in truncations(n).items():
        yield name, kept, [Raw(context[:, -kept:])]


def truncations(n: int) -> dict[str, int]:
    """Last tokens that truncation keeps, so that it has the compressed arms' positions."""
    tail = min(TAIL, n // 2)
    alone = {f"truncated to {ratio}": -(-n // ratio) + 2 for ratio in RATIOS}
    mixed = {f"truncated to {r} + tail": -(-(n - tail) // r) + 2 + tail for r in RATIOS}
    return alone | mixed | {"tail": tail}


def compressed_arms(context: Tensor) -> Iterator[tuple[str, int, int, list[Piece]]]:
    """Name, ratio, decoder positions and pieces of the arms that read latents."""
    n = context.shape[1]
    tail = min(TAIL, n // 2)
    for ratio in RATIOS:
        yield f"compressed {ratio}", ratio, -(-n // ratio) + 2, [Span(context)]
        positions = -(-(n - tail) // ratio) + 2 + tail
        pieces = [Span(context[:, :-tail]), Raw(context[:, -tail:])]
        yield f"compressed {ratio} + tail", ratio, positions, pieces


def continuations(
    sets: dict[str, Tensor], reader: Reader, end_of_text: int, adaptation: str, latents: bool
) -> list[dict]:
    """Perplexity of the last tokens of each piece, given what comes before in every form.

    Args:
        sets: [pieces, n] tokens by name.
        reader: of all arms.
        end_of_text: what the arm without a context reads.
        adaptation: of the reader's decoder, for the rows.
        latents: whether it reads compressed text too.
    """
    rows = []
    for name, pieces in sets.items():
        n = pieces.shape[1] * CONTEXT // (CONTEXT + CONTINUATION)
        context, rest = pieces[:, :n], pieces[:, n:]
        arms = [(arm, 4, held, parts) for arm, held, parts in raw_arms(context, end_of_text)]
        arms += list(compressed_arms(context)) if latents else []
        for arm, ratio, positions, parts in arms:
            scores, _ = reader(parts, rest, ratio)
            rows.append(
                {
                    "texts": name,
                    "adaptation": adaptation,
                    "arm": arm,
                    "positions": positions,
                    "pieces": len(pieces),
                    "perplexity": ppl(scores),
                    "perplexity_first_32": ppl(scores[:, :32]),
                    "first_nats": [-float(row.mean()) for row in scores[:FIRST]],
                }
            )
    return rows


def far(
    sets: dict[str, Tensor],
    batches: Batches,
    reader: Reader,
    end_of_text: int,
    adaptation: str,
    latents: bool,
) -> list[dict]:
    """Where the needed words are far: a passage that returns, and a fact asked for.

    The passage is 64 tokens from the first quarter of the context; its first 8 tell that it
    returns and are not counted. The needle stands in the first half of the context.
    """
    rows = []
    for name, pieces in sets.items():
        n = pieces.shape[1] * CONTEXT // (CONTEXT + CONTINUATION)
        length = min(64, n // 6)
        context, then = pieces[:, :n], pieces[:, n : n + n // 24]
        back = torch.cat((then, context[:, n // 8 : n // 8 + length]), 1)
        counted = then.shape[1] + min(8, length // 2)
        jobs = [("passage", context, [], back, slice(counted, None))]
        for bucket in batches.buckets:
            b = len(pieces)
            key = torch.arange(b, device=pieces.device) % len(bucket.place)
            value = torch.arange(b, device=pieces.device) % bucket.statement.shape[1]
            said = bucket.statement[key, value]
            at = torch.arange(b, device=pieces.device) * 7 % max(1, n // 2 - said.shape[1])
            with_needle = insert(context, said, at)
            asked = [Raw(bucket.asked[key], False)]
            jobs.append((bucket.fact[0], with_needle, asked, bucket.value[key, value], slice(None)))
        found: dict[tuple[str, str], list] = {}
        for what, given, asked, wanted, which in jobs:
            arms = [(arm, 4, parts) for arm, _, parts in raw_arms(given, end_of_text)]
            arms += [(a, r, parts) for a, r, _, parts in compressed_arms(given)] if latents else []
            for arm, ratio, parts in arms:
                scores, right = reader([*parts, *asked], wanted, ratio)
                entry = found.setdefault((what if what == "passage" else "fact", arm), [[], [], []])
                entry[0].append(scores[:, which].flatten())
                entry[1].append(right[:, which].float().flatten())
                entry[2].append(right[:, which].all(1).float())
        for (what, arm), (scores, right, exact) in found.items():
            rows.append(
                {
                    "texts": name,
                    "adaptation": adaptation,
                    "what": what,
                    "arm": arm,
                    "perplexity": ppl(torch.cat(scores)),
                    "tokens_right": float(torch.cat(right).mean()),
                    "all_right": float(torch.cat(exact).mean()),
                }
            )
    return rows


# ------------------------------------------------------------------------------ reconstruction


def token_kinds(model: SmolLM2, ids: Sequence[int]) -> list[str]:
    """Of each token: "number", "name" (a capital inside a sentence), "word" or "other"."""
    strings = model.tokenizer.token_strings(ids)
    text = "".join(strings)
    kinds = []
    at = 0
    for string in strings:
        inner = string.strip()
        start = at + len(string) - len(string.lstrip())
        at += len(string)
        if any(c.isdigit() for c in inner):
            kinds.append("number")
        elif any(c.isalpha() for c in inner):
            left = start
            while left > 0 and (text[left - 1].isalpha() or text[left - 1] in "'’"):
                left -= 1
            before = text[:left].rstrip(" “‘\"'(_*[")
            inside = bool(before) and before[-1] not in ".!?:\n;" and not _breaks(text[:left])
            first = text[left : left + 1]
            word = re.match(r"\w+", text[left:])
            name = first.isupper() and inside and word is not None and word[0] != "I"
            kinds.append("name" if name else "word")
        else:
            kinds.append("other")
    return kinds


def _breaks(before: str) -> bool:
    return not before.strip(" ") or before.rstrip(" ").endswith("\n")


def reconstructions(
    model: SmolLM2, sets: dict[str, Tensor], reader: Reader, repeat: Tensor
) -> list[dict]:
    """Share of tokens that are read back right, by kind of token and place in the group."""
    rows = []
    for name, pieces in sets.items():
        window = pieces[:, : min(WINDOW, pieces.shape[1])]
        kinds = [token_kinds(model, ids) for ids in window.tolist()]
        for ratio in RATIOS:
            scores, right = reader([Span(window), Raw(repeat)], window, ratio)
            flat = right.cpu()
            by_kind = {}
            for kind in ("word", "name", "number", "other"):
                mask = torch.tensor([[k == kind for k in row] for row in kinds])
                if mask.any():
                    by_kind[kind] = {
                        "share": float(flat[mask].float().mean()),
                        "tokens": int(mask.sum()),
                    }
            place = torch.arange(window.shape[1]) % ratio
            rows.append(
                {
                    "texts": name,
                    "ratio": ratio,
                    "right": float(flat.float().mean()),
                    "perplexity": ppl(scores),
                    "bits_per_latent": float(-scores.double().mean()) / math.log(2) * ratio,
                    "by_kind": by_kind,
                    "by_place": [float(flat[:, place == i].float().mean()) for i in range(ratio)],
                    "by_quarter": [float(q.float().mean()) for q in flat.chunk(4, 1)],
                    "first_right": [float(row.float().mean()) for row in flat[:FIRST]],
                }
            )
    return rows


# ------------------------------------------------------------------------------ chunk maps


def maps(
    batches: Batches,
    held: Sequence[Bucket],
    reader: Reader,
    device: torch.device,
    *,
    count: int,
    rows: int,
    n_chunks: int = 8,
    n: int = 96,
) -> list[dict]:
    """Needles in compressed chunks: which chunk, and its value before and after EXPAND.

    Rows say for each ratio how often the chunk was named and the whole value was right: from the
    latents alone, with the chunk opened that the decoder named, the right one, the one that
    shares most words with the question, and a random one; and once more with the latents
    shuffled among the chunks.
    """
    made = []
    for ratio in (*RATIOS, 1):
        batches.rng.seed(5)
        batches.generator.manual_seed(5)
        tally: dict[str, list[Tensor]] = {}
        for _ in range(max(1, count // rows)):
            chunks, asked, bucket, key, value = batches.chunk_texts(rows, n_chunks, n, held)
            wanted, number = bucket.value[key, value], torch.arange(rows, device=device)
            order = torch.rand(rows, n_chunks, device=device, generator=batches.generator).argsort(
                1
            )
            random_one = batches.whole_number(0, n_chunks, rows)
            lexical = most_shared(chunks, bucket.asked[key])
            with torch.no_grad():
                latents = (
                    reader.model.encode(chunks.flatten(0, 1), ratio=ratio).unflatten(
                        0, (rows, n_chunks)
                    )
                    if ratio > 1
                    else chunks
                )
            for shuffled in (False, True) if ratio > 1 else (False,):
                shown = latents[number[:, None], order] if shuffled else latents
                pieces = batches.map_pieces(shown, compressed=False)
                logits = reader.last([*pieces, Raw(bucket.question[key], False)])
                named = logits[:, batches.digits[:n_chunks]].argmax(1)
                mark = " shuffled" if shuffled else ""
                _add(tally, "where" + mark, named == asked)
                opened = {"alone": None, "own": named}
                if not shuffled:
                    opened |= {"oracle": asked, "lexical": lexical, "random": random_one}
                for arm, which in opened.items():
                    extra = [] if which is None else batches.opened(chunks, which)
                    ask = [*pieces, *extra, Raw(bucket.asked[key], False)]
                    _, right = reader(ask, wanted)
                    _add(tally, f"value {arm}{mark}", right.all(1))
            _add(tally, "where lexical", lexical == asked)
        shares = {name: float(torch.cat(found).mean()) for name, found in tally.items()}
        made.append(
            {
                "ratio": ratio,
                "chunks": n_chunks,
                "chunk_tokens": n,
                "questions": sum(len(x) for x in tally["where"]),
                "chance": 1 / n_chunks,
                "where": shares["where"],
                "where_lexical": shares["where lexical"],
                "where_shuffled": shares.get("where shuffled"),
                "value": _by_arm(shares, shuffled=False),
                "value_shuffled": _by_arm(shares, shuffled=True),
            }
        )
    return made


def _by_arm(shares: dict[str, float], *, shuffled: bool) -> dict[str, float]:
    """Of "value own shuffled" and the like, the share by arm."""
    return {
        name.split()[1]: share
        for name, share in shares.items()
        if name.startswith("value ") and name.endswith(" shuffled") == shuffled
    }


def _add(tally: dict[str, list[Tensor]], name: str, found: Tensor) -> None:
    tally.setdefault(name, []).append(found.float())


def most_shared(chunks: Tensor, question: Tensor) -> Tensor:
    """[b] which chunk shares most different tokens with the question; the first on a tie."""
    there = (question[:, None, :, None] == chunks[:, :, None, :]).any(-1)  # [b, chunks, n_q]
    first = (question[:, :, None] == question[:, None, :]).float().argmax(-1)
    own = first == torch.arange(question.shape[1], device=question.device)
    return (there & own[:, None]).sum(-1).argmax(1)


# ------------------------------------------------------------------------------ time and memory


def costs(
    smollm: SmolLM2,
    model: SmolLatents,
    stream: Stream,
    lengths: Sequence[int],
    *,
    prompts: int,
    repeats: int,
) -> list[dict]:
    """Time to first token and peak memory beside the weights: raw, and compressed at each ratio.

    So small a model leaves a GPU waiting for Python with one prompt; several at once do not.
    """
    device = model.tags.device
    rows = []
    flat = stream.tokens.long()
    for n in lengths:
        tokens = flat.repeat(-(-prompts * n // len(flat)))[: prompts * n].view(prompts, n)

        def raw(tokens: Tensor = tokens) -> None:
            with torch.inference_mode():
                cache = smollm.decoder.make_cache(len(tokens), tokens.shape[1])
                embedded = smollm.decoder.embedding(tokens)
                smollm.decoder(embeddings=embedded, cache=cache, last_only=True)

        taken = measure(raw, device=device, repeats=repeats, warmup=2)
        rows.append(_cost("raw", prompts, n, n, taken, 1.0))
        for ratio in RATIOS:

            def compressed(tokens: Tensor = tokens, ratio: int = ratio) -> None:
                with torch.inference_mode():
                    joined = model.join([Span(tokens)], ratio=ratio)
                    cache = model.decoder.make_cache(len(tokens), joined.embeddings.shape[1])
                    model.decoder(embeddings=joined.embeddings, cache=cache, last_only=True)

            ours = measure(compressed, device=device, repeats=repeats, warmup=2)
            faster, held = taken.median_ms / ours.median_ms, -(-n // ratio) + 2
            rows.append(_cost(f"compressed {ratio}", prompts, n, held, ours, faster))
    return rows


def _cost(arm: str, prompts: int, n: int, positions: int, taken, faster: float) -> dict:
    peak = None if taken.peak_bytes is None else taken.peak_bytes / 2**20
    return {
        "arm": arm,
        "prompts": prompts,
        "tokens": n,
        "positions": positions,
        "ttft_ms": taken.median_ms,
        "fastest_ms": taken.fastest_ms,
        "slowest_ms": taken.slowest_ms,
        "times_faster": faster,
        "peak_mib": peak,
    }
