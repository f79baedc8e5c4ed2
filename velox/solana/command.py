"""The commands that reach the chain: what they do, and the lines they say.

`velox.cli` has their options, so that its help needs nothing of this installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from velox.core.records import BUNDLE_DTYPE
from velox.errors import ConfigError, FeedError, JournalError, SolanaError
from velox.runtime.output import PullOutput
from velox.solana import assembly
from velox.solana.chain_ledger import ChainLedger
from velox.solana.config import load_config
from velox.solana.egress import Egress
from velox.solana.journal import read_journal
from velox.solana.submit import Submitter

__all__ = ["Submitting", "status", "submission", "submit", "tips"]

LOCALNET = "localnet"
IDLE_S = 0.001
# What a .npy file begins with.
NPY = b"\x93NUMPY"
# Bundles that are read from a file at a time.
CHUNK = 256
# Bundles to signatures: how many of them are asked for at once.
STATUSES = 256

Say = Callable[..., None]


def _opened(where: str, journal: str | None) -> Any:
    if where == LOCALNET:
        return assembly.local(journal)
    return assembly.configured(load_config(where), journal)


class Submitting:
    """A run's way to the chain.

    Attributes
    ----------
    output : PullOutput
        The pipeline's.
    description : str
    """

    def __init__(self, opened: assembly.Submission) -> None:
        self.output = PullOutput()
        self.description = opened.description
        self._deadline_s = opened.deadline_s
        self._submitter = opened.submitter
        self._egress = Egress(self.output, self._submitter)

    def start(self) -> None:
        """Begin to take bundles."""
        self._egress.start()

    def finish(self) -> tuple[ChainLedger, list[str]]:
        """Follow everything to its end; return the ledger, and what failed."""
        try:
            return self._egress.finish(self._deadline_s), []
        except SolanaError as error:
            return self._submitter.ledger(), [str(error)]

    def warnings(self) -> list[str]:
        """Say what a person can act on."""
        return _warnings(self._submitter)


@contextmanager
def submission(where: str, journal: str | None) -> Iterator[Submitting]:
    """Open the way to ``localnet``, or to what a configuration names."""
    with _opened(where, journal) as opened:
        yield Submitting(opened)


def _warnings(submitter: Submitter) -> list[str]:
    ledger, statistics = submitter.ledger(), submitter.statistics()
    warnings = []
    if ledger.shed:
        warnings.append(
            f"{ledger.shed:,} orders were shed: more came than the chain takes; a larger queue "
            "only makes them older"
        )
    if ledger.unknown:
        warnings.append(
            f"{ledger.unknown:,} orders have no known end: run again with the same journal, which "
            "asks for it"
        )
    if statistics.errors:
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
            f"{statistics.unread_events:,} events of the market's program could not be read, and "
            "their fills are in no report: the program is newer than this Velox"
        )
    return warnings


def submit(
    path: str, where: str, journal: str | None, *, say: Say, stopped: Callable[[], bool]
) -> tuple[ChainLedger, list[str], list[str]]:
    """Send the orders of a capture, as fast as they are taken; none is shed.

    Parameters
    ----------
    path : str
        A ``.npy`` file of BUNDLE_DTYPE.
    where : str
        ``"localnet"``, or a configuration's path.
    journal : str or None
    say : callable
        Prints lines.
    stopped : callable
        Whether to stop; what was taken in is then followed to its end all the same.

    Returns
    -------
    ledger : ChainLedger
    warnings : list of str
    failed : list of str
        Why it ended before everything had.
    """
    bundles = _bundles_of(path)
    with _opened(where, journal) as opened:
        submitter: Submitter = opened.submitter
        say(f"{path}: {len(bundles):,} bundles", f"to          {opened.description}")
        failed = []
        try:
            _send(bundles, submitter, stopped)
            submitter.close(opened.deadline_s)
        except JournalError as error:
            failed.append(str(error))
            with suppress(JournalError):
                submitter.close(0.0)
        return submitter.ledger(), _warnings(submitter), failed


def _send(bundles: npt.NDArray[np.void], submitter: Submitter, stopped: Callable[[], bool]) -> None:
    for first in range(0, len(bundles), CHUNK):
        while submitter.statistics().queued > CHUNK * 16 and not stopped():
            if not submitter.step():
                time.sleep(IDLE_S)
        if stopped():
            return
        submitter.intake(bundles[first : first + CHUNK])
        submitter.step()


def _bundles_of(path: str) -> npt.NDArray[np.void]:
    with open(path, "rb") as file:
        if file.read(len(NPY)) != NPY:
            raise FeedError("is no .npy file; velox run --capture writes them", path=path)
    try:
        bundles = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FeedError(f"no array of bundles: {error}", path=path) from error
    if not isinstance(bundles, np.ndarray) or bundles.dtype != BUNDLE_DTYPE or bundles.ndim != 1:
        kind = getattr(bundles, "dtype", type(bundles).__name__)
        raise FeedError(f"holds {kind}, not bundles; velox run --capture writes them", path=path)
    too_many = np.flatnonzero(bundles["count"] > bundles.dtype["transactions"].shape[0])
    if len(too_many):
        count = int(bundles["count"][too_many[0]])
        raise FeedError(f"bundle {too_many[0]} of {count} transactions", path=path, field="count")
    return bundles


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
    if found.header is not None:
        say(f"payer       {found.header.payer}", f"genesis     {found.header.genesis}")
    ended = ", ".join(f"{each.name.lower()} {count:,}" for each, count in found.ended.items())
    orders = sum(len(each.orders) for each in found.transactions.values())
    say(
        f"ended       {ended or 'nothing'}",
        f"resting     {len(found.resting):,} orders, known by number",
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
