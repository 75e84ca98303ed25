"""The plans of the MSA kernels: each is checked against float64, then timed beside dense SDPA.

    python benchmarks/kernel_ladder.py FOLDER --device cuda --seconds 100 --commit HASH
    TRITON_INTERPRET=1 python benchmarks/kernel_ladder.py FOLDER --part decode --small

Writes FOLDER/ladder_PART.json for each part and FOLDER/ladder.txt. Checks run in a process each,
all at once, which also fills the compile cache; times come from one process a part, one after the
other, and only of what passed. A process that dies (a fault poisons its context) costs the plan it
was at. `--small` checks and times nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import helpers
import ladder_tasks

from intuitive.common import records

PARTS = tuple(ladder_tasks.PARTS)
CHECKS_UNTIL = 0.6  # of the seconds
TOGETHER = 24  # checks at a time: they share the card's memory, and the cores that compile


def options() -> argparse.Namespace:
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("folder", type=Path, help="where results go")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--small", action="store_true", help="sizes for the interpreter")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


class Ladder:
    """The parent: starts the children, gathers their lines, saves."""

    def __init__(self, option: argparse.Namespace) -> None:
        self.option, self.start = option, time.time()
        self.rows: dict[str, dict[str, dict]] = {part: {} for part in option.part}
        self.about: dict[str, dict] = {part: {} for part in option.part}

    def child(self, part: str, mode: str, names: list[str]) -> subprocess.Popen:
        task = json.dumps({"part": part, "mode": mode, "names": names})
        command = [sys.executable, __file__, str(self.option.folder), "--child", task]
        command += ["--device", self.option.device]
        if self.option.small:
            command.append("--small")
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self, child: subprocess.Popen, part: str, mode: str, until: float) -> None:
        """Take what a child found, by its end or by the time given."""
        try:
            output, _ = child.communicate(timeout=max(until - time.time(), 1))
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            output += "\nstopped: no time left"
        at, tail = None, []
        for line in output.splitlines():
            if not line.startswith("@"):
                tail = [*tail[-12:], line[:300]]
                continue
            found = json.loads(line[1:])
            at = found.get("at", at)
            self.about[part] |= found.get("about", {})
            if "row" in found:
                self.rows[part].setdefault(found["name"], {}).update(found["row"])
                at = None
        if child.returncode:
            fault = " | ".join(tail)[-600:] or "died"
            self.rows[part].setdefault(at or "all", {})[f"{mode}_error"] = fault

    def save(self) -> str:
        text = []
        for part, rows in self.rows.items():
            about = dict(self.about[part])
            text.append(ladder_tasks.summary(part, about, rows))
            made = {"device": about.pop("device", "cpu"), "versions": about.pop("versions", {})}
            values = helpers.rounded({"about": about, "rows": rows}, digits=5)
            records.save(
                self.option.folder / f"ladder_{part}.json", values, config={"part": part},
                seed=about.get("seed", 0), commit=self.option.commit, **made,
            )  # fmt: skip
        (self.option.folder / "ladder.txt").write_text("\n".join(text) + "\n")
        return "\n".join(text)

    def run(self) -> int:
        self.option.folder.mkdir(parents=True, exist_ok=True)
        until = self.start + self.option.seconds
        checks_until = self.start + self.option.seconds * CHECKS_UNTIL
        names = {
            part: [
                name
                for name in ladder_tasks.PARTS[part].candidates
                if not self.option.small or ", " not in name
            ]
            for part in self.rows
        }
        if self.option.small:  # one process after the other, as few as may be
            rounds = [[(part, these)] for part, these in names.items()]
        else:
            each = [(part, [name]) for part, these in names.items() for name in these]
            rounds = [each[first : first + TOGETHER] for first in range(0, len(each), TOGETHER)]
        for tasks in rounds:
            running = [(self.child(part, "check", these), part) for part, these in tasks]
            for child, part in running:
                end = float("inf") if self.option.small else checks_until
                self.finish(child, part, "check", min(end, time.time() + 3600))
        self.save()
        for part, rows in () if self.option.small else self.rows.items():
            passed = [name for name, row in rows.items() if row.get("passed")]
            if passed and time.time() < until:
                self.finish(self.child(part, "time", passed), part, "time", until)
                self.save()
        print(self.save())
        return int(
            any(not row.get("passed") for rows in self.rows.values() for row in rows.values())
        )


def child(option: argparse.Namespace) -> None:
    task = json.loads(option.child)
    part = ladder_tasks.PARTS[task["part"]](option.device, option.small)

    def say(**found) -> None:
        print("@" + json.dumps(helpers.rounded(found, digits=6)), flush=True)

    say(about=part.prepare() if task["mode"] == "time" else part.about())
    for name in task["names"]:
        say(at=name)
        start = time.time()
        try:
            row = part.check(name) if task["mode"] == "check" else part.time(name)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            row = {f"{task['mode']}_error": f"{text[:250]} ... {text[-350:]}"}
        say(name=name, row=row | {f"{task['mode']}_s": time.time() - start})


def main() -> int:
    option = options()
    if option.child:
        child(option)
        return 0
    return Ladder(option).run()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
