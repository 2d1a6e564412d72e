"""The report: one page with the figures, tables and records of one suite or of several."""

from plots.report.page import PAGE, write
from plots.report.section import Part, Section

__all__ = ["PAGE", "Part", "Section", "write"]
