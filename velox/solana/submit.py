"""From bundles to the chain, each order to one known outcome.

A transaction is the unit of truth. Its way, in one duty cycle after another::

              OrderQueue.take           journal.commit           send
    queued ──────────────────▶ built ──────────────▶ journalled ─────▶ under way ◀─┐
      │  │                       │                                    │   │        │ the same bytes
      │  └▶ CONFLATED, SHED,     └▶ FAILED: the signer or a format    │   └────────┘ again, every
      │     FAILED: nothing to      refuses it                        │              resend_blocks
      │     cancel                                                    │
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

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from velox.solana.blockhash import BLOCKHASH_VALID_BLOCKS, BlockhashCache
from velox.solana.carriers import Carrier
from velox.solana.chain_ledger import ChainLedger, Observer, Outcome, Tally
from velox.solana.config import SubmitOptions
from velox.solana.conflation import OrderQueue, Pack, Shedding, transactions_in
from velox.solana.dispatch import Dispatch
from velox.solana.flights import Flight, Verdict, Volley, judge, reason_of
from velox.solana.jito import MAX_BUNDLE_TRANSACTIONS, BlockEngineClient
from velox.solana.journal import (
    NOTHING_RESTS,
    RESTING_DTYPE,
    Ended,
    Header,
    Signed,
    SubmissionJournal,
)
from velox.solana.lanes import Lane, Lanes, Plan
from velox.solana.limiter import SteadyClock
from velox.solana.press import Press, Refusal
from velox.solana.recovery import recover
from velox.solana.reports import Fill, Reporter, placed_orders, read_log
from velox.solana.rpc import MAX_STATUSES, Blockhash, RpcClient, SignatureStatus, TransactionInfo
from velox.solana.signer import Signer, SpendSummary
from velox.solana.tips import TipPolicy

__all__ = ["Submitter", "SubmitterStatistics"]

Array: TypeAlias = npt.NDArray[np.void]

# Volleys that are signed in one duty cycle: they share one sync of the disk.
LAUNCHES_AT_ONCE: Final = 16
# How often a node is asked what an executed transaction did before that counts as not known.
LOOKS_AT_DETAILS: Final = 20
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
    unnumbered: int
    unread_events: int
    lost_reports: int


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
        self._last_error = ""
        self._dispatch = Dispatch(
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
        self._lanes = Lanes(carriers, signer)
        self._queue = OrderQueue(
            self._tally,
            capacity=capacity,
            shedding=shedding,
            check=self._lanes.faults,
            lane_of_market=self._lanes.of_market.tolist(),
        )
        self._reporter = Reporter(signer.pubkey)
        self._volleys: list[Volley] = []
        self._flights: dict[Signature, Flight] = {}
        # Expired, and to be signed anew.
        self._anew: list[Volley] = []
        self._press = Press(self._dispatch, options, self._note)
        self._blockhashes = BlockhashCache(rpc)
        self._height = 0
        # Whether the last look learned the height: nothing is signed by an old one.
        self._height_is_new = False
        self._look_ns = self._launch_ns = clock()
        self._unnumbered = 0
        self._unread_events = 0
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

    def _track(self, volley: Volley) -> None:
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
        done = self._queue.settle()
        now = self._clock()
        if now >= self._look_ns and not self.idle:
            self._look_ns = now + self._options.poll_ns
            done += self._follow()
        done += self._sign_anew(now)
        done += self._resend(now)
        return done + self._launch(now)

    def _note(self, error: VeloxError | str) -> None:
        self._errors += 1
        self._last_error = str(error)

    # Building

    def _launch(self, now: int) -> int:
        """Sign and send what the queue has, as far as window and endpoint have room."""
        if not len(self._queue) or not self._may_launch(now):
            return 0
        if len(self._flights) >= self._options.window:
            return 0
        blockhash = self._blockhash(now)
        if blockhash is None:
            return 0
        done, volleys = 0, []
        room = self._options.window - len(self._flights)
        for _ in range(1 if self._dispatch.bundles else LAUNCHES_AT_ONCE):
            volley = Volley(1)
            taken = self._fill(volley, room, blockhash, now)
            done += taken
            room -= len(volley.flights)
            if volley.flights:
                volleys.append(volley)
            if not taken or room <= 0 or now < self._launch_ns:
                break
        self._let_go(volleys, now)
        return done

    def _let_go(self, volleys: list[Volley], now: int) -> None:
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
        for volley in volleys:
            self._send(volley, now)

    def _commit(self) -> None:
        try:
            self._journal.commit()
        except JournalError as error:
            self._broken = error
            raise

    def _may_launch(self, now: int) -> bool:
        """Whether an endpoint has room; what waits may be netted meanwhile, so none is signed."""
        return now >= self._launch_ns and self._dispatch.ready

    def _blockhash(self, now: int) -> Blockhash | None:
        try:
            blockhash = self._blockhashes.get(self._height if self._height_is_new else None)
        except _UNANSWERED as error:
            self._note(error)
            self._launch_ns = now + self._options.poll_ns
            return None
        born = blockhash.last_valid_block_height - BLOCKHASH_VALID_BLOCKS
        self._height = max(self._height, born)
        return blockhash

    def _fill(self, volley: Volley, room: int, blockhash: Blockhash, now: int) -> int:
        """Take from the queue what fits a volley, and sign it; return how many packs that were."""
        most = min(room, MAX_BUNDLE_TRANSACTIONS if self._options.atomic else 1)
        for taken in range(most):
            pack = self._take()
            if pack is None:
                return taken
            self._sign(volley, self._lanes[pack.lane].plan(pack), pack, blockhash, now)
        return most

    def _take(self) -> Pack | None:
        """The oldest orders, of the lane whose turn it is."""
        count = len(self._lanes)
        first = self._queue.oldest_lane or 0
        for index in [(first + step) % count for step in range(count)]:
            pack = self._queue.take(self._lanes[index].fits, index)
            if pack is not None:
                return pack
        return None

    def _sign(self, volley: Volley, plan: Plan, pack: Pack, blockhash: Blockhash, now: int) -> None:
        """Sign a plan into a volley; what is refused has failed, or waits."""
        raw = self._press.sign(
            self._lanes[pack.lane], plan, blockhash, now, tips=not volley.flights
        )
        if isinstance(raw, Refusal):
            if raw.passing and volley.attempt == 1:
                # There will be room again: until then the orders wait, and may be netted.
                self._launch_ns = now + NS
                self._queue.give_back(pack)
                return
            self._queue.lost(pack)
            self._settle(plan.orders, pack, Outcome.FAILED, raw.reason)
            return
        signed = Signed(
            0,
            volley.attempt,
            blockhash.last_valid_block_height,
            blockhash.hash,
            raw,
            plan.orders,
            plan.places,
            plan.cancels,
        )
        volley.flights.append(Flight(signed, pack, volley))

    def _sign_anew(self, now: int) -> int:
        """Sign the orders of volleys that have provably expired, whole, with a young blockhash."""
        if not self._anew or not self._may_launch(now):
            return 0
        blockhash = self._blockhash(now)
        if blockhash is None:
            return 0
        expired, self._anew = self._anew, []
        volleys = []
        for old in expired:
            volley = Volley(old.attempt + 1)
            for flight in old.flights:
                signed = flight.signed
                plan = Plan(signed.orders, signed.places, signed.cancels)
                self._sign(volley, plan, flight.pack, blockhash, now)
            if volley.flights:
                volleys.append(volley)
        self._let_go(volleys, now)
        return len(expired)

    # Sending

    def _send(self, volley: Volley, now: int) -> None:
        if self._signer.killed is not None:
            volley.refusal = "not sent: killed"
            return
        sent = self._dispatch.send(volley, now)
        self._tally.add("sends", sent.requests)
        if sent.wait_ns:
            volley.sent_height, volley.not_before_ns = None, now + sent.wait_ns
            self._launch_ns = max(self._launch_ns, now + sent.wait_ns)
        else:
            volley.sent_height = self._height

    def _resend(self, now: int) -> int:
        """Send again what nobody has seen for some blocks, or what found no room before."""
        if self._signer.killed is not None:
            return 0
        done = 0
        for volley in self._volleys:
            if not self._dispatch.ready:
                break
            if (
                now >= volley.not_before_ns
                and not volley.ended
                and not volley.broken
                and self._dispatch.carries(volley)
                and not any(each.seen for each in volley.flights)
                and self._height <= volley.last_valid
                and (
                    volley.sent_height is None
                    or self._height - volley.sent_height >= self._options.resend_blocks
                )
            ):
                self._send(volley, now)
                done += 1
        return done

    # Following

    def _follow(self) -> int:
        """Look once at everything that is under way."""
        done = 0
        self._height_is_new = False
        try:
            self._height = self._rpc.get_block_height("confirmed")
            self._height_is_new = True
            young: list[Flight] = []
            dying: list[Flight] = []
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
        self._commit()
        self._press.forget(self._height, self._flights)
        return done

    def _look(
        self, flights: list[Flight], finalized: int | None = None, least_slot: int = 0
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
            elif verdict is Verdict.FAILED:
                self._failed(flight, status)
            else:
                flight.status = status
        return done

    def _finish_executed(self) -> int:
        done = 0
        for flight in [each for each in self._flights.values() if each.status is not None]:
            try:
                done += self._finish(flight, flight.status)
            except (TransportError, RateLimitedError) as error:
                self._note(error)
                # The next look begins with another: an answer that is never good holds up no more.
                signature = flight.signed.signature
                self._flights[signature] = self._flights.pop(signature)
                break
        return done

    def _finish(self, flight: Flight, status: SignatureStatus | None) -> int:
        """Settle an executed transaction, once it is known what it did in the market."""
        lane, signed = self._lanes[flight.pack.lane], flight.signed
        placed, fills = None, []
        if lane.spec is not None and len(signed.places):
            info = self._details(flight)
            if info is None and flight.looks < LOOKS_AT_DETAILS:
                return 0
            log = read_log(info.logs or () if info is not None else ())
            self._unread_events += log.unread
            fills = [each for each in log.events if isinstance(each, Fill)]
            answers = (info.return_data if info is not None else None, log.answer)
            placed = placed_orders(answers, log.events, len(signed.places), self._signer.pubkey)
            if placed is None:
                self._unnumbered += len(signed.places)
                placed = [(0, False)] * len(signed.places)
        slot = status.slot if status is not None else 0
        self._reporter.landed(flight, slot, placed, fills, lane.spec)
        rests = self._apply(flight, placed, fills, lane)
        market = int(signed.orders["market"][0])
        gone = tuple((market, each) for each in signed.cancels)
        self._end(flight, Ended(signed.number, Outcome.LANDED, slot, "", rests, gone))
        self._settle(signed.orders, flight.pack, Outcome.LANDED)
        return 1

    def _details(self, flight: Flight) -> TransactionInfo | None:
        """Ask what an executed transaction did; None where the node does not say."""
        try:
            info = self._rpc.get_transaction(flight.signed.signature, self._options.commitment)
        except RpcError as error:
            # A node that keeps no history says so each time.
            self._note(error)
            info = None
        flight.looks += 1
        return info

    def _apply(
        self,
        flight: Flight,
        placed: list[tuple[int, bool]] | None,
        fills: list[Fill],
        lane: Lane,
    ) -> Array:
        """Bring the desk to what was executed, and return what rests by number."""
        pack, signed = flight.pack, flight.signed
        if placed is None:
            self._queue.landed(pack)
            return NOTHING_RESTS
        numbers = [sequence if rests else None for sequence, rests in placed]
        again = iter(numbers[len(pack.places) :])
        replaced = [next(again) if left else None for left in pack.cancels.values()]
        self._queue.landed(pack, numbers[: len(pack.places)], replaced)
        if lane.spec is not None:
            for fill in fills:
                lots = -(-fill.base_atoms // lane.spec.lot_atoms)
                for sequence in (fill.maker_sequence, fill.taker_sequence):
                    self._queue.desk.fill(lane.spec.velox_market, sequence, lots)
        rests = np.zeros(len(placed), RESTING_DTYPE)
        for name in ("id", "price", "side", "market"):
            rests[name] = signed.places[name]
        rests["lots"] = signed.places["size"]
        rests["sequence"] = [sequence for sequence, _ in placed]
        return rests[[known for _, known in placed]]

    def _failed(self, flight: Flight, status: SignatureStatus) -> None:
        pack, signed, reason = flight.pack, flight.signed, reason_of(status.err)
        gone: tuple[tuple[int, int], ...] = ()
        if not pack.places and list(pack.cancels.values()) == [0] and "Custom(" in reason:
            # Nothing but the cancellation of one order, and it failed: others have filled it.
            gone = ((int(signed.orders["market"][0]), signed.cancels[0]),) if signed.cancels else ()
        self._end(flight, Ended(signed.number, Outcome.FAILED, status.slot, reason, gone=gone))
        if self._isolates(flight):
            # One of them was at fault; nothing was done, for good, so that each may go by itself.
            self._queue.give_back(pack, alone=True)
            return
        if gone:
            self._queue.desk.remove(next(iter(pack.cancels)))
        self._queue.lost(pack)
        self._reporter.rejected(flight, status.slot)
        self._settle(signed.orders, pack, Outcome.FAILED, reason)

    def _isolates(self, flight: Flight) -> bool:
        """Whether the orders go once more, each by itself, should their transaction fail."""
        return self._options.isolate and len(flight.pack.entries) > 1

    def _expired(self, flight: Flight) -> None:
        self._end(flight, Ended(flight.signed.number, Outcome.EXPIRED))

    def _end(self, flight: Flight, ended: Ended) -> None:
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

    def _give_up(self, volley: Volley) -> None:
        """Settle, for good, the orders of those transactions of a volley that have expired."""
        refused = volley.refusal if not volley.accepted else ""
        outcome = Outcome.FAILED if refused else Outcome.EXPIRED
        for flight, ended in volley.ended.items():
            if ended is Outcome.EXPIRED:
                self._queue.lost(flight.pack)
                self._settle(flight.signed.orders, flight.pack, outcome, refused)

    def _settle(self, orders: Array, pack: Pack, outcome: Outcome, reason: str = "") -> None:
        recovered = len(orders) - len(pack.entries)
        self._tally.settle(pack.tickets, outcome, reason, recovered=recovered)

    # Ending, and reading

    def close(self, deadline_s: float = 60.0) -> ChainLedger:
        """Send what waits and follow what is under way, for so long; then give up. Idempotent.

        Parameters
        ----------
        deadline_s : float
            Seconds. What waits still is shed then, and what is under way is unknown: the journal
            has it for the next time.

        Returns
        -------
        ChainLedger
            It balances.

        Raises
        ------
        JournalError
            As `step`; the submitter is closed all the same.
        """
        if self._closed:
            return self.ledger()
        until = self._clock() + round(deadline_s * NS)
        pause_s = max(self._options.poll_ns / NS / 4, 0.001)
        try:
            while (len(self._queue) or self._flights or self._anew) and self._clock() < until:
                if not self.step():
                    self._sleep(min(pause_s, max(0.0, (until - self._clock()) / NS)))
        finally:
            self._closed = True
            for volley in self._anew:
                self._give_up(volley)
            for volley in self._volleys:
                self._give_up(volley)
            for flight in self._flights.values():
                # What it did in the market is not known, and the next process will ask for that.
                known = flight.status is not None
                outcome = Outcome.LANDED if known else Outcome.UNKNOWN
                self._tally.transaction(outcome.name.lower())
                self._settle(flight.signed.orders, flight.pack, outcome)
            self._tally.settle(self._queue.drain(), Outcome.SHED)
        if self._broken is not None:
            raise self._broken
        return self.ledger()

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
            unnumbered=self._unnumbered,
            unread_events=self._unread_events,
            lost_reports=self._reporter.lost,
        )
