"""``velox cancel-all``: cancel every order of the payer on the markets of a configuration."""

from __future__ import annotations

import argparse
import sys

from velox.cli.chain import add_market_options, needs_solana
from velox.cli.screen import FAILED, GOOD, Screen
from velox.cli.signals import Signals

__all__ = ["add_cancel_all"]


def add_cancel_all(parser: argparse.ArgumentParser) -> None:
    """Give ``velox cancel-all`` its options."""
    add_market_options(parser)
    parser.set_defaults(command=_cancel_all)


def _cancel_all(options: argparse.Namespace, signals: Signals) -> int:
    with needs_solana():
        from velox.cli.venue import cancel_all  # noqa: PLC0415 - loads slowly
    say = Screen(sys.stdout).say
    with signals.immediate():
        clean = cancel_all(options.config, number=options.market, dry_run=options.dry_run, say=say)
    return GOOD if clean else FAILED
