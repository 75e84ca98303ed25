"""Every lesson with nothing but the keyboard, as a reader without a mouse does it.

Only keys act: what is evaluated on the page reads it. In JupyterLab's command mode the focus is on
the selected cell, arrow keys select another, Shift+Enter runs it and selects the next. From a
selected cell, Tab leads into its output: the first stop is the cell's own toolbar, the editor is
none, so there is nothing to escape from. At every stop within an explorer or a question the focus
has to be seen, and Tab and Shift+Tab have to lead out again.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from browsing import picture, plots_without_drawing, seen_on, value_of
from lab import ExplorerOnPage, Notebook, browser_page
from playwright.sync_api import Error, Locator, Page, expect
from steps import Claim, claims

LESSONS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))
PATIENT_MS = 240_000  # a cell, a verdict
STOPS = 120  # more than any explorer has

pytestmark = [pytest.mark.browser, pytest.mark.model]

# Where the focus is, whether it can be seen there, and which way Tab leads to `part`.
LOOK = """part => {
    const now = document.activeElement;
    const content = window.jupyterapp.shell.currentWidget.content;
    const cell = content.widgets.findIndex(({node}) => node.contains(now));
    const ours = now.closest("[data-explorer], [data-question]");
    const box = now.getBoundingClientRect();
    const [left, right] = [Math.max(box.left, 0), Math.min(box.right, innerWidth)];
    const [top, bottom] = [Math.max(box.top, 0), Math.min(box.bottom, innerHeight)];
    const places = [0.02, 0.25, 0.5, 0.75, 0.98].flatMap(x => [0.1, 0.5, 0.9].map(y =>
        document.elementFromPoint(left + x * (right - left), top + y * (bottom - top))));
    const {outlineStyle, outlineWidth, outlineColor} = getComputedStyle(now);
    const faults = [
        now.checkVisibility({visibilityProperty: true, opacityProperty: true})
            ? "" : "it is not displayed",
        left < right && top < bottom ? "" : "it is out of sight",
        places.some(hit => hit && now.contains(hit)) ? "" : "something lies over it",
        outlineStyle !== "none" && parseFloat(outlineWidth) >= 1 && !outlineColor.endsWith(" 0)")
            ? "" : "no ring shows the focus",
    ].filter(Boolean);
    const follows = part && now.compareDocumentPosition(part) & Node.DOCUMENT_POSITION_FOLLOWING;
    return {
        cell,
        ours: ours?.dataset.explorer ?? ours?.dataset.question ?? "",
        told: now.cloneNode().outerHTML.slice(0, 110) + now.textContent.trim().slice(0, 40),
        faults: ours ? faults : [],
        inside: Boolean(part?.contains(now)),
        way: part === now ? "" : follows ? "Tab" : "Shift+Tab",
    };
}"""

# What Tab has to stop at, in the order of the page.
TABBABLE = """root => [...root.querySelectorAll("*")]
    .filter(part => part.tabIndex >= 0 && !part.disabled && part.checkVisibility())"""

# The mark with an arithmetic that is nearest to the one in the ring: how far it is, in pixels.
NEAREST = """root => {
    const centre = part => {
        const {left, right, top, bottom} = part.getBoundingClientRect();
        return [(left + right) / 2, (top + bottom) / 2];
    };
    const ring = root.querySelector(".intuitive-hero .ring");
    if (!ring.checkVisibility()) return null;
    const [x, y] = centre(ring);
    const told = new Set(root.intuitive.arithmetic());
    const marks = [...root.querySelectorAll(".intuitive-hero .mark.live")]
        .filter(({leaving}) => !leaving);
    const ways = marks.filter(({mark}) => told.has(mark.link))
        .map(node => centre(node.querySelector(".shape")))
        .map(([to_x, to_y]) => [to_x - x, to_y - y]);
    ways.sort((one, other) => Math.hypot(...one) - Math.hypot(...other));
    const hit = document.elementFromPoint(x, y);
    return {at: [x, y], marks: marks.length, told: told.size, way: ways[0] ?? null,
        seen: Boolean(hit && ring.closest(".intuitive-hero").contains(hit))};
}"""


class Reader:
    """Somebody who only presses keys, and sees where the focus is."""

    def __init__(self, page: Page, notebook: Notebook) -> None:
        self.page, self.notebook = page, notebook
        self.found: list[str] = []  # what hindered the reader
        self.did: list[str] = []
        self.at = ""  # part of the lesson

    @contextlib.contextmanager
    def part(self, what: str) -> Iterator[None]:
        """A part of the lesson; a failure in it is noted, and the reader goes on."""
        before, self.at = self.at, f"{self.at}, {what}" if self.at else what
        try:
            yield
            self.did.append(what)
        except (AssertionError, Error, KeyError) as error:
            self.note(" ".join(str(error).split())[:300] or repr(error))
        finally:
            self.at = before

    def note(self, what: str) -> None:
        self.found.append(f"{self.at}: {what}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def look(self, part=None) -> dict:
        """Where the focus is; notes where it cannot be seen."""
        seen = self.page.evaluate(LOOK, part)
        for fault in seen["faults"]:
            self.note(f"{fault}: {seen['told']}")
        return seen

    def wait(self, what: str, arg=None) -> None:
        """Until something is so on the page."""
        self.page.wait_for_function(what, arg=arg, timeout=PATIENT_MS)

    def stays_in(self, part: Locator, what: str) -> None:
        """The focus is still in `part` after something was pressed there."""
        seen = self.look(part.element_handle())
        assert seen["inside"], f"{what} loses the focus, to {seen['told']}"

    def reach(self, target: Locator) -> None:
        """Press Tab, or Shift+Tab, until `target` has the focus."""
        handle, before = target.element_handle(), ""
        for _ in range(STOPS):
            seen = self.look(handle)
            if not seen["way"]:
                return
            assert not before or seen["way"] == before, f"Tab passes over {target}"
            before = seen["way"]
            self.press(before)
        raise AssertionError(f"Tab does not lead to {target}, but to {seen['told']}")

    def to_cell(self, index: int) -> None:
        """Select a cell with arrow keys, once Shift+Tab has led back to one."""
        for _ in range(STOPS):
            seen = self.look()
            if seen["cell"] >= 0 and not seen["ours"]:
                break
            self.press("Shift+Tab")
        for _ in range(2 * self.notebook.cells()):
            selected = self.selected()
            if selected == index:
                return
            self.press("ArrowDown" if selected < index else "ArrowUp")
        raise AssertionError(f"arrow keys do not lead to cell {index}")

    def selected(self) -> int:
        return self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
        )

    def run_selected(self, *, last: bool) -> None:
        """Run the selected cell and select the next, where there is one."""
        index = self.selected()
        self.press("Control+Enter" if last else "Shift+Enter")
        self.wait(
            """([index, next]) => {
                const {widgets, activeCellIndex} = window.jupyterapp.shell.currentWidget.content;
                const {model, node} = widgets[index];
                if (activeCellIndex !== next) return false;
                if (model.type !== "code") return true;
                const all = Array.from(
                    {length: model.outputs.length}, (_, i) => model.outputs.get(i).toJSON());
                const made = all.filter(
                    ({data}) => data && "application/vnd.jupyter.widget-view+json" in data);
                const shown = node.querySelectorAll("[data-explorer], [data-question]");
                return model.executionCount !== null && model.executionState === "idle"
                    && shown.length === made.length;
            }""",
            [index, index if last else index + 1],
        )

    def into(self, part: Locator) -> None:
        """From the selected cell, with Tab, into its output."""
        for _ in range(5):
            self.press("Tab")
            if self.look(part.element_handle())["inside"]:
                return
        raise AssertionError("Tab does not lead from the cell into its output")

    def out_of(self, part: Locator, key: str) -> list[str]:
        """Press `key` until the focus has left `part`; the stops on the way."""
        handle, stops = part.element_handle(), []
        for _ in range(STOPS):
            seen = self.look(handle)
            if not seen["inside"]:
                return stops
            stops.append(seen["told"])
            self.press(key)
        raise AssertionError(f"{key} never leaves: it is at {stops[-3:]}")


# ------------------------------------------------------------------------------- one explorer


def answers_the_prediction(reader: Reader, explorer: ExplorerOnPage, card: Locator) -> None:
    """Skip it, think better of it, answer."""
    body = explorer.root.locator(".intuitive-body")
    verdict = card.locator("[data-verdict]:not([data-verdict=computing])")
    again = card.get_by_role("button", name="Predict again")
    if again.is_visible():  # answered before, in another window
        reader.reach(again)
        reader.press("Enter")
        expect(body).to_be_hidden()
        explorer.page.wait_for_timeout(500)  # the card is made anew when Python has heard
        reader.stays_in(card, "the question")
    for choice in ("[data-skip]", ".intuitive-choices button >> nth=0"):
        reader.reach(card.locator(choice))
        reader.press("Enter")
        expect(body).to_be_visible()
        reader.stays_in(card, "the answer")
        expect(verdict).to_be_visible(timeout=PATIENT_MS)
        reader.stays_in(card, "the verdict")
        if choice == "[data-skip]":
            reader.reach(again)
            reader.press("Enter")
            expect(body).to_be_hidden()
            reader.stays_in(card, "the question")
    expect(verdict).to_contain_text("You said", timeout=PATIENT_MS)
    explorer.settled(timeout=PATIENT_MS / 1e3)


def takes_step(reader: Reader, explorer: ExplorerOnPage, place: int, claim: Claim | None) -> None:
    item = explorer.root.locator(f'[data-step="{place}"]')
    reader.reach(item.locator("button"))
    reader.press("Space" if place % 2 else "Enter")
    reader.wait("root => root.intuitive.arrived()", explorer.root.element_handle())
    explorer.settled(timeout=PATIENT_MS / 1e3)
    reader.stays_in(item, "a step")
    if explorer.root.locator('.intuitive-player [aria-label="Pause"]').count():
        reader.reach(explorer.root.locator(".intuitive-player input"))
        reader.press("End")
        explorer.settled()
    expect(item).to_have_attribute("data-visited", "true")
    if claim is not None:
        claim(seen_on(explorer))


def resets(reader: Reader, explorer: ExplorerOnPage) -> None:
    button = explorer.root.locator("[data-reset]")
    reader.reach(button)
    reader.press("Enter")
    reader.wait("root => root.intuitive.arrived()", explorer.root.element_handle())
    explorer.settled(timeout=PATIENT_MS / 1e3)
    reader.stays_in(explorer.root, "Reset")


def plays_and_scrubs(reader: Reader, explorer: ExplorerOnPage, player: Locator) -> None:
    toggle, scrubber = player.get_by_role("button").first, player.locator("input")
    reader.reach(toggle)
    reader.press("Home")
    expect(scrubber).to_have_value("0")
    reader.press("Space")
    expect(scrubber).not_to_have_value("0")
    reader.reach(scrubber)
    reader.press("End", "ArrowLeft")
    expect(toggle).to_have_attribute("aria-label", "Play")
    last = int(scrubber.get_attribute("max"))
    expect(scrubber).to_have_value(str(last - 1))
    drawn = explorer.root.get_attribute("data-frame"), picture(explorer)
    reader.press("End")
    expect(scrubber).to_have_value(str(last))
    explorer.settled()
    assert (explorer.root.get_attribute("data-frame"), picture(explorer)) != drawn
    reader.stays_in(player, "the film")


def moves_a_control(
    reader: Reader, explorer: ExplorerOnPage, control: Locator, *, own: bool
) -> None:
    """A slider, or a list where there is none."""
    reader.reach(control)
    name, drawn = control.get_attribute("data-control"), picture(explorer)
    at_the_end = control.evaluate(
        """control => control.type === "range" ? control.value === control.max
            : control.selectedIndex === control.options.length - 1"""
    )
    before = control.input_value()
    reader.press("ArrowLeft" if at_the_end else "ArrowRight")
    assert control.input_value() != before, f"the arrow key leaves {name}"
    is_range = control.get_attribute("type") == "range"
    moved = value_of(control) if is_range else control.input_value()
    explorer.settled({name: moved}, timeout=PATIENT_MS / 1e3)
    assert own or picture(explorer) != drawn, f"{name} leaves the picture"
    reader.stays_in(control, name)


def unfolds_more_controls(reader: Reader, explorer: ExplorerOnPage, fold: Locator) -> None:
    more = explorer.root.locator(".intuitive-more")
    reader.reach(fold)
    reader.press("Enter")
    expect(more).to_be_visible()
    reader.press("Tab")
    reader.stays_in(more, "the fold")
    reader.press("Shift+Tab", "Enter")
    expect(more).to_be_hidden()


def opens_another_tab(reader: Reader, explorer: ExplorerOnPage, tabs: Locator) -> None:
    reader.reach(explorer.root.locator("[role=tab][aria-selected=true]"))
    before = explorer.root.locator("[role=tab][aria-selected=true]").inner_text()
    reader.press("ArrowRight")
    selected = explorer.root.locator("[role=tab][aria-selected=true]")
    expect(selected).not_to_have_text(before)
    reader.stays_in(selected, "another tab")
    panel = explorer.root.locator(f"[id={selected.get_attribute('aria-controls')}]")
    expect(panel).to_be_visible()
    until = time.monotonic() + PATIENT_MS / 1e3
    while (empty := plots_without_drawing(explorer)) and time.monotonic() < until:
        reader.page.wait_for_timeout(50)
    assert empty == []


def ring_after(reader: Reader, explorer: ExplorerOnPage, *keys: str) -> dict:
    """Where the ring is after some keys; notes where it cannot be seen."""
    reader.press(*keys)
    seen = explorer.root.evaluate(NEAREST)
    assert seen, f"{keys} leave no mark in the ring"
    if not seen["seen"]:
        reader.note(f"the ring is out of sight, at {seen['at']}")
    return seen


def walks_the_marks(reader: Reader, explorer: ExplorerOnPage, svg: Locator) -> None:
    ring = explorer.root.locator(".intuitive-hero .ring")
    arithmetic = explorer.root.locator(".intuitive-arithmetic")
    reader.reach(svg)
    expect(ring).to_be_visible()
    ring_after(reader, explorer, "End")
    first = ring_after(reader, explorer, "Home")
    seen, turned = ring_after(reader, explorer, "ArrowRight"), False
    if seen == first:
        seen = ring_after(reader, explorer, "ArrowDown")
    assert seen["at"] != first["at"] or seen["marks"] < 2, "arrow keys do not walk"
    assert seen["way"] or not seen["told"], "no mark opens the arithmetic"
    for _ in range(STOPS):
        if not seen["way"] or max(map(abs, seen["way"])) < 1:
            break
        (right, down), before = seen["way"], seen["at"]
        across = (abs(right) > abs(down)) != turned
        keys = ("ArrowLeft", "ArrowRight")[right > 0], ("ArrowUp", "ArrowDown")[down > 0]
        seen = ring_after(reader, explorer, keys[not across])
        turned = seen["at"] == before and not turned
    if not seen["way"]:
        return reader.press("Escape")
    assert max(map(abs, seen["way"])) < 1, "arrow keys do not lead to a mark with an arithmetic"
    reader.press("Enter")
    expect(arithmetic).to_be_visible()
    assert arithmetic.inner_text().strip()
    reader.stays_in(svg, "a mark")
    explorer.settled()
    reader.press("Escape")
    expect(arithmetic).to_be_hidden()
    expect(ring).to_be_hidden()
    reader.stays_in(svg, "Escape")


def goes_through(reader: Reader, explorer: ExplorerOnPage) -> None:
    """Out of it backwards, in again, and through all of it: no stop is left out, none is a trap."""
    reader.out_of(explorer.root, "Shift+Tab")
    reader.press("Tab")
    reader.stays_in(explorer.root, "Tab after Shift+Tab")
    wanted = explorer.root.evaluate(f"root => ({TABBABLE})(root).length")
    stops = reader.out_of(explorer.root, "Tab")
    assert len(stops) == wanted, f"{len(stops)} of {wanted} stops: {stops}"


def does(reader: Reader, explorer: ExplorerOnPage, told: Sequence[Claim] | None) -> None:
    """All of it.

    `told` are the claims of its steps; None where it shows a function of the reader's own, still
    unfinished, which need not do what the steps say and the sliders ask.
    """
    root = explorer.root
    card = root.locator(".intuitive-predict")
    if card.is_visible():
        with reader.part("prediction"):
            answers_the_prediction(reader, explorer, card)
    n_steps = root.locator("[data-step]").count()
    assert told is None or len(told) == n_steps
    for place in sorted({0, n_steps - 1} if n_steps else ()):
        with reader.part(f"step {place}"):
            takes_step(reader, explorer, place, told and told[place])
    with reader.part("reset"):
        resets(reader, explorer)
    player, svg = root.locator(".intuitive-player"), root.locator(".intuitive-hero svg")
    if player.is_visible():
        with reader.part("player"):
            plays_and_scrubs(reader, explorer, player)
    for kind in ("input[type=range]", "select"):
        controls = root.locator(f".intuitive-bar {kind}[data-control]:enabled:visible")
        if controls.count():
            with reader.part("slider"):
                moves_a_control(reader, explorer, controls.first, own=told is None)
            break
    fold, tabs = root.locator(".intuitive-fold"), root.get_by_role("tab")
    if fold.count():
        with reader.part("more controls"):
            unfolds_more_controls(reader, explorer, fold)
    if tabs.count() > 1:
        with reader.part("tabs"):
            opens_another_tab(reader, explorer, tabs)
    if svg.count():
        with reader.part("marks"):
            walks_the_marks(reader, explorer, svg)
    with reader.part("through"):
        goes_through(reader, explorer)


def answers(reader: Reader, question: Locator) -> None:
    reader.reach(question.get_by_role("button").last)
    reader.press("Enter")
    feedback = question.locator(".intuitive-right, .intuitive-wrong")
    expect(feedback).to_be_visible(timeout=PATIENT_MS)
    reader.stays_in(question, "the answer")
    reader.out_of(question, "Tab")


def reads(reader: Reader) -> None:
    """The open lesson, from its first cell to its last."""
    reader.press("Control+b")  # JupyterLab's file browser goes
    cells, titles = reader.notebook.cells(), {}
    for index in range(cells):
        reader.to_cell(index)
        reader.run_selected(last=index == cells - 1)
        cell = reader.page.locator(".jp-Cell").nth(index)
        for root in cell.locator("[data-explorer]").all():
            name = root.get_attribute("data-explorer")
            now = root.locator("[data-step] button").all_text_contents()
            before = titles.setdefault(name, [])
            with reader.part(f"cell {index}, {name}"):
                reader.to_cell(index)
                reader.into(root)
                told = None if now in before else claims(name, again=bool(before))
                does(reader, ExplorerOnPage(reader.page, name, len(before)), told)
            before.append(now)
        for question in cell.locator("[data-question]").all():
            with reader.part(f"cell {index}, {question.get_attribute('data-question')}"):
                reader.to_cell(index)
                reader.into(question)
                answers(reader, question)


# ------------------------------------------------------------------------------- the lessons


@pytest.fixture(scope="module")
def page(chromium):
    with browser_page(chromium, width=1366, height=720) as page:  # a small laptop's
        page.emulate_media(reduced_motion="reduce")  # what is compared stands still
        yield page


@pytest.mark.sweep  # three minutes on a quiet machine
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_is_done_with_the_keyboard_alone(page, lab_url, lesson):
    started = time.perf_counter()
    notebook = Notebook(page, lab_url, lesson)
    reader = Reader(page, notebook)
    with reader.part("the way"):
        reads(reader)
    notebook.session("shutdown")
    print(f"{lesson} in {time.perf_counter() - started:.0f} s: {', '.join(reader.did)}")
    assert reader.found == [], "\n".join(reader.found)
    assert reader.did and page.console_errors == []
