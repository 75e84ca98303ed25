"""Lessons outside JupyterLab: Notebook 7, Voilà, and front ends with other names for outputs."""

import importlib.util
from importlib import resources

import pytest
from browsing import serious_violations
from lab import ExplorerOnPage, Notebook, browser_page

pytestmark = pytest.mark.browser

FRONT = resources.files("intuitive.widgets.kit").joinpath("front")
LESSON = "00_start_here.ipynb"
EXPLORER = "msa_needle"
# Voilà's page asks other hosts for these, with or without our widgets on it.
VOILA_ASKS = ("/fontawesome-free@", "/mathjax/", "/require.js/")


def needs(package: str) -> pytest.MarkDecorator:
    absent = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed (the extra `apps`)")


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium) as page:
        yield page


def works(explorer: ExplorerOnPage) -> None:
    """Unlocked, it moves: a step, a slider, a picture with marks; nothing beside it is seen."""
    explorer.unlock()
    before = explorer.summary
    assert explorer.press_step(1)
    assert explorer.summary != before
    assert explorer.marks
    explorer.set("n_selected", 8)
    assert explorer.status.startswith("Done")
    page = explorer.page
    assert not any(part.is_visible() for part in page.locator(".intuitive-asleep").all())
    assert serious_violations(page) == []


@needs("notebook")
def test_a_lesson_in_notebook_7(page, lab_url):
    page.foreign_requests.clear()
    notebook = Notebook(page, lab_url, LESSON, app="notebooks")
    notebook.run_all()
    works(notebook.explorer(EXPLORER))
    assert page.foreign_requests == []


@needs("voila")
def test_a_lesson_as_an_app_in_voila(page, lab_url):
    page.foreign_requests.clear()
    page.goto(f"{lab_url}/voila/render/{LESSON}", timeout=120_000)
    works(ExplorerOnPage(page, EXPLORER))
    assert page.locator(".jp-CodeCell .jp-InputArea:visible").count() == 0  # code is hidden
    ours = [url for url in page.foreign_requests if not any(part in url for part in VOILA_ASKS)]
    assert ours == []


OUTPUTS = """
<div class="cell"><div class="output_container"><div class="output">before</div></div>
<div class="output_container"><div class="output" id="picture"><img alt="poster"></div></div>
<div class="output_container"><div class="output" id="advice">
  <p class="intuitive-asleep"><strong>Run this cell to move it.</strong></p><style>p {}</style>
</div></div>
<div class="output_container"><div class="output" id="widget"></div></div></div>
<div class="cell"><div class="output_container"><div class="output" id="alone"></div></div></div>
"""


def test_in_other_outputs_the_widget_takes_the_place_of_its_picture(page):
    page.set_content(OUTPUTS)
    for script in ("dom.js", "liveness.js"):
        page.add_script_tag(content=FRONT.joinpath(script).read_text(encoding="utf-8"))

    def seen() -> list[str]:
        page.wait_for_timeout(50)  # a frame or two
        return [id for id in ("picture", "advice") if page.locator(f"#{id}").is_visible()]

    page.evaluate(
        """() => {
            window.root = make("section", {class: "intuitive-alive"});
            window.again = hideAsleep(root); // asked before it stands on the page
        }"""
    )
    assert seen() == ["picture", "advice"]
    page.evaluate("() => document.querySelector('#widget').append(root)")
    assert seen() == []
    assert page.get_by_text("before").is_visible()
    page.evaluate("() => again()")
    assert seen() == ["picture", "advice"]
    page.evaluate("() => hideAsleep(document.querySelector('#alone'))")  # the cell below
    assert seen() == ["picture", "advice"]
