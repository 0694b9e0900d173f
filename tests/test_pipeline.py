"""Work ahead of the network stays in order and within bounds, and errors are never lost."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggfeat.pipeline import Background, prefetch
from vggfeat.processors import usable_cores


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers()), st.integers(1, 4), st.integers(0, 9))
def test_results_come_in_order_whatever_the_workers(items, workers, ahead):
    assert list(prefetch(lambda i: i * 2, items, workers=workers, ahead=ahead)) == [
        i * 2 for i in items
    ]


def test_no_more_results_than_allowed_are_made_in_advance():
    read: list[int] = []  # what is made was read before
    items = (read.append(number) for number in range(100))
    with closing(prefetch(lambda item: item, items, workers=3, ahead=5)) as results:
        for taken in range(1, 11):
            next(results)
            assert len(read) == taken + 5


def test_workers_work_at_the_same_time():
    barrier = threading.Barrier(3)  # pytest's own limit ends a wait in vain
    assert len(list(prefetch(lambda _: barrier.wait(), range(6), workers=3, ahead=6))) == 6


def test_leaving_early_stops_the_workers():
    before = threading.active_count()
    with closing(prefetch(lambda i: i, range(10_000), workers=4, ahead=8)) as results:
        assert next(results) == 0
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals by a timer are POSIX's")
def test_an_interruption_at_any_moment_of_the_work_ends_it():
    before = threading.active_count()

    def interrupt(*_):
        raise KeyboardInterrupt

    def work(seconds):
        with closing(prefetch(lambda i: i, count(), workers=3, ahead=6)) as results:
            next(results)  # now all threads run; Python's own start of one is not to be divided
            signal.setitimer(signal.ITIMER_REAL, seconds)
            for _ in results:
                pass

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(300):
            with pytest.raises(KeyboardInterrupt):
                work(0.0002 + 0.00001 * number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert threading.active_count() == before


def test_what_a_worker_raises_arrives():
    def fail(number):
        if number == 3:
            raise ValueError("three")
        return number

    results = prefetch(fail, range(10), workers=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_background_calls_run_in_order_and_are_all_done_at_the_end():
    done: list[int] = []
    with Background(waiting=1) as background:
        for number in range(50):
            background.put(lambda number=number: done.append(number))
    assert done == list(range(50))


def test_background_work_handed_over_is_done_even_when_the_caller_fails():
    done: list[int] = []
    failing = threading.Event()
    before = threading.active_count()

    def run():
        with Background() as background:
            background.put(failing.wait)
            background.put(lambda: done.append(1))
            try:
                raise KeyboardInterrupt
            finally:
                failing.set()

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == [1]
    assert threading.active_count() == before


def test_a_background_error_reaches_the_caller_and_ends_the_work():
    done: list[int] = []

    def fail():
        raise OSError("disk full")

    def run():
        with Background(waiting=1) as background:
            background.put(fail)
            for _ in range(100):
                background.put(lambda: done.append(1))

    with pytest.raises(OSError, match="disk full"):
        run()
    assert done == []


def test_there_is_a_core_to_work_on():
    assert usable_cores() >= 1
