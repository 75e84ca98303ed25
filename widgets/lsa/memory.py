"""What stays on the GPU: bytes by category, everything resident and LSA, as the text grows."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

from intuitive.lsa.experiments import live_memory
from intuitive.lsa.experiments import memory as experiment
from intuitive.lsa.experiments.live_memory import LiveMemory
from intuitive.lsa.experiments.memory import MemoryParams, MemoryResult
from intuitive.lsa.experiments.residency_memory import Row

from ..kit import (
    Action,
    Choice,
    Explorer,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Table,
    Timeline,
    Toggle,
    View,
    fixed,
    percent,
)
from .memory_figures import lengths_figure, live_figure, speed_figure, used_figure
from .memory_scene import Picture, size, tokens_text, whole

KEPT = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
ACCOUNTINGS = {"everything": "all that is on the GPU", "paper": "as in the paper's figures"}


def _a_tenth_is_kept() -> tuple[int, str]:
    held = experiment.run(MemoryParams(kept=0.1)).at[-1]
    right = 0 if held.left < 0.07 else 1 if held.left < 0.12 else 2
    return right, (
        f"{percent(held.left, 1)} of the memory is left: {size(held.lsa_bytes)} of "
        f"{size(held.all_bytes)}. A strip of {percent(held.floor / held.all_bytes, 1)} is there "
        "whatever is kept: the keys that the choice itself is made with, and the HCA entries. The "
        "picture begins at 32K tokens, where the newest ones alone are more than a tenth."
    )


PREDICT = Predict(
    question=(
        "LSA keeps one chunk in ten on the GPU, of a text of a million tokens. Count all that has "
        "to be there: how much of the memory is left?"
    ),
    choices=("about a twentieth", "a tenth", "about a seventh"),
    answer=_a_tenth_is_kept,
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """The controls: what is counted, and how often the reader asked for a decode."""

    memory: MemoryParams
    decode: int

    @classmethod
    def of(cls, *, decode: int = 0, **settings: Any) -> "Page":
        return cls(memory=MemoryParams(**settings), decode=decode)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The byte model, and a decode that counts its own bytes once one was asked for."""

    result: MemoryResult
    live: LiveMemory | None = None


def compute(page: Page, *, stale: Any, progress: Any) -> Shown:
    """The byte model at once; then, from the first press on, a decode with so many chunks kept."""
    result = experiment.run(page.memory)
    if not page.decode:
        return Shown(result=result)

    def told(fraction: float, sentence: str, so_far: LiveMemory | None = None) -> None:
        progress(fraction, sentence, so_far and Shown(result=result, live=so_far))

    live = live_memory.run(page.memory.kept, stale=stale, progress=told)
    return Shown(result=result, live=live)


def present(result: MemoryResult, live: LiveMemory | None = None) -> View:
    picture, last = Picture(result), result.at[-1]
    frames = picture.frames()
    counted = "kept chunks alone" if picture.paper else "everything"
    summary = (
        f"From 32K to 1M tokens, counting {counted}, LSA needs "
        f"{percent(result.at[0].left, 1)} to {percent(last.left, 1)} of the memory; at 1M that is "
        f"{size(last.lsa_bytes)} of {size(last.all_bytes)}"
    )
    summary += f", of which {size(last.floor)} are there whatever is kept." if last.floor else "."
    header = ("MiB", *(tokens_text(held.context) for held in result.at))
    names = {
        ("everything", "entries"): "everything resident: CSA entries",
        ("everything", "index_keys"): "everything resident: index keys",
        ("everything", "hca"): "everything resident: HCA entries",
        ("lsa", "hca"): "LSA: HCA entries",
        ("lsa", "floor_keys"): "LSA: index keys of the whole text",
        ("lsa", "tail"): "LSA: tail",
        ("lsa", "fetched"): "LSA: fetched",
    }
    rows = [
        (text, *(fixed(getattr(held, side)[part] / 2**20, 1) for held in result.at))
        for (side, part), text in names.items()
    ]
    rows.append(("LSA over everything", *(percent(held.left, 1) for held in result.at)))
    rows.append(("chunks kept", *(whole(held.kept) for held in result.at)))
    return View(
        summary=summary,
        timeline=Timeline(frames=frames, axis="context", start=0, pace_ms=1000),
        related={
            "all": ("entries", "index_keys"),
            "lsa": ("tail", "fetched", "floor_keys"),
        },
        figures={
            "lengths": partial(lengths_figure, result),
            "used": used_figure,
            "speed": speed_figure,
            "live": partial(live_figure, live),
        },
        readouts=picture.readouts(result.at[0]),
        table=Table(header, tuple(rows)),
        code=(
            "from intuitive.lsa.experiments.memory import MemoryParams, run\n\n"
            f'result = run(MemoryParams.from_text("{result.params.to_text()}"))\n'
            "[round(held.left, 3) for held in result.at]"
        ),
    )


def explorer(*, predict: Predict | None = None, **values: Any) -> Explorer:
    """What the cache of DeepSeek-V4-Flash holds on the GPU, as areas to scale.

    Args:
        predict: a question asked before the sliders unlock.
        values: first control values, such as `kept=0.2`.
    """
    first = dataclasses.asdict(MemoryParams())
    del first["tail"]
    return Explorer(
        name="lsa_memory",
        title="What stays on the GPU",
        params=Page.of,
        compute=compute,
        present=lambda shown: present(shown.result, shown.live),
        hero=Hero(label="The cache on the GPU as areas to scale, everything resident and LSA"),
        controls=(
            Range(
                name="kept",
                label="Chunks kept",
                values=KEPT,
                texts=("tail only", *(percent(share) for share in KEPT[1:])),
            ),
            Choice(name="accounting", label="What is counted", options=ACCOUNTINGS),
            Toggle(name="all_index_keys", label="All index keys stay"),
            Action(
                name="decode",
                label="Decode here",
                help="A small model decodes on this machine, for the tab Live: three seconds "
                "or more. From then on it does so whenever “Chunks kept” moves.",
                more=True,
                heavy=True,
            ),
        ),
        steps=(
            Step(
                title="Read one step",
                text="Gold is what one layer reads in one step, to scale. The next step may read "
                "any other entry, so all of them are held.",
                frame="1M",
            ),
            Step(
                title="Let it grow",
                text="Play from 32K to 1M tokens. Both columns grow with the text; the share that "
                "is left settles.",
                frame="play",
            ),
            Step(
                title="Fetch nothing",
                text="Only the newest tokens stay. The strip below still grows with the text: "
                "LSA's memory has a small slope, not none.",
                sets={"kept": 0.0},
                frame="1M",
            ),
            Step(
                title="Count as the paper",
                text="Without the strip, from 256K tokens on, the paper's own figures are met. For "
                "64K and 128K it prints more (tab “Every length”).",
                sets={"accounting": "paper"},
                frame="1M",
            ),
            Step(
                title="All index keys",
                text="Choosing needs three layers' index keys. If all 21 layers keep theirs, the "
                "strip is thick and twice as much is left.",
                sets={"all_index_keys": True},
                frame="1M",
            ),
        ),
        plots=(
            Plot(
                name="lengths",
                label="GiB on the GPU against context",
                caption="Both axes are logarithmic. Diamonds: what the paper prints. Counting kept "
                "chunks alone meets its LSA column from 256K on; at 64K and 128K it prints more.",
                tab="Every length",
                height=320,
            ),
            *_measured_plots(),
            Plot(
                name="live",
                label="Bytes on the device by category while a small model decodes",
                caption="The small model of the topical task, counted while it decodes. Cells are "
                "places for fetched chunks, taken once and for all: move “Chunks kept” and the "
                "decode begins anew with others. The dotted line says how many of them hold a "
                "chunk that may be read; tables say which chunk is in which cell.",
                tab="Live",
                height=320,
            ),
        ),
        predict=predict,
        defaults={**first, "decode": 0, **values},
    )


def _measured_plots() -> tuple[Plot, ...]:
    """Plots of the committed run, if there is one."""
    found = experiment.measured()
    if found is None:
        return ()
    recorded = f"Recorded on one {found.device} by python benchmarks/lsa_residency.py"
    last = found.rows["everything"][-1]
    held, slower = _on_demand(found, last)
    return (
        Plot(
            name="used",
            label="Measured GPU memory of the attention against context",
            caption=f"{recorded}: all that is on the GPU, at a tenth of the chunks whatever is set "
            f"above. The lines are the byte model.{held}",
            span=6,
            tab="Measured",
            height=320,
        ),
        Plot(
            name="speed",
            label="Measured decode steps per second against context",
            caption="Attention of 21 CSA and 20 HCA layers alone. Overlapped: copies run beside "
            "the steps. Steps are replayed as a CUDA graph, kernels recorded once and started "
            "together, but for fetching on demand, which must launch each kernel anew. Compare it "
            f"with the dotted line, everything resident launched anew.{slower}",
            span=6,
            tab="Measured",
            height=320,
        ),
    )


def _on_demand(found: experiment.Measured, whole: Row) -> tuple[str, str]:
    """Why fetching on demand holds more than LSA, and its steps against others launched alike."""
    try:
        demand, lsa = (found.at(arm, whole.context) for arm in ("reactive", "lsa_overlapped"))
    except KeyError:
        return "", ""
    where = tokens_text(whole.context)
    held = demand.resident_bytes / lsa.resident_bytes
    keys = demand.bytes["index_keys"] / lsa.bytes["index_keys"]
    return (
        f" Fetching on demand holds {fixed(held, 1)} times as much as LSA at {where}: its layers "
        "choose in every step, so all 21 keep their index keys here, "
        f"{fixed(keys, 1)} times LSA's.",
        f" At {where} that is {demand.eager_steps_per_s:.0f} steps against "
        f"{whole.eager_steps_per_s:.0f}; how fast a CPU launches varies, so trust only that there "
        "is a gap.",
    )
