"""The command line, made into one validated request."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from bench.errors import UsageError
from bench.experiment import Experiment
from bench.laboratory import GradientCase
from bench.suites import DEFAULT_SUITE, SUITES, GradientSuite, Suite
from models import BASELINE, NETWORKS
from solvers import GRADIENTS, METHODS

Action = Literal["run", "list", "plots-only"]
GradientAction = Literal["run", "check", "update-reference", "plots-only"]
Value = TypeVar("Value")

LARGEST = 2**31 - 1
REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "gradients.csv"


@dataclass(frozen=True)
class Request:
    """What the person wants. suite has the overrides in it, and experiments are its runs.

    data_dir None with generated False means the official data set, downloaded where needed.
    device is a name for `environment.find_device`.
    """

    action: Action
    suite: Suite
    experiments: tuple[Experiment, ...]
    data_dir: Path | None
    generated: bool
    device: str
    out: Path


@dataclass(frozen=True)
class GradientRequest:
    """What the person wants of a suite that trains nothing. reference is the gate's file."""

    action: GradientAction
    suite: GradientSuite
    cases: tuple[GradientCase, ...]
    device: str
    out: Path
    reference: Path


def parse(arguments: Sequence[str] | None = None) -> Request | GradientRequest:
    """The request of a command line.

    Raises UsageError, saying what to do, for anything that cannot be asked; exits for --help.
    """
    options = _parser().parse_args(arguments)
    if os.getcwd() not in sys.path:  # for package.module:Object of one's own
        sys.path.append(os.getcwd())
    try:
        suite = SUITES.resolve(options.suite)
        if isinstance(suite, GradientSuite) and not options.list:
            return _gradient_request(options, suite)
        if options.check or options.update_reference:
            raise ValueError(f"the suite {suite.name} has no reference: use --suite gradients")
        if isinstance(suite, GradientSuite):
            suite = _training_suite(DEFAULT_SUITE)
        suite = suite.replaced(
            networks=options.network,
            methods=options.method,
            n_steps=options.Nt,
            gradients=options.gradient,
            seeds=options.seeds,
            lr=options.lr,
            num_epochs=options.num_epochs,
            batch_size=options.batch_size,
            train_images=options.train_images,
            test_images=options.test_images,
        )
        experiments = suite.experiments()
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.generated and options.data_dir:
        raise UsageError("--generated and --data-dir exclude each other: give one of them")
    return Request(
        action="list" if options.list else "plots-only" if options.plots_only else "run",
        suite=suite,
        experiments=experiments,
        data_dir=options.data_dir,
        generated=options.generated or (suite.generated and options.data_dir is None),
        device=options.device,
        out=options.out,
    )


def _training_suite(name: str) -> Suite:
    suite = SUITES[name]
    assert isinstance(suite, Suite), f"{name} is a training suite"
    return suite


def _gradient_request(options: argparse.Namespace, suite: GradientSuite) -> GradientRequest:
    of_training = {
        "--seeds": options.seeds,
        "--lr": options.lr,
        "--num_epochs": options.num_epochs,
        "--batch_size": options.batch_size,
        "--train-images": options.train_images,
        "--test-images": options.test_images,
        "--data-dir": options.data_dir,
    }
    given = [name for name, value in of_training.items() if value is not None]
    if given:
        raise ValueError(f"the suite {suite.name} trains nothing: leave out {', '.join(given)}")
    chosen = (options.network, options.method, options.Nt, options.gradient)
    if options.update_reference and any(value is not None for value in chosen):
        raise ValueError("--update-reference writes the whole reference: give no other choice")
    suite = suite.replaced(
        networks=options.network,
        methods=options.method,
        check_methods=options.method,
        n_steps=options.Nt,
        check_n_steps=options.Nt,
        gradients=options.gradient,
    )
    gate = options.check or options.update_reference
    return GradientRequest(
        action="check"
        if options.check
        else "update-reference"
        if options.update_reference
        else "plots-only"
        if options.plots_only
        else "run",
        suite=suite,
        cases=suite.check_cases() if gate else suite.cases(),
        device=options.device,
        out=options.out,
        reference=options.reference,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (--help shows the options)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_bench.py",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train the same networks with different gradient methods for their ODE blocks "
        "and compare.",
        epilog="suites:\n" + "\n".join(f"  {s.name:14} {s.description}" for s in SUITES.values()),
    )
    add = parser.add_argument
    add("--suite", default=DEFAULT_SUITE, metavar="NAME", help=f"default: {DEFAULT_SUITE}")
    add("--list", action="store_true", help="print the suites, their runs and their time here")
    add("--plots-only", action="store_true", help="draw the figures again from what is recorded")
    add("--check", action="store_true", help="with --suite gradients: measure its fixed set and "
        "compare it with the reference; exit code 1 where it is not what it must be")  # fmt: skip
    add("--update-reference", action="store_true", help="write that reference anew")
    add("--reference", type=_folder, default=REFERENCE, metavar="FILE", help="where it is")
    group = parser.add_argument_group(
        "overrides of the suite (LIST: separated by commas)",
    )
    add = group.add_argument
    own = "or your own, as package.module:"
    networks = ", ".join([*NETWORKS, *NETWORKS.aliases])
    add("--network", type=_list_of(str), metavar="LIST", help=f"{networks}, {own}Function")
    add("--method", type=_list_of(str), metavar="LIST", help=f"{', '.join(METHODS)}, {own}Tableau")
    add("--Nt", type=_list_of(_count), metavar="LIST", help="time steps in each ODE block")
    gradients = ", ".join([BASELINE, *GRADIENTS])
    add("--gradient", type=_list_of(str), metavar="LIST", help=f"{gradients}, {own}Object; "
        "parameters stand after a colon, as in anode-revolve:m=2")  # fmt: skip
    add("--seeds", type=_list_of(_seed), metavar="LIST", help="the seeds themselves, as in 0,1,2")
    add("--lr", type=_rate, metavar="RATE", help="initial learning rate")
    add("--num_epochs", "--num-epochs", type=_count, metavar="N", help="epochs of each run")
    add("--batch_size", "--batch-size", type=_count, metavar="N", help="training batch")
    add("--train-images", type=_count, metavar="N", help="train on a fixed subset of so many")
    add("--test-images", type=_count, metavar="N", help="test on a fixed subset of so many")
    group = parser.add_argument_group("where")
    add = group.add_argument
    add("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N")
    add("--data-dir", type=_folder, metavar="DIR", help="a folder of images (train/<class>/*, "
        "test/<class>/*) or of torchvision's files; without it the official data is downloaded "
        "to data/, but for smoke, which generates its images")  # fmt: skip
    add("--generated", action="store_true", help="use generated images instead of real ones")
    add("--out", type=_folder, default=Path("results"), metavar="DIR", help="default: results")
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


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("'' is no folder: give one")
    return Path(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number: give one")
    return value
