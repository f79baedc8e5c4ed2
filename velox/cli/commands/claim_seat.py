"""``velox claim-seat``: claim a seat for the payer on a market."""

from __future__ import annotations

import argparse
import sys

from velox.cli.chain import add_market_options, needs_solana
from velox.cli.screen import FAILED, GOOD, Screen
from velox.cli.signals import Signals

__all__ = ["add_claim_seat"]


def add_claim_seat(parser: argparse.ArgumentParser) -> None:
    """Give ``velox claim-seat`` its options."""
    add_market_options(parser)
    parser.set_defaults(command=_claim_seat)


def _claim_seat(options: argparse.Namespace, signals: Signals) -> int:
    with needs_solana():
        from velox.cli.venue import claim  # noqa: PLC0415 - loads slowly
    say = Screen(sys.stdout).say
    with signals.immediate():
        done = claim(options.config, number=options.market, dry_run=options.dry_run, say=say)
    return GOOD if done else FAILED
