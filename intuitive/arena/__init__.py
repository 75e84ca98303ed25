"""The arena: one question, the same memory, and every way of shortening attention at once.

    contestants = Contestants(load_smollm2())
    reading = Reading(contestants, draw("needle", contestants.model, n=1024, count=4, seed=0))
    outcome(reading, reading.memory("kvzip", ratio=8))

Map of the rooms:
    methods      the contestants by name
    tasks        texts, questions and answers
    memories     what each method leaves of a text, and the budget that it is held to
    contest      how a memory answers, and how long it takes
    experiments  what the explorers show
    results      what the committed contest found

Source: the methods' papers, each named where the method lives; the contest itself is ours.
"""

from .contest import Outcome, Timing, outcome, timing
from .memories import Contestants, Memory, OverBudget, Reading, budget_of
from .methods import METHODS, RATIOS
from .tasks import TASKS, Questions, draw

__all__ = [
    "METHODS",
    "RATIOS",
    "TASKS",
    "Contestants",
    "Memory",
    "Outcome",
    "OverBudget",
    "Questions",
    "Reading",
    "Timing",
    "budget_of",
    "draw",
    "outcome",
    "timing",
]
