"""The MSA lesson's check-yourself questions; every answer is computed when it is asked for."""

from dataclasses import replace

from intuitive.msa import MSAConfig, cost
from intuitive.msa.experiments import block_selection
from intuitive.msa.experiments.ladder import LadderParams
from intuitive.msa.experiments.ladder import run as run_ladder
from intuitive.msa.experiments.loop_orders import LoopParams
from intuitive.msa.experiments.loop_orders import run as run_loops
from intuitive.msa.experiments.needle import NeedleParams, run

from ..kit import CheckYourself, fixed, percent

SHORT, MILLION = 2**13, 2**20  # tokens


def many_small_blocks() -> CheckYourself:
    """The same number of tokens in small blocks or in large ones: which hold more attention?"""

    def answer() -> tuple[int, str]:
        held = {}
        for size, count in ((16, 16), (128, 2)):
            settings = replace(block_selection.FIRST, block_size=size, n_selected=count)
            result = block_selection.run(settings)
            held[size] = float(result.captured_mean["main_max"][settings.group])
        gain = held[16] - held[128]
        return 1 if gain > 0.03 else 0 if gain < -0.03 else 2, (
            f"Averaged over the text, sixteen small blocks hold {percent(held[16])} and two large "
            f"ones {percent(held[128])}. Most of a large block are neighbours of the one token "
            "that won it, and one of the two places belongs to the local block. The price of "
            "small blocks: there are eight times as many to rank, and reading many small pieces "
            "of memory is slower than reading few large ones."
        )

    return CheckYourself(
        name="msa_many_small_blocks",
        question=(
            "A token may read 256 tokens: sixteen blocks of 16, or two blocks of 128. In both, "
            "one is its own and the largest score picks the others. Which hold more of its "
            "attention?"
        ),
        choices=("Two blocks of 128", "Sixteen blocks of 16", "Both about the same"),
        answer=answer,
    )


def halving_k() -> CheckYourself:
    """In a short prompt, what does halving k save?"""

    def answer() -> tuple[int, str]:
        whole = MSAConfig.paper()
        half = replace(whole, n_selected=whole.n_selected // 2)
        saved = {
            n: 1 - cost.msa_flops(half, n) / cost.msa_flops(whole, n) for n in (SHORT, MILLION)
        }
        share = cost.index_flop_share(whole, SHORT)
        right = 2 if saved[SHORT] > 0.4 else 1 if saved[SHORT] > 0.15 else 0
        return right, (
            f"It saves {percent(saved[SHORT])} of MSA's FLOPs: in a prompt this short only "
            f"{percent(share)} of them belong to the index, and the blocks are the bill. At a "
            f"million tokens it would save {percent(saved[MILLION])}: the index scores every "
            "visible token whatever k is, so there one has to make the index cheaper."
        )

    return CheckYourself(
        name="msa_halving_k",
        question=(
            "The paper's layer, a prompt of 8,192 tokens, k = 16 blocks of 128 tokens. You "
            "halve k to 8. How much of MSA's own computation goes away?"
        ),
        choices=("about one twentieth", "about a quarter", "nearly half"),
        answer=answer,
    )


def decode_ceiling() -> CheckYourself:
    """Twice as many KV heads, one index key for all: what becomes of the ceiling of bytes?"""

    def answer() -> tuple[int, str]:
        paper = MSAConfig.paper()
        wider = replace(paper, n_kv_heads=2 * paper.n_kv_heads)
        bytes_, flops = (
            [ceiling(config) for config in (paper, wider)]
            for ceiling in (cost.decode_byte_ceiling, cost.flop_ceiling)
        )
        change = bytes_[1] / bytes_[0]
        right = 1 if change > 1.5 else 2 if change < 0.75 else 0
        return right, (
            f"It rises from {fixed(bytes_[0], 0)} to {fixed(bytes_[1], 0)}: a token now has twice "
            "the keys and values, and still one index key, which all groups share. The ceiling of "
            f"FLOPs moves the other way, from {fixed(flops[0], 0)} to {fixed(flops[1], 0)}: every "
            "group scores all tokens with an index head of its own."
        )

    return CheckYourself(
        name="msa_decode_ceiling",
        question=(
            "The paper's layer with 8 KV heads instead of 4, all else as it was: 64 query heads, "
            "and one index key of 128 channels for each token. What becomes of the most by which "
            "MSA can cut the bytes of one decoded token?"
        ),
        choices=("It stays", "It doubles", "It halves"),
        answer=answer,
    )


def loop_order() -> CheckYourself:
    """Tiles of half as many queries: is fetching everything still quicker than query by query?"""

    def answer() -> tuple[int, str]:
        params = LoopParams(tile=4)
        traces = run_loops(params).traces
        masked, alone = traces["everything"], traces["query_outer"]
        ratio = alone.total_s / masked.total_s
        each = params.n_blocks / params.tile
        return 0 if ratio > 1.1 else 1 if ratio < 0.9 else 2, (
            f"{params.n_blocks} blocks for {params.tile} queries are {fixed(each, 0)} fetches for "
            f"each query, against {params.n_selected} of its own: everything, masked, takes "
            f"{fixed(1e6 * masked.total_s)} µs and query by query {fixed(1e6 * alone.total_s)} µs. "
            "With tiles of eight it was the other way round. Whether waste pays depends on how "
            "many queries use what is fetched."
        )

    return CheckYourself(
        name="msa_loop_order",
        question=(
            "The 24 queries of section 1 again, each with 6 of 32 blocks. But tiles hold four "
            "queries now, not eight. Which is done first?"
        ),
        choices=(
            "Everything, masked",
            "Query by query",
            "Both at about the same time",
        ),
        answer=answer,
    )


def weak_needle() -> CheckYourself:
    """How weak may a needle be before max pooling loses it?"""

    def answer() -> tuple[int, str]:
        strong, weak = (run(NeedleParams(strength=s, n_selected=2)) for s in (8.0, 1.0))
        found = (strong.found_by_max, weak.found_by_max)
        right = 1 if found == (True, False) else 0 if found == (True, True) else 2
        return right, (
            f"With k = 2 the needle of score 8 has block rank {strong.rank_max}, the needle of "
            f"score 1 rank {weak.rank_max} of {len(weak.block_max)}: in most blocks some ordinary "
            "token scores more than 1 by chance, and the needle's neighbours score low. Max "
            "pooling finds what stands out, not what you planted."
        )

    return CheckYourself(
        name="msa_weak_needle",
        question=(
            "Read k = 2 blocks with max pooling. Ordinary scores spread by 1. Which needles are "
            "found: one of score 8, one of score 1?"
        ),
        choices=("Both", "Only the one of score 8", "Neither"),
        answer=answer,
    )


def one_byte_keys() -> CheckYourself:
    """Index keys of one byte: which floor falls?"""

    def answer() -> tuple[int, str]:
        floors = {}
        for function, context in (("select", 2**17), ("decode", MILLION)):
            rung = run_ladder(LadderParams(function=function)).at(context).rungs[-1]
            saved = context * MSAConfig.paper().d_index  # a byte less for every number of a key
            after = replace(rung.least, bytes=rung.least.bytes - saved).floor_ms
            floors[function] = rung.least.floor_ms, after
        falls = {name: after < 0.6 * before for name, (before, after) in floors.items()}
        right = {(True, False): 0, (False, True): 1, (True, True): 2, (False, False): 3}
        prompt, step = floors["select"], floors["decode"]
        return right[falls["select"], falls["decode"]], (
            f"Over the prompt, products set the floor: {fixed(prompt[0], 1)} ms before and "
            f"{fixed(prompt[1], 1)} ms after. The step has to read every index key and hardly "
            f"multiplies: its floor falls from {fixed(1e3 * step[0], 0)} to "
            f"{fixed(1e3 * step[1], 0)} µs."
        )

    return CheckYourself(
        name="msa_one_byte_keys",
        question=(
            "Index keys take one byte a number instead of two, and are multiplied as before. Which "
            "floor falls by nearly half?"
        ),
        choices=(
            "Selecting for a prompt of 128K tokens",
            "One decode step after a million tokens",
            "Both",
            "Neither",
        ),
        answer=answer,
    )
