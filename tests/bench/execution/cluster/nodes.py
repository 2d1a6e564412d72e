"""The processes of a Ray cluster on this machine, as the system sees them."""

import os
import signal
import time
from pathlib import Path


def descendants(of):
    """The numbers of all processes that this one started, however far down."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found = []
    left = [of]
    while left:
        more = children.get(left.pop(), [])
        found += more
        left += more
    return found


def running(of=None):
    """The processes in which a task of ours runs, below a process; else below this one."""
    return [
        number for number in descendants(of or os.getpid()) if _line(number).startswith("ray::run")
    ]


def kill_one(of=None, seconds=60.0):
    """Kill -9 one of them, once there is one."""
    until = time.monotonic() + seconds
    while not (found := running(of)):
        assert time.monotonic() < until, "no task runs"
        time.sleep(0.02)
    os.kill(found[0], signal.SIGKILL)


def alive(numbers):
    """Those of these processes that have not ended, though nobody may have asked how."""
    return [number for number in numbers if _line(number)]


def _line(number):
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
