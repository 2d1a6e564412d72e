"""The cost of a second forward pass."""

import pandas as pd


def cost_of_recomputation(rows: pd.DataFrame) -> float | None:
    """(2F + B) / (F + B): time of a step with its forward pass run twice, in steps of backprop.

    F and B are backprop's median seconds forward and backward, in rows of one network, scheme,
    memory format and execution. None where a step has no such parts: when it is captured.
    """
    seconds = rows[rows["gradient"] == "backprop"].set_index("phase")["seconds"]
    if not {"forward", "backward"} <= set(seconds.index):
        return None
    return float(1 + seconds["forward"] / (seconds["forward"] + seconds["backward"]))
