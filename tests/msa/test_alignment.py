"""KL alignment: the right average, the right support, the right gradient, and none elsewhere."""

import math

import pytest
import torch

from intuitive.common.decoder import causal_mask
from intuitive.kernels import select_blocks
from intuitive.msa.alignment import (
    agreement,
    causal_support,
    choosing,
    index_kl,
    teacher_probabilities,
)
from intuitive.msa.config import MSAConfig
from intuitive.msa.reference import block_max, block_sparse_mask, group_queries, token_scores

B, N, H_Q, H_KV, D_IDX = 2, 12, 4, 2, 6
MSA = MSAConfig(block_size=2, n_selected=2, d_index=D_IDX)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def supports():
    """The two supports of training: whole causal rows, and the tokens of selected blocks."""
    whole = causal_support(N, N, H_KV).expand(B, N, H_KV, N)
    index = token_scores(draw(B, N, H_KV, D_IDX, seed=1), draw(B, N, D_IDX, seed=2))
    chosen = select_blocks(block_max(index, 2).float(), n_selected=2, block_size=2)
    return {"whole": whole, "selected": block_sparse_mask(chosen, N, 2)}


@pytest.mark.parametrize("phase", ["whole", "selected"])
def test_teacher_is_normalised_over_its_support_alone(phase):
    support = supports()[phase]
    teacher = teacher_probabilities(draw(B, N, H_Q, N), support)
    torch.testing.assert_close(teacher.sum(-1), torch.ones(B, N, H_KV, dtype=torch.float64))
    assert teacher[~support].abs().max() == 0
    assert teacher[support].min() > 0


def test_teacher_averages_probabilities_and_not_scores():
    scores = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # two heads, each sure of another token
    everything = torch.ones(1, 1, 2, dtype=torch.bool)
    torch.testing.assert_close(
        teacher_probabilities(scores, everything), torch.tensor([[[0.5, 0.5]]])
    )
    scores = torch.tensor([[[9.0, -9.0], [0.0, 0.0]]])
    p = teacher_probabilities(scores, everything)[0, 0, 0]
    assert p == pytest.approx((1 + 0.5) / 2, abs=1e-6)  # the mean score would give 0.9999


def test_teacher_ignores_what_lies_outside_the_support():
    support, scores = supports()["selected"], draw(B, N, H_Q, N)
    outside = (~support).repeat_interleave(H_Q // H_KV, 2)
    want = teacher_probabilities(scores, support)
    for value in (100.0, -math.inf):
        torch.testing.assert_close(
            teacher_probabilities(scores.masked_fill(outside, value), support), want
        )


@pytest.mark.parametrize("phase", ["whole", "selected"])
def test_gradient_on_index_scores_is_the_difference_of_probabilities(phase):
    support = supports()[phase]
    teacher = teacher_probabilities(draw(B, N, H_Q, N), support)
    scores = draw(B, N, H_KV, N, seed=3).requires_grad_()
    index_kl(scores, teacher, support).backward()
    student = scores.detach().masked_fill(~support, -math.inf).softmax(-1)
    torch.testing.assert_close(scores.grad, (student - teacher) / (B * N * H_KV))
    assert scores.grad[~support].abs().max() == 0  # what is not selected is not corrected


def test_kl_is_the_divergence_from_teacher_to_index():
    support = supports()["whole"]
    teacher = teacher_probabilities(draw(B, N, H_Q, N), support)
    scores = draw(B, N, H_KV, N, seed=3)
    student = scores.masked_fill(~support, -math.inf).softmax(-1)
    want = torch.distributions.kl_divergence(
        torch.distributions.Categorical(teacher), torch.distributions.Categorical(student)
    ).mean()
    torch.testing.assert_close(index_kl(scores, teacher, support), want)
    log_teacher = teacher.clamp(min=1e-300).log()
    assert abs(index_kl(log_teacher, student, support) - want) > 1e-3  # not symmetric


def test_an_index_with_the_teachers_scores_has_no_loss():
    """One head per group: then the teacher is a softmax, which the index can match."""
    support, scores = supports()["selected"], draw(B, N, H_KV, N)
    assert index_kl(scores, teacher_probabilities(scores, support), support) == pytest.approx(
        0, abs=1e-12
    )


def test_kl_sends_nothing_into_the_main_scores():
    support = supports()["selected"]
    main = draw(B, N, H_Q, N).requires_grad_()
    index = draw(B, N, H_KV, N, seed=3).requires_grad_()
    index_kl(index, teacher_probabilities(main, support), support).backward()
    assert main.grad is None
    assert index.grad.abs().max() > 0


def test_rows_without_support_add_nothing_and_no_nan():
    support = supports()["selected"].clone()
    support[:, 3] = False
    teacher = teacher_probabilities(draw(B, N, H_Q, N), support)
    scores = draw(B, N, H_KV, N, seed=3).requires_grad_()
    loss = index_kl(scores, teacher, support)
    loss.backward()
    assert teacher[:, 3].abs().max() == 0
    assert loss.isfinite()
    assert scores.grad.isfinite().all()
    assert scores.grad[:, 3].abs().max() == 0


def test_half_precision_scores_are_compared_in_single():
    support, scores = supports()["whole"], draw(B, N, H_Q, N)
    teacher = teacher_probabilities(scores.half(), support)
    assert teacher.dtype == torch.float32
    torch.testing.assert_close(
        teacher.double(), teacher_probabilities(scores, support), atol=2e-3, rtol=0
    )


def test_heads_that_form_no_groups_are_refused():
    with pytest.raises(ValueError, match="3 query heads do not form 2 equal groups"):
        teacher_probabilities(draw(B, N, 3, N), supports()["whole"])


def test_agreement_of_the_best_selection_is_complete():
    teacher = teacher_probabilities(draw(B, N, H_Q, N), supports()["whole"])
    mass = teacher.unflatten(-1, (-1, 2)).sum(-1)
    future = ~causal_mask(N, N)[:, None, ::2]
    best = select_blocks(mass.float().masked_fill(future, -math.inf), n_selected=2, block_size=2)
    found = agreement(teacher, best, MSA)
    ones = torch.ones(B, N, H_KV)
    torch.testing.assert_close(found.block_recall, ones)
    torch.testing.assert_close(found.score_recall, found.mass_captured)
    held = (teacher * block_sparse_mask(best, N, 2)).sum(-1)
    torch.testing.assert_close(found.mass_captured, held)

    worst = torch.full_like(best, -1)
    worst[..., 0] = (torch.arange(N) // 2)[:, None]  # the local block alone
    poor = agreement(teacher, worst, MSA)
    choose = choosing(N, N, MSA)
    assert (poor.block_recall[:, choose] == 0.5).all()  # the local block is always among the best
    assert (poor.mass_captured <= found.mass_captured + 1e-12).all()
    torch.testing.assert_close(poor.score_recall, poor.mass_captured)


def test_entropy_of_a_flat_teacher_is_the_log_of_what_it_sees():
    teacher = teacher_probabilities(torch.zeros(1, N, H_Q, N), supports()["whole"][:1])
    idx = torch.zeros(1, N, H_KV, 2, dtype=torch.int32)
    want = torch.arange(1, N + 1).float().log()[None, :, None].expand(1, N, H_KV)
    torch.testing.assert_close(agreement(teacher, idx, MSA).teacher_entropy, want)


def test_choosing_starts_where_a_block_must_be_left_out():
    assert choosing(N, N, MSA).tolist() == [i >= 4 for i in range(N)]  # 2 blocks of 2 tokens
    assert choosing(3, N, MSA).tolist() == [True] * 3
    visible = causal_mask(N, N)[:, ::2].sum(-1)
    assert torch.equal(choosing(N, N, MSA), visible > 2)


def test_group_mean_equals_a_loop_over_heads():
    support, scores = supports()["selected"], draw(B, N, H_Q, N)
    grouped = group_queries(scores, H_KV)
    heads = [
        grouped[:, :, :, g].masked_fill(~support, -math.inf).softmax(-1) for g in range(H_Q // H_KV)
    ]
    torch.testing.assert_close(teacher_probabilities(scores, support), sum(heads) / len(heads))
