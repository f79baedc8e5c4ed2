"""``velox submit``: send the orders of a capture to Solana."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from velox.cli.chain import (
    add_journal_option,
    add_results,
    carry,
    destination,
    needs_solana,
)
from velox.cli.options import path
from velox.cli.signals import Signals
from velox.runtime.markets import refuse_other_scales
from velox.runtime.sidecar import markets_of_capture

if TYPE_CHECKING:
    from velox.cli.submission import Console, SubmissionResult

__all__ = ["add_submit"]


def add_submit(submit: argparse.ArgumentParser) -> None:
    """Give ``velox submit`` its options."""
    submit.add_argument(
        "path", type=path, metavar="BUNDLES.npy", help="bundles that --capture wrote"
    )
    submit.add_argument(
        "--submit",
        default="localnet",
        metavar="WHERE",
        help="where to send: localnet, localnet:memo, or CONFIG.toml (default: %(default)s)",
    )
    add_journal_option(submit)
    submit.add_argument(
        "--again",
        action="store_true",
        help="send it again, even if the journal shows that it was begun",
    )
    add_results(submit)
    submit.set_defaults(command=_submit)


def _submit(options: argparse.Namespace, signals: Signals) -> int:
    refuse_other_scales(markets_of_capture(options.path) or (), field="submit")
    to = destination(options.submit, options.journal, options.reports, forwards=True)
    with needs_solana():
        from velox.cli.submission import submit  # noqa: PLC0415 - loads slowly

    def send(console: Console) -> SubmissionResult:
        return submit(options.path, to, again=options.again, console=console)

    return carry(send, options, signals, to, [("bundles", options.path)])
