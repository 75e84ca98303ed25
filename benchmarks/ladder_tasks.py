"""The parts of `kernel_ladder.py`, and the table that it prints."""

from ladder_prefill import Attend, Last, Select
from ladder_steps import Backward, Decode

PARTS = {
    "attend": Attend, "select": Select, "last": Last, "decode": Decode, "backward": Backward,
}  # fmt: skip


def summary(part: str, about: dict, rows: dict) -> str:
    """A short table: times of every candidate, or why there are none."""
    beside = {name: value for name, value in about.items() if isinstance(value, float)}
    lines = [f"## {part} on {about.get('device')} {beside}"]
    for name, row in rows.items():
        numbers = " ".join(f"{k}={v:.4g}" for k, v in row.items() if isinstance(v, float))
        fault = row.get("check_error") or row.get("time_error") or ""
        lines.append(f"{name}: {numbers} {fault[:300]}".rstrip())
    return "\n".join(lines)
