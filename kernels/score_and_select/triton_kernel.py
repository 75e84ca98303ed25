"""Both Triton kernels over chunks of queries, with one small buffer of scores."""

import torch
import triton
from torch import Tensor

from .. import limits
from ..block_scores.triton_kernel import write_scores
from ..index_codes import CODES
from ..limits import query_chunks
from ..plans import on_hopper
from ..select_blocks.triton_kernel import write_selection
from ..select_blocks.triton_rows import MOST_SLOTS, write_row_selection
from ..shared_memory import card

CODED_PRODUCTS = 89  # cards from here on multiply e4m3 codes; others get the same numbers


@torch.library.custom_op("intuitive::score_and_select", mutates_args=())
def score_and_select(
    q_idx: Tensor,
    k_idx: Tensor,
    n_selected: int,
    block_size: int,
    n_local: int,
    n_init: int,
    plan: str = "general",
) -> Tensor:
    """Custom operator behind the public function: int32 [b, n, h_kv, n_selected]."""
    (b, n, h_kv, _), m = q_idx.shape, k_idx.shape[1]
    with torch.cuda.device_of(q_idx):
        arch = card().arch
    if q_idx.dtype == CODES and arch < CODED_PRODUCTS:
        q_idx, k_idx = q_idx.half(), k_idx.half()
    chunks = list(query_chunks(n, 4 * b * h_kv * triton.cdiv(m, block_size)))
    # by block and a thread a row, where the rows fill the card
    many = b * chunks[0][1] * h_kv >= limits.FEWEST_ROWS and n_selected <= MOST_SLOTS
    coded, hopper = q_idx.dtype == CODES, plan == "hopper" and on_hopper(arch, q_idx.dtype)
    by_block = many and (coded or hopper)
    bulk = coded or (hopper and by_block)  # few rows of numbers gain nothing by it
    write = write_row_selection if by_block else write_selection
    selected = []
    for start, stop in chunks:
        seen = m - n + stop  # keys up to the last query of this chunk
        rows, n_blk = (stop - start, h_kv), triton.cdiv(seen, block_size)
        shape = (b, n_blk, *rows) if by_block else (b, *rows, n_blk)
        scores = q_idx.new_empty(shape, dtype=torch.float32)  # future blocks are never written
        write_scores(
            q_idx[:, start:stop], k_idx[:, :seen], scores, block_size, by_block=by_block, bulk=bulk
        )
        out = q_idx.new_empty((b, *rows, n_selected), dtype=torch.int32)
        write(
            scores, out, block_size=block_size, n_local=n_local, n_init=n_init,
            first_visible=m - n + start + 1,
        )  # fmt: skip
        selected.append(out)
        del scores  # before the next chunk's, so that one buffer exists at a time
    return torch.cat(selected, dim=1) if len(selected) > 1 else selected[0]


@score_and_select.register_fake
def _(q_idx, k_idx, n_selected, block_size, n_local, n_init, plan="general"):
    return q_idx.new_empty((*q_idx.shape[:3], n_selected), dtype=torch.int32)
