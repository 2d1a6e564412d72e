"""Folders of results, in words."""

from pathlib import Path

from bench.errors import UsageError, readable


def describe_folder(out: Path) -> str:
    """The name of a folder of results. Raises UsageError if it is no folder."""
    nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise UsageError(f"{nearest} is no folder: name another --out")
    return readable(str(out)) + ("" if out.exists() else " (not there yet)")


def describe_archived(count: int, place: Path) -> str:
    """A line on the results that --fresh moved: their number and their new folder."""
    if not place.exists():
        return "--fresh: there are no old results"
    what = f"the old results ({count})" if count else "the old step costs"
    return f"--fresh: {what} are now in {place}"
