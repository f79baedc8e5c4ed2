"""The commands that reach the chain: what they do, and the lines they say.

`velox.cli` has their options, so that its help needs nothing of this installed.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from velox.core.records import BUNDLE_DTYPE
from velox.errors import ConfigError, FeedError, SubmitError
from velox.runtime.capture import refuse_unfinished
from velox.runtime.sinks import PullOutput
from velox.solana import assembly
from velox.solana.config import load_config
from velox.solana.files import open_regular
from velox.solana.journal.file import journal_files, read_journal
from velox.solana.journal.records import Capture
from velox.solana.orders.outcomes import ChainLedger
from velox.solana.submit.workers import Source, SubmissionWorkers

__all__ = [
    "Console",
    "SubmissionRun",
    "files_of",
    "resume",
    "status",
    "submission",
    "submit",
    "tips",
]

LOCALNET = "localnet"
# What a .npy file begins with.
NPY = b"\x93NUMPY"
# Bundles that are read from a file at a time, and the orders that one of them can hold.
CHUNK = 256
ORDERS_A_BUNDLE = BUNDLE_DTYPE["transactions"].shape[0]
# The shortest time between two warnings about what endpoints say.
WARN_AGAIN_S = 5.0
# Bundles to signatures: how many of them are asked for at once.
STATUSES = 256

Say = Callable[..., None]
Files: TypeAlias = list[tuple[str, str]]


def _silent(*lines: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Console:
    """Whoever gave a command, and may want something else meanwhile.

    Attributes
    ----------
    say : callable
        Prints lines.
    warn : callable
        Prints what can be acted on.
    requests : callable
        How often the end was asked for. Once: what waits is shed, and what is under way is
        followed. Twice: that is left, too.
    quiet : bool
        Whether there is to be no line a second.
    """

    say: Say = _silent
    warn: Say = _silent
    requests: Callable[[], int] = lambda: 0
    quiet: bool = False


def _opened(where: str, journal: str | None, person: Console) -> Any:
    if where == LOCALNET:
        return assembly.local(journal, warn=person.warn)
    return assembly.configured(load_config(where), journal, warn=person.warn)


def files_of(where: str, journal: str | None) -> tuple[Files, Files]:
    """Name the files that a way to the chain reads, and those that it writes.

    Parameters
    ----------
    where : str
        ``"localnet"``, or a configuration's path.
    journal : str or None
        Instead of the configuration's.

    Returns
    -------
    read, written : list of (str, str)
        What each is, and its path.
    """
    if where == LOCALNET:
        return [], journal_files(journal) if journal is not None else []
    config = load_config(where)
    return assembly.inputs_of(config), journal_files(assembly.journal_path_of(config, journal))


class SubmissionRun:
    """Orders on their way to the chain, and what is said of them meanwhile.

    Parameters
    ----------
    opened : Submission
    source : Source
        Of the bundles that they are in.
    person : Console

    Attributes
    ----------
    output : Source
        For a run: the pipeline's.
    description : str
        Where they go.
    """

    def __init__(self, opened: assembly.Submission, source: Source, person: Console) -> None:
        self.output = source
        self.description = opened.description
        self._opened = opened
        self._person = person
        self._submitter = opened.submitter
        self._egress = SubmissionWorkers(source, self._submitter)
        self._begin = self._warn_at = 0.0
        self._second = 1
        self._warned_of = ""
        self._said_stopping = False

    @property
    def failed(self) -> bool:
        """bool: Whether nothing is sent any more; `finish` says why."""
        return self._egress.error is not None

    def start(self) -> None:
        """Begin to take bundles."""
        self._begin = self._warn_at = time.monotonic()
        self._egress.start()

    def look(self) -> None:
        """Say how things go: to be called a few times a second, from one thread."""
        now, statistics = time.monotonic(), self._submitter.statistics()
        seconds = int(now - self._begin)
        if seconds >= self._second:
            self._second = seconds + 1
            if not self._person.quiet:
                self._person.say(
                    f"[{seconds:3d}s] chain: queued={statistics.queued:,} "
                    f"flying={statistics.flying:,} landed={self._submitter.ledger().landed:,} "
                    f"errors={statistics.errors:,}"
                )
        if statistics.last_error != self._warned_of and now >= self._warn_at:
            self._warned_of, self._warn_at = statistics.last_error, now + WARN_AGAIN_S
            self._person.warn(f"chain: {statistics.last_error}")
        if self._egress.stopping is not None and not self._said_stopping:
            self._said_stopping = True
            self._person.say(self._stopping(*self._egress.stopping))

    def _stopping(self, waiting: int, flying: int) -> str:
        why = f"{self._egress.error}; " if self._egress.error is not None else ""
        shed = f"stopping: {why}{waiting:,} orders that waited were shed"
        if not flying:
            return shed
        resumption = self._opened.resumption
        leave = f"leave them to '{resumption}'" if resumption else "give them up"
        return f"{shed}, following {flying:,} transactions; again to {leave}"

    def finish(self) -> tuple[ChainLedger, list[str]]:
        """Follow everything to its end; return the ledger, and what failed."""
        try:
            ledger = self._egress.finish(
                self._opened.deadline_s,
                # A capture is taken in only as fast as it is sent.
                source_s=math.inf,
                requests=self._person.requests,
                watch=self.look,
            )
        except SubmitError as error:
            return self._submitter.ledger(), [str(error)]
        return ledger, []

    def warnings(self) -> list[str]:
        """Say what a person can act on."""
        ledger, statistics = self._submitter.ledger(), self._submitter.statistics()
        warnings = []
        if statistics.held:
            warnings.append(f"orders waited for the signer: {statistics.held}")
        if ledger.shed and self._egress.stopping is None:
            takes = "the signer lets through" if statistics.held else "the chain takes"
            warnings.append(
                f"{ledger.shed:,} orders were shed: more came than {takes}; a larger queue only "
                "makes them older"
            )
        if ledger.unknown:
            known = self._opened.resumption
            asks = f"'{known}' asks for it" if known else "their cluster ended with the run"
            warnings.append(f"{ledger.unknown:,} orders have no known end: {asks}")
        if statistics.errors and statistics.last_error != statistics.held:
            warnings.append(
                f"{statistics.errors:,} requests were refused or not answered; the last: "
                f"{statistics.last_error}"
            )
        if statistics.unnumbered:
            warnings.append(
                f"{statistics.unnumbered:,} orders were placed whose numbers could not be learned: "
                "they cannot be cancelled from here"
            )
        if statistics.unread_events:
            warnings.append(
                f"{statistics.unread_events:,} events of the market's program could not be read, "
                "and their fills are in no report: the program is newer than this Velox"
            )
        return warnings


@contextmanager
def submission(where: str, journal: str | None, person: Console) -> Iterator[SubmissionRun]:
    """Open a run's way to ``localnet``, or to what a configuration names."""
    with _opened(where, journal, person) as opened:
        yield SubmissionRun(opened, PullOutput(), person)


class _Bundles:
    """The bundles of a capture, as fast as the queue has room for them; none any more on request.

    Parameters
    ----------
    bundles : ndarray of BUNDLE_DTYPE, shape (n,)
    room : callable
        How many orders may be taken in.
    over : callable
        Whether no more are to be.
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
        """int: Bundles that nobody has taken."""
        return len(self._bundles) - self._next

    @property
    def exhausted(self) -> bool:
        return self._next == len(self._bundles) or self._over()

    def poll(self) -> AbstractContextManager[npt.NDArray[np.void]]:
        fitting = max(0, self._room()) // ORDERS_A_BUNDLE
        some = self._bundles[self._next : self._next + min(fitting, CHUNK)]
        self._next += len(some)
        return nullcontext(some)


def submit(
    path: str,
    where: str,
    journal: str | None = None,
    *,
    again: bool = False,
    person: Console | None = None,
) -> tuple[ChainLedger, list[str], list[str]]:
    """Send the orders of a capture, as fast as they are taken; only a request sheds any.

    Parameters
    ----------
    path : str
        A ``.npy`` file of BUNDLE_DTYPE.
    where : str
        ``"localnet"``, or a configuration's path.
    journal : str, optional
        Instead of the configuration's.
    again : bool
        Whether to send them also if the journal has begun this capture before.
    person : Console, optional

    Returns
    -------
    ledger : ChainLedger
    warnings : list of str
    failed : list of str
        Why it ended before everything had.

    Raises
    ------
    SubmitError
        The journal has begun this capture before.
    """
    person = person or Console()
    bundles, capture = _bundles_of(path)
    with _opened(where, journal, person) as opened:
        if capture.digest in opened.journal.unsettled.captures and not again:
            raise SubmitError(
                f"{path}: {opened.journal.path} has begun this capture already, and its orders "
                f"would be executed again: '{opened.resumption}' follows what is under way, "
                "--again sends them all once more"
            )
        person.say(f"{path}: {len(bundles):,} bundles", f"to          {opened.description}")
        if not person.requests():
            # Before the first of its orders: whatever happens from here on, it has begun.
            opened.journal.append(capture)
            opened.journal.commit()
        return _carried(bundles, opened, person)


def resume(
    where: str, journal: str | None = None, *, person: Console | None = None
) -> tuple[ChainLedger, list[str], list[str]]:
    """Follow what an earlier process has left under way to its end; take nothing new.

    Parameters
    ----------
    where : str
        A configuration's path.
    journal : str, optional
        Instead of the configuration's.
    person : Console, optional

    Returns
    -------
    ledger, warnings, failed
        As of `submit`.

    Raises
    ------
    ConfigError
        There is nothing that could be asked.
    FeedError
        There is no such journal.
    """
    person = person or Console()
    if where == LOCALNET:
        raise ConfigError("resume: localnet's cluster ends with its run; name a configuration")
    path = assembly.journal_path_of(load_config(where), journal)
    if not Path(path).exists():
        raise FeedError("no such file: there is nothing to resume", path=path)
    with _opened(where, journal, person) as opened:
        flying = opened.submitter.statistics().flying
        orders = opened.submitter.ledger().recovered
        person.say(
            f"{path}: {flying:,} transactions under way, of {orders:,} orders",
            f"asking      {opened.description}",
        )
        return _carried(np.zeros(0, BUNDLE_DTYPE), opened, person)


def _carried(
    bundles: npt.NDArray[np.void], opened: assembly.Submission, person: Console
) -> tuple[ChainLedger, list[str], list[str]]:
    source = _Bundles(
        bundles,
        # With what is under way: what waits alone is counted by another thread, and never exact. A
        # queue of less than a bundle sheds what it cannot hold.
        room=lambda: max(opened.capacity, ORDERS_A_BUNDLE) - opened.submitter.ledger().outstanding,
        over=lambda: bool(person.requests()) or submitting.failed,
    )
    submitting = SubmissionRun(opened, source, person)
    submitting.start()
    ledger, failed = submitting.finish()
    warnings = submitting.warnings()
    if source.left:
        warnings.append(f"{source.left:,} bundles were not taken in: it was ended before")
    return ledger, warnings, failed


def _bundles_of(path: str) -> tuple[npt.NDArray[np.void], Capture]:
    with open(open_regular(path), "rb") as file:
        if file.read(len(NPY)) != NPY:
            raise FeedError("is no .npy file; velox run --capture writes them", path=path)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
    try:
        bundles = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FeedError(f"no array of bundles: {error}", path=path) from error
    if not isinstance(bundles, np.ndarray) or bundles.dtype != BUNDLE_DTYPE or bundles.ndim != 1:
        kind = getattr(bundles, "dtype", type(bundles).__name__)
        raise FeedError(f"holds {kind}, not bundles; velox run --capture writes them", path=path)
    refuse_unfinished(bundles, path)
    too_many = np.flatnonzero(bundles["count"] > bundles.dtype["transactions"].shape[0])
    if len(too_many):
        count = int(bundles["count"][too_many[0]])
        raise FeedError(f"bundle {too_many[0]} of {count} transactions", path=path, field="count")
    return bundles, Capture(digest, len(bundles))


def status(path: str, config: str | None, *, say: Say) -> bool:
    """Say what a journal holds, and what the chain says of what is under way.

    Returns
    -------
    bool
        Whether everything in it has ended.

    Raises
    ------
    ConfigError
        The configuration cannot be used, or its node is of another cluster than the journal.
    """
    loaded = load_config(config) if config is not None else None
    if not Path(path).exists():
        raise FeedError("no such file", path=path)
    found = read_journal(path)
    if not Path(path).stat().st_size:
        raise FeedError("is empty: no journal", path=path)
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
        f"under way   {len(found.transactions):,} transactions, {orders:,} orders",
    )
    known: dict[Any, str] = {}
    if loaded is not None and found.header is not None and found.transactions:
        with assembly.rpc_of(loaded, retries=3) as rpc:
            genesis = rpc.get_genesis_hash()
            if genesis != found.header.genesis:
                # It would know of nothing.
                raise ConfigError(
                    f"{config}: cluster.rpc: of genesis {genesis}, but {path} is of "
                    f"{found.header.genesis}"
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
    """Say whom a block engine wants tipped, and what tips have landed."""
    with ExitStack() as stack:
        if where == LOCALNET:
            raise ConfigError("tips: localnet's cluster lives in a run; name a configuration")
        config = load_config(where)
        engine = assembly.block_engine_of(config)
        if engine is None:
            raise ConfigError(f"{where}: [block_engine] is missing: nobody is tipped")
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
