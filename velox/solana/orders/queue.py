"""The order queue: it nets orders, and batches them into Solana transactions.

A pipeline emits thousands of bundles a second. The chain takes a few transactions. Most orders of a
fast market are superfluous before they can be sent. The queue tracks the state of our working
orders as if every order had landed at once. It sends only the orders that bring the venue to that
state:

- A CANCEL takes lots from the unsent ADD with its id. With the id 0, it takes them from the newest
  ADD at its market, side and price. An ADD with no lots left is never sent.
- An ADD with the id of an unsent ADD replaces it. An ADD with the id of an order that is in flight
  or rests also cancels that order, in the same transaction.
- An order that changes an order in flight waits for that transaction's outcome. So the venue never
  has two orders with the same id.
- An ADD waits while it would match one of our orders that an earlier order is to cancel. If that
  order stays after all, the ADD fails: we never trade against ourselves.
- Over its capacity the queue sheds orders: ADDs before CANCELs, since a CANCEL reduces risk. The
  order that a shed ADD would have replaced is still cancelled.

Netting is exact. Once everything sent has landed, each level holds what it would hold if each order
had been sent by itself.

The place of an order is its position among all orders that came in. A cancellation keeps the place
of the first order that asked for it, even if a later order carries it out. No order waits for one
with a later place, so at least one order can always be sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from velox.core.integers import UINT32_MAX
from velox.core.records import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.orders.outcomes import Outcome, Tally
from velox.solana.orders.working import Barrier, RestingOrder, State, WorkingOrders

__all__ = [
    "DEFAULT_CAPACITY",
    "MAX_CAPACITY",
    "OrderBatch",
    "OrderQueue",
    "QueuedOrder",
    "Shedding",
    "invalid_orders",
    "transactions_in",
]

Shedding: TypeAlias = Literal["oldest", "newest"]
Array: TypeAlias = npt.NDArray[np.void]
Record: TypeAlias = tuple[int, int, int, int, int, int, int, int]
# Whether one transaction of a route holds so many records, cancels and placements.
Fits: TypeAlias = Callable[[int, int, int], bool]
# Pairs of a failure reason and the mask of the orders that fail for it.
Check: TypeAlias = Callable[[Array], Sequence[tuple[str, npt.NDArray[np.bool_]]]]

NOTHING_TO_CANCEL = "nothing_to_cancel"
# A CANCEL by level matches more orders than one transaction can cancel.
TOO_MANY_ORDERS = "too_many_orders"
# An ADD would match an order of ours that was to be cancelled first, and was not.
MEETS_OURS = "meets_ours"
#: The default and the greatest capacity of a queue, in orders.
DEFAULT_CAPACITY: Final = 8192
MAX_CAPACITY: Final = 1 << 20
# The largest size that a record can hold.
# Module globals: the loops over orders use them, and they are cheaper than enumeration members.
_ADD, _CANCEL = int(Kind.ADD), int(Kind.CANCEL)
_UNSENT, _IN_FLIGHT, _GONE = State.UNSENT, State.IN_FLIGHT, State.GONE


def transactions_in(bundles: Array) -> Array:
    """Return the records of bundles, in order.

    Parameters
    ----------
    bundles : ndarray of BUNDLE_DTYPE, shape (n,)

    Returns
    -------
    ndarray of TRANSACTION_DTYPE, shape (sum of the counts,)
        A copy.
    """
    if bundles.dtype != BUNDLE_DTYPE or bundles.ndim != 1:
        raise ConfigError(f"bundles: must be of BUNDLE_DTYPE, one dimension, got {bundles.dtype}")
    slots = np.arange(bundles["transactions"].shape[1])
    chosen: Array = bundles["transactions"][slots < bundles["count"][:, np.newaxis]]
    return chosen


def invalid_orders(orders: Array) -> npt.NDArray[np.bool_]:
    """Return which orders no venue takes: a wrong side, or a price or a size of 0 or less.

    Parameters
    ----------
    orders : ndarray of TRANSACTION_DTYPE, shape (n,)

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    mask: npt.NDArray[np.bool_] = (
        (orders["side"] > 1) | (orders["price"] <= 0) | (orders["size"] == 0)
    )
    return mask


class QueuedOrder:
    """An order that is queued or in flight.

    Attributes
    ----------
    ticket : int
        Its position among all orders taken in.
    place : int
        Where it waits: its ticket, or the place of an order whose cancellations it took over.
    record : tuple
        The fields of its TRANSACTION_DTYPE record. A CANCEL of size 0 cancels all lots.
    placing : RestingOrder or None
        The order that an ADD places.
    touches : list of (RestingOrder, int)
        Orders in flight or resting of which it cancels lots, with the lots.
    behind : bool
        Whether, when it came in, it would have matched an order that was to be cancelled.
    settled : bool
        Whether its outcome is counted already: it is the cancellation left of a shed or replaced
        ADD.
    alone : bool
        Whether it needs a transaction of its own: one that it shared has failed.
    compute_failures : int
        How many transactions with it ran out of compute units.
    """

    __slots__ = (
        "alone",
        "behind",
        "compute_failures",
        "place",
        "placing",
        "record",
        "settled",
        "ticket",
        "touches",
    )

    def __init__(  # noqa: PLR0917 - in the order of the attributes
        self,
        ticket: int,
        record: Record,
        placing: RestingOrder | None,
        touches: list[tuple[RestingOrder, int]],
        behind: bool = False,
        settled: bool = False,
    ) -> None:
        self.ticket = self.place = ticket
        self.record = record
        self.placing = placing
        self.touches = touches
        self.behind = behind
        self.settled = settled
        self.alone = False
        self.compute_failures = 0

    def size(self) -> int:
        """Return the lots to send, after netting."""
        if self.placing is not None:
            return self.placing.planned
        return min(sum(amount for _, amount in self.touches), UINT32_MAX)

    def place_nothing(self) -> None:
        """Change this entry into the cancellation of the order that it would have replaced."""
        replaced = self.touches[0][0]
        level = replaced.price, 0, replaced.side
        self.record = (replaced.id, *level, _CANCEL, 0, replaced.market, 0)
        self.placing = None
        self.behind = False
        self.settled = True


def _tickets(entries: Iterable[QueuedOrder]) -> list[int]:
    """Return the tickets whose outcome is not counted yet."""
    return [each.ticket for each in entries if not each.settled]


@dataclass(slots=True, eq=False)
class OrderBatch:
    """Orders for one Solana transaction, and its effects at the venue.

    Attributes
    ----------
    entries : list of QueuedOrder
    cancels : dict of RestingOrder to int
        Resting orders to cancel, with the lots to place again for each, or 0.
    places : list of RestingOrder
        Orders to place.
    sizes : list of int
        The lots of each, when the batch was taken.
    takes : list of (RestingOrder, int, int)
        The lots that its orders cancel of resting orders, and the place of the order that does.
    barrier : Barrier
        Of the resting orders that it cancels.
    route : int
        The index of its route.
    """

    entries: list[QueuedOrder] = field(default_factory=list)
    cancels: dict[RestingOrder, int] = field(default_factory=dict)
    places: list[RestingOrder] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    takes: list[tuple[RestingOrder, int, int]] = field(default_factory=list)
    barrier: Barrier = field(default_factory=Barrier)
    route: int = 0

    @property
    def tickets(self) -> list[int]:
        """list of int: The tickets whose outcome is not counted yet."""
        return _tickets(self.entries)

    @property
    def compute_failures(self) -> int:
        """int: How often one of its orders ran out of compute units before."""
        return max((each.compute_failures for each in self.entries), default=0)

    def records(self) -> Array:
        """Return the orders as an array of TRANSACTION_DTYPE, with the sizes to send."""
        rows = []
        sizes = iter(self.sizes)
        for each in self.entries:
            size = next(sizes) if each.placing is not None else each.size()
            rows.append((*each.record[:2], size, *each.record[3:]))
        return np.array(rows, TRANSACTION_DTYPE)


class _Ahead:
    """The orders ahead of an entry: the batches in flight, and the entries that wait before it."""

    __slots__ = ("_barrier", "_in_flight", "waiting")

    def __init__(self, in_flight: Iterable[OrderBatch]) -> None:
        self.waiting: list[QueuedOrder] = []
        self._in_flight = in_flight
        self._barrier: Barrier | None = None

    def bars(self, entry: QueuedOrder) -> bool:
        """Return whether an ADD would match an order that is still to be cancelled."""
        barrier = self._barrier
        if barrier is None:
            barrier = self._barrier = Barrier()
            for batch in self._in_flight:
                barrier.join(batch.barrier)
        if self.waiting:
            for each in self.waiting:
                for order, _ in each.touches:
                    barrier.add(order)
            self.waiting.clear()
        return entry.placing is not None and barrier.meets(entry.placing)


class OrderQueue:
    """A bounded queue that nets, batches and sheds orders.

    Parameters
    ----------
    tally : Tally
        Counts every order that ends here.
    capacity : int
        Orders that it holds, 1 to 1,048,576, and as many again before `settle` has seen them.
    shedding : {"oldest", "newest"}
        Which orders are shed first, within ADDs and then within CANCELs.
    working : WorkingOrders, optional
        The orders that we have already.
    check : callable, optional
        Returns pairs of a reason and a mask, for orders that cannot be sent.
    route_of_market : sequence of int, shape (256,), optional
        The route of each market. Markets of one route share transactions. One route by default.

    Attributes
    ----------
    unsure : bool
        Whether the last `take` left orders that wait for the venue's account to be read.

    Raises
    ------
    ConfigError
        A setting cannot be used.

    Notes
    -----
    Thread-safety: `push` belongs to one thread, all other methods to another.
    """

    def __init__(
        self,
        tally: Tally,
        *,
        capacity: int = DEFAULT_CAPACITY,
        shedding: Shedding = "oldest",
        working: WorkingOrders | None = None,
        check: Check | None = None,
        route_of_market: Sequence[int] | None = None,
    ) -> None:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ConfigError(f"capacity = {capacity}: must be 1 to {MAX_CAPACITY}")
        if shedding not in get_args(Shedding):
            raise ConfigError(f"shedding = {shedding!r}: must be one of 'oldest', 'newest'")
        self.capacity = capacity
        self.shedding: Shedding = shedding
        self.working = working if working is not None else WorkingOrders()
        self._tally = tally
        self._check = check if check is not None else _plain_faults
        self._routes = tuple(route_of_market) if route_of_market is not None else (0,) * 256
        self._next_ticket = 0
        # The place of the next order that `withdraw` cancels: before all others.
        self._first_place = -(1 << 62)
        self._lock = threading.Lock()
        # Under the lock: orders pushed since the last `settle`, with their tickets.
        self._staged: list[tuple[Array, npt.NDArray[np.uint64]]] = []
        self._staged_count = 0
        self.unsure = False
        # CANCELs of size 0 for what shed ADDs would have replaced, and when to filter them.
        self._revoked: list[tuple[Array, npt.NDArray[np.uint64]]] = []
        self._revoked_count, self._most_revoked = 0, 4 * capacity
        # The orders of the last or current `settle`.
        self._settling: list[tuple[Array, npt.NDArray[np.uint64]]] = []
        # Used by the other thread: entries by place, ascending.
        self._pending: dict[int, QueuedOrder] = {}
        self._adds: dict[RestingOrder, QueuedOrder] = {}
        self._in_flight: set[OrderBatch] = set()

    def __len__(self) -> int:
        """Return the number of orders inside, pushed ones included."""
        return len(self._pending) + self._staged_count

    # Coming in

    def push(self, transactions: Array) -> None:
        """Take records in, with a few array operations for any number of them.

        Parameters
        ----------
        transactions : ndarray of TRANSACTION_DTYPE, shape (n,)
            Copied. Records that are not orders are counted and dropped.
        """
        self._tally.add("delivered", len(transactions))
        is_order = transactions["kind"] <= Kind.CANCEL
        orders = transactions[is_order]
        self._tally.add("market_data", len(transactions) - len(orders))
        tickets = np.arange(self._next_ticket, self._next_ticket + len(orders), dtype=np.uint64)
        self._next_ticket += len(orders)
        for reason, mask in self._check(orders):
            if mask.any():
                self._tally.settle(tickets[mask], Outcome.FAILED, reason)
                orders, tickets = orders[~mask], tickets[~mask]
        shed: npt.NDArray[np.uint64] | None = None
        with self._lock:
            if len(orders):
                self._staged.append((orders, tickets))
                self._staged_count += len(orders)
            if self._staged_count > self.capacity:
                shed = self._shed_staged()
        if shed is not None:
            self._tally.settle(shed, Outcome.SHED)

    def _shed_staged(self) -> npt.NDArray[np.uint64]:
        orders = np.concatenate([each for each, _ in self._staged])
        tickets = np.concatenate([each for _, each in self._staged])
        excess = len(orders) - self.capacity
        is_cancel = orders["kind"] == Kind.CANCEL
        candidates = [np.flatnonzero(~is_cancel), np.flatnonzero(is_cancel)]
        if self.shedding == "newest":
            candidates = [each[::-1] for each in candidates]
        chosen = np.concatenate(candidates)[:excess]
        kept = np.ones(len(orders), np.bool_)
        kept[chosen] = False
        self._staged = [(orders[kept], tickets[kept])]
        self._staged_count = self.capacity
        self._revoke(orders[chosen], tickets[chosen])
        shed: npt.NDArray[np.uint64] = tickets[chosen]
        return shed

    def _revoke(self, shed: Array, tickets: npt.NDArray[np.uint64]) -> None:
        """Keep a CANCEL for each shed ADD that may have replaced an order."""
        replacing = (shed["kind"] == Kind.ADD) & (shed["id"] != 0)
        cancels = shed[replacing]
        cancels["kind"], cancels["size"] = Kind.CANCEL, 0
        self._revoked.append((cancels, tickets[replacing]))
        self._revoked_count += len(cancels)
        if self._revoked_count > self._most_revoked:
            # Only ids of our own orders can match, so this is bounded.
            self._revoked = [self._sifted(self._revoked, self._settling + self._staged)]
            self._revoked_count = len(self._revoked[0][0])
            self._most_revoked = 2 * self._revoked_count + 4 * self.capacity

    def _sifted(
        self,
        revoked: list[tuple[Array, npt.NDArray[np.uint64]]],
        batches: list[tuple[Array, npt.NDArray[np.uint64]]],
    ) -> tuple[Array, npt.NDArray[np.uint64]]:
        """Return the last CANCEL for each id that a working order or a pushed order has."""
        cancels = np.concatenate([each for each, _ in revoked])
        tickets = np.concatenate([each for _, each in revoked])
        coming = {id for orders, _ in batches for id in _ids(orders)}
        known = self.working.known
        last = {id: place for place, id in enumerate(_ids(cancels)) if id in known or id in coming}
        chosen = list(last.values())
        return cancels[chosen], tickets[chosen]

    def settle(self) -> int:
        """Net the orders pushed since the last call, and shed what exceeds the capacity.

        Returns
        -------
        int
            Orders netted.
        """
        with self._lock:
            self._settling, self._staged = self._staged, []
            count, self._staged_count = self._staged_count, 0
            revoked, self._revoked = self._revoked, []
            self._revoked_count, self._most_revoked = 0, 4 * self.capacity
        staged = self._settling
        if revoked:
            staged = [_in_order([*staged, self._sifted(revoked, staged)])]
        failed: list[int] = []
        conflated: list[int] = []
        for orders, tickets in staged:
            for ticket, record in zip(tickets.tolist(), orders.tolist(), strict=True):
                if record[4] == _ADD:
                    self._add(ticket, record, conflated)
                else:
                    self._cancel(ticket, record, conflated, failed)
        self._tally.settle(conflated, Outcome.CONFLATED)
        self._tally.settle(failed, Outcome.FAILED, NOTHING_TO_CANCEL)
        if len(self._pending) > self.capacity:
            self._shed_pending()
        return count

    def _add(self, ticket: int, record: Record, conflated: list[int]) -> None:
        id, price, size, side, _, _, market, _ = record
        order = RestingOrder(ticket, id, market, side, price, size)
        entry = QueuedOrder(ticket, record, order, [], self.working.leaving.meets(order))
        self.working.admit(order)
        older = order.older
        if older is not None:
            while older is not None:
                if older.state is _UNSENT:
                    self._supersede(entry, older, conflated)
                older = older.older
            self._claim(entry, order, OrderBatch())
        self._pending[entry.place] = entry
        self._adds[order] = entry

    def _claim(self, entry: QueuedOrder, placing: RestingOrder, batch: OrderBatch) -> bool:
        """Claim the lots of older orders with the ADD's id; return whether it has to wait.

        It waits for an order in flight. It also waits for an order of which other entries are to
        cancel lots, if those entries are not in `batch`, the batch that it would join.
        """
        waits = False
        older = placing.older
        while older is not None:
            if older.state is not State.RESTING:
                waits = True
            if older.planned > 0 and older.state is not _UNSENT:
                entry.touches.append((older, older.planned))
                self.working.claim(older, older.planned)
            here = sum(lots for each, lots in entry.touches if each is older)
            here += sum(lots for each, lots, _ in batch.takes if each is older)
            waits = waits or older.taken > here
            older = older.older
        return waits

    def _supersede(self, later: QueuedOrder, order: RestingOrder, conflated: list[int]) -> None:
        """Withdraw an unsent ADD that a later entry replaces or cancels.

        The later entry takes over its cancellations, at the earlier place. But if the later entry
        may have to wait, the cancellations stay an entry of their own, so that they do not wait.
        """
        former = self._taken_back(order, conflated)
        if former.touches:
            if later.behind:
                former.place_nothing()
            else:
                self._succeed(later, former)

    def _taken_back(self, order: RestingOrder, conflated: list[int]) -> QueuedOrder:
        """Withdraw an unsent ADD. Its entry stays queued if it touches other orders."""
        entry = self._adds.pop(order)
        conflated.append(entry.ticket)
        self.working.remove(order)
        if not entry.touches:
            del self._pending[entry.place]
        return entry

    def _succeed(self, later: QueuedOrder, former: QueuedOrder) -> None:
        """Give the touches of a former entry to a later one, at the earlier of their places."""
        later.touches += former.touches
        if former.place < later.place:
            self._pending.pop(later.place, None)
            self._pending[former.place] = later
            later.place = former.place
        else:
            del self._pending[former.place]

    def _cancel(self, ticket: int, record: Record, conflated: list[int], failed: list[int]) -> None:
        id, price, size, side, _, _, market, _ = record
        working = self.working
        if id:
            meant = working.find(market, id)
            found: Iterable[RestingOrder] = (meant,) if meant is not None else ()
        else:
            found = working.at((market, side, price))
        left, touches, netted, emptied = size, [], False, []
        for order in found:
            planned = order.planned
            amount = left if 0 < left < planned else planned
            left -= amount
            if order.state is not _UNSENT:
                touches.append((order, amount))
                working.claim(order, amount)
            elif amount < planned:
                netted = True
                order.planned = planned - amount
            else:
                emptied.append(order)
            if left <= 0:
                break
        formers = []
        for order in emptied:
            former = self._taken_back(order, conflated)
            if former.touches:
                formers.append(former)
        if touches or formers:
            entry = QueuedOrder(ticket, record, None, touches, False, not size)
            for former in formers:
                self._succeed(entry, former)
            self._pending[entry.place] = entry
        elif size:
            (conflated if netted or emptied else failed).append(ticket)

    def _shed_pending(self) -> None:
        """Shed down to the capacity.

        The order that a shed ADD would have replaced is still cancelled. Such a cancellation takes
        no room: there are at most as many as we have orders at the venue.
        """
        entries = [each for each in self._pending.values() if not each.settled]
        adds = [each for each in entries if each.placing is not None]
        cancels = [each for each in entries if each.placing is None]
        excess = len(entries) - self.capacity
        if excess <= 0:
            return
        for kind in (adds, cancels):
            kind.sort(key=attrgetter("ticket"), reverse=self.shedding == "newest")
        chosen = (adds + cancels)[:excess]
        shed = _tickets(chosen)
        for each in chosen:
            if each.placing is not None and each.touches:
                del self._adds[each.placing]
                self.working.remove(each.placing)
                each.place_nothing()
            else:
                self._withdraw(each)
        self._tally.settle(shed, Outcome.SHED)

    def _withdraw(self, entry: QueuedOrder) -> None:
        """Remove an entry as if it had never come in."""
        del self._pending[entry.place]
        if entry.placing is not None:
            del self._adds[entry.placing]
            self.working.remove(entry.placing)
        for order, amount in entry.touches:
            self.working.restore(order, amount)

    def _revise(self, entry: QueuedOrder) -> None:
        """Drop ended orders from an entry's touches.

        A CANCEL by id then cancels the order that the ended one would have replaced. A CANCEL by
        level cancels nothing instead.
        """
        touches = []
        for touched, amount in entry.touches:
            order: RestingOrder | None = touched
            while order is not None and order.state is _GONE:
                order = order.older
            if order is touched:
                touches.append((touched, amount))
            elif (
                order is not None
                and order.planned > 0
                and entry.placing is None
                and (entry.record[0] or not entry.record[2])
            ):
                lots = min(order.planned, amount if entry.record[2] else order.planned)
                self.working.claim(order, lots)
                touches.append((order, lots))
        entry.touches = touches

    # Going out

    def take(
        self, fits: Fits, route: int | None = None, *, known: bool = True
    ) -> OrderBatch | None:
        """Return the oldest orders that need not wait, as many as one transaction holds.

        Parameters
        ----------
        fits : callable
            ``fits(records, cancels, places)``.
        route : int, optional
            Only orders of this route.
        known : bool
            Whether the lots left of our resting orders are known for sure. If not, an entry that
            would place a part of an order again waits, and `unsure` is set.

        Returns
        -------
        OrderBatch or None
            Its orders have left the queue. Pass it to `landed`, `lost` or `give_back` later.
        """
        batch = OrderBatch()
        self.unsure = False
        taken: list[QueuedOrder] = []
        hopeless: list[QueuedOrder] = []
        oversized: list[QueuedOrder] = []
        ahead = _Ahead(self._in_flight)
        for entry in self._pending.values():
            entry_route = self._routes[entry.record[6]]
            if route is not None and entry_route != route:
                continue
            if self._waits(entry, known, batch) or (entry.behind and ahead.bars(entry)):
                ahead.waiting.append(entry)
                continue
            if entry.placing is None and not entry.touches:
                hopeless.append(entry)
                continue
            apart = taken and (entry.alone or taken[0].alone)
            if apart or not self._joins(batch, entry, fits):
                if taken:
                    break
                # This entry does not fit a transaction even by itself.
                oversized.append(entry)
                ahead.waiting.append(entry)
                continue
            route = entry_route
            taken.append(entry)
        for entry in (*hopeless, *taken):
            del self._pending[entry.place]
            if entry.placing is not None:
                del self._adds[entry.placing]
        self._tally.settle(_tickets(hopeless), Outcome.FAILED, NOTHING_TO_CANCEL)
        if oversized:
            self._refuse(oversized, TOO_MANY_ORDERS)
        if not taken:
            return None
        batch.route = route or 0
        batch.sizes = [each.planned for each in batch.places]
        for order in batch.cancels:
            order.state = _IN_FLIGHT
            batch.barrier.add(order)
        for order in batch.places:
            order.state = _IN_FLIGHT
        self._in_flight.add(batch)
        return batch

    def _waits(self, entry: QueuedOrder, known: bool, batch: OrderBatch) -> bool:
        """Update an entry to the state of its touched orders; return whether it has to wait."""
        placing = entry.placing
        waits = (
            placing is not None and placing.older is not None and self._claim(entry, placing, batch)
        )
        gone = False
        for order, _ in entry.touches:
            state = order.state
            if state is _IN_FLIGHT:
                waits = True
            elif state is _GONE:
                gone = True
        if gone:
            self._revise(entry)
            waits = waits or any(each.state is _IN_FLIGHT for each, _ in entry.touches)
        if not (waits or known) and any(amount < each.chain for each, amount in entry.touches):
            # A part is to be placed again: the venue's account says how much is left.
            self.unsure = waits = True
        return waits

    def _refuse(self, entries: list[QueuedOrder], reason: str) -> None:
        """Fail entries, and later ADDs that would match the orders that now stay."""
        self._tally.settle(_tickets(entries), Outcome.FAILED, reason)
        takes = [(each, lots, entry.place) for entry in entries for each, lots in entry.touches]
        for entry in entries:
            self._withdraw(entry)
        self._stay(takes)

    def _stay(self, takes: list[tuple[RestingOrder, int, int]]) -> None:
        """Fail each ADD that would match an order whose cancellation has failed."""
        stays = [each for each in takes if each[0].state is not _GONE]
        stays.sort(key=itemgetter(2), reverse=True)
        barrier, failed = Barrier(), []
        for entry in self._pending.values() if stays else ():
            if entry.behind:
                while stays and stays[-1][2] < entry.place:
                    barrier.add(stays.pop()[0])
                if entry.placing is not None and barrier.meets(entry.placing):
                    failed.append(entry)
                    for order, _ in entry.touches:
                        barrier.add(order)
        for entry in failed:
            self._withdraw(entry)
        self._tally.settle(_tickets(failed), Outcome.FAILED, MEETS_OURS)

    @staticmethod
    def _joins(batch: OrderBatch, entry: QueuedOrder, fits: Fits) -> bool:
        """Add an entry to the batch if there is room for it."""
        cancels = batch.cancels
        if entry.touches:
            cancels = dict(cancels)
        for order, amount in entry.touches:
            cancels[order] = max(0, cancels.get(order, order.chain) - amount)
        places = len(batch.places) + (entry.placing is not None)
        again = sum(1 for left in cancels.values() if left > 0)
        if not fits(len(batch.entries) + 1, len(cancels), places + again):
            return False
        batch.entries.append(entry)
        batch.takes += [(each, amount, entry.place) for each, amount in entry.touches]
        batch.cancels = cancels
        if entry.placing is not None:
            batch.places.append(entry.placing)
        return True

    @property
    def oldest_route(self) -> int | None:
        """int or None: The route of the oldest order; None if the queue is empty."""
        first = next(islice(self._pending.values(), 1), None)
        return None if first is None else self._routes[first.record[6]]

    def landed(
        self,
        batch: OrderBatch,
        placed: Sequence[int | None] | None = None,
        replaced: Sequence[int | None] | None = None,
    ) -> None:
        """Note that the transaction of a batch was executed.

        Parameters
        ----------
        batch : OrderBatch
        placed, replaced : sequence of int or None, optional
            The venue's numbers of what was placed, in the order of ``batch.places``, and of what
            was placed again, in the order of ``batch.cancels``. None for an order that does not
            rest. Without a sequence, everything rests and has no number.
        """
        self._in_flight.discard(batch)
        for order, lots, _ in batch.takes:
            self.working.fulfil(order, lots)
        for index, (order, left) in enumerate(batch.cancels.items()):
            again = replaced[index] if replaced is not None else None
            rests = left > 0 and (replaced is None or again is not None)
            self.working.renumber(order, again)
            order.chain = left
            if rests:
                self.working.rest(order)
            else:
                self.working.remove(order)
        for index, (order, size) in enumerate(zip(batch.places, batch.sizes, strict=True)):
            order.chain = size
            order.sequence = placed[index] if placed is not None else None
            if placed is None or placed[index] is not None:
                self.working.rest(order)
            else:
                self.working.remove(order)

    def lost(self, batch: OrderBatch) -> None:
        """Note that the transaction of a batch did nothing: it was not executed, or it failed.

        An ADD then fails if it would match an order that now stays.
        """
        self._in_flight.discard(batch)
        for order in batch.cancels:
            if order.state is _IN_FLIGHT:
                order.state = State.RESTING
        for order, lots, _ in batch.takes:
            self.working.restore(order, lots)
        for order in batch.places:
            self.working.remove(order)
        self._stay(batch.takes)

    def give_back(self, batch: OrderBatch, *, alone: bool = False) -> None:
        """Put the orders of a batch back at their places: it was not and will not be executed.

        Parameters
        ----------
        batch : OrderBatch
        alone : bool
            Whether each needs a transaction of its own from now on.
        """
        self._in_flight.discard(batch)
        for order in batch.cancels:
            if order.state is _IN_FLIGHT:
                order.state = State.RESTING
        for order in batch.places:
            order.state = _UNSENT
        for entry in batch.entries:
            entry.alone |= alone
            if entry.placing is not None:
                self._adds[entry.placing] = entry
        later = [each for each in self._pending.values() if each.touches]
        whole = self._pending | {each.place: each for each in batch.entries}
        self._pending = dict(sorted(whole.items()))
        self._tally.settle(self._netted(set(batch.places), later), Outcome.CONFLATED)

    def _netted(self, unsent: set[RestingOrder], later: list[QueuedOrder]) -> list[int]:
        """Net orders that are unsent again with later orders; return tickets."""
        conflated: list[int] = []
        last: dict[RestingOrder, QueuedOrder] = {}
        for entry in later:
            for order, lots in entry.touches:
                if order in unsent:
                    last[order] = entry
                    self.working.fulfil(order, lots)
        for order, entry in last.items():
            if order.planned == 0:
                self._supersede(entry, order, conflated)
        for entry in later:
            kept = [each for each in entry.touches if each[0] not in unsent]
            if len(kept) < len(entry.touches):
                entry.touches = kept
                if not kept and entry.placing is None:
                    del self._pending[entry.place]
                    conflated += _tickets([entry])
        return conflated

    def adopt(self, batch: OrderBatch) -> None:
        """Take over a batch of an earlier process whose transaction is still in flight."""
        for order, left in batch.cancels.items():
            lots = order.planned - left
            self.working.claim(order, lots)
            # Its place is before that of any new order.
            batch.takes.append((order, lots, -1))
            batch.barrier.add(order)
            order.state = _IN_FLIGHT
        for order in batch.places:
            self.working.admit(order)
            order.state = _IN_FLIGHT
        self._in_flight.add(batch)

    def withdraw(self, orders: Iterable[RestingOrder]) -> int:
        """Queue the cancellation of whole orders, ahead of everything that waits.

        Nobody asked for these cancellations, so they have no tickets and are not counted.

        Parameters
        ----------
        orders : iterable of RestingOrder
            Those that are queued, or whose lots are to be cancelled anyway, are skipped.

        Returns
        -------
        int
            Orders that are to be cancelled now.
        """
        entries: dict[int, QueuedOrder] = {}
        for order in orders:
            if order.state in {_UNSENT, _GONE} or order.planned <= 0:
                continue
            record = (order.id, order.price, 0, order.side, _CANCEL, 0, order.market, 0)
            lots = order.planned
            self.working.claim(order, lots)
            entries[self._first_place] = QueuedOrder(
                self._first_place, record, None, [(order, lots)], settled=True
            )
            self._first_place += 1
        if entries:
            self._pending = dict(sorted((entries | self._pending).items()))
        return len(entries)

    def keep_cancels(self, reason: str) -> int:
        """Fail the ADDs that wait, and keep the cancellations, theirs included.

        Returns
        -------
        int
            ADDs that failed.
        """
        failed: list[int] = []
        for entry in [each for each in self._pending.values() if each.placing is not None]:
            failed += _tickets([entry])
            if entry.touches:
                del self._adds[entry.placing]  # type: ignore[arg-type]
                self.working.remove(entry.placing)  # type: ignore[arg-type]
                entry.place_nothing()
            else:
                self._withdraw(entry)
        self._tally.settle(failed, Outcome.FAILED, reason)
        return len(failed)

    def drain(self) -> list[int]:
        """Remove all remaining orders, and return their tickets.

        Orders that were to be replaced or cancelled stay at the venue, and stay working orders.
        """
        self.settle()
        entries = list(self._pending.values())
        for each in reversed(entries):
            self._withdraw(each)
        return sorted(_tickets(entries))


def _ids(orders: Array) -> Iterable[tuple[int, int]]:
    return zip(orders["market"].tolist(), orders["id"].tolist(), strict=True)


def _in_order(
    batches: list[tuple[Array, npt.NDArray[np.uint64]]],
) -> tuple[Array, npt.NDArray[np.uint64]]:
    """Return orders and tickets, sorted by ticket."""
    orders = np.concatenate([each for each, _ in batches])
    tickets = np.concatenate([each for _, each in batches])
    order = np.argsort(tickets)
    return orders[order], tickets[order]


def _plain_faults(orders: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    return [("invalid", invalid_orders(orders))]
