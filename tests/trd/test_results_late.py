"""The task with a plan: a text and its target, who knows the plan, and how it is shown."""

import pytest

from intuitive.trd.config import setting_config
from intuitive.trd.experiments import results_late
from intuitive.trd.experiments.results_late import LateParams, planned
from intuitive.trd.results import methods
from intuitive.trd.sums import Problem, parse_trace
from intuitive.widgets.trd import results_late as widget
from intuitive.widgets.trd.results_late_scene import HIGH, Picture

SUMS = setting_config("late").sums


# ---- what the steps claim


def the_target_is_missed_though_every_addition_is_right(seen):
    at = next(s for s in seen.sentences if s.startswith("The last total"))
    assert at.endswith("missed by 2. No addition was wrong; the plan was, sixteen tokens before.")
    assert sum(s.endswith("A right addition.") for s in seen.sentences) == 8


def the_right_plan_meets_it_and_nothing_on_the_way_tells(seen):
    at = next(s for s in seen.sentences if s.startswith("The last total"))
    assert at.endswith("met.")
    assert sum(s.endswith("A right addition.") for s in seen.sentences) == 8


def who_saw_more_than_the_problem_knows_the_plan(seen):
    alone, text, solution = (s for s in seen.sentences if s.startswith("A teacher that has seen"))
    assert "gives the right plan 0.60" in alone
    assert "gives the right plan 1.00" in text and "gives the right plan 1.00" in solution


def fresh_texts_do_not_help_trd(seen):
    assert seen.number("right, TRD") == 91 and seen.number("teacher tokens") == 885_000
    once = methods("late").row("trd")
    assert seen.number("right, TRD") < 100 * once.accuracy.low


def fresh_texts_help_opsd_for_fewer_tokens(seen):
    assert seen.readouts["right, OPSD reverse"] == "over 99%"
    assert seen.number("teacher tokens") == 381_000 < 0.5 * 885_000
    once = methods("late").row("opsd_reverse")
    assert round(100 * once.accuracy.estimate) == 96


STEPS = (
    the_target_is_missed_though_every_addition_is_right,
    the_right_plan_meets_it_and_nothing_on_the_way_tells,
    who_saw_more_than_the_problem_knows_the_plan,
    fresh_texts_do_not_help_trd,
    fresh_texts_help_opsd_for_fewer_tokens,
)


# ---- what is computed


@pytest.mark.parametrize("plan", range(9))
def test_a_text_misses_its_target_by_as_much_as_its_plan_is_off(plan):
    one = planned(plan, 0, "exact")
    assert one.missed_by == plan - one.right_plan
    ids = {SUMS.name(token): token for token in range(SUMS.vocab_size)}
    trace = parse_trace(
        [ids[token] for token in one.tokens], Problem(digits=one.digits, config=SUMS)
    )
    assert trace.plan == plan and trace.well_formed
    assert trace.first_error == (None if plan == one.right_plan else 0)
    assert one.totals == (plan, *trace.totals)
    assert trace.correct == (plan == one.right_plan)


def test_the_teacher_guesses_from_the_problem_and_knows_after_the_text():
    one = planned(3, 0, "exact")
    assert one.from_x[one.right_plan] == pytest.approx(0.6, abs=1e-3)
    assert sum(one.from_x) == pytest.approx(1, abs=2e-3)
    for seen in (one.from_text, one.from_solution):
        assert seen[one.right_plan] > 0.99 and max(range(9), key=seen.__getitem__) == 5


def test_the_default_text_fails_by_its_plan_alone():
    one = planned(LateParams().plan, LateParams().problem, "exact")
    assert one.plan != one.right_plan and one.missed_by == -2


def test_settings_are_checked():
    with pytest.raises(ValueError, match="plan=9"):
        LateParams(plan=9)
    with pytest.raises(ValueError, match="teacher='nobody' must be one of"):
        LateParams(teacher="nobody")


# ---- what is shown


def test_the_target_stands_from_the_first_frame_and_outcomes_in_the_last_alone():
    timeline = Picture(results_late.run(LateParams())).timeline()
    for frame in timeline.frames:
        assert frame.scene["target"].label == "target: 17"
        told = {mark.key for mark in frame.scene.marks if mark.key.startswith("outcome:")}
        values = {readout.value for readout in frame.readouts}
        if frame is timeline.frames[-1]:
            assert "outcome:trd" in told and "95%" in values
        else:
            assert told == set() and values == {"?"}
    labels = [frame.label for frame in timeline.frames]
    assert labels[0] == "problem" and labels[-4:] == ["x", "text", "solution", "outcome"]
    assert timeline.start == 0


def test_what_a_step_compares_with_stands_in_the_picture():
    def told(method, rounds):
        late = results_late.run(LateParams(method=method, rounds=rounds))
        scene = Picture(late).timeline().frames[-1].scene
        return {mark.key: getattr(mark, "text", "") for mark in scene.marks}

    once, anew, opsd = told("trd", 1), told("trd", 8), told("opsd_reverse", 8)
    columns = ("right", "tokens")
    assert [anew[f"outcome:trd:{name}"] for name in columns] == ["91%", "885k"]
    assert [opsd[f"outcome:trd:{name}"] for name in columns] == ["91%", "885k"]
    assert [opsd[f"outcome:opsd_reverse:{name}"] for name in columns] == [">99%", "381k"]
    for name in columns:  # what was drawn once, beside it
        assert anew[f"once:trd:{name}"] == once[f"outcome:trd:{name}"] != ""
        assert (
            opsd[f"once:opsd_reverse:{name}"]
            == told("opsd_reverse", 1)[f"outcome:opsd_reverse:{name}"]
        )
    assert not any(key.startswith("once:") for key in once)
    assert once["outcome:sft_teacher"] == "SFT on y_T"
    assert once["outcome:sft_teacher:right"] == "50%"


def test_bars_are_as_tall_as_the_plans_are_likely():
    late = results_late.run(LateParams())
    scene = Picture(late).timeline().frames[-1].scene
    for what, offered in (("x", late.planned.from_x), ("text", late.planned.from_text)):
        tall = [scene[f"bar:{what}:{plan}"].h for plan in range(9)]
        assert tall[5] == pytest.approx(HIGH * offered[5]) and tall[5] == max(tall)
        assert scene[f"bar:{what}:5"].fill == "green"
        assert scene[f"bar:{what}:3"].fill == "vermilion"


def test_the_summary_says_whether_the_target_is_met():
    explorer = widget.explorer()
    assert "plan 3 misses its target 17 by 2" in explorer.summary
    explorer.set(plan=5)
    assert explorer.wait() and "plan 5 meets its target 17" in explorer.summary
    explorer.set(method="trd_any_order", teacher="learned")
    assert explorer.wait() and "was not measured" in explorer.status["text"]
    explorer.close()


def test_the_prediction_is_answered_from_the_committed_table():
    right, words = widget.PREDICT.answer()
    assert right == 1 and "58%, TRD to 95%" in words
