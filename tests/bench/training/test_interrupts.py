import signal

import pytest

from bench.training import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_deferred_and_the_second_takes_effect(number):
    before = signal.signal(number, signal.default_int_handler)
    try:
        with interrupts.deferred() as deferred:
            signal.raise_signal(number)
            assert deferred.arrived
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
    except KeyboardInterrupt:
        pass  # the deferred one, at the end
    finally:
        signal.signal(number, before)


def test_signal_that_the_code_did_not_look_at_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), interrupts.deferred():
        signal.raise_signal(signal.SIGINT)


def test_handlers_are_restored():
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    with interrupts.deferred() as deferred:
        assert [signal.getsignal(number) for number in numbers] != before
    assert not deferred.arrived
    assert [signal.getsignal(number) for number in numbers] == before


def test_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.deferred() as deferred:
            signal.raise_signal(signal.SIGINT)
        assert not deferred.arrived
    finally:
        signal.signal(signal.SIGINT, before)
