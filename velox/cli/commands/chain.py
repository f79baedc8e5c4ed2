"""The commands that reach the chain, and the way there of a run.

What they do is `velox.cli.submission`'s; it is loaded once it is known to be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import velox
from velox.cli.options import path
from velox.cli.results import json_file, refuse_sharing
from velox.cli.screen import FAILED, GOOD, Screen, complain, warn
from velox.cli.signals import Signals
from velox.errors import ConfigError, LedgerError
from velox.runtime.report import Report
from velox.telemetry import write_document

__all__ = [
    "add_localnet",
    "add_resume",
    "add_status",
    "add_submit",
    "add_tips",
    "files_of",
    "finish",
    "submission",
]


def add_submit(submit: argparse.ArgumentParser) -> None:
    """Give ``velox submit`` its options."""
    submit.add_argument("path", type=path, metavar="BUNDLES.npy", help="what --capture wrote")
    submit.add_argument(
        "--submit", default="localnet", metavar="WHERE", help="localnet, or CONFIG.toml (localnet)"
    )
    submit.add_argument(
        "--journal", type=path, metavar="PATH", help="what was signed; the configuration's"
    )
    submit.add_argument(
        "--again", action="store_true", help="send it also if the journal has begun it before"
    )
    _add_results(submit)
    submit.set_defaults(command=_submit)


def add_resume(resume: argparse.ArgumentParser) -> None:
    """Give ``velox resume`` its options."""
    resume.add_argument("config", type=path, metavar="CONFIG.toml", help="what --submit named")
    resume.add_argument(
        "--journal", type=path, metavar="PATH", help="what was signed; the configuration's"
    )
    _add_results(resume)
    resume.set_defaults(command=_resume)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=path, metavar="PATH", help="write the ledger; '-' is stdout")
    parser.add_argument("--quiet", action="store_true", help="no line a second")


def add_status(status: argparse.ArgumentParser) -> None:
    """Give ``velox status`` its options."""
    status.add_argument("journal", type=path, metavar="JOURNAL", help="what --journal named")
    status.add_argument("--config", type=path, metavar="CONFIG.toml", help="ask its node, too")
    status.set_defaults(command=_status)


def add_tips(tips: argparse.ArgumentParser) -> None:
    """Give ``velox tips`` its options."""
    tips.add_argument("config", type=path, metavar="CONFIG.toml", help="with a [block_engine]")
    tips.set_defaults(command=_tips)


def add_localnet(parser: argparse.ArgumentParser) -> None:
    """Give ``velox localnet`` its options."""
    from velox.cli import local_cluster as localnet  # noqa: PLC0415 - only where it is used

    localnet.add_options(parser)
    parser.set_defaults(command=_localnet)


def files_of(
    where: str | None, journal: str | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Name the files that the way to the chain reads, and those that it writes."""
    return ([], []) if where is None else _chain().files_of(where, journal)


@contextmanager
def submission(options: argparse.Namespace, signals: Signals, screen: Screen) -> Iterator[Any]:
    """The way to the chain, where one is asked for."""
    if options.submit is None:
        if options.journal is not None:
            raise ConfigError(f"journal = {options.journal!r}: only with --submit")
        yield None
        return
    if options.capture is not None:
        raise ConfigError("capture and submit: a run has one output; 'velox submit' sends captures")
    with ExitStack() as stack:
        with signals.immediate():
            person = _person(options, signals, screen)
            opened = _chain().submission(options.submit, options.journal, person)
            submitting = stack.enter_context(opened)
        yield submitting


def _chain() -> Any:
    """The commands that reach the chain; what they need may not be installed."""
    try:
        from velox.cli import submission as command  # noqa: PLC0415 - and it takes long to load
    except ImportError as error:
        raise ConfigError(str(error)) from error
    return command


def _person(options: argparse.Namespace, signals: Signals, screen: Screen) -> Any:
    return _chain().Console(
        say=screen.say,
        warn=warn,
        # A reader that goes away asks once, and takes with it who else would have.
        requests=lambda: max(signals.requests, int(screen.broken)),
        quiet=options.quiet,
    )


def finish(submitting: Any, report: Report, screen: Screen, errors: list[str]) -> dict[str, Any]:
    """Follow what was sent to its end, and say what it came to."""
    ledger, failed = submitting.finish()
    errors += failed
    screen.say("", *ledger.format().splitlines())
    for warning in submitting.warnings():
        warn(warning)
    try:
        ledger.check(delivered_transactions=report.ledger.delivered_transactions)
    except LedgerError as error:
        errors.append(str(error))
    result: dict[str, Any] = ledger.to_dict()
    return result


def _submit(options: argparse.Namespace, signals: Signals) -> int:
    def send(person: Any) -> Any:
        return _chain().submit(
            options.path, options.submit, options.journal, again=options.again, person=person
        )

    ledger, failed = _carry(send, options, signals, options.submit, [("bundles", options.path)])
    return GOOD if ledger.balanced and not failed and not ledger.unknown else FAILED


def _resume(options: argparse.Namespace, signals: Signals) -> int:
    def follow(person: Any) -> Any:
        return _chain().resume(options.config, options.journal, person=person)

    ledger, failed = _carry(follow, options, signals, options.config)
    return GOOD if ledger.balanced and not failed and not ledger.unknown else FAILED


def _carry(
    command: Callable[[Any], Any],
    options: argparse.Namespace,
    signals: Signals,
    where: str,
    inputs: Sequence[tuple[str, str]] = (),
) -> tuple[Any, list[str]]:
    """Let a command carry orders, and say what it came to; return the ledger, and what failed."""
    read, written = files_of(where, options.journal)
    refuse_sharing([*written, ("json", options.json)], [*inputs, *read])
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    with json_file(options.json) as file:
        ledger, warnings, failed = command(_person(options, signals, screen))
        screen.say("", *ledger.format().splitlines())
        for warning in warnings:
            warn(warning)
        if file is not None:
            write_document({"velox": velox.__version__, "chain": ledger.to_dict()}, file)
    for error in failed:
        complain(error)
    return ledger, failed


def _status(options: argparse.Namespace, signals: Signals) -> int:
    with signals.immediate():
        _chain().status(options.journal, options.config, say=Screen(sys.stdout).say)
    return GOOD


def _tips(options: argparse.Namespace, signals: Signals) -> int:
    with signals.immediate():
        _chain().tips(options.config, say=Screen(sys.stdout).say)
    return GOOD


def _localnet(options: argparse.Namespace, signals: Signals) -> int:
    from velox.cli import local_cluster as localnet  # noqa: PLC0415

    # A KeyboardInterrupt is how it is stopped, in order.
    with signals.immediate():
        try:
            return localnet.run(options, Screen(sys.stdout).say)
        except ImportError as error:
            raise ConfigError(str(error)) from error
