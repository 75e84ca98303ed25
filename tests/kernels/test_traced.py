"""What stands before a kernel can be traced: `torch.compile(fullgraph=True)` without a GPU."""

import pytest
import torch
from chunk_inputs import draw_reading, draw_scoring
from kernel_inputs import draw_index, draw_inputs

from intuitive import kernels

RULE = {"n_selected": 3, "block_size": 16}


def attention():
    q_idx, k_idx = draw_index(1, 40, 50, 2, 32, seed=0, dtype=torch.float32)
    x = draw_inputs(
        1, 40, 50, 2, 2, 64, block_size=16, n_selected=3, seed=0, dtype=torch.float32
    )  # fmt: skip

    def layer():
        scores = kernels.block_scores(q_idx, k_idx, block_size=16, validate=False)
        chosen = kernels.score_and_select(q_idx, k_idx, validate=False, **RULE)
        out = kernels.block_sparse_attention(
            *x[:3], chosen, block_size=16, scale=0.2, validate=False
        )
        step = kernels.decode_step(
            *(y[:, -1:] if i == 0 else y for i, y in enumerate(x[:3])), q_idx[:, -1:], k_idx,
            validate=False, **RULE,
        )  # fmt: skip
        return scores, out, step.out

    return layer


def history():
    rows = draw_scoring(1, 64, 200, 128, seed=3, stored="rows", dtype=torch.float32, device="cpu")
    read = draw_reading(1, 64, 512, 200, 16, 128, seed=3, dtype=torch.float32, device="cpu")

    def step():
        ids, count = kernels.select_chunks(
            kernels.score_chunks(*rows), threshold=0.5, forced_from=190
        )
        pool = torch.zeros_like(read.cells)
        kernels.copy_cells(read.cells, pool, ids.long(), ids.long())
        return kernels.cell_attention(read.q, pool, ids[None], read.window, read.sinks), count

    return step


@pytest.mark.parametrize("make", [attention, history])
def test_operations_are_one_graph(make, as_installed):
    step = make()
    want = step()
    # the oracle of copies has as many rows as ids are wanted, which torch 2.9 traces if told so
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        got = torch.compile(step, fullgraph=True, backend="eager")()
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)
