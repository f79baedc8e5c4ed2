"""``velox withdraw``: move the payer's free tokens out of a market."""

from __future__ import annotations

import argparse

from velox.cli.funds import add_funds

__all__ = ["add_withdraw"]


def add_withdraw(parser: argparse.ArgumentParser) -> None:
    """Give ``velox withdraw`` its options."""
    add_funds(parser, withdraws=True)
