"""The answers that the arena's explorer shows at once: its menu of questions at every budget.

    python benchmarks/arena_kept.py

On a CPU, in minutes.
"""

import argparse
from pathlib import Path

import helpers

from intuitive.arena import RATIOS
from intuitive.arena.experiments.one_question import KEPT, QUESTIONS, SEED, QuestionParams, run
from intuitive.common import records


def main() -> None:
    """Answer every question of the menu at every budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=helpers.RESULTS / f"{KEPT}.json")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    arguments = parser.parse_args()
    made = {}
    for question in QUESTIONS:
        for ratio in RATIOS:
            params = QuestionParams(question=question, ratio=ratio)
            made[f"{question} {ratio}"] = run(params, live=True)
            print(
                question,
                ratio,
                [(r.method, r.said, r.right) for r in made[f"{question} {ratio}"].rows],
            )
            records.save(
                arguments.out,
                made,
                config={"questions": QUESTIONS, "ratios": RATIOS},
                commit=arguments.commit,
                seed=SEED,
            )


if __name__ == "__main__":
    main()
