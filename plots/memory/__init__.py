"""Figures and tables of the study of memory."""
