"""The only writer and reader of results/. Imports no torch, so that figures are drawn without it.

docs/results.md describes the files. Each is written beside its place and renamed, so it is complete
or absent; run.json is written last. All have checksums.
"""

from bench.errors import UsageError
from bench.records.checksums import environments
from bench.records.conditions import CONDITION, conditions_of
from bench.records.files import FIGURE_FORMATS, distinct_name, write_whole
from bench.records.measurements import (
    MEASUREMENTS,
    Configuration,
    Measurement,
    load_measurements,
)
from bench.records.pictures import PICTURES, Picture, read_pictures, write_pictures
from bench.records.rows import (
    CostRow,
    GradientRow,
    GrowthRow,
    LowPrecisionRow,
    MemoryRow,
    OdeGradientRow,
    ReversalRow,
    key_of,
)
from bench.records.runs import (
    ADDED_COLUMNS,
    ARCHIVE,
    EPOCHS,
    RESULTS,
    RUN,
    STATISTICS,
    WALL_CLOCK_COLUMNS,
    EpochRow,
    Run,
    load,
    load_correct,
    load_runs,
    packed,
    read_run,
    read_runs,
    write_run,
)
from bench.records.tables import read_reference, read_rows, write_reference, write_rows

# fmt: off
__all__ = [
    "ADDED_COLUMNS", "ARCHIVE", "CONDITION", "EPOCHS", "FIGURE_FORMATS", "MEASUREMENTS",
    "PICTURES", "RESULTS", "RUN", "STATISTICS", "WALL_CLOCK_COLUMNS", "Configuration",
    "CostRow", "EpochRow", "GradientRow", "GrowthRow", "LowPrecisionRow", "Measurement",
    "MemoryRow", "OdeGradientRow", "Picture", "ReversalRow", "Run", "UsageError",
    "conditions_of", "distinct_name", "environments", "key_of", "load", "load_correct",
    "load_measurements", "load_runs", "packed", "read_pictures", "read_reference", "read_rows",
    "read_run", "read_runs", "write_pictures", "write_reference", "write_rows", "write_run",
    "write_whole",
]
# fmt: on
