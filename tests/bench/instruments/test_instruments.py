"""Peak memory of a step, and seconds of variants that are measured in turn."""

import signal
import time
import weakref

import pytest
import torch

from bench.instruments import memory, timing
from tests.bench.builders import CPU


def test_peak_counts_what_is_alive_at_once_and_not_what_was_alive_before():
    def compute():
        a = torch.empty(1000)  # 4000
        b = a * 2  # 8000
        del a
        c = b.view(10, 100)  # a view
        d = torch.ones(500)  # 6000
        b.add_(1)  # in place
        del b, c
        return d

    assert memory.peak_bytes(compute, CPU) == memory.peak_bytes(compute, CPU) == 8000
    before = torch.empty(1_000_000)
    assert memory.peak_bytes(lambda: before[:10].clone(), CPU) == 40


def test_interrupt_during_a_measurement_is_not_lost():
    def compute():
        # Sent where Python would swallow it: in the callback of a freed tensor.
        tensor = torch.empty(10)
        watcher = weakref.ref(
            tensor.untyped_storage(), lambda _: signal.raise_signal(signal.SIGINT)
        )
        del tensor
        assert watcher() is None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            memory.peak_bytes(compute, CPU)
    finally:
        signal.signal(signal.SIGINT, before)


def test_variants_take_turns_in_random_order_after_a_warm_up():
    order = []

    def variant(name):
        def run(passed):
            order.append(name)
            time.sleep(0.01)
            passed("first")
            passed("second")

        return run

    taken = timing.interleaved({name: variant(name) for name in "ab"}, CPU, repeats=8)
    assert order[:2] == ["a", "b"]
    rounds = {"".join(order[i : i + 2]) for i in range(2, len(order), 2)}
    assert rounds == {"ab", "ba"}
    assert taken["a"].keys() == {"first", "second", "step"}
    for phases in taken.values():
        assert (phases["step"] >= phases["first"] + phases["second"]).all()
        assert len(phases["step"]) == 8
    seconds = timing.Seconds.of(taken["a"]["first"])
    assert 0.01 <= seconds.low <= seconds.median <= seconds.high
    assert seconds.repeats == 8
