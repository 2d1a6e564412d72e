"""Figures and tables of the suites that train."""

from plots.training import (
    accuracy,
    curves,
    gradient_error,
    statistics_curves,
    statistics_table,
    step_cost,
)

FIGURES = {
    "training": curves.draw,
    "gradient_error": gradient_error.draw,
    "cost": step_cost.draw,
    "accuracy_table": accuracy.draw,
    "statistics_curves": statistics_curves.draw,
    "statistics_table": statistics_table.draw,
}
