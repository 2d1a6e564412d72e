"""Figures and tables of training runs."""
