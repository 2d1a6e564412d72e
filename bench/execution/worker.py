"""Run one experiment in a process of its own: the code inside that process."""

import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing import parent_process
from pathlib import Path

import torch

from bench.context import Workload
from bench.errors import UsageError
from bench.execution import position
from bench.execution.run import record_experiment
from bench.execution.work_queue import RecordStamp
from bench.experiment import Experiment

SECONDS_TO_STOP = 10.0
"""How long a worker may take to write its checkpoint before it is killed."""

USAGE_ERROR = 2
"""Exit code: the suite has to stop, and the error file says why."""


def work(
    workload: Workload, experiment: Experiment, stamp: RecordStamp, threads: int, errors: Path
) -> None:
    """Run and record the experiment; the results folder shows its progress and its end.

    A terminal sends Ctrl-C to all processes, so SIGINT is ignored here: the parent decides, and
    sends SIGTERM. An unexpected error is written to the file `errors`, and the exit code is not 0.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        with position.written(workload, experiment) as listener:
            record_experiment(workload, experiment, listener, stamp)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)  # end without a traceback; the exit status says why
    except UsageError as error:
        errors.write_text(str(error), encoding="utf-8")
        sys.exit(USAGE_ERROR)
    except Exception:
        errors.write_text(traceback.format_exc(), encoding="utf-8")
        sys.exit(1)


def _stop_with_parent() -> None:
    """Stop when the parent ends: if it is killed it cannot stop its workers."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_STOP)
    os._exit(1)
