"""Peak memory of a step, and seconds of variants that are measured in turn."""

import signal
import time
import weakref

import pytest
import torch
import torch.nn.functional as F

import models
from bench.instruments import memory, timing
from tests.bench.builders import CPU

# --- memory


def test_peak_counts_what_is_alive_at_once():
    def compute():
        a = torch.empty(1000)  # 4000
        b = a * 2  # 8000
        del a
        c = b.view(10, 100)  # a view
        d = torch.ones(500)  # 6000
        b.add_(1)  # in place
        del b, c
        return d

    assert memory.peak_bytes(compute, CPU) == 8000


def test_peak_leaves_out_what_was_alive_before():
    before = torch.empty(1_000_000)
    assert memory.peak_bytes(lambda: before[:10].clone(), CPU) == 40


def test_interrupt_during_a_measurement_is_not_lost():
    def interrupt(_):
        signal.raise_signal(signal.SIGINT)

    def compute():
        # Sent where Python would swallow it: in the callback of a freed tensor.
        tensor = torch.empty(10)
        watcher = weakref.ref(tensor.untyped_storage(), interrupt)
        del tensor
        assert watcher() is None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            memory.peak_bytes(compute, CPU)
    finally:
        signal.signal(signal.SIGINT, before)


def step_peak(network, gradient, n_steps, batch=8):
    torch.manual_seed(0)
    net = models.build(network, method="euler", n_steps=n_steps, gradient=gradient)
    images, labels = torch.randn(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.int64)

    def step():
        net.zero_grad(set_to_none=True)
        F.cross_entropy(net(images), labels).backward()

    step()
    return memory.peak_bytes(step, CPU)


def test_peak_is_the_same_number_every_time():
    assert step_peak("resnet10", "anode", 2) == step_peak("resnet10", "anode", 2)


# --- time


def test_variants_take_turns_after_a_warm_up():
    order = []

    def run(name):
        def run(passed):
            order.append(name)
            passed("first")
            passed("second")

        return run

    taken = timing.interleaved({name: run(name) for name in "ab"}, CPU, repeats=3)
    assert order == list("ab" * 4)
    assert taken["a"].keys() == {"first", "second", "step"}
    for phases in taken.values():
        assert (phases["step"] >= phases["first"] + phases["second"]).all()
        assert len(phases["step"]) == 3


def test_seconds_are_seconds():
    def nap(passed):
        time.sleep(0.02)
        passed("nap")

    (taken,) = timing.interleaved({"nap": nap}, CPU, 3).values()
    seconds = timing.Seconds.of(taken["nap"])
    assert 0.02 <= seconds.low <= seconds.median <= seconds.high
    assert seconds.repeats == 3
