"""What the scripts here share: rounding, tables, their options, and where results go."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from intuitive.common import records
from intuitive.common.runtime import device_name

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def rounded(value: Any, *, digits: int | None = None, decimals: int | None = None) -> Any:
    """Records, dicts, lists and tensors as plain dicts, lists and numbers, the floats shortened.

    Args:
        value: what a run found.
        digits: significant digits to keep.
        decimals: or digits behind the point.
    """
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    value = records.plain(value)
    if isinstance(value, dict):
        pairs = value.items()
        return {name: rounded(entry, digits=digits, decimals=decimals) for name, entry in pairs}
    if isinstance(value, list | tuple):
        return [rounded(entry, digits=digits, decimals=decimals) for entry in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if decimals is None else round(value, decimals)


def aligned(rows: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """Rows of cells as text with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    place = str.rjust if right else str.ljust
    return "\n".join(
        "  ".join(place(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def spread(values: Iterable[float | None], form: str = ".2f", *, to: str = "–") -> str:
    """Mean and range, such as "0.99 (0.98–1.00)"; a dash where there is nothing."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{statistics.mean(known):{form}} ({min(known):{form}}{to}{max(known):{form}})"


def options(doc: str, *, folder: bool = True, slices: bool = True) -> argparse.ArgumentParser:
    """The options that scripts share: --commit, and where asked for --folder and --slice."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    if folder:
        parser.add_argument("--folder", type=Path, default=RESULTS, help="where results lie")
    if slices:
        parser.add_argument("--slice", action="store_true", help="compare with committed results")
    return parser


def rows_options(doc: str, *, out: Path, seconds: float, small: str) -> argparse.Namespace:
    """What a script that finds row after row is told; `device` becomes a torch.device.

    Args:
        doc: of the script.
        out: where its record goes unless told otherwise.
        seconds: after which no row is begun.
        small: what --small means.
    """
    parser = options(doc, folder=False, slices=False)
    parser.add_argument("--out", type=Path, default=out, help="the JSON file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help=small)
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="after which no row is begun"
    )
    option = parser.parse_args()
    option.device = torch.device("cpu" if option.small else option.device)
    return option


class Rows:
    """What such a script found so far; `save` after each row."""

    def __init__(self, plan: Any, option: argparse.Namespace) -> None:
        self.plan, self.device, self.option = plan, option.device, option
        self.until = time.perf_counter() + option.seconds
        self.values: dict = {"rows": [], "skipped": []}

    def save(self, **made: Any) -> None:
        """Write the record; `made` is what it says of how it came about, such as a seed."""
        records.save(
            self.option.out,
            rounded(self.values, digits=4),
            config=self.plan,
            device=device_name(self.device),
            commit=self.option.commit,
            **made,
        )


def told(faults: Sequence[str]) -> int:
    """Print what a slice found otherwise than committed; the exit status that goes with it."""
    print("\n".join(faults) or "The slice agrees with the committed results.")
    return 1 if faults else 0


def median_ms(run: Callable[[], object], repeats: int = 7) -> float:
    """Median time of one call, by CUDA events, after two calls to warm up."""
    for _ in range(2):
        run()
    pairs = []
    for _ in range(repeats):
        pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        pair[0].record()
        run()
        pair[1].record()
        pairs.append(pair)
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in pairs)


def graph_us(steps: list[Callable[[], object]]) -> float:
    """Median time of one step, when all steps run in one captured graph, at least 16 of them."""
    steps = steps * -(-16 // len(steps))
    for step in steps:
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for step in steps:
            step()
    return median_ms(graph.replay, repeats=21) * 1000 / len(steps)
