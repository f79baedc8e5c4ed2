"""``velox localnet``: serve a local Solana cluster and block engine."""

from __future__ import annotations

import argparse
import sys

from velox.cli import local_cluster
from velox.cli.screen import Screen
from velox.cli.signals import Signals
from velox.errors import ConfigError

__all__ = ["add_localnet"]


def add_localnet(parser: argparse.ArgumentParser) -> None:
    """Give ``velox localnet`` its options."""
    local_cluster.add_options(parser)
    parser.set_defaults(command=_localnet)


def _localnet(options: argparse.Namespace, signals: Signals) -> int:
    # A KeyboardInterrupt stops it in order.
    with signals.immediate():
        try:
            return local_cluster.run(options, Screen(sys.stdout).say)
        except ImportError as error:
            raise ConfigError(str(error)) from error
