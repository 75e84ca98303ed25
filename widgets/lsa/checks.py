"""The LSA lesson's check-yourself questions; every answer is computed when it is asked for."""

from collections.abc import Callable
from dataclasses import replace

import torch

from intuitive.common.runtime import seeded
from intuitive.lsa import LSAConfig, cost, memory_logits, results
from intuitive.lsa.arms import Policy, replay
from intuitive.lsa.experiments import bias, label_factory, memory, threshold

from ..kit import CheckYourself, fixed, percent
from .memory_scene import size
from .threshold import first_text

MILLION = 2**20  # tokens
ROOM = 96  # chunks of the fixed room in the recorded runs


def one_layer_alone() -> CheckYourself:
    """Why several layers must agree: how much does one mark by itself?"""

    def answer() -> tuple[int, str]:
        result = label_factory.run(label_factory.LabelParams())
        old = result.labels.nucleus[..., : result.at_trigger]
        alone = old.any(0).sum(-1)  # by layer, over the window
        mean, left = float(alone.float().mean()), int(result.found[-1].sum())
        share = mean / result.at_trigger
        right = 0 if mean < 1.5 * left else 1 if share < 0.6 else 2
        return right, (
            f"{fixed(mean, 0)} of {result.at_trigger}, from {int(alone.min())} to "
            f"{int(alone.max())}; {left} are left if three must agree. A layer's own favourites "
            "change while the window passes, and so they add up. What several layers look for is "
            "the topic, and that stays."
        )

    return CheckYourself(
        name="lsa_one_layer_alone",
        question=(
            "Let one of the eight layers decide alone, with top-p at 60%. How many of the 96 old "
            "chunks has it marked after the 64 steps, on average over the layers?"
        ),
        choices=("about ten", "about thirty", "nearly all"),
        answer=answer,
    )


def floor_grows() -> CheckYourself:
    """Nothing is fetched and the text grows: does LSA's memory?"""

    def answer() -> tuple[int, str]:
        at = {h.context: h for h in memory.run(memory.MemoryParams(kept=0.0)).at}
        short, long = at[2**17], at[MILLION]
        ratio = long.lsa_bytes / short.lsa_bytes
        right = 0 if ratio < 1.5 else 1 if ratio < 6 else 2
        return right, (
            f"It grows {fixed(ratio, 1)}-fold, from {size(short.lsa_bytes)} to "
            f"{size(long.lsa_bytes)}. The tail stays as it is; the index keys that choices are "
            f"made with and the HCA entries grow with the text, {size(short.floor)} to "
            f"{size(long.floor)}."
        )

    return CheckYourself(
        name="lsa_floor_grows",
        question=(
            "Nothing is fetched, only the newest 8,192 tokens stay. The text grows eightfold, from "
            "128K to a million tokens. How does the memory on the GPU grow, everything counted?"
        ),
        choices=("not at all", "about fourfold", "eightfold"),
        answer=answer,
    )


def half_or_more() -> CheckYourself:
    """ "At least a half" or "more than a half": does one sign matter?"""

    def answer() -> tuple[int, str]:
        draw = seeded(0)
        q = torch.randn(4, 32, generator=draw, dtype=torch.float32)
        weights = torch.tensor([0.4, 0.3, -0.6, -0.5], dtype=torch.float32)
        keys = torch.randn(4096, 32, generator=draw, dtype=torch.float32)
        logits = memory_logits(q, weights, keys)
        dead = float((logits == 0).float().mean())
        more = float((logits > 0).float().mean())
        right = 0 if dead < 0.01 else 1 if dead < 0.2 else 2
        return right, (
            f"{percent(dead, 1)} of the chunks have a logit of exactly 0: none of the four heads "
            f"fires on them. “More than a half” keeps {percent(more, 1)}, “at least a half” keeps "
            f"{percent(more + dead, 1)}. The paper writes the latter, its code does the former."
        )

    return CheckYourself(
        name="lsa_half_or_more",
        question=(
            "A Memory Indexer of four heads without a bias scores chunks by a weighted sum of "
            "ReLUs. Queries and keys are random. How many chunks get a probability of exactly a "
            "half, so that “at least” and “more than” differ?"
        ),
        choices=("practically none", "a few in a hundred", "about half of them"),
        answer=answer,
    )


def full_refresh() -> CheckYourself:
    """How long does it take to exchange everything that is kept?"""

    def answer() -> tuple[int, str]:
        config = LSAConfig.paper()
        moved = cost.transfer_bytes(config, 12_288)
        slow, fast = (cost.transfer_ms(moved, gb) for gb in cost.LINK_GB_PER_S[:2])
        right = 0 if slow < 20 else 1 if slow < 200 else 2
        return right, (
            f"{moved / 1e6:.0f} MB move, in {fixed(fast, 0)} to {fixed(slow, 0)} ms at "
            f"{cost.LINK_GB_PER_S[1]:.0f} to {cost.LINK_GB_PER_S[0]:.0f} GB/s, if they lie side by "
            "side. A window is 64 steps of several milliseconds each. So bytes are not what "
            "hurts; waiting for them in every single step would be."
        )

    return CheckYourself(
        name="lsa_full_refresh",
        question=(
            "DeepSeek-V4-Flash, 12,288 chunks to be kept, and all of them are exchanged at one "
            "trigger. How long does the copy over PCIe take?"
        ),
        choices=("a few milliseconds", "about a tenth of a second", "about a second"),
        answer=answer,
    )


def one_window_late() -> CheckYourself:
    """A choice that arrives one window late, where windows are short."""

    def answer() -> tuple[int, str]:
        recording = threshold.load(first_text())
        found = {
            (tau, lag): replay(recording, replace(USUAL, lookahead=tau, lag=lag)).golden_recall
            for tau in (8, 64)
            for lag in (0, 1)
        }
        lost = found[8, 0] - found[8, 1]
        right = 0 if lost < 0.15 else 1 if lost < 0.35 else 2
        return right, (
            f"It falls from {percent(found[8, 0])} to {percent(found[8, 1])}; with windows of 64 "
            f"from {percent(found[64, 0])} to {percent(found[64, 1])}. Here a topic lasts for 64 "
            "tokens: most short windows still have the topic of the one before, no long one has. "
            "It is the text that says how late a choice may come."
        )

    return CheckYourself(
        name="lsa_one_window_late",
        question=(
            "A server copies while it computes, so that each choice comes into force one window "
            "late. Let windows be 8 tokens long instead of 64, in the recording that opens section "
            "2. How much is lost of the needed chunks that were found?"
        ),
        choices=("little", "about half", "nearly all"),
        answer=answer,
    )


# ------------------------------------------------------------------------------ break it

USUAL = Policy(tail_chunks=16, sink=1)


def dense_mode() -> CheckYourself:
    """A question that needs everything: is the indexer better than chance?"""

    def answered(arm: str) -> float:
        how = {"mode": "dense", "rule": "threshold", "arm": arm}
        return results.arms().values.mean("mode", "accuracy", **how)

    def answer() -> tuple[int, str]:
        found = {}
        for text in ("topical", "dense"):
            recording = threshold.load(text)
            found[text] = [replay(recording, replace(USUAL, arm=arm)) for arm in ("lsa", "random")]
        (topical, by_chance), (dense, at_random) = found["topical"], found["dense"]
        gain = dense.golden_recall - at_random.golden_recall
        before = topical.golden_recall - by_chance.golden_recall
        right = 0 if gain > 0.8 * before else 1 if gain > 0.3 * before else 2
        return right, (
            f"There it finds {percent(dense.golden_recall)} of the needed chunks with "
            f"{percent(dense.kept)} of the old ones on the GPU; as many at random find "
            f"{percent(at_random.golden_recall)}. With topics it was "
            f"{percent(topical.golden_recall)} against {percent(by_chance.golden_recall)}. What it "
            "finds does not answer the questions: in the recorded runs "
            f"{percent(answered('lsa'))} of the answers are right with LSA and "
            f"{percent(answered('random'))} with chunks at random."
        )

    return CheckYourself(
        name="lsa_dense_mode",
        question=(
            "Compare the trained indexer with as many chunks drawn at random, by the needed chunks "
            "that are there. How much of its lead is left when the questions come from all topics?"
        ),
        choices=("nearly all of its lead", "about half of its lead", "little or none"),
        answer=answer,
    )


def too_long_a_window() -> CheckYourself:
    """One decision for four sections: how much is there when it is needed?"""

    def answer() -> tuple[int, str]:
        recording = threshold.load("topical")
        short, long = (replay(recording, replace(USUAL, lookahead=tau)) for tau in (64, 256))
        kept = long.golden_recall / max(short.golden_recall, 1e-9)
        right = 0 if kept > 0.8 else 1 if kept > 0.3 else 2
        return right, (
            f"{percent(long.golden_recall)} instead of {percent(short.golden_recall)} of the "
            "needed chunks are there. One trigger speaks for four sections and has read the header "
            "of the first."
        )

    return CheckYourself(
        name="lsa_too_long_a_window",
        question=(
            "The topical recording, one decision for 256 tokens instead of one for each 64. How "
            "much of the recall is left?"
        ),
        choices=("nearly all of the recall", "about half of it", "next to nothing"),
        answer=answer,
    )


def history_not_needed() -> CheckYourself:
    """Nothing old is needed: how much is fetched?"""

    def answer() -> tuple[int, str]:
        recording = threshold.load("local")
        found = replay(recording, USUAL)
        each = int(found.chosen.sum()) / len(found.triggers)
        least = min(p.accuracy for p in results.arms().values.select("mode", mode="local"))
        right = 0 if found.kept < 0.002 else 1 if found.kept < 0.2 else 2
        return right, (
            f"{percent(found.kept, 1)} of the old chunks are on the GPU all the same, and "
            f"{fixed(each, 1)} are copied at each trigger. The model's selector always picks "
            "something, so that some old chunks count as needed though no answer is in them; and "
            "a threshold has no memory budget. For the answers it does not matter: even the worst "
            f"policy has {percent(least)} of them right in the recorded runs."
        )

    return CheckYourself(
        name="lsa_history_not_needed",
        question=(
            "Nothing old is needed in the local recording. How many of the old chunks does the "
            "threshold keep on the GPU?"
        ),
        choices=("none of them", "about an eighth", "more than half"),
        answer=answer,
    )


def no_bias() -> CheckYourself:
    """The paper has no bias. What does a small indexer do without?"""

    def answer() -> tuple[int, str]:
        with_bias, without = (bias.run(bias=on) for on in (True, False))
        ratio = without.fetched / with_bias.fetched
        right = 0 if ratio < 1.2 else 1 if ratio < 4 else 2
        return right, (
            f"They find {percent(without.golden_recall)} and {percent(with_bias.golden_recall)} of "
            f"the needed chunks; for that the one without fetches {percent(without.fetched)} of "
            f"the old chunks, the one with a bias {percent(with_bias.fetched)}. To say no, "
            "some head with a negative weight must fire, and four heads cannot fire on everything. "
            "With more heads the gap narrows; the paper has 128. (Both learn drawn documents whose "
            "hidden state names the topic, an easier task than the recordings.)"
        )

    return CheckYourself(
        name="lsa_no_bias",
        question=(
            "Two Memory Indexers of four heads are trained now, alike but for a learned bias in "
            "one of them. Both find about as many of the needed chunks. How much more does the "
            "one without a bias fetch?"
        ),
        choices=("hardly any more", "half as much again, or twice as much", "ten times as much"),
        answer=answer,
    )


def twice_as_long() -> CheckYourself:
    """A text twice as long as any in training."""

    def answers(length: float) -> float:
        """Right answers with room for as many chunks at every length, the room of training."""
        how = {"arm": "lsa", "rule": "budget", "size": ROOM}
        sweep = "budget" if length == 1 else "length"
        return results.arms().values.mean(sweep, "accuracy", length=length, **how)

    def by_threshold(length: float) -> float:
        how = {"arm": "lsa", "rule": "threshold"}
        sweep = "arms" if length == 1 else "length"
        return results.arms().values.mean(sweep, "accuracy", length=length, **how)

    def listed(right: Callable[[float], float]) -> str:
        one, two, four = (percent(right(length)) for length in (1.0, 2.0, 4.0))
        return f"{one}, {two} and {four}"

    def answer() -> tuple[int, str]:
        short, long = (replay(threshold.load(text), USUAL) for text in ("topical", "topical_2x"))
        lost = short.golden_recall - long.golden_recall
        here, there = (
            int((found.resident & found.evictable).sum()) / len(found.resident)
            for found in (short, long)
        )
        right = 0 if lost < 0.1 else 1 if lost < 0.5 else 2
        return right, (
            f"{percent(long.golden_recall)} of the needed chunks are there instead of "
            f"{percent(short.golden_recall)}, with {percent(long.kept)} instead of "
            f"{percent(short.kept)} of the old ones on the GPU: that is "
            f"{fixed(there / here, 1)} times as many chunks, fewer than a rate that stays would "
            "fetch. In the recorded runs it is the rule that tells. By the threshold, whose share "
            f"hardly changes, {listed(by_threshold)} of the answers are right at once, twice and "
            f"four times the length of training. In a room of {ROOM} chunks, more than the "
            f"threshold takes at the length of training, they are {listed(answers)}: a room that "
            "does not grow holds less and less of the text. (The authors find theirs near chance "
            "beyond twice the length.)"
        )

    return CheckYourself(
        name="lsa_twice_as_long",
        question=(
            "The same kind of text, twice as long as any that the indexer was trained on. How much "
            "of its recall does it lose?"
        ),
        choices=("little or nothing", "some, but less than half", "more than half of it"),
        answer=answer,
    )
