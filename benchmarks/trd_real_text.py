"""SmolLM2 along right and wrong solutions: onset mass, surprise, perplexity gap of two prompts.

    python benchmarks/trd_real_text.py [--commit HASH]     208 items; 10 to 30 minutes of one core
    python benchmarks/trd_real_text.py --slice             two items again, compared

Writes FOLDER/trd_real_text.json (default: benchmarks/results), from which the lesson draws.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2
from intuitive.common.training import one_thread
from intuitive.trd.real_text import RealTextParams, follow, make_items, measure, onset_ids, prompt

RESULTS = Path(__file__).parent / "results"
FILE = "trd_real_text.json"
TOLERANCE = 1e-2  # nats and probabilities: other processors round 4-bit weights' products otherwise


def plain(value: Any) -> Any:
    """Records as dicts and lists, with five significant digits."""
    if dataclasses.is_dataclass(value):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def compare_slice(folder: Path, n_items: int = 2) -> list[str]:
    """Read the first items again; what differs from the committed numbers."""
    values, made = records.load(folder / FILE)
    params = RealTextParams(**made["config"])
    model, faults = load_smollm2(), []
    onsets = list(onset_ids(model))
    for kept, item in zip(values["kept"][:n_items], make_items(params), strict=False):
        if plain(item) != kept["item"]:
            return [f"{FILE} holds other items: run the benchmark again"]
        found = follow(model, prompt(item, "plain"), (item.right, item.wrong), onsets)
        for name, again in zip(("right", "wrong"), found, strict=True):
            for field in ("nll", "onset_mass", "entropy"):
                pairs = zip(kept[name][field], getattr(again, field), strict=True)
                worst = max(abs(old - new) for old, new in pairs)
                if worst > TOLERANCE:
                    faults.append(f"{field} on the {name} solution differs by {worst:.1e}")
    return faults


@one_thread()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slice", action="store_true", help="compare with committed results")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where results lie")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    options = parser.parse_args(arguments)
    if options.slice:
        faults = compare_slice(options.folder)
        print("\n".join(faults) or "The slice agrees with the committed results.")
        return 1 if faults else 0

    params = RealTextParams()
    done = measure(
        load_smollm2(), params, progress=lambda share, sentence: print(sentence, flush=True)
    )
    path = records.save(
        options.folder / FILE,
        plain(done),
        config=params,
        device=device_name("cpu"),
        commit=options.commit,
    )
    for name in ("onset_difference", "onset_per_token", "surprise", "perplexity_gap"):
        for key, found in getattr(done, name).items():
            print(f"{name} {key}: {found.mean:.5f} ({found.low:.5f} to {found.high:.5f})")
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
