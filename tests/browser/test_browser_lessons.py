"""Every lesson in JupyterLab, run from its first cell to its last."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from browsing import plots_without_drawing, seen_on
from lab import Notebook, browser_page
from steps import claims

pytestmark = [pytest.mark.browser, pytest.mark.model]

LESSONS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))
FIRST_PICTURE_S = 45  # after "run all"; benchmarks/latency.py holds an idle machine to 15
RUN_ALL_S = 240

OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === "code")
    .flatMap(cell => Array.from(
        {length: cell.model.outputs.length}, (_, i) => cell.model.outputs.get(i).toJSON()))"""


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium) as page:
        yield page


@pytest.fixture(scope="module", params=LESSONS, ids=lambda lesson: lesson.stem)
def lesson(request, page, lab_url):
    """A lesson that has been run, its explorers unlocked."""
    notebook = Notebook(page, lab_url, request.param.name)
    started = time.perf_counter()
    notebook.run_all(wait=False)
    names = page.locator("[data-explorer]")
    for cell in range(notebook.cells()):
        notebook.scroll_to_cell(cell)
        page.wait_for_timeout(60)
        if names.count():
            break
    names.first.wait_for(state="visible", timeout=60_000)
    first_picture_s = time.perf_counter() - started
    page.wait_for_function(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
            .every(({model}) => model.type !== "code" || model.executionState === "idle")""",
        timeout=RUN_ALL_S * 1e3,
    )
    for cell in range(notebook.cells()):
        notebook.scroll_to_cell(cell)
        page.wait_for_timeout(60)
    found = names.evaluate_all("roots => roots.map(root => root.dataset.explorer)")
    explorers = [
        notebook.explorer(name, found[:place].count(name)) for place, name in enumerate(found)
    ]
    return SimpleNamespace(
        name=request.param.stem,
        notebook=notebook,
        explorers=explorers,
        questions=page.locator("[data-question]").count(),
        first_picture_s=first_picture_s,
    )


def test_first_picture_comes_soon(lesson):
    print(f"{lesson.name}: first picture {lesson.first_picture_s:.1f} s after run all")
    assert lesson.first_picture_s < FIRST_PICTURE_S


def test_no_cell_fails(lesson, page):
    outputs = page.evaluate(OUTPUTS)
    assert [
        out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"
    ] == []


def test_all_its_widgets_live(lesson, page):
    """Every widget that a cell has made stands on the page, and no poster beside it."""
    made = [
        out
        for out in page.evaluate(OUTPUTS)
        if "application/vnd.jupyter.widget-view+json" in out.get("data", {})
    ]
    assert lesson.explorers and len(made) == len(lesson.explorers) + lesson.questions
    assert page.locator(".intuitive-asleep:visible").count() == 0
    for explorer in lesson.explorers:
        explorer.root.scroll_into_view_if_needed()  # out of sight nothing is drawn
        page.wait_for_timeout(150)
        explorer.settled()
        assert explorer.error == "" and explorer.summary
        assert plots_without_drawing(explorer) == []


def test_the_first_and_the_last_step_show_what_they_say(lesson):
    """`test_every_step.py` holds every step's claim against the view; here the page shows it."""
    walk(lesson, lambda n_steps: sorted({0, n_steps - 1}))


@pytest.mark.sweep
def test_every_step_shows_what_it_says(lesson):
    walk(lesson, range)


def walk(lesson, places) -> None:
    """Press buttons of every explorer; what a step's sentence claims is read off the page."""
    walked: dict[str, list[str]] = {}
    for explorer in lesson.explorers:
        titles = explorer.root.locator("[data-step] button > span:nth-child(2)").all_text_contents()
        again = explorer.name in walked
        if again and walked[explorer.name] == titles:
            continue
        walked[explorer.name] = titles
        told = claims(explorer.name, again=again)
        assert len(told) == len(titles) == len(set(titles))
        for place in places(len(told)):
            assert explorer.press_step(place), f"{explorer.name}: step {place} is not marked"
            told[place](seen_on(explorer))


def test_page_stayed_quiet(lesson, page):
    assert page.console_errors == []
    assert page.foreign_requests == []
