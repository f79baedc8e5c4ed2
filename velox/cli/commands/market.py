"""``velox market``: show the book, the seat, the balances and the orders of the payer."""

from __future__ import annotations

import argparse
import sys

from velox.cli.chain import needs_solana
from velox.cli.options import count, path
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals

__all__ = ["add_market"]


def add_market(parser: argparse.ArgumentParser) -> None:
    """Give ``velox market`` its options."""
    parser.add_argument(
        "config", type=path, metavar="CONFIG.toml", help="a configuration with a [[market]]"
    )
    parser.add_argument(
        "--depth",
        type=count,
        default=10,
        metavar="N",
        help="orders to show on each side (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="for symmetry: this command never signs anything"
    )
    parser.set_defaults(command=_market)


def _market(options: argparse.Namespace, signals: Signals) -> int:
    with needs_solana():
        from velox.cli.venue import show  # noqa: PLC0415 - loads slowly
    with signals.immediate():
        show(options.config, depth=options.depth, say=Screen(sys.stdout).say)
    return GOOD
