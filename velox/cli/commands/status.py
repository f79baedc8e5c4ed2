"""``velox status``: show the contents of a submission journal."""

from __future__ import annotations

import argparse
import sys

from velox.cli.chain import needs_solana
from velox.cli.options import path
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals

__all__ = ["add_status"]


def add_status(status: argparse.ArgumentParser) -> None:
    """Give ``velox status`` its options."""
    status.add_argument(
        "journal", type=path, metavar="JOURNAL", help="the journal that --journal named"
    )
    status.add_argument(
        "--config", type=path, metavar="CONFIG.toml", help="also ask the node of this configuration"
    )
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace, signals: Signals) -> int:
    with needs_solana():
        from velox.cli.submission import status  # noqa: PLC0415 - loads slowly
    with signals.immediate():
        status(options.journal, options.config, say=Screen(sys.stdout).say)
    return GOOD
