import os
import signal
import subprocess
import sys
import time
import weakref

import pytest
import torch
import torch.nn.functional as F

import models
from bench import environment
from bench.errors import UsageError
from bench.execution.executors import Local, step_costs
from bench.execution.step_costs import estimate_seconds, measure_step_costs
from bench.instruments import memory, timing
from tests.bench.builders import CPU, experiment, workload

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


def test_memory_grows_with_the_steps_as_the_papers_say():
    # An Euler step of a ResNet block keeps five states. ResNet-10 has a block of 16 channels at
    # 32×32 and one of half as many numbers: backprop keeps both, ANODE one at a time, and the
    # continuous adjoint nothing.
    state = 8 * 16 * 32 * 32 * 4
    growth = {}
    for gradient in ("backprop", "anode", "node"):
        peaks = [step_peak("resnet10", gradient, n_steps) for n_steps in (3, 4)]
        growth[gradient] = (peaks[1] - peaks[0]) / state
    assert growth["backprop"] == pytest.approx(7.5, abs=0.01)
    assert growth["anode"] == pytest.approx(5, abs=0.01)
    assert growth["node"] == pytest.approx(0, abs=0.01)


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


def test_step_costs_cover_each_configuration_once(tmp_path):
    experiments = [experiment(gradient=g, seed=s) for g in ("anode", "node") for s in (0, 1)]
    found = measure_step_costs(workload(tmp_path), experiments, batch_size=8, repeats=1)
    assert len(found) == 2 * 4
    values = {(m.gradient, m.quantity): m.value for m in found}
    assert values["anode", "nfe_forward"] == values["anode", "nfe_backward"] == 4
    assert values["anode", "peak_memory"] > 1e6
    assert all(m.batch_size == 8 for m in found)
    seconds = values["anode", "seconds_per_step"] + values["node", "seconds_per_step"]
    estimate = estimate_seconds(experiments, found, train_images=1, test_images=1)
    images = 2 * (80 + 40 / 3)  # epochs, training and test images
    assert estimate == pytest.approx(2 * seconds / 8 * images)


def test_configuration_that_does_not_fit_is_left_out(tmp_path, monkeypatch):
    original = memory.peak_bytes

    def peak(step, device):
        block = next(m for m in step.__self__.network.modules() if isinstance(m, models.ODEBlock))
        if block.gradient == "node":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(step, device)

    monkeypatch.setattr(memory, "peak_bytes", peak)
    experiments = [experiment(gradient=g) for g in ("anode", "node")]
    found = measure_step_costs(workload(tmp_path), experiments, batch_size=8, repeats=1)
    assert {m.gradient for m in found} == {"anode"}


def test_configuration_that_fails_does_not_stop_the_others(tmp_path):
    broken = "tests.bench.training.test_training:ALWAYS_FAILS"
    experiments = [experiment(gradient=g) for g in (broken, "anode")]
    found = measure_step_costs(workload(tmp_path), experiments, repeats=1)
    assert {m.gradient for m in found} == {"anode"}


def test_step_is_measured_on_no_more_images_than_it_trains_on(tmp_path):
    large = experiment(batch_size=1000, train_images=20)
    found = measure_step_costs(workload(tmp_path), [large], repeats=1)
    assert {m.batch_size for m in found} == {20}


def test_measurements_of_earlier_commands_are_kept_and_missing_ones_made(tmp_path):
    shared = workload(tmp_path)

    def recorded(*gradients):
        costs = step_costs(Local(), shared, [experiment(gradient=g) for g in gradients], print)
        return {m.gradient: m.value for m in costs if m.quantity == "seconds_per_step"}

    first = recorded("anode", "baseline")
    second = recorded("backprop")
    assert second == {**first, "backprop": second["backprop"]}
    assert recorded("anode", "backprop") == second


# --- environment


def test_environment_says_what_was_used():
    found = environment.describe(CPU)
    assert found["packages"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert found["command"]


def test_revision_is_this_checkout_s_in_the_hook_of_another_repository(tmp_path):
    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b", *arguments)
        subprocess.run(["git", *name], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "another repository")
    say = "from bench.environment import part, find_device; print(part(find_device('cpu')))"
    said = [
        subprocess.run([sys.executable, "-c", say], env=env, capture_output=True, check=True).stdout
        for env in (
            dict(os.environ),
            {**os.environ, "GIT_DIR": str(tmp_path / ".git"), "GIT_WORK_TREE": str(tmp_path)},
        )
    ]
    assert said[0] == said[1]


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert environment.find_device("auto") == torch.device("cuda", 0)
    assert environment.find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"2 CUDA device\(s\)"):
        environment.find_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.find_device("auto") == CPU


@pytest.mark.parametrize("name", ["gpu", "tpu", "mps", "cuda:x", ""])
def test_unknown_device_is_refused_with_the_choices(name):
    with pytest.raises(UsageError, match="choose auto, cpu, cuda or cuda:N"):
        environment.find_device(name)


def test_cuda_where_there_is_none_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device on this machine; use --device cpu"):
        environment.find_device("cuda")
