"""``velox deposit``: move tokens of the payer into a market."""

from __future__ import annotations

import argparse
import sys

from velox.cli.chain import add_amounts, add_market_options, needs_solana
from velox.cli.screen import FAILED, GOOD, Screen
from velox.cli.signals import Signals

__all__ = ["add_deposit"]


def add_deposit(parser: argparse.ArgumentParser) -> None:
    """Give ``velox deposit`` its options."""
    add_market_options(parser)
    add_amounts(parser)
    parser.set_defaults(command=_deposit)


def _deposit(options: argparse.Namespace, signals: Signals) -> int:
    with needs_solana():
        from velox.cli.venue import fund  # noqa: PLC0415 - loads slowly
    with signals.immediate():
        done = fund(
            options.config,
            number=options.market,
            base=options.base,
            quote=options.quote,
            withdraws=False,
            dry_run=options.dry_run,
            say=Screen(sys.stdout).say,
        )
    return GOOD if done else FAILED
