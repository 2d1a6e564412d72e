"""Figures and tables of the suite `gradients`."""

from plots.gradients import activation, blocks, lipschitz, order, statistics, table

FIGURES = {
    "gradient_order": order.draw,
    "gradient_blocks": blocks.draw,
    "gradient_statistics": statistics.draw,
    "gradient_table": table.draw,
    "gradient_activation": activation.draw,
    "gradient_lipschitz": lipschitz.draw,
}
