"""Every explorer of the catalogue in JupyterLab: drawn, legible, moved by keys and by drags.

Both themes, a narrow window, no text over another; no console error, no other host. One page holds
them all; the tests list none of them.
"""

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pytest
from browsing import (
    cells_and_place,
    drag,
    fold_all,
    picture,
    plot_colours_follow,
    plots_without_drawing,
    serious_violations,
    sticking_out,
    text_overlaps,
    value_of,
)
from lab import ExplorerOnPage, Notebook, browser_page
from playwright.sync_api import Page

from intuitive.widgets import catalogue

pytestmark = [
    pytest.mark.sweep,  # eight minutes: every explorer, key by key and text by text
    pytest.mark.browser,
]

NAMES = tuple(catalogue.explorers())
WIDE, NARROW = 1400, 900
HEIGHT = 1000
NO_MODEL = "intuitive model"  # what the sentence about the missing language model names
SCREEN, SCREEN_HEIGHT = 1000, 720  # pixels of an explorer's first screen
MOST_CONTROLS, MOST_READOUTS, MOST_PICTURES = 3, 3, 2
TALLER: dict[str, int] = {}  # explorers that may be taller, and why
LOOKED_AT = 3  # controls whose ends the ordinary run looks at; the sweep looks at all


@dataclass(frozen=True)
class Known:
    """Two texts that lie over each other, in a figure that is yet to be mended.

    `texts` are patterns of both, in the order of the alphabet; `sweep` says that only the sweep
    meets them.
    """

    explorer: str
    place: str
    texts: tuple[str, str]
    reason: str
    widths: tuple[int, ...] = (WIDE, NARROW)
    sweep: bool = False

    def matches(self, found: tuple[str, str, str]) -> bool:
        place, *texts = found
        return place == self.place and all(map(fnmatchcase, texts, self.texts))


CUT = "(cut off)"
ONLY_NARROW = (NARROW,)
ONLY_WIDE = (WIDE,)
KNOWN: tuple[Known, ...] = ()


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium, width=WIDE, height=HEIGHT) as page:
        page.emulate_media(reduced_motion="reduce")  # what is measured stands still
        yield page


@pytest.fixture(scope="module")
def notebook(page, lab_url):
    notebook = Notebook(page, lab_url, "catalogue.ipynb")
    notebook.whole_width()  # a width is that of the window, all of it the notebook's
    notebook.run_all(timeout=240)
    return notebook


@pytest.fixture(params=NAMES)
def explorer(notebook, page, request) -> ExplorerOnPage:
    """Each explorer in turn, at its defaults."""
    shown = notebook.explorer(request.param)
    if NO_MODEL in shown.error and not os.environ.get("CI"):
        pytest.skip(shown.error)
    to_width(page, WIDE)
    shown.root.scroll_into_view_if_needed()
    assert go(shown), shown.error
    return shown


def go(explorer: ExplorerOnPage, **values) -> bool:
    """To the defaults but for `values`, as a step does; False where that is refused."""
    return explorer.root.evaluate(
        """async (root, values) => {
            const asked = Object.entries(values);
            const reset = root.querySelector("[data-reset]");
            const stands = asked.length === 0 && reset.ariaDisabled === "true";
            const before = stands ? "" : root.dataset.settled;
            if (!stands) root.intuitive.set(values);
            const start = performance.now();
            const over = () => ["done", "error"].includes(root.dataset.state)
                && root.dataset.settled && root.dataset.settled !== before;
            while (!over()) {
                if (performance.now() - start > 120_000) throw new Error("it never settled");
                await new Promise(resolve => setTimeout(resolve, 15));
            }
            return root.dataset.state === "done";
        }""",
        values,
    )


def test_it_is_drawn_and_speaks(explorer):
    assert explorer.error == "" and explorer.summary
    assert plots_without_drawing(explorer) == []


def test_keyboard_alone_moves_every_slider(explorer, page):
    # A hero may begin with a question, where a slider changes nothing yet.
    explorer.root.evaluate("root => root.intuitive.seek('last')")
    summaries, place = {explorer.summary}, None
    sliders = explorer.root.locator("input[type=range][data-control]").all()
    sliders = [slider for slider in sliders if slider.is_visible()]
    for slider in sliders:
        label = explorer.root.locator(f"label[for={slider.get_attribute('id')}]").inner_text()
        labelled = explorer.root.get_by_label(label, exact=True)
        labelled.focus()
        place = place or cells_and_place(page)
        value, said = value_of(slider), slider.get_attribute("aria-valuetext")
        drawn = picture(explorer)
        at_the_end = slider.evaluate("input => input.value === input.max")
        page.keyboard.press("ArrowLeft" if at_the_end else "ArrowRight")
        moved = value_of(slider)
        assert (moved < value) if at_the_end else (moved > value), label
        explorer.settled({slider.get_attribute("data-control"): moved})
        assert slider.get_attribute("aria-valuetext") != said, label
        assert picture(explorer) != drawn, f"{label} leaves the picture"
        assert labelled.evaluate("input => input === document.activeElement")
        summaries.add(explorer.summary)
        assert cells_and_place(page) == place
    told = "change nothing here" in explorer.summary  # a summary may say so itself
    assert len(summaries) > 1 or told or not sliders, "no slider changes the summary"


def test_jupyterlab_takes_no_key_from_it(explorer, page):
    fold_all(page, opened=True)
    reached = explorer.root.locator(
        "input:visible, select:visible, summary:visible, .intuitive-fold:visible, "
        "[role=tab]:visible, [tabindex='0']:visible"
    ).all()
    assert len(reached) > 1
    reached[0].focus()
    before = cells_and_place(page)
    for element in reached:
        if not element.is_visible():  # a key in a menu chose something that needs fewer controls
            continue
        element.focus()
        for key in ("b", "ArrowDown", "j", "z"):  # insert, move, move, undo
            page.keyboard.press(key)
        assert cells_and_place(page) == before, element.evaluate("e => e.outerHTML")


def test_tab_walks_through_its_controls_in_order(explorer, page):
    shown = explorer.root.locator(
        ".intuitive-first > .intuitive-controls [data-control]:enabled:visible"
    ).all()
    assert shown
    shown[0].focus()
    for control in shown[1:]:
        page.keyboard.press("Tab")
        assert control.evaluate("element => element === document.activeElement")


@pytest.mark.sweep  # in every run: the same on the kit's own explorer
def test_after_a_fast_drag_the_last_value_is_shown(explorer, page):
    there_and_back = [0.1, 0.9, 0.2, 0.8, 0.3] + [0.04 * step for step in range(8, 20)]
    visible = ".intuitive-first > .intuitive-controls input[type=range]"
    sliders = explorer.root.locator(visible).all()
    for slider in sliders[:1]:
        control = slider.get_attribute("data-control")
        drag(page, slider, there_and_back)
        last = value_of(slider)
        explorer.settled({control: last})
        page.wait_for_timeout(200)  # nothing older may still arrive
        assert explorer.values()[control] == last == value_of(slider)
        dragged = explorer.summary, picture(explorer)
        # Away and back by single steps: the same picture, so it was that of the last value.
        at_the_end = slider.evaluate("input => input.value === input.max")
        slider.focus()
        for key in ("ArrowLeft", "ArrowRight") if at_the_end else ("ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
            explorer.settled({control: value_of(slider)})
        assert (explorer.summary, picture(explorer)) == dragged, control


# ------------------------------------------------------------------------------------- texts


def ends(explorer: ExplorerOnPage, *, every: bool) -> list[tuple[str, object]]:
    """Controls with the values that are looked at: both ends, or every option in the sweep."""
    controls = explorer.root.evaluate(
        """root => [...root.querySelectorAll("[data-control]:not(:disabled)")].map(control => {
            const {control: name, values} = control.dataset;
            if (control.type === "range") {
                const {min, max} = control;
                const all = values ? JSON.parse(values) : [Number(min), Number(max)];
                return [name, [all[0], all.at(-1)]];
            }
            if (control.tagName === "SELECT") return [name, [...control.options].map(o => o.value)];
            return [name, control.type === "checkbox" ? [true, false] : []];
        })"""
    )
    defaults = explorer.values()
    controls = controls if every else controls[:LOOKED_AT]
    picked = ((name, of if every else [of[0], of[-1]]) for name, of in controls if of)
    return [
        (name, value)
        for name, values in picked
        for value in dict.fromkeys(values)
        if value != defaults[name]
    ]


def to_width(page: Page, width: int) -> None:
    """Every plot of the page takes its new width, so tests of one width stand together."""
    if page.viewport_size["width"] == width:
        return
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.wait_for_timeout(300)


def plots_fit(explorer: ExplorerOnPage) -> None:
    explorer.root.scroll_into_view_if_needed()
    explorer.page.wait_for_function(
        """root => [...root.querySelectorAll("[data-plot]")].every(plot =>
            !plot._fullLayout || !plot.clientWidth
            || Math.abs(plot._fullLayout.width - plot.clientWidth) < 1)""",
        arg=explorer.root.element_handle(),
    )


def check_overlaps(explorer: ExplorerOnPage, width: int, *, every: bool) -> None:
    """At the defaults with each tab, and at the ends of controls.

    Where a picture takes seconds, only the sweep looks at the ends.
    """
    page, tabs = explorer.page, explorer.root.get_by_role("tab")
    to_width(page, width)
    plots_fit(explorer)
    fold_all(page, opened=True)
    found: dict[str, list] = {}

    def look(state: str) -> None:
        if seen := text_overlaps(explorer):
            found.setdefault(state, []).extend(seen)

    def look_at_tabs(state: str) -> None:
        for tab in tabs.all():
            tab.click()
            page.wait_for_timeout(150)
            explorer.settled()
            look(f"{state}, {tab.inner_text()}")

    look("defaults")
    look_at_tabs("defaults")
    slow = re.search(r"Done in [\d.]+ s", explorer.root.locator(".intuitive-status").inner_text())
    for name, value in ends(explorer, every=every) if every or not slow else ():
        if go(explorer, **{name: value}):
            look(f"{name}={value}")
            if every:
                look_at_tabs(f"{name}={value}")
    go(explorer)

    known = [entry for entry in KNOWN if entry.explorer == explorer.name and width in entry.widths]
    new, met = {}, set()
    for state, seen in found.items():
        for overlap in seen:
            fitting = {entry for entry in known if entry.matches(overlap)}
            met |= fitting
            if not fitting:
                new.setdefault(state, []).append(overlap)
    assert new == {}, "\n".join(f"{state}: {seen}" for state, seen in new.items())
    gone = [entry for entry in known if entry not in met and (every or not entry.sweep)]
    assert gone == [], "these no longer overlap: take them out of KNOWN"


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_no_text_lies_over_another(explorer, width):
    check_overlaps(explorer, width, every=False)


@pytest.mark.sweep
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_no_text_lies_over_another_at_any_end(explorer, width):
    check_overlaps(explorer, width, every=True)


def test_one_screen_holds_it(explorer, page):
    """lessons.md, "One explorer": at 1,000 px, and 720 px of height to the hero's end."""
    now = explorer.root.evaluate("root => root.getBoundingClientRect().width")
    to_width(page, round(WIDE + SCREEN - now))
    plots_fit(explorer)
    fold_all(page, opened=False)  # earlier tests have opened them
    seen = explorer.in_sight()
    assert seen["controls"] <= MOST_CONTROLS and seen["readouts"] <= MOST_READOUTS
    assert seen["pictures"] <= MOST_PICTURES and seen["tab_plots"] <= MOST_PICTURES
    allowed = TALLER.get(explorer.name, SCREEN_HEIGHT)
    assert 0 < seen["hero_px"] <= allowed, seen


def test_nothing_is_wider_than_its_output(explorer, page):
    to_width(page, NARROW)
    plots_fit(explorer)
    assert sticking_out(explorer, scrolling=False) == []
    for tab in explorer.root.get_by_role("tab").all():
        tab.click()
        explorer.settled()
        plots_fit(explorer)
        assert sticking_out(explorer, scrolling=False) == [], tab.inner_text()


def test_a_narrow_window_cuts_nothing_off(explorer, page):
    to_width(page, 550)
    plots_fit(explorer)
    assert sticking_out(explorer, scrolling=True) == []


# ------------------------------------------------------------------------------------- the page


@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_all_can_be_read_in_both_themes(notebook, page, dark):
    to_width(page, WIDE)
    notebook.theme(dark)
    for cell in range(notebook.cells()):
        notebook.scroll_to_cell(cell)
        page.wait_for_timeout(60)
    plot_colours_follow(page)
    fold_all(page, opened=True)
    parts = page.locator(".intuitive-explorer, .intuitive-question").count()
    assert parts == len(NAMES) + len(catalogue.questions())
    assert serious_violations(page) == []


def test_page_stayed_quiet(page):
    assert page.console_errors == []
    assert page.foreign_requests == []
