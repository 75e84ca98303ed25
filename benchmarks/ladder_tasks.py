"""The parts of `kernel_ladder.py`, and the table that it prints."""

from ladder_prefill import Attend, Fp8, Select
from ladder_steps import Backward, Decode

PARTS = {"attend": Attend, "select": Select, "decode": Decode, "backward": Backward, "fp8": Fp8}


def summary(part: str, about: dict, rows: dict) -> str:
    """A short table: times of every candidate, or why there are none."""
    dense = {name: ms for name, ms in about.items() if name.startswith("dense")}
    lines = [f"## {part} {dense} {about.get('device')}"]
    for name, row in rows.items():
        times = " ".join(
            f"{k}={v:.4g}"
            for k, v in row.items()
            if isinstance(v, float) and not k.endswith("_s") and k != "passed"
        )
        fault = row.get("check_error") or row.get("time_error") or ""
        kernels = f" {row['kernels_ms']}" if "kernels_ms" in row else ""
        lines.append(f"{name or '-'}: {times}{kernels} {fault[:160]}".rstrip())
    return "\n".join(lines)
