"""The committed times of `kernel_ladder.py` beside goals, and what `kernel_profile.py` explains.

python benchmarks/ladder_table.py [--folder FOLDER]       Markdown, as docs/kernels.md holds it
"""

import sys
from pathlib import Path

import helpers

from intuitive.common import records

GOALS = {  # dense over MSA
    "prefill 32K": 4.5, "prefill 128K, near": 13, "prefill 128K, random": 9,
    "last 8K of 1M": 30, "decode 8K": 1, "decode 32K": 2.4, "decode 128K": 5, "decode 1M": 6.9,
    "backward 32K, near": 5,
}  # fmt: skip
PARTS = ("attend", "select", "last", "decode", "backward")
WON = "late, counted"  # the way of a decode step that became the default after it was timed
DEFAULTS = {"decode": {plan: f"{plan}, {WON}" for plan in ("hopper", "codes")}}
WAYS = ("in turn", "counted", "early", "early, counted", "late", WON, f"{WON}, chained")
CODED_GOALS = {"decode 1M": 11}


def load(folder: Path, name: str) -> dict:
    return records.load(folder / f"{name}.json")[0]


def steps(folder: Path) -> dict[str, dict]:
    """By step: unit, dense time, ours with numbers and with codes (None where there are none)."""
    found, part = {}, {name: load(folder, f"ladder_{name}") for name in PARTS}

    def row(name: str, plan: str) -> dict:
        return part[name]["rows"][DEFAULTS.get(name, {}).get(plan, plan)]

    for name, size, kind, plan in (
        ("prefill 32K", "32K", "near", "hopper"),
        ("prefill 128K, near", "128K", "near", "hopper"),
        ("prefill 128K, random", "128K", "random", "scattered"),
    ):
        attend = row("attend", plan)[f"{kind} {size}"]
        ours, codes = (row("select", first)[size] + attend for first in ("hopper", "codes"))
        dense = part["attend"]["about"][f"dense {size}"]
        found[name] = {"unit": "ms", "dense": dense, "ours": ours, "codes": codes}
    found["last 8K of 1M"] = {
        "unit": "ms", "dense": part["last"]["about"]["dense"],
        "ours": row("last", "hopper")["step"], "codes": row("last", "codes")["step"],
    }  # fmt: skip
    for size in ("8K", "32K", "128K", "1M"):
        found[f"decode {size}"] = {
            "unit": "µs", "dense": part["decode"]["about"][f"dense {size}"],
            "ours": row("decode", "hopper")[size], "codes": row("decode", "codes")[size],
        }  # fmt: skip
    found["backward 32K, near"] = {
        "unit": "ms", "dense": part["backward"]["about"]["dense 32K"],
        "ours": row("backward", "hopper")["near 32K"], "codes": None,
    }  # fmt: skip
    return found


def ways(folder: Path) -> str:
    """Every way of a decode step of numbers that the ladder timed, as a table."""
    rows, sizes = load(folder, "ladder_decode")["rows"], ("8K", "32K", "128K", "1M")
    lines = ["| decode, µs | 8K | 32K | 128K | 1M |", "| --- | --- | --- | --- | --- |"]
    for way in WAYS:
        times = (f"{rows[f'hopper, {way}'][size]:.3g}" for size in sizes)
        lines.append("| " + " | ".join([way, *times]) + " |")
    return "\n".join(lines)


def table(folder: Path) -> str:
    lines = [
        "| step | dense | MSA | reached | with codes | reached | goal |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in steps(folder).items():
        cells = [f"{name}, {row['unit']}", f"{row['dense']:.3g}"]
        for ours in (row["ours"], row["codes"]):
            cells += [f"{ours:.3g}", f"{row['dense'] / ours:.2f}x"] if ours else ["", ""]
        goal = f"{GOALS[name]:g}x"
        if name in CODED_GOALS:
            goal += f"; codes {CODED_GOALS[name]:g}x"
        lines.append("| " + " | ".join([*cells, goal]).replace("|  |", "| |") + " |")
    return "\n".join(lines).replace("|  |", "| |")


def reasons(folder: Path) -> list[str]:
    """What bounds each step, from the profile's numbers."""
    found = load(folder, "kernel_profile")
    peak, copy = (found["ceilings"][name] for name in ("matmul", "copy"))
    attend, select, decode = (found[name] for name in ("attend", "select", "decode"))
    count = {case: _numbers(row) for case, row in found["counters"].items() if "error" not in row}

    def rate(flops: float) -> str:
        return f"{flops / 1e12:.0f} TFLOP/s"

    near, hot, alike = attend["near"], attend["hot"], attend["shared by four"]
    seen, scored = count["attend"], count["select"]
    long, back = select["128K, hopper"], found["backward"]["near, hopper"]
    read = {size: decode[f"{size}, hopper"] for size in ("8K", "32K", "128K")}
    speed = {
        name: decode[name]["index_bytes"] / decode[name]["scores_us"] * 1e6
        for name in ("128K, hopper", "1M, codes")
    }
    lists = back["lists_ms"]
    reads = load(folder, "lsa_scores_h200")["reads"]
    plain = min((r for r in reads if r["bytes"] < 2**26 and r["bytes"]), key=lambda r: r["us"])
    return [
        f"- **Attention of a prefill, near 128K, {near['hopper_ms']:.3g} ms.** Tiles issue "
        f"{near['distinct'] / near['distinct of one']:.2f} times the FLOPs that the rows need, at "
        f"{rate(near['hopper_flops_issued'])}, {near['hopper_flops_issued'] / peak:.0%} of an "
        f"8192³ product's {rate(peak)}. With all keys in L2 the rate is "
        f"{rate(hot['hopper_flops_issued'])}, so DRAM does not bound it; where four neighbours "
        f"choose the same blocks it takes {alike['hopper_ms']:.3g} ms. The tensor cores are busy "
        f"{seen['sm__pipe_tensor_cycles_active']:.0f}% of the time, "
        f"L2 {seen['lts__throughput']:.0f}%, instructions issue in "
        f"{seen['sm__inst_issued']:.0f}% of the cycles: with "
        f"{seen['sm__warps_active']:.0f}% of the warps that a multiprocessor holds, products and "
        "softmax of one program wait for each other.",
        f"- **Selection of a prefill, 128K, {long['whole_ms']:.3g} ms.** Scores alone take "
        f"{long['scores_ms']:.3g} ms, {rate(long['flops'])} or {long['flops'] / peak:.0%} of that "
        f"product; the tensor cores are busy {scored['sm__pipe_tensor_cycles_active']:.0f}% of the "
        "time, and most waits are at barriers. Top 16 alone takes "
        f"{long['selection_ms']:.3g} ms. Codes score at {rate(select['128K, codes']['flops'])}.",
        "- **Decoding, by the ways that won below.** Three empty launches take "
        f"{decode['3 empty launches_us']:.2g} µs. Each "
        f"kernel alone at 8K, 32K and 128K: scores {_three(read, 'scores_us')} µs, search and "
        f"attention {_three(read, 'attend_us')} µs, merge {_three(read, 'merge_us')} µs, of "
        f"{_three(read, 'whole_us', digits=3)}. Up to 32K the kernel that searches and attends is "
        "the largest part: a chain of waits in which little is computed. Scores at 128K read "
        f"{speed['128K, hopper'] / 1e12:.2g} TB/s of the {copy / 1e12:.2g} of a large copy; a "
        f"kernel that only reads {plain['bytes'] / 1e6:.3g} MB takes {plain['us']:.3g} µs. At 1M "
        f"codes read {speed['1M, codes'] / 1e12:.2g} TB/s, {decode['1M, codes']['scores_us']:.3g} "
        f"of {decode['1M, codes']['whole_us']:.3g} µs; searching 8,192 blocks in every program "
        f"costs {decode['1M, codes']['attend_us'] - decode['128K, codes']['attend_us']:.3g} µs "
        "more than 1,024. The ways below are what was tried to leave less of this chain.",
        f"- **Backward, near 32K, {back['whole_ms']:.3g} ms.** Lists {lists:.2g} ms, dQ "
        f"{back['dq_ms'] - lists:.2g} ms, dK and dV {back['edges_ms'] - lists:.3g} ms. The last "
        f"holds {found['kernels']['dkv_edges_kernel']['registers']} registers a thread, so two "
        "programs of four warps share a multiprocessor and have little beside the four products "
        "to fill their waits with. Pairs of queries gain only where neighbours share little: "
        f"{found['backward']['random, hopper']['whole_ms']:.3g} ms instead of "
        f"{found['backward']['random, general']['whole_ms']:.3g} for random selections.",
    ]


def _three(rows: dict, name: str, digits: int = 2) -> str:
    a, b, c = (f"{row[name]:.{digits}g}" for row in rows.values())
    return f"{a}, {b} and {c}"


def _numbers(counters: dict[str, str]) -> dict[str, float]:
    """Counters by the first part of their names."""
    return {
        name.split(".")[0]: float(value.split()[0].replace(",", ""))
        for name, value in counters.items()
    }


def main() -> int:
    folder = helpers.options(__doc__, slices=False).parse_args().folder
    print(table(folder), *reasons(folder), "", ways(folder), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
