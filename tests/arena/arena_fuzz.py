"""Calls of the arena's public functions; what reads with SmolLM2 is left to its own tests."""

import math

from fuzzing import Case, calls
from hypothesis import strategies as st

from intuitive.arena import RATIOS

ROOMS = ()
NEEDS = "needs the language model; test_arena_memories.py and test_arena_tasks.py"
LEFT_OUT = {
    "Contestants": NEEDS,
    "Memory": NEEDS,
    "Outcome": "a record that outcome makes",
    "OverBudget": "an exception, raised and never called by a learner",
    "Questions": NEEDS,
    "Reading": NEEDS,
    "Timing": "a record that timing makes",
    "draw": NEEDS,
    "outcome": NEEDS,
    "timing": NEEDS,
    "contest": NEEDS,
    "exercise": "checks what a reader writes; test_arena_exercise.py",
    "experiments": "each is run over every control by tests/widgets/test_every_explorer.py",
    "memories": NEEDS,
    "methods": "names and sentences; test_arena_results.py",
    "results": "reads committed files; test_arena_results.py",
    "tables": "prints committed files; test_arena_lesson.py",
    "tasks": NEEDS,
    "words": "sentences on a record that an explorer made; test_one_question.py",
}


def check_budget(answer, *, n, ratio):
    assert answer == math.ceil(n / ratio) + 2  # an entry for each latent, and two tags


TABLE = {
    "budget_of": Case(
        calls(n=st.integers(1, 10**5), ratio=st.sampled_from(list(RATIOS))), check_budget
    ),
}
