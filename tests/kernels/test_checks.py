"""Bad input to any of the four functions meets a message with value, rule and next step."""

import numpy as np
import pytest
import torch

from intuitive.kernels import (
    block_scores,
    block_sparse_attention,
    checks,
    dispatch,
    limits,
    score_and_select,
    select_blocks,
)

NAN, INF = float("nan"), float("inf")


def index(n=3, m=8):
    return torch.ones(1, n, 2, 4), torch.ones(1, m, 4)


def inputs(n=3, m=8):
    return (
        torch.ones(1, n, 4, 4),
        torch.ones(1, m, 2, 4),
        torch.ones(1, m, 2, 4),
        torch.zeros(1, n, 2, 2, dtype=torch.int32),
    )


def changed(tensors, place, value):
    """The tensors with one exchanged, or with one entry of it set."""
    tensors = list(tensors)
    if isinstance(value, torch.Tensor):
        tensors[place] = value
    else:
        tensors[place] = tensors[place].clone()
        tensors[place].view(-1)[1] = value
    return tensors


@pytest.mark.parametrize("function", [block_scores, score_and_select])
@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.ones(3, 2, 4), r"q_idx has shape \(3, 2, 4\), but its axes must be \[b, n, h_kv"),
        (
            1,
            torch.ones(2, 8, 4),
            r"k_idx has shape \(2, 8, 4\): axis 'b' .* is 2, but q_idx has b=1",
        ),
        (1, torch.ones(1, 8, 5), r"axis 'd_idx' .* is 5, but q_idx has d_idx=4"),
        (1, torch.ones(1, 0, 4), r"axis 'm' of \[b, m, d_idx\] is empty"),
        (1, torch.ones(1, 2, 4), r"n=3 queries but only m=2 keys"),
        (
            1,
            torch.ones(1, 8, 4).half(),
            r"k_idx has dtype torch.float16, but q_idx has torch.float32",
        ),
        (0, torch.ones(1, 3, 2, 4).long(), r"q_idx has dtype torch.int64, but must be floating"),
        (
            1,
            torch.ones(1, 8, 4, device="meta"),
            r"k_idx is on 'meta', but q_idx is on 'cpu'\. Move",
        ),
        (0, NAN, r"q_idx holds 1 values that are NaN or infinite, of 24\. .*validate=False"),
        (1, -INF, r"k_idx holds 1 values that are NaN or infinite, of 32"),
    ],
)
def test_index_inputs(function, place, value, message):
    rule = {"block_size": 4} if function is block_scores else {"block_size": 4, "n_selected": 2}
    with pytest.raises(ValueError, match=message):
        function(*changed(index(), place, value), **rule)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"n_selected": 0}, r"n_selected=0 must be at least 1"),
        ({"n_selected": 2.0}, r"n_selected=2.0 must be an integer of at least 1"),
        ({"n_selected": True}, r"n_selected=True must be an integer"),
        ({"n_selected": np.True_}, r"n_selected=(np\.True_|True) must be an integer"),
        ({"n_selected": torch.tensor(True)}, r"n_selected=tensor\(True\) must be an integer"),
        ({"n_local": np.float64(1)}, r"n_local=\S*1\.0\)? must be an integer of at least 0"),
        ({"block_size": torch.tensor([4, 4])}, r"block_size=tensor\(\[4, 4\]\) must be an integer"),
        ({"block_size": "4"}, r"block_size='4' must be an integer"),
        ({"block_size": 0}, r"block_size=0 must be at least 1"),
        ({"block_size": -4}, r"block_size=-4 must be at least 1"),
        ({"n_local": -1}, r"n_local=-1 must be at least 0"),
        ({"n_init": -1}, r"n_init=-1 must be at least 0"),
        ({"n_init": 2}, r"n_selected=2 cannot hold n_local=1 and n_init=2.*Raise n_selected"),
    ],
)
def test_counts_of_a_selection(rule, message):
    rule = {"n_selected": 2, "block_size": 4} | rule
    with pytest.raises(ValueError, match=message):
        select_blocks(torch.zeros(1, 1, 1, 4), **rule)
    with pytest.raises(ValueError, match=message):
        score_and_select(*index(), **rule)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            torch.zeros(1, 1, 4),
            r"scores has shape \(1, 1, 4\), but its axes must be \[b, n, h_kv, n_",
        ),
        (torch.zeros(1, 1, 1, 4).double(), r"scores has dtype torch.float64.*scores.float\(\)"),
        (torch.tensor([[[[0.0, NAN, INF]]]]), r"scores holds 2 values that are NaN or \+inf, of 3"),
    ],
)
def test_scores_of_a_selection(scores, message):
    with pytest.raises(ValueError, match=message):
        select_blocks(scores, n_selected=2, block_size=4)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, torch.ones(1, 8, 3, 4), r"v has shape .* axis 'h_kv' .* is 2, but k has h_kv=3"),
        (2, torch.ones(1, 9, 2, 4), r"v has shape \(1, 9, 2, 4\): axis 'm'"),
        (0, torch.ones(1, 3, 5, 4), r"h_q=5 must be a multiple of h_kv=2"),
        (0, torch.ones(1, 3, 4, 4).half(), r"k has dtype torch.float32, but q has torch.float16"),
        (0, torch.ones(1, 3, 4, 4, device="meta"), r"k is on 'cpu', but q is on 'meta'"),
        (3, torch.zeros(1, 3, 2, 2), r"block_idx has dtype torch.float32, but must be torch.int32"),
        (3, torch.zeros(1, 2, 2, 2, dtype=torch.int32), r"axis 'n' .* is 2, but q has n=3"),
        (
            3,
            2,
            r"block_idx holds 2, but m=8 keys in blocks of block_size=4 have ids 0 to 1, and -1",
        ),
        (3, -2, r"block_idx holds -2"),
        (0, NAN, r"q holds 1 values that are NaN"),
        (1, INF, r"k holds 1 values that are NaN or infinite"),
        (2, NAN, r"v holds 1 values that are NaN"),
    ],
)
def test_attention_inputs(place, value, message):
    with pytest.raises(ValueError, match=message):
        block_sparse_attention(*changed(inputs(), place, value), block_size=4)


def test_validate_false_skips_the_values():
    q, k, v, blocks = changed(inputs(), 0, NAN)
    out = block_sparse_attention(q, k, v, blocks, block_size=4, validate=False)
    assert out.isnan().any()
    blocks[..., 1] = 99  # names no block, so it is skipped
    q = torch.ones_like(q)
    torch.testing.assert_close(
        block_sparse_attention(q, k, v, blocks, block_size=4, validate=False),
        block_sparse_attention(q, k, v, blocks[..., :1], block_size=4),
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"block_size": 48}, r"block_size=48 is not served by impl='triton'.*16, 32, 64, 128"),
        ({"head_size": 96}, r"head size=96 is not served.* takes 64, 128\."),
        ({"index_width": 16}, r"index width=16 is not served.* takes 32, 64, 128\."),
        ({"dtype": torch.float64}, r"dtype=torch.float64 is not served.*impl='reference'"),
    ],
)
def test_limits_of_the_triton_kernels(limits, message):
    with pytest.raises(ValueError, match=message):
        checks.triton_limits(**{"block_size": 64, "head_size": 64, "dtype": torch.half} | limits)


def test_interpreter_refuses_bfloat16(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match=r"bfloat16 gives wrong products.*float16"):
        checks.triton_limits(block_size=64, head_size=64, dtype=torch.bfloat16)


def test_widest_group():
    checks.triton_group(128)
    with pytest.raises(ValueError, match=r"h_q/h_kv=129 .* at most 128\. Pass impl='reference'"):
        checks.triton_group(129)


def test_too_many_slots_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(dispatch, "choose", lambda impl, device: "triton")
    message = r"n_selected=2048 .* at most 256: .*Select fewer, or pass impl='reference'"
    q_idx, k_idx = torch.ones(1, 1, 1, 64), torch.ones(1, 9, 64)
    rule = {"n_selected": 2048, "block_size": 16}
    with pytest.raises(ValueError, match=message):
        select_blocks(torch.zeros(1, 1, 1, 4), **rule)
    with pytest.raises(ValueError, match=message):
        score_and_select(q_idx, k_idx, **rule)
    q, ids = torch.ones(1, 1, 1, 64), torch.zeros(1, 1, 1, 2048, dtype=torch.int32)
    k = torch.ones(1, 9, 1, 64)
    with pytest.raises(ValueError, match=message):
        block_sparse_attention(q, k, k, ids, block_size=16)
    checks.triton_slots(limits.MAX_SELECTED)


@pytest.mark.parametrize(
    "kind", [np.int64, np.uint8, np.array, torch.tensor], ids=lambda kind: kind.__name__
)
def test_sizes_take_whole_numbers_of_every_kind(kind):
    plain = {"n_selected": 2, "block_size": 4, "n_local": 1, "n_init": 0}
    rule = {name: kind(value) for name, value in plain.items()}
    generator = torch.Generator().manual_seed(0)
    q_idx, k_idx = (torch.randn(x.shape, generator=generator) for x in index())
    size, given = {"block_size": 4}, {"block_size": rule["block_size"]}
    scores = block_scores(q_idx, k_idx, **given)
    assert torch.equal(scores, block_scores(q_idx, k_idx, **size))
    assert torch.equal(select_blocks(scores, **rule), select_blocks(scores, **plain))
    assert torch.equal(
        score_and_select(q_idx, k_idx, **rule), score_and_select(q_idx, k_idx, **plain)
    )
    assert torch.equal(
        block_sparse_attention(*inputs(), **given), block_sparse_attention(*inputs(), **size)
    )


def test_values_are_looked_at_on_cpu_only_by_default():
    assert checks.wants_values(None, torch.device("cpu"))
    assert not checks.wants_values(None, torch.device("cuda"))
    assert checks.wants_values(True, torch.device("cuda"))
    assert not checks.wants_values(False, torch.device("cpu"))


def test_triton_without_cuda_says_so(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    calls = (
        lambda: block_scores(*index(), block_size=4, impl="triton"),
        lambda: select_blocks(torch.zeros(1, 1, 1, 4), n_selected=1, block_size=4, impl="triton"),
        lambda: score_and_select(*index(), n_selected=1, block_size=4, impl="triton"),
        lambda: block_sparse_attention(*inputs(), block_size=4, impl="triton"),
    )
    for call in calls:
        with pytest.raises(RuntimeError, match="impl='triton' needs"):
            call()
