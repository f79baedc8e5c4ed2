"""What ``velox deposit`` and ``velox withdraw`` share: they move tokens, one each way."""

from __future__ import annotations

import argparse
import sys

from velox.cli.chain import add_amounts, add_market_options, needs_solana
from velox.cli.screen import FAILED, GOOD, Screen
from velox.cli.signals import Signals

__all__ = ["add_funds"]


def add_funds(parser: argparse.ArgumentParser, *, withdraws: bool) -> None:
    """Give a command that moves tokens its options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    withdraws : bool
        Whether the tokens leave the market.
    """
    add_market_options(parser)
    add_amounts(parser)
    parser.set_defaults(command=_fund, withdraws=withdraws)


def _fund(options: argparse.Namespace, signals: Signals) -> int:
    with needs_solana():
        from velox.cli.venue import fund  # noqa: PLC0415 - loads slowly
    with signals.immediate():
        done = fund(
            options.config,
            number=options.market,
            base=options.base,
            quote=options.quote,
            withdraws=options.withdraws,
            dry_run=options.dry_run,
            say=Screen(sys.stdout).say,
        )
    return GOOD if done else FAILED
