"""A short film of each lesson's hero, for README and the docs: `docs/films/<explorer>_<step>.gif`.

    python tools/films.py [EXPLORER_STEP ...]

Films are made of the explorers whose films a page shows. Each is the explorer's own timeline in the
state of one of its steps, counted from 1, drawn by its own front end in headless Chromium, with the
page's clock moved by hand, so that it looks the same on every machine.
"""

import argparse
import base64
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import hero_page
from lab import browser_page
from PIL import Image
from playwright.sync_api import Page

from intuitive.widgets import catalogue

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "films"
MOST_BYTES = 700_000
WIDTH = 760  # pixels
MOTION_MS, BEATS = 270, 3  # of one move; pictures taken of it
HOLD_MS, LAST_HOLD_MS = 420, 2200  # how long a frame stands; the last one
MOST_FRAMES = 28  # of the timeline; more are thinned out evenly
QUALITIES = ((160, 1.0), (96, 1.0), (64, 0.85), (48, 0.75))  # colours and scale, the best first


def wanted() -> list[str]:
    """Films that stand in README or on a page of the docs."""
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    return sorted(
        {name for text in texts for name in re.findall(r"films/([a-z_]+_\d+)\.gif", text)}
    )


def pictures(page: Page, n_frames: int) -> tuple[list[Image.Image], list[int]]:
    """The film's pictures and how many milliseconds each of them stands."""
    taken: list[Image.Image] = []
    durations: list[int] = []

    # The page's clock stands still, so that the browser is asked itself for its picture.
    session = page.context.new_cdp_session(page)
    box = page.evaluate(
        """() => {
            const { x, y, width, height } =
                document.querySelector(".intuitive-hero > *").getBoundingClientRect();
            return { x, y, width, height, scale: 1 };
        }"""
    )

    def take(milliseconds: int) -> None:
        shot = session.send("Page.captureScreenshot", {"format": "png", "clip": box})["data"]
        taken.append(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB"))
        durations.append(milliseconds)

    count = min(n_frames, MOST_FRAMES)
    for place in range(count):
        frame = round(place * (n_frames - 1) / max(count - 1, 1))
        page.evaluate("index => hero.seek(index)", frame)
        for _ in range(BEATS if place else 0):
            page.clock.run_for(MOTION_MS // BEATS)
            take(MOTION_MS // BEATS)
        page.clock.run_for(MOTION_MS)
        take(HOLD_MS if place < count - 1 else LAST_HOLD_MS)
    return taken, durations


def encode(taken: list[Image.Image], durations: list[int]) -> bytes:
    """The best of `QUALITIES` that keeps the film under `MOST_BYTES`.

    Raises:
        ValueError: even the last makes it too large.
    """
    for colours, scale in QUALITIES:
        size = (round(taken[0].width * scale), round(taken[0].height * scale))
        small = [shot.resize(size, Image.Resampling.LANCZOS) for shot in taken]
        palette = _side_by_side(small[:: max(len(small) // 6, 1)]).quantize(colours)
        first, *rest = (shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in small)
        out = io.BytesIO()
        first.save(out, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
        if out.tell() <= MOST_BYTES:
            return out.getvalue()
    raise ValueError(f"the film has {out.tell():,} bytes, allowed are {MOST_BYTES:,}: film less.")


def _side_by_side(shots: list[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (shots[0].width, shots[0].height * len(shots)))
    for place, shot in enumerate(shots):
        whole.paste(shot, (0, place * shot.height))
    return whole


def film(name: str, chromium: str) -> bytes:
    """The film of one step, `<explorer>_<step>`, as a GIF."""
    name, _, step = name.rpartition("_")
    explorer = catalogue.explorers()[name]()
    try:
        explorer.take(int(step) - 1)
        if not explorer.wait(120) or explorer.status["state"] != "done":
            raise ValueError(f"{name}: {explorer.status['text']}")
        timeline = explorer.view.timeline
    finally:
        explorer.close()
    with tempfile.TemporaryDirectory() as folder, browser_page(chromium, width=WIDTH + 60) as page:
        file = Path(folder, "hero.html")
        file.write_text(hero_page.page({name: timeline}), encoding="utf-8")
        page.clock.install()
        page.goto(file.as_uri())
        page.evaluate("() => shown")
        page.clock.run_for(1000)
        return encode(*pictures(page, len(timeline.frames)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("explorers", nargs="*", help="by default all films that pages show")
    parser.add_argument("--chromium", default=os.environ.get("INTUITIVE_CHROMIUM", "chromium"))
    chosen = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in chosen.explorers or wanted():
        made = film(name, shutil.which(chosen.chromium) or chosen.chromium)
        FOLDER.joinpath(f"{name}.gif").write_bytes(made)
        print(f"{name}: {len(made) / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
