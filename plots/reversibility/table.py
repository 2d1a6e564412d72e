"""The ANODE paper's claims with the measured values, for each scheme."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from plots import labels, markdown
from plots.reversibility.claims import CLAIMS, SINGLE

NOT_MEASURED = "not measured"


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write claims.csv, a row for each claim and scheme, and claims.md, a row for each claim."""
    table = judge(rows)
    return markdown.write(folder, "claims", _markdown(table, rows), {"claims": table})


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each claim × scheme: `measured` in words, and `holds`: yes, no or not measured."""
    return pd.DataFrame(_judgements(rows[rows["precision"] == "float64"]))


def _judgements(rows: pd.DataFrame) -> Iterator[dict[str, str]]:
    for claim in CLAIMS:
        of_problem = rows[rows["problem"] == claim.problem]
        about = [s for s in rows["scheme"].unique() if not claim.schemes or s in claim.schemes]
        for scheme in about or claim.schemes[:1]:
            chosen = of_problem[of_problem["scheme"] == scheme]
            holds, measured = claim.judge(chosen) if len(chosen) else (False, NOT_MEASURED)
            verdict = "yes" if holds else "no"
            yield {
                "problem": claim.problem,
                "claim": claim.text,
                "paper": claim.paper,
                "scheme": scheme,
                "measured": measured,
                "holds": measured if measured == NOT_MEASURED else verdict,
                "rule": claim.rule,
            }


def _markdown(table: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    yield (
        "The claims of §III of the ANODE paper (arXiv 1902.10298), measured in float64. Adaptive "
        "steps are the accepted forward steps. Medians over seeds; in brackets the smallest and "
        "the largest of a seed."
    )
    columns: markdown.Columns = {
        "problem": lambda part: labels.PROBLEMS.get(part["problem"].iloc[0], "one step"),
        "claim": lambda part: part["claim"].iloc[0],
        "paper": lambda part: part["paper"].iloc[0],
        **{labels.solver(scheme): partial(_cell, scheme) for scheme in table["scheme"].unique()},
        "holds where": lambda part: part["rule"].iloc[0],
    }
    keys = ["problem", "claim", "paper", "rule"]
    yield markdown.table(columns, (part for _, part in table.groupby(keys, sort=False)))
    single = "; ".join(_in_single_precision(rows))
    if single:
        yield f"Computed in float32, the smallest ρ of any number of steps: {single}."
    yield (
        "The reversible pair reverses every solution, right or wrong: its ρ says nothing about the "
        "solution, and its rounding grows by 1/0.99 a step."
    )
    images = rows[rows["data"] != "none"]
    source = "none" if images.empty else images.iloc[0]["data"]
    mark = "" if images.empty else f", fingerprint {images.iloc[0]['fingerprint']}"
    yield f"Single precision is ρ ≤ 2⁻²³ ≈ {SINGLE:.2g}. Image: {source}{mark}."


def _in_single_precision(rows: pd.DataFrame) -> Iterator[str]:
    single = rows[rows["precision"] == "float32"]
    smallest = single.groupby(["problem", "scheme", "seed"], sort=False)["rho"].min()
    for (problem, scheme), of_seeds in smallest.groupby(["problem", "scheme"], sort=False):
        low, high = of_seeds.min(), of_seeds.max()
        spread = f" ({low:.2g} … {high:.2g})" if len(of_seeds) > 1 else ""
        name = f"{labels.PROBLEMS.get(str(problem), problem)}, {labels.solver(str(scheme))}"
        yield f"{name}: {of_seeds.median():.2g}{spread}"


def _cell(scheme: str, part: pd.DataFrame) -> str:
    judgement = part[part["scheme"] == scheme]
    if judgement.empty:
        return "–"
    holds, measured = judgement[["holds", "measured"]].iloc[0]
    return measured if holds == measured else f"{holds}: {measured}"
