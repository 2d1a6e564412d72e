"""The options of the command line, as data, and the values that each takes."""

import argparse
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import bench
from bench import completion
from bench.errors import UsageError
from bench.execution.executors import EXECUTORS
from bench.experiment import PRECISIONS
from bench.records import FIGURE_FORMATS
from bench.studies.reversibility import ADAPTIVE, PAIR
from bench.suites import DEFAULT_SUITE, SUITES
from models import BASELINE, NETWORKS
from solvers import GRADIENTS, METHODS

Value = TypeVar("Value")
Number = TypeVar("Number", int, float)
LARGEST = 2**31 - 1
LARGEST_FLOAT32 = 3.4e38


def _list_of(item: Callable[[str], Value]) -> Callable[[str], tuple[Value, ...]]:
    def parse(text: str) -> tuple[Value, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise argparse.ArgumentTypeError(
                f"{text!r} is an empty list or has an empty entry: separate values by commas"
            )
        return tuple(dict.fromkeys(item(part) for part in parts))

    return parse


def _parsed(
    kind: Callable[[str], Number], fits: Callable[[Number], bool], what: str
) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        with suppress(ValueError):
            value = kind(text)
            if fits(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}: give one")

    return parse


_count = _parsed(int, lambda n: 1 <= n <= LARGEST, f"whole number from 1 to {LARGEST}")
_seed = _parsed(int, lambda n: 0 <= n <= LARGEST, f"whole number from 0 to {LARGEST}")
_rate = _parsed(float, lambda r: 0 < r <= LARGEST_FLOAT32, "positive number that a float32 can be")
_fraction = _parsed(float, lambda f: 0 <= f < math.inf, "fraction, as 0.01 is for 1 %")


def _format(text: str) -> str:
    if text not in FIGURE_FORMATS:
        raise argparse.ArgumentTypeError(
            f"unknown format {text!r}: choose from {', '.join(FIGURE_FORMATS)}"
        )
    return text


def _name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("'' is no name: give one")
    return text


def _path(text: str) -> Path:
    return Path(_name(text))


class Option(NamedTuple):
    """An option; the fields from help to nargs are argparse's. type: None for a switch. completes:
    the values that a shell offers.

    A flag with underscores, the published spelling, may also be written with dashes.
    """

    flag: str
    help: str
    type: Callable[[str], Any] | None = None
    metavar: str | tuple[str, ...] | None = "LIST"
    default: Any = None
    choices: Sequence[str] | None = None
    nargs: int | None = None
    completes: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        flags = dict.fromkeys((self.flag, self.flag.replace("_", "-")))
        if self.type is None:
            parser.add_argument(*flags, help=self.help, action="store_true")
            return
        given = dict(zip(self._fields[1:-1], self[1:-1], strict=True))
        argument: Any = parser.add_argument(*flags, **given)
        if self.completes:
            argument.complete = completion.values_of(self.name, self.completes)
        elif self.type is _path:
            argument.complete = "file"


OWN = "or your own, as package.module:"

# fmt: off
MAIN = (
    Option("--suite", f"default: {DEFAULT_SUITE}; or your own: a file NAME.toml (docs/suites.md)",
        str, "NAME", DEFAULT_SUITE, completes=[*SUITES]),
    Option("--reference", "of --check: its file; default: results/reference/SUITE.csv", _path,
        "FILE"),
    Option("--estimate", "with --list: measure training steps, and print the time of each suite "
        "here"),
    Option("--fail-above", "of --compare: exit code 1 where a change for the worse exceeds this "
        "fraction, for example 0.01", _fraction, "FRACTION"),
)
"""The suite, and what belongs to one of the actions."""

ACTIONS = (
    Option("--list", "print the suites, their runs, and how many of these are recorded"),
    Option("--dry-run", "print the names of the suite's runs and their number, and run nothing"),
    Option("--status", "print what of the suite is done, running, stopped, failed and left"),
    Option("--reproduce", "run a recorded experiment of the suite again (RUN: its name, or its "
        "folder) and say whether it came out the same; exit code 1 where it did not", _name,
        "RUN"),
    Option("--plots-only", "draw the figures and the report again from what is recorded"),
    Option("--report", "the same for all suites in the folder of results, in one report.html "
        "there; with --suite for that one"),
    Option("--check", "of gradients, memory and cost: measure a fixed set and compare it with the "
        "reference; exit code 1 where they differ"),
    Option("--update-reference", "write that reference anew"),
    Option("--compare", "compare two folders of results, before and after: the differences, and "
        "whether they are more than noise; --out DIR also writes compare.md and compare.csv there",
        _path, ("A", "B"), nargs=2),
)
"""The options that do something else than running the suite."""

OVERRIDES = (
    Option("--network", f"{', '.join([*NETWORKS, *NETWORKS.aliases])}, {OWN}Function",
        _list_of(str), completes=[*NETWORKS]),
    Option("--method", f"{', '.join(METHODS)}, {OWN}Tableau; with --suite reversibility also "
        f"{', '.join([PAIR, *ADAPTIVE])}", _list_of(str),
        completes=[*METHODS, PAIR, *ADAPTIVE]),
    Option("--Nt", "time steps in each ODE block", _list_of(_count)),
    Option("--gradient", f"{', '.join([BASELINE, *GRADIENTS])}, {OWN}Object; parameters stand "
        "after a colon, as in anode-revolve:m=2", _list_of(str),
        completes=[BASELINE, *GRADIENTS]),
    Option("--seeds", "the seeds themselves, as in 0,1,2", _list_of(_seed)),
    Option("--lr", "initial learning rate", _rate, "RATE"),
    Option("--num_epochs", "epochs of each run", _count, "N"),
    Option("--batch_size", "training batch; with --suite growth a LIST", _list_of(_count), "N"),
    Option("--train-images", "train on a fixed subset of N images", _count, "N"),
    Option("--test-images", "test on a fixed subset of N images", _count, "N"),
    Option("--precision", "default: float32, without TF32; bfloat16 is autocast; tf32 needs CUDA",
        str, None, choices=PRECISIONS),
)
"""The options that replace fields of a suite, where its `options` names them."""

WHERE = (
    Option("--device", "auto (CUDA where there is one), cpu, cuda or cuda:N", str, "DEVICE",
        "auto"),
    Option("--data-dir", "a folder of images (train/<class>/*, test/<class>/*) or of "
        "torchvision's files; without it the official data is downloaded to data/, except for "
        "smoke and studies, which generate images", _path, "DIR"),
    Option("--generated", "use generated images instead of real ones"),
    Option("--out", "folder of results; default: results", _path, "DIR", Path("results")),
    Option("--format", f"of figures and tables: {', '.join(FIGURE_FORMATS)} (tables as LaTeX); "
        "default: png,svg", _list_of(_format), default=("png", "svg")),
    Option("--executor", "local (default): this machine; ray: a Ray cluster (docs/cluster.md)",
        str, None, "local", choices=list(EXECUTORS)),
    Option("--eager", "do not capture training steps as CUDA graphs, which is done where the "
        "gradient method allows it"),
    Option("--jobs", "train N runs at once, each in a process of its own, where one cannot fill "
        "the device; default: 1", _count, "N", 1),
    Option("--fresh", "start over: what is recorded of the requested runs is moved to another "
        "folder, which is named"),
    Option("--tensorboard", "also write what is observed for TensorBoard, to SUITE/tensorboard in "
        "the folder of results"),
)
# fmt: on


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The values of a command line; `given` has the names of the options that were given one.

    Raises UsageError for an unknown option or a value that its option cannot have.
    """
    return parser().parse_args(arguments, argparse.Namespace(given=set()))


def parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    options = _Parser(
        prog="run_bench.py",
        allow_abbrev=False,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=80),
        description="Train the same networks with different gradient methods for their ODE blocks "
        "and compare.",
        epilog="suites:\n" + "\n".join(f"  {s.name:14} {s.description}" for s in SUITES.values()),
    )
    options.register("action", None, _Once)
    options.add_argument("--version", action="version", version=f"anode-bench {bench.__version__}")
    options.add_argument(
        "--print-completion",
        action=completion.PrintCompletion,
        choices=completion.SHELLS,
        help="print a script with which a shell completes options and names (docs/install.md)",
    )
    for group, members in (
        (options, MAIN),
        (options.add_mutually_exclusive_group(), ACTIONS),
        (
            options.add_argument_group("overrides of the suite (LIST: separated by commas)"),
            OVERRIDES,
        ),
        (options.add_argument_group("where and how"), WHERE),
    ):
        for option in members:
            option.add_to(group)
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (--help shows the options)")


class _Once(argparse.Action):
    """Store a value; refuse a second one, and none, which argparse makes of `--option=--`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        if self.dest in namespace.given:
            raise argparse.ArgumentError(self, "it is given twice: give it once")
        if values == []:
            raise argparse.ArgumentError(self, "expected a value")
        namespace.given.add(self.dest)
        setattr(namespace, self.dest, values)


if __name__ == "__main__":  # python -m bench.options > bench/help.txt
    print(parser().format_help(), end="")
