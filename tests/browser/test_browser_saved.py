"""A notebook that its reader saved, opened again without its kernel."""

import pytest
from lab import Notebook, browser_page
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

WITH_POSTER, WITH_TEXT, QUESTION = 1, 2, 3
RUN_THIS = "Run this cell to "
ERROR = "Error displaying widget"


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium) as page:
        yield page


@pytest.fixture(scope="module")
def saved(page, lab_url):
    """Run and saved by the page; says what stood in its cells while it lived."""
    notebook = Notebook(page, lab_url, "saved.ipynb")
    for cell in range(notebook.cells()):
        notebook.run(cell)
    alive = [visible(notebook, cell) for cell in range(notebook.cells())]
    notebook.save()
    notebook.session("shutdown")
    return alive


def visible(notebook: Notebook, cell: int) -> dict:
    """Texts and pictures of a cell's outputs, as far as they can be seen."""
    notebook.scroll_to_cell(cell)
    notebook.page.wait_for_timeout(400)
    outputs = notebook.page.locator(".jp-Cell").nth(cell).locator(".jp-OutputArea-child")
    seen = [output for output in outputs.all() if output.is_visible()]
    return {
        "text": "\n".join(output.inner_text() for output in seen),
        "pictures": sum(output.locator(".jp-RenderedImage img").count() for output in seen),
        "widgets": sum(output.locator(".intuitive-alive").count() for output in seen),
        "outputs": len(seen),
    }


@pytest.mark.parametrize("cell", [WITH_POSTER, WITH_TEXT, QUESTION])
def test_while_it_lives_only_the_widget_is_seen(saved, cell):
    found = saved[cell]
    assert (found["outputs"], found["widgets"], found["pictures"]) == (1, 1, 0)
    assert RUN_THIS not in found["text"]


@pytest.mark.parametrize("kernel", [False, True], ids=["no kernel", "another kernel"])
def test_without_its_kernel_picture_and_advice_stay(saved, page, lab_url, tmp_path, kernel):
    notebook = Notebook(page, lab_url, "saved.ipynb", kernel=kernel)
    page.wait_for_timeout(2_000)  # for what JupyterLab writes where a widget's kernel is gone
    trusted = page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
            .every(({model}) => model.trusted)"""
    )
    assert trusted
    poster, text, question = (
        visible(notebook, cell) for cell in (WITH_POSTER, WITH_TEXT, QUESTION)
    )
    page.screenshot(path=tmp_path / "reopened.png")
    for found in (poster, text, question):
        assert RUN_THIS in found["text"]
        assert ERROR not in found["text"] and "not found" not in found["text"]
        assert (found["outputs"], found["widgets"]) == (2, 0)
    assert (poster["pictures"], text["pictures"]) == (1, 0)
    assert "Of 12 scores the 4 largest hold" in text["text"]
    assert "Equal scores: what do half of them hold?" in question["text"]
    if not kernel:
        return
    for cell in (0, WITH_POSTER, WITH_TEXT):
        notebook.run(cell)
    notebook.explorer("kit_example")
    assert visible(notebook, WITH_TEXT)["outputs"] == 1
    expect(page.get_by_text(ERROR)).to_have_count(1)  # of the cell that was not run, unseen
    notebook.session("shutdown")
