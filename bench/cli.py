"""The command line, made into one validated request."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from bench.errors import UsageError
from bench.executors import EXECUTORS
from bench.experiment import Experiment
from bench.precision import PRECISIONS
from bench.studies.reversibility import ADAPTIVE, PAIR
from bench.suites import DEFAULT_SUITE, SUITES, GatedSuite, MeasuringSuite, Suite
from models import BASELINE, NETWORKS
from solvers import GRADIENTS, METHODS

Action = Literal["run", "list", "status", "plots-only", "reproduce"]
MeasuringAction = Literal["run", "status", "check", "update-reference", "plots-only"]
Value = TypeVar("Value")

LARGEST = 2**31 - 1
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


def parse(arguments: Sequence[str] | None = None) -> Request | MeasuringRequest:
    """The request of a command line.

    Raises UsageError, saying what to do, for anything that cannot be asked; exits for --help.
    """
    options = _parser().parse_args(arguments, _Given())
    if os.getcwd() not in sys.path:  # for package.module:Object of one's own
        sys.path.append(os.getcwd())
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (--help shows the options)")


class _Given(argparse.Namespace):
    """What was given, and by which options."""

    def __init__(self) -> None:
        super().__init__()
        self.options: set[str] = set()


class _Once(argparse.Action):
    """Stores a value. Of two values for one option none is the one that was meant."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if self.dest in namespace.options:
            raise argparse.ArgumentError(self, "it is given twice: give it once")
        namespace.options.add(self.dest)
        setattr(namespace, self.dest, values)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_bench.py",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train the same networks with different gradient methods for their ODE blocks "
        "and compare.",
        epilog="suites:\n" + "\n".join(f"  {s.name:14} {s.description}" for s in SUITES.values()),
    )
    parser.register("action", None, _Once)
    add = parser.add_argument
    add("--suite", default=DEFAULT_SUITE, metavar="NAME", help=f"default: {DEFAULT_SUITE}")
    actions = parser.add_mutually_exclusive_group()
    add = actions.add_argument
    add("--list", action="store_true", help="print the suites, their runs, how many of these are "
        "recorded, and their time here")  # fmt: skip
    add("--status", action="store_true", help="print what of the suite is done, running, stopped, "
        "failed and left")  # fmt: skip
    add("--reproduce", type=_named, metavar="RUN", help="run a recorded experiment of the suite "
        "again (RUN: its name, or its folder) and say whether it came out the same; exit code 1 "
        "where it did not")  # fmt: skip
    add("--plots-only", action="store_true", help="draw the figures again from what is recorded")
    add("--check", action="store_true", help="of gradients, memory and cost: measure a fixed set "
        "and compare it with the reference; exit code 1 where it is not as it must be")  # fmt: skip
    add("--update-reference", action="store_true", help="write that reference anew")
    add = parser.add_argument
    add("--reference", type=_folder, metavar="FILE", help="where it is; default: "
        "results/reference/SUITE.csv")  # fmt: skip
    group = parser.add_argument_group(
        "overrides of the suite (LIST: separated by commas)",
    )
    add = group.add_argument
    own = "or your own, as package.module:"
    networks = ", ".join([*NETWORKS, *NETWORKS.aliases])
    add("--network", type=_list_of(str), metavar="LIST", help=f"{networks}, {own}Function")
    add("--method", type=_list_of(str), metavar="LIST", help=f"{', '.join(METHODS)}, {own}Tableau; "
        f"with --suite reversibility also {', '.join([PAIR, *ADAPTIVE])}")  # fmt: skip
    add("--Nt", type=_list_of(_count), metavar="LIST", help="time steps in each ODE block")
    gradients = ", ".join([BASELINE, *GRADIENTS])
    add("--gradient", type=_list_of(str), metavar="LIST", help=f"{gradients}, {own}Object; "
        "parameters stand after a colon, as in anode-revolve:m=2")  # fmt: skip
    add("--seeds", type=_list_of(_seed), metavar="LIST", help="the seeds themselves, as in 0,1,2")
    add("--lr", type=_rate, metavar="RATE", help="initial learning rate")
    add("--num_epochs", "--num-epochs", type=_count, metavar="N", help="epochs of each run")
    add("--batch_size", "--batch-size", type=_list_of(_count), metavar="N", help="training "
        "batch; with --suite growth a LIST")  # fmt: skip
    add("--train-images", type=_count, metavar="N", help="train on a fixed subset of so many")
    add("--test-images", type=_count, metavar="N", help="test on a fixed subset of so many")
    add("--precision", choices=PRECISIONS, help="default: float32, without TF32; bfloat16 is "
        "autocast; tf32 needs CUDA")  # fmt: skip
    group = parser.add_argument_group("where")
    add = group.add_argument
    add("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N")
    add("--data-dir", type=_folder, metavar="DIR", help="a folder of images (train/<class>/*, "
        "test/<class>/*) or of torchvision's files; without it the official data is downloaded "
        "to data/, but for smoke and suites that do not train, which generate images")  # fmt: skip
    add("--generated", action="store_true", help="use generated images instead of real ones")
    add("--out", type=_folder, default=Path("results"), metavar="DIR", help="default: results")
    add("--executor", choices=list(EXECUTORS), default="local", help="local (default): this "
        "machine; ray: a Ray cluster (docs/cluster.md)")  # fmt: skip
    add("--eager", action="store_true", help="do not capture training steps as CUDA graphs, which "
        "is done where the gradient method allows it")  # fmt: skip
    add("--jobs", type=_count, default=1, metavar="N", help="train so many at once, each in a "
        "process of its own, where one cannot fill the device; default: 1")  # fmt: skip
    add("--fresh", action="store_true", help="start over: what there is of the requested runs is "
        "moved aside, into a folder that is named")  # fmt: skip
    add("--tensorboard", action="store_true", help="also write what is observed for TensorBoard, "
        "to SUITE/tensorboard in the folder of results")  # fmt: skip
    return parser


def _list_of(item: Callable[[str], Value]) -> Callable[[str], tuple[Value, ...]]:
    def parse(text: str) -> tuple[Value, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise argparse.ArgumentTypeError(
                f"{text!r} is an empty list or has an empty entry: separate values by commas"
            )
        return tuple(dict.fromkeys(item(part) for part in parts))

    return parse


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= LARGEST:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no whole number from {least} to {LARGEST}: give one"
            )
        return value

    return parse


_count = _whole(1)
_seed = _whole(0)


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("'' is no run: give a name that --status shows")
    return text


def _folder(text: str) -> Path:
    try:
        is_name = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a file or folder: give one")
    return Path(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number: give one")
    return value
