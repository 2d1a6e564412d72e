"""The command line: argparse, then one validated request."""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import data, suite_file
from bench.errors import UsageError
from bench.experiment import Experiment
from bench.options import ACTIONS, MAIN, OVERRIDES, WHERE, read_options
from bench.plugins import refuse_shadowed, search_first, state_kept
from bench.records.references import are_installed, reference_of
from bench.studies.study import Study
from bench.suites import DEFAULT_SUITE, SUITES, Suite


@dataclass(frozen=True, kw_only=True)
class Request:
    """A validated command line. action: "run", or an option of ACTIONS without its dashes.

    data_dir: None is the official data set or generated images. device: a name for
    `environment.find_device`. fresh: archive old results first. formats: of figures and tables.
    redraw: the command that draws these figures again.
    """

    action: str
    data_dir: Path | None
    device: str
    out: Path
    fresh: bool
    formats: tuple[str, ...]
    redraw: str


@dataclass(frozen=True, kw_only=True)
class TrainingRequest(Request):
    """Request for a suite that trains; suite has the overrides, and experiments are its runs.
    whole: the suite without overrides.

    generated: use generated images. executor: one of `executors.EXECUTORS`. reproduce: the name or
    folder of the recorded run to run again. estimate: --list measures times.
    """

    suite: Suite
    whole: Suite
    experiments: tuple[Experiment, ...]
    generated: bool
    executor: str
    jobs: int
    eager: bool
    tensorboard: bool
    reproduce: str | None
    estimate: bool


@dataclass(frozen=True, kw_only=True)
class StudyRequest(Request):
    """Request for a study; suite has the overrides. whole: the study without overrides. reference:
    file of the regression check."""

    suite: Study
    whole: Study
    cases: tuple[Any, ...]
    reference: Path


@dataclass(frozen=True)
class CompareRequest:
    """Two folders of results to compare. fail_above: the largest change for the worse that passes,
    as a fraction. out: the folder for compare.md and compare.csv."""

    before: Path
    after: Path
    fail_above: float | None
    out: Path | None


@dataclass(frozen=True)
class ReportRequest:
    """A folder of results, of whose suites all figures are drawn, in one report."""

    folder: Path
    formats: tuple[str, ...]


@state_kept()  # the user's modules are imported inside
def parse(
    arguments: Sequence[str] | None = None,
) -> Request | CompareRequest | ReportRequest:
    """The request of a command line. Raises UsageError, which says what to do, if it has none."""
    options = read_options(arguments)
    search_first(os.getcwd())  # for the user's own package.module:Object
    try:
        _check_exclusions(options)
        if options.compare:
            return _compare_request(options)
        if options.report and not _others(options, ("--out", "--format")):
            return ReportRequest(options.out, options.format)
        if options.fail_above is not None:
            raise ValueError("--fail-above needs --compare A B: give both, or leave it out")
        name = DEFAULT_SUITE if options.list else options.suite
        if name.endswith(suite_file.SUFFIX):
            base, whole = _of_file(Path(name))
        else:
            base = whole = _suite(name)
        given = {option.name: getattr(options, option.name) for option in OVERRIDES}
        changed = _replaced(whole, {k: value for k, value in given.items() if value is not None})
        if isinstance(changed, Study):
            return _study_request(options, changed, whole, base.name)
        return _training_request(options, changed, whole)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _suite(name: str) -> Suite | Study:
    if "=" in name:
        raise ValueError(f"--suite {name!r}: give what replaces its values as options")
    return SUITES.resolve(name)


def _of_file(file: Path) -> tuple[Any, Any]:
    """The base suite that a file names, and the file's own. Raises ValueError, with the name of the
    file, if that has no runs or cases."""
    own = suite_file.read(file)
    try:
        base = _suite(own.base)
        new = {"name": own.name, "description": f"{base.name}, as in {file}"}
        suite = replace(_replaced(base, own.values), **new)
        suite.cases() if isinstance(suite, Study) else suite.experiments()
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return base, suite


def _replaced(suite: Any, values: Mapping[str, Any]) -> Any:
    """A suite with values that options replace."""
    lists = [value for value in values.values() if isinstance(value, tuple)]
    refuse_shadowed([str(item) for items in lists for item in items], os.getcwd())
    refused = [o.flag for o in OVERRIDES if o.name in values and o.name not in suite.options]
    if refused:
        raise ValueError(
            f"the suite {suite.name} has no use for {', '.join(refused)}: leave it out"
        )
    return suite.replaced(
        **{
            field: _fitting(suite, field, value, name)
            for name, value in values.items()
            for field in suite.options[name]
        }
    )


def _check_exclusions(options: argparse.Namespace) -> None:
    if options.generated and options.data_dir:
        raise ValueError("--generated and --data-dir exclude each other: give one of them")
    if options.estimate and not options.list:
        raise ValueError("--estimate needs --list: give both")
    for action in (action for action in ACTIONS if action.name != "dry_run"):
        for other in ("fresh", "tensorboard"):
            if getattr(options, other) and getattr(options, action.name):
                raise ValueError(
                    f"--{other} and {action.flag} exclude each other: give one of them"
                )
    for action in ACTIONS:
        draws = action.name in ("dry_run", "plots_only", "report")
        if "format" in options.given and getattr(options, action.name) and not draws:
            raise ValueError(f"{action.flag} draws nothing: leave out --format")


def _fitting(suite: Suite | Study, field: str, value: Any, name: str) -> Any:
    """The list that was given, or its only value where the suite has one value."""
    if not isinstance(value, tuple) or isinstance(getattr(suite, field), tuple):
        return value
    if len(value) > 1:
        raise ValueError(f"the suite {suite.name} has one --{name}: give one value")
    return value[0]


def _compare_request(options: argparse.Namespace) -> CompareRequest:
    refused = _others(options, ("--fail-above", "--out"))
    if refused:
        raise ValueError(f"--compare has no use for {', '.join(refused)}: leave it out")
    before, after = options.compare
    out = options.out if "out" in options.given else None
    return CompareRequest(before, after, options.fail_above, out)


def _others(options: argparse.Namespace, allowed: Sequence[str]) -> list[str]:
    """The given options, except those that ask for an action and the allowed ones."""
    return [
        option.flag
        for option in (*MAIN, *OVERRIDES, *WHERE)
        if option.flag not in allowed
        and (option.name in options.given or getattr(options, option.name) is True)
    ]


def _training_request(options: argparse.Namespace, suite: Suite, whole: Suite) -> TrainingRequest:
    if options.check or options.update_reference or options.reference:
        raise _no_reference(suite)
    given = [option.flag for option in OVERRIDES if getattr(options, option.name) is not None]
    given += ["--jobs"] * (options.jobs > 1) + ["--executor"] * (options.executor != "local")
    if options.reproduce is not None and given:
        raise ValueError(
            f"--reproduce runs what is recorded, on this machine: leave out {', '.join(given)}"
        )
    if names := data.class_names(options.data_dir):
        suite = replace(suite, num_classes=len(names))
    return TrainingRequest(
        **_common(options, "executor", "jobs", "eager", "tensorboard", "reproduce", "estimate"),
        suite=suite,
        whole=whole,
        experiments=suite.experiments(),
        generated=options.generated or (suite.generated and options.data_dir is None),
    )


STUDIES_REFUSE: Mapping[str, tuple[Any, str]] = {
    "jobs": (
        1,
        "what the suite {} measures must run alone, or take turns in one process, to be comparable",
    ),
    "executor": ("local", "the suite {} measures on this machine"),
    "tensorboard": (False, "the suite {} trains nothing"),
    "reproduce": (None, "the suite {} trains nothing"),
    "eager": (False, "the suite {} has no use for it"),
    "generated": (False, "the suite {} has no use for it"),
}
"""Option that a study cannot have → the value it has when it is not given, and why."""


def _study_request(
    options: argparse.Namespace, study: Study, whole: Study, base: str
) -> StudyRequest:
    """base: the name of the suite whose reference is used."""
    for name, (default, why) in STUDIES_REFUSE.items():
        if getattr(options, name) != default:
            raise ValueError(f"{why.format(study.name)}: leave out --{name}")
    checks = options.check or options.update_reference
    if study.comparison is None and (checks or options.reference):
        raise _no_reference(study)
    if study.comparison is not None and options.data_dir:
        raise ValueError(f"the suite {study.name} uses generated images: leave out --data-dir")
    if options.reference and not checks:
        raise ValueError("--reference needs --check or --update-reference: give one of them")
    if options.update_reference and are_installed() and not options.reference:
        raise ValueError(
            "--update-reference writes no file into the installed package: name one of your own "
            "with --reference FILE"
        )
    return StudyRequest(
        **_common(options),
        suite=study,
        whole=whole,
        cases=study.check_cases() if checks else study.cases(),
        reference=options.reference or reference_of(base),
    )


def _common(options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Fields of a request: the action, and options of the same name."""
    asked = [action.flag for action in ACTIONS if getattr(options, action.name)]
    names = ("data_dir", "device", "out", "fresh", *more)
    return {
        "action": asked[0].removeprefix("--") if asked else "run",
        **{name: getattr(options, name) for name in names},
        "formats": options.format,
        "redraw": _redraw(options),
    }


def _redraw(options: argparse.Namespace) -> str:
    """The command line that draws the figures of this one again."""
    kept = ("suite", "out", "format", *(option.name for option in OVERRIDES))
    words = []
    for option in (*MAIN, *OVERRIDES, *WHERE):
        if option.name in kept and (option.name in options.given or option.name == "suite"):
            value = getattr(options, option.name)
            words += [
                option.flag,
                ",".join(map(str, value)) if type(value) is tuple else str(value),
            ]
    program = Path(sys.argv[0]).name
    start = ["python", program] if program.endswith(".py") else ["anode-bench"]
    return shlex.join([*start, *words, "--plots-only"])


def _no_reference(suite: Suite | Study) -> ValueError:
    having = [s.name for s in SUITES.values() if getattr(s, "comparison", None)]
    return ValueError(f"the suite {suite.name} has no reference: use one of {', '.join(having)}")
