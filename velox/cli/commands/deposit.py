"""``velox deposit``: move tokens of the payer into a market."""

from __future__ import annotations

import argparse

from velox.cli.funds import add_funds

__all__ = ["add_deposit"]


def add_deposit(parser: argparse.ArgumentParser) -> None:
    """Give ``velox deposit`` its options."""
    add_funds(parser, withdraws=False)
