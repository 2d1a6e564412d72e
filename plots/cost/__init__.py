"""Figures and tables of the suite `cost`."""

from plots.cost import table, time_and_memory

FIGURES = {"cost_memory": time_and_memory.draw, "cost_table": table.draw}
