"""``velox resume``: follow the orders that an earlier run or submit left unresolved."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from velox.cli.chain import add_journal_option, add_results, carry, destination, needs_solana
from velox.cli.options import path
from velox.cli.signals import Signals

if TYPE_CHECKING:
    from velox.cli.submission import Console, SubmissionResult

__all__ = ["add_resume"]


def add_resume(resume: argparse.ArgumentParser) -> None:
    """Give ``velox resume`` its options."""
    resume.add_argument(
        "config", type=path, metavar="CONFIG.toml", help="the configuration that --submit named"
    )
    add_journal_option(resume)
    add_results(resume)
    resume.set_defaults(command=_resume)


def _resume(options: argparse.Namespace, signals: Signals) -> int:
    to = destination(options.config, options.journal, options.reports)
    with needs_solana():
        from velox.cli.submission import resume  # noqa: PLC0415 - loads slowly

    def follow(console: Console) -> SubmissionResult:
        return resume(to, console=console)

    return carry(follow, options, signals, to)
