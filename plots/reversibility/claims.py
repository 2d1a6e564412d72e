"""The table of the ANODE paper's claims beside what is measured, for each scheme."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bench.records.files import write_whole
from plots.reversibility.claim import CLAIMS, SINGLE
from plots.reversibility.rows import PROBLEM_NAMES, scheme_name


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """claims.csv, a row for each claim and scheme, and claims.md, a row for each claim."""
    table = judge(rows)
    csv, markdown = folder / "claims.csv", folder / "claims.md"
    write_whole(csv, table.to_csv(index=False))
    write_whole(markdown, _markdown(table, rows))
    return [csv, markdown]


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Every claim × scheme it is about: `measured` in words and `holds`: yes, no, not measured."""
    return pd.DataFrame(_judgements(rows[rows["precision"] == "float64"]))


def _judgements(rows: pd.DataFrame) -> Iterator[dict[str, str]]:
    for claim in CLAIMS:
        of_problem = rows[rows["problem"] == claim.problem]
        about = [s for s in rows["scheme"].unique() if not claim.schemes or s in claim.schemes]
        for scheme in about or claim.schemes[:1]:
            chosen = of_problem[of_problem["scheme"] == scheme]
            holds, measured = claim.judge(chosen) if len(chosen) else (False, "not measured")
            verdict = "yes" if holds else "no"
            yield {
                "problem": claim.problem,
                "claim": claim.text,
                "paper": claim.paper,
                "scheme": scheme,
                "measured": measured,
                "holds": measured if measured == "not measured" else verdict,
                "rule": claim.rule,
            }


def _markdown(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    schemes = list(table["scheme"].unique())
    lines = [
        "| problem | claim | paper | " + " | ".join(map(scheme_name, schemes)) + " | holds where |",
        "|" + "---|" * (len(schemes) + 4),
    ]
    for (problem, claim, paper, rule), part in table.groupby(
        ["problem", "claim", "paper", "rule"], sort=False
    ):
        cells = {row.scheme: _cell(str(row.holds), str(row.measured)) for row in part.itertuples()}
        name = PROBLEM_NAMES.get(str(problem), "one step")
        columns = " | ".join(cells.get(scheme, "–") for scheme in schemes)
        lines.append(f"| {name} | {claim} | {paper} | {columns} | {rule} |")
    images = rows[rows["data"] != "none"]
    source = "none" if images.empty else images.iloc[0]["data"]
    mark = "" if images.empty else f", fingerprint {images.iloc[0]['fingerprint']}"
    return "\n".join(
        [
            "The claims of §III of the ANODE paper (arXiv 1902.10298), measured in float64. "
            "Adaptive steps are those accepted on the way there. Medians over seeds; in "
            "brackets the smallest and the largest of a seed.",
            "",
            *lines,
            "",
            *_in_single_precision(rows),
            "The reversible pair undoes whatever it did, right or wrong: its ρ says nothing of "
            "the solution, and its rounding grows by 1/0.99 a step.",
            "",
            f"Single precision is ρ ≤ 2⁻²³ ≈ {SINGLE:.2g}. Image: {source}{mark}.",
            "",
        ]
    )


def _in_single_precision(rows: pd.DataFrame) -> Iterator[str]:
    single = rows[rows["precision"] == "float32"]
    smallest = single.groupby(["problem", "scheme", "seed"], sort=False)["rho"].min()
    parts = [
        f"{PROBLEM_NAMES.get(str(problem), problem)}, {scheme_name(str(scheme))}: "
        f"{of_seeds.median():.2g}"
        + (f" ({of_seeds.min():.2g} … {of_seeds.max():.2g})" if len(of_seeds) > 1 else "")
        for (problem, scheme), of_seeds in smallest.groupby(["problem", "scheme"], sort=False)
    ]
    if parts:
        yield f"Computed in float32, the smallest ρ of any number of steps: {'; '.join(parts)}."
        yield ""


def _cell(holds: str, measured: str) -> str:
    return measured if holds == measured else f"{holds}: {measured}"
