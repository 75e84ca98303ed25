"""What the browser tests ask of a page."""

import json
from importlib import resources

from lab import ExplorerOnPage
from playwright.sync_api import Locator, Page
from steps import Seen

AXE = resources.files("axe_core_python").joinpath("axe.min.js")


def picture(explorer: ExplorerOnPage) -> str:
    """All numbers, lines and marks that the explorer shows; without them, its text."""
    return explorer.root.evaluate(
        """root => {
            const seen = [...root.querySelectorAll("[data-plot]")]
                .filter(plot => plot.data && plot.clientWidth > 0);
            const marks = [...root.querySelectorAll(".intuitive-hero .mark")]
                .map(mark => mark.outerHTML);
            const whole = root.querySelector(".intuitive-picture");
            if (!seen.length && !marks.length) return whole.innerHTML;
            return JSON.stringify([marks, ...seen.map(plot => [
                plot.dataset.plot,
                plot.data.map(({x, y, z, base, marker}) => [x, y, z, base, marker?.color]),
                [plot.layout.shapes, plot.layout.annotations],
            ])]);
        }"""
    )


def seen_on(explorer: ExplorerOnPage) -> Seen:
    """What a step's claim is held against, read off the page."""
    return Seen(
        values=explorer.values(),
        readouts=explorer.readouts,
        summary=explorer.summary,
        sentences=explorer.sentences,
        marks=explorer.marks,
    )


def plots_without_drawing(explorer: ExplorerOnPage) -> list[str]:
    return explorer.root.evaluate(
        """root => [...root.querySelectorAll("[data-plot]")]
            .filter(plot => plot.clientWidth > 0)
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


def sticking_out(explorer: ExplorerOnPage, *, scrolling: bool) -> list[str]:
    """Parts of the explorer that reach beyond the right edge of its output.

    Args:
        scrolling: pictures may be wider than the output, and scroll. Tables and code always may.
    """
    return explorer.root.evaluate(
        """(root, scrolling) => {
            const output = root.closest(".jp-OutputArea-output").getBoundingClientRect();
            const edge = Math.min(output.right, root.getBoundingClientRect().right) + 1;
            const wide = "svg *, .intuitive-scroll, .intuitive-equation, pre"
                + (scrolling ? ", .intuitive-scroller, .intuitive-plots" : "");
            const parts = [...root.querySelectorAll("*")].filter(part =>
                !part.closest(wide) && part.getBoundingClientRect().right > edge);
            if (root.scrollWidth > root.clientWidth) parts.push(root);
            return parts.map(part => part.outerHTML.slice(0, 120));
        }""",
        scrolling,
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


def fold_all(page: Page, *, opened: bool) -> None:
    """Open, or close, everything that folds."""
    page.evaluate(
        """opened => {
            document.querySelectorAll(".intuitive-explorer details")
                .forEach(fold => { fold.open = opened; });
            document.querySelectorAll(`.intuitive-fold[aria-expanded="${!opened}"]`)
                .forEach(button => button.click());
        }""",
        opened,
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


OVERLAPS = r"""(root, reach) => {
    const bar = root.querySelector(".intuitive-bar");
    if (bar) bar.style.position = "static"; // scrolled under it is not written over it
    const opacity = element => {
        let all = 1;
        for (let node = element; node && node !== root; node = node.parentElement) {
            all *= Number(getComputedStyle(node).opacity);
        }
        return all;
    };
    const seen = element =>
        element.checkVisibility({visibilityProperty: true}) && opacity(element) > 0.1;
    // Corners of a text; its box without what no letter reaches: above the capitals.
    const upright = ({left, right, top, bottom}, size) => {
        const head = Math.min(0.15 * size, (bottom - top) / 4);
        return [[left, top + head], [right, top + head], [right, bottom], [left, bottom]];
    };
    const drawn = text => {
        const {x, y, width, height} = text.getBBox();
        const head = 0.15 * parseFloat(getComputedStyle(text).fontSize);
        const matrix = text.getScreenCTM();
        return [[x, y + head], [x + width, y + head], [x + width, y + height], [x, y + height]]
            .map(([x, y]) => new DOMPoint(x, y).matrixTransform(matrix))
            .map(({x, y}) => [x, y]);
    };
    const around = corners => {
        const [xs, ys] = [0, 1].map(axis => corners.map(corner => corner[axis]));
        return {left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys),
            bottom: Math.max(...ys)};
    };
    const texts = [];
    const add = (element, text, corners, place, clip) => {
        const box = around(corners);
        if (!text.trim() || box.right - box.left < 2 || box.bottom - box.top < 2) return;
        texts.push({element, text: text.trim().replace(/\s+/g, " "), corners, box, place, clip});
    };
    for (const text of root.querySelectorAll("svg text")) {
        if (!seen(text)) continue;
        const plot = text.closest("[data-plot]");
        const clip = (plot ?? text.ownerSVGElement).getBoundingClientRect();
        add(text, text.textContent, drawn(text), plot?.dataset.plot ?? "hero", clip);
    }
    const skipped = "svg, option, script, style, math, pre, table, .intuitive-tokens, "
        + ".intuitive-unseen, .intuitive-hidden";
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || element.closest(skipped)) continue;
        if (!seen(element)) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        const size = parseFloat(getComputedStyle(element).fontSize);
        const plot = element.closest(".intuitive-stage")?.querySelector("[data-plot]");
        const clip = (plot ?? root).getBoundingClientRect();
        // What is scrolled out of its box cannot be seen.
        const open = part => part !== root && getComputedStyle(part).overflowY === "visible";
        let box = element;
        while (open(box)) box = box.parentElement;
        const frame = box === root ? null : box.getBoundingClientRect();
        for (const at of range.getClientRects()) {
            if (frame && (at.bottom > frame.bottom + 1 || at.top < frame.top - 1)) continue;
            add(element, node.data, upright(at, size), plot?.dataset.plot ?? "page", clip);
        }
    }
    if (bar) bar.style.position = "";
    // How far two texts reach into each other: the least way that would part them.
    const depth = (one, other) => {
        let least = Infinity;
        for (const {corners} of [one, other]) {
            for (const at of [0, 1]) {
                const side = [0, 1].map(axis => corners[at + 1][axis] - corners[at][axis]);
                const length = Math.hypot(...side) || 1;
                const ends = ({corners}) => {
                    const along = corners.map(([x, y]) => (x * side[0] + y * side[1]) / length);
                    return [Math.min(...along), Math.max(...along)];
                };
                const [[low, high], [from, to]] = [ends(one), ends(other)];
                least = Math.min(least, high - from, to - low);
            }
        }
        return least;
    };
    const found = [];
    texts.sort((one, other) => one.box.top - other.box.top);
    texts.forEach((one, index) => {
        const {box, clip} = one;
        const beyond = Math.max(clip.left - box.left, box.right - clip.right, clip.top - box.top,
            box.bottom - clip.bottom);
        if (beyond > reach) found.push([one.place, one.text, "(cut off)", Math.round(beyond)]);
        for (const other of texts.slice(index + 1)) {
            if (other.box.top > box.bottom - reach) break;
            if (other.element === one.element) continue;
            if (other.box.left > box.right - reach || other.box.right < box.left + reach) continue;
            const deep = depth(one, other);
            if (deep > reach) found.push([one.place, one.text, other.text, Math.round(deep)]);
        }
    });
    return found;
}"""


def text_overlaps(explorer: ExplorerOnPage, reach: float = 2) -> list[tuple[str, str, str]]:
    """Texts of the explorer that lie over each other or are cut off by their plot or picture.

    Each as (plot, "hero" or "page"; one text; the other text or "(cut off)"). Texts may reach
    `reach` pixels into each other: that much of their boxes is air.
    """
    found = explorer.root.evaluate(OVERLAPS, reach)
    return sorted({(place, *sorted((one, other))) for place, one, other, _ in found})
