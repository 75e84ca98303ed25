"""Every lesson in JupyterLab: it runs, and each of its explorers can be read and moved.

Keyboard only, fast drags, both themes, a narrow window; no console error, no other host.
"""

import re
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from browsing import (
    cells_and_place,
    drag,
    open_all_folds,
    picture,
    plot_colours_follow,
    plots_without_drawing,
    serious_violations,
    sticking_out,
    value_of,
)
from lab import Notebook, browser_page

from intuitive.widgets import panels

pytestmark = [pytest.mark.browser, pytest.mark.model]

LESSONS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))
FIRST_PICTURE_S = 45  # after "run all"; benchmarks/latency.py holds an idle machine to 15
RUN_ALL_S = 240
NAMES = {maker.__name__: name for name, maker in panels.EXPLORERS.items()}


def explorers_in(lesson: Path) -> list[str]:
    cells = nbformat.read(lesson, as_version=4).cells
    called = (re.findall(r"panels\.(\w+)\(", cell.source) for cell in cells)
    return [NAMES[maker] for makers in called for maker in makers if maker in NAMES]


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium) as page:
        yield page


@pytest.fixture(scope="module", params=LESSONS, ids=lambda lesson: lesson.stem)
def lesson(request, page, lab_url):
    """A lesson that has been run, its explorers unlocked."""
    names = explorers_in(request.param)
    notebook = Notebook(page, lab_url, request.param.name)
    started = time.perf_counter()
    notebook.run_all(wait=False)
    notebook.explorer(names[0])
    first_picture_s = time.perf_counter() - started
    page.wait_for_function(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
            .every(({model}) => model.type !== "code" || model.executionState === "idle")""",
        timeout=RUN_ALL_S * 1e3,
    )
    for name in names:
        notebook.explorer(name)
    return SimpleNamespace(
        name=request.param.stem, notebook=notebook, names=names, first_picture_s=first_picture_s
    )


def test_first_picture_comes_soon(lesson):
    print(f"{lesson.name}: first picture {lesson.first_picture_s:.1f} s after run all")
    assert lesson.first_picture_s < FIRST_PICTURE_S


def test_every_plot_is_drawn(lesson):
    for name in lesson.names:
        explorer = lesson.notebook.explorer(name)
        assert explorer.error == "" and explorer.summary
        assert plots_without_drawing(explorer) == []


def test_no_cell_fails(lesson, page):
    failed = page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
            .filter(cell => cell.model.type === "code")
            .flatMap(cell => Array.from(
                {length: cell.model.outputs.length}, (_, i) => cell.model.outputs.get(i).toJSON()))
            .filter(output => output.output_type === "error" || output.name === "stderr")"""
    )
    assert failed == []


def test_keyboard_alone_moves_every_slider(lesson, page):
    for name in lesson.names:
        explorer = lesson.notebook.explorer(name)
        summaries = {explorer.summary}
        place = None
        sliders = explorer.root.locator("input[type=range]").all()
        sliders = [slider for slider in sliders if slider.is_visible()]
        if not sliders:  # lists alone
            continue
        for slider in sliders:
            label = explorer.root.locator(f"label[for={slider.get_attribute('id')}]").inner_text()
            labelled = explorer.root.get_by_label(label, exact=True)
            labelled.focus()
            place = place or cells_and_place(page)
            value, said, drawn = (
                value_of(slider),
                slider.get_attribute("aria-valuetext"),
                picture(explorer),
            )
            at_the_end = slider.evaluate("input => input.value === input.max")
            page.keyboard.press("ArrowLeft" if at_the_end else "ArrowRight")
            moved = value_of(slider)
            assert (moved < value) if at_the_end else (moved > value), f"{name}: {label}"
            explorer.settled({slider.get_attribute("data-control"): moved})
            assert slider.get_attribute("aria-valuetext") != said, f"{name}: {label}"
            assert picture(explorer) != drawn, f"{name}: {label} leaves the plots"
            assert labelled.evaluate("input => input === document.activeElement")
            summaries.add(explorer.summary)
        assert len(summaries) > 1, f"{name}: no slider changes the summary"
        assert cells_and_place(page) == place


def test_jupyterlab_takes_no_key_from_a_control(lesson, page):
    for name in lesson.names:
        explorer = lesson.notebook.explorer(name)
        open_all_folds(page)
        reached = explorer.root.locator(
            "input:visible, select:visible, summary:visible, [tabindex='0']:visible"
        ).all()
        assert len(reached) > 1
        reached[0].focus()
        before = cells_and_place(page)
        for element in reached:
            element.focus()
            for key in ("b", "a", "ArrowDown", "j", "z"):  # insert, insert, move, move, undo
                page.keyboard.press(key)
            assert cells_and_place(page) == before, element.evaluate("e => e.outerHTML")
        explorer.settled()


def test_tab_walks_through_the_controls_in_order(lesson, page):
    for name in lesson.names:
        explorer = lesson.notebook.explorer(name)
        shown = explorer.root.locator(
            ".intuitive-body > .intuitive-controls [data-control]:visible"
        ).all()
        shown[0].focus()
        for control in shown[1:]:
            page.keyboard.press("Tab")
            assert control.evaluate("element => element === document.activeElement")


def test_after_a_fast_drag_the_last_value_is_shown(lesson, page):
    there_and_back = [0.1, 0.9, 0.2, 0.8, 0.3] + [0.02 * step for step in range(15, 40)]
    for name in lesson.names:
        explorer = lesson.notebook.explorer(name)
        for slider in explorer.root.locator(".intuitive-body > .intuitive-controls input").all():
            if slider.get_attribute("type") != "range":
                continue
            control = slider.get_attribute("data-control")
            drag(page, slider, there_and_back)
            last = value_of(slider)
            explorer.settled({control: last})
            page.wait_for_timeout(250)  # nothing older may still arrive
            assert explorer.values()[control] == last == value_of(slider)
            dragged = explorer.summary, picture(explorer)
            # Away and back by single steps: the same picture, so it was that of the last value.
            at_the_end = slider.evaluate("input => input.value === input.max")
            slider.focus()
            for key in ("ArrowLeft", "ArrowRight") if at_the_end else ("ArrowRight", "ArrowLeft"):
                page.keyboard.press(key)
                explorer.settled({control: value_of(slider)})
            assert (explorer.summary, picture(explorer)) == dragged, f"{name}: {control}"


@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_plots_and_text_can_be_read_in_both_themes(lesson, page, dark):
    lesson.notebook.theme(dark)
    plot_colours_follow(page)
    open_all_folds(page)
    parts = page.locator(".intuitive-explorer, .intuitive-question").count()
    assert parts >= len(lesson.names)  # all at once: JupyterLab keeps cells that were shown
    assert serious_violations(page) == []


def test_a_narrow_window_cuts_nothing_off(lesson, page):
    page.set_viewport_size({"width": 700, "height": 1000})
    try:
        for name in lesson.names:
            explorer = lesson.notebook.explorer(name)
            page.wait_for_timeout(300)  # plots take their new width
            explorer.settled()
            assert sticking_out(explorer) == [], name
    finally:
        page.set_viewport_size({"width": 1360, "height": 1000})


def test_page_stayed_quiet(lesson, page):
    assert page.console_errors == []
    assert page.foreign_requests == []
