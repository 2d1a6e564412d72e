"""Figures and tables of the suite `reversibility`."""

from plots.reversibility import pictures, steps, table

FIGURES = {
    "reversal_pictures": pictures.draw,
    "reversal_steps": steps.draw,
    "reversal_claims": table.draw,
}
