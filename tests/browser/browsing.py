"""What the browser tests ask of a page."""

import json
from importlib import resources

from lab import ExplorerOnPage, Notebook
from playwright.sync_api import Locator, Page

AXE = resources.files("axe_core_python").joinpath("axe.min.js")


def picture(explorer: ExplorerOnPage) -> str:
    """All numbers and lines that the explorer's plots show; without plots, its text."""
    return explorer.root.evaluate(
        """root => {
            const plots = [...root.querySelectorAll("[data-plot]")];
            if (!plots.length) return root.querySelector(".intuitive-picture").innerHTML;
            return JSON.stringify(plots.map(plot => [
                plot.dataset.plot,
                plot.data.map(({x, y, z, base, marker}) => [x, y, z, base, marker?.color]),
                [plot.layout.shapes, plot.layout.annotations],
            ]));
        }"""
    )


def plots_without_drawing(explorer: ExplorerOnPage) -> list[str]:
    return explorer.root.evaluate(
        """root => [...root.querySelectorAll("[data-plot]")]
            .filter(plot => !plot.querySelector(".main-svg .trace path, .main-svg image"))
            .map(plot => plot.dataset.plot)"""
    )


def cells_and_place(page: Page) -> list:
    """Number of cells, the active one and the mode: what JupyterLab's shortcuts change."""
    return page.evaluate(
        """() => {
            const content = window.jupyterapp.shell.currentWidget.content;
            return [content.widgets.length, content.activeCellIndex, content.mode];
        }"""
    )


def sticking_out(explorer: ExplorerOnPage) -> list[str]:
    """Parts of the explorer that reach beyond its right edge."""
    return explorer.root.evaluate(
        """root => {
            const edge = root.getBoundingClientRect().right + 1;
            const scrolls = part => part.closest(".intuitive-scroll, pre, .intuitive-plot svg");
            const parts = [...root.querySelectorAll("*")].filter(part =>
                !scrolls(part) && part.getBoundingClientRect().right > edge);
            if (root.scrollWidth > root.clientWidth) parts.push(root);
            return parts.map(part => part.outerHTML.slice(0, 120));
        }"""
    )


def plot_colours_follow(page: Page) -> None:
    """Wait until every plot in sight writes in the colour of JupyterLab's theme."""
    page.wait_for_function(
        """() => [...document.querySelectorAll("[data-plot]")]
            .filter(plot => plot._fullLayout && plot.clientWidth > 0)
            .every(plot => plot._fullLayout.font.color ===
                getComputedStyle(plot).getPropertyValue("--jp-ui-font-color1").trim())""",
        timeout=15_000,
    )


def serious_violations(page: Page) -> list[dict]:
    """What axe-core finds in the lesson's own outputs, where it matters to readers."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        """async () => {
            const include = [".intuitive-explorer", ".intuitive-question"]
                .filter(selector => document.querySelector(selector)).map(selector => [selector]);
            const {violations} = await axe.run({include}, {resultTypes: ["violations"]});
            return violations;
        }"""
    )
    return [
        {"rule": v["id"], "impact": v["impact"], "where": [n["html"][:200] for n in v["nodes"]]}
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def open_all_folds(page: Page) -> None:
    page.evaluate(
        """() => document.querySelectorAll(".intuitive-explorer details")
            .forEach(fold => { fold.open = true; })"""
    )


def drag(page: Page, slider: Locator, shares: list[float]) -> None:
    """Drag a slider with the mouse to shares of its length, without waiting in between."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    height = box["y"] + box["height"] / 2
    places = [box["x"] + box["width"] * share for share in shares]
    page.mouse.move(places[0], height)
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(place, height)
    page.mouse.up()


def value_of(slider: Locator) -> float:
    """The number that a slider stands for."""
    listed, position = slider.evaluate("input => [input.dataset.values ?? null, input.value]")
    return json.loads(listed)[int(position)] if listed else float(position)


def run_cell(notebook: Notebook, index: int) -> None:
    """Run one cell again and wait for the kernel."""
    notebook.page.evaluate(
        """async index => {
            window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
            await window.jupyterapp.commands.execute("notebook:run-cell");
        }""",
        index,
    )
