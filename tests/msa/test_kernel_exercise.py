"""The checks of the kernel lesson's "your turn" tell right from wrong, in words."""

import pytest
import torch

from intuitive.kernels import dispatch
from intuitive.msa import interpreted
from intuitive.msa.kernel_exercise import check_kernel, check_merge, tl, triton

needs_triton = pytest.mark.skipif(not dispatch.TRITON_INSTALLED, reason="Triton is not installed")


@triton.jit
def right_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    scores = tl.load(scores_ptr + token, mask=token < visible, other=float("-inf"))
    tl.store(out_ptr + block, tl.max(scores, axis=0))


@triton.jit
def unmasked_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + block, tl.max(tl.load(scores_ptr + token), axis=0))


@triton.jit
def zero_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    scores = tl.load(scores_ptr + token, mask=token < visible, other=0.0)
    tl.store(out_ptr + block, tl.max(scores, axis=0))


@triton.jit
def misspelt_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr):
    tl.store(out_ptr, tl.lod(scores_ptr))


@triton.jit
def far_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr):
    tl.store(out_ptr, tl.load(scores_ptr + 10**12))


@triton.jit
def idle_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr):
    tl.program_id(0)


def passed(report):
    return [check.passed for check in report.checks]


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "want", "words"),
    [
        (right_kernel, [True] * 4, "4 of 4 checks pass"),
        (unmasked_kernel, [True, False, True, False], "not 99"),
        (zero_kernel, [True, True, False, False], "should be -inf, not 0"),
        (misspelt_kernel, [False] * 4, "has no attribute 'lod'"),
        (far_kernel, [False] * 4, "far outside its tensors"),
        (idle_kernel, [False] * 4, "not nothing"),
    ],
    ids=["right", "unmasked", "zeros", "misspelt", "far away", "idle"],
)
def test_kernels_are_told_apart(kernel, want, words):
    report = check_kernel(kernel)
    assert passed(report) == want
    assert words in repr(report)


@triton.jit
def given_kernel(scores_ptr, out_ptr, visible, BLOCK: tl.constexpr):
    """Write the greatest visible score of each block."""
    block = tl.program_id(0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    scores = tl.load(scores_ptr + token)
    tl.store(out_ptr + block, tl.max(scores, axis=0))


def test_a_kernel_as_the_lesson_gives_it_has_failed_nothing():
    report = check_kernel(given_kernel)
    assert not report.begun and "not yet" not in repr(report)
    lines = repr(report).splitlines()
    assert lines[0].startswith("Not begun: the kernel reads every place, also those")
    assert lines[1] == "4 checks wait:" and len(lines) == 6


def test_without_triton_the_report_says_so(monkeypatch):
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", False)
    assert "Triton is not installed here" in repr(check_kernel(right_kernel))
    assert "Triton is not installed here" in interpreted.walk_in_words()


def softmax_merge(outs, lses):
    lse = lses.logsumexp(0)
    return (lses - lse).exp() @ outs, lse


def overflowing_merge(outs, lses):
    weight = lses.exp()
    return weight @ outs / weight.sum(), weight.sum().log()


def mean_merge(outs, lses):
    return outs.mean(0), lses.logsumexp(0)


def no_lse_merge(outs, lses):
    out, lse = softmax_merge(outs, lses)
    return out, lse + 1


def lse_overflows_merge(outs, lses):
    return softmax_merge(outs, lses)[0], lses.exp().sum().log()


@pytest.mark.parametrize(
    ("merge", "want", "words"),
    [
        (softmax_merge, [True] * 5, "5 of 5 checks pass"),
        (overflowing_merge, [True, True, True, False, True], "infinite or no number"),
        (mean_merge, [True, False, False, True, True], "off by"),
        (no_lse_merge, [True, True, True, True, False], "The log-sum-exp should be"),
        (lse_overflows_merge, [True, True, True, False, True], "log-sum-exp is infinite"),
        (lambda outs, lses: None, [False] * 5, "Not begun: merge returns nothing."),
        (lambda outs, lses: (outs, lses), [False] * 5, "shape should be"),
        (lambda outs: outs, [False] * 5, "raised TypeError"),
    ],
    ids=["right", "overflow", "mean", "lse", "lse overflows", "none", "shape", "signature"],
)
def test_merges_are_told_apart(merge, want, words):
    report = check_merge(merge)
    assert passed(report) == want
    assert words in repr(report)


def test_the_global_dtype_does_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        assert passed(check_merge(softmax_merge)) == [True] * 5
    finally:
        torch.set_default_dtype(torch.float32)
