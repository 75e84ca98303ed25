"""Parts of the kit's front end by themselves, on an empty page whose clock the test moves."""

from importlib import resources

import pytest
from lab import browser_page

pytestmark = pytest.mark.browser

FRONT = resources.files("intuitive.widgets.kit").joinpath("front")
MODEL = """() => {
    const [values, listeners] = [{}, {}];
    window.kernel = {status: "idle"};
    window.model = {
        get: (name) => values[name],
        set: (name, value) => {
            values[name] = value;
            (listeners[`change:${name}`] ?? []).forEach((listener) => listener());
        },
        on: (event, listener) => (listeners[event] ??= []).push(listener),
        off: () => {},
        widget_manager: {kernel},
    };
    window.liveness = makeLiveness(model);
    window.part = document.body.appendChild(make("div"));
    window.waiting = makeWaiting([part]);
}"""


@pytest.fixture(scope="module")
def browser(chromium):
    with browser_page(chromium) as page:
        page.clock.install()
        for script in ("dom.js", "liveness.js", "waiting.js"):
            page.add_script_tag(content=FRONT.joinpath(script).read_text(encoding="utf-8"))
        yield page
        assert page.console_errors == []


@pytest.fixture
def page(browser):
    browser.evaluate(MODEL)
    return browser


def silence(page) -> str:
    return page.evaluate("() => liveness.element.dataset.silence ?? ''")


def ask(page) -> None:
    page.evaluate("() => liveness.ask()")


def test_silence_is_told_within_two_seconds_and_ends_with_the_answer(page):
    ask(page)
    page.clock.run_for(1_000)
    assert silence(page) == ""
    page.clock.run_for(1_000)
    assert silence(page) == "asleep"
    page.clock.run_for(60_000)
    assert silence(page) == "asleep"
    page.evaluate("() => model.set('heard', model.get('asked'))")
    assert silence(page) == "" and page.evaluate("() => liveness.element.textContent") == ""
    page.clock.run_for(60_000)
    assert silence(page) == ""


def test_an_answer_to_what_was_asked_before_is_none(page):
    ask(page)
    ask(page)
    page.clock.run_for(2_000)
    page.evaluate("() => model.set('heard', model.get('asked') - 1)")
    assert silence(page) == "asleep"


@pytest.mark.parametrize("verdict", ["feedback", "verdict"])
def test_a_verdict_however_late_ends_the_words(page, verdict):
    """It answers a message of its own; the number of the change may be lost."""
    ask(page)
    page.clock.run_for(120_000)
    assert silence(page) == "asleep"
    page.evaluate("(name) => model.set(name, {state: 'right'})", verdict)
    assert silence(page) == ""
    page.clock.run_for(60_000)
    assert silence(page) == ""
    ask(page)  # and from here on silence is told again
    page.clock.run_for(2_000)
    assert silence(page) == "asleep"


def test_a_busy_kernel_is_no_dead_one(page):
    page.evaluate("() => (kernel.status = 'busy')")
    ask(page)
    page.clock.run_for(2_000)
    assert silence(page) == "busy"
    page.evaluate("() => (kernel.status = 'idle')")
    page.clock.run_for(2_000)
    assert silence(page) == "asleep"


def busy(page) -> bool:
    return page.evaluate("() => part.getAttribute('aria-busy') === 'true'")


def test_what_waits_for_longer_than_a_moment_is_dimmed_until_its_picture_is_drawn(page):
    page.evaluate("() => waiting.begin()")
    page.clock.run_for(250)
    page.evaluate("() => waiting.begin()")  # another setting, no other wait
    assert not busy(page)
    page.clock.run_for(100)
    assert busy(page)
    page.evaluate("() => waiting.came()")
    page.clock.run_for(1_000)
    assert busy(page)  # it came, and is not drawn yet
    page.evaluate("() => waiting.end()")
    assert not busy(page)


def test_what_is_answered_at_once_never_flickers(page):
    page.evaluate("() => waiting.begin()")
    page.clock.run_for(250)
    page.evaluate("() => waiting.came()")  # drawing it takes a while
    page.clock.run_for(1_000)
    assert not busy(page)
    for _ in range(10):  # dragged: each picture is a moment behind
        page.evaluate("() => { waiting.came(); waiting.begin(); }")
        page.clock.run_for(250)
        assert not busy(page)
