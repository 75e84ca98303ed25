"""The exercise: a right function passes, each fault is found, and a choice is replayed."""

import pytest
import torch
from recordings import draw_recording

from intuitive.lsa.arms import Policy, replay
from intuitive.lsa.exercise import check_choose, replay_choose

POLICY = Policy(lookahead=8, tail_chunks=2)


def solution(logits, most):
    joined = [max(column) for column in zip(*logits, strict=True)]
    above = sorted((c for c, z in enumerate(joined) if z > 0), key=lambda c: (-joined[c], c))
    return sorted(above[:most])


def by(join, logits, most):
    """The chunks that qualify, but the best of them by another joining of the layers."""
    columns = list(zip(*logits, strict=True))
    above = [c for c in range(len(columns)) if max(columns[c]) > 0]
    return sorted(sorted(above, key=lambda c: (-join(columns[c]), c))[:most])


def test_a_right_function_passes_everything():
    report = check_choose(solution)
    assert report.n_passed == len(report.checks) == 5


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (lambda z, m: [c for c in solution(z, m) if z[0][c] > 0], "one layer"),
        (lambda z, m: [c for c, col in enumerate(zip(*z, strict=True)) if max(col) >= 0], "half"),
        (lambda z, m: list(range(len(z[0])))[:m], "not there"),
        (lambda z, m: solution(z, 99), "At most"),
        (lambda z, m: by(sum, z, m), "greatest logit of any layer"),
        (lambda z, m: by(min, z, m), "greatest logit of any layer"),
    ],
)
def test_each_fault_is_found(wrong, rule):
    failed = [check.rule for check in check_choose(wrong).checks if not check.passed]
    assert any(rule in text for text in failed)


def test_an_unfinished_function_is_told_once():
    def unfinished(logits, most):
        return None

    report = check_choose(unfinished)
    assert report.n_passed == 0
    assert sum("returned None" in check.finding for check in report.checks) == 1
    assert "returned None" in repr(replay_choose(unfinished, draw_recording(), policy=POLICY))


def test_a_right_function_does_what_the_package_does():
    recording = draw_recording(share=0.15)
    found = replay_choose(solution, recording, most=3, policy=POLICY)
    assert torch.equal(found.yours.resident, found.package.resident)
    assert 0 < found.package.kept < 1
    assert found.newest.kept == found.package.kept
    assert "yours" in repr(found) and "the newest" in repr(found)


def test_without_a_limit_it_is_the_threshold_arm():
    recording = draw_recording(share=0.15)
    arm = replay(recording, POLICY)
    found = replay_choose(solution, recording, most=recording.n_chunks, policy=POLICY)
    assert torch.equal(found.package.resident, arm.resident)
    assert found.package.golden_recall == arm.golden_recall


def test_choosing_nothing_finds_nothing_and_too_much_is_refused():
    recording = draw_recording(share=0.15)
    nothing = replay_choose(lambda z, m: [], recording, policy=POLICY)
    assert nothing.yours.golden_recall == 0 and nothing.yours.kept == 0
    greedy = replay_choose(lambda z, m: range(len(z[0])), recording, most=3, policy=POLICY)
    assert greedy.yours is None and "at most 3" in repr(greedy)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ([0.5], r"choose returned [0.5]; return a list of chunk ids"),
        ("all", "choose returned 'all'; return a list of chunk ids"),
        (3, "choose returned 3; return a list of chunk ids"),
        ([-1], "chunk -1 was chosen at step 0; ids go from 0 to"),
        ([99_999], "chunk 99999 was chosen at step 0; ids go from 0 to"),
        ([0, 0], "chunk 0 was chosen twice at step 0"),
        ([0, 1, 2, 3, 4], "5 chunks were chosen at step 0; choose at most 4"),
    ],
)
def test_a_silly_answer_is_refused_with_its_value_and_the_rule(returned, told):
    found = replay_choose(lambda z, m: returned, draw_recording(), most=4, policy=POLICY)
    assert found.yours is None and told in repr(found)


def test_a_chunk_that_is_there_anyhow_is_refused():
    def missing(logits, most):
        return [max(c for c, column in enumerate(zip(*logits, strict=True)) if max(column) < -1e9)]

    told = repr(replay_choose(missing, draw_recording(), most=4, policy=POLICY))
    assert "where its logits are -inf: it is resident anyhow or not written yet" in told


def test_the_checks_name_what_is_no_list_of_ids():
    for returned in ([0.5], "all"):
        findings = [c.finding for c in check_choose(lambda z, m, r=returned: r).checks]
        assert all(f"choose returned {returned!r}; return" in told for told in findings)
