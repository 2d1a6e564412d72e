"""The command line, made into one validated request."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import UsageError
from bench.experiment import Experiment
from bench.options import read_options
from bench.plugins import state_kept
from bench.suites import DEFAULT_SUITE, SUITES, GatedSuite, MeasuringSuite, Suite

Action = Literal["run", "list", "status", "plots-only", "reproduce"]
MeasuringAction = Literal["run", "status", "check", "update-reference", "plots-only"]

REFERENCES = Path(__file__).parents[1] / "results" / "reference"


@dataclass(frozen=True)
class Request:
    """What the person wants. suite has the overrides in it, and experiments are its runs.

    data_dir None with generated False means the official data set, downloaded where needed.
    device is a name for `environment.find_device`, executor one of `executors.EXECUTORS`. fresh:
    whether to start over. reproduce: the name of the recorded run to run again, or its folder.
    """

    action: Action
    suite: Suite
    experiments: tuple[Experiment, ...]
    data_dir: Path | None
    generated: bool
    device: str
    out: Path
    executor: str
    jobs: int
    eager: bool
    fresh: bool
    tensorboard: bool
    reproduce: str | None


@dataclass(frozen=True)
class MeasuringRequest:
    """What the person wants of a suite that trains nothing. reference is the gate's file.

    data_dir None means generated images.
    """

    action: MeasuringAction
    suite: MeasuringSuite
    cases: tuple[Any, ...]
    data_dir: Path | None
    device: str
    out: Path
    reference: Path
    fresh: bool


@state_kept()  # the user's modules are imported inside
def parse(arguments: Sequence[str] | None = None) -> Request | MeasuringRequest:
    """The request of a command line.

    Raises UsageError, saying what to do, for anything that cannot be asked; exits for --help.
    """
    options = read_options(arguments)
    folder = os.getcwd()  # searched first for the user's own package.module:Object
    sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    if options.generated and options.data_dir:
        raise UsageError("--generated and --data-dir exclude each other: give one of them")
    for action in ACTIONS:
        for other in ("fresh", "tensorboard"):
            if getattr(options, other) and getattr(options, action):
                option = f"--{action.replace('_', '-')}"
                raise UsageError(f"--{other} and {option} exclude each other: give one of them")
    try:
        if "=" in options.suite:
            raise ValueError(f"--suite {options.suite!r}: give what replaces its values as options")
        suite = SUITES.resolve(options.suite)
        if options.list:
            suite = SUITES[DEFAULT_SUITE]
        given = {name: getattr(options, name) for name in OVERRIDES}
        given = {name: value for name, value in given.items() if value is not None}
        refused = [OVERRIDES[name] for name in given if name not in suite.options]
        if refused:
            raise ValueError(
                f"the suite {suite.name} has no use for {', '.join(refused)}: leave it out"
            )
        fields = {
            field: _fitting(suite, field, v, OVERRIDES[name])
            for name, v in given.items()
            for field in suite.options[name]
        }
        if isinstance(suite, Suite):
            return _request(options, suite.replaced(**fields))
        if options.update_reference and fields and not options.reference:
            raise ValueError(
                "--update-reference writes the whole reference: give no other choice, or write "
                "one of your own with --reference FILE"
            )
        return _measuring_request(options, suite.replaced(**fields))
    except ValueError as error:
        raise UsageError(str(error)) from error


ACTIONS = ("list", "status", "plots_only", "check", "update_reference", "reproduce")
"""The options that have something else done than the suite run."""

OVERRIDES = {
    "network": "--network",
    "method": "--method",
    "Nt": "--Nt",
    "gradient": "--gradient",
    "seeds": "--seeds",
    "lr": "--lr",
    "num_epochs": "--num_epochs",
    "batch_size": "--batch_size",
    "train_images": "--train-images",
    "test_images": "--test-images",
    "precision": "--precision",
}
"""The options that replace fields of a suite, where it has them; see its `options`."""


def _fitting(suite: Suite | MeasuringSuite, field: str, value: Any, option: str) -> Any:
    """A list, or the one value in it where the suite has one."""
    if not isinstance(value, tuple) or isinstance(getattr(suite, field), tuple):
        return value
    if len(value) > 1:
        raise ValueError(f"the suite {suite.name} has one {option}: give one value")
    return value[0]


def _request(options: argparse.Namespace, suite: Suite) -> Request:
    if options.check or options.update_reference or options.reference:
        raise _no_reference(suite)
    given = [OVERRIDES[name] for name in OVERRIDES if getattr(options, name) is not None]
    if options.jobs > 1:
        given.append("--jobs")
    if options.executor != "local":
        given.append("--executor")
    if options.reproduce is not None and given:
        raise ValueError(
            f"--reproduce runs what is recorded, on this machine: leave out {', '.join(given)}"
        )
    return Request(
        action=_action(options),
        suite=suite,
        experiments=suite.experiments(),
        data_dir=options.data_dir,
        generated=options.generated or (suite.generated and options.data_dir is None),
        device=options.device,
        out=options.out,
        executor=options.executor,
        jobs=options.jobs,
        eager=options.eager,
        fresh=options.fresh,
        tensorboard=options.tensorboard,
        reproduce=options.reproduce,
    )


def _action(options: argparse.Namespace) -> Any:
    asked = [name for name in ACTIONS if getattr(options, name)]
    return asked[0].replace("_", "-") if asked else "run"


def _no_reference(suite: Suite | MeasuringSuite) -> ValueError:
    gated = ", ".join(s.name for s in SUITES.values() if isinstance(s, GatedSuite))
    return ValueError(f"the suite {suite.name} has no reference: use one of {gated}")


def _measuring_request(options: argparse.Namespace, suite: MeasuringSuite) -> MeasuringRequest:
    if options.jobs > 1:
        raise ValueError(
            f"--jobs {options.jobs}: what the suite {suite.name} measures must run alone, or take "
            "turns in one process, to be comparable: leave out --jobs"
        )
    for option in ("tensorboard", "reproduce"):
        if getattr(options, option):
            raise ValueError(f"the suite {suite.name} trains nothing: leave out --{option}")
    for option in ("eager", "generated"):
        if getattr(options, option):
            raise ValueError(f"the suite {suite.name} has no use for --{option}: leave it out")
    if options.executor != "local":
        raise ValueError(
            f"--executor {options.executor}: the suite {suite.name} measures on this machine: "
            "leave out --executor"
        )
    if isinstance(suite, GatedSuite) and options.data_dir:
        raise ValueError(f"the suite {suite.name} uses generated images: leave out --data-dir")
    action: MeasuringAction = _action(options)
    gate = action in ("check", "update-reference")
    if options.reference and not gate and isinstance(suite, GatedSuite):
        raise ValueError("--reference needs --check or --update-reference: give one of them")
    if not isinstance(suite, GatedSuite):
        if gate or options.reference:
            raise _no_reference(suite)
        cases: tuple[Any, ...] = suite.cases()
    else:
        cases = suite.check_cases() if gate else suite.cases()
    return MeasuringRequest(
        action=action,
        suite=suite,
        cases=cases,
        data_dir=options.data_dir,
        device=options.device,
        out=options.out,
        reference=options.reference or REFERENCES / f"{suite.name}.csv",
        fresh=options.fresh,
    )
