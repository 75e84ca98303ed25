"""Where the queries and keys of several sequences lie, and the checks of it."""

from typing import NamedTuple, SupportsIndex, no_type_check

import torch
from torch import Tensor

from .. import checks

MOST_ROWS = 2**31 - 1  # of keys in one tensor: rows are counted in 32 bits


class Layout(NamedTuple):
    """Sequence s has the queries starts[s] to starts[s+1], or the one query s without `starts`.

    Its keys are rows lens[s] to lens[s+1] where `packed`; else the first lens[s] of its entry of
    the cache or, with a `table`, of the pages that table[s] lists.
    """

    starts: Tensor | None  # int32 [b + 1]
    lens: Tensor  # int32 [b + 1] where packed, else [b]
    table: Tensor | None  # int32 [b, pages of one sequence]
    packed: bool
    longest: int  # keys of one sequence at most


def axes_of_keys(cu_seqlens_k: Tensor | None, block_table: Tensor | None) -> str:
    """The axes of a tensor of keys before those of a token."""
    if cu_seqlens_k is not None:
        return "t_k"
    return "b m" if block_table is None else "pages page"


def with_pages(keys: Tensor, packed: bool) -> Tensor:
    """Keys as [pages, rows, ...]: packed ones are one page."""
    keys = keys.unsqueeze(0) if packed else keys
    return keys if keys.stride(-1) == 1 else keys.contiguous()


def _whole_numbers(name: str, x: Tensor, shape: str, device: torch.device) -> None:
    checks.tensors(**{name: x})
    if x.dtype != torch.int32 or x.dim() != len(shape.split()) or x.stride(-1) != 1:
        raise ValueError(
            f"{name} has dtype {x.dtype}, shape {tuple(x.shape)} and strides {x.stride()}, but "
            f"must be torch.int32 [{', '.join(shape.split())}] with neighbours side by side. "
            f"Convert with {name}.int().contiguous()."
        )
    if x.device != device:
        raise ValueError(
            f"{name} is on {str(x.device)!r}, but the keys are on {str(device)!r}: lengths are "
            f"read on the device, so that nothing waits. Move it, for example {name}.to(q.device)."
        )


@no_type_check  # the checks are below
def layout_of(
    queries: Tensor,
    keys: Tensor,
    *,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    seq_lens: Tensor | None,
    block_table: Tensor | None,
    max_seqlen_k: SupportsIndex | None,
    block_size: int,
    look: bool,
) -> Layout:
    """Check how the batch is given, and with `look` the values too.

    Raises:
        ValueError: arguments are missing, do not go together or do not fit the tensors.
    """
    if (cu_seqlens_k is None) == (seq_lens is None):
        raise ValueError(
            "one of cu_seqlens_k and seq_lens must be given: cu_seqlens_k [b + 1] for packed keys "
            "[t_k, ...], seq_lens [b] for a cache [b, m, ...] or for pages with a block_table."
        )
    packed, device = seq_lens is None, keys.device
    if packed and block_table is not None:
        raise ValueError(
            "block_table is given with cu_seqlens_k, but packed keys have no pages. Pass seq_lens "
            "[b] with a block_table."
        )
    lens = cu_seqlens_k if packed else seq_lens
    _whole_numbers("cu_seqlens_k" if packed else "seq_lens", lens, "n", device)
    b, t_q = lens.shape[0] - packed, queries.shape[0]
    if b < 1:
        raise ValueError(f"lengths of b={b} sequences are given. Pass at least one.")
    if cu_seqlens_q is None and t_q != b:
        raise ValueError(
            f"{t_q} queries of b={b} sequences without cu_seqlens_q, which means one query each. "
            "Pass cu_seqlens_q [b + 1] for several."
        )
    if cu_seqlens_q is not None:
        _whole_numbers("cu_seqlens_q", cu_seqlens_q, "n", device)
        if cu_seqlens_q.shape[0] != b + 1:
            raise ValueError(
                f"cu_seqlens_q has {cu_seqlens_q.shape[0]} entries, but b={b} sequences need "
                "b + 1: where each begins, and where the last one ends."
            )
    most = keys.shape[0] if packed else keys.shape[1]
    if block_table is not None:
        _whole_numbers("block_table", block_table, "b pages", device)
        if most % block_size:
            raise ValueError(
                f"pages hold {most} keys, which must be a multiple of block_size={block_size}, so "
                "that every block lies in one page. Use larger pages or smaller blocks."
            )
        if block_table.shape[0] != b or block_table.shape[1] == 0:
            raise ValueError(
                f"block_table has shape {tuple(block_table.shape)}, but b={b} sequences need one "
                "row of page numbers each."
            )
        most *= block_table.shape[1]
    elif not packed and keys.shape[0] != b:
        raise ValueError(
            f"the cache holds {keys.shape[0]} sequences, but seq_lens has b={b}. Pass caches of "
            "the same batch, or a block_table."
        )
    if (keys.shape[0] if packed else keys.shape[0] * keys.shape[1]) > MOST_ROWS:
        raise ValueError(
            f"keys of shape {tuple(keys.shape)} have more than {MOST_ROWS} rows. Split the cache."
        )
    longest = most
    if max_seqlen_k is not None:
        longest = min(checks.whole("max_seqlen_k", max_seqlen_k), most)
    layout = Layout(cu_seqlens_q, lens, block_table, packed, longest)
    if look:
        _look(layout, t_q, keys)
    return layout


def _look(layout: Layout, t_q: int, keys: Tensor) -> None:
    """Check the values."""
    if layout.packed:
        _begins_and_ends("cu_seqlens_k", layout.lens, keys.shape[0], "keys")
    if layout.starts is not None:
        _begins_and_ends("cu_seqlens_q", layout.starts, t_q, "queries")
    m = (layout.lens.diff() if layout.packed else layout.lens).tolist()
    n = [1] * len(m) if layout.starts is None else layout.starts.diff().tolist()
    for seq, (queries, length) in enumerate(zip(n, m, strict=True)):
        if not 0 <= length <= layout.longest:
            raise ValueError(
                f"sequence {seq} has {length} keys, but lengths must be 0 to {layout.longest}: "
                "max_seqlen_k, or what the cache or its block_table can hold."
            )
        if 0 < length < queries:
            raise ValueError(
                f"sequence {seq} has {queries} queries but only {length} keys: queries are "
                "aligned with the last keys, so every query needs a key at its own position."
            )
        if layout.table is not None:
            used = layout.table[seq, : -(-length // keys.shape[1])]
            if used.numel() and not 0 <= int(used.min()) <= int(used.max()) < keys.shape[0]:
                raise ValueError(
                    f"block_table lists the pages {used.tolist()} for sequence {seq}, but there "
                    f"are pages 0 to {keys.shape[0] - 1}."
                )


def _begins_and_ends(name: str, starts: Tensor, total: int, what: str) -> None:
    values = starts.tolist()
    if values[0] != 0 or values[-1] != total or sorted(values) != values:
        raise ValueError(
            f"{name}={values} must begin with 0, never fall and end with {total}, the number of "
            f"{what}: it says where each sequence begins."
        )
