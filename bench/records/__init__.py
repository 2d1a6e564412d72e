"""The only writer and reader of results/. Knows no torch, so that figures can be drawn without.

    results/<suite>/<experiment>/run.json     experiment, environment, data, status, summary
    results/<suite>/<experiment>/epochs.csv   a row for each epoch
    results/<suite>/measurements.csv          a row for each measurement that is no training run
    results/<suite>/measurements.json         its checksum, and where it was measured
    results/<suite>/pictures.npz, .json       images that were solved there and back, and the same

Beside them there is what `checkpoint` and `locks` write. A file is written beside its place and
renamed, so it is complete or absent; run.json comes last and says that the run is recorded. All
have checksums: `checksums`.
"""

from bench.errors import UsageError
from bench.records.checksums import DamagedRecordError, environments
from bench.records.conditions import CONDITION, conditions_of
from bench.records.files import distinct_name, write_whole
from bench.records.measurements import (
    MEASUREMENTS,
    Configuration,
    Measurement,
    load_measurements,
    read_measurements,
    write_measurements,
)
from bench.records.pictures import PICTURES, Picture, read_pictures, write_pictures
from bench.records.rows import (
    CostRow,
    GradientRow,
    GrowthRow,
    MemoryRow,
    OdeGradientRow,
    ReversalRow,
    key_of,
)
from bench.records.runs import (
    ASIDE,
    EPOCHS,
    RESULTS,
    RUN,
    STATISTICS,
    STATUSES,
    WALL_CLOCK_COLUMNS,
    EpochRow,
    Run,
    load,
    load_correct,
    load_runs,
    packed,
    read_run,
    read_whole_run,
    write_run,
)
from bench.records.tables import read_reference, read_rows, write_reference, write_rows

__all__ = [
    "ASIDE",
    "CONDITION",
    "EPOCHS",
    "MEASUREMENTS",
    "PICTURES",
    "RESULTS",
    "RUN",
    "STATISTICS",
    "STATUSES",
    "WALL_CLOCK_COLUMNS",
    "Configuration",
    "CostRow",
    "DamagedRecordError",
    "EpochRow",
    "GradientRow",
    "GrowthRow",
    "Measurement",
    "MemoryRow",
    "OdeGradientRow",
    "Picture",
    "ReversalRow",
    "Run",
    "UsageError",
    "conditions_of",
    "distinct_name",
    "environments",
    "key_of",
    "load",
    "load_correct",
    "load_measurements",
    "load_runs",
    "packed",
    "read_measurements",
    "read_pictures",
    "read_reference",
    "read_rows",
    "read_run",
    "read_whole_run",
    "write_measurements",
    "write_pictures",
    "write_reference",
    "write_rows",
    "write_run",
    "write_whole",
]
