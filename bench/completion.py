"""Completion of the command line in a shell, as a script that it reads once."""

import argparse
from collections.abc import Sequence
from typing import Any

COMMAND = "anode-bench"
SHELLS = ("bash", "zsh")


def values_of(name: str, values: Sequence[str]) -> dict[str, Any]:
    """Completion of an option whose value is one of these, or several separated by commas."""
    function, words = f"_anode_bench_{name}", " ".join(values)
    bash = f"""
{function}() {{
  local before=""
  [[ $1 == *,* ]] && before="${{1%,*}},"
  compgen -P "$before" -W "{words}" -- "${{1##*,}}"
}}"""
    return {
        "bash": function,
        "zsh": f"_values -s , {name} {words}",
        "preamble": {"bash": bash},
    }


class PrintCompletion(argparse.Action):
    """Prints the script for a shell and exits. The attribute `complete` of an argument says how its
    value is completed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        import shtab

        parser.prog = COMMAND
        print(shtab.complete(parser, shell=values))
        parser.exit()
