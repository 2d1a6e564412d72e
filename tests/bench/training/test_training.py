"""One run: the same seed gives the same record, and only the gradient method makes a difference."""

import dataclasses

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from bench.instruments.gradient_error import measure
from bench.records import WALL_CLOCK_COLUMNS
from bench.training import trainer
from bench.training.network import build_network, make_optimizer, make_schedule
from bench.training.step import TrainingStep
from solvers import odeint
from tests.bench.builders import CPU, experiment, train, workload

SMALL = {"train_images": 40, "test_images": 10, "batch_size": 16, "probe_images": 4}
"""Three steps an epoch, the last on 8 images."""


def without_clock(rows):
    return [
        {name: v for name, v in dataclasses.asdict(row).items() if name not in WALL_CLOCK_COLUMNS}
        for row in rows
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The epochs of runs with one step each, and the batches that they trained on."""
    original, found = trainer.train_batches, {}
    for gradient in ("anode", "backprop", "node"):
        batches = []

        def spy(*args, batches=batches, **kwargs):
            for batch in original(*args, **kwargs):
                batches.append(batch)
                yield batch

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(trainer, "train_batches", spy)
            run = train(tmp_path_factory.mktemp(gradient), gradient=gradient, **ONE_STEP)
        assert run.status == "ok", run.reason
        found[gradient] = run.epochs, batches
    return found


ONE_STEP = {"num_epochs": 3, "train_images": 16, "test_images": 10, "probe_images": 4, "seed": 1}


def test_same_seed_gives_the_same_record_whatever_the_random_state(trained, tmp_path):
    known = without_clock(trained["anode"][0])
    torch.manual_seed(2)
    assert without_clock(train(tmp_path, **ONE_STEP).epochs) == known
    other = train(tmp_path, **{**ONE_STEP, "seed": 2}).epochs
    assert without_clock(other)[0] != known[0]


def test_anode_trains_as_backprop_does_bit_for_bit(trained):
    anode, backprop = (without_clock(trained[g][0]) for g in ("anode", "backprop"))
    for one, other in zip(anode, backprop, strict=True):
        assert (one.pop("nfe_backward"), other.pop("nfe_backward")) == (4, 0)
        assert one == other


def test_node_starts_from_the_same_forward_pass_and_then_departs(trained):
    anode, node = (trained[g][0] for g in ("anode", "node"))
    assert node[0].train_loss == anode[0].train_loss
    assert node[1].train_loss != anode[1].train_loss
    assert node[0].gradient_error > 1e-3
    assert anode[0].gradient_error == 0


def test_gradient_methods_see_the_same_batches(trained):
    anode, node = (trained[g][1] for g in ("anode", "node"))
    assert len(anode) == 3
    for one, other in zip(anode, node, strict=True):
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
    optimizer = make_optimizer(build_network(published, CPU), published)
    schedule = make_schedule(optimizer, published)
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 5e-4, False)
    rates = []
    for _ in range(350):
        rates.append(group["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1] * 150 + [0.01] * 100 + [0.001] * 100)


def test_run_records_evaluations_peak_memory_and_the_gradient_error_of_each_block(tmp_path):
    counts, small = {}, {"network": "resnet10", "num_epochs": 1, **SMALL, "train_images": 8}
    for gradient in ("baseline", "backprop", "anode", "node"):
        run = train(tmp_path, gradient=gradient, **small)
        (row,) = run.epochs
        counts[gradient] = row.nfe_forward, row.nfe_backward
        assert (row.gradient_error is None) == (gradient == "baseline")
    # Two blocks of two RK2 steps, or of one evaluation each in a baseline.
    assert counts == {"baseline": (2, 0), "backprop": (8, 0), "anode": (8, 8), "node": (8, 8)}
    assert run.summary["peak_memory_bytes"] > 10 * 2**20
    assert len(row.gradient_error_blocks) == len(row.gradient_cosine_blocks) == 2
    assert all(error > 0 for error in row.gradient_error_blocks)


def test_training_learns(tmp_path):
    size = {"num_epochs": 4, "train_images": 200, "test_images": 50, "batch_size": 20}
    learnt = train(tmp_path, **size, probe_images=1).epochs
    assert learnt[-1].train_loss < 0.8 * learnt[0].train_loss
    assert learnt[-1].test_accuracy > 0.3


def test_loss_that_is_not_finite_ends_the_run_as_diverged(tmp_path):
    # ReLU, BatchNorm and the last layer survive much; weights of 1e38 they do not.
    run = train(tmp_path, lr=1e38, num_epochs=5, **SMALL)
    assert run.status == "diverged"
    assert "in epoch" in run.reason
    assert len(run.epochs) < 5
    assert all(torch.isfinite(torch.tensor(row.train_loss)) for row in run.epochs)


class GoesWrong:
    """Fails in the second epoch's first step."""

    name = "goes-wrong"

    def __init__(self, error, calls=12):
        self.error, self.calls = error, calls

    def solve(self, rhs, z0, method, n_steps):
        self.calls -= 1
        if len(z0) == 8 and self.calls < 0:  # the last batch of an epoch
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
    run = train(tmp_path, gradient=f"{__name__}:{gradient}", num_epochs=3, **SMALL)
    assert run.status == status
    assert said in run.reason
    assert 1 <= len(run.epochs) < 3


# --- the gradient error


def network_and_batch(gradient="node", **changes):
    network = build_network(experiment(gradient=gradient, **changes), CPU)
    return network, *workload(None).fixed_batch(16)


def flat_gradient(network, images, labels):
    loss = cross_entropy(network(images), labels)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([g.flatten() for g in gradients]).double()


def test_gradient_error_is_the_relative_norm_over_all_parameters():
    found = measure(*network_and_batch())
    g, reference = (
        flat_gradient(*network_and_batch()),
        flat_gradient(*network_and_batch("backprop")),
    )
    assert found.error == pytest.approx(float((g - reference).norm() / reference.norm()), rel=1e-6)
    assert found.cosine == pytest.approx(float(cosine_similarity(g, reference, dim=0)), rel=1e-6)
    assert found.error > 0.01
    exact = measure(*network_and_batch("anode", network="squeezenext"))
    assert (exact.error, exact.block_errors) == (0, (0, 0, 0, 0))


@pytest.mark.parametrize("gradient", ["anode", "node"])
def test_probe_leaves_no_trace(gradient):
    network, images, labels = network_and_batch(gradient)
    optimizer = make_optimizer(network, experiment())
    TrainingStep(network, optimizer)(images, labels)

    def everything():
        tensors = [torch.get_rng_state(), *network.state_dict().values()]
        for p in network.parameters():
            tensors += [p.grad, optimizer.state[p]["momentum_buffer"]]
        return [tensor.clone() for tensor in tensors]

    before = everything()
    measure(network, images, labels)
    assert all(map(torch.equal, before, everything()))
    assert network.training
    assert [m.gradient for m in network.modules() if hasattr(m, "gradient")] == [gradient]
