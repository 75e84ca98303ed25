"""What single explorers do in JupyterLab: refusals, clicks, drags, own text, speed."""

import re
import statistics

import pytest
from browsing import fold_all, picture, value_of
from lab import ExplorerOnPage, Notebook, browser_page
from playwright.sync_api import Locator, expect

from intuitive.widgets.msa import ladder as ladder_words

pytestmark = [pytest.mark.browser, pytest.mark.model]

PROSE = "The March Hare took the watch and looked at it gloomily: then he dipped it into his tea. "

LOWER = 60  # pixels of a drag
# Three times what an idle two-core machine has to reach (benchmarks/latency.py), so that a busy
# one passes too.
REDRAW_MS = 3 * 150


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium) as page:
        yield page


@pytest.fixture(scope="module")
def notebook(page, lab_url):
    notebook = Notebook(page, lab_url, "explorers.ipynb")
    notebook.run_all(timeout=240)
    return notebook


@pytest.fixture
def selection(notebook):
    explorer = notebook.explorer("msa_block_selection")
    fold_all(notebook.page, opened=True)
    return explorer


def in_the_middle(part: Locator) -> None:
    part.evaluate("part => part.scrollIntoView({block: 'center'})")


def in_state(explorer: ExplorerOnPage, state: str) -> None:
    expect(explorer.root).to_have_attribute("data-state", state, timeout=60_000)


def told(explorer: ExplorerOnPage) -> list[Locator]:
    """Words of the steps that stand in sight, their buttons in a row above them."""
    return [text for text in explorer.root.locator(".intuitive-steps p").all() if text.is_visible()]


@pytest.mark.sweep  # on a busy machine the particle once stood undrawn for two minutes
def test_a_step_says_its_words_only_where_it_speaks_of(notebook):
    """The first picture may be no step's, and then no step's words stand above it."""
    assert told(notebook.explorer("msa_block_selection")) == []
    particle = notebook.explorer("qgf_particle")
    first = particle.root.locator("[data-step='0']")
    assert told(particle) == []  # the controls are there, its frame is not
    instead = "part => getComputedStyle(part, '::before').content"
    assert first.locator("p").evaluate(instead) == '"Press a step: it sets what it speaks of."'
    room = first.locator("p").bounding_box()
    first.get_by_role("button").click()
    expect(first.locator("p")).to_be_visible()
    assert first.locator("p").bounding_box()["height"] == room["height"]
    assert first.locator("p").evaluate(instead) == "none"
    particle.set("weight", 2.0)
    assert told(particle) == []
    particle.root.locator("[data-step='1'] button").click()
    expect(particle.root.locator("[data-step='1'] p")).to_be_visible()
    particle.root.locator("[data-reset]").click()
    particle.settled()
    assert told(particle) == []


def test_a_label_belongs_to_its_own_slider(notebook, page):
    """Two explorers on one page name a control alike."""
    for name in ("msa_needle", "msa_what_it_costs"):
        explorer = notebook.explorer(name)
        explorer.root.get_by_text("Blocks read, k", exact=True).click()
        slider = explorer.root.get_by_label("Blocks read, k", exact=True)
        assert slider.count() == 1
        assert explorer.root.evaluate("root => root.contains(document.activeElement)")


def test_a_refused_setting_says_why_and_keeps_the_picture(selection):
    selection.set("n_selected", 2)
    summary, drawn = selection.summary, picture(selection)
    selection.set("n_local", 1)
    selection.put("n_init", 2)
    in_state(selection, "error")
    alert = selection.root.locator(".intuitive-error")
    expect(alert).to_contain_text("Blocks read, k = 2")
    faded = selection.root.locator(".intuitive-picture")
    expect(faded).to_have_css("opacity", "0.45")
    assert (selection.summary, picture(selection)) == (summary, drawn)
    selection.set("n_init", 0)
    in_state(selection, "done")
    expect(alert).to_be_empty()
    expect(faded).to_have_css("opacity", "1")
    selection.set("n_selected", 6)


def test_a_menu_that_changes_nothing_is_disabled_and_says_why(notebook):
    ladder = notebook.explorer("msa_ladder")
    menu = ladder.control("sharing")
    shown = "menu => [menu.options.length, menu.selectedOptions[0].textContent]"
    ladder.set("sharing", "random")
    before = menu.evaluate(shown)
    ladder.set("function", "decode")
    expect(menu).to_be_disabled()
    assert menu.evaluate(shown) == [before[0] + 1, ladder_words.IDLE["decode"]["sharing"]]
    ladder.set("function", "attend")
    expect(menu).to_be_enabled()
    assert menu.evaluate(shown) == before and ladder.values()["sharing"] == "random"
    ladder.root.locator("[data-reset]").click()


def test_a_click_on_the_map_sets_the_query(selection, page):
    selection.root.get_by_role("tab", name="Map").click()
    plot = selection.root.locator("[data-plot=map]")
    page.wait_for_function("plot => plot._fullLayout", arg=plot.element_handle())
    in_the_middle(plot)
    x, y = plot.evaluate(
        """plot => {
            const {xaxis, yaxis} = plot._fullLayout;
            const {x, y} = plot.getBoundingClientRect();
            return [x + xaxis._offset + xaxis.c2p(2), y + yaxis._offset + yaxis.c2p(500)];
        }"""
    )
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_function(
        """root => Math.abs(JSON.parse(root.dataset.values).query - 500) < 8""",
        arg=selection.root.element_handle(),
    )
    query = selection.values()["query"]
    assert f"token {query} " in selection.summary
    assert selection.control("query").input_value() == str(query)


def test_a_click_on_a_token_sets_the_query(selection):
    selection.set("query", 301)
    word = selection.root.locator("[data-key='t:293']")  # in its line
    in_the_middle(word)
    word.click()
    selection.settled({"query": 293})
    assert "token 293 " in selection.summary
    handle = selection.root.locator("[data-key=query]").bounding_box()
    box = word.bounding_box()
    assert abs(handle["x"] + handle["width"] / 2 - box["x"] - box["width"] / 2) < 6


def test_the_query_is_dragged_along_its_line(selection, page):
    selection.set("query", 293)
    handle = selection.root.locator("[data-key=query]")
    in_the_middle(handle)
    start = handle.bounding_box()
    y = start["y"] + start["height"] / 2
    page.mouse.move(start["x"] + 3, y)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(start["x"] + 3 + 15 * step, y)
    page.mouse.up()
    page.wait_for_function(
        "root => JSON.parse(root.dataset.values).query > 293",
        arg=selection.root.element_handle(),
    )
    page.wait_for_function(  # moves that were still on their way have been drawn too
        """root => root.querySelector(".intuitive-summary").textContent
            .includes(`token ${JSON.parse(root.dataset.values).query} `)""",
        arg=selection.root.element_handle(),
    )
    assert selection.values()["query"] < 304


@pytest.mark.sweep  # as the one above: the particle may stay undrawn
def test_a_dragged_point_moves_its_slider_and_the_picture(notebook, page):
    flow = notebook.explorer("qgf_particle")
    slider = flow.control("peak")
    home = value_of(slider)
    flow.root.locator("h3").click()  # JupyterLab scrolls to a cell that becomes the active one
    handle = flow.root.locator('.intuitive-hero [data-key="peak"] .shape')
    in_the_middle(handle)  # not under the controls, which stay in view
    start = flow.at_rest("peak")
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + 3, y - 2)  # beside the middle: the point keeps its place in the hand
    page.mouse.down()
    for share in range(1, 11):
        page.mouse.move(x + 40, y - 2 + LOWER * share / 10)  # sideways it cannot go
    assert value_of(slider) < home - 0.2  # the slider follows before any answer
    page.mouse.up()
    low = value_of(slider)  # Chromium hands on the last move of a frame with the release
    flow.settled({"peak": low})
    end = flow.at_rest("peak")
    step = LOWER * 0.05 / (home - low)  # pixels of one step of the slider
    assert abs(end["y"] - start["y"] - LOWER) < step and abs(end["x"] - start["x"]) < 0.5
    assert abs(end["top"] - start["top"]) < 0.5  # a readout needed a line less, and nothing jumped

    page.keyboard.press("ArrowRight")  # the slider has the focus
    flow.settled({"peak": round(low + 0.05, 2)})
    assert flow.at_rest("peak")["y"] < end["y"]
    flow.set("peak", home)
    assert abs(flow.at_rest("peak")["y"] - start["y"]) < 0.5

    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(x, y + 5_000)
    page.mouse.up()
    flow.settled({"peak": -2.4})  # as far as the slider goes
    flow.set("peak", home)


def use_text(selection: ExplorerOnPage, text: str) -> None:
    selection.control("text").fill(text)
    selection.root.get_by_role("button", name="Use this text").click()


def test_own_text_shows_progress_and_can_be_cancelled(selection):
    summary = selection.summary
    use_text(selection, "Cancelled. " + 200 * PROSE)
    status = selection.root.locator(".intuitive-status")
    expect(status).to_contain_text(re.compile(r"Read by layer \d+ of 30"), timeout=30_000)
    expect(status.locator("progress")).to_be_visible()
    status.get_by_role("button", name="Cancel").click()
    expect(status).to_contain_text("Cancelled", timeout=30_000)
    in_state(selection, "done")
    assert selection.summary == summary and selection.values()["text"] == ""
    expect(status.get_by_role("button", name="Cancel")).not_to_be_visible()


def test_own_text_is_read_or_refused_in_words(selection):
    summary = selection.summary
    use_text(selection, "Too short.")
    in_state(selection, "error")
    expect(selection.root.locator(".intuitive-error")).to_contain_text("at least 64 are needed")
    assert selection.summary == summary
    use_text(selection, 6 * PROSE)
    selection.settled({"text": 6 * PROSE})
    assert selection.root.locator("[data-key='t:1']").text_content() == "March"
    assert int(selection.control("query").get_attribute("max")) < 200
    use_text(selection, "")
    selection.settled({"text": ""})


def test_measuring_is_off_without_a_gpu_and_says_why(notebook):
    costs = notebook.explorer("msa_what_it_costs")
    button = costs.control("measure")
    if button.is_enabled():
        pytest.skip("this machine has a GPU")
    expect(costs.root).to_contain_text("Needs a CUDA device; this machine has none.")


@pytest.mark.timing
@pytest.mark.parametrize(
    ("name", "control", "values", "limit_ms"),
    [
        ("msa_needle", "strength", range(1, 11), REDRAW_MS),
        ("msa_block_selection", "query", range(100, 1000, 90), REDRAW_MS),
        ("msa_block_selection", "layer", range(2, 12), REDRAW_MS),
        pytest.param(
            *("qgf_particle", "peak", [round(0.05 * step, 2) for step in range(10)], REDRAW_MS),
            marks=pytest.mark.sweep,  # the particle may stay undrawn
        ),
        ("msa_what_it_costs", "context", [2**power for power in range(12, 20)], REDRAW_MS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sliders_answer_soon(notebook, name, control, values, limit_ms):
    explorer = notebook.explorer(name)
    times = [explorer.time_to_draw(control, value) for value in values]
    print(f"{name} {control}: median {statistics.median(times):.0f} ms, longest {max(times):.0f}")
    assert statistics.median(times) < limit_ms


def test_page_stayed_quiet(notebook, page):
    assert page.console_errors == []
    assert page.foreign_requests == []
