"""``velox tips``: show a block engine's tip accounts and the tips that landed."""

from __future__ import annotations

import argparse
import sys

from velox.cli.chain import needs_solana
from velox.cli.options import path
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals

__all__ = ["add_tips"]


def add_tips(tips: argparse.ArgumentParser) -> None:
    """Give ``velox tips`` its options."""
    tips.add_argument(
        "config", type=path, metavar="CONFIG.toml", help="a configuration with a [block_engine]"
    )
    tips.set_defaults(command=_tips)


def _tips(options: argparse.Namespace, signals: Signals) -> int:
    with needs_solana():
        from velox.cli.submission import tips  # noqa: PLC0415 - loads slowly
    with signals.immediate():
        tips(options.config, say=Screen(sys.stdout).say)
    return GOOD
