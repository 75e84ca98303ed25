"""SmolLM2 along right and wrong solutions: onset mass, surprise, perplexity gap of two prompts.

    python benchmarks/trd_real_text.py [--commit HASH]     208 items; 10 to 30 minutes of one core
    python benchmarks/trd_real_text.py --slice             two items again, compared

Writes FOLDER/trd_real_text.json (default: benchmarks/results), from which the lesson draws.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import helpers
from helpers import rounded

from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2
from intuitive.common.training import one_thread
from intuitive.trd.real_text import RealTextParams, follow, make_items, measure, onset_ids, prompt

FILE = "trd_real_text.json"
TOLERANCE = 1e-2  # nats and probabilities: other processors round 4-bit weights' products otherwise


def compare_slice(folder: Path, n_items: int = 2) -> list[str]:
    """Read the first items again; what differs from the committed numbers."""
    values, made = records.load(folder / FILE)
    params = RealTextParams(**made["config"])
    model, faults = load_smollm2(), []
    onsets = list(onset_ids(model))
    for kept, item in zip(values["kept"][:n_items], make_items(params), strict=False):
        if rounded(item, digits=5) != kept["item"]:
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
    options = helpers.options(__doc__).parse_args(arguments)
    if options.slice:
        return helpers.told(compare_slice(options.folder))

    params = RealTextParams()
    done = measure(
        load_smollm2(), params, progress=lambda share, sentence: print(sentence, flush=True)
    )
    path = records.save(
        options.folder / FILE,
        rounded(done, digits=5),
        config=params,
        seed=params.seed,
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
