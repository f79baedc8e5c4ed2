"""The queue between thousands of bundles a second and a chain that takes a few transactions.

Most orders of a fast market are superfluous before they can be sent. The queue keeps what the desk
would look like had every order landed at once, and sends only what brings the chain there:

- a CANCEL takes from the unsent ADD that it means: with the same id, or else the newest at its
  market, side and price. An ADD that has nothing left is never sent;
- an ADD with the id of an unsent one replaces it, and one with the id of an order that flies or
  rests carries its cancellation along, in the same transaction;
- what touches an order whose transaction has no known end yet waits for it;
- over its capacity it sheds, ADDs before CANCELs, since a CANCEL takes risk off.

Netting is exact: once all that it sends has landed, each level holds what it would hold had each
order been sent by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from velox.core.records import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.chain_ledger import Outcome, Tally
from velox.solana.desk import Desk, Standing, State

__all__ = ["Entry", "OrderQueue", "Pack", "Shedding", "transactions_in"]

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
MAX_CAPACITY = 1 << 20
# The loop over orders looks at these; a member of an enumeration costs a look more.
_ADD, _UNSENT = int(Kind.ADD), State.UNSENT


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


class Entry:
    """An order that waits, or flies.

    Attributes
    ----------
    ticket : int
        Its place among all orders taken in.
    record : tuple
        The fields of its TRANSACTION_DTYPE record.
    placing : Standing or None
        What an ADD will have placed.
    touches : list of (Standing, int)
        What it takes from orders that fly or rest, in lots.
    alone : bool
        Whether it goes in a transaction of its own: one that it shared has failed.
    """

    __slots__ = ("alone", "placing", "record", "ticket", "touches")

    def __init__(
        self,
        ticket: int,
        record: Record,
        placing: Standing | None,
        touches: list[tuple[Standing, int]],
    ) -> None:
        self.ticket = ticket
        self.record = record
        self.placing = placing
        self.touches = touches
        self.alone = False

    def size(self) -> int:
        """Return its lots as they go out: less what was netted."""
        if self.placing is not None:
            return self.placing.planned
        return sum(amount for _, amount in self.touches)


@dataclass(slots=True)
class Pack:
    """Orders for one transaction, and what it must do on the chain.

    Attributes
    ----------
    entries : list of Entry
    cancels : dict of Standing to int
        Orders on the chain to be cancelled, with the lots to be placed again for each, or 0.
    places : list of Standing
        Orders to be placed, `Standing.planned` lots each at the time of the packing.
    sizes : list of int
        Those lots.
    lane : int
        That of all the markets inside.
    """

    entries: list[Entry] = field(default_factory=list)
    cancels: dict[Standing, int] = field(default_factory=dict)
    places: list[Standing] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    lane: int = 0

    @property
    def tickets(self) -> list[int]:
        """list of int: The orders inside."""
        return [each.ticket for each in self.entries]

    def records(self) -> Array:
        """Return the orders as an array of TRANSACTION_DTYPE, with the sizes that go out."""
        rows = []
        sizes = iter(self.sizes)
        for each in self.entries:
            size = next(sizes) if each.placing is not None else each.size()
            rows.append((*each.record[:2], size, *each.record[3:]))
        return np.array(rows, TRANSACTION_DTYPE)


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
    desk : Desk, optional
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
        desk: Desk | None = None,
        check: Check | None = None,
        lane_of_market: Sequence[int] | None = None,
    ) -> None:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ConfigError(f"capacity = {capacity}: must be 1 to {MAX_CAPACITY}")
        if shedding not in get_args(Shedding):
            raise ConfigError(f"shedding = {shedding!r}: must be one of 'oldest', 'newest'")
        self.capacity = capacity
        self.shedding: Shedding = shedding
        self.desk = desk if desk is not None else Desk()
        self._tally = tally
        self._check = check if check is not None else _plain_faults
        self._lanes = tuple(lane_of_market) if lane_of_market is not None else (0,) * 256
        self._next_ticket = 0
        self._lock = threading.Lock()
        # Under the lock: what was pushed and not yet looked at, with the tickets.
        self._staged: list[tuple[Array, npt.NDArray[np.uint64]]] = []
        self._staged_count = 0
        # Of the other thread: by ticket, so oldest first.
        self.unsure = False
        self._pending: dict[int, Entry] = {}
        self._adds: dict[Standing, Entry] = {}

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
        kept = np.ones(len(orders), np.bool_)
        kept[np.concatenate(candidates)[:excess]] = False
        self._staged = [(orders[kept], tickets[kept])]
        self._staged_count = self.capacity
        shed: npt.NDArray[np.uint64] = tickets[~kept]
        return shed

    def settle(self) -> int:
        """Net what was pushed since the last time, and shed what is too much then.

        Returns
        -------
        int
            Orders looked at.
        """
        with self._lock:
            staged, self._staged = self._staged, []
            count, self._staged_count = self._staged_count, 0
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
        excess = len(self._pending) - self.capacity
        if excess > 0:
            self._shed_pending(excess)
        return count

    def _add(self, ticket: int, record: Record, conflated: list[int]) -> None:
        id, price, size, side, _, _, market, _ = record
        standing = Standing(ticket, id, market, side, price, size)
        entry = Entry(ticket, record, standing, [])
        former = self.desk.find(market, id)
        if former is not None:
            if former.state is _UNSENT:
                standing.former = former.former
                entry.touches = self._absorbed(former, conflated)
            else:
                standing.former = former
                entry.touches = [(former, former.planned)]
                former.planned = 0
        self.desk.admit(standing)
        self._pending[ticket] = entry
        self._adds[standing] = entry

    def _absorbed(self, standing: Standing, conflated: list[int]) -> list[tuple[Standing, int]]:
        """Take an unsent ADD back, and return what it was to do besides being placed."""
        entry = self._adds.pop(standing)
        del self._pending[entry.ticket]
        conflated.append(entry.ticket)
        self.desk.remove(standing)
        return entry.touches

    def _cancel(self, ticket: int, record: Record, conflated: list[int], failed: list[int]) -> None:
        id, price, size, side, _, _, market, _ = record
        meant = self.desk.find(market, id)
        left, touches, netted, emptied = size, [], False, []
        for standing in (meant,) if meant is not None else self.desk.at((market, side, price)):
            planned = standing.planned
            amount = left if left < planned else planned
            left -= amount
            if standing.state is not _UNSENT:
                touches.append((standing, amount))
                standing.planned = planned - amount
            elif amount < planned:
                netted = True
                standing.planned = planned - amount
            else:
                emptied.append(standing)
            if not left:
                break
        for standing in emptied:
            touches += self._absorbed(standing, conflated)
        if touches:
            self._pending[ticket] = Entry(ticket, record, None, touches)
        elif netted or emptied:
            conflated.append(ticket)
        else:
            failed.append(ticket)

    def _shed_pending(self, excess: int) -> None:
        entries = self._pending.values()
        adds = [each for each in entries if each.placing is not None]
        cancels = [each for each in entries if each.placing is None]
        if self.shedding == "newest":
            adds.reverse()
            cancels.reverse()
        chosen = (adds + cancels)[:excess]
        for each in chosen:
            self._withdraw(each)
        self._tally.settle([each.ticket for each in chosen], Outcome.SHED)

    def _withdraw(self, entry: Entry) -> None:
        """Take an entry out as if it had never come."""
        del self._pending[entry.ticket]
        self._undo(entry)

    def _undo(self, entry: Entry) -> None:
        if entry.placing is not None:
            self._adds.pop(entry.placing, None)
            self.desk.remove(entry.placing)
        for standing, amount in entry.touches:
            if standing.state is not State.GONE:
                self.desk.restore(standing, amount)

    def _revise(self, entry: Entry) -> None:
        """Let an entry forget orders that are gone; where one never replaced another, mean that."""
        touches = []
        for touched, amount in entry.touches:
            standing: Standing | None = touched
            while standing is not None and standing.state is State.GONE:
                standing = standing.former
            if standing is touched:
                touches.append((touched, amount))
            elif standing is not None and standing.planned:
                lots = standing.planned
                if entry.placing is None:
                    lots = min(lots, entry.record[2])
                standing.planned -= lots
                touches.append((standing, lots))
        entry.touches = touches

    # Going out

    def take(self, fits: Fits, lane: int | None = None, *, known: bool = True) -> Pack | None:
        """Pack the oldest orders that need not wait into what one transaction holds.

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
        Pack or None
            Its orders have left the queue; `landed`, `lost` or `give_back` must hear of it.
        """
        pack = Pack()
        self.unsure = False
        taken: list[Entry] = []
        hopeless: list[Entry] = []
        oversized: list[Entry] = []
        for entry in self._pending.values():
            entry_lane = self._lanes[entry.record[6]]
            if lane is not None and entry_lane != lane:
                continue
            if any(each.state is State.GONE for each, _ in entry.touches):
                self._revise(entry)
            if entry.placing is None and not entry.touches:
                hopeless.append(entry)
                continue
            if self._waits(entry, known):
                continue
            apart = taken and (entry.alone or taken[0].alone)
            if apart or not self._joins(pack, entry, fits):
                if taken:
                    break
                # Alone in a transaction and still too much.
                oversized.append(entry)
                continue
            lane = entry_lane
            taken.append(entry)
        for entry in oversized:
            self._withdraw(entry)
        for entry in (*hopeless, *taken):
            del self._pending[entry.ticket]
            if entry.placing is not None:
                del self._adds[entry.placing]
        self._tally.settle([each.ticket for each in hopeless], Outcome.FAILED, NOTHING_TO_CANCEL)
        self._tally.settle([each.ticket for each in oversized], Outcome.FAILED, TOO_MANY_ORDERS)
        if not taken:
            return None
        pack.lane = lane or 0
        pack.sizes = [each.planned for each in pack.places]
        for standing in (*pack.cancels, *pack.places):
            standing.state = State.FLYING
        return pack

    def _waits(self, entry: Entry, known: bool) -> bool:
        """Whether what an entry touches is under way, or has to be looked up."""
        if any(each.state is State.FLYING for each, _ in entry.touches):
            return True
        unsure = not known and any(amount < each.chain for each, amount in entry.touches)
        self.unsure |= unsure
        return unsure

    @staticmethod
    def _joins(pack: Pack, entry: Entry, fits: Fits) -> bool:
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
        pack: Pack,
        placed: Sequence[int | None] | None = None,
        replaced: Sequence[int | None] | None = None,
    ) -> None:
        """Note that a pack's transaction was executed.

        Parameters
        ----------
        pack : Pack
        placed, replaced : sequence of int or None, optional
            The chain's numbers of what was placed, in the order of ``pack.places``, and of what was
            placed again, in that of ``pack.cancels``. None where an order does not rest. Where the
            sequence itself is not given, everything rests and has no number.
        """
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

    def lost(self, pack: Pack) -> None:
        """Note that a pack's transaction moved nothing: it was never executed, or it failed."""
        for standing in pack.cancels:
            if standing.state is State.FLYING:
                standing.state = State.RESTING
        for entry in reversed(pack.entries):
            self._undo(entry)
        for standing in pack.places:
            if standing.state is not State.GONE:
                self.desk.remove(standing)

    def give_back(self, pack: Pack, *, alone: bool = False) -> None:
        """Put a pack's orders back where they were: nothing of it was, or will be, executed.

        Parameters
        ----------
        pack : Pack
        alone : bool
            Whether each is to go in a transaction of its own the next time.
        """
        for standing in pack.cancels:
            standing.state = State.RESTING
        for standing in pack.places:
            standing.state = State.UNSENT
        for entry in pack.entries:
            entry.alone |= alone
            if entry.placing is not None:
                self._adds[entry.placing] = entry
        later = [each for each in self._pending.values() if each.touches]
        whole = self._pending | {each.ticket: each for each in pack.entries}
        self._pending = dict(sorted(whole.items()))
        self._tally.settle(self._netted(set(pack.places), later), Outcome.CONFLATED)

    def _netted(self, unsent: set[Standing], later: list[Entry]) -> list[int]:
        """Net what came while orders were under way that are unsent again; return the tickets."""
        conflated: list[int] = []
        last: dict[Standing, Entry] = {}
        for entry in later:
            for standing, _ in entry.touches:
                if standing in unsent:
                    last[standing] = entry
        for standing, entry in last.items():
            if standing.planned == 0:
                if entry.placing is not None:
                    entry.placing.former = standing.former
                entry.touches = entry.touches + self._absorbed(standing, conflated)
        for entry in later:
            kept = [each for each in entry.touches if each[0] not in unsent]
            if len(kept) < len(entry.touches):
                entry.touches = kept
                if not kept and entry.placing is None:
                    del self._pending[entry.ticket]
                    conflated.append(entry.ticket)
        return conflated

    def adopt(self, pack: Pack) -> None:
        """Take over a pack of an earlier process, whose transaction is still under way."""
        for standing in pack.cancels:
            standing.state = State.FLYING
        for standing in pack.places:
            self.desk.admit(standing)
            standing.state = State.FLYING

    def drain(self) -> list[int]:
        """Take out everything that is left, and return the tickets."""
        self.settle()
        entries = list(reversed(self._pending.values()))
        for each in entries:
            self._withdraw(each)
        return [each.ticket for each in reversed(entries)]


def _plain_faults(orders: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """What no market can carry."""
    fine = (orders["side"] <= 1) & (orders["price"] > 0) & (orders["size"] > 0)
    return [("invalid", ~fine)]
