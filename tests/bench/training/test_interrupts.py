import signal

import pytest

from bench.training import interrupts

NUMBERS = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize("number", NUMBERS)
def test_first_signal_is_deferred_to_the_end_and_the_second_takes_effect_at_once(number):
    before = signal.signal(number, signal.default_int_handler)
    steps = []
    try:
        with interrupts.deferred() as deferred:
            signal.raise_signal(number)
            assert deferred.arrived
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            steps.append("end")
    except KeyboardInterrupt:
        steps.append("the deferred one")
    finally:
        signal.signal(number, before)
    assert steps == ["end", "the deferred one"]


def test_handlers_are_restored_and_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        handlers = [signal.getsignal(number) for number in NUMBERS]
        with interrupts.deferred() as deferred:
            assert [signal.getsignal(number) for number in NUMBERS] != handlers
            signal.raise_signal(signal.SIGINT)
        assert not deferred.arrived
        assert [signal.getsignal(number) for number in NUMBERS] == handlers
    finally:
        signal.signal(signal.SIGINT, before)
