"""Functions that ``run``, ``replay`` and the commands for the chain share.

`velox.cli.submission` does the work. It is loaded only when a command needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import velox
from velox.cli.options import count, path
from velox.cli.results import json_file, refuse_sharing
from velox.cli.screen import FAILED, GOOD, Screen, complain, warn
from velox.cli.signals import Signals
from velox.errors import ConfigError, LedgerError
from velox.runtime.report import Report
from velox.telemetry import write_document

if TYPE_CHECKING:
    from velox.cli.submission import (
        Console,
        Destination,
        Files,
        PipelineRun,
        SubmissionResult,
        SubmissionRun,
    )
    from velox.solana.assembly import Statement

__all__ = [
    "add_amounts",
    "add_journal_option",
    "add_market_options",
    "add_results",
    "carry",
    "destination",
    "destination_of",
    "files_of",
    "finish",
    "needs_solana",
    "submission",
]


def add_journal_option(parser: argparse._ActionsContainer) -> None:
    """Give a parser ``--journal`` and ``--reports``."""
    parser.add_argument(
        "--journal",
        type=path,
        metavar="PATH",
        help="the journal of what was signed (default: the configuration's)",
    )
    parser.add_argument(
        "--reports",
        type=path,
        metavar="FILE",
        help="write execution reports while it runs: .npy, or else one JSON object a line",
    )


def add_market_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of the commands for one market."""
    parser.add_argument(
        "config", type=path, metavar="CONFIG.toml", help="a configuration with a [[market]]"
    )
    parser.add_argument(
        "--market",
        type=count,
        metavar="N",
        help="the market with this velox_market, if there are several",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="simulate it on the node, and sign nothing"
    )


def add_amounts(parser: argparse.ArgumentParser) -> None:
    """Give a parser ``--base`` and ``--quote``."""
    for name in ("base", "quote"):
        parser.add_argument(
            f"--{name}",
            metavar="AMOUNT",
            help=f"how much of the {name} token, in its units, or 'all'",
        )


def add_results(parser: argparse.ArgumentParser) -> None:
    """Give a parser ``--json`` and ``--quiet``."""
    parser.add_argument(
        "--json", type=path, metavar="PATH", help="write the ledger as JSON; '-' is stdout"
    )
    parser.add_argument("--quiet", action="store_true", help="suppress the line of each second")


def destination_of(options: argparse.Namespace) -> Destination | None:
    """Return the destination of a run's orders; None if they are not submitted."""
    if options.submit is None:
        if options.journal is not None:
            raise ConfigError(f"journal = {options.journal!r}: only with --submit")
        if options.reports is not None:
            raise ConfigError(f"reports = {options.reports!r}: only with --submit")
        return None
    if getattr(options, "capture", None) is not None:
        raise ConfigError(
            "--capture and --submit cannot be combined: capture first, then `velox submit FILE`"
        )
    return destination(options.submit, options.journal, options.reports, forwards=True)


def destination(
    where: str,
    journal: str | None,
    reports: str | None = None,
    *,
    forwards: bool = False,
) -> Destination:
    """Return the destination that ``localnet…`` or a configuration's path names."""
    with needs_solana():
        from velox.cli.submission import Destination  # noqa: PLC0415 - loads slowly
    return Destination(where, journal, reports, forwards=forwards)


def files_of(destination: Destination | None) -> tuple[Files, Files]:
    """Return the files that a destination reads, and those that it writes."""
    return ([], []) if destination is None else (destination.read, destination.written)


@contextmanager
def submission(
    destination: Destination | None,
    options: argparse.Namespace,
    signals: Signals,
    screen: Screen,
    *,
    tells: bool,
) -> Iterator[PipelineRun | None]:
    """Open the submission of a run; None if its orders are not submitted.

    `tells` says whether the run's strategy takes reports.
    """
    if destination is None:
        yield None
        return
    with ExitStack() as stack:
        with signals.immediate():
            console = _console(options, signals, screen)
            run = stack.enter_context(destination.run(console, tells=tells))
        yield run


@contextmanager
def needs_solana() -> Iterator[None]:
    """Turn an import error into a message that names what to install."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(str(error)) from error


def _console(options: argparse.Namespace, signals: Signals, screen: Screen) -> Console:
    with needs_solana():
        from velox.cli.submission import Console  # noqa: PLC0415 - loads slowly
    return Console(
        say=screen.say,
        warn=warn,
        # If the reader of the output goes away, that counts as one request to stop.
        requests=lambda: max(signals.requests, int(screen.broken)),
        quiet=options.quiet,
    )


def finish(run: SubmissionRun, report: Report, screen: Screen, errors: list[str]) -> dict[str, Any]:
    """Follow every order to its outcome, and print the ledger and the venue's accounts."""
    ledger, failed = run.finish()
    errors += failed
    screen.say("", *ledger.format().splitlines(), *run.closing_lines())
    for warning in run.warnings():
        warn(warning)
    try:
        ledger.check(delivered_transactions=report.ledger.delivered_transactions)
    except LedgerError as error:
        errors.append(str(error))
    return ledger.to_dict() | _stated(run.statement(), screen, errors)


def _stated(statement: Statement | None, screen: Screen, errors: list[str]) -> dict[str, Any]:
    """Print what the accounts of the venue show; return it for JSON, under ``market``."""
    if statement is None:
        return {}
    screen.say("", *statement.format().splitlines())
    try:
        statement.check()
    except LedgerError as error:
        errors.append(str(error))
    return {"market": statement.to_dict()}


def carry(
    command: Callable[[Console], SubmissionResult],
    options: argparse.Namespace,
    signals: Signals,
    destination: Destination,
    inputs: Sequence[tuple[str, str]] = (),
) -> int:
    """Run a command that sends orders, print its result, and return the exit status."""
    read, written = files_of(destination)
    refuse_sharing([*written, ("json", options.json)], [*inputs, *read])
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    with json_file(options.json, signals) as file:
        result = command(_console(options, signals, screen))
        screen.say("", *result.ledger.format().splitlines(), *result.closing)
        for warning in result.warnings:
            warn(warning)
        errors = list(result.failed)
        chain = result.ledger.to_dict() | _stated(result.statement, screen, errors)
        if file is not None:
            write_document({"velox": velox.__version__, "chain": chain}, file)
    for error in errors:
        complain(error)
    return GOOD if result.complete and not errors else FAILED
