"""The book's pages from static files: explorers move without Python."""

import functools
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import kit_example as kit
import numpy as np
import pytest
from book import Book
from book_frame import page
from book_pages import Shown, place
from browsing import AXE
from lab import ExplorerOnPage, browser_page
from playwright.sync_api import expect

from intuitive.widgets.kit import Action, Range, percent, recording
from intuitive.widgets.kit.scene import Frame, Scene, Swarm, Timeline, wire

pytestmark = pytest.mark.browser

ASKED, PLAIN, FAR, QUESTION = "kit_asked", "kit_example", "kit_far", "kit_question"


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def make_alike(found: recording.Recording) -> None:
    """Give all states the same plots, and two of them the same refusal, so that each is shared."""
    failing = next(state for state in found.states if "error" in state)
    for state in found.states:
        if "figures" in state:
            state["figures"] = found.states[0]["figures"]
    again = {**failing["asked"], "n_kept": 7}
    found.asked.append(recording.Asked(again))
    found.states.append({"asked": again, "error": failing["error"]})


def add_a_button(found: recording.Recording) -> None:
    """One that would compute for long, and what was there when it had been pressed once."""
    spec = found.traits["spec"]
    spec["controls"] = [*spec["controls"], Action(name="train", label="Train here").spec()]
    spec["defaults"] = {**spec["defaults"], "train": 0}
    parts = [(state, name) for state in found.states for name in ("asked", "values")]
    for state, name in parts:
        if name in state:
            state[name] = {**state[name], "train": 0}
    first, pressed = found.states[0], {**found.states[0]["asked"], "train": 1}
    found.asked.append(recording.Asked(pressed))
    found.states.append({**first, "asked": pressed, "values": pressed})


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a book of one page with what the kit's example can do."""
    book = Book(tmp_path_factory.mktemp("site"), lessons=[])
    book.build_assets()
    book.build_pages()
    makers = {
        ASKED: lambda: kit.explorer(ASKED, predict=kit.PREDICT),
        PLAIN: lambda: kit.explorer(PLAIN),
        FAR: lambda: kit.explorer(FAR),
        QUESTION: kit.question,
    }
    call = "import kit_example as kit\n\nkit.explorer()"
    for name, make in makers.items():
        found = recording.record(make, call=call)
        if name == FAR:
            make_alike(found)
            add_a_button(found)
        packed = recording.pack(found)
        book.write(f"recorded/{name}.json.gz", packed)
    places = {
        name: place(Shown(f"a.{name.split('_')[0]}.{name.split('_')[1]}", "explorer"), "", "", name)
        for name in makers
    }
    gap = '<p style="height: 4000px">far</p>'
    body = "<h1>Kit</h1>" + "".join(places[name] for name in (ASKED, PLAIN, QUESTION))
    nav = book.nav("kit.html")
    whole = page("Kit", body + gap + places[FAR], root="", nav=nav, made_on="without a GPU")
    book.write("kit.html", whole)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Files, directory=str(book.out))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def kit_page(chromium, site):
    with browser_page(chromium, width=1400, height=1000) as opened:
        opened.asked = []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(f"{site}kit.html?theme=light")
        yield opened


@pytest.fixture
def example(kit_page) -> ExplorerOnPage:
    explorer = ExplorerOnPage(kit_page, PLAIN).unlock()
    reset = explorer.root.locator("[data-reset]")
    if reset.is_enabled():
        reset.click()
        explorer.settled({"spread": 2, "n_kept": 4})
    return explorer


def test_a_recording_is_loaded_when_it_is_seen(kit_page, example):
    assert not any(FAR in address for address in kit_page.asked)
    kit_page.locator(f'[data-recorded*="{FAR}"]').scroll_into_view_if_needed()
    ExplorerOnPage(kit_page, FAR).root.wait_for()
    assert any(FAR in address for address in kit_page.asked)


def test_a_prediction_gets_its_verdict_and_is_kept(kit_page, site):
    asked = ExplorerOnPage(kit_page, ASKED)
    asked.root.scroll_into_view_if_needed()
    asked.root.get_by_role("button", name="nearly all").click()
    verdict = asked.root.locator("[data-verdict]")
    expect(verdict).to_have_attribute("data-verdict", "wrong")
    expect(verdict).to_contain_text("You said “nearly all”; it is “about half”.")
    asked.settled()
    kit_page.goto(f"{site}kit.html?theme=light")
    expect(asked.root.locator("[data-verdict]")).to_have_attribute("data-verdict", "wrong")
    asked.root.get_by_role("button", name="Predict again").click()
    asked.root.locator("[data-skip]").click()
    expect(asked.root.locator("[data-verdict]")).to_have_attribute("data-verdict", "told")


def test_a_recorded_value_is_shown_as_it_was_computed(example):
    slider = example.control("n_kept")
    slider.focus()
    slider.press("ArrowRight")
    example.settled({"n_kept": 5})
    result = kit.run(kit.ShareParams(n_kept=5), stale=lambda: False, progress=lambda *_: None)
    assert example.readouts["held by the kept"] == percent(result.held)
    assert example.root.get_attribute("data-recorded") == "exact"
    assert "Recorded." in example.status and "Nearest" not in example.status


def said_beside(example):
    """What stands under each slider of what became of its value."""
    return {
        name: example.root.locator(f'[data-control="{name}"] ~ .intuitive-snapped').text_content()
        for name in ("spread", "n_kept")
    }


def recorded_places(example, name):
    """Where the dots under a slider are, in its own numbers."""
    slider = example.control(name)
    low, high = (float(slider.get_attribute(end)) for end in ("min", "max"))
    shares = example.root.locator(f'[data-control="{name}"] + .intuitive-places span').evaluate_all(
        "dots => dots.map(dot => Number(dot.style.getPropertyValue('--at')))"
    )
    return sorted(low + share * (high - low) for share in shares)


def test_a_slider_shows_where_it_is_recorded_and_snaps_to_it(example):
    values = recorded_places(example, "spread")
    spread = Range(name="spread", label="", min=0, max=8, step=0.5)
    assert {2, *recording.around(spread, 2)} <= set(values)
    wanted = max(set(spread.places()) - set(values))
    slider = example.control("spread")
    slider.fill(str(wanted))  # as a pointer does
    near = float(slider.input_value())
    assert near in values and abs(near - wanted) == min(abs(value - wanted) for value in values)
    example.settled({"spread": near})
    said = f"Recorded at {near:.1f}; {wanted:.1f} runs in JupyterLab."
    assert said_beside(example) == {"spread": said, "n_kept": ""}
    example.root.locator("[data-reset]").click()
    example.settled({"spread": 2})
    assert said_beside(example) == {"spread": "", "n_kept": ""}


def test_keys_walk_from_recorded_place_to_place(example):
    slider, values = example.control("spread"), recorded_places(example, "spread")
    slider.press("Home")
    seen = [float(slider.input_value())]
    for _ in values[1:]:
        slider.press("ArrowRight")
        seen.append(float(slider.input_value()))
    assert seen == values
    slider.press("ArrowLeft")
    assert float(slider.input_value()) == values[-2]


def test_between_recorded_values_the_nearest_is_shown_and_named(example):
    for name, key in (("n_kept", "ArrowRight"), ("spread", "ArrowRight")):
        example.control(name).focus()
        example.control(name).press(key)
    example.settled({"n_kept": 4, "spread": 2.5})  # the sliders stand at what is shown
    assert example.root.get_attribute("data-recorded") == "nearest"
    assert "Nearest recorded: Scores kept 4." in example.status
    assert example.control("n_kept").input_value() == "4"
    assert said_beside(example) == {
        "spread": "",
        "n_kept": "Moved to 4: together with 5 it runs in JupyterLab.",
    }
    moved = kit.run(kit.ShareParams(spread=2.5), stale=lambda: False, progress=lambda *_: None)
    assert example.readouts["held by the kept"] == percent(moved.held)  # the slider just moved
    line = example.root.locator(".intuitive-run-here code")
    expect(line).to_contain_text("kit.explorer().set(spread=2.5, n_kept=5)")
    expect(line).to_be_visible()
    example.control("spread").press("ArrowRight")
    assert said_beside(example)["n_kept"].startswith("Moved to 4")  # while the other moves on
    example.control("n_kept").press("ArrowRight")
    assert not said_beside(example)["n_kept"].startswith("Moved")


def test_what_no_state_is_near_to_says_where_it_runs(example):
    example.control("text").fill("my own words")
    example.root.get_by_role("button", name="Use this text").click()
    expect(example.root.locator(".intuitive-error")).to_contain_text("run it in JupyterLab")
    line = example.root.locator(".intuitive-run-here code")
    expect(line).to_contain_text('kit.explorer().set(text="my own words")')
    assert not example.root.locator("[data-silence]").count()


def test_steps_play_and_links_light(example):
    frame = example.root.get_attribute("data-frame")
    assert example.press_step(0)
    assert example.root.get_attribute("data-frame") == frame == " · cut"
    assert example.press_step(1)
    assert "Recorded." in example.status
    example.root.locator(".intuitive-chip", has_text="softmax").click()
    example.root.locator('.intuitive-readouts [data-link="token:0"]').hover()
    lit = example.root.locator(".mark.lit")
    expect(lit.first).to_have_attribute("data-link", "token:0")


def test_a_tab_and_its_plot(example):
    example.root.get_by_role("tab", name="Weights").click()
    example.page.wait_for_function(
        "root => root.querySelector('[data-plot=weights]').data?.length",
        arg=example.root.element_handle(),
    )


def test_plots_and_refusals_that_states_share_are_shown(kit_page):
    kit_page.locator(f'[data-recorded*="{FAR}"]').scroll_into_view_if_needed()
    far = ExplorerOnPage(kit_page, FAR)
    kit_page.wait_for_function(
        "root => root.querySelector('[data-plot=all]').data?.length",
        arg=far.root.element_handle(),
    )
    far.control("hurry").select_option("failing")
    expect(far.root.locator(".intuitive-error")).to_have_text(
        "RuntimeError: this setting always fails"
    )


def test_a_button_says_that_its_answer_was_recorded_and_on_what(kit_page):
    kit_page.locator(f'[data-recorded*="{FAR}"]').scroll_into_view_if_needed()
    far = ExplorerOnPage(kit_page, FAR)
    far.root.locator("[data-reset]").or_(far.root).first.wait_for()
    if far.root.locator("[data-reset]").is_enabled():
        far.root.locator("[data-reset]").click()
    button = far.control("train")
    told = "Recorded when this book was built, without a GPU."
    expect(button.locator("xpath=following-sibling::*[1]")).to_have_text(told)
    assert told not in far.status
    for _ in range(2):  # pressed again it shows the same
        button.click()
        far.settled({"train": 1})
        assert told in far.status and far.root.get_attribute("data-recorded") == "exact"


def test_a_question_is_answered(kit_page):
    question = kit_page.locator("[data-question]")
    question.scroll_into_view_if_needed()
    buttons = question.get_by_role("button")
    verdicts = []
    for index in range(buttons.count()):
        buttons.nth(index).click()
        expect(buttons.nth(index)).to_have_attribute("aria-pressed", "true")
        verdicts.append(buttons.nth(index).get_attribute("data-verdict"))
    assert verdicts.count("right") == 1


def serious(page):
    """What axe takes seriously on a page."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run(document)).violations")
    return [
        (one["id"], [node["html"][:160] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_that_axe_takes_seriously(kit_page, site, theme):
    for address in ("kit.html", "index.html", "teaching.html", "api/intuitive.msa.config.html"):
        kit_page.goto(f"{site}{address}?theme={theme}")
        if address == "kit.html":
            ExplorerOnPage(kit_page, PLAIN).unlock()
        assert serious(kit_page) == [], (address, theme)


def test_in_a_narrow_window_the_list_of_pages_waits_behind_a_button(kit_page, site):
    size = kit_page.viewport_size
    kit_page.set_viewport_size({"width": 390, "height": 800})
    kit_page.goto(f"{site}teaching.html?theme=dark")
    menu, pages = kit_page.get_by_role("button", name="Menu"), kit_page.locator("#book-pages")
    expect(pages).to_be_hidden()
    menu.press("Enter")
    expect(menu).to_have_attribute("aria-expanded", "true")
    kit_page.keyboard.press("Tab")
    while not kit_page.evaluate("document.querySelector('#book-pages').matches(':focus-within')"):
        kit_page.keyboard.press("Tab")
    assert serious(kit_page) == []
    kit_page.keyboard.press("Escape")
    expect(pages).to_be_hidden()
    expect(menu).to_be_focused()
    expect(menu).to_have_attribute("aria-expanded", "false")
    kit_page.goto(f"{site}kit.html")
    ends = ExplorerOnPage(kit_page, PLAIN).unlock().root.locator(".intuitive-scroller")
    fades = "part => [getComputedStyle(part).maskImage, getComputedStyle(part, '::after').content]"
    mask, words = ends.evaluate(fades)
    assert "100% - 48px" in mask and "sideways" in words
    ends.evaluate("part => part.scrollTo(9999, 0)")
    kit_page.wait_for_function(
        "part => getComputedStyle(part).maskImage.includes('rgb(0, 0, 0) 100%')",
        arg=ends.element_handle(),
    )
    kit_page.set_viewport_size(size)
    expect(pages).to_be_visible()
    expect(menu).to_be_hidden()
    assert "sideways" not in ends.evaluate(fades)[1]


def test_the_search_finds_by_beginnings_of_words_and_leads_there(kit_page, site):
    kit_page.goto(f"{site}api/index.html?theme=dark")
    kit_page.asked.clear()
    box, found = kit_page.get_by_role("searchbox"), kit_page.locator("#book-found")
    assert not any("search.json" in address for address in kit_page.asked)
    box.focus()
    box.press_sequentially("grad turn")
    first = found.get_by_role("link").first
    expect(first).to_have_text(re.compile("Grading .Your turn."))
    assert len([one for one in kit_page.asked if "search.json" in one]) == 1
    assert serious(kit_page) == []
    box.press("ArrowDown")
    expect(first).to_be_focused()
    kit_page.keyboard.press("Escape")
    expect(found).to_be_hidden()
    expect(box).to_be_focused()
    box.fill("zzyx")
    expect(found).to_contain_text("Nothing begins like that.")
    box.fill("MSAConf")
    expect(first).to_contain_text("MSAConfig")
    box.press("Enter")
    kit_page.wait_for_url("**/api/intuitive.msa.config.html#MSAConfig")


def test_the_page_puts_swarms_back_where_they_were(kit_page, site):
    dice = np.random.default_rng(0)
    frames = tuple(
        Frame(scene=Scene(width=200, height=100, marks=(Swarm(key="s", xs=xs, ys=ys),)))
        for xs, ys in dice.uniform(-40, 140, (3, 2, 7))
    )
    header, data = wire(Timeline(frames=frames))
    kit_page.goto(f"{site}index.html")
    found = kit_page.evaluate(
        """async steps => {
            const {swarmBytes} = await import("/assets/recorded.js");
            return [...swarmBytes(steps)];
        }""",
        recording.swarm_steps(header, data),
    )
    assert len(found) == len(data)
    for moved in (frame["swarms"][0]["at"] for frame in header["frames"]):
        there, true = (
            np.frombuffer(bytes(part), "<u2", 14, moved).astype(int) for part in (found, data)
        )
        assert abs(there - true).max() <= recording.UNIT / 2


def test_no_errors_and_no_other_host(kit_page):
    assert kit_page.console_errors == []
    assert kit_page.foreign_requests == []
