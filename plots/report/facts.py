"""The statement of what was run on what."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from plots.training.recorded import count

MOST_VALUES = 4
"""The number of different values of a fact that a report shows."""


def facts_of_runs(runs: pd.DataFrame, environments: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """State the protocol, data, seeds and outcome of runs, and their environments."""
    experiments = runs.to_dict("records")
    outcome = runs["status"].value_counts()
    return {
        "Runs": f"{len(runs)} ({', '.join(f'{n} {status}' for status, n in outcome.items())})",
        "Seeds": ", ".join(map(str, sorted(runs["seed"].unique()))),
        "Protocol": _values(map(_protocol, experiments)),
        "Data": _values(f"{run['data']}, fingerprint {run['fingerprint']}" for run in experiments),
        **facts_of_environments(environments),
    }


def facts_of_environments(environments: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """State device, threads, software, code, date and command of environments; their data, where
    they have it."""
    every = [dict(environment) for environment in environments]
    facts = {
        "Data": _values(
            f"{e['data'].get('source')}, fingerprint {e['data'].get('fingerprint')}"
            for e in every
            if e.get("data")
        ),
        "Device": _values(e.get("device_name") for e in every),
        "CPU": _values(e.get("cpu") for e in every if e.get("device") != "cpu"),
        "Threads": _values(e.get("threads") for e in every if e.get("device") != "cpu"),
        "System": _values(e.get("platform") for e in every),
        "Memory format": _values(str(e.get("memory_format", "")).replace("_", "-") for e in every),
        "Software": _values(map(_software, every)),
        "Code": _values(map(_code, every)),
        "Recorded": _span(e.get("recorded_at") for e in every),
        "Recorded by": _values(e.get("command") for e in every),
    }
    return {name: value for name, value in facts.items() if value} or {
        "Environment": "not recorded: these records are of an early version"
    }


def _protocol(run: Mapping[Any, Any]) -> str:
    images = [
        f"all {part} images" if pd.isna(run[name]) else f"{int(run[name]):,} {part} images"
        for part, name in (("training", "train_images"), ("test", "test_images"))
    ]
    return (
        f"{count(int(run['num_epochs']), 'epoch')}, batch {int(run['batch_size'])}, learning rate "
        f"{run['lr']:g}, {', '.join(images)}, {run['precision']}"
    )


def _software(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages", {})
    named = {"Python": environment.get("python"), **packages}
    named |= {name: environment.get(name) for name in ("cuda", "cudnn", "driver")}
    return ", ".join(f"{name} {version}" for name, version in named.items() if version)


def _code(environment: Mapping[str, Any]) -> str:
    version, revision = environment.get("version"), environment.get("git_revision")
    own = {name: source[:7] for name, source in environment.get("sources", {}).items()}
    stated = [
        f"anode-bench {version}" if version else "",
        f"git {revision[:7]}" if revision else "",
        "with changes" if environment.get("git_dirty") else "",
        *(f"{name} {source}" for name, source in own.items()),
    ]
    return ", ".join(filter(None, stated))


def _values(values: Iterable[Any]) -> str:
    """The different values, each once, in their order."""
    found = [*dict.fromkeys(str(value) for value in values if value)]
    more = len(found) - MOST_VALUES
    return "; ".join(found[:MOST_VALUES]) + (f"; and {more} more" if more > 0 else "")


def _span(times: Iterable[Any]) -> str:
    days = sorted(str(time)[:10] for time in times if time)
    return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""
