"""Lessons run whole on this machine, and their measuring buttons pressed.

    python benchmarks/lessons.py [--commit HASH] [01_msa ...]

Executes each lesson in a fresh kernel, then presses every "measure" button that works here, at the
contexts below, and records: seconds, cells whose text differs from the saved lesson's, what every
explorer says, and what was measured. Written for a machine with an NVIDIA GPU; without one the
buttons are disabled and only the rest is recorded. Writes benchmarks/results/lessons_h200.json.
"""

import copy
import json
import time

import helpers
import nbformat
from helpers import ROOT
from nbclient import NotebookClient

from intuitive.common import records
from intuitive.common.runtime import best_device, device_name

RESULT = helpers.RESULTS / "lessons_h200.json"
SEED = 0  # of what the buttons measure
CONTEXTS = (8192, 131_072, 524_288)  # tokens, at which "measure" is pressed

IN_THE_KERNEL = f"""
import json
from intuitive.widgets.kit import Action, Explorer

found = {{}}
for shown in list(Out.values()):
    if not isinstance(shown, Explorer) or shown.name in found:
        continue
    entry = found[shown.name] = {{"summary": shown.summary, "status": shown.status["state"]}}
    button = shown.declaration.by_name.get("measure")
    if not isinstance(button, Action) or button.disabled:
        continue
    shown.predict(None)
    measured = entry["measured"] = []
    for context in {CONTEXTS}:
        shown.set(context=context, measure=shown.values["measure"] + 1)
        done = shown.wait(300) and shown.status["state"] == "done"
        measured.append(
            {{
                "context": context,
                "status": shown.status["text"] if not done else "done",
                "readouts": [[one.label, one.value] for one in shown.view.readouts],
                "rows": [row for row in shown.view.table.rows if "measured" in row[0]],
            }}
        )
print(json.dumps(found))
"""


def text_of(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell said in words: streams and plain text; a stream may come in several parts."""
    said, stream = [], None
    for output in cell.get("outputs", []):
        last, stream = stream, output.get("name")
        if output.output_type == "stream" and stream == last:
            said[-1] += output.text
        elif output.output_type == "stream":
            said.append(output.text)
        elif output.output_type == "error":
            said.append(f"{output.ename}: {output.evalue}")
        elif "text/plain" in output.get("data", {}):
            said.append(output.data["text/plain"])
    return said


def run_lesson(name: str) -> dict:
    """Execute one lesson; returns what is recorded of it."""
    saved = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    fresh = copy.deepcopy(saved)
    for cell in fresh.cells:
        cell["outputs"] = []
    client = NotebookClient(fresh, timeout=600, kernel_name="python3")
    started = time.perf_counter()
    with client.setup_kernel():
        for index, cell in enumerate(fresh.cells):
            client.execute_cell(cell, index)
        seconds = time.perf_counter() - started
        asked = nbformat.v4.new_code_cell(IN_THE_KERNEL)
        client.nb.cells.append(asked)
        client.execute_cell(asked, len(fresh.cells) - 1)
    explorers = json.loads(asked.outputs[-1].text)
    differing = [
        {"cell": index, "saved": before, "here": after}
        for index, (old, new) in enumerate(zip(saved.cells, fresh.cells, strict=False))
        if (before := text_of(old)) != (after := text_of(new))
    ]
    return {
        "seconds": round(seconds, 1),
        "cells": len(saved.cells),
        "differing": differing,
        "explorers": explorers,
    }


def main() -> None:
    """Run the lessons named, or all, and save the record."""
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("names", nargs="*", help="such as 01_msa; all by default")
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb"))
    values: dict[str, dict] = {"lessons": {}}
    for name in names:
        values["lessons"][name] = run_lesson(name)
        print(name, json.dumps(values["lessons"][name])[:2000], flush=True)
        records.save(
            RESULT,
            values,
            config={"contexts": list(CONTEXTS), "names": names},
            device=device_name(best_device()),
            commit=arguments.commit,
            seed=SEED,
        )


if __name__ == "__main__":
    main()
