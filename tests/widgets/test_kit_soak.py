"""The stress harness finds what it is there to find."""

import threading
from dataclasses import dataclass

from intuitive.widgets.kit import Explorer, Plot, Range, View
from intuitive.widgets.kit.soak import soak


@dataclass(frozen=True, kw_only=True)
class Params:
    x: int


def explorer(compute, apply=None):
    def make():
        made = Explorer(
            name="soaked",
            title="Soaked",
            params=Params,
            compute=compute,
            present=lambda value: View(summary=str(value), figures={"line": {"data": []}}),
            controls=[Range(name="x", label="x", min=0, max=50)],
            plots=[Plot(name="line", label="a line")],
            defaults={"x": 1},
        )
        if apply is not None:
            apply(made)
        return made

    return make


def test_a_sound_explorer_passes():
    report = soak(explorer(lambda params, *, stale, progress: params.x), events=60, pause=0.001)
    assert report.ok and report.events == 60 and report.errors == ()


def test_a_bug_in_compute_is_found():
    def compute(params, *, stale, progress):
        if params.x > 25:
            raise KeyError("deep inside")
        return params.x

    report = soak(explorer(compute), events=60, pause=0.001)
    assert not report.ok and any("KeyError" in error for error in report.errors)


def test_a_refusal_in_words_is_not_a_bug():
    def compute(params, *, stale, progress):
        if params.x > 25:
            raise ValueError(f"x={params.x} is too large; at most 25.")
        return params.x

    report = soak(explorer(compute), events=60, pause=0.001)
    assert report.ok and report.refusals > 0


def test_a_lost_last_value_is_found():
    blocked = threading.Event()

    def lose(made):
        submit = made._worker.submit

        def forgetful(request):
            if not blocked.is_set():
                submit(request)
            blocked.set()

        made._worker.submit = forgetful

    report = soak(
        explorer(lambda params, *, stale, progress: params.x, lose), events=60, pause=0.001
    )
    assert not report.last_value_won and not report.ok
