"""The road of one attempt: what is said and charged along it, and how it is drawn."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from intuitive.trd import attempts, trained
from intuitive.trd.config import setting_config
from intuitive.trd.experiments import trajectory
from intuitive.trd.experiments.trajectory import TrajectoryParams
from intuitive.trd.sums import Problem, SumsConfig, read
from intuitive.trd.teacher import ExactTeacher, TeacherConfig
from intuitive.trd.trained import WEIGHTS
from intuitive.widgets.kit import Rectangle, Words
from intuitive.widgets.trd import trajectory as widget
from intuitive.widgets.trd import trajectory_scene as scene

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "small.safetensors").is_file() or not (WEIGHTS / "late.safetensors").is_file(),
    reason="no weights",
)
pytestmark = needs_weights
LATE = {"setting": "late", "step": 0, "written": 0}
SETTINGS = (
    {},
    {"step": 1, "written": 0},
    {"step": 4, "written": 5, "teacher": "exact"},
    {"written": 1},
    {"repair": 0.0},
    {"repair": 1.0},
    {"teacher": "learned"},
    {"problem": 7, "divergence": "reverse_kl"},
    LATE,
    {"setting": "late", "step": 1, "written": 22},
    {"setting": "late", "step": 8, "written": 3, "teacher": "learned"},
)


def run(**settings):
    return trajectory.run(TrajectoryParams(**settings))


def shown(along="opd", look=0, yours=None, **settings):
    setting = widget.RoadSetting.of(along=along, look=look, **settings)
    return widget.present(widget.walk(setting, yours=yours))


# ------------------------------------------------------------------------------ what is computed


def test_what_is_written_stands_there_and_the_rest_follows_from_it():
    for step, written in ((1, 0), (2, 3), (3, 5), (4, 6)):
        found = run(step=step, written=written)
        totals = [int(token) for token in found.y_o.tokens[1:8:2]]
        assert totals[step - 1] == written
        before = 0
        for k, (index, total) in enumerate(zip(found.order, totals, strict=True), start=1):
            follows = total == (before + found.digits[index]) % 7
            assert follows == (k != step or written == found.right)
            before = total
    assert found.digits == (3, 5, 2, 6)  # whatever is written, the problem stays


def test_the_loss_at_the_error_is_no_more_than_at_a_right_total():
    """KL compares distributions: what was drawn does not enter it."""
    for seed in (0, 1, 2):
        wrong, right = run(seed=seed), run(written=1, seed=seed)
        error = wrong.y_o.first_error
        assert error == 3 and right.y_o.first_error is None
        assert wrong.y_o.nats[error] == pytest.approx(right.y_o.nats[error], abs=1e-6)
        assert max(wrong.y_o.nats[: error + 1]) < 0.3 < 3 < wrong.y_o.nats[wrong.onset_at]


def test_charges_are_the_sum_of_their_terms_and_distributions_sum_to_one():
    for settings in SETTINGS[:3]:
        found = run(**settings)
        for path in (found.y_o, found.y_r):
            for nats, terms in zip(path.nats, path.terms, strict=True):
                assert sum(terms) == pytest.approx(nats, abs=1e-5)
            for split in path.teacher + path.student:
                assert split.wait + split.expected + split.rest == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("teacher", ["exact", "follows", "learned"])
def test_signs_stand_where_the_teacher_says_wait(teacher):
    found = run(teacher=teacher)
    waits = found.y_o.wait_mass
    assert found.onset_at == 4
    signs = [place for place, wait in enumerate(waits) if wait > 0.02]
    assert signs == [4, 6, 8]
    assert all(waits[place] == pytest.approx(0.3, abs=0.05) for place in signs)
    assert max(found.y_r.wait_mass) < 0.01 and found.y_r.correct


def test_the_following_program_differs_from_the_other_in_the_order_alone():
    """It is the exact teacher told the student's order, and not the plan."""
    follows, exact = run(**LATE), run(**LATE, teacher="exact")
    assert follows.y_o.wait_mass == pytest.approx(exact.y_o.wait_mass, abs=1e-6)
    assert follows.y_o.teacher[0] == exact.y_o.teacher[0]  # 0.6 on the right plan
    assert follows.y_o.teacher[0].expected == pytest.approx(0.6, abs=0.01)
    index = slice(1, 16, 2)
    assert sum(s.expected for s in follows.y_o.teacher[index]) > 7.9
    assert sum(s.expected for s in exact.y_o.teacher[index]) < 4


WRITTEN = [("small", step, 3) for step in (1, 2, 3, 4)] + [("late", 0, 0), ("late", 5, 1)]


@pytest.mark.parametrize(("setting", "step", "written"), WRITTEN)
def test_a_program_s_texts_and_logits_are_those_of_the_exact_teacher(setting, step, written):
    """Rewrite, way back, and what it says with each kind of knowledge."""
    given = attempts.attempt(setting, 0, step, written)
    sums = setting_config(setting).sums
    sharp = ExactTeacher(sums=sums, config=TeacherConfig(smoothing=0.0, repair=1.0))
    generator = torch.Generator().manual_seed(0)
    y_r = sharp.refine(given.digits, given.y_o, generator=generator).y_r
    assert y_r[0].tolist() == given.faultless[0, : y_r.shape[1]].tolist()

    found = run(setting=setting, step=step, written=written, teacher="exact")
    told = sharp.context(given.digits, drafts=given.faultless)
    told = dataclasses.replace(told, plan_known=told.plan_known & False)
    at = found.onset_at
    state = read(sums, told, torch.cat([given.y_o[:, :at], torch.tensor([[sums.wait]])], dim=1))
    rest, _ = sharp.write(state, sums.trace_length, lambda p: p.argmax(-1))
    way_back = [sums.name(token) for token in rest[0].tolist()]
    assert [rung.target for rung in found.ladder] == ["WAIT", *way_back]

    program = trained.named_teacher("exact", setting, 0.3)
    said = trajectory._program_says(setting, 0.3, given)
    n, faultless = said.logits["y_o", "x"].shape[0], given.faultless
    drafts = {"drafts": given.y_o}
    for key, tokens, more in (
        (("y_o", "x"), given.y_o, {}),
        (("y_r", "x"), faultless, {}),
        (("y_r", "refine"), faultless, drafts),
    ):
        want = program.logits(given.digits, tokens, **more)[0, :n]
        torch.testing.assert_close(said.logits[key], want)
    if not sums.plan:  # without a plan a draft tells the order and no more
        want = program.logits(given.digits, given.y_o, **drafts)[0, :n]
        torch.testing.assert_close(said.logits["y_o", "order"], want)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_the_ladder_goes_on_to_the_end_of_the_repair(step):
    """WAIT, then every step from the wrong one on, ANS, the answer, EOS; right at its end."""
    found = run(step=step, written=3)
    assert len(found.ladder) == 1 + 2 * (4 - step + 1) + 3
    last = found.ladder[-1]
    assert last.target == "EOS" and last.context[-1] == str(found.target)
    assert [rung.shared for rung in found.ladder] == [True] + [False] * (len(found.ladder) - 1)
    ended = [rung for rung in found.ladder if not rung.opd_target]
    assert len(ended) == len(found.ladder) - (len(found.y_o.tokens) - found.onset_at)


def test_a_pair_is_supplied_by_context_and_target():
    """λ = 0: the first contexts are one, but the teacher goes on there."""
    first = run(repair=0.0).ladder[0]
    assert first.context == first.opd_context == () and first.target == "WAIT" != first.opd_target
    assert not first.shared and run(repair=0.1).ladder[0].shared
    assert not any("WAIT" in rung.opd_context for rung in run(repair=1.0).ladder)


def test_step_boundaries_alone_ask_for_the_onset():
    ladder = run(repair=0.6, step=1, written=2).ladder
    assert [rung.onset_mass > 0.5 for rung in ladder] == [rung.boundary for rung in ladder]
    assert sum(rung.boundary for rung in ladder) > 1


def test_the_error_token_s_own_pair_is_a_good_one():
    """The right road's pairs up to and with the error stand on y_o too: its target is right."""
    assert run().n_right_supplied == 4
    assert run(written=1).n_right_supplied == 11
    assert run(**LATE).n_right_supplied == 1


@pytest.mark.parametrize("problem", range(4))
def test_late_a_plan_alone_fails_and_the_target_tells(problem):
    right = run(setting="late", step=0, written=0, problem=problem).right
    found = run(setting="late", step=0, written=right + 1, problem=problem)
    assert found.y_o.marks[0] == "wrong" and "wrong" not in found.y_o.marks[1:]
    assert found.onset_at == 1 + 2 * 8 and max(found.y_o.wait_mass[:17]) < 1e-3
    assert found.y_o.answer != found.target == found.y_r.answer
    assert len(found.ladder) == 21 and found.ladder[1].target == str(found.right)


def test_settings_say_what_they_take():
    assert TrajectoryParams(written=10).written == 3  # modulo 7
    assert TrajectoryParams(step=0).step == 1  # the small task has no plan
    assert TrajectoryParams(setting="late", step=0, written=13).written == 4
    for change, message in (
        ({"teacher": "kl"}, "teacher='kl' must be one of follows, exact, learned"),
        ({"divergence": "kl"}, "divergence='kl' must be one of forward_kl"),
        ({"context": "y"}, "context='y' must be 'refine' or 'x'"),
        ({"repair": 1.5}, r"repair=1.5 must lie in \[0, 1\]"),
        ({"problem": 20}, "problem=20 must be below 20"),
    ):
        with pytest.raises(ValueError, match=message):
            TrajectoryParams(**change)
    with pytest.raises(ValueError, match=r"seed=99 must lie in \[0, \d+\): so many first"):
        run(seed=99)


def test_marks_read_a_trace_that_takes_steps_back():
    """2 + 3 + 1: a wrong total, WAIT, the right one; what stands again is no error."""
    sums = SumsConfig(n_digits=3, modulus=7)
    problem = Problem(digits=(2, 3, 1), config=sums)
    i, wait, ans, eos = sums.first_index, sums.wait, sums.ans, sums.eos
    y_o = [i, 2, i + 1, 6, i + 2, 0, ans, 0, eos]
    trace = [i, 2, i + 1, 6, wait, i + 1, 5, i + 2, 6, ans, 6, eos]
    marks = attempts.marks_of(trace, y_o, problem)
    assert marks == ("kept", "kept", "kept", "wrong", "", "kept", "fixed", "kept", "fixed", "",
                     "fixed", "")  # fmt: skip
    own = attempts.marks_of(y_o, y_o, problem)
    assert own == ("kept", "kept", "kept", "wrong", "kept", "follows", "", "follows", "")


def test_kept_results_serve_callers_of_any_mode():
    for kept in (trajectory._seen, trajectory.first_student, trained.shipped):
        kept.cache_clear()
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        first = run(written=5)
    assert not trained.shipped("small").students.weights.is_inference()
    trajectory._seen.cache_clear()
    assert run(written=5) == first
    assert torch.equal(state, torch.random.get_rng_state())  # nothing drawn from torch's own


# ------------------------------------------------------------------------------ the hero


def boxes(picture):
    """(text, left, top, right, bottom) of every text of a scene, 0.56 em for a character."""
    found = []
    for mark in picture.marks:
        if isinstance(mark, Words):
            text, anchor, x, y = mark.text, mark.anchor, mark.x, mark.y
        elif mark.label:
            assert isinstance(mark, Rectangle)
            text, anchor = mark.label, "middle"
            x, y = mark.x + mark.w / 2, mark.y + mark.h / 2 + 0.35 * mark.size
        else:
            continue
        wide = 0.56 * mark.size * len(text)
        left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        found.append((text, left, y - 0.75 * mark.size, left + wide, y + 0.2 * mark.size))
    return [box for box in found if box[0]]


REWRITES = {
    "opd": None,
    "trd": None,
    "trd, same": lambda attempt, error, teacher: attempt,
    "trd, long": lambda attempt, error, teacher: [*attempt[:-1], "WAIT", "WAIT", "WAIT", "EOS"],
    "trd, fails": lambda attempt, error, teacher: 1 / 0,
}


@pytest.mark.parametrize("kind", REWRITES)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_no_text_lies_over_another_or_leaves_the_scene(settings, kind):
    view = shown(kind[:3], yours=REWRITES[kind], **settings)
    for frame in view.timeline.frames:
        seen = boxes(frame.scene)
        tiles = [m for m in frame.scene.marks if isinstance(m, Rectangle) and m.label]
        words = [box for box in seen if box[0] not in {tile.label for tile in tiles}]
        for text, left, top, right, bottom in words:
            for tile in tiles:
                across = left < tile.x + tile.w and tile.x < right
                assert not (across and top < tile.y + tile.h and tile.y < bottom), (
                    f"{frame.label}: {text!r} over the tile {tile.key}"
                )
        for i, (text, left, top, right, bottom) in enumerate(seen):
            assert left >= 0 and top >= 0, text
            assert right <= frame.scene.width and bottom <= frame.scene.height, text
            for other, left2, top2, right2, bottom2 in seen[:i]:
                across = left < right2 and left2 < right
                assert not (across and top < bottom2 and top2 < bottom), (
                    f"{frame.label}: {text!r} over {other!r}"
                )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_road_is_walked_token_by_token_and_then_counted(settings):
    found, view = run(**settings), shown(**settings)
    frames = view.timeline.frames
    n = len(found.y_o.tokens)
    assert len(frames) == n + 2 and frames[-1].label == "pairs"
    for walked, frame in enumerate(frames[:-1]):
        assert [frame.scene[f"y_o:{i}"].label for i in range(n)] == list(found.y_o.tokens)
        costs = [m.key for m in frame.scene.marks if m.key.startswith("loss:y_o:")]
        assert costs == [f"loss:y_o:{i}" for i in range(walked)]  # no loss before it is walked
        assert frame.readouts[0].value == "?" and "pairs of the" not in frame.sentence
    assert all(len(frame.sentence) <= 150 for frame in frames)


def test_bars_are_the_distributions_and_numbers_the_losses():
    found, picture = run(), shown().timeline.frames[-1].scene
    for i, (teacher, student) in enumerate(zip(found.y_o.teacher, found.y_o.student, strict=True)):
        for row, split in enumerate((teacher, student)):
            bar = picture[f"bar:y_o:{i}:{row}:expected"]
            assert bar.w == pytest.approx(54 * split.expected)
        assert picture[f"loss:y_o:{i}"].text == f"{found.y_o.nats[i]:.2f}"
    for i in (4, 6, 8):
        assert picture[f"sign's value:{i}:0"].text == "0.30"
        assert picture[f"bar:y_o:{i}:0:wait"].w == pytest.approx(54 * 0.3, abs=0.1)


def test_only_the_count_lights_a_pair_and_no_road_is_lit_that_nobody_walks():
    *before, last = shown().timeline.frames
    tiles = [last.scene[f"back:{slot}"] for slot in range(4, 14)]
    assert [tile.fill for tile in tiles] == ["green"] + ["page"] * 9
    for frame in before:
        lit = [m for m in frame.scene.marks if m.key.startswith("back:") and m.fill == "green"]
        assert not lit
    none = shown(repair=0.0).timeline.frames[-1].scene
    assert not any(m.key.startswith(("board", "post")) for m in none.marks)
    assert all(none[f"back:{slot}"].fill == "page" for slot in range(4, 14))


def test_the_way_back_lies_slot_under_slot_with_the_road():
    picture = shown().timeline.frames[-1].scene
    for slot in range(4, 11):
        assert picture[f"back:{slot}"].x == picture[f"y_o:{slot}"].x == picture[f"y_r:{slot}"].x


def test_the_rewrite_is_paved_where_the_way_back_lay():
    view = shown("trd")
    for walked, frame in enumerate(view.timeline.frames[:-1]):
        solid = [m for m in frame.scene.marks if m.key.startswith("y_r:") and m.width > 1]
        assert len(solid) == walked
        assert not any(m.key.startswith(("back:", "board:")) for m in frame.scene.marks)
    last = view.timeline.frames[-1]
    changed = [i for i in range(11) if last.scene[f"y_r:{i}"].fill == "green"]
    assert changed == [3, 5, 7, 9] and last.readouts[0].value == "11 of 11"
    assert {"y_r:3", "bar:y_r:3:0:expected", "loss:y_r:3"} <= {m.key for m in last.scene.marks}


def test_a_click_writes_another_number_and_the_problem_stays():
    explorer = widget.explorer()
    up = explorer.view.timeline.frames[0].scene["up:5"]
    digits = explorer.result.result.digits
    explorer.set(**up.click)
    assert explorer.wait() and explorer.status["state"] == "done", explorer.status
    found = explorer.result.result
    assert found.y_o.tokens[5] == str(explorer.values["written"]) and found.y_o.first_error == 5
    assert found.digits == digits
    token = explorer.view.timeline.frames[-1].scene["y_o:6"]
    explorer.set(**token.click)
    assert explorer.wait()
    assert explorer.view.timeline.frames[-1].scene["open"].text == "token 7: #0"
    assert explorer.view.timeline.frames[-1].scene["y_o:6"].click == {"look": 0}
    explorer.close()


def test_every_token_has_its_sum_and_the_unwalked_ones_say_why_not():
    view = shown()
    assert "0.30 ln(0.30/" in view.arithmetic["y_o:4"].text
    assert view.arithmetic["y_o:4"].text.endswith(f"{run().y_o.nats[4]:.2f} nats")
    assert "the drawn 3" in view.arithmetic["y_o:3"].text
    assert "A million attempts" in view.arithmetic["pair:3"].text
    assert set(shown("trd").arithmetic) == {f"y_r:{i}" for i in range(11)}
    for frame in view.timeline.frames:
        for mark in frame.scene.marks:
            assert "−0.00" not in getattr(mark, "text", "") + mark.label


def test_moving_λ_or_the_divergence_runs_no_network_again(monkeypatch):
    explorer = widget.explorer()
    monkeypatch.setattr(trajectory, "_seen", None)
    explorer.set(look=3)
    assert explorer.wait() and explorer.status["state"] == "error"
    monkeypatch.undo()
    monkeypatch.setattr(trajectory, "response_logits", None)
    for move in ({"divergence": "jensen_shannon"}, {"beta": 0.2}, {"context": "x"}, {"look": 5}):
        explorer.set(**move)
        assert explorer.wait() and explorer.status["state"] == "done", explorer.status
    explorer.close()


def test_your_rewrite_is_drawn_beside_the_package_s_and_faults_are_told():
    def right(attempt, error, teacher):
        kept = attempt[:error]
        while not kept or kept[-1] != "EOS":
            kept.append(teacher(kept))
        return kept

    def forgetful(attempt, error, teacher):
        return attempt

    view = shown("trd", yours=right)
    picture = view.timeline.frames[-1].scene
    assert "Your rewrite is the package's, token by token." in view.summary
    assert [picture[f"own:{i}"].fill for i in range(11)] == ["page"] * 11
    view = shown("trd", yours=forgetful)
    assert "has 3 as token 4; the package writes 1" in view.summary
    assert view.timeline.frames[-1].scene["own:3"].fill == "vermilion"
    view = shown("trd", yours=lambda *_: 1 / 0)
    assert "cannot be drawn: it raised ZeroDivisionError: division by zero" in view.summary
    assert any(
        "cannot be drawn" in getattr(m, "text", "") for m in view.timeline.frames[0].scene.marks
    )
    assert widget.explorer(yours=right).values["along"] == "trd"


def test_an_inserted_token_alone_is_marked_in_a_rewrite_and_its_name_stays():
    """13 tokens: what stands after the two that were put in is compared with where it belongs."""
    want = run().y_r.tokens
    view = shown("trd", yours=lambda *_: [*want[:4], "WAIT", "WAIT", *want[4:]])
    picture = view.timeline.frames[-1].scene
    odd = [i for i in range(13) if picture[f"own:{i}"].fill == "vermilion"]
    assert odd == [4, 5]
    assert "there token 5" in picture["own:6"].words and "not in" in picture["own:4"].words
    name = picture["own's name"]
    assert name.text.startswith("Your rewrite has WAIT as token 5") and name.x < 20


def test_later_signs_say_that_they_are_no_pair_of_the_way_back():
    *before, last = shown().timeline.frames
    assert last.scene["later signs"].text.endswith("no new pair")
    assert "The later 2 signs ask for WAIT again, after another text" in last.sentence
    assert not any(m.key == "later signs" for frame in before for m in frame.scene.marks)
    told = [("another text" in last.scene[f"board:{i}"].words) for i in (4, 6, 8)]
    assert told == [False, True, True]
    assert not any(m.key == "later signs" for m in shown(step=4).timeline.frames[-1].scene.marks)


def test_the_road_opens_before_a_loss_is_told():
    view = shown()
    first = view.timeline.frames[view.timeline.start]
    assert {r.value for r in first.readouts} == {"?"} and view.timeline.start == 0
    assert not any(m.key.startswith(("loss:", "board:")) for m in first.scene.marks)


@pytest.mark.parametrize("settings", [{}, LATE, {"setting": "late", "step": 1, "written": 22}])
def test_the_fork_keeps_clear_of_the_losses(settings):
    """It comes down between two tokens, and turns only below the numbers."""
    picture = shown(**settings).timeline.frames[-1].scene
    down, across = picture["fork"].d.split("V")[:2]
    x, low = float(down[1:].split(",")[0]), float(across.split("H")[0])
    losses = [mark for mark in picture.marks if mark.key.startswith("loss:y_o:")]
    assert all(mark.y + 0.2 * mark.size < low for mark in losses)
    assert min(abs(mark.x - x) for mark in losses) > 20


def test_every_token_stands_once_in_the_comparison_under_its_mark():
    found, figure = run(), go.Figure(shown().figure("diff"))
    places = [(x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)]
    paths = (found.y_o, found.y_r, found.y_t)
    assert len(places) == len(set(places)) == sum(len(path.tokens) for path in paths)
    wrong = next(trace for trace in figure.data if trace.name == "wrong (struck)")
    assert list(wrong.x) == [found.y_o.first_error] and list(wrong.y) == [0]


def test_sums_in_tex_escape_what_tex_reads_as_its_own():
    for settings in SETTINGS:
        for along in widget.ALONG:
            for line in shown(along, **settings).arithmetic.values():
                assert "#" not in line.tex.replace(r"\#", "") and "%" not in line.tex
                assert line.tex.count("{") == line.tex.count("}")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_the_lesson_explains_holds_for_every_student(seed):
    """The rewrite is cheaper to write than the attempt, the teacher's own solution the dearest; an
    order of the teacher's own costs something before the error too; losses sit at the signs."""
    for step, written in ((1, 0), (2, 3), (3, 5)):
        found = run(seed=seed, step=step, written=written)
        assert found.y_r.mean_nll < found.y_o.mean_nll
        assert found.y_r.mean_nll < found.y_t.mean_nll
        signs = [i for i, wait in enumerate(found.y_o.wait_mass) if wait > 0.02]
        rest = [nats for i, nats in enumerate(found.y_o.nats) if i not in signs]
        assert min(found.y_o.nats[i] for i in signs) > 10 * max(rest)
    assert run(seed=seed).y_o.mean_nll < run(seed=seed).y_t.mean_nll
    assert run(seed=seed, teacher="exact").y_o.nats[0] > 1 > 5 * run(seed=seed).y_o.nats[0]


def test_the_prediction_is_answered_by_computing():
    right, words = widget.PREDICT.answer()
    assert widget.PREDICT.choices[right] == "only the first one" and "1 of 10" in words


def test_timelines_are_small_on_the_wire():
    for settings in ({}, LATE):
        for along in widget.ALONG:
            explorer = widget.explorer(along=along, **settings)
            assert len(explorer.picture) < 120_000
            explorer.close()


# ------------------------------------------------------------------------------ the steps


def a_step_takes_a_digit_and_writes_the_total(seen):
    assert seen.values["written"] == 1
    assert seen.sentences[2].startswith("0 + 6 = 6 modulo 7: the running total")
    assert "answers 2: right" in seen.summary and seen.number("loss here") < 0.3


def the_wrong_token_costs_little_and_the_signs_much(seen):
    assert "stands 3 in the place of 1" in seen.summary
    error, sign = seen.sentences[4], seen.sentences[5]
    assert error.startswith("3 is wrong, 1 is right. Loss 0.1")
    assert sign.startswith("A sign: the teacher says WAIT with 0.30")
    assert seen.number("loss here") > 4


def insisting_grows_the_losses_and_not_the_count(seen):
    assert seen.number("teacher's WAIT here") > 0.99 and seen.number("loss here") > 15
    assert seen.readouts["pairs of the way back supplied"] == "1 of 10"


def along_the_rewrite_there_is_no_sign(seen):
    assert seen.readouts["pairs of the rewrite supplied"] == "11 of 11"
    assert seen.number("teacher's WAIT here") < 0.01 and seen.number("loss here") < 0.3
    assert not any("sign" in sentence for sentence in seen.sentences)


def late_the_first_sign_stands_before_the_answer(seen):
    assert "At the plan stands 0" in seen.summary and "target 8 is missed" in seen.summary
    signs = [i for i, sentence in enumerate(seen.sentences) if sentence.startswith("A sign")]
    assert signs == [18]  # ANS, after the plan and eight steps
    assert seen.readouts["pairs of the way back supplied"] == "1 of 21"


STEPS = (
    a_step_takes_a_digit_and_writes_the_total,
    the_wrong_token_costs_little_and_the_signs_much,
    insisting_grows_the_losses_and_not_the_count,
    along_the_rewrite_there_is_no_sign,
    late_the_first_sign_stands_before_the_answer,
)


def test_sentences_and_settings_survive_as_text():
    params = TrajectoryParams(step=3, written=6, teacher="exact")
    assert TrajectoryParams.from_text(params.to_text()) == params
    assert dataclasses.asdict(params)["written"] == 6
    assert scene.COUNTED == "pairs"


def test_no_global_switch_changes_the_picture():
    """Gradients off, inference mode, numpy that raises, float64 as torch's default."""
    want = widget.explorer()

    def same():
        for kept in (trajectory._seen, trajectory.first_student, attempts.attempt):
            kept.cache_clear()
        explorer = widget.explorer()
        assert explorer.status["state"] == "done", explorer.status
        assert explorer.picture == want.picture and explorer.summary == want.summary
        explorer.close()

    with torch.no_grad():
        same()
    with torch.inference_mode():
        same()
    with np.errstate(all="raise"):
        same()
    torch.set_default_dtype(torch.float64)
    try:
        same()
    finally:
        torch.set_default_dtype(torch.float32)
        want.close()
