"""The options of the commands that reach the chain, and of a run that submits its orders.

`velox.cli.submission` has the commands. It is loaded only when one runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import velox
from velox.cli.options import path
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

__all__ = [
    "add_localnet",
    "add_resume",
    "add_status",
    "add_submit",
    "add_tips",
    "destination_of",
    "files_of",
    "finish",
    "submission",
]


def add_submit(submit: argparse.ArgumentParser) -> None:
    """Give ``velox submit`` its options."""
    submit.add_argument(
        "path", type=path, metavar="BUNDLES.npy", help="bundles that --capture wrote"
    )
    submit.add_argument(
        "--submit",
        default="localnet",
        metavar="WHERE",
        help="where to send: localnet, or CONFIG.toml (localnet)",
    )
    submit.add_argument(
        "--journal",
        type=path,
        metavar="PATH",
        help="file of signed transactions (as in the configuration)",
    )
    submit.add_argument(
        "--again",
        action="store_true",
        help="send it again, even if the journal shows that it was begun",
    )
    _add_results(submit)
    submit.set_defaults(command=_submit)


def add_resume(resume: argparse.ArgumentParser) -> None:
    """Give ``velox resume`` its options."""
    resume.add_argument(
        "config", type=path, metavar="CONFIG.toml", help="the configuration that --submit named"
    )
    resume.add_argument(
        "--journal",
        type=path,
        metavar="PATH",
        help="file of signed transactions (as in the configuration)",
    )
    _add_results(resume)
    resume.set_defaults(command=_resume)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", type=path, metavar="PATH", help="write the ledger as JSON; '-' is stdout"
    )
    parser.add_argument("--quiet", action="store_true", help="suppress the line of each second")


def add_status(status: argparse.ArgumentParser) -> None:
    """Give ``velox status`` its options."""
    status.add_argument(
        "journal", type=path, metavar="JOURNAL", help="the journal that --journal named"
    )
    status.add_argument(
        "--config", type=path, metavar="CONFIG.toml", help="also ask the node of this configuration"
    )
    status.set_defaults(command=_status)


def add_tips(tips: argparse.ArgumentParser) -> None:
    """Give ``velox tips`` its options."""
    tips.add_argument(
        "config", type=path, metavar="CONFIG.toml", help="a configuration with a [block_engine]"
    )
    tips.set_defaults(command=_tips)


def add_localnet(parser: argparse.ArgumentParser) -> None:
    """Give ``velox localnet`` its options."""
    from velox.cli import local_cluster as localnet  # noqa: PLC0415 - loads slowly

    localnet.add_options(parser)
    parser.set_defaults(command=_localnet)


def destination_of(options: argparse.Namespace) -> Destination | None:
    """Return the destination of a run's orders; None if they are not submitted."""
    if options.submit is None:
        if options.journal is not None:
            raise ConfigError(f"journal = {options.journal!r}: only with --submit")
        return None
    if getattr(options, "capture", None) is not None:
        raise ConfigError(
            "--capture and --submit cannot be combined: capture first, then `velox submit FILE`"
        )
    return _destination(options.submit, options.journal)


def _destination(where: str, journal: str | None) -> Destination:
    with _extra():
        from velox.cli.submission import Destination  # noqa: PLC0415 - loads slowly
    return Destination(where, journal)


def files_of(destination: Destination | None) -> tuple[Files, Files]:
    """Return the files that a destination reads, and those that it writes."""
    return ([], []) if destination is None else (destination.read, destination.written)


@contextmanager
def submission(
    destination: Destination | None,
    options: argparse.Namespace,
    signals: Signals,
    screen: Screen,
) -> Iterator[PipelineRun | None]:
    """Open the submission of a run; None if its orders are not submitted."""
    if destination is None:
        yield None
        return
    with ExitStack() as stack:
        with signals.immediate():
            run = stack.enter_context(destination.run(_console(options, signals, screen)))
        yield run


@contextmanager
def _extra() -> Iterator[None]:
    """Turn an import error into a message that names what to install."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(str(error)) from error


def _console(options: argparse.Namespace, signals: Signals, screen: Screen) -> Console:
    with _extra():
        from velox.cli.submission import Console  # noqa: PLC0415 - loads slowly
    return Console(
        say=screen.say,
        warn=warn,
        # A reader of the output that goes away counts as one request to stop.
        requests=lambda: max(signals.requests, int(screen.broken)),
        quiet=options.quiet,
    )


def finish(run: SubmissionRun, report: Report, screen: Screen, errors: list[str]) -> dict[str, Any]:
    """Follow every order to its outcome, and print the ledger."""
    ledger, failed = run.finish()
    errors += failed
    screen.say("", *ledger.format().splitlines())
    for warning in run.warnings():
        warn(warning)
    try:
        ledger.check(delivered_transactions=report.ledger.delivered_transactions)
    except LedgerError as error:
        errors.append(str(error))
    return ledger.to_dict()


def _submit(options: argparse.Namespace, signals: Signals) -> int:
    destination = _destination(options.submit, options.journal)
    with _extra():
        from velox.cli.submission import submit  # noqa: PLC0415 - loads slowly

    def send(console: Console) -> SubmissionResult:
        return submit(options.path, destination, again=options.again, console=console)

    return _carry(send, options, signals, destination, [("bundles", options.path)])


def _resume(options: argparse.Namespace, signals: Signals) -> int:
    destination = _destination(options.config, options.journal)
    with _extra():
        from velox.cli.submission import resume  # noqa: PLC0415 - loads slowly

    def follow(console: Console) -> SubmissionResult:
        return resume(destination, console=console)

    return _carry(follow, options, signals, destination)


def _carry(
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
    with json_file(options.json) as file:
        result = command(_console(options, signals, screen))
        screen.say("", *result.ledger.format().splitlines())
        for warning in result.warnings:
            warn(warning)
        if file is not None:
            write_document({"velox": velox.__version__, "chain": result.ledger.to_dict()}, file)
    for error in result.failed:
        complain(error)
    return GOOD if result.complete else FAILED


def _status(options: argparse.Namespace, signals: Signals) -> int:
    with _extra():
        from velox.cli.submission import status  # noqa: PLC0415 - loads slowly
    with signals.immediate():
        status(options.journal, options.config, say=Screen(sys.stdout).say)
    return GOOD


def _tips(options: argparse.Namespace, signals: Signals) -> int:
    with _extra():
        from velox.cli.submission import tips  # noqa: PLC0415 - loads slowly
    with signals.immediate():
        tips(options.config, say=Screen(sys.stdout).say)
    return GOOD


def _localnet(options: argparse.Namespace, signals: Signals) -> int:
    from velox.cli import local_cluster as localnet  # noqa: PLC0415

    # A KeyboardInterrupt stops it in order.
    with signals.immediate():
        try:
            return localnet.run(options, Screen(sys.stdout).say)
        except ImportError as error:
            raise ConfigError(str(error)) from error
