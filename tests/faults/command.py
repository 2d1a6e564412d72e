"""Start the command line in a process that can be killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd

from bench.records import WALL_CLOCK_COLUMNS

ROOT = Path(__file__).parents[2]
CHECKPOINT_AT_EVERY_STEP = (
    "import sys, run_bench; from bench.execution import checkpointing; "
    "checkpointing.SECONDS_BETWEEN_CHECKPOINTS = 0.0; sys.exit(run_bench.main(sys.argv[1:]))"
)


def start(*arguments, out):
    """Start a command whose stderr goes into its stdout."""
    return subprocess.Popen(
        [sys.executable, "-c", CHECKPOINT_AT_EVERY_STEP, *arguments, "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # The children of a background shell ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def read_until(process, mark):
    """Read its output up to a line that contains the mark."""
    said = ""
    for line in process.stdout:
        said += line
        if mark in line:
            return said
    raise AssertionError(f"it ended without {mark!r}: {said}")


def finish(process):
    """Wait for its end; return the rest of its output and its exit code."""
    said, _ = process.communicate(timeout=900)
    return said, process.returncode


def kill(process):
    """Kill it and its children; return the rest of its output."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def without_clock(file):
    """epochs.csv without its wall-clock columns, as text."""
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    return frame.drop(columns=list(WALL_CLOCK_COLUMNS)).to_csv()


def tables(out):
    """Each run's name → its epochs.csv without wall-clock columns."""
    return {file.parent.name: without_clock(file) for file in sorted(out.rglob("epochs.csv"))}
