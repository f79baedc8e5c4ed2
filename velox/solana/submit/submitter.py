"""The submitter: from orders to executed Solana transactions, each order with one known outcome.

The life of an order, in one duty cycle after another::

              OrderQueue.take           journal.commit           send
    queued ──────────────────▶ signed ─────────────▶ journalled ─────▶ in flight ◀─┐
      │  │                       │                                    │   │        │ the same bytes
      │  └▶ CONFLATED, SHED,     └▶ FAILED: the signer or a format    │   └────────┘ again, after
      │     FAILED: nothing to      refuses it                        │       resend_blocks, then
      │     cancel                                                    │       after twice as many
      │                              getSignatureStatuses, at the     │
      │                              commitment that was asked for    ├──▶ LANDED, FAILED
      │                              a failure that is finalized      ├──▶ queued, each by itself
      │                                                               │
      │                              finalized height > last valid,   │ signed again, if there are
      │                              then nothing in all of history,  ├──▶ attempts left; else
      │                              twice                            │    EXPIRED, or FAILED if
      │                                                               │    every endpoint refused it
      └▶ SHED: close() came first    close() came first               └──▶ UNKNOWN

An endpoint's answer to a send does not decide the outcome. A response may be lost, and a
transaction may land in spite of an error. Only the chain ends a transaction, so nothing is signed
again while it may still execute. The bytes are in the journal before they are sent. A process that
finds them there continues from "in flight".
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from solders.signature import Signature

from velox.core.records import TRANSACTION_DTYPE, Kind
from velox.core.units import NS_PER_S
from velox.errors import (
    ConfigError,
    JournalError,
    RateLimitedError,
    RpcError,
    SubmitError,
    TransportError,
    VeloxError,
)
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import RESTING_DTYPE, Ended, Header, Summary
from velox.solana.net.block_engine import BlockEngineClient
from velox.solana.net.deadline import time_limit
from velox.solana.net.rate_limit import SteadyClock
from velox.solana.net.rpc import MAX_STATUSES, RpcClient
from velox.solana.net.rpc_types import Blockhash, SignatureStatus
from velox.solana.net.tips import TipPolicy
from velox.solana.orders.in_flight import (
    InFlight,
    Signed,
    SubmissionBatch,
    TransactionPlan,
    Verdict,
    judge,
    reason_of,
)
from velox.solana.orders.outcomes import ChainLedger, Observer, Outcome, Tally
from velox.solana.orders.queue import (
    DEFAULT_CAPACITY,
    OrderBatch,
    OrderQueue,
    Shedding,
    transactions_in,
)
from velox.solana.orders.reports import MAX_LOTS, MAX_PRICE, Reporter
from velox.solana.orders.working import RestingOrder
from velox.solana.submit.account_watch import POLLS_A_ROUND, AccountWatch
from velox.solana.submit.blockhash import BLOCKHASH_VALID_BLOCKS, BlockhashCache
from velox.solana.submit.fill_watch import FillWatch, Holding
from velox.solana.submit.options import SubmitOptions
from velox.solana.submit.reconcile import Reconciler
from velox.solana.submit.recovery import recover
from velox.solana.submit.routing import Routes
from velox.solana.submit.sending import Sender
from velox.solana.submit.signing import Refusal, TransactionSigner
from velox.solana.tx.carrier import Carrier, VenueOrder
from velox.solana.tx.limits import MAX_BUNDLE_TRANSACTIONS, MAX_COMPUTE_UNITS
from velox.solana.tx.signer import Signer
from velox.venue import Reason

__all__ = ["Submitter", "SubmitterStatistics", "checked_deadline"]

Array: TypeAlias = npt.NDArray[np.void]
# Does the work for which there is room, at a time in ns. Returns how much it did.
Task: TypeAlias = Callable[[int], int]

# Submissions that are signed in one duty cycle. They share one sync of the disk.
MAX_SUBMISSIONS_PER_STEP: Final = 16
# More orders than any transaction holds.
MAX_BATCH: Final = 1 << 10
# The longest deadline of `close`, in seconds: about thirty years.
MOST_DEADLINE_S: Final = 1e9
# The longest sleep of `close`, in seconds, before it calls `hurry` again.
MOST_PAUSE_S: Final = 0.1
# How long `close` reads accounts that do not agree with the fills, in seconds and in reads.
AUDIT_S: Final = 10.0
MOST_AUDITS: Final = 400
# The least window for cancellations at the end.
WITHDRAWAL_WINDOW: Final = 32
# The share of the deadline that `close` keeps for cancellations.
EXIT_SHARE: Final = 0.4
# How often `close` cancels what still rests: a cancellation may fail or expire.
MOST_WITHDRAWALS: Final = 8
# Status requests in a row that must find a transaction missing: nodes may disagree.
MISSING_LOOKS: Final = 2
# Unknown orders that an error names.
MOST_NAMED: Final = 4
# The ends of `reason_of` for a transaction that used all its compute units.
_OUT_OF_UNITS: Final = ("ComputationalBudgetExceeded)", "ComputationalBudgetExceeded")
# A program's own error, of the carrier's instruction, which is the last.
_CUSTOM: Final = re.compile(r"Custom\((\d{1,10})\)")
_UNANSWERED = (TransportError, RpcError, RateLimitedError)


@dataclass(frozen=True, slots=True)
class SubmitterStatistics:
    """A snapshot of a submitter.

    Attributes
    ----------
    queued : int
        Orders that wait.
    in_flight : int
        Transactions in flight.
    errors : int
        Requests that failed or were refused.
    last_error : str
    held : str
        The last refusal of the signer for its spending limit of a minute; empty without one.
    unnumbered : int
        Orders that were placed and whose number could not be read. Velox cannot cancel them.
    unread_events : int
        Events of a venue's program in an unknown layout. Their fills are in no report.
    lost_reports : int
        Reports that were lost because they were not taken in time. 65 536 are kept.
    """

    queued: int
    in_flight: int
    errors: int
    last_error: str
    held: str
    unnumbered: int
    unread_events: int
    lost_reports: int


def checked_deadline(deadline_s: float) -> float:
    """Validate `deadline_s` and return it.

    Raises
    ------
    ConfigError
        It is not a number from 0 to 1e9.
    """
    if not isinstance(deadline_s, int | float) or not 0 <= deadline_s <= MOST_DEADLINE_S:
        raise ConfigError(f"deadline_s = {deadline_s!r}: must be a number of seconds, 0 to 1e9")
    return deadline_s


def _check_records(orders: Array) -> None:
    if orders.dtype != TRANSACTION_DTYPE or orders.ndim != 1:
        raise ConfigError(
            f"orders: must be of TRANSACTION_DTYPE, one dimension, got {orders.dtype}"
        )


class Submitter:
    """Takes orders, nets them, and sends them to the venues. It is a `velox.venue.Venue`.

    Parameters
    ----------
    rpc : RpcClient
        The node that is asked what was executed. It needs no retries: each duty cycle asks again.
    block_engine : BlockEngineClient or None
        Where transactions are sent; None sends them to `rpc`.
    signer : Signer
        Pays and trades.
    carriers : Carrier or sequence of Carrier
        A carrier with a `market` takes the orders of that market. One without takes all others.
    tip_policy : TipPolicy or None
        The tip of a Jito bundle; required with a block engine.
    journal : SubmissionJournal
        A journal of this signer on this cluster, or a new one. Its open transactions are followed.
    options : SubmitOptions, optional
    capacity : int
        See `OrderQueue`.
    shedding : str
        See `OrderQueue`.
    observer : callable, optional
        Called with each outcome; see `Tally`.
    clock : callable
        ns. If the clock goes back, that counts as no time.
    sleep : callable
        Waits for so many seconds; used by `close` alone.
    rng : random.Random, optional
        Chooses tip accounts.

    Attributes
    ----------
    genesis : Hash
        The genesis hash of the cluster.

    Raises
    ------
    SubmitError
        The payer has no lamports. Or the journal is of another signer or cluster, or holds orders
        of a market that no carrier takes. Or `unknown_orders` refuses orders on a market.
    MarketError
        A venue's account contradicts its carrier, or the signer cannot trade there.
    ConfigError
        The parameters contradict each other.
    TransportError, RpcError, RateLimitedError
        An endpoint does not answer a request that is needed at the start.

    Notes
    -----
    Thread-safety: `intake`, `submit` and `cancel` belong to one thread; `step` and `close` to
    another; `reports` to any one. Any thread may call `statistics`, `ledger` and `holdings`.
    """

    def __init__(  # noqa: PLR0917 - the parts, in the order of their use
        self,
        rpc: RpcClient,
        block_engine: BlockEngineClient | None,
        signer: Signer,
        carriers: Carrier | Sequence[Carrier],
        tip_policy: TipPolicy | None,
        journal: SubmissionJournal,
        *,
        options: SubmitOptions | None = None,
        capacity: int = DEFAULT_CAPACITY,
        shedding: Shedding = "oldest",
        observer: Observer | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._options = options = options if options is not None else SubmitOptions()
        if options.atomic and block_engine is None:
            raise ConfigError("atomic = true: needs a block engine")
        self._rpc = rpc
        self._signer = signer
        self._journal = journal
        self._clock = clock = SteadyClock(clock)
        self._sleep = sleep
        self._errors = 0
        self._last_error = self._held = ""
        self._sender = Sender(
            rpc,
            block_engine,
            tip_policy,
            skip_preflight=options.skip_preflight,
            commitment=options.commitment,
            fallback=options.rpc_fallback,
            note=self._note,
            clock=clock,
            rng=rng,
        )
        self._tally = Tally(observer)
        self._routes = Routes(carriers, signer)
        self._queue = OrderQueue(
            self._tally,
            capacity=capacity,
            shedding=shedding,
            check=self._routes.faults,
            route_of_market=self._routes.of_market.tolist(),
        )
        self._reporter = Reporter()
        self._submissions: list[SubmissionBatch] = []
        self._in_flight: dict[Signature, InFlight] = {}
        # Expired submissions that are to be signed again.
        self._to_sign_again: list[SubmissionBatch] = []
        self._transaction_signer = TransactionSigner(
            self._sender, options, self._simulated, self._note
        )
        self._fills = FillWatch(
            rpc,
            self._routes,
            self._reporter,
            commitment=options.commitment,
            busy=self._is_busy,
            doubt=self._doubt,
            note=self._note,
        )
        self._watch = AccountWatch(
            rpc,
            self._routes,
            self._queue.working,
            journal,
            signer.pubkey,
            commitment=options.commitment,
            poll_ns=options.poll_ns,
            note=self._note,
            round_polls=max(1, min(POLLS_A_ROUND, options.watch_ns // max(1, options.poll_ns))),
            fills=self._fills,
        )
        self._reconciler = Reconciler(
            rpc,
            self._queue,
            self._watch,
            journal,
            signer.pubkey,
            commitment=options.commitment,
            note=self._note,
        )
        self._blockhashes = BlockhashCache(rpc)
        self._height = 0
        # Whether the last status request learned the height. Nothing is signed by an old height.
        self._height_is_new = False
        self._look_ns = self._sign_after_ns = self._examine_ns = clock()
        # If an endpoint takes few requests, the tasks alternate. One submission is resent for each
        # new one, so that each is resent while its blockhash is valid.
        self._signing: deque[Task] = deque([self._sign_new, self._sign_again])
        self._sending: deque[Task] = deque([partial(self._run_tasks, self._signing), self._resend])
        # Transactions in a Jito bundle; fewer for a while after the signer's limit had no room.
        self._bundle_size = MAX_BUNDLE_TRANSACTIONS
        # Orders in a Solana transaction; likewise.
        self._batch_size = MAX_BATCH
        self._left_s: Callable[[], float] = lambda: math.inf
        self._next_number = journal.state.next_number
        # Tickets of adopted orders: older than those that the journal restores.
        self._first_ticket = -(1 << 61)
        carriers = [self._routes[index].carrier for index in range(len(self._routes))]
        # Whether anything can rest at a venue.
        self._rests = any(each.numbers_orders for each in carriers)
        # Whether `close` cancels what rests, so that nothing else is sent; and how often it began.
        self._withdrawing = False
        self._withdrawals = 0
        self._closed = False
        self._broken: JournalError | None = None
        # Routes on which nothing is sent before our unknown orders there are dealt with.
        self._unexamined: set[int] = set()
        self._introduce()
        self._recover()
        self._watch.begin()
        self._know_resting()
        self._unexamined.update(self._watch.routes)
        self._examine()

    # Beginning

    def _introduce(self) -> None:
        self.genesis = self._rpc.get_genesis_hash()
        header = Header(self._signer.pubkey, self.genesis)
        found = self._journal.state.header
        if found is None:
            self._journal.append(header)
            self._journal.commit()
        elif found != header:
            what = "payer" if found.payer != header.payer else "genesis"
            raise SubmitError(
                f"{self._journal.path}: the journal is of {what} {getattr(found, what)}, expected "
                f"{getattr(header, what)}: a journal belongs to one signer on one cluster"
            )
        if not self._rpc.get_balance(self._signer.pubkey):
            raise SubmitError(f"payer {self._signer.pubkey} has no lamports: fund it first")

    def _recover(self) -> None:
        self._transaction_signer.recent.update(self._journal.state.recent)
        for submission in recover(self._journal, self._routes, self._queue):
            self._track(submission)
            for in_flight in submission.transactions:
                self._tally.add("recovered", len(in_flight.signed.orders))
                self._tally.transaction("recovered")

    def _know_resting(self) -> None:
        """Let reports name the orders of an earlier process."""
        for order in self._queue.working.resting():
            state = self._watch.state(int(self._routes.of_market[order.market]))
            found = state.orders.get(order.sequence or 0) if state is not None else None
            if found is not None:
                self._reporter.ids.put(
                    order.market,
                    found.sequence,
                    order.id,
                    order.side,
                    found.base_atoms,
                    found.last_valid_slot,
                )

    def _doubt(self, route: int) -> None:
        self._watch.doubt(route)

    def _is_busy(self, route: int) -> bool:
        """Return whether one of our transactions is in flight on a route."""
        return any(each.batch.route == route for each in self._in_flight.values())

    def _examine(self) -> None:
        """Deal with orders of ours that the journal does not know, where nothing is in flight."""
        busy = {each.batch.route for each in self._in_flight.values()}
        for route in self._unexamined - busy:
            found = self._watch.unknown(route)
            if found is None:
                continue
            _, unknown = found
            if unknown and self._options.unknown_orders == "refuse":
                carrier = self._routes[route].carrier
                numbers = ", ".join(str(each.sequence) for each in unknown[:MOST_NAMED])
                more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
                raise SubmitError(
                    f"market {carrier.account}: {len(unknown)} orders of {self._signer.pubkey} "
                    f"rest there that {self._journal.path} does not know: {numbers}{more}; set "
                    'unknown_orders = "adopt" or "cancel"'
                )
            self._unexamined.discard(route)
            if unknown:
                adopted = self._adopt(route, unknown)
                if self._options.unknown_orders == "cancel":
                    self._queue.withdraw(adopted)

    def _adopt(self, route: int, unknown: list[VenueOrder]) -> list[RestingOrder]:
        """Make working orders without an id, and write them to the journal."""
        carrier = self._routes[route].carrier
        market, adopted = carrier.market or 0, []
        rows = np.zeros(len(unknown), RESTING_DTYPE)
        for row, each in zip(rows, unknown, strict=True):
            self._first_ticket -= 1
            lots = min(max(1, each.base_atoms // carrier.lot_atoms), MAX_LOTS)
            order = RestingOrder(self._first_ticket, 0, market, each.side, each.price, lots)
            order.chain, order.sequence, order.hint = lots, each.sequence, each.hint
            self._queue.working.admit(order)
            self._queue.working.rest(order)
            adopted.append(order)
            self._reporter.ids.put(
                market, each.sequence, 0, each.side, each.base_atoms, each.last_valid_slot
            )
            row["sequence"], row["lots"], row["market"] = each.sequence, lots, market
            row["price"], row["side"] = min(each.price, MAX_PRICE), each.side
        self._journal.append(Summary(self._journal.state.next_number, rests=rows))
        self._journal.commit()
        return adopted

    def _track(self, submission: SubmissionBatch) -> None:
        self._submissions.append(submission)
        for in_flight in submission.transactions:
            self._in_flight[in_flight.signed.signature] = in_flight
            self._fills.signed(in_flight.signed.signature)

    # Coming in

    def intake(self, bundles: Array) -> None:
        """Take the orders of bundles in, and return at once.

        Parameters
        ----------
        bundles : ndarray of BUNDLE_DTYPE, shape (n,)
            Copied, so they may lie in a ring.

        Raises
        ------
        SubmitError
            The submitter is closed.
        ConfigError
            `bundles` is not an array of bundles.
        """
        self.submit(transactions_in(bundles))

    def submit(self, orders: Array) -> None:
        """Take orders in, and return at once. See `velox.venue.Venue.submit`.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
            Copied.

        Raises
        ------
        SubmitError
            The submitter is closed.
        ConfigError
            `orders` is not an array of records.
        """
        if self._closed:
            raise SubmitError("the submitter is closed: it takes no more orders")
        _check_records(orders)
        if len(orders):
            self._queue.push(orders)

    def cancel(self, orders: Array) -> None:
        """Cancel orders as they were submitted. See `velox.venue.Venue.cancel`.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
            Copied. An order with an id is found by the id. One with the id 0 is found by market,
            side and price. Up to ``size`` lots of each are cancelled.

        Raises
        ------
        SubmitError, ConfigError
            As `submit`.
        """
        _check_records(orders)
        cancels = orders.copy()
        cancels["kind"] = Kind.CANCEL
        self.submit(cancels)

    # The duty cycle

    def step(self) -> int:
        """Run one duty cycle: do all work that is due now. It never waits for time to pass.

        Returns
        -------
        int
            Orders, answers and requests handled; 0 if there was nothing to do.

        Raises
        ------
        JournalError
            The disk did not take the journal. Nothing more is sent.
        SubmitError
            The submitter is closed.

        Notes
        -----
        The failure of an endpoint raises no error here. It is counted, and the request is repeated
        later.
        """
        if self._closed:
            raise SubmitError("the submitter is closed: it cannot step")
        if self._broken is not None:
            raise self._broken
        return self._cycle(sends=True)

    def hold(self) -> None:
        """End the current step after the current request. Any thread may call this.

        No step sends anything from then on. Call `close` next.
        """
        self._left_s = lambda: 0.0

    def _cycle(self, *, sends: bool) -> int:
        done = self._queue.settle()
        now = self._clock()
        if now >= self._look_ns and not self.idle and not self._rpc.wait_s:
            self._look_ns = now + self._options.poll_ns
            done += self._follow()
        if not self._rpc.wait_s:
            done += self._watch.poll(now)
        if not sends:
            return done
        if not self._rpc.wait_s and self._unexamined and now >= self._examine_ns:
            self._examine_ns = now + self._options.poll_ns
            self._examine()
        return done + self._run_tasks(self._sending, now)

    def _run_tasks(self, tasks: deque[Task], now: int) -> int:
        """Run tasks in rotation, for as long as there is room to send."""
        done = 0
        for _ in range(len(tasks)):
            if not self._may_send():
                break
            task = tasks[0]
            tasks.rotate(-1)
            done += task(now)
        return done

    def _note(self, error: VeloxError | str) -> None:
        self._errors += 1
        self._last_error = str(error)

    # Building

    def _sign_new(self, now: int) -> int:
        """Send the signed transactions that are unsent, then sign and send orders of the queue.

        It stops when the window or an endpoint has no more room.
        """
        done = self._send(each for each in self._due() if not each.sends)
        window = self._options.window
        if self._withdrawing:
            window = max(window, WITHDRAWAL_WINDOW)
        room = window - len(self._in_flight)
        if room <= 0 or not len(self._queue) or not self._may_sign(now):
            return done
        killed = self._signer.killed
        if killed is not None:
            self._note(f"killed: {killed}")
            done += self._queue.keep_cancels("not signed: killed")
            if not len(self._queue):
                return done
        blockhash = self._blockhash(now)
        if blockhash is None:
            return done
        submissions = []
        for _ in range(self._max_submissions):
            batches = self._take(min(room, self._bundle_size if self._options.atomic else 1))
            submission = self._sign_first(batches, blockhash, now)
            done += len(batches)
            if submission is not None:
                room -= len(submission.transactions)
                submissions.append(submission)
            if not batches or room <= 0 or now < self._sign_after_ns:
                break
        self._journal_and_send(submissions)
        return done

    @property
    def _max_submissions(self) -> int:
        """int: How many submissions may be signed in one step."""
        return 1 if self._sender.bundles else MAX_SUBMISSIONS_PER_STEP

    def _journal_and_send(self, submissions: list[SubmissionBatch]) -> None:
        """Write signed submissions to the journal, then send them."""
        for submission in submissions:
            for in_flight in submission.transactions:
                self._journal.append(in_flight.signed)
                self._tally.transaction("signed")
        try:
            self._commit()
        except JournalError:
            # Not sent by this process. If the disk has it after all, the next process sends it.
            for submission in submissions:
                for in_flight in submission.transactions:
                    self._tally.transaction("unknown")
                    self._settle(in_flight.signed.orders, in_flight.batch, Outcome.UNKNOWN)
            raise
        for submission in submissions:
            self._track(submission)
        self._send(submissions)

    def _commit(self) -> None:
        try:
            self._journal.commit()
        except JournalError as error:
            self._broken = error
            raise

    def _may_sign(self, now: int) -> bool:
        """Return whether endpoints have room. If not, orders stay queued, where they are netted."""
        return now >= self._sign_after_ns and self._may_send() and not self._rpc.wait_s

    def _may_send(self) -> bool:
        """Return whether an endpoint takes a request now, and there is time for one."""
        return self._sender.ready and self._left_s() > 0

    def _blockhash(self, now: int) -> Blockhash | None:
        try:
            blockhash = self._blockhashes.get(self._height if self._height_is_new else None)
        except _UNANSWERED as error:
            self._note(error)
            self._sign_after_ns = now + self._options.poll_ns
            return None
        born = blockhash.last_valid_block_height - BLOCKHASH_VALID_BLOCKS
        self._height = max(self._height, born)
        # The request may have used up the time. Then nothing more is signed.
        return blockhash if self._left_s() > 0 else None

    def _take(self, most: int) -> list[OrderBatch]:
        """Take the oldest orders, for so many transactions at most."""
        batches: list[OrderBatch] = []
        while len(batches) < most:
            batch = self._take_one()
            if batch is None:
                break
            batches.append(batch)
        return batches

    def _take_one(self) -> OrderBatch | None:
        count = len(self._routes)
        first = self._queue.oldest_route or 0
        for index in [(first + step) % count for step in range(count)]:
            if index in self._unexamined:
                continue
            known = self._watch.knows(index)
            batch = self._queue.take(partial(self._fits, index), index, known=known)
            if batch is not None or self._queue.unsure:
                self._watch.want(index, self._queue.unsure)
            if batch is not None:
                return batch
        return None

    def _fits(self, route: int, records: int, cancels: int, places: int) -> bool:
        """Return whether a transaction holds so much, and the signer's limit may have room."""
        return records <= self._batch_size and self._routes[route].fits(records, cancels, places)

    def _sign_first(
        self, batches: list[OrderBatch], blockhash: Blockhash, now: int
    ) -> SubmissionBatch | None:
        """Sign batches of the queue; None if they failed, or went back to the queue."""
        if not batches:
            return None
        if self._signer.killed is not None:
            # A part that is placed again would be an order. So the whole is cancelled.
            for batch in batches:
                batch.cancels = dict.fromkeys(batch.cancels, 0)
        plans = [(self._routes[each.route].plan(each), each) for each in batches]
        signed = self._sign(1, plans, blockhash, now)
        if isinstance(signed, SubmissionBatch):
            self._bundle_size = min(self._bundle_size + 1, MAX_BUNDLE_TRANSACTIONS)
            self._batch_size = min(2 * self._batch_size, MAX_BATCH)
            return signed
        if signed.temporary:
            # The orders wait in the queue until there is room, and may be netted there.
            for batch in batches:
                self._queue.give_back(batch)
            size = len(batches[0].entries)
            if size > 1 and not self._options.atomic:
                # Fewer orders may take less rent. Try them at once.
                self._batch_size = size // 2
                self._sign_after_ns = now
        else:
            self._refuse(plans, signed.reason)
        return None

    def _sign_again(self, now: int) -> int:
        """Sign the orders of expired submissions again, with a new blockhash."""
        if not self._to_sign_again or not self._may_sign(now):
            return 0
        blockhash = self._blockhash(now)
        if blockhash is None:
            return 0
        expired, self._to_sign_again = (
            self._to_sign_again[: self._max_submissions],
            self._to_sign_again[self._max_submissions :],
        )
        submissions = []
        for place, old in enumerate(expired):
            plans: list[tuple[TransactionPlan, OrderBatch]] = [
                (each.signed, each.batch) for each in old.transactions
            ]
            signed = self._sign(old.attempt + 1, plans, blockhash, now)
            if isinstance(signed, SubmissionBatch):
                submissions.append(signed)
            elif signed.temporary:
                self._to_sign_again = expired[place:] + self._to_sign_again
                break
            else:
                self._refuse(plans, signed.reason)
        self._journal_and_send(submissions)
        return len(expired)

    def _sign(
        self,
        attempt: int,
        plans: list[tuple[TransactionPlan, OrderBatch]],
        blockhash: Blockhash,
        now: int,
    ) -> SubmissionBatch | Refusal:
        """Sign the transactions of one submission: all of them, or none."""
        submission = SubmissionBatch(attempt)
        first = self._next_number
        for number, (plan, batch) in enumerate(plans, first):
            route = self._routes[batch.route]
            built = self._transaction_signer.sign(
                route,
                plan,
                batch,
                blockhash,
                now,
                tips=not submission.transactions,
                state=self._watch.state(batch.route),
            )
            if isinstance(built, Refusal):
                for in_flight in submission.transactions:
                    # These bytes were not sent anywhere.
                    del self._transaction_signer.recent[in_flight.signed.signature]
                if built.temporary:
                    self._held = built.reason
                    self._sign_after_ns = now + NS_PER_S
                    # Signed transactions count for the limit even if they are not sent, so the next
                    # bundle is not larger.
                    self._bundle_size = len(submission.transactions) or self._bundle_size
                return built
            signed = Signed(
                orders=plan.orders,
                places=plan.places,
                cancels=plan.cancels,
                number=number,
                attempt=attempt,
                last_valid_block_height=built.last_valid_block_height,
                blockhash=built.blockhash,
                raw=built.raw,
                submission=first,
                submission_size=len(plans),
            )
            submission.transactions.append(
                InFlight(signed, built.spend, batch, submission, built.compute_units)
            )
        self._next_number = first + len(plans)
        return submission

    def _simulated(self, raw: bytes) -> int | None:
        """Return the compute units that a transaction would use; None if that is not known."""
        try:
            found = self._rpc.simulate_transaction(raw, commitment=self._options.commitment)
        except _UNANSWERED as error:
            self._note(error)
            return None
        return found.units_consumed if found.err is None else None

    def _refuse(self, plans: list[tuple[TransactionPlan, OrderBatch]], reason: str) -> None:
        for plan, batch in plans:
            self._queue.lost(batch)
            self._settle(plan.orders, batch, Outcome.FAILED, reason)

    # Sending

    def _send(self, submissions: Iterable[SubmissionBatch]) -> int:
        """Send submissions for as long as there is room; return how many were sent."""
        done = 0
        for submission in submissions:
            if self._withdrawing and not submission.only_cancels:
                continue
            if self._signer.killed is not None and not submission.only_cancels:
                submission.refusal = "not sent: killed"
            elif self._may_send():
                self._tally.add("sends", self._sender.send(submission, self._height))
                done += 1
            else:
                break
        return done

    def _resend(self, now: int) -> int:
        """Resend submissions that no node has seen executed for some blocks."""
        return self._send(each for each in self._due() if each.sends)

    def _due(self) -> list[SubmissionBatch]:
        """Return the submissions to send now: fewest sends first, then the longest ago."""
        due = [
            each
            for each in self._submissions
            if each.is_due(self._height, self._options.resend_blocks) and self._sender.carries(each)
        ]
        due.sort(key=lambda each: (each.sends, each.sent_height or 0))
        return due

    # Following

    def _follow(self) -> int:
        """Request the status of everything in flight, once."""
        done = 0
        self._height_is_new = False
        try:
            self._height = self._rpc.get_block_height("confirmed")
            self._height_is_new = True
            young: list[InFlight] = []
            dying: list[InFlight] = []
            for in_flight in self._in_flight.values():
                if in_flight.status is None:
                    old = in_flight.signed.last_valid_block_height < self._height
                    (dying if old and not in_flight.seen else young).append(in_flight)
            done += self._look(young)
            done += self._finish_executed()
            if dying:
                # The height is read first. A transaction that the second answer lacks was too late
                # for that height, if that node is not behind the one that gave the height.
                slot, finalized = self._rpc.get_slot_and_height("finalized")
                done += self._look(dying, finalized, slot)
        except _UNANSWERED as error:
            self._note(error)
        if self._broken is None:
            self._commit()
        self._transaction_signer.forget(self._height, self._in_flight)
        return done

    def _look(
        self, transactions: list[InFlight], finalized: int | None = None, least_slot: int = 0
    ) -> int:
        """Request statuses. A finalized height decides whether a transaction has expired."""
        done = 0
        history = finalized is not None
        statuses: list[SignatureStatus | None] = []
        for first in range(0, len(transactions), MAX_STATUSES):
            some = [each.signed.signature for each in transactions[first : first + MAX_STATUSES]]
            statuses += self._rpc.get_signature_statuses(some, history, least_slot=least_slot)
        for in_flight, status in zip(transactions, statuses, strict=True):
            failed = status is not None and status.err is not None
            verdict = judge(
                status,
                # Orders that are queued again must not land: a fork may undo what is confirmed.
                "finalized"
                if failed and (self._isolates(in_flight) or self._may_need_units(in_flight, status))
                else self._options.commitment,
                last_valid=in_flight.signed.last_valid_block_height,
                finalized=finalized,
                whole_history=history,
            )
            # If a status is gone, a fork undid the execution.
            in_flight.seen = status is not None
            in_flight.missing = in_flight.missing + 1 if verdict is Verdict.MISSING else 0
            if verdict is Verdict.WAIT or 0 < in_flight.missing < MISSING_LOOKS:
                continue
            done += 1
            if status is None:
                self._expired(in_flight)
            else:
                in_flight.status = status
        return done

    def _finish_executed(self) -> int:
        done = 0
        for in_flight in [each for each in self._in_flight.values() if each.status is not None]:
            try:
                done += self._finish(in_flight)
            except (TransportError, RateLimitedError) as error:
                self._note(error)
                # Start with another one next time: one bad answer must not block the others.
                signature = in_flight.signed.signature
                self._in_flight[signature] = self._in_flight.pop(signature)
                break
        return done

    def _finish(self, in_flight: InFlight) -> int:
        """Settle an executed transaction, once its result at the venue is known."""
        status, route, signed = (
            in_flight.status,
            self._routes[in_flight.batch.route],
            in_flight.signed,
        )
        slot = status.slot if status is not None else 0
        self._watch.executed(slot)
        if status is not None and status.err is not None:
            return self._failed(in_flight, slot, self._reason(in_flight, status.err))
        carrier = route.carrier
        result = self._reconciler.learn(in_flight, carrier)
        if result is None:
            return 0
        valid = self._options.order_valid_slots
        self._reporter.landed(in_flight, slot, result, carrier, slot + valid if valid else 0)
        self._fills.landed(in_flight.batch.route, signed.signature, slot, result)
        rests = self._reconciler.apply(in_flight, result, carrier, slot)
        market = int(signed.orders["market"][0])
        gone = tuple((market, each) for each in signed.cancels)
        self._end(in_flight, Ended(signed.number, Outcome.LANDED, slot, "", rests, gone))
        self._reconciler.remember(result, market)
        self._settle(signed.orders, in_flight.batch, Outcome.LANDED)
        return 1

    def _failed(self, in_flight: InFlight, slot: int, reason: str) -> int:
        """Settle a failed transaction, once its cancels were compared with the venue's account."""
        batch, signed = in_flight.batch, in_flight.signed
        if reason.endswith((*_OUT_OF_UNITS, "ProgramFailedToComplete)")):
            short = reason.endswith(_OUT_OF_UNITS) or self._reconciler.ran_out(in_flight)
            if short is None:
                return 0
            if short:
                return self._ran_out(in_flight, slot, reason)
        if not self._reconciler.drop_missing(in_flight):
            return 0
        why = self._report_reason(in_flight, reason)
        self._end(in_flight, Ended(signed.number, Outcome.FAILED, slot, reason))
        if self._isolates(in_flight):
            # One order was at fault. The failure is final and nothing was executed, so each order
            # may be sent by itself.
            self._queue.give_back(batch, alone=True)
            return 1
        self._queue.lost(batch)
        self._reporter.rejected(in_flight, slot, why)
        self._settle(signed.orders, batch, Outcome.FAILED, reason)
        return 1

    def _report_reason(self, in_flight: InFlight, reason: str) -> Reason:
        code = _CUSTOM.search(reason)
        if code is not None:
            return self._routes[in_flight.batch.route].carrier.reason(int(code[1]))
        return Reason.NO_FUNDS if "InsufficientFunds" in reason else Reason.OTHER

    def _reason(self, in_flight: InFlight, err: object) -> str:
        """Return an error of the chain as text, with the meaning that the venue gives it."""
        reason = reason_of(err)
        code = _CUSTOM.search(reason)
        carrier = self._routes[in_flight.batch.route].carrier
        meaning = carrier.explain(int(code[1])) if code is not None else ""
        return f"{reason}: {meaning}" if meaning else reason

    def _ran_out(self, in_flight: InFlight, slot: int, reason: str) -> int:
        """Settle a transaction that used all its compute units: its orders get twice as many."""
        batch, signed, limit = in_flight.batch, in_flight.signed, in_flight.compute_units
        reason = f"out of compute at {limit:,} units: {reason}" if limit else reason
        self._end(in_flight, Ended(signed.number, Outcome.FAILED, slot, reason))
        if self._may_have_more(in_flight):
            for entry in batch.entries:
                entry.compute_failures += 1
            self._queue.give_back(batch, alone=limit >= MAX_COMPUTE_UNITS)
            return 1
        self._queue.lost(batch)
        self._reporter.rejected(in_flight, slot, Reason.OUT_OF_COMPUTE)
        self._settle(signed.orders, batch, Outcome.FAILED, reason)
        return 1

    def _may_have_more(self, in_flight: InFlight) -> bool:
        """Return whether the orders may be sent again with a higher compute limit."""
        batch = in_flight.batch
        if not batch.entries or batch.compute_failures >= self._options.compute_retries:
            return False
        return in_flight.compute_units < MAX_COMPUTE_UNITS or len(batch.entries) > 1

    def _may_need_units(self, in_flight: InFlight, status: SignatureStatus | None) -> bool:
        """Return whether a failure for compute must be final before the orders are sent again.

        Cancels alone need not wait: a fork in which they executed makes them fail, and no more.
        """
        reason = reason_of(status.err) if status is not None else ""
        short = reason.endswith((*_OUT_OF_UNITS, "ProgramFailedToComplete)"))
        places = bool(len(in_flight.signed.places))
        return short and places and self._may_have_more(in_flight)

    def _isolates(self, in_flight: InFlight) -> bool:
        """Return whether the orders are sent again one by one if their transaction fails."""
        return self._options.isolate and len(in_flight.batch.entries) > 1

    def _expired(self, in_flight: InFlight) -> None:
        self._end(in_flight, Ended(in_flight.signed.number, Outcome.EXPIRED))

    def _end(self, in_flight: InFlight, ended: Ended) -> None:
        """Note the end of a transaction, and of its submission if it was the last."""
        self._journal.append(ended)
        self._tally.transaction(ended.outcome.name.lower())
        if ended.outcome is not Outcome.EXPIRED:
            self._tally.add("fee_lamports", in_flight.spend.fee_lamports)
            if ended.outcome is Outcome.LANDED:
                self._tally.add("tip_lamports", in_flight.spend.tip_lamports)
        self._charge(in_flight, ended.outcome)
        del self._in_flight[in_flight.signed.signature]
        submission = in_flight.submission
        submission.ended[in_flight] = ended.outcome
        if submission.over:
            self._submissions.remove(submission)
            if submission.nothing_landed and submission.attempt < self._options.attempts:
                self._to_sign_again.append(submission)
            else:
                self._give_up(submission)

    def _charge(self, in_flight: InFlight, outcome: Outcome) -> None:
        """Tell the signer what a transaction cost, so that its limit has the rest again."""
        spend = in_flight.spend
        if outcome is Outcome.LANDED:
            known = in_flight.paid
            if known is None and len(in_flight.signed.places):
                # The node does not tell what it cost: it counts as it was signed.
                return
            paid = max(known or 0, spend.total)
            self._tally.add("rent_lamports", paid - spend.total)
        else:
            paid = spend.fee_lamports if outcome is Outcome.FAILED else 0
        self._signer.settle(in_flight.signed.signature, paid)

    def _give_up(self, submission: SubmissionBatch) -> None:
        """Settle the orders of the expired transactions of a submission."""
        refused = submission.refusal if not submission.accepted else ""
        outcome = Outcome.FAILED if refused else Outcome.EXPIRED
        for in_flight, ended in submission.ended.items():
            if ended is Outcome.EXPIRED:
                self._queue.lost(in_flight.batch)
                self._settle(in_flight.signed.orders, in_flight.batch, outcome, refused)

    def _settle(self, orders: Array, batch: OrderBatch, outcome: Outcome, reason: str = "") -> None:
        recovered = len(orders) - len(batch.entries)
        self._tally.settle(batch.tickets, outcome, reason, recovered=recovered)

    # Ending, and reading

    def close(
        self,
        deadline_s: float = 60.0,
        *,
        send_waiting: bool | Callable[[], bool] = True,
        hurry: Callable[[], bool] | None = None,
    ) -> ChainLedger:
        """Send the waiting orders and follow the transactions in flight, up to a deadline.

        Unless `SubmitOptions.on_exit` is ``leave``, all resting orders are cancelled at the end.
        Idempotent.

        Parameters
        ----------
        deadline_s : float
            Seconds, 0 to 1e9. No request outlasts it. Orders that still wait are shed then. Orders
            in flight are unknown; the journal keeps them for the next process.
        send_waiting : bool or callable
            Whether waiting orders are still sent. If not, they are shed at once, expired ones are
            not signed again, transactions in flight are followed but not resent, and resting orders
            are cancelled at once. A callable is called before each duty cycle.
        hurry : callable, optional
            Called before each request. Once it returns True, the deadline has come.

        Returns
        -------
        ChainLedger
            It balances.

        Raises
        ------
        ConfigError
            `deadline_s` is out of range.
        JournalError
            As `step`. Nothing is sent from then on. Transactions in flight are followed, and the
            submitter is closed all the same.
        """
        checked_deadline(deadline_s)
        if self._closed:
            return self.ledger()
        until = self._clock() + round(deadline_s * NS_PER_S)
        pause_s = min(max(self._options.poll_ns / NS_PER_S / 4, 0.001), MOST_PAUSE_S)

        def left_s() -> float:
            nonlocal until
            now = self._clock()
            if now < until and hurry is not None and hurry():
                until = now
            return (until - now) / NS_PER_S

        self._left_s = left_s
        try:
            with time_limit(left_s):
                self._finish_all(send_waiting, left_s, pause_s)
                self._audit(left_s, pause_s)
        finally:
            self._closed = True
            self._shed()
            for submission in self._submissions:
                self._give_up(submission)
            for in_flight in self._in_flight.values():
                # Its result at the venue is not known. The next process requests it.
                status, outcome, reason = in_flight.status, Outcome.UNKNOWN, ""
                if status is not None and status.err is None:
                    outcome = Outcome.LANDED
                elif status is not None:
                    outcome, reason = Outcome.FAILED, reason_of(status.err)
                self._tally.transaction(outcome.name.lower())
                self._settle(in_flight.signed.orders, in_flight.batch, outcome, reason)
        if self._broken is not None:
            raise self._broken
        return self.ledger()

    def _finish_all(
        self,
        send_waiting: bool | Callable[[], bool],
        left_s: Callable[[], float],
        pause_s: float,
    ) -> None:
        """Run duty cycles until nothing is left to do, and cancel what rests at the end."""
        reserve_s = left_s() * EXIT_SHARE if self._withdraws else 0.0
        while left_s() > 0:
            sends = send_waiting() if callable(send_waiting) else send_waiting
            # Some of the time is kept for the cancellations.
            sends = sends and self._broken is None and left_s() > reserve_s
            if not (sends or self._withdrawing):
                self._shed()
            if self._withdraws and (self._withdrawing or not sends or self.idle):
                self._withdrawing = True
                self._withdraw()
            if self.idle:
                return
            try:
                done = self._cycle(sends=sends or (self._withdrawing and self._withdraws))
            except JournalError:
                if self._broken is None:
                    raise
                # The disk fails. Transactions in flight are followed all the same.
                continue
            if not (done or self.idle):
                self._sleep(min(pause_s, max(0.0, left_s())))

    @property
    def _withdraws(self) -> bool:
        """bool: Whether closing cancels what rests."""
        return self._rests and self._options.on_exit == "cancel" and self._broken is None

    def _withdraw(self) -> None:
        """Have every resting order cancelled, and nothing else sent."""
        self._queue.settle()
        self._queue.keep_cancels("not sent: closing")
        expired, self._to_sign_again = self._to_sign_again, []
        for submission in expired:
            if submission.only_cancels:
                self._to_sign_again.append(submission)
            else:
                self._give_up(submission)
        if self._withdrawals < MOST_WITHDRAWALS:
            ours = [each for each in self._queue.working.resting() if each.sequence is not None]
            self._withdrawals += bool(self._queue.withdraw(ours))

    def _audit(self, left_s: Callable[[], float], pause_s: float) -> None:
        """Read the accounts until they agree with the fills, if nothing is in flight."""
        until = self._clock() + round(AUDIT_S * NS_PER_S)
        for _ in range(MOST_AUDITS):
            over = self._fills.settled or self._in_flight or self._broken is not None
            if over or left_s() <= 0 or self._clock() >= until:
                return
            if not self._watch.poll(self._clock()):
                self._sleep(min(pause_s, max(0.0, left_s())))
        # The journal has what the accounts taught.
        self._commit()

    def holdings(self) -> list[Holding]:
        """Return what we hold at each venue with an account, and what the fills make of it.

        Any thread may call this, also after `close`.
        """
        return self._fills.holdings()

    def _shed(self) -> None:
        """Shed all orders that are not in flight."""
        expired, self._to_sign_again = self._to_sign_again, []
        for submission in expired:
            self._give_up(submission)
        self._tally.settle(self._queue.drain(), Outcome.SHED)

    @property
    def broken(self) -> JournalError | None:
        """JournalError or None: The error of the disk, after which nothing is sent."""
        return self._broken

    @property
    def resting(self) -> int:
        """int: Our numbered orders that are at a venue, as far as is known."""
        return self._queue.working.at_venue

    @property
    def idle(self) -> bool:
        """bool: Whether nothing waits and nothing is in flight."""
        return not (len(self._queue) or self._in_flight or self._to_sign_again)

    @property
    def lot_atoms(self) -> dict[int, int]:
        """dict of int to int: Base atoms of a lot, by market; of those whose carrier says so."""
        carriers = [self._routes[index].carrier for index in range(len(self._routes))]
        return {
            each.market: each.lot_atoms
            for each in carriers
            if each.market is not None and each.lot_atoms
        }

    def reports(self) -> Array:
        """Return the execution reports since the last call.

        One thread may call this at any time, also while another one steps. It need not be the same
        thread each time.

        Returns
        -------
        ndarray of REPORT_DTYPE, shape (n,)
        """
        return self._reporter.take()

    def ledger(self) -> ChainLedger:
        """Return the ledger of every order. It balances once the submitter is closed."""
        return self._tally.ledger()

    def statistics(self) -> SubmitterStatistics:
        """Return a snapshot, also while other threads work."""
        return SubmitterStatistics(
            queued=len(self._queue),
            in_flight=len(self._in_flight),
            errors=self._errors,
            last_error=self._last_error,
            held=self._held,
            unnumbered=self._reconciler.unnumbered,
            unread_events=self._reconciler.unread_events,
            lost_reports=self._reporter.lost,
        )
