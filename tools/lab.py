"""A JupyterLab of its own in headless Chromium: for browser tests, frames and measurements.

    with lab_server(folder) as url, browser_page(chromium) as page:
        notebook = Notebook(page, url, "lesson.ipynb")
        notebook.run_all()
        explorer = notebook.explorer("explorer_name")
        explorer.set("n_selected", 8)

The server listens on the loopback address only, with throw-away folders for its settings.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, sync_playwright

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
)


@contextlib.contextmanager
def lab_server(folder: Path, *, threads: int = 2) -> Iterator[str]:
    """Serve `folder` with JupyterLab; yields the base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        own = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
            "INTUITIVE_HOME": "home",
        }
        environment = os.environ | {name: str(Path(scratch, sub)) for name, sub in own.items()}
        environment |= {"OMP_NUM_THREADS": str(threads)}
        notices = Path(scratch, "settings", "@jupyterlab", "apputils-extension")
        notices.mkdir(parents=True)
        silent = {"fetchNews": "false", "checkForUpdates": False}
        (notices / "notification.jupyterlab-settings").write_text(json.dumps(silent))
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
            *("--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"),
            *("--LabApp.news_url=", "--LabApp.extension_manager=readonly"),
            *(f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")),
        ]
        log = Path(scratch, "log")
        with log.open("w") as sink:
            server = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(1200):  # two minutes: a machine may be busy
                if server.poll() is not None:
                    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}/api", timeout=1).read()
                    break
                time.sleep(0.1)
            else:
                raise RuntimeError(f"JupyterLab does not answer:\n{log.read_text()[-3000:]}")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


@contextlib.contextmanager
def browser_page(chromium: str, *, width: int = 1360, height: int = 1000) -> Iterator[Page]:
    """A page in headless Chromium that records console errors and foreign requests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.console_errors, page.foreign_requests = [], []

            def on_console(message: ConsoleMessage) -> None:
                if message.type == "error":
                    page.console_errors.append(message.text)

            def on_request(request: Request) -> None:
                if not request.url.startswith(
                    ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
                ):
                    page.foreign_requests.append(request.url)

            page.on("console", on_console)
            page.on("pageerror", lambda error: page.console_errors.append(str(error)))
            page.on("request", on_request)
            yield page
        finally:
            browser.close()


class Refused(Exception):
    """An explorer shows no picture of a setting; why, in words."""


class ExplorerOnPage:
    """One explorer as a reader meets it: controls by name, the picture, the status."""

    def __init__(self, page: Page, name: str, view: int = 0) -> None:
        self.page, self.name, self.view = page, name, view
        self.root: Locator = page.locator(f'[data-explorer="{name}"]').nth(view)

    def unlock(self) -> "ExplorerOnPage":
        """Skip the prediction, where there is one."""
        self.root.scroll_into_view_if_needed()
        skip = self.root.locator("[data-skip]")
        if skip.count() and skip.is_visible():
            skip.click()
        self.root.locator(".intuitive-body").wait_for(state="visible")
        self.settled()
        return self

    def control(self, name: str) -> Locator:
        """The input, select or button of a control; opens "More controls" when needed."""
        found = self.root.locator(f'[data-control="{name}"]')
        if not found.is_visible():
            self.root.get_by_role("button", name="More controls").click()
        return found

    def values(self) -> dict:
        """The control values of the picture on the page."""
        return json.loads(self.root.get_attribute("data-values") or "{}")

    @property
    def summary(self) -> str:
        return self.root.locator(".intuitive-summary").text_content()

    @property
    def readouts(self) -> dict[str, str]:
        """The numbers beside the controls by their labels."""
        return dict(
            self.root.locator(".intuitive-readouts li").evaluate_all(
                """items => items.map(item => ["span", "strong"].map(
                    part => item.querySelector(part).textContent))"""
            )
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the hero says of each of its frames."""
        return tuple(self.root.evaluate("root => root.intuitive.sentences()"))

    @property
    def marks(self) -> dict[str, dict]:
        """The hero's marks on the page by key, as they are meant to stand there."""
        return self.root.evaluate(
            """root => Object.fromEntries([...root.querySelectorAll(".intuitive-hero .mark")]
                .filter(({leaving}) => !leaving).map(({mark}) => [mark.key, mark]))"""
        )

    def in_sight(self) -> dict[str, int]:
        """What stands before the reader with folds and further tabs closed.

        Numbers of controls, readouts, pictures (hero and plots outside tabs), plots of the open
        tab, and steps; `hero_px`, the height from the top of the explorer to the end of its hero
        (0 without one), and `whole_px`, to its own end.
        """
        return self.root.evaluate(
            """root => {
                const seen = selector => [...root.querySelectorAll(selector)]
                    .filter(part => part.checkVisibility());
                const top = root.getBoundingClientRect().top;
                const reach = part => part
                    ? Math.round(part.getBoundingClientRect().bottom - top) : 0;
                const plots = seen("[data-plot]").filter(plot => plot.clientWidth > 0);
                const inTab = plots.filter(plot => plot.closest(".intuitive-tabs")).length;
                const heroes = seen(".intuitive-hero");
                return {
                    controls: seen(".intuitive-bar [data-control]").length,
                    readouts: seen(".intuitive-readouts li").length,
                    pictures: plots.length - inTab + heroes.length,
                    tab_plots: inTab,
                    steps: root.querySelectorAll("[data-step]").length,
                    hero_px: reach(heroes[0]),
                    whole_px: reach(root),
                };
            }"""
        )

    def press_step(self, step: int) -> bool:
        """Press a step's button, let it play to its end at once; True when it is then marked."""
        item = self.root.locator(f'[data-step="{step}"]')
        button = item.locator("button")
        button.scroll_into_view_if_needed()
        button.click()
        self.page.wait_for_function(
            "root => root.intuitive.arrived()", arg=self.root.element_handle(), timeout=60_000
        )
        self.settled()
        if self.root.locator('.intuitive-player [aria-label="Pause"]').count():
            self.root.evaluate("root => root.intuitive.seek('last')")
            self.settled()
        return item.get_attribute("data-visited") == "true"

    @property
    def status(self) -> str:
        return self.root.locator(".intuitive-status").inner_text()

    @property
    def error(self) -> str:
        return self.root.locator(".intuitive-error").text_content()

    def settled(self, values: dict | None = None, timeout: float = 60) -> None:
        """Wait until plots and status show `values` (or any finished state)."""
        self.page.wait_for_function(
            """([name, view, wanted]) => {
                const root = document.querySelectorAll(`[data-explorer="${name}"]`)[view];
                if (!root || !["done", "error"].includes(root.dataset.state)) return false;
                if (!root.dataset.settled) return false;
                const shown = JSON.parse(root.dataset.values ?? "{}");
                return Object.entries(wanted).every(([key, value]) => shown[key] === value);
            }""",
            arg=[self.name, self.view, values or {}],
            timeout=timeout * 1e3,
        )

    def at_rest(self, key: str) -> dict[str, float]:
        """Pixels: the mark `key` within the hero, and the top of the hero, once both are still."""
        return self.root.evaluate(
            """async (root, key) => {
                const place = () => {
                    const hero = root.querySelector(".intuitive-hero svg").getBoundingClientRect();
                    const mark = root.querySelector(`.intuitive-hero [data-key="${key}"] .shape`);
                    const box = mark.getBoundingClientRect();
                    return {x: box.x - hero.x, y: box.y - hero.y, top: hero.y};
                };
                let last = place();
                for (let still = 0, looks = 0; still < 3 && looks < 100; looks += 1) {
                    await new Promise((done) => setTimeout(done, 100));
                    const now = place();
                    still = JSON.stringify(now) === JSON.stringify(last) ? still + 1 : 0;
                    last = now;
                }
                return last;
            }""",
            key,
        )

    def set(self, name: str, value) -> None:
        """Set a control as a browser event would, and wait for its picture."""
        self.put(name, value)
        self.settled({name: value})

    def put(self, name: str, value) -> None:
        """Set a control as a browser event would, without waiting."""
        self.control(name).evaluate(
            """(element, value) => {
                if (element.type === "checkbox") {
                    if (element.checked !== value) element.click();
                    return;
                }
                const spec = element.dataset.values ? JSON.parse(element.dataset.values) : null;
                element.value = spec ? spec.indexOf(value) : value;
                element.dispatchEvent(new Event("input", {bubbles: true}));
                element.dispatchEvent(new Event("change", {bubbles: true}));
            }""",
            value,
        )

    def time_to_draw(self, name: str, value) -> float:
        """Milliseconds from a control's event until its picture stands or begins to move.

        Raises:
            Refused: the explorer answers with a sentence, or with no picture in a minute.
        """
        self.control(name)
        took_ms, refused = self.page.evaluate(
            """async ([explorer, name, value]) => {
                const root = document.querySelector(`[data-explorer="${explorer}"]`);
                const element = root.querySelector(`[data-control="${name}"]`);
                const spec = element.dataset.values ? JSON.parse(element.dataset.values) : null;
                const settled = root.dataset.settled;
                const start = performance.now();
                const done = new Promise((resolve) => {
                    const late = `${name}=${value} was not drawn in a minute`;
                    setTimeout(resolve, 60_000, [60_000, late]);
                    const watcher = new MutationObserver(() => {
                        const took = performance.now() - start;
                        const shown = JSON.parse(root.dataset.drawn ?? "{}");
                        const { state } = root.dataset;
                        const drawn = state === "done" && shown[name] === value;
                        const refused = state === "error" && root.dataset.settled !== settled;
                        if (!drawn && !refused) return;
                        watcher.disconnect();
                        const said = root.querySelector(".intuitive-error").textContent;
                        resolve([took, refused ? said : ""]);
                    });
                    watcher.observe(root, {attributes: true});
                });
                element.value = spec ? spec.indexOf(value) : value;
                element.dispatchEvent(new Event("input", {bubbles: true}));
                element.dispatchEvent(new Event("change", {bubbles: true}));
                return await done;
            }""",
            [self.name, name, value],
        )
        if refused:
            raise Refused(refused)
        return took_ms


class Notebook:
    """One notebook open in JupyterLab, with a kernel or without; `app="notebooks"`: Notebook 7."""

    def __init__(
        self, page: Page, url: str, name: str, *, kernel: bool = True, app: str = "lab/tree"
    ) -> None:
        self.page = page
        page.goto(f"{url}/{app}/{name}?reset" if kernel else f"{url}/lab?reset")
        page.wait_for_function(
            "() => window.jupyterapp?.shell && document.body.dataset.jpThemeName"
        )
        if not kernel:
            page.evaluate(
                """async path => {
                    await window.jupyterapp.restored;
                    const kernelPreference = {shouldStart: false, canStart: false};
                    await window.jupyterapp.commands.execute(
                        "docmanager:open", {path, factory: "Notebook", kernelPreference});
                }""",
                name,
            )
        page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.content?.model")
        if kernel:
            page.wait_for_function(
                "() => window.jupyterapp.shell.currentWidget.sessionContext?.session?.kernel",
                timeout=60_000,
            )

    def run_all(self, *, wait: bool = True, timeout: float = 120) -> float:
        """Run every cell; returns the seconds until the kernel has done them all."""
        start = time.perf_counter()
        finished = self.page.evaluate_handle(
            """() => {
                const state = {done: false};
                window.jupyterapp.commands.execute("notebook:run-all-cells")
                    .finally(() => { state.done = true; });
                return state;
            }"""
        )
        if wait:
            self.page.wait_for_function("state => state.done", arg=finished, timeout=timeout * 1e3)
        return time.perf_counter() - start

    def run(self, index: int, *, wait: bool = True) -> None:
        """Run one cell, and wait until the kernel has done it."""
        self.page.evaluate(
            """async ([index, wait]) => {
                const {content} = window.jupyterapp.shell.currentWidget;
                content.deselectAll();
                content.activeCellIndex = index;
                const done = window.jupyterapp.commands.execute("notebook:run-cell");
                if (wait) await done;
            }""",
            [index, wait],
        )

    def printed(self, index: int) -> str:
        """What a cell has printed."""
        return self.page.evaluate(
            """index => {
                const cells = window.jupyterapp.shell.currentWidget.content.widgets;
                const {outputs} = cells[index].model;
                return Array.from({length: outputs.length}, (_, i) => outputs.get(i).toJSON())
                    .map(output => [output.text ?? ""].flat().join("")).join("");
            }""",
            index,
        )

    def session(self, method: str) -> None:
        """`restartKernel` or `shutdown`."""
        self.page.evaluate(
            """async method => {
                await window.jupyterapp.shell.currentWidget.sessionContext[method]();
            }""",
            method,
        )

    def save(self) -> None:
        self.page.evaluate(
            'async () => { await window.jupyterapp.commands.execute("docmanager:save"); }'
        )

    def whole_width(self) -> None:
        """Close JupyterLab's file browser: the window is the notebook's."""
        self.page.evaluate(
            """async () => {
                await window.jupyterapp.restored;
                window.jupyterapp.shell.collapseLeft();
            }"""
        )

    def scroll_to_cell(self, index: int) -> None:
        self.page.evaluate(  # its promise is not waited for: it may never be kept
            """index => {
                window.jupyterapp.shell.currentWidget.content.scrollToItem(index, "start");
            }""",
            index,
        )

    def cells(self) -> int:
        return self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
        )

    def explorer(self, name: str, view: int = 0, *, unlock: bool = True) -> ExplorerOnPage:
        """Scroll until the explorer is on the page, and skip its prediction."""
        found = self.page.locator(f'[data-explorer="{name}"]')
        for index in range(self.cells()):
            if found.count() > view:
                break
            self.scroll_to_cell(index)
            self.page.wait_for_timeout(60)
        explorer = ExplorerOnPage(self.page, name, view)
        explorer.root.wait_for(state="visible", timeout=60_000)
        return explorer.unlock() if unlock else explorer

    def theme(self, dark: bool) -> None:
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name
        )
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light", arg=str(not dark).lower()
        )
        self.page.wait_for_timeout(500)
