"""The arena: one question, the same memory, and every way of shortening attention at once.

    model = load_smollm2()
    reading = Reading(Contestants(model), draw("needle", model.tokenizer, n=1024, count=4, seed=0))
    outcome(reading, reading.memory("kvzip", ratio=8))

Map of the rooms, in reading order:
    methods.py      the contestants by name
    tasks.py        texts, questions and answers
    memories.py     what each method leaves of a text, and the budget that it is held to
    contest.py      how a memory answers, and how long it takes
    experiments/    what each explorer computes
    words.py        what one question showed, in sentences
    results.py      what the committed contest found
    tables.py       the same as text, who was asked before and after apart
    exercise.py     checks of the lesson's "your turn"

Source: the methods' papers, each named where the method lives; the contest itself is ours.
"""

from intuitive.common.lazy import front_door

_HOME = {
    "METHODS": "methods",
    "RATIOS": "methods",
    "TASKS": "tasks",
    "Questions": "tasks",
    "draw": "tasks",
    "Contestants": "memories",
    "Memory": "memories",
    "OverBudget": "memories",
    "Reading": "memories",
    "budget_of": "memories",
    "Outcome": "contest",
    "Timing": "contest",
    "outcome": "contest",
    "timing": "contest",
}
_ROOMS = (
    "contest",
    "exercise",
    "experiments",
    "memories",
    "methods",
    "results",
    "tables",
    "tasks",
    "words",
)

__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)
