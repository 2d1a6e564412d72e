"""The distance between a state and what comes back when its solution is solved backwards."""

import numpy as np
import pytest
import torch

import run_bench
from bench import records
from bench.data.generated import load
from bench.errors import UsageError
from bench.instruments.reversal import adaptive_steps, fixed_steps, reversible_pair
from bench.records import Picture
from bench.studies.reversibility import ReversalCase, ReversibilityStudy
from solvers import METHODS
from tests.bench.builders import CPU

ONE = np.float64(1)
ORDERS = {"euler": (1, 1), "rk2": (2, 3), "rk4": (4, 5), "rk4_38": (4, 5)}
"""Method → its order, and the order at which rho falls: an even order p leaves h^(p+2) in
R(h)R(-h) of a linear problem, and n steps make it p + 1."""


def linear(t, z):
    return -5.0 * z


@pytest.mark.parametrize("method", list(METHODS))
def test_rho_of_a_linear_problem_is_its_closed_form(method):
    def amplification(x):
        terms = [1, x, x**2 / 2, x**3 / 6, x**4 / 24]
        return sum(terms[: ORDERS[method][0] + 1])

    for n_steps in (1, 7, 40):
        x = -5.0 / n_steps
        expected = abs((amplification(x) * amplification(-x)) ** n_steps - 1)
        found = fixed_steps(linear, ONE, METHODS[method], n_steps)
        assert found.rho == pytest.approx(expected, rel=1e-9, abs=1e-14)
        assert found.nfe == 2 * n_steps * METHODS[method].n_stages
        tensor = torch.ones((), dtype=torch.float64)
        with_torch = fixed_steps(linear, tensor, METHODS[method], n_steps)
        assert with_torch.rho == pytest.approx(expected, rel=1e-9, abs=1e-14)
    coarse, fine = (fixed_steps(linear, ONE, METHODS[method], n).rho for n in (200, 400))
    assert np.log2(coarse / fine) == pytest.approx(ORDERS[method][1], abs=0.1)


def test_time_runs_backwards_on_the_way_back():
    found = fixed_steps(lambda t, z: 2 * t + 0 * z, ONE, METHODS["rk2"], 3)
    assert found.output == pytest.approx(2)
    assert found.rho == pytest.approx(0, abs=1e-15)


def test_reversible_pair_gives_back_what_euler_does_not():
    weight = torch.from_numpy(np.random.RandomState(0).standard_normal((20, 20)))
    z0 = torch.from_numpy(np.random.RandomState(1).standard_normal(20))
    for start, rhs in (
        (z0.numpy(), lambda t, z: np.maximum(0, weight.numpy() @ z)),
        (z0, lambda t, z: torch.relu(weight @ z)),
    ):
        assert fixed_steps(rhs, start, METHODS["euler"], 4).rho > 0.5
        found = reversible_pair(rhs, start, METHODS["euler"], 4)
        assert found.rho < 1e-13
        assert np.linalg.norm(np.asarray(found.output) - z0.numpy()) > 1


def test_adaptive_steps_are_those_accepted_in_each_direction():
    found = adaptive_steps(linear, ONE, 1e-8, 1e-11, 1000)
    assert found.status == "ok"
    assert found.rho < 1e-5
    # dopri5 evaluates twice before the first step and six times in each step, accepted or not.
    rejected, rest = divmod(found.nfe - 4 - 6 * (found.n_steps + found.n_steps_backward), 6)
    assert rest == 0
    assert 0 <= rejected < found.n_steps
    finer = adaptive_steps(linear, ONE, 1e-10, 1e-13, 1000)
    assert finer.n_steps > 2 * found.n_steps


def test_a_solver_that_gives_up_is_a_result_and_another_error_is_raised():
    limited = adaptive_steps(linear, ONE, 1e-8, 1e-11, 3)
    assert (limited.rho, limited.status) == (np.inf, "step limit")
    stiff = adaptive_steps(lambda t, z: -1e4 * z, ONE, 1e-3, 1e-6, 10_000)
    assert (stiff.rho, stiff.status) == (np.inf, "step underflow")
    assert abs(stiff.output) < 1e-6  # forwards it was solved, backwards not
    assert min(stiff.n_steps, stiff.n_steps_backward) > 0
    overflown = fixed_steps(lambda t, z: -1e4 * z, ONE, METHODS["rk4"], 100)
    assert (overflown.rho, overflown.status) == (np.inf, "not finite")

    def rhs(t, z):
        raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"):
        adaptive_steps(rhs, ONE, 1e-3, 1e-6, 10)


def test_every_problem_has_every_scheme_and_each_case_comes_once():
    cases = ReversibilityStudy("reversibility", "").cases()
    assert len(set(cases)) == len(cases)
    for problem in {case.problem for case in cases}:
        of_problem = {case.scheme for case in cases if case.problem == problem}
        assert {"euler", "rk2", "rk4", "reversible"} <= of_problem
        assert "rk45" in of_problem or problem.startswith("residual")
    assert ReversalCase("linear-100", "none", "euler", 200_000) in cases


def test_pictures_are_kept_for_every_activation_of_the_pictured_cases():
    suite = ReversibilityStudy("reversibility", "", schemes=("euler", "reversible"))
    runner = suite.runner(load(10), CPU)
    for case in suite.cases():
        if case.problem == "convolution" and case.n_steps == 1:
            runner.measure(case)
    kept = {(p.scheme, p.activation, p.n_steps) for p in runner.pictures}
    activations = ("relu", "leaky_relu", "softplus", "tanh", "none")
    assert kept == {(s, a, 1) for s in ("euler", "reversible") for a in activations}
    for picture in runner.pictures:
        assert picture.input.shape == (3, 32, 32)
        difference = np.linalg.norm(picture.reconstruction - picture.input)
        rho = difference / np.linalg.norm(picture.input)
        assert picture.rho == pytest.approx(rho, rel=1e-12, abs=1e-30)
        assert (picture.rho < 1e-13) == (picture.scheme == "reversible")


def test_pictures_are_read_as_they_were_written_and_never_when_damaged(tmp_path):
    images = np.random.RandomState(0).standard_normal((3, 3, 32, 32))
    records.write_pictures(tmp_path, [Picture("rk45", "none", 3, 0.1, 17.0, "made up", *images)])
    (back,) = records.read_pictures(tmp_path)
    assert (back.scheme, back.n_steps, back.tolerance, back.rho) == ("rk45", 3, 0.1, 17.0)
    assert np.array_equal(np.stack([back.input, back.output, back.reconstruction]), images)
    records.write_pictures(tmp_path, [])
    assert records.read_pictures(tmp_path) == []
    assert {file.name for file in tmp_path.iterdir()} == {records.PICTURES, "pictures.json"}
    (tmp_path / records.PICTURES).write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"pictures.npz is damaged \(its checksum is wrong\)"):
        records.read_pictures(tmp_path)


def test_suite_runs_to_its_figures_and_draws_them_again(tmp_path, capsys):
    suite = ["--suite", "reversibility", "--device", "cpu", "--out", str(tmp_path)]
    assert run_bench.main([*suite, "--method", "reversible", "--seeds", "0"]) == 0
    figures = tmp_path / "reversibility" / "figures"
    claims = figures / "claims.md"
    table = claims.read_text()
    assert "fingerprint" in table
    assert "generated images" in capsys.readouterr().out
    assert (figures / "reversal_pictures-reversible-pair-over-euler-1-step.png").exists()
    assert (figures / "reversal_steps.svg").exists()
    claims.unlink()
    assert run_bench.main([*suite, "--plots-only"]) == 0
    assert claims.read_text() == table
