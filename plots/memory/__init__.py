"""Figures and tables of the suite `memory`."""

from plots.memory import blocks, laws, steps, tradeoff

FIGURES = {
    "memory_steps": steps.draw,
    "memory_blocks": blocks.draw,
    "memory_tradeoff": tradeoff.draw,
    "memory_laws": laws.draw,
}
