"""The processes below another one, as Linux shows them."""

from pathlib import Path


def descendants(of):
    """The numbers of all processes that a process started, at any depth."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found, left = [], [of]
    while left:
        more = children.get(left.pop(), [])
        found += more
        left += more
    return found


def tasks(of):
    """The Ray workers below a process in which a task of ours runs."""
    return [number for number in descendants(of) if _line(number).startswith("ray::run_task")]


def alive(numbers):
    """Those of these processes that have not ended."""
    return [number for number in numbers if _line(number)]


def _line(number):
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
