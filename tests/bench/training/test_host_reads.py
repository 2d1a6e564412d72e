"""What the host reads of constants is told again, and nothing else is."""

import threading

import pytest
import torch
from torch import nn

from bench.training.cuda_graph import EAGER_STEPS, CapturedStep
from bench.training.host_reads import RecordHostReads, ReplayHostReads
from solvers.with_torchdiffeq import is_constant, mark_constant

CPU = torch.device("cpu")


def constant(*values):
    return mark_constant(torch.tensor(values))


def heard(compute):
    with RecordHostReads(CPU) as hearing:
        compute()
    return hearing.reads


def told(compute, *reads):
    with ReplayHostReads(CPU, reads):
        return compute()


def never(compute):
    pytest.fail("captured")


def test_reads_of_what_is_computed_from_constants_are_heard_in_order():
    times = constant(0.0, 0.5, 1.0)

    def compute():
        assert times[0] < times[1]
        assert not (times.flip(0)[1:] > times[1:]).all()
        assert float(torch.stack([times[1], times[2]]).sum()) == 1.5

    assert heard(compute) == [True, False, 1.5]


def test_step_that_is_heard_computes_what_it_would_and_leaves_no_mark_on_the_rest():
    weights = torch.ones(3, requires_grad=True)
    with RecordHostReads(CPU):
        result = (weights * constant(1.0, 2.0, 3.0)).sum()
        result.backward()
    assert result.item() == 6
    assert weights.grad.tolist() == [1, 2, 3]
    assert not any(map(is_constant, (weights, weights.grad, result)))


def test_inference_tensors_are_no_constants_and_no_obstacle():
    times = constant(0.0, 1.0)

    def compute():
        with torch.inference_mode():
            logged = times * 2 + torch.ones(2)
        return bool(times[0] < times[1]), logged + 1

    assert heard(compute) == [True]


def test_constants_are_known_in_a_backward_pass():
    times = constant(1.0, 2.0)

    class Doubles(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(times, x)
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            saved, _ = ctx.saved_tensors
            return 2 * gradient if saved[0] < saved[1] else None

    x = torch.ones(2, requires_grad=True)
    assert heard(lambda: Doubles.apply(x).sum().backward()) == [True]


def test_values_are_told_without_asking_the_device():
    times = constant(0.0, 1.0)
    assert told(lambda: (bool(times[0] > times[1]), float(times[1])), True, 7.0) == (True, 7.0)


@pytest.mark.parametrize(
    "compute",
    [
        lambda times, state: bool(state > 0),
        lambda times, state: bool(state > times[0]),
        lambda times, state: float(torch.rand_like(times)[0]),
        lambda times, state: float(torch.zeros(())),
    ],
)
def test_other_values_are_neither_remembered_nor_told(compute):
    times, state = constant(0.0, 1.0), torch.tensor(2.0)
    assert heard(lambda: compute(times, state)) is None
    with pytest.raises(RuntimeError, match="a value that is not the same in every step"):
        told(lambda: compute(times, state), 1.0)


@pytest.mark.parametrize("alias", [lambda t: t[0], lambda t: t.detach()[0], nn.Parameter])
def test_constant_that_is_changed_is_none_any_more_nor_are_its_aliases(alias):
    times = constant(0.0, 1.0)
    views = [times[0], times.flip(0)[1:], times]
    with torch.no_grad():
        alias(times).add_(2.0)
    assert heard(lambda: float(views[0])) is None
    assert heard(lambda: float(views[2][1])) is None


def test_constant_that_is_changed_after_it_was_read_is_not_told_in_the_next_step():
    times, state = constant(0.0, 1.0), torch.tensor(2.0)

    def compute():
        is_increasing = bool(times[1] > times[0])
        times[0].add_(state)
        return is_increasing

    assert heard(compute) == [True]
    assert heard(compute) is None


def test_reads_are_heard_and_told_in_the_other_threads_of_a_backward_pass():
    """A CUDA device has a thread of its own; here it takes depth to get into another one."""
    times, threads = constant(0.0, 1.0), set()

    class Deep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, depth):
            ctx.depth = depth
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            threads.add(threading.get_ident())
            assert times[0] < times[1]
            if ctx.depth:
                with torch.enable_grad():
                    x = torch.ones(2, requires_grad=True)
                    torch.autograd.grad(Deep.apply(x, ctx.depth - 1).sum(), x)
            return gradient, None

    def compute():
        Deep.apply(torch.ones(2, requires_grad=True), 80).sum().backward()

    assert heard(compute) == [True] * 81
    assert len(threads) > 1
    told(compute, *[True] * 81)


@pytest.mark.parametrize(("count", "said"), [(1, "more values"), (3, "fewer values")])
def test_another_number_of_reads_is_an_error(count, said):
    times = constant(0.0, 1.0)
    with pytest.raises(RuntimeError, match=f"{said} than in the steps before"):
        told(lambda: (bool(times[0] < 1), bool(times[1] < 2)), *[True] * count)


def test_what_goes_wrong_in_a_step_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        told(lambda: 1 / 0, True)


def test_step_that_reads_what_it_trains_stays_eager():
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def step(images, labels):
        loss = weight.sum()
        return loss.detach() * (2 if weight[0] > 0 else 1), labels.sum()

    captured = CapturedStep(step, optimizer, never, reads_constants=True)
    for _ in range(EAGER_STEPS + 1):
        captured(torch.ones(2), torch.ones(2))
    assert captured.reason == "the host reads a value that is not the same in every step"


def test_step_that_does_not_read_the_same_each_time_stays_eager():
    times, optimizer = constant(0.0, 1.0), torch.optim.SGD([torch.ones(2)], lr=0.1)
    steps = []

    def step(images, labels):
        steps.append(None)
        return times[min(1, len(steps) // EAGER_STEPS)].expand(()) + float(
            times[min(1, len(steps) // EAGER_STEPS)]
        ), labels.sum()

    captured = CapturedStep(step, optimizer, never, reads_constants=True)
    for _ in range(EAGER_STEPS + 1):
        captured(torch.ones(2), torch.ones(2))
    assert captured.reason == "the host does not read the same values in every step"
