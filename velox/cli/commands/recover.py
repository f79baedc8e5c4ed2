"""``velox recover``: repair a capture that a kill cut off."""

from __future__ import annotations

import argparse
import sys

from velox.cli.options import path
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.runtime.capture import recover_capture

__all__ = ["add_recover"]


def add_recover(recover: argparse.ArgumentParser) -> None:
    """Give ``velox recover`` its options."""
    recover.add_argument(
        "path", type=path, metavar="PATH", help="the file that --capture was writing"
    )
    recover.set_defaults(command=_recover)


def _recover(options: argparse.Namespace, signals: Signals) -> int:
    bundles = recover_capture(options.path)
    Screen(sys.stdout).say(f"{options.path}: {bundles} bundles")
    return GOOD
