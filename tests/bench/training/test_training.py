import dataclasses

import pytest
import torch

from bench.instruments.gradient_error import measure
from bench.records import WALL_CLOCK_COLUMNS, load
from bench.training import step
from bench.training.network import build_network, make_optimizer, make_schedule
from solvers import odeint
from tests.bench.builders import CPU, experiment, ran, workload


def rows(tmp_path, **changes):
    run = ran(workload(tmp_path), experiment(**changes))
    assert run.status == "ok", run.reason
    return run.epochs


def without_clock(row):
    values = dataclasses.asdict(row)
    return {name: values[name] for name in values if name not in WALL_CLOCK_COLUMNS}


def test_same_seed_gives_the_same_record(tmp_path):
    one, other = rows(tmp_path, seed=1), rows(tmp_path, seed=1)
    assert [without_clock(row) for row in one] == [without_clock(row) for row in other]
    assert without_clock(one[0]) != without_clock(rows(tmp_path, seed=2)[0])


def test_the_devices_random_state_has_no_influence(tmp_path):
    torch.manual_seed(1)
    one = rows(tmp_path)
    torch.manual_seed(2)
    assert [without_clock(r) for r in one] == [without_clock(r) for r in rows(tmp_path)]


def test_anode_trains_as_backprop_does_bit_for_bit(tmp_path):
    anode, backprop = (rows(tmp_path, gradient=g) for g in ("anode", "backprop"))
    for one, other in zip(anode, backprop, strict=True):
        one, other = without_clock(one), without_clock(other)
        assert one.pop("nfe_backward") == 4
        assert other.pop("nfe_backward") == 0
        assert one == other


def test_node_starts_from_the_same_forward_pass_and_then_departs(tmp_path):
    big = {"batch_size": 80, "num_epochs": 3}  # one step an epoch
    anode, node = (rows(tmp_path, gradient=g, **big) for g in ("anode", "node"))
    assert node[0].train_loss == anode[0].train_loss
    assert node[2].train_loss != anode[2].train_loss
    assert node[0].gradient_error > 1e-3
    assert anode[0].gradient_error == 0


@pytest.mark.parametrize("polluting", ["node", "node-grid"])
def test_polluted_statistics_change_the_test_alone(polluting, tmp_path):
    """In training mode BatchNorm does not use them: the weights are the same."""
    polluted, frozen = (rows(tmp_path, gradient=g) for g in (polluting, f"{polluting}-frozen"))
    for one, other in zip(polluted, frozen, strict=True):
        assert one.train_loss == other.train_loss
        assert one.gradient_error == other.gradient_error
        assert one.test_loss != other.test_loss


def test_two_gradient_methods_see_the_same_batches(monkeypatch):
    seen = {}
    for gradient in ("anode", "node"):
        batches = []
        original = step.training_step

        def spy(
            network, optimizer, images, labels, on_phase_end, batches=batches, original=original
        ):
            if (
                on_phase_end.__name__ == "observe_phase"
            ):  # training, not the measurement of its memory
                batches.append((images.clone(), labels.clone()))
            return original(network, optimizer, images, labels, on_phase_end)

        monkeypatch.setattr(step, "training_step", spy)
        rows(None, gradient=gradient)
        monkeypatch.setattr(step, "training_step", original)
        seen[gradient] = batches
    assert len(seen["anode"]) == len(seen["node"]) == 6
    for one, other in zip(seen["anode"], seen["node"], strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_initial_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    one = build_network(experiment(seed=5), CPU)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    other = build_network(experiment(seed=5, gradient="node"), CPU)
    third = build_network(experiment(seed=6), CPU)
    weights = [torch.cat([p.flatten() for p in n.parameters()]) for n in (one, other, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_optimiser_and_schedule_are_the_published_ones():
    published = experiment(num_epochs=350)
    network = build_network(published, CPU)
    optimizer = make_optimizer(network, published)
    schedule = make_schedule(optimizer, published)
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 5e-4, False)
    rates = []
    for _ in range(350):
        rates.append(group["lr"])
        optimizer.step()
        schedule.step()
    expected = [0.1] * 150 + [0.01] * 100 + [0.001] * 100
    assert rates == pytest.approx(expected)


def test_evaluations_are_counted(tmp_path):
    counts = {
        gradient: (row.nfe_forward, row.nfe_backward)
        for gradient in ("baseline", "backprop", "anode", "node")
        for row in rows(tmp_path, gradient=gradient, network="resnet10", num_epochs=1)
    }
    # Two blocks of two RK2 steps, or of one evaluation each in a baseline.
    assert counts == {"baseline": (2, 0), "backprop": (8, 0), "anode": (8, 8), "node": (8, 8)}


def test_training_learns(tmp_path):
    learnt = rows(tmp_path, num_epochs=7, train_images=500, test_images=200)
    assert learnt[-1].train_loss < 0.8 * learnt[0].train_loss
    assert learnt[-1].test_accuracy > 0.4


def test_run_records_peak_memory_and_the_gradient_error_of_each_block(tmp_path):
    run = ran(workload(tmp_path), experiment(network="resnet10", gradient="node", num_epochs=1))
    assert run.summary["peak_memory_bytes"] > 10 * 2**20
    (row,) = run.epochs
    assert len(row.gradient_error_blocks) == len(row.gradient_cosine_blocks) == 2
    assert all(error > 0 for error in row.gradient_error_blocks)


def test_loss_that_is_not_finite_ends_the_run_as_diverged(tmp_path):
    # ReLU, BatchNorm and the last layer survive much; weights of 1e38 they do not.
    run = ran(workload(tmp_path), experiment(lr=1e38, num_epochs=5))
    assert run.status == "diverged"
    assert "in epoch" in run.reason
    assert len(run.epochs) < 5
    assert all(torch.isfinite(torch.tensor(row.train_loss)) for row in run.epochs)


class GoesWrong:
    """Fails in the second epoch's first step."""

    name = "goes-wrong"

    def __init__(self, error):
        self.error, self.calls = error, 0

    def solve(self, rhs, z0, method, n_steps):
        self.calls += 1
        if len(z0) == 16 and self.calls > 12:  # the last batch of an epoch has 80 - 2·32
            raise self.error
        return odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop")


class AlwaysFails:
    name = "always-fails"

    def solve(self, rhs, z0, method, n_steps):
        raise RuntimeError("this gradient method is broken")


ALWAYS_FAILS = AlwaysFails()
FAILS = GoesWrong(RuntimeError("something broke"))
EXHAUSTS = GoesWrong(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmuch"))
EXITS = GoesWrong(SystemExit(0))
EXHAUSTS_HOST = GoesWrong(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))


@pytest.mark.parametrize(
    ("gradient", "status", "said"),
    [
        ("FAILS", "failed", "something broke"),
        ("EXHAUSTS", "oom", "out of memory"),
        ("EXHAUSTS_HOST", "oom", "can't allocate"),
        ("EXITS", "failed", "SystemExit: 0"),
    ],
)
def test_error_ends_the_run_alone_and_keeps_what_was_recorded(tmp_path, gradient, status, said):
    run = ran(
        workload(tmp_path),
        experiment(gradient=f"tests.bench.training.test_training:{gradient}", num_epochs=3),
    )
    assert run.status == status
    assert said in run.reason
    assert 1 <= len(run.epochs) < 3


# --- the gradient error


def network_and_batch(gradient="node", **changes):
    network = build_network(experiment(gradient=gradient, **changes), CPU)
    images, labels = workload(None).fixed_batch(16)
    return network, images, labels


def flat_gradient(network, images, labels):
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])


def test_gradient_error_is_the_relative_norm_over_all_parameters():
    network, images, labels = network_and_batch()
    found = measure(network, images, labels)
    g = flat_gradient(network, images, labels).double()
    network, images, labels = network_and_batch("backprop")
    reference = flat_gradient(network, images, labels).double()
    assert found.error == pytest.approx(float((g - reference).norm() / reference.norm()), rel=1e-6)
    cosine = torch.nn.functional.cosine_similarity(g, reference, dim=0)
    assert found.cosine == pytest.approx(float(cosine), rel=1e-6)
    assert found.error > 0.01


def test_gradient_error_of_anode_is_zero():
    found = measure(*network_and_batch("anode", network="squeezenext"))
    assert found.error == 0
    assert found.block_errors == (0, 0, 0, 0)


@pytest.mark.parametrize("gradient", ["anode", "node"])
def test_probe_leaves_no_trace(gradient):
    network, images, labels = network_and_batch(gradient)
    optimizer = make_optimizer(network, experiment())
    step.training_step(network, optimizer, images, labels)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [p.grad.clone() for p in network.parameters()]
    momentum = [optimizer.state[p]["momentum_buffer"].clone() for p in network.parameters()]
    state = torch.get_rng_state()
    measure(network, images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    for p, g, m in zip(network.parameters(), gradients, momentum, strict=True):
        assert torch.equal(p.grad, g)
        assert torch.equal(optimizer.state[p]["momentum_buffer"], m)
    assert network.training
    assert [m.gradient for m in network.modules() if hasattr(m, "gradient")] == [gradient]


def test_load_gives_a_row_for_each_epoch(tmp_path):
    from bench import records

    for gradient in ("anode", "baseline"):
        run = ran(workload(tmp_path), experiment(gradient=gradient))
        records.write_run(tmp_path, run)
    frame = load(tmp_path)
    assert len(frame) == 4
    assert frame.groupby("gradient")["epoch"].apply(list).to_dict() == {
        "anode": [1, 2],
        "baseline": [1, 2],
    }
    assert frame[frame["gradient"] == "baseline"]["gradient_error"].isna().all()
    assert (frame[frame["gradient"] == "anode"]["gradient_error"] == 0).all()
