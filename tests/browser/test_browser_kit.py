"""What the kit promises of every explorer, on one that needs no model, in JupyterLab."""

import re

import pytest
from browsing import cells_and_place, drag, value_of
from kit_example import N_SCORES, SLOW_S, ShareParams, run
from lab import ExplorerOnPage, Notebook, browser_page
from playwright.sync_api import expect

from intuitive.common.runtime import never
from intuitive.common.training import silent
from intuitive.widgets.kit import percent

pytestmark = pytest.mark.browser

START, ASKED, EXAMPLE, TWICE, AGAIN, QUESTION, BUSY, CENSUS, SLOW, STOPPED = range(10)
TRIES = 3  # a busy machine may spoil one
MOVED = 1.0  # units of the scene: less is rounding


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium) as page:
        page.sent = []  # messages that the page sends to the kernel
        page.on(
            "websocket",
            lambda socket: socket.on("framesent", lambda frame: page.sent.append(frame)),
        )
        yield page


@pytest.fixture(scope="module")
def notebook(page, lab_url):
    notebook = Notebook(page, lab_url, "kit.ipynb")
    for cell in (START, ASKED, EXAMPLE, TWICE, AGAIN, QUESTION):
        notebook.run(cell)
    return notebook


@pytest.fixture
def example(notebook) -> ExplorerOnPage:
    """The example at its defaults, in sight."""
    explorer = notebook.explorer("kit_example")
    notebook.scroll_to_cell(EXAMPLE)
    reset = explorer.root.locator("[data-reset]")
    if reset.is_enabled():
        reset.click()
        explorer.settled({"spread": 2, "n_kept": 4, "hurry": "quick"})
    explorer.root.locator(".intuitive-chip", has_text="cut").click()
    notebook.page.wait_for_timeout(300)
    return explorer


def heights(explorer: ExplorerOnPage) -> dict[str, float]:
    """y of the discs as drawn, in the scene's units."""
    return explorer.root.evaluate(
        """root => {
            const marks = [...root.querySelectorAll(".mark[data-kind=circle]")];
            const height = mark => Number(mark.getAttribute("transform").match(/,(.*)\\)/)[1]);
            return Object.fromEntries(marks.map(mark => [mark.dataset.key, height(mark)]));
        }"""
    )


def heights_on_the_way(explorer: ExplorerOnPage, key: str, control: str, value) -> list[float]:
    """y of a disc in every picture from a slider's move until it stands still."""
    return explorer.root.evaluate(
        """async (root, [key, control, value]) => {
            const at = () => Number(root.querySelector(`[data-key=${key}]`)
                .getAttribute("transform").match(/,(.*)\\)/)[1]);
            const seen = [at()];
            const slider = root.querySelector(`[data-control=${control}]`);
            slider.value = value;
            slider.dispatchEvent(new Event("input", {bubbles: true}));
            const start = performance.now();
            let moved = Infinity;
            while (performance.now() - start < 5000 && performance.now() - moved < 500) {
                await new Promise(requestAnimationFrame);
                const now = at();
                if (now === seen.at(-1)) continue;
                if (seen.length === 1) moved = performance.now();
                seen.push(now);
            }
            return seen;
        }""",
        [key, control, value],
    )


def lit_rings(explorer: ExplorerOnPage) -> int:
    return explorer.root.locator("[data-plot=all] + .intuitive-rings span").count()


def mark(explorer: ExplorerOnPage, index: int):
    return explorer.root.locator(f'.mark[data-key="score{index}"]')


# ------------------------------------------------------------------------------------- motion


def test_a_mark_passes_between_its_two_places(example):
    seen = heights_on_the_way(example, "score0", "spread", 8)
    assert abs(seen[-1] - seen[0]) > 10 * MOVED
    low, high = sorted((seen[0], seen[-1]))
    between = [y for y in seen if low + MOVED < y < high - MOVED]
    assert len(between) >= 2, seen
    assert all(low - MOVED <= y <= high + MOVED for y in seen)
    assert between == sorted(between, reverse=seen[0] > seen[-1])


def test_reduced_motion_places_at_once(example, page):
    page.emulate_media(reduced_motion="reduce")
    try:
        seen = heights_on_the_way(example, "score0", "spread", 8)
    finally:
        page.emulate_media(reduced_motion="no-preference")
    assert len(seen) == 2 and abs(seen[1] - seen[0]) > 10 * MOVED


def test_play_and_scrub_move_the_picture_without_python(example, page):
    stages = example.root.locator(".intuitive-chip")
    scrubber = example.root.locator(".intuitive-player input")
    expect(scrubber).to_have_value("2")
    page.wait_for_timeout(300)
    page.sent.clear()
    pictures = [heights(example)]
    example.root.get_by_role("button", name="Play", exact=True).click()  # from the first on
    expect(stages.nth(0)).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(400)
    pictures.append(heights(example))
    expect(stages.nth(2)).to_have_attribute("aria-pressed", "true", timeout=10_000)
    expect(example.root.locator(".intuitive-said")).to_have_text("Now the cut.")
    scrubber.focus()
    for key in ("ArrowLeft", "Home"):
        page.keyboard.press(key)
        page.wait_for_timeout(400)
        pictures.append(heights(example))
    assert pictures[0] != pictures[1] and pictures[2] != pictures[3] == pictures[1]
    assert [frame for frame in page.sent if "comm_msg" in str(frame)] == []
    example.set("n_kept", 5)
    assert [frame for frame in page.sent if "comm_msg" in str(frame)]  # so such messages are seen


def test_a_frame_lays_its_shapes_over_the_plot_in_the_colour_of_the_page(example, page):
    example.root.get_by_role("tab", name="Weights").click()
    shapes = """root => {
        const plot = root.querySelector("[data-plot=weights]");
        const page = getComputedStyle(plot).getPropertyValue("--jp-layout-color0").trim();
        return [(plot.layout?.shapes ?? []).map(s => [s.x0, s.fillcolor === page]),
            plot.data?.length];
    }"""
    for index, chip in enumerate(example.root.locator(".intuitive-chip").all()):
        chip.click()
        page.wait_for_function(
            f"root => JSON.stringify(({shapes})(root)) === '[[[{index},true]],1]'",
            arg=example.root.element_handle(),
            timeout=10_000,
        )
    example.root.get_by_role("tab", name="Scores").click()


# ------------------------------------------------------------------------------------- links


def test_hover_lights_the_same_thing_everywhere(example, page):
    said = example.root.locator(".intuitive-said")
    token = example.root.locator('.intuitive-tokens [data-index="0"]')
    readout = example.root.locator('.intuitive-readouts [data-link="token:0"]')
    assert lit_rings(example) == 0
    mark(example, 0).hover()
    expect(said).to_contain_text("Score 0 is")
    for part in (mark(example, 0), token, readout):
        expect(part).to_have_class(re.compile(r"\blit\b|intuitive-lit"))
    assert lit_rings(example) == 1
    page.mouse.move(1, 1)
    expect(said).to_have_text("Now the cut.")
    expect(token).not_to_have_class(re.compile("intuitive-lit"))
    expect(readout).not_to_have_class(re.compile("intuitive-lit"))
    assert lit_rings(example) == 0
    readout.hover()
    expect(mark(example, 0)).to_have_class(re.compile(r"\blit\b"))
    page.mouse.move(1, 1)


def test_arrow_keys_walk_and_a_click_opens_the_arithmetic(example, page):
    said = example.root.locator(".intuitive-said")
    line = example.root.locator(".intuitive-arithmetic")
    place = cells_and_place(page)
    expect(line).to_be_hidden()
    example.root.locator("svg[role=application]").focus()
    page.keyboard.press("Home")
    expect(said).to_contain_text("Score 0 is")
    page.keyboard.press("ArrowRight")
    expect(said).not_to_contain_text("Score 0 is")
    walked = re.search(r"Score (\d+) is", said.inner_text()).group(1)
    expect(mark(example, int(walked))).to_have_class(re.compile(r"\blit\b"))
    page.keyboard.press("Enter")
    expect(line).to_be_visible()
    expect(line.locator("math")).to_be_visible()
    page.keyboard.press("Escape")
    expect(line).to_be_hidden()
    mark(example, 3).click()
    expect(line.locator("math")).to_contain_text("3")
    expect(line.get_by_role("button", name="Copy TeX")).to_be_visible()
    example.root.locator("svg[role=application]").click(position={"x": 3, "y": 3})
    expect(line).to_be_hidden()
    assert cells_and_place(page) == place
    page.mouse.move(1, 1)


# ------------------------------------------------------------------------------------- verdicts


def answer(explorer: ExplorerOnPage, choice: str) -> None:
    again = explorer.root.get_by_role("button", name="Predict again")
    if again.is_visible():
        again.click()
    expect(explorer.root).to_have_attribute("data-locked", "true")
    explorer.root.get_by_role("button", name=choice, exact=True).click()
    expect(explorer.root).to_have_attribute("data-locked", "false")


def test_a_prediction_gets_its_verdict(notebook, page):
    explorer = notebook.explorer("kit_asked", unlock=False)
    body, verdict = (explorer.root.locator(f".intuitive-{part}") for part in ("body", "verdict"))
    reset = explorer.root.locator("[data-reset]")
    why = "The four largest of twelve hold about half."
    for choice, said, state in (
        ("about half", f"You said “about half”, and so it is. {why}", "right"),
        ("nearly all", f"You said “nearly all”; it is “about half”. {why}", "wrong"),
        ("Skip", why, "told"),
    ):
        if state == "right":
            expect(body).to_be_hidden()
            expect(reset).to_be_hidden()
        answer(explorer, choice)
        expect(verdict).to_have_text(said)
        expect(verdict).to_have_attribute("data-verdict", state)
        expect(body).to_be_visible()
    explorer.settled()


def test_a_prediction_unlocks_on_the_page_before_python_answers(notebook):
    explorer = notebook.explorer("kit_asked", unlock=False)
    answer(explorer, "Skip")  # all that follows happens in one task of the page
    locked = explorer.root.evaluate(
        """root => {
            const press = text => [...root.querySelectorAll(".intuitive-predict button")]
                .find(button => button.textContent === text).click();
            press("Predict again");
            const before = root.dataset.locked;
            press("nearly all");
            return [before, root.dataset.locked];
        }"""
    )
    assert locked == ["true", "false"]
    expect(explorer.root.locator(".intuitive-verdict")).to_contain_text("You said “nearly all”;")


def test_a_restored_prediction_shows_its_verdict(notebook, page):
    explorer = notebook.explorer("kit_asked", unlock=False)
    answer(explorer, "nearly all")
    verdict = explorer.root.locator(".intuitive-verdict")
    expect(verdict).to_contain_text("You said “nearly all”")
    old = explorer.root.element_handle()
    notebook.run(ASKED)
    page.wait_for_function("root => !root.isConnected", arg=old)
    expect(explorer.root).to_have_attribute("data-locked", "false")
    expect(verdict).to_contain_text("You said “nearly all”; it is “about half”.")


def test_a_question_answers_each_press(notebook, page):
    notebook.scroll_to_cell(QUESTION)
    question = page.locator("[data-question=kit_question]")
    feedback = question.locator(".intuitive-feedback")
    choices = [question.get_by_role("button", name=name) for name in ("almost all", "half")]
    for choice in choices:
        expect(choice).to_have_attribute("aria-pressed", "false")
    expect(feedback).to_be_empty()
    for _ in range(2):  # the same choice can be taken again
        choices[0].click()
        expect(feedback).to_have_text("No, it is “half”. Equal scores share equally.")
        expect(choices[0]).to_have_attribute("aria-pressed", "true")
        feedback.evaluate("element => { element.textContent = 'old'; }")
    choices[0].focus()
    page.keyboard.press("Enter")
    expect(feedback).to_have_text("No, it is “half”. Equal scores share equally.")
    choices[1].click()
    expect(feedback).to_have_text("Yes. Equal scores share equally.")
    expect(choices[0]).to_have_attribute("aria-pressed", "false")

    old = question.element_handle()
    notebook.run(QUESTION)
    page.wait_for_function("element => !element.isConnected", arg=old)
    expect(choices[1]).to_have_attribute("aria-pressed", "true")
    expect(feedback).to_have_text("Yes. Equal scores share equally.")


# ------------------------------------------------------------------------------------- controls


def test_reset_brings_back_the_defaults(example):
    reset = example.root.locator("[data-reset]")
    expect(reset).to_be_disabled()
    summary = example.summary
    example.set("spread", 6)
    example.set("n_kept", 9)
    assert example.summary != summary
    reset.click()
    example.settled({"spread": 2, "n_kept": 4})
    expect(reset).to_be_disabled()
    assert example.summary == summary and example.control("spread").input_value() == "2"


def test_a_list_offers_what_the_data_has(example):
    options = example.control("hurry").locator("option")
    assert not any(option.is_disabled() for option in options.all())
    example.set("n_kept", N_SCORES)
    assert [option.is_disabled() for option in options.all()] == [False, False, True]
    assert options.nth(2).get_attribute("hidden") is not None
    example.set("n_kept", 4)
    assert not any(option.is_disabled() for option in options.all())


def test_a_summary_that_tells_the_end_waits_for_it(example):
    summary = example.root.locator(".intuitive-summary")
    player = example.root.locator(".intuitive-player")
    expect(summary).to_be_visible()  # it opens at its end
    room = summary.bounding_box()
    example.root.evaluate("root => root.intuitive.seek('first')")
    expect(summary).to_be_visible()  # what was seen stays
    example.set("spread", 6)
    expect(summary).to_be_hidden()
    assert summary.evaluate("part => part.offsetHeight") == int(room["height"])
    player.get_by_role("button", name="Play", exact=True).click()
    expect(summary).to_be_visible(timeout=10_000)


def test_after_a_fast_drag_the_last_value_is_shown(example, page):
    slider = example.control("spread")
    drag(page, slider, [0.1, 0.9, 0.2, 0.8, *(0.3 + 0.02 * step for step in range(20))])
    last = value_of(slider)
    assert last not in (0, 2, 8)
    example.settled({"spread": last})
    page.wait_for_timeout(250)  # nothing older may still arrive
    assert example.values()["spread"] == last == value_of(slider)


def test_a_step_sets_its_state_and_is_marked(example):
    first, second = (example.root.locator(f"[data-step='{index}']") for index in range(2))
    example.set("n_kept", 7)
    if not second.get_attribute("data-visited"):
        expect(second.locator(".intuitive-mark")).to_have_text("2")
    second.get_by_role("button").click()
    example.settled({"spread": 0, "n_kept": 4})
    assert (example.control("spread").input_value(), example.values()["n_kept"]) == ("0", 4)
    expect(second.locator(".intuitive-mark")).to_have_text("✓")
    expect(example.root.locator(".intuitive-chip").first).to_have_attribute("aria-pressed", "true")
    first.get_by_role("button").click()
    example.settled({"spread": 2, "n_kept": 4})
    expect(first.locator(".intuitive-mark")).to_have_text("✓")
    expect(example.root.locator(".intuitive-chip").last).to_have_attribute(
        "aria-pressed", "true", timeout=10_000
    )


def test_a_step_is_lit_while_the_controls_stand_where_it_speaks_of(example):
    buttons = [example.root.locator(f"[data-step='{i}'] button") for i in range(2)]

    def lit():
        return [button.get_attribute("aria-current") for button in buttons]

    def told():
        steps = example.root.locator("[data-step]").all()
        return [step.get_attribute("data-told") is not None for step in steps]

    buttons[0].click()
    example.settled({"spread": 2, "n_kept": 4})
    assert lit() == ["step", None] and told() == [True, False]
    example.set("n_kept", 7)
    assert lit() == [None, None] and told() == [False, False]  # its words go with it
    example.set("n_kept", 4)
    assert lit() == ["step", None]
    example.set("spread", 0)  # where the second step speaks of
    assert lit() == [None, "step"] and told() == [False, True]
    example.set("spread", 2)


def test_a_state_reached_by_hand_marks_its_step(notebook, page):
    explorer = notebook.explorer("kit_twice")
    second = explorer.root.locator("[data-step='1'] .intuitive-mark")
    expect(second).to_have_text("2")
    explorer.set("spread", 0)
    expect(second).to_have_text("✓")
    explorer.set("spread", 2)


def test_the_values_follow_whether_their_fold_is_open_or_not(example, page):
    fold = example.root.locator("details", has_text="Values")
    for is_open, spread in ((False, 0.0), (True, 6.0)):
        fold.evaluate("(fold, open) => { fold.open = open; }", not is_open)
        fold.evaluate("(fold, open) => { fold.open = open; }", is_open)
        example.set("spread", spread)
        weights = [
            percent(w)
            for w in run(ShareParams(spread=spread), stale=never, progress=silent).weights
        ]
        fold.evaluate("fold => { fold.open = true; }")
        expect(fold.locator("tbody td")).to_have_text(weights)
    fold.evaluate("fold => { fold.open = false; }")


def test_only_the_open_tab_is_drawn(example, page):
    def drawn(name):
        plot = example.root.locator(f"[data-plot={name}]")
        return plot.evaluate(
            "plot => plot.isConnected && plot.clientWidth > 0 && Boolean(plot.data)"
        )

    tabs = {name: example.root.get_by_role("tab", name=name) for name in ("Scores", "Weights")}
    expect(tabs["Scores"]).to_have_attribute("aria-selected", "true")
    assert drawn("scores") and not drawn("weights")
    place = cells_and_place(page)
    tabs["Scores"].focus()
    page.keyboard.press("ArrowRight")
    expect(tabs["Weights"]).to_have_attribute("aria-selected", "true")
    assert tabs["Weights"].evaluate("tab => tab === document.activeElement")
    plot = example.root.locator("[data-plot=weights] .main-svg").first
    expect(plot).to_be_visible()
    expect(example.root.locator("[data-plot=scores]")).to_be_hidden()
    # A tab that was open before shows the setting of now.
    example.set("spread", 7)
    page.keyboard.press("ArrowRight")
    expect(tabs["Scores"]).to_have_attribute("aria-selected", "true")
    page.wait_for_function(
        """root => {
            const [all, scores] = ["all", "scores"].map(
                name => root.querySelector(`[data-plot=${name}]`).data?.[0].y);
            const sum = scores.reduce((sum, score) => sum + Math.exp(score), 0);
            return Math.abs(Math.exp(scores[0]) / sum - all[0]) < 1e-6;
        }""",
        arg=example.root.element_handle(),
    )
    assert cells_and_place(page) == place


def test_controls_stay_in_view(example, page):
    slider = example.control("spread")
    pane = page.locator(".jp-WindowedPanel-outer:visible").first
    view = pane.bounding_box()
    tall = example.root.bounding_box()["height"]
    assert tall > 1_400
    example.root.evaluate("root => root.scrollIntoView({block: 'start'})")
    before = slider.bounding_box()["y"]
    page.mouse.move(view["x"] + 20, view["y"] + 300)
    page.mouse.wheel(0, 600)
    page.wait_for_timeout(300)
    moved = example.root.bounding_box()["y"]
    box = slider.bounding_box()
    assert moved < view["y"] - 400, "the page did not scroll"
    assert view["y"] <= box["y"] <= before + 1, "the controls have left"
    assert box["y"] + box["height"] < view["y"] + view["height"]
    notes = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).dataset.control", [box["x"] + 5, box["y"] + 8]
    )
    assert notes == "spread"  # nothing lies over them


@pytest.mark.parametrize(("width", "height"), [(900, 700), (1400, 900)])
def test_controls_that_stay_leave_the_picture_four_fifths_of_the_window(
    example, page, width, height
):
    bar, pane = example.root.locator(".intuitive-bar"), page.locator(".jp-WindowedPanel-outer")
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": height})
    try:
        page.wait_for_timeout(300)
        example.root.evaluate("root => root.scrollIntoView({block: 'start'})")
        view = pane.locator("visible=true").first.bounding_box()
        tall = bar.bounding_box()["height"]
        assert (tall > height / 5) == (width < 1000), "the example no longer tells the two apart"
        page.mouse.move(view["x"] + view["width"] / 2, view["y"] + 300)
        page.mouse.wheel(0, 500)
        page.wait_for_timeout(300)
        assert example.root.bounding_box()["y"] < view["y"] - 300, "the page did not scroll"
        covered = bar.bounding_box()["y"] + tall - view["y"]
        assert covered <= height / 5
        assert (covered > 0) == (tall <= height / 5), "low controls stay, tall ones do not"
    finally:
        page.set_viewport_size(before)


def test_more_controls_open_below_the_controls_that_stay_in_view(example, page):
    """What is folded out scrolls away with the page; what opened it does not."""
    bar = example.root.locator(".intuitive-bar")
    button = example.root.get_by_role("button", name="More controls")
    text = example.root.locator("[data-control=text]")
    tall = bar.bounding_box()["height"]
    expect(text).to_be_hidden()
    expect(button).to_have_attribute("aria-expanded", "false")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(text).to_be_visible()
    assert bar.bounding_box()["height"] == tall
    example.root.evaluate("root => root.scrollIntoView({block: 'start'})")
    view = page.locator(".jp-WindowedPanel-outer:visible").first.bounding_box()
    page.mouse.move(view["x"] + 20, view["y"] + 300)
    page.mouse.wheel(0, 600)
    page.wait_for_timeout(300)
    assert abs(bar.bounding_box()["y"] - view["y"]) <= 1
    assert text.bounding_box()["y"] < view["y"], "the fold stays in the way"
    for opened in (False, True):  # opened out of sight, it comes into sight
        page.keyboard.press("Enter")
        expect(text).to_be_visible(visible=opened)
    foot = bar.bounding_box()["y"] + tall
    assert foot <= text.bounding_box()["y"] < view["y"] + view["height"]
    button.click()


# ------------------------------------------------------------------------------------- Python


def test_a_slow_setting_tells_and_can_be_cancelled(example):
    summary = example.summary
    example.put("hurry", "slow")
    status = example.root.locator(".intuitive-status")
    expect(status).to_contain_text(re.compile(r"Part \d+ of 30…"))
    status.get_by_role("button", name="Cancel").press("Enter")
    expect(status).to_contain_text("Cancelled.")
    assert example.root.evaluate("root => root.contains(document.activeElement)")
    assert example.control("hurry").input_value() == "quick" and example.summary == summary
    example.put("hurry", "slow")
    example.put("spread", 5)
    example.put("hurry", "quick")  # newer than what is computed: its picture comes at once
    example.settled({"spread": 5, "hurry": "quick"}, timeout=SLOW_S)


def test_a_failing_setting_is_told_and_left(example):
    summary = example.summary
    example.put("hurry", "failing")
    alert = example.root.locator(".intuitive-error")
    expect(alert).to_have_text("RuntimeError: this setting always fails")
    expect(example.root.locator(".intuitive-picture")).to_have_css("opacity", "0.45")
    example.set("hurry", "quick")
    expect(alert).to_be_empty()
    example.set("n_kept", 1)
    example.put("spread", 0)
    expect(alert).to_contain_text("Scores kept = 1 of equal scores means nothing")
    example.root.locator("[data-reset]").click()
    expect(alert).to_be_empty()
    example.settled({"spread": 2, "n_kept": 4})
    assert example.summary == summary


def test_files_are_read_with_their_accents_or_refused(example):
    area = example.control("text")
    chooser = example.root.locator("input[type=file]")
    note = example.root.locator(".intuitive-wide .intuitive-note")

    def choose(name, content):
        chooser.set_input_files({"name": name, "mimeType": "text/plain", "buffer": content})

    text = "Élan, façade, naïve café"
    choose("utf8.txt", text.encode())
    expect(note).to_have_text("utf8.txt is in the box; press “Use this text”.")
    expect(area).to_have_value(text)
    area.fill("")
    choose("latin.txt", text.encode("latin-1"))
    expect(note).to_contain_text("read as Windows-1252 (Latin-1) since it is not UTF-8")
    expect(area).to_have_value(text)
    choose("binary.bin", bytes(range(256)))
    expect(note).to_have_text(re.compile(r"^binary\.bin: .*no text\. Choose a text file\.$"))
    expect(area).to_have_value(text)
    choose("long.txt", b"x" * 2_001)
    expect(note).to_contain_text("long.txt has 2001 bytes; at most 2000 are read here.")
    example.root.get_by_role("button", name="Use this text").click()
    example.settled({"text": text})
    expect(example.root.locator(".intuitive-tokens")).to_have_text(f"{text} ")


def test_two_views_follow_each_other(notebook):
    one, other = (notebook.explorer("kit_twice", view) for view in range(2))
    for moved, follows, value in ((one, other, 6), (other, one, 3)):
        moved.put("spread", value)
        for view in (moved, follows):
            view.settled({"spread": value})
            assert view.control("spread").input_value() == str(value)
    assert one.summary == other.summary
    notebook.page.wait_for_timeout(400)  # the marks are on their way
    assert heights(one) == pytest.approx(heights(other), abs=MOVED)
    one.set("spread", 2)
    assert len(heights(one)) == N_SCORES


def test_running_a_cell_again_frees_what_it_held(notebook, page):
    def census():
        notebook.run(CENSUS)
        return [int(count) for count in notebook.printed(CENSUS).split()]

    notebook.run(EXAMPLE)
    explorers, threads = census()
    assert explorers == 3
    for _ in range(5):
        notebook.run(EXAMPLE)
    now = census()
    assert now[0] == explorers and now[1] <= threads
    notebook.explorer("kit_example")
    assert page.locator("[data-explorer=kit_example]").count() == 1


def test_a_busy_kernel_is_no_dead_one(example, notebook, page):
    silence = example.root.locator(".intuitive-silence")
    notebook.run(BUSY, wait=False)
    page.wait_for_timeout(300)
    example.put("spread", 7)
    states = set()
    for _ in range(25):
        states.add(silence.get_attribute("data-silence"))
        page.wait_for_timeout(100)
    assert "asleep" not in states
    example.settled({"spread": 7})
    expect(silence).to_be_empty()


WHAT_STANDS_WITH_DONE = """() => {
    const motion = Symbol.for("intuitive.motion");
    window[motion] = window[motion].then(loaded => new Promise(
        resolve => setTimeout(resolve, 1500, loaded)));
    window.seenDone = [];
    window.lookAtDone = new MutationObserver(() => {
        for (const root of document.querySelectorAll("[data-explorer=kit_example]")) {
            const status = root.querySelector(".intuitive-status")?.textContent ?? "";
            const marks = root.querySelectorAll(".mark").length;
            if (status.includes("Done")) window.seenDone.push(marks);
        }
    });
    window.lookAtDone.observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


def test_nothing_is_said_to_be_done_before_the_first_picture_stands(notebook, page):
    """What draws it comes late, as on a slow machine."""
    page.evaluate(WHAT_STANDS_WITH_DONE)
    notebook.run(EXAMPLE)
    notebook.explorer("kit_example")
    seen = page.evaluate("() => (window.lookAtDone.disconnect(), window.seenDone)")
    assert seen and 0 not in seen


DIMMED = """root => ["picture", "readouts"].map(name => {
    const part = root.querySelector(`.intuitive-${name}`);
    const box = part.getBoundingClientRect();
    const top = box.top - root.getBoundingClientRect().top;
    return [part.ariaBusy === "true", getComputedStyle(part).opacity, top, box.width, box.height];
})"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_old_picture_is_dimmed_and_a_step_marked_once_its_own_has_come(notebook, page, dark):
    notebook.theme(dark)
    notebook.run(SLOW)
    explorer = notebook.explorer("kit_slow")
    step = explorer.root.locator("[data-step='1']")
    before = explorer.root.evaluate(DIMMED)
    assert [part[:2] for part in before] == 2 * [[False, "1"]]
    step.get_by_role("button").click()
    picture = explorer.root.locator(".intuitive-picture")
    expect(picture).to_have_attribute("aria-busy", "true", timeout=SLOW_S * 500)
    expect(picture).to_have_css("opacity", "0.45", timeout=SLOW_S * 500)
    now = explorer.root.evaluate(DIMMED)
    assert [part[:2] for part in now] == 2 * [[True, "0.45"]]
    assert [part[2:] for part in now] == [part[2:] for part in before], "the page jumps"
    assert step.get_attribute("data-visited") is None
    expect(step.locator(".intuitive-mark")).to_have_text("2")
    explorer.settled({"spread": 0})
    expect(step.locator(".intuitive-mark")).to_have_text("✓")
    expect(picture).to_have_css("opacity", "1")
    assert [part[:2] for part in explorer.root.evaluate(DIMMED)] == 2 * [[False, "1"]]
    notebook.theme(False)


def test_what_answers_at_once_does_not_flicker(example, page):
    slider = example.control("spread")
    for _ in range(TRIES):
        example.root.evaluate(
            """root => {
                window.dims = 0;
                window.watcher?.disconnect();
                window.watcher = new MutationObserver(() => (window.dims += 1));
                watcher.observe(root, {attributeFilter: ["aria-busy"], subtree: true});
            }"""
        )
        for spread in (6, 1, 3):
            example.set("spread", spread)
        drag(page, slider, [0.3 + 0.02 * step for step in range(20)])
        example.settled({"spread": value_of(slider)})
        if page.evaluate("() => dims") == 0:
            return
    raise AssertionError("a quick picture was dimmed")


def test_words_of_a_silence_end_with_an_answer_that_comes_late(notebook, page):
    notebook.scroll_to_cell(QUESTION)
    question = page.locator("[data-question=kit_question]")
    silence = question.locator(".intuitive-silence")
    choices = question.get_by_role("button")
    notebook.run(STOPPED)
    page.wait_for_timeout(1_000)  # until it stands still
    choices.first.click()
    expect(silence).to_have_attribute("data-silence", "asleep", timeout=2_000)
    expect(silence).to_be_empty(timeout=10_000)
    expect(question.locator(".intuitive-feedback")).to_contain_text("No, it is")


def test_page_stayed_quiet(page):
    assert page.console_errors == []
    assert page.foreign_requests == []


def test_a_restarted_kernel_is_told(example, notebook, page):
    """The last of this file: afterwards Python knows nothing of the page."""
    notebook.session("restartKernel")
    page.wait_for_function(  # while it starts, it is busy, and the page says that
        "() => 'idle' === "
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
    )
    silence = example.root.locator(".intuitive-silence")
    expect(silence).to_be_empty()
    example.put("spread", 4)
    expect(silence).to_have_attribute("data-silence", "asleep", timeout=2_000)
    expect(silence).to_contain_text("Python is not running, or was restarted")
    expect(silence).to_contain_text("run this cell again")
    assert silence.is_visible()
    notebook.run(START)
    notebook.run(EXAMPLE)
    explorer = notebook.explorer("kit_example")
    explorer.set("spread", 4)
    expect(explorer.root.locator(".intuitive-silence")).to_be_empty()
