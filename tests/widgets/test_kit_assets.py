"""What reaches the browser: whole, our own, and silent towards other hosts."""

import gzip
import re
from importlib import resources

import pytest

from intuitive.widgets.kit import assets
from intuitive.widgets.kit.runtime import shared_runtime

FRONT = resources.files("intuitive.widgets.kit").joinpath("front")
SCRIPTS = {"explorer": assets.EXPLORER_JS, "question": assets.QUESTION_JS}


def test_every_file_reaches_the_browser():
    sent = "\n".join((*SCRIPTS.values(), assets.RUNTIME_JS, assets.RECORDED_JS, assets.CSS))
    for file in FRONT.iterdir():
        if file.name == "vendor.min.js":
            continue  # travels packed, once per page: the next test
        assert file.read_text(encoding="utf-8") in sent, f"{file.name} is not used"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_widget_is_one_module(script):
    assert script.count("export default") == 1
    assert not re.search(r"^\s*import\b", script, re.MULTILINE)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_every_function_of_a_widget_is_defined_once(script):
    names = re.findall(r"^function (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names)) > 2


@pytest.mark.parametrize(
    "text", [*SCRIPTS.values(), assets.RUNTIME_JS, assets.CSS], ids=[*SCRIPTS, "runtime", "css"]
)
def test_nothing_comes_from_another_host(text):
    text = text.replace("http://www.w3.org/2000/svg", "")  # a name, which nobody asks for
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket", text)


def test_a_page_without_python_asks_its_own_site():
    script = assets.RECORDED_JS
    assert not re.search(r"https?://|url\(|@import|XMLHttpRequest|WebSocket", script)
    asked = re.findall(r"\bfetch\((.*)\);", script)
    assert asked == ["address", "new URL(LIBRARIES[name], import.meta.url)"]
    assert re.findall(r'^import .* from "(.*)";$', script, re.MULTILINE) == [
        "./explorer.js",
        "./question.js",
    ]


def test_plots_neither_advertise_nor_send():
    (config,) = re.findall(r"const CONFIG = \{(.*?)\};", assets.EXPLORER_JS, re.DOTALL)
    chosen = dict(re.findall(r"(\w+): (\w+)", config))
    for option in ("showSendToCloud", "displaylogo", "displayModeBar"):
        assert chosen[option] == "false", f"{option} must be off"


def test_controls_keep_their_keys_from_jupyterlab():
    """JupyterLab reads the attribute on the focused element itself, not on its parents."""
    made = re.findall(
        r'make\(\s*"(?:input|select|textarea|button|summary)",\s*(\{.*?\})\s*[,)]',
        assets.EXPLORER_JS + assets.QUESTION_JS,
        re.DOTALL,
    )
    assert len(made) > 10
    for attributes in made:
        assert "KEEP_KEYS" in attributes, attributes


def test_plotly_travels_whole():
    import plotly

    runtime = shared_runtime()
    shipped = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    assert gzip.decompress(runtime.library) == shipped
    assert runtime.version == plotly.__version__


def test_explorers_share_one_plotly():
    runtime = shared_runtime()
    assert shared_runtime() is runtime
    runtime.close()
    assert shared_runtime() is not runtime  # a page can still be served


def test_what_moves_pictures_travels_packed_and_once():
    packed = gzip.decompress(shared_runtime().motion)
    assert packed == FRONT.joinpath("vendor.min.js").read_bytes()
    assert packed.decode() not in assets.EXPLORER_JS
