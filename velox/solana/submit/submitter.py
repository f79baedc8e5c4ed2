"""From bundles to the chain, each order to one known outcome.

A transaction is the unit of truth. Its way, in one duty cycle after another::

              OrderQueue.take           journal.commit           send
    queued ──────────────────▶ built ──────────────▶ journalled ─────▶ under way ◀─┐
      │  │                       │                                    │   │        │ the same bytes
      │  └▶ CONFLATED, SHED,     └▶ FAILED: the signer or a format    │   └────────┘ again, after
      │     FAILED: nothing to      refuses it                        │       resend_blocks, then
      │     cancel                                                    │       after twice as many
      │                              getSignatureStatuses, at the     │
      │                              commitment that was asked for    ├──▶ LANDED, FAILED
      │                              a failure that is finalized      ├──▶ queued, each by itself
      │                                                               │
      │                              finalized height > last valid,   │ signed anew, if there are
      │                              then nothing in all of history,  ├──▶ attempts left; else
      │                              twice                            │    EXPIRED, or FAILED with
      │                                                               │    what all refused it for
      └▶ SHED: close() came first    close() came first               └──▶ UNKNOWN

What an endpoint answers to a send decides nothing: a response may be lost, an error may be said of
what lands all the same. Only the chain ends a transaction, so that nothing is signed anew which may
still execute. The bytes are in the journal before they are sent; a process that finds them there
goes on from "under way".
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from solders.signature import Signature

from velox.errors import (
    ConfigError,
    JournalError,
    RateLimitedError,
    RpcError,
    SubmitError,
    TransportError,
    VeloxError,
)
from velox.solana.config import SubmitOptions
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import (
    Ended,
    Header,
    Signed,
)
from velox.solana.net.block_engine import BlockEngineClient
from velox.solana.net.deadline import time_limit
from velox.solana.net.rate_limit import SteadyClock
from velox.solana.net.rpc import MAX_STATUSES, RpcClient
from velox.solana.net.rpc_types import Blockhash, SignatureStatus
from velox.solana.net.tips import TipPolicy
from velox.solana.orders.in_flight import InFlight, SubmissionBatch, Verdict, judge, reason_of
from velox.solana.orders.outcomes import ChainLedger, Observer, Outcome, Tally
from velox.solana.orders.queue import OrderBatch, OrderQueue, Shedding, transactions_in
from velox.solana.orders.reports import Reporter
from velox.solana.submit.account_watch import MarketWatch
from velox.solana.submit.blockhash import BLOCKHASH_VALID_BLOCKS, BlockhashCache
from velox.solana.submit.reconcile import Reconciler
from velox.solana.submit.recovery import recover
from velox.solana.submit.routing import Routes, TransactionPlan
from velox.solana.submit.sending import Sender
from velox.solana.submit.signing import Refusal, TransactionSigner
from velox.solana.tx.carrier import Carrier
from velox.solana.tx.limits import MAX_BUNDLE_TRANSACTIONS
from velox.solana.tx.signer import Signer
from velox.solana.tx.spend import SpendSummary

__all__ = ["Submitter", "SubmitterStatistics", "checked_deadline"]

Array: TypeAlias = npt.NDArray[np.void]
# Does what there is room for, at a moment in ns, and returns how much that was.
Turn: TypeAlias = Callable[[int], int]

# Volleys that are signed in one duty cycle: they share one sync of the disk.
LAUNCHES_AT_ONCE: Final = 16
# The longest deadline of `close`, in seconds: some thirty years.
MOST_DEADLINE_S: Final = 1e9
# How long `close` sleeps at most, in seconds, before it asks whether to hurry.
MOST_PAUSE_S: Final = 0.1
# Looks in a row that must find a transaction dead: nodes behind one address need not agree.
LOOKS_AT_THE_DEAD: Final = 2
NS: Final = 1_000_000_000
_UNANSWERED = (TransportError, RpcError, RateLimitedError)


@dataclass(frozen=True, slots=True)
class SubmitterStatistics:
    """A submitter at one moment.

    Attributes
    ----------
    queued : int
        Orders that wait.
    flying : int
        Transactions under way.
    errors : int
        Answers that did not come, or refused something.
    last_error : str
    held : str
        Why the signer last let orders wait, for its cap on a minute's spending; empty where it
        never did.
    unnumbered : int
        Orders that were placed and whose number on the chain could not be learned: they can not be
        cancelled from here.
    unread_events : int
        Fills that the program logged in a layout that is not known: they are in no report.
    lost_reports : int
        Reports that nobody took in time: 65 536 are kept.
    """

    queued: int
    flying: int
    errors: int
    last_error: str
    held: str
    unnumbered: int
    unread_events: int
    lost_reports: int


def checked_deadline(deadline_s: float) -> float:
    """Return it; or raise ConfigError where it is none."""
    if not isinstance(deadline_s, int | float) or not 0 <= deadline_s <= MOST_DEADLINE_S:
        raise ConfigError(f"deadline_s = {deadline_s!r}: must be a number of seconds, 0 to 1e9")
    return deadline_s


class Submitter:
    """Takes bundles, and sends what has to be sent.

    Parameters
    ----------
    rpc : RpcClient
        Whose word on what was executed counts. Best without retries of its own: a duty cycle asks
        again anyway.
    block_engine : BlockEngineClient or None
        Where transactions go; None sends them to `rpc`.
    signer : Signer
        Pays and trades.
    carriers : Carrier or sequence of Carrier
        A `ManifestCarrier` takes the orders of its market, one of another kind all others.
    tip_policy : TipPolicy or None
        What a bundle pays; needed with a block engine.
    journal : SubmissionJournal
        Of this signer on this cluster, or new. What it holds without an end is followed on.
    options : SubmitOptions, optional
    capacity, shedding
        Of the `OrderQueue`.
    observer : callable, optional
        Is told of each order's end, see `Tally`.
    clock : callable
        ns. One that is set back is taken to stand still for that moment.
    sleep : callable
        Waits for so many seconds; `close` alone uses it.
    rng : random.Random, optional
        Chooses tip accounts.

    Raises
    ------
    SubmitError
        The payer has no lamports; the journal is another signer's, of another cluster, or holds
        orders of a market that nothing carries.
    ConfigError
        The parts do not fit together.
    TransportError, RpcError, RateLimitedError
        An endpoint cannot be asked what has to be known at the start.

    Notes
    -----
    Thread-safety: `intake` belongs to one thread; `step`, `close` and `reports` to another.
    `statistics` and `ledger` may be called from any.
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
        capacity: int = 8192,
        shedding: Shedding = "oldest",
        observer: Observer | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._options = options = options if options is not None else SubmitOptions()
        if options.atomic and block_engine is None:
            raise ConfigError("atomic = true: only a block engine lands several, or none")
        self._rpc = rpc
        self._signer = signer
        self._journal = journal
        self._clock = clock = SteadyClock(clock)
        self._sleep = sleep
        self._errors = 0
        self._last_error = self._held = ""
        self._dispatch = Sender(
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
        self._lanes = Routes(carriers, signer)
        self._queue = OrderQueue(
            self._tally,
            capacity=capacity,
            shedding=shedding,
            check=self._lanes.faults,
            lane_of_market=self._lanes.of_market.tolist(),
        )
        self._reporter = Reporter(signer.pubkey)
        self._volleys: list[SubmissionBatch] = []
        self._flights: dict[Signature, InFlight] = {}
        # Expired, and to be signed anew.
        self._anew: list[SubmissionBatch] = []
        self._press = TransactionSigner(self._dispatch, options, self._note)
        self._watch = MarketWatch(
            rpc,
            self._lanes,
            self._queue.desk,
            journal,
            signer.pubkey,
            commitment=options.commitment,
            poll_ns=options.poll_ns,
            note=self._note,
        )
        self._effects = Reconciler(
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
        # Whether the last look learned the height: nothing is signed by an old one.
        self._height_is_new = False
        self._look_ns = self._launch_ns = clock()
        # Whose the next request is, where an endpoint takes few. For each volley that goes for the
        # first time one may go again, so that each comes to that while its blockhash lives.
        self._signing: deque[Turn] = deque([self._launch, self._sign_anew])
        self._sending: deque[Turn] = deque([partial(self._take_turns, self._signing), self._resend])
        # Transactions in a bundle; fewer for a while where the signer's cap had no room for them.
        self._bundle_size = MAX_BUNDLE_TRANSACTIONS
        self._left_s: Callable[[], float] = lambda: math.inf
        self._closed = False
        self._broken: JournalError | None = None
        self._introduce()
        self._recover()

    # Beginning

    def _introduce(self) -> None:
        header = Header(self._signer.pubkey, self._rpc.get_genesis_hash())
        found = self._journal.unsettled.header
        if found is None:
            self._journal.append(header)
            self._journal.commit()
        elif found != header:
            what = "payer" if found.payer != header.payer else "genesis"
            raise SubmitError(
                f"{self._journal.path}: of {what} {getattr(found, what)}, but this is "
                f"{getattr(header, what)}: a journal belongs to one signer on one cluster"
            )
        if not self._rpc.get_balance(self._signer.pubkey):
            raise SubmitError(f"payer {self._signer.pubkey} has no lamports: fund it first")

    def _recover(self) -> None:
        self._press.recent.update(self._journal.unsettled.recent)
        for volley in recover(self._journal, self._lanes, self._queue):
            self._track(volley)
            for flight in volley.flights:
                self._tally.add("recovered", len(flight.signed.orders))
                self._tally.transaction("recovered")

    def _track(self, volley: SubmissionBatch) -> None:
        self._volleys.append(volley)
        for flight in volley.flights:
            self._flights[flight.signed.signature] = flight

    # Coming in

    def intake(self, bundles: Array) -> None:
        """Take bundles in; cheap, and never waits.

        Parameters
        ----------
        bundles : ndarray of BUNDLE_DTYPE, shape (n,)
            Copied, so it may lie in a ring.

        Raises
        ------
        SubmitError
            The submitter is closed: nobody would see to the orders.
        ConfigError
            This is no array of bundles.
        """
        if self._closed:
            raise SubmitError("intake of a submitter that is closed")
        if len(bundles):
            self._queue.push(transactions_in(bundles))

    # The duty cycle

    def step(self) -> int:
        """Do what there is to do now, once, and return; it never waits for time to pass.

        Returns
        -------
        int
            Orders, answers and requests dealt with; 0 if there was nothing.

        Raises
        ------
        JournalError
            The disk does not take what has to be on it: nothing more is sent.
        SubmitError
            The submitter is closed.

        Notes
        -----
        An endpoint that fails is no error of a step: it is counted, and asked again later.
        """
        if self._closed:
            raise SubmitError("step of a submitter that is closed")
        if self._broken is not None:
            raise self._broken
        return self._cycle(sends=True)

    def hold(self) -> None:
        """Let the step that may be under way end with the request that it is at; for any thread.

        No step sends anything from then on; `close` says what comes of it.
        """
        self._left_s = lambda: 0.0

    def _cycle(self, *, sends: bool) -> int:
        done = self._queue.settle()
        now = self._clock()
        if now >= self._look_ns and not self.idle and not self._rpc.wait_s:
            self._look_ns = now + self._options.poll_ns
            done += self._follow()
        if not sends:
            return done
        if not self._rpc.wait_s:
            done += self._watch.look(now)
        return done + self._take_turns(self._sending, now)

    def _take_turns(self, turns: deque[Turn], now: int) -> int:
        """Let each of some do what there is room for, beginning with the one whose turn it is."""
        done = 0
        for _ in range(len(turns)):
            if not self._may_send():
                break
            turn = turns[0]
            turns.rotate(-1)
            done += turn(now)
        return done

    def _note(self, error: VeloxError | str) -> None:
        self._errors += 1
        self._last_error = str(error)

    # Building

    def _launch(self, now: int) -> int:
        """Send for the first time what is signed; then sign and send what the queue has.

        That as far as window and endpoint have room.
        """
        done = self._send(each for each in self._due() if not each.sends)
        room = self._options.window - len(self._flights)
        if room <= 0 or not len(self._queue) or not self._may_launch(now):
            return done
        blockhash = self._blockhash(now)
        if blockhash is None:
            return done
        volleys = []
        for _ in range(self._launches):
            packs = self._take(min(room, self._bundle_size if self._options.atomic else 1))
            volley = self._sign_first(packs, blockhash, now)
            done += len(packs)
            if volley is not None:
                room -= len(volley.flights)
                volleys.append(volley)
            if not packs or room <= 0 or now < self._launch_ns:
                break
        self._let_go(volleys)
        return done

    @property
    def _launches(self) -> int:
        """How many volleys are signed at once: no more than there is room for, or may well be."""
        return 1 if self._dispatch.bundles else LAUNCHES_AT_ONCE

    def _let_go(self, volleys: list[SubmissionBatch]) -> None:
        """Write what was signed to the journal, and send it once the disk has it."""
        for volley in volleys:
            first = self._journal.unsettled.next_number
            for number, flight in enumerate(volley.flights, first):
                flight.signed = replace(
                    flight.signed, number=number, volley=first, volley_size=len(volley.flights)
                )
                self._journal.append(flight.signed)
                self._tally.transaction("signed")
        try:
            self._commit()
        except JournalError:
            # Not sent by us; but should the disk have it after all, the next process will.
            for volley in volleys:
                for flight in volley.flights:
                    self._tally.transaction("unknown")
                    self._settle(flight.signed.orders, flight.pack, Outcome.UNKNOWN)
            raise
        for volley in volleys:
            self._track(volley)
        self._send(volleys)

    def _commit(self) -> None:
        try:
            self._journal.commit()
        except JournalError as error:
            self._broken = error
            raise

    def _may_launch(self, now: int) -> bool:
        """Whether endpoints have room; what waits may be netted meanwhile, so none is signed."""
        return now >= self._launch_ns and self._may_send() and not self._rpc.wait_s

    def _may_send(self) -> bool:
        """Whether an endpoint takes a request now, and there is time for one."""
        return self._dispatch.ready and self._left_s() > 0

    def _blockhash(self, now: int) -> Blockhash | None:
        try:
            blockhash = self._blockhashes.get(self._height if self._height_is_new else None)
        except _UNANSWERED as error:
            self._note(error)
            self._launch_ns = now + self._options.poll_ns
            return None
        born = blockhash.last_valid_block_height - BLOCKHASH_VALID_BLOCKS
        self._height = max(self._height, born)
        # That may have taken the last of the time: what is signed now would be sent by the next.
        return blockhash if self._left_s() > 0 else None

    def _take(self, most: int) -> list[OrderBatch]:
        """The oldest orders, of the lanes whose turn it is, for so many transactions at most."""
        packs: list[OrderBatch] = []
        while len(packs) < most:
            pack = self._take_one()
            if pack is None:
                break
            packs.append(pack)
        return packs

    def _take_one(self) -> OrderBatch | None:
        count = len(self._lanes)
        first = self._queue.oldest_lane or 0
        for index in [(first + step) % count for step in range(count)]:
            known = self._watch.knows(index)
            pack = self._queue.take(self._lanes[index].fits, index, known=known)
            if pack is not None or self._queue.unsure:
                self._watch.want(index, self._queue.unsure)
            if pack is not None:
                return pack
        return None

    def _sign_first(
        self, packs: list[OrderBatch], blockhash: Blockhash, now: int
    ) -> SubmissionBatch | None:
        """Sign what the queue gave; None where it has failed, or waits on."""
        if not packs:
            return None
        sheets = [(self._lanes[each.lane].plan(each), each) for each in packs]
        signed = self._sign(1, sheets, blockhash, now)
        if isinstance(signed, SubmissionBatch):
            self._bundle_size = min(self._bundle_size + 1, MAX_BUNDLE_TRANSACTIONS)
            return signed
        if signed.passing:
            # Until there is room again the orders wait, and may be netted.
            for pack in packs:
                self._queue.give_back(pack)
        else:
            self._refuse(sheets, signed.reason)
        return None

    def _sign_anew(self, now: int) -> int:
        """Sign the orders of volleys that have provably expired, whole, with a young blockhash."""
        if not self._anew or not self._may_launch(now):
            return 0
        blockhash = self._blockhash(now)
        if blockhash is None:
            return 0
        expired, self._anew = self._anew[: self._launches], self._anew[self._launches :]
        volleys = []
        for place, old in enumerate(expired):
            sheets = [
                (
                    TransactionPlan(each.signed.orders, each.signed.places, each.signed.cancels),
                    each.pack,
                )
                for each in old.flights
            ]
            signed = self._sign(old.attempt + 1, sheets, blockhash, now)
            if isinstance(signed, SubmissionBatch):
                volleys.append(signed)
            elif signed.passing:
                self._anew = expired[place:] + self._anew
                break
            else:
                self._refuse(sheets, signed.reason)
        self._let_go(volleys)
        return len(expired)

    def _sign(
        self,
        attempt: int,
        sheets: list[tuple[TransactionPlan, OrderBatch]],
        blockhash: Blockhash,
        now: int,
    ) -> SubmissionBatch | Refusal:
        """Sign what goes together: all of it, or nothing."""
        volley = SubmissionBatch(attempt)
        for plan, pack in sheets:
            lane = self._lanes[pack.lane]
            raw = self._press.sign(lane, plan, blockhash, now, tips=not volley.flights)
            if isinstance(raw, Refusal):
                for flight in volley.flights:
                    # Nobody else has these bytes.
                    del self._press.recent[flight.signed.signature]
                if raw.passing:
                    self._held = raw.reason
                    self._launch_ns = now + NS
                    # What was signed counts for the cap all the same: the next is no larger.
                    self._bundle_size = len(volley.flights) or self._bundle_size
                return raw
            signed = Signed(
                0,
                attempt,
                blockhash.last_valid_block_height,
                blockhash.hash,
                raw,
                plan.orders,
                plan.places,
                plan.cancels,
            )
            volley.flights.append(InFlight(signed, pack, volley))
        return volley

    def _refuse(self, sheets: list[tuple[TransactionPlan, OrderBatch]], reason: str) -> None:
        for plan, pack in sheets:
            self._queue.lost(pack)
            self._settle(plan.orders, pack, Outcome.FAILED, reason)

    # Sending

    def _send(self, volleys: Iterable[SubmissionBatch]) -> int:
        """Send, one after the other, for as long as there is room; return how many those were."""
        done = 0
        for volley in volleys:
            if self._signer.killed is not None:
                volley.refusal = "not sent: killed"
            elif self._may_send():
                self._tally.add("sends", self._dispatch.send(volley, self._height))
                done += 1
            else:
                break
        return done

    def _resend(self, now: int) -> int:
        """Send again what nobody has seen for some blocks."""
        if self._signer.killed is not None:
            return 0
        return self._send(each for each in self._due() if each.sends)

    def _due(self) -> list[SubmissionBatch]:
        """What is signed and may go now; what went least often, and longest ago, comes first."""
        due = [
            each
            for each in self._volleys
            if each.goes(self._height, self._options.resend_blocks) and self._dispatch.carries(each)
        ]
        due.sort(key=lambda each: (each.sends, each.sent_height or 0))
        return due

    # Following

    def _follow(self) -> int:
        """Look once at everything that is under way."""
        done = 0
        self._height_is_new = False
        try:
            self._height = self._rpc.get_block_height("confirmed")
            self._height_is_new = True
            young: list[InFlight] = []
            dying: list[InFlight] = []
            for flight in self._flights.values():
                if flight.status is None:
                    old = flight.signed.last_valid_block_height < self._height
                    (dying if old and not flight.seen else young).append(flight)
            done += self._look(young)
            done += self._finish_executed()
            if dying:
                # The height first: what the second answer does not have came too late for it, if
                # only the node that gives it has got as far as the one that gave the height.
                slot, finalized = self._rpc.get_slot_and_height("finalized")
                done += self._look(dying, finalized, slot)
        except _UNANSWERED as error:
            self._note(error)
        if self._broken is None:
            self._commit()
        self._press.forget(self._height, self._flights)
        return done

    def _look(
        self, flights: list[InFlight], finalized: int | None = None, least_slot: int = 0
    ) -> int:
        """Look at some; at those that may have expired with a finalized height, and its slot."""
        done = 0
        history = finalized is not None
        statuses: list[SignatureStatus | None] = []
        for first in range(0, len(flights), MAX_STATUSES):
            some = [each.signed.signature for each in flights[first : first + MAX_STATUSES]]
            statuses += self._rpc.get_signature_statuses(some, history, least_slot=least_slot)
        for flight, status in zip(flights, statuses, strict=True):
            failed = status is not None and status.err is not None
            verdict = judge(
                status,
                # What goes again must not land after all: what is confirmed a fork may take back.
                "finalized" if failed and self._isolates(flight) else self._options.commitment,
                last_valid=flight.signed.last_valid_block_height,
                finalized=finalized,
                whole_history=history,
            )
            # What was seen once and is not any more, a fork has taken back.
            flight.seen = status is not None
            flight.missing = flight.missing + 1 if verdict is Verdict.MISSING else 0
            if verdict is Verdict.WAIT or 0 < flight.missing < LOOKS_AT_THE_DEAD:
                continue
            done += 1
            if status is None:
                self._expired(flight)
            else:
                flight.status = status
        return done

    def _finish_executed(self) -> int:
        done = 0
        for flight in [each for each in self._flights.values() if each.status is not None]:
            try:
                done += self._finish(flight)
            except (TransportError, RateLimitedError) as error:
                self._note(error)
                # The next look begins with another: an answer that is never good holds up no more.
                signature = flight.signed.signature
                self._flights[signature] = self._flights.pop(signature)
                break
        return done

    def _finish(self, flight: InFlight) -> int:
        """Settle an executed transaction, once it is known what it did in the market."""
        status, lane, signed = flight.status, self._lanes[flight.pack.lane], flight.signed
        slot = status.slot if status is not None else 0
        self._watch.executed(slot)
        if status is not None and status.err is not None:
            return self._failed(flight, slot, reason_of(status.err))
        effect = self._effects.learn(flight, lane)
        if effect is None:
            return 0
        self._reporter.landed(flight, slot, effect.placed, effect.fills, lane.spec)
        rests = self._effects.apply(flight, effect, lane, slot)
        market = int(signed.orders["market"][0])
        gone = tuple((market, each) for each in signed.cancels)
        self._end(flight, Ended(signed.number, Outcome.LANDED, slot, "", rests, gone))
        self._effects.remember(effect, market)
        self._settle(signed.orders, flight.pack, Outcome.LANDED)
        return 1

    def _failed(self, flight: InFlight, slot: int, reason: str) -> int:
        """Settle a failure, once it is known whether others have filled what it was to cancel."""
        pack, signed = flight.pack, flight.signed
        if not self._effects.look_for(flight):
            return 0
        self._end(flight, Ended(signed.number, Outcome.FAILED, slot, reason))
        if self._isolates(flight):
            # One of them was at fault; nothing was done, for good, so that each may go by itself.
            self._queue.give_back(pack, alone=True)
            return 1
        self._queue.lost(pack)
        self._reporter.rejected(flight, slot)
        self._settle(signed.orders, pack, Outcome.FAILED, reason)
        return 1

    def _isolates(self, flight: InFlight) -> bool:
        """Whether the orders go once more, each by itself, should their transaction fail."""
        return self._options.isolate and len(flight.pack.entries) > 1

    def _expired(self, flight: InFlight) -> None:
        self._end(flight, Ended(flight.signed.number, Outcome.EXPIRED))

    def _end(self, flight: InFlight, ended: Ended) -> None:
        """Note a transaction's end, for the journal too; conclude its volley if it was the last."""
        self._journal.append(ended)
        self._tally.transaction(ended.outcome.name.lower())
        if ended.outcome is not Outcome.EXPIRED:
            spent = SpendSummary.of(flight.signed.raw[65:])
            self._tally.add("fee_lamports", spent.fee_lamports)
            if ended.outcome is Outcome.LANDED:
                self._tally.add("tip_lamports", spent.tip_lamports)
        del self._flights[flight.signed.signature]
        volley = flight.volley
        volley.ended[flight] = ended.outcome
        if volley.over:
            self._volleys.remove(volley)
            if volley.nothing_landed and volley.attempt < self._options.attempts:
                self._anew.append(volley)
            else:
                self._give_up(volley)

    def _give_up(self, volley: SubmissionBatch) -> None:
        """Settle, for good, the orders of those transactions of a volley that have expired."""
        refused = volley.refusal if not volley.accepted else ""
        outcome = Outcome.FAILED if refused else Outcome.EXPIRED
        for flight, ended in volley.ended.items():
            if ended is Outcome.EXPIRED:
                self._queue.lost(flight.pack)
                self._settle(flight.signed.orders, flight.pack, outcome, refused)

    def _settle(self, orders: Array, pack: OrderBatch, outcome: Outcome, reason: str = "") -> None:
        recovered = len(orders) - len(pack.entries)
        self._tally.settle(pack.tickets, outcome, reason, recovered=recovered)

    # Ending, and reading

    def close(
        self,
        deadline_s: float = 60.0,
        *,
        send_waiting: bool | Callable[[], bool] = True,
        hurry: Callable[[], bool] | None = None,
    ) -> ChainLedger:
        """Send what waits and follow what is under way, for so long; then give up. Idempotent.

        Parameters
        ----------
        deadline_s : float
            Seconds, 0 to 1e9, which no request outlasts. What waits still is shed then, and what
            is under way is unknown: the journal has it for the next time.
        send_waiting : bool or callable
            Whether anything is sent still. Once it is not, what waits is shed at once, what would
            be signed anew has expired, and what is under way is looked at alone, and not sent
            again. A callable is asked before each duty cycle, for one who may still change their
            mind.
        hurry : callable, optional
            Is asked before each request; the deadline has come once it returns True.

        Returns
        -------
        ChainLedger
            It balances.

        Raises
        ------
        ConfigError
            The deadline is none.
        JournalError
            As `step`: nothing is sent from then on, what is under way is followed, and the
            submitter is closed all the same.
        """
        checked_deadline(deadline_s)
        if self._closed:
            return self.ledger()
        until = self._clock() + round(deadline_s * NS)
        pause_s = min(max(self._options.poll_ns / NS / 4, 0.001), MOST_PAUSE_S)

        def left_s() -> float:
            nonlocal until
            now = self._clock()
            if now < until and hurry is not None and hurry():
                until = now
            return (until - now) / NS

        self._left_s = left_s
        try:
            with time_limit(left_s):
                while not self.idle and left_s() > 0:
                    sends = send_waiting() if callable(send_waiting) else send_waiting
                    sends = sends and self._broken is None
                    if not sends:
                        self._shed()
                    try:
                        done = self._cycle(sends=sends)
                    except JournalError:
                        if self._broken is None:
                            raise
                        # The disk takes no more: what is under way is followed all the same.
                        continue
                    if not (done or self.idle):
                        self._sleep(min(pause_s, max(0.0, left_s())))
        finally:
            self._closed = True
            self._shed()
            for volley in self._volleys:
                self._give_up(volley)
            for flight in self._flights.values():
                # What it did in the market is not known, and the next process will ask for that.
                status, outcome, reason = flight.status, Outcome.UNKNOWN, ""
                if status is not None and status.err is None:
                    outcome = Outcome.LANDED
                elif status is not None:
                    outcome, reason = Outcome.FAILED, reason_of(status.err)
                self._tally.transaction(outcome.name.lower())
                self._settle(flight.signed.orders, flight.pack, outcome, reason)
        if self._broken is not None:
            raise self._broken
        return self.ledger()

    def _shed(self) -> None:
        """Give up what is not under way."""
        anew, self._anew = self._anew, []
        for volley in anew:
            self._give_up(volley)
        self._tally.settle(self._queue.drain(), Outcome.SHED)

    @property
    def broken(self) -> JournalError | None:
        """JournalError or None: What the disk did not take; nothing is sent from then on."""
        return self._broken

    @property
    def idle(self) -> bool:
        """bool: Whether nothing waits and nothing is under way."""
        return not (len(self._queue) or self._flights or self._anew)

    def reports(self) -> Array:
        """Return the execution reports since the last call.

        Returns
        -------
        ndarray of EXECUTION_REPORT_DTYPE, shape (n,)
        """
        return self._reporter.take()

    def ledger(self) -> ChainLedger:
        """Account for every order; it balances once the submitter is closed."""
        return self._tally.ledger()

    def statistics(self) -> SubmitterStatistics:
        """Return where things stand, also while other threads work."""
        return SubmitterStatistics(
            queued=len(self._queue),
            flying=len(self._flights),
            errors=self._errors,
            last_error=self._last_error,
            held=self._held,
            unnumbered=self._effects.unnumbered,
            unread_events=self._effects.unread_events,
            lost_reports=self._reporter.lost,
        )
