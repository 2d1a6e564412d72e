import signal

import pytest

from bench.execution import interrupts


def interrupted(times, seen):
    with interrupts.noted() as noted:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
            seen.append(noted.arrived)


def test_first_interrupt_waits_until_somebody_looks_and_the_second_does_not():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(3, seen)
    assert seen == [True]


def test_interrupt_that_nobody_looked_at_comes_at_the_end():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(1, seen)
    assert seen == [True]


def test_without_an_interrupt_all_is_as_before():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.noted() as noted:
        assert signal.getsignal(signal.SIGINT) is not before
    assert not noted.arrived
    assert signal.getsignal(signal.SIGINT) is before


def test_what_runs_in_the_background_stays_deaf():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.noted() as noted:
            signal.raise_signal(signal.SIGINT)
        assert not noted.arrived
    finally:
        signal.signal(signal.SIGINT, before)
