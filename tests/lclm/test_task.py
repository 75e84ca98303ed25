"""The synthetic tasks: what stands where, what is asked, and what a guess gets right."""

import dataclasses
import itertools

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.lclm import task
from intuitive.lclm.splice import NOT_TRAINED
from intuitive.lclm.task import Examples, RecallTask, ReconstructionTask, TextTask

# ---------------------------------------------------------------------------------------- recall


@pytest.mark.parametrize("n_records", [1, 2, 4, 8])
def test_every_answer_is_the_value_behind_its_key(n_records):
    of = RecallTask(n_records=n_records)
    drawn = of.draw(3, 5, generator=seeded(0))
    assert drawn.spans.shape == (3, 5, 32) and drawn.raw.shape == (3, 5, 16)
    assert (drawn.targets[..., 0] == NOT_TRAINED).all()  # the closing tag is asked nothing
    for span, keys, values in zip(
        drawn.spans.flatten(0, 1), drawn.raw.flatten(0, 1), drawn.targets.flatten(0, 1), strict=True
    ):
        assert int((span > 0).sum()) == 2 * n_records
        for key, value in zip(keys.tolist(), values[1:].tolist(), strict=True):
            (at,) = (span == key).nonzero().flatten().tolist()
            assert at % of.spacing == 0 and span[at + 1] == value


def test_questions_are_independent_so_answers_do_not_shrink_the_pool():
    """Elimination would make repeats rare: 16 questions about 4 records repeat all the time."""
    drawn = RecallTask().draw(2000, generator=seeded(1))
    same = (drawn.raw[:, 1:] == drawn.raw[:, :-1]).float().mean()
    assert abs(float(same) - 1 / 4) < 0.01


@pytest.mark.parametrize(("n", "v"), [(1, 3), (3, 2), (4, 3), (2, 5), (5, 2)])
def test_the_guess_is_what_counting_all_outcomes_gives(n, v):
    counts = [max(map(draw.count, draw)) for draw in itertools.product(range(v), repeat=n)]
    assert task.most_frequent_share(n, v) == pytest.approx(sum(counts) / len(counts) / n)


def test_the_guess_of_the_recipe_is_its_no_binding_line():
    assert RecallTask().no_binding == pytest.approx(0.41, abs=0.005)
    drawn = RecallTask().draw(4000, generator=seeded(2))
    answers = drawn.targets[:, 1:]
    known = drawn.spans[:, 1::8]
    most = known.mode(-1).values  # of the values in the context, whatever their keys
    assert float((answers == most[:, None]).float().mean()) == pytest.approx(0.412, abs=0.01)


def test_records_per_latent_follow_the_spacing():
    of = RecallTask()
    assert [of.records_per_latent(n) for n in (1, 4, 8, 16, 32)] == [1, 1, 1, 2, 4]


def test_the_same_seed_draws_the_same():
    for of in (RecallTask(), ReconstructionTask()):
        a, b = (of.draw(4, generator=seeded(3)) for _ in range(2))
        assert all(torch.equal(x, y) for x, y in zip(a.tensors(), b.tensors(), strict=True))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_records": 17}, "exceeds n_keys=16"),
        ({"n_records": 3}, "multiple of n_records=3"),
        ({"n_records": 16, "context": 16}, "need 32 tokens"),
        ({"questions": 0}, "questions=0"),
    ],
)
def test_recall_refuses_what_does_not_fit(fields, words):
    with pytest.raises(ValueError, match=words):
        RecallTask(**fields)


# -------------------------------------------------------------------------- reconstruction, bytes


def test_reconstruction_says_the_span_again_from_the_closing_tag_on():
    drawn = ReconstructionTask().draw(6, generator=seeded(0))
    assert torch.equal(drawn.targets, drawn.spans)  # the tag says the first, its token the second
    assert torch.equal(drawn.raw, drawn.spans[:, :-1])
    assert ReconstructionTask().chance == 1 / 16
    assert ReconstructionTask().bits_per_latent(8) == 32


def test_text_is_said_again_or_continued():
    data = torch.arange(1000) % 251
    of = TextTask(context=16, continued=8)
    again = of.draw(data, 5, reconstruct=True, generator=seeded(0))
    assert (again.raw[:, 0] == task.AGAIN).all() and torch.equal(again.targets[:, 1:], again.spans)
    on = of.draw(data, 5, reconstruct=False, generator=seeded(0))
    assert (on.raw[:, 0] == task.GO_ON).all() and on.targets.shape == (5, 9)
    assert torch.equal(on.targets[:, 1], (on.spans[:, -1] + 1) % 251)  # what follows the span
    assert torch.equal(on.raw[:, 1:], on.targets[:, 1:-1])
    assert max(again.raw.max(), on.raw.max()) < of.vocabulary
    with pytest.raises(ValueError, match=r"20 bytes, one piece needs 24"):
        of.draw(data[:20], 1, reconstruct=True, generator=seeded(0))


def test_rows_of_several_kinds_share_a_batch():
    data, of = torch.arange(1000) % 251, TextTask(context=16, continued=8)
    parts = [of.draw(data, 2, 3, reconstruct=again, generator=seeded(0)) for again in (True, False)]
    both = task.joined(parts)
    assert both.raw.shape == (2, 6, 16) and both.targets.shape == (2, 6, 17)
    assert torch.equal(both.targets[:, 3:, :9], parts[1].targets)
    assert (both.targets[:, 3:, 9:] == NOT_TRAINED).all()
    longer = dataclasses.replace(parts[0], spans=parts[0].spans[..., :8])
    with pytest.raises(ValueError, match=r"lengths \[8, 16\]"):
        task.joined([parts[0], longer])


def test_examples_of_one_step():
    drawn = ReconstructionTask().draw(3, 2, generator=seeded(0))
    one = drawn.step(1)
    assert isinstance(one, Examples) and torch.equal(one.spans, drawn.spans[1])
