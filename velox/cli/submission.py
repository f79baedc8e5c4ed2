"""The commands for the chain: their work and their output.

`velox.cli.commands` has their options, so that help needs no extra library.
"""

from __future__ import annotations

import hashlib
import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from velox.cli.report_file import ReportFile
from velox.cli.screen import Say
from velox.core.instrument import Instrument
from velox.core.records import BUNDLE_DTYPE, Kind
from velox.errors import ConfigError, FeedError, SubmitError
from velox.feeds.files.npy import BUNDLE_CAPACITY, NPY_MAGIC
from velox.runtime.capture import refuse_unfinished
from velox.runtime.sidecar import markets_of_capture
from velox.runtime.sinks import PullOutput
from velox.solana import (
    ChainLedger,
    Source,
    SubmissionJournal,
    SubmissionWorkers,
    assembly,
    load_config,
)
from velox.solana.files import open_regular
from velox.solana.journal.file import journal_files, read_journal
from velox.solana.journal.records import Capture
from velox.solana.orders.strategy_reports import StrategyReports

if TYPE_CHECKING:
    from solders.signature import Signature

    from velox.runtime.pipeline import Pipeline
    from velox.solana.assembly import Statement
    from velox.solana.config import ChainConfig
    from velox.solana.orders.outcomes import Observer
    from velox.testing.venue import MarketPlan

__all__ = [
    "Console",
    "Destination",
    "PipelineRun",
    "SubmissionResult",
    "SubmissionRun",
    "resume",
    "status",
    "submit",
    "tips",
]

LOCALNET = "localnet"
LOCALNET_MEMO = "localnet:memo"
# Bundles taken from a capture at a time.
CHUNK = 256
# Bundles whose prices tell where the local market opens.
PRICED = 4096
# The shortest time between two warnings about endpoints, in seconds.
WARN_AGAIN_S = 5.0
# Signatures whose status is requested at once.
STATUSES = 256

Files: TypeAlias = list[tuple[str, str]]


def _is_local(where: str) -> bool:
    """Return whether a destination is a local cluster; refuse an unknown kind of one."""
    if where.startswith(f"{LOCALNET}:") and where != LOCALNET_MEMO:
        raise ConfigError(
            f"submit = {where!r}: must be {LOCALNET}, {LOCALNET_MEMO}, or a configuration's path"
        )
    return where in (LOCALNET, LOCALNET_MEMO)


def _silent(*lines: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Console:
    """The terminal of the user who gave the command.

    Attributes
    ----------
    say : callable
        Prints lines.
    warn : callable
        Prints a warning.
    requests : callable
        Returns how often the user asked to stop. After one request, orders that wait are shed, and
        transactions in flight are followed. After two, these are no longer followed.
    quiet : bool
        Suppress the line of each second.
    """

    say: Say = _silent
    warn: Say = _silent
    requests: Callable[[], int] = lambda: 0
    quiet: bool = False


class Destination:
    """The destination of orders: a local cluster, or the cluster of a configuration.

    The configuration is read once, when the destination is made.

    Parameters
    ----------
    where : str
        ``"localnet"``, ``"localnet:memo"``, or the path of a configuration.
    journal : str, optional
        The journal's path, instead of the configuration's.
    reports : str, optional
        Where to write execution reports.
    forwards : bool
        Whether the orders are recorded or generated flow. Unless the configuration has
        ``accept_forwarded = true``, such orders go to a local cluster only.

    Attributes
    ----------
    config : ChainConfig or None
        None for the local cluster.
    trades_locally : bool
        Whether the orders go to the market of the local cluster.
    read, written : list of (str, str)
        The files that it reads and those that it writes: the name and path of each.
    reports : str or None
        Where execution reports are written.
    resume_command : str
        The command that follows the transactions that this process leaves in flight; empty for the
        local cluster.

    Raises
    ------
    ConfigError
        The configuration cannot be used.
    """

    def __init__(
        self,
        where: str,
        journal: str | None = None,
        reports: str | None = None,
        *,
        forwards: bool = False,
    ) -> None:
        self.config: ChainConfig | None = None
        self.read: Files = []
        self.written: Files = []
        self.resume_command = ""
        self._journal = journal
        self.reports = reports
        self._forwards = forwards
        self._plan: MarketPlan | None = None
        self.trades_locally = where == LOCALNET
        self._where(where, journal)
        if reports is not None:
            self.written = [*self.written, ("reports", reports)]

    def _where(self, where: str, journal: str | None) -> None:
        if _is_local(where):
            if journal is not None:
                self.written = journal_files(journal)
            return
        self.config = load_config(where)
        if self._forwards and not self.config.accept_forwarded:
            # Asked before a file or a connection is opened.
            assembly.require_local(self.config)
        self.read = assembly.inputs_of(self.config)
        self.written = journal_files(assembly.journal_path_of(self.config, journal))
        again = ["velox", "resume", where, *(["--journal", journal] if journal else [])]
        self.resume_command = shlex.join(again)

    def expect(self, markets: Sequence[tuple[Instrument, int | None]]) -> None:
        """Let the local cluster's market be one for these orders. Other destinations do nothing.

        Parameters
        ----------
        markets : sequence of (Instrument, int or None)
            What the orders trade, and about at what price; None if that is not known.

        Raises
        ------
        ConfigError
            There are several: the local cluster has one market.
        LocalnetError
            No market can have these prices.
        """
        if not self.trades_locally or not markets:
            return
        if len(markets) > 1:
            names = ", ".join(each.name for each, _ in markets[:4])
            raise ConfigError(
                f"submit = {LOCALNET!r}: the local cluster has one market, and there are "
                f"{len(markets)}: {names}{', …' if len(markets) > 4 else ''}; use {LOCALNET_MEMO}"
            )
        from velox.testing.venue import MarketPlan  # noqa: PLC0415 - loads an SVM

        ((instrument, price),) = markets
        self._plan = MarketPlan.of(instrument, price)

    @contextmanager
    def open(
        self, console: Console, observer: Observer | None = None
    ) -> Iterator[assembly.Submission]:
        """Open a submission, and close it at the end."""

        def on_open(journal: SubmissionJournal) -> None:
            if journal.torn_path is not None:
                console.warn(
                    f"{journal.path}: {journal.torn_bytes:,} bytes after the last valid frame were "
                    f"cut off and saved in {journal.torn_path}. A crash or a full disk leaves such "
                    "bytes unsent. A transaction in them, if it was sent, is not followed"
                )

        if self.config is not None:
            opened = assembly.open_submission(self.config, self._journal, observer, on_open=on_open)
        else:
            from velox.testing.submission import local_submission  # noqa: PLC0415 - loads an SVM

            market = (self._plan or True) if self.trades_locally else False
            opened = local_submission(
                self._journal, observer=observer, on_open=on_open, market=market
            )
        with opened as submission:
            if self._forwards and self.config is not None and not self.config.accept_forwarded:
                assembly.require_local_genesis(self.config, submission.genesis)
            yield submission

    def describe(self, submission: assembly.Submission) -> str:
        """Describe the destination of a submission."""
        if self.config is None:
            from velox.testing.submission import LOCAL_SLOT_NS  # noqa: PLC0415 - loads an SVM

            slots = f"{LOCAL_SLOT_NS / 1e6:g} ms slots"
            how = "on its market" if self.trades_locally else "by memo"
            return f"a local cluster at {submission.rpc}, {slots}, {how}"
        way = submission.rpc
        if submission.block_engine is not None:
            way = f"block engine {submission.block_engine}, asking {submission.rpc}"
        return f"{way}, payer {submission.payer}"

    @contextmanager
    def run(self, console: Console, *, tells: bool = False) -> Iterator[PipelineRun]:
        """Open a submission for the bundles of a pipeline.

        Parameters
        ----------
        console : Console
        tells : bool
            Whether the pipeline's strategy takes reports, and hears of its orders.
        """
        reports = StrategyReports() if tells else None
        with self.open(console, None if reports is None else reports.observe) as submission:
            yield PipelineRun(self, submission, console, reports)


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """The outcome of a command that sent orders.

    Attributes
    ----------
    ledger : ChainLedger
    warnings : list of str
    failed : list of str
        Why it failed or ended early; empty if it did not.
    closing : list of str
        What is held at the end.
    statement : Statement or None
        What the accounts of the venue show; None if nothing here reads them.
    """

    ledger: ChainLedger
    warnings: list[str]
    failed: list[str]
    closing: list[str] = field(default_factory=list)
    statement: Statement | None = None

    @property
    def complete(self) -> bool:
        """bool: Whether every order has a known outcome and nothing failed."""
        return self.ledger.balanced and not self.failed and not self.ledger.unknown


class SubmissionRun:
    """Sends the orders of a source, and prints the progress.

    Parameters
    ----------
    destination : Destination
    opened : Submission
    source : Source
        The source of bundles.
    console : Console

    Attributes
    ----------
    description : str
        Where the orders go.
    """

    def __init__(
        self,
        destination: Destination,
        opened: assembly.Submission,
        source: Source,
        console: Console,
        reports: StrategyReports | None = None,
    ) -> None:
        self.description = destination.describe(opened)
        self._resume_command = destination.resume_command
        self._opened = opened
        self._console = console
        self._submitter = opened.submitter
        self._heard = reports
        self._workers = SubmissionWorkers(source, self._submitter, reports=reports)
        self._report_file: ReportFile | None = None
        if destination.reports is not None:
            self._report_file = ReportFile(destination.reports)
            if reports is not None:
                reports.on_executions = self._report_file.write
        self._begin = self._warn_at = 0.0
        self._second = 1
        self._warned_of = ""
        self._said_stopping = False

    @property
    def failed(self) -> bool:
        """bool: Whether sending has stopped; `finish` returns why."""
        return self._workers.error is not None

    def start(self) -> None:
        """Start to take bundles in."""
        self._begin = self._warn_at = time.monotonic()
        self._workers.start()

    def look(self) -> None:
        """Print the progress. Call it a few times a second, from one thread."""
        self._take_reports()
        now, statistics = time.monotonic(), self._submitter.statistics()
        seconds = int(now - self._begin)
        if seconds >= self._second:
            self._second = seconds + 1
            if not self._console.quiet:
                landed = self._submitter.ledger().landed
                self._console.say(
                    f"[{seconds:3d}s] chain: queued={statistics.queued:,} "
                    f"in_flight={statistics.in_flight:,} landed={landed:,} "
                    f"errors={statistics.errors:,}"
                )
        if statistics.last_error != self._warned_of and now >= self._warn_at:
            self._warned_of, self._warn_at = statistics.last_error, now + WARN_AGAIN_S
            self._console.warn(f"chain: {statistics.last_error}")
        if self._workers.stopping is not None and not self._said_stopping:
            self._said_stopping = True
            self._console.say(self._stopping(*self._workers.stopping))

    def _take_reports(self) -> None:
        """Take the reports, so that none is lost, and write them if a file was named."""
        if self._heard is not None:
            return  # the worker takes them, for the strategy and for the file
        reports = self._submitter.reports()
        if self._report_file is not None:
            self._report_file.write(reports)

    def closing_lines(self) -> list[str]:
        """Return what is held at each market with an account, for the user."""
        return [str(each) for each in self._submitter.holdings()]

    def _stopping(self, waiting: int, in_flight: int) -> str:
        why = f"{self._workers.error}; " if self._workers.error is not None else ""
        shed = f"stopping: {why}{waiting:,} orders that waited were shed"
        if not in_flight:
            return shed
        resume = self._resume_command
        leave = f"leave them to '{resume}'" if resume else "give them up"
        return f"{shed}, following {in_flight:,} transactions; again to {leave}"

    def finish(self) -> tuple[ChainLedger, list[str]]:
        """Follow every order to its outcome; return the ledger, and the failures."""
        try:
            ledger = self._workers.finish(
                self._opened.deadline_s,
                # A capture is read only as fast as it is sent, so this may take long.
                source_s=math.inf,
                requests=self._console.requests,
                watch=self.look,
            )
        except SubmitError as error:
            self._take_reports()
            return self._submitter.ledger(), [str(error)]
        self._take_reports()
        failed = [str(each) for each in self._submitter.holdings() if not each.holds]
        resting = self._submitter.resting
        if resting and self._opened.on_exit == "cancel":
            failed.append(
                f"{resting:,} orders still rest: their cancellation failed; see `velox cancel-all`"
            )
        lost = self._submitter.statistics().lost_reports
        if lost:
            failed.append(f"{lost:,} execution reports were lost: nobody took them in time")
        if self._report_file is not None and self._heard is None:
            self._report_file.close()
        return ledger, failed

    def statement(self) -> Statement | None:
        """Return what the accounts of the venue show now; None if nothing here reads them."""
        statement = self._opened.statement
        return None if statement is None else statement()

    def warnings(self) -> list[str]:
        """Return warnings for the user."""
        ledger, statistics = self._submitter.ledger(), self._submitter.statistics()
        warnings = []
        if statistics.held:
            warnings.append(f"orders waited for the signer: {statistics.held}")
        if ledger.shed and self._workers.stopping is None:
            takes = "the signer lets through" if statistics.held else "the chain takes"
            warnings.append(
                f"{ledger.shed:,} orders were shed: more came than {takes}. A larger queue would "
                "only make them older"
            )
        if ledger.unknown:
            resume = self._resume_command
            how = f"'{resume}' asks for it" if resume else "their cluster ended with the run"
            warnings.append(f"{ledger.unknown:,} orders have no known outcome: {how}")
        if statistics.errors and statistics.last_error != statistics.held:
            warnings.append(
                f"{statistics.errors:,} requests were refused or not answered; the last: "
                f"{statistics.last_error}"
            )
        resting = self._submitter.resting
        if resting and self._opened.on_exit == "leave":
            warnings.append(f'{resting:,} orders rest in the book, as on_exit = "leave" says')
        if statistics.unnumbered:
            warnings.append(
                f"{statistics.unnumbered:,} orders were placed, but their numbers could not be "
                "read: Velox cannot cancel them"
            )
        if statistics.unread_events:
            warnings.append(
                f"{statistics.unread_events:,} events of the market's program could not be read. "
                "Their fills are in no report: the program is newer than this Velox"
            )
        return warnings


class PipelineRun(SubmissionRun):
    """Sends the orders of a pipeline.

    Parameters
    ----------
    destination : Destination
    opened : Submission
    console : Console

    Attributes
    ----------
    output : PullOutput
        The output to give the pipeline.
    """

    def __init__(
        self,
        destination: Destination,
        opened: assembly.Submission,
        console: Console,
        reports: StrategyReports | None = None,
    ) -> None:
        self.output = PullOutput()
        super().__init__(destination, opened, self.output, console, reports)

    @property
    def base_units(self) -> dict[int, int]:
        """dict of int to int: Units of the inventory in a lot, by market, for an `OrderTable`."""
        return self._submitter.lot_atoms

    def attach(self, pipeline: Pipeline) -> None:
        """Let the pipeline's strategy hear what becomes of its orders."""
        if self._heard is not None:
            self._heard.attach(pipeline.reports)

    def settle(self, pipeline: Pipeline) -> bool:
        """Give a pipeline that has stopped the reports that came later; call it after `finish`.

        Returns
        -------
        bool
            Whether its strategy takes reports at all.
        """
        if self._heard is None:
            return False
        self._heard.pump(self._submitter.reports())
        pipeline.settle()
        while self._heard.waiting and self._heard.pump(self._submitter.reports()):
            pipeline.settle()
        if self._report_file is not None:
            self._report_file.close()
        return True


class _Bundles:
    """A source of a capture's bundles, which returns as many as fit into the queue.

    Parameters
    ----------
    bundles : ndarray of BUNDLE_DTYPE, shape (n,)
    room : callable
        Returns how many orders may be taken in.
    over : callable
        Returns whether to stop.
    """

    def __init__(
        self, bundles: npt.NDArray[np.void], room: Callable[[], int], over: Callable[[], bool]
    ) -> None:
        self._bundles = bundles
        self._room = room
        self._over = over
        self._next = 0

    @property
    def left(self) -> int:
        """int: Bundles that were not taken."""
        return len(self._bundles) - self._next

    @property
    def exhausted(self) -> bool:
        return self._next == len(self._bundles) or self._over()

    def poll(self) -> AbstractContextManager[npt.NDArray[np.void]]:
        fitting = max(0, self._room()) // BUNDLE_CAPACITY
        some = self._bundles[self._next : self._next + min(fitting, CHUNK)]
        self._next += len(some)
        return nullcontext(some)


def submit(
    path: str,
    destination: Destination,
    *,
    again: bool = False,
    console: Console | None = None,
) -> SubmissionResult:
    """Send the orders of a capture, as fast as the chain takes them. Only a stop sheds orders.

    Parameters
    ----------
    path : str
        A ``.npy`` file of BUNDLE_DTYPE.
    destination : Destination
    again : bool
        Whether to send them also if the journal shows that this capture was begun before.
    console : Console, optional

    Returns
    -------
    SubmissionResult

    Raises
    ------
    SubmitError
        The journal shows that this capture was begun before.
    """
    console = console or Console()
    bundles, capture = _bundles_of(path)
    if destination.trades_locally:
        destination.expect(_traded(bundles, markets_of_capture(path)))
    with destination.open(console) as opened:
        if capture.digest in opened.journal.state.captures and not again:
            raise SubmitError(
                f"{path}: {opened.journal.path} has begun this capture already, and its orders "
                f"would be executed again: '{destination.resume_command}' follows what is in "
                "flight, --again sends them all once more"
            )
        console.say(
            f"{path}: {len(bundles):,} bundles", f"to          {destination.describe(opened)}"
        )
        if not console.requests():
            # Written before its first order: from here on, the capture has begun.
            opened.journal.append(capture)
            opened.journal.commit()
        return _carried(bundles, destination, opened, console)


def resume(destination: Destination, *, console: Console | None = None) -> SubmissionResult:
    """Follow the transactions that an earlier process left in flight. Take no new orders.

    Parameters
    ----------
    destination : Destination
    console : Console, optional

    Returns
    -------
    SubmissionResult

    Raises
    ------
    ConfigError
        The destination is the local cluster, which ended with its run.
    FeedError
        The journal does not exist.
    """
    console = console or Console()
    if destination.config is None:
        raise ConfigError("resume: localnet's cluster ends with its run; name a configuration")
    path = destination.written[0][1]
    if not Path(path).exists():
        raise FeedError("no such file: there is nothing to resume", path=path)
    with destination.open(console) as opened:
        in_flight = opened.submitter.statistics().in_flight
        orders = opened.submitter.ledger().recovered
        console.say(
            f"{path}: {in_flight:,} transactions in flight, of {orders:,} orders",
            f"asking      {destination.describe(opened)}",
        )
        return _carried(np.zeros(0, BUNDLE_DTYPE), destination, opened, console)


def _carried(
    bundles: npt.NDArray[np.void],
    destination: Destination,
    opened: assembly.Submission,
    console: Console,
) -> SubmissionResult:
    source = _Bundles(
        bundles,
        # Orders in flight count too: another thread counts those that wait, so that is not exact. A
        # queue smaller than a bundle sheds what it cannot hold.
        room=lambda: max(opened.capacity, BUNDLE_CAPACITY) - opened.submitter.ledger().outstanding,
        over=lambda: bool(console.requests()) or run.failed,
    )
    run = SubmissionRun(destination, opened, source, console)
    run.start()
    ledger, failed = run.finish()
    warnings = run.warnings()
    if source.left:
        warnings.append(f"{source.left:,} bundles were not taken in: it was stopped before")
    return SubmissionResult(ledger, warnings, failed, run.closing_lines(), run.statement())


def _bundles_of(path: str) -> tuple[npt.NDArray[np.void], Capture]:
    with open(open_regular(path), "rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise FeedError("is not a .npy file; velox run --capture writes one", path=path)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
    try:
        bundles = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FeedError(f"is not an array of bundles: {error}", path=path) from error
    if not isinstance(bundles, np.ndarray) or bundles.dtype != BUNDLE_DTYPE or bundles.ndim != 1:
        kind = getattr(bundles, "dtype", type(bundles).__name__)
        raise FeedError(f"holds {kind}, not bundles; velox run --capture writes them", path=path)
    refuse_unfinished(bundles, path)
    too_many = np.flatnonzero(bundles["count"] > bundles.dtype["transactions"].shape[0])
    if len(too_many):
        count = int(bundles["count"][too_many[0]])
        raise FeedError(
            f"bundle {too_many[0]} has {count} transactions, at most {BUNDLE_CAPACITY}",
            path=path,
            field="count",
        )
    return bundles, Capture(digest, len(bundles))


def _traded(
    bundles: npt.NDArray[np.void], instruments: Sequence[Instrument] | None
) -> list[tuple[Instrument, int | None]]:
    """Return what the orders of a capture trade, and the median price of the first of them."""
    some = bundles[:PRICED]
    orders = some["transactions"][np.arange(BUNDLE_CAPACITY) < some["count"][:, np.newaxis]]
    orders = orders[(orders["kind"] == Kind.ADD) & (orders["price"] > 0)]
    found = []
    for each in instruments or (Instrument(),):
        prices = orders["price"][orders["market"] == each.market]
        found.append((each, int(np.median(prices)) if len(prices) else None))
    return found


def status(path: str, config: str | None, *, say: Say) -> bool:
    """Print the contents of a journal, and the status of the transactions in flight.

    Returns
    -------
    bool
        Whether every order in it has an outcome.

    Raises
    ------
    ConfigError
        The configuration cannot be used, or its node is on another cluster than the journal.
    """
    loaded = load_config(config) if config is not None else None
    if not Path(path).exists():
        raise FeedError("no such file", path=path)
    found = read_journal(path)
    if not Path(path).stat().st_size:
        raise FeedError("is empty, so it is not a journal", path=path)
    if found.header is not None:
        say(f"payer       {found.header.payer}", f"genesis     {found.header.genesis}")
    ended = ", ".join(f"{each.name.lower()} {count:,}" for each, count in found.ended.items())
    orders = sum(len(each.orders) for each in found.transactions.values())
    say(
        f"ended       {ended or 'nothing'}",
        f"resting     {len(found.resting):,} orders, known by number",
        *(
            f"begun       {digest.hex()[:16]}…, a capture of {bundles:,} bundles"
            for digest, bundles in found.captures.items()
        ),
        f"in flight   {len(found.transactions):,} transactions, {orders:,} orders",
    )
    known: dict[Signature, str] = {}
    if loaded is not None and found.header is not None and found.transactions:
        with assembly.rpc_of(loaded, retries=3) as rpc:
            genesis = rpc.get_genesis_hash()
            if genesis != found.header.genesis:
                raise ConfigError(
                    f"{config}: cluster.rpc: the cluster's genesis is {genesis}, but {path} is of "
                    f"genesis {found.header.genesis}"
                )
            signatures = [each.signature for each in found.transactions.values()]
            for first in range(0, len(signatures), STATUSES):
                some = signatures[first : first + STATUSES]
                for name, state in zip(
                    some, rpc.get_signature_statuses(some, search_history=True), strict=True
                ):
                    if state is not None:
                        good = "executed" if state.err is None else "executed with an error"
                        known[name] = f"{good} in slot {state.slot}, {state.confirmation_status}"
    for each in found.transactions.values():
        said = known.get(each.signature, "not known to the node" if config else "not asked")
        say(
            f"  {each.signature}  {len(each.orders)} orders, attempt {each.attempt}, "
            f"valid to block {each.last_valid_block_height}: {said}"
        )
    return not found.transactions


def tips(where: str, *, say: Say) -> None:
    """Print the tip accounts of a block engine, and the tips that landed."""
    with ExitStack() as stack:
        if _is_local(where):
            raise ConfigError(
                "tips: localnet's cluster exists only during a run; name a configuration"
            )
        config = load_config(where)
        engine = assembly.block_engine_of(config)
        if engine is None:
            raise ConfigError(f"{where}: [block_engine] is missing: there are no tips")
        stack.callback(engine.close)
        say(f"tip accounts of {engine.label}", *(f"  {each}" for each in engine.get_tip_accounts()))
        floor_client = assembly.tip_floor_of(config)
        stack.callback(floor_client.close)
        floor = floor_client.fetch()
        shares = {"25 %": floor.p25, "50 %": floor.p50, "75 %": floor.p75, "95 %": floor.p95}
        shares |= {"99 %": floor.p99, "50 %, averaged": floor.ema50}
        say("tips that landed, lamports", *(f"  {name:<16}{n:>12,}" for name, n in shares.items()))
        policy = assembly.tip_policy_of(config)
        if policy is not None:
            say(f"the next bundle would pay {policy.lamports(time.monotonic_ns()):,} lamports")
