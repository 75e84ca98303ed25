"""Every step of every explorer: the state that it sets shows what its sentence says."""

import pytest
from looking import look_at
from steps import claims, seen_after

from intuitive.widgets import catalogue

pytestmark = pytest.mark.model  # some read a text with the language model

MOST_STEPS, LONGEST = 5, 200  # steps of an explorer; characters of a step's text


@pytest.fixture(scope="module", params=catalogue.explorers())
def explorer(request):
    made = catalogue.explorers()[request.param]()
    yield made
    made.close()


def test_each_step_shows_what_it_says(explorer):
    steps, told = explorer.declaration.steps, claims(explorer.declaration.name)
    assert len(told) == len(steps), "one claim per step: write it into STEPS of its test file"
    for place, claim in enumerate(told):
        seen = seen_after(explorer, place)
        look_at(explorer, f"step {place + 1}")
        timeline = explorer.view.timeline
        labels = [frame.label for frame in timeline.frames] if timeline else []
        assert steps[place].frame in (None, "first", "last", "play", *labels), steps[place]
        claim(seen)


def test_steps_are_few_and_short(explorer):
    steps = explorer.declaration.steps
    assert 2 <= len(steps) <= MOST_STEPS
    assert len({step.title for step in steps}) == len(steps)
    for step in steps:
        assert 1 <= len(step.title.split()) <= 5, step.title
        assert len(step.text) <= LONGEST, step.text
