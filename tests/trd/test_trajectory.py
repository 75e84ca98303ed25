"""One failed rollout, its rewrite and the ladder: facts of the shipped ones, pictures of others."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.trd import trained
from intuitive.trd.config import setting_config
from intuitive.trd.experiments import trajectory
from intuitive.trd.experiments.trajectory import TrajectoryParams
from intuitive.trd.sums import verify
from intuitive.trd.trained import WEIGHTS
from intuitive.widgets.trd import trajectory as widget
from intuitive.widgets.trd import trajectory_figures as figures

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "small.safetensors").is_file(), reason="no weights of the small setting"
)


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def follow(**changed):
    setting = trajectory.RolloutSetting.of(**{"error": 2, "which": 1, "delay": 0, **changed})
    return trajectory.follow(setting)


@needs_weights
def test_along_a_failed_rollout():
    found = trajectory.run(TrajectoryParams())
    assert not found.y_o.correct and found.y_r.correct
    assert found.y_o.marks[found.y_o.first_error] == "wrong"
    assert found.onset_at == found.y_o.first_error + 1
    assert found.y_o.wait_mass[found.onset_at] == pytest.approx(0.3, abs=2e-3)
    assert max(found.y_r.wait_mass) < 1e-3
    for path in (found.y_o, found.y_r, found.y_t):
        assert len(path.tokens) == len(path.marks) == len(path.nll)
        assert path.mean_nll == pytest.approx(sum(path.nll) / len(path.nll), rel=1e-4)
    assert len(found.y_o.nats) == len(found.y_o.tokens)
    assert "fixed" in found.y_r.marks and "moved" not in found.y_r.marks  # the order is kept


@pytest.mark.skipif(
    not (WEIGHTS / "late.safetensors").is_file(), reason="no weights of the late setting"
)
def test_an_error_in_the_plan_is_answered_before_the_answer_alone():
    """In the late setting no total shows a wrong plan, so the teacher waits until all stand."""
    failed = trajectory.failed_rollouts("late", 0)
    item = int((failed.first_error == 0).nonzero()[0])
    found = trajectory.run(TrajectoryParams(setting="late", item=item, repair=0.5))
    assert found.y_o.marks[0] == "wrong" and found.onset_at == 1 + 2 * 8
    assert max(found.y_o.wait_mass[: found.onset_at]) < 1e-3
    assert found.y_o.wait_mass[found.onset_at] == pytest.approx(0.5, abs=2e-3)
    assert [rung.target for rung in found.ladder[:1]] == ["WAIT"] and found.ladder[0].shared


@needs_weights
def test_failed_rollouts_are_failures_that_can_be_followed():
    failed = trajectory.failed_rollouts("small", 1)
    sums = setting_config("small").sums
    found = verify(sums, failed.digits, failed.y_o)
    assert found.well_formed.all() and not found.correct.any() and not found.n_waits.any()
    assert torch.equal(found.first_error, failed.first_error) and len(failed.y_o) > 1
    assert (failed.first_error >= 0).all()
    with pytest.raises(ValueError, match=r"seed=99 must lie in \[0, \d+\): so many first"):
        trajectory.failed_rollouts("small", 99)


@needs_weights
def test_only_the_first_rung_of_the_ladder_is_shared():
    ladder = trajectory.run(TrajectoryParams(repair=0.6)).ladder
    assert ladder[0].target == "WAIT" and ladder[0].context == ()
    assert [rung.shared for rung in ladder] == [True] + [False] * (len(ladder) - 1)
    assert ladder[0].opd_target == "WAIT"  # λ above a half: the onset again and again
    again = [rung for rung in ladder if rung.onset_mass > 0.5]
    assert all(rung.opd_target == "WAIT" for rung in again)


@needs_weights
def test_scoring_from_x_changes_the_charge_not_the_path():
    refine, x = (trajectory.run(TrajectoryParams(context=context)) for context in ("refine", "x"))
    assert refine.y_r.tokens == x.y_r.tokens and refine.y_r.nats != x.y_r.nats
    with pytest.raises(ValueError, match="item=10000 must be below"):
        trajectory.run(TrajectoryParams(item=10_000))
    with pytest.raises(ValueError, match="context='y' must be 'refine' or 'x'"):
        TrajectoryParams(context="y")
    with pytest.raises(ValueError, match="divergence='kl' must be one of forward_kl"):
        TrajectoryParams(divergence="kl")


@pytest.mark.usefixtures("stand_ins")
def test_a_rollout_is_found_by_the_place_of_its_error():
    for error, alike in ((2, 3), (4, 2)):
        found = follow(error=error)
        first = found.result.y_o.first_error
        assert first == 2 * (error - 1) + 1 and found.n_alike == alike
        assert found.place == found.result.onset_at == first + 1
    assert follow(error=2, which=9).setting.which == 3
    assert follow(error=1).setting.error == 2  # no rollout fails at step 1: the nearest
    assert follow(error=2, delay=1).place == follow(error=2).place + 2
    assert follow(error=4, delay=7).setting.delay == 0  # no boundary is left


@pytest.mark.usefixtures("stand_ins")
def test_losses_are_drawn_at_their_tokens_with_the_error_marked():
    found = follow(error=2, delay=1)
    figure = go.Figure(figures.loss_figure(found.result, found.place, "forward KL"))
    for trace, path in zip(figure.data, (found.result.y_o, found.result.y_r), strict=True):
        np.testing.assert_allclose(trace.y, path.nats)
    assert list(figure.layout.xaxis.ticktext) == list(found.result.y_o.tokens)
    lines = {shape.x0 for shape in figure.layout.shapes}
    assert lines == {found.place, found.result.y_o.first_error}


@pytest.mark.usefixtures("stand_ins")
def test_the_first_rung_alone_is_lit_and_no_context_of_opd_holds_a_wait():
    found = follow(error=2)
    figure = go.Figure(figures.ladder_figure(found.result, found.place))
    fills = [shape.fillcolor for shape in figure.layout.shapes]
    lit = [fill for fill in fills if fill.endswith("0.5)")]
    assert len(lit) == 2 and len(fills) == 2 * len(found.result.ladder)
    assert figures.shared_rungs(found.result.ladder) == 1
    said = [note.text for note in figure.layout.annotations]
    assert "c → <b>WAIT</b>" in said and any("<b>WAIT</b> 0.30, else" in text for text in said)
    assert not any("WAIT" in rung.opd_context for rung in found.result.ladder)


@pytest.mark.usefixtures("stand_ins")
def test_every_token_stands_once_in_the_comparison_under_its_mark():
    found = follow(error=2).result
    figure = go.Figure(figures.diff_figure(found))
    places = [(x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)]
    paths = (found.y_o, found.y_r, found.y_t)
    assert len(places) == len(set(places)) == sum(len(path.tokens) for path in paths)
    wrong = named(figure, "wrong (struck)")
    assert list(wrong.x) == [found.y_o.first_error] and list(wrong.y) == [0]
    assert wrong.text[0] == f"<s>{found.y_o.tokens[found.y_o.first_error]}</s>"
    for path, label in zip(paths, figure.layout.yaxis.ticktext, strict=True):
        assert f"NLL {path.mean_nll:.2f}" in label


@pytest.mark.usefixtures("stand_ins")
def test_another_delay_charge_or_context_draws_and_scores_nothing_again(monkeypatch):
    explorer = widget.explorer()
    monkeypatch.setattr(trajectory, "response_logits", None)
    monkeypatch.setattr(trajectory, "named_teacher", None)
    for move in ({"delay": 1}, {"divergence": "jensen_shannon"}, {"beta": 0.2}, {"context": "x"}):
        before = explorer.summary
        explorer.set(**move)
        assert explorer.wait() and explorer.status["state"] == "done", explorer.status
        assert explorer.summary != before
    explorer.close()


@pytest.mark.usefixtures("stand_ins")
def test_a_wrong_plan_is_looked_at_where_it_shows():
    found = follow(setting="late", error=0)
    view = widget.present_along(found)
    assert found.place == found.result.onset_at == 1 + 2 * 8 and found.n_delays == 1
    assert "goes wrong at the plan" in view.summary and "–" not in view.summary
    assert "Once all steps stand the teacher says WAIT with 0.30" in view.summary
    assert view.bounds["error"] == (0, 2) and view.bounds["delay"] == (0, 0)
    wrong = named(go.Figure(view.figure("diff")), "wrong (struck)")
    assert list(wrong.x) == [0] and list(wrong.y) == [0]
    rest = follow(setting="late", error=2)
    assert rest.place == 5 and "Right after it" in widget.present_along(rest).summary


@needs_weights
@pytest.mark.parametrize("error", [1, 2, 4])
def test_the_ladder_goes_on_to_the_end_of_the_repair(error):
    """WAIT, then every step from the wrong one on, ANS, the answer, EOS; right at its end."""
    found = trajectory.follow(trajectory.RolloutSetting.of(error=error, which=1, delay=0)).result
    k = len(found.digits)
    assert len(found.ladder) == 1 + 2 * (k - error + 1) + 3
    last = found.ladder[-1]
    assert last.target == "EOS" and last.context[-1] == str(sum(found.digits) % 7)
    ended = [rung for rung in found.ladder if not rung.opd_target]
    assert len(ended) == len(found.ladder) - (len(found.y_o.tokens) - found.onset_at)
    assert not any(rung.shared or rung.onset_mass for rung in ended)


@needs_weights
def test_without_a_repair_in_the_teacher_no_pair_is_supplied():
    """λ = 0: the first contexts are one, but the teacher goes on there."""
    first = trajectory.run(TrajectoryParams(repair=0.0)).ladder[0]
    assert first.context == first.opd_context == () and first.target == "WAIT" != first.opd_target
    assert not first.shared
    assert trajectory.run(TrajectoryParams(repair=0.1)).ladder[0].shared


@needs_weights
def test_step_boundaries_alone_ask_for_the_onset():
    for params in (TrajectoryParams(repair=0.6), TrajectoryParams(repair=0.6, item=3)):
        ladder = trajectory.run(params).ladder
        assert [rung.onset_mass > 0.5 for rung in ladder] == [rung.boundary for rung in ladder]
        assert sum(rung.boundary for rung in ladder) > 1


@needs_weights
def test_every_number_that_is_not_what_it_should_be_is_marked_so():
    """An error's consequences and a wrong answer too; y_r marks the same cells as fixed."""
    found = trajectory.run(TrajectoryParams())
    y_o, y_r = found.y_o, found.y_r
    total, index = 0, None
    for place, token in enumerate(y_o.tokens):
        if token.startswith("#"):
            index = int(token[1:])
        elif token.isdigit():
            if index is not None:
                total, index = (total + found.digits[index]) % 7, None
            assert (y_o.marks[place] in ("wrong", "follows")) == (int(token) != total)
            assert (y_r.marks[place] == "fixed") == (y_r.tokens[place] != token)
    assert y_o.marks[-2] == "follows" and y_r.marks[-2] == "fixed"


def test_marks_read_a_trace_that_takes_steps_back():
    """2 + 3 + 1: a wrong total, WAIT, the right one; what stands again is no error."""
    sums = trajectory.SumsConfig(n_digits=3, modulus=7)
    problem = trajectory.Problem(digits=(2, 3, 1), config=sums)
    i, wait, ans, eos = sums.first_index, sums.wait, sums.ans, sums.eos
    y_o = [i, 2, i + 1, 6, i + 2, 0, ans, 0, eos]
    trace = [i, 2, i + 1, 6, wait, i + 1, 5, i + 2, 6, ans, 6, eos]
    marks = trajectory._marks(trace, y_o, problem)
    assert marks == ("kept", "kept", "kept", "wrong", "", "kept", "fixed", "kept", "fixed", "",
                     "fixed", "")  # fmt: skip
    own = trajectory._marks(y_o, y_o, problem)
    assert own == ("kept", "kept", "kept", "wrong", "kept", "follows", "", "follows", "")


@needs_weights
def test_kept_rollouts_serve_callers_of_any_mode():
    for kept in (trajectory.failed_rollouts, trajectory._seen, trained.shipped):
        kept.cache_clear()
    with torch.inference_mode():
        first = trajectory.run(TrajectoryParams(item=1))
    assert not trained.shipped("small").students.weights.is_inference()
    state = torch.random.get_rng_state()
    trajectory._seen.cache_clear()
    trajectory.failed_rollouts.cache_clear()
    assert trajectory.run(TrajectoryParams(item=1)) == first
    assert torch.equal(state, torch.random.get_rng_state())  # nothing drawn from torch's own


@needs_weights
def test_the_prediction_is_answered_by_computing():
    right, words = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "the first one only" and "the 10 pairs" in words
