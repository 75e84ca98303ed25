"""Latest wins: the last request is always the one shown, and slow old ones give way."""

import threading
import time

import pytest

from intuitive.common.runtime import Cancelled
from intuitive.widgets.kit import latest
from intuitive.widgets.kit.latest import LatestWins


class Log:
    def __init__(self):
        self.applied, self.errors = [], []

    def apply(self, request, result, stale):
        self.applied.append((request, result))

    def fail(self, request, error, stale):
        self.errors.append((request, error))


@pytest.fixture
def log():
    return Log()


def test_last_value_wins_whatever_the_speed(log):
    worker = LatestWins(lambda request, stale: request * 2, log.apply, log.fail)
    for request in range(200):
        worker.submit(request)
    assert worker.wait(5)
    assert log.applied[-1] == (199, 398)
    assert not log.errors
    worker.close()


def test_last_value_wins_from_two_threads(log):
    worker = LatestWins(lambda request, stale: request, log.apply, log.fail)
    order, lock = [], threading.Lock()

    def fire(offset):
        for step in range(100):
            with lock:
                order.append(offset + step)
                worker.submit(offset + step)

    threads = [threading.Thread(target=fire, args=(offset,)) for offset in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worker.wait(5)
    assert log.applied[-1][0] == order[-1]
    worker.close()


def test_slow_overtaken_work_is_told_and_dropped(log):
    started, gave_up = threading.Event(), threading.Event()

    def compute(request, stale):
        if request == "slow":
            started.set()
            while not stale():
                time.sleep(0.005)
            gave_up.set()
            raise Cancelled
        return request

    worker = LatestWins(compute, log.apply, log.fail, patience=0.02)
    worker.submit("slow")
    assert started.wait(2)
    worker.submit("quick")
    assert worker.wait(5) and gave_up.is_set()
    assert log.applied == [("quick", "quick")]
    assert not log.errors
    worker.close()


def test_quick_overtaken_work_is_still_shown(log):
    go_on = threading.Event()

    def compute(request, stale):
        go_on.wait(2)
        return request

    worker = LatestWins(compute, log.apply, log.fail, patience=10)
    worker.submit("first")
    time.sleep(0.05)
    worker.submit("second")
    go_on.set()
    assert worker.wait(5)
    assert [request for request, _ in log.applied] == ["first", "second"]
    worker.close()


def test_cancel_leaves_the_picture_alone(log):
    started = threading.Event()

    def compute(request, stale):
        started.set()
        while not stale():
            time.sleep(0.005)
        return request

    worker = LatestWins(compute, log.apply, log.fail)
    worker.submit("unwanted")
    assert started.wait(2)
    worker.cancel()
    assert worker.wait(5)
    assert log.applied == [] and log.errors == []
    worker.close()


def test_errors_are_delivered_and_the_worker_lives_on(log):
    def compute(request, stale):
        if request == "bad":
            raise ValueError("no such layer")
        return request

    worker = LatestWins(compute, log.apply, log.fail)
    worker.submit("bad")
    assert worker.wait(5)
    worker.submit("good")
    assert worker.wait(5)
    assert [(r, str(e)) for r, e in log.errors] == [("bad", "no such layer")]
    assert log.applied == [("good", "good")]
    worker.close()


def test_closed_worker_ignores_requests(log):
    worker = LatestWins(lambda request, stale: request, log.apply, log.fail)
    worker.close()
    worker.submit(1)
    assert worker.wait(1)
    assert log.applied == []


def test_an_error_handler_that_fails_does_not_end_the_worker(log, caplog):
    def compute(request, stale):
        if request == "bad":
            raise ValueError("no such layer")
        return request

    def fail(request, error, stale):
        raise RuntimeError("the page is gone")

    worker = LatestWins(compute, log.apply, fail)
    worker.submit("bad")
    assert worker.wait(5)
    worker.submit("good")
    assert worker.wait(5)
    assert log.applied == [("good", "good")]
    assert "the page is gone" in caplog.text
    worker.close()


def test_apply_learns_of_a_refusal_while_it_works(log):
    """A request may be cancelled after `compute`, while its result is on the way."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def apply(request, result, stale):
        begun.set()
        go_on.wait(5)
        seen.append(stale())

    worker = LatestWins(lambda request, stale: request, apply, log.fail)
    worker.submit("refused")
    assert begun.wait(5)
    worker.cancel()
    go_on.set()
    assert worker.wait(5) and seen == [True]
    worker.close()


def test_an_idle_worker_lets_its_thread_go_and_works_again(log, monkeypatch):
    monkeypatch.setattr(latest, "REST", 0.05)
    worker = LatestWins(lambda request, stale: request, log.apply, log.fail)
    worker.submit(1)
    assert worker.wait(5)
    thread = worker._thread
    if thread is not None:
        thread.join(5)
    assert worker._thread is None
    worker.submit(2)
    assert worker.wait(5) and log.applied[-1] == (2, 2)
    worker.close()
