"""Candidates for the MSA kernels: each is checked against float64, then timed beside dense SDPA.

    python benchmarks/kernel_ladder.py --part attend select decode backward fp8 --device cuda \
        --seconds 140 --commit HASH --out FOLDER
    TRITON_INTERPRET=1 python benchmarks/kernel_ladder.py --part decode --small

One file FOLDER/ladder_PART.json a part, saved after every candidate. Checks run in several worker
processes, which also fill the compile cache; times come from one process that runs only what
passed. A worker that dies (a fault poisons its context) costs the candidate it was at, and is
started again behind it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import helpers

PARTS = ("attend", "select", "decode", "backward", "fp8")
WORKERS = 6


def options():
    parser = helpers.options(__doc__, folder=False, slices=False)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=140)
    parser.add_argument("--out", type=Path, default=Path("ladder"))
    parser.add_argument(
        "--small", action="store_true", help="a few candidates, for the interpreter"
    )
    parser.add_argument("--only", help="candidates whose name holds this")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


class Ladder:
    """The parent: starts the workers, gathers their lines, saves."""

    def __init__(self, option, part: str, until: float) -> None:
        self.option, self.part, self.until = option, part, until
        self.file = option.out / f"ladder_{part}.json"
        self.rows: dict[str, dict] = {}
        self.about: dict = {}

    def left(self) -> float:
        return self.until - time.time()

    def child(self, mode: str, names: list[str]) -> subprocess.Popen:
        task = json.dumps({"part": self.part, "mode": mode, "names": names, "until": self.until})
        command = [sys.executable, __file__, "--device", self.option.device, "--child", task]
        if self.option.small:
            command.append("--small")
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def take(self, line: str) -> str | None:
        """One line of a child; the name of the candidate it is at now."""
        if not line.startswith("@"):
            return None
        found = json.loads(line[1:])
        if "about" in found:
            self.about |= found["about"]
        elif "at" in found:
            return found["at"]
        else:
            self.rows.setdefault(found["name"], {}).update(found["row"])
        return ""

    def finish(self, child: subprocess.Popen, names: list[str], mode: str) -> list[str]:
        """Read a child to its end; the names that are left if it died."""
        at, tail = None, []
        for line in child.stdout:
            got = self.take(line)
            if got is None:
                tail = [*tail[-12:], line.rstrip()[:300]]
            elif got:
                at = got
        if child.wait() == 0 or at is None:
            if child.returncode:
                print(f"{self.part} {mode} died before its first candidate:", *tail, sep="\n")
            return []
        self.rows.setdefault(at, {})[f"{mode}_error"] = " | ".join(tail)[-600:] or "died"
        return names[names.index(at) + 1 :] if at in names else []

    def save(self) -> None:
        from intuitive.common import records

        self.option.out.mkdir(parents=True, exist_ok=True)
        records.save(
            self.file, helpers.rounded({"about": self.about, "rows": self.rows}, digits=5),
            config={"part": self.part}, seed=0, device=self.about.get("device", "cpu"),
            commit=self.option.commit, versions=self.about.get("versions", {}),
        )  # fmt: skip

    def run(self) -> None:
        import ladder_tasks

        names = list(ladder_tasks.PARTS[self.part].candidates(self.option.small))
        names = [name for name in names if not self.option.only or self.option.only in name]
        workers = 1 if self.option.small else WORKERS
        shares = [names[i::workers] for i in range(workers)]
        while any(shares) and self.left() > 20:
            running = [(self.child("check", s), s) for s in shares if s]
            shares = [self.finish(child, s, "check") for child, s in running]
        self.save()
        passed = [name for name in names if self.rows.get(name, {}).get("passed")]
        while passed and self.left() > 8:
            passed = self.finish(self.child("time", passed), passed, "time")
            self.save()
        print(ladder_tasks.summary(self.part, self.about, self.rows))
        self.save()


def child(option) -> None:
    import ladder_tasks

    task = json.loads(option.child)
    part = ladder_tasks.PARTS[task["part"]](option.device, option.small)

    def say(**found) -> None:
        print("@" + json.dumps(helpers.rounded(found, digits=6)), flush=True)

    if task["mode"] == "time":
        say(about=part.prepare())
    every = part.candidates(option.small)
    for name in task["names"]:
        if time.time() > task["until"] - (15 if task["mode"] == "check" else 3):
            say(name=name, row={f"{task['mode']}_error": "no time left"})
            continue
        say(at=name)
        start = time.time()
        try:
            row = part.check(every[name]) if task["mode"] == "check" else part.time(every[name])
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            row = {f"{task['mode']}_error": f"{text[:250]} ... {text[-350:]}"}
            if "CUDA error" in text or "illegal" in text:
                say(name=name, row=row)
                sys.exit(1)
        say(name=name, row=row | {f"{task['mode']}_s": time.time() - start})


def main() -> None:
    option = options()
    if option.child:
        child(option)
        return
    until = time.time() + option.seconds
    for i, part in enumerate(option.part):
        share = (until - time.time()) / (len(option.part) - i)
        Ladder(option, part, time.time() + share).run()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sys.path.insert(0, str(Path(__file__).parent))
    main()
