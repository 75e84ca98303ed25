"""Python's garbage collector waits while a picture is made, and goes on however that ends."""

import gc
import threading

import pytest

from intuitive.common.runtime import Cancelled
from intuitive.widgets.kit import Explorer, Range, View, collector


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))
    yield
    gc.enable()


def make(seen):
    def compute(n, *, stale, progress):
        if n == 3:
            raise Cancelled
        return n

    def present(n):
        seen.append(gc.isenabled())
        if n == 2:
            raise RuntimeError("no picture of two")
        return View(summary=f"n is {n}.")

    return Explorer(
        name="numbers",
        title="Numbers",
        params=lambda n: n,
        compute=compute,
        present=present,
        controls=(Range(name="n", label="n", min=0, max=9),),
        defaults={"n": 0},
    )


@pytest.mark.parametrize(("n", "state"), [(1, "done"), (2, "error"), (3, "done")])
def test_the_collector_waits_for_the_picture_and_no_longer(n, state):
    seen = []
    explorer = make(seen)
    assert gc.isenabled()
    assert explorer.set(n=n).wait()
    assert gc.isenabled()
    assert explorer.status["state"] == state
    assert seen == [False] * (1 if n == 3 else 2)
    explorer.close()


def test_a_collector_that_the_reader_has_switched_off_stays_off():
    explorer = make([])
    gc.disable()
    assert explorer.set(n=1).wait()
    assert not gc.isenabled()
    explorer.close()


def test_the_last_of_several_lets_the_collector_go_on():
    held, go = threading.Event(), threading.Event()

    def other():
        collector.hold()
        held.set()
        go.wait(5)
        collector.release()

    thread = threading.Thread(target=other)
    collector.hold()
    thread.start()
    held.wait(5)
    collector.release()
    assert not gc.isenabled()
    collector.release()  # of a thread that holds nothing
    assert not gc.isenabled()
    go.set()
    thread.join()
    assert gc.isenabled()


def test_libraries_are_set_aside_once_and_explorers_never(monkeypatch):
    monkeypatch.setattr(collector, "_set_aside", False)
    first = make([])
    frozen = gc.get_freeze_count()
    assert frozen > 10_000  # numpy and torch alone are more
    assert any(kept is first for kept in gc.get_objects())
    second = make([])
    assert gc.get_freeze_count() <= frozen
    assert any(kept is second for kept in gc.get_objects())
    first.close()
    second.close()
