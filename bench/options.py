"""The options, and which values each takes."""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from bench.errors import UsageError
from bench.execution.executors import EXECUTORS
from bench.experiment import PRECISIONS
from bench.studies.reversibility import ADAPTIVE, PAIR
from bench.suites import DEFAULT_SUITE, SUITES
from models import BASELINE, NETWORKS
from solvers import GRADIENTS, METHODS

Value = TypeVar("Value")

LARGEST = 2**31 - 1
LARGEST_RATE = 3.4e38


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line gives. Raises UsageError for what is no option, or no value of its
    option; exits for --help."""
    return parser().parse_args(arguments, _Given())


def parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    options = _Parser(
        prog="run_bench.py",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train the same networks with different gradient methods for their ODE blocks "
        "and compare.",
        epilog="suites:\n" + "\n".join(f"  {s.name:14} {s.description}" for s in SUITES.values()),
    )
    options.register("action", None, _Once)
    add = options.add_argument
    add("--suite", default=DEFAULT_SUITE, metavar="NAME", help=f"default: {DEFAULT_SUITE}")
    actions = options.add_mutually_exclusive_group()
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
    add = options.add_argument
    add("--reference", type=_folder, metavar="FILE", help="where it is; default: "
        "results/reference/SUITE.csv")  # fmt: skip
    group = options.add_argument_group(
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
    group = options.add_argument_group("where")
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
    return options


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
    if not 0 < value <= LARGEST_RATE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no positive number that a float32 can be: give one"
        )
    return value
