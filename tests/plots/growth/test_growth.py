"""The laws of growth: planted ones are found, and where there is none, none is."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.records import GrowthRow
from plots.growth import curves, laws, sweeps
from plots.growth import table as growth_table
from plots.growth.fits import exact_law, parabola, slope

STEPS = np.array([1.0, 2, 4, 8, 16, 32, 64])
NO_ERROR = np.zeros_like(STEPS)


# --- fits


@pytest.mark.parametrize("power", [0, 1, 2])
def test_slope_is_the_power_of_the_upper_part_in_any_order(power):
    shuffled = np.array([3, 0, 6, 2, 5, 1, 4])
    y = np.where(STEPS < 8, 7.0, 3 * STEPS**power)  # below eight steps the fixed part prevails
    for order in (slice(None), shuffled):
        value, error = slope(STEPS[order], y[order], NO_ERROR)
        assert value == pytest.approx(power, abs=1e-9)
        assert error < 1e-9
    for count in (2, 3):  # which are all needed
        x = STEPS[:count]
        assert slope(x, 5 * x**power, NO_ERROR[:count])[0] == pytest.approx(power)


@pytest.mark.parametrize("c", [0.0, 0.01])
def test_quadratic_term_is_found_where_there_is_one(c):
    found = parabola(STEPS, 5 + 3 * STEPS + c * STEPS**2, NO_ERROR)
    assert (found["a"], found["b"], found["c"]) == pytest.approx((5, 3, c), abs=1e-9)
    share = c * 64**2 / (5 + 3 * 64 + c * 64**2)
    assert found["quadratic"] == pytest.approx(share, abs=1e-9)
    assert found["misfit"] < 1e-9
    assert parabola(STEPS[:3], STEPS[:3], NO_ERROR[:3]) == {}  # too few points


@pytest.mark.parametrize("planted", [0.0, 0.01])
def test_standard_errors_are_at_least_the_errors_and_at_most_twice(planted):
    # Noise of 3% in every point: the share's mean is right, and its error what is claimed.
    random = np.random.RandomState(0)
    law = 5 + 3 * STEPS + planted * STEPS**2
    truth = planted * 64**2 / law[-1]
    noise = np.full_like(STEPS, 0.03)
    shares, slopes = [], []
    for _ in range(400):
        noisy = law * (1 + 0.03 * random.randn(len(STEPS)))
        shares.append(parabola(STEPS, noisy, noise))
        slopes.append(slope(STEPS, noisy, noise))
    values = np.array([share["quadratic"] for share in shares])
    assert values.mean() == pytest.approx(truth, abs=0.02)
    claimed = np.median([share["quadratic_error"] for share in shares])
    assert 0.9 * values.std() < claimed < 2 * values.std()
    spread = np.std([value for value, _ in slopes])
    assert 0.9 * spread < np.median([error for _, error in slopes]) < 2 * spread


COEFFICIENTS = st.integers(-1000, 1000)


@given(COEFFICIENTS, COEFFICIENTS, COEFFICIENTS)
def test_exact_law_of_counts_is_found(a, b, c):
    x = [1, 2, 4, 8, 16]
    assert exact_law(x, [a + b * n + c * n**2 for n in x]) == (a, b, c)


@given(st.integers(0, 4), st.integers(1, 5))
def test_one_evaluation_too_many_is_no_linear_law_and_two_points_are_none(where, more):
    x = [1, 2, 4, 8, 16]
    counts = [4 * n for n in x]
    counts[where] += more
    assert exact_law(x, counts) is None
    assert exact_law(x[:3], [3 * n for n in x[:3]]) is not None
    assert exact_law(x[:2], [3 * n for n in x[:2]]) is None


# --- table and figure


def made_up(gradient="anode", *, quadratic=0.0, drift=1.0):
    """A sweep of Nt, whose machine gets slower from point to point."""
    for i, n in enumerate((1, 2, 4, 8, 16)):
        relative, speed = 0.1 + 0.2 * n + quadratic * n * n, drift**i
        yield GrowthRow(
            *("Nt", "resnet4", "rk2", n, gradient, "anode", 8, 16, "cpu", "ok"),
            *(relative * speed, speed, relative, relative, relative),
            *(0.001, 0.01, 0.01, 0.01, 5, 1000 + 100 * n, 2 * n, 2 * n),
        )


def table(rows):
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def fitted(rows):
    return laws.fit(sweeps.by_network(table(rows))).set_index("gradient")


def test_hidden_quadratic_term_shows_in_the_table():
    found = fitted([*made_up("anode"), *made_up("anode-revolve:m=1", quadratic=0.1)])
    assert found["seconds_quadratic"].to_dict() == {
        "anode": pytest.approx(0, abs=1e-9),
        "anode-revolve:m=1": pytest.approx(25.6 / 28.9),
    }
    assert (found["bytes_quadratic"].abs() < 1e-9).all()
    assert (found["evaluations_law"] == "4·Nt").all()


def test_machine_that_slows_down_between_points_is_not_growth():
    steady, slowing = fitted(made_up()), fitted(made_up(drift=1.5))
    assert slowing["seconds_slope"].tolist() == pytest.approx(steady["seconds_slope"].tolist())
    drawn = sweeps.by_network(table(made_up(drift=1.5)))
    expected = [1000 * 1.5**2 * (0.1 + 0.2 * n) for n in (1, 2, 4, 8, 16)]
    assert drawn["milliseconds"].tolist() == pytest.approx(expected)
    assert sweeps.drift(drawn) == pytest.approx(1.5**4)


@pytest.mark.parametrize(("points", "said"), [(2, "too few Nt for a law"), (5, "no polynomial")])
def test_missing_law_is_distinguished_from_too_few_points(tmp_path, points, said):
    rows = [dataclasses.replace(row, nfe_backward=2**row.n_steps) for row in made_up()]
    growth_table.draw(table(rows[:points]), tmp_path)
    assert f"| {said}: slope " in (tmp_path / "growth.md").read_text()


def test_bar_of_the_data_path_is_judged_where_it_was_set(tmp_path):
    at_256 = [
        dataclasses.replace(row, sweep="batch size", batch_size=size, data_share=share)
        for row, (size, share) in zip(made_up(), [(64, 0.2), (256, 0.06), (512, 0.2)], strict=False)
    ]
    growth_table.draw(table([*at_256, *made_up()]), tmp_path)
    lines = (tmp_path / "growth.md").read_text().splitlines()
    judged = [re.sub(".* \\|(.*\\|.*)\\|$", r"\1", line) for line in lines if "| 1.00 |" in line]
    assert [cell.strip() for cell in judged] == ["|", "≤ 5% | **no**", "|"]


def test_nothing_that_fitted_is_no_figure(tmp_path):
    lost = [dataclasses.replace(row, status="oom") for row in made_up()]
    assert curves.draw(table(lost), tmp_path) == growth_table.draw(table(lost), tmp_path) == []
