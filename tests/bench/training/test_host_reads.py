"""Host reads of constants are recorded and replayed; other host reads are neither."""

import threading

import pytest
import torch
from torch import nn

from bench.training.cuda_graph import EAGER_STEPS, CapturedStep
from bench.training.host_reads import RecordHostReads, ReplayHostReads
from solvers.with_torchdiffeq import is_constant, mark_constant
from tests.bench.builders import CPU


def constant(*values):
    return mark_constant(torch.tensor(values))


def recorded(compute):
    with RecordHostReads(CPU) as recording:
        compute()
    return recording.reads


def replayed(compute, *reads):
    with ReplayHostReads(CPU, reads):
        return compute()


def test_reads_of_values_computed_from_constants_are_recorded_in_order():
    times = constant(0.0, 0.5, 1.0)

    def compute():
        assert times[0] < times[1]
        assert not (times.flip(0)[1:] > times[1:]).all()
        assert float(torch.stack([times[1], times[2]]).sum()) == 1.5

    assert recorded(compute) == [True, False, 1.5]


def test_recording_changes_no_result_and_replayed_values_are_not_read():
    weights, times = torch.ones(3, requires_grad=True), constant(0.0, 1.0)
    with RecordHostReads(CPU):
        result = (weights * constant(1.0, 2.0, 3.0)).sum()
        result.backward()
        with torch.inference_mode():
            logged = times * 2 + torch.ones(2)
    assert (result.item(), weights.grad.tolist()) == (6, [1, 2, 3])
    assert not any(map(is_constant, (weights, weights.grad, result, logged)))
    values = replayed(lambda: (bool(times[0] > times[1]), float(times[1])), True, 7.0)
    assert values == (True, 7.0)


@pytest.mark.parametrize(
    "compute",
    [
        lambda times, state: bool(state > 0),
        lambda times, state: bool(state > times[0]),
        lambda times, state: float(torch.rand_like(times)[0]),
        lambda times, state: float(torch.zeros(())),
    ],
)
def test_other_values_are_neither_recorded_nor_replayed(compute):
    times, state = constant(0.0, 1.0), torch.tensor(2.0)
    assert recorded(lambda: compute(times, state)) is None
    with pytest.raises(RuntimeError, match="a value that is not the same in every step"):
        replayed(lambda: compute(times, state), 1.0)


@pytest.mark.parametrize("alias", [lambda t: t[0], lambda t: t.detach()[0], nn.Parameter])
def test_constant_that_is_changed_is_constant_no_more_nor_are_its_aliases(alias):
    times = constant(0.0, 1.0)
    view = times[0]
    with torch.no_grad():
        alias(times).add_(2.0)
    assert recorded(lambda: float(view)) is None
    assert recorded(lambda: float(times[1])) is None


def test_constant_that_is_changed_after_it_was_read_is_not_recorded_in_the_next_step():
    times, state = constant(0.0, 1.0), torch.tensor(2.0)

    def compute():
        is_increasing = bool(times[1] > times[0])
        times[0].add_(state)
        return is_increasing

    assert recorded(compute) == [True]
    assert recorded(compute) is None


def test_reads_in_a_backward_pass_are_recorded_and_replayed_in_every_thread():
    """A CUDA device has a thread of its own; on the CPU, depth leads into another one."""
    times, threads = constant(0.0, 1.0), set()

    class Deep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, depth):
            ctx.save_for_backward(times, x)
            ctx.depth = depth
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            threads.add(threading.get_ident())
            saved, _ = ctx.saved_tensors
            assert saved[0] < saved[1]
            if ctx.depth:
                with torch.enable_grad():
                    x = torch.ones(2, requires_grad=True)
                    torch.autograd.grad(Deep.apply(x, ctx.depth - 1).sum(), x)
            return gradient, None

    def compute():
        Deep.apply(torch.ones(2, requires_grad=True), 80).sum().backward()

    assert recorded(compute) == [True] * 81
    assert len(threads) > 1
    replayed(compute, *[True] * 81)


@pytest.mark.parametrize(("count", "said"), [(1, "more values"), (3, "fewer values")])
def test_another_number_of_reads_is_an_error(count, said):
    times = constant(0.0, 1.0)
    with pytest.raises(RuntimeError, match=f"{said} than in the steps before"):
        replayed(lambda: (bool(times[0] < 1), bool(times[1] < 2)), *[True] * count)
    with pytest.raises(ZeroDivisionError):  # an error of the step's own
        replayed(lambda: 1 / 0, True)


def reading_a_weight(weight, number):
    return weight[0] > 0


def reading_another_constant(weight, number, times=constant(0.0, 1.0)):  # noqa: B008
    return float(times[min(1, number // EAGER_STEPS)])


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (reading_a_weight, "the host reads a value that is not the same in every step"),
        (reading_another_constant, "the host does not read the same values in every step"),
    ],
)
def test_step_that_does_not_read_the_same_each_time_stays_eager(read, said):
    weight, steps = torch.ones(2, requires_grad=True), []

    def step(images, labels):
        steps.append(None)
        return weight.sum().detach() * (2 if read(weight, len(steps)) else 1), labels.sum()

    optimizer = torch.optim.SGD([weight], lr=0.1)
    captured = CapturedStep(
        step, optimizer, lambda compute: pytest.fail("captured"), reads_constants=True
    )
    for _ in range(EAGER_STEPS + 1):
        captured(torch.ones(2), torch.ones(2))
    assert captured.reason == said
