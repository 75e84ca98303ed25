"""A hero on a page of its own, without Python behind it: to look at, to measure and to test.

    python tools/hero_page.py OUT.html      the demo; add ?theme=dark to the address

The page runs the front end's own files over a picture made with `scene.py`; a plain object stands
in for the widget model. In the page `hero`, `bus`, `controls`, `sets` (what was set) and
`show(name)` (another of the pictures) are global.
"""

import argparse
import base64
import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from intuitive.widgets.kit.controls import Range
from intuitive.widgets.kit.runtime import motion
from intuitive.widgets.kit.scene import (
    Arithmetic,
    Arrow,
    Circle,
    Drag,
    Frame,
    Line,
    Mark,
    Rectangle,
    Scene,
    Swarm,
    Timeline,
    Words,
    wire,
)
from intuitive.widgets.kit.scene import Path as Curve

FRONT = resources.files("intuitive.widgets.kit").joinpath("front")
SCRIPTS = ("dom.js", "bus.js", "arithmetic.js", "controls.js", "hero.js")
STYLES = ("kit.css", "hero.css")
WIDTH, HEIGHT = 960, 400
STEPS = 8

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A hero</title>
<style>
body { margin: 0; background: var(--jp-layout-color0); --jp-ui-font-family: system-ui, sans-serif;
  --jp-layout-color0: #fff; --jp-layout-color1: #fff; --jp-layout-color2: #eee;
  --jp-ui-font-color1: rgba(0, 0, 0, 0.87); --jp-border-color0: #bdbdbd;
  --jp-border-color2: #e0e0e0; }
body[data-jp-theme-light="false"] { --jp-layout-color0: #111; --jp-layout-color1: #212121;
  --jp-layout-color2: #424242; --jp-ui-font-color1: #fff; --jp-border-color0: #616161;
  --jp-border-color2: #424242; }
%(styles)s
</style>
<body data-jp-theme-light="true"><main class="intuitive-explorer"><h1>A hero</h1></main>
<script>
%(scripts)s
const dark = new URLSearchParams(location.search).get("theme") === "dark";
document.body.dataset.jpThemeLight = String(!dark);
const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const pictures = %(pictures)s;
const model = { get: (name) => (name === "motion" ? bytes("%(motion)s") : undefined) };
const root = document.querySelector("main");
const bus = makeBus();
const sets = [];
const controls = {};
const set = (values) => {
  sets.push(values);
  for (const name in values) controls[name]?.show(values[name]);
};
const row = make("div", { class: "intuitive-controls" });
for (const control of %(controls)s) {
  controls[control.name] = makeControl(control, set);
  controls[control.name].show(control.value);
  row.append(controls[control.name].element);
}
const hero = makeHero({ label: "A demo", caption: %(caption)s }, { model, bus, set, controls });
const arithmetic = makeArithmetic();
const words = make("p", { class: "intuitive-summary", role: "status" });
root.append(row, hero.element, words, arithmetic.element);
let sentence = "";
hero.onFrame((frame) => (words.textContent = sentence = frame.sentence));
bus.subscribe({
  lit: (links, main, said) => (words.textContent = said || sentence),
  chosen: async (link) => {
    const lines = { ...hero.frame()?.arithmetic };
    arithmetic.show(lines[link] ?? null, await loadMotion(model));
  },
});
bus.setRelated(%(related)s);
const show = (name) =>
  hero.show(pictures[name].header, new DataView(bytes(pictures[name].swarm).buffer));
const shown = show(Object.keys(pictures)[0]);
</script></body></html>
"""


def page(
    pictures: Mapping[str, Scene | Timeline],
    *,
    controls: Mapping[Range, float] | None = None,
    related: Mapping[str, tuple[str, ...]] | None = None,
    caption: str = "",
) -> str:
    """One self-contained page; the first of the pictures is shown.

    Args:
        pictures: by name.
        controls: the sliders and where they stand.
        related: by link, the links that light along.
        caption: below the picture.
    """
    wired = {name: wire(picture) for name, picture in pictures.items()}
    parts: dict[str, Any] = {
        "pictures": {
            name: {"header": header, "swarm": base64.b64encode(swarm).decode()}
            for name, (header, swarm) in wired.items()
        },
        "controls": [{**range_.spec(), "value": at} for range_, at in (controls or {}).items()],
        "related": related or {},
        "caption": caption,
    }
    return PAGE % {
        "styles": "\n".join(FRONT.joinpath(name).read_text("utf-8") for name in STYLES),
        "scripts": "\n".join(FRONT.joinpath(name).read_text("utf-8") for name in SCRIPTS),
        "motion": base64.b64encode(motion()).decode(),
        **{name: json.dumps(part).replace("<", "\\u003c") for name, part in parts.items()},
    }


def demo(*, height: float = 0.6) -> Timeline:
    """A particle on a hill, asked for its slope at every step; `height` moves the hill's peak."""
    frames = []
    noise = np.random.default_rng(0).normal(size=(2, 400))
    for step in range(STEPS + 1):
        t = step / STEPS
        for stage in ("ask", "slope", "step"):
            frames.append(_demo_frame(t, stage, height, noise))
    return Timeline(frames=tuple(frames), axis="time t", pace_ms=500)


def _demo_frame(t: float, stage: str, height: float, noise: np.ndarray) -> Frame:
    def ground(x: float) -> float:
        return 330 - 260 * height * math.exp(-(((x - 600) / 150) ** 2))

    xs = np.linspace(60, 900, 85).tolist()
    x = 120 + 440 * t + (25 if stage == "step" else 0)
    y = ground(x)
    slope = (ground(x + 1) - ground(x - 1)) / 2
    marks: list[Mark] = [
        Rectangle(key="bars", x=50, y=28, w=322, h=38, fill="faint", corner=6, layer=-1),
        Swarm(
            key="swarm",
            xs=120 + 440 * t + noise[0] * 60 * (1.2 - t),
            ys=np.array([ground(at) for at in 120 + 440 * t + noise[0] * 60 * (1.2 - t)])
            - 20 * np.abs(noise[1]),
            colours=("blue", "vermilion"),
            shades=(noise[0] > 0).astype(np.uint8),
            opacity=0.6,
        ),
        Curve.through(
            xs, [ground(at) for at in xs], key="hill", stroke="green", width=2.5, link="critic",
            words="The critic: the higher, the better.",
        ),
        Words(key="name", x=760, y=ground(760) - 8, text="critic", fill="green", bold=True),
        Circle(
            key="peak", x=600, y=ground(600), r=8, fill="page", stroke="green", label="peak",
            place="above", link="critic", words=f"The peak stands at {height:.2f}. Drag it.",
            drag=Drag(y="height", y_scale=((0, 330), (1, 70))), layer=2,
        ),
        Circle(
            key="particle", x=x, y=y, r=11, fill="blue", label=f"t = {t:.2f}", place="left",
            link="particle", words=f"The particle is at {x:.0f}.", click={"weight": 2}, layer=2,
        ),
        Line(key="ground", x=40, y=330, x2=920, y2=330, stroke="faint", dash="4 3"),
    ]  # fmt: skip
    for bar, name in enumerate(("blue", "sky", "vermilion", "green", "purple", "gold", "grey")):
        marks.append(
            Rectangle(
                key=f"bar {bar}", x=60 + 44 * bar, y=36, w=38, h=22, corner=3, fill=name,
                label=str(bar), link=f"bar {bar % 4}", words=f"Box {bar}, {name}.",
                opacity=1 if bar < 6 else 0.5,
            )
        )  # fmt: skip
    if stage != "ask":
        marks.append(
            Arrow(
                key="slope", x=x, y=y, x2=x + 60, y2=y + 60 * slope, stroke="vermilion", width=3,
                label=f"slope {-slope:.2f}", place="above", link="slope",
                words=f"The slope is {-slope:.2f}.", layer=1,
            )
        )  # fmt: skip
    tex = rf"x' = x + w \cdot Q'(x) = {x:.0f} + 2 \cdot ({-slope:.2f}) = {x - 2 * slope:.1f}"
    plain = f"x′ = x + w · Q′(x) = {x:.0f} + 2 · ({-slope:.2f}) = {x - 2 * slope:.1f}"
    line = Arithmetic(text=plain, tex=tex)
    return Frame(
        scene=Scene(width=WIDTH, height=HEIGHT, marks=tuple(marks)),
        label=f"t = {t:.2f}",
        stage=stage,
        sentence=f"At t = {t:.2f} the critic is asked at {x:.0f}.",
        arithmetic={"particle": line, "slope": Arithmetic(text=f"slope = {-slope:.2f}")},
    )


DEMO = {
    "controls": {
        Range(name="height", label="Height", min=0, max=1, step=0.05): 0.6,
        Range(name="weight", label="Weight", min=0, max=4, step=0.1): 1.0,
    },
    "related": {"particle": ("slope",), "slope": ("particle",)},
    "caption": "The particle climbs the critic's hill; the arrow is the slope that it is told.",
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.parse_args().out.write_text(page({"demo": demo()}, **DEMO), encoding="utf-8")
