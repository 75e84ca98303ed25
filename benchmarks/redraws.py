"""What a redraw costs Python: processor time and bytes of every control, without a browser.

    python benchmarks/redraws.py [--moves 10] [--heavy] [--only msa_block_selection ...]

Moves each control of each explorer as a page would, and counts the processor time of this process
from the change to the message that answers it, packed as the kernel packs it, and its bytes. Other
work on the machine hardly touches either. What a declaration calls `heavy` is left out, unless
asked for. Prints what takes longest first; writes nothing.
"""

import math
import random
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import helpers
from jupyter_client.session import Session

from intuitive.widgets import catalogue
from intuitive.widgets.kit import Explorer
from intuitive.widgets.kit.controls import Control

PATIENCE_S = 300


@dataclass(frozen=True, kw_only=True)
class Redraws:
    """Some moves of one control; empty where it is heavy, and was left out."""

    explorer: str
    control: str
    heavy: bool
    python_ms: tuple[float, ...]  # processor time, by move
    bytes: tuple[int, ...]  # sent to the page, by move


def p95(numbers: list[float] | tuple[float, ...]) -> float:
    """The 95th percentile: of twenty the largest but one, of ten the largest."""
    return sorted(numbers)[math.ceil(0.95 * len(numbers)) - 1]


class Wire:
    """In the place of an explorer's connection: packs what it sends, and counts the bytes."""

    def __init__(self) -> None:
        self._session = Session(key=b"counts")
        self.bytes = 0

    def __call__(self, message: dict[str, Any], buffers: list[Any] | None = None) -> None:
        packed = self._session.serialize(self._session.msg("comm_msg", {"data": message}))
        self.bytes += sum(map(len, packed))
        self.bytes += sum(memoryview(buffer).nbytes for buffer in buffers or ())


def moved(
    explorer: Explorer, control: Control, moves: int, dice: random.Random
) -> tuple[list[float], list[int]]:
    """Processor time in ms, and bytes, of moves of one control from its default."""
    explorer.reset().wait(PATIENCE_S)
    explorer._send = wire = Wire()
    last, times_ms, sizes = explorer.values[control.name], [], []
    for _ in range(moves):
        places = control.places(explorer.bounds.get(control.name))
        last = dice.choice([place for place in places if place != last])
        wire.bytes = 0
        begun = time.process_time()
        explorer.set_state({"values": {**explorer.values, control.name: last}})
        explorer.wait(PATIENCE_S)
        times_ms.append((time.process_time() - begun) * 1e3)
        sizes.append(wire.bytes)
    return times_ms, sizes


def of_explorer(name: str, moves: int, *, seed: int = 0, heavy: bool = False) -> list[Redraws]:
    """Redraws of every control of an explorer that can be moved."""
    explorer, dice, found = catalogue.explorers()[name](), random.Random(seed), []
    explorer.prediction = ""  # skipped
    for control in explorer.declaration.controls:
        if len(control.places(explorer.bounds.get(control.name))) < 2:
            continue
        times, sizes = [], []
        if heavy or not control.heavy:
            times, sizes = moved(explorer, control, moves, dice)
        about = {"explorer": name, "control": control.name, "heavy": control.heavy}
        found.append(Redraws(**about, python_ms=tuple(times), bytes=tuple(sizes)))
    explorer.close()
    return found


def main() -> int:
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("--moves", type=int, default=10, help="per control")
    parser.add_argument("--seed", type=int, default=0, help="of the values moved to")
    parser.add_argument("--heavy", action="store_true", help="heavy controls as well")
    parser.add_argument("--only", nargs="*", default=list(catalogue.explorers()), metavar="NAME")
    chosen = parser.parse_args()
    found = []
    for name in chosen.only:
        found += of_explorer(name, chosen.moves, seed=chosen.seed, heavy=chosen.heavy)
    rows = sorted((one for one in found if one.python_ms), key=lambda one: -p95(one.python_ms))
    head = ("explorer", "control", "", "median ms", "p95 ms", "kB")
    cells = [
        (
            *(one.explorer, one.control, "heavy" if one.heavy else ""),
            f"{statistics.median(one.python_ms):.1f}",
            f"{p95(one.python_ms):.1f}",
            f"{statistics.median(one.bytes) / 1e3:.0f}",
        )
        for one in rows
    ]
    print(helpers.aligned([head, *cells]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
