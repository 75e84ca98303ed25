"""The answers that the arena's explorer shows at once: its menu of questions at every budget.

    python benchmarks/arena_kept.py --device cuda    # a minute or two; ten minutes on a core

Each line says whether a method was right; `tests/arena` holds them against the contest's record, of
which the menu's texts are a part.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import helpers
import torch

from intuitive.arena import RATIOS, Contestants, Reading
from intuitive.arena.experiments.one_question import (
    KEPT,
    QUESTIONS,
    TEXTS,
    N,
    QuestionParams,
    answered,
    asked,
    packed,
)
from intuitive.common import records
from intuitive.common.runtime import device_name
from intuitive.common.smollm import load_smollm2


def main() -> None:
    """Answer every question of the menu at every budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=N, help="of the menu's texts")
    parser.add_argument("--out", type=Path, default=helpers.RESULTS / f"{KEPT}.json")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    made, contestants = {}, Contestants(load_smollm2(device=device))
    for question in QUESTIONS:
        first = QuestionParams(question=question)
        questions = asked(first, contestants.model, arguments.tokens).to(device)
        with torch.inference_mode():
            reading = Reading(contestants, questions)
            for ratio in RATIOS:
                params = replace(first, ratio=ratio)
                found = answered(params, reading)
                made[f"{question} {ratio}"] = packed(found)
                print(
                    question, ratio, [(r.method, r.said, r.right) for r in found.rows], flush=True
                )
                records.save(
                    arguments.out,
                    made,
                    config={"texts": TEXTS, "ratios": RATIOS, "n": arguments.tokens},
                    device=device_name(device),
                    commit=arguments.commit,
                    seed=[seed for seed, _ in TEXTS.values()],
                )


if __name__ == "__main__":
    main()
