"""Items are what they claim to be, and measures are means over them; SmolLM2 once."""

import itertools
import math
import re

import pytest
import torch

from intuitive.common.runtime import Cancelled
from intuitive.trd.real_text import (
    CONTEXTS,
    KINDS,
    RealTextParams,
    Trajectory,
    follow,
    make_items,
    measure,
    onset_ids,
    prompt,
    summarise,
)

PARAMS = RealTextParams(n_items=40, n_kept=2)


def sums_of(lines) -> list[tuple[int, int, int]]:
    """(before, change, said) of every line but the answer."""
    found = []
    for line in lines[:-1]:
        before, sign, size, said = re.search(r"(\d+) ([+-]) (\d+) = (\d+)\.\n$", line).groups()
        found.append((int(before), int(sign + size), int(said)))
    return found


def test_right_solutions_are_right_and_wrong_ones_wrong_once():
    for item in make_items(PARAMS):
        for name, lines in (("right", item.right), ("wrong", item.wrong)):
            steps = sums_of(lines)
            assert len(steps) == PARAMS.n_steps
            errors = [i for i, (a, change, said) in enumerate(steps) if a + change != said]
            assert errors == ([] if name == "right" else [item.error_line])
            for (_, _, said), (before, _, _) in itertools.pairwise(steps):
                assert before == said  # it carries on from what it wrote
            assert lines[-1] == f"The answer is {steps[-1][2]}.\n"
        changes = [change for _, change, _ in sums_of(item.right)]
        numbers = [int(n) for n in re.findall(r"\d+", item.problem)]
        assert numbers[1:] == [abs(change) for change in changes]
        assert item.error_line < PARAMS.n_steps - 1


def test_items_are_of_both_kinds_and_repeatable():
    items = make_items(PARAMS)
    assert [item.kind for item in items[:4]] == list(KINDS) * 2
    assert make_items(PARAMS) == items != make_items(RealTextParams(n_items=40, seed=1))
    computed = items[0].problem.removeprefix("Compute ").removesuffix(".")
    assert eval(computed) == sums_of(items[0].right)[-1][2]


def test_prompts_show_the_attempt_in_one_context_alone():
    item = make_items(PARAMS)[1]
    plain, refine = (prompt(item, c, attempt=item.wrong) for c in CONTEXTS)
    assert "".join(item.wrong) in refine and item.wrong[0] not in plain
    assert item.problem in plain and item.problem in refine
    with pytest.raises(ValueError, match="refine needs attempt="):
        prompt(item, "refine")
    with pytest.raises(ValueError, match="context='short' must be one of plain, refine"):
        prompt(item, "short")


def made_up(item, mass_after_error: float, nll: float) -> Trajectory:
    """Two tokens per line; onset mass at the starts of lines after the error."""
    lines = [line for line in range(len(item.right)) for _ in range(2)]
    first = [place % 2 == 0 for place in range(len(lines))]
    mass = [
        mass_after_error if start and line > item.error_line else 0.0
        for line, start in zip(lines, first, strict=True)
    ]
    return Trajectory(
        tokens=("x",) * len(lines),
        nll=(nll,) * len(lines),
        onset_mass=tuple(mass),
        entropy=(0.0,) * len(lines),
        lines=tuple(lines),
        first=tuple(first),
        likeliest=("x",) * len(lines),
    )


def test_summary_finds_a_second_mode_where_there_is_one():
    items = make_items(PARAMS)
    read = [
        {
            ("right", "plain"): made_up(item, 0.0, 1.0),
            ("wrong", "plain"): made_up(item, 0.25, 2.0),
            ("right", "refine"): made_up(item, 0.0, 0.5),
            ("wrong", "refine"): made_up(item, 0.0, 2.0),
        }
        for item in items
    ]
    found = summarise(PARAMS, items, read, ("Wait",))
    for kind in ("all", *KINDS):
        assert found.onset_difference[kind].mean == pytest.approx(0.25)
        wrong = found.onset_by_delay[kind]["wrong"]
        assert wrong["-1"].mean == 0.0 and wrong["0"].mean == pytest.approx(0.25)
    assert found.onset_by_delay["all"]["wrong"]["0"].n == 40
    assert found.surprise["right|refine"].mean == pytest.approx(0.5)
    assert found.perplexity_gap["right"].mean == pytest.approx(math.e - math.exp(0.5))
    assert found.perplexity_gap["wrong"].low == found.perplexity_gap["wrong"].high == 0.0
    assert found.surprise_at_error["wrong"].mean == pytest.approx(4.0)
    assert found.error_preferred.mean == 0.0
    assert len(found.kept) == 2 and found.largest_onset == 0.25


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="n_items=1 must be at least 2, n_steps=4 at least 3"):
        RealTextParams(n_items=1)


@pytest.mark.model
@torch.inference_mode()
def test_following_two_solutions_is_reading_each_anew():
    from intuitive.common.smollm import load_smollm2

    model = load_smollm2()
    item = make_items(RealTextParams(n_items=2, n_steps=3, n_kept=0))[0]
    onsets, text = onset_ids(model), prompt(item, "plain")
    assert {"Wait", "Actually", "However"} <= set(onsets.values())
    right, wrong = follow(model, text, (item.right, item.wrong), list(onsets))
    assert "".join(wrong.tokens) == "".join(item.wrong)
    given = model.tokenizer.encode(text)
    ids = [i for line in item.wrong for i in model.tokenizer.encode(line)]
    p = model.decoder(torch.tensor([given + ids]))[0, len(given) - 1 : -1].softmax(-1)
    nll = -p[torch.arange(len(ids)), torch.tensor(ids)].log()
    torch.testing.assert_close(torch.tensor(wrong.nll), nll, atol=1e-3, rtol=1e-3)
    mass = p[:, list(onsets)].sum(-1)
    torch.testing.assert_close(torch.tensor(wrong.onset_mass), mass, atol=1e-4, rtol=1e-3)
    assert right.nll != wrong.nll
    with pytest.raises(Cancelled):
        measure(model, RealTextParams(), stale=lambda: True)
    with pytest.raises(ValueError, match="at least one line"):
        follow(model, text, ((),), list(onsets))
