"""The claims table is computed from the rows alone."""

import numpy as np
import pandas as pd
import pytest

from plots.reversibility import steps
from plots.reversibility import table as claims
from plots.reversibility.claims import CLAIMS
from plots.reversibility.errors import steps_needed


def rows(problem, scheme, errors, *, tolerance=0.0, activation="relu", precision="float64"):
    """One row for each n_steps: rho of `errors`."""
    shared = {
        **{"problem": problem, "activation": activation, "scheme": scheme, "tolerance": tolerance},
        **{"precision": precision, "seed": 0, "status": "ok", "device": "cpu", "data": "none"},
        "fingerprint": "none",
    }
    return pd.DataFrame(
        {**shared, "n_steps": n, "n_steps_back": n, "nfe": 2 * n, "rho": rho}
        for n, rho in errors.items()
    )


def verdict(frame, text, scheme="euler"):
    table = claims.judge(frame)
    chosen = table[table["claim"].str.contains(text, regex=False) & (table["scheme"] == scheme)]
    assert len(chosen) == 1
    return chosen.iloc[0]["holds"], chosen.iloc[0]["measured"]


def test_steps_between_two_measured_numbers_follow_a_power():
    assert steps_needed(rows("p", "euler", {10: 1.0, 1000: 1e-4}), 1e-2) == pytest.approx(100)
    assert steps_needed(rows("p", "euler", {10: np.inf, 1000: 1e-4}), 1e-2) == 1000
    assert steps_needed(rows("p", "euler", {10: 1e-3, 1000: 1e-4}), 1e-2) == 10
    assert steps_needed(rows("p", "euler", {10: 1.0, 1000: 0.1}), 1e-2) is None


def test_steps_are_the_median_over_seeds_and_the_verdict_says_their_spread():
    three = [
        rows("p", "euler", {100: rho, 1000: 0.0}).assign(seed=s)
        for s, rho in enumerate((1.0, 0.005, 0.009))
    ]
    assert steps_needed(pd.concat(three), 0.01) == 100
    two = [
        rows("gaussian", "rk2", {1_000: 1.0, n: 1e-7, 10_000: rho}).assign(seed=seed)
        for seed, (n, rho) in enumerate([(5_000, 1e-8), (8_000, 3e-8)])
    ]
    _, measured = verdict(pd.concat(two), "about 10,000", "rk2")
    assert measured.endswith("; ρ = 2e-08 (1e-08 … 3e-08) at 10,000")
    assert "over 2 seeds)" in measured
    never = rows("gaussian", "rk2", {1_000: 1.0, 10_000: 1e-6}).assign(seed=2)
    _, measured = verdict(pd.concat([*two, never]), "about 10,000", "rk2")
    assert "over 2 of 3 seeds, the others never)" in measured


def test_every_claim_is_in_the_table_even_where_nothing_is_measured():
    table = claims.judge(rows("linear-100", "euler", {1: 1.0}))
    assert set(table["claim"]) == {claim.text for claim in CLAIMS}
    assert len(CLAIMS) == len({claim.text for claim in CLAIMS})
    others = table[table["problem"] != "linear-100"]
    assert (others["holds"] == "not measured").all()


@pytest.mark.parametrize(
    ("at_200k", "holds"), [(0.01, "yes"), (0.049, "no"), (0.0001, "yes"), (1e-9, "yes")]
)
def test_verdict_on_steps_follows_the_rows(at_200k, holds):
    frame = rows("linear-100", "euler", {100_000: 0.1, 200_000: at_200k})
    found, measured = verdict(frame, "200,000")
    assert found == holds
    assert "at 200,000" in measured


def test_number_of_steps_is_the_larger_of_two_and_an_error_that_grows_again_is_named():
    frame = rows("linear-100", "rk4", {100: 1.0, 1000: 1e-4})
    assert verdict(frame, "200,000", "rk4") == ("no", "317 steps")  # too few contradict as well
    _, measured = verdict(rows("linear-100", "euler", {1: 1e-15, 10: 1e20}), "200,000")
    assert measured == "1 step, though not with 10 steps"


@pytest.mark.parametrize(
    ("problem", "errors", "text", "holds"),
    [
        *(
            ("linear-10000", {10: np.inf, 1000: rho}, "not reversible", holds)
            for rho, holds in ((1.0, "yes"), (np.inf, "yes"), (0.005, "no"))
        ),
        ("residual-0.5", {1: 0.25}, "a = 0.5", "yes"),
        ("residual-0.5", {1: 0.25001}, "a = 0.5", "no"),
    ],
)
def test_verdict_on_a_problem_that_is_not_reversible(problem, errors, text, holds):
    assert verdict(rows(problem, "euler", errors), text)[0] == holds


@pytest.mark.parametrize(("rho", "holds"), [(0.9, "yes"), (0.1, "no")])
def test_verdict_on_pictures(rho, holds):
    one_step = rows("convolution", "euler", {1: rho, 100: 1.0})
    assert verdict(one_step, "Figure 1, one residual block, ReLU")[0] == holds
    adaptive = rows("convolution", "rk45", {7: rho}, tolerance=0.001, activation="none")
    assert verdict(adaptive, "rtol 0.001, no activation", "rk45")[0] == holds


def test_single_precision_rows_are_separate():
    rk4 = [
        rows("relu-decay", "rk4", {11: rho}, precision=precision)
        for rho, precision in ((0.5, "float64"), (1e-4, "float32"))
    ]
    frame = pd.concat(rk4)
    assert verdict(frame, "with 11 steps", "rk4")[0] == "no"
    assert "Computed in float32" in "".join(claims._markdown(claims.judge(frame), frame))


def test_table_and_figure_are_drawn_from_few_rows(tmp_path):
    frame = rows("gaussian", "euler", {1: np.inf, 10: 1.0, 100: 0.0})
    written = [*claims.draw(frame, tmp_path), *steps.draw(frame, tmp_path)]
    assert [file.name for file in written] == [
        *("claims.csv", "claims.md", "reversal_steps.png", "reversal_steps.svg")
    ]
    header, *lines = (
        line for line in (tmp_path / "claims.md").read_text().splitlines() if line[:1] == "|"
    )
    assert {line.count("|") for line in lines} == {header.count("|")}
