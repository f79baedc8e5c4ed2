"""The queue between thousands of bundles a second and a chain that takes a few transactions.

Most orders of a fast market are superfluous before they can be sent. The queue keeps what the desk
would look like had every order landed at once, and sends only what brings the chain there:

- a CANCEL takes from the unsent ADD with its id, or with the id 0 from the newest at its market,
  side and price. An ADD that has nothing left is never sent;
- an ADD with the id of an unsent one replaces it, and one with the id of an order that flies or
  rests carries its cancellation along, in the same transaction;
- what touches an order whose transaction has no known end yet waits for it: so that there are never
  two orders with the same id in the market;
- an ADD waits while an order of ours that it would meet is to go by what came before it. It fails
  where that stays after all: it is never sent to trade against ourselves;
- over its capacity it sheds, ADDs before CANCELs, since a CANCEL takes risk off. What a shed ADD
  was to replace is cancelled all the same.

Netting is exact: once all that it sends has landed, each level holds what it would hold had each
order been sent by itself.

An order waits in its place: the moment it came in. What is to be cancelled keeps the place of the
order that said so first, whichever order it falls to later, or none; and nothing waits for what has
a later place. So something can always go out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from velox.core.records import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.orders.outcomes import Outcome, Tally
from velox.solana.orders.working import Barrier, RestingOrder, State, WorkingOrders

__all__ = ["OrderBatch", "OrderQueue", "QueuedOrder", "Shedding", "transactions_in"]

Shedding: TypeAlias = Literal["oldest", "newest"]
Array: TypeAlias = npt.NDArray[np.void]
Record: TypeAlias = tuple[int, int, int, int, int, int, int, int]
# Whether so many records, cancellations and placements fit one transaction of a lane.
Fits: TypeAlias = Callable[[int, int, int], bool]
# For each order whether it can be carried at all, and what to call it where not.
Check: TypeAlias = Callable[[Array], Sequence[tuple[str, npt.NDArray[np.bool_]]]]

NOTHING_TO_CANCEL = "nothing_to_cancel"
# A CANCEL by level that means more orders than one transaction can cancel.
TOO_MANY_ORDERS = "too_many_orders"
# An ADD that would meet an order of ours which was to go before it, and which stays.
MEETS_OURS = "meets_ours"
MAX_CAPACITY = 1 << 20
# That a record can hold.
MAX_SIZE = (1 << 32) - 1
# The loops over orders look at these; a member of an enumeration costs a look more.
_ADD, _CANCEL = int(Kind.ADD), int(Kind.CANCEL)
_UNSENT, _FLYING, _GONE = State.UNSENT, State.FLYING, State.GONE


def transactions_in(bundles: Array) -> Array:
    """Return the transactions of bundles, in order.

    Parameters
    ----------
    bundles : ndarray of BUNDLE_DTYPE, shape (n,)

    Returns
    -------
    ndarray of TRANSACTION_DTYPE, shape (sum of the counts,)
        A copy.
    """
    if bundles.dtype != BUNDLE_DTYPE or bundles.ndim != 1:
        raise ConfigError(f"bundles of dtype {bundles.dtype}: must be BUNDLE_DTYPE, one dimension")
    slots = np.arange(bundles["transactions"].shape[1])
    chosen: Array = bundles["transactions"][slots < bundles["count"][:, np.newaxis]]
    return chosen


class QueuedOrder:
    """An order that waits, or flies.

    Attributes
    ----------
    ticket : int
        Its place among all orders taken in.
    place : int
        Where it waits: its ticket, or that of an order whose cancellations it took over.
    record : tuple
        The fields of its TRANSACTION_DTYPE record. A CANCEL of size 0 means all there is.
    placing : RestingOrder or None
        What an ADD will have placed.
    touches : list of (RestingOrder, int)
        What it takes from orders that fly or rest, in lots.
    behind : bool
        Whether, as it came in, it would have met an order that was to go.
    told : bool
        Whether its outcome is known already: it is what a shed or superseded ADD was to cancel.
    alone : bool
        Whether it goes in a transaction of its own: one that it shared has failed.
    """

    __slots__ = ("alone", "behind", "place", "placing", "record", "ticket", "told", "touches")

    def __init__(  # noqa: PLR0917 - what it is made of, in the order of the attributes
        self,
        ticket: int,
        record: Record,
        placing: RestingOrder | None,
        touches: list[tuple[RestingOrder, int]],
        behind: bool = False,
        told: bool = False,
    ) -> None:
        self.ticket = self.place = ticket
        self.record = record
        self.placing = placing
        self.touches = touches
        self.behind = behind
        self.told = told
        self.alone = False

    def size(self) -> int:
        """Return its lots as they go out: less what was netted."""
        if self.placing is not None:
            return self.placing.planned
        return min(sum(amount for _, amount in self.touches), MAX_SIZE)

    def place_nothing(self) -> None:
        """Be no more than the cancellation of what it was to replace."""
        replaced = self.touches[0][0]
        level = replaced.price, 0, replaced.side
        self.record = (replaced.id, *level, _CANCEL, 0, replaced.market, 0)
        self.placing = None
        self.behind = False
        self.told = True


def _tickets(entries: Iterable[QueuedOrder]) -> list[int]:
    """Return those whose outcome is still to be told."""
    return [each.ticket for each in entries if not each.told]


@dataclass(slots=True, eq=False)
class OrderBatch:
    """Orders for one transaction, and what it must do on the chain.

    Attributes
    ----------
    entries : list of QueuedOrder
    cancels : dict of RestingOrder to int
        Orders on the chain to be cancelled, with the lots to be placed again for each, or 0.
    places : list of RestingOrder
        Orders to be placed, `RestingOrder.planned` lots each at the time of the packing.
    sizes : list of int
        Those lots.
    takes : list of (RestingOrder, int, int)
        What its orders take from orders on the chain, in lots, and the place of each that does.
    barrier : Barrier
        Of the orders on the chain that it cancels.
    lane : int
        That of all the markets inside.
    """

    entries: list[QueuedOrder] = field(default_factory=list)
    cancels: dict[RestingOrder, int] = field(default_factory=dict)
    places: list[RestingOrder] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    takes: list[tuple[RestingOrder, int, int]] = field(default_factory=list)
    barrier: Barrier = field(default_factory=Barrier)
    lane: int = 0

    @property
    def tickets(self) -> list[int]:
        """list of int: The orders inside whose outcome is still to be told."""
        return _tickets(self.entries)

    def records(self) -> Array:
        """Return the orders as an array of TRANSACTION_DTYPE, with the sizes that go out."""
        rows = []
        sizes = iter(self.sizes)
        for each in self.entries:
            size = next(sizes) if each.placing is not None else each.size()
            rows.append((*each.record[:2], size, *each.record[3:]))
        return np.array(rows, TRANSACTION_DTYPE)


class _Ahead:
    """What an entry finds before it: what is under way, and what waits in an earlier place."""

    __slots__ = ("_barrier", "_flying", "waiting")

    def __init__(self, flying: Iterable[OrderBatch]) -> None:
        self.waiting: list[QueuedOrder] = []
        self._flying = flying
        self._barrier: Barrier | None = None

    def bars(self, entry: QueuedOrder) -> bool:
        """Say whether an ADD would meet an order that is still to go."""
        barrier = self._barrier
        if barrier is None:
            barrier = self._barrier = Barrier()
            for pack in self._flying:
                barrier.join(pack.barrier)
        if self.waiting:
            for each in self.waiting:
                for standing, _ in each.touches:
                    barrier.add(standing)
            self.waiting.clear()
        return entry.placing is not None and barrier.meets(entry.placing)


class OrderQueue:
    """Bounded; nets, packs and sheds.

    Parameters
    ----------
    tally : Tally
        Is told of every order that ends here.
    capacity : int
        Orders that it holds, 1 to 1,048,576, and as many more that `settle` has not seen yet.
    shedding : {"oldest", "newest"}
        Which orders go when there are more, within ADDs and then within CANCELs.
    desk : WorkingOrders, optional
        What we have already.
    check : callable, optional
        Names the orders that cannot be carried, as pairs of a reason and a mask.
    lane_of_market : sequence of int, shape (256,), optional
        Markets of the same lane share transactions; all do unless told.

    Attributes
    ----------
    unsure : bool
        Whether the last `take` left orders that wait for what the market says.

    Raises
    ------
    ConfigError
        A setting cannot be used.

    Notes
    -----
    Thread-safety: `push` belongs to one thread, everything else to another.
    """

    def __init__(
        self,
        tally: Tally,
        *,
        capacity: int = 8192,
        shedding: Shedding = "oldest",
        desk: WorkingOrders | None = None,
        check: Check | None = None,
        lane_of_market: Sequence[int] | None = None,
    ) -> None:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ConfigError(f"capacity = {capacity}: must be 1 to {MAX_CAPACITY}")
        if shedding not in get_args(Shedding):
            raise ConfigError(f"shedding = {shedding!r}: must be one of 'oldest', 'newest'")
        self.capacity = capacity
        self.shedding: Shedding = shedding
        self.desk = desk if desk is not None else WorkingOrders()
        self._tally = tally
        self._check = check if check is not None else _plain_faults
        self._lanes = tuple(lane_of_market) if lane_of_market is not None else (0,) * 256
        self._next_ticket = 0
        self._lock = threading.Lock()
        # Under the lock: what was pushed and not yet looked at, with the tickets.
        self._staged: list[tuple[Array, npt.NDArray[np.uint64]]] = []
        self._staged_count = 0
        self.unsure = False
        # What shed ADDs may have been to replace, as CANCELs of size 0; and when to sift that.
        self._revoked: list[tuple[Array, npt.NDArray[np.uint64]]] = []
        self._revoked_count, self._most_revoked = 0, 4 * capacity
        # What the other thread is looking at, or has looked at last.
        self._settling: list[tuple[Array, npt.NDArray[np.uint64]]] = []
        # Of the other thread: by place, ascending.
        self._pending: dict[int, QueuedOrder] = {}
        self._adds: dict[RestingOrder, QueuedOrder] = {}
        self._flying: set[OrderBatch] = set()

    def __len__(self) -> int:
        """Return the orders inside, also those not looked at yet."""
        return len(self._pending) + self._staged_count

    # Coming in

    def push(self, transactions: Array) -> None:
        """Take transactions in; costs a few array operations, however many they are.

        Parameters
        ----------
        transactions : ndarray of TRANSACTION_DTYPE, shape (n,)
            Copied. Those of a kind that is no order are counted and left.
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
        """Keep what is shed as the cancellation of what it may have been to replace."""
        replacing = (shed["kind"] == Kind.ADD) & (shed["id"] != 0)
        cancels = shed[replacing]
        cancels["kind"], cancels["size"] = Kind.CANCEL, 0
        self._revoked.append((cancels, tickets[replacing]))
        self._revoked_count += len(cancels)
        if self._revoked_count > self._most_revoked:
            # There are no more ids to be found than there are orders of ours.
            self._revoked = [self._sifted(self._revoked, self._settling + self._staged)]
            self._revoked_count = len(self._revoked[0][0])
            self._most_revoked = 2 * self._revoked_count + 4 * self.capacity

    def _sifted(
        self,
        revoked: list[tuple[Array, npt.NDArray[np.uint64]]],
        batches: list[tuple[Array, npt.NDArray[np.uint64]]],
    ) -> tuple[Array, npt.NDArray[np.uint64]]:
        """Return the last one for each id that the desk or one of the batches has."""
        cancels = np.concatenate([each for each, _ in revoked])
        tickets = np.concatenate([each for _, each in revoked])
        coming = {id for orders, _ in batches for id in _ids(orders)}
        known = self.desk.known
        last = {id: place for place, id in enumerate(_ids(cancels)) if id in known or id in coming}
        chosen = list(last.values())
        return cancels[chosen], tickets[chosen]

    def settle(self) -> int:
        """Net what was pushed since the last time, and shed what is too much then.

        Returns
        -------
        int
            Orders looked at.
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
        standing = RestingOrder(ticket, id, market, side, price, size)
        entry = QueuedOrder(ticket, record, standing, [], self.desk.leaving.meets(standing))
        self.desk.admit(standing)
        older = standing.older
        if older is not None:
            while older is not None:
                if older.state is _UNSENT:
                    self._supersede(entry, older, conflated)
                older = older.older
            self._claim(entry, standing, OrderBatch())
        self._pending[entry.place] = entry
        self._adds[standing] = entry

    def _claim(self, entry: QueuedOrder, placing: RestingOrder, pack: OrderBatch) -> bool:
        """Let an ADD take what older orders with its id have; say if it has to wait for one.

        It waits for one that is under way, and for one from which others are to take that wait
        themselves: they are not in `pack`, with which it would go.
        """
        waits = False
        older = placing.older
        while older is not None:
            if older.state is not State.RESTING:
                waits = True
            if older.planned > 0 and older.state is not _UNSENT:
                entry.touches.append((older, older.planned))
                self.desk.claim(older, older.planned)
            here = sum(lots for each, lots in entry.touches if each is older)
            here += sum(lots for each, lots, _ in pack.takes if each is older)
            waits = waits or older.taken > here
            older = older.older
        return waits

    def _supersede(self, later: QueuedOrder, standing: RestingOrder, conflated: list[int]) -> None:
        """Take an unsent ADD back for a later entry.

        What that was to cancel besides falls to the later one, in the same place; but not to one
        that may have to wait for what came between, and would keep the cancellation waiting.
        """
        former = self._taken_back(standing, conflated)
        if former.touches:
            if later.behind:
                former.place_nothing()
            else:
                self._succeed(later, former)

    def _taken_back(self, standing: RestingOrder, conflated: list[int]) -> QueuedOrder:
        """Take an unsent ADD back; its entry is still in the queue if it touches other orders."""
        entry = self._adds.pop(standing)
        conflated.append(entry.ticket)
        self.desk.remove(standing)
        if not entry.touches:
            del self._pending[entry.place]
        return entry

    def _succeed(self, later: QueuedOrder, former: QueuedOrder) -> None:
        """Let a later entry do what a former one was to do, in the earlier of their places."""
        later.touches += former.touches
        if former.place < later.place:
            self._pending.pop(later.place, None)
            self._pending[former.place] = later
            later.place = former.place
        else:
            del self._pending[former.place]

    def _cancel(self, ticket: int, record: Record, conflated: list[int], failed: list[int]) -> None:
        id, price, size, side, _, _, market, _ = record
        desk = self.desk
        if id:
            meant = desk.find(market, id)
            found: Iterable[RestingOrder] = (meant,) if meant is not None else ()
        else:
            found = desk.at((market, side, price))
        left, touches, netted, emptied = size, [], False, []
        for standing in found:
            planned = standing.planned
            amount = left if 0 < left < planned else planned
            left -= amount
            if standing.state is not _UNSENT:
                touches.append((standing, amount))
                desk.claim(standing, amount)
            elif amount < planned:
                netted = True
                standing.planned = planned - amount
            else:
                emptied.append(standing)
            if left <= 0:
                break
        formers = []
        for standing in emptied:
            former = self._taken_back(standing, conflated)
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

        What a shed ADD was to replace is cancelled all the same. That takes no room: it is no order
        any more, and there can be no more of these than we have orders in the market.
        """
        entries = [each for each in self._pending.values() if not each.told]
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
                self.desk.remove(each.placing)
                each.place_nothing()
            else:
                self._withdraw(each)
        self._tally.settle(shed, Outcome.SHED)

    def _withdraw(self, entry: QueuedOrder) -> None:
        """Take an entry out as if it had never come."""
        del self._pending[entry.place]
        if entry.placing is not None:
            del self._adds[entry.placing]
            self.desk.remove(entry.placing)
        for standing, amount in entry.touches:
            self.desk.restore(standing, amount)

    def _revise(self, entry: QueuedOrder) -> None:
        """Let an entry forget orders that are gone.

        A CANCEL by an id means what one that never came was to replace; by level it means none.
        """
        touches = []
        for touched, amount in entry.touches:
            standing: RestingOrder | None = touched
            while standing is not None and standing.state is _GONE:
                standing = standing.older
            if standing is touched:
                touches.append((touched, amount))
            elif (
                standing is not None
                and standing.planned > 0
                and entry.placing is None
                and (entry.record[0] or not entry.record[2])
            ):
                lots = min(standing.planned, amount if entry.record[2] else standing.planned)
                self.desk.claim(standing, lots)
                touches.append((standing, lots))
        entry.touches = touches

    # Going out

    def take(self, fits: Fits, lane: int | None = None, *, known: bool = True) -> OrderBatch | None:
        """OrderBatch the oldest orders that need not wait into what one transaction holds.

        Parameters
        ----------
        fits : callable
            ``fits(records, cancels, places)``.
        lane : int, optional
            Of this lane alone.
        known : bool
            Whether what is left of our orders on the chain is known for sure; without that, what
            would place a part of one again waits, and `unsure` is set.

        Returns
        -------
        OrderBatch or None
            Its orders have left the queue; `landed`, `lost` or `give_back` must hear of it.
        """
        pack = OrderBatch()
        self.unsure = False
        taken: list[QueuedOrder] = []
        hopeless: list[QueuedOrder] = []
        oversized: list[QueuedOrder] = []
        ahead = _Ahead(self._flying)
        for entry in self._pending.values():
            entry_lane = self._lanes[entry.record[6]]
            if lane is not None and entry_lane != lane:
                continue
            if self._waits(entry, known, pack) or (entry.behind and ahead.bars(entry)):
                ahead.waiting.append(entry)
                continue
            if entry.placing is None and not entry.touches:
                hopeless.append(entry)
                continue
            apart = taken and (entry.alone or taken[0].alone)
            if apart or not self._joins(pack, entry, fits):
                if taken:
                    break
                # Alone in a transaction and still too much.
                oversized.append(entry)
                ahead.waiting.append(entry)
                continue
            lane = entry_lane
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
        pack.lane = lane or 0
        pack.sizes = [each.planned for each in pack.places]
        for standing in pack.cancels:
            standing.state = _FLYING
            pack.barrier.add(standing)
        for standing in pack.places:
            standing.state = _FLYING
        self._flying.add(pack)
        return pack

    def _waits(self, entry: QueuedOrder, known: bool, pack: OrderBatch) -> bool:
        """Bring an entry to what has become of what it touches; say if it has to wait for some."""
        placing = entry.placing
        waits = (
            placing is not None and placing.older is not None and self._claim(entry, placing, pack)
        )
        gone = False
        for standing, _ in entry.touches:
            state = standing.state
            if state is _FLYING:
                waits = True
            elif state is _GONE:
                gone = True
        if gone:
            self._revise(entry)
            waits = waits or any(each.state is _FLYING for each, _ in entry.touches)
        if not (waits or known) and any(amount < each.chain for each, amount in entry.touches):
            # What is left of one is to be placed again: the market has to be asked how much it is.
            self.unsure = waits = True
        return waits

    def _refuse(self, entries: list[QueuedOrder], reason: str) -> None:
        """Let entries fail, and what came after them and would meet what therefore stays."""
        self._tally.settle(_tickets(entries), Outcome.FAILED, reason)
        takes = [(each, lots, entry.place) for entry in entries for each, lots in entry.touches]
        for entry in entries:
            self._withdraw(entry)
        self._stay(takes)

    def _stay(self, takes: list[tuple[RestingOrder, int, int]]) -> None:
        """Fail the ADDs that would meet orders which were to go before them, and which stay."""
        stays = [each for each in takes if each[0].state is not _GONE]
        stays.sort(key=itemgetter(2), reverse=True)
        barrier, failed = Barrier(), []
        for entry in self._pending.values() if stays else ():
            if entry.behind:
                while stays and stays[-1][2] < entry.place:
                    barrier.add(stays.pop()[0])
                if entry.placing is not None and barrier.meets(entry.placing):
                    failed.append(entry)
                    for standing, _ in entry.touches:
                        barrier.add(standing)
        for entry in failed:
            self._withdraw(entry)
        self._tally.settle(_tickets(failed), Outcome.FAILED, MEETS_OURS)

    @staticmethod
    def _joins(pack: OrderBatch, entry: QueuedOrder, fits: Fits) -> bool:
        """Put an entry into the pack if there is room for it."""
        cancels = pack.cancels
        if entry.touches:
            cancels = dict(cancels)
        for standing, amount in entry.touches:
            cancels[standing] = max(0, cancels.get(standing, standing.chain) - amount)
        places = len(pack.places) + (entry.placing is not None)
        again = sum(1 for left in cancels.values() if left > 0)
        if not fits(len(pack.entries) + 1, len(cancels), places + again):
            return False
        pack.entries.append(entry)
        pack.takes += [(each, amount, entry.place) for each, amount in entry.touches]
        pack.cancels = cancels
        if entry.placing is not None:
            pack.places.append(entry.placing)
        return True

    @property
    def oldest_lane(self) -> int | None:
        """int or None: The lane of the oldest order, None where there is none."""
        first = next(islice(self._pending.values(), 1), None)
        return None if first is None else self._lanes[first.record[6]]

    def landed(
        self,
        pack: OrderBatch,
        placed: Sequence[int | None] | None = None,
        replaced: Sequence[int | None] | None = None,
    ) -> None:
        """Note that a pack's transaction was executed.

        Parameters
        ----------
        pack : OrderBatch
        placed, replaced : sequence of int or None, optional
            The chain's numbers of what was placed, in the order of ``pack.places``, and of what was
            placed again, in that of ``pack.cancels``. None where an order does not rest. Where the
            sequence itself is not given, everything rests and has no number.
        """
        self._flying.discard(pack)
        for standing, lots, _ in pack.takes:
            self.desk.fulfil(standing, lots)
        for index, (standing, left) in enumerate(pack.cancels.items()):
            again = replaced[index] if replaced is not None else None
            rests = left > 0 and (replaced is None or again is not None)
            self.desk.renumber(standing, again)
            standing.chain = left
            if rests:
                self.desk.rest(standing)
            else:
                self.desk.remove(standing)
        for index, (standing, size) in enumerate(zip(pack.places, pack.sizes, strict=True)):
            standing.chain = size
            standing.sequence = placed[index] if placed is not None else None
            if placed is None or placed[index] is not None:
                self.desk.rest(standing)
            else:
                self.desk.remove(standing)

    def lost(self, pack: OrderBatch) -> None:
        """Note that a pack's transaction moved nothing: it was never executed, or it failed.

        ADDs that waited for orders to go which now stay, and would meet them, fail.
        """
        self._flying.discard(pack)
        for standing in pack.cancels:
            if standing.state is _FLYING:
                standing.state = State.RESTING
        for standing, lots, _ in pack.takes:
            self.desk.restore(standing, lots)
        for standing in pack.places:
            self.desk.remove(standing)
        self._stay(pack.takes)

    def give_back(self, pack: OrderBatch, *, alone: bool = False) -> None:
        """Put a pack's orders back where they were: nothing of it was, or will be, executed.

        Parameters
        ----------
        pack : OrderBatch
        alone : bool
            Whether each is to go in a transaction of its own the next time.
        """
        self._flying.discard(pack)
        for standing in pack.cancels:
            if standing.state is _FLYING:
                standing.state = State.RESTING
        for standing in pack.places:
            standing.state = _UNSENT
        for entry in pack.entries:
            entry.alone |= alone
            if entry.placing is not None:
                self._adds[entry.placing] = entry
        later = [each for each in self._pending.values() if each.touches]
        whole = self._pending | {each.place: each for each in pack.entries}
        self._pending = dict(sorted(whole.items()))
        self._tally.settle(self._netted(set(pack.places), later), Outcome.CONFLATED)

    def _netted(self, unsent: set[RestingOrder], later: list[QueuedOrder]) -> list[int]:
        """Net what came while orders were under way that are unsent again; return the tickets."""
        conflated: list[int] = []
        last: dict[RestingOrder, QueuedOrder] = {}
        for entry in later:
            for standing, lots in entry.touches:
                if standing in unsent:
                    last[standing] = entry
                    self.desk.fulfil(standing, lots)
        for standing, entry in last.items():
            if standing.planned == 0:
                self._supersede(entry, standing, conflated)
        for entry in later:
            kept = [each for each in entry.touches if each[0] not in unsent]
            if len(kept) < len(entry.touches):
                entry.touches = kept
                if not kept and entry.placing is None:
                    del self._pending[entry.place]
                    conflated += _tickets([entry])
        return conflated

    def adopt(self, pack: OrderBatch) -> None:
        """Take over a pack of an earlier process, whose transaction is still under way."""
        for standing, left in pack.cancels.items():
            lots = standing.planned - left
            self.desk.claim(standing, lots)
            # It came before whatever is taken in.
            pack.takes.append((standing, lots, -1))
            pack.barrier.add(standing)
            standing.state = _FLYING
        for standing in pack.places:
            self.desk.admit(standing)
            standing.state = _FLYING
        self._flying.add(pack)

    def drain(self) -> list[int]:
        """Take out everything that is left, and return the tickets.

        Nothing is sent any more: what was to be replaced or cancelled stays on the chain, and on
        the desk.
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
    """Orders with their tickets, as they came in."""
    orders = np.concatenate([each for each, _ in batches])
    tickets = np.concatenate([each for _, each in batches])
    order = np.argsort(tickets)
    return orders[order], tickets[order]


def _plain_faults(orders: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """What no market can carry."""
    fine = (orders["side"] <= 1) & (orders["price"] > 0) & (orders["size"] > 0)
    return [("invalid", ~fine)]
