"""Miniatures of LCLM: recall and reconstruction against the ratio, the sweep, mixes and stages.

    python benchmarks/lclm_miniature.py --part ratio long --device cuda --out FOLDER
    python benchmarks/lclm_miniature.py --part stages small small_long expand ...
    python benchmarks/lclm_miniature.py --part sweep ...
    python benchmarks/lclm_miniature.py --collect FOLDER...    all parts, as one committed file

`small` is what a laptop can do too (an hour there): two layers, 32 tokens. The large ones have four
layers on each side and read 256 tokens: made up ones, or bytes of the corpus. The seeds of an arm
train side by side, and each part is written after every arm, so that what the time allows is there.
Weights and examples are drawn on the CPU, and are the same on every device.
"""

import dataclasses
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import helpers
import torch
from lclm_miniature_arms import PARTS, Arm, Plan, small_arms, small_plan
from lclm_miniature_shop import Workshop

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.training import one_thread
from intuitive.lclm import fitting
from intuitive.lclm.miniature import Form, Size, build
from intuitive.lclm.stages import Stage
from intuitive.lclm.task import RecallTask

NAME = "lclm_miniature"
SLICE_TOLERANCE = 0.1  # on accuracy: rounding differs between devices, and grows while training


# ------------------------------------------------------------------------------------ the script


def run_part(part: str, shop: Workshop, options: Any, *, begun: float) -> Path:
    """Train the arms of a part, all seeds at once, as far as the time goes; write after each."""
    plan, made = shop.plan, device_name(shop.device)
    points: list[dict[str, Any]] = []
    took: dict[Any, float] = {}
    path = options.out / f"{NAME}_{part}.json"

    def seconds() -> float:
        return time.monotonic() - begun

    def write() -> None:
        words = iter(sys.argv[1:])
        told = [word for word in words if word != "--out" or not next(words)]
        how = {
            "command": " ".join([Path(sys.argv[0]).name, *told]),
            "commit": options.commit or records.commit_here() or "",
            "device": made,
            "torch": torch.__version__,
        }
        values = {"parts": {part: how}, "points": points, "guesses": guesses(plan)}
        records.save(
            path,
            helpers.rounded(values, digits=4),
            config=helpers.rounded(plan, digits=6),
            device=made,
            commit=options.commit,
            seed=list(plan.seeds),
        )

    skipped = 0
    for arm in PARTS[part](plan, plan.seeds[0]):
        kind = (arm.scale, arm.data, arm.budget, arm.study)
        if seconds() + 1.2 * took.get(kind, 0.0) > options.seconds:
            skipped += 1
            continue
        start = seconds()
        found = attempt(shop, [dataclasses.replace(arm, seed=seed) for seed in plan.seeds])
        if not found:
            continue
        took[kind] = seconds() - start
        points += [{"part": part, **one} for one in (*shop.raw_points, *found)]
        shop.raw_points.clear()
        write()
        form = arm.form
        print(
            f"{seconds():6.1f} s  {arm.study} {arm.data} {arm.budget} {arm.training} {form.reader} "
            f"N={form.ratio} W={form.window} {form.pooling} {form.mask} r={arm.n_records} "
            f"mix={arm.reconstruction} {found[0]['steps']} steps, {took[kind]:.1f} s: "
            f"{short(found)}",
            flush=True,
        )
    write()
    print(f"{part}: {len(points)} arms, {skipped} left out; {path.name}", flush=True)
    return path


def attempt(shop: Workshop, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Train arms; one that fails side by side on a GPU is tried once more without."""
    while True:
        try:
            return shop.run(arms)
        except Exception as error:  # one arm's fault must not cost the others
            if shop.device.type == "cpu":
                raise
            print(f"FAILED {arms[0]}: {type(error).__name__}: {error}", flush=True)
            if not shop.together:
                return []
            shop.together = False
        finally:
            tidy(shop.device)


def recording_differs(device: torch.device) -> str | None:
    """Train two tiny miniatures with and without a recorded graph; what is wrong, or None."""
    of = RecallTask()
    stages = [
        Stage(name="encoder", n_steps=6, adapter=1e-2, encoder=1e-2),
        Stage(name="joint", n_steps=12, adapter=1e-2, encoder=1e-2, decoder=1e-2),
    ]
    found = []
    try:
        for recorded in (False, True):
            readers = [
                build(
                    Form(ratio=8, window=16),
                    Size(d_model=32, n_layers=2, n_heads=2, d_ff=32, batch=8),
                    vocabulary=of.vocabulary,
                    context=of.context,
                    behind=of.questions,
                    seed=seed,
                    device=device,
                )
                for seed in (0, 1)
            ]
            fitting.fit_together(
                readers,
                lambda steps, generator: of.draw(steps, 8, generator=generator),
                [lambda _: {}] * 2,
                stages,
                seeds=(0, 1),
                recorded=recorded,
            )
            found.append([p.detach().cpu() for reader in readers for p in reader.parameters()])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    apart = torch.cat([(a - b).abs().flatten() for a, b in zip(*found, strict=True)])
    mean, far = float(apart.mean()), float(apart.max())
    print(f"weights with and without a recorded graph: {mean:.1e} apart, at most {far:.1e}")
    return f"weights are {mean:.1e} apart" if mean > 5e-3 else None  # 18 steps move them by 5e-2


def short(found: Sequence[dict[str, Any]]) -> str:
    """The last value of the measures that matter most, by seed."""
    said = []
    for name in found[0]["curve"]:
        if name.endswith("accuracy") or "continuation" in name:
            last = " ".join(format(one["curve"][name][-1], ".3f") for one in found)
            said.append(f"{name} {last}")
    return "; ".join(said)


def tidy(device: torch.device) -> None:
    """Give back what an arm's recorded graph held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def guesses(plan: Plan) -> dict[str, float]:
    """What is right without binding or reading, by data, scale and number of records."""
    found = {f"records small {plan.recall.n_records}": plan.recall.no_binding}
    for n in plan.records:
        n_keys = max(n, plan.large_recall.n_keys)
        large = dataclasses.replace(plan.large_recall, n_records=n, n_keys=n_keys)
        found[f"records large {n}"] = large.no_binding
    found[f"chunks small {plan.chunks.records * plan.chunks.n_chunks}"] = plan.chunks.no_binding
    found["symbols small 0"] = plan.symbols.chance
    found["symbols large 0"] = plan.large_symbols.chance
    return found


def collect(folders: Sequence[Path], out: Path) -> Path:
    """Put the parts that lie in these folders into one file.

    What a later folder holds of a study, at one scale and on one kind of data, replaces all that
    earlier folders hold of it: settings of different runs do not mix within one table.
    """
    parts: dict[str, Any] = {}
    points: list[dict[str, Any]] = []
    configs: dict[str, Any] = {}
    guessed: dict[str, dict[str, float]] = {}  # by part: another part may ask another task
    made: dict[str, Any] = {}
    for folder in folders:
        fresh = []
        for file in sorted(folder.glob(f"{NAME}_*.json")):
            part = file.stem.removeprefix(f"{NAME}_")
            values, made = records.load(file)
            parts |= values["parts"]
            guessed[part] = values["guesses"]
            configs[part] = made["config"]
            fresh += [{"part": part, **point} for point in values["points"]]
        anew = {_table(point) for point in fresh}
        points = [point for point in points if _table(point) not in anew] + fresh
    if not parts:
        raise FileNotFoundError(f"no {NAME}_*.json in {', '.join(map(str, folders))}.")
    guesses = {}
    for point in points:
        key = f"{point['data']} {point['scale']} {point['n_records']}"
        if key in guessed[point["part"]]:
            guesses[key] = guessed[point["part"]][key]
    return records.save(
        out / f"{NAME}.json",
        {"parts": parts, "points": points, "guesses": guesses},
        config=configs,
        device=made["device"],
        commit=made["commit"],
        seed=made["seed"],
    )


def _table(point: dict[str, Any]) -> tuple[str, str, str]:
    return point["study"], point["scale"], point["data"]


def compare_slice(folder: Path) -> list[str]:
    """Train one small arm again: recall with one record per latent, of the first seed."""
    values, _ = records.load(folder / f"{NAME}.json")
    plan = Plan()
    arm = next(
        arm
        for arm in small_arms(plan, plan.seeds[0])
        if arm.study == "recall" and arm.form.ratio == 8
    )
    (again,) = Workshop(plan, torch.device("cpu")).run([arm])
    (had,) = (
        point
        for point in values["points"]
        if all(
            point[name] == again[name]
            for name in ("study", "scale", "budget", "reader", "ratio", "seed", "window", "steps")
        )
    )
    faults = []
    for name in ("recall accuracy",):
        got, known = again["curve"][name][-1], had["curve"][name][-1]
        print(f"recall at N = 8: {name} {got:.3f}, committed {known:.3f}")
        if abs(got - known) > SLICE_TOLERANCE:
            faults.append(f"recall at N = 8: {name} is {got:.3f}, committed {known:.3f}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = helpers.options(__doc__)
    parser.add_argument("--out", type=Path, default=helpers.RESULTS, help="where results go")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--part", choices=[*PARTS], nargs="*", default=[*PARTS])
    parser.add_argument("--small", action="store_true", help="everything at a tiny size")
    parser.add_argument("--seconds", type=float, default=440.0, help="it ends inside")
    parser.add_argument("--collect", type=Path, nargs="+", help="folders in which parts lie")
    options = parser.parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))
    options.out.mkdir(parents=True, exist_ok=True)
    if options.collect:
        print(f"Written to {collect(options.collect, options.out)}")
        return 0
    begun = time.monotonic()
    torch.set_float32_matmul_precision("high")
    shop = Workshop(small_plan() if options.small else Plan(), torch.device(options.device))
    if shop.device.type == "cuda" and (fault := recording_differs(shop.device)):
        print(f"Not side by side: {fault}", flush=True)
        shop.together = False
    for part in options.part:
        run_part(part, shop, options, begun=begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())
