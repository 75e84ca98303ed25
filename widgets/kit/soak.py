"""Random control events from two threads, for any explorer.

Fires at an explorer what an impatient reader does, from two threads as JupyterLab does,
and watches for exceptions, growing memory, and a picture that disagrees with the controls.

    python -m intuitive.widgets.kit.soak --events 2000
"""

import argparse
import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .controls import Action, Choice, Range, Text, Toggle
from .explorer import Explorer

SETTLE_SECONDS = 300  # a model that writes may be the last one asked, on a busy machine


@dataclass(frozen=True)
class SoakReport:
    """What one explorer did under random events."""

    name: str
    events: int
    seconds: float
    errors: tuple[str, ...]  # texts of unexpected errors; refusals in words do not count
    refusals: int  # ends in the error state with a sentence
    last_value_won: bool
    grown_bytes: int  # resident memory gained after the first tenth of the events, if measured

    @property
    def ok(self) -> bool:
        return not self.errors and self.last_value_won

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "FAILED"
        return (
            f"{self.name}: {verdict}; {self.events} events in {self.seconds:.0f} s, "
            f"{len(self.errors)} errors, {self.refusals} refused in words, last value won: "
            f"{self.last_value_won}, memory {self.grown_bytes / 2**20:+.0f} MiB"
        )


def random_values(
    explorer: Explorer, dice: random.Random, texts: tuple[str, ...], still: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    """A random admissible value for one or two random controls."""
    controls = [c for c in explorer.declaration.controls if c.name not in still]
    chosen = dice.sample(controls, k=min(len(controls), dice.choice((1, 1, 2))))
    values: dict[str, Any] = {}
    for control in chosen:
        match control:
            case Range() | Choice() | Toggle():
                values[control.name] = dice.choice(
                    control.places(explorer.bounds.get(control.name))
                )
            case Text():
                if texts and dice.random() < 0.1:
                    values[control.name] = dice.choice(texts)
            case Action():
                if not control.disabled and dice.random() < 0.05:
                    values[control.name] = explorer.values[control.name] + 1
    return values


def soak(
    make: Callable[[], Explorer],
    *,
    events: int = 200,
    seed: int = 0,
    texts: tuple[str, ...] = (),
    still: tuple[str, ...] = (),
    pause: int | float = 0.004,
    memory: bool = True,
) -> SoakReport:
    """Fire `events` random control events at an explorer from two threads.

    Args:
        make: builds the explorer.
        events: in all, shared by the two threads.
        seed: of both threads' dice.
        texts: what the text control is given now and then.
        still: names of controls that are left where they are.
        pause: mean seconds between two events of a thread.
        memory: whether its growth is measured, after a tenth of the events that settles first.
    """
    explorer = make()
    errors: list[str] = []
    refusals = 0
    explorer_said: list[Mapping[str, Any]] = []
    explorer.observe(lambda change: explorer_said.append(change["new"]), "status")

    def fire(number: int, dice: random.Random) -> None:
        for _ in range(number):
            try:
                with explorer._lock:
                    drawn = random_values(explorer, dice, texts, still)
                    explorer.set_state({"values": {**explorer.values, **drawn}})
            except Exception as error:  # reported, with its type, at the end
                errors.append(f"{type(error).__name__}: {error}")
            time.sleep(dice.random() * 2 * pause)

    def run(number: int, stage: int) -> None:
        halves = [number // 2, number - number // 2]
        threads = [
            threading.Thread(target=fire, args=(half, random.Random(f"{seed}-{stage}-{thread}")))
            for thread, half in enumerate(halves)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not explorer.wait(SETTLE_SECONDS):
            errors.append(f"still busy {SETTLE_SECONDS} s after the last event")

    start = time.perf_counter()
    warm_up, grown = max(events // 10, 1) if memory else 0, 0
    if memory:
        run(warm_up, 0)
        grown = -_resident_bytes()
    run(events - warm_up, 1)
    if memory:
        grown += _resident_bytes()
    for said in explorer_said:
        if said["state"] == "error":
            refusals += 1
            if ": " in said["text"] and said["text"].split(": ")[0].endswith("Error"):
                errors.append(said["text"])
    won = explorer.status["values"] == explorer.values
    report = SoakReport(
        name=explorer.name,
        events=events,
        seconds=time.perf_counter() - start,
        errors=tuple(errors),
        refusals=refusals,
        last_value_won=won,
        grown_bytes=grown,
    )
    explorer.close()
    return report


def _resident_bytes() -> int:
    gc.collect()
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def main() -> int:
    """The command line; 1 where an explorer failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*", help="explorers; all of them by default")
    chosen = parser.parse_args()
    from .. import catalogue

    makers = catalogue.explorers()
    unknown = sorted(set(chosen.names) - set(makers))
    if unknown:
        parser.error(f"no explorer is named {', '.join(unknown)}; there are {', '.join(makers)}")
    failed = False
    for name in chosen.names or makers:
        report = soak(makers[name], events=chosen.events, seed=chosen.seed)
        print(report, flush=True)
        for error in report.errors[:5]:
            print("   ", error, flush=True)
        failed |= not report.ok
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
