"""Figures and tables of the study of cost."""
