"""Figures and tables of the suite `growth`."""

from plots.growth import curves, table

FIGURES = {"growth": curves.draw, "growth_table": table.draw}
