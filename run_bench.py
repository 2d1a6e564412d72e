"""Run a suite of experiments and draw its figures: python run_bench.py --suite NAME."""

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from bench import usage


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks and return the exit code."""
    text = usage.answer(sys.argv[1:] if arguments is None else arguments)
    if text is not None:
        print(text, end="")
        return 0
    return _execute(arguments)


def _execute(arguments: Sequence[str] | None) -> int:
    from bench.reporting import terminal

    console = terminal.console(sys.stdout)
    with terminal.busy(console, "loading PyTorch …"):  # which takes seconds
        from bench import cli, commands
    from bench.errors import BAD_USAGE, INTERRUPTED, UsageError, readable

    try:
        return commands.execute(cli.parse(arguments), console)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USAGE
    except OSError as error:  # of what is no record: the log, for example, on a full disk
        place = f" ({error.filename})" if error.filename else ""
        message = f"{error.strerror or error}{place}: fix this and run the same command again"
        print(f"error: {readable(message)}", file=sys.stderr)
        terminal.discard_unwritable(sys.stdout)
        return BAD_USAGE
    except KeyboardInterrupt:
        message = "finished runs are recorded, others have checkpoints: the same command continues"
        print(f"interrupted: {message}", file=sys.stderr)
        return INTERRUPTED


def command() -> NoReturn:
    """Run as a command of its own, anode-bench or run_bench.py."""
    if hasattr(signal, "SIGPIPE"):  # end quietly in `anode-bench --list | head`; Windows has none
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())


if __name__ == "__main__":
    command()
