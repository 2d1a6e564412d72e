"""Run experiments on a Ray cluster, a task for each. The only package that knows Ray, and imported
only when somebody asks for it.

The driver, the process of the command line, submits the tasks and writes what is the suite's. A
task works in the folder of results where its machine sees it: locks, checkpoints and records are
then as in any other process. Where it does not, it works in a folder of its own, and an actor on
the driver's machine, the desk, holds the lock and keeps the checkpoints for it; the record comes
back with the task's result. Ray starts a task again whose process or machine died, and that finds
the last checkpoint.
"""

import os

# Ray reads it when it is imported: it would print of each worker that died, into the live view.
os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The workers of a cluster that is started here: else at 15, and beside any load without a turn.
os.environ.setdefault("RAY_worker_niceness", "0")

from bench.execution.cluster.executor import connected

__all__ = ["connected"]
