"""The answers that the arena's explorer shows at once: its menu of questions at every budget.

    python benchmarks/arena_kept.py

On a CPU, in minutes.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import helpers
import torch

from intuitive.arena import RATIOS, Reading
from intuitive.arena.experiments.one_question import (
    KEPT,
    QUESTIONS,
    SEED,
    N,
    QuestionParams,
    answered,
    asked,
    shared,
)
from intuitive.common import records


def main() -> None:
    """Answer every question of the menu at every budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=helpers.RESULTS / f"{KEPT}.json")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    arguments = parser.parse_args()
    made, contestants = {}, shared()
    for question in QUESTIONS:
        first = QuestionParams(question=question)
        questions = asked(first, contestants.model)
        with torch.inference_mode():
            reading = Reading(contestants, questions)
            for ratio in RATIOS:
                params = replace(first, ratio=ratio)
                found = answered(params, contestants, questions, reading=reading)
                made[f"{question} {ratio}"] = found
                print(
                    question, ratio, [(r.method, r.said, r.right) for r in found.rows], flush=True
                )
                records.save(
                    arguments.out,
                    made,
                    config={"questions": QUESTIONS, "ratios": RATIOS, "n": N},
                    commit=arguments.commit,
                    seed=SEED,
                )


if __name__ == "__main__":
    main()
