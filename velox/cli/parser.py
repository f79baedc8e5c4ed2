"""The commands, and the parser of their options.

Only the module of the given command is loaded. A run does not wait for the feeds, the benchmarks or
the chain.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import velox
from velox.cli.screen import STDOUT, UNUSABLE
from velox.telemetry.files import naming

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["COMMANDS", "parse", "parsers"]

# What each command does. Each command has a module of its name in `velox.cli.commands`, with a
# function `add_NAME`; a hyphen becomes an underscore.
COMMANDS = {
    "run": "Run the pipeline on synthetic flow; the default command.",
    "replay": "Run the pipeline on recorded market data.",
    "convert": "Write recorded market data to a file that loads at once.",
    "generate": "Write synthetic flow to a file for replay.",
    "recover": "Repair a capture that a kill cut off.",
    "submit": "Send the orders of a capture to Solana.",
    "resume": "Follow the orders that an earlier run or submit left unresolved.",
    "status": "Show the contents of a submission journal.",
    "market": "Show a market's book, and the payer's seat, balances and orders.",
    "claim-seat": "Claim a seat for the payer on a market.",
    "deposit": "Move tokens of the payer into a market.",
    "withdraw": "Move the payer's free tokens out of a market.",
    "cancel-all": "Cancel every order of the payer on the markets of a configuration.",
    "tips": "Show a block engine's tip accounts and the tips that landed.",
    "localnet": "Serve a local Solana cluster and block engine on 127.0.0.1.",
    "bench": "Measure the cost of each part on this machine.",
    "hiccups": "Measure how long the host interrupts each CPU.",
    "report": "Make a page of one or several runs, for a browser.",
    "diff": "Compare runs: by how much each figure differs.",
    "kill": "Block every order of the runs that use a kill switch.",
    "monitoring": "Print the Grafana dashboard, or Prometheus's alert rules.",
    "doctor": "Examine this host, and name what makes latencies long.",
}

EXAMPLES = """\
examples:
  velox                                              10 s of synthetic flow at 100 000/s
  velox run --rate max --placement paired --cpus 0,1 --json run.json
  velox replay data/lobster --depth 30 --verify
  velox convert data/btcusdt.gz -o btcusdt.npy
  velox generate --count 1000000 --seed 7 -o flow.npy
  velox replay flow.npy --speed 1.0 --repeat 3 --capture bundles.npy
  velox bench --json bench.json
  velox hiccups --duration 10 --cpus 0-1

exit status: 0 good, 1 a check or a stage failed, 2 bad usage or bad input,
130 interrupted before there was anything to report.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command and its options. Without a command, ``run`` is meant.

    Parameters
    ----------
    arguments : sequence of str

    Returns
    -------
    argparse.Namespace
        The options, and `command`: a function that takes them and the `Signals`, and returns an
        exit status.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, and for usage errors.
    """
    given = list(arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, "run")
    parser, asked = parsers(given[0])
    options, unknown = parser.parse_known_args(given)
    if unknown:
        asked.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line that names the fault, and exit."""
        self.exit(UNUSABLE, f"velox: error: {message}; see '{self.prog} --help'\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print a help text, or fail if it cannot be written: argparse would not say so."""
        if message and file is sys.stdout and sys.stdout is not None:
            with naming(STDOUT):
                print(message, end="", flush=True)
        else:
            super()._print_message(message, file)


def parsers(asked: str) -> tuple[_Parser, _Parser]:
    """Return the parser of all commands, and the parser of the given command."""
    parser = _Parser(
        prog="velox",
        description="A lock-free transaction pipeline: ingress, order book, bundles, output.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"velox {velox.__version__}")
    chosen = parser
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, prog=f"velox {name}", allow_abbrev=False
        )
        if name == asked:
            module = name.replace("-", "_")
            getattr(import_module(f"velox.cli.commands.{module}"), f"add_{module}")(command)
            chosen = command
    return parser, chosen
