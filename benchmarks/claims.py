"""The quick facts of the ledger of claims, worked out on a CPU and written down.

    python benchmarks/claims.py                 # all of them, in about a minute
    python benchmarks/claims.py --folder HERE   # elsewhere than in benchmarks/results

`intuitive claims` reads its rows of exact facts from the result, and `intuitive claims --verify ID`
works one out again.
"""

import sys
import time

import helpers
import torch

from intuitive import claims
from intuitive.claims.claim import FACTS
from intuitive.common import records
from intuitive.common.runtime import device_name

SEED = 0  # the facts draw from fixed seeds of their own


def main() -> int:
    """Work out every quick fact and save the numbers."""
    arguments = helpers.options(__doc__, slices=False).parse_args()
    torch.set_num_threads(1)
    facts = {}
    for id in claims.quick_ids():
        begin = time.perf_counter()
        facts[id] = claims.make_again(id)
        print(f"{id}: {facts[id]} ({time.perf_counter() - begin:.1f} s)", flush=True)
    records.save(
        arguments.folder / f"{FACTS}.json",
        {"facts": facts},
        config={"claims": list(facts)},
        device=device_name(torch.device("cpu")),
        commit=arguments.commit,
        seed=SEED,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
