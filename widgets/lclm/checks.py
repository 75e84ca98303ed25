"""The LCLM lesson's check-yourself questions; every answer is computed when it is asked for."""

import torch
import torch.nn.functional as F

from intuitive.common.decoder import DecoderConfig
from intuitive.common.runtime import seeded
from intuitive.lclm import cost
from intuitive.lclm.config import LCLMConfig
from intuitive.lclm.experiments.expand import the_pair
from intuitive.lclm.experiments.expand_texts import TEXTS
from intuitive.lclm.model import LatentContextModel
from intuitive.lclm.reference import N_TAGS, effective_ratio, label_mask, latent_count
from intuitive.lclm.task import RecallTask

from ..kit import CheckYourself, fixed, percent
from .cost_lanes import gib, seconds

SHORT, LONG, QUARTER_MILLION = 2**14, 2**16, 2**18  # tokens
PAPER_RATIO = 16
CODES = 10


# --------------------------------------------------------------------------------- the bill


def short_prompts() -> CheckYourself:
    """What is gained where there is little to read?"""

    def answer() -> tuple[int, str]:
        raw, folded = (cost.ttft_terms(SHORT, ratio=ratio) for ratio in (1, PAPER_RATIO))
        times = raw.total / folded.total
        right = 0 if times > 20 else 1 if times > 8 else 2
        return right, (
            f"{fixed(times, 1)} times: {seconds(raw.total)} against {seconds(folded.total)}, of "
            f"which the encoder takes {seconds(folded.encoder)}. It is paid for every token, and "
            "the decoder cannot be quicker than a pass over its weights. At 256K tokens the "
            "quadratic part of the attention is what counts."
        )

    return CheckYourself(
        name="lclm_short_prompts",
        question=(
            "By the same fits, a prompt of 16K tokens at 16 tokens per latent. How many times "
            "sooner is the first token there than with raw text?"
        ),
        choices=("about thirty times", "about fifteen times", "about four times"),
        answer=answer,
    )


def logits_of_the_prompt() -> CheckYourself:
    """How much of the memory is a table that nobody reads?"""

    def answer() -> tuple[int, str]:
        every, last = (
            cost.memory_terms(QUARTER_MILLION, ratio=1, logits=kind) for kind in ("all", "last")
        )
        share = every.logits / (every.total - every.weights)
        right = 0 if share < 0.15 else 1 if share < 0.5 else 2
        return right, (
            f"{percent(share)} of what lies on top of the weights: {gib(every.logits)} of scores "
            f"against {gib(every.kv)} of KV cache. Only the last row is needed to write on; with "
            f"that alone the peak is {gib(last.total)} instead of {gib(every.total)}. So much of "
            "the difference in the figure is no merit of compression."
        )

    return CheckYourself(
        name="lclm_logits_of_the_prompt",
        question=(
            "Raw text, 256K tokens, scores of the vocabulary kept for every token of the prompt. "
            "What share of the memory on top of the weights is these scores?"
        ),
        choices=("hardly any", "about a third", "about two thirds"),
        answer=answer,
    )


# --------------------------------------------------------------------------------- break it


def codes_at_sixteen() -> CheckYourself:
    """Words can be guessed from their neighbours, codes cannot."""

    def answer() -> tuple[int, str]:
        pair, draw = the_pair(), seeded(0)
        letters = torch.randint(16, (CODES, 12), generator=draw).tolist()
        codes = ["".join(f"{digit:x}" for digit in one) for one in letters]
        told = "\n".join(f"room {i + 1}: {code}" for i, code in enumerate(codes))
        read = {
            name: pair.reconstruct(pair.tokenizer.encode(text)[:256], PAPER_RATIO).right.tolist()
            for name, text in (("codes", told), ("words", " ".join(TEXTS["storm"].paragraphs)))
        }
        pieces = pair.tokenizer.token_strings(pair.tokenizer.encode(told)[:256])
        inside = _inside(codes, pieces)
        of_codes = [right for right, here in zip(read["codes"], inside, strict=True) if here]
        found = sum(of_codes) / len(of_codes)
        words = sum(read["words"]) / len(read["words"])
        right = 0 if found > 0.7 * words else 1 if words > 0.1 else 2
        return right, (
            f"{percent(found)} of the tokens of {CODES} codes, {percent(words)} of those of a "
            "story, each expected after the true ones before it. One digit of 16 is right by "
            f"chance in {percent(1 / 16)}. "
            f"{'The weights are missing: this pair is untrained.' * (not pair.is_trained)}"
        ).strip()

    return CheckYourself(
        name="lclm_codes_at_sixteen",
        question=(
            "A list of random codes and a story are folded at 16 tokens per bead, and the model is "
            "asked to say them again. How many of the codes' tokens come back, compared with those "
            "of the story?"
        ),
        choices=("about as many", "far fewer", "hardly any of either"),
        answer=answer,
    )


def _inside(codes: list[str], pieces: list[str]) -> list[bool]:
    """Of each piece of a text, whether it lies within one of the codes."""
    text, found, at = "".join(pieces), [], 0
    spans = [(text.find(code), text.find(code) + len(code)) for code in codes if code in text]
    for piece in pieces:
        start, at = at, at + len(piece)
        found.append(any(low <= start and at <= high for low, high in spans))
    return found


def tiny_spans() -> CheckYourself:
    """Does a short message get shorter?"""

    def answer() -> tuple[int, str]:
        tokens, kept = 5, latent_count(5, ratio=PAPER_RATIO, window=1024)
        spent = kept + N_TAGS
        right = 0 if spent == 1 else 1 if spent == 3 else 2
        two = latent_count(2, ratio=PAPER_RATIO, window=1024) + N_TAGS
        return right, (
            f"{kept} latent and {N_TAGS} tags: {spent} positions, {fixed(tokens / spent, 1)} "
            f"tokens in each. Two tokens would take {two}: more than raw. A chunk of 512 comes to "
            f"{fixed(effective_ratio(512, ratio=PAPER_RATIO), 1)} tokens per position, not 16."
        )

    return CheckYourself(
        name="lclm_tiny_spans",
        question=(
            "A message of five tokens is compressed at 16 tokens per latent. How many positions "
            "of the decoder does it take?"
        ),
        choices=("one", "three", "five"),
        answer=answer,
    )


def one_group_per_window() -> CheckYourself:
    """N = W: what does a latent know of its surroundings?"""

    def answer() -> tuple[int, str]:
        moved = {window: _twice(window) for window in (16, 64)}
        right = 0 if moved[16] < 1e-5 else 1 if moved[16] < 0.1 * moved[64] else 2
        return right, (
            f"The two latents are {percent(moved[16])} of their length apart. Each "
            "pass begins anew at position 0 and sees its own 16 tokens only, so that the same "
            "words are the same latent wherever they stand. With windows of 64 they are "
            f"{percent(moved[64])} apart, in an encoder with random weights."
        )

    return CheckYourself(
        name="lclm_one_group_per_window",
        question=(
            "The same 16 tokens stand twice in a text, between other words. The encoder reads in "
            "windows of 16 and makes one latent of each. How do the two latents differ?"
        ),
        choices=("not at all", "a little", "as much as those of different words"),
        answer=answer,
    )


@torch.inference_mode()
def _twice(window: int) -> float:
    """How far apart the latents of a repeated group are, over their length."""
    layers = DecoderConfig(d_model=32, n_layers=2, n_q_heads=4, n_kv_heads=4, d_head=8, d_ff=64)
    config = LCLMConfig(ratio=16, window=window, encoder=layers, decoder=layers)
    draw = seeded(0)
    model = LatentContextModel(config, generator=draw)
    group, other = (torch.randint(layers.vocab_size, (16,), generator=draw) for _ in range(2))
    latents = model.encode(torch.cat((group, other, group, other))[None], ratio=16)[0]
    first, second = latents[0], latents[2]
    return float((first - second).norm() / first.norm())


def a_flag_on_the_attention() -> CheckYourself:
    """A mask that is passed in counts for more than a flag."""

    def answer() -> tuple[int, str]:
        n, draw = 32, seeded(0)
        x = torch.randn(1, 1, n, 16, generator=draw, dtype=torch.float32)
        changed = x.clone()
        changed[..., -1, :] += 1
        causal = torch.ones(n, n, dtype=torch.bool).tril()

        def moved(mask: torch.Tensor | None) -> int:
            before, after = (
                F.scaled_dot_product_attention(y, y, y, attn_mask=mask, is_causal=False)
                for y in (x, changed)
            )
            return int((before != after).any(-1)[..., :-1].sum())

        with_mask, without = moved(causal), moved(None)
        right = 0 if not with_mask else 1 if with_mask < n - 1 else 2
        return right, (
            f"{with_mask} of {n - 1}: the flag only says whether torch builds a causal mask; one "
            f"that is passed in still counts. Without any mask all {without} change. So a run "
            "called bidirectional may be causal, and only a test like this one tells."
        )

    return CheckYourself(
        name="lclm_a_flag_on_the_attention",
        question=(
            "An encoder is made bidirectional by setting is_causal=False in each attention layer; "
            "the library still hands a causal mask to it. Now the last of 32 tokens changes. How "
            "many of the 31 states before it change?"
        ),
        choices=("none of them", "those near the end", "all of them"),
        answer=answer,
    )


# -------------------------------------------------------------------------- check yourself


def values_without_keys() -> CheckYourself:
    """How good can an answer be that knows no pair?"""

    def answer() -> tuple[int, str]:
        task = RecallTask(n_records=2)
        chance, guess = 1 / task.n_values, task.no_binding
        right = 0 if guess < 1.3 * chance else 1 if guess < 0.5 else 2
        return right, (
            f"{percent(guess)}, against {percent(chance, 1)} by chance: it says the value that "
            "stands there most often. A model can reach that and know no record at all. That is "
            "the line to look at, not chance."
        )

    return CheckYourself(
        name="lclm_values_without_keys",
        question=(
            "Two records in a text, each a key and one of eight values. A model has seen which "
            "values occur, and not which key has which. How often can it be right?"
        ),
        choices=("one time in eight", "about four times in ten", "more than every other time"),
        answer=answer,
    )


def what_is_trained() -> CheckYourself:
    """Which positions of a spliced prompt have a loss?"""

    def answer() -> tuple[int, str]:
        kinds = ("raw", "raw", "start", "latent", "latent", "end", "raw", "raw")
        mask = label_mask(kinds).tolist()
        after = mask[kinds.index("end") + 1]
        others = any(m for m, kind in zip(mask, kinds, strict=True) if kind != "raw")
        right = 1 if after and not others else 0 if not after else 2
        return right, (
            f"{sum(mask)} of the {len(mask)} positions are trained: raw tokens that something "
            "precedes. The first raw token behind the latents is predicted from the closing tag, "
            "and that is where the model learns to use them."
        )

    return CheckYourself(
        name="lclm_what_is_trained",
        question=(
            "In a prompt of raw text, an opening tag, two latents, a closing tag and raw text "
            "again: is the first raw token behind the closing tag trained?"
        ),
        choices=(
            "no, nothing raw stands before it",
            "yes, predicted from the closing tag",
            "yes, and the latents are predicted too",
        ),
        answer=answer,
    )
