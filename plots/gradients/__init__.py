"""Figures and tables of the suites `gradients`, `ode-gradients` and `low-precision`."""

from plots.gradients import (
    activation,
    blocks,
    lipschitz,
    low_precision,
    ode,
    order,
    statistics,
    table,
)

FIGURES = {
    "gradient_order": order.draw,
    "gradient_blocks": blocks.draw,
    "gradient_statistics": statistics.draw,
    "gradient_activation": activation.draw,
    "gradient_lipschitz": lipschitz.draw,
    "gradient_table": table.draw,
}

ODE_FIGURES = {
    "ode_distances": ode.draw_distances,
    "ode_shares": ode.draw_shares,
    "ode_table": ode.draw_table,
}

LOW_PRECISION_FIGURES = {
    "low_precision": low_precision.draw,
    "low_precision_table": low_precision.draw_table,
}
